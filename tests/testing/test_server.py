"""The loopback server, over real sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Generator, Iterable, Iterator
from urllib.parse import urlsplit

import pytest
import trustme

from ciba_core.testing import (
    Approve,
    DropAfter,
    DropBefore,
    Handler,
    LoopbackServer,
    NoReply,
    Reply,
    SimulatedClient,
    SimulatedProvider,
    Truncate,
    VirtualClock,
)

Headers = Iterable[tuple[str, str]]
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@contextlib.contextmanager
def connected(
    server: LoopbackServer, context: ssl.SSLContext | None = None
) -> Generator[http.client.HTTPConnection]:
    host = urlsplit(server.url).netloc
    if context is None:
        connection = http.client.HTTPConnection(host, timeout=10)
    else:
        connection = http.client.HTTPSConnection(host, timeout=10, context=context)
    try:
        yield connection
    finally:
        connection.close()


def get(connection: http.client.HTTPConnection, target: str = "/") -> tuple[int, bytes]:
    connection.request("GET", target)
    response = connection.getresponse()
    return response.status, response.read()


def raw_exchange(server: LoopbackServer, request: bytes) -> bytes:
    address = urlsplit(server.url)
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while octets := connection.recv(65536):
            answer += octets
    return answer


def always(reply: Reply) -> Handler:
    def handler(method: str, target: str, headers: Headers, body: bytes) -> Reply:
        return reply

    return handler


def echo(method: str, target: str, headers: Headers, body: bytes) -> Reply:
    names = {name.lower(): value for name, value in headers}
    return Reply(201, (("X-Echo", f"{method} {target} {names.get('x-in')}"),), body)


def test_a_whole_authentication() -> None:
    """A provider behind the server has the server's own URL as issuer and serves a CIBA flow on one connection."""
    client = SimulatedClient("c", token_endpoint_auth_method="none")
    with LoopbackServer() as server, connected(server) as connection:
        provider = SimulatedProvider(
            VirtualClock(), issuer=server.url, clients=[client], users={"alice": Approve()}
        )
        server.handler = provider.handle
        assert server.handler == provider.handle
        connection.request("GET", "/.well-known/openid-configuration")
        assert json.loads(connection.getresponse().read())["issuer"] == server.url
        connection.request("POST", "/bc-authorize", "client_id=c&scope=openid&login_hint=alice", FORM)
        auth_req_id = json.loads(connection.getresponse().read())["auth_req_id"]
        grant = "urn%3Aopenid%3Aparams%3Agrant-type%3Aciba"
        connection.request(
            "POST", "/token", f"client_id=c&grant_type={grant}&auth_req_id={auth_req_id}", FORM
        )
        response = connection.getresponse()
        assert response.status == 200
        assert "access_token" in json.loads(response.read())
        assert (server.connections, server.most_in_flight) == (1, 1)


def test_request_and_answer_pass_unchanged() -> None:
    """Method, target, headers and body reach the handler; its status, headers and body reach the client."""
    with LoopbackServer(echo) as server, connected(server) as connection:
        for method in ("PUT", "POST", "GET"):
            connection.request(method, "/a?b=c", b"\x00\xff", {"X-In": "1"})
            response = connection.getresponse()
            assert (response.status, response.read()) == (201, b"\x00\xff")
            assert response.headers["X-Echo"] == f"{method} /a?b=c 1"
        assert server.connections == 1


def test_nothing_is_there_before_a_handler_is_set() -> None:
    """A server without a handler answers 404."""
    with LoopbackServer() as server, connected(server) as connection:
        assert get(connection) == (404, b"")


def test_answer_without_a_body() -> None:
    """204 has neither a body nor a length, and the connection goes on."""
    with LoopbackServer(always(Reply(204, (), b"ignored"))) as server, connected(server) as connection:
        for _ in range(2):
            connection.request("GET", "/")
            response = connection.getresponse()
            assert (response.status, response.headers["Content-Length"], response.read()) == (204, None, b"")
        assert server.connections == 1


def test_chunked_answer() -> None:
    """A body that the handler has chunked is sent as it is."""
    reply = Reply(200, (("Transfer-Encoding", "chunked"),), b"3\r\nabc\r\n0\r\n\r\n")
    with LoopbackServer(always(reply)) as server, connected(server) as connection:
        assert get(connection) == (200, b"abc")


def test_handler_closes_the_connection() -> None:
    """A Connection header of the handler is not doubled."""
    reply = Reply(200, (("Connection", "close"),))
    with LoopbackServer(always(reply)) as server:
        assert raw_exchange(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").lower().count(b"connection:") == 1


@pytest.mark.parametrize("fault", [DropBefore(), DropAfter()])
def test_dropped_answer(fault: DropBefore | DropAfter) -> None:
    """A dropped answer is a closed connection without a single octet."""
    with LoopbackServer() as server:
        provider = SimulatedProvider(VirtualClock(), issuer=server.url, clients=[])
        server.handler = provider.handle
        provider.inject("jwks", fault)
        assert raw_exchange(server, b"GET /jwks HTTP/1.1\r\nHost: x\r\n\r\n") == b""
        assert provider.journal[0].fault == fault


@pytest.mark.parametrize("octets", [0, 5])
def test_truncated_answer(octets: int) -> None:
    """A truncated answer announces its full length and ends in a reset."""
    with LoopbackServer() as server, connected(server) as connection:
        provider = SimulatedProvider(VirtualClock(), issuer=server.url, clients=[])
        server.handler = provider.handle
        provider.inject("metadata", Truncate(octets))
        with pytest.raises(ConnectionResetError):
            get(connection, "/.well-known/openid-configuration")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Content-Length: 1048577", b"413"),
        (b"Content-Length: -1", b"400"),
        (b"Content-Length: \xb2", b"400"),
        (b"Transfer-Encoding: chunked", b"411"),
    ],
)
def test_bodies_that_are_not_read(head: bytes, status: bytes) -> None:
    """A body that is too large, chunked or of no proper length is not read, and the connection is closed."""
    with LoopbackServer(echo) as server:
        answer = raw_exchange(server, b"POST / HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b"Connection: close" in answer


def test_request_that_ends_early() -> None:
    """A request that breaks off in its body does not reach the handler."""
    with LoopbackServer(broken) as server:
        address = urlsplit(server.url)
        with socket.create_connection((str(address.hostname), int(address.port or 0)), 10) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc")
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100) == b""


def broken(method: str, target: str, headers: Headers, body: bytes) -> Reply:
    raise ZeroDivisionError


def test_a_failing_handler_is_not_hidden() -> None:
    """An exception in the handler is a 500 to the client and is raised at the end of the block."""
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(connected(stack.enter_context(LoopbackServer(broken))))
        assert get(connection) == (500, b"")
        with pytest.raises(ExceptionGroup) as caught:
            stack.close()
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]


def test_an_answer_that_cannot_be_sent_is_not_hidden() -> None:
    """A header that is not Latin-1 ends the connection and is raised at the end of the block."""
    with pytest.raises(ExceptionGroup), LoopbackServer(always(Reply(200, (("X", "€"),)))) as server:
        assert raw_exchange(server, b"GET / HTTP/1.1\r\n\r\n") == b""


def test_the_test_s_own_exception_comes_first() -> None:
    """When the block fails itself, errors of the handler do not cover that up; they can be looked up."""
    server = LoopbackServer(broken)

    def fail() -> None:
        with server, connected(server) as connection:
            get(connection)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [type(error) for error in server.errors] == [ZeroDivisionError]


def test_requests_at_the_same_time_are_counted() -> None:
    """Handlers run side by side, and the greatest number of requests at once is known."""
    barrier = threading.Barrier(3, timeout=10)

    def meet(method: str, target: str, headers: Headers, body: bytes) -> Reply:
        barrier.wait()
        return Reply(200)

    with LoopbackServer(meet) as server, contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connected(server)) for _ in range(3)]
        for connection in connections:
            connection.request("GET", "/")
        assert [connection.getresponse().status for connection in connections] == [200] * 3
        assert (server.connections, server.most_in_flight) == (3, 3)


def test_close_ends_hanging_handlers_and_idle_connections() -> None:
    """After close no thread and no connection is left, and it can be called again."""
    before = threading.active_count()
    hanging = threading.Event()
    server = LoopbackServer()

    def hang(method: str, target: str, headers: Headers, body: bytes) -> NoReply:
        hanging.set()
        server.closing.wait(10)
        return NoReply(acted=False)

    with connected(server) as idle, connected(server) as busy:
        get(idle)
        server.handler = hang
        busy.request("GET", "/")
        assert hanging.wait(10)
        server.close()
        server.close()
        assert threading.active_count() == before
        with pytest.raises(http.client.RemoteDisconnected):
            busy.getresponse()
        with pytest.raises(ConnectionRefusedError), connected(server) as refused:
            refused.request("GET", "/")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  # pyOpenSSL is optional
    return context


def test_https(authority: trustme.CA, server_context: ssl.SSLContext) -> None:
    """With a TLS context the server speaks HTTPS and keeps connections alive; faults work as well."""
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)  # pyright: ignore[reportUnknownMemberType]  # pyOpenSSL is optional
    with LoopbackServer(echo, ssl_context=server_context) as server:
        assert server.url.startswith("https://127.0.0.1:")
        with connected(server, trusting) as connection:
            for _ in range(2):
                connection.request("POST", "/", b"x")
                assert connection.getresponse().read() == b"x"
            server.handler = always(Reply(200, (), b"abc", cut=1))
            with pytest.raises((OSError, http.client.IncompleteRead)):
                get(connection)
        assert server.connections == 1


def test_untrusted_certificate(server_context: ssl.SSLContext) -> None:
    """A client that does not trust the certificate breaks off, and the server goes on quietly."""
    with LoopbackServer(echo, ssl_context=server_context) as server:
        with connected(server, ssl.create_default_context()) as connection, pytest.raises(ssl.SSLError):
            connection.request("GET", "/")
        assert server.errors == ()


def test_close_during_a_handshake(server_context: ssl.SSLContext) -> None:
    """A client that connects and says nothing does not keep the server from closing."""
    server = LoopbackServer(echo, ssl_context=server_context)
    address = urlsplit(server.url)
    with socket.create_connection((str(address.hostname), int(address.port or 0)), 10) as connection:
        server.close()
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""


def test_not_listening() -> None:
    """A server that does not listen yet refuses connections at a port that is its own already."""
    with LoopbackServer(echo, listening=False) as server:
        with connected(server) as connection, pytest.raises(ConnectionRefusedError):
            connection.request("GET", "/")
        server.listen()
        with connected(server) as connection:
            connection.request("POST", "/", b"x")
            assert connection.getresponse().read() == b"x"
    LoopbackServer(listening=False).close()


def test_a_port_of_choice() -> None:
    """A server takes the port it is told to, or raises when that is taken."""
    with LoopbackServer(echo) as server:
        taken = urlsplit(server.url).port
        assert taken is not None
        with pytest.raises(OSError, match="in use"):
            LoopbackServer(port=taken)
    with LoopbackServer(echo, port=taken) as server, connected(server) as connection:
        assert urlsplit(server.url).port == taken
        assert get(connection)[0] == 201


def test_closed_in_the_middle() -> None:
    """An answer can end early without a reset: what came is whole as far as it goes."""
    reply = Reply(200, (), b"0123456789", cut=4, reset=False)
    with LoopbackServer(always(reply)) as server:
        assert raw_exchange(server, b"GET / HTTP/1.1\r\n\r\n").endswith(b"Content-Length: 10\r\n\r\n0123")


def test_stream() -> None:
    """A body can come piece after piece, in chunked coding; the connection is kept."""
    with LoopbackServer(always(Reply(200, (), b"0", stream=(b"12", b"3")))) as server:
        with connected(server) as connection:
            for _ in range(2):
                connection.request("GET", "/")
                assert connection.getresponse().read() == b"0123"
        server.handler = always(Reply(200, stream=(b"12",)))
        with connected(server) as connection:
            connection.request("GET", "/")
            answer = connection.getresponse()
            assert answer.getheader("Transfer-Encoding") == "chunked"
            assert answer.read() == b"12"


def test_stream_without_end() -> None:
    """A stream ends when the client closes the connection, and the server goes on quietly."""
    ended = threading.Event()

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 65536
        finally:
            ended.set()

    def handler(method: str, target: str, headers: Headers, body: bytes) -> Reply:
        return Reply(200, stream=endless())

    with LoopbackServer(handler) as server:
        with connected(server) as connection:
            connection.request("GET", "/")
            assert connection.getresponse().read(10) == b"x" * 10
        assert ended.wait(10)
        assert server.errors == ()


def test_server_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is written to standard output or standard error, not even about nonsense."""
    with LoopbackServer(echo) as server, connected(server) as connection:
        get(connection)
        assert raw_exchange(server, b"nonsense\r\n\r\n") != b""
    assert capfd.readouterr() == ("", "")
