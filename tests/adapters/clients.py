"""Every client class with its session, behind one synchronous face."""

from __future__ import annotations

import inspect
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial
from typing import Any, Final, Generic, Literal, TypeVar

import aiohttp
import anyio
import httpx
import httpx2
import requests

import ciba_adapters.aiohttp
import ciba_adapters.httpx
import ciba_adapters.httpx2
import ciba_adapters.requests
import ciba_adapters.trio
from ciba_adapters.client import AsyncClient, SyncClient
from ciba_adapters.transport import Clock
from ciba_core import ClientConfig, ProviderMetadata

H = TypeVar("H")
R = TypeVar("R")

# Made once: it takes longer than an authentication.
_TRUST: Final = ssl.create_default_context()


class Adapter(ABC):
    """A client class and the session it works with.

    What is to be done with a client is a function of it. Where the client is async, the function's result is
    awaited.
    """

    adapter: Any

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    @abstractmethod
    def with_session(self, use: Callable[[Any], Any]) -> Any:
        """Open a session, do something with it, and close it."""

    def call(
        self,
        use: Callable[[Any], Any],
        provider: ProviderMetadata,
        client: ClientConfig,
        clock: Clock | None = None,
    ) -> Any:
        """Open a session, do something with a client, and close the session."""
        return self.with_session(lambda http: use(self.adapter(provider, client, http=http, clock=clock)))

    @abstractmethod
    def each(self, iterator: Any, do: Callable[[Any], object]) -> Any:
        """Do something with each item of what `steps` or `run` returned."""


class SyncAdapter(Adapter, Generic[H]):
    def __init__(
        self, name: str, adapter: type[SyncClient[H]], session: Callable[[], AbstractContextManager[H]]
    ) -> None:
        super().__init__(name)
        self.adapter = adapter
        self._session = session

    def with_session(self, use: Callable[[Any], Any]) -> Any:
        with self._session() as http:
            return use(http)

    def each(self, iterator: Iterator[Any], do: Callable[[Any], object]) -> None:
        for item in iterator:
            do(item)


class AsyncAdapter(Adapter, Generic[H]):
    def __init__(
        self,
        name: str,
        adapter: type[AsyncClient[H]],
        session: Callable[[], AbstractAsyncContextManager[H]],
        backend: Literal["asyncio", "trio"],
    ) -> None:
        super().__init__(name)
        self.adapter = adapter
        self.backend: Final = backend
        self._session = session

    def with_session(self, use: Callable[[Any], Any]) -> Any:
        async def main() -> Any:
            async with self._session() as http:
                result = use(http)
                return await result if inspect.isawaitable(result) else result

        return self.run(main)

    def run(self, main: Callable[[], Awaitable[R]]) -> R:
        return anyio.run(main, backend=self.backend)

    async def each(self, iterator: AsyncIterator[Any], do: Callable[[Any], object]) -> None:
        async for item in iterator:
            do(item)


SYNC: Final[list[SyncAdapter[Any]]] = [
    SyncAdapter("requests", ciba_adapters.requests.CibaClient, requests.Session),
    SyncAdapter("httpx", ciba_adapters.httpx.CibaClient, partial(httpx.Client, verify=_TRUST)),
    SyncAdapter("httpx2", ciba_adapters.httpx2.CibaClient, partial(httpx2.Client, verify=_TRUST)),
]
_httpx = partial(httpx.AsyncClient, verify=_TRUST)
_httpx2 = partial(httpx2.AsyncClient, verify=_TRUST)
_trio = partial(ciba_adapters.trio.TrioHttp, ssl_context=_TRUST)
ASYNC: Final[list[AsyncAdapter[Any]]] = [
    AsyncAdapter("httpx-asyncio", ciba_adapters.httpx.AsyncCibaClient, _httpx, "asyncio"),
    AsyncAdapter("httpx-trio", ciba_adapters.httpx.AsyncCibaClient, _httpx, "trio"),
    AsyncAdapter("httpx2-asyncio", ciba_adapters.httpx2.AsyncCibaClient, _httpx2, "asyncio"),
    AsyncAdapter("httpx2-trio", ciba_adapters.httpx2.AsyncCibaClient, _httpx2, "trio"),
    AsyncAdapter("aiohttp", ciba_adapters.aiohttp.AsyncCibaClient, aiohttp.ClientSession, "asyncio"),
    AsyncAdapter("trio", ciba_adapters.trio.AsyncCibaClient, _trio, "trio"),
]
ADAPTERS: Final[list[Adapter]] = [*SYNC, *ASYNC]
