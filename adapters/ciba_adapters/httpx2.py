"""CIBA over httpx2, the successor of httpx (sync; async under asyncio and trio)."""

from __future__ import annotations

from ciba_adapters._missing import missing_extra
from ciba_adapters.client import AsyncClient, Cancellation, SyncClient

try:
    import httpx2

    from ciba_adapters import _httpx
except ImportError as error:
    raise missing_extra("httpx2", error) from error

__all__ = ["AsyncCibaClient", "AsyncHttpxTransport", "Cancellation", "CibaClient", "HttpxTransport"]


class HttpxTransport(_httpx.HttpxTransport):
    """Sends requests through a `httpx2.Client` that the caller owns."""

    def __init__(self, http: httpx2.Client) -> None:
        super().__init__(http, httpx2)


class AsyncHttpxTransport(_httpx.AsyncHttpxTransport):
    """Sends requests through a `httpx2.AsyncClient` that the caller owns."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        super().__init__(http, httpx2)


class CibaClient(SyncClient[httpx2.Client]):
    """A CIBA client over a `httpx2.Client`."""

    @staticmethod
    def make_transport(http: httpx2.Client) -> HttpxTransport:
        """Return the transport over a session."""
        return HttpxTransport(http)


class AsyncCibaClient(AsyncClient[httpx2.AsyncClient]):
    """A CIBA client over a `httpx2.AsyncClient`, under asyncio or trio."""

    @staticmethod
    def make_transport(http: httpx2.AsyncClient) -> AsyncHttpxTransport:
        """Return the transport over a session."""
        return AsyncHttpxTransport(http)
