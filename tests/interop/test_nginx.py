"""Callbacks through nginx, by TLS and HTTP/2, to the receivers behind uvicorn and waitress."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import httpx
import pytest
from attrs import frozen

from ciba_adapters.notification import NotificationEndpoint
from tests.notification.callbacks import (
    BAD,
    PATIENCE,
    PUSH,
    Bad,
    Callback,
    Loop,
    World,
    acknowledged,
    callback,
)
from tests.notification.receivers import asgi

from .nginx import Nginx, running_nginx, waitress

pytestmark = pytest.mark.interop

SERVERS: Final[dict[str, Callable[[NotificationEndpoint], AbstractContextManager[int]]]] = {
    "uvicorn": partial(asgi, implementation="h11"),
    "waitress": waitress,
}
PASSED_ON: Final = {
    name: bad
    for name, bad in BAD.items()
    # nginx itself refuses the one, and waits for the body of the other.
    if name not in ("two Authorization fields", "1 GB, not sent")
}
"""Callbacks that are turned away, and that nginx passes on."""


@frozen
class Site:
    """An endpoint behind a server behind nginx."""

    world: World
    nginx: Nginx

    def request(self, sent: Callback) -> httpx.Request:
        headers = [
            (name.encode(), value.encode("latin-1"))
            for name, value in sent.headers
            if name not in ("Host", "Content-Length")
        ]
        return httpx.Request(sent.method, self.nginx.url, headers=headers, content=sent.body)

    def send(self, sent: Callback, *, http2: bool = True) -> httpx.Response:
        with httpx.Client(http2=http2, verify=self.nginx.trust, timeout=PATIENCE, trust_env=False) as http:
            answer = http.send(self.request(sent))
        assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        return answer


@pytest.fixture(params=SERVERS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Site]:
    """Run all three for one test."""
    world = World()
    with SERVERS[request.param](world.endpoint) as port, running_nginx(tmp_path, port) as nginx:
        yield Site(world, nginx)


@pytest.mark.parametrize("http2", [True, False])
def test_a_ping(site: Site, http2: bool) -> None:
    """CIBA-10.2: it reaches the transaction, and the provider is answered 204."""
    transaction = acknowledged()
    held = site.world.hold(transaction)
    answer = site.send(callback(transaction), http2=http2)
    assert (answer.status_code, answer.content) == (204, b"")
    assert held.ready()


def test_a_push(site: Site) -> None:
    """CIBA-10.3: the answer comes after the validation, and the tokens are there."""
    transaction = acknowledged("push")
    loop = Loop(site.world.hold(transaction), transaction)
    assert site.send(callback(transaction, PUSH)).status_code == 204
    assert loop.end().tokens is not None


def test_a_push_that_is_refused(site: Site) -> None:
    """CIBA-10.3-09: a forged one is answered 400, and the transaction goes on."""
    transaction = acknowledged("push")
    held = site.world.hold(transaction)
    Loop(held, transaction)
    assert site.send(callback(transaction, {**PUSH, "access_token": "forged"})).status_code == 400
    assert site.send(callback(transaction, PUSH)).status_code == 204


@pytest.mark.parametrize("bad", PASSED_ON.values(), ids=PASSED_ON)
def test_bad_callbacks(site: Site, bad: Bad) -> None:
    """CIBA-9: each is answered as it is without nginx, and leaves the transaction as it was."""
    transaction = acknowledged()
    held = site.world.hold(transaction)
    if bad.reaches:
        Loop(held, transaction)
    answer = site.send(bad.make(transaction))
    assert (answer.status_code, answer.headers.get("WWW-Authenticate")) == (bad.status, bad.challenge)
    assert site.send(callback(transaction)).status_code == 204


def test_many_at_once_over_one_connection(site: Site) -> None:
    """Streams of one HTTP/2 connection reach the transactions that they are for."""
    transactions = [acknowledged() for _ in range(40)]
    held = [site.world.hold(transaction) for transaction in transactions]

    async def main() -> list[int]:
        statuses: list[int] = []
        async with (
            httpx.AsyncClient(
                http2=True,
                verify=site.nginx.trust,
                timeout=PATIENCE,
                trust_env=False,
                limits=httpx.Limits(max_connections=1),
            ) as http,
            anyio.create_task_group() as tasks,
        ):

            async def send(sent: Callback) -> None:
                statuses.append((await http.send(site.request(sent))).status_code)

            for transaction in transactions:
                tasks.start_soon(send, callback(transaction))
        return statuses

    assert anyio.run(main) == [204] * 40
    assert all(each.ready() for each in held)
