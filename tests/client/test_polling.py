from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from ciba_core import PollingPolicy
from ciba_core.client.polling import (
    LONGEST,
    bounded_seconds,
    first_poll_at,
    interval_from,
    parse_http_date,
    parse_retry_after,
    polls,
    wait_after_answer,
    wait_after_fault,
)

EXACT = PollingPolicy(safety_margin=0)
NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("elapsed", "retry_after", "wait"),
    [
        (None, 0, 5),
        (None, 20, 20),
        (0, 0, 5),
        (2, 0, 5),
        (4.75, 0, 5),
        (5, 0, 5),
        (5.01, 0, 0),
        (30, 0, 0),
        (1, 3, 5),
        (1, 20, 20),
        (30, 20, 20),
        (math.inf, 0, 0),
    ],
)
def test_wait_after_answer(elapsed: float | None, retry_after: float, wait: float) -> None:
    """CIBA-10.1-05, -06: the interval runs from the answer, and is over after a poll that was held longer."""
    assert wait_after_answer(EXACT, interval=5, elapsed=elapsed, retry_after=retry_after) == wait


@pytest.mark.parametrize(
    ("elapsed", "wait"), [(None, 5), (0, 5), (2, 3), (4.75, 0.25), (5, 0), (5.01, 0), (30, 0), (math.inf, 0)]
)
def test_wait_by_the_letter(elapsed: float | None, wait: float) -> None:
    """CIBA-10.1-04: where the policy says so, the interval runs from the sending, if that is known."""
    letter = PollingPolicy(safety_margin=0, interval_counts_from="sending")
    assert wait_after_answer(letter, interval=5, elapsed=elapsed, retry_after=0) == wait


@pytest.mark.parametrize("counts_from", ["answer", "sending"])
@pytest.mark.parametrize("elapsed", [None, 0, 4, 30, math.inf])
def test_wait_after_slow_down(counts_from: Any, elapsed: float | None) -> None:
    """CIBA-11-03: after ``slow_down`` the whole new interval is waited, however long the poll was held."""
    policy = PollingPolicy(interval_counts_from=counts_from)
    found = wait_after_answer(policy, interval=10, elapsed=elapsed, retry_after=0, slow_down=True)
    assert found == 10.5


def test_what_the_interval_counts_from_is_one_of_two() -> None:
    """A misspelt setting is told at once."""
    with pytest.raises(ValueError, match="interval_counts_from"):
        PollingPolicy(interval_counts_from="arrival")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("elapsed", "retry_after", "wait"),
    [(None, 0, 5.5), (2, 0, 5.5), (5, 0, 5.5), (5.01, 0, 0.5), (30, 0, 0.5), (2, 5.5, 5.5), (2, 9, 9)],
)
def test_safety_margin(elapsed: float | None, retry_after: float, wait: float) -> None:
    """CIBA-10.1-24: the margin goes on top of each interval, and stands alone where that is over."""
    found = wait_after_answer(PollingPolicy(), interval=5, elapsed=elapsed, retry_after=retry_after)
    assert found == pytest.approx(wait)


@pytest.mark.parametrize(
    ("faults", "chance", "wait"),
    [
        (1, 0, 5),
        (1, 1, 10),
        (2, 0, 10),
        (2, 1, 20),
        (3, 1, 40),
        (4, 1, 60),
        (4, 0, 30),
        (5000, 0.5, 45),
        (5000, 1, 60),
    ],
)
def test_back_off_doubles_up_to_the_limit(faults: int, chance: float, wait: float) -> None:
    """CIBA-10.1-12, -13: doubled from the interval, capped, the lower half left to chance."""
    found = wait_after_fault(EXACT, interval=5, elapsed=0, faults=faults, remaining=1000, chance=chance)
    assert found == pytest.approx(wait)


@pytest.mark.parametrize(("remaining", "wait"), [(1000, 60), (60, 30), (20, 10), (8, 5), (0, 5), (-100, 5)])
def test_back_off_leaves_room_for_another_try(remaining: float, wait: float) -> None:
    """CIBA-10.1-13: at most half of what remains is waited, but never less than the interval."""
    found = wait_after_fault(EXACT, interval=5, elapsed=0, faults=9, remaining=remaining, chance=1)
    assert found == wait


def test_back_off_counts_from_the_failure() -> None:
    """CIBA-10.1-04, -12: after a time-out of 30 s the next poll still comes later than at once."""
    found = wait_after_fault(EXACT, interval=5, elapsed=30, faults=1, remaining=1000, chance=0)
    assert found == 5
    early = wait_after_fault(PollingPolicy(), interval=100, elapsed=1, faults=1, remaining=1, chance=0)
    assert early == 100.5


def test_an_interval_above_the_limit_is_kept() -> None:
    """CIBA-10.1-04: the limit on back-off never shortens the provider's interval."""
    policy = PollingPolicy(safety_margin=0, backoff_limit=10)
    assert wait_after_fault(policy, interval=120, elapsed=0, faults=3, remaining=9999, chance=1) == 120
    assert wait_after_fault(policy, interval=120, elapsed=0, faults=3, remaining=9999, chance=0) == 120
    assert wait_after_fault(policy, interval=120, elapsed=130, faults=1, remaining=9999, chance=1) == 120


@pytest.mark.parametrize(
    ("mode", "settings", "expires_in", "first"),
    [
        ("poll", {}, 120, 5),
        ("poll", {"first_poll_after": 0}, 120, 0),
        ("poll", {"ping_fallback": None}, 120, 5),
        ("ping", {}, 120, 90),
        ("ping", {"first_poll_after": 0}, 120, 90),
        ("ping", {"ping_fallback": 120.0}, 120, 60),
        ("ping", {"ping_fallback": 120.0}, 8, 5),
        ("ping", {"ping_fallback": LONGEST}, 120, 60),
        ("ping", {}, 60, 30),
        ("ping", {}, 50, 25),
        ("ping", {"ping_fallback": None}, 120, None),
        ("ping", {"beside_ping": True}, 120, 5),
        ("ping", {"beside_ping": True, "first_poll_after": 0, "ping_fallback": None}, 120, 0),
        ("push", {}, 120, None),
        ("push", {"beside_ping": True, "first_poll_after": 0}, 120, None),
    ],
)
def test_first_poll_at(mode: str, settings: dict[str, Any], expires_in: float, first: float | None) -> None:
    """CIBA-10.1-14, -15, CIBA-10.2-07: by the mode: after the interval, for want of a ping, or not at all."""
    found = first_poll_at(PollingPolicy(**settings), mode, interval=5, expires_in=expires_in, now=NOW)
    assert found == (None if first is None else NOW + first)


@pytest.mark.parametrize(
    ("mode", "pinged", "beside", "after_ping"),
    [("poll", True, True, True), ("ping", False, True, True), ("push", False, False, False)],
)
def test_polls(mode: str, pinged: bool, beside: bool, after_ping: bool) -> None:
    """CIBA-10.1-15, -16: one poll after the other in poll mode, after a ping, or where that is asked for."""
    assert polls(PollingPolicy(), mode, pinged=False) is pinged
    assert polls(PollingPolicy(beside_ping=True), mode, pinged=False) is beside
    assert polls(PollingPolicy(), mode, pinged=True) is after_ping


EXAMPLE = 784111777.0  # RFC 9110 5.6.7: Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", EXAMPLE),
        ("Sunday, 06-Nov-94 08:49:37 GMT", EXAMPLE),
        ("Sun Nov  6 08:49:37 1994", EXAMPLE),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 946684799.0),
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1483228799.0),
        ("Thu, 29 Feb 2024 00:00:00 GMT", 1709164800.0),
        ("Wed Nov 26 08:49:37 2026", 1795682977.0),
        ("Friday, 01-Jan-76 00:00:00 GMT", datetime(2076, 1, 1, tzinfo=UTC).timestamp()),
        ("Saturday, 01-Jan-77 00:00:00 GMT", datetime(1977, 1, 1, tzinfo=UTC).timestamp()),
        ("Mon, 01 Jan 0099 00:00:00 GMT", datetime(99, 1, 1, tzinfo=UTC).timestamp()),
        ("Thu, 29 Feb 2023 00:00:00 GMT", None),
        ("Mon, 32 Jan 2024 00:00:00 GMT", None),
        ("Mon, 01 Jan 0000 00:00:00 GMT", None),
        ("Mon, 01 Foo 2024 00:00:00 GMT", None),
        ("Mon, 01 Jan 2024 24:00:00 GMT", None),
        ("Mon, 01 Jan 2024 00:00:00 CET", None),
        ("Mon, 01 Jan 2024 00:00:00 +0000", None),
        ("Mon, 1 Jan 2024 00:00:00 GMT", None),
        ("2024-01-01T00:00:00Z", None),
        ("mon, 01 jan 2024 00:00:00 GMT", None),
        ("Mon, 01 Jan 2024 00:00:00 GMT; x", None),
        ("", None),
        ("-1", None),
    ],
)
def test_http_dates(text: str, instant: float | None) -> None:
    """CIBA-10.1-11: the three forms of an HTTP date, and nothing that is none."""
    assert parse_http_date(text, NOW) == instant


@pytest.mark.parametrize("now", [1e12, 1e300, -1e300])
def test_http_date_with_a_clock_beyond_the_calendar(now: float) -> None:
    """A two-digit year cannot be placed then; that is no reason for an exception."""
    assert parse_http_date("Sunday, 06-Nov-94 08:49:37 GMT", now) is None


IN_A_MINUTE = "Sat, 21 Nov 2026 12:01:00 GMT"


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        (None, None, None),
        ("0", None, 0),
        ("120", None, 120),
        (" 120\t", None, 120),
        ("007", None, 7),
        ("9999999999", None, LONGEST),
        ("9" * 11, None, LONGEST),
        ("9" * 5000, None, LONGEST),
        ("-5", None, None),
        ("1.5", None, None),
        ("+5", None, None),
        ("5 seconds", None, None),
        ("\u0665", None, None),
        ("", None, None),
        (IN_A_MINUTE, None, 60),
        (f" {IN_A_MINUTE} ", None, 60),
        ("Fri, 31 Dec 1999 23:59:59 GMT", None, 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None, LONGEST),
        (IN_A_MINUTE, "Sat, 21 Nov 2026 12:00:30 GMT", 30),
        (IN_A_MINUTE, " Sat, 21 Nov 2026 13:00:30 GMT ", 0),
        (IN_A_MINUTE, "Sat, 21 Nov 2026 11:00:00 GMT", 3660),
        (IN_A_MINUTE, "yesterday", 60),
        ("20", "Sat, 21 Nov 2026 11:00:00 GMT", 20),
        ("soon", "Sat, 21 Nov 2026 11:00:00 GMT", None),
    ],
)
def test_retry_after(value: str | None, date: str | None, seconds: float | None) -> None:
    """CIBA-10.1-11: delta-seconds or a date, measured by the provider's own clock, clamped at both ends."""
    assert parse_retry_after(value, date, NOW) == seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (120, 120.0),
        (120.0, 120.0),
        (0.5, 0.5),
        (0, 0.0),
        (-1, -1.0),
        (10**60, LONGEST),
        (-(10**60), -LONGEST),
        (1e300, LONGEST),
        (True, None),
        (False, None),
        ("120", None),
        (None, None),
        ([120], None),
    ],
)
def test_bounded_seconds(value: object, seconds: float | None) -> None:
    """CIBA-7.3-10: numbers only, no booleans and no strings; nothing counts for more than a year."""
    found = bounded_seconds(value)
    assert found == seconds
    assert found is None or type(found) is float


@pytest.mark.parametrize(
    ("value", "interval"),
    [(2, 2), (5.0, 5), (0.1, 1), (2.01, 3), (0, 5), (-0.0, 5), (-3, 5), (LONGEST, LONGEST)],
)
def test_interval_from(value: float, interval: float) -> None:
    """CIBA-7.3-07, -09: fractions round up; what is not positive means 5."""
    assert interval_from(value) == interval


def test_policy_defaults() -> None:
    """CIBA-10.1-14, -24: wait one interval first, half a second of margin, a minute of back-off."""
    assert PollingPolicy() == PollingPolicy(
        first_poll_after=None, safety_margin=0.5, backoff_limit=60, beside_ping=False, ping_fallback=30
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"first_poll_after": 0},
        {"first_poll_after": LONGEST},
        {"safety_margin": 60},
        {"backoff_limit": 0.1},
        {"backoff_limit": 3600},
        {"beside_ping": True},
        {"ping_fallback": 0.001},
        {"ping_fallback": LONGEST},
        {"ping_fallback": None},
    ],
    ids=str,
)
def test_policy_takes_its_bounds(settings: dict[str, Any]) -> None:
    """Bounds are inclusive where the documentation says so."""
    for name, value in settings.items():
        assert getattr(PollingPolicy(**settings), name) == value


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"first_poll_after": -0.1}, ValueError),
        ({"first_poll_after": LONGEST + 1}, ValueError),
        ({"first_poll_after": math.nan}, ValueError),
        ({"first_poll_after": "5"}, TypeError),
        ({"safety_margin": -1}, ValueError),
        ({"safety_margin": 60.1}, ValueError),
        ({"safety_margin": math.nan}, ValueError),
        ({"safety_margin": None}, TypeError),
        ({"backoff_limit": 0}, ValueError),
        ({"backoff_limit": 3601}, ValueError),
        ({"backoff_limit": math.nan}, ValueError),
        ({"backoff_limit": math.inf}, ValueError),
        ({"backoff_limit": "60"}, TypeError),
        ({"beside_ping": None}, TypeError),
        ({"beside_ping": 1}, TypeError),
        ({"ping_fallback": 0}, ValueError),
        ({"ping_fallback": -30.0}, ValueError),
        ({"ping_fallback": LONGEST + 1}, ValueError),
        ({"ping_fallback": math.nan}, ValueError),
        ({"ping_fallback": "30"}, TypeError),
    ],
    ids=str,
)
def test_policy_refuses_other_values(settings: dict[str, Any], error: type[Exception]) -> None:
    """A policy that cannot be kept is refused, and the message names the setting."""
    with pytest.raises(error, match=next(iter(settings))):
        PollingPolicy(**settings)
