from __future__ import annotations

import inspect
import itertools
from typing import Any, get_args

import attrs
import pytest

from ciba_core import Draft, Purpose, RemoteSigner, Secret, TokenResponse, UnsignedJwt
from ciba_core.client.request import Requested
from ciba_core.errors import (
    AccessDenied,
    AuthenticationCancelled,
    AuthenticationExpired,
    CibaError,
    Endpoint,
    InvalidScope,
    KeysUnavailable,
    RemoteProtocolError,
    TokensRejected,
    TransactionFailed,
)
from ciba_core.events import (
    AuthenticationRefused,
    AuthenticationRequestDrafted,
    AuthenticationRequestFailed,
    AuthenticationRequestSent,
    AuthorizationPending,
    AuthReqIdExpired,
    AuthReqIdIssued,
    AuthReqIdRecovered,
    CallbackAwaited,
    CancelRequested,
    DpopNonceRequired,
    ErrorPushed,
    KeyRequestFailed,
    KeyRequestSent,
    NotificationHeld,
    PingReceived,
    PollDrafted,
    PollFailed,
    PollSent,
    PushRejected,
    SlowDown,
    TokenRequestFailed,
    TokensHeld,
    TokensIssued,
    TokensReceived,
    TokensUntrusted,
    Transition,
    UserDenied,
)
from ciba_core.notification import Notification
from ciba_core.states import (
    TRANSITIONS,
    Authenticated,
    AwaitingAcknowledgement,
    AwaitingCallback,
    AwaitingKeys,
    Cancelled,
    Denied,
    Expired,
    Failed,
    FetchingKeys,
    New,
    Pending,
    Polling,
    Refused,
    SigningAuthentication,
    SigningPoll,
    State,
    TerminalState,
    advance,
)
from ciba_core.transaction.key_search import KeySearch
from ciba_core.transaction.states import Ended
from tests.samples import NOW, OPENID, untrusted

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

UNTRUSTED = untrusted()
CANCELLED_LATE = AuthenticationCancelled("the application cancelled the authentication", untrusted=UNTRUSTED)
REJECTED = TokensRejected("message", rule="rule", endpoint=Endpoint.TOKEN, untrusted=UNTRUSTED)
NO_KEYS = KeysUnavailable("message", reason="3 tries", untrusted=UNTRUSTED)
DRAFT = Draft(
    id=4,
    unsigned=(("client_assertion", UnsignedJwt(b"header.claims", RemoteSigner("hsm", alg="ES256"))),),
    purpose=Purpose.TOKEN,
    url="https://server.example.com/token",
    headers=(),
    form="a=b",
)
ID = Secret("id")
SEARCH = KeySearch(NOW, NOW, NOW + 120, faults=2, has_waited=True)
NEXT = KeySearch(NOW, NOW + 7, NOW + 240, faults=3, has_waited=True)
CALLBACK = Notification(ID, {"auth_req_id": "id"})
GONE_WRONG = TransactionFailed("transaction_failed", endpoint=Endpoint.CLIENT_NOTIFICATION, status=None)

STATES: list[State] = [
    New(),
    SigningAuthentication(OPENID, DRAFT),
    AwaitingAcknowledgement(OPENID),
    AwaitingCallback(OPENID, NOW + 120, "ReadTimeout"),
    Pending(ID, OPENID, NOW + 120, 5, NOW + 5, 2, True),
    SigningPoll(ID, OPENID, NOW + 120, 5, 2, True, DRAFT),
    Polling(ID, OPENID, NOW + 120, 5, 2, True),
    FetchingKeys(ID, OPENID, UNTRUSTED, SEARCH),
    AwaitingKeys(ID, OPENID, UNTRUSTED, SEARCH, NOW + 4),
    Authenticated(TOKENS),
    Denied(NO),
    Expired(LATE),
    Refused(REFUSED),
    Failed(BROKEN),
    Cancelled(CANCELLED),
]
NEW, SIGNING, AWAITING, HEALING, PENDING, SIGNING_POLL, POLLING, FETCHING, AWAITING_KEYS, *ENDED = STATES
UNTIL_PUSHED = Pending(ID, OPENID, NOW + 120, 5, None)
PUSHED = FetchingKeys(ID, OPENID, UNTRUSTED, SEARCH, UNTIL_PUSHED)
PUSH_AWAITS = AwaitingKeys(ID, OPENID, UNTRUSTED, SEARCH, NOW + 30, UNTIL_PUSHED)
PINGED = Pending(ID, OPENID, NOW + 120, 5, NOW + 5, 2, True, True)
MORE = Requested(scope="openid email", nonce=Secret("n"))
EVENTS: list[Transition] = [
    AuthenticationRequestSent(MORE),
    AuthenticationRequestDrafted(MORE, DRAFT),
    AuthReqIdIssued(Secret("new"), NOW + 60, 3, NOW + 3),
    CallbackAwaited("ReadTimeout", NOW + 90),
    AuthReqIdRecovered(Secret("new"), NOW + 80, 5),
    AuthenticationRefused(REFUSED),
    AuthenticationRequestFailed(BROKEN),
    PollSent(7),
    PollDrafted(DRAFT),
    AuthorizationPending(5, NOW + 10, 0, False),
    SlowDown(10, NOW + 11, 0, False),
    DpopNonceRequired(5, NOW + 13, 0, True),
    PollFailed(5, NOW + 12, 3, True, "Reset"),
    NotificationHeld(CALLBACK),
    PingReceived(NOW + 1),
    PushRejected(REJECTED),
    ErrorPushed(GONE_WRONG),
    TokensReceived(UNTRUSTED, NEXT),
    TokensHeld(UNTRUSTED, NEXT, NOW + 30),
    KeyRequestFailed(NEXT, NOW + 30, "Reset"),
    KeyRequestSent(NEXT),
    TokensIssued(TOKENS),
    TokensUntrusted(REJECTED),
    UserDenied(NO),
    AuthReqIdExpired(LATE),
    TokenRequestFailed(BROKEN),
    CancelRequested(),
]
EVENT = {type(event): event for event in EVENTS}
# Tokens that were rejected lead back only where they had been pushed.
PUSHES: dict[type[State], State] = {FetchingKeys: PUSHED, AwaitingKeys: PUSH_AWAITS}
PAIRS = list(itertools.product((PUSHES.get(type(state), state) for state in STATES), EVENTS))


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
    """SM-01..04, -06..22: the transitions of the three modes, and no others."""
    expected: dict[type[Any], dict[type[Any], type[Any]]] = {
        New: {
            AuthenticationRequestSent: AwaitingAcknowledgement,
            AuthenticationRequestDrafted: SigningAuthentication,
            AuthenticationRequestFailed: Failed,
        },
        SigningAuthentication: {
            AuthenticationRequestSent: AwaitingAcknowledgement,
            AuthenticationRequestFailed: Failed,
        },
        AwaitingAcknowledgement: {
            NotificationHeld: AwaitingAcknowledgement,
            AuthenticationRequestSent: AwaitingAcknowledgement,
            AuthenticationRequestDrafted: SigningAuthentication,
            AuthReqIdIssued: Pending,
            AuthenticationRefused: Refused,
            AuthenticationRequestFailed: Failed,
            CallbackAwaited: AwaitingCallback,
        },
        AwaitingCallback: {
            AuthReqIdRecovered: Pending,
            AuthenticationRequestFailed: Failed,
        },
        Pending: {
            PollSent: Polling,
            PollDrafted: SigningPoll,
            PollFailed: Pending,
            PingReceived: Pending,
            TokensIssued: Authenticated,
            TokensReceived: FetchingKeys,
            TokensHeld: AwaitingKeys,
            PushRejected: Pending,
            UserDenied: Denied,
            ErrorPushed: Failed,
            AuthReqIdExpired: Expired,
        },
        SigningPoll: {
            PollSent: Polling,
            PollFailed: Pending,
            PingReceived: SigningPoll,
            AuthReqIdExpired: Expired,
        },
        Polling: {
            AuthorizationPending: Pending,
            SlowDown: Pending,
            DpopNonceRequired: Pending,
            PollFailed: Pending,
            PingReceived: Polling,
            TokensIssued: Authenticated,
            TokensReceived: FetchingKeys,
            TokensHeld: AwaitingKeys,
            TokensUntrusted: Failed,
            UserDenied: Denied,
            AuthReqIdExpired: Expired,
            TokenRequestFailed: Failed,
        },
        FetchingKeys: {
            TokensIssued: Authenticated,
            TokensUntrusted: Failed,
            PushRejected: Pending,
            KeyRequestFailed: AwaitingKeys,
        },
        AwaitingKeys: {
            KeyRequestSent: FetchingKeys,
            TokensIssued: Authenticated,
            TokensUntrusted: Failed,
            PushRejected: Pending,
        },
    }
    flat = {(state, event): target for state, row in expected.items() for event, target in row.items()}
    cancels = {(state, CancelRequested): Cancelled for state in expected}
    assert dict(TRANSITIONS) == flat | cancels


def test_nothing_leads_out_of_an_end() -> None:
    """SM-23, -24: terminal states are those without a transition, and every other state has a way out."""
    ended = set(get_args(TerminalState))
    assert set(get_args(State)) - {state for state, _ in TRANSITIONS} == ended
    assert {state for state in get_args(State) if issubclass(state, Ended)} == ended


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
        (NEW, EVENT[AuthenticationRequestSent], AwaitingAcknowledgement(MORE)),
        (NEW, EVENT[AuthenticationRequestDrafted], SigningAuthentication(MORE, DRAFT)),
        (NEW, EVENT[AuthenticationRequestFailed], Failed(BROKEN)),
        (SIGNING, EVENT[AuthenticationRequestSent], AwaitingAcknowledgement(MORE)),
        (SIGNING, EVENT[AuthenticationRequestFailed], Failed(BROKEN)),
        (AWAITING, EVENT[AuthenticationRequestSent], AwaitingAcknowledgement(MORE)),
        (AWAITING, EVENT[AuthenticationRequestDrafted], SigningAuthentication(MORE, DRAFT)),
        (AWAITING, EVENT[AuthReqIdIssued], Pending(Secret("new"), OPENID, NOW + 60, 3, NOW + 3, 0, False)),
        (PENDING, EVENT[PollSent], Polling(ID, OPENID, NOW + 120, 5, 2, True)),
        (PENDING, EVENT[PollDrafted], SigningPoll(ID, OPENID, NOW + 120, 5, 2, True, DRAFT)),
        (PENDING, EVENT[PollFailed], Pending(ID, OPENID, NOW + 120, 5, NOW + 12, 3, True)),
        (PINGED, EVENT[PollFailed], Pending(ID, OPENID, NOW + 120, 5, NOW + 12, 3, True, True)),
        (SIGNING_POLL, EVENT[PollSent], Polling(ID, OPENID, NOW + 120, 5, 2, True)),
        (SIGNING_POLL, EVENT[PollFailed], Pending(ID, OPENID, NOW + 120, 5, NOW + 12, 3, True)),
        (SIGNING_POLL, EVENT[AuthReqIdExpired], Expired(LATE)),
        (POLLING, EVENT[AuthorizationPending], Pending(ID, OPENID, NOW + 120, 5, NOW + 10, 0, False)),
        (POLLING, EVENT[SlowDown], Pending(ID, OPENID, NOW + 120, 10, NOW + 11, 0, False)),
        (POLLING, EVENT[DpopNonceRequired], Pending(ID, OPENID, NOW + 120, 5, NOW + 13, 0, True)),
        (POLLING, EVENT[PollFailed], Pending(ID, OPENID, NOW + 120, 5, NOW + 12, 3, True)),
        (POLLING, EVENT[TokensIssued], Authenticated(TOKENS)),
        (POLLING, EVENT[TokensReceived], FetchingKeys(ID, OPENID, UNTRUSTED, NEXT)),
        (POLLING, EVENT[TokensHeld], AwaitingKeys(ID, OPENID, UNTRUSTED, NEXT, NOW + 30)),
        (POLLING, EVENT[TokensUntrusted], Failed(REJECTED)),
        (POLLING, EVENT[UserDenied], Denied(NO)),
        (POLLING, EVENT[AuthReqIdExpired], Expired(LATE)),
        (PENDING, EVENT[AuthReqIdExpired], Expired(LATE)),
        (POLLING, EVENT[TokenRequestFailed], Failed(BROKEN)),
        (FETCHING, EVENT[KeyRequestFailed], AwaitingKeys(ID, OPENID, UNTRUSTED, NEXT, NOW + 30)),
        (FETCHING, EVENT[TokensIssued], Authenticated(TOKENS)),
        (FETCHING, TokensUntrusted(REJECTED), Failed(REJECTED)),
        (AWAITING_KEYS, EVENT[KeyRequestSent], FetchingKeys(ID, OPENID, UNTRUSTED, NEXT)),
        (AWAITING_KEYS, EVENT[TokensIssued], Authenticated(TOKENS)),
        (AWAITING_KEYS, TokensUntrusted(NO_KEYS), Failed(NO_KEYS)),
        (AWAITING, EVENT[AuthenticationRequestFailed], Failed(BROKEN)),
        (AWAITING, EVENT[AuthenticationRefused], Refused(REFUSED)),
        (AWAITING, EVENT[CallbackAwaited], AwaitingCallback(OPENID, NOW + 90, "ReadTimeout")),
        (HEALING, EVENT[AuthReqIdRecovered], Pending(Secret("new"), OPENID, NOW + 80, 5, None)),
        (HEALING, EVENT[AuthenticationRequestFailed], Failed(BROKEN)),
        *((state, CancelRequested(), Cancelled(CANCELLED)) for state in STATES[:7]),
        *((state, CancelRequested(), Cancelled(CANCELLED_LATE)) for state in STATES[7:9]),
        (AWAITING, EVENT[NotificationHeld], AwaitingAcknowledgement(OPENID, CALLBACK)),
        (PENDING, EVENT[PingReceived], Pending(ID, OPENID, NOW + 120, 5, NOW + 1, 2, True, True)),
        (SIGNING_POLL, EVENT[PingReceived], SigningPoll(ID, OPENID, NOW + 120, 5, 2, True, DRAFT, True)),
        (POLLING, EVENT[PingReceived], Polling(ID, OPENID, NOW + 120, 5, 2, True, True, True)),
        (PINGED, EVENT[PollSent], Polling(ID, OPENID, NOW + 120, 5, 2, True, True, False)),
        (PINGED, EVENT[PollDrafted], SigningPoll(ID, OPENID, NOW + 120, 5, 2, True, DRAFT, True)),
        (
            SigningPoll(ID, OPENID, NOW + 120, 5, 2, True, DRAFT, True),
            EVENT[PollSent],
            Polling(ID, OPENID, NOW + 120, 5, 2, True, True, False),
        ),
        (
            SigningPoll(ID, OPENID, NOW + 120, 5, 2, True, DRAFT, True),
            EVENT[PollFailed],
            Pending(ID, OPENID, NOW + 120, 5, NOW + 12, 3, True, True),
        ),
        (
            Polling(ID, OPENID, NOW + 120, 5, 2, True, True, True),
            EVENT[AuthorizationPending],
            Pending(ID, OPENID, NOW + 120, 5, NOW + 10, 0, False, True),
        ),
        (UNTIL_PUSHED, EVENT[PushRejected], UNTIL_PUSHED),
        (UNTIL_PUSHED, EVENT[TokensIssued], Authenticated(TOKENS)),
        (UNTIL_PUSHED, EVENT[UserDenied], Denied(NO)),
        (UNTIL_PUSHED, EVENT[ErrorPushed], Failed(GONE_WRONG)),
        (
            UNTIL_PUSHED,
            EVENT[TokensReceived],
            FetchingKeys(ID, OPENID, UNTRUSTED, NEXT, UNTIL_PUSHED),
        ),
        (
            UNTIL_PUSHED,
            EVENT[TokensHeld],
            AwaitingKeys(ID, OPENID, UNTRUSTED, NEXT, NOW + 30, UNTIL_PUSHED),
        ),
        (PUSHED, EVENT[PushRejected], UNTIL_PUSHED),
        (PUSHED, EVENT[TokensIssued], Authenticated(TOKENS)),
        (
            PUSHED,
            EVENT[KeyRequestFailed],
            AwaitingKeys(ID, OPENID, UNTRUSTED, NEXT, NOW + 30, UNTIL_PUSHED),
        ),
        (
            PUSH_AWAITS,
            EVENT[KeyRequestSent],
            FetchingKeys(ID, OPENID, UNTRUSTED, NEXT, UNTIL_PUSHED),
        ),
        (PUSH_AWAITS, EVENT[PushRejected], UNTIL_PUSHED),
    ],
    ids=name,
)
def test_states_take_over_what_stays_true(state: State, event: Transition, following: State) -> None:
    """CIBA-7.4-02: identifier, what was asked for and expiry stay until the end; the rest comes anew."""
    assert advance(state, event) == following


@pytest.mark.parametrize("state", [SIGNING, SIGNING_POLL], ids=name)
def test_a_draft_is_carried_and_not_compared(state: State) -> None:
    """A draft is for the moment: the state has it, and is equal to the one that comes back without it."""
    assert isinstance(state, (SigningAuthentication, SigningPoll))
    assert state.draft is DRAFT
    assert attrs.evolve(state, draft=None) == state
    assert attrs.evolve(state, requested=MORE) != state
    event = EVENT[AuthenticationRequestDrafted if state is SIGNING else PollDrafted]
    following = advance(NEW if state is SIGNING else PENDING, event)
    assert isinstance(following, type(state))
    assert following.draft is DRAFT


AGAIN = (("scope", "openid"),)


@pytest.mark.parametrize("state", [NEW, AWAITING], ids=name)
def test_what_can_be_repeated_is_carried_until_something_comes(state: State) -> None:
    """DPOP-14: through signing, and no longer than until a callback shows that the request was taken."""
    drafted = advance(state, AuthenticationRequestDrafted(MORE, DRAFT, AGAIN))
    assert isinstance(drafted, SigningAuthentication)
    assert drafted.again is AGAIN
    asked = advance(drafted, AuthenticationRequestSent(MORE, AGAIN))
    assert isinstance(asked, AwaitingAcknowledgement)
    assert asked.again is AGAIN
    held = advance(asked, EVENT[NotificationHeld])
    assert isinstance(held, AwaitingAcknowledgement)
    assert held.again is None
    assert drafted == SigningAuthentication(MORE)
    assert asked == AwaitingAcknowledgement(MORE)


def test_no_state_has_more_than_is_true_in_it() -> None:
    """Tokens are in one state, errors in the others that end, and identifiers only while they are of use."""
    fields = {state: {*inspect.signature(state).parameters} for state in get_args(State)}
    assert {state for state in fields if "tokens" in fields[state]} == {Authenticated}
    assert {state for state in fields if "untrusted" in fields[state]} == {FetchingKeys, AwaitingKeys}
    assert {state for state in fields if "draft" in fields[state]} == {SigningAuthentication, SigningPoll}
    assert {state for state in fields if "auth_req_id" in fields[state]} == {
        Pending,
        SigningPoll,
        Polling,
        FetchingKeys,
        AwaitingKeys,
    }
    assert {state for state in fields if "error" in fields[state]} == {*get_args(TerminalState)} - {
        Authenticated
    }
    assert all(
        isinstance(state.error, CibaError)
        for state in STATES
        if isinstance(state, (Denied, Expired, Refused, Failed, Cancelled))
    )
