"""Cancelling a sync exchange from another thread: it ends at once, and its connection with it."""

from __future__ import annotations

import io
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import httpcore
import httpx
import httpx2
import pytest
import requests
from attrs import evolve
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import HTTPResponse
from urllib3.util import Retry

import ciba_adapters.httpx
import ciba_adapters.httpx2
import ciba_adapters.requests
from ciba_adapters._cancellation import Abandoned, Cancellation, Exchange, current_exchange
from ciba_adapters._httpx import _Trace  # pyright: ignore[reportPrivateUsage]  # for what no stack here does
from ciba_adapters.transport import SyncTransport
from ciba_core.values.http import HttpRequest, HttpResponse, Purpose

from .server import PATIENCE, Peer, Server, answering, chunked, response
from .stacks import PLAIN, Session, SyncOpen, open_httpx, open_httpx2, open_requests

SYNC: Final[dict[str, SyncOpen]] = {"requests": open_requests, "httpx": open_httpx, "httpx2": open_httpx2}
OK: Final = response(b"ok")
LAST: Final = response(b"ok", "Connection: close")
"""Whatever keeps the pool of `requests` alive (an error's frames, a log record), this ends the connection."""

every_stack: Final = pytest.mark.parametrize("opening", SYNC.values(), ids=SYNC)


def post(url: str) -> HttpRequest:
    """Return a request that nobody gives up within the time of a test."""
    return HttpRequest(1, Purpose.TOKEN, "POST", url, (), b"a=b", 600.0, 600.0, 1000)


def cancelling(cancellation: Cancellation, start: bytes = b"") -> Callable[[Peer], None]:
    """Return a script that reads a request and then cancels it; it is up to the client to end it."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(start)
        cancellation.cancel()
        peer.until_closed()

    return script


def call(cancellation: Cancellation, transport: SyncTransport, message: HttpRequest) -> HttpResponse | None:
    return cancellation.call(lambda: transport.send(message))


def assert_no_thread() -> None:
    """The client's threads have ended."""
    for thread in threading.enumerate():
        if thread.name == "ciba request":
            thread.join(PATIENCE)
            assert not thread.is_alive()


def assert_over(server: Server) -> None:
    """Nothing is left of the client, neither a thread nor a connection."""
    assert_no_thread()
    for peer in server.connections:
        assert peer.gone.wait(PATIENCE)


@pytest.fixture(params=["plain", "TLS"])
def security(
    request: pytest.FixtureRequest, trusting: Session, loopback_tls: ssl.SSLContext
) -> tuple[Session, ssl.SSLContext | None]:
    """A session, and the TLS of its server."""
    return (PLAIN, None) if request.param == "plain" else (trusting, loopback_tls)


@every_stack
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "start", [b"", OK[:20], OK[:-1], chunked(b"x")[:-5]], ids=["wait", "head", "body", "chunk"]
)
def test_new_connection(
    opening: SyncOpen, security: tuple[Session, ssl.SSLContext | None], method: str, start: bytes
) -> None:
    """Wherever an exchange is, cancelling ends it and its connection; the session serves the next."""
    session, tls = security
    cancellation = Cancellation()
    with (
        Server(cancelling(cancellation, start), answering(LAST), tls=tls) as server,
        opening(session) as transport,
    ):
        message = evolve(post(server.url()), method=method, body=b"a=b" if method == "POST" else b"")
        assert call(cancellation, transport, message) is None
        assert_over(server)
        answer = call(Cancellation(), transport, message)
        assert answer is not None
        assert answer.body == b"ok"
    assert len(server.connections) == 2


@every_stack
def test_kept_connection(opening: SyncOpen, security: tuple[Session, ssl.SSLContext | None]) -> None:
    """The same where the session has a connection to the server already, which is used again."""
    session, tls = security
    cancellation = Cancellation()

    def kept(peer: Peer) -> None:
        peer.request()
        peer.send(OK)
        cancelling(cancellation)(peer)

    with Server(kept, answering(LAST), tls=tls) as server, opening(session) as transport:
        assert transport.send(post(server.url())).status == 200
        assert call(cancellation, transport, post(server.url())) is None
        assert_over(server)
        assert transport.send(post(server.url())).status == 200
    assert len(server.connections) == 2


@every_stack
def test_other_calls_go_on(opening: SyncOpen) -> None:
    """What another thread has under way in the same session is not disturbed, cancellable or not."""
    cancellation = Cancellation()
    asked, let_go = threading.Barrier(3), threading.Event()

    def slow(peer: Peer) -> None:
        peer.request()
        asked.wait(PATIENCE)
        assert let_go.wait(PATIENCE)
        peer.send(LAST)
        peer.until_closed()

    answers: list[HttpResponse | None] = []
    with Server(slow, slow, cancelling(cancellation)) as server, opening(PLAIN) as transport:
        message = post(server.url())
        others = [
            threading.Thread(target=lambda: answers.append(transport.send(message))),
            threading.Thread(target=lambda: answers.append(call(Cancellation(), transport, message))),
        ]
        for other in others:
            other.start()
        asked.wait(PATIENCE)
        assert call(cancellation, transport, message) is None
        let_go.set()
        for other in others:
            other.join(PATIENCE)
    assert [answer.body for answer in answers if answer] == [b"ok", b"ok"]


@every_stack
def test_connection_is_kept_after_an_answer(opening: SyncOpen) -> None:
    """Cancelling a call that has its answer does nothing to the connection, which serves the next."""
    cancellation = Cancellation()

    def send() -> bytes:
        body = transport.send(post(server.url())).body
        exchange = current_exchange()
        assert exchange is not None
        assert not exchange.abandon()
        return body

    with Server(answering(OK, OK)) as server, opening(PLAIN) as transport:
        assert cancellation.call(send) == b"ok"
        cancellation.cancel()
        assert transport.send(post(server.url())).body == b"ok"
    assert len(server.connections) == 1


@every_stack
def test_interrupt(opening: SyncOpen) -> None:
    """Ctrl+C ends the exchange as `cancel` does."""
    main = threading.main_thread().ident
    assert main is not None

    def interrupting(peer: Peer) -> None:
        peer.request()
        signal.pthread_kill(main, signal.SIGINT)
        peer.until_closed()

    with Server(interrupting) as server, opening(PLAIN) as transport:
        with pytest.raises(KeyboardInterrupt):
            call(Cancellation(), transport, post(server.url()))
        assert_over(server)


# Where there is no connection yet


@every_stack
def test_cancelled_before_connecting(opening: SyncOpen) -> None:
    """A call that is cancelled before it has a connection does not make one."""
    cancellation = Cancellation()

    def send() -> HttpResponse:
        cancellation.cancel()
        while not abandoned():
            pass
        return transport.send(post(server.url()))

    with Server() as server, opening(PLAIN) as transport:
        assert cancellation.call(send) is None
        assert_no_thread()
    assert not server.connections


def abandoned() -> bool:
    """Whether the waiting thread has given the exchange of this thread up."""
    exchange = current_exchange()
    assert exchange is not None
    try:
        exchange.go_on()
    except Abandoned:
        return True
    return False


@every_stack
def test_cancelled_while_connecting(
    opening: SyncOpen, monkeypatch: pytest.MonkeyPatch, security: tuple[Session, ssl.SSLContext | None]
) -> None:
    """The call does not wait for an attempt to connect, whose connection is closed before it is used."""
    session, tls = security
    cancellation, returned = Cancellation(), threading.Event()
    resolve = socket.getaddrinfo

    def slow(*arguments: Any, **options: Any) -> Any:
        if current_exchange() is not None:
            cancellation.cancel()
            assert returned.wait(PATIENCE)
        return resolve(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with Server(Peer.until_closed, tls=tls) as server, opening(session) as transport:
        assert call(cancellation, transport, post(server.url())) is None
        returned.set()
        assert_no_thread()
    assert not any(peer.octets for peer in server.connections)


@every_stack
def test_cancelled_in_the_handshake(opening: SyncOpen, trusting: Session) -> None:
    """A TLS handshake that does not go on ends at once, and is not tried again."""
    cancellation = Cancellation()

    def stalled(peer: Peer) -> None:
        peer.receive()
        cancellation.cancel()
        peer.until_closed()

    with Server(stalled) as server, opening(trusting) as transport:
        message = post(server.url().replace("http:", "https:"))
        assert call(cancellation, transport, message) is None
        assert_over(server)


# With a session set up by its owner


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


Behind = Callable[[str, Session], AbstractContextManager[SyncTransport]]
every_proxied: Final = pytest.mark.parametrize("behind", [requests_behind, httpx_behind, httpx2_behind])


@every_proxied
def test_through_a_proxy(behind: Behind) -> None:
    """A request that a proxy forwards ends as any other."""
    cancellation = Cancellation()
    with Server(cancelling(cancellation)) as proxy, behind(proxy.url(""), PLAIN) as transport:
        assert call(cancellation, transport, post("http://op.example/token")) is None
        assert_over(proxy)
    assert proxy.requests[0].target == "http://op.example/token"


@every_proxied
def test_through_a_tunnel(behind: Behind, trusting: Session, loopback_tls: ssl.SSLContext) -> None:
    """So does one in a tunnel through a proxy."""
    cancellation = Cancellation()

    def tunnel(peer: Peer) -> None:
        assert peer.request().method == "CONNECT"
        peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        peer.start_tls(loopback_tls)
        cancelling(cancellation)(peer)

    with Server(tunnel) as proxy, behind(proxy.url(""), trusting) as transport:
        assert call(cancellation, transport, post("https://127.0.0.1:9/token")) is None
        assert_over(proxy)
    assert [request.method for request in proxy.requests] == ["CONNECT", "POST"]


@every_proxied
def test_proxy_that_makes_no_tunnel(behind: Behind) -> None:
    """So does the wait for the tunnel."""
    cancellation = Cancellation()
    with Server(cancelling(cancellation)) as proxy, behind(proxy.url(""), PLAIN) as transport:
        assert call(cancellation, transport, post("https://op.example/token")) is None
        assert_over(proxy)
    assert [request.method for request in proxy.requests] == ["CONNECT"]


class OwnAdapter(HTTPAdapter):
    """An adapter with state of its own, as they are written for a TLS context."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.context = context
        super().__init__(max_retries=Retry(total=5, allowed_methods=None))

    def init_poolmanager(self, *args: Any, **settings: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self.context, **settings)


def test_adapter_of_the_caller(security: tuple[Session, ssl.SSLContext | None]) -> None:
    """The caller's adapter does its work, and is as before; what it tries again is not tried after the end."""
    session, tls = security
    cancellation, adapter = Cancellation(), OwnAdapter(session.context)
    before = dict(vars(adapter))

    def broken(peer: Peer) -> None:
        peer.request()
        peer.reset()
        peer.gone.set()

    with Server(broken, cancelling(cancellation), tls=tls) as server, requests.Session() as http:
        http.mount(server.url(""), adapter)
        http.verify = session.ca_file or True
        transport = ciba_adapters.requests.RequestsTransport(http)
        assert call(cancellation, transport, post(server.url())) is None
        assert_over(server)
    assert len(server.connections) == 2
    assert vars(adapter) == before
    assert type(adapter) is OwnAdapter


def test_adapter_that_is_no_http_adapter() -> None:
    """An adapter of another kind, without pools, is used as it is."""

    class Canned(BaseAdapter):
        def send(self, request: requests.PreparedRequest, *args: Any, **settings: Any) -> requests.Response:
            raw = HTTPResponse(io.BytesIO(b"ok"), {"Content-Length": "2"}, 200, preload_content=False)
            return HTTPAdapter().build_response(request, raw)

        def close(self) -> None:
            pass

    with requests.Session() as http:
        http.mount("https://", Canned())
        transport = ciba_adapters.requests.RequestsTransport(http)
        answer = call(Cancellation(), transport, post("https://op.example/token"))
    assert answer is not None
    assert answer.body == b"ok"


def test_httpx_transport_without_connections() -> None:
    """A transport that is no network, such as one for tests, is used as it is."""
    canned = httpx.MockTransport(lambda _request: httpx.Response(200, content=iter([b"ok"])))
    with httpx.Client(transport=canned) as http:
        transport = ciba_adapters.httpx.HttpxTransport(http)
        answer = call(Cancellation(), transport, post("https://op.example/token"))
    assert answer is not None
    assert answer.body == b"ok"


def test_httpx_does_not_try_again(trusting: Session) -> None:
    """Attempts to connect that a transport of the caller's would repeat end with the call."""
    assert trusting.context is not None
    cancellation = Cancellation()

    def stalled(peer: Peer) -> None:
        peer.receive()
        cancellation.cancel()
        peer.until_closed()

    repeating = httpx.HTTPTransport(retries=5, verify=trusting.context)
    with Server(stalled) as server, httpx.Client(transport=repeating) as http:
        transport = ciba_adapters.httpx.HttpxTransport(http)
        assert call(cancellation, transport, post(server.url().replace("http:", "https:"))) is None
        assert_over(server)
    assert len(server.connections) == 1


class Stream:
    """What httpcore calls a network stream."""

    def __init__(self, connection: socket.socket | None) -> None:
        self._connection = connection

    def get_extra_info(self, info: str) -> socket.socket | None:
        assert info == "socket"
        return self._connection


def test_http2_connection_is_left_alone() -> None:
    """A connection of HTTP/2, which other calls share, is not shut down, whether it is new or kept."""
    exchange = Exchange()
    trace = _Trace(post("https://op.example/token"), exchange)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        trace("connection.connect_tcp.complete", {"return_value": Stream(ours)})
        assert exchange.connected
        trace("http2.send_connection_init.started", {})
        request = httpcore.Request("POST", "https://op.example/token")
        trace("http2.send_request_headers.started", {"request": request, "stream_id": 1})
        assert not exchange.abandon()
        ours.send(b"x")
        assert theirs.recv(1) == b"x"


def test_httpx_network_backend_without_sockets() -> None:
    """A network backend of the caller's that has no socket is used as it is."""
    exchange = Exchange()
    trace = _Trace(post("https://op.example/token"), exchange)
    trace("connection.connect_tcp.complete", {"return_value": Stream(None)})
    assert not exchange.abandon()


# The call


def test_result_and_error_come_out() -> None:
    """A call that ends by itself returns and raises what its function does."""
    cancellation = Cancellation()
    assert cancellation.call(lambda: "result") == "result"
    with pytest.raises(ZeroDivisionError):
        cancellation.call(lambda: 1 // 0)


def test_what_comes_after_the_cancellation_does_not_count() -> None:
    """An error, or a result, that comes after `cancel` is a consequence of it at most."""
    failing, succeeding = Cancellation(), Cancellation()

    def fail() -> None:
        failing.cancel()
        raise ZeroDivisionError

    def succeed() -> str:
        succeeding.cancel()
        return "result"

    assert failing.call(fail) is None
    assert succeeding.call(succeed) is None


def test_no_exchange_outside_of_a_call() -> None:
    """A thread that works for no cancellable call has no exchange."""
    assert current_exchange() is None
    assert Cancellation().call(current_exchange) is not None
