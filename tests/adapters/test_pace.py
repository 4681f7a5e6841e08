"""Waits and exchanges are measured by clocks that nobody sets, and what is waited in line for never counts."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Final, Literal

import attrs
import pytest

from ciba_adapters import _pace
from ciba_adapters._pace import NAP, Stopwatch, Wait, request_leaves, suspend_counting_clock
from ciba_core import (
    ClientConfig,
    ClientSecretBasic,
    NotificationReceived,
    PollingPolicy,
    ProviderMetadata,
    Secret,
    TimerFired,
    Transaction,
)
from ciba_core.client.request import Requested
from ciba_core.notification import Notification
from ciba_core.states import Pending
from ciba_core.testing import VirtualClock

HOUR: Final = 3600.0
STRAY: Final = NotificationReceived(Notification(Secret("a token"), {"auth_req_id": "another"}))
PING_CLIENT: Final = ClientConfig(
    "s6BhdRkqt3", ClientSecretBasic("a secret"), backchannel_token_delivery_mode="ping"
)
PROVIDER: Final = ProviderMetadata(
    issuer="https://op.example",
    token_endpoint="https://op.example/token",
    backchannel_authentication_endpoint="https://op.example/bc-authorize",
)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def wait(clock: VirtualClock, seconds: float, **settings: Any) -> Wait:
    begun = Wait(clock.time, clock.monotonic, **settings)
    begun.count(clock.time() + seconds, clock.time())
    return begun


@pytest.mark.parametrize("jump", [-HOUR, -100.0, 100.0, HOUR])
def test_a_wall_clock_that_is_set_changes_no_wait(clock: VirtualClock, jump: float) -> None:
    """Promise 1: not by itself, and not together with a callback that changes nothing."""
    begun, deadline = wait(clock, 30.0), clock.time() + 30.0
    clock.sleep(1)
    clock.step_wall(jump)
    assert begun.left == pytest.approx(29)
    begun.count(deadline, clock.time(), STRAY)
    assert begun.left == pytest.approx(29)
    clock.sleep(29)
    assert begun.left == pytest.approx(0)


def test_a_callback_that_changes_the_deadline_changes_the_wait(clock: VirtualClock) -> None:
    """CIBA-10.2-07: after a ping the poll comes at once."""
    begun = wait(clock, 570.0)
    clock.sleep(42)
    begun.count(clock.time(), clock.time(), STRAY)
    assert begun.left == 0


def test_the_next_wait_is_its_own_even_with_the_same_deadline(clock: VirtualClock) -> None:
    """Promise 1: a clock that was set back by just as much as was waited does not end the next wait."""
    begun, deadline = wait(clock, 5.0), clock.time() + 5.0
    clock.sleep(5)
    clock.step_wall(-5.0)
    begun.count(deadline, clock.time(), TimerFired(deadline))
    assert begun.left == pytest.approx(5)


def test_a_wait_that_is_over_is_not_negative(clock: VirtualClock) -> None:
    """A deadline that has passed is due at once; without one there is nothing to wait for."""
    assert wait(clock, -3.0).left == 0
    begun = wait(clock, 3.0)
    clock.sleep(10)
    assert begun.left == 0
    begun.count(None, clock.time())
    assert begun.left == 0


# ---- a machine that is suspended


def waiting_for_a_ping(clock: VirtualClock, **changes: Any) -> Transaction:
    now = clock.time()
    state = Pending(Secret("x"), Requested(scope="openid"), now + HOUR, 5.0, now + HOUR - 30)
    return attrs.evolve(
        Transaction(client=PING_CLIENT, provider=PROVIDER, state=state, requests=1), **changes
    )


def suspended(clock: VirtualClock, transaction: Transaction, *, counts: bool = False) -> Wait:
    assert transaction.deadline is not None
    begun = wait(clock, transaction.deadline - clock.time(), counts_suspension=counts)
    begun.watch(transaction)
    return begun


def test_a_jump_brings_the_poll_for_want_of_a_ping(clock: VirtualClock) -> None:
    """CIBA-10.1-15: where no clock counts while the machine is suspended, the wall clock tells of it."""
    begun = suspended(clock, waiting_for_a_ping(clock))
    clock.sleep(NAP)
    assert begun.left == pytest.approx(HOUR - 30 - NAP)
    clock.step_wall(HOUR - 20 - NAP)
    assert begun.left == 0


def test_a_jump_does_not_bring_the_end(clock: VirtualClock) -> None:
    """Promise 1: a wall clock that shows an instant after the expiry does not end the wait."""
    begun = suspended(clock, waiting_for_a_ping(clock))
    clock.sleep(NAP)
    clock.step_wall(2 * HOUR)
    assert begun.left == pytest.approx(HOUR - 30 - NAP)


def test_a_jump_right_after_the_acknowledgement(clock: VirtualClock) -> None:
    """CIBA-7.3: no poll comes before one interval is over, whatever the wall clock says."""
    begun = suspended(clock, waiting_for_a_ping(clock))
    clock.step_wall(HOUR - 20)
    clock.sleep(4.9)
    assert begun.left > HOUR / 2
    clock.sleep(0.1)
    assert begun.left == 0


def mode(name: Literal["poll", "push"]) -> dict[str, Any]:
    return {"client": attrs.evolve(PING_CLIENT, backchannel_token_delivery_mode=name)}


def nothing_planned(transaction: Transaction) -> dict[str, Any]:
    assert isinstance(transaction.state, Pending)
    return {"state": attrs.evolve(transaction.state, next_poll_at=None)}


BESIDE: Final = attrs.evolve(PING_CLIENT, polling=PollingPolicy(beside_ping=True))
OTHER_WAITS: Final[dict[str, Callable[[Transaction], dict[str, Any]]]] = {
    "polled already": lambda _: {"polls": 1},
    "none planned": nothing_planned,
    "beside pings": lambda _: {"client": BESIDE},
    "poll mode": lambda _: mode("poll"),
    "push mode": lambda _: mode("push"),
}


@pytest.mark.parametrize("change", OTHER_WAITS.values(), ids=OTHER_WAITS)
def test_a_jump_ends_no_other_wait(
    clock: VirtualClock, change: Callable[[Transaction], dict[str, Any]]
) -> None:
    """Promise 1: it is the one poll for want of a ping that may come by a jump."""
    transaction = waiting_for_a_ping(clock)
    begun = suspended(clock, attrs.evolve(transaction, **change(transaction)))
    clock.sleep(NAP)
    before = begun.left
    clock.step_wall(HOUR - 20 - NAP)
    assert begun.left == before > 0


def test_a_jump_is_not_needed_where_a_clock_counts(clock: VirtualClock) -> None:
    """On such a machine a jump of the wall clock means nothing."""
    begun = suspended(clock, waiting_for_a_ping(clock), counts=True)
    clock.sleep(NAP)
    clock.step_wall(HOUR - 20 - NAP)
    assert begun.left > HOUR / 2


@pytest.mark.parametrize(
    ("platform", "names", "expected"),
    [
        ("linux", {"CLOCK_BOOTTIME": 7, "CLOCK_MONOTONIC": 1}, 7),
        ("darwin", {"CLOCK_MONOTONIC": 6}, 6),
        ("win32", {}, "monotonic"),
        ("freebsd14", {"CLOCK_MONOTONIC": 4}, None),
    ],
)
def test_the_clock_that_counts_while_suspended(
    monkeypatch: pytest.MonkeyPatch, platform: str, names: dict[str, int], expected: object
) -> None:
    """It has another name on each system, and some have none."""

    class Time:
        @staticmethod
        def clock_gettime(number: int) -> float:
            return number

        @staticmethod
        def monotonic() -> float:
            return -1.0

    for name, number in names.items():
        setattr(Time, name, number)
    monkeypatch.setattr(_pace, "time", Time)
    monkeypatch.setattr(sys, "platform", platform)
    found = suspend_counting_clock()
    assert (found and found()) == (-1.0 if expected == "monotonic" else expected)


def test_this_machine_has_such_a_clock() -> None:
    """It goes on, and is read without an error."""
    found = suspend_counting_clock() or time.monotonic
    assert found() <= found()


# ---- when a request leaves


def test_a_request_that_nobody_saw_leave() -> None:
    """Without a word from the transport nothing is known, and the interval counts from the answer."""
    stopwatch = Stopwatch(VirtualClock().monotonic)
    with stopwatch.running():
        pass
    request_leaves()
    assert stopwatch.elapsed is None


def test_a_request_counts_from_when_it_left_last(clock: VirtualClock) -> None:
    """The wait for a connection is no part of it, and neither is a first try over a closed one."""
    stopwatch = Stopwatch(clock.monotonic)
    with stopwatch.running():
        clock.sleep(8)
        request_leaves()
        clock.sleep(1)
        request_leaves()
        clock.sleep(3)
        with Stopwatch(clock.monotonic).running():
            request_leaves()
    assert stopwatch.elapsed == 3
