"""CIBA over `aiohttp <https://docs.aiohttp.org>`_ (async under asyncio)."""

from __future__ import annotations

import asyncio
import math

from ciba_adapters._exchange import Body, answer, latin1, message_headers, reason_of
from ciba_adapters._missing import missing_extra
from ciba_adapters._session import of_kind
from ciba_adapters.client import AsyncClient
from ciba_adapters.transport import SendFailed, request_leaves
from ciba_core.values.http import Delivery, HttpRequest, HttpResponse

try:
    import aiohttp
    from aiohttp.abc import AbstractStreamWriter
    from yarl import URL
except ImportError as error:
    raise missing_extra("aiohttp", error) from error

__all__ = ["AiohttpTransport", "AsyncCibaClient"]

_NOT_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
    aiohttp.ServerFingerprintMismatch,
    UnicodeError,  # a host name that IDNA does not allow
)


class _Octets(aiohttp.BytesPayload):
    """A body that learns the connection it is sent through; the header goes out just before it."""

    transport: asyncio.BaseTransport | None = None
    sent = False

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self.sent = True
        request_leaves()
        self.transport = getattr(writer, "transport", None)
        await super().write_with_length(writer, content_length)

    def abort(self) -> None:
        """End the connection, without waiting for TLS's close_notify."""
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.abort()


class AiohttpTransport:
    """Sends requests through an `aiohttp.ClientSession` that the caller owns.

    Of the session it uses the connector (with its pool and TLS settings), proxy, traces and user agent: no
    ``auth``, no ``.netrc``, no default header fields, no cookies, no middlewares, no redirects. (Cookies of
    answers do reach the session's jar, unless that is an `aiohttp.DummyCookieJar`.) A GET that found its
    connection closed is repeated once by ``aiohttp`` itself, a POST never is.
    """

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = of_kind("http", http, aiohttp.ClientSession)

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send the request as it stands and return the answer, or raise `SendFailed`."""
        octets = _Octets(request.body) if request.body else None
        try:
            return await self._exchange(request, octets)
        except (aiohttp.ClientError, OSError, UnicodeError) as error:  # a TimeoutError is an OSError
            unsent = isinstance(error, _NOT_SENT) if octets is None else not octets.sent
            delivery = Delivery.NOT_SENT if unsent else Delivery.UNKNOWN
            reason = reason_of(error)
            if octets is not None:
                octets.abort()
        # Raised here, so that it does not refer to the error, which holds the request.
        raise SendFailed(delivery, reason)

    async def sleep(self, seconds: float) -> None:
        """Wait that many seconds; the event loop can cancel it."""
        await asyncio.sleep(seconds)

    async def _exchange(self, request: HttpRequest, octets: _Octets | None) -> HttpResponse:
        async def exactly(
            message: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            # The last chance before sending: drop the fields that the session added, keep those that HTTP/1.1
            # needs.
            needed = [(k, v) for k, v in message.headers.items() if k in {"Host", "Content-Length"}]
            headers = message_headers(request, message.headers.get("User-Agent"))
            message.headers.clear()
            message.headers.extend(needed + headers)
            return await handler(message)

        try:
            url = URL(request.url, encoded=True)
        except ValueError:
            raise aiohttp.InvalidURL(request.url) from None
        response = await self._http.request(
            request.method,
            url,
            data=octets,
            middlewares=(exactly,),
            allow_redirects=False,
            raise_for_status=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(
                total=request.timeout,
                connect=min(request.connect_timeout, request.timeout),
                ceil_threshold=math.inf,  # otherwise aiohttp rounds limits above 5 s up
            ),
        )
        body = Body(request.response_limit)
        try:
            async for chunk in response.content.iter_any():
                if body.add(chunk):
                    break
        finally:
            response.close()
        return answer(request, response.status, latin1(response.raw_headers), bytes(body))


class AsyncCibaClient(AsyncClient[aiohttp.ClientSession]):
    """A CIBA client over an `aiohttp.ClientSession`."""

    @staticmethod
    def make_transport(http: aiohttp.ClientSession) -> AiohttpTransport:
        """Return the transport over a session."""
        return AiohttpTransport(http)
