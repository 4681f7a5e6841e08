"""What is special about ASGI: the application driven by hand, and behind a real server and a router."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Route

from ciba_adapters.notification.asgi import NotificationApp

from .callbacks import PATIENCE, PUSH, Callback, Loop, World, acknowledged, callback
from .receivers import PATH, exchange, serving_asgi

Message = MutableMapping[str, Any]

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Server:
    """An ASGI server that does what its script says."""

    def __init__(self, app: NotificationApp, messages: Iterable[Message]) -> None:
        self.sent: list[Message] = []
        self.asked = 0
        self._app = app
        self._messages = iter(messages)

    async def _receive(self) -> Message:
        self.asked += 1
        return next(self._messages)

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    def run(self, scope: Message, backend: str = "asyncio") -> None:
        async def main() -> None:
            await self._app(scope, self._receive, self._send)

        anyio.run(main, backend=backend)


def scope_of(sent: Callback, **changes: Any) -> Message:
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in sent.headers]
    return {"type": "http", "http_version": "1.1", "method": sent.method, "headers": headers, **changes}


def body(octets: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": octets, "more_body": more}


def test_two_lengths() -> None:
    """RFC 9112 6.1: a callback that says its length twice is refused here too, before its body is read."""
    world = World()
    transaction = acknowledged()
    world.hold(transaction)
    both = callback(transaction, more_headers=(("transfer-encoding", "chunked"), ("content-length", "22")))
    server = Server(NotificationApp(world.endpoint), [])
    server.run(scope_of(both))
    assert server.sent[0]["status"] == 400
    assert server.asked == 0


def headers_of(server: Server) -> dict[bytes, bytes]:
    return dict(server.sent[0]["headers"])


@backends
def test_a_ping(backend: str) -> None:
    """A good callback is answered in two messages, without a body, and the connection stays."""
    world = World()
    transaction = acknowledged()
    held = world.hold(transaction)
    sent = callback(transaction)
    server = Server(NotificationApp(world.endpoint), [body(sent.body[:9], more=True), body(sent.body[9:])])
    server.run(scope_of(sent), backend)
    assert server.sent == [
        {"type": "http.response.start", "status": 204, "headers": []},
        {"type": "http.response.body", "body": b""},
    ]
    assert held.ready()


@backends
def test_a_push(backend: str) -> None:
    """The application waits for the loop of the client, in whatever thread that is."""
    world = World()
    transaction = acknowledged("push")
    loop = Loop(world.hold(transaction), transaction)
    sent = callback(transaction, PUSH)
    server = Server(NotificationApp(world.endpoint), [body(sent.body)])
    server.run(scope_of(sent), backend)
    assert server.sent[0]["status"] == 204
    assert loop.end().tokens is not None


def test_turned_away_unread() -> None:
    """CIBA-9-15: without a good token the body is not asked for, and the connection is to be closed."""
    server = Server(NotificationApp(World().endpoint), [])
    server.run(scope_of(callback(acknowledged())))
    assert server.asked == 0
    assert server.sent[0]["status"] == 401
    assert headers_of(server)[b"connection"] == b"close"
    assert headers_of(server)[b"content-length"] == b"0"


@pytest.mark.parametrize("version", ["2", "3"])
def test_later_versions_of_http(version: str) -> None:
    """HTTP/2 and HTTP/3 know no Connection field (RFC 9113 8.2.2)."""
    server = Server(NotificationApp(World().endpoint), [])
    server.run(scope_of(callback(acknowledged()), http_version=version))
    assert server.sent[0]["status"] == 401
    assert b"connection" not in headers_of(server)


def test_no_more_is_read_than_needed() -> None:
    """Of a body without end, nothing is asked for after the limit."""
    world = World(body_limit=1000)
    transaction = acknowledged()
    world.hold(transaction)
    server = Server(NotificationApp(world.endpoint), (body(bytes(400), more=True) for _ in iter(int, 1)))
    server.run(scope_of(callback(transaction)))
    assert server.asked == 3
    assert server.sent[0]["status"] == 413
    assert headers_of(server)[b"connection"] == b"close"


def test_a_client_that_goes_away() -> None:
    """Half a callback is none, and nobody is there to be answered."""
    world = World()
    transaction = acknowledged()
    held = world.hold(transaction)
    messages = [body(b'{"auth_req_id"', more=True), {"type": "http.disconnect"}]
    server = Server(NotificationApp(world.endpoint), messages)
    server.run(scope_of(callback(transaction)))
    assert server.sent == []
    assert not held.ready()


def test_a_client_that_does_not_wait() -> None:
    """A server that says so when the answer cannot be sent is not told of an error in turn."""
    world = World()
    transaction = acknowledged()
    held = world.hold(transaction)
    sent = callback(transaction)

    async def receive() -> Message:
        return body(sent.body)

    async def send(message: Message) -> None:
        raise BrokenPipeError

    asyncio.run(NotificationApp(world.endpoint)(scope_of(sent), receive, send))
    assert held.ready()


def test_an_error_of_the_embedder() -> None:
    """What the embedder's own callables raise is the server's to report, an OSError too."""

    def broken(_event: object) -> None:
        raise ConnectionError("no database")

    world = World(on_rejected=broken)
    server = Server(NotificationApp(world.endpoint), [])
    with pytest.raises(ConnectionError):
        server.run(scope_of(callback(acknowledged())))


def test_lifespan() -> None:
    """There is nothing to set up and nothing to end, which is said as the server expects."""
    messages: list[Message] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    server = Server(NotificationApp(World().endpoint), messages)
    server.run({"type": "lifespan"})
    assert server.sent == [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]


def test_websocket() -> None:
    """A WebSocket is turned away."""
    server = Server(NotificationApp(World().endpoint), [{"type": "websocket.connect"}])
    server.run({"type": "websocket"})
    assert server.sent == [{"type": "websocket.close"}]


def test_unknown_scope() -> None:
    """An application raises for what it does not know (ASGI 3)."""
    with pytest.raises(ValueError, match="carrier pigeon"):
        Server(NotificationApp(World().endpoint), []).run({"type": "carrier pigeon"})


@pytest.mark.parametrize("framework", [Starlette, FastAPI])
def test_a_route_in_a_framework(framework: Callable[[], Starlette]) -> None:
    """Given a route, it answers at the path itself, whatever the method: no redirect, no answer of the router's."""
    world = World()
    transaction = acknowledged()
    held = world.hold(transaction)
    app = framework()
    app.router.routes.append(Route(PATH, NotificationApp(world.endpoint)))
    with serving_asgi(app) as port:
        assert exchange(port, callback(transaction).octets(PATH)).status == 204
        refused = exchange(port, callback(transaction, b"", method="GET").octets(PATH))
        assert (refused.status, refused.values("Allow")) == (405, ["POST"])
        assert exchange(port, callback(transaction).octets("/elsewhere")).status == 404
    assert held.wait(PATIENCE) is not None
