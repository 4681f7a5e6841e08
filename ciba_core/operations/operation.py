"""The contract of what is driven beside transactions: refresh, revocation, UserInfo, discovery.

Each is a value. `Operation.start` and `Operation.proceed` return steps of the shape that a transaction has,
so that one loop drives all of them::

    current = Refresh(tokens, client=client, provider=provider).start(now, shared)
    while not current.is_finished:
        if current.request is not None:
            happened = ...  # send it: ResponseReceived(...) or RequestFailed(...)
        else:
            ...  # wait `current.deadline - now` seconds
            happened = TimerFired(current.deadline)
        current = proceed(current, happened, now)
    current.error or current.result

An operation is over in a moment, so it cannot be stored. After a fault nothing is sent again.

Input that is late or comes twice is ignored: the answer to an older request, signatures for an older draft, a
timer that no longer counts, whatever comes after the end. To name a request or a draft that was never issued
is a wrong call. `Cancel` gives an operation up at any point; the error says how far it had come, with the
reason ``cancelled``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final, Generic, TypeVar, assert_never

from attrs import evolve, field, frozen

from ciba_core.provider.draft import Draft
from ciba_core.provider.shared import NOTHING_SHARED, Shared
from ciba_core.transaction.events import AnswerHeaders
from ciba_core.transaction.inputs import (
    Begin,
    Cancel,
    Input,
    NotificationReceived,
    RequestFailed,
    ResponseReceived,
    Resumed,
    SignaturesMade,
    SigningFailed,
    TimerFired,
)
from ciba_core.values import check
from ciba_core.values.errors import CibaError, LocalProtocolError, RequestNotSent
from ciba_core.values.http import HttpRequest
from ciba_core.values.lenient import ProviderDeviation

__all__ = ["CANCELLED", "Awaited", "Done", "Operation", "OperationInput", "OperationStep", "Progress"]

ResultT = TypeVar("ResultT")
OperationInput = ResponseReceived | RequestFailed | SignaturesMade | SigningFailed | TimerFired | Cancel
"""The inputs of an operation. The other inputs of a transaction raise `LocalProtocolError`."""
Awaited = ResponseReceived | RequestFailed | SignaturesMade | SigningFailed | TimerFired
"""An input that the operation was waiting for: neither late nor repeated."""
CANCELLED: Final = "cancelled"
"""The `reason` in the error of an operation that was given up; its class says how far it had come."""


@frozen(weakref_slot=False)
class Done(Generic[ResultT]):
    """The result, when all went well."""

    result: ResultT


@frozen(weakref_slot=False)
class Progress(Generic[ResultT]):
    """How far an operation has come."""

    issued: tuple[int, ...] = ()
    """The `id` of each request that was issued."""
    drafted: tuple[int, ...] = ()
    """The `id` of each draft that was made."""
    in_flight: HttpRequest | Draft | None = field(default=None, repr=False)
    """The request that is to be answered, or the draft that is to be signed."""
    wait_until: float | None = None
    """POSIX instant of the end of a wait, while there is one."""
    outcome: Done[ResultT] | CibaError | None = field(default=None, repr=False)
    """The end, once it has come."""

    @property
    def last(self) -> int:
        """The number of the last request or draft, or 0."""
        return max((*self.issued, *self.drafted), default=0)

    def sent(self, what: HttpRequest | Draft) -> Progress[ResultT]:
        """Return the progress with this request, or draft, in flight."""
        if isinstance(what, Draft):
            return evolve(self, drafted=(*self.drafted, what.id), in_flight=what, wait_until=None)
        return evolve(self, issued=(*self.issued, what.id), in_flight=what, wait_until=None)

    def waiting(self, until: float) -> Progress[ResultT]:
        """Return the progress with nothing in flight until an instant."""
        return evolve(self, in_flight=None, wait_until=until)

    def finished(self, outcome: Done[ResultT] | CibaError) -> Progress[ResultT]:
        """Return the progress at the end."""
        return evolve(self, in_flight=None, wait_until=None, outcome=outcome)


_NOT_STARTED: Final = Progress[Any]()


@frozen(weakref_slot=False)
class OperationStep(Generic[ResultT]):
    """The result of an input. It has the shape of `Step`, with the operation in place of the transaction."""

    operation: Operation[ResultT]
    """The next value of the operation; the old one is of no more use."""
    request: HttpRequest | None = None
    """The one request to send now, if any."""
    draft: Draft | None = None
    """A request that needs signatures, as `Step.draft`."""
    shared: Shared = NOTHING_SHARED
    """Everything known about the provider now, as `Step.shared`."""
    events: tuple[ProviderDeviation | AnswerHeaders, ...] = ()
    """Where the provider deviates from the standards, and was understood all the same; header fields of the
    answer that the client wants to know of."""

    @property
    def deadline(self) -> float | None:
        """See `Operation.deadline`."""
        return self.operation.deadline

    @property
    def is_finished(self) -> bool:
        """Whether the operation has come to its end, good or bad."""
        return self.operation.is_finished

    @property
    def result(self) -> ResultT | None:
        """The result, once the operation has succeeded. A `Revocation` has none."""
        return self.operation.result

    @property
    def error(self) -> CibaError | None:
        """Why the operation failed, if it did."""
        return self.operation.error


@frozen(kw_only=True, weakref_slot=False)
class Operation(ABC, Generic[ResultT]):
    """What the operations have in common. Immutable: each step has the next value of the operation."""

    progress: Progress[ResultT] = field(default=_NOT_STARTED, repr=False)
    """How far it has come; not for callers to set."""

    @property
    def deadline(self) -> float | None:
        """POSIX instant at which to feed `TimerFired`, or ``None`` while there is nothing to wait for.

        Wait by a monotonic clock, for as long as it is from the `now` of the last step to this instant. While
        a draft is being signed, this is the instant from which on its signatures are of no use.
        """
        in_flight = self.progress.in_flight
        return in_flight.expires_at if isinstance(in_flight, Draft) else self.progress.wait_until

    @property
    def is_finished(self) -> bool:
        """Whether the operation has come to its end, good or bad."""
        return self.progress.outcome is not None

    @property
    def result(self) -> ResultT | None:
        """The result, once the operation has succeeded. A `Revocation` has none."""
        outcome = self.progress.outcome
        return outcome.result if isinstance(outcome, Done) else None

    @property
    def error(self) -> CibaError | None:
        """Why the operation failed, if it did."""
        outcome = self.progress.outcome
        return outcome if isinstance(outcome, CibaError) else None

    def start(self, now: float, shared: Shared = NOTHING_SHARED) -> OperationStep[ResultT]:
        """Begin.

        Args:
            now: POSIX seconds.
            shared: what is known of the provider.

        Raises:
            LocalProtocolError: the provider has no such endpoint, the tokens lack something that is needed,
                `now` is not finite, or the operation was started already. Nothing was sent.

        """
        check.now(now)
        if self.progress != _NOT_STARTED:
            raise LocalProtocolError("the operation was started already")
        return self._begin(now, shared)

    def proceed(
        self,
        input: Input,  # noqa: A002  # the word of the design
        now: float,
        shared: Shared = NOTHING_SHARED,
    ) -> OperationStep[ResultT]:
        """Go on with what came of the request, the draft or the wait of the last step.

        Args:
            input: what happened; one of `OperationInput`.
            now: POSIX seconds.
            shared: what is known of the provider.

        Raises:
            LocalProtocolError: there was no such request or draft, an operation takes no such input, `now` is
                not finite, or `elapsed` is negative; the operation is unchanged.

        """
        check.now(now)
        in_flight = self.progress.in_flight
        match input:
            case ResponseReceived() | RequestFailed():
                if input.request_id not in self.progress.issued:
                    raise LocalProtocolError(f"no request {input.request_id} was issued")
                check.elapsed(input.elapsed)
                if isinstance(in_flight, HttpRequest) and input.request_id == in_flight.id:
                    return self._go_on(input, now, shared)
            case SignaturesMade() | SigningFailed():
                if input.draft_id not in self.progress.drafted:
                    raise LocalProtocolError(f"no draft {input.draft_id} was made")
                if isinstance(in_flight, Draft) and input.draft_id == in_flight.id:
                    return self._go_on(input, now, shared)
            case TimerFired():
                if input.deadline == self.deadline:
                    return self._go_on(input, now, shared)
            case Cancel():
                if self.progress == _NOT_STARTED:
                    error = RequestNotSent("the operation was given up before it began", reason=CANCELLED)
                    return self._finished(error, shared)
                if not self.is_finished:
                    return self._finished(self._cancelled(), shared)
            case Begin() | NotificationReceived() | Resumed():
                raise LocalProtocolError(f"an operation takes no {type(input).__name__}")
            case _:
                assert_never(input)
        # The input is late, or came for the second time.
        return OperationStep(self, shared=shared)

    @abstractmethod
    def _begin(self, now: float, shared: Shared) -> OperationStep[ResultT]:
        """Issue the first request, or raise `LocalProtocolError`."""

    @abstractmethod
    def _go_on(self, input: Awaited, now: float, shared: Shared) -> OperationStep[ResultT]:  # noqa: A002
        """Go on with what the operation was waiting for."""

    @abstractmethod
    def _cancelled(self) -> CibaError:
        """Return the error of an operation that is given up, which says how far it had come."""

    def _sent(
        self, what: HttpRequest | Draft, shared: Shared, *events: ProviderDeviation, **changes: Any
    ) -> OperationStep[ResultT]:
        after = evolve(self, progress=self.progress.sent(what), **changes)
        if isinstance(what, Draft):
            return OperationStep(after, draft=what, shared=shared, events=events)
        return OperationStep(after, what, shared=shared, events=events)

    def _finished(
        self, outcome: Done[ResultT] | CibaError, shared: Shared, *events: ProviderDeviation, **changes: Any
    ) -> OperationStep[ResultT]:
        after = evolve(self, progress=self.progress.finished(outcome), **changes)
        return OperationStep(after, shared=shared, events=events)
