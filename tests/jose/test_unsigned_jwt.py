from __future__ import annotations

from typing import Any

import pytest

from ciba_core.errors import LocalProtocolError
from ciba_core.jose.algorithms import ASYMMETRIC_ALGORITHMS
from ciba_core.jose.signing import compact
from ciba_core.jose.unsigned_jwt import (
    Audience,
    RemoteSigner,
    UnsignedJwt,
    audience_claim,
    numeric_date,
    unsigned_jwt,
)
from tests.jwt_samples import (
    CORE_SIGNER,
    FAPI_KEY,
    FAPI_SIGNER,
    OTHER_SIGNER,
    LocalSigner,
    opened,
    taken_apart,
    verified,
)

CLAIMS = {"sub": "hush", "n": 1}


@pytest.mark.parametrize("alg", ASYMMETRIC_ALGORITHMS)
def test_remote_signers(alg: str) -> None:
    """AUTH-22: a key that only the driver can reach is a value with algorithm and `kid`, and cannot sign."""
    signer = RemoteSigner("kms/1", alg=alg, kid="k")
    assert (signer.name, signer.alg, signer.kid) == ("kms/1", alg, "k")
    assert not hasattr(signer, "sign")
    assert RemoteSigner("kms/1", alg=alg).kid is None


@pytest.mark.parametrize(
    ("name", "alg", "kid", "error"),
    [
        ("", "ES256", None, ValueError),
        (None, "ES256", None, TypeError),
        ("x", "none", None, ValueError),
        ("x", "HS256", None, ValueError),
        ("x", "", None, ValueError),
        ("x", None, None, TypeError),
        ("x", "ES256", "", ValueError),
        ("x", "ES256", "\ud800", ValueError),
        ("x", "ES256", 1, TypeError),
    ],
)
def test_bad_remote_signers(name: Any, alg: Any, kid: Any, error: type[Exception]) -> None:
    """CIBA-7.1.1-09, FAPI-16: neither ``none`` nor an HMAC, and no unreadable names."""
    with pytest.raises(error, match=r"^(name|alg|kid) must"):
        RemoteSigner(name, alg=alg, kid=kid)


def test_header() -> None:
    """AUTH-21, -22, CIBA-7.1.1-11: `alg` always, `kid` when the signer has one, `typ` when it is set."""
    assert opened(unsigned_jwt(CLAIMS, signer=FAPI_SIGNER, typ=None)) == (
        {"alg": "ES256", "kid": "thrwqnuer"},
        CLAIMS,
    )
    assert opened(unsigned_jwt(CLAIMS, signer=OTHER_SIGNER, typ="JWT"))[0] == {"alg": "ES256", "typ": "JWT"}


def test_the_signature_completes_the_jwt() -> None:
    """AUTH-27: signer and compact form fit together, with R and S as 64 octets."""
    token = unsigned_jwt(CLAIMS, signer=FAPI_SIGNER, typ=None).sign()
    assert len(taken_apart(token).signature) == 64
    assert verified(token, FAPI_KEY, "ES256")
    assert not verified(token, OTHER_SIGNER.key, "ES256")


@pytest.mark.parametrize(
    ("alg", "octets"),
    [
        ("ES256", 64),
        ("ES384", 96),
        ("ES512", 132),
        ("Ed25519", 64),
        ("EdDSA", 64),
        ("PS256", 256),
        ("RS256", 512),
    ],
)
def test_signatures_of_the_right_length(alg: str, octets: int) -> None:
    """AUTH-27: RFC 7518 3.4 fixes the length for elliptic curves; that of RSA depends on the key."""
    jwt = unsigned_jwt(CLAIMS, signer=RemoteSigner("x", alg=alg), typ=None)
    token = jwt.signed(bytes(octets))
    assert token == compact(jwt.octets, bytes(octets))
    assert token.encode().startswith(jwt.octets + b".")


@pytest.mark.parametrize(
    ("alg", "signature", "message"),
    [
        ("ES256", b"\x30" * 71, r"with ES256 has 64 octets \(R and S of equal length, not DER\), not 71"),
        ("ES384", b"\x30" * 64, "with ES384 has 96 octets"),
        ("ES512", b"\x30" * 131, "with ES512 has 132 octets"),
        ("Ed25519", b"\x30" * 32, r"with Ed25519 has 64 octets \(RFC 8032\)"),
        ("EdDSA", b"\x30" * 65, "with EdDSA has 64 octets"),
        ("RS256", b"", "must not be empty"),
        ("ES256", "text", "must be bytes"),
        ("ES256", None, "must be bytes"),
    ],
)
def test_signatures_of_the_wrong_form(alg: str, signature: Any, message: str) -> None:
    """AUTH-27: a signature in DER, as key services make it, is told apart before it is sent."""
    jwt = unsigned_jwt(CLAIMS, signer=RemoteSigner("x", alg=alg), typ=None)
    with pytest.raises(LocalProtocolError, match=message):
        jwt.signed(signature)


@pytest.mark.parametrize(("claims", "expires_at"), [({}, None), ({"exp": 1537819786}, 1537819786.0)])
def test_when_a_jwt_expires(claims: dict[str, Any], expires_at: float | None) -> None:
    """AUTH-19: whoever waits for its signature can tell for how long."""
    found = unsigned_jwt(claims, signer=FAPI_SIGNER, typ=None).expires_at
    assert (found, type(found)) == (expires_at, type(expires_at))


def test_unsigned_jwts_do_not_show_their_claims() -> None:
    """AUTH-07: the claims of a request are personal data."""
    jwt = unsigned_jwt(CLAIMS, signer=CORE_SIGNER, typ=None)
    assert repr(jwt) == str(jwt) == "<UnsignedJwt for ES256, kid 'ltacesbw'>"
    assert jwt == UnsignedJwt(jwt.octets, CORE_SIGNER, jwt.expires_at)
    assert jwt != UnsignedJwt(jwt.octets, FAPI_SIGNER)


def test_claims_in_other_alphabets() -> None:
    """RFC 7519 3: claims are UTF-8, and survive as they are."""
    claims = {"binding_message": "Zahlung über 5 €", "n": 1.5, "nested": {"null": None}}
    assert opened(unsigned_jwt(claims, signer=LocalSigner(FAPI_KEY, "ES256", "käy"), typ=None)) == (
        {"alg": "ES256", "kid": "käy"},
        claims,
    )


@pytest.mark.parametrize(
    ("now", "date"), [(1537819486.0, 1537819486), (1537819486.99, 1537819486), (7, 7), (-0.5, -1)]
)
def test_dates(now: float, date: int) -> None:
    """AUTH-26: dates are whole seconds, never later than now."""
    assert numeric_date(now) == date
    assert isinstance(numeric_date(now), int)


ISSUER, TOKEN, CALLED = Audience.ISSUER, Audience.TOKEN_ENDPOINT, Audience.CALLED_ENDPOINT


@pytest.mark.parametrize(
    ("policy", "aud"),
    [
        (ISSUER, "issuer"),
        (TOKEN, "token"),
        (CALLED, "called"),
        ("urn:x", "urn:x"),
        ((ISSUER,), "issuer"),
        ((ISSUER, CALLED), ("issuer", "called")),
        ((CALLED, ISSUER, "urn:x"), ("called", "issuer", "urn:x")),
        ((ISSUER, "issuer"), "issuer"),
    ],
)
def test_audiences(policy: Any, aud: Any) -> None:
    """AUTH-20, FAPI2-04, CONFLICT-01: one audience is a string, several are an array, and none comes twice."""
    found = audience_claim(policy, issuer="issuer", token_endpoint="token", called_endpoint="called")
    assert found == aud


def test_audiences_that_coincide() -> None:
    """FAPI2-04: token endpoint and called endpoint are the same for a poll, hence one string."""
    assert audience_claim((TOKEN, CALLED), issuer="i", token_endpoint="t", called_endpoint="t") == "t"


def test_keys_behind_io_are_not_called() -> None:
    """A key that only the driver can reach is never taken for one in the process."""
    with pytest.raises(LocalProtocolError, match=r"^the signature has to come from the driver"):
        unsigned_jwt(CLAIMS, signer=CORE_SIGNER, typ=None).sign()


def test_signers_of_an_embedder_are_checked() -> None:
    """AUTH-27: a signer in the process that answers in DER is told apart, too."""

    class Der:
        alg = "ES256"
        kid = None

        def sign(self, _octets: bytes, /) -> bytes:
            return bytes(70)

    with pytest.raises(LocalProtocolError, match="not DER"):
        unsigned_jwt(CLAIMS, signer=Der(), typ=None).sign()
