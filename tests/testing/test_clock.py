"""The virtual clock."""

from __future__ import annotations

import threading
import time

import pytest

from ciba_core.testing import Clock, VirtualClock


def test_sleep_moves_both_clocks_and_takes_no_time() -> None:
    """An hour of virtual time passes at once, on the wall clock and on the monotonic clock alike."""
    clock = VirtualClock(start=1000.0)
    before = time.monotonic()
    clock.sleep(3600)
    assert time.monotonic() - before < 1
    assert (clock.time(), clock.monotonic()) == (4600.0, 3600.0)


def test_wall_step_leaves_the_monotonic_clock() -> None:
    """Setting the wall clock forward or back does not touch the monotonic clock."""
    clock = VirtualClock(start=1000.0)
    clock.step_wall(-3600)
    assert (clock.time(), clock.monotonic()) == (-2600.0, 0.0)
    clock.step_wall(3700)
    assert (clock.time(), clock.monotonic()) == (1100.0, 0.0)


def test_time_does_not_run_backwards() -> None:
    """A negative sleep is a mistake of the caller."""
    with pytest.raises(ValueError, match="seconds"):
        VirtualClock().sleep(-0.1)


def test_sleeps_from_several_threads_add_up() -> None:
    """No sleep is lost when threads share the clock."""
    clock = VirtualClock()

    def nap() -> None:
        for _ in range(200):
            clock.sleep(1)

    threads = [threading.Thread(target=nap) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.monotonic() == 800.0


def test_repr_tells_the_time() -> None:
    """The repr shows the wall clock."""
    assert repr(VirtualClock(start=5.0)) == "<VirtualClock 5.0>"


def test_the_module_time_is_a_clock() -> None:
    """The standard module serves where real time is wanted."""
    clock: Clock = time
    assert clock.monotonic() <= clock.monotonic()
