"""The transports for httpx and httpx2, which differ in the name of the package alone."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from time import monotonic
from types import ModuleType
from typing import Any, Protocol

import anyio
import anyio.lowlevel

from ciba_adapters._cancellation import Exchange, current_exchange
from ciba_adapters._exchange import Body, answer, latin1, message_headers, read_body, reason_of
from ciba_adapters._session import of_kind
from ciba_adapters.transport import SendFailed
from ciba_core.values.http import Delivery, HttpRequest, HttpResponse

__all__ = ["AsyncHttpxTransport", "HttpxTransport"]


class _Headers(Protocol):
    @property
    def raw(self) -> list[tuple[bytes, bytes]]: ...
    def get(self, key: str, /) -> Any: ...


class _Response(Protocol):
    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> _Headers: ...
    def iter_raw(self) -> Iterator[bytes]: ...
    def aiter_raw(self) -> AsyncIterator[bytes]: ...
    def close(self) -> None: ...
    async def aclose(self) -> None: ...


class _Client(Protocol):
    @property
    def headers(self) -> _Headers: ...
    def send(self, request: Any, *, stream: bool, auth: None, follow_redirects: bool) -> _Response: ...


class _AsyncClient(Protocol):
    @property
    def headers(self) -> _Headers: ...
    async def send(self, request: Any, *, stream: bool, auth: None, follow_redirects: bool) -> _Response: ...


class _Library:
    """What is needed of the package `httpx` or `httpx2`."""

    def __init__(self, package: ModuleType) -> None:
        class Octets(package.AsyncByteStream):  # type: ignore[name-defined,misc]  # known when it runs
            """A body for a request of the async client."""

            def __init__(self, octets: bytes) -> None:
                self._octets = octets

            def __aiter__(self) -> _Octets:
                return _Octets(self._octets)

        self._request, self._octets = package.Request, Octets
        # Not HTTPError, whose other half HTTPStatusError only comes out of an event hook of the caller's own.
        self.errors: tuple[type[Exception], ...] = (
            package.RequestError,
            package.InvalidURL,
            # A TimeoutError of fail_after(), and what asyncio's TLS raises when a server turns the client's
            # certificate down after the handshake, which httpx lets through as it is.
            OSError,
            UnicodeError,  # a host name that IDNA does not allow
        )
        self._not_sent: tuple[type[Exception], ...] = (
            package.ConnectError,
            package.ConnectTimeout,
            package.PoolTimeout,
            package.ProxyError,
            package.UnsupportedProtocol,
            package.InvalidURL,
            UnicodeError,
        )

    def message(self, request: HttpRequest, session_headers: _Headers) -> Any:
        # Not by the client's build_request(), which would add its header fields, cookies and parameters.
        wait = {"connect": request.connect_timeout, "pool": request.connect_timeout}
        wait |= {"read": request.timeout, "write": request.timeout}
        headers = message_headers(request, session_headers.get("User-Agent"))
        return self._request(
            request.method, request.url, headers=headers, content=request.body, extensions={"timeout": wait}
        )

    def async_message(self, request: HttpRequest, session_headers: _Headers) -> Any:
        message = self.message(request, session_headers)
        message.stream = self._octets(request.body)
        return message

    def delivery(self, error: Exception) -> Delivery:
        return Delivery.NOT_SENT if isinstance(error, self._not_sent) else Delivery.UNKNOWN


class _Octets:
    """A body to iterate over.

    The library's own is an async generator. httpcore leaves it half-way when a write fails, and a generator
    that the garbage collector has to end is a warning under trio.
    """

    def __init__(self, octets: bytes) -> None:
        self._left = [octets]

    def __aiter__(self) -> _Octets:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


class _Reused(Exception):
    """The stack was about to send through a connection that it had kept."""


class _Trace:
    """Learns the connection of an exchange from what httpcore tells its ``trace`` extension.

    Of a connection that is used again it tells nothing. Such a one is closed instead, by an exception before
    anything is sent. One of HTTP/2 is left alone, since other requests share it.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._is_new = False

    def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        part, _, event = event.partition(".")
        match event:
            case "connect_tcp.started" | "connect_unix_socket.started" | "retry.started":
                self._exchange.go_on()
            case "connect_tcp.complete" | "connect_unix_socket.complete":
                self._is_new = True
                connection = info["return_value"].get_extra_info("socket")
                if connection is not None:  # else a network backend of the caller's own
                    self._exchange.use(connection)
            case "send_connection_init.started" | "response_closed.started":
                self._exchange.leave()
            case "send_request_headers.started" if part == "http11" and not self._is_new:
                raise _Reused
            case _:
                pass


class HttpxTransport:
    """Sends requests through a client that the caller owns, with its transport, TLS and proxy settings.

    Nothing else of the client goes along but its user agent: no ``auth``, no cookies, no parameters, no
    redirects. The timeout holds for each wait for octets and is checked again between the parts of the body.
    """

    def __init__(self, http: _Client, package: ModuleType) -> None:
        self._http = of_kind("http", http, package.Client)
        self._library = _Library(package)

    def send(self, request: HttpRequest) -> HttpResponse:
        """Send the request as it stands and return the answer, or raise `SendFailed`."""
        try:
            return self._exchange(request)
        except self._library.errors as error:
            delivery, reason = self._library.delivery(error), reason_of(error)
        # Raised here, so that it does not refer to the error, which holds the request.
        raise SendFailed(delivery, reason)

    def _exchange(self, request: HttpRequest) -> HttpResponse:
        started = monotonic()
        response = self._answer(request)
        try:
            octets = read_body(response.iter_raw(), request, started)
        finally:
            response.close()
        return answer(request, response.status_code, latin1(response.headers.raw), octets)

    def _answer(self, request: HttpRequest) -> _Response:
        exchange = current_exchange()
        while True:
            message = self._library.message(request, self._http.headers)
            if exchange is not None:
                message.extensions["trace"] = _Trace(exchange)
            # Each connection that was kept costs a round, and there are only so many.
            with contextlib.suppress(_Reused):
                return self._http.send(message, stream=True, auth=None, follow_redirects=False)


class AsyncHttpxTransport:
    """Like `HttpxTransport`, for an async client under asyncio or trio; the timeout bounds the whole."""

    def __init__(self, http: _AsyncClient, package: ModuleType) -> None:
        self._http = of_kind("http", http, package.AsyncClient)
        self._library = _Library(package)

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send the request as it stands and return the answer, or raise `SendFailed`."""
        try:
            with anyio.fail_after(request.connect_timeout + request.timeout):
                return await self._exchange(request)
        except self._library.errors as error:
            delivery, reason = self._library.delivery(error), reason_of(error)
        # Raised here, so that it does not refer to the error, which holds the request.
        raise SendFailed(delivery, reason)

    async def sleep(self, seconds: float) -> None:
        """Wait that many seconds; the event loop can cancel it."""
        await anyio.sleep(seconds)

    async def _exchange(self, request: HttpRequest) -> HttpResponse:
        message = self._library.async_message(request, self._http.headers)
        response = await self._http.send(message, stream=True, auth=None, follow_redirects=False)
        body = Body(request.response_limit)
        try:
            async for chunk in response.aiter_raw():
                if body.add(chunk):
                    # The library's generators are nested, and one left half-way is a warning under trio. So
                    # the connection is closed under them, and the next read ends them all by an error.
                    await response.aclose()
                    await anyio.lowlevel.checkpoint()
        except Exception:
            if not body.full:
                raise
        finally:
            await response.aclose()
        return answer(request, response.status_code, latin1(response.headers.raw), bytes(body))
