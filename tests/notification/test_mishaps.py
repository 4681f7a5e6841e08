"""What goes wrong around an endpoint does not come in the way of the tokens."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ciba_adapters.notification import Admission
from ciba_core import Routes
from ciba_core.testing import VirtualClock
from tests.samples import NOW

from .callbacks import PATIENCE, World, acknowledged, callback


class Unreliable(Routes):
    """Routes in a store that is away every now and then."""

    away = False

    def add(self, token_hash: str, key: str, *, forget_at: float, now: float) -> None:
        if self.away:
            raise ConnectionError("away for a moment")
        super().add(token_hash, key, forget_at=forget_at, now=now)


def test_a_store_that_cannot_lengthen_a_route(caplog: pytest.LogCaptureFixture) -> None:
    """The transaction goes on to its tokens; that the route will be forgotten sooner is logged."""
    routes = Unreliable()
    world, transaction = World(routes=routes), acknowledged()
    held = world.hold(transaction)
    routes.away = True
    held.close()
    assert "a route for callbacks could not be laid for longer" in caplog.text
    assert world.send(callback(transaction)).status == 204


def test_a_store_that_cannot_lay_a_route() -> None:
    """Before anything was sent it is an error, and nothing is left behind."""
    routes = Unreliable()
    routes.away = True
    world, transaction = World(routes=routes), acknowledged()
    with pytest.raises(ConnectionError):
        world.hold(transaction)
    routes.away = False
    assert world.send(callback(transaction)).status == 401


class Intruding(VirtualClock):
    """A clock in which something else happens whenever it is read, as the garbage collector can."""

    def __init__(self) -> None:
        super().__init__(NOW)
        self.happens: Any = None

    def time(self) -> float:
        happens, self.happens = self.happens, None
        if happens is not None:
            happens()
        return super().time()


def test_an_abandoned_loop_that_is_closed_in_the_midst_of_a_callback() -> None:
    """The garbage collector closes it in whatever thread it runs, which may hold the locks of the endpoint."""
    world, transaction = World(), acknowledged()
    clock = Intruding()
    world.endpoint = type(world.endpoint)(clock=clock)
    held = world.endpoint.hold(transaction)
    answers: list[int] = []

    def call_back() -> None:
        admitted = world.endpoint.check_head("POST", callback(transaction).headers)
        assert isinstance(admitted, Admission)
        clock.happens = held.close
        answers.append(admitted.answer_sync(callback(transaction).body).status)

    thread = threading.Thread(target=call_back, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert answers == [204]
