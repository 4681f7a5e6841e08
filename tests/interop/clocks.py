"""A clock for the interop tests; all others tell real time."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["StoppedClock"]


class StoppedClock:
    """The clock of a client that does not notice how late it is."""

    def time(self) -> float:
        return 1_800_000_000.0

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float, /, until: Callable[[], bool] | None = None) -> None:
        """Nothing is waited for in these tests."""
