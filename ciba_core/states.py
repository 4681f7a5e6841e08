"""The machine: the states of one transaction and every transition between them.

A state holds just what is true in it; there are no tokens to read from a state that has none. `TRANSITIONS`
is the whole machine: `advance` obeys it, the tests walk it, and the diagram in the README is drawn from it. A
pair of state and event that is not in the table cannot happen.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final, Self

from attrs import frozen

from ciba_core.errors import (
    AccessDenied,
    AuthenticationCancelled,
    AuthenticationExpired,
    CibaError,
    ErrorResponse,
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
    StillPending,
    TokenRequestFailed,
    TokensIssued,
    Transition,
    UserDenied,
)
from ciba_core.secret import Secret
from ciba_core.token_response import TokenResponse

__all__ = [
    "TRANSITIONS",
    "Authenticated",
    "AwaitingAcknowledgement",
    "Cancelled",
    "Denied",
    "Expired",
    "Failed",
    "New",
    "Pending",
    "Polling",
    "Refused",
    "State",
    "TerminalState",
    "advance",
]


@frozen(weakref_slot=False)
class New:
    """Nothing was sent yet."""


@frozen(weakref_slot=False)
class AwaitingAcknowledgement:
    """The authentication request is on its way; whether the user was asked is not known."""

    scope: str
    """The requested scope, which holds for the tokens unless the provider names another."""

    @classmethod
    def enter(cls, _state: State, event: AuthenticationRequestSent) -> Self:
        """Enter from `TRANSITIONS`."""
        return cls(event.scope)


@frozen(weakref_slot=False)
class Pending:
    """The user is being asked; the next poll comes at `next_poll_at`."""

    auth_req_id: Secret
    scope: str
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
    def enter(cls, state: AwaitingAcknowledgement | Polling, event: AuthReqIdIssued | StillPending) -> Self:
        """Enter from `TRANSITIONS`."""
        if isinstance(event, AuthReqIdIssued):
            return cls(event.auth_req_id, state.scope, event.expires_at, event.interval, event.next_poll_at)
        assert isinstance(state, Polling)  # noqa: S101  # what the table says, for the type checker
        return cls(
            state.auth_req_id,
            state.scope,
            state.expires_at,
            event.interval,
            event.next_poll_at,
            event.faults,
            event.answer_lost,
        )


@frozen(weakref_slot=False)
class Polling:
    """A poll is on its way; there is never a second one beside it (CIBA Core 10.1)."""

    auth_req_id: Secret
    scope: str
    expires_at: float
    interval: float
    faults: int
    answer_lost: bool

    @classmethod
    def enter(cls, state: Pending, _event: PollSent) -> Self:
        """Enter from `TRANSITIONS`."""
        return cls(
            state.auth_req_id,
            state.scope,
            state.expires_at,
            state.interval,
            state.faults,
            state.answer_lost,
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
    def enter(cls, _state: State, event: AuthenticationRequestFailed | TokenRequestFailed) -> Self:
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
    | AwaitingAcknowledgement
    | Pending
    | Polling
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
        (New, CancelRequested): Cancelled,
        (AwaitingAcknowledgement, AuthReqIdIssued): Pending,
        (AwaitingAcknowledgement, AuthenticationRefused): Refused,
        (AwaitingAcknowledgement, AuthenticationRequestFailed): Failed,
        (AwaitingAcknowledgement, CancelRequested): Cancelled,
        (Pending, PollSent): Polling,
        (Pending, AuthReqIdExpired): Expired,
        (Pending, CancelRequested): Cancelled,
        (Polling, AuthorizationPending): Pending,
        (Polling, SlowDown): Pending,
        (Polling, PollFailed): Pending,
        (Polling, TokensIssued): Authenticated,
        (Polling, UserDenied): Denied,
        (Polling, AuthReqIdExpired): Expired,
        (Polling, TokenRequestFailed): Failed,
        (Polling, CancelRequested): Cancelled,
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
