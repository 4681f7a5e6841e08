"""Every HTTP stack behind one synchronous face."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from typing import Any, Final, TypeVar

import aiohttp
import httpx
import httpx2
import pytest
import requests
import trio
from attrs import frozen

import ciba_adapters.aiohttp
import ciba_adapters.httpx
import ciba_adapters.httpx2
import ciba_adapters.requests
import ciba_adapters.trio
from ciba_adapters.transport import AsyncTransport, SendFailed, SyncTransport
from ciba_core.values.http import HttpRequest, HttpResponse

from .server import PATIENCE, Server

SESSION_SECRET: Final = "session-secret"
_Result = TypeVar("_Result")
_TRUST_NOBODY: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@frozen
class Session:
    """How the caller's session is set up."""

    context: ssl.SSLContext | None = _TRUST_NOBODY
    """Whom to trust; ``None`` for the stack's own default."""
    ca_file: str | None = None
    """The same for `requests`, which takes a file."""
    meddling: bool = False
    """With credentials, cookies, header fields and parameters of its own."""


PLAIN: Final = Session()
DEFAULT_TRUST: Final = Session(context=None)

SyncOpen = Callable[[Session], AbstractContextManager[SyncTransport]]
AsyncOpen = Callable[[Session], AbstractAsyncContextManager[AsyncTransport]]


@contextmanager
def open_requests(session: Session) -> Generator[SyncTransport, None, None]:
    with requests.Session() as http:
        if session.ca_file:
            http.verify = session.ca_file
        if session.meddling:
            http.auth = ("session", SESSION_SECRET)
            http.headers["X-Session"] = SESSION_SECRET
            http.params = {"session": SESSION_SECRET}
            http.cookies["session"] = SESSION_SECRET
        yield ciba_adapters.requests.RequestsTransport(http)


def _httpx_settings(session: Session) -> dict[str, Any]:
    settings: dict[str, Any] = {"verify": session.context or True, "follow_redirects": True}
    if session.meddling:
        settings["auth"] = ("session", SESSION_SECRET)
        settings["headers"] = {"X-Session": SESSION_SECRET}
        settings["params"] = {"session": SESSION_SECRET}
        settings["cookies"] = {"session": SESSION_SECRET}
    return settings


@contextmanager
def open_httpx(session: Session) -> Generator[SyncTransport, None, None]:
    with httpx.Client(**_httpx_settings(session)) as http:
        yield ciba_adapters.httpx.HttpxTransport(http)


@contextmanager
def open_httpx2(session: Session) -> Generator[SyncTransport, None, None]:
    with httpx2.Client(**_httpx_settings(session)) as http:
        yield ciba_adapters.httpx2.HttpxTransport(http)


@asynccontextmanager
async def open_async_httpx(session: Session) -> AsyncGenerator[AsyncTransport, None]:
    async with httpx.AsyncClient(**_httpx_settings(session)) as http:
        yield ciba_adapters.httpx.AsyncHttpxTransport(http)


@asynccontextmanager
async def open_async_httpx2(session: Session) -> AsyncGenerator[AsyncTransport, None]:
    async with httpx2.AsyncClient(**_httpx_settings(session)) as http:
        yield ciba_adapters.httpx2.AsyncHttpxTransport(http)


@asynccontextmanager
async def open_aiohttp(session: Session) -> AsyncGenerator[AsyncTransport, None]:
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=session.context or True),
        cookie_jar=aiohttp.CookieJar(unsafe=True),  # takes cookies of IP addresses too
        trust_env=session.meddling,
        raise_for_status=True,
    ) as http:
        if session.meddling:
            http.headers["X-Session"] = SESSION_SECRET
            http.cookie_jar.update_cookies({"session": SESSION_SECRET})
        yield ciba_adapters.aiohttp.AiohttpTransport(http)


@asynccontextmanager
async def open_trio(session: Session) -> AsyncGenerator[AsyncTransport, None]:
    async with ciba_adapters.trio.TrioHttp(ssl_context=session.context) as http:
        yield ciba_adapters.trio.TrioTransport(http)


class Stack:
    """One HTTP stack, opened anew for each call and closed after it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    def send(self, *messages: HttpRequest, session: Session = PLAIN) -> list[HttpResponse]:
        """Send one request after the other through one session."""
        raise NotImplementedError

    def fail(self, message: HttpRequest, session: Session = PLAIN) -> SendFailed:
        """Send a request that must fail, and return how; the failure must not lead to any secret."""
        with pytest.raises(SendFailed) as caught:
            self.send(message, session=session)
        # Its frames keep the pool of `requests` alive, which closes idle connections when it is collected.
        failure = caught.value.with_traceback(None)
        del caught
        assert failure.__cause__ is None
        assert failure.__context__ is None
        assert "secret" not in f"{failure!r} {failure} {failure.reason}"
        return failure


class SyncStack(Stack):
    def __init__(self, name: str, opening: SyncOpen) -> None:
        super().__init__(name)
        self._open = opening

    def send(self, *messages: HttpRequest, session: Session = PLAIN) -> list[HttpResponse]:
        with self._open(session) as transport:
            return [transport.send(message) for message in messages]


class AsyncStack(Stack):
    def __init__(self, name: str, opening: AsyncOpen) -> None:
        super().__init__(name)
        self._open = opening

    def send(self, *messages: HttpRequest, session: Session = PLAIN) -> list[HttpResponse]:
        return self._run(self._send, messages, session)

    def cancel(self, message: HttpRequest, server: Server, session: Session = PLAIN) -> bool:
        """Cancel a request that the server leaves without an answer.

        Return whether the server saw the end of the connection while the session was still open.
        """
        return self._run(self._cancel, message, server, session)

    def sleep(self, seconds: float) -> None:
        """Wait as the transport waits."""
        self._run(self._sleep, seconds)

    async def _sleep(self, seconds: float) -> None:
        async with self._open(PLAIN) as transport:
            await transport.sleep(seconds)

    async def _send(self, messages: Sequence[HttpRequest], session: Session) -> list[HttpResponse]:
        async with self._open(session) as transport:
            return [await transport.send(message) for message in messages]

    async def _cancel(self, message: HttpRequest, server: Server, session: Session) -> bool:
        raise NotImplementedError

    def _run(self, function: Callable[..., Awaitable[_Result]], *arguments: object) -> _Result:
        raise NotImplementedError


def _peer_gone(server: Server) -> bool:
    return server.connections[0].gone.wait(PATIENCE)


class AsyncioStack(AsyncStack):
    def _run(self, function: Callable[..., Awaitable[_Result]], *arguments: object) -> _Result:
        async def main() -> _Result:
            return await function(*arguments)

        return asyncio.run(main())

    async def _cancel(self, message: HttpRequest, server: Server, session: Session) -> bool:
        async with self._open(session) as transport:
            task = asyncio.ensure_future(transport.send(message))
            while not server.requests:  # noqa: ASYNC110  # another thread's
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await asyncio.to_thread(_peer_gone, server)


class TrioStack(AsyncStack):
    def _run(self, function: Callable[..., Awaitable[_Result]], *arguments: object) -> _Result:
        return trio.run(function, *arguments)

    async def _cancel(self, message: HttpRequest, server: Server, session: Session) -> bool:
        async with self._open(session) as transport:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(transport.send, message)
                while not server.requests:
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            return await trio.to_thread.run_sync(_peer_gone, server)


ASYNC_STACKS: Final[list[AsyncStack]] = [
    AsyncioStack("httpx-asyncio", open_async_httpx),
    TrioStack("httpx-trio", open_async_httpx),
    AsyncioStack("httpx2-asyncio", open_async_httpx2),
    TrioStack("httpx2-trio", open_async_httpx2),
    AsyncioStack("aiohttp", open_aiohttp),
    TrioStack("trio", open_trio),
]
STACKS: Final[list[Stack]] = [
    SyncStack("requests", open_requests),
    SyncStack("httpx", open_httpx),
    SyncStack("httpx2", open_httpx2),
    *ASYNC_STACKS,
]
