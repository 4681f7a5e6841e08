"""The transports for httpx and httpx2; the two differ only in the name of the package."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial
from types import ModuleType
from typing import Any, Protocol

import anyio
import anyio.lowlevel

from ciba_adapters._cancellation import Exchange, bounded
from ciba_adapters._exchange import Body, answer, latin1, message_headers, read_body, reason_of
from ciba_adapters._httpcore import kept_connection, pool_of, was_refused
from ciba_adapters._session import of_kind
from ciba_adapters.transport import SendFailed, request_leaves
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
    """The parts of the package `httpx` or `httpx2` that the transports use."""

    def __init__(self, package: ModuleType) -> None:
        class Octets(package.AsyncByteStream):  # type: ignore[name-defined,misc]  # known when it runs
            """A body for a request of the async client."""

            def __init__(self, octets: bytes) -> None:
                self._octets = octets

            def __aiter__(self) -> _Octets:
                return _Octets(self._octets)

        self._request, self._octets = package.Request, Octets
        # Not HTTPError: HTTPStatusError is one too, and only an event hook of the caller's own raises that.
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

    def message(self, request: HttpRequest, session_headers: _Headers, trace: _Trace) -> Any:
        # The client's build_request() would add the client's header fields, cookies and parameters.
        headers = message_headers(request, session_headers.get("User-Agent"))
        return self._request(
            request.method,
            request.url,
            headers=headers,
            content=request.body,
            extensions={"timeout": trace.timeouts, "trace": trace.listener},
        )

    def async_message(self, request: HttpRequest, session_headers: _Headers, trace: _Trace) -> Any:
        message = self.message(request, session_headers, trace)
        message.stream = self._octets(request.body)
        return message

    def delivery(self, error: Exception, trace: _Trace) -> Delivery:
        if isinstance(error, self._not_sent) or was_refused(error, trace.stream):
            return Delivery.NOT_SENT
        return trace.exchange.delivery


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
    """The stack was about to send on a kept connection that must not be used."""


class _Timeouts(dict[str, float]):
    """The time limits of single waits, by their names; looking one up raises once the call has ended."""

    def __init__(self, request: HttpRequest, exchange: Exchange) -> None:
        super().__init__(connect=request.connect_timeout, pool=request.connect_timeout)
        self.update(read=request.timeout, write=request.timeout)
        self._exchange = exchange

    def get(self, key: str, default: Any = None, /) -> Any:
        # httpcore looks its limit up before each wait. For HTTP/2 that is the only way to stop a stream.
        self._exchange.go_on()
        return super().get(key, default)


class _Trace:
    """Follows an exchange, and learns its connection, by httpcore's ``trace`` extension.

    A kept connection of HTTP/1.1 that has something to read already, or that is unknown here, is not used: an
    exception closes it before anything is sent. A connection of HTTP/2 is left alone, since other requests
    share it.
    """

    def __init__(self, request: HttpRequest, exchange: Exchange) -> None:
        self.exchange = exchange
        self.timeouts: dict[str, float] = _Timeouts(request, exchange)
        self.listener: Any = self
        self.stream: int | None = None
        """The number of the stream, in HTTP/2."""
        self._pool: Any = None
        self._is_new = False

    def watch(self, http: Any, url: Any) -> None:
        """Learn by which pool the request goes out."""
        self._pool = pool_of(http, url)
        if self._pool is None:
            self.begin()  # the request may have left: nothing shows that it did not

    def begin(self) -> None:
        """Note that the request is about to be written."""
        self.exchange.begin()

    def use(self, stream: Any) -> None:
        """Note the connection."""
        connection = stream.get_extra_info("socket")
        if connection is not None:  # else a network backend of the caller's own
            self.exchange.use(connection)

    def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        part, _, event = event.partition(".")
        match event:
            case "connect_tcp.started" | "connect_unix_socket.started" | "retry.started":
                self.exchange.placed = True
                self.exchange.go_on()
            case "connect_tcp.complete" | "connect_unix_socket.complete":
                self._is_new = True
                self.use(info["return_value"])
            case "send_connection_init.started" | "response_closed.started":
                self.exchange.leave()
            case "send_request_headers.started" if info["request"].method != b"CONNECT":  # to a proxy
                if part == "http2":
                    self._share(info["stream_id"])
                elif not self._is_new:
                    self._use_again(info["request"])
                self.begin()
                request_leaves()
            case _:
                pass

    def _share(self, stream: int) -> None:
        self.stream = stream
        # A wait for octets that runs out of time ends all requests of the connection. So double the limit: by
        # then the requests that the same client sent within this one's time are over themselves.
        self.timeouts |= {key: 2 * seconds for key, seconds in self.timeouts.items()}

    def _use_again(self, request: Any) -> None:
        kept = kept_connection(self._pool, request)
        if kept is None or kept.has_something_to_read:
            raise _Reused
        self.use(kept.stream)


class _AsyncTrace(_Trace):
    """Does the same for an async client; the time limit is first that for connecting, then the whole."""

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(request, Exchange())
        self.timeouts = {}
        self.listener = self._listen
        now = anyio.current_time()
        self._until = now + request.timeout
        self._stream: Any = None
        self.scope = anyio.CancelScope(deadline=min(now + request.connect_timeout, self._until))

    def begin(self) -> None:
        super().begin()
        self.scope.deadline = self._until

    def use(self, stream: Any) -> None:
        """Note the connection; the async transport never shuts it down from outside."""
        self._stream = stream

    async def close(self) -> None:
        """Close a connection whose establishment was cancelled, which httpcore leaves open."""
        if self._stream is not None and not self.exchange.sending:
            with anyio.CancelScope(shield=True):
                await self._stream.aclose()

    async def _listen(self, event: str, info: Mapping[str, Any]) -> None:
        self(event, info)


class HttpxTransport:
    """Sends requests through a client that the caller owns, with its transport, TLS and proxy settings.

    Nothing else of the client goes along but its user agent: no ``auth``, no cookies, no parameters, no
    redirects. Each request is made in a thread of its own, whose connection is shut down when the time is
    over, unless it is one of HTTP/2, which other requests may share.
    """

    def __init__(self, http: _Client, package: ModuleType) -> None:
        self._http = of_kind("http", http, package.Client)
        self._library = _Library(package)

    def send(self, request: HttpRequest) -> HttpResponse:
        """Send the request as it stands and return the answer, or raise `SendFailed`."""
        return bounded(request, partial(self._send, request))

    def _send(self, request: HttpRequest, exchange: Exchange) -> HttpResponse:
        trace = _Trace(request, exchange)
        try:
            return self._exchange(request, trace)
        except self._library.errors as error:
            delivery, reason = self._library.delivery(error, trace), reason_of(error)
        # Raised here, so that it does not refer to the error, which holds the request.
        raise SendFailed(delivery, reason)

    def _exchange(self, request: HttpRequest, trace: _Trace) -> HttpResponse:
        response = self._answer(request, trace)
        try:
            octets = read_body(response.iter_raw(), request, trace.exchange.go_on)
        finally:
            response.close()
        return answer(request, response.status_code, latin1(response.headers.raw), octets)

    def _answer(self, request: HttpRequest, trace: _Trace) -> _Response:
        while True:
            message = self._library.message(request, self._http.headers, trace)
            trace.watch(self._http, message.url)
            # Each kept connection that cannot be used costs one round, and the pool has a limited number.
            with contextlib.suppress(_Reused):
                return self._http.send(message, stream=True, auth=None, follow_redirects=False)


class AsyncHttpxTransport:
    """Like `HttpxTransport`, for an async client under asyncio or trio, where time-outs cancel."""

    def __init__(self, http: _AsyncClient, package: ModuleType) -> None:
        self._http = of_kind("http", http, package.AsyncClient)
        self._library = _Library(package)

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send the request as it stands and return the answer, or raise `SendFailed`."""
        trace = _AsyncTrace(request)
        try:
            response = await self._within(request, trace)
            if response is not None:
                return response
            delivery, reason = trace.exchange.delivery, trace.exchange.overdue
        except self._library.errors as error:
            delivery, reason = self._library.delivery(error, trace), reason_of(error)
        # Raised here, so that it does not refer to the error, which holds the request.
        raise SendFailed(delivery, reason)

    async def sleep(self, seconds: float) -> None:
        """Wait that many seconds; the event loop can cancel it."""
        await anyio.sleep(seconds)

    async def _within(self, request: HttpRequest, trace: _AsyncTrace) -> HttpResponse | None:
        try:
            with trace.scope:
                return await self._exchange(request, trace)
        finally:
            await trace.close()
        return None

    async def _exchange(self, request: HttpRequest, trace: _AsyncTrace) -> HttpResponse:
        response = await self._answer(request, trace)
        body = Body(request.response_limit)
        try:
            async for chunk in response.aiter_raw():
                if body.add(chunk):
                    # The library's generators are nested, and trio warns of a generator that is left
                    # half-way. So close the connection under them: the next read then ends them all by an
                    # error.
                    await response.aclose()
                    await anyio.lowlevel.checkpoint()
        except Exception:
            if not body.full:
                raise
        finally:
            await response.aclose()
        return answer(request, response.status_code, latin1(response.headers.raw), bytes(body))

    async def _answer(self, request: HttpRequest, trace: _AsyncTrace) -> _Response:
        while True:
            message = self._library.async_message(request, self._http.headers, trace)
            trace.watch(self._http, message.url)
            with contextlib.suppress(_Reused):
                return await self._http.send(message, stream=True, auth=None, follow_redirects=False)
