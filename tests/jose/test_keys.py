"""The client's own keys, and the provider's key set."""

from __future__ import annotations

import functools
import json
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import serialization
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from ciba_core.errors import Endpoint, RemoteProtocolError
from ciba_core.jose.key_import import Key
from ciba_core.jose.keys import DecryptionKey, KeySet, Signer, SigningKey, parse_key_set
from ciba_core.provider.shared import Shared
from ciba_core.values.http import HttpResponse
from ciba_core.values.limits import Limits

NOW: Final = 1_800_000_000.0
JSON: Final = (("Content-Type", "application/json"),)


@functools.cache
def generated(kind: str, which: int) -> Any:
    """Make a key of a type or on a curve; a different one for every number."""
    if kind == "RSA":
        return RSAKey.generate_key(2048)
    cls: Any = OKPKey if "5519" in kind else ECKey
    return cls.generate_key(kind)


def private(kind: str, which: int = 0, **labels: Any) -> dict[str, Any]:
    return {**generated(kind, which).as_dict(private=True), **labels}


def public(kind: str, which: int = 0, **labels: Any) -> dict[str, Any]:
    return {**generated(kind, which).as_dict(private=False), **labels}


def pem(kind: str) -> bytes:
    octets: bytes = generated(kind, 0).private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return octets


def secrets_of(jwk: dict[str, Any]) -> list[str]:
    return [jwk[name] for name in ("d", "p", "q", "dp", "dq", "qi", "k") if name in jwk]


# --- signing keys ----------------------------------------------------------------------------------------

KINDS: Final = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    "ES256": "P-256",
    "ES384": "P-384",
    "ES512": "P-521",
    "Ed25519": "Ed25519",
    "EdDSA": "Ed25519",
}


@pytest.mark.parametrize(("alg", "kind"), KINDS.items())
def test_a_signing_key_signs(alg: str, kind: str) -> None:
    """A key from a JWK or PEM signs with its algorithm so that another implementation verifies it."""
    keys: list[Signer] = [
        SigningKey.from_jwk(private(kind, kid="k1"), alg=alg),
        SigningKey.from_jwk(private(kind, kid="k1", alg=alg)),
        SigningKey.from_pem(pem(kind), alg=alg, kid="k1"),
        SigningKey.from_pem(pem(kind).decode(), alg=alg, kid="k1"),
    ]
    for key in keys:
        assert (key.alg, key.kid) == (alg, "k1")
        assert JWSRegistry.algorithms[alg].verify(b"octets", key.sign(b"octets"), generated(kind, 0))
        assert repr(key) == f"<SigningKey {alg}, kid 'k1'>"


@pytest.mark.parametrize(
    ("kind", "alg"), [("P-256", "ES256"), ("P-384", "ES384"), ("P-521", "ES512"), ("Ed25519", "Ed25519")]
)
def test_the_curve_tells_the_algorithm(kind: str, alg: str) -> None:
    """Where neither the caller nor the JWK names an algorithm, the curve leaves only one."""
    key = SigningKey.from_jwk(private(kind))
    assert (key.alg, key.kid) == (alg, None)


@pytest.mark.parametrize(
    ("jwk", "alg", "message"),
    [
        (private("RSA"), None, "alg must be given"),
        (private("X25519"), None, "alg must be given"),
        # No member of an RSA key: it names no curve.
        (private("RSA", crv="P-256"), None, "alg must be given"),
        (private("RSA", crv=["P-256"]), None, "alg must be given"),
        (private("RSA"), "none", "alg must be one of RS256, "),
        (private("RSA", alg="RSA-OAEP"), None, "alg must be one of RS256, "),
        (private("RSA"), "HS256", "alg must be one of RS256, "),
        (private("RSA"), "ES256", "jwk must be a key for signing with ES256"),
        (private("P-256"), "ES384", "jwk must be a key for signing with ES384"),
        (private("X25519"), "EdDSA", "jwk must be a key for signing with EdDSA"),
        (private("RSA", alg="PS256"), "RS256", "jwk must be a key for signing with RS256"),
        (private("P-256", use="enc"), None, "jwk must be a key for signing with ES256"),
        (private("P-256", key_ops=["verify"]), None, "jwk must be a key for signing with ES256"),
        (public("P-256"), None, "jwk must be a private key"),
        (private("P-256", use=1), None, "jwk is a key with a malformed"),
        (private("P-256", x="AAAA"), None, "jwk is a malformed key"),
        (OctKey.generate_key(256).as_dict(private=True), "HS256", "jwk is a key of a type other than"),
    ],
)
def test_jwks_that_do_not_sign(jwk: dict[str, Any], alg: str | None, message: str) -> None:
    """Bad input "key of the wrong use or curve": a signing key is checked when it is made."""
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        SigningKey.from_jwk(jwk, alg=alg)
    assert not any(secret in str(caught.value) for secret in secrets_of(jwk))
    assert caught.value.__context__ is None


def test_pems_that_do_not_sign() -> None:
    """A PEM that is damaged, public or of another kind is named by its parameter."""
    with pytest.raises(ValueError, match=r"^pem is a PEM that is not"):
        SigningKey.from_pem("x", alg="ES256")
    with pytest.raises(ValueError, match=r"^pem must be a key for signing with ES256"):
        SigningKey.from_pem(pem("RSA"), alg="ES256")
    with pytest.raises(ValueError, match=r"^pem must be a private key"):
        SigningKey.from_pem(generated("P-256", 0).as_pem(private=False), alg="ES256")


def test_arguments_of_other_types() -> None:
    """Wrong types are named by their parameter."""
    wrong: Any = 5
    with pytest.raises(TypeError, match=r"^jwk must be a mapping, not int"):
        SigningKey.from_jwk(wrong)
    with pytest.raises(TypeError, match=r"^pem must be str or bytes, not int"):
        DecryptionKey.from_pem(wrong)
    with pytest.raises(TypeError, match=r"^kid must be str, not int"):
        SigningKey.from_pem(pem("P-256"), alg="ES256", kid=wrong)


def test_own_keys_compare_by_content() -> None:
    """The same key pair under the same name and algorithm is the same key, wherever it was loaded from."""
    key = SigningKey.from_jwk(private("P-256", kid="k1"))
    assert key == SigningKey.from_pem(pem("P-256"), alg="ES256", kid="k1")
    assert key != SigningKey.from_pem(pem("P-256"), alg="ES256", kid="k2")
    assert key != SigningKey.from_jwk(private("P-256", 1, kid="k1"))
    assert SigningKey.from_jwk(private("RSA"), alg="RS256") != SigningKey.from_jwk(
        private("RSA"), alg="PS256"
    )
    assert hash(key) == hash(SigningKey.from_jwk(private("P-256", kid="k1")))
    assert DecryptionKey.from_jwk(private("P-256")) == DecryptionKey.from_pem(pem("P-256"))
    assert DecryptionKey.from_jwk(private("P-256")) != DecryptionKey.from_jwk(private("P-256", 1))


# --- decryption keys -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("jwk", "fits", "fits_not"),
    [
        (private("RSA"), "RSA-OAEP-256", "ECDH-ES"),
        (private("P-256"), "ECDH-ES", "RSA-OAEP"),
        (private("X25519"), "ECDH-ES+A128KW", "A128KW"),
        (private("P-384", alg="ECDH-ES"), "ECDH-ES", "ECDH-ES+A128KW"),
        (private("RSA", use="enc", key_ops=["unwrapKey", "decrypt"]), "RSA-OAEP", "dir"),
        (private("P-521", key_ops=["deriveKey"]), "ECDH-ES", "dir"),
    ],
)
def test_decryption_keys(jwk: dict[str, Any], fits: str, fits_not: str) -> None:
    """IDT-41: a key pair of a kind that decrypts is taken, and goes with the algorithms of that kind."""
    key = DecryptionKey.from_jwk({**jwk, "kid": "k1"})
    assert key.fits(fits)
    assert not key.fits(fits_not)
    assert repr(key) == f"<DecryptionKey {jwk['kty']}, kid 'k1'>"
    assert DecryptionKey.from_pem(pem("RSA"), kid="k2").kid == "k2"


@pytest.mark.parametrize(
    ("jwk", "message"),
    [
        (public("RSA"), "jwk must be a private key"),
        (private("Ed25519"), "jwk must be a key for decryption"),
        (private("RSA", use="sig"), "jwk must be a key for decryption"),
        (private("RSA", alg="RS256"), "jwk must be a key for decryption"),
        (private("RSA", alg="RSA1_5"), "jwk must be a key for decryption"),
        (private("RSA", key_ops=["sign"]), "jwk must be a key for decryption"),
        ({"kty": "oct", "k": "AAAA"}, "jwk is a key of a type other than"),
    ],
)
def test_jwks_that_do_not_decrypt(jwk: dict[str, Any], message: str) -> None:
    """IDT-41, IDT-44: keys for other purposes and algorithms are refused when they are made."""
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        DecryptionKey.from_jwk(jwk)
    assert not any(secret in str(caught.value) for secret in secrets_of(jwk))


# --- key sets --------------------------------------------------------------------------------------------


def key_set(
    *jwks: object, headers: tuple[tuple[str, str], ...] = JSON, limits: Limits | None = None
) -> KeySet:
    return read(published(*jwks, headers=headers), limits=limits)


def published(*jwks: object, headers: tuple[tuple[str, str], ...] = JSON) -> HttpResponse:
    return HttpResponse(200, headers, json.dumps({"keys": jwks}).encode())


def violation(response: HttpResponse, limits: Limits | None = None) -> RemoteProtocolError:
    broken = parse_key_set(response, limits=limits or Limits(), now=NOW, noted=[])
    assert isinstance(broken, RemoteProtocolError)
    assert broken.endpoint is Endpoint.KEYS
    assert "MARKER" not in str(broken)
    return broken


def read(response: HttpResponse, *, limits: Limits | None = None, elapsed: float = 0.0) -> KeySet:
    keys = parse_key_set(response, limits=limits or Limits(), now=NOW, noted=[], elapsed=elapsed)
    assert isinstance(keys, KeySet)
    return keys


@pytest.mark.parametrize("media_type", ["application/json", "Application/JWK-Set+json; charset=utf-8"])
def test_a_key_set(media_type: str) -> None:
    """JWKS-01: both media types are taken, and the keys come in the order of the set."""
    keys = key_set(public("RSA", kid="r"), public("P-256", kid="e"), headers=(("content-type", media_type),))
    assert [key.kid for key in keys.keys] == ["r", "e"]
    assert (keys.fetched_at, keys.fresh_until) == (NOW, NOW + 300)


@pytest.mark.parametrize("status", [199, 300, 301, 302, 304, 400, 404, 406, 500, 503])
def test_answers_that_bring_no_key_set(status: int) -> None:
    """JWKS-01: no other status brings a key set; a redirect is not one either."""
    response = HttpResponse(status, JSON, b'{"keys":[]}')
    assert violation(response).rule == "OpenID Connect Discovery 3: jwks_uri"


def test_a_key_set_that_answers_html() -> None:
    """Bad input "a JWKS that answers HTML": told by its content, whatever it is said to be."""
    page = b"<html><title>MARKER</title></html>"
    for headers in ((("Content-Type", "text/html"),), (), JSON):
        assert str(violation(HttpResponse(200, headers, page))) == "key set: not JSON [RFC 7517 5]"


def test_a_key_set_of_ten_megabytes() -> None:
    """Bad input "a JWKS of 10 MB": refused by its size before anything is parsed."""
    limit = Limits().body
    body = json.dumps({"keys": [], "x": "MARKER" * 2_000_000}).encode()
    assert violation(HttpResponse(200, JSON, body)).rule == "size limit"
    small = HttpResponse(200, JSON, b'{"keys":[]}'.ljust(limit))
    assert read(small).keys == ()
    assert violation(HttpResponse(200, JSON, b'{"keys":[]}'.ljust(limit + 1))).rule == "size limit"


def test_a_key_set_with_ten_thousand_keys() -> None:
    """Bad input "a JWKS with 10 000 keys": more than a hundred are refused before any is imported."""
    body = json.dumps({"keys": [{"kty": "MARKER"}] * 10_000}).encode()
    assert str(violation(HttpResponse(200, JSON, body))) == "key set: more than 100 keys [size limit]"
    assert len(key_set(*[public("P-256")] * 100).keys) == 100
    assert "more than 100 keys" in str(violation(published(*[public("P-256")] * 101)))


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (b"", "RFC 7517 5"),
        (b"[]", "RFC 7517 5"),
        (b'{"keys":[],"keys":[]}', "RFC 7517 5"),
        (b'{"keys":' + b"[" * 40 + b"]" * 40 + b"}", "RFC 7517 5"),
        (b"{}", "RFC 7517 5.1"),
        (b'{"keys":{}}', "RFC 7517 5.1"),
        (b'{"keys":null}', "RFC 7517 5.1"),
    ],
)
def test_bodies_that_are_no_key_set(body: bytes, rule: str) -> None:
    """RFC 7517 5: a key set is an object with an array of keys, in JSON without ambiguity."""
    assert violation(HttpResponse(200, JSON, body)).rule == rule


def test_the_depth_limit_counts() -> None:
    """The depth of the JSON is bounded by the client's limits."""
    nested = json.loads('{"kty": "x", "a": [[[]]]}')
    assert key_set(nested, limits=Limits(json_depth=6)).keys == ()
    assert "nested too deeply" in str(violation(published(nested), Limits(json_depth=5)))


def test_keys_that_are_left_out() -> None:
    """JWKS-07, JWKS-11: what cannot or must not be used is skipped, and the rest of the set counts."""
    weak = {"kty": "RSA", "n": "AQAB", "e": "AQAB"}
    keys = key_set(
        5,
        None,
        [],
        {},
        {"kty": "AKP", "alg": "ML-DSA-44"},
        {"kty": "oct", "k": "AAAA"},
        weak,
        public("P-256", crv="P-999"),
        public("P-256", y="AAAA"),
        public("P-256", use=5),
        private("P-256"),
        private("RSA"),
        public("P-256", d=""),
        public("P-256", k="AAAA"),
        public("P-256", kid="good"),
    )
    assert [key.kid for key in keys.keys] == ["good"]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ((), 300),
        ((("Cache-Control", "public"),), 300),
        ((("Cache-Control", "public, max-age=3600, must-revalidate"),), 3600),
        ((("CACHE-CONTROL", "Max-Age=3600"),), 3600),
        ((("Cache-Control", 'max-age="3600"'),), 3600),
        ((("Cache-Control", "private"), ("Cache-Control", "max-age=3600")), 3600),
        ((("Cache-Control", "s-maxage=3600"),), 300),
        ((("Cache-Control", "max-age=60"),), 60),
        ((("Cache-Control", "max-age=3600"), ("Age", "600")), 3000),
        ((("Age", "600"), ("Cache-Control", "max-age=3600")), 3000),
        ((("Cache-Control", "max-age=3600"), ("Age", "3590")), 60),
        ((("Cache-Control", "max-age=3600"), ("Age", "9" * 5000)), 60),
        ((("Cache-Control", "max-age=3600"), ("Age", "-600")), 3600),
        ((("Cache-Control", "max-age=3600"), ("Age", "\u0661")), 3600),
        ((("Cache-Control", "max-age=" + "9" * 5000), ("Age", "9" * 5000)), 86400),
        ((("Age", "600"),), 300),
        ((("Cache-Control", "max-age=59"),), 60),
        ((("Cache-Control", "max-age=0"),), 60),
        ((("Cache-Control", "max-age=86400"),), 86400),
        ((("Cache-Control", "max-age=86401"),), 86400),
        ((("Cache-Control", "max-age=" + "9" * 5000),), 86400),
        ((("Cache-Control", "max-age"),), 300),
        ((("Cache-Control", "max-age=-1"),), 300),
        ((("Cache-Control", "max-age=1e9"),), 300),
        ((("Cache-Control", "max-age=\u0663\u0663\u0663"),), 300),
        ((("Cache-Control", "no-store"),), 60),
        ((("Cache-Control", "max-age=3600, no-cache"),), 60),
        ((("Cache-Control", "no-cache, max-age=3600"),), 60),
        ((("Cache-Control", 'no-cache="x"'),), 60),
        ((("X-Cache-Control", "no-store"),), 300),
    ],
)
def test_how_long_a_key_set_is_fresh(headers: tuple[tuple[str, str], ...], seconds: float) -> None:
    """JWKS-03: the provider's max-age holds between a minute and a day."""
    keys = key_set(headers=(*JSON, *headers))
    assert keys.fresh_until - NOW == seconds
    assert keys.is_fresh(NOW)
    assert keys.is_fresh(NOW + seconds - 0.001)
    assert not keys.is_fresh(NOW + seconds)
    assert not keys.is_fresh(NOW - 0.001)


@pytest.mark.parametrize(
    ("headers", "elapsed", "age"),
    [
        ((), 0.0, 0),
        ((), 2.5, 2.5),
        ((("Age", "290"),), 0.0, 290),
        ((("Age", "290"),), 2.5, 292.5),
        ((("Age", "9" * 5000),), 0.0, 86400),
        ((("Age", "-5"),), 0.0, 0),
        ((("Age", "soon"),), 0.0, 0),
    ],
)
def test_the_age_of_a_key_set(headers: tuple[tuple[str, str], ...], elapsed: float, age: float) -> None:
    """JWKS-03, RFC 9111 4.2.3: the time on the way and in caches counts, but not for when we asked last."""
    response = HttpResponse(200, (*JSON, ("Cache-Control", "max-age=3600"), *headers), b'{"keys":[]}')
    keys = read(response, elapsed=elapsed)
    assert keys.fetched_at == NOW
    assert keys.issued_at == NOW - age
    assert keys.fresh_until == NOW + max(3600 - age, 60)


def test_an_older_key_set_replaces_no_newer_one() -> None:
    """JWKS-02: an answer out of a cache, or late, does not undo a rotation; that we asked is remembered."""

    def issued(age: float, *, fetched_at: float) -> KeySet:
        return KeySet((), fetched_at, NOW + 300, issued_at=fetched_at - age)

    first, newer = issued(0, fetched_at=NOW - 20), issued(0, fetched_at=NOW)
    assert Shared(keys=first).with_keys(newer).keys is newer
    kept = Shared(keys=first).with_keys(issued(290, fetched_at=NOW)).keys
    assert kept is not None
    assert (kept.issued_at, kept.fetched_at, kept.fresh_until) == (NOW - 20, NOW, NOW + 300)
    # One that is stale, or from the future since the clock was put back, is no measure.
    for odd in (KeySet((), NOW - 20, NOW - 1), KeySet((), NOW + 3600, NOW + 7200)):
        older = issued(290, fetched_at=NOW)
        assert Shared(keys=odd).with_keys(older).keys is older


def test_candidates() -> None:
    """JWKS-04..06, FAPI2-15: a kid narrows the choice, and the attributes of the keys narrow it further."""
    keys = key_set(
        public("RSA", kid="a"),
        public("P-256", kid="a"),
        public("P-256", 1, kid="b"),
        public("P-256", 2, kid="a", use="enc"),
        public("P-384", kid="a"),
        public("Ed25519", kid="a", alg="EdDSA"),
        public("P-256", 3),
    )

    def found(kid: str | None, alg: str) -> list[int]:
        return [keys.keys.index(key) for key in keys.candidates(kid, alg)]

    assert found("a", "ES256") == [1]
    assert found("b", "ES256") == [2]
    assert found("c", "ES256") == []
    assert found("a", "RS256") == [0]
    assert found("a", "PS512") == [0]
    assert found("a", "ES384") == [4]
    assert found("a", "Ed25519") == [5]
    assert found("a", "EdDSA") == [5]
    assert found("b", "RS256") == []
    assert found(None, "ES256") == [1, 2, 6]
    assert found(None, "HS256") == []


def test_a_key_set_shows_no_more_than_is_public() -> None:
    """The repr names the kinds and identifiers of the keys."""
    assert "<public EC key P-256, kid 'a'>" in repr(key_set(public("P-256", kid="a")))
    assert isinstance(key_set(public("P-256")).keys[0], Key)
