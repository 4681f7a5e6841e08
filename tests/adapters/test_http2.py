"""HTTP/2, which httpx and httpx2 speak where the caller asks for it: what was refused, and what others share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import h2.config
import h2.connection
import h2.errors
import h2.events
import httpx
import httpx2
import pytest

import ciba_adapters.httpx
import ciba_adapters.httpx2
from ciba_adapters.transport import SendFailed
from ciba_core.values.http import Delivery, HttpRequest, HttpResponse

from .server import PATIENCE, Peer, Server
from .test_limits import LIMIT
from .test_transport import post

Outcome = HttpResponse | SendFailed


class H2Peer:
    """The server's end of a connection of HTTP/2."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.h2.initiate_connection()
        self.flush()

    def request(self) -> int:
        """Read until a request has ended, and return its stream."""
        while True:
            for event in self.h2.receive_data(self.peer.take()):
                if isinstance(event, h2.events.StreamEnded):
                    self.flush()
                    return event.stream_id
            self.flush()

    def answer(self, stream: int) -> None:
        self.h2.send_headers(stream, [(":status", "200")])
        self.h2.send_data(stream, b"answer", end_stream=True)
        self.flush()

    def flush(self) -> None:
        self.peer.send(self.h2.data_to_send())


class Sync:
    """A sync client; each request in a thread."""

    def __init__(self, package: Any, adapter: Any) -> None:
        self._package, self._adapter = package, adapter

    @contextmanager
    def open(self) -> Generator[Callable[[HttpRequest], Outcome]]:
        with self._package.Client(http1=False, http2=True) as http:
            transport = self._adapter.HttpxTransport(http)

            def send(message: HttpRequest) -> Outcome:
                try:
                    result: HttpResponse = transport.send(message)
                except SendFailed as failure:
                    return failure
                return result

            yield send


class Async:
    """An async client whose loop runs in a thread of its own."""

    def __init__(self, package: Any, adapter: Any) -> None:
        self._package, self._adapter = package, adapter

    @contextmanager
    def open(self) -> Generator[Callable[[HttpRequest], Outcome]]:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            thread = threading.Thread(target=loop.run_forever)
            thread.start()
            http = self._package.AsyncClient(http1=False, http2=True)
            transport = self._adapter.AsyncHttpxTransport(http)

            async def attempt(message: HttpRequest) -> Outcome:
                try:
                    result: HttpResponse = await transport.send(message)
                except SendFailed as failure:
                    return failure
                return result

            def send(message: HttpRequest) -> Outcome:
                return asyncio.run_coroutine_threadsafe(attempt(message), loop).result(2 * PATIENCE)

            yield send
            asyncio.run_coroutine_threadsafe(http.aclose(), loop).result(PATIENCE)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(PATIENCE)


Client = Sync | Async
CLIENTS: Final[dict[str, Client]] = {
    "httpx": Sync(httpx, ciba_adapters.httpx),
    "httpx2": Sync(httpx2, ciba_adapters.httpx2),
    "httpx-asyncio": Async(httpx, ciba_adapters.httpx),
    "httpx2-asyncio": Async(httpx2, ciba_adapters.httpx2),
}
every_client: Final = pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)


def goaway(last: int, peer: Peer) -> None:
    """Take a request, and say which streams were processed."""
    server = H2Peer(peer)
    server.request()
    server.h2.close_connection(last_stream_id=last)
    server.flush()
    peer.until_closed()


def reset(code: h2.errors.ErrorCodes, peer: Peer) -> None:
    """Take a request, and end its stream."""
    server = H2Peer(peer)
    server.h2.reset_stream(server.request(), error_code=code)
    server.flush()
    peer.until_closed()


@every_client
@pytest.mark.parametrize(
    ("script", "delivery"),
    [
        (partial(goaway, 0), Delivery.NOT_SENT),
        (partial(goaway, 1), Delivery.UNKNOWN),
        (partial(reset, h2.errors.ErrorCodes.REFUSED_STREAM), Delivery.NOT_SENT),
        (partial(reset, h2.errors.ErrorCodes.INTERNAL_ERROR), Delivery.UNKNOWN),
        (partial(reset, h2.errors.ErrorCodes.CANCEL), Delivery.UNKNOWN),
    ],
    ids=["GOAWAY below", "GOAWAY at", "REFUSED_STREAM", "INTERNAL_ERROR", "CANCEL"],
)
def test_what_the_server_did_not_process(
    client: Client, script: Callable[[Peer], None], delivery: Delivery
) -> None:
    """RFC 9113 6.8, 8.7: a request above the last stream, or refused, was not processed; any other may be."""
    with Server(script) as server, client.open() as send:
        outcome = send(post(server.url()))
    assert isinstance(outcome, SendFailed)
    assert outcome.delivery is delivery


@every_client
def test_goaway_after_an_answer(client: Client) -> None:
    """A connection that its server ends between two requests costs neither of them."""

    def first(peer: Peer) -> None:
        server = H2Peer(peer)
        server.answer(server.request())
        server.h2.close_connection(last_stream_id=1)
        server.flush()
        peer.until_closed()

    def second(peer: Peer) -> None:
        server = H2Peer(peer)
        server.answer(server.request())
        peer.until_closed()

    with Server(first, second) as server, client.open() as send:
        outcomes = [send(post(server.url())) for _ in range(2)]
    assert isinstance(outcomes[0], HttpResponse)
    last = outcomes[1]
    assert isinstance(last, HttpResponse) or last.delivery is Delivery.NOT_SENT


@every_client
def test_other_streams_go_on(client: Client) -> None:
    """A request that runs out of time does not take along another one on the same connection."""
    begun, over = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        server = H2Peer(peer)
        server.answer(server.request())  # now the client knows that it may open more than one stream
        server.request()
        begun.set()
        other = server.request()
        assert over.wait(PATIENCE)
        server.answer(other)
        peer.until_closed()

    with Server(script) as server, client.open() as send, ThreadPoolExecutor(2) as pool:
        assert isinstance(send(post(server.url())), HttpResponse)
        short = pool.submit(send, post(server.url(), timeout=2 * LIMIT))
        assert begun.wait(PATIENCE)
        answered = pool.submit(send, post(server.url(), timeout=PATIENCE))
        failed = short.result(PATIENCE)
        over.set()
        answer = answered.result(PATIENCE)
    assert isinstance(failed, SendFailed)
    assert (failed.delivery, failed.reason) == (Delivery.UNKNOWN, "timed out")
    assert isinstance(answer, HttpResponse)
    assert len(server.connections) == 1
