"""Every HTTP stack that has an adapter, behind blocking functions."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from typing import Any, Final, Literal, Protocol, TypeVar

import aiohttp
import anyio
import anyio.from_thread
import httpx
import httpx2
import requests
from attrs import frozen

import ciba_adapters.aiohttp
import ciba_adapters.httpx
import ciba_adapters.httpx2
import ciba_adapters.requests
import ciba_adapters.trio
from ciba_adapters.client import AsyncClient, SyncClient
from ciba_adapters.notification import NotificationEndpoint
from ciba_adapters.transport import Clock
from ciba_core import AuthenticationRequest, ClientConfig, Secret, TokenResponse

__all__ = ["CLIENTS", "STACKS", "Authenticate", "Client"]


class Authenticate(Protocol):
    """Discovers the issuer in a session of its own, authenticates, and closes the session."""

    def __call__(
        self,
        issuer: str,
        client: ClientConfig,
        request: AuthenticationRequest,
        endpoint: NotificationEndpoint | None = None,
    ) -> TokenResponse: ...


H = TypeVar("H")


def blocking(adapter: type[SyncClient[H]], session: Callable[[], AbstractContextManager[H]]) -> Authenticate:
    def authenticate(
        issuer: str,
        client: ClientConfig,
        request: AuthenticationRequest,
        endpoint: NotificationEndpoint | None = None,
    ) -> TokenResponse:
        with session() as http:
            ciba = adapter.discover(issuer, client, http=http, allow_loopback_http=True, endpoint=endpoint)
            return ciba.authenticate(request)

    return authenticate


def asynchronous(
    adapter: type[AsyncClient[H]],
    session: Callable[[], AbstractAsyncContextManager[H]],
    backend: Literal["asyncio", "trio"],
) -> Authenticate:
    def authenticate(
        issuer: str,
        client: ClientConfig,
        request: AuthenticationRequest,
        endpoint: NotificationEndpoint | None = None,
    ) -> TokenResponse:
        async def main() -> TokenResponse:
            async with session() as http:
                ciba = await adapter.discover(
                    issuer, client, http=http, allow_loopback_http=True, endpoint=endpoint
                )
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


@frozen
class Client:
    """A client of an adapter, sync or async, in an open session."""

    ciba: Any
    _call: Callable[..., Any]
    """Calls a function of the client, where it has to be called, and returns what it returns."""

    def authenticate(self, request: AuthenticationRequest) -> TokenResponse:
        tokens: TokenResponse = self._call(self.ciba.authenticate, request)
        return tokens

    def refresh(self, tokens: TokenResponse) -> TokenResponse:
        new: TokenResponse = self._call(self.ciba.refresh, tokens)
        return new

    def revoke(self, what: Secret | TokenResponse) -> None:
        self._call(self.ciba.revoke, what)

    def userinfo(self, tokens: TokenResponse) -> Mapping[str, Any]:
        claims: Mapping[str, Any] = self._call(self.ciba.userinfo, tokens)
        return claims


def directly(function: Callable[..., Any], *arguments: object) -> Any:
    return function(*arguments)


@contextmanager
def httpx_client(
    issuer: str, client: ClientConfig, *, clock: Clock | None = None, tls: ssl.SSLContext | None = None
) -> Generator[Client]:
    with httpx.Client(verify=tls or True) as http:
        ciba = ciba_adapters.httpx.CibaClient.discover(
            issuer, client, http=http, allow_loopback_http=True, clock=clock
        )
        yield Client(ciba, directly)


@contextmanager
def trio_client(
    issuer: str, client: ClientConfig, *, clock: Clock | None = None, tls: ssl.SSLContext | None = None
) -> Generator[Client]:
    async def discover(http: ciba_adapters.trio.TrioHttp) -> ciba_adapters.trio.AsyncCibaClient:
        return await ciba_adapters.trio.AsyncCibaClient.discover(
            issuer, client, http=http, allow_loopback_http=True, clock=clock
        )

    with (
        anyio.from_thread.start_blocking_portal("trio") as portal,
        portal.wrap_async_context_manager(ciba_adapters.trio.TrioHttp(ssl_context=tls)) as http,
    ):
        yield Client(portal.call(discover, http), portal.call)


Connect = Callable[..., AbstractContextManager[Client]]

CLIENTS: Final[Mapping[str, Connect]] = {"httpx": httpx_client, "trio": trio_client}
"""A sync stack and an async one, for what does not depend on the stack."""
