"""Keys in the client's and the provider's hands, against the npm package `oidc-provider`.

The clients are read from their registration as `ciba login` reads its client file.
"""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from attrs import evolve
from joserfc import jws

from ciba_adapters.cli.client_file import read_client_file
from ciba_core import AuthenticationRequest, ClientConfig, UserInfoPolicy
from ciba_core.errors import (
    InvalidClient,
    InvalidGrant,
    InvalidRequest,
    InvalidToken,
    RemoteProtocolError,
    TokensRejected,
)

from .certificates import Certificates
from .provider import REGISTRATIONS
from .stacks import Connect

pytestmark = pytest.mark.interop

Registered = Callable[..., ClientConfig]


@pytest.fixture
def registered(tmp_path: Path) -> Registered:
    """Read one of the provider's clients, with members changed."""

    def read(name: str, **changed: Any) -> ClientConfig:
        path = tmp_path / "client.json"
        path.write_text(json.dumps({**REGISTRATIONS[name], **changed}))
        return read_client_file(str(path), first_poll_after=0).config

    return read


def told_by(issuer: str, path: str, **form: str) -> Any:
    """Ask the provider without the library; with a form it is a POST of the client `basic`."""
    basic = REGISTRATIONS["basic"]
    with httpx.Client(base_url=issuer) as http:
        if not form:
            return http.get(path).json()
        return http.post(path, data=form, auth=(basic["client_id"], basic["client_secret"])).json()


def jwe_header(token: str) -> dict[str, Any]:
    """Return the protected header of a JWE in its compact form (RFC 7516 7.1)."""
    protected, *others = token.split(".")
    assert len(others) == 4
    header: dict[str, Any] = json.loads(urlsafe_b64decode(protected + "=="))
    return header


def asking(login_hint: str = "alice", scope: str = "openid", **parameters: Any) -> AuthenticationRequest:
    return AuthenticationRequest(scope=scope, login_hint=login_hint, **parameters)


@pytest.mark.parametrize("name", ["basic", "post", "secret-jwt", "es256", "ps256", "ed25519", "none"])
def test_client_authentication_and_id_tokens(
    issuer: str, connect: Connect, registered: Registered, name: str
) -> None:
    """Each method, for the request and for the poll; RS256, ES256, PS256 and Ed25519 ID Tokens validate."""
    client = registered(name)
    with connect(issuer, client) as ciba:
        tokens = ciba.authenticate(asking())
    assert tokens.id_token is not None
    assert tokens.id_token_claims is not None
    assert tokens.id_token_claims["sub"] == "alice"
    header = jws.extract_compact(tokens.id_token.reveal().encode()).headers()
    assert header["alg"] == REGISTRATIONS[name].get("id_token_signed_response_alg", "RS256")


@pytest.mark.parametrize("name", ["secret-jwt", "es256"])
def test_a_wrong_key_is_refused(issuer: str, connect: Connect, registered: Registered, name: str) -> None:
    """An assertion that does not verify is invalid_client (CIBA-13-09)."""
    stranger = json.loads(json.dumps(REGISTRATIONS["es256"]["jwks"]))
    stranger["keys"][0] |= {
        # Another key on the same curve, under the registered kid: the example of FAPI-CIBA.
        "d": "gM__X2faDsb4s6QLer9h-y4KzLIgwt5Jz2dJi5r64Pc",
        "x": "YPczq3aBrd8PjtFsXX_HPZNwnzp89vAGjgQXm4cOgdQ",
        "y": "eqE4OZu0V07qXi9ojhQAeqKndWp0QwUfB3aNp4dYYPQ",
    }
    client = registered(name, client_secret="wrong" * 8, jwks=stranger)
    with connect(issuer, client) as ciba, pytest.raises(InvalidClient):
        ciba.authenticate(asking())


def test_a_signed_request(issuer: str, connect: Connect, registered: Registered) -> None:
    """A request as a JWT is understood, and all of its parameters with it (CIBA Core 7.1.1)."""
    with connect(issuer, registered("signed-request")) as ciba:
        tokens = ciba.authenticate(
            asking(
                binding_message="W4SCT",
                requested_expiry=60,
                resource="https://bank.example",
                authorization_details=[{"type": "payment", "amount": 5}],
            )
        )
    assert tokens.id_token_claims is not None
    assert tokens.id_token_claims["sub"] == "alice"
    assert tokens.authorization_details == ({"type": "payment", "amount": 5},)


def test_an_unsigned_request_where_signed_ones_are_registered(
    issuer: str, connect: Connect, registered: Registered
) -> None:
    """The provider insists on what was registered: invalid_request (CIBA Core 4, 7.1.1)."""
    unsigned = evolve(registered("signed-request"), request_signing=None)
    with connect(issuer, unsigned) as ciba, pytest.raises(InvalidRequest):
        ciba.authenticate(asking())


@pytest.mark.parametrize(
    ("name", "alg", "enc"),
    [("encrypted-rsa", "RSA-OAEP-256", "A256GCM"), ("encrypted-ec", "ECDH-ES", "A128CBC-HS256")],
)
def test_an_encrypted_id_token(  # noqa: PLR0917  # what pytest fills in
    issuer: str, connect: Connect, registered: Registered, name: str, alg: str, enc: str
) -> None:
    """ID Tokens that are signed and then encrypted, by RSA-OAEP-256 and by ECDH-ES."""
    with connect(issuer, registered(name)) as ciba:
        tokens = ciba.authenticate(asking())
    assert tokens.id_token is not None
    header = jwe_header(tokens.id_token.reveal())
    assert (header["alg"], header["enc"]) == (alg, enc)
    assert tokens.id_token_claims is not None
    assert tokens.id_token_claims["sub"] == "alice"


def test_another_algorithm_than_registered(issuer: str, connect: Connect, registered: Registered) -> None:
    """A good signature by an algorithm that was not registered is not accepted."""
    with (
        connect(issuer, registered("basic", id_token_signed_response_alg="ES256")) as ciba,
        pytest.raises(TokensRejected, match="not signed with ES256"),
    ):
        ciba.authenticate(asking())


@pytest.mark.parametrize(
    ("name", "proofs"),
    [
        ("dpop", [["/token", 200, False]]),
        ("dpop-nonce", [["/token", 400, False], ["/token", 200, True]]),
    ],
)
def test_dpop(
    issuer: str, connect: Connect, registered: Registered, name: str, proofs: list[list[object]]
) -> None:
    """DPoP-bound tokens, without a nonce and with one that the provider demands (RFC 9449 8)."""
    told_by(issuer, "/proofs")
    with connect(issuer, registered(name)) as ciba:
        tokens = ciba.authenticate(asking())
    assert tokens.token_type == "DPoP"
    assert tokens.id_token_claims is not None
    assert tokens.id_token_claims["sub"] == "alice"
    assert told_by(issuer, "/proofs") == proofs


@pytest.mark.parametrize("name", ["tls", "self-signed-tls"])
def test_mutual_tls(
    issuer: str, certificates: Certificates, connect: Connect, registered: Registered, name: str
) -> None:
    """The certificate authenticates at the aliases, and the access token is bound to it (RFC 8705 2, 3, 5)."""
    client = registered(name)
    with connect(issuer, client, tls=certificates.context(name)) as ciba:
        tokens = ciba.authenticate(asking())
        assert ciba.userinfo(tokens)["sub"] == "alice"
    assert tokens.id_token_claims is not None
    assert tokens.id_token_claims["sub"] == "alice"
    told = told_by(issuer, "/token/introspection", token=tokens.access_token.reveal())
    assert told["cnf"] == {"x5t#S256": certificates.thumbprint(name)}
    with (
        connect(issuer, client, tls=certificates.context("other")) as ciba,
        pytest.raises(InvalidToken),
    ):
        ciba.userinfo(tokens)


@pytest.mark.parametrize("name", ["tls", "self-signed-tls"])
@pytest.mark.parametrize("shown", [None, "other"])
def test_a_certificate_that_is_not_registered(  # noqa: PLR0917  # what pytest fills in
    issuer: str,
    certificates: Certificates,
    connect: Connect,
    registered: Registered,
    name: str,
    shown: str | None,
) -> None:
    """No certificate, or the certificate of another, is invalid_client (CIBA-13-09, RFC 8705 2)."""
    with (
        connect(issuer, registered(name), tls=certificates.context(shown)) as ciba,
        pytest.raises(InvalidClient),
    ):
        ciba.authenticate(asking())


def test_rich_authorization_requests(issuer: str, connect: Connect, registered: Registered) -> None:
    """Authorization details come back as granted, which may be less than was asked for (RFC 9396 7).

    This provider wants a resource along with them (RFC 8707).
    """
    with connect(issuer, registered("basic")) as ciba:
        tokens = ciba.authenticate(
            asking(
                resource="https://bank.example",
                authorization_details=[{"type": "payment", "amount": 500}],
            )
        )
    assert tokens.authorization_details == ({"type": "payment", "amount": 100},)


class LeapingClock:
    """The real time and an offset."""

    def __init__(self, offset: float) -> None:
        self.offset = offset

    def time(self) -> float:
        return time.time() + self.offset

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float, /, until: Callable[[], bool] | None = None) -> None:
        time.sleep(seconds)


def test_a_key_rotation_in_mid_flow(issuer: str, connect: Connect, registered: Registered) -> None:
    """A key that is not in the cached set has the set fetched once more (OpenID Connect Core 10.1.1)."""
    # The cooldown of the set is over, while neither time is outside of the leeway for the provider's clock.
    clock = LeapingClock(-40)
    with connect(issuer, registered("basic"), clock=clock) as ciba:
        before = ciba.authenticate(asking())
        clock.offset = 40
        after = ciba.authenticate(asking("rita"))
    assert after.id_token_claims is not None
    assert after.id_token_claims["sub"] == "rita"
    assert before.id_token is not None
    assert after.id_token is not None
    kids = [
        jws.extract_compact(token.reveal().encode()).headers()["kid"]
        for token in (before.id_token, after.id_token)
    ]
    assert kids[0] != kids[1]


def test_refresh_with_rotation(issuer: str, connect: Connect, registered: Registered) -> None:
    """A refresh brings new tokens and a new refresh token; the old one is used up (RFC 6749 6)."""
    with connect(issuer, registered("refreshing")) as ciba:
        first = ciba.authenticate(asking(scope="openid offline_access"))
        second = ciba.refresh(first)
        third = ciba.refresh(second)
        with pytest.raises(InvalidGrant):
            ciba.refresh(first)
    assert first.refresh_token is not None
    assert len({tokens.refresh_token for tokens in (first, second, third)}) == 3
    assert third.id_token_claims is not None
    assert third.id_token_claims["sub"] == "alice"


def test_revocation(issuer: str, connect: Connect, registered: Registered) -> None:
    """A token that was revoked is no longer good (RFC 7009)."""
    with connect(issuer, registered("refreshing")) as ciba:
        tokens = ciba.authenticate(asking(scope="openid offline_access"))
        ciba.revoke(tokens.access_token)
        with pytest.raises(InvalidToken):
            ciba.userinfo(tokens)
        ciba.revoke(tokens)
        with pytest.raises(InvalidGrant):
            ciba.refresh(tokens)


@pytest.mark.parametrize(
    ("name", "proofs"),
    [
        ("basic", []),
        ("dpop", [["/me", 200, False]]),
        ("dpop-nonce", [["/me", 401, False], ["/me", 200, True]]),
    ],
)
def test_userinfo(
    issuer: str, connect: Connect, registered: Registered, name: str, proofs: list[list[object]]
) -> None:
    """UserInfo by a Bearer token or with a DPoP proof (OpenID Connect Core 5.3, RFC 9449 7 and 9)."""
    client = registered(name)
    with connect(issuer, client) as ciba:
        tokens = ciba.authenticate(asking())
    told_by(issuer, "/proofs")
    # Another client of the adapter, since the first one knows a nonce of this server by now.
    with connect(issuer, client) as ciba:
        assert ciba.userinfo(tokens)["sub"] == "alice"
    assert told_by(issuer, "/proofs") == proofs


@pytest.mark.parametrize(("name", "alg"), [("encrypted-rsa", "RS256"), ("encrypted-ec", "ES256")])
def test_encrypted_userinfo(
    issuer: str, connect: Connect, registered: Registered, name: str, alg: str
) -> None:
    """UserInfo as a signed JWT in a JWE (OpenID Connect Core 5.3.2)."""
    client = registered(name)
    policy = UserInfoPolicy(
        signed_response_alg=alg,
        encrypted_response_alg=client.id_token.encrypted_response_alg,
        encrypted_response_enc=client.id_token.encrypted_response_enc,
        decryption_keys=client.id_token.decryption_keys,
    )
    with connect(issuer, evolve(client, userinfo=policy)) as ciba:
        assert ciba.userinfo(ciba.authenticate(asking()))["sub"] == "alice"


def test_signed_userinfo(issuer: str, connect: Connect, registered: Registered) -> None:
    """UserInfo as a JWT by the registered algorithm; where that is not set, it is not taken."""
    plain = registered("signed-userinfo")
    signed = evolve(plain, userinfo=UserInfoPolicy(signed_response_alg="ES256"))
    with connect(issuer, signed) as ciba:
        assert ciba.userinfo(ciba.authenticate(asking()))["sub"] == "alice"
    with connect(issuer, plain) as ciba:
        tokens = ciba.authenticate(asking())
        with pytest.raises(RemoteProtocolError, match="is not JSON"):
            ciba.userinfo(tokens)
