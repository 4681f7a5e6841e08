"""What ends before a request is written: a proxy that says no, a full pool, a certificate that is not the one."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final

import aiohttp
import httpx
import httpx2
import pytest
import requests
import trio
from requests.adapters import HTTPAdapter

import ciba_adapters.aiohttp
import ciba_adapters.httpx
import ciba_adapters.httpx2
import ciba_adapters.requests
import ciba_adapters.trio
from ciba_adapters.transport import AsyncTransport, SendFailed, SyncTransport
from ciba_core.values.http import Delivery

from .server import PATIENCE, Peer, Server, answering, response, silent
from .stacks import AsyncioStack, Session, Stack, SyncStack, TrioStack
from .test_limits import LIMIT
from .test_transport import ANSWER, post

# Proxies


@contextmanager
def requests_behind(proxy: str, session: Session) -> Generator[SyncTransport]:
    with requests.Session() as http:
        http.proxies = {"http": proxy, "https": proxy}
        http.verify = session.ca_file or True
        yield ciba_adapters.requests.RequestsTransport(http)


@contextmanager
def httpx_behind(proxy: str, session: Session) -> Generator[SyncTransport]:
    with httpx.Client(proxy=proxy, verify=session.context or True) as http:
        yield ciba_adapters.httpx.HttpxTransport(http)


@contextmanager
def httpx2_behind(proxy: str, session: Session) -> Generator[SyncTransport]:
    with httpx2.Client(proxy=proxy, verify=session.context or True) as http:
        yield ciba_adapters.httpx2.HttpxTransport(http)


@asynccontextmanager
async def async_httpx_behind(proxy: str, session: Session) -> AsyncGenerator[AsyncTransport]:
    async with httpx.AsyncClient(proxy=proxy, verify=session.context or True) as http:
        yield ciba_adapters.httpx.AsyncHttpxTransport(http)


@asynccontextmanager
async def async_httpx2_behind(proxy: str, session: Session) -> AsyncGenerator[AsyncTransport]:
    async with httpx2.AsyncClient(proxy=proxy, verify=session.context or True) as http:
        yield ciba_adapters.httpx2.AsyncHttpxTransport(http)


@asynccontextmanager
async def aiohttp_behind(proxy: str, session: Session) -> AsyncGenerator[AsyncTransport]:
    connector = aiohttp.TCPConnector(ssl=session.context or True)
    async with aiohttp.ClientSession(connector=connector, proxy=proxy) as http:
        yield ciba_adapters.aiohttp.AiohttpTransport(http)


PROXIED: Final[dict[str, Callable[[str], Stack]]] = {
    "requests": lambda proxy: SyncStack("requests", partial(requests_behind, proxy)),
    "httpx": lambda proxy: SyncStack("httpx", partial(httpx_behind, proxy)),
    "httpx2": lambda proxy: SyncStack("httpx2", partial(httpx2_behind, proxy)),
    "httpx-asyncio": lambda proxy: AsyncioStack("httpx", partial(async_httpx_behind, proxy)),
    "httpx-trio": lambda proxy: TrioStack("httpx", partial(async_httpx_behind, proxy)),
    "httpx2-asyncio": lambda proxy: AsyncioStack("httpx2", partial(async_httpx2_behind, proxy)),
    "httpx2-trio": lambda proxy: TrioStack("httpx2", partial(async_httpx2_behind, proxy)),
    "aiohttp": lambda proxy: AsyncioStack("aiohttp", partial(aiohttp_behind, proxy)),
}
every_proxied: Final = pytest.mark.parametrize("behind", PROXIED.values(), ids=PROXIED)


@every_proxied
@pytest.mark.parametrize(
    "status",
    ["407 Proxy Authentication Required", "403 Forbidden", "502 Bad Gateway"],
    ids=["407", "403", "502"],
)
def test_proxy_that_refuses_a_tunnel(behind: Callable[[str], Stack], trusting: Session, status: str) -> None:
    """RFC 9110 9.3.6: without a tunnel nothing was sent to the provider, whatever the proxy's reason is."""

    def refuse(peer: Peer) -> None:
        peer.request()
        peer.send(response(b"no", "Connection: close", status=status))
        peer.until_closed()

    with Server(refuse) as proxy:
        failure = behind(proxy.url("")).fail(post("https://op.example/token"), trusting)
    assert failure.delivery is Delivery.NOT_SENT
    assert [received.method for received in proxy.requests] == ["CONNECT"]
    assert "secret" not in repr(proxy.requests)


@every_proxied
def test_proxy_that_does_not_answer(behind: Callable[[str], Stack], trusting: Session) -> None:
    """The tunnel belongs to connecting: when that takes too long, nothing was sent."""
    with Server(silent) as proxy:
        message = post("https://op.example/token", connect_timeout=LIMIT)
        failure = behind(proxy.url("")).fail(message, trusting)
    assert failure.delivery is Delivery.NOT_SENT
    assert "timed out" in failure.reason


@every_proxied
def test_tunnel_to_a_stranger(
    behind: Callable[[str], Stack], trusting: Session, foreign_tls: ssl.SSLContext
) -> None:
    """Through a tunnel, the certificate of another host is not good enough either."""

    def tunnel(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            peer.start_tls(foreign_tls)
        except (ssl.SSLError, ConnectionError):
            return
        peer.until_closed()

    with Server(tunnel) as proxy:
        failure = behind(proxy.url("")).fail(post("https://127.0.0.1:9/token"), trusting)
    assert failure.delivery is Delivery.NOT_SENT
    assert [received.method for received in proxy.requests] == ["CONNECT"]


# Fingerprints


class _Pinned(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **settings: Any) -> None:
        super().init_poolmanager(*args, assert_fingerprint="00" * 32, **settings)


@contextmanager
def requests_pinned(session: Session) -> Generator[SyncTransport]:
    with requests.Session() as http:
        http.verify = session.ca_file or True
        http.mount("https://", _Pinned())
        yield ciba_adapters.requests.RequestsTransport(http)


@asynccontextmanager
async def aiohttp_pinned(session: Session) -> AsyncGenerator[AsyncTransport]:
    connector = aiohttp.TCPConnector(ssl=aiohttp.Fingerprint(bytes(32)))
    async with aiohttp.ClientSession(connector=connector) as http:
        yield ciba_adapters.aiohttp.AiohttpTransport(http)


# aiohttp closes the connection that it refuses, and waits for nothing: now and then the loop ends before that does.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize(
    "pinned", [SyncStack("requests", requests_pinned), AsyncioStack("aiohttp", aiohttp_pinned)], ids=repr
)
def test_certificate_with_another_fingerprint(
    pinned: Stack, trusting: Session, loopback_tls: ssl.SSLContext
) -> None:
    """Where the caller has pinned a certificate, another one gets no request."""
    with Server(Peer.until_closed, tls=loopback_tls) as server:
        failure = pinned.fail(post(server.url()), trusting)
    assert failure.delivery is Delivery.NOT_SENT
    assert not server.connections[0].octets


# Full pools


@contextmanager
def requests_of_one() -> Generator[SyncTransport]:
    with requests.Session() as http:
        http.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=1, pool_block=True))
        yield ciba_adapters.requests.RequestsTransport(http)


@contextmanager
def httpx_of_one() -> Generator[SyncTransport]:
    with httpx.Client(limits=httpx.Limits(max_connections=1)) as http:
        yield ciba_adapters.httpx.HttpxTransport(http)


@contextmanager
def httpx2_of_one() -> Generator[SyncTransport]:
    with httpx2.Client(limits=httpx2.Limits(max_connections=1)) as http:
        yield ciba_adapters.httpx2.HttpxTransport(http)


@asynccontextmanager
async def async_httpx_of_one() -> AsyncGenerator[AsyncTransport]:
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=1)) as http:
        yield ciba_adapters.httpx.AsyncHttpxTransport(http)


@asynccontextmanager
async def async_httpx2_of_one() -> AsyncGenerator[AsyncTransport]:
    async with httpx2.AsyncClient(limits=httpx2.Limits(max_connections=1)) as http:
        yield ciba_adapters.httpx2.AsyncHttpxTransport(http)


@asynccontextmanager
async def aiohttp_of_one() -> AsyncGenerator[AsyncTransport]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http:
        yield ciba_adapters.aiohttp.AiohttpTransport(http)


@asynccontextmanager
async def trio_of_one() -> AsyncGenerator[AsyncTransport]:
    async with ciba_adapters.trio.TrioHttp(max_connections=1) as http:
        yield ciba_adapters.trio.TrioTransport(http)


SYNC_OF_ONE: Final = {"requests": requests_of_one, "httpx": httpx_of_one, "httpx2": httpx2_of_one}
ASYNCIO_OF_ONE: Final = {
    "httpx": async_httpx_of_one,
    "httpx2": async_httpx2_of_one,
    "aiohttp": aiohttp_of_one,
}
TRIO_OF_ONE: Final = {"httpx": async_httpx_of_one, "httpx2": async_httpx2_of_one, "trio": trio_of_one}


class Occupied:
    """A server whose first connection is held until `let_go`."""

    def __init__(self) -> None:
        self.asked, self.let_go = threading.Event(), threading.Event()
        self.server = Server(self._hold, answering(response(ANSWER)))

    def _hold(self, peer: Peer) -> None:
        peer.request()
        self.asked.set()
        assert self.let_go.wait(PATIENCE)
        peer.send(response(ANSWER))
        answering(response(ANSWER))(peer)

    def wanting(self, *, connecting: float = LIMIT) -> Any:
        return post(self.server.url(), connect_timeout=connecting, timeout=PATIENCE)


def assert_full(caught: pytest.ExceptionInfo[SendFailed]) -> None:
    assert caught.value.delivery is Delivery.NOT_SENT
    assert "timed out" in caught.value.reason


@pytest.mark.parametrize("opening", SYNC_OF_ONE.values(), ids=SYNC_OF_ONE)
def test_full_pool(opening: Callable[[], Any]) -> None:
    """The wait for a place is part of connecting; an answer that came at once after it is not lost."""
    occupied = Occupied()
    answers: list[bytes] = []
    with occupied.server, opening() as transport:
        first = threading.Thread(target=lambda: answers.append(transport.send(occupied.wanting()).body))
        first.start()
        assert occupied.asked.wait(PATIENCE)
        with pytest.raises(SendFailed) as caught:
            transport.send(occupied.wanting())
        threading.Timer(LIMIT, occupied.let_go.set).start()
        assert transport.send(occupied.wanting(connecting=PATIENCE)).body == ANSWER
        first.join(PATIENCE)
    assert_full(caught)
    assert answers == [ANSWER]
    assert len(occupied.server.connections) == 1


@pytest.mark.parametrize("opening", ASYNCIO_OF_ONE.values(), ids=ASYNCIO_OF_ONE)
def test_full_pool_under_asyncio(opening: Callable[[], Any]) -> None:
    """The same under asyncio."""
    occupied = Occupied()

    async def main() -> None:
        async with opening() as transport:
            first = asyncio.create_task(transport.send(occupied.wanting()))
            assert await asyncio.to_thread(occupied.asked.wait, PATIENCE)
            with pytest.raises(SendFailed) as caught:
                await transport.send(occupied.wanting())
            assert_full(caught)
            threading.Timer(LIMIT, occupied.let_go.set).start()
            assert (await transport.send(occupied.wanting(connecting=PATIENCE))).body == ANSWER
            assert (await first).body == ANSWER

    with occupied.server:
        asyncio.run(main())
    assert len(occupied.server.connections) == 1


@pytest.mark.parametrize("opening", TRIO_OF_ONE.values(), ids=TRIO_OF_ONE)
def test_full_pool_under_trio(opening: Callable[[], Any]) -> None:
    """The same under trio."""
    occupied = Occupied()

    async def main() -> None:
        async with opening() as transport, trio.open_nursery() as nursery:
            nursery.start_soon(transport.send, occupied.wanting())
            assert await trio.to_thread.run_sync(occupied.asked.wait, PATIENCE)
            with pytest.raises(SendFailed) as caught:
                await transport.send(occupied.wanting())
            assert_full(caught)
            threading.Timer(LIMIT, occupied.let_go.set).start()
            assert (await transport.send(occupied.wanting(connecting=PATIENCE))).body == ANSWER

    with occupied.server:
        trio.run(main)
    assert len(occupied.server.connections) == 1


# The system


def test_too_many_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the process has no descriptor left, trio's reason says so, and nothing was sent."""

    def exhausted(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def main() -> SendFailed:
        async with trio_of_one() as transport:
            monkeypatch.setattr("trio._highlevel_open_tcp_stream.socket", exhausted)
            with pytest.raises(SendFailed) as caught:
                await transport.send(post("http://127.0.0.1:9/token"))
            return caught.value

    failure = trio.run(main)
    assert (failure.delivery, failure.reason) == (Delivery.NOT_SENT, "too many open files")
