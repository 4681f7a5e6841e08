"""When to poll next: interval, safety margin, back-off, ``Retry-After`` (CIBA Core 10.1, RFC 8628 3.5).

Everything here is arithmetic on seconds. Waits are relative to the moment at which an answer arrived, and use
the time the exchange took as the driver's monotonic clock measured it: a wall clock that is set during the
exchange changes neither.

CIBA Core 10.1 counts the interval from the sending of a poll. Providers, and the OpenID Foundation's own
tests, count from their answer. So does this client, unless it is told otherwise: that is early for neither.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Literal

from attrs import field, frozen, validators

from ciba_core.values import check

__all__ = ["PollingPolicy"]

DEFAULT_INTERVAL: Final = 5.0
"""Seconds between polls when the provider names none (CIBA Core 7.3)."""
SLOW_DOWN_INCREMENT: Final = 5.0
"""Seconds that ``slow_down`` adds for good (CIBA Core 11)."""
LONGEST: Final = 366 * 86400.0
"""No span that a provider names counts for more than this many seconds (a year); keeps sums exact."""


@frozen
class PollingPolicy:
    """How to poll, within what the provider allows.

    Raises:
        TypeError: a value is not a number.
        ValueError: a value is out of range.

    """

    first_poll_after: float | None = field(default=None, validator=check.seconds(0, LONGEST, or_none=True))
    """Seconds from the acknowledgement to the first poll. ``None`` waits one interval, which every provider
    accepts; 0 asks at once, for providers that may have the answer ready (CIBA Core 10.1 defines the interval
    only between polls)."""
    safety_margin: float = field(default=0.5, validator=check.seconds(0, 60))
    """Seconds added to each interval, since networks and the timers of providers are uneven. After a poll
    that the provider held longer than the interval (long polling) they are the whole wait."""
    backoff_limit: float = field(default=60.0, validator=check.seconds(0.001, 3600))
    """The longest wait, in seconds, that faults alone lead to. An interval above it stays what it is."""
    beside_ping: bool = field(default=False, validator=check.flag)
    """In ping mode: poll at the interval all the same, for where callbacks get lost (CIBA Core 10.1)."""
    intercepted_limit: int | None = field(default=None, validator=check.whole_number(1, 1000, or_none=True))
    """Answers in a row from something in front of the provider (a page of a gateway, say) after which the
    authentication ends with an error. ``None``: never before it expires, since the way may clear."""
    ping_fallback: float | None = field(default=30.0, validator=check.seconds(0.001, LONGEST, or_none=True))
    """In ping mode: seconds before expiry at which to poll once when no ping has come; half of the lifetime
    at most. ``None``: never."""
    callback_after_loss: float | None = field(
        default=120.0, validator=check.seconds(0.001, LONGEST, or_none=True)
    )
    """In ping and push mode: seconds to wait for a callback when the acknowledgement was lost; where the
    request named a ``requested_expiry``, that counts instead. A callback names the ``auth_req_id``, and the
    authentication goes on. ``None``: it ends with `AcknowledgementLost` at once, as it does in poll mode."""
    interval_counts_from: Literal["answer", "sending"] = field(
        default="answer", validator=validators.in_(("answer", "sending"))
    )
    """From what on the interval is waited. ``"answer"``: from the answer to a poll, as providers count,
    unless the provider held the poll longer than the interval. ``"sending"``: from when the poll was sent, by
    the letter of CIBA Core 10.1. After ``slow_down`` the whole interval is waited from the answer anyway."""


def first_poll_at(
    policy: PollingPolicy, mode: str, *, interval: float, expires_in: float, now: float
) -> float | None:
    """Return the POSIX instant of the first poll, or ``None`` when none is planned.

    Args:
        policy: the client's settings.
        mode: ``poll``, ``ping`` or ``push``.
        interval: seconds between polls.
        expires_in: seconds until the authentication ends.
        now: POSIX instant of the acknowledgement.

    """
    if polls(policy, mode, pinged=False):
        return now + (interval if policy.first_poll_after is None else policy.first_poll_after)
    if mode == "push" or policy.ping_fallback is None:
        return None
    return now + max(interval, expires_in / 2, expires_in - policy.ping_fallback)


def callback_until(
    policy: PollingPolicy, mode: str, *, requested_expiry: int | None, now: float
) -> float | None:
    """Return the POSIX instant until which a callback heals a lost acknowledgement; ``None``: none does."""
    if mode == "poll" or policy.callback_after_loss is None:
        return None
    wait = policy.callback_after_loss if requested_expiry is None else min(requested_expiry, LONGEST)
    return now + wait


def polls(policy: PollingPolicy, mode: str, *, pinged: bool) -> bool:
    """Tell whether the client polls at the interval.

    Always in poll mode, never in push mode, in ping mode only after a ping or with `beside_ping`.
    """
    return mode == "poll" or (mode == "ping" and (pinged or policy.beside_ping))


def wait_after_answer(
    policy: PollingPolicy,
    *,
    interval: float,
    elapsed: float | None,
    retry_after: float,
    slow_down: bool = False,
) -> float:
    """Return the seconds to wait after an answer that leaves the authentication pending (CIBA Core 10.1).

    Args:
        policy: the client's settings.
        interval: seconds between polls.
        elapsed: seconds from the sending of the poll to its answer; ``None``: not known, and taken for none.
        retry_after: seconds to wait at least.
        slow_down: whether the answer was ``slow_down``.

    """
    rest = interval
    if elapsed is not None and not slow_down:
        if elapsed > interval:
            rest = 0.0  # the provider held the poll; the interval is over
        elif policy.interval_counts_from == "sending":
            rest = interval - elapsed
    return max(rest + policy.safety_margin, retry_after)


def chance(entropy: Callable[[int], bytes]) -> float:
    """Return a number from 0 to 1 by the configuration's randomness, to spread a `backoff` by."""
    return int.from_bytes(entropy(4), "big") / 0xFFFFFFFF


def backoff(first: float, limit: float, *, faults: int, chance: float) -> float:
    """Return the seconds to wait after the `faults`-th failure in a row.

    Doubles from `first` up to `limit`, spread by `chance` (0 to 1) so that many clients do not come back at
    once.
    """
    # The exponent is bounded because 2.0 ** 2000 overflows; the limit is reached long before.
    return min(limit, first * 2.0 ** min(faults, 32)) * (0.5 + chance / 2)


def wait_after_fault(
    policy: PollingPolicy,
    *,
    interval: float,
    elapsed: float | None,
    faults: int,
    remaining: float,
    chance: float,
) -> float:
    """Return the seconds to wait after the `faults`-th failed poll in a row.

    That is `backoff` from the interval to the policy's limit, but never beyond half of the `remaining` time:
    a fault late in the life of an authentication must leave room for another try. The interval is kept in
    any case.
    """
    longest = max(policy.backoff_limit, interval)
    return max(
        wait_after_answer(policy, interval=interval, elapsed=elapsed, retry_after=0.0),
        min(backoff(interval, longest, faults=faults, chance=chance), remaining / 2),
    )


_DELTA: Final = re.compile(r"[0-9]+")
_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), start=1
    )
}
_TIME: Final = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
# The three forms of RFC 9110 5.6.7: IMF-fixdate, and the obsolete ones of RFC 850 and asctime.
_HTTP_DATES: Final = (
    re.compile(rf"[A-Z][a-z]{{2}}, (?P<day>\d\d) (?P<month>[A-Z][a-z]{{2}}) (?P<year>\d{{4}}) {_TIME} GMT"),
    re.compile(rf"[A-Z][a-z]{{5,8}}, (?P<day>\d\d)-(?P<month>[A-Z][a-z]{{2}})-(?P<year>\d\d) {_TIME} GMT"),
    re.compile(rf"[A-Z][a-z]{{2}} (?P<month>[A-Z][a-z]{{2}}) (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})"),
)


def parse_http_date(value: str, now: float) -> float | None:
    """Return the POSIX instant of an HTTP date, or ``None`` when it is not one (RFC 9110 5.6.7)."""
    for form in _HTTP_DATES:
        found = form.fullmatch(value)
        if found is None or found["month"] not in _MONTHS:
            continue
        try:
            year = int(found["year"])
            if len(found["year"]) == 2:
                # RFC 850 dates: a year that would lie more than 50 years ahead is in the past century.
                this_year = datetime.fromtimestamp(now, UTC).year
                year += this_year - this_year % 100
                if year > this_year + 50:
                    year -= 100
            return datetime(
                year,
                _MONTHS[found["month"]],
                int(found["day"]),
                int(found["hour"]),
                int(found["minute"]),
                # A leap second is written as 60.
                min(int(found["second"]), 59),
                tzinfo=UTC,
            ).timestamp()
        except (ValueError, OverflowError, OSError):
            # The date does not exist, or the caller's `now` is too large for a calendar.
            return None
    return None


def parse_retry_after(value: str | None, date: str | None, now: float) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for, or ``None`` (RFC 9110 10.2.3).

    Args:
        value: the header; delta-seconds or an HTTP date.
        date: the ``Date`` header of the same answer. A date is measured against it when it is there, so that
            the difference between the two parties' clocks does not matter.
        now: POSIX seconds, used when there is no usable ``Date``.

    """
    if value is None:
        return None
    value = value.strip()
    if _DELTA.fullmatch(value):
        return min(float(value), LONGEST)
    instant = parse_http_date(value, now)
    if instant is None:
        return None
    sent = parse_http_date(date.strip(), now) if date is not None else None
    return min(max(instant - (now if sent is None else sent), 0.0), LONGEST)


def bounded_seconds(value: object) -> float | None:
    """Return a JSON number of seconds, bounded by a year, or ``None`` when it is not a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(max(min(value, LONGEST), -LONGEST))


def interval_from(value: float) -> float:
    """Round an interval up to whole seconds; one that is not positive means the default (CIBA Core 7.3)."""
    return float(math.ceil(value)) if value > 0 else DEFAULT_INTERVAL
