"""Clocks for the simulated provider: the interface, a virtual clock, and a clock for real time."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from attrs import define, field

__all__ = ["Clock", "RealClock", "SchedulingClock", "VirtualClock"]


class Clock(Protocol):
    """The clock that the simulated provider needs.

    The standard module ``time`` satisfies it as it is: ``SimulatedProvider(time, ...)`` lives in real time.
    """

    def time(self) -> float:
        """Return the wall clock as POSIX seconds."""
        ...

    def monotonic(self) -> float:
        """Return seconds since some fixed instant; never jumps."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Let so many seconds pass."""
        ...


@runtime_checkable
class SchedulingClock(Clock, Protocol):
    """A clock that calls functions at given instants, as callbacks of ping and push mode need it."""

    def call_at(self, instant: float, function: Callable[[], object]) -> None:
        """Call a function once, at an instant of the monotonic clock, or soon if that is over."""
        ...


@define(order=True)
class _Call:
    instant: float
    number: int
    function: Callable[[], object] = field(order=False)


class _Agenda:
    """Calls in the order of their instants; calls for one instant in the order in which they were added."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._numbers = itertools.count()

    def add(self, instant: float, function: Callable[[], object]) -> None:
        heapq.heappush(self._calls, _Call(instant, next(self._numbers), function))

    @property
    def next_instant(self) -> float | None:
        return self._calls[0].instant if self._calls else None

    def pop(self, until: float) -> _Call | None:
        """Take the next call, unless its instant is after `until`."""
        return heapq.heappop(self._calls) if self._calls and self._calls[0].instant <= until else None


class VirtualClock:
    """A wall clock and a monotonic clock that move only when told to.

    `sleep` returns at once and moves both clocks on, so that an hour of polling takes milliseconds. One
    clock is shared by a client, a provider and the test around them. Safe to use from several threads.

    Args:
        start: the wall clock at the beginning, in POSIX seconds; the monotonic clock begins at 0.

    """

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._lock = threading.Lock()
        self._wall_at_zero = start
        self._elapsed = 0.0
        self._agenda = _Agenda()

    def time(self) -> float:
        """Return the wall clock as POSIX seconds."""
        with self._lock:
            return self._wall_at_zero + self._elapsed

    def monotonic(self) -> float:
        """Return the seconds slept so far."""
        with self._lock:
            return self._elapsed

    def call_at(self, instant: float, function: Callable[[], object]) -> None:
        """Have `sleep` call a function when the monotonic clock comes to an instant.

        If the instant is over, or is the present one, the next `sleep` makes the call, even one of 0 seconds.
        Calls come in the order of their instants, in the thread that sleeps.
        """
        with self._lock:
            self._agenda.add(instant, function)

    def sleep(self, seconds: float, /, until: Callable[[], bool] | None = None) -> None:
        """Move both clocks on by `seconds`, without waiting, and make the calls of `call_at` on the way.

        If such a call sleeps, its sleep is part of these seconds and not added to them.

        Args:
            seconds: how far to go.
            until: asked at first and after each call; once it is true, the clocks stop.

        Raises:
            ValueError: `seconds` is negative.

        """
        if seconds < 0:
            raise ValueError("seconds must not be negative")
        left = seconds
        while until is None or not until():
            with self._lock:
                call = self._agenda.pop(self._elapsed + left)
                stop = self._elapsed + left if call is None else max(call.instant, self._elapsed)
                left -= stop - self._elapsed
                self._elapsed = stop
            if call is None:
                return
            call.function()
            left = max(left - (self.monotonic() - stop), 0.0)

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward, or back if `seconds` is negative; the monotonic clock stays."""
        with self._lock:
            self._wall_at_zero += seconds

    def __repr__(self) -> str:
        return f"<VirtualClock {self.time()}>"


class RealClock:
    """The clocks of the module ``time``, with a thread that makes the calls of `call_at`.

    For a provider in real time that sends callbacks::

        with RealClock() as clock, LoopbackServer() as server:
            provider = SimulatedProvider(clock, issuer=server.url, deliver=CallbackSender(), ...)

    Calls are made one after the other. An exception in one is raised, with the others, at the end of the
    ``with`` block. Calls that are not due by then are dropped.
    """

    def __init__(self) -> None:
        self._agenda = _Agenda()
        self._changed = threading.Condition()
        self._closed = False
        self._errors: list[Exception] = []
        self._thread = threading.Thread(target=self._run, name="RealClock", daemon=True)
        self._thread.start()

    def time(self) -> float:
        """Return the wall clock as POSIX seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Return the monotonic clock in seconds."""
        return time.monotonic()

    def sleep(self, seconds: float, /) -> None:
        """Wait for so many seconds."""
        time.sleep(seconds)

    def call_at(self, instant: float, function: Callable[[], object]) -> None:
        """Call a function in the clock's thread, at an instant of the monotonic clock or soon after."""
        with self._changed:
            self._agenda.add(instant, function)
            self._changed.notify()

    @property
    def errors(self) -> tuple[Exception, ...]:
        """Exceptions that calls have raised."""
        return tuple(self._errors)

    def close(self) -> None:
        """Make no further call, and wait for the one under way. May be called more than once."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (call := self._wait_for_call()) is not None:
            try:
                call.function()
            except Exception as error:  # noqa: BLE001  # raised again at the end of the with block
                self._errors.append(error)

    def _wait_for_call(self) -> _Call | None:
        """Return the next call once it is due; ``None`` at the end."""
        with self._changed:
            while not self._closed:
                if (call := self._agenda.pop(time.monotonic())) is not None:
                    return call
                due = self._agenda.next_instant
                self._changed.wait(None if due is None else max(due - time.monotonic(), 0.0))
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        if self.errors and error is None:
            raise ExceptionGroup("what a RealClock was told to call failed", self.errors)
