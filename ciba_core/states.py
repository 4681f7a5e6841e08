"""The machine: the states of one transaction and every transition between them.

A state holds just what is true in it; there are no tokens to read from a state that has none. `TRANSITIONS`
is the whole machine: `advance` obeys it, the tests walk it, and the diagram in the README is drawn from it. A
pair of state and event that is not in the table cannot happen.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final, Self

from attrs import field, frozen

from ciba_core.authentication_request import Requested
from ciba_core.draft import Draft
from ciba_core.errors import (
    AccessDenied,
    AuthenticationCancelled,
    AuthenticationExpired,
    CibaError,
    ErrorResponse,
)
from ciba_core.events import (
    AuthenticationRefused,
    AuthenticationRequestDrafted,
    AuthenticationRequestFailed,
    AuthenticationRequestSent,
    AuthorizationPending,
    AuthReqIdExpired,
    AuthReqIdIssued,
    CancelRequested,
    DpopNonceRequired,
    KeyRequestFailed,
    KeyRequestSent,
    PollDrafted,
    PollFailed,
    PollSent,
    SlowDown,
    StillPending,
    TokenRequestFailed,
    TokensIssued,
    TokensReceived,
    TokensUntrusted,
    Transition,
    UserDenied,
)
from ciba_core.secret import Guarded, Secret
from ciba_core.token_response import TokenResponse

__all__ = [
    "TRANSITIONS",
    "Authenticated",
    "AwaitingAcknowledgement",
    "AwaitingKeys",
    "Cancelled",
    "Denied",
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

    @classmethod
    def enter(cls, _state: New, event: AuthenticationRequestDrafted) -> Self:
        """Enter from `TRANSITIONS`."""
        return cls(event.requested, event.draft)


@frozen(weakref_slot=False)
class AwaitingAcknowledgement:
    """The authentication request is on its way; whether the user was asked is not known."""

    requested: Requested
    """What was asked for."""

    @classmethod
    def enter(cls, _state: State, event: AuthenticationRequestSent) -> Self:
        """Enter from `TRANSITIONS`."""
        return cls(event.requested)


@frozen(weakref_slot=False)
class Pending:
    """The user is being asked; the next poll comes at `next_poll_at`."""

    auth_req_id: Secret
    requested: Requested
    expires_at: float
    """POSIX instant after which nothing is sent any more."""
    interval: float
    """Seconds from one poll to the next, at least."""
    next_poll_at: float
    """POSIX instant; may lie after `expires_at`."""
    faults: int = 0
    """Polls in a row that brought no answer to go by."""
    answer_lost: bool = False
    """Whether tokens may have been issued in an answer that never arrived."""

    @classmethod
    def enter(
        cls,
        state: AwaitingAcknowledgement | Polling | SigningPoll,
        event: AuthReqIdIssued | StillPending,
    ) -> Self:
        """Enter from `TRANSITIONS`."""
        if isinstance(event, AuthReqIdIssued):
            return cls(
                event.auth_req_id, state.requested, event.expires_at, event.interval, event.next_poll_at
            )
        # What the table says, for the type checker.
        assert isinstance(state, (Polling, SigningPoll))  # noqa: S101
        return cls(
            state.auth_req_id,
            state.requested,
            state.expires_at,
            event.interval,
            event.next_poll_at,
            event.faults,
            event.answer_lost,
        )


@frozen(weakref_slot=False)
class SigningPoll:
    """A poll waits for signatures."""

    auth_req_id: Secret
    requested: Requested
    expires_at: float
    interval: float
    faults: int
    answer_lost: bool
    draft: Draft | None = field(default=None, eq=False)
    """``None`` after a restart: a draft is not stored."""

    @classmethod
    def enter(cls, state: Pending, event: PollDrafted) -> Self:
        """Enter from `TRANSITIONS`."""
        return cls(
            state.auth_req_id,
            state.requested,
            state.expires_at,
            state.interval,
            state.faults,
            state.answer_lost,
            event.draft,
        )


@frozen(weakref_slot=False)
class Polling:
    """A poll is on its way; there is never a second one beside it (CIBA Core 10.1)."""

    auth_req_id: Secret
    requested: Requested
    expires_at: float
    interval: float
    faults: int
    answer_lost: bool

    @classmethod
    def enter(cls, state: Pending | SigningPoll, _event: PollSent) -> Self:
        """Enter from `TRANSITIONS`."""
        return cls(
            state.auth_req_id,
            state.requested,
            state.expires_at,
            state.interval,
            state.faults,
            state.answer_lost,
        )


@frozen(weakref_slot=False)
class FetchingKeys:
    """Tokens have come; the provider's key set is on its way, without which they are not handed out."""

    auth_req_id: Secret
    requested: Requested
    untrusted: Guarded[TokenResponse]
    give_up_at: float
    """POSIX instant after which the keys are not asked for any more."""
    faults: int = 0
    """Tries so far that brought no key set."""

    @classmethod
    def enter(cls, state: Polling | AwaitingKeys, event: TokensReceived | KeyRequestSent) -> Self:
        """Enter from `TRANSITIONS`."""
        if isinstance(event, TokensReceived):
            return cls(state.auth_req_id, state.requested, event.untrusted, event.give_up_at)
        assert isinstance(state, AwaitingKeys)  # noqa: S101  # what the table says, for the type checker
        return cls(state.auth_req_id, state.requested, state.untrusted, state.give_up_at, state.faults)


@frozen(weakref_slot=False)
class AwaitingKeys:
    """Tokens have come, the key set could not be fetched; the next try comes at `next_try_at`."""

    auth_req_id: Secret
    requested: Requested
    untrusted: Guarded[TokenResponse]
    give_up_at: float
    next_try_at: float
    """POSIX instant."""
    faults: int

    @classmethod
    def enter(cls, state: FetchingKeys, event: KeyRequestFailed) -> Self:
        """Enter from `TRANSITIONS`."""
        return cls(
            state.auth_req_id,
            state.requested,
            state.untrusted,
            state.give_up_at,
            event.next_try_at,
            event.faults,
        )


@frozen(weakref_slot=False)
class Authenticated:
    """The end: the user approved and here are the tokens."""

    tokens: TokenResponse

    @classmethod
    def enter(cls, _state: State, event: TokensIssued) -> Self:
        """Enter from `TRANSITIONS`."""
        return cls(event.tokens)


@frozen(weakref_slot=False)
class Denied:
    """The end: the user said no."""

    error: AccessDenied

    @classmethod
    def enter(cls, _state: State, event: UserDenied) -> Self:
        """Enter from `TRANSITIONS`."""
        return cls(event.error)


@frozen(weakref_slot=False)
class Expired:
    """The end: the user did not decide in time."""

    error: AuthenticationExpired

    @classmethod
    def enter(cls, _state: State, event: AuthReqIdExpired) -> Self:
        """Enter from `TRANSITIONS`."""
        return cls(event.error)


@frozen(weakref_slot=False)
class Refused:
    """The end: the provider did not accept the authentication request; nobody was asked."""

    error: ErrorResponse

    @classmethod
    def enter(cls, _state: State, event: AuthenticationRefused) -> Self:
        """Enter from `TRANSITIONS`."""
        return cls(event.error)


@frozen(weakref_slot=False)
class Failed:
    """The end: a fault of the transport, the protocol or the configuration; `error` says which."""

    error: CibaError

    @classmethod
    def enter(
        cls, _state: State, event: AuthenticationRequestFailed | TokenRequestFailed | TokensUntrusted
    ) -> Self:
        """Enter from `TRANSITIONS`."""
        return cls(event.error)


@frozen(weakref_slot=False)
class Cancelled:
    """The end: the application gave up."""

    error: AuthenticationCancelled

    @classmethod
    def enter(cls, _state: State, _event: CancelRequested) -> Self:
        """Enter from `TRANSITIONS`."""
        return cls(AuthenticationCancelled("the application cancelled the authentication"))


State = (
    New
    | SigningAuthentication
    | AwaitingAcknowledgement
    | Pending
    | SigningPoll
    | Polling
    | FetchingKeys
    | AwaitingKeys
    | Authenticated
    | Denied
    | Expired
    | Refused
    | Failed
    | Cancelled
)
TerminalState = Authenticated | Denied | Expired | Refused | Failed | Cancelled

TRANSITIONS: Final = MappingProxyType[tuple[type[State], type[Transition]], type[State]](
    {
        (New, AuthenticationRequestSent): AwaitingAcknowledgement,
        (New, AuthenticationRequestDrafted): SigningAuthentication,
        (New, CancelRequested): Cancelled,
        (SigningAuthentication, AuthenticationRequestSent): AwaitingAcknowledgement,
        (SigningAuthentication, AuthenticationRequestFailed): Failed,
        (SigningAuthentication, CancelRequested): Cancelled,
        (AwaitingAcknowledgement, AuthReqIdIssued): Pending,
        (AwaitingAcknowledgement, AuthenticationRefused): Refused,
        (AwaitingAcknowledgement, AuthenticationRequestFailed): Failed,
        (AwaitingAcknowledgement, CancelRequested): Cancelled,
        (Pending, PollSent): Polling,
        (Pending, PollDrafted): SigningPoll,
        (Pending, AuthReqIdExpired): Expired,
        (Pending, CancelRequested): Cancelled,
        (SigningPoll, PollSent): Polling,
        (SigningPoll, PollFailed): Pending,
        (SigningPoll, AuthReqIdExpired): Expired,
        (SigningPoll, CancelRequested): Cancelled,
        (Polling, AuthorizationPending): Pending,
        (Polling, SlowDown): Pending,
        (Polling, DpopNonceRequired): Pending,
        (Polling, PollFailed): Pending,
        (Polling, TokensIssued): Authenticated,
        (Polling, TokensReceived): FetchingKeys,
        (Polling, TokensUntrusted): Failed,
        (Polling, UserDenied): Denied,
        (Polling, AuthReqIdExpired): Expired,
        (Polling, TokenRequestFailed): Failed,
        (Polling, CancelRequested): Cancelled,
        (FetchingKeys, TokensIssued): Authenticated,
        (FetchingKeys, TokensUntrusted): Failed,
        (FetchingKeys, KeyRequestFailed): AwaitingKeys,
        (FetchingKeys, CancelRequested): Cancelled,
        (AwaitingKeys, KeyRequestSent): FetchingKeys,
        (AwaitingKeys, TokensUntrusted): Failed,
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
