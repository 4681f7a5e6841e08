"""Every adapter against the npm package `oidc-provider`: real HTTP, a real provider, real time.

That provider names no interval, so that a second poll comes 5 s after the first one. What has to wait runs in
all stacks at once.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import requests
from attrs import evolve, frozen

from ciba_adapters.requests import CibaClient
from ciba_core import (
    AuthenticationRequest,
    ClientConfig,
    ClientSecretBasic,
    ClientSecretPost,
    PollingPolicy,
    TokenResponse,
    profiles,
)
from ciba_core.errors import (
    AccessDenied,
    AuthenticationExpired,
    BindingMessageUnfit,
    CibaError,
    ExpiredToken,
    InvalidBindingMessage,
    InvalidClient,
    UnknownUserId,
)

from .clocks import StoppedClock
from .notifications import Notifications
from .provider import REGISTRATIONS
from .stacks import STACKS, Authenticate

pytestmark = pytest.mark.interop

METHODS = {"client_secret_basic": ClientSecretBasic, "client_secret_post": ClientSecretPost}


def registered(name: str, *, client_secret: str | None = None) -> ClientConfig:
    """One of the provider's clients, with its own secret or another one."""
    metadata = REGISTRATIONS[name]
    method = METHODS[metadata["token_endpoint_auth_method"]]
    return ClientConfig(
        client_id=metadata["client_id"],
        authentication=method(client_secret or metadata["client_secret"]),
        backchannel_token_delivery_mode=metadata["backchannel_token_delivery_mode"],
        polling=PollingPolicy(first_poll_after=0, safety_margin=0, ping_fallback=None),
    )


def asking(
    login_hint: str, *, binding_message: str = "W4SCT", requested_expiry: int = 60
) -> AuthenticationRequest:
    return AuthenticationRequest(
        scope="openid",
        login_hint=login_hint,
        binding_message=binding_message,
        requested_expiry=requested_expiry,
    )


def user_of(issuer: str, tokens: TokenResponse) -> str:
    """Who the provider says the access token belongs to; asked without the library."""
    connection = http.client.HTTPConnection(urlsplit(issuer).netloc)
    try:
        token = tokens.access_token.reveal()
        connection.request("GET", "/me", headers={"Authorization": f"Bearer {token}"})
        answer = json.load(connection.getresponse())
    finally:
        connection.close()
    sub = answer["sub"]
    assert isinstance(sub, str)
    return sub


def check_tokens(issuer: str, tokens: TokenResponse, user: str) -> None:
    assert tokens.access_token
    assert tokens.token_type == "Bearer"
    assert tokens.scope == "openid"
    assert tokens.id_token is not None
    assert len(tokens.id_token.reveal().split(".")) == 3
    assert user_of(issuer, tokens) == user


@frozen
class Run:
    """How an authentication ended, and the seconds that it took."""

    outcome: TokenResponse | CibaError
    elapsed: float


def run(authenticate: Authenticate, issuer: str, request: AuthenticationRequest) -> Run:
    start = time.monotonic()
    outcome: TokenResponse | CibaError
    try:
        outcome = authenticate(issuer, registered("basic"), request)
    except CibaError as error:
        outcome = error
    return Run(outcome, time.monotonic() - start)


Runs = Mapping[str, Future[Run]]


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=2 * len(STACKS)) as pool:
        yield pool


@pytest.fixture(scope="module")
def late_approvals(pool: ThreadPoolExecutor, issuer: str) -> Runs:
    """The user approves after the first poll: started in all stacks at once."""
    return {name: pool.submit(run, STACKS[name], issuer, asking("dave")) for name in STACKS}


@pytest.fixture(scope="module")
def expiries(pool: ThreadPoolExecutor, issuer: str) -> Runs:
    """Nobody answers in the two seconds there are: started in all stacks at once."""
    request = asking("carol", requested_expiry=2)
    return {name: pool.submit(run, STACKS[name], issuer, request) for name in STACKS}


def test_an_approval_brings_tokens(issuer: str, authenticate: Authenticate) -> None:
    """Discovery, request, one poll: the real token response passes (CIBA-10.1.1-01, -03)."""
    check_tokens(issuer, authenticate(issuer, registered("basic"), asking("alice")), "alice")


def test_a_denial_is_access_denied(issuer: str, authenticate: Authenticate) -> None:
    """The user says no: the provider's access_denied ends the transaction (CIBA-11-04)."""
    with pytest.raises(AccessDenied):
        authenticate(issuer, registered("basic"), asking("bob"))


def test_an_unknown_user_is_refused(issuer: str, authenticate: Authenticate) -> None:
    """The backchannel authentication endpoint answers unknown_user_id (CIBA-13-04)."""
    with pytest.raises(UnknownUserId):
        authenticate(issuer, registered("basic"), asking("mallory"))


def test_a_bad_binding_message_is_refused(issuer: str, authenticate: Authenticate) -> None:
    """This provider takes 20 characters without spaces (V-NOP-03): invalid_binding_message (CIBA-13-08)."""
    with pytest.raises(InvalidBindingMessage):
        authenticate(
            issuer, registered("basic"), asking("alice", binding_message="too long, and with spaces")
        )


def test_the_profile_of_this_provider(issuer: str, authenticate: Authenticate) -> None:
    """Its limits are those of the provider: the utmost passes, and one more is not sent (V-NOP-03)."""
    client = evolve(registered("basic"), profile=profiles.NODE_OIDC_PROVIDER)
    utmost = "AZaz09-._+/!?#ABCDEF"
    check_tokens(issuer, authenticate(issuer, client, asking("alice", binding_message=utmost)), "alice")
    for message in (utmost + "G", "A:B"):
        with pytest.raises(BindingMessageUnfit):
            authenticate(issuer, client, asking("alice", binding_message=message))
        with pytest.raises(InvalidBindingMessage):
            authenticate(issuer, registered("basic"), asking("alice", binding_message=message))


@pytest.mark.parametrize("name", ["basic", "post"])
def test_a_wrong_secret_is_refused(issuer: str, authenticate: Authenticate, name: str) -> None:
    """A 401 with invalid_client ends the transaction, whatever a stack makes of WWW-Authenticate (CIBA-13-09)."""
    with pytest.raises(InvalidClient) as caught:
        authenticate(issuer, registered(name, client_secret="wrong"), asking("alice"))
    assert caught.value.status == 401


@pytest.mark.parametrize("name", ["basic-punctuation", "post-punctuation"])
def test_punctuation_in_identifier_and_secret(issuer: str, authenticate: Authenticate, name: str) -> None:
    """Every printable ASCII character survives both methods (RFC 6749 2.3.1 and appendix B, AUTH-10)."""
    check_tokens(issuer, authenticate(issuer, registered(name), asking("alice")), "alice")


def test_nobody_answers(stack: str, expiries: Runs) -> None:
    """The client gives up when the time that the provider granted is over, not before (CIBA-7.3-05)."""
    ended = expiries[stack].result()
    assert isinstance(ended.outcome, AuthenticationExpired)
    assert ended.elapsed >= 2


def test_an_approval_after_the_first_poll(issuer: str, stack: str, late_approvals: Runs) -> None:
    """authorization_pending, 5 s because no interval was named, then tokens (CIBA-7.3-07, CIBA-11-01)."""
    ended = late_approvals[stack].result()
    assert isinstance(ended.outcome, TokenResponse)
    assert ended.elapsed >= 5
    check_tokens(issuer, ended.outcome, "dave")


def test_a_stored_transaction_comes_back_too_late(issuer: str) -> None:
    """The provider's own expired_token ends what the client's clock still allows (CIBA-11-03)."""
    with requests.Session() as http:
        ciba = CibaClient.discover(
            issuer, registered("basic"), http=http, allow_loopback_http=True, clock=StoppedClock()
        )
        stored = ciba.initiate(asking("carol", requested_expiry=1)).to_json()
        time.sleep(1)  # the provider's clock is a real one
        with pytest.raises(ExpiredToken):
            ciba.resume(ciba.transaction_from_json(stored))


@pytest.mark.parametrize("user", ["alice", "erin"])
def test_pings_bring_tokens(
    issuer: str, authenticate: Authenticate, notifications: Notifications, user: str
) -> None:
    """A ping before the acknowledgement and one after it: tokens long before a poll (CIBA-10.2-01)."""
    start = time.monotonic()
    tokens = authenticate(issuer, registered("ping"), asking(user), notifications.endpoint)
    assert time.monotonic() - start < 5
    check_tokens(issuer, tokens, user)


def test_a_ping_after_a_denial(issuer: str, authenticate: Authenticate, notifications: Notifications) -> None:
    """A ping says that there is an answer, not which (CIBA Core 10.2)."""
    with pytest.raises(AccessDenied):
        authenticate(issuer, registered("ping"), asking("bob"), notifications.endpoint)
