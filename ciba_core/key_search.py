"""The search for the key that made a signature, while what was signed waits.

A provider may sign with a key that it has just published. So a signature that no key at hand has made is no
reason to reject anything: the key set is fetched once more, and then it is decided (OpenID Connect Core
10.1.1). A `KeySearch` says what comes next, for the tokens of a transaction and for what operations bring:
use a key that is at hand, fetch now, wait, or give up.

Waits are told from one step to the next, and trusted as `TimerFired` is: a wall clock that is set meanwhile
makes a search neither shorter nor longer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from attrs import evolve, frozen

from ciba_core.config import ClientConfig
from ciba_core.endpoint_answer import is_busy, retry_after
from ciba_core.errors import RemoteProtocolError
from ciba_core.http import HttpResponse
from ciba_core.keys import KeySet, parse_key_set
from ciba_core.polling import backoff, chance
from ciba_core.shared import Shared

__all__ = [
    "KEYS_AT_LEAST",
    "REFETCH_COOLDOWN",
    "Decided",
    "Fetch",
    "KeySearch",
    "NoKey",
    "Unavailable",
    "Verify",
    "Wait",
]

KEYS_AT_LEAST: Final = 60.0
"""Seconds for which the key set is asked for, at least, before the search is given up."""
REFETCH_COOLDOWN: Final = 10.0
"""Seconds for which a key set is not fetched again, whatever tokens ask for.

Otherwise anyone who can hand a client tokens could make it hammer the provider. Good tokens by a new key wait
for the rest of it: that is why it is no longer, and well below the time that any key set is fresh."""
_LONGEST_WAIT: Final = 30.0

VerdictT = TypeVar("VerdictT")


@frozen(weakref_slot=False)
class Decided(Generic[VerdictT]):
    """A key was found: this is what it says of the signature, and what follows from that."""

    verdict: VerdictT


Verify = Callable[[KeySet | None], Decided[VerdictT] | None]
"""Validates what waits by a key set; ``None`` when that lacks the key."""


@frozen(weakref_slot=False)
class NoKey:
    """The provider was asked since, and publishes no such key."""


@frozen(weakref_slot=False)
class Fetch:
    """Ask for the key set now."""

    search: KeySearch


@frozen(weakref_slot=False)
class Wait:
    """Go on at an instant."""

    search: KeySearch
    until: float
    """POSIX instant."""
    reason: str
    """Why; no secrets."""


@frozen(weakref_slot=False)
class Unavailable:
    """The key set was not to be had in time."""

    reason: str
    """What was wrong with the last try; no secrets."""


@frozen(weakref_slot=False)
class KeySearch:
    """How far the search has come. Its methods take the step after the last one and say what to do next.

    Each of them looks first at the keys that others have put into `Shared`.
    """

    since: float
    """POSIX instant: a key set that the provider gave out after it is news, and decides."""
    as_of: float
    """POSIX instant of the last step, from which the time to `give_up_at` counts."""
    give_up_at: float
    """POSIX instant of the last try."""
    faults: int = 0
    """Tries so far that brought no key set."""
    has_waited: bool = False
    """Whether there was a wait already, longer than anybody else is kept waiting for."""

    @classmethod
    def begin(
        cls,
        verify: Verify[VerdictT],
        shared: Shared,
        now: float,
        *,
        jwks_uri: str | None,
        give_up_at: float,
    ) -> Decided[VerdictT] | NoKey | Fetch | Wait:
        """Look at the keys at hand, and begin a search where they do not do.

        Args:
            verify: see `Verify`.
            shared: what is known of the provider.
            now: POSIX instant.
            jwks_uri: where the keys are to be had. Without it, nobody can vouch for anything.
            give_up_at: POSIX instant of the last try; there are `KEYS_AT_LEAST` seconds in any case.

        """
        keys = shared.fresh_keys(now)
        decided = verify(keys)
        if decided is not None:
            return decided
        if jwks_uri is None:
            return NoKey()
        # A set from the future, after the clock was put back, is no news when the clock has come that far.
        since = now if shared.keys is None else max(now, shared.keys.issued_at)
        search = cls(since, now, max(give_up_at, now + KEYS_AT_LEAST))
        if keys is None or now >= keys.fetched_at + REFETCH_COOLDOWN:
            return Fetch(search)
        reason = "the key is not known, and the key set was fetched a moment ago"
        return Wait(evolve(search, has_waited=True), keys.fetched_at + REFETCH_COOLDOWN, reason)

    def at_hand(
        self, verify: Verify[VerdictT], shared: Shared, now: float
    ) -> Decided[VerdictT] | NoKey | None:
        """Return what the keys decide that others have fetched meanwhile, if anything."""
        keys = shared.fresh_keys(now)
        is_news = keys is not None and keys.issued_at > self.since
        return verify(keys) or (NoKey() if is_news else None)

    def waited(
        self, verify: Verify[VerdictT], shared: Shared, now: float, *, until: float
    ) -> Decided[VerdictT] | NoKey | Fetch:
        """Go on after the wait until an instant, which may be other than `now` by the wall clock."""
        return self.at_hand(verify, shared, now) or Fetch(self._after(until - self.as_of, now))

    def fetched(
        self,
        verify: Verify[VerdictT],
        shared: Shared,
        now: float,
        *,
        client: ClientConfig,
        outcome: HttpResponse | str,
        elapsed: float,
    ) -> tuple[Decided[VerdictT] | NoKey | Wait | Unavailable, Shared]:
        """Go on after a request for the key set; returns what is known of the provider by now as well.

        Args:
            verify: see `Verify`.
            shared: what is known of the provider.
            now: POSIX instant.
            client: the client's configuration.
            outcome: the answer, or what went wrong, without secrets.
            elapsed: seconds that the request took.

        """
        later: float | None = None
        if isinstance(outcome, str):
            reason = outcome
        else:
            try:
                keys = parse_key_set(outcome, limits=client.limits, now=now, elapsed=elapsed)
            except RemoteProtocolError as problem:
                reason = str(problem)
                later = retry_after(outcome, now) if is_busy(outcome) else None
            else:
                shared = shared.with_keys(keys)
                # Which of two sets is the newer one is a matter of clocks and caches: either will do.
                return verify(shared.keys) or verify(keys) or NoKey(), shared
        decided = self.at_hand(verify, shared, now)
        if decided is not None:
            return decided, shared
        search = self._after(elapsed, now)
        if search.give_up_at <= now:
            return Unavailable(reason), shared
        faults = self.faults + 1
        spread = chance(client.entropy)
        wait = max(backoff(1.0, _LONGEST_WAIT, faults=faults, chance=spread), later or 0.0)
        search = evolve(search, faults=faults, has_waited=True)
        return Wait(search, min(now + wait, search.give_up_at), reason), shared

    def _after(self, seconds: float, now: float) -> KeySearch:
        """Return the search after so many seconds, whatever the wall clock makes of them."""
        return evolve(self, as_of=now, give_up_at=now + (self.give_up_at - self.as_of - seconds))
