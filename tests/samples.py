"""Where the tests of the core start from: the examples of CIBA Core, and a few steps into a transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from ciba_core import (
    AuthenticationRequest,
    Begin,
    ClientConfig,
    ClientSecretBasic,
    Delivery,
    HttpRequest,
    HttpResponse,
    PollingPolicy,
    ProviderMetadata,
    RequestFailed,
    ResponseReceived,
    Step,
    TimerFired,
    Transaction,
    step,
)
from ciba_core.states import Pending, Polling

NOW: Final = 1_537_819_486.0
AUTH_REQ_ID: Final = "1c266114-a1be-4252-8ad1-04986c5b9ac1"
Json = Mapping[str, object]

ACKNOWLEDGEMENT: Final[Json] = {"auth_req_id": AUTH_REQ_ID, "expires_in": 120, "interval": 2}
"""VEC-CORE-04."""
TOKENS: Final[Json] = {
    "access_token": "G5kXH2wHvUra0sHlDy1iTkDJgsgUO1bN",
    "token_type": "Bearer",
    "refresh_token": "4bwc0ESC_IAhflf-ACC_vjD_ltc11ne-8gFPfA2Kx16",
    "expires_in": 120,
    "id_token": "eyJhbGciOiJSUzI1NiIsImtpZCI6IjE2NzcyNiJ9.eyJpc3MiOiJodHRwczovL3NlcnZlci5leGFtcGxlLmNvbSJ9.aVq83md",
}
"""VEC-CORE-06; the ID Token is shortened, since this version does not look into it."""


def zeros(count: int) -> bytes:
    """Entropy without any: the shortest back-off."""
    return bytes(count)


def ones(count: int) -> bytes:
    """The other extreme: the longest back-off."""
    return b"\xff" * count


CLIENT: Final = ClientConfig(
    "s6BhdRkqt3",
    ClientSecretBasic("7Fjfp0ZBr1KtDRbnfVdmIw"),
    polling=PollingPolicy(safety_margin=0),
    entropy=zeros,
)
PROVIDER: Final = ProviderMetadata(
    issuer="https://server.example.com",
    token_endpoint="https://server.example.com/token",
    backchannel_authentication_endpoint="https://server.example.com/bc-authorize",
)
REQUEST: Final = AuthenticationRequest(
    scope="openid email example-scope", login_hint="janedoe@example.com", binding_message="W4SCT"
)


def reply(
    status: int,
    body: Json | str | bytes = b"",
    *headers: tuple[str, str],
    media_type: str | None = "application/json",
) -> HttpResponse:
    """An answer; a mapping becomes JSON, text UTF-8."""
    if isinstance(body, Mapping):
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode()
    content_type = () if media_type is None else (("Content-Type", media_type),)
    return HttpResponse(status, (*content_type, *headers), body)


def without(members: Json, *names: str) -> Json:
    """The members but for some."""
    return {name: value for name, value in members.items() if name not in names}


def sent(current: Step) -> HttpRequest:
    """The request of a step that has one."""
    assert current.request is not None
    return current.request


def answer(tx: Transaction, response: HttpResponse, *, elapsed: float = 0.0, now: float = NOW) -> Step:
    """The answer to the last request has arrived."""
    return step(tx, ResponseReceived(tx.requests, response, elapsed), now)


def fail(
    tx: Transaction, delivery: Delivery = Delivery.UNKNOWN, *, elapsed: float = 0.0, now: float = NOW
) -> Step:
    """The last request has failed."""
    return step(tx, RequestFailed(tx.requests, delivery, "ReadTimeout", elapsed), now)


def awaiting(
    request: AuthenticationRequest = REQUEST, *, client: ClientConfig = CLIENT, now: float = NOW
) -> Transaction:
    """A transaction whose authentication request was sent."""
    return step(Transaction(client=client, provider=PROVIDER), Begin(request), now).transaction


def pending(
    acknowledgement: Json = ACKNOWLEDGEMENT, *, client: ClientConfig = CLIENT, now: float = NOW
) -> Transaction:
    """A transaction that was acknowledged."""
    return answer(awaiting(client=client, now=now), reply(200, acknowledgement), now=now).transaction


def fire(tx: Transaction, *, now: float | None = None) -> Step:
    """The wait for the deadline is over; `now` is the deadline unless the wall clock says otherwise."""
    assert tx.deadline is not None
    return step(tx, TimerFired(tx.deadline), tx.deadline if now is None else now)


def polling(
    acknowledgement: Json = ACKNOWLEDGEMENT, *, client: ClientConfig = CLIENT, now: float = NOW
) -> Transaction:
    """A transaction whose first poll was sent, at `now` plus one interval."""
    return fire(pending(acknowledgement, client=client, now=now)).transaction


def pending_state(tx: Transaction) -> Pending:
    """The state of a transaction that is pending."""
    assert isinstance(tx.state, Pending)
    return tx.state


def polling_state(tx: Transaction) -> Polling:
    """The state of a transaction with a poll under way."""
    assert isinstance(tx.state, Polling)
    return tx.state
