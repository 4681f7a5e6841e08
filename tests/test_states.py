from __future__ import annotations

import inspect
import itertools
from typing import Any, get_args

import pytest

from ciba_core import Secret, TokenResponse
from ciba_core.errors import (
    AccessDenied,
    AuthenticationCancelled,
    AuthenticationExpired,
    CibaError,
    Endpoint,
    InvalidScope,
    RemoteProtocolError,
)
from ciba_core.events import (
    AuthenticationRefused,
    AuthenticationRequestFailed,
    AuthenticationRequestSent,
    AuthorizationPending,
    AuthReqIdExpired,
    AuthReqIdIssued,
    CancelRequested,
    PollFailed,
    PollSent,
    SlowDown,
    TokenRequestFailed,
    TokensIssued,
    Transition,
    UserDenied,
)
from ciba_core.states import (
    TRANSITIONS,
    Authenticated,
    AwaitingAcknowledgement,
    Cancelled,
    Denied,
    Expired,
    Failed,
    New,
    Pending,
    Polling,
    Refused,
    State,
    TerminalState,
    advance,
)

from .samples import NOW

TOKENS = TokenResponse(
    access_token=Secret("a"),
    token_type="Bearer",
    expires_at=None,
    refresh_token=None,
    id_token=None,
    scope="openid",
    authorization_details=None,
    extra={},
)
BROKEN = RemoteProtocolError("message", rule="rule", endpoint=Endpoint.TOKEN)
NO = AccessDenied("access_denied", endpoint=Endpoint.TOKEN, status=400)
LATE = AuthenticationExpired("message")
REFUSED = InvalidScope("invalid_scope", endpoint=Endpoint.BACKCHANNEL_AUTHENTICATION, status=400)
CANCELLED = AuthenticationCancelled("the application cancelled the authentication")

STATES: list[State] = [
    New(),
    AwaitingAcknowledgement("openid"),
    Pending(Secret("id"), "openid", NOW + 120, 5, NOW + 5, 2, True),
    Polling(Secret("id"), "openid", NOW + 120, 5, 2, True),
    Authenticated(TOKENS),
    Denied(NO),
    Expired(LATE),
    Refused(REFUSED),
    Failed(BROKEN),
    Cancelled(CANCELLED),
]
EVENTS: list[Transition] = [
    AuthenticationRequestSent("openid email"),
    AuthReqIdIssued(Secret("new"), NOW + 60, 3, NOW + 3),
    AuthenticationRefused(REFUSED),
    AuthenticationRequestFailed(BROKEN),
    PollSent(7),
    AuthorizationPending(5, NOW + 10, 0, False),
    SlowDown(10, NOW + 11, 0, False),
    PollFailed(5, NOW + 12, 3, True, "Reset"),
    TokensIssued(TOKENS),
    UserDenied(NO),
    AuthReqIdExpired(LATE),
    TokenRequestFailed(BROKEN),
    CancelRequested(),
]
PAIRS = list(itertools.product(STATES, EVENTS))


def name(value: object) -> str:
    return type(value).__name__


def test_the_lists_above_are_complete() -> None:
    """Every state and every event takes part in the walk below."""
    assert {type(state) for state in STATES} == set(get_args(State))
    assert {type(event) for event in EVENTS} == set(get_args(Transition))


@pytest.mark.parametrize(("state", "event"), PAIRS, ids=name)
def test_every_pair_of_state_and_event(state: State, event: Transition) -> None:
    """SM-01..24: a declared pair leads to the declared state, any other pair cannot happen."""
    pair = type(state), type(event)
    if pair in TRANSITIONS:
        assert type(advance(state, event)) is TRANSITIONS[pair]
    else:
        with pytest.raises(KeyError):
            advance(state, event)


def test_the_table_is_the_one_of_the_checklist() -> None:
    """SM-01..04, -06..10, -12..17, -21, -22: the transitions of poll mode, and no others."""
    expected: dict[type[Any], dict[type[Any], type[Any]]] = {
        New: {AuthenticationRequestSent: AwaitingAcknowledgement},
        AwaitingAcknowledgement: {
            AuthReqIdIssued: Pending,
            AuthenticationRefused: Refused,
            AuthenticationRequestFailed: Failed,
        },
        Pending: {PollSent: Polling, AuthReqIdExpired: Expired},
        Polling: {
            AuthorizationPending: Pending,
            SlowDown: Pending,
            PollFailed: Pending,
            TokensIssued: Authenticated,
            UserDenied: Denied,
            AuthReqIdExpired: Expired,
            TokenRequestFailed: Failed,
        },
    }
    flat = {(state, event): target for state, row in expected.items() for event, target in row.items()}
    cancels = {(state, CancelRequested): Cancelled for state in expected}
    assert dict(TRANSITIONS) == flat | cancels


def test_nothing_leads_out_of_an_end() -> None:
    """SM-23, -24: terminal states are those without a transition, and every other state has a way out."""
    assert set(get_args(State)) - {state for state, _ in TRANSITIONS} == set(get_args(TerminalState))


def test_every_state_can_be_reached() -> None:
    """No state is declared in vain."""
    assert {New, *TRANSITIONS.values()} == set(get_args(State))


def test_the_table_cannot_be_changed() -> None:
    """The machine is the same for the life of the process."""
    with pytest.raises(TypeError):
        TRANSITIONS[New, CancelRequested] = New  # type: ignore[index]


@pytest.mark.parametrize(
    ("state", "event", "following"),
    [
        (New(), EVENTS[0], AwaitingAcknowledgement("openid email")),
        (STATES[1], EVENTS[1], Pending(Secret("new"), "openid", NOW + 60, 3, NOW + 3, 0, False)),
        (STATES[2], EVENTS[4], Polling(Secret("id"), "openid", NOW + 120, 5, 2, True)),
        (STATES[3], EVENTS[5], Pending(Secret("id"), "openid", NOW + 120, 5, NOW + 10, 0, False)),
        (STATES[3], EVENTS[6], Pending(Secret("id"), "openid", NOW + 120, 10, NOW + 11, 0, False)),
        (STATES[3], EVENTS[7], Pending(Secret("id"), "openid", NOW + 120, 5, NOW + 12, 3, True)),
        (STATES[3], EVENTS[8], Authenticated(TOKENS)),
        (STATES[3], EVENTS[9], Denied(NO)),
        (STATES[3], EVENTS[10], Expired(LATE)),
        (STATES[2], EVENTS[10], Expired(LATE)),
        (STATES[3], EVENTS[11], Failed(BROKEN)),
        (STATES[1], EVENTS[3], Failed(BROKEN)),
        (STATES[1], EVENTS[2], Refused(REFUSED)),
        *((state, CancelRequested(), Cancelled(CANCELLED)) for state in STATES[:4]),
    ],
    ids=name,
)
def test_states_take_over_what_stays_true(state: State, event: Transition, following: State) -> None:
    """CIBA-7.4-02: identifier, scope and expiry stay from the acknowledgement to the end; the rest comes anew."""
    assert advance(state, event) == following


def test_no_state_has_more_than_is_true_in_it() -> None:
    """Tokens are in one state, errors in the others that end, and identifiers only while they are of use."""
    fields = {state: {*inspect.signature(state).parameters} for state in get_args(State)}
    assert {state for state in fields if "tokens" in fields[state]} == {Authenticated}
    assert {state for state in fields if "auth_req_id" in fields[state]} == {Pending, Polling}
    assert {state for state in fields if "error" in fields[state]} == {*get_args(TerminalState)} - {
        Authenticated
    }
    assert all(
        isinstance(state.error, CibaError)
        for state in STATES
        if not isinstance(state, (New, AwaitingAcknowledgement, Pending, Polling, Authenticated))
    )
