"""The virtual clock."""

from __future__ import annotations

import threading
import time

import pytest

from ciba_core.testing import Clock, RealClock, SchedulingClock, VirtualClock


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


# --- calls on a virtual clock ----------------------------------------------------------------------------


class Diary:
    """Notes when something was called."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.entries: list[tuple[str, float]] = []

    def plan(self, instant: float, name: str) -> None:
        self.clock.call_at(instant, lambda: self.entries.append((name, self.clock.monotonic())))


def test_calls_come_in_order_while_time_passes() -> None:
    """A sleep calls what is due on its way, each at its instant; what has the same one in the order of planning."""
    clock = VirtualClock()
    diary = Diary(clock)
    for instant, name in [(7, "c"), (2, "a"), (7, "d"), (5, "b"), (7.5, "never")]:
        diary.plan(instant, name)
    clock.sleep(4)
    assert diary.entries == [("a", 2)]
    clock.sleep(3)
    assert diary.entries == [("a", 2), ("b", 5), ("c", 7), ("d", 7)]
    assert clock.monotonic() == 7


def test_calls_for_the_present_and_the_past_wait_for_a_sleep() -> None:
    """What is due already comes with the next sleep, without moving the clocks back."""
    clock = VirtualClock()
    diary = Diary(clock)
    clock.sleep(5)
    diary.plan(5, "now")
    diary.plan(1, "past")
    assert diary.entries == []
    clock.sleep(0)
    assert diary.entries == [("past", 5), ("now", 5)]


def test_a_sleep_can_end_early() -> None:
    """The clocks stay at the call that made the condition true; what is planned later stays planned."""
    clock = VirtualClock(start=1000.0)
    diary = Diary(clock)
    diary.plan(2, "a")
    diary.plan(3, "b")
    diary.plan(3, "c")
    clock.sleep(10, until=lambda: len(diary.entries) == 2)
    assert diary.entries == [("a", 2), ("b", 3)]
    assert (clock.monotonic(), clock.time()) == (3, 1003)
    clock.sleep(10, until=lambda: True)
    assert clock.monotonic() == 3
    clock.sleep(10, until=lambda: False)
    assert (clock.monotonic(), len(diary.entries)) == (13, 3)


def test_a_call_may_sleep() -> None:
    """What a call sleeps is part of the sleep it is called from, and may call others in its turn."""
    clock = VirtualClock()
    diary = Diary(clock)
    clock.call_at(2, lambda: clock.sleep(3))
    diary.plan(4, "inner")
    diary.plan(6, "outer")
    clock.sleep(10)
    assert diary.entries == [("inner", 4), ("outer", 6)]
    assert clock.monotonic() == 10
    clock.call_at(12, lambda: clock.sleep(30))
    clock.sleep(5)
    assert clock.monotonic() == 42


def test_a_call_may_plan_another_one() -> None:
    """A call planned by a call is made by the same sleep, if its time comes."""
    clock = VirtualClock()
    diary = Diary(clock)
    clock.call_at(1, lambda: diary.plan(2, "next"))
    clock.sleep(2)
    assert diary.entries == [("next", 2)]


# --- the real clock --------------------------------------------------------------------------------------


def test_the_real_clock_tells_the_time() -> None:
    """Its readings are those of the module time."""
    with RealClock() as clock:
        assert time.time() <= clock.time() <= time.time()
        assert time.monotonic() <= clock.monotonic() <= time.monotonic()
        clock.sleep(0)
        assert isinstance(clock, SchedulingClock)
    assert isinstance(VirtualClock(), SchedulingClock)
    assert not isinstance(time, SchedulingClock)


def test_the_real_clock_calls() -> None:
    """Calls come in the order of their instants, in another thread; those for later are dropped at the end."""
    called: list[tuple[str, bool]] = []
    done = threading.Event()
    here = threading.current_thread()

    def note(name: str) -> None:
        called.append((name, threading.current_thread() is here))

    with RealClock() as clock:
        now = clock.monotonic()
        clock.call_at(now + 3600, lambda: note("never"))
        clock.call_at(now + 0.02, done.set)
        clock.call_at(now + 0.01, lambda: note("second"))
        clock.call_at(now - 1, lambda: note("first"))
        assert done.wait(5)
    assert called == [("first", False), ("second", False)]
    clock.close()


def test_the_real_clock_goes_on_after_an_error() -> None:
    """An exception in a call stops no other one; it is raised at the end, unless something else is."""
    done = threading.Event()

    def fail() -> None:
        raise IndexError

    with pytest.raises(ExceptionGroup) as caught, RealClock() as clock:  # noqa: PT012  # it raises at the end
        clock.call_at(0, fail)
        clock.call_at(0, done.set)
        assert done.wait(5)
    assert caught.group_contains(IndexError)
    assert len(clock.errors) == 1
    done.clear()
    with pytest.raises(KeyError), RealClock() as clock:  # noqa: PT012  # it raises at the end
        clock.call_at(0, fail)
        clock.call_at(0, done.set)
        assert done.wait(5)
        raise KeyError
