"""The states of one transaction, and every transition between them.

A state holds just what is true in it; there are no tokens to read from a state that has none. `TRANSITIONS`
is the whole table: `advance` obeys it, the tests walk it, and the diagram in the README is drawn from it. A
pair of state and event that is not in the table cannot happen.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final, Self, assert_never, cast

from attrs import evolve, field, frozen

from ciba_core.callbacks.notification import Notification
from ciba_core.client.config import ClientConfig
from ciba_core.client.finished_request import FinishedParameters
from ciba_core.client.request import Requested
from ciba_core.provider.draft import Draft
from ciba_core.tokens.errors import AuthenticationCancelled
from ciba_core.tokens.issued import TokenResponse
from ciba_core.tokens.signed_jwt import SignedJwt
from ciba_core.tokens.validation import id_token_of
from ciba_core.transaction.events import (
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
    StillPending,
    TokenRequestFailed,
    TokensHeld,
    TokensIssued,
    TokensReceived,
    TokensUntrusted,
    Transition,
    UserDenied,
)
from ciba_core.transaction.key_search import KeySearch
from ciba_core.values.errors import (
    AccessDenied,
    AuthenticationExpired,
    CibaError,
    ErrorResponse,
)
from ciba_core.values.secret import Guarded, Secret

__all__ = [
    "TRANSITIONS",
    "Authenticated",
    "AwaitingAcknowledgement",
    "AwaitingCallback",
    "AwaitingKeys",
    "Cancelled",
    "Denied",
    "Ended",
    "Expired",
    "Failed",
    "FetchingKeys",
    "New",
    "Pending",
    "Polling",
    "Refused",
    "SigningAuthentication",
    "SigningPoll",
    "State",
    "TerminalState",
    "advance",
    "was_pushed",
]


@frozen(weakref_slot=False)
class New:
    """Nothing was sent yet."""


@frozen(weakref_slot=False)
class SigningAuthentication:
    """The authentication request waits for signatures; nothing was sent yet."""

    requested: Requested
    draft: Draft | None = field(default=None, eq=False)
    """``None`` after a restart: a draft is not stored, and neither is what it was made of."""
    sign_by: float | None = None
    """POSIX instant from which on signatures are of no use; ``None`` where that never comes."""
    again: FinishedParameters | None = field(default=None, eq=False, repr=False)
    """The parameters to send once more if the provider asks for a nonce (RFC 9449 8); not stored either."""

    @classmethod
    def enter(cls, _state: New | AwaitingAcknowledgement, event: AuthenticationRequestDrafted) -> Self:
        """Enter from `TRANSITIONS`."""
        return cls(event.requested, event.draft, event.draft.expires_at, event.again)


@frozen(weakref_slot=False)
class AwaitingAcknowledgement:
    """The authentication request is on its way; whether the user was asked is not known."""

    requested: Requested
    """What was asked for."""
    held: Notification | None = None
    """A callback that has overtaken the acknowledgement."""
    again: FinishedParameters | None = field(default=None, eq=False, repr=False)
    """The parameters to send once more if the provider asks for a nonce (RFC 9449 8). They are ``None`` after
    a restart, since the answer is lost then, and with `held`, since a callback shows that the provider has
    accepted the request."""

    @property
    def owes_answer(self) -> bool:
        """Whether a push waits for its answer. A ping was answered when it came."""
        return self.held is not None and not self.held.is_ping

    @classmethod
    def enter(cls, state: State, event: AuthenticationRequestSent | NotificationHeld) -> Self:
        """Enter from `TRANSITIONS`."""
        if isinstance(event, AuthenticationRequestSent):
            return cls(event.requested, None, event.again)
        assert isinstance(state, cls)  # noqa: S101  # what the table says, for the type checker
        return cls(state.requested, event.notification)


@frozen(weakref_slot=False)
class AwaitingCallback:
    """The acknowledgement is lost for good; a callback under the stored token can still name the rest.

    In ping and push mode only. No acknowledgement can come any more: its exchange is over, or the process
    that made it.
    """

    requested: Requested
    give_up_at: float
    """POSIX instant until which a callback is waited for."""
    reason: str
    """What became of the acknowledgement, short and without secrets."""

    @classmethod
    def enter(cls, state: AwaitingAcknowledgement, event: CallbackAwaited) -> Self:
        """Enter from `TRANSITIONS`."""
        return cls(state.requested, event.give_up_at, event.reason)


@frozen(weakref_slot=False)
class Course:
    """How an authentication went while it was undecided: told when its time runs out."""

    faults: int = 0
    """Polls, in all, that brought no answer to go by."""
    last_polls: tuple[str, ...] = ()
    """How the last polls ended, three at most, the latest at the end."""
    push_rejected: str | None = None
    """Why a push was turned away."""

    def told(self) -> dict[str, Any]:
        """Return what `AuthenticationExpired` tells of it."""
        return {
            "faults": self.faults,
            "last_polls": self.last_polls,
            "push_rejected": self.push_rejected,
        }

    def after(self, event: StillPending) -> Course:
        """Return the course after one more poll."""
        last_polls, push_rejected = self.last_polls, self.push_rejected
        if isinstance(event, PollFailed):
            return Course(self.faults + 1, (*last_polls[-2:], event.reason), push_rejected)
        code = _CODES[type(event)]
        if last_polls.count(code) == _POLLS_TOLD:
            return self
        return Course(self.faults, (*last_polls[-2:], code), push_rejected)


_CODES: Final[dict[type[StillPending], str]] = {
    AuthorizationPending: "authorization_pending",
    SlowDown: "slow_down",
    DpopNonceRequired: "use_dpop_nonce",
}
_POLLS_TOLD: Final = 3
_UNEVENTFUL: Final = Course()


@frozen(weakref_slot=False)
class _Undecided:
    """The part that is common to all states in which the user's decision is open."""

    auth_req_id: Secret
    requested: Requested
    expires_at: float
    """POSIX instant after which nothing is sent any more."""
    interval: float
    """Seconds from one poll to the next, at least."""


@frozen(weakref_slot=False)
class Pending(_Undecided):
    """The user is being asked; the next poll, if one is planned, comes at `next_poll_at`."""

    next_poll_at: float | None
    """POSIX instant; may lie after `expires_at`. ``None`` while a callback is waited for and nothing else."""
    faults: int = 0
    """Polls in a row that brought no answer to go by."""
    answer_lost: bool = False
    """Whether tokens may have been issued in an answer that never arrived."""
    pinged: bool = False
    """Whether a ping has come, after which the client polls."""
    intercepted: int = 0
    """Polls, since the provider itself answered last, that something in front of it has answered."""
    course: Course = field(default=_UNEVENTFUL, eq=False)  # told, and decides nothing

    @classmethod
    def enter(
        cls,
        state: AwaitingAcknowledgement
        | AwaitingCallback
        | Pending
        | SigningPoll
        | Polling
        | FetchingKeys
        | AwaitingKeys,
        event: AuthReqIdIssued | AuthReqIdRecovered | StillPending | PingReceived | PushRejected,
    ) -> Pending:
        """Enter from `TRANSITIONS`."""
        if isinstance(event, StillPending):
            assert isinstance(state, (Pending, SigningPoll, Polling))  # noqa: S101  # what the table says, as below
            return cls(
                auth_req_id=state.auth_req_id,
                requested=state.requested,
                expires_at=state.expires_at,
                interval=event.interval,
                next_poll_at=event.next_poll_at,
                faults=event.faults,
                answer_lost=event.answer_lost,
                pinged=state.pinged,
                intercepted=event.intercepted if isinstance(event, PollFailed) else 0,
                course=state.course.after(event),
            )
        if isinstance(event, AuthReqIdIssued):
            return cls(
                auth_req_id=event.auth_req_id,
                requested=state.requested,
                expires_at=event.expires_at,
                interval=event.interval,
                next_poll_at=event.next_poll_at,
            )
        if isinstance(event, AuthReqIdRecovered):
            return cls(event.auth_req_id, state.requested, event.expires_at, event.interval, None)
        if isinstance(event, PushRejected):
            back_to = state.back_to if isinstance(state, (FetchingKeys, AwaitingKeys)) else state
            assert isinstance(back_to, Pending)  # noqa: S101  # rejected tokens were pushed
            return evolve(back_to, course=evolve(back_to.course, push_rejected=str(event.error)))
        assert isinstance(state, Pending)  # noqa: S101
        return evolve(state, next_poll_at=event.poll_at, pinged=True)


@frozen(weakref_slot=False)
class SigningPoll(_Undecided):
    """A poll waits for signatures."""

    faults: int
    answer_lost: bool
    draft: Draft | None = field(default=None, eq=False)
    """``None`` after a restart: a draft is not stored."""
    pinged: bool = False
    sign_by: float | None = None
    """POSIX instant from which on signatures are of no use; ``None`` where that never comes."""
    intercepted: int = 0
    course: Course = field(default=_UNEVENTFUL, eq=False)  # told, and decides nothing

    @classmethod
    def enter(cls, state: Pending | SigningPoll, event: PollDrafted | PingReceived) -> SigningPoll:
        """Enter from `TRANSITIONS`."""
        if isinstance(event, PingReceived):
            assert isinstance(state, SigningPoll)  # noqa: S101  # what the table says, for the type checker
            return evolve(state, pinged=True)
        return cls(
            auth_req_id=state.auth_req_id,
            requested=state.requested,
            expires_at=state.expires_at,
            interval=state.interval,
            faults=state.faults,
            answer_lost=state.answer_lost,
            draft=event.draft,
            pinged=state.pinged,
            sign_by=event.draft.expires_at,
            intercepted=state.intercepted,
            course=state.course,
        )


@frozen(weakref_slot=False)
class Polling(_Undecided):
    """A poll is on its way; there is never a second one beside it (CIBA Core 10.1)."""

    faults: int
    answer_lost: bool
    pinged: bool = False
    poll_again: bool = False
    """Whether a ping came while the poll was under way, so that another one follows it at once."""
    intercepted: int = 0
    course: Course = field(default=_UNEVENTFUL, eq=False)  # told, and decides nothing

    @classmethod
    def enter(cls, state: Pending | SigningPoll | Polling, event: PollSent | PingReceived) -> Polling:
        """Enter from `TRANSITIONS`."""
        if isinstance(event, PingReceived):
            assert isinstance(state, Polling)  # noqa: S101  # what the table says, for the type checker
            return evolve(state, pinged=True, poll_again=True)
        return cls(
            auth_req_id=state.auth_req_id,
            requested=state.requested,
            expires_at=state.expires_at,
            interval=state.interval,
            faults=state.faults,
            answer_lost=state.answer_lost,
            pinged=state.pinged,
            poll_again=False,
            intercepted=state.intercepted,
            course=state.course,
        )


@frozen(weakref_slot=False)
class _Unvalidated:
    """The part that is common to all states in which tokens wait for the key of their ID Token."""

    auth_req_id: Secret
    requested: Requested
    untrusted: Guarded[TokenResponse]
    search: KeySearch
    """How often, and how long, the keys are asked for."""

    def id_token(self, client: ClientConfig) -> SignedJwt:
        """Return the ID Token, whose key is searched for."""
        # Tokens without an ID Token need no key and never reach this state; the cast is for the type checker.
        return cast("SignedJwt", id_token_of(self.untrusted, client))


@frozen(weakref_slot=False)
class FetchingKeys(_Unvalidated):
    """Tokens have come; the provider's key set is on its way, without which they are not handed out."""

    back_to: Pending | None = None
    """The state to go back to if pushed tokens do not pass their checks; ``None`` for polled ones."""

    @property
    def owes_answer(self) -> bool:
        """Whether a push waits for its answer. It gets one when the first wait for the keys begins."""
        return was_pushed(self) and not self.search.has_waited

    @classmethod
    def enter(cls, state: Polling | Pending | AwaitingKeys, event: TokensReceived | KeyRequestSent) -> Self:
        """Enter from `TRANSITIONS`."""
        if isinstance(event, TokensReceived):
            back_to = state if isinstance(state, Pending) else None
            return cls(state.auth_req_id, state.requested, event.untrusted, event.search, back_to)
        assert isinstance(state, AwaitingKeys)  # noqa: S101  # what the table says, for the type checker
        return cls(state.auth_req_id, state.requested, state.untrusted, event.search, state.back_to)


@frozen(weakref_slot=False)
class AwaitingKeys(_Unvalidated):
    """Tokens have come, and the key to validate them by is not to be had yet; the next try is planned."""

    next_try_at: float
    """POSIX instant."""
    back_to: Pending | None = None

    @classmethod
    def enter(cls, state: Polling | Pending | FetchingKeys, event: TokensHeld | KeyRequestFailed) -> Self:
        """Enter from `TRANSITIONS`."""
        if isinstance(event, TokensHeld):
            untrusted, back_to = event.untrusted, state if isinstance(state, Pending) else None
        else:
            assert isinstance(state, FetchingKeys)  # noqa: S101  # what the table says, for the type checker
            untrusted, back_to = state.untrusted, state.back_to
        return cls(state.auth_req_id, state.requested, untrusted, event.search, event.next_try_at, back_to)


@frozen(weakref_slot=False)
class Ended:
    """The base of the final states: no transition leads on from them."""


@frozen(weakref_slot=False)
class Authenticated(Ended):
    """The end: the user approved and here are the tokens."""

    tokens: TokenResponse

    @classmethod
    def enter(cls, _state: State, event: TokensIssued) -> Self:
        """Enter from `TRANSITIONS`."""
        return cls(event.tokens)


@frozen(weakref_slot=False)
class Denied(Ended):
    """The end: the user said no."""

    error: AccessDenied

    @classmethod
    def enter(cls, _state: State, event: UserDenied) -> Self:
        """Enter from `TRANSITIONS`."""
        return cls(event.error)


@frozen(weakref_slot=False)
class Expired(Ended):
    """The end: the user did not decide in time."""

    error: AuthenticationExpired

    @classmethod
    def enter(cls, _state: State, event: AuthReqIdExpired) -> Self:
        """Enter from `TRANSITIONS`."""
        return cls(event.error)


@frozen(weakref_slot=False)
class Refused(Ended):
    """The end: the provider did not accept the authentication request; nobody was asked."""

    error: ErrorResponse

    @classmethod
    def enter(cls, _state: State, event: AuthenticationRefused) -> Self:
        """Enter from `TRANSITIONS`."""
        return cls(event.error)


@frozen(weakref_slot=False)
class Failed(Ended):
    """The end: a fault of the transport, the protocol or the configuration; `error` says which."""

    error: CibaError

    @classmethod
    def enter(
        cls,
        _state: State,
        event: AuthenticationRequestFailed | TokenRequestFailed | TokensUntrusted | ErrorPushed,
    ) -> Self:
        """Enter from `TRANSITIONS`."""
        return cls(event.error)


@frozen(weakref_slot=False)
class Cancelled(Ended):
    """The end: the application gave up."""

    error: AuthenticationCancelled

    @classmethod
    def enter(cls, state: State, _event: CancelRequested) -> Self:
        """Enter from `TRANSITIONS`."""
        untrusted = state.untrusted if isinstance(state, (FetchingKeys, AwaitingKeys)) else None
        return cls(
            AuthenticationCancelled("the application cancelled the authentication", untrusted=untrusted)
        )


def was_pushed(state: Polling | Pending | FetchingKeys | AwaitingKeys) -> bool:
    """Tell whether tokens that are there in a state were pushed, and not polled for."""
    match state:
        case Polling():
            return False
        case Pending():
            # No poll is under way.
            return True
        case FetchingKeys() | AwaitingKeys():
            return state.back_to is not None
        case _:
            assert_never(state)


TerminalState = Authenticated | Denied | Expired | Refused | Failed | Cancelled
State = (
    New
    | SigningAuthentication
    | AwaitingAcknowledgement
    | AwaitingCallback
    | Pending
    | SigningPoll
    | Polling
    | FetchingKeys
    | AwaitingKeys
    | TerminalState
)

TRANSITIONS: Final = MappingProxyType[tuple[type[State], type[Transition]], type[State]](
    {
        (New, AuthenticationRequestSent): AwaitingAcknowledgement,
        (New, AuthenticationRequestDrafted): SigningAuthentication,
        (New, AuthenticationRequestFailed): Failed,
        (New, CancelRequested): Cancelled,
        (SigningAuthentication, AuthenticationRequestSent): AwaitingAcknowledgement,
        (SigningAuthentication, AuthenticationRequestFailed): Failed,
        (SigningAuthentication, CancelRequested): Cancelled,
        (AwaitingAcknowledgement, NotificationHeld): AwaitingAcknowledgement,
        (AwaitingAcknowledgement, AuthenticationRequestSent): AwaitingAcknowledgement,
        (AwaitingAcknowledgement, AuthenticationRequestDrafted): SigningAuthentication,
        (AwaitingAcknowledgement, AuthReqIdIssued): Pending,
        (AwaitingAcknowledgement, AuthenticationRefused): Refused,
        (AwaitingAcknowledgement, AuthenticationRequestFailed): Failed,
        (AwaitingAcknowledgement, CallbackAwaited): AwaitingCallback,
        (AwaitingAcknowledgement, CancelRequested): Cancelled,
        (AwaitingCallback, AuthReqIdRecovered): Pending,
        (AwaitingCallback, AuthenticationRequestFailed): Failed,
        (AwaitingCallback, CancelRequested): Cancelled,
        (Pending, PollSent): Polling,
        (Pending, PollDrafted): SigningPoll,
        (Pending, PollFailed): Pending,
        (Pending, PingReceived): Pending,
        (Pending, TokensIssued): Authenticated,
        (Pending, TokensReceived): FetchingKeys,
        (Pending, TokensHeld): AwaitingKeys,
        (Pending, PushRejected): Pending,
        (Pending, UserDenied): Denied,
        (Pending, ErrorPushed): Failed,
        (Pending, AuthReqIdExpired): Expired,
        (Pending, CancelRequested): Cancelled,
        (SigningPoll, PollSent): Polling,
        (SigningPoll, PollFailed): Pending,
        (SigningPoll, PingReceived): SigningPoll,
        (SigningPoll, AuthReqIdExpired): Expired,
        (SigningPoll, CancelRequested): Cancelled,
        (Polling, AuthorizationPending): Pending,
        (Polling, SlowDown): Pending,
        (Polling, DpopNonceRequired): Pending,
        (Polling, PollFailed): Pending,
        (Polling, PingReceived): Polling,
        (Polling, TokensIssued): Authenticated,
        (Polling, TokensReceived): FetchingKeys,
        (Polling, TokensHeld): AwaitingKeys,
        (Polling, TokensUntrusted): Failed,
        (Polling, UserDenied): Denied,
        (Polling, AuthReqIdExpired): Expired,
        (Polling, TokenRequestFailed): Failed,
        (Polling, CancelRequested): Cancelled,
        (FetchingKeys, TokensIssued): Authenticated,
        (FetchingKeys, TokensUntrusted): Failed,
        (FetchingKeys, PushRejected): Pending,
        (FetchingKeys, KeyRequestFailed): AwaitingKeys,
        (FetchingKeys, CancelRequested): Cancelled,
        (AwaitingKeys, KeyRequestSent): FetchingKeys,
        (AwaitingKeys, TokensIssued): Authenticated,
        (AwaitingKeys, TokensUntrusted): Failed,
        (AwaitingKeys, PushRejected): Pending,
        (AwaitingKeys, CancelRequested): Cancelled,
    }
)
"""From a state and an event to the next state."""


def advance(state: State, event: Transition) -> State:
    """Return the state that follows.

    Raises:
        KeyError: the table has no such transition. That is a bug of the caller, which decides by the state
            what an input means.

    """
    # The table pairs each target with the states and events that its `enter` takes; the tests walk it.
    target: Any = TRANSITIONS[type(state), type(event)]
    following: State = target.enter(state, event)
    return following
