"""What is special about the HTTP client for trio: the pool, and what HTTP/1.1 leaves to a client."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
import trustme

from ciba_adapters._http11 import MAX_INTERIM, Origin
from ciba_adapters.transport import SendFailed
from ciba_adapters.trio import TrioHttp, TrioTransport
from ciba_core.values.http import Delivery, HttpRequest

from .server import PATIENCE, Peer, Server, answering, response, silent
from .stacks import PLAIN
from .test_transport import ANSWER, post

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def run(main: Callable[[], Awaitable[None]], clock: trio.abc.Clock | None = None) -> None:
    trio.run(main, clock=clock)


def client(*, idle: int = 4) -> TrioHttp:
    return TrioHttp(ssl_context=PLAIN.context, max_idle_per_origin=idle)


@pytest.mark.parametrize(
    ("url", "origin", "authority"),
    [
        ("https://OP.example/token", ("https", "op.example", 443), "op.example"),
        ("https://op.example:443/", ("https", "op.example", 443), "op.example"),
        ("http://op.example:443", ("http", "op.example", 443), "op.example:443"),
        ("http://localhost?x=1", ("http", "localhost", 80), "localhost"),
        ("https://[::1]:8443/token", ("https", "::1", 8443), "[::1]:8443"),
        ("https://[2001:db8::1]", ("https", "2001:db8::1", 443), "[2001:db8::1]"),
    ],
)
def test_origin(url: str, origin: tuple[str, str, int], authority: str) -> None:
    """The origin of a URL, and Host with a port only where it is not the scheme's own."""
    found = Origin.of(url)
    assert found == origin
    assert found.authority == authority


@pytest.mark.parametrize("url", ["ftp://op.example", "https:///token", "token", "http://op.example:99999/"])
def test_not_an_origin(url: str) -> None:
    """Nothing is sent for a URL that leads nowhere."""

    async def main() -> None:
        async with client() as http:
            with pytest.raises(SendFailed, match="ValueError") as caught:
                await http.send(post(url))
            assert caught.value.delivery is Delivery.NOT_SENT

    run(main)


def test_root_path() -> None:
    """A URL without a path asks for the root."""
    with Server(answering(response(ANSWER))) as server:

        async def main() -> None:
            async with client() as http:
                await http.send(post(server.url("?x=1")))

        run(main)
    assert server.requests[0].target == "/?x=1"


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_ipv6(loopback_tls: ssl.SSLContext, authority: trustme.CA) -> None:
    """An IPv6 address is connected to, verified by certificate, and named in brackets in Host."""
    with Server(answering(response(ANSWER)), tls=loopback_tls, host="::1") as server:

        async def main() -> None:
            context = ssl.create_default_context()
            authority.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]  # of pyOpenSSL
            async with TrioHttp(ssl_context=context) as http:
                assert (await http.send(post(server.url()))).body == ANSWER

        run(main)
        [host] = server.requests[0].values("Host")
        assert server.url("/token") == f"https://{host}/token"


def test_default_context_verifies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a context of the caller's, certificates and host names are verified, with TLS 1.2 or newer."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    monkeypatch.setattr(ssl, "create_default_context", lambda: context)
    TrioHttp()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_used_outside_of_its_context() -> None:
    """A client that nobody will close opens no connection."""

    async def main() -> None:
        http = client()
        with pytest.raises(RuntimeError, match="async with"):
            await http.send(post("http://127.0.0.1:1/token"))
        async with http:
            pass
        with pytest.raises(RuntimeError, match="async with"):
            await http.send(post("http://127.0.0.1:1/token"))

    run(main)


def test_sleep_is_that_of_trio() -> None:
    """The wait of the transport passes in trio's time."""

    async def main() -> None:
        start = trio.current_time()
        await TrioTransport(client()).sleep(3600)
        assert trio.current_time() - start == 3600

    run(main, trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("count", [MAX_INTERIM, MAX_INTERIM + 1])
def test_interim_answers_are_limited(count: int) -> None:
    """A server may say "continue" some times, but not for ever."""
    with Server(answering(CONTINUE * count + response(ANSWER))) as server:

        async def main() -> None:
            async with client() as http:
                if count == MAX_INTERIM:
                    assert (await http.send(post(server.url()))).body == ANSWER
                    return
                with pytest.raises(SendFailed) as caught:
                    await http.send(post(server.url()))
                assert caught.value.delivery is Delivery.UNKNOWN

        run(main)


def test_switching_protocols_is_refused() -> None:
    """101, which nobody asked for, is a lost answer."""
    with Server(answering(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")) as server:

        async def main() -> None:
            async with client() as http:
                with pytest.raises(SendFailed, match="RemoteProtocolError"):
                    await http.send(post(server.url()))

        run(main)


def test_idle_connection_grows_old() -> None:
    """A connection that was idle for too long is closed, to whatever origin it leads."""
    clock = trio.testing.MockClock()
    with Server(answering(response(ANSWER))) as one, Server(answering(response(ANSWER))) as other:

        async def main() -> None:
            async with client() as http:
                await http.send(post(one.url()))
                clock.jump(31)
                await http.send(post(other.url()))
                assert await trio.to_thread.run_sync(one.connections[0].gone.wait, PATIENCE)

        run(main, clock)


@pytest.mark.parametrize(
    ("kept", "connections"),
    [(0, 4), (1, 3), (2, 2)],
)
def test_idle_connections_are_limited(kept: int, connections: int) -> None:
    """Of two connections that become idle, as many are kept as was said."""
    both = threading.Barrier(2, timeout=PATIENCE)

    def first(peer: Peer) -> None:
        peer.request()
        both.wait()
        peer.send(response(ANSWER))
        second(peer)

    def second(peer: Peer) -> None:
        try:
            peer.request()
        except EOFError:
            return
        both.wait()
        peer.send(response(ANSWER))
        peer.until_closed()

    with Server(first, first, second, second) as server:

        async def main() -> None:
            async with client(idle=kept) as http:
                for _ in range(2):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(http.send, post(server.url()))
                        nursery.start_soon(http.send, post(server.url()))

        run(main)
    assert len(server.connections) == connections


def test_octets_nobody_asked_for() -> None:
    """After octets beyond its answer, or while it was idle, a connection is not used again."""
    said = threading.Event()

    def with_the_answer(peer: Peer) -> None:
        peer.request()
        peer.send(response(ANSWER) + b"HTTP/1.1 200 OK\r\n")
        peer.until_closed()

    def later(peer: Peer) -> None:
        peer.request()
        peer.send(response(ANSWER))
        said.wait(PATIENCE)
        peer.send(response(b"not yours"))
        said.clear()
        peer.until_closed()

    with Server(with_the_answer, later, answering(response(ANSWER))) as server:

        async def main() -> None:
            async with client() as http:
                for _ in range(2):
                    assert (await http.send(post(server.url()))).body == ANSWER
                said.set()
                [idle] = http._idle  # pyright: ignore[reportPrivateUsage]  # to see the octets arrive
                while not idle.stale:
                    await trio.lowlevel.checkpoint()
                assert (await http.send(post(server.url()))).body == ANSWER

        run(main)
    assert len(server.connections) == 3


def test_closed_while_in_use() -> None:
    """A request that outlives its client is answered; its connection is closed then, not kept."""
    closed = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        closed.wait(PATIENCE)
        peer.send(response(ANSWER))
        peer.until_closed()

    with Server(script) as server:

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                async with client() as http:
                    nursery.start_soon(http.send, post(server.url()))
                    while not server.requests:
                        await trio.lowlevel.checkpoint()
                closed.set()
            assert await trio.to_thread.run_sync(server.connections[0].gone.wait, PATIENCE)

        run(main)


def test_many_at_once() -> None:
    """A client serves several tasks, each by a connection of its own, and cancels them one by one."""
    with Server(silent, silent, silent) as server:

        async def main() -> None:
            message: HttpRequest = post(server.url())
            async with client() as http:
                for number in range(3):
                    with trio.CancelScope() as scope:
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(http.send, message)
                            while len(server.requests) <= number:
                                await trio.lowlevel.checkpoint()
                            scope.cancel()
                    gone = server.connections[number].gone
                    assert await trio.to_thread.run_sync(gone.wait, PATIENCE)

        run(main)
