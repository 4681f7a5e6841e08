"""What a driver tells a transaction. Each is handed to `step` together with the time."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from ciba_core.callbacks.notification import Notification
from ciba_core.client.request import AuthenticationRequest
from ciba_core.values import check
from ciba_core.values.http import Delivery, HttpResponse
from ciba_core.values.json import is_array_of

__all__ = [
    "Begin",
    "Cancel",
    "Input",
    "NotificationReceived",
    "RequestFailed",
    "ResponseReceived",
    "Resumed",
    "SignaturesMade",
    "SigningFailed",
    "TimerFired",
]


def _check_sequence(_instance: Any, attribute: Any, value: Any) -> None:
    # The signatures come from a key service. They are checked when they are used.
    if not is_array_of(value, object):
        raise TypeError(f"{attribute.name} must be a tuple, not {type(value).__name__}")


@frozen(weakref_slot=False)
class Begin:
    """Send this authentication request. Only a new transaction takes it, and only once."""

    request: AuthenticationRequest = field(validator=check.a(AuthenticationRequest))


@frozen(weakref_slot=False)
class ResponseReceived:
    """The answer to a request has arrived whole."""

    request_id: int
    """`HttpRequest.id` of the request that it answers."""
    response: HttpResponse = field(validator=check.a(HttpResponse))
    elapsed: float | None = None
    """Seconds from when the request left, over a connection that was there, to when its answer had come, by
    a monotonic clock. They tell whether the provider held a poll for longer than the interval (long polling,
    CIBA Core 10.1). The wait for a connection (name resolution, TCP, TLS, a place in the stack's pool) is no
    part of them. ``None`` where the stack does not tell when the request left: the interval counts from the
    answer then."""


@frozen(weakref_slot=False)
class RequestFailed:
    """A request brought no whole answer: no connection, a time-out, a connection lost half-way."""

    request_id: int
    """`HttpRequest.id` of the request."""
    delivery: Delivery = field(validator=check.a(Delivery))
    """Whether the provider may have received it."""
    reason: str
    """A short name for people and logs, such as the class name of the stack's exception; no secrets."""
    elapsed: float | None = None
    """Seconds from when the request left to its failure, as in `ResponseReceived`; ``None`` also where it
    never left."""


@frozen(weakref_slot=False)
class NotificationReceived:
    """The provider called the client notification endpoint; see `ciba_core.callbacks.routing.receive`."""

    notification: Notification = field(validator=check.a(Notification))


@frozen(weakref_slot=False)
class SignaturesMade:
    """The signatures that a step asked for by its draft."""

    draft_id: int
    """`Draft.id`."""
    signatures: tuple[bytes, ...] = field(validator=_check_sequence, repr=False)
    """One signature for each of `Draft.jwts`, in their order, in the form of JWS (RFC 7518 3). A signature of
    another form, such as DER, counts as a failure to sign."""


@frozen(weakref_slot=False)
class SigningFailed:
    """The signatures that a step asked for could not be made. A poll is tried again later, drafted anew."""

    draft_id: int
    """`Draft.id`."""
    reason: str
    """A short name for people and logs; no secrets."""


@frozen(weakref_slot=False)
class TimerFired:
    """The wait for `Transaction.deadline` is over.

    It is trusted for the wait, whatever the wall clock says by now: wait the difference between the deadline
    and the `now` of the last step on a monotonic clock. A timer for a deadline that is no longer the
    transaction's is ignored.
    """

    deadline: float
    """The `Transaction.deadline` (POSIX seconds) that was waited for."""


@frozen(weakref_slot=False)
class Resumed:
    """The transaction was restored from a snapshot: whatever was in flight is lost with its process."""


@frozen(weakref_slot=False)
class Cancel:
    """The application gives up. An answer that is still under way will be ignored."""


Input = (
    Begin
    | ResponseReceived
    | RequestFailed
    | NotificationReceived
    | SignaturesMade
    | SigningFailed
    | TimerFired
    | Resumed
    | Cancel
)
