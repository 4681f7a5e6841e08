"""Every HTTP stack that has an adapter, behind one blocking function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Final, Literal, TypeVar

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
from ciba_adapters._drive import AsyncClient, SyncClient
from ciba_core import AuthenticationRequest, ClientConfig, TokenResponse

__all__ = ["STACKS", "Authenticate"]

Authenticate = Callable[[str, ClientConfig, AuthenticationRequest], TokenResponse]
"""Discovers the issuer in a session of its own, authenticates, and closes the session."""

H = TypeVar("H")


def blocking(adapter: type[SyncClient[H]], session: Callable[[], AbstractContextManager[H]]) -> Authenticate:
    def authenticate(issuer: str, client: ClientConfig, request: AuthenticationRequest) -> TokenResponse:
        with session() as http:
            return adapter.discover(issuer, client, http=http, allow_loopback_http=True).authenticate(request)

    return authenticate


def asynchronous(
    adapter: type[AsyncClient[H]],
    session: Callable[[], AbstractAsyncContextManager[H]],
    backend: Literal["asyncio", "trio"],
) -> Authenticate:
    def authenticate(issuer: str, client: ClientConfig, request: AuthenticationRequest) -> TokenResponse:
        async def main() -> TokenResponse:
            async with session() as http:
                ciba = await adapter.discover(issuer, client, http=http, allow_loopback_http=True)
                return await ciba.authenticate(request)

        return anyio.run(main, backend=backend)

    return authenticate


STACKS: Final[Mapping[str, Authenticate]] = {
    "requests": blocking(ciba_adapters.requests.CibaClient, requests.Session),
    "httpx": blocking(ciba_adapters.httpx.CibaClient, httpx.Client),
    "httpx-asyncio": asynchronous(ciba_adapters.httpx.AsyncCibaClient, httpx.AsyncClient, "asyncio"),
    "httpx-trio": asynchronous(ciba_adapters.httpx.AsyncCibaClient, httpx.AsyncClient, "trio"),
    "httpx2": blocking(ciba_adapters.httpx2.CibaClient, httpx2.Client),
    "httpx2-asyncio": asynchronous(ciba_adapters.httpx2.AsyncCibaClient, httpx2.AsyncClient, "asyncio"),
    "aiohttp": asynchronous(ciba_adapters.aiohttp.AsyncCibaClient, aiohttp.ClientSession, "asyncio"),
    "trio": asynchronous(ciba_adapters.trio.AsyncCibaClient, ciba_adapters.trio.TrioHttp, "trio"),
}
