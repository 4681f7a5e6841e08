"""The client notification endpoint on a port of its own, under asyncio or trio: no web server is needed.

::

    async with Listener(endpoint, path="/ciba", host="0.0.0.0", port=8443, ssl_context=context):
        tokens = await ciba.authenticate(request)

It serves one path and keeps everything within limits: the number of connections, the size of header and body,
and the time that each phase of a connection may take. When all places are taken, a connection that has sent
nothing useful is closed for a new one, so that a client which opens many connections cannot keep callbacks
out.
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
import ssl
from collections import Counter
from collections.abc import Generator, Sequence
from email.utils import formatdate
from functools import lru_cache, partial
from time import monotonic, time
from types import TracebackType
from typing import Final, Self, cast

from attrs import define, field

from ciba_adapters._exchange import Body
from ciba_adapters._missing import missing_extra
from ciba_adapters.notification.endpoint import Admission, NotificationEndpoint
from ciba_core.values.http import HttpResponse

try:
    import anyio
    import h11
    from anyio.abc import ByteStream, SocketAttribute, SocketListener, SocketStream
    from anyio.streams.tls import TLSStream
except ImportError as error:
    raise missing_extra("notification", error) from error

__all__ = ["Listener"]

_CHUNK: Final = 4096
"""Octets to read at a time; a header may exceed its limit by as much."""
_TICK: Final = 1.0
"""Most seconds between two looks at the time limits; a limit can be exceeded by as much."""
_LINGER: Final = 1.0
"""Seconds for which a client that was answered early may go on sending."""
_LINGER_OCTETS: Final = 1 << 20
_PAUSE: Final = 0.1
"""Seconds to wait when a connection cannot be accepted, as when the process has too many open files."""
_GONE: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)
"""Exceptions for connections that are broken or closed by the client, TLS included."""
_TARGET: Final = re.compile(r"(?:https?://[^/?]*)?([^?]*)", re.IGNORECASE)
"""A request target in origin-form or absolute-form (RFC 9112 3.2), and its path."""
_log: Final = logging.getLogger(__name__)


class Listener:
    """A small HTTP/1.1 server that takes callbacks for an endpoint while in its context.

    At the end of the context it takes no more connections, answers the callbacks whose header has arrived,
    and closes; that takes no longer than the time limits allow. An exception of a function given to the
    endpoint, such as `not_held`, is logged and answered with 500.

    Args:
        endpoint: the endpoint that takes the callbacks.
        path: of the ``backchannel_client_notification_endpoint``, as it arrives here. Other paths get 404.
        host: address to listen at; ``None`` for all of them.
        port: port to listen at; 0 for one that is free.
        ssl_context: the certificate, and whether clients have to show one. Without it the listener speaks
            plain HTTP, which is for use behind a proxy on the same machine alone (CIBA Core 9).
        max_connections: most connections served at a time. For a further one, the listener closes the
            connection that has waited longest without a callback whose token is known; if there is none, the
            new one waits.
        max_per_address: most connections from one address. A further one replaces an idle one of the same
            address; if all are busy, it is closed. By default there is no such limit: behind a proxy, all
            connections come from one address.
        max_head: octets of a request's header.
        handshake_timeout: seconds for the TLS handshake.
        idle_timeout: seconds that a connection may wait for a request.
        head_timeout: seconds from a request's first octet to the end of its header.
        body_timeout: seconds from there to the end of its body.
        send_timeout: seconds to send an answer.

    """

    def __init__(
        self,
        endpoint: NotificationEndpoint,
        *,
        path: str,
        host: str | None,
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        max_connections: int = 100,
        max_per_address: int | None = None,
        max_head: int = 16 * 1024,
        handshake_timeout: float = 10.0,
        idle_timeout: float = 15.0,
        head_timeout: float = 5.0,
        body_timeout: float = 10.0,
        send_timeout: float = 5.0,
    ) -> None:
        self._serving = partial(
            _Service,
            endpoint=endpoint,
            max_per_address=max_per_address,
            path=path,
            max_head=max_head,
            handshake_timeout=handshake_timeout,
            idle_timeout=idle_timeout,
            head_timeout=head_timeout,
            body_timeout=body_timeout,
            send_timeout=send_timeout,
        )
        self._max_connections = max_connections
        self._host = host
        self._port = port
        self._tls = ssl_context

    @property
    def port(self) -> int:
        """The port it listens at."""
        return self._port

    async def __aenter__(self) -> Self:
        self._listeners = await anyio.create_tcp_listener(local_host=self._host, local_port=self._port)
        self._port = self._listeners.extra(SocketAttribute.local_port)  # noqa: S610  # not Django's
        self._service = self._serving(slots=anyio.Semaphore(self._max_connections))
        self._tasks = await anyio.create_task_group().__aenter__()
        self._tasks.start_soon(self._service.watch)
        for listener in cast("Sequence[SocketListener]", self._listeners.listeners):
            self._tasks.start_soon(self._accept, listener)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # Close the port first, so that a client whose connection is closed does not get another one.
            await self._listeners.aclose()
        finally:
            self._service.close()
            if error is not None and not isinstance(error, Exception):
                self._tasks.cancel_scope.cancel()
            # Do not pass the error on: it may be the outcome of a callback that has no answer yet.
            await self._tasks.__aexit__(None, None, None)

    async def _accept(self, listener: SocketListener) -> None:
        with self._service.guarding(_Guard()), contextlib.suppress(anyio.ClosedResourceError):
            while True:
                try:
                    connection = await listener.accept()
                except (OSError, anyio.BrokenResourceError):
                    await anyio.sleep(_PAUSE)
                    continue
                address = _address(connection)
                if not self._service.make_room(address):
                    await anyio.aclose_forcefully(connection)
                    continue
                try:
                    await self._service.slots.acquire()
                except BaseException:
                    await anyio.aclose_forcefully(connection)
                    raise
                self._tasks.start_soon(self._serve, connection, self._service.admit(address))

    async def _serve(self, connection: SocketStream, guard: _Guard) -> None:
        try:
            with self._service.guarding(guard), contextlib.suppress(*_GONE):
                stream: ByteStream = connection
                if self._tls is not None:
                    guard.allow(self._service.handshake_timeout)
                    # Neither side needs TLS's close_notify: every message states its length.
                    stream = await TLSStream.wrap(
                        connection, server_side=True, ssl_context=self._tls, standard_compatible=False
                    )
                await _Connection(stream, self._service, guard).serve()
        except Exception:  # noqa: BLE001  # whatever it is, the other connections go on
            _log.exception("a connection failed")
        finally:
            self._service.dismiss(guard)
            await anyio.aclose_forcefully(connection)


def _address(connection: SocketStream) -> str:
    """Return the address that a connection comes from; empty if unknown: it may be gone already."""
    try:
        address = connection.extra(SocketAttribute.remote_address, "")  # noqa: S610  # not Django's
    except OSError:
        return ""
    return address if isinstance(address, str) else str(address[0])


@define(eq=False)
class _Guard:
    """The task of a connection: its time limit, and whether it can be closed early."""

    scope: anyio.CancelScope = field(factory=anyio.CancelScope)
    until: float = math.inf
    """By the monotonic clock."""
    begun: bool = False
    """Whether it may finish even if the listener closes, or another connection needs its place."""
    useful: bool = False
    """Whether a callback has come whose token is known."""
    address: str = ""

    def allow(self, seconds: float) -> None:
        """Limit the time from now on."""
        self.until = monotonic() + seconds


@define(eq=False, kw_only=True)
class _Service:
    """The shared state of a listener's connections."""

    endpoint: NotificationEndpoint
    path: str
    max_per_address: int | None
    slots: anyio.Semaphore
    max_head: int
    handshake_timeout: float
    idle_timeout: float
    head_timeout: float
    body_timeout: float
    send_timeout: float
    _closing: bool = field(init=False, default=False)
    _guards: set[_Guard] = field(init=False, factory=set[_Guard])
    _idle: dict[_Guard, None] = field(init=False, factory=dict[_Guard, None])
    """The connections that wait for a callback; the one that has waited longest is first."""
    _of_address: Counter[str] = field(init=False, factory=Counter[str])
    _watching: anyio.CancelScope = field(init=False, factory=anyio.CancelScope)

    @property
    def keeps_alive(self) -> bool:
        """Whether a connection may stay for another request: no other connection needs its place."""
        return not self._closing and self.slots.value > 0

    async def watch(self) -> None:
        """End tasks that run out of time. One look at all is cheaper than a timer for each phase."""
        limits = (self.handshake_timeout, self.idle_timeout, self.head_timeout, self.body_timeout)
        tick = min(_TICK, self.send_timeout, *limits)
        with self._watching:
            while True:
                await anyio.sleep(tick)
                now = monotonic()
                for guard in self._guards:
                    if guard.until <= now:
                        guard.scope.cancel()

    def make_room(self, address: str) -> bool:
        """Close a connection that has sent nothing useful, if another one from an address needs its place.

        Return whether the new connection may have, or wait for, a place.
        """
        if self.max_per_address is not None and self._of_address[address] >= self.max_per_address:
            return self._close_idle(address)
        if self.slots.value == 0:
            self._close_idle(None)
        return True

    def _close_idle(self, address: str | None) -> bool:
        waiting = [guard for guard in self._idle if address in {None, guard.address}]
        if not waiting:
            return False
        found = next((guard for guard in waiting if not guard.useful), waiting[0])
        del self._idle[found]
        found.scope.cancel()
        return True

    def set_busy(self, guard: _Guard) -> None:
        """Note that a connection has sent the header of a callback."""
        guard.begun = True
        self._idle.pop(guard, None)

    def set_idle(self, guard: _Guard) -> None:
        """Note that a connection waits for a callback, or has no request under way any more."""
        self._idle[guard] = None

    def admit(self, address: str) -> _Guard:
        """Give an acquired place to a new connection."""
        guard = _Guard(address=address)
        self._of_address[address] += 1
        self.set_idle(guard)
        return guard

    def dismiss(self, guard: _Guard) -> None:
        """Take the place back."""
        self._idle.pop(guard, None)
        self._of_address[guard.address] -= 1
        if not self._of_address[guard.address]:
            del self._of_address[guard.address]
        self.slots.release()

    def close(self) -> None:
        """End the connections that wait for a request to begin."""
        self._closing = True
        for guard in self._guards:
            if not guard.begun:
                guard.scope.cancel()
        self._stop_watching()

    @contextlib.contextmanager
    def guarding(self, guard: _Guard) -> Generator[None]:
        """Guard the current task."""
        with guard.scope:
            self._guards.add(guard)
            if self._closing:
                guard.scope.cancel()
            try:
                yield
            finally:
                self._guards.discard(guard)
                self._stop_watching()

    def _stop_watching(self) -> None:
        if self._closing and not self._guards:
            self._watching.cancel()

    def answer_head(self, request: h11.Request) -> Admission | HttpResponse:
        """Judge a request by its header."""
        target = _TARGET.match(request.target.decode("latin-1"))
        if target is None or (target[1] or "/") != self.path:
            return HttpResponse(404, (), b"")
        headers = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw_items()
        ]
        try:
            return self.endpoint.check_head(request.method.decode("latin-1"), headers)
        except Exception:  # noqa: BLE001  # out of what the embedder has handed in
            return _fault()

    async def answer_body(self, admitted: Admission, body: bytes) -> HttpResponse:
        """Have the endpoint answer a request that was read."""
        try:
            return await admitted.answer(body)
        except Exception:  # noqa: BLE001  # out of what the embedder has handed in
            return _fault()


def _fault() -> HttpResponse:
    _log.exception("a callback could not be answered")
    return HttpResponse(500, (), b"")


@lru_cache(maxsize=1)
def _date(instant: int) -> str:
    return formatdate(instant, usegmt=True)


class _Connection:
    """One connection: requests one after the other."""

    def __init__(self, stream: ByteStream, service: _Service, guard: _Guard) -> None:
        self._stream = stream
        self._service = service
        self._guard = guard
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=service.max_head)

    async def serve(self) -> None:
        """Answer requests until one side closes the connection."""
        while await self._exchange():
            self._h11.start_next_cycle()
            self._guard.begun = False
            self._service.set_idle(self._guard)

    async def _exchange(self) -> bool:
        """Answer a request, and return whether there can be another."""
        try:
            head = await self._head()
            if head is None:
                return False
            response, whole = await self._answer(head)
        except h11.RemoteProtocolError as error:
            response, whole = HttpResponse(error.error_status_hint, (), b""), False
        await self._send(response, close=not whole or not self._service.keeps_alive)
        if not whole:
            self._service.set_idle(self._guard)
            await self._linger()
        return self._h11.our_state is h11.DONE

    async def _head(self) -> h11.Request | None:
        """Read a request's header; ``None`` when the client has closed the connection instead."""
        if not self._h11.trailing_data[0]:
            self._guard.allow(self._service.idle_timeout)
            await self._receive()
        self._guard.allow(self._service.head_timeout)
        head = await self._next_event()
        return head if isinstance(head, h11.Request) else None

    async def _answer(self, head: h11.Request) -> tuple[HttpResponse, bool]:
        """Return the answer to a request, and whether its body was read to the end."""
        self._service.set_busy(self._guard)
        admitted = self._service.answer_head(head)
        if isinstance(admitted, HttpResponse):
            return admitted, False
        self._guard.useful = True
        self._guard.allow(self._service.body_timeout)
        if self._h11.they_are_waiting_for_100_continue:
            proceed = h11.InformationalResponse(status_code=100, headers=[])
            await self._stream.send(self._h11.send(proceed) or b"")
        body = Body(self._service.endpoint.body_limit)
        while not body.full and isinstance(part := await self._next_event(), h11.Data):
            body.add(bytes(part.data))
        # The endpoint limits the wait for its loops; `not_held` may take longer.
        self._guard.allow(self._service.endpoint.answer_timeout + _TICK)
        return await self._service.answer_body(admitted, bytes(body)), not body.full

    async def _send(self, response: HttpResponse, *, close: bool) -> None:
        headers = [("Date", _date(int(time()))), *response.headers]
        if response.status != 204:
            headers.append(("Content-Length", str(len(response.body))))
        if close:
            headers.append(("Connection", "close"))
        octets = self._h11.send(h11.Response(status_code=response.status, headers=headers)) or b""
        if response.body:
            octets += self._h11.send(h11.Data(data=response.body)) or b""
        octets += self._h11.send(h11.EndOfMessage()) or b""
        self._guard.allow(self._service.send_timeout)
        await self._stream.send(octets)

    async def _linger(self) -> None:
        """Let the client read the answer: closing while the client sends may make it lose the answer."""
        self._guard.allow(_LINGER)
        with contextlib.suppress(NotImplementedError):  # TLS
            await self._stream.send_eof()
        left = _LINGER_OCTETS
        while left > 0:
            left -= len(await self._stream.receive())

    async def _next_event(self) -> h11.Event:
        while not isinstance(event := self._h11.next_event(), h11.Event):
            await self._receive()
        return event

    async def _receive(self) -> None:
        try:
            octets = await self._stream.receive(_CHUNK)
        except anyio.EndOfStream:
            octets = b""
        self._h11.receive_data(octets)
