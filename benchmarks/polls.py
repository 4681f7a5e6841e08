"""Rows 1: one pending poll through each adapter, against its bare library making the same POST.

Both sides poll in a loop whose waits take no time: the clients get a virtual clock, and where the library is
asynchronous both sides go through the event loop once for each wait, as any polling loop has to.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    aclosing,
    asynccontextmanager,
    contextmanager,
)
from time import process_time
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import aiohttp
import httpx
import httpx2
import requests
import trio
import trio.lowlevel

import ciba_adapters.aiohttp as ciba_aiohttp
import ciba_adapters.httpx as ciba_httpx
import ciba_adapters.httpx2 as ciba_httpx2
import ciba_adapters.requests as ciba_requests
import ciba_adapters.trio as ciba_trio
from benchmarks.bare_trio import BareConnection
from benchmarks.measure import Goal, Result, Round, Scale, compare, cpu_per
from benchmarks.subject import CLIENT, CLIENT_ID, CLIENT_SECRET, FORM, VirtualWaits, pending, provider_at
from ciba_adapters.client import AsyncClient, SyncClient
from ciba_core import Step
from ciba_core.states import Pending

__all__ = ["SUBJECTS", "check_pending", "in_asyncio", "rows"]

ACCEPT: Final = {"Accept": "application/json"}
BASIC: Final = (CLIENT_ID, CLIENT_SECRET)
CONNECT, READ = CLIENT.connect_timeout, CLIENT.timeout

Work = Callable[[int], Awaitable[None]]
"""Polls so many times."""
Contender = Callable[[str, int], AbstractContextManager[Round]]
"""From the provider's URL and a number of polls to rounds of so many polls."""


def check_pending(answer: Any) -> None:
    """Do the least that a polling loop does with an answer."""
    if answer["error"] != "authorization_pending":
        raise AssertionError("the canned provider knows only one answer")


async def _timed(pieces: int, work: Work) -> float:
    before = process_time()
    await work(pieces)
    return (process_time() - before) / pieces * 1e6


@contextmanager
def in_asyncio(pieces: int, opened: AbstractAsyncContextManager[Work]) -> Generator[Round]:
    """Make rounds of asynchronous work. One event loop, with what was opened in it, stays for all of them."""

    async def enter() -> Work:
        return await opened.__aenter__()

    async def leave() -> None:
        await opened.__aexit__(None, None, None)

    with asyncio.Runner() as runner:
        work = runner.run(enter())
        try:
            yield lambda: runner.run(_timed(pieces, work))
        finally:
            runner.run(leave())


# This project: the loop of the client, which goes on from round to round.


def _sync_work(client: SyncClient[Any]) -> Callable[[int], None]:
    steps: Iterator[Step] = client.steps(pending(client.provider))

    def work(count: int) -> None:
        for current in steps:
            count -= isinstance(current.transaction.state, Pending)
            if not count:
                return
        raise AssertionError("the polling ended")

    return work


@asynccontextmanager
async def _async_work(client: AsyncClient[Any]) -> AsyncGenerator[Work]:
    async with aclosing(client.steps(pending(client.provider))) as steps:

        async def work(count: int) -> None:
            async for current in steps:
                count -= isinstance(current.transaction.state, Pending)
                if not count:
                    return
            raise AssertionError("the polling ended")

        yield work


@contextmanager
def _requests_subject(url: str, pieces: int) -> Generator[Round]:
    with requests.Session() as http:
        client = ciba_requests.CibaClient(provider_at(url), CLIENT, http=http, clock=VirtualWaits())
        yield cpu_per(pieces, _sync_work(client))


@contextmanager
def _httpx_subject(url: str, pieces: int) -> Generator[Round]:
    with httpx.Client() as http:
        client = ciba_httpx.CibaClient(provider_at(url), CLIENT, http=http, clock=VirtualWaits())
        yield cpu_per(pieces, _sync_work(client))


@contextmanager
def _httpx2_subject(url: str, pieces: int) -> Generator[Round]:
    with httpx2.Client() as http:
        client = ciba_httpx2.CibaClient(provider_at(url), CLIENT, http=http, clock=VirtualWaits())
        yield cpu_per(pieces, _sync_work(client))


def _httpx_async_subject(url: str, pieces: int) -> AbstractContextManager[Round]:
    @asynccontextmanager
    async def opened() -> AsyncGenerator[Work]:
        async with httpx.AsyncClient() as http:
            client = ciba_httpx.AsyncCibaClient(provider_at(url), CLIENT, http=http, clock=VirtualWaits())
            async with _async_work(client) as work:
                yield work

    return in_asyncio(pieces, opened())


def _httpx2_async_subject(url: str, pieces: int) -> AbstractContextManager[Round]:
    @asynccontextmanager
    async def opened() -> AsyncGenerator[Work]:
        async with httpx2.AsyncClient() as http:
            client = ciba_httpx2.AsyncCibaClient(provider_at(url), CLIENT, http=http, clock=VirtualWaits())
            async with _async_work(client) as work:
                yield work

    return in_asyncio(pieces, opened())


def _aiohttp_subject(url: str, pieces: int) -> AbstractContextManager[Round]:
    @asynccontextmanager
    async def opened() -> AsyncGenerator[Work]:
        async with aiohttp.ClientSession() as http:
            client = ciba_aiohttp.AsyncCibaClient(provider_at(url), CLIENT, http=http, clock=VirtualWaits())
            async with _async_work(client) as work:
                yield work

    return in_asyncio(pieces, opened())


@contextmanager
def _trio_subject(url: str, pieces: int) -> Generator[Round]:
    unused = ssl.create_default_context()

    async def turn() -> float:
        # trio has no loop to come back to: each round connects anew, before the time is taken.
        async with ciba_trio.TrioHttp(ssl_context=unused) as http:
            client = ciba_trio.AsyncCibaClient(provider_at(url), CLIENT, http=http, clock=VirtualWaits())
            async with _async_work(client) as work:
                await work(1)
                return await _timed(pieces, work)

    yield lambda: trio.run(turn)


# The bare libraries, used as their documentation does it: a session, `data`, `auth`, a timeout.


@contextmanager
def _requests_bare(url: str, pieces: int) -> Generator[Round]:
    with requests.Session() as http:

        def work(count: int) -> None:
            for _ in range(count):
                response = http.post(
                    f"{url}/token",
                    data=FORM,
                    headers=ACCEPT,
                    auth=BASIC,
                    timeout=(CONNECT, READ),
                    allow_redirects=False,
                )
                check_pending(response.json())

        yield cpu_per(pieces, work)


def _httpx_work(http: Any, url: str) -> Callable[[int], None]:
    def work(count: int) -> None:
        for _ in range(count):
            response = http.post(f"{url}/token", data=FORM, headers=ACCEPT, auth=BASIC)
            check_pending(response.json())

    return work


def _httpx_async_work(http: Any, url: str) -> Work:
    async def work(count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)
            response = await http.post(f"{url}/token", data=FORM, headers=ACCEPT, auth=BASIC)
            check_pending(response.json())

    return work


@contextmanager
def _httpx_bare(url: str, pieces: int) -> Generator[Round]:
    with httpx.Client(timeout=httpx.Timeout(READ, connect=CONNECT)) as http:
        yield cpu_per(pieces, _httpx_work(http, url))


@contextmanager
def _httpx2_bare(url: str, pieces: int) -> Generator[Round]:
    with httpx2.Client(timeout=httpx2.Timeout(READ, connect=CONNECT)) as http:
        yield cpu_per(pieces, _httpx_work(http, url))


def _httpx_async_bare(url: str, pieces: int) -> AbstractContextManager[Round]:
    @asynccontextmanager
    async def opened() -> AsyncGenerator[Work]:
        async with httpx.AsyncClient(timeout=httpx.Timeout(READ, connect=CONNECT)) as http:
            yield _httpx_async_work(http, url)

    return in_asyncio(pieces, opened())


def _httpx2_async_bare(url: str, pieces: int) -> AbstractContextManager[Round]:
    @asynccontextmanager
    async def opened() -> AsyncGenerator[Work]:
        async with httpx2.AsyncClient(timeout=httpx2.Timeout(READ, connect=CONNECT)) as http:
            yield _httpx_async_work(http, url)

    return in_asyncio(pieces, opened())


def _aiohttp_bare(url: str, pieces: int) -> AbstractContextManager[Round]:
    @asynccontextmanager
    async def opened() -> AsyncGenerator[Work]:
        timeout = aiohttp.ClientTimeout(total=CONNECT + READ, connect=CONNECT, sock_read=READ)
        basic = {"Authorization": aiohttp.encode_basic_auth(*BASIC)}
        async with aiohttp.ClientSession(timeout=timeout) as http:

            async def work(count: int) -> None:
                for _ in range(count):
                    await asyncio.sleep(0)
                    headers = ACCEPT | basic
                    async with http.post(
                        f"{url}/token", data=FORM, headers=headers, allow_redirects=False
                    ) as response:
                        check_pending(await response.json())

            yield work

    return in_asyncio(pieces, opened())


@contextmanager
def _trio_bare(url: str, pieces: int) -> Generator[Round]:
    host, port = urlsplit(url).hostname or "", urlsplit(url).port or 80

    async def turn() -> float:
        async with await trio.open_tcp_stream(host, port) as stream:
            connection = BareConnection(stream, f"{host}:{port}")

            async def work(count: int) -> None:
                for _ in range(count):
                    await trio.lowlevel.checkpoint()
                    basic = base64.b64encode(":".join(BASIC).encode()).decode()
                    headers = [
                        ("Accept", "application/json"),
                        ("Content-Type", "application/x-www-form-urlencoded"),
                        ("Authorization", f"Basic {basic}"),
                        ("Accept-Encoding", "identity"),
                        ("User-Agent", "benchmark"),
                    ]
                    with trio.fail_after(READ):
                        body = await connection.post("/token", headers, urlencode(FORM).encode())
                    check_pending(json.loads(body))

            await work(1)
            return await _timed(pieces, work)

    yield lambda: trio.run(turn)


SUBJECTS: Final[dict[str, Contender]] = {
    "requests": _requests_subject,
    "httpx, sync": _httpx_subject,
    "httpx, asyncio": _httpx_async_subject,
    "httpx2, sync": _httpx2_subject,
    "httpx2, asyncio": _httpx2_async_subject,
    "aiohttp": _aiohttp_subject,
    "trio and h11": _trio_subject,
}
_BARE: Final[dict[str, Contender]] = {
    "requests": _requests_bare,
    "httpx, sync": _httpx_bare,
    "httpx, asyncio": _httpx_async_bare,
    "httpx2, sync": _httpx2_bare,
    "httpx2, asyncio": _httpx2_async_bare,
    "aiohttp": _aiohttp_bare,
    "trio and h11": _trio_bare,
}


def rows(scale: Scale, url: str) -> Iterator[Result]:
    """Measure one row for each library."""
    for stack, subject in SUBJECTS.items():
        with subject(url, scale.pieces) as ours, _BARE[stack](url, scale.pieces) as bare:
            yield compare(
                ours,
                bare,
                rounds=scale.rounds,
                group="polls",
                name=stack,
                reference_name="the bare library",
                goal=Goal(1.10),
            )
