"""A real HTTP/1.1 server on a loopback port, to run a simulated provider behind a real HTTP stack."""

from __future__ import annotations

import contextlib
import itertools
import socket
import socketserver
import ssl
import struct
import sys
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Final, Self, cast

from .wire import Handler, Headers, NoReply, Reply

__all__ = ["LoopbackServer"]

_BODY_LIMIT: Final = 1024 * 1024
_HANGS: Final = 0.05
"""Seconds after which a loopback connection counts as hanging because the queue is full."""
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 seconds: close() sends a reset


def _not_found(*_request: object) -> Reply:
    return Reply(404)


class LoopbackServer:
    """Serves a `Handler`, such as `SimulatedProvider.handle`, on a free port of 127.0.0.1.

    The port is bound first, so that the provider can be told its own URL::

        with LoopbackServer() as server:
            provider = SimulatedProvider(clock, issuer=server.url, clients=[...], users={...})
            server.handler = provider.handle

    Connections are kept alive, and each has a thread of its own: a handler is called from several threads
    at once. An exception in the handler is answered with 500 and raised again, with the others, at the end
    of the ``with`` block.

    Args:
        handler: what answers the requests; until one is set, everything is 404.
        ssl_context: a context for the server side, to speak HTTPS.
        listening: whether connections are accepted at once, or refused until `listen` is called.
        port: the port to listen at; 0 for a free one.

    Raises:
        OSError: the port is taken.

    """

    def __init__(
        self,
        handler: Handler = _not_found,
        *,
        ssl_context: ssl.SSLContext | None = None,
        listening: bool = True,
        port: int = 0,
    ) -> None:
        self._server = _Server(handler, ssl_context, port)
        scheme = "http" if ssl_context is None else "https"
        self.url: Final = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        """Origin of the server, without a terminating slash."""
        self.closing: Final = self._server.closing
        """Set when the server is about to close. A handler that should hang waits for it."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="LoopbackServer"
        )
        if listening:
            self.listen()

    def clog(self) -> None:
        """Let connections hang until `listen` is called: the system's queue for them is full.

        Call it once, and only if the server was made not to listen.
        """
        self._server.clog()

    def listen(self) -> None:
        """Accept connections from now on. Call it once, and only if the server was made not to listen.

        A connection that hangs after `clog` goes on when the client's system tries again, after a second.
        """
        self._server.server_activate()
        self._thread.start()

    @property
    def handler(self) -> Handler:
        """What answers the requests; may be replaced at any time."""
        return self._server.handler

    @handler.setter
    def handler(self, handler: Handler) -> None:
        self._server.handler = handler

    @property
    def connections(self) -> int:
        """Connections accepted so far."""
        return self._server.connections

    @property
    def most_in_flight(self) -> int:
        """Greatest number of requests that were being answered at the same time."""
        return self._server.most_in_flight

    @property
    def errors(self) -> tuple[Exception, ...]:
        """Exceptions that the handler has raised."""
        return tuple(self._server.errors)

    def close(self) -> None:
        """Close the port and all connections and wait for their threads. May be called more than once."""
        self.closing.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.wake_connections()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        if self.errors and error is None:
            raise ExceptionGroup("the handler of a LoopbackServer failed", self.errors)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = False  # so that server_close() waits for them
    request_queue_size = 128

    def __init__(self, handler: Handler, ssl_context: ssl.SSLContext | None, port: int) -> None:
        self.handler = handler
        self.closing = threading.Event()
        self.connections = 0
        self.most_in_flight = 0
        self.errors: list[Exception] = []
        self._ssl_context = ssl_context
        self._in_flight = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Connection, bind_and_activate=False)
        try:
            self.server_bind()
        except OSError:
            self.server_close()
            raise

    def clog(self) -> None:
        """Fill the queue of connections that are not accepted yet."""
        self.socket.listen(0)
        while True:
            try:
                filler = socket.create_connection(self.socket.getsockname(), timeout=_HANGS)
            except TimeoutError:
                return
            filler.close()  # queued connections stay in the queue

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  # as in the base class
        """Keep quiet about connections that the client broke off; note every other error."""
        error = sys.exception()
        if isinstance(error, Exception) and not isinstance(error, OSError):
            self.errors.append(error)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; the TLS handshake is left to its own thread."""
        connection, address = super().get_request()
        if self._ssl_context is not None:
            connection = self._ssl_context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        with self._lock:
            self.connections += 1
            self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, unlike the base class without an end of stream, which prevents a reset."""
        with self._lock:
            self._open.discard(request)
        request.close()

    def wake_connections(self) -> None:
        """End all connections, and with them the threads that read from one."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):  # the client may have been faster
                    connection.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def request_in_flight(self) -> Generator[None]:
        """Count the request handled in the block."""
        with self._lock:
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1

    def call(self, method: str, target: str, headers: Headers, body: bytes) -> Reply | NoReply:
        """Call the handler; an exception of it becomes status 500."""
        try:
            return self.handler(method, target, headers, body)
        except Exception as error:  # noqa: BLE001  # raised again at the end of the with block
            self.errors.append(error)
            return Reply(500)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        self.owner = cast("_Server", self.server)
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()
        super().setup()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name in the base class
        """Write nothing to standard error."""

    def _serve(self) -> None:
        with self.owner.request_in_flight():
            answer = self._answer()
            if isinstance(answer, Reply):
                self._write(answer)
            else:
                self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _serve  # noqa: N815  # named after methods

    def _answer(self) -> Reply | NoReply:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers:
            return self._unreadable(411)
        if not (length.isascii() and length.isdecimal()):
            return self._unreadable(400)
        if int(length) > _BODY_LIMIT:
            return self._unreadable(413)
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            return NoReply(acted=False)
        return self.owner.call(self.command, self.path, tuple(self.headers.items()), body)

    def _unreadable(self, status: int) -> Reply:
        self.close_connection = True  # the rest of the body would be read as the next request
        return Reply(status)

    def _write(self, reply: Reply) -> None:
        for octets in reply.before:
            self.wfile.write(octets)
        if reply.stream:
            self._write_stream(reply)
            return
        names = {name.lower() for name, _ in reply.headers}
        body = b"" if reply.status in {204, 304} else reply.body[: reply.cut]
        self.send_response_only(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        if reply.status not in {204, 304} and "transfer-encoding" not in names:
            self.send_header("Content-Length", str(len(reply.body)))
        if self.close_connection and "connection" not in names:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        if reply.cut is not None:
            self.close_connection = True
            if reply.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def _write_stream(self, reply: Reply) -> None:
        self.send_response_only(reply.status)
        for name, value in (*reply.headers, ("Transfer-Encoding", "chunked")):
            self.send_header(name, value)
        self.end_headers()
        for piece in itertools.chain((reply.body,) if reply.body else (), reply.stream, (b"",)):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
