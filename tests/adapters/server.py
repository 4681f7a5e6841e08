"""A scripted server on loopback: raw octets over TCP or TLS, one script for each connection."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from attrs import frozen

PATIENCE: Final = 10.0
"""Seconds after which a script that still waits for its peer has failed."""


@frozen
class Received:
    """A request as it came in."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


class Peer:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE)
        self._socket = sock
        self._buffer = b""
        self.octets = b""
        self.requests: list[Received] = []
        self.gone = threading.Event()
        """The client has closed the connection."""
        self.certificate: bytes | None = None
        """What the client showed, in DER, if it was asked for a certificate."""

    def start_tls(self, context: ssl.SSLContext) -> None:
        self._socket = wrapped = context.wrap_socket(self._socket, server_side=True)
        self.certificate = wrapped.getpeercert(binary_form=True)

    def request(self) -> Received:
        """Read one request."""
        while b"\r\n\r\n" not in self._buffer:
            self.receive()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        start, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = start.split(" ")
        pairs = [line.partition(":") for line in lines]
        headers = tuple((name, value.strip()) for name, _, value in pairs)
        length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
        while len(self._buffer) < length:
            self.receive()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        self.requests.append(Received(method, target, headers, body))
        return self.requests[-1]

    def send(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def send_together(self, *parts: bytes) -> None:
        """Send octets that arrive at once, though over TLS each part is a record of its own."""
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        for part in parts:
            self.send(part)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    def send_for_ever(self, octets: bytes, *, pause: float = 0.0) -> None:
        """Send the same octets again and again until the client closes the connection."""
        with suppress(OSError):
            while not select.select([self._socket], [], [], pause)[0]:
                self.send(octets)
        self.until_closed()

    def until_closed(self) -> None:
        """Wait for the client to close the connection."""
        with suppress(ConnectionError, ssl.SSLError):
            while received := self._socket.recv(4096):
                self.octets += received
        self.gone.set()

    def reset(self) -> None:
        """Close the connection with a TCP reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self._socket.close()

    def take(self) -> bytes:
        """Read some octets, whatever they are."""
        received = self._socket.recv(65536)
        if not received:
            raise EOFError("the client closed the connection")
        return received

    def receive(self) -> None:
        """Read some octets."""
        received = self._socket.recv(65536)
        if not received:
            raise EOFError("the client closed the connection where a request was expected")
        self.octets += received
        self._buffer += received


Script = Callable[[Peer], None]


class Server:
    """Accepts connections while in the context; the n-th one gets the n-th script.

    A connection without a script is counted and closed. An error in a script is raised at the end.
    """

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.scripts = scripts
        self._tls = tls
        self._listener = socket.create_server(
            (host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._stopping = False
        self._errors: list[Exception] = []
        self._address = self._listener.getsockname()
        self.connections: list[Peer] = []

    def url(self, path: str = "/token", *, host: str | None = None) -> str:
        literal = self._address[0]
        host = host or (f"[{literal}]" if ":" in literal else literal)
        return f"{'https' if self._tls else 'http'}://{host}:{self._address[1]}{path}"

    @property
    def requests(self) -> list[Received]:
        return [request for peer in self.connections for request in peer.requests]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        with suppress(OSError):  # wakes accept()
            socket.create_connection(self._address[:2], PATIENCE).close()
        for thread in self._threads:
            thread.join(2 * PATIENCE)
        self._listener.close()
        if self._errors and error is None:
            raise self._errors[0]

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            if self._stopping:
                sock.close()
                return
            peer = Peer(sock)
            number = len(self.connections)
            self.connections.append(peer)
            script: Script = self.scripts[number] if number < len(self.scripts) else Peer.close
            thread = threading.Thread(target=self._serve, args=(peer, script), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, peer: Peer, script: Script) -> None:
        try:
            if self._tls is not None:
                try:
                    peer.start_tls(self._tls)
                except (ssl.SSLError, ConnectionError):  # the client did not like the certificate
                    return
            script(peer)
        except Exception as error:  # noqa: BLE001  # raised again by __exit__, in the test's thread
            self._errors.append(error)
        finally:
            peer.close()


def answering(*answers: bytes) -> Script:
    """Return a script that reads a request for each answer, and then waits for the client to close."""

    def script(peer: Peer) -> None:
        for answer in answers:
            peer.request()
            peer.send(answer)
        peer.until_closed()

    return script


def silent(peer: Peer) -> None:
    """Read a request and never answer."""
    peer.request()
    peer.until_closed()


def response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """Return an answer with its length."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def chunked(*chunks: bytes) -> bytes:
    """Return a chunked answer."""
    parts = [b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b"")]
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(parts)
