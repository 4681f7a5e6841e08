"""What a client needs of an HTTP stack, and of a clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ciba_core.http import Delivery, HttpRequest, HttpResponse

__all__ = ["AsyncTransport", "Clock", "SendFailed", "SyncTransport"]


class SendFailed(Exception):
    """An exchange brought no complete answer.

    `reason` is a short name without secrets, such as the class name of the stack's own exception.
    """

    def __init__(self, delivery: Delivery, reason: str) -> None:
        super().__init__(reason)
        self.delivery = delivery
        self.reason = reason


class SyncTransport(Protocol):
    """What a sync client needs of an HTTP stack."""

    def send(self, request: HttpRequest) -> HttpResponse:
        """Send the request as it stands and return the answer, or raise `SendFailed`."""
        ...


class AsyncTransport(Protocol):
    """What an async client needs of an HTTP stack."""

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send the request as it stands and return the answer, or raise `SendFailed`."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait that many seconds; the event loop can cancel it."""
        ...


class Clock(Protocol):
    """Where a client takes the time from, for tests in virtual time.

    `ciba_core.testing.VirtualClock` is one. Its `sleep` lets the time pass and returns at once.
    """

    def time(self) -> float:
        """Return the wall clock in POSIX seconds."""
        ...

    def monotonic(self) -> float:
        """Return seconds from any origin that never go back."""
        ...

    def sleep(self, seconds: float, /, until: Callable[[], bool] | None = None) -> None:
        """Let that many seconds pass, or fewer if something happens on the way that makes `until` true."""
        ...
