"""Each way to receive callbacks, as a server on loopback."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from socketserver import ThreadingMixIn
from typing import Any, Final, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.validate import validator

import anyio
import anyio.from_thread
import uvicorn
from aiohttp import web
from attrs import frozen

import ciba_adapters.notification.aiohttp
import ciba_adapters.notification.asgi
import ciba_adapters.notification.wsgi
from ciba_adapters.notification import NotificationEndpoint
from ciba_adapters.notification.listener import Listener

from .callbacks import PATIENCE

PATH: Final = "/cb"


@frozen
class Answer:
    """What a server has answered."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


class Connection:
    """A client's end of a connection, of which every octet is the test's."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE)
        self._socket = sock
        self._buffer = b""

    @classmethod
    def to(cls, port: int) -> Self:
        return cls(socket.create_connection(("127.0.0.1", port), PATIENCE))

    def send(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def answer(self) -> Answer:
        """Read one answer."""
        while b"\r\n\r\n" not in self._buffer:
            self._receive()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        start, *lines = head.decode("latin-1").split("\r\n")
        pairs = [line.partition(":") for line in lines]
        headers = tuple((name, value.strip()) for name, _, value in pairs)
        length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
        while len(self._buffer) < length:
            self._receive()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return Answer(int(start.split(" ")[1]), headers, body)

    def is_closed(self) -> bool:
        """Wait for the server to close, and tell whether it did so without another octet."""
        try:
            return self._buffer + self._socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def has_ended(self) -> bool:
        """Wait for the server to have no more to say; a reset is an error."""
        return self._socket.recv(1) == b""

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive(self) -> None:
        octets = self._socket.recv(65536)
        if not octets:
            raise EOFError(f"the server closed the connection where an answer was expected: {self._buffer!r}")
        self._buffer += octets


def exchange(port: int, octets: bytes) -> Answer:
    """Send a request and read its answer."""
    with Connection.to(port) as connection:
        connection.send(octets)
        return connection.answer()


class _Uvicorn(uvicorn.Server):
    def install_signal_handlers(self) -> None:
        """Not in a thread."""


@contextmanager
def serving_asgi(app: Any, **settings: Any) -> Generator[int]:
    """Serve an ASGI application by uvicorn."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        config = uvicorn.Config(app, log_config=None, ws="none", lifespan="on", **settings)
        server = _Uvicorn(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(PATIENCE)


def asgi(endpoint: NotificationEndpoint, implementation: str) -> AbstractContextManager[int]:
    return serving_asgi(ciba_adapters.notification.asgi.NotificationApp(endpoint), http=implementation)


class _ThreadingServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self.errors = io.StringIO()
        super().__init__(*arguments)


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name of the base class
        pass

    def get_stderr(self) -> Any:
        assert isinstance(self.server, _ThreadingServer)
        return self.server.errors


@contextmanager
def serving_wsgi(app: Any) -> Generator[int]:
    """Serve a WSGI application by the server of the standard library, under the validator of PEP 3333."""
    with _ThreadingServer(("127.0.0.1", 0), _Handler) as server:
        server.set_app(validator(app))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join(PATIENCE)
        assert not server.errors.getvalue()


def wsgi(endpoint: NotificationEndpoint) -> AbstractContextManager[int]:
    return serving_wsgi(ciba_adapters.notification.wsgi.NotificationApp(endpoint))


@contextmanager
def aiohttp(endpoint: NotificationEndpoint) -> Generator[int]:
    app = web.Application()
    app.router.add_route("*", PATH, ciba_adapters.notification.aiohttp.handler(endpoint))

    async def serve(sock: socket.socket) -> web.AppRunner:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.0)
        await runner.setup()
        await web.SockSite(runner, sock).start()
        return runner

    with (
        socket.create_server(("127.0.0.1", 0)) as sock,
        anyio.from_thread.start_blocking_portal("asyncio") as portal,
    ):
        runner = portal.call(serve, sock)
        try:
            yield sock.getsockname()[1]
        finally:
            portal.call(runner.cleanup)


@contextmanager
def listener(endpoint: NotificationEndpoint, backend: str, **settings: Any) -> Generator[int]:
    with (
        anyio.from_thread.start_blocking_portal(backend) as portal,
        portal.wrap_async_context_manager(
            Listener(endpoint, path=PATH, host="127.0.0.1", **settings)
        ) as server,
    ):
        yield server.port


RECEIVERS: Final[dict[str, Callable[[NotificationEndpoint], AbstractContextManager[int]]]] = {
    "asgi-h11": partial(asgi, implementation="h11"),
    "wsgi": wsgi,
    "aiohttp": aiohttp,
    "listener-asyncio": partial(listener, backend="asyncio"),
    "listener-trio": partial(listener, backend="trio"),
}
