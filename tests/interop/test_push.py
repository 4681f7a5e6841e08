"""Every adapter in push mode, against a provider whose messages the Nimbus SDK makes."""

from __future__ import annotations

import pytest

from ciba_core import AuthenticationRequest, ClientConfig, ClientSecretBasic, IdTokenPolicy
from ciba_core.errors import AccessDenied, ExpiredToken, InvalidClient, UnknownUserId

from .nimbus_provider import SECRET
from .notifications import Notifications
from .stacks import Authenticate

pytestmark = pytest.mark.interop


def registered(alg: str = "RS256", secret: str = SECRET) -> ClientConfig:
    """The client whose ID Tokens are signed so."""
    return ClientConfig(
        alg.lower(),
        ClientSecretBasic(secret),
        backchannel_token_delivery_mode="push",
        id_token=IdTokenPolicy(signed_response_alg=alg),
    )


def asking(login_hint: str) -> AuthenticationRequest:
    return AuthenticationRequest(scope="openid", login_hint=login_hint)


@pytest.mark.parametrize("alg", ["RS256", "ES256"])
def test_tokens_are_pushed(
    push_issuer: str, authenticate: Authenticate, notifications: Notifications, alg: str
) -> None:
    """at_hash, rt_hash and the auth_req_id claim of another implementation are right (CIBA Core 10.3.1)."""
    tokens = authenticate(push_issuer, registered(alg), asking("anna"), notifications.endpoint)
    assert tokens.refresh_token is not None
    assert tokens.id_token_claims is not None
    assert tokens.id_token_claims["sub"] == "anna"
    assert {"at_hash", "urn:openid:params:jwt:claim:rt_hash"} <= tokens.id_token_claims.keys()


@pytest.mark.parametrize("user", ["alice", "early"])
def test_tokens_without_refresh_token(
    push_issuer: str, authenticate: Authenticate, notifications: Notifications, user: str
) -> None:
    """No rt_hash is asked for then; and a push may come before the acknowledgement (CIBA Core 10.3.1)."""
    tokens = authenticate(push_issuer, registered(), asking(user), notifications.endpoint)
    assert tokens.refresh_token is None
    assert tokens.id_token_claims is not None
    assert tokens.id_token_claims["sub"] == user


@pytest.mark.parametrize(("user", "error"), [("bob", AccessDenied), ("late", ExpiredToken)])
def test_errors_are_pushed(
    push_issuer: str,
    authenticate: Authenticate,
    notifications: Notifications,
    user: str,
    error: type[AccessDenied | ExpiredToken],
) -> None:
    """Push error payloads end the transaction (CIBA Core 12)."""
    with pytest.raises(error):
        authenticate(push_issuer, registered(), asking(user), notifications.endpoint)


def test_refusals(push_issuer: str, authenticate: Authenticate, notifications: Notifications) -> None:
    """What the request is refused for is the same in every mode (CIBA-13-04, CIBA-13-09)."""
    with pytest.raises(UnknownUserId):
        authenticate(push_issuer, registered(), asking("mallory"), notifications.endpoint)
    with pytest.raises(InvalidClient):
        authenticate(push_issuer, registered(secret="wrong"), asking("alice"), notifications.endpoint)
