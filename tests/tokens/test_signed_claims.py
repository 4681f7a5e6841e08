"""Validation of ID Tokens: what is accepted, and each way in which one is refused.

Tokens are signed and encrypted by joserfc and not by the code under test.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

import pytest
from attrs import evolve, field, frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwe
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from ciba_core import ClientConfig, ClientSecretBasic, Profile, TokenResponse
from ciba_core.client.profiles import GENERIC
from ciba_core.client.registered import IdTokenPolicy, UserInfoPolicy
from ciba_core.client.request import Requested, subject_of
from ciba_core.jose.algorithms import (
    ASYMMETRIC_ALGORITHMS,
    CONTENT_ENCRYPTIONS,
    HMAC_ALGORITHMS,
    SIGNATURE_ALGORITHMS,
)
from ciba_core.jose.key_import import content_encryption_key
from ciba_core.jose.keys import DecryptionKey, KeySet, parse_key_set
from ciba_core.jose.signing import half_hash
from ciba_core.tokens.signed_claims import validate_id_token
from ciba_core.tokens.signed_jwt import BrokenRule, NoKey, Opened, SignedJwt
from ciba_core.values.http import HttpResponse
from ciba_core.values.lenient import ProviderDeviation
from ciba_core.values.limits import Limits
from ciba_core.values.secret import Secret

NOW: Final = 1_800_000_000.0
ISSUER: Final = "https://op-MARKER.example"
CLIENT: Final = "client-MARKER"
CLIENT_SECRET: Final = Secret("client-secret-MARKER-" + "0123456789" * 5)
ACCESS_TOKEN: Final = Secret("G5kXH2wHvUra0sHlDy1iTkDJgsgUO1bN")
REFRESH_TOKEN: Final = Secret("4bwc0ESC_IAhflf-ACC_vjD_ltc11ne-8gFPfA2Kx16")
AUTH_REQ_ID: Final = Secret("auth-req-id-MARKER")
AT_HASH: Final = "Wt0kVFXMacqvnHeyU0001w"
RT_HASH: Final = "sHahCuSpXCRg5mkDDvvr4w"
ID_CLAIM: Final = "urn:openid:params:jwt:claim:auth_req_id"
RT_CLAIM: Final = "urn:openid:params:jwt:claim:rt_hash"
CORE: Final = "OpenID Connect Core 3.1.3.7"

CLAIMS: Final[dict[str, Any]] = {
    "iss": ISSUER,
    "sub": "user-MARKER",
    "aud": CLIENT,
    "exp": int(NOW) + 300,
    "iat": int(NOW),
}


@frozen
class Expected:
    """What a token is compared with."""

    issuer: str = ISSUER
    client_id: str = CLIENT
    client_secret: Secret = CLIENT_SECRET
    requested: Requested | None = field(factory=lambda: Requested(scope="openid"))
    auth_req_id: Secret | None = None
    access_token: Secret = ACCESS_TOKEN
    refresh_token: Secret | None = None
    push: bool = False


EXPECTED: Final = Expected()


def asked(**parameters: Any) -> Expected:
    """The usual, and what was asked for beside it."""
    return Expected(requested=Requested(scope="openid", **parameters))


ES256: Final = IdTokenPolicy(signed_response_alg="ES256")
REMOVED: Final = object()


def b64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


@functools.cache
def key_of(alg: str, which: int) -> Any:
    """Make a key for an algorithm by joserfc; a different one for every number."""
    if alg.startswith("HS"):
        return OctKey.import_key(CLIENT_SECRET.reveal().encode())
    if alg.startswith(("RS", "PS")):
        return RSAKey.generate_key(2048)
    if alg.startswith("ES"):
        return ECKey.generate_key({"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[alg])
    return OKPKey.generate_key("Ed25519")


def with_changes(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**base, **changes}.items() if value is not REMOVED}


def signed(
    changes: Mapping[str, Any] | None = None,
    *,
    alg: str = "ES256",
    which: int = 0,
    key: Any = None,
    header: Mapping[str, Any] | None = None,
    payload: bytes | None = None,
) -> str:
    """Sign the usual claims with some of them changed."""
    head = with_changes({"alg": alg, "kid": f"k{which}"}, header or {})
    claims = json.dumps(with_changes(CLAIMS, changes or {})).encode() if payload is None else payload
    octets = f"{b64(json.dumps(head).encode())}.{b64(claims)}"
    signature = JWSRegistry.algorithms[alg].sign(octets.encode(), key or key_of(alg, which))
    return f"{octets}.{b64(signature)}"


def public(of: str, which: int = 0, **labels: Any) -> dict[str, Any]:
    jwk = {**key_of(of, which).as_dict(private=False), "kid": f"k{which}", **labels}
    return {name: value for name, value in jwk.items() if value is not REMOVED}


def key_set(*jwks: dict[str, Any]) -> KeySet:
    body = json.dumps({"keys": jwks}).encode()
    keys = parse_key_set(
        HttpResponse(200, {"Content-Type": "application/json"}, body), limits=Limits(), now=NOW, noted=[]
    )
    assert isinstance(keys, KeySet)
    return keys


@functools.cache
def all_keys() -> KeySet:
    return key_set(
        *(public(alg) for alg in ("RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"))
    )


ES256_KEYS: Final = key_set(public("ES256"))


def validate(
    token: str,
    *,
    policy: IdTokenPolicy = ES256,
    expected: Expected = EXPECTED,
    keys: KeySet | None = ES256_KEYS,
    now: float = NOW,
    limits: Limits | None = None,
    profile: Profile = GENERIC,
    noted: list[ProviderDeviation] | None = None,
    conclusive: bool = False,
) -> Mapping[str, Any] | BrokenRule | NoKey:
    id_token = Secret(token)
    client = ClientConfig(
        expected.client_id,
        ClientSecretBasic(expected.client_secret),
        id_token=policy,
        limits=limits or Limits(),
        profile=profile,
    )
    jwt = SignedJwt("the ID Token", id_token, policy.signed_response_alg, policy, client)
    opened = jwt.opened(keys, conclusive=conclusive)
    if not isinstance(opened, Opened):
        return opened
    return validate_id_token(
        opened,
        tokens=TokenResponse(
            access_token=expected.access_token,
            token_type="Bearer",
            expires_at=None,
            refresh_token=expected.refresh_token,
            id_token=id_token,
            scope="openid",
            authorization_details=None,
            extra={},
        ),
        auth_req_id=expected.auth_req_id,
        requested=expected.requested,
        issuer=expected.issuer,
        client=client,
        now=now,
        noted=[] if noted is None else noted,
        push=expected.push,
    )


def accept(token: str, **arguments: Any) -> Mapping[str, Any]:
    claims = validate(token, **arguments)
    assert isinstance(claims, Mapping)
    return claims


def refuse(token: str, rule: str, **arguments: Any) -> str:
    """See that a token is refused by a rule, with nothing of it in the error, and return the message."""
    broken = validate(token, **arguments)
    assert isinstance(broken, BrokenRule)
    assert broken.rule == rule
    assert "MARKER" not in f"{broken!r}"
    return broken.message


# --- vectors ---------------------------------------------------------------------------------------------

VECTOR: Final = (
    "eyJraWQiOiIxZTlnZGs3IiwiYWxnIjoiUlMyNTYifQ.ewogImlzcyI6ICJodHRwczovL3NlcnZlci5leGFtcGxlLmNvbSIsCiAic3ViIj"
    "ogIjI0ODI4OTc2MTAwMSIsCiAiYXVkIjogInM2QmhkUmtxdDMiLAogIm5vbmNlIjogIm4tMFM2X1d6QTJNaiIsCiAiZXhwIjogMTMxMTI4"
    "MTk3MCwKICJpYXQiOiAxMzExMjgwOTcwLAogImF0X2hhc2giOiAiNzdRbVVQdGpQZnpXdEYyQW5wSzlSUSIKfQ.kdqTmftlaXg5WBYBr1w"
    "kxhkqCGZPc0k8vTiV5g2jj67jQ7XkrDamYx2bOkZLdZrpMPIzkdYB1nZI_G8vQGQuamRhJcEIt21kblGPZ-yhEhdkAiZIZLu38rChalDS2Mh"
    "0glE_rke5XXRhmqqoEFFdziFdnO3p61-7y51co84OEAZvARSINQaOWIzvioRfs4zwIFOaT33Vpxfqr8HDyh31zo9eBW2dSQuCa071z0ENWChW"
    "oPliK1JCo_Bk9eDg2uwo2ZwhsvHzj6TMQ0lYOTzufSlSmXIKfjlOsb3nftQeR697_hA-nMZyAdL8_NRfaC37XnAbW8WB9wCfECp7cuNuOg"
)
VECTOR_KEY: Final = {
    "kty": "RSA",
    "kid": "1e9gdk7",
    "n": "w7Zdfmece8iaB0kiTY8pCtiBtzbptJmP28nSWwtdjRu0f2GFpajvWE4VhfJAjEsOcwYzay7XGN0b-X84BfC8hmCTOj2b2eHT7NsZegFPKR"
    "UQzJ9wW8ipn_aDJWMGDuB1XyqT1E7DYqjUCEOD1b4FLpy_xPn6oV_TYOfQ9fZdbE5HGxJUzekuGcOKqOQ8M7wfYHhHHLxGpQVgL0apWuP2gDDOd"
    "Ttpuld4D2LK1MZK99s9gaSjRHE8JDb1Z4IGhEcEyzkxswVdPndUWzfvWBBWXWxtSUvQGBRkuy1BHOa4sP6FKjWEeeF7gm7UMs2Nm2QUgNZw6xvE"
    "DGaLk4KASdIxRQ",
    "e": "AQAB",
}
VECTOR_EXPECTED: Final = Expected(
    issuer="https://server.example.com",
    client_id="s6BhdRkqt3",
    requested=Requested(scope="openid", nonce=Secret("n-0S6_WzA2Mj")),
    access_token=Secret("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"),
)


@pytest.mark.parametrize("now", [1311280970.0, 1311281969.9])
def test_the_vector_of_openid_connect_core(now: float) -> None:
    """VEC-IDT-01: the token of OpenID Connect Core A.3 is valid throughout its life."""
    policy = IdTokenPolicy(leeway=0)
    claims = accept(VECTOR, policy=policy, expected=VECTOR_EXPECTED, keys=key_set(VECTOR_KEY), now=now)
    assert claims["sub"] == "248289761001"


def test_the_vector_outside_its_life() -> None:
    """VEC-IDT-01: at its ``exp`` the token has expired, and before its ``iat`` it comes from the future."""
    policy, keys = IdTokenPolicy(leeway=0), key_set(VECTOR_KEY)
    refuse(VECTOR, f"{CORE} (9): exp", policy=policy, expected=VECTOR_EXPECTED, keys=keys, now=1311281970.0)
    refuse(VECTOR, f"{CORE} (10): iat", policy=policy, expected=VECTOR_EXPECTED, keys=keys, now=1311280969.9)


CORE_CLAIMS: Final = {
    "iss": "https://server.example.com",
    "sub": "248289761001",
    "aud": "s6BhdRkqt3",
    "email": "janedoe@example.com",
    "exp": 1537819803,
    "iat": 1537819503,
}
PUSHED: Final = {
    **CORE_CLAIMS,
    "at_hash": AT_HASH,
    RT_CLAIM: RT_HASH,
    ID_CLAIM: "1c266114-a1be-4252-8ad1-04986c5b9ac1",
}


@pytest.mark.parametrize(("claims", "push"), [(CORE_CLAIMS, False), (PUSHED, False), (PUSHED, True)])
def test_the_claims_of_the_ciba_vectors(claims: dict[str, Any], push: bool) -> None:
    """VEC-CORE-06, VEC-CORE-08: the claims of both examples pass; those of a push need their hashes."""
    expected = Expected(
        issuer="https://server.example.com",
        client_id="s6BhdRkqt3",
        auth_req_id=Secret("1c266114-a1be-4252-8ad1-04986c5b9ac1"),
        access_token=ACCESS_TOKEN,
        refresh_token=REFRESH_TOKEN,
        push=push,
    )
    # The key of the examples is not published, so that they are signed anew.
    token = signed(alg="RS256", payload=json.dumps(claims, separators=(",", ":")).encode())
    result = accept(token, policy=IdTokenPolicy(), expected=expected, keys=all_keys(), now=1537819510.0)
    assert result == claims


# --- signatures and keys ---------------------------------------------------------------------------------


@pytest.mark.parametrize("alg", ASYMMETRIC_ALGORITHMS)
def test_every_algorithm(alg: str) -> None:
    """IDT-07, IDT-08, IDT-31: each registered algorithm is verified, and hashes with its own function."""
    token = signed({"at_hash": half_hash(alg, ACCESS_TOKEN.reveal())}, alg=alg)
    policy = IdTokenPolicy(signed_response_alg=alg)
    assert accept(token, policy=policy, keys=key_set(public(alg)))["sub"] == "user-MARKER"
    refuse(
        signed(alg=alg, which=1, header={"kid": "k0"}),
        f"{CORE} (6)",
        policy=policy,
        keys=key_set(public(alg)),
    )


@pytest.mark.parametrize("alg", HMAC_ALGORITHMS)
def test_hmac_with_the_client_secret(alg: str) -> None:
    """IDT-09: HS* is verified with the octets of the client secret, and needs no key set."""
    policy = IdTokenPolicy(signed_response_alg=alg)
    token = signed(alg=alg)
    assert accept(token, policy=policy, keys=None) == CLAIMS
    other = OctKey.import_key(b"another-secret" * 5)
    refuse(signed(alg=alg, key=other), f"{CORE} (6)", policy=policy)


def test_hmac_with_several_audiences() -> None:
    """IDT-09: with HS* and several audiences there is no telling whose secret counts."""
    policy = IdTokenPolicy(signed_response_alg="HS256", trusted_audiences=("other",))
    accept(signed({"aud": [CLIENT]}, alg="HS256"), policy=policy)
    refuse(signed({"aud": [CLIENT, "other"]}, alg="HS256"), f"{CORE} (8): aud", policy=policy)
    refuse(signed({"aud": [CLIENT, CLIENT]}, alg="HS256"), f"{CORE} (8): aud", policy=policy)


@pytest.mark.parametrize(
    "name", ["none", "None", "NONE", "nOnE", "", "ES256K", "HS256", "RS256", "PS256", 5, None, ["ES256"]]
)
def test_another_algorithm_than_the_registered_one(name: object) -> None:
    """Bad input "alg none" (IDT-08, IDT-10): no other algorithm is taken, signed or not."""
    token = signed(header={"alg": name})
    assert refuse(token, f"{CORE} (7)") == "the token is not signed with ES256"
    refuse(token.rpartition(".")[0] + ".", f"{CORE} (7)")
    refuse(signed(header={"alg": REMOVED}), f"{CORE} (7)")


@pytest.mark.parametrize("policy", [IdTokenPolicy(), ES256, IdTokenPolicy(signed_response_alg="HS256")])
def test_hmac_with_the_public_key_as_the_secret(policy: IdTokenPolicy) -> None:
    """Bad input "HS256 with the public key as secret": no public key ever verifies an HMAC."""
    for alg in ("RS256", "ES256"):
        theirs = key_of(alg, 0)
        for octets in (theirs.as_pem(private=False), json.dumps(public(alg)).encode()):
            token = signed(alg="HS256", key=OctKey(octets, octets))
            rule = f"{CORE} ({6 if policy.signed_response_alg == 'HS256' else 7})"
            refuse(token, rule, policy=policy, keys=all_keys())


@pytest.mark.parametrize("registered", ["EdDSA", "Ed25519"])
@pytest.mark.parametrize("used", ["EdDSA", "Ed25519"])
def test_the_two_names_of_ed25519(registered: str, used: str) -> None:
    """RFC 9864: a token may bear either name, whichever was registered; its hashes are SHA-512 (IDT-32)."""
    policy = IdTokenPolicy(signed_response_alg=registered)
    at_hash = "4Kz8XDaGn45tP19maPUFH74gc0m3La39US-0NusHxw4"
    accept(signed({"at_hash": at_hash}, alg=used), policy=policy, keys=key_set(public(used)))


@pytest.mark.parametrize(
    "labels", [{"use": "enc"}, {"key_ops": ["sign"]}, {"alg": "ES384"}, {"alg": "ECDH-ES"}]
)
def test_a_key_that_is_for_something_else(labels: dict[str, Any]) -> None:
    """Bad input "key of the wrong use": a key with another use, operation or algorithm is none."""
    assert validate(signed(), keys=key_set(public("ES256", **labels))) == NoKey()


def test_a_key_of_another_type_or_curve() -> None:
    """Bad input "key of the wrong curve": the kid alone does not make a key fit."""
    for alg in ("RS256", "ES384", "EdDSA"):
        assert validate(signed(), keys=key_set(public(alg))) == NoKey()


def test_no_key_set_or_no_key_in_it() -> None:
    """JWKS-02: with no key set, or a kid that it lacks, keys are asked for and nothing is decided."""
    token = signed(which=3)
    needed = NoKey()
    assert validate(token) == needed
    assert validate(token, keys=key_set()) == needed
    assert validate(token, keys=None) == needed


def test_several_keys_with_one_kid() -> None:
    """Bad input "two keys with one kid" (JWKS-05): all that fit are tried, and the kinds tell others apart."""
    keys = key_set(
        public("RS256", kid="k0"),
        public("ES256", 1, kid="k0"),
        public("ES256", 2, kid="k0"),
        public("ES256", 0, kid="k0"),
    )
    for which in (0, 1, 2):
        accept(signed(which=which, header={"kid": "k0"}), keys=keys)
    refuse(signed(which=3, header={"kid": "k0"}), f"{CORE} (6)", keys=keys)


def test_tries_are_bounded() -> None:
    """JWKS-05: of many keys with one kid no more than eight are tried."""
    wrong = [public("ES256", 1, kid="k0")] * 7
    accept(signed(), keys=key_set(*wrong, public("ES256")))
    refuse(signed(), f"{CORE} (6)", keys=key_set(*wrong, wrong[0], public("ES256")))


def test_a_token_without_kid() -> None:
    """JWKS-06: without kid just one key may fit; others of other kinds do not matter."""
    token = signed(header={"kid": REMOVED})
    accept(token, keys=key_set(public("ES256"), public("RS256"), public("ES384")))
    accept(token, keys=key_set(public("ES256", kid=REMOVED)))
    accept(signed(header={"kid": None}))
    two = key_set(public("ES256"), public("ES256", 1))
    assert "several" in refuse(token, "OpenID Connect Core 10.1", keys=two)
    assert validate(token, keys=key_set(public("RS256"))) == NoKey()


def test_a_token_without_kid_after_a_rotation() -> None:
    """JWKS-02: without kid a new key shows in a wrong signature only."""
    assert validate(signed(which=1, header={"kid": REMOVED})) == NoKey()
    refuse(signed(which=1, header={"kid": "k0"}), f"{CORE} (6)")
    hmac = signed(alg="HS256", key=OctKey.generate_key(256), header={"kid": REMOVED})
    refuse(hmac, f"{CORE} (6)", policy=IdTokenPolicy(signed_response_alg="HS256"))


@pytest.mark.parametrize("kid", [5, True, [], {}])
def test_a_kid_that_is_no_string(kid: object) -> None:
    """RFC 7515 4.1.4: kid is a string."""
    refuse(signed(header={"kid": kid}), "RFC 7515 4.1.4")


def test_keys_in_the_header_are_not_used() -> None:
    """IDT-20: whoever brings the key along does not sign for the provider."""
    bait = {
        "jwk": public("ES256", 1),
        "jku": "https://evil.example/keys",
        "x5u": "https://evil.example/cert",
        "x5c": ["AAAA"],
    }
    refuse(signed(which=1, header={"kid": "k0", **bait}), f"{CORE} (6)")
    assert validate(signed(which=1, header=bait)) == NoKey()
    accept(signed(header=bait))


@pytest.mark.parametrize("alg", ["RS256", "PS384", "ES256", "ES512", "Ed25519"])
@given(position=st.integers(min_value=0, max_value=10_000))
@settings(max_examples=15, deadline=None)
def test_one_bit_changed(alg: str, position: int) -> None:
    """Bad input "signature with one bit changed": any bit of the claims or the signature counts."""
    head, claims, signature = signed(alg=alg).split(".")
    policy, keys = IdTokenPolicy(signed_response_alg=alg), key_set(public(alg))
    octets = bytearray(base64.urlsafe_b64decode(signature + "=="))
    octets[position // 8 % len(octets)] ^= 1 << position % 8
    refuse(f"{head}.{claims}.{b64(bytes(octets))}", f"{CORE} (6)", policy=policy, keys=keys)
    # A letter of the issuer or the like becomes another one; other changes are no JSON any more.
    octets = bytearray(base64.urlsafe_b64decode(claims + "=="))
    octets[octets.index(b"MARKER") + position % 6] ^= 1
    refuse(f"{head}.{b64(bytes(octets))}.{signature}", f"{CORE} (6)", policy=policy, keys=keys)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "MARKER",
        "MARKER.MARKER.MARKER",
        "a.b.c.d.e",
        "....",
        "..",
        f"{signed()}.{signed()}",
        signed() + "=",
    ],
)
def test_garbage(token: str) -> None:
    """Bad input "nested or five-part garbage" (IDT-25): refused by its structure."""
    refuse(token, "RFC 7515 5.2")


def test_structure_beyond_the_plain() -> None:
    """IDT-21, IDT-25: critical headers, repeated members, nested tokens and deep JSON are refused."""
    refuse(signed(header={"crit": ["b64"], "b64": False}), "RFC 7515 5.2")
    refuse(signed(payload=b'{"iss":"MARKER","iss":"MARKER"}'), "RFC 7515 5.2")
    refuse(signed(payload=signed().encode()), "RFC 7515 5.2")
    refuse(signed({"x": [[[[[]]]]]}), "RFC 7515 5.2", limits=Limits(json_depth=5))
    accept(signed({"x": [[[[]]]]}), limits=Limits(json_depth=5))


def test_the_length_of_a_token_is_bounded() -> None:
    """A token longer than the limit for strings is refused before anything is decoded."""
    token = signed()
    accept(token, limits=Limits(string=len(token)))
    refuse(token, "size limit", limits=Limits(string=len(token) - 1))


# --- claims ----------------------------------------------------------------------------------------------


def test_claims_are_read_only() -> None:
    """What was validated cannot be changed afterwards, at no depth; IDT-19: unknown claims are kept."""
    claims: Any = accept(signed({"address": {"x": [1]}, "amr": ["pwd"], "y": None, "z": 1.5}))
    assert claims["address"] == {"x": (1,)}
    assert (claims["amr"], claims["y"], claims["z"]) == (("pwd",), None, 1.5)
    for target in (claims, claims["address"]):
        with pytest.raises(TypeError):
            target["x"] = 1


HUGE: Final = 10**60

REFUSED: Final[list[tuple[dict[str, Any], str]]] = [
    *(
        ({"iss": iss}, f"{CORE} (2): iss")
        for iss in (REMOVED, None, 5, "", ISSUER + "/", ISSUER.upper(), [ISSUER])
    ),
    *(
        ({"sub": sub}, "OpenID Connect Core 2: sub")
        for sub in (REMOVED, None, 5, True, "", "ä-MARKER", "x" * 256, ["user"])
    ),
    *(
        ({"aud": aud}, "OpenID Connect Core 2: aud")
        for aud in (REMOVED, None, 5, {}, {CLIENT: 1}, [CLIENT, 5], [CLIENT, None])
    ),
    *(
        ({"aud": aud}, f"{CORE} (3): aud")
        for aud in ("", "other", [], ["other"], CLIENT + "x", [CLIENT, "other"])
    ),
    *(({"azp": azp}, f"{CORE} (5): azp") for azp in (5, "", "other", [CLIENT])),
    *(
        ({name: value}, f"OpenID Connect Core 2: {name}")
        for name in ("exp", "iat")
        for value in (REMOVED, None, True, False, "1800000000", [1800000000])
    ),
    *(({"exp": exp}, f"{CORE} (9): exp") for exp in (NOW - 60, NOW - 60.5, 0, -1, -HUGE)),
    *(
        ({"iat": iat}, f"{CORE} (10): iat")
        for iat in (NOW + 60.5, HUGE, NOW - 86460.5, NOW - 7 * 86400, 0, -HUGE)
    ),
    *(({"nbf": nbf}, "RFC 7519 4.1.5: nbf") for nbf in (NOW + 60.5, HUGE, True, {"a": 1}, "0")),
    *(
        ({"auth_time": at}, f"{CORE} (13): auth_time")
        for at in (NOW + 60.5, True, {"a": 1}, str(int(NOW) + 61))
    ),
    *(
        ({"at_hash": value}, "OpenID Connect Core 3.1.3.6: at_hash")
        for value in ("", "x", 5, [AT_HASH], AT_HASH + "=", RT_HASH)
    ),
]


@pytest.mark.parametrize(("changes", "rule"), REFUSED)
def test_claims_that_are_refused(changes: dict[str, Any], rule: str) -> None:
    """Bad input "wrong, missing, extra iss, aud, exp, sub, at_hash" (IDT-03..06, -11..13, -17, -18, -22, -30;
    JOSE-04: true is no number)."""
    refuse(signed(changes), rule)


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": [CLIENT]},
        {"aud": [CLIENT, CLIENT]},
        {"azp": CLIENT},
        {"sub": "x" * 255},
        {"exp": NOW - 59.5},
        {"exp": HUGE},
        {"iat": NOW + 60},
        {"iat": NOW - 86460},
        {"iat": NOW + 0.5, "exp": NOW + 0.75},
        {"nbf": NOW + 60},
        {"nbf": 0},
        {"auth_time": 0},
        {"auth_time": NOW + 60},
        {"at_hash": AT_HASH},
        {"nonce": "unexpected"},
        {"acr": 5},
        {ID_CLAIM: 5, RT_CLAIM: 5},
    ],
)
def test_claims_that_are_accepted(changes: dict[str, Any]) -> None:
    """The same checks at the near side of their bounds; what nothing is known about is not checked."""
    accept(signed(changes))


def test_leeway_and_age_are_settings() -> None:
    """IDT-11, IDT-12, JOSE-02, JOSE-03: one leeway for all times; the greatest age may be set or lifted."""
    strict = evolve(ES256, leeway=0, max_age=10)
    accept(signed({"exp": NOW + 1, "iat": NOW - 10, "nbf": NOW}), policy=strict)
    refuse(signed({"exp": NOW}), f"{CORE} (9): exp", policy=strict)
    refuse(signed({"iat": NOW + 1}), f"{CORE} (10): iat", policy=strict)
    refuse(signed({"iat": NOW - 11}), f"{CORE} (10): iat", policy=strict)
    refuse(signed({"nbf": NOW + 1}), "RFC 7519 4.1.5: nbf", policy=strict)
    accept(signed({"iat": 0}), policy=evolve(ES256, max_age=None))


def test_trusted_audiences() -> None:
    """IDT-05: other audiences are accepted when they are all on the list, beside the client."""
    policy = evolve(ES256, trusted_audiences=("a", "b"))
    accept(signed({"aud": ["a", CLIENT, "b"]}), policy=policy)
    refuse(signed({"aud": ["a", CLIENT, "c"]}), f"{CORE} (3): aud", policy=policy)
    refuse(signed({"aud": ["a", "b"]}), f"{CORE} (3): aud", policy=policy)
    refuse(signed({"aud": "a"}), f"{CORE} (3): aud", policy=policy)


def test_nonce() -> None:
    """IDT-14, IDT-15: a nonce that was sent comes back; one that was not is ignored, or refused by choice."""
    expected = asked(nonce=Secret("nonce-MARKER"))
    accept(signed({"nonce": "nonce-MARKER"}), expected=expected)
    for value in (REMOVED, None, 5, "", "other"):
        refuse(signed({"nonce": value}), f"{CORE} (11): nonce", expected=expected)
    strict = evolve(ES256, forbid_unexpected_nonce=True)
    accept(signed(), policy=strict)
    accept(signed({"nonce": "nonce-MARKER"}), policy=strict, expected=expected)
    refuse(signed({"nonce": "nonce-MARKER"}), "OpenID Connect Core 2: nonce", policy=strict)


def test_acr() -> None:
    """IDT-16: an essential acr is demanded, out of the values that were named; a voluntary one is not."""
    essential = asked(acr=True, acr_values=("high-MARKER", "higher"))
    accept(signed({"acr": "higher"}), expected=essential)
    accept(signed({"acr": "any"}), expected=asked(acr=True))
    accept(signed({"acr": "low"}), expected=asked(acr_values=("high-MARKER", "higher")))
    for value in (REMOVED, None, 5, ["higher"]):
        refuse(signed({"acr": value}), f"{CORE} (12): acr", expected=essential)
        refuse(signed({"acr": value}), f"{CORE} (12): acr", expected=asked(acr=True))
    refuse(signed({"acr": "low-MARKER"}), f"{CORE} (12): acr", expected=essential)


def test_auth_time() -> None:
    """IDT-17: with a greatest age the claim is demanded and measured; as an essential claim it is demanded."""
    rule = f"{CORE} (13): auth_time"
    aged = asked(max_age=100)
    accept(signed({"auth_time": NOW - 160}), expected=aged)
    refuse(signed({"auth_time": NOW - 160.5}), rule, expected=aged)
    refuse(signed(), rule, expected=aged)
    refuse(signed(), rule, expected=asked(auth_time=True))
    accept(signed({"auth_time": 0}), expected=asked(auth_time=True))
    at_once = asked(max_age=0)
    accept(signed({"auth_time": NOW - 60}), expected=at_once)
    refuse(signed({"auth_time": NOW - 61}), rule, expected=at_once)


def test_subject_of_the_hint() -> None:
    """IDT-24: the user who answered is the one whom the hint named."""
    accept(signed(), expected=asked(subject=Secret("user-MARKER")))
    refuse(
        signed(),
        "CIBA Core 7.1: id_token_hint; OpenID Connect Core 5.5.1: sub",
        expected=asked(subject=Secret("another-MARKER")),
    )


# --- binding ---------------------------------------------------------------------------------------------

BINDING: Final = {"at_hash": AT_HASH, RT_CLAIM: RT_HASH, ID_CLAIM: AUTH_REQ_ID.reveal()}
RULES: Final = {
    "at_hash": "OpenID Connect Core 3.1.3.6: at_hash",
    RT_CLAIM: "CIBA Core 10.3.1: rt_hash",
    ID_CLAIM: "CIBA Core 10.3.1: auth_req_id",
}


@pytest.mark.parametrize("name", BINDING)
@pytest.mark.parametrize("value", [REMOVED, None, 5, "", "x-MARKER", "ä", "\ud800", AT_HASH[:-1]])
def test_binding_claims(name: str, value: object) -> None:
    """CIBA-10.3-04..08, CIBA-10.1.1-04, IDT-23: right wherever they are; a push has to have them, an answer need not."""
    answer = evolve(EXPECTED, auth_req_id=AUTH_REQ_ID, refresh_token=REFRESH_TOKEN)
    push = evolve(answer, push=True)
    accept(signed(BINDING), expected=push)
    accept(signed(BINDING), expected=answer)
    if value == "\ud800":
        refuse(signed({**BINDING, name: value}), "RFC 7515 5.2", expected=push)
        return
    token = signed({**BINDING, name: value})
    refuse(token, RULES[name], expected=push)
    if value is REMOVED or (name == "at_hash" and value is None):
        accept(token, expected=answer)
    else:
        refuse(token, RULES[name], expected=answer)


@pytest.mark.parametrize("alg", SIGNATURE_ALGORITHMS)
def test_bindings_are_hashed_as_the_token_is_signed(alg: str) -> None:
    """CIBA-10.3-10, IDT-31, IDT-32: both hashes of a push go by its own algorithm, and by no other."""
    sha = {"256": hashlib.sha256, "384": hashlib.sha384}.get(alg[2:], hashlib.sha512)
    expected = evolve(EXPECTED, auth_req_id=AUTH_REQ_ID, refresh_token=REFRESH_TOKEN, push=True)
    policy = IdTokenPolicy(signed_response_alg=alg)
    keys = key_set() if alg.startswith("HS") else key_set(public(alg))
    halves: dict[str, dict[str, str]] = {}
    for made in (hashlib.sha256, hashlib.sha384, hashlib.sha512):
        for name, bound in (("at_hash", ACCESS_TOKEN), (RT_CLAIM, REFRESH_TOKEN)):
            digest = made(bound.reveal().encode()).digest()
            halves.setdefault(made().name, {})[name] = b64(digest[: len(digest) // 2])
    right = halves.pop(sha().name)
    accept(signed({**BINDING, **right}, alg=alg), policy=policy, expected=expected, keys=keys)
    for wrong in halves.values():
        for name in right:
            token = signed({**BINDING, **right, name: wrong[name]}, alg=alg)
            refuse(token, RULES[name], policy=policy, expected=expected, keys=keys)


def test_a_refresh_token_that_was_taken_out() -> None:
    """CIBA-10.3-07: a push with rt_hash needs its refresh token; a refresh may keep the old one quietly."""
    push = evolve(EXPECTED, auth_req_id=AUTH_REQ_ID, push=True)
    refuse(signed(BINDING), RULES[RT_CLAIM], expected=push)
    accept(signed({**BINDING, RT_CLAIM: REMOVED}), expected=push)
    accept(signed(BINDING), expected=evolve(push, push=False))


def test_without_anything_to_compare_with() -> None:
    """After a refresh there is no auth_req_id; a claim of that name means nothing then."""
    accept(signed({RT_CLAIM: "x", ID_CLAIM: "x"}))


def test_a_push_needs_what_is_bound() -> None:
    """CIBA-10.3-04: a pushed token is not accepted where there is nothing to compare its auth_req_id with."""
    refuse(signed(BINDING), "CIBA Core 10.3.1: auth_req_id", expected=evolve(EXPECTED, push=True))


# --- encryption ------------------------------------------------------------------------------------------


@functools.cache
def encryption_key(kind: str) -> Any:
    return RSAKey.generate_key(2048) if kind == "RSA" else ECKey.generate_key("P-256")


def decryption_key(kind: str, **labels: Any) -> DecryptionKey:
    return DecryptionKey.from_jwk({**encryption_key(kind).as_dict(private=True), **labels})


def encrypted(plain: str, alg: str, enc: str, key: Any, **header: Any) -> str:
    registry = jwe.JWERegistry(algorithms=[alg, enc, "DEF"], strict_check_header=False)
    return jwe.encrypt_compact({"alg": alg, "enc": enc, **header}, plain, key, registry=registry)


@pytest.mark.parametrize("enc", CONTENT_ENCRYPTIONS)
@pytest.mark.parametrize("alg", ["RSA-OAEP-256", "ECDH-ES", "ECDH-ES+A128KW", "dir", "A128KW"])
def test_encrypted_tokens(alg: str, enc: str) -> None:
    """IDT-01, IDT-02, IDT-40..43, IDT-33: decrypted by the client's key or secret, and validated as usual."""
    pair = "RSA" if alg.startswith("RSA") else "EC" if alg.startswith("ECDH") else None
    policy = evolve(
        ES256,
        encrypted_response_alg=alg,
        encrypted_response_enc=enc,
        decryption_keys=[decryption_key(pair)] if pair else (),
    )
    key = encryption_key(pair) if pair else content_encryption_key(CLIENT_SECRET.reveal(), alg, enc).inner
    token = encrypted(signed({"at_hash": AT_HASH}), alg, enc, key, cty="JWT")
    assert accept(token, policy=policy)["sub"] == "user-MARKER"
    refuse(encrypted(signed(which=1, header={"kid": "k0"}), alg, enc, key), f"{CORE} (6)", policy=policy)
    refuse(signed(), f"{CORE} (1)", policy=policy)
    refuse(token, "RFC 7515 5.2")
    assert validate(token, policy=policy, keys=key_set()) == NoKey()


def oaep() -> IdTokenPolicy:
    return evolve(
        ES256, encrypted_response_alg="RSA-OAEP-256", decryption_keys=(decryption_key("RSA", kid="new"),)
    )


def test_what_is_inside_an_encrypted_token() -> None:
    """IDT-43, IDT-44: a signed token and nothing else: no plain claims, no second envelope, no bomb."""

    def wrap(plain: str, **header: Any) -> str:
        return encrypted(plain, "RSA-OAEP-256", "A128CBC-HS256", encryption_key("RSA"), **header)

    accept(wrap(signed()), policy=oaep())
    refuse(wrap(json.dumps(CLAIMS)), "RFC 7515 5.2", policy=oaep())
    refuse(wrap(signed() + "ä"), "RFC 7515 5.2", policy=oaep())
    refuse(wrap(wrap(signed())), "RFC 7515 5.2", policy=oaep())
    refuse(wrap(signed(header={"alg": "none"})), f"{CORE} (7)", policy=oaep())
    assert "compressed" in refuse(wrap("x" * 5_000_000, zip="DEF"), f"{CORE} (1)", policy=oaep())
    other = encrypted(signed(), "RSA-OAEP-256", "A128CBC-HS256", RSAKey.generate_key(2048))
    assert "none of the keys" in refuse(other, f"{CORE} (1)", policy=oaep())
    assert "registered" in refuse(
        encrypted(signed(), "RSA-OAEP", "A128CBC-HS256", encryption_key("RSA")), f"{CORE} (1)", policy=oaep()
    )


def test_the_depth_of_the_header_of_an_encrypted_token() -> None:
    """HTTP-05: nothing has vouched for it yet; more than eight levels of JSON are not read."""

    def deep(levels: int) -> Any:
        return [deep(levels - 1)] if levels else "end"

    def wrap(levels: int) -> str:
        key = encryption_key("RSA")
        return encrypted(signed(), "RSA-OAEP-256", "A128CBC-HS256", key, x=deep(levels))

    accept(wrap(7), policy=oaep())
    assert "readable header" in refuse(wrap(8), f"{CORE} (1)", policy=oaep())


def test_the_length_of_an_encrypted_token_is_bounded_once() -> None:
    """HTTP-05: by the client's limit, whatever part of the token takes it up; no library has one of its own."""
    long = encrypted(
        signed({"x": "x" * 70_000}),
        "RSA-OAEP-256",
        "A128CBC-HS256",
        encryption_key("RSA"),
        x5c=["x" * 2000],
    )
    accept(long, policy=oaep(), limits=Limits(string=len(long)))
    refuse(long, "size limit", policy=oaep(), limits=Limits(string=len(long) - 1))


def test_symmetric_encryption_with_another_secret() -> None:
    """IDT-42: what was not encrypted with the secret of the client is not for it."""
    policy = evolve(ES256, encrypted_response_alg="dir")
    token = encrypted(
        signed(), "dir", "A128CBC-HS256", content_encryption_key("x", "dir", "A128CBC-HS256").inner
    )
    refuse(token, f"{CORE} (1)", policy=policy)


def test_retired_decryption_keys() -> None:
    """IDT-45: tokens encrypted to a retired key are read as long as the key is kept."""
    retired = DecryptionKey.from_jwk({**RSAKey.generate_key(2048).as_dict(private=True), "kid": "old"})
    policy = oaep()
    policy = evolve(policy, decryption_keys=(retired, *policy.decryption_keys))
    accept(
        encrypted(signed(), "RSA-OAEP-256", "A128CBC-HS256", encryption_key("RSA"), kid="new"), policy=policy
    )


# --- policy ----------------------------------------------------------------------------------------------


def test_the_defaults_of_the_registration() -> None:
    """IDT-08, IDT-40: RS256, no encryption, and A128CBC-HS256 where there is one."""
    policy = IdTokenPolicy()
    assert (policy.signed_response_alg, policy.encrypted_response_alg) == ("RS256", None)
    assert (policy.encrypted_response_enc, policy.leeway, policy.max_age) == (None, 60.0, 86400.0)
    assert IdTokenPolicy(encrypted_response_alg="dir").encrypted_response_enc == "A128CBC-HS256"
    assert oaep().encrypted_response_enc == "A128CBC-HS256"
    assert IdTokenPolicy(trusted_audiences=["a"]).trusted_audiences == ("a",)
    assert oaep() == oaep()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"signed_response_alg": "none"}, ValueError, "signed_response_alg must be one of RS256"),
        ({"signed_response_alg": None}, ValueError, "signed_response_alg must be one of"),
        (
            {"encrypted_response_alg": "RSA1_5"},
            ValueError,
            "encrypted_response_alg must be one of RSA-OAEP-256",
        ),
        (
            {"encrypted_response_enc": "A128GCM"},
            ValueError,
            "encrypted_response_enc needs encrypted_response_alg",
        ),
        (
            {"encrypted_response_alg": "dir", "encrypted_response_enc": "A128CTR"},
            ValueError,
            "encrypted_response_enc must be one of A128CBC-HS256",
        ),
        ({"encrypted_response_alg": "RSA-OAEP"}, ValueError, "decryption_keys must have a key for RSA-OAEP"),
        (
            {"encrypted_response_alg": "ECDH-ES", "decryption_keys": [decryption_key("RSA")]},
            ValueError,
            "decryption_keys must have a key for ECDH-ES",
        ),
        (
            {"decryption_keys": (decryption_key("RSA"),)},
            ValueError,
            "decryption_keys need an encrypted_response_alg",
        ),
        (
            {"encrypted_response_alg": "dir", "decryption_keys": (decryption_key("RSA"),)},
            ValueError,
            "decryption_keys need an encrypted_response_alg",
        ),
        ({"decryption_keys": 5}, TypeError, "decryption_keys must be DecryptionKey values"),
        ({"decryption_keys": ("x",)}, TypeError, "decryption_keys must be DecryptionKey values"),
        ({"leeway": -1}, ValueError, "leeway"),
        ({"leeway": 300.5}, ValueError, "leeway"),
        ({"leeway": float("nan")}, ValueError, "leeway"),
        ({"leeway": "1"}, TypeError, "leeway"),
        ({"max_age": 0}, ValueError, "max_age"),
        ({"max_age": float("inf")}, ValueError, "max_age"),
        ({"trusted_audiences": "abc"}, TypeError, "trusted_audiences must be an array of strings"),
        ({"trusted_audiences": [1]}, TypeError, "trusted_audiences must be an array of strings"),
        ({"forbid_unexpected_nonce": 1}, TypeError, "forbid_unexpected_nonce must be bool"),
    ],
)
def test_policies_that_do_not_go_together(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    """JOSE-03, IDT-10, IDT-44, FAPI-17: a policy that nothing could pass, or that is too lax, is refused at once."""
    with pytest.raises(error, match=message):
        IdTokenPolicy(**arguments)


@pytest.mark.parametrize("cls", [IdTokenPolicy, UserInfoPolicy])
def test_policies_are_made_by_name(cls: Any) -> None:
    """IDT-08, IDT-40: which algorithm is which is written out; nothing is told by its place."""
    with pytest.raises(TypeError, match="positional argument"):
        cls("dir")


@pytest.mark.parametrize(
    ("policy", "needed"),
    [
        (IdTokenPolicy(), False),
        (IdTokenPolicy(signed_response_alg="HS256"), True),
        (IdTokenPolicy(encrypted_response_alg="A128KW"), True),
        (oaep(), False),
    ],
)
def test_when_a_client_secret_is_needed(policy: IdTokenPolicy, needed: bool) -> None:
    """IDT-09, IDT-42: HS* and the symmetric encryptions work with the client secret."""
    assert policy.needs_client_secret is needed


# --- hints -----------------------------------------------------------------------------------------------


def test_the_subject_of_a_hint() -> None:
    """IDT-24: the sub of a signed token is read; what cannot be read tells nothing."""
    assert subject_of(Secret(signed())) == "user-MARKER"
    assert subject_of(Secret(VECTOR)) == "248289761001"
    opaque = (
        "MARKER",
        "a.b.c",
        encrypted("x", "ECDH-ES", "A128GCM", encryption_key("EC")),
        signed({"sub": 5}),
    )
    assert [subject_of(Secret(token)) for token in opaque] == [None] * 4


def test_the_depth_of_a_hint() -> None:
    """IDT-24, HTTP-05: a hint may come from anywhere; JSON deeper than 32 levels is not read."""

    def deep(levels: int) -> Any:
        return [deep(levels - 1)] if levels else "end"

    assert subject_of(Secret(signed({"x": deep(31)}))) == "user-MARKER"
    assert subject_of(Secret(signed({"x": deep(32)}))) is None


# --- every key that fits, by an explicit setting


EVERY: Final = IdTokenPolicy(signed_response_alg="ES256", try_every_key=True)
KID_RULE: Final = "OpenID Connect Core 10.1: kid"


def every(
    token: str, keys: KeySet, *, policy: IdTokenPolicy = EVERY, conclusive: bool = False
) -> list[str] | BrokenRule | NoKey:
    """Validate by a policy, and return the rules that the token deviates from."""
    noted: list[ProviderDeviation] = []
    verdict = validate(token, policy=policy, keys=keys, noted=noted, conclusive=conclusive)
    return verdict if isinstance(verdict, (BrokenRule, NoKey)) else [deviation.rule for deviation in noted]


def test_a_token_without_kid_and_several_keys_that_fit() -> None:
    """JWKS-06: with `try_every_key` each of them is tried, and it is told; without it, that is refused."""
    keys = key_set(public("ES256", 0), public("RS256"), public("ES256", 1))
    for which in (0, 1):
        token = signed(which=which, header={"kid": REMOVED})
        assert every(token, keys) == [KID_RULE]
        refuse(token, "OpenID Connect Core 10.1", keys=keys)
    assert every(signed(which=2, header={"kid": REMOVED}), keys) == NoKey()


def test_one_key_that_fits_is_no_deviation() -> None:
    """JWKS-06: the setting changes nothing where one key fits, or the kid names one."""
    keys = key_set(public("ES256", 0), public("RS256"))
    assert every(signed(header={"kid": REMOVED}), keys) == []
    assert every(signed(), keys, conclusive=True) == []


def test_a_kid_that_no_key_bears() -> None:
    """JWKS-02: another key may have made the signature, once a fetched set lacks the kid; never before."""
    keys = key_set(public("ES256", 0), public("ES256", 1))
    token = signed(which=1, header={"kid": "nobody"})
    assert every(token, keys) == NoKey()
    assert every(token, keys, conclusive=True) == [KID_RULE]
    # Without the setting, and by a key that is in no set, nothing is taken.
    assert every(token, keys, policy=ES256, conclusive=True) == NoKey()
    assert every(signed(which=2, header={"kid": "nobody"}), keys, conclusive=True) == NoKey()


def test_a_kid_that_a_key_bears() -> None:
    """JWKS-05: what a key bears names that key, even one that does not fit: no other is tried then."""
    keys = key_set(public("ES256", 0), public("ES256", 1, use="enc"), public("RS256", 2))
    for kid in ("k1", "k2"):
        assert every(signed(which=0, header={"kid": kid}), keys, conclusive=True) == NoKey()
    forged = every(signed(which=1, header={"kid": "k0"}), keys, conclusive=True)
    assert forged == BrokenRule("the signature does not verify", f"{CORE} (6)")


def test_only_keys_that_fit_are_tried_and_not_too_many() -> None:
    """JWKS-05: type, ``use``, ``key_ops`` and ``alg`` hold as ever, and eight keys are enough."""
    token = signed(which=0, header={"kid": "nobody"})
    for labels in ({"use": "enc"}, {"key_ops": ["sign"]}, {"alg": "ES384"}):
        keys = key_set(public("ES256", 0, **labels), public("ES256", 1))
        assert every(token, keys, conclusive=True) == NoKey()
    wrong = [public("ES256", 1, kid=f"w{number}") for number in range(8)]
    assert every(token, key_set(*wrong[:7], public("ES256", 0)), conclusive=True) == [KID_RULE]
    assert every(token, key_set(*wrong, public("ES256", 0)), conclusive=True) == NoKey()


# --- pushed ID Tokens without at_hash, by an explicit setting


def test_a_pushed_id_token_without_at_hash() -> None:
    """CIBA-10.3-05: refused, unless the profile says that the provider leaves it out; one that is there counts."""
    pushed = evolve(EXPECTED, push=True, auth_req_id=AUTH_REQ_ID)
    lax = evolve(GENERIC, at_hash_in_push=False)
    without = signed({ID_CLAIM: AUTH_REQ_ID.reveal()})
    refuse(without, "OpenID Connect Core 3.1.3.6: at_hash", expected=pushed)
    accept(without, expected=pushed, profile=lax)
    wrong = signed({ID_CLAIM: AUTH_REQ_ID.reveal(), "at_hash": half_hash("ES256", "x")})
    refuse(wrong, "OpenID Connect Core 3.1.3.6: at_hash", expected=pushed, profile=lax)
    unbound = evolve(pushed, auth_req_id=Secret("another"))
    refuse(without, "CIBA Core 10.3.1: auth_req_id", expected=unbound, profile=lax)
