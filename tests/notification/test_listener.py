"""The listener: its limits, its TLS, its beginning and its end."""

from __future__ import annotations

import logging
import resource
import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from time import monotonic
from typing import Any, Final

import anyio
import anyio.abc
import pytest
import trustme

from ciba_adapters.notification.listener import Listener
from ciba_core import HttpResponse, NotificationReceived, Transaction, step
from ciba_core.notification import Notification
from tests.samples import NOW, SHARED

from .callbacks import PATIENCE, PUSH, Loop, World, acknowledged, callback, elsewhere
from .receivers import PATH, Connection, exchange, listener

Open = Callable[..., AbstractContextManager[int]]
SOON: Final = 0.02
"""Seconds of a time limit that is waited for."""


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def serving(world: World, backend: str) -> Open:
    """Opens a listener for the endpoint of `world`."""
    return partial(listener, world.endpoint, backend)


# --- requests -----------------------------------------------------------------------------------------------


def test_one_request_after_the_other(world: World, serving: Open) -> None:
    """A connection stays for more callbacks, sent one after the other or all at once."""
    transaction = acknowledged()
    world.hold(transaction)
    octets = callback(transaction).octets()
    with serving() as port, Connection.to(port) as connection:
        for _ in range(2):
            connection.send(octets)
            answer = connection.answer()
            assert answer.status == 204
            assert answer.values("Connection") == []
            assert len(answer.values("Date")) == 1
        connection.send(octets * 3)
        assert [connection.answer().status for _ in range(3)] == [204] * 3


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/cb", 204),
        ("/cb?x=1", 204),
        ("http://client.example/cb", 204),
        ("/", 404),
        ("/cb/", 404),
        ("/CB", 404),
        ("*", 404),
        ("//cb", 404),
        ("//elsewhere/cb", 404),
        ("/cb#x", 404),
        ("//[", 404),
        ("http://[x]/cb", 204),
    ],
)
def test_the_path(world: World, serving: Open, target: str, status: int) -> None:
    """One path is served, in each form that a request target may have (RFC 9112 3.2)."""
    transaction = acknowledged()
    world.hold(transaction)
    with serving() as port:
        assert exchange(port, callback(transaction).octets(target)).status == status


def test_two_lengths(world: World, serving: Open) -> None:
    """RFC 9112 6.1: what says its length twice may be two requests to somebody else; it is refused, and that is all."""
    transaction = acknowledged()
    world.hold(transaction)
    good = callback(transaction).octets()
    both = callback(transaction, more_headers=(("Transfer-Encoding", "chunked"),)).octets()
    with serving() as port, Connection.to(port) as connection:
        connection.send(both + good)
        assert connection.answer().status == 400
        assert connection.has_ended()


@pytest.mark.parametrize("old", [True, False], ids=["HTTP/1.0", "Connection: close"])
def test_a_client_that_wants_one_answer(world: World, serving: Open, old: bool) -> None:
    """The connection is closed after the answer."""
    transaction = acknowledged()
    world.hold(transaction)
    octets = callback(transaction, more_headers=(("Connection", "close"),)).octets()
    if old:
        octets = octets.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Connection: close\r\n", b"")
    with serving() as port, Connection.to(port) as connection:
        connection.send(octets)
        assert connection.answer().status == 204
        assert connection.is_closed()


def test_expectations(world: World, serving: Open) -> None:
    """RFC 9110 10.1.1: a client that asks first sends its body if it is welcome, and otherwise need not."""
    transaction = acknowledged()
    welcome = callback(transaction, more_headers=(("Expect", "100-continue"),))
    head = welcome.octets().removesuffix(welcome.body)
    with serving() as port:
        with Connection.to(port) as connection:
            connection.send(head)
            assert connection.answer().status == 401
        world.hold(transaction)
        with Connection.to(port) as connection:
            connection.send(head)
            assert connection.answer().status == 100
            connection.send(welcome.body)
            assert connection.answer().status == 204


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"POST /cb HTTP/1.1\r\n\r\n", 400),
        (b"POST /cb HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /cb HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 30_000, 431),
        (b"POST /cb HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 5_000, 431),
    ],
    ids=["TLS", "no Host", "two lengths", "long field", "many fields"],
)
def test_what_is_not_http(world: World, serving: Open, octets: bytes, status: int) -> None:
    """It is answered as far as it can be, and the connection is closed."""
    with serving() as port, Connection.to(port) as connection:
        connection.send(octets)
        answer = connection.answer()
        assert (answer.status, answer.body) == (status, b"")
        assert connection.is_closed()
        assert exchange(port, callback(acknowledged()).octets()).status == 401


def test_a_broken_body(world: World, serving: Open) -> None:
    """A body that is not what its header says is no callback."""
    transaction = acknowledged()
    held = world.hold(transaction)
    head = callback(transaction, b"", more_headers=(("Transfer-Encoding", "chunked"),)).octets()
    with serving() as port, Connection.to(port) as connection:
        connection.send(head.replace(b"Content-Length: 0\r\n", b"") + b"no length\r\n")
        assert connection.answer().status == 400
        assert connection.is_closed()
    assert not held.ready()


def test_a_client_that_goes_on_sending(world: World, serving: Open) -> None:
    """Who was turned away can read the answer while it sends a gigabyte; the connection ends all the same."""
    octets = callback(acknowledged(), b"", content_length=1 << 30).octets()
    with serving() as port, Connection.to(port) as connection:
        connection.send(octets)
        assert connection.answer().status == 413
        with pytest.raises(OSError, match=r"reset|pipe"):
            connection.send(bytes(1 << 26))


def test_a_body_that_is_not_read(world: World, serving: Open) -> None:
    """A connection that is closed over an unread body is not reset: that might cost the client the answer."""
    large = callback(acknowledged(), bytes(60_000))
    with serving() as port, Connection.to(port) as connection:
        connection.send(large.octets())
        assert connection.answer().status == 401
        assert connection.has_ended()


def test_an_answer_of_the_embedder(backend: str) -> None:
    """What `not_held` answers goes out as it is."""

    def not_held(_key: str, _notification: Notification) -> HttpResponse:
        return HttpResponse(200, (("X", "y"),), b"thanks")

    transaction = acknowledged()
    world = World(routes=elsewhere(transaction), not_held=not_held)
    with listener(world.endpoint, backend) as port:
        answer = exchange(port, callback(transaction).octets())
    assert (answer.status, answer.values("X"), answer.body) == (200, ["y"], b"thanks")


def test_an_answer_that_cannot_be_sent(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """An answer of the embedder's that is no HTTP costs its own connection, and is logged."""

    def not_held(_key: str, _notification: Notification) -> HttpResponse:
        return HttpResponse(200, (("X", "y\r\nSet-Cookie: z"),), b"")

    transaction = acknowledged()
    world = World(routes=elsewhere(transaction), not_held=not_held)
    with listener(world.endpoint, backend) as port, caplog.at_level(logging.ERROR):
        with Connection.to(port) as connection:
            connection.send(callback(transaction).octets())
            assert connection.is_closed()
        assert exchange(port, callback(acknowledged()).octets()).status == 401
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("where", ["not_held", "on_rejected"])
def test_a_fault_of_the_embedder(backend: str, where: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is answered with 500 and logged, and the listener goes on."""

    def broken(*_arguments: Any) -> HttpResponse | None:
        raise ConnectionError("no database")

    transaction = acknowledged()
    world = World(routes=elsewhere(transaction), **{where: broken})
    sent = callback(transaction) if where == "not_held" else callback(acknowledged())
    with listener(world.endpoint, backend) as port, caplog.at_level(logging.ERROR):
        assert [exchange(port, sent.octets()).status for _ in range(2)] == [500, 500]
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert "Bearer" not in caplog.text


# --- limits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "octets"),
    [
        ("idle_timeout", 0),
        ("head_timeout", 1),
        ("head_timeout", 100),
        ("body_timeout", -1),
    ],
)
def test_slow_clients(world: World, serving: Open, limit: str, octets: int) -> None:
    """Who sends nothing, or not all, is not waited for longer than each phase allows."""
    transaction = acknowledged()
    held = world.hold(transaction)
    sent = callback(transaction).octets()
    with serving(**{limit: SOON}) as port, Connection.to(port) as connection:
        connection.send(sent[:octets] if octets else b"")
        assert connection.is_closed()
    assert not held.ready()


def test_a_client_that_does_not_read(backend: str) -> None:
    """An answer that is not read is given up, and with it the connection."""

    def not_held(_key: str, _notification: Notification) -> HttpResponse:
        return HttpResponse(200, (), bytes(20_000_000))

    transaction = acknowledged()
    world = World(routes=elsewhere(transaction), not_held=not_held)
    octets = callback(transaction).octets()
    with (
        listener(world.endpoint, backend, send_timeout=SOON, max_connections=1) as port,
        Connection.to(port) as connection,
    ):
        connection.send(octets)
        # There is room for another one only when the first was given up.
        assert exchange(port, callback(acknowledged()).octets()).status == 401


def test_a_push_may_take_longer(world: World, serving: Open) -> None:
    """Whoever waits for the client's own loop is not taken for a slow client."""
    transaction = acknowledged("push")
    held = world.hold(transaction)
    with serving(body_timeout=SOON, idle_timeout=SOON) as port, Connection.to(port) as connection:
        connection.send(callback(transaction, PUSH).octets())
        notification = held.wait(PATIENCE)
        assert notification is not None
        with Connection.to(port) as idle:  # until the time of both is over
            assert idle.is_closed()
        held.update(step(transaction, NotificationReceived(notification), NOW, SHARED))
        assert connection.answer().status == 204


def test_a_handshake_that_does_not_come(serving: Open, server_tls: ssl.SSLContext) -> None:
    """Who opens a connection and does not begin TLS is not waited for."""
    with serving(ssl_context=server_tls, handshake_timeout=SOON) as port, Connection.to(port) as connection:
        assert connection.is_closed()


def test_the_number_of_connections(world: World, serving: Open) -> None:
    """No more are served than allowed; who comes next waits, and is served as soon as there is room."""
    transaction = acknowledged()
    world.hold(transaction)
    octets = callback(transaction).octets()
    with serving(max_connections=2) as port, Connection.to(port) as first, Connection.to(port) as second:
        body = begin(first, transaction)
        begin(second, transaction)
        with Connection.to(port) as third:
            third.send(octets)
            first.send(body)
            # Where others may have to wait, nobody stays without a reason.
            assert first.answer().values("Connection") == ["close"]
            assert first.is_closed()
            assert third.answer().status == 204


def test_others_wait_at_the_limit(world: World, serving: Open) -> None:
    """A connection above the limit is not answered before one ends that has sent a callback's header."""
    transaction = acknowledged()
    world.hold(transaction)
    octets = callback(transaction).octets()
    with serving(max_connections=1) as port, Connection.to(port) as first:
        body = begin(first, transaction)
        with Connection.to(port) as second:
            second.send(octets)
            with ThreadPoolExecutor(1) as pool:
                answer = pool.submit(second.answer)
                first.send(body)
                assert first.answer().status == 204
                assert answer.result(PATIENCE).status == 204


def begin(connection: Connection, transaction: Transaction) -> bytes:
    """Send a callback's header, wait until the listener has taken it, and return the body."""
    sent = callback(transaction, more_headers=(("Expect", "100-continue"),))
    connection.send(sent.octets().removesuffix(sent.body))
    assert connection.answer().status == 100
    return sent.body


def test_room_is_made_for_a_new_connection(world: World, serving: Open) -> None:
    """When all places are taken, the connection is closed that has waited longest and sent nothing useful."""
    transaction = acknowledged()
    world.hold(transaction)
    octets = callback(transaction).octets()
    with serving(max_connections=3) as port, Connection.to(port) as useful:
        useful.send(octets)
        assert useful.answer().status == 204
        with Connection.to(port) as idle, Connection.to(port) as slow:
            slow.send(octets[:20])
            assert exchange(port, octets).status == 204
            assert idle.is_closed()
            with Connection.to(port) as third, Connection.to(port) as fourth:
                assert slow.is_closed()
                fourth.send(octets)
                assert fourth.answer().status == 204
                useful.send(octets)
                assert useful.answer().status == 204
                third.send(octets)
                assert third.answer().status == 204


def test_share_of_an_address(world: World, serving: Open) -> None:
    """An address may have so many places; above that its own connections make room, or the new one is closed."""
    transaction = acknowledged()
    world.hold(transaction)
    with serving(max_per_address=1) as port, Connection.to(port) as idle, Connection.to(port) as busy:
        assert idle.is_closed()
        body = begin(busy, transaction)
        with Connection.to(port) as turned_away:
            assert turned_away.is_closed()
        busy.send(body)
        assert busy.answer().status == 204


PRESSURE: Final = {"idle": b"", "slowloris": b"POST /cb HTTP/1.1\r\nHost: x\r\nX-Slow: "}
CROWD: Final = 2000


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Enough of them for both ends of a crowd."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * CROWD + 500
    assert before[1] == resource.RLIM_INFINITY or before[1] >= needed, "the system allows too few open files"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], needed), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("descriptors")
@pytest.mark.parametrize("octets", PRESSURE.values(), ids=PRESSURE)
def test_a_crowd_keeps_no_callback_out(world: World, serving: Open, octets: bytes) -> None:
    """A callback is answered within a second, however many connections are open that say nothing useful."""
    transaction = acknowledged()
    world.hold(transaction)
    with serving() as port, ExitStack() as crowd:
        for _ in range(CROWD):
            sock = crowd.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
            with suppress(OSError):  # it was closed for one that came later
                sock.sendall(octets)
        assert min(_seconds(port, callback(transaction).octets()) for _ in range(3)) < 1.0


def test_handshakes_that_do_not_come_keep_no_callback_out(
    world: World, serving: Open, server_tls: ssl.SSLContext, authority: trustme.CA
) -> None:
    """The same over TLS, where the crowd does not even begin the handshake."""
    transaction = acknowledged()
    world.hold(transaction)
    with serving(ssl_context=server_tls) as port, ExitStack() as crowd:
        for _ in range(300):
            crowd.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
        octets = callback(transaction).octets()
        assert min(_seconds(port, octets, client_tls(authority)) for _ in range(3)) < 1.0


def _seconds(port: int, octets: bytes, tls: ssl.SSLContext | None = None) -> float:
    begun = monotonic()
    plain = socket.create_connection(("127.0.0.1", port), PATIENCE)
    with Connection(
        plain if tls is None else tls.wrap_socket(plain, server_hostname="127.0.0.1")
    ) as connection:
        connection.send(octets)
        assert connection.answer().status == 204
    return monotonic() - begun


def test_a_connection_that_cannot_be_accepted(
    world: World, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With too many open files the listener waits a moment and goes on."""
    transaction = acknowledged()
    world.hold(transaction)
    failures: list[Exception] = [OSError(24, "Too many open files"), anyio.BrokenResourceError()]
    create = anyio.create_tcp_listener

    async def failing(**settings: Any) -> Any:
        listeners = await create(**settings)
        [accepting] = listeners.listeners
        assert isinstance(accepting, anyio.abc.SocketListener)
        accept = accepting.accept

        async def fail_at_first() -> anyio.abc.SocketStream:
            if failures:
                raise failures.pop()
            return await accept()

        monkeypatch.setattr(accepting, "accept", fail_at_first)
        return listeners

    monkeypatch.setattr(anyio, "create_tcp_listener", failing)
    monkeypatch.setattr("ciba_adapters.notification.listener._PAUSE", 0.0)
    with listener(world.endpoint, backend) as port:
        assert exchange(port, callback(transaction).octets()).status == 204
    assert failures == []


# --- TLS ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """A certificate for the loopback address."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  # of pyOpenSSL
    return context


def client_tls(authority: trustme.CA, shown_by: trustme.CA | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]  # of pyOpenSSL
    if shown_by is not None:
        shown_by.issue_cert("op.example").configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  # of pyOpenSSL
    return context


def secured(port: int, context: ssl.SSLContext) -> Connection:
    plain = socket.create_connection(("127.0.0.1", port), PATIENCE)
    try:
        return Connection(context.wrap_socket(plain, server_hostname="127.0.0.1"))
    except BaseException:
        plain.close()
        raise


def secured_exchange(port: int, context: ssl.SSLContext, octets: bytes) -> int:
    with secured(port, context) as connection:
        connection.send(octets)
        return connection.answer().status


def test_tls(world: World, serving: Open, server_tls: ssl.SSLContext, authority: trustme.CA) -> None:
    """CIBA-9-01: a callback over TLS, and one that is turned away before its body was read."""
    transaction = acknowledged()
    world.hold(transaction)
    with serving(ssl_context=server_tls) as port, secured(port, client_tls(authority)) as connection:
        connection.send(callback(transaction).octets())
        assert connection.answer().status == 204
        connection.send(callback(acknowledged()).octets())
        assert connection.answer().status == 401


@pytest.fixture
def demanding_tls(server_tls: ssl.SSLContext, authority: trustme.CA) -> ssl.SSLContext:
    """Only clients with a certificate of the authority's come in."""
    authority.configure_trust(server_tls)  # pyright: ignore[reportUnknownMemberType]  # of pyOpenSSL
    server_tls.verify_mode = ssl.CERT_REQUIRED
    return server_tls


def test_a_client_certificate(
    world: World, serving: Open, demanding_tls: ssl.SSLContext, authority: trustme.CA
) -> None:
    """The provider shows its certificate where one is demanded."""
    transaction = acknowledged()
    world.hold(transaction)
    octets = callback(transaction).octets()
    with serving(ssl_context=demanding_tls) as port:
        assert secured_exchange(port, client_tls(authority, authority), octets) == 204


@pytest.mark.parametrize("shown", ["none", "of a stranger"])
def test_no_client_certificate(
    world: World, serving: Open, demanding_tls: ssl.SSLContext, authority: trustme.CA, shown: str
) -> None:
    """Whoever cannot show it is not heard, and the listener goes on."""
    transaction = acknowledged()
    held = world.hold(transaction)
    stranger = client_tls(authority, None if shown == "none" else trustme.CA())
    octets = callback(transaction).octets()
    with serving(ssl_context=demanding_tls) as port:
        # In TLS 1.3 a client learns that it was turned away when it reads.
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            secured_exchange(port, stranger, octets)
        assert not held.ready()
        assert secured_exchange(port, client_tls(authority, authority), octets) == 204


# --- beginning and end --------------------------------------------------------------------------------------


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


def test_a_connection_that_begins_at_the_end(world: World, backend: str) -> None:
    """What was accepted just before the end is not waited for."""

    async def main() -> None:
        async with Listener(world.endpoint, path=PATH, host="127.0.0.1") as server:
            service = server._service  # pyright: ignore[reportPrivateUsage]
            service.close()
            guard = service.admit("127.0.0.1")
            with anyio.fail_after(PATIENCE), service.guarding(guard):
                await anyio.sleep(2 * PATIENCE)
            assert guard.scope.cancelled_caught
            service.dismiss(guard)

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("error", [None, LookupError("the user said no")], ids=["end", "error"])
def test_an_answer_in_flight_is_sent(
    world: World, serving: Open, pool: ThreadPoolExecutor, error: Exception | None
) -> None:
    """The end of the context waits for the callbacks that have arrived; nobody else is let in."""
    transaction = acknowledged("push")
    held = world.hold(transaction)
    context = serving()
    port = context.__enter__()
    with Connection.to(port) as idle, Connection.to(port) as half, Connection.to(port) as connection:
        idle.send(callback(transaction).octets())
        assert idle.answer().status == 400
        assert held.take() is not None
        half.send(callback(transaction).octets()[:30])
        connection.send(callback(transaction, PUSH).octets())
        notification = held.wait(PATIENCE)
        assert notification is not None
        closing = pool.submit(context.__exit__, type(error) if error else None, error, None)
        assert idle.is_closed()
        assert half.is_closed()
        with pytest.raises(ConnectionError):
            socket.create_connection(("127.0.0.1", port), PATIENCE)
        assert not closing.done()
        held.update(step(transaction, NotificationReceived(notification), NOW, SHARED))
        answer = connection.answer()
        assert answer.status == 204
        assert answer.values("Connection") == ["close"]
        assert not closing.result(PATIENCE)  # the error is not swallowed


def test_the_outcome_of_a_push_is_no_group(world: World, backend: str) -> None:
    """An exception out of the context arrives as it is, not in a group."""

    async def main() -> None:
        async with Listener(world.endpoint, path=PATH, host="127.0.0.1"):
            raise LookupError

    with pytest.raises(LookupError):
        anyio.run(main, backend=backend)


def test_cancelled(world: World, backend: str) -> None:
    """Cancellation does not wait for anybody."""
    transaction = acknowledged("push")
    held = world.hold(transaction)

    async def main() -> None:
        with anyio.fail_after(PATIENCE), anyio.CancelScope() as scope:
            async with Listener(world.endpoint, path=PATH, host="127.0.0.1") as server:
                connection = await anyio.to_thread.run_sync(Connection.to, server.port)
                with connection:
                    connection.send(callback(transaction, PUSH).octets())
                    await held.wait_async(PATIENCE)
                    scope.cancel()
                    await anyio.lowlevel.checkpoint()

    anyio.run(main, backend=backend)


def test_what_ends_the_program_waits_for_nobody(world: World, backend: str) -> None:
    """An exception like `KeyboardInterrupt` cuts connections off."""

    class StopAtOnce(BaseException):
        pass

    transaction = acknowledged("push")
    held = world.hold(transaction)

    async def main() -> None:
        with anyio.fail_after(PATIENCE / 2):
            async with Listener(world.endpoint, path=PATH, host="127.0.0.1") as server:
                with await anyio.to_thread.run_sync(Connection.to, server.port) as connection:
                    connection.send(callback(transaction, PUSH).octets())
                    await held.wait_async(PATIENCE)
                raise StopAtOnce

    with pytest.raises(StopAtOnce):
        anyio.run(main, backend=backend)


def test_a_port_in_use(world: World, backend: str) -> None:
    """It is said before anything is begun."""

    async def main(port: int) -> None:
        async with Listener(world.endpoint, path=PATH, host="127.0.0.1", port=port):
            raise AssertionError

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        anyio.run(main, taken.getsockname()[1], backend=backend)


def test_all_addresses(world: World, backend: str) -> None:
    """Without a host, it listens at every address, on one port."""
    transaction = acknowledged()
    world.hold(transaction)
    octets = callback(transaction).octets()

    async def main() -> int:
        async with Listener(world.endpoint, path=PATH, host=None) as server:
            return (await anyio.to_thread.run_sync(exchange, server.port, octets)).status

    assert anyio.run(main, backend=backend) == 204


def test_with_its_client_in_one_event_loop(world: World, backend: str) -> None:
    """As it is used: the listener and the loop that waits for its callbacks, in one program."""
    transaction = acknowledged("push")
    octets = callback(transaction, PUSH).octets()

    async def main() -> None:
        answers: list[int] = []
        async with (
            Listener(world.endpoint, path=PATH, host="127.0.0.1") as server,
            anyio.create_task_group() as tasks,
        ):
            held = world.hold(transaction)

            async def provider() -> None:
                answers.append((await anyio.to_thread.run_sync(exchange, server.port, octets)).status)

            tasks.start_soon(provider)
            notification: Notification | None = await held.wait_async(PATIENCE)
            assert notification is not None
            held.update(step(transaction, NotificationReceived(notification), NOW, SHARED))
        assert answers == [204]

    anyio.run(main, backend=backend)


def test_with_its_client_in_a_thread(world: World, serving: Open) -> None:
    """A client that blocks its thread beside a listener in another one."""
    transaction = acknowledged("push")
    loop = Loop(world.hold(transaction), transaction)
    with serving() as port:
        assert exchange(port, callback(transaction, PUSH).octets()).status == 204
    assert loop.end().tokens is not None
