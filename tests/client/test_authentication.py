from __future__ import annotations

import base64
import enum
from functools import partial
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciba_core import Secret
from ciba_core.client.authentication import (
    ClientAuthentication,
    ClientSecretBasic,
    ClientSecretJwt,
    ClientSecretPost,
    Credentials,
    CredentialsContext,
    NoClientAuthentication,
    PrivateKeyJwt,
    SelfSignedTlsClientAuth,
    TlsClientAuth,
)
from ciba_core.jose.encoding import base64url
from ciba_core.jose.unsigned_jwt import Audience, UnsignedJwt
from tests.jwt_samples import (
    CORE_SIGNER,
    FAPI_ASSERTION,
    FAPI_KEY,
    FAPI_SIGNER,
    OTHER_SIGNER,
    SIGNERS,
    LocalSigner,
    always,
    bad_signers,
    counter,
    opened,
    verified,
)
from tests.made_keys import hmac_key
from tests.samples import NOW, zeros


def context(client_id: str = "s6BhdRkqt3", **changes: Any) -> CredentialsContext:
    made = CredentialsContext(
        client_id,
        "https://op.example",
        "https://op.example/token",
        "https://op.example/token",
        NOW,
        zeros,
    )
    return attrs.evolve(made, **changes)


VECTORS = [
    ("s6BhdRkqt3", "gX1fBat3bV", "s6BhdRkqt3:gX1fBat3bV", "czZCaGRSa3F0MzpnWDFmQmF0M2JW"),
    (
        "s6BhdRkqt3",
        "7Fjfp0ZBr1KtDRbnfVdmIw",
        "s6BhdRkqt3:7Fjfp0ZBr1KtDRbnfVdmIw",
        "czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3",
    ),
    ("my client", "p@ss:w%rd+1", "my+client:p%40ss%3Aw%25rd%2B1", "bXkrY2xpZW50OnAlNDBzcyUzQXclMjVyZCUyQjE="),
    (
        "https://client.example.org/",
        "a b&c=d/e",
        "https%3A%2F%2Fclient.example.org%2F:a+b%26c%3Dd%2Fe",
        "aHR0cHMlM0ElMkYlMkZjbGllbnQuZXhhbXBsZS5vcmclMkY6YStiJTI2YyUzRGQlMkZl",
    ),
    (
        "klient-é",
        "£€-secret",
        "klient-%C3%A9:%C2%A3%E2%82%AC-secret",
        "a2xpZW50LSVDMyVBOTolQzIlQTMlRTIlODIlQUMtc2VjcmV0",
    ),
    ("a-b_c.d~e", "*-._~", "a-b_c.d%7Ee:*-._%7E", "YS1iX2MuZCU3RWU6Ki0uXyU3RQ=="),
]


@pytest.mark.parametrize(
    ("client_id", "secret", "pair", "token"), VECTORS, ids=[vector[0] for vector in VECTORS]
)
def test_basic(client_id: str, secret: str, pair: str, token: str) -> None:
    """VEC-DER-01, AUTH-10, -12: both parts form-encoded, then base64; nothing goes into the body."""
    credentials = ClientSecretBasic(secret).credentials(context(client_id))
    assert credentials == Credentials(headers=(("Authorization", f"Basic {token}"),))
    assert base64.b64decode(token).decode() == pair


def test_raw_basic() -> None:
    """AUTH-11: the switch for providers that do not decode leaves the octets as they are."""
    method = ClientSecretBasic("p@ss:w%rd €", raw=True)
    ((name, value),) = method.credentials(context("my client")).headers
    assert (name, value[:6]) == ("Authorization", "Basic ")
    assert base64.b64decode(value[6:]).decode() == "my client:p@ss:w%rd €"


def test_raw_makes_no_difference_for_plain_characters() -> None:
    """AUTH-11: letters, digits and ``*-._`` are the same with and without form-encoding."""
    assert ClientSecretBasic("aZ09*-._").credentials(context()) == ClientSecretBasic(
        "aZ09*-._", raw=True
    ).credentials(context())


def test_post() -> None:
    """AUTH-13: identifier and secret as form parameters, and in no header (AUTH-02)."""
    assert ClientSecretPost("p@ss").credentials(context()) == Credentials(
        parameters=(("client_id", "s6BhdRkqt3"), ("client_secret", "p@ss"))
    )


def test_none() -> None:
    """AUTH-05: without authentication only the identifier is sent."""
    assert NoClientAuthentication().credentials(context()) == Credentials(
        parameters=(("client_id", "s6BhdRkqt3"),)
    )


METHODS: list[tuple[ClientAuthentication, str, str | None, bool]] = [
    (ClientSecretBasic("x"), "client_secret_basic", None, False),
    (ClientSecretPost("x"), "client_secret_post", None, False),
    (ClientSecretJwt("x" * 64), "client_secret_jwt", "HS256", False),
    (ClientSecretJwt("x" * 64, alg="HS512"), "client_secret_jwt", "HS512", False),
    (PrivateKeyJwt(FAPI_SIGNER), "private_key_jwt", "ES256", False),
    (PrivateKeyJwt(LocalSigner(FAPI_KEY, "PS384")), "private_key_jwt", "PS384", False),
    (TlsClientAuth(), "tls_client_auth", None, True),
    (SelfSignedTlsClientAuth(), "self_signed_tls_client_auth", None, True),
    (NoClientAuthentication(), "none", None, False),
]


@pytest.mark.parametrize(("method", "name", "alg", "mutual_tls"), METHODS, ids=str)
def test_methods_are_described(
    method: ClientAuthentication, name: str, alg: str | None, mutual_tls: bool
) -> None:
    """AUTH-04, -22, MTLS-05: the registered names; the algorithm that the metadata is compared with; whether
    the aliases apply."""
    assert (method.method, method.signing_alg, method.mutual_tls) == (name, alg, mutual_tls)


@pytest.mark.parametrize("method", [ClientSecretBasic, ClientSecretPost])
@pytest.mark.parametrize(
    ("secret", "error"),
    [
        ("", ValueError),
        ("hush\n", ValueError),
        ("hush\x7f", ValueError),
        ("hush\ud800", ValueError),
        (Secret(""), ValueError),
        (None, TypeError),
        (b"hush", TypeError),
        (5, TypeError),
    ],
)
def test_bad_secrets(method: Any, secret: Any, error: type[Exception]) -> None:
    """AUTH-07: what cannot be a secret is refused when the method is made, and does not show."""
    with pytest.raises(error, match=r"^client_secret must") as caught:
        method(secret)
    assert "hush" not in str(caught.value)


def test_raw_is_a_flag() -> None:
    """A typo in the switch is an error, not a silent choice."""
    with pytest.raises(TypeError, match="raw must be bool"):
        ClientSecretBasic("x", raw="no")  # type: ignore[arg-type]


@pytest.mark.parametrize("secret", ["hush", Secret("hush")])
def test_secrets_are_wrapped_and_hidden(secret: str | Secret) -> None:
    """AUTH-07: neither the method nor its credentials show the secret."""
    for method in (ClientSecretBasic(secret), ClientSecretPost(secret)):
        assert method.client_secret == Secret("hush")
        credentials = method.credentials(context())
        for shown in (repr(method), repr(credentials), str(method), str(credentials)):
            assert "hush" not in shown
            assert "Basic" not in shown.replace("ClientSecretBasic", "")


def test_context_hides_nothing_but_the_source_of_randomness() -> None:
    """The context of a request is for people to read."""
    assert repr(context()) == (
        "CredentialsContext(client_id='s6BhdRkqt3', issuer='https://op.example', "
        "token_endpoint='https://op.example/token', endpoint_url='https://op.example/token', now=1537819486.0, "
        "audience=<Audience.ISSUER: 'issuer'>, signing_algs=None)"
    )


class Name(str, enum.Enum):  # noqa: UP042  # the kind whose text is its name
    CLIENT = "s6BhdRkqt3"
    SECRET = "gX1fBat3bV"


@pytest.mark.parametrize("raw", [False, True])
def test_members_of_an_enumeration_are_their_values(raw: bool) -> None:
    """AUTH-10: an identifier or a secret that is taken from an enumeration is sent as its value."""
    plain = ClientSecretBasic("gX1fBat3bV", raw=raw).credentials(context())
    assert ClientSecretBasic(Name.SECRET, raw=raw).credentials(context(Name.CLIENT)) == plain


# ---- mutual TLS


@pytest.mark.parametrize("method", [TlsClientAuth(), SelfSignedTlsClientAuth()])
def test_mutual_tls(method: ClientAuthentication) -> None:
    """MTLS-02: the identifier goes into the form, and nothing else anywhere."""
    assert method.credentials(context()) == Credentials(parameters=(("client_id", "s6BhdRkqt3"),))


# ---- JWT assertions

ASSERTION_TYPE = ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")


def assertion(method: ClientAuthentication, of: CredentialsContext | None = None) -> UnsignedJwt:
    credentials = method.credentials(of or context())
    assert credentials.headers == ()
    name, jwt = credentials.parameters[-1]
    assert name == "client_assertion"
    assert isinstance(jwt, UnsignedJwt)
    return jwt


def claims(method: ClientAuthentication, of: CredentialsContext | None = None) -> dict[str, Any]:
    return opened(assertion(method, of))[1]


CORE = context(
    issuer="https://server.example.com",
    endpoint_url="https://server.example.com/bc-authorize",
    token_endpoint="https://server.example.com/token",
    now=1537819486.75,
)


@pytest.mark.parametrize(
    ("method", "of", "expected"),
    [
        (
            PrivateKeyJwt(CORE_SIGNER, lifetime=291),
            CORE,
            {
                "iss": "s6BhdRkqt3",
                "sub": "s6BhdRkqt3",
                "aud": "https://server.example.com",
                "jti": "bdc-Xs_sf-3YMo4FSzIJ2Q",
                "iat": 1537819486,
                "exp": 1537819777,
            },
        ),
        (
            PrivateKeyJwt(CORE_SIGNER, lifetime=291, audience=Audience.CALLED_ENDPOINT),
            attrs.evolve(CORE, endpoint_url="https://server.example.com/token", now=1537819491),
            {
                "iss": "s6BhdRkqt3",
                "sub": "s6BhdRkqt3",
                "aud": "https://server.example.com/token",
                "jti": "-_p16j6HciXo317hvZ312Q",
                "iat": 1537819491,
                "exp": 1537819782,
            },
        ),
        (
            PrivateKeyJwt(CORE_SIGNER, lifetime=291, audience=Audience.TOKEN_ENDPOINT),
            attrs.evolve(CORE, now=1537819491),
            {
                "iss": "s6BhdRkqt3",
                "sub": "s6BhdRkqt3",
                "aud": "https://server.example.com/token",
                "jti": "-_p16j6HciXo317hvZ312Q",
                "iat": 1537819491,
                "exp": 1537819782,
            },
        ),
    ],
    ids=["VEC-CORE-02", "VEC-CORE-05", "VEC-CORE-05-token-endpoint"],
)
def test_assertions_of_the_standard(
    method: ClientAuthentication, of: CredentialsContext, expected: dict[str, Any]
) -> None:
    """VEC-CORE-02, -05, AUTH-16..22: header and claims of the published assertions. (The `jti` of -05 ends in
    left-over bits in the standard.)"""
    of = attrs.evolve(of, entropy=always(base64.urlsafe_b64decode(expected["jti"] + "==")))
    assert method.credentials(of).parameters == (ASSERTION_TYPE, ("client_assertion", assertion(method, of)))
    assert opened(assertion(method, of)) == ({"kid": "ltacesbw", "alg": "ES256"}, expected)


def test_assertion_of_fapi() -> None:
    """VEC-FAPI-01, AUTH-17, -27: the published assertion is verified and rebuilt, slash of the issuer included."""
    assert verified(FAPI_ASSERTION, FAPI_KEY, "ES256")
    header, published = opened(FAPI_ASSERTION)
    made = assertion(
        PrivateKeyJwt(FAPI_SIGNER),
        context(
            "301183373814979",
            issuer="https://server.example.com/",
            now=1564902738.0,
            entropy=always(base64.urlsafe_b64decode(published["jti"])),
        ),
    )
    assert opened(made) == (header, published)
    assert verified(made.sign(), FAPI_KEY, "ES256")
    assert not verified(made.sign(), OTHER_SIGNER.key, "ES256")


@pytest.mark.parametrize(("alg", "octets"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_secret_jwt(alg: str, octets: int) -> None:
    """AUTH-14, -15: an HMAC under the octets of the secret, which has to be as long as the hash at least."""
    secret = "é" * (octets // 2)
    token = assertion(ClientSecretJwt(secret, alg=alg)).sign()
    assert opened(token)[0] == {"alg": alg}
    assert opened(token)[1] == claims(PrivateKeyJwt(CORE_SIGNER))
    assert verified(token, hmac_key(secret, alg), alg)
    assert not verified(token, hmac_key("x" + secret, alg), alg)
    with pytest.raises(
        ValueError, match=f"^client_secret: .* at least {octets} octets is needed for {alg}$"
    ) as caught:
        ClientSecretJwt(secret[1:] + "x", alg=alg)
    assert "é" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("secret", ["", "hush\n" + "x" * 64, None, 5, Secret("")])
def test_bad_secrets_of_jwts(secret: Any) -> None:
    """AUTH-07: what cannot be a secret is refused and does not show."""
    with pytest.raises((TypeError, ValueError), match=r"^client_secret must") as caught:
        ClientSecretJwt(secret)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("alg", "error"), [("none", ValueError), ("ES256", ValueError), ("hs256", ValueError), (None, TypeError)]
)
def test_secret_jwt_by_other_algorithms(alg: Any, error: type[Exception]) -> None:
    """AUTH-14, FAPI-16: a secret serves an HMAC, never ``none`` and no signature."""
    with pytest.raises(error, match=r"^alg must"):
        ClientSecretJwt("x" * 64, alg=alg)


@pytest.mark.parametrize(("signer", "error"), bad_signers())
def test_bad_signers(signer: Any, error: type[Exception]) -> None:
    """AUTH-22, FAPI-16: neither ``none`` nor an HMAC passes for a private key."""
    with pytest.raises(error, match=r"^signer must"):
        PrivateKeyJwt(signer)


@pytest.mark.parametrize("signer", SIGNERS, ids=str)
def test_signers(signer: Any) -> None:
    """AUTH-22: whoever has an algorithm with a public key may sign; nobody is asked to while the request is built."""
    jwt = assertion(PrivateKeyJwt(signer))
    assert jwt.signer is signer
    assert opened(jwt)[0].get("kid") == signer.kid


JWT_METHODS: list[Any] = [partial(PrivateKeyJwt, OTHER_SIGNER), partial(ClientSecretJwt, "x" * 32)]


@pytest.mark.parametrize("make", JWT_METHODS)
def test_defaults(make: Any) -> None:
    """AUTH-19, -20, -21, -26, FAPI-34: for the issuer, 60 seconds, no back-dating, no `typ`, no more claims."""
    header, made = opened(assertion(make()))
    assert header in ({"alg": "ES256"}, {"alg": "HS256"})
    assert made == {
        "iss": "s6BhdRkqt3",
        "sub": "s6BhdRkqt3",
        "aud": "https://op.example",
        "jti": "A" * 22,
        "iat": 1537819486,
        "exp": 1537819546,
    }


@pytest.mark.parametrize("make", JWT_METHODS)
def test_settings(make: Any) -> None:
    """AUTH-20, -21, -23, -26: audience, `typ` and back-dating are the client's choice."""
    method = make(
        audience=[Audience.ISSUER, Audience.CALLED_ENDPOINT, Audience.TOKEN_ENDPOINT, "urn:x"],
        typ="client-authentication+jwt",
        lifetime=200,
        backdate=100,
    )
    of = context(endpoint_url="https://op.example/bc")
    assert method.credentials(of).parameters[0] == ASSERTION_TYPE
    header, made = opened(assertion(method, of))
    assert header["typ"] == "client-authentication+jwt"
    assert made["aud"] == ["https://op.example", "https://op.example/bc", "https://op.example/token", "urn:x"]
    assert (made["iat"], made["exp"]) == (NOW - 100, NOW + 200)


@pytest.mark.parametrize("make", JWT_METHODS)
@pytest.mark.parametrize(
    ("settings", "error", "name"),
    [
        ({"lifetime": 0}, ValueError, "lifetime must"),
        ({"lifetime": 301}, ValueError, "lifetime must"),
        ({"lifetime": 1.5}, TypeError, "lifetime must"),
        ({"lifetime": True}, TypeError, "lifetime must"),
        ({"backdate": -1}, ValueError, "backdate must"),
        ({"backdate": 300}, ValueError, "backdate must"),
        ({"backdate": "1"}, TypeError, "backdate must"),
        ({"backdate": 241}, ValueError, "lifetime and backdate together must not exceed 300 seconds"),
        ({"typ": ""}, ValueError, "typ must"),
        ({"typ": 1}, TypeError, "typ must"),
        ({"audience": ()}, ValueError, "audience must"),
        ({"audience": ""}, ValueError, "audience must"),
        ({"audience": "a\n"}, ValueError, "audience must"),
        ({"audience": (Audience.ISSUER, "")}, ValueError, "audience must"),
        ({"audience": 5}, TypeError, "audience must"),
        ({"audience": (Audience.ISSUER, 5)}, TypeError, "audience must"),
        ({"audience": {Audience.ISSUER}}, TypeError, "audience must"),
    ],
    ids=str,
)
def test_bad_settings(make: Any, settings: dict[str, Any], error: type[Exception], name: str) -> None:
    """AUTH-19, CAM-15: no assertion lives longer than 300 seconds; mistakes are named when the method is made."""
    with pytest.raises(error, match=f"^{name}"):
        make(**settings)


@given(lifetime=st.integers(1, 300), backdate=st.integers(0, 299), now=st.floats(0, 1e11))
def test_lifetimes(lifetime: int, backdate: int, now: float) -> None:
    """AUTH-19, CAM-15, -16: whole seconds, at most 300 of them, around now."""
    if lifetime + backdate > 300:
        with pytest.raises(ValueError, match="together"):
            PrivateKeyJwt(CORE_SIGNER, lifetime=lifetime, backdate=backdate)
        return
    made = claims(PrivateKeyJwt(CORE_SIGNER, lifetime=lifetime, backdate=backdate), context(now=now))
    assert type(made["iat"]) is type(made["exp"]) is int
    assert made["iat"] <= now < made["exp"] + 1
    assert made["exp"] - made["iat"] == lifetime + backdate <= 300


@given(order=st.lists(st.sampled_from([0, 1]), min_size=2, max_size=30))
def test_no_assertion_comes_twice(order: list[int]) -> None:
    """AUTH-18: every request has its own `jti` of 128 bits, whatever the method and however often."""
    of = context(entropy=counter())
    methods = [make() for make in JWT_METHODS]
    found = [claims(methods[which], of)["jti"] for which in order]
    assert len(set(found)) == len(found)
    assert all(len(base64.urlsafe_b64decode(jti + "==")) == 16 for jti in found)


def test_assertions_hide_what_they_are_made_of() -> None:
    """AUTH-07: neither secret nor key nor assertion shows in any representation."""
    secret = "hush" * 16
    for method in (
        ClientSecretJwt(secret),
        ClientSecretJwt(Secret(secret), alg="HS512"),
        PrivateKeyJwt(FAPI_SIGNER),
    ):
        credentials = method.credentials(context())
        jwt = assertion(method)
        for shown in (repr(method), str(method), repr(credentials), repr(jwt), repr(jwt.signer)):
            assert "hush" not in shown
            assert base64url(b"hush" * 3) not in shown
            assert "eyJh" not in shown
            assert "gM__X2" not in shown


def test_methods_are_values() -> None:
    """A configuration compares by what it says."""
    assert ClientSecretJwt("x" * 32) == ClientSecretJwt("x" * 32)
    assert ClientSecretJwt("x" * 32) != ClientSecretJwt("y" * 32)
    assert PrivateKeyJwt(CORE_SIGNER) == PrivateKeyJwt(CORE_SIGNER, lifetime=60)
    assert PrivateKeyJwt(CORE_SIGNER) != PrivateKeyJwt(CORE_SIGNER, lifetime=61)
    assert TlsClientAuth() == TlsClientAuth()
