"""Clocks for the simulated provider: what it asks of one, and one that needs no waiting."""

from __future__ import annotations

import threading
from typing import Protocol

__all__ = ["Clock", "VirtualClock"]


class Clock(Protocol):
    """What the simulated provider asks of a clock.

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

    def time(self) -> float:
        """Return the wall clock as POSIX seconds."""
        with self._lock:
            return self._wall_at_zero + self._elapsed

    def monotonic(self) -> float:
        """Return the seconds slept so far."""
        with self._lock:
            return self._elapsed

    def sleep(self, seconds: float, /) -> None:
        """Move both clocks on by `seconds`, without waiting.

        Raises:
            ValueError: `seconds` is negative.

        """
        if seconds < 0:
            raise ValueError("seconds must not be negative")
        with self._lock:
            self._elapsed += seconds

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward, or back if `seconds` is negative; the monotonic clock stays."""
        with self._lock:
            self._wall_at_zero += seconds

    def __repr__(self) -> str:
        return f"<VirtualClock {self.time()}>"
