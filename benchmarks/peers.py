"""Rows 2: the same poll by the peers, each against this project on the same stack.

A peer that is not installed, or cannot be driven, gives a line that says so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import certifi
import requests

from benchmarks.measure import Fact, Goal, Result, Round, Row, Scale, compare, cpu_per
from benchmarks.polls import SUBJECTS, Work, check_pending, in_asyncio
from benchmarks.provider import Canned
from benchmarks.subject import AUTH_REQ_ID, CLIENT_ID, CLIENT_SECRET

__all__ = ["rows"]

NODE_DIRECTORY = Path(__file__).parent / "node"


@contextmanager
def _requests_oauth2client(canned: Canned, pieces: int) -> Generator[Round]:
    """Drive its polling job, with the `sleep` that it leaves to subclasses replaced."""
    peer: Any = import_module("requests_oauth2client")

    class Job(peer.BackChannelAuthenticationPollingJob):  # type: ignore[misc]  # the peer is optional, hence Any
        def sleep(self) -> None:
            """Take no time."""

    with requests.Session() as http:
        client = peer.OAuth2Client(
            token_endpoint=f"{canned.url}/token",
            auth=peer.ClientSecretBasic(CLIENT_ID, CLIENT_SECRET),
            session=http,
            testing=True,  # allows plain HTTP
        )
        job = Job(client, AUTH_REQ_ID)

        def work(count: int) -> None:
            for _ in range(count):
                if job() is not None:
                    raise AssertionError("the canned provider issues no tokens")

        yield cpu_per(pieces, work)


@contextmanager
def _trusted(ca_certificate: str) -> Generator[None]:
    # The peer takes metadata by HTTPS only; the token endpoint in them is a plain one. The authority is
    # trusted for this one call, since the usual store has to be loaded by each of its polls.
    with tempfile.TemporaryDirectory() as directory:
        bundle = Path(directory, "bundle.pem")
        bundle.write_text(Path(certifi.where()).read_text() + ca_certificate)
        os.environ["SSL_CERT_FILE"] = str(bundle)
        try:
            yield
        finally:
            del os.environ["SSL_CERT_FILE"]


def _auth0_server_python(canned: Canned, pieces: int) -> AbstractContextManager[Round]:
    """Call the second of its two public steps; the first one is made once, for the metadata."""
    server_client: Any = import_module("auth0_server_python.auth_server.server_client")
    error: Any = import_module("auth0_server_python.error")

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Work]:
        client = server_client.ServerClient(
            domain=canned.tls_origin,
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            secret="a secret of its session cookies",
        )
        with _trusted(canned.ca_certificate):
            begun = await client.initiate_backchannel_authentication({"login_hint": {"sub": "alice"}})

        async def work(count: int) -> None:
            for _ in range(count):
                try:
                    await client.backchannel_authentication_grant(begun["auth_req_id"])
                except error.PollingApiError as pending:
                    check_pending({"error": pending.code})
                else:
                    raise AssertionError("the canned provider issues no tokens")

        yield work

    return in_asyncio(pieces, opened())


class _Node:
    """`openid-client` and the bare `fetch` under one Node process, which measures its own CPU time."""

    def __init__(self, node: str, url: str) -> None:
        command = [node, "openid_client.mjs", url, CLIENT_ID, CLIENT_SECRET, AUTH_REQ_ID]
        self._process = subprocess.Popen(
            command, cwd=NODE_DIRECTORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def turn(self, contender: str, pieces: int) -> float:
        """Return the microseconds of CPU time for one poll."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"contender": contender, "count": pieces}).encode() + b"\n")
        self._process.stdin.flush()
        return float(json.loads(self._process.stdout.readline())["microseconds"]) / pieces

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._process.stdout.close()


@contextmanager
def _node(url: str) -> Generator[_Node]:
    node = shutil.which("node")
    if node is None:
        raise RuntimeError("node is not on the PATH")
    if not (NODE_DIRECTORY / "node_modules").is_dir():
        raise RuntimeError("not installed; npm is missing")
    process = _Node(node, url)
    try:
        # The compiler of Node needs some hundred rounds before it comes to rest.
        process.turn("openid-client", 1_000)
        process.turn("fetch", 1_000)
        yield process
    finally:
        process.close()


def _against_this(
    scale: Scale, canned: Canned, stack: str, peer: Round, *, name: str, note: str = "", pieces: int = 0
) -> Row:
    with SUBJECTS[stack](canned.url, pieces or scale.pieces) as ours:
        return compare(
            ours,
            peer,
            rounds=scale.rounds,
            group="peers",
            name=stack,
            reference_name=name,
            goal=Goal(1.0),
            note=note,
        )


def rows(scale: Scale, canned: Canned) -> Iterator[Result]:
    """Measure this project against each peer."""
    try:
        with _requests_oauth2client(canned, scale.pieces) as peer:
            yield _against_this(scale, canned, "requests", peer, name="requests-oauth2client")
    except ImportError as problem:
        yield Fact(group="peers", name="requests-oauth2client", text=f"skipped: {problem}")
    try:
        # Its polls take so long that a tenth of them is enough.
        pieces = max(scale.pieces // 10, 2)
        with _auth0_server_python(canned, pieces) as peer:
            yield _against_this(
                scale,
                canned,
                "httpx, asyncio",
                peer,
                name="auth0-server-python",
                note="a new connection and TLS context for each poll",
                pieces=pieces,
            )
    except ImportError as problem:
        yield Fact(group="peers", name="auth0-server-python", text=f"skipped: {problem}")
    try:
        with _node(canned.url) as node:
            pieces = scale.pieces
            for stack in ("httpx, asyncio", "aiohttp", "trio and h11"):
                yield _against_this(
                    scale,
                    canned,
                    stack,
                    lambda: node.turn("openid-client", pieces),
                    name="openid-client (Node)",
                    note="CPU time of the Node process",
                )
            yield compare(
                lambda: node.turn("openid-client", pieces),
                lambda: node.turn("fetch", pieces),
                rounds=scale.rounds,
                group="peers",
                name="openid-client (Node)",
                reference_name="bare fetch of Node",
                note="the peer by the measure of the rows above",
            )
    except RuntimeError as problem:
        yield Fact(group="peers", name="openid-client (Node)", text=f"skipped: {problem}")
