"""CIBA over `httpx <https://www.python-httpx.org>`_ (sync; async under asyncio and trio)."""

from __future__ import annotations

from ciba_adapters._missing import missing_extra
from ciba_adapters.client import AsyncClient, Cancellation, SyncClient

try:
    import httpx

    from ciba_adapters import _httpx
except ImportError as error:
    raise missing_extra("httpx", error) from error

__all__ = ["AsyncCibaClient", "AsyncHttpxTransport", "Cancellation", "CibaClient", "HttpxTransport"]


class HttpxTransport(_httpx.HttpxTransport):
    """Sends requests through a `httpx.Client` that the caller owns."""

    def __init__(self, http: httpx.Client) -> None:
        super().__init__(http, httpx)


class AsyncHttpxTransport(_httpx.AsyncHttpxTransport):
    """Sends requests through a `httpx.AsyncClient` that the caller owns."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        super().__init__(http, httpx)


class CibaClient(SyncClient[httpx.Client]):
    """A CIBA client over a `httpx.Client`."""

    @staticmethod
    def make_transport(http: httpx.Client) -> HttpxTransport:
        """Return the transport over a session."""
        return HttpxTransport(http)


class AsyncCibaClient(AsyncClient[httpx.AsyncClient]):
    """A CIBA client over a `httpx.AsyncClient`, under asyncio or trio."""

    @staticmethod
    def make_transport(http: httpx.AsyncClient) -> AsyncHttpxTransport:
        """Return the transport over a session."""
        return AsyncHttpxTransport(http)
