"""Rows 6: what a ping costs, in the core and through the stand-alone listener."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from time import process_time
from typing import Final

import anyio
import anyio.abc
from anyio.from_thread import BlockingPortal, start_blocking_portal
from attrs import evolve

from benchmarks.bare_listener import echo
from benchmarks.measure import Goal, Result, Round, Row, Scale, compare, cpu_per
from benchmarks.subject import AUTH_REQ_ID, CLIENT, START, pending
from ciba_adapters.notification import NotificationEndpoint
from ciba_adapters.notification.listener import Listener
from ciba_core import NotificationReceived, Routes, Secret, Transaction, receive, step
from ciba_core.notification import token_hash

__all__ = ["rows"]

_PING_CLIENT: Final = evolve(CLIENT, backchannel_token_delivery_mode="ping")
_BODY: Final = b'{"auth_req_id":"%s"}' % AUTH_REQ_ID.encode()


def _waiting() -> tuple[Transaction, str]:
    transaction = pending(client=_PING_CLIENT)
    token = transaction.client_notification_token
    assert token is not None
    return transaction, token.reveal()


def _headers(token: str) -> tuple[tuple[str, str], ...]:
    return (
        ("Host", "client.example.com"),
        ("User-Agent", "provider/1.0"),
        ("Accept", "*/*"),
        ("Content-Type", "application/json"),
        ("Authorization", f"Bearer {token}"),
        ("Content-Length", str(len(_BODY))),
    )


def _pings(waiting: int) -> Callable[[int], None]:
    """Return the work of answering pings while so many transactions wait."""
    routes = Routes()
    transaction, token = _waiting()
    for _ in range(waiting):
        _, other = _waiting()
        routes.add(token_hash(Secret(other)), "another", forget_at=START + 600, now=START)
    routes.add(token_hash(Secret(token)), "this", forget_at=START + 600, now=START)
    headers = _headers(token)

    def work(count: int) -> None:
        for _ in range(count):
            received = receive("POST", headers, _BODY, routes=routes, now=START)
            assert received.notification is not None
            answered = step(transaction, NotificationReceived(received.notification), START)
            if answered.answer is None or answered.answer.status != 204:
                raise AssertionError

    return work


def _by_hand(waiting: int) -> Callable[[int], None]:
    """Return the work of looking a token up and reading the body, without any of the checks."""
    _, token = _waiting()
    known = {hashlib.sha256(str(number).encode()).hexdigest(): number for number in range(waiting)}
    known[hashlib.sha256(token.encode()).hexdigest()] = -1
    headers = dict(_headers(token))

    def work(count: int) -> None:
        for _ in range(count):
            presented = headers["Authorization"].removeprefix("Bearer ")
            found = known.get(hashlib.sha256(presented.encode()).hexdigest())
            if found is None or json.loads(_BODY)["auth_req_id"] != AUTH_REQ_ID:
                raise AssertionError

    return work


# --- the listener ----------------------------------------------------------------------------------------

_SENDER: Final = """
import socket, sys
port, count, request = int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3])
end = bytes.fromhex(sys.argv[4])  # of an answer
with socket.create_connection(("127.0.0.1", port)) as connection:
    for _ in range(count):
        connection.sendall(request)
        answer = b""
        while not answer.endswith(end):
            answer += connection.recv(4096)
        if not answer.startswith(b"HTTP/1.1 20"):
            sys.exit(answer.decode())
"""


def _turn(port: int, count: int, request: bytes, end: bytes) -> Round:
    """Return a round of callbacks over one connection, sent by another process."""

    def turn() -> float:
        arguments = [sys.executable, "-c", _SENDER, str(port), str(count), request.hex(), end.hex()]
        before = process_time()
        with subprocess.Popen(arguments) as sender:
            pass
        if sender.returncode != 0:
            raise AssertionError
        return (process_time() - before) / count * 1e6

    return turn


@asynccontextmanager
async def _listening(endpoint: NotificationEndpoint) -> AsyncGenerator[int]:
    async with Listener(endpoint, path="/ciba", host="127.0.0.1") as listener:
        yield listener.port


@contextmanager
def _bare(portal: BlockingPortal) -> Generator[int]:
    async def serve(*, task_status: anyio.abc.TaskStatus[int]) -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", family=socket.AF_INET)
        async with listener:
            task_status.started(listener.extra(anyio.abc.SocketAttribute.local_port))
            await listener.serve(echo)

    future, port = portal.start_task(serve)
    try:
        yield port
    finally:
        future.cancel()


def _listener_row(scale: Scale) -> Row:
    transaction, token = _waiting()
    # Far beyond what a round sends; only what comes first is news, the others are harmless repeats.
    endpoint = NotificationEndpoint()
    head = "".join(f"{name}: {value}\r\n" for name, value in _headers(token))
    request = f"POST /ciba HTTP/1.1\r\n{head}\r\n".encode() + _BODY
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(_listening(endpoint)) as port,
        _bare(portal) as bare_port,
    ):
        endpoint.hold(transaction)
        return compare(
            _turn(port, scale.pieces, request, b"\r\n\r\n"),
            _turn(bare_port, scale.pieces, request, _BODY),
            rounds=scale.rounds,
            group="callbacks",
            name="ping through the listener",
            reference_name="bare h11 and anyio, an echo",
            goal=Goal(1.3),
        )


def rows(scale: Scale) -> Iterator[Result]:
    """Measure the endpoint function among few and many transactions, and the listener."""
    few, many = scale.waiting[0], scale.waiting[-1]
    among_few, among_many = _pings(few), _pings(many)
    pieces = scale.pieces * 10
    yield compare(
        cpu_per(pieces, among_many),
        cpu_per(pieces, _by_hand(many)),
        rounds=scale.rounds,
        group="callbacks",
        name=f"ping among {many:,}, from request to answer",
        reference_name="by hand: sha256, dict, json.loads",
        goal=Goal(40.0, of="subject"),
    )
    yield compare(
        cpu_per(pieces, among_many),
        cpu_per(pieces, among_few),
        rounds=scale.rounds,
        group="callbacks",
        name=f"ping among {many:,}",
        reference_name=f"ping among {few:,}",
        goal=Goal(1.5),
    )
    yield _listener_row(scale)
