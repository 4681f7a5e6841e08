"""The interfaces that a client needs of an HTTP stack and of a clock.

A transport sends one request and returns its answer. The core decides what is sent, and whether it is sent
again. The core relies on these rules:

- The request goes out exactly as it is, with the header fields that the message itself needs (`HttpRequest`):
  no cookies, no credentials of the session. The server's certificate is verified.
- No redirect is followed, and nothing is sent a second time.
- `HttpRequest.timeout` bounds the whole exchange: connection, header and body, however slowly the octets
  come. Getting the connection takes `HttpRequest.connect_timeout` of it at most.
- Octets that arrived on a kept connection before the request was written are not its answer.
- Of a body, `HttpRequest.response_limit` octets and one more are read, and no further.
- The transport calls `request_leaves` when the connection is there and the request goes out. That
  distinguishes a poll that the provider held from one that had to wait for a connection (CIBA Core 10.1).
- An answer is final (no 1xx) and whole. Any other end is `SendFailed`. Its delivery is `Delivery.NOT_SENT`
  only if nothing of the request can have reached the provider.

`ciba_core.testing.check_driver` checks a client that uses the transport.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ciba_adapters._pace import request_leaves
from ciba_core.values.http import Delivery, HttpRequest, HttpResponse

__all__ = ["AsyncTransport", "Clock", "SendFailed", "SyncTransport", "request_leaves"]


class SendFailed(Exception):
    """An exchange brought no complete answer.

    Raise it outside of the handler of the stack's own exception, so that it has no ``__context__``: that
    exception may hold the request.

    Args:
        delivery: whether the provider may have received the request.
        reason: a short name without secrets, such as the class name of the stack's own exception.

    """

    def __init__(self, delivery: Delivery, reason: str) -> None:
        super().__init__(reason)
        self.delivery = delivery
        self.reason = reason


class SyncTransport(Protocol):
    """Sends requests for a sync client."""

    def send(self, request: HttpRequest) -> HttpResponse:
        """Send the request as it stands and return the answer; called from several threads at once.

        Raises:
            SendFailed: there was no complete answer.

        """
        ...


class AsyncTransport(Protocol):
    """Sends requests for an async client, under asyncio or trio."""

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send the request as it stands and return the answer; called from several tasks at once.

        Cancelled by the event loop, it closes the connection.

        Raises:
            SendFailed: there was no complete answer.

        """
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait that many seconds; the event loop can cancel it."""
        ...


class Clock(Protocol):
    """The clock of a client, for tests in virtual time.

    `ciba_core.testing.VirtualClock` is one. Its `sleep` lets the time pass and returns at once.
    """

    def time(self) -> float:
        """Return the wall clock in POSIX seconds."""
        ...

    def monotonic(self) -> float:
        """Return seconds since any fixed instant; they never go back."""
        ...

    def sleep(self, seconds: float, /, until: Callable[[], bool] | None = None) -> None:
        """Let that many seconds pass, or fewer if `until` becomes true on the way."""
        ...
