"""Every adapter against Glewlwyd, in all three modes, with secrets and with keys."""

from __future__ import annotations

from typing import Literal

import pytest
from attrs import evolve

from ciba_core import (
    AuthenticationRequest,
    ClientConfig,
    ClientSecretBasic,
    ClientSecretJwt,
    ClientSecretPost,
    PollingPolicy,
    PrivateKeyJwt,
    RequestSigning,
    SigningKey,
    hints,
    profiles,
)
from ciba_core.client.authentication import ClientAuthentication
from ciba_core.errors import (
    AccessDenied,
    AuthenticationExpired,
    InvalidClient,
    InvalidRequest,
    RemoteProtocolError,
    UnauthorizedClient,
)
from ciba_core.jose.unsigned_jwt import Audience

from .glewlwyd_server import KEY, SECRET
from .notifications import Notifications
from .stacks import Authenticate, Connect

pytestmark = pytest.mark.interop

Mode = Literal["poll", "ping", "push"]
SIGNER = SigningKey.from_jwk(KEY.as_dict(private=True))
METHODS: dict[str, ClientAuthentication] = {
    "basic": ClientSecretBasic(SECRET),
    "post": ClientSecretPost(SECRET),
    "secret": ClientSecretJwt(SECRET),
    "key": PrivateKeyJwt(SIGNER),
}


def registered(mode: Mode, method: str, *, signed: bool = False) -> ClientConfig:
    return ClientConfig(
        f"{mode}-{method}",
        METHODS[method],
        backchannel_token_delivery_mode=mode,
        request_signing=RequestSigning(SIGNER) if signed else None,
        profile=profiles.GLEWLWYD,
        # The users have answered by then; in ping mode it is the ping or nothing.
        polling=PollingPolicy(first_poll_after=1.0, ping_fallback=None),
    )


def asking(user: str, *, requested_expiry: int = 30) -> AuthenticationRequest:
    return AuthenticationRequest(
        scope="openid",
        login_hint=hints.json_object({"username": user}),
        binding_message="Approve 25 EUR",
        requested_expiry=requested_expiry,
    )


@pytest.mark.parametrize("mode", ["poll", "ping", "push"])
def test_every_stack(
    glewlwyd: str, authenticate: Authenticate, notifications: Notifications, mode: Mode
) -> None:
    """Tokens come in each mode, with the claims that bind a push to its request (CIBA Core 10.3.1)."""
    tokens = authenticate(glewlwyd, registered(mode, "basic"), asking("alice"), notifications.endpoint)
    assert tokens.scope == "openid"
    assert tokens.refresh_token is not None
    assert tokens.id_token_claims is not None
    assert {"at_hash", "urn:openid:params:jwt:claim:auth_req_id"} <= tokens.id_token_claims.keys()


@pytest.mark.parametrize("stack", ["httpx"])
@pytest.mark.parametrize("mode", ["poll", "ping", "push"])
@pytest.mark.parametrize("how", [("post", False), ("secret", False), ("key", False), ("key", True)])
def test_secrets_and_keys(
    glewlwyd: str,
    authenticate: Authenticate,
    notifications: Notifications,
    mode: Mode,
    how: tuple[str, bool],
) -> None:
    """The profile has what assertions need here: the called endpoint as audience, and `client_id` beside them."""
    method, signed = how
    client = registered(mode, method, signed=signed)
    tokens = authenticate(glewlwyd, client, asking("alice"), notifications.endpoint)
    assert tokens.id_token_claims is not None
    assert tokens.id_token_claims["aud"] == client.client_id


@pytest.mark.parametrize("stack", ["httpx"])
def test_what_the_profile_is_for(
    glewlwyd: str, authenticate: Authenticate, notifications: Notifications
) -> None:
    """Without each of its settings, the same requests are refused."""
    client = registered("poll", "key")
    beside = evolve(client, profile=evolve(profiles.GLEWLWYD, send_client_id=False))
    with pytest.raises(UnauthorizedClient):
        authenticate(glewlwyd, beside, asking("alice"), notifications.endpoint)
    audience = evolve(client, authentication=PrivateKeyJwt(SIGNER, audience=Audience.ISSUER))
    with pytest.raises(RemoteProtocolError, match="401"):
        authenticate(glewlwyd, audience, asking("alice"), notifications.endpoint)
    plain = evolve(client, profile=evolve(profiles.GLEWLWYD, login_hint_formats=()))
    with pytest.raises(InvalidRequest):
        authenticate(glewlwyd, plain, evolve(asking("alice"), login_hint="alice"), notifications.endpoint)


@pytest.mark.parametrize("stack", ["httpx", "trio"])
def test_the_user_refuses(glewlwyd: str, authenticate: Authenticate, notifications: Notifications) -> None:
    """`access_denied` ends it (CIBA Core 11). A refusal is pushed without `auth_req_id`, and not heard."""
    with pytest.raises(AccessDenied):
        authenticate(glewlwyd, registered("poll", "basic"), asking("bob"), notifications.endpoint)
    with pytest.raises(AuthenticationExpired):
        authenticate(
            glewlwyd, registered("push", "basic"), asking("bob", requested_expiry=2), notifications.endpoint
        )


@pytest.mark.parametrize("stack", ["httpx"])
def test_refusals(glewlwyd: str, authenticate: Authenticate, notifications: Notifications) -> None:
    """An unknown user, and a wrong secret (CIBA Core 13). Glewlwyd has its own codes for them."""
    with pytest.raises(InvalidRequest):
        authenticate(glewlwyd, registered("poll", "basic"), asking("mallory"), notifications.endpoint)
    wrong = evolve(registered("poll", "basic"), authentication=ClientSecretBasic("wrong"))
    with pytest.raises(InvalidClient):
        authenticate(glewlwyd, wrong, asking("alice"), notifications.endpoint)


def test_after_the_tokens(glewlwyd: str, connect: Connect) -> None:
    """Refresh, UserInfo and revocation."""
    with connect(glewlwyd, registered("poll", "basic")) as client:
        tokens = client.authenticate(asking("alice"))
        assert tokens.id_token_claims is not None
        refreshed = client.refresh(tokens)
        assert refreshed.access_token != tokens.access_token
        assert client.userinfo(refreshed)["sub"] == tokens.id_token_claims["sub"]
        client.revoke(refreshed)
