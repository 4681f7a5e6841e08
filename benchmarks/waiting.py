"""Rows 4: many authentications that wait, driven by one loop, against one asyncio task for each.

Both sides live in virtual time, in memory, and are given the same answers. The loop of this project keeps a
heap of deadlines. The tasks do what the clients of the peers do: sleep, build the form, look at the answer.
"""

from __future__ import annotations

import asyncio
import base64
import heapq
import itertools
import json
import selectors
import tracemalloc
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from time import process_time
from typing import Any
from urllib.parse import urlencode

from benchmarks.measure import Goal, Result, Scale, compare, cpu_per
from benchmarks.subject import (
    ANSWER_HEADERS,
    CLIENT,
    CLIENT_ID,
    CLIENT_SECRET,
    INTERVAL,
    PENDING_BODY,
    PROVIDER,
    START,
    acknowledgement_body,
    poll_once,
)
from ciba_core import AuthenticationRequest, Begin, HttpResponse, ResponseReceived, Transaction, step

__all__ = ["Heap", "rows"]


def _acknowledgements(count: int) -> list[bytes]:
    return [acknowledgement_body(f"1c266114-a1be-4252-8ad1-{number:012}") for number in range(count)]


class Heap:
    """Transactions in the order of their deadlines: the whole of a driver for many, but for the sending."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, Transaction]] = []
        self._numbers = itertools.count()

    @property
    def transactions(self) -> list[Transaction]:
        """Those that wait."""
        return [transaction for _, _, transaction in self._waiting]

    def start(self, bodies: list[bytes]) -> None:
        """Begin one authentication for each acknowledgement; they come evenly over one interval."""
        request = AuthenticationRequest(scope="openid", login_hint="alice")
        apart = INTERVAL / len(bodies)
        for number, body in enumerate(bodies):
            now = START + number * apart
            begun = step(Transaction(client=CLIENT, provider=PROVIDER), Begin(request), now)
            response = HttpResponse(200, ANSWER_HEADERS, body)
            self._push(step(begun.transaction, ResponseReceived(1, response, 0.1), now).transaction)

    def poll(self, count: int) -> None:
        """Let so many polls become due, one after the other."""
        for _ in range(count):
            _, _, transaction = heapq.heappop(self._waiting)
            self._push(poll_once(transaction))

    def _push(self, transaction: Transaction) -> None:
        deadline = transaction.deadline
        assert deadline is not None
        # The number keeps the heap from comparing transactions.
        heapq.heappush(self._waiting, (deadline, next(self._numbers), transaction))


class _VirtualTimeSelector(selectors.DefaultSelector):
    """Lets the time that the loop wants to wait pass at once."""

    # Near zero, where a float is finer than the resolution that the loop takes its clock to have.
    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is not None and timeout > 0:
            self.now += timeout
        return super().select(0)


class _VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _VirtualTimeSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


class _Tasks:
    """One task for each authentication."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: list[asyncio.Task[Any]] = []
        self._left = 0
        self._done = loop.create_future()

    def start(self, bodies: list[bytes]) -> None:
        apart = INTERVAL / len(bodies)
        for number, body in enumerate(bodies):
            coroutine = self._authenticate(json.loads(body), number * apart)
            self._tasks.append(self._loop.create_task(coroutine))
        self._loop.run_until_complete(asyncio.sleep(0))  # each runs up to its first wait

    def poll(self, count: int) -> None:
        self._left = count
        self._done = self._loop.create_future()
        self._loop.run_until_complete(self._done)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))

    async def _authenticate(self, acknowledgement: dict[str, Any], later: float) -> dict[str, Any]:
        interval = acknowledgement["interval"]
        expires_at = self._loop.time() + acknowledgement["expires_in"]
        await asyncio.sleep(later + interval)
        while self._loop.time() < expires_at:
            answer = await self._exchange(acknowledgement["auth_req_id"])
            if answer.get("error") == "slow_down":
                interval += 5
            elif answer.get("error") != "authorization_pending":
                return answer
            await asyncio.sleep(interval)
        raise TimeoutError

    async def _exchange(self, auth_req_id: str) -> dict[str, Any]:
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        headers = {"Accept": "application/json", "Authorization": f"Basic {basic}"}
        form = {"grant_type": "urn:openid:params:grant-type:ciba", "auth_req_id": auth_req_id}
        body = urlencode(form).encode()
        self._left -= 1
        if not self._left and not self._done.done():
            self._done.set_result(None)
        answer: dict[str, Any] = json.loads(PENDING_BODY)
        return answer if headers and body else {}


@contextmanager
def _heap() -> Generator[Heap]:
    yield Heap()


@contextmanager
def _tasks() -> Generator[_Tasks]:
    loop = _VirtualTimeLoop()
    tasks = _Tasks(loop)
    try:
        yield tasks
    finally:
        tasks.close()
        loop.close()


_Waiting = Callable[[], Any]


def _octets(make: _Waiting, bodies: list[bytes]) -> float:
    with make() as many:
        tracemalloc.start()
        try:
            many.start(bodies)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    return held / len(bodies)


def _start(make: _Waiting, bodies: list[bytes]) -> float:
    with make() as many:
        before = process_time()
        many.start(bodies)
        return (process_time() - before) / len(bodies) * 1e6


def rows(scale: Scale) -> Iterator[Result]:
    """Measure memory, start-up and polling for each number of waiting authentications."""
    for count in scale.waiting:
        bodies = _acknowledgements(count)
        large = count > 10_000
        yield compare(
            partial(_octets, _heap, bodies),
            partial(_octets, _tasks, bodies),
            rounds=2,  # it comes out the same each time
            group="waiting",
            name=f"memory of each of {count:,}",
            reference_name="one asyncio task each",
            unit="octets",
            warm_up=False,
        )
        yield compare(
            partial(_start, _heap, bodies),
            partial(_start, _tasks, bodies),
            rounds=3 if large else 9,
            group="waiting",
            name=f"start-up of each of {count:,}",
            reference_name="one asyncio task each",
        )
    few, many = min(scale.waiting), max(scale.waiting)
    pieces = scale.pieces * 20
    with _heap() as few_here, _heap() as many_here, _tasks() as few_tasks, _tasks() as many_tasks:
        for waiting, count in ((few_here, few), (few_tasks, few), (many_here, many), (many_tasks, many)):
            waiting.start(_acknowledgements(count))
        for count, here, tasks in ((few, few_here, few_tasks), (many, many_here, many_tasks)):
            yield compare(
                cpu_per(pieces, here.poll),
                cpu_per(pieces, tasks.poll),
                rounds=scale.rounds,
                group="waiting",
                name=f"poll among {count:,}",
                reference_name="one asyncio task each",
            )
        yield compare(
            cpu_per(pieces, many_here.poll),
            cpu_per(pieces, few_here.poll),
            rounds=scale.rounds,
            group="waiting",
            name=f"poll among {many:,}",
            reference_name=f"poll among {few:,}",
            goal=Goal(1.5),
            note="that the cost stays flat",
        )
        yield compare(
            cpu_per(pieces, many_tasks.poll),
            cpu_per(pieces, few_tasks.poll),
            rounds=scale.rounds,
            group="waiting",
            name=f"asyncio task among {many:,}",
            reference_name=f"asyncio task among {few:,}",
            note="the same of the tasks",
        )
