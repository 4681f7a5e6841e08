"""Every exchange ends within its time limit, whatever the server does, and the error says how far it came."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic
from typing import Any, Final

import pytest
from attrs import evolve

from ciba_adapters._cancellation import Exchange, bounded
from ciba_adapters.transport import SendFailed
from ciba_core.values.http import Delivery, HttpResponse

from .server import Peer, Script, Server, answering, response
from .stacks import PLAIN, AsyncioStack, Session, Stack
from .test_transport import ANSWER, get, post

LIMIT: Final = 0.5
"""Seconds that the exchanges of these tests may take."""
GRACE: Final = 2.0
"""Seconds more in which they have to be back on a busy machine. Without a limit, they never are."""


def fail_in_time(
    stack: Stack, url: str, session: Session = PLAIN, *, timeout: float = LIMIT, connecting: float = LIMIT
) -> SendFailed:
    begun = monotonic()
    failure = stack.fail(post(url, timeout=timeout, connect_timeout=connecting), session)
    assert monotonic() - begun < LIMIT + GRACE
    return failure


def endless(octets: bytes, start: bytes = b"", *, pause: float = 0.0) -> Script:
    """Return a script that answers with the same octets again and again."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(start)
        peer.send_for_ever(octets, pause=pause)

    return script


DRIPS: Final = {
    "status line": endless(b"x", b"HTTP/1.1 200 ", pause=LIMIT / 5),
    "header": endless(b"x", b"HTTP/1.1 200 OK\r\nX: ", pause=LIMIT / 5),
    "header fields": endless(b"X: y\r\n", b"HTTP/1.1 200 OK\r\n", pause=LIMIT / 5),
    "body": endless(b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", pause=LIMIT / 5),
    "chunk size": endless(b"0", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", pause=LIMIT / 5),
    "continue": endless(b"HTTP/1.1 100 Continue\r\n\r\n", pause=LIMIT / 5),
}


@pytest.mark.parametrize("drip", DRIPS.values(), ids=DRIPS)
def test_answer_that_drips(stack: Stack, drip: Script) -> None:
    """Octets that come one by one prolong nothing, wherever in the answer they belong."""
    with Server(drip) as server:
        failure = fail_in_time(stack, server.url())
    assert (failure.delivery, failure.reason) == (Delivery.UNKNOWN, "timed out")
    assert server.connections[0].gone.is_set()


@pytest.mark.parametrize("drip", [DRIPS["status line"], DRIPS["body"]], ids=["status line", "body"])
def test_answer_that_drips_over_tls(
    stack: Stack, trusting: Session, loopback_tls: ssl.SSLContext, drip: Script
) -> None:
    """The same over TLS."""
    with Server(drip, tls=loopback_tls) as server:
        failure = fail_in_time(stack, server.url(), trusting)
    assert (failure.delivery, failure.reason) == (Delivery.UNKNOWN, "timed out")


@pytest.mark.parametrize("status", ["100 Continue", "102 Processing", "103 Early Hints"])
def test_interim_answers_without_end(stack: Stack, status: str) -> None:
    """Interim answers as fast as the server can send them are no answer."""
    flood = f"HTTP/1.1 {status}\r\nLink: </x>\r\n\r\n".encode() * 20
    with Server(endless(flood)) as server:
        assert fail_in_time(stack, server.url()).delivery is Delivery.UNKNOWN


def test_drip_on_a_kept_connection(stack: Stack) -> None:
    """The same for a request that goes out through a connection that was kept."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(response(ANSWER))
        DRIPS["status line"](peer)

    with Server(script) as server:
        first = post(server.url())
        begun = monotonic()
        with pytest.raises(SendFailed, match=r"^timed out$"):
            stack.send(first, evolve(first, timeout=LIMIT))
        assert monotonic() - begun < LIMIT + GRACE
    assert len(server.connections) == 1


def test_time_out_over_tls(stack: Stack, trusting: Session, loopback_tls: ssl.SSLContext) -> None:
    """A server that does not answer over TLS ran out of time, which is no fault of TLS."""
    with Server(endless(b"", pause=LIMIT), tls=loopback_tls) as server:
        failure = fail_in_time(stack, server.url(), trusting)
    assert (failure.delivery, failure.reason) == (Delivery.UNKNOWN, "timed out")


def test_handshake_that_drips(stack: Stack, trusting: Session) -> None:
    """A TLS handshake whose octets come one by one ends with the time for connecting: nothing was sent."""

    def script(peer: Peer) -> None:
        peer.receive()
        # The header of a record of 1,000 octets, and what it has.
        peer.send(b"\x16\x03\x03\x03\xe8\x02\x00\x03\xe4\x03\x03")
        peer.send_for_ever(b"x", pause=LIMIT / 10)

    with Server(script) as server:
        url = server.url().replace("http:", "https:")
        failure = fail_in_time(stack, url, trusting, connecting=LIMIT / 2, timeout=60.0)
    assert failure.delivery is Delivery.NOT_SENT
    assert "timed out" in failure.reason


def test_connecting_is_part_of_the_whole(stack: Stack, trusting: Session) -> None:
    """The time for connecting is not added to the whole, and cannot be longer."""
    with Server(Peer.until_closed) as server:
        url = server.url().replace("http:", "https:")
        failure = fail_in_time(stack, url, trusting, connecting=60.0)
    assert failure.delivery is Delivery.NOT_SENT
    assert "timed out" in failure.reason


@pytest.fixture
def hanging_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Name resolution that takes as long as the test."""
    over = threading.Event()
    resolve = socket.getaddrinfo

    def hang(host: Any, *arguments: Any, **options: Any) -> Any:
        if host in {"op.invalid", b"op.invalid"}:
            flags = next(iter(arguments[4:]), options.get("flags", 0))
            if not flags & socket.AI_NUMERICHOST:  # which asks nobody
                over.wait(30.0)
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    yield over
    over.set()


def test_name_resolution_that_hangs(stack: Stack, hanging_resolver: threading.Event) -> None:
    """Name resolution, which nothing can interrupt, ends in a thread of its own; the call has returned."""
    # asyncio.run() waits for its threads at the end, when the call has ended.
    releasing = threading.Timer(LIMIT + GRACE / 4, hanging_resolver.set)
    if isinstance(stack, AsyncioStack):
        releasing.start()
    failure = fail_in_time(stack, "http://op.invalid/token", connecting=LIMIT / 2)
    releasing.cancel()
    assert failure.delivery is Delivery.NOT_SENT
    assert "timed out" in failure.reason


def test_threads_are_used_again() -> None:
    """One exchange after the other costs no new thread each, and a forked process begins with none."""
    answer = HttpResponse(200, (), b"")
    used: list[threading.Thread] = []

    def exchange(_: Exchange) -> HttpResponse:
        used.append(threading.current_thread())
        return answer

    for _ in range(8):
        assert bounded(post("https://op.example/token"), exchange) is answer
    assert len(set(used)) < 8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of newer Pythons, since there are threads
        child = os.fork()
    if child == 0:
        code = 1
        try:
            code = int(bounded(post("https://op.example/token", timeout=LIMIT), exchange) is not answer)
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


# What nobody asked for


@pytest.mark.parametrize("records", [1, 2])
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("secured", [True, False], ids=["TLS", "plain"])
def test_answer_to_no_request(
    stack: Stack,
    trusting: Session,
    loopback_tls: ssl.SSLContext,
    *,
    secured: bool,
    records: int,
    method: str,
) -> None:
    """What a server sends unasked on a kept connection is never taken for the answer to the next request."""

    def script(peer: Peer) -> None:
        peer.request()
        octets = [response(ANSWER), response(b"stale")]
        peer.send_together(*(octets if records == 2 else [b"".join(octets)]))
        with suppress(EOFError):
            answering(response(b"fresh"))(peer)

    with Server(script, answering(response(b"fresh")), tls=loopback_tls if secured else None) as server:
        message = post(server.url()) if method == "POST" else get(server.url())
        [_, second] = stack.send(message, message, session=trusting if secured else PLAIN)
    assert second.body == b"fresh"
