"""One HTTP/1.1 connection over a trio stream: h11 does the parsing, this does the reading and writing."""

from __future__ import annotations

import ssl
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import h11
import trio

from ciba_adapters._exchange import CHUNK, Body, answer, has_more, latin1, message_headers
from ciba_core.values.http import HttpRequest, HttpResponse

__all__ = ["Connection", "Origin", "connect"]

MAX_HEAD: Final = 64 * 1024
"""Octets of a header block, or of a line between two chunks, before the answer is given up."""
MAX_INTERIM: Final = 16
"""Interim (1xx) answers before the answer is given up."""
USER_AGENT: Final = "ciba-core"
_PORTS: Final = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Where a connection leads; a connection serves any request to its own origin."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """Return the origin of an absolute URL.

        Raises:
            ValueError: not an ``http`` or ``https`` URL with a host.

        """
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError("not an http or https URL")
        port = _PORTS[parts.scheme] if parts.port is None else parts.port
        return cls(parts.scheme, parts.hostname, port)

    @property
    def authority(self) -> str:
        """The value of ``Host``: the port only where it is not the scheme's own (RFC 9110 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


async def connect(origin: Origin, ssl_context: ssl.SSLContext) -> Connection:
    """Open a connection, TLS included.

    Raises:
        OSError: name resolution or connection failed.
        trio.BrokenResourceError: the TLS handshake failed; its cause says why.

    """
    tcp = await trio.open_tcp_stream(origin.host, origin.port)
    if origin.scheme == "http":
        return Connection(origin, tcp, tcp.socket)
    try:
        tls = trio.SSLStream(tcp, ssl_context, server_hostname=origin.host, https_compatible=True)
        await tls.do_handshake()
    except BaseException:
        tcp.socket.close()
        raise
    return Connection(origin, tls, tcp.socket)


class Connection:
    """An open connection to one origin, for one exchange after the other."""

    def __init__(self, origin: Origin, stream: trio.abc.Stream, socket: trio.socket.SocketType) -> None:
        self.origin = origin
        self.idle_since = 0.0
        self._stream = stream
        self._socket = socket
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)

    async def exchange(self, request: HttpRequest) -> HttpResponse:
        """Send the request and read its answer; afterwards `next_cycle` says whether there can be another.

        Raises:
            trio.BrokenResourceError: the connection broke.
            h11.ProtocolError: the answer is not HTTP, too long in its header, or ended too early.

        """
        await self._stream.send_all(self._encode(request))
        interim = 0
        while not isinstance(head := await self._next_event(), h11.Response):
            interim += 1
            if interim > MAX_INTERIM:
                raise h11.RemoteProtocolError("too many interim answers")
        body = Body(request.response_limit)
        while not body.full and isinstance(data := await self._next_event(), h11.Data):
            body.add(data.data)
        return answer(request, head.status_code, latin1(head.headers.raw_items()), bytes(body))

    def next_cycle(self) -> bool:
        """Get ready for another exchange; return whether the last one left the connection fit for it."""
        done = self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE
        if not done or self._h11.trailing_data[0]:
            return False
        self._h11.start_next_cycle()
        return True

    @property
    def stale(self) -> bool:
        """Whether an idle connection has something to read: its end, or unrequested octets."""
        # trio reads all that the socket has, and keeps the octets behind a TLS record.
        return self._socket.is_readable() or has_more(getattr(self._stream, "_ssl_object", None))

    def close(self) -> None:
        """Close at once, without TLS's close_notify: safe in a cancelled scope, since it does not wait."""
        self._socket.close()

    def _encode(self, request: HttpRequest) -> bytes:
        parts = urlsplit(request.url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = [("Host", self.origin.authority), *message_headers(request, USER_AGENT)]
        if request.body:
            headers.append(("Content-Length", str(len(request.body))))
        head = h11.Request(method=request.method, target=target, headers=headers)
        events = (head, h11.Data(data=request.body), h11.EndOfMessage())
        return b"".join(self._h11.send(event) or b"" for event in events)

    async def _next_event(self) -> h11.Event:
        while not isinstance(event := self._h11.next_event(), h11.Event):
            self._h11.receive_data(bytes(await self._stream.receive_some(CHUNK)))
        return event
