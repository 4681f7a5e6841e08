"""How many requests one provider gets at a time, and in a second."""

from __future__ import annotations

from attrs import define, field, frozen

from ciba_core.values import check

__all__ = ["ProviderLimits", "TokenBucket"]


@frozen(kw_only=True, weakref_slot=False)
class ProviderLimits:
    """Limits on the requests that a `Schedule` sends to one provider.

    The defaults are cautious. Ask the provider what it allows: a refused poll costs more than a late one.
    """

    in_flight: int = field(default=32, validator=check.whole_number(1, 100_000))
    """Requests that are on their way at the same time, or are being signed."""
    rate: float = field(default=100.0, validator=check.number(0.001, 1_000_000.0, unit="requests a second"))
    """Requests a second, on average."""
    burst: int = field(default=32, validator=check.whole_number(1, 100_000))
    """Requests that may leave at the same instant after a quiet time."""


@define(weakref_slot=False)
class TokenBucket:
    """A token bucket: `burst` tokens at first, `rate` new ones a second, never more than `burst`.

    All instants are seconds of one monotonic clock.
    """

    rate: float
    burst: int
    full_at: float = float("-inf")
    """The instant at which the bucket is full again, if nothing is taken until then."""

    def available_at(self) -> float:
        """Return the instant at which a token becomes available; it may have passed."""
        return self.full_at - (self.burst - 1) / self.rate

    def take(self, monotonic: float) -> None:
        """Take one token, which must be available: see `available_at`."""
        self.full_at = max(self.full_at, monotonic) + 1 / self.rate
