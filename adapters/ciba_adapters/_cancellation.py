"""Ends a sync call: from another thread, or at the time limit of its request."""

from __future__ import annotations

import contextlib
import contextvars
import os
import queue
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, Protocol, TypeVar

from ciba_adapters.transport import SendFailed
from ciba_core.values.http import Delivery, HttpRequest, HttpResponse

__all__ = ["Abandoned", "Cancellation", "Exchange", "Leavable", "bounded", "current_exchange"]

ResultT = TypeVar("ResultT")

_CLOSING: Final = 1.0
"""Seconds to wait for a stack to close a socket that this module has shut down. It takes a millisecond."""

_SETTLING: Final = 0.1
"""The same, for an exchange that ran out of time."""
_DRAINED: Final = 1024
"""How often to read the octets left in a socket, 64 KiB at a time."""

_IDLE: Final = 5.0
"""Seconds for which an idle thread waits for another exchange."""
_BUSY: Final = "ciba request"

_running = threading.local()


class Abandoned(Exception):
    """The exchange's call was cancelled, or ran out of time: send nothing more."""


class _Socket(Protocol):
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class Exchange:
    """A request under way: its progress, and its connection, which another thread can shut down."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._abandoned = False
        self.placed = False
        """Whether the stack has begun to connect, or has a connection: the wait for a place is over."""
        self.sending = False
        """Whether the first octet of the request may have been written."""

    @property
    def connected(self) -> bool:
        """Whether the connection is known."""
        return self._socket is not None

    @property
    def delivery(self) -> Delivery:
        """Whether the provider may have received the request."""
        return Delivery.UNKNOWN if self.sending else Delivery.NOT_SENT

    @property
    def overdue(self) -> str:
        """The reason to give when the time is over."""
        if self.sending:
            return "timed out"
        return "timed out connecting" if self.placed else "timed out waiting for a free connection"

    def go_on(self) -> None:
        """Raise `Abandoned` if the call has ended."""
        if self._abandoned:
            raise Abandoned

    def begin(self) -> None:
        """Note that the first octet is about to be written; or, if the call has ended, raise `Abandoned`."""
        with self._lock:
            self.go_on()
            self.placed = self.sending = True

    def use(self, connection: _Socket) -> None:
        """Note the connection; or, if the call has ended meanwhile, close it and raise `Abandoned`."""
        # Keep a descriptor of our own for the connection. TLS takes the stack's descriptor away from the
        # socket it wraps, and after the stack has closed it, its number may belong to another file.
        own = socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM)
        with self._lock:
            self._close()
            if not self._abandoned:
                self._socket = own
                return
        # Do not shut the socket down: `ssl` would take it for one not connected yet, and skip the handshake.
        own.close()
        connection.close()
        raise Abandoned

    def leave(self) -> None:
        """Forget the connection, before the stack may give it to another exchange."""
        with self._lock:
            self._close()

    def abandon(self) -> bool:
        """Shut the connection down, which wakes its reader or writer; return whether there was one."""
        with self._lock:
            self._abandoned = True
            if self._socket is not None:
                with contextlib.suppress(OSError):  # the peer was first
                    self._socket.shutdown(socket.SHUT_RDWR)
                    # The stack could still read the octets that have arrived, and megabytes of interim
                    # answers take time.
                    self._socket.setblocking(False)
                    for _ in range(_DRAINED):
                        if not self._socket.recv(1 << 16):
                            break
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

    A wait between polls ends at once. So does a request that is under way: its connection is closed, and the
    session's other connections stay. If there is no connection yet (during name resolution, TCP's connecting,
    the wait for a place in the session's pool), the call returns at once too, and nothing is sent. A step
    that cannot be interrupted ends in a thread of its own, by its time-out at the latest.

    Some connections stay open: those of HTTP/2, which other requests may share, those of adapters or
    transports other than the stack's own, and those of a stack of your own. The call still returns at once,
    and a separate thread waits for the answer.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._cancelled = False
        self._left = False

    def leave(self) -> None:
        """Stop waiting, and leave the login so that it can be resumed; safe from any thread.

        For calls that keep their state in stores. A request that is under way is brought to its end, and its
        outcome is stored. Other calls ignore this.
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

    @property
    def ended(self) -> bool:
        """Whether waits have to end."""
        return self._cancelled

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Wait that many seconds, until `cancel` is called, or until `until` is true.

        `until` is asked at first and after each `wake`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or until(), seconds)

    def wake(self) -> None:
        """Have the wait ask again; safe from any thread."""
        with self._changed:
            self._changed.notify_all()

    def call(self, function: Callable[[], ResultT]) -> ResultT | None:
        """Return the function's result, or ``None`` as soon as `cancel` is called.

        If `cancel` was called before, the function is not called at all.
        """
        if self._cancelled:
            return None
        exchange = Exchange()
        outcomes: list[Future[ResultT]] = []

        ended = threading.Event()

        def done(outcome: Future[ResultT]) -> None:
            ended.set()
            with self._changed:
                if not self._cancelled:  # otherwise the error is a consequence of the cancellation
                    outcomes.append(outcome)
                    self._changed.notify_all()

        try:
            _run(function, exchange, done)
            with self._changed:
                self._changed.wait_for(lambda: outcomes or self._cancelled)
        finally:
            # Do this also if an exception ends the wait, such as that of Ctrl+C.
            if exchange.abandon():
                ended.wait(_CLOSING)
        return outcomes.pop().result() if outcomes else None


class Leavable:
    """The waits of a call that can be left: both `cancel` and `leave` of its `Cancellation` end them."""

    def __init__(self, cancellation: Cancellation) -> None:
        self._cancellation = cancellation

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Wait as `Cancellation.wait` does, or until the call is left."""
        self._cancellation.wait(seconds, lambda: self._cancellation.left or until())

    @property
    def ended(self) -> bool:
        """Whether waits have to end."""
        return self._cancellation.ended or self._cancellation.left

    def wake(self) -> None:
        """Have the wait ask again; safe from any thread."""
        self._cancellation.wake()


def bounded(request: HttpRequest, function: Callable[[Exchange], HttpResponse]) -> HttpResponse:
    """Make an exchange and return its result, or give it up when its time is over.

    The exchange runs in a thread of its own, since no stack can be interrupted everywhere, for example in
    name resolution. When the time is over, the connection is shut down, which ends the thread too. If there
    is no connection yet, the thread ends when its present wait does, and sends nothing.

    Args:
        request: its time limits, for connecting and for the whole exchange, apply.
        function: makes the exchange.

    Raises:
        SendFailed: there was no complete answer in time, or the function raised this.

    """
    exchange = current_exchange() or Exchange()
    outcomes: list[Future[HttpResponse]] = []
    ended = threading.Event()

    def done(outcome: Future[HttpResponse]) -> None:
        outcomes.append(outcome)
        ended.set()

    connecting = min(request.connect_timeout, request.timeout)
    try:
        _run(lambda: function(exchange), exchange, done)
        if ended.wait(connecting) or (exchange.sending and ended.wait(request.timeout - connecting)):
            return outcomes.pop().result()
    finally:
        # Do this also if an exception ends the wait, such as that of Ctrl+C. Ignore the function's result
        # after that: the function cannot tell the end of the connection from the end of the answer.
        if not ended.is_set() and exchange.abandon():
            ended.wait(_SETTLING)
    raise SendFailed(exchange.delivery, exchange.overdue)


class _Worker(threading.Thread):
    """Does one job after the other, since a new thread costs more; ends when no job has come for a while."""

    _idle: Final[list[_Worker]] = []
    _lock = threading.Lock()

    def __init__(self) -> None:
        super().__init__(name=_BUSY, daemon=True)
        self._jobs = queue.SimpleQueue[Callable[[], object]]()

    @classmethod
    def do(cls, job: Callable[[], object]) -> None:
        """Have a job done."""
        with cls._lock:
            worker = cls._idle.pop() if cls._idle else None
        if worker is None:
            worker = cls()
            worker.start()
        worker.name = _BUSY
        worker._jobs.put(job)

    @classmethod
    def forget(cls) -> None:
        """Forget the workers of the process that this one was forked from."""
        cls._idle.clear()
        cls._lock = threading.Lock()  # another thread may have held it

    def run(self) -> None:
        while True:
            try:
                self._jobs.get(timeout=_IDLE)()
            except queue.Empty:
                with self._lock:
                    if self in self._idle:
                        self._idle.remove(self)
                        return
                continue  # a job is on its way
            self.name = "ciba idle"
            with self._lock:
                self._idle.append(self)


if hasattr(os, "register_at_fork"):  # on systems that fork
    os.register_at_fork(after_in_child=_Worker.forget)


def _run(
    function: Callable[[], ResultT], exchange: Exchange, done: Callable[[Future[ResultT]], None]
) -> None:
    """Have a thread call a function, in the present context, and hand on the result or the exception."""

    def work() -> None:
        _running.exchange = exchange
        try:
            outcome = _returned(function())
        except BaseException as error:  # noqa: BLE001  # raised in the thread that waits for it
            exchange.leave()
            # Keep the future out of every frame: the reference cycle would keep the connection's pool alive.
            done(_raised(error))
        else:
            exchange.leave()
            done(outcome)

    context = contextvars.copy_context()
    _Worker.do(lambda: context.run(work))


def _returned(result: ResultT) -> Future[ResultT]:
    future: Future[ResultT] = Future()
    future.set_result(result)
    return future


def _raised(error: BaseException) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future
