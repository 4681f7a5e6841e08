"""Every adapter against Keycloak: a second provider, whose users are asked over a channel of its own.

Its realm is polled each second. The ID Tokens of all clients are validated, as everywhere.
"""

from __future__ import annotations

import json
import time

import pytest
import requests
from attrs import evolve
from joserfc.jwk import ECKey

from ciba_adapters.requests import CibaClient
from ciba_core import (
    AuthenticationRequest,
    ClientConfig,
    ClientSecretBasic,
    ClientSecretPost,
    IdTokenPolicy,
    PollingPolicy,
    PrivateKeyJwt,
    RequestSigning,
    SigningKey,
)
from ciba_core.errors import (
    AccessDenied,
    AuthenticationExpired,
    ExpiredToken,
    InvalidBindingMessage,
    InvalidGrant,
    InvalidRequest,
    InvalidScope,
    InvalidToken,
    UnauthorizedClient,
)

from .clocks import StoppedClock
from .keycloak_server import CLIENTS as REGISTRATIONS
from .keycloak_server import Keycloak
from .notifications import Notifications
from .stacks import Authenticate, Connect

pytestmark = pytest.mark.interop

# The users have answered by the first poll, but for dave.
POLLING = PollingPolicy(first_poll_after=0.5)
BASIC = ClientConfig("basic", ClientSecretBasic(REGISTRATIONS["basic"]["secret"]), polling=POLLING)
PING = ClientConfig(
    "ping",
    ClientSecretBasic(REGISTRATIONS["ping"]["secret"]),
    backchannel_token_delivery_mode="ping",
    polling=PollingPolicy(ping_fallback=None),  # it is the ping or nothing
)


def with_keys() -> ClientConfig:
    """The client that authenticates with a key, and signs its requests."""
    (jwk,) = json.loads(REGISTRATIONS["es256"]["attributes"]["jwks.string"])["keys"]
    key = SigningKey.from_jwk(jwk)
    return ClientConfig(
        "es256",
        PrivateKeyJwt(key),
        request_signing=RequestSigning(key),
        id_token=IdTokenPolicy(signed_response_alg="ES256"),
        polling=POLLING,
    )


def asking(
    login_hint: str = "alice",
    *,
    scope: str = "openid",
    binding_message: str = "W4SCT",
    requested_expiry: int | None = None,
) -> AuthenticationRequest:
    return AuthenticationRequest(
        scope=scope,
        login_hint=login_hint,
        binding_message=binding_message,
        requested_expiry=requested_expiry,
    )


@pytest.mark.parametrize("user", ["alice", "dave"])
def test_an_approval_brings_tokens(keycloak: Keycloak, authenticate: Authenticate, user: str) -> None:
    """Approved at once, or after authorization_pending; an auth_req_id of 970 characters (V-KC-08).

    The scopes that the client has by default are granted along with what was asked for.
    """
    tokens = authenticate(keycloak.issuer, BASIC, asking(user))
    assert tokens.token_type == "Bearer"
    assert tokens.id_token_claims is not None
    assert tokens.id_token_claims["preferred_username"] == user
    assert tokens.scope is not None
    assert set(tokens.scope.split()) == {"openid", "profile", "email"}


@pytest.mark.parametrize("user", ["bob", "eve"])
def test_a_denial_is_access_denied(keycloak: Keycloak, authenticate: Authenticate, user: str) -> None:
    """Not authenticated and cancelled look the same to the client (V-KC-09, CIBA-11-04)."""
    with pytest.raises(AccessDenied):
        authenticate(keycloak.issuer, BASIC, asking(user))


def test_pings_bring_tokens(
    keycloak: Keycloak, authenticate: Authenticate, notifications: Notifications
) -> None:
    """Keycloak pings over TLS, and the tokens are fetched (CIBA-10.2-01)."""
    tokens = authenticate(keycloak.issuer, PING, asking("dave"), notifications.endpoint)
    assert tokens.id_token_claims is not None
    assert tokens.id_token_claims["preferred_username"] == "dave"


def test_a_ping_after_a_denial(
    keycloak: Keycloak, authenticate: Authenticate, notifications: Notifications
) -> None:
    """A ping says that there is an answer, not which (CIBA Core 10.2)."""
    with pytest.raises(AccessDenied):
        authenticate(keycloak.issuer, PING, asking("eve"), notifications.endpoint)


def test_an_unknown_user_is_an_invalid_request(keycloak: Keycloak, connect: Connect) -> None:
    """This provider has no unknown_user_id (V-KC-05)."""
    with connect(keycloak.issuer, BASIC) as ciba, pytest.raises(InvalidRequest) as caught:
        ciba.authenticate(asking("mallory"))
    assert caught.value.error_description == "invalid_user"


@pytest.mark.parametrize("binding_message", ["two words", "x" * 51])
def test_a_bad_binding_message_is_refused(keycloak: Keycloak, connect: Connect, binding_message: str) -> None:
    """This provider takes 50 characters without spaces (V-KC-04): invalid_binding_message (CIBA-13-08)."""
    with connect(keycloak.issuer, BASIC) as ciba, pytest.raises(InvalidBindingMessage):
        ciba.authenticate(asking(binding_message=binding_message))


def test_a_scope_that_is_not_known_is_refused(keycloak: Keycloak, connect: Connect) -> None:
    """The backchannel authentication endpoint answers invalid_scope (CIBA-13-02)."""
    with connect(keycloak.issuer, BASIC) as ciba, pytest.raises(InvalidScope):
        ciba.authenticate(asking(scope="openid nothing-like-it"))


@pytest.mark.parametrize("method", [ClientSecretBasic, ClientSecretPost])
def test_a_wrong_secret_is_refused(
    keycloak: Keycloak, connect: Connect, method: type[ClientSecretBasic | ClientSecretPost]
) -> None:
    """A 401 ends the transaction, although this provider calls it unauthorized_client (RFC 6749 5.2)."""
    stranger = evolve(BASIC, authentication=method("wrong"))
    with connect(keycloak.issuer, stranger) as ciba, pytest.raises(UnauthorizedClient) as caught:
        ciba.authenticate(asking())
    assert caught.value.status == 401


def test_keys_and_a_signed_request(keycloak: Keycloak, connect: Connect) -> None:
    """A client assertion, a signed request and an ID Token, all ES256 (V-KC-10)."""
    with connect(keycloak.issuer, with_keys()) as ciba:
        tokens = ciba.authenticate(asking())
    assert tokens.id_token_claims is not None
    assert tokens.id_token_claims["aud"] == "es256"


def test_a_request_signed_with_another_algorithm_is_refused(keycloak: Keycloak, connect: Connect) -> None:
    """The algorithm has to be the registered one (V-KC-10); unsigned requests are accepted all the same."""
    key = SigningKey.from_jwk(ECKey.generate_key("P-384").as_dict(private=True), alg="ES384")
    client = evolve(with_keys(), request_signing=RequestSigning(key))
    with connect(keycloak.issuer, client) as ciba, pytest.raises(InvalidRequest):
        ciba.authenticate(asking())
    with connect(keycloak.issuer, evolve(client, request_signing=None)) as ciba:
        ciba.authenticate(asking())


def test_nobody_answers(keycloak: Keycloak, connect: Connect) -> None:
    """The client gives up when the acknowledged time is over, whatever it had asked for (V-KC-06)."""
    with connect(keycloak.hasty_issuer, BASIC) as ciba:
        start = time.monotonic()
        with pytest.raises((AuthenticationExpired, ExpiredToken)):
            ciba.authenticate(asking("carol", requested_expiry=600))
    assert 2 <= time.monotonic() - start < 30


def test_a_stored_transaction_comes_back_too_late(keycloak: Keycloak) -> None:
    """The provider's own expired_token ends what the client's clock still allows (V-KC-09, CIBA-11-03)."""
    client = evolve(BASIC, polling=PollingPolicy(first_poll_after=0))
    with requests.Session() as http:
        ciba = CibaClient.discover(
            keycloak.hasty_issuer, client, http=http, allow_loopback_http=True, clock=StoppedClock()
        )
        stored = ciba.initiate(asking("carol")).to_json()
        time.sleep(3)  # the provider's clock is a real one, and it counts whole seconds
        with pytest.raises(ExpiredToken):
            ciba.resume(ciba.transaction_from_json(stored))


def test_refresh_userinfo_and_revocation(keycloak: Keycloak, connect: Connect) -> None:
    """What comes after the tokens: RFC 6749 6, OpenID Connect Core 5.3 and RFC 7009."""
    with connect(keycloak.issuer, BASIC) as ciba:
        tokens = ciba.refresh(ciba.authenticate(asking()))
        assert ciba.userinfo(tokens)["preferred_username"] == "alice"
        ciba.revoke(tokens)
        with pytest.raises(InvalidToken):
            ciba.userinfo(tokens)
        with pytest.raises(InvalidGrant):
            ciba.refresh(tokens)
