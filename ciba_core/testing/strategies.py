"""Hypothesis strategies for the values that a client or driver has to cope with.

::

    from hypothesis import given
    from ciba_core.testing import strategies

    @given(strategies.authentication_requests())
    def test_my_form_survives(request: AuthenticationRequest) -> None:
        ...

This module, unlike the package around it, needs Hypothesis.
"""

from __future__ import annotations

import json
import string
from functools import cache
from typing import Any, Final, get_args

from attrs import evolve

from ciba_core import (
    AuthenticationRequest,
    Begin,
    Cancel,
    ClientConfig,
    ClientSecretBasic,
    Delivery,
    Guarded,
    HttpResponse,
    Input,
    Limits,
    NotificationReceived,
    ProviderMetadata,
    RequestFailed,
    ResponseReceived,
    Resumed,
    Secret,
    SignaturesMade,
    SigningFailed,
    TimerFired,
    TokenResponse,
    Transaction,
    step,
)
from ciba_core.client.config import DeliveryMode
from ciba_core.client.request import Requested
from ciba_core.errors import Endpoint as ErrorSource
from ciba_core.notification import Notification
from ciba_core.states import (
    AwaitingAcknowledgement,
    AwaitingCallback,
    AwaitingKeys,
    FetchingKeys,
    New,
    Pending,
    Polling,
    SigningAuthentication,
    SigningPoll,
    State,
)
from ciba_core.transaction.key_search import KeySearch
from ciba_core.values.errors import ERROR_CLASSES

from .script import (
    Answer,
    Approve,
    Busy,
    Delay,
    Deny,
    DropAfter,
    DropBefore,
    Fault,
    Ignore,
    Refuse,
    SlowDown,
    Truncate,
    User,
)

try:
    from hypothesis import strategies as st
    from hypothesis.strategies import DrawFn, SearchStrategy
except ImportError as error:
    raise ImportError(
        "ciba_core.testing.strategies needs Hypothesis: pip install 'ciba-core[testing]'"
    ) from error

__all__ = [
    "acknowledgements",
    "authentication_requests",
    "faults",
    "inputs",
    "token_answers",
    "transactions",
    "users",
]

_JSON: Final = ("Content-Type", "application/json")
_NOW: Final = 1_700_000_000.0

# The limit of a body is low, so that answers beyond it stay small.
_CLIENT: Final = ClientConfig(
    "s6BhdRkqt3", ClientSecretBasic("gX1fBat3bV"), limits=Limits(body=1024), entropy=bytes
)
_CLIENTS: Final = tuple(
    evolve(_CLIENT, backchannel_token_delivery_mode=mode) for mode in get_args(DeliveryMode)
)
_PROVIDER: Final = ProviderMetadata(
    issuer="https://op.example",
    token_endpoint="https://op.example/token",  # noqa: S106  # a URL
    backchannel_authentication_endpoint="https://op.example/bc-authorize",
    jwks_uri="https://op.example/jwks",
)


# --- pieces ----------------------------------------------------------------------------------------------


def _json(
    text: SearchStrategy[str], numbers: SearchStrategy[float], *, max_leaves: int = 6
) -> SearchStrategy[Any]:
    return st.recursive(
        st.none() | st.booleans() | st.integers() | numbers | text,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
        max_leaves=max_leaves,
    )


# All values of standard JSON, and what Python's encoder writes besides: NaN, lone surrogates.
_PROPER_JSON: Final = _json(st.text(max_size=10), st.floats(allow_nan=False, allow_infinity=False))
_ANY_JSON: Final = _json(st.text(st.characters(), max_size=10), st.floats())

_WORD: Final = st.text(string.ascii_letters + string.digits + "-._:", min_size=1, max_size=12)
_SCRAP: Final = st.text(max_size=9)
_TEXT: Final = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20)
# Visible characters only: people compare a binding message.
_MESSAGE: Final = st.text(
    st.characters(codec="utf-8", categories=["Lu", "Ll", "Nd", "Po"]), min_size=1, max_size=20
)
_OBJECT: Final[SearchStrategy[dict[str, Any]]] = st.dictionaries(_WORD, _PROPER_JSON, max_size=2)
_ELAPSED: Final = st.sampled_from([0.0, 0.2, 5.0, 31.0]) | st.floats(0, 3600)

_STATUS: Final = st.sampled_from([200, 400, 401, 403, 429, 500, 503]) | st.integers(100, 999)
_RETRY_AFTER: Final = (
    st.integers(0, 10**6).map(str)
    | st.datetimes().map(lambda date: date.strftime("%a, %d %b %Y %H:%M:%S GMT"))
    | st.text(max_size=10)
)
_HEADERS: Final = st.lists(
    st.sampled_from(
        [_JSON, ("content-type", "Application/JSON; charset=utf-8"), ("Content-Type", "text/html")]
    )
    | st.tuples(st.sampled_from(["Retry-After", "retry-after", "Date"]), _RETRY_AFTER)
    | st.tuples(st.text(max_size=10), st.text(max_size=20)),
    max_size=4,
)


def _reply(status: int, members: Any, *headers: tuple[str, str]) -> HttpResponse:
    return HttpResponse(status, headers, json.dumps(members).encode())


def _answers(members: dict[str, SearchStrategy[Any]]) -> SearchStrategy[HttpResponse]:
    """Generate answers that make no sense, some of them with the right members and wrong values."""
    any_value = {name: values | _ANY_JSON for name, values in members.items()}
    document = st.fixed_dictionaries({}, optional=any_value) | _ANY_JSON
    body = (
        st.binary(max_size=40)
        | document.map(lambda value: json.dumps(value).encode())
        | document.map(lambda value: json.dumps(value).encode()[:-1])
        | document.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass"))
        | st.sampled_from(
            [b"<html>Bad Gateway</html>", b'{"error":"a","error":"b"}', b"[" * 999, b" " * 1025]
        )
    )
    return st.builds(HttpResponse, _STATUS, _HEADERS, body)


def _error_answers(source: ErrorSource) -> SearchStrategy[HttpResponse]:
    """Generate error responses: most with a registered code, with any status and any header fields."""
    codes = st.sampled_from([*ERROR_CLASSES[source], "authorization_pending", "slow_down"]) | _SCRAP
    members = st.fixed_dictionaries(
        {"error": codes}, optional={"error_description": _TEXT, "error_uri": _TEXT | st.none()}
    )
    bodies = members.map(lambda values: json.dumps(values).encode())
    return st.builds(HttpResponse, _STATUS, _HEADERS.map(lambda more: (_JSON, *more)), bodies)


# --- what a client sends ---------------------------------------------------------------------------------


_HINTS: Final = st.sampled_from(["login_hint", "login_hint_token", "id_token_hint"])
_SCOPE: Final = st.lists(_WORD.filter(lambda value: value != "openid"), min_size=1, max_size=3).map(" ".join)


@cache
def authentication_requests() -> SearchStrategy[AuthenticationRequest]:
    """Generate valid authentication requests (CIBA Core 7.1), with few or many parameters."""
    claim = st.none() | st.fixed_dictionaries({"essential": st.booleans()}, optional={"value": _TEXT})
    claims = st.dictionaries(_WORD, claim, max_size=2)
    details = _OBJECT.flatmap(lambda members: _WORD.map(lambda kind: members | {"type": kind}))
    optional: dict[str, SearchStrategy[Any]] = {
        "binding_message": _MESSAGE,
        "user_code": _TEXT,
        "acr_values": st.lists(_WORD, min_size=1, max_size=3),
        "requested_expiry": st.integers(1, 2**31 - 1),
        "resource": st.lists(_WORD.map("https://rs.example/".__add__), max_size=2),
        "authorization_details": st.lists(details, min_size=1, max_size=2),
        "claims": st.fixed_dictionaries({}, optional={"id_token": claims, "userinfo": claims}),
        "extra": st.dictionaries(_WORD.map("x_".__add__), _PROPER_JSON.filter(_has_value), max_size=2),
    }
    return st.builds(
        _authentication_request,
        _SCOPE,
        st.booleans(),
        _HINTS,
        _TEXT,
        st.fixed_dictionaries({}, optional=optional),
    )


def _authentication_request(
    scope: str, openid: bool, hint: str, value: str, more: dict[str, Any]
) -> AuthenticationRequest:
    parameters: dict[str, Any] = {**more, hint: value}
    return AuthenticationRequest(scope=f"openid {scope}" if openid else scope, openid=openid, **parameters)


def _has_value(value: object) -> bool:
    return value is not None and value != ""


# --- what a provider answers -----------------------------------------------------------------------------


@cache
def acknowledgements() -> SearchStrategy[HttpResponse]:
    """Generate answers of a backchannel authentication endpoint (CIBA Core 7.3, 13), sensible and absurd.

    Bodies have at most about 1 KiB.
    """
    members = {
        "auth_req_id": st.text(string.ascii_letters + string.digits + "-._", min_size=1, max_size=40),
        "expires_in": st.integers(1, 600),
        "interval": st.integers(1, 30),
    }
    required = {name: members[name] for name in ("auth_req_id", "expires_in")}
    good = st.fixed_dictionaries(required, optional={"interval": members["interval"]})
    return st.one_of(
        good.map(lambda values: _reply(200, values, _JSON)),
        _error_answers(ErrorSource.BACKCHANNEL_AUTHENTICATION),
        _answers(members | {"error": _SCRAP}),
    )


@cache
def token_answers() -> SearchStrategy[HttpResponse]:
    """Generate answers of a token endpoint to a poll (CIBA Core 10.1.1, 11), sensible and absurd.

    Tokens, pending, every registered error, faults of all kinds, and octets that mean nothing.
    """
    members: dict[str, SearchStrategy[Any]] = {
        "access_token": _TEXT,
        "token_type": st.sampled_from(["Bearer", "bearer", "DPoP"]),
        "expires_in": st.integers(0, 10**6),
        "refresh_token": _TEXT,
        "id_token": _WORD,
        "scope": _WORD,
        "authorization_details": st.lists(_OBJECT, max_size=2),
        "another": _PROPER_JSON,
    }
    required: dict[str, SearchStrategy[Any]] = {
        "access_token": _TEXT, "token_type": st.just("Bearer"),
    }  # fmt: skip
    optional = {name: values for name, values in members.items() if name not in required}
    pending = st.sampled_from(["authorization_pending", "slow_down"])
    over = st.sampled_from(["access_denied", "expired_token"])
    return st.one_of(
        st.fixed_dictionaries(required, optional=optional).map(lambda values: _reply(200, values, _JSON)),
        pending.map(lambda code: _reply(400, {"error": code}, _JSON)),
        over.map(lambda code: _reply(400, {"error": code}, _JSON)),
        _error_answers(ErrorSource.TOKEN),
        _answers(members | {"error": _SCRAP}),
    )


# --- what happens in a simulation ------------------------------------------------------------------------


@cache
def users() -> SearchStrategy[User]:
    """Generate users for a `SimulatedProvider`, without a user code: all of them decide within minutes."""
    after = {"after_polls": st.integers(0, 5), "after": st.floats(0, 300)}
    return st.one_of(
        st.builds(Approve, **after),
        st.builds(Deny, **after),
        st.just(Ignore()),
        st.builds(Refuse, st.sampled_from(sorted(ERROR_CLASSES[ErrorSource.BACKCHANNEL_AUTHENTICATION]))),
    )


@cache
def faults() -> SearchStrategy[Fault]:
    """Generate faults for `SimulatedProvider.inject`: losses, delays, and answers of any kind."""
    answers = acknowledgements() | token_answers()
    retry_after: dict[str, SearchStrategy[Any]] = {
        "retry_after": st.none() | st.integers(0, 120), "http_date": st.booleans(),
    }  # fmt: skip
    return st.one_of(
        answers.map(lambda answer: Answer(answer.status, answer.body, answer.headers)),
        st.just(DropBefore()),
        st.just(DropAfter()),
        st.builds(Truncate, st.integers(0, 400), st.booleans()),
        st.builds(Delay, st.floats(0, 60)),
        st.builds(SlowDown, **retry_after, status=st.sampled_from([400, 401, 429])),
        st.builds(Busy, **retry_after, status=st.sampled_from([429, 500, 503])),
    )


# --- what a driver holds and hands in --------------------------------------------------------------------


_STATED_SCOPE: Final = st.sampled_from(["openid", "openid profile", "payments"])
_REQUESTED: Final = st.builds(Requested, scope=_STATED_SCOPE)
_INSTANT: Final = st.just(_NOW) | st.floats(0, 4e9)
_WAITING: Final[dict[str, SearchStrategy[Any]]] = {
    "auth_req_id": st.just(Secret("1c266114-a1be-4252-8ad1-04986c5b9ac1")),
    "requested": _REQUESTED,
    "expires_at": _INSTANT,
    "interval": st.integers(1, 600).map(float),
    "faults": st.integers(0, 40),
    "answer_lost": st.booleans(),
}
_TOKENS: Final = st.builds(
    TokenResponse,
    access_token=st.builds(Secret, _WORD),
    token_type=st.just("Bearer"),
    expires_at=st.none() | _INSTANT,
    refresh_token=st.none() | st.builds(Secret, _WORD),
    id_token=st.builds(Secret, _WORD),
    scope=_STATED_SCOPE,
    authorization_details=st.none(),
    extra=st.just({}),
    id_token_claims=st.none(),
    dpop_key=st.none(),
).map(Guarded)
_PUSHED: Final = st.fixed_dictionaries(
    {"access_token": _WORD},
    optional={"token_type": _WORD, "id_token": _WORD, "refresh_token": _WORD, "error": _SCRAP},
) | st.fixed_dictionaries(
    {"error": st.sampled_from(["access_denied", "expired_token", "transaction_failed"]) | _SCRAP},
    optional={"error_description": _SCRAP},
)


@cache
def _notifications(*, push: bool) -> SearchStrategy[Notification]:
    """Generate callbacks to a client notification endpoint, most of them for the transactions below."""
    auth_req_ids = _WAITING["auth_req_id"] | st.builds(Secret, _WORD)
    return st.builds(_notification, auth_req_ids, _PUSHED if push else _OBJECT)


def _notification(auth_req_id: Secret, more: dict[str, Any]) -> Notification:
    return Notification(auth_req_id, {**more, "auth_req_id": auth_req_id.reveal()})


@cache
def _states(mode: DeliveryMode) -> SearchStrategy[State]:
    """Generate the states of a transaction that has not ended."""
    waiting = _WAITING | {"pinged": st.booleans() if mode == "ping" else st.just(value=False)}
    planned = {"poll": _INSTANT, "ping": st.none() | _INSTANT, "push": st.none()}
    pending = st.builds(Pending, **waiting, next_poll_at=planned[mode])
    held = st.none() if mode == "poll" else st.none() | _notifications(push=mode == "push")
    with_tokens: dict[str, SearchStrategy[Any]] = {
        "auth_req_id": _WAITING["auth_req_id"],
        "requested": _REQUESTED,
        "untrusted": _TOKENS,
        "search": st.builds(
            KeySearch, _INSTANT, _INSTANT, _INSTANT, faults=st.integers(0, 40), has_waited=st.booleans()
        ),
        "back_to": pending if mode == "push" else st.none(),
    }
    polling = st.builds(SigningPoll, **waiting, draft=st.none(), sign_by=st.none() | _INSTANT) | st.builds(
        Polling, **waiting, poll_again=waiting["pinged"]
    )
    return st.one_of(
        st.just(New()),
        # As after a restart: snapshots contain no draft.
        st.builds(SigningAuthentication, _REQUESTED, st.none(), st.none() | _INSTANT),
        st.builds(AwaitingAcknowledgement, _REQUESTED, held),
        *([] if mode == "poll" else [st.builds(AwaitingCallback, _REQUESTED, _INSTANT, _WORD)]),
        pending,
        *([] if mode == "push" else [polling]),
        st.builds(FetchingKeys, **with_tokens),
        st.builds(AwaitingKeys, **with_tokens, next_try_at=_INSTANT),
    )


@st.composite
def transactions(
    draw: DrawFn, *, client: ClientConfig | None = None, provider: ProviderMetadata = _PROVIDER
) -> Transaction:
    """Generate transactions in every state; those that have ended cover all outcomes.

    Args:
        draw: handed in by Hypothesis.
        client: the configuration they refer to; ``None``: one with a low limit on bodies, in any mode.
        provider: the metadata they refer to.

    """
    client = draw(st.sampled_from(_CLIENTS)) if client is None else client
    mode = client.backchannel_token_delivery_mode
    state = draw(_states(mode))
    begun = not isinstance(state, (New, SigningAuthentication, AwaitingAcknowledgement, AwaitingCallback))
    polls = 0
    if begun and mode != "push":
        polls = draw(st.integers(not isinstance(state, (Pending, SigningPoll)), 99))
    requests = 0 if isinstance(state, New) else 1 + polls
    token = (
        None if mode == "poll" or isinstance(state, New) else Secret("8d67dc78-7faa-4d41-aabd-67707b374255")
    )
    transaction = Transaction(
        client=client,
        provider=provider,
        state=state,
        requests=requests,
        polls=polls,
        client_notification_token=token,
    )
    if draw(st.booleans()):
        return transaction
    happened: Input = Cancel()
    if isinstance(state, (AwaitingAcknowledgement, Polling)):
        answers = token_answers() if isinstance(state, Polling) else acknowledgements()
        happened = ResponseReceived(requests, draw(answers), draw(_ELAPSED))
    return step(transaction, happened, draw(_INSTANT)).transaction


def inputs(transaction: Transaction) -> SearchStrategy[Input]:
    """Generate inputs for a transaction: those that move it on, late and stray ones, and misuse.

    `step` answers misuse with `LocalProtocolError`: a second `Begin`, an answer to a request that was never
    issued, signatures for a draft that was never made, an `elapsed` that is negative or not a number, a
    callback in poll mode.
    """
    numbers = st.just(transaction.requests) | st.integers(-1, transaction.requests + 1)
    elapsed = _ELAPSED | st.floats()
    deadlines = st.floats() if transaction.deadline is None else st.floats() | st.just(transaction.deadline)
    return st.one_of(
        st.builds(Begin, authentication_requests()),
        st.builds(ResponseReceived, numbers, acknowledgements() | token_answers(), elapsed),
        st.builds(RequestFailed, numbers, st.sampled_from(Delivery), _WORD, elapsed),
        st.builds(NotificationReceived, _notifications(push=False) | _notifications(push=True)),
        st.builds(TimerFired, deadlines),
        st.builds(SignaturesMade, numbers, st.lists(st.binary(max_size=64), max_size=2).map(tuple)),
        st.builds(SigningFailed, numbers, _WORD),
        st.just(Resumed()),
        st.just(Cancel()),
    )
