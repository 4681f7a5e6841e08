"""How another thread ends a sync call: the wait between requests, and the request that is under way."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, Protocol, TypeVar

__all__ = ["Abandoned", "Cancellation", "Exchange", "current_exchange"]

ResultT = TypeVar("ResultT")

_CLOSING: Final = 1.0
"""Seconds to wait for a stack to close a socket that was shut down under it. It takes a millisecond."""

_running = threading.local()


class Abandoned(Exception):
    """The call that an exchange belongs to was cancelled: nothing more is to be sent for it."""


class _Socket(Protocol):
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class Exchange:
    """A request under way: the connection it uses, which another thread can shut down."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._abandoned = False

    @property
    def connected(self) -> bool:
        """Whether the connection is known."""
        return self._socket is not None

    def go_on(self) -> None:
        """Raise `Abandoned` if the call was cancelled."""
        if self._abandoned:
            raise Abandoned

    def use(self, connection: _Socket) -> None:
        """Note the connection; or, if the call was cancelled meanwhile, close it and raise `Abandoned`."""
        # A descriptor of its own, for the same connection: TLS takes the stack's away from the socket it
        # wraps, and once the stack has closed its own, the number may be that of another file.
        own = socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM)
        with self._lock:
            self._close()
            if not self._abandoned:
                self._socket = own
                return
        # Not shut down: `ssl` takes such a socket for one not connected yet, and goes on without a handshake.
        own.close()
        connection.close()
        raise Abandoned

    def leave(self) -> None:
        """Forget the connection, before the stack may give it to another exchange."""
        with self._lock:
            self._close()

    def abandon(self) -> bool:
        """Shut the connection down, which wakes whoever reads or writes; return whether there was one."""
        with self._lock:
            self._abandoned = True
            if self._socket is not None:
                with contextlib.suppress(OSError):  # the peer was first
                    self._socket.shutdown(socket.SHUT_RDWR)
            return self.connected

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def current_exchange() -> Exchange | None:
    """Return the exchange of the cancellable call that this thread works for."""
    return getattr(_running, "exchange", None)


class Cancellation:
    """Ends a sync call from another thread: hand it to the call, and call `cancel()` to stop it.

    A wait between polls ends at once. So does a request that is under way, and its connection is closed; the
    session goes on, with its other connections. Where there is no connection yet (during name resolution,
    TCP's connecting, the wait for a place in the session's pool) the call returns at once too, and nothing is
    sent; what cannot be interrupted ends in a thread of its own, by its time-out at the latest.

    A connection of HTTP/2, which other requests may share, stays open, and so does one of an adapter or a
    transport of another kind than the stack's own, or of a stack of your own: the call returns at once, and a
    thread of its own waits for the answer.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._cancelled = False
        self._left = False

    def leave(self) -> None:
        """Stop waiting, and leave the login as it is, to be resumed; safe from any thread.

        For calls that keep their state in stores. A request that is under way is brought to its end, and what
        comes of it is stored. Other calls take no notice.
        """
        with self._changed:
            self._left = True
            self._changed.notify_all()

    @property
    def left(self) -> bool:
        """Whether `leave` was called."""
        return self._left

    def cancel(self) -> None:
        """Cancel; safe from any thread and any number of times."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Wait that many seconds, until `cancel` is called, or until `until` is true.

        `until` is asked at first and after each `wake`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or self._left or until(), seconds)

    def wake(self) -> None:
        """Have the wait ask again; safe from any thread."""
        with self._changed:
            self._changed.notify_all()

    def call(self, function: Callable[[], ResultT]) -> ResultT | None:
        """Return the function's result, or ``None`` as soon as `cancel` is called.

        It is not called at all if that was before.
        """
        if self._cancelled:
            return None
        exchange = Exchange()
        outcomes: list[Future[ResultT]] = []

        def work() -> None:
            _running.exchange = exchange
            outcome = _outcome(function)
            exchange.leave()
            with self._changed:
                if not self._cancelled:  # else it is a consequence of that
                    outcomes.append(outcome)
                    self._changed.notify_all()

        thread = threading.Thread(target=work, name="ciba request", daemon=True)
        try:
            thread.start()
            with self._changed:
                self._changed.wait_for(lambda: outcomes or self._cancelled)
        finally:
            # Also where an exception ends the wait, such as that of Ctrl+C.
            if exchange.abandon():
                thread.join(_CLOSING)
        return outcomes[0].result() if outcomes else None


def _outcome(function: Callable[[], ResultT]) -> Future[ResultT]:
    future: Future[ResultT] = Future()
    try:
        future.set_result(function())
    except BaseException as error:  # noqa: BLE001  # raised in the thread that waits for it
        future.set_exception(error)
    return future
