"""How long a driver waits, and how long an exchange took, by clocks that cannot be set."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Final

from ciba_core import Input, NotificationReceived, Transaction
from ciba_core.states import Pending

__all__ = ["NAP", "Stopwatch", "Wait", "request_leaves", "suspend_counting_clock"]

NAP: Final = 10.0
"""Seconds after which a long wait looks at the clock, since no `sleep` counts a suspension."""


def suspend_counting_clock() -> Callable[[], float] | None:
    """Return a clock that cannot be set; it counts suspension if the system has such a clock."""
    boot_time: int | None = getattr(time, "CLOCK_BOOTTIME", None)  # Linux
    if boot_time is None and sys.platform == "darwin":
        boot_time = time.CLOCK_MONOTONIC  # unlike `time.monotonic()` there
    if boot_time is not None:
        number = boot_time
        return lambda: time.clock_gettime(number)
    return time.monotonic if sys.platform == "win32" else None


class Wait:
    """The wait for a deadline, counted from when the deadline was set.

    An input that does not change the deadline does not change the wait either, even if the wall clock is set.
    Time for which the machine was suspended counts.

    Args:
        wall: the wall clock, in POSIX seconds.
        monotonic: the clock to count by.
        counts_suspension: whether `monotonic` goes on while the machine is suspended. If it does not, a jump
            of the wall clock counts as suspension, but only in ping mode's wait of hours for the one poll
            without a ping: that poll does no harm if it comes too soon. Such a jump never makes an
            authentication expire.

    """

    def __init__(
        self, wall: Callable[[], float], monotonic: Callable[[], float], *, counts_suspension: bool = True
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._counts_suspension = counts_suspension
        self._deadline: float | None = None
        self._since = self._due = 0.0
        self._pending: Pending | None = None

    def count(self, deadline: float | None, now: float, happened: Input | None = None) -> None:
        """Count the wait for the deadline of a step that was made at `now`, after what happened."""
        if deadline == self._deadline and isinstance(happened, NotificationReceived):
            return
        self._deadline, self._pending = deadline, None
        self._since = self._monotonic()
        self._due = self._since + (0.0 if deadline is None else max(deadline - now, 0.0))

    def watch(self, transaction: Transaction) -> None:
        """Note the kind of wait, in case the machine is suspended."""
        state, client = transaction.state, transaction.client
        by_ping = client.backchannel_token_delivery_mode not in {"poll", "push"}
        unasked = by_ping and not client.polling.beside_ping and not transaction.polls
        if not self._counts_suspension and unasked and isinstance(state, Pending):
            self._pending = state

    @property
    def left(self) -> float:
        """Seconds that are left; 0 when the wait is over."""
        now = self._monotonic()
        if self._pending is not None and now - self._since >= self._pending.interval:
            fallback = self._pending.next_poll_at
            if fallback is not None and fallback <= self._wall() < self._pending.expires_at:
                return 0.0
        return max(self._due - now, 0.0)


class Stopwatch:
    """Measures an exchange from when its request leaves."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._left_at: float | None = None

    def start(self) -> None:
        """Begin anew: the request leaves now."""
        self._left_at = self._monotonic()

    @property
    def elapsed(self) -> float | None:
        """Seconds since the request left; ``None`` if the transport did not report that it left."""
        return None if self._left_at is None else self._monotonic() - self._left_at

    @contextlib.contextmanager
    def running(self) -> Generator[None]:
        """Let `request_leaves` start this stopwatch, in this thread or task and in those that it starts."""
        before = _running.set(self)
        try:
            yield
        finally:
            _running.reset(before)


_running: ContextVar[Stopwatch | None] = ContextVar("ciba stopwatch", default=None)


def request_leaves() -> None:
    """Note that the connection is there and the request goes out over it.

    A transport calls this in `send`, in the thread or task that it was called in. If it sends a request anew,
    because the stack had chosen a connection that was closed, it calls this again. A transport that cannot
    tell does not call it: the interval between polls then counts from the answer, even after a poll that the
    provider held.
    """
    stopwatch = _running.get()
    if stopwatch is not None:
        stopwatch.start()
