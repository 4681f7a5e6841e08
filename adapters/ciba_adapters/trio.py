"""CIBA over trio alone: HTTP/1.1 by h11 over trio's own streams."""

from __future__ import annotations

import ssl
from types import TracebackType
from typing import Self

from ciba_adapters._exchange import reason_of
from ciba_adapters._missing import missing_extra
from ciba_adapters._session import of_kind
from ciba_adapters.client import AsyncClient
from ciba_adapters.transport import SendFailed, request_leaves
from ciba_core.values.http import Delivery, HttpRequest, HttpResponse

try:
    import h11
    import trio

    from ciba_adapters._http11 import Connection, Origin, connect
except ImportError as error:
    raise missing_extra("trio", error) from error

__all__ = ["AsyncCibaClient", "TrioHttp", "TrioTransport"]


class TrioHttp:
    """A small HTTP/1.1 client for trio: ``async with TrioHttp() as http``.

    It keeps idle connections and uses them again, verifies certificates and host names, follows no redirect,
    keeps no cookies and repeats no request. A connection that the server has closed, or written to, while it
    was idle is not used again. If the server closes it just when it is used, the request is lost
    (`Delivery.UNKNOWN`).

    Args:
        ssl_context: how to verify servers; by default the system's trust store and TLS 1.2 or newer.
        max_connections: requests under way at a time; further ones wait, which counts as time for connecting.
        max_idle_per_origin: idle connections to keep for each scheme, host and port.
        idle_timeout: seconds after which an idle connection is not used again.

    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        max_connections: int = 100,
        max_idle_per_origin: int = 4,
        idle_timeout: float = 30.0,
    ) -> None:
        if ssl_context is None:
            ssl_context = ssl.create_default_context()
            ssl_context.minimum_version = ssl.TLSVersion.TLSv1_2
            ssl_context.set_alpn_protocols(["http/1.1"])
        self._ssl_context = ssl_context
        self._places = trio.Semaphore(max_connections)
        self._max_idle = max_idle_per_origin
        self._idle_timeout = idle_timeout
        self._idle: list[Connection] = []
        self._open = False

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        while self._idle:
            self._idle.pop().close()

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send the request as it stands and return the answer.

        Raises:
            SendFailed: there was no complete answer.
            RuntimeError: outside of ``async with``.

        """
        if not self._open:
            raise RuntimeError("TrioHttp is used within 'async with'")
        delivery, until = Delivery.NOT_SENT, trio.current_time() + request.timeout
        connecting = min(request.connect_timeout, request.timeout)
        try:
            origin = Origin.of(request.url)
            with trio.fail_after(connecting):
                await self._places.acquire()
            try:
                connection = self._reuse(origin)
                if connection is None:
                    with trio.fail_at(until - request.timeout + connecting):
                        connection = await connect(origin, self._ssl_context)
                delivery = Delivery.UNKNOWN
                request_leaves()
                return await self._exchange(connection, request, until)
            finally:
                self._places.release()
        except (OSError, ValueError, trio.BrokenResourceError, trio.TooSlowError, h11.ProtocolError) as error:
            reason = reason_of(error)
        # Raised here, so that it does not refer to the error, which holds the request.
        raise SendFailed(delivery, reason)

    async def _exchange(self, connection: Connection, request: HttpRequest, until: float) -> HttpResponse:
        keep = False
        try:
            with trio.fail_at(until):
                response = await connection.exchange(request)
            keep = self._open and connection.next_cycle()
            return response
        finally:
            if keep:
                self._keep(connection)
            else:
                connection.close()

    def _reuse(self, origin: Origin) -> Connection | None:
        oldest = trio.current_time() - self._idle_timeout
        fit = [idle for idle in self._idle if idle.idle_since >= oldest and not idle.stale]
        for idle in set(self._idle).difference(fit):
            idle.close()
        self._idle = fit
        found = next((idle for idle in reversed(fit) if idle.origin == origin), None)
        if found is not None:
            fit.remove(found)
        return found

    def _keep(self, connection: Connection) -> None:
        if sum(idle.origin == connection.origin for idle in self._idle) >= self._max_idle:
            connection.close()
            return
        connection.idle_since = trio.current_time()
        self._idle.append(connection)


class TrioTransport:
    """Sends requests through a `TrioHttp` that the caller owns."""

    def __init__(self, http: TrioHttp) -> None:
        self._http = of_kind("http", http, TrioHttp)

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send the request as it stands and return the answer, or raise `SendFailed`."""
        return await self._http.send(request)

    async def sleep(self, seconds: float) -> None:
        """Wait that many seconds; trio can cancel it."""
        await trio.sleep(seconds)


class AsyncCibaClient(AsyncClient[TrioHttp]):
    """A CIBA client over a `TrioHttp`."""

    @staticmethod
    def make_transport(http: TrioHttp) -> TrioTransport:
        """Return the transport over a session."""
        return TrioTransport(http)
