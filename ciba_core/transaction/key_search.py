"""The search for the key that made a signature, while what was signed waits.

A provider may sign with a key that it published a moment ago. So a signature by an unknown key is not
rejected at once: the key set is fetched once more, and what is in it then decides (OpenID Connect Core
10.1.1). A `KeySearch` holds how far that has come and says what to do next: go by a key that is known by now,
fetch the key set, wait, or give up. A transaction looks in this way for the key of its tokens, an operation
for the key of the answer that it got.

A wait counts for the seconds that were planned, and a request for those that it took: a wall clock that is
set meanwhile makes a search neither shorter nor longer.
"""

from __future__ import annotations

from typing import Final

from attrs import evolve, frozen

from ciba_core.client.config import ClientConfig
from ciba_core.client.polling import backoff, chance
from ciba_core.jose.keys import KeySet, parse_key_set
from ciba_core.provider.answers import is_busy, retry_after
from ciba_core.provider.shared import Shared
from ciba_core.tokens.signed_jwt import BrokenRule, NoKey, Opened, SignedJwt
from ciba_core.transaction.inputs import RequestFailed, ResponseReceived
from ciba_core.values.lenient import ProviderDeviation

__all__ = [
    "KEYS_AT_LEAST",
    "REFETCH_COOLDOWN",
    "Fetch",
    "KeySearch",
    "Unavailable",
    "Wait",
]

KEYS_AT_LEAST: Final = 60.0
"""Seconds for which the key set is asked for, at least, before the search is given up."""
REFETCH_COOLDOWN: Final = 10.0
"""Seconds for which a key set that was fetched is not fetched again, whatever tokens come.

Without it, anyone who can get tokens to a client could make it flood the provider with requests. Good tokens
by a new key have to wait until it is over, so it is short; every key set stays fresh for longer."""
_LONGEST_WAIT: Final = 30.0


@frozen(weakref_slot=False)
class Fetch:
    """Request the key set now."""

    search: KeySearch


@frozen(weakref_slot=False)
class Wait:
    """Do nothing until an instant."""

    search: KeySearch
    until: float
    """POSIX instant."""
    reason: str
    """Why, without secrets."""


@frozen(weakref_slot=False)
class Unavailable:
    """The key set could not be fetched in time."""

    reason: str
    """What was wrong with the last try, without secrets."""


@frozen(weakref_slot=False)
class KeySearch:
    """The state of a search for a key. Each method takes what happened, and returns what to do now.

    The keys in `Shared` are tried first each time: another transaction may have fetched them meanwhile.
    """

    since: float
    """POSIX instant: a key set that the provider issued later decides, even when it lacks the key."""
    as_of: float
    """POSIX instant of the last step; the time that is left until `give_up_at` is counted from it."""
    give_up_at: float
    """POSIX instant of the last try."""
    faults: int = 0
    """Tries so far that brought no key set."""
    has_waited: bool = False
    """Whether the search has waited already. A callback that brought the tokens had its answer by then."""

    @classmethod
    def begin(
        cls,
        jwt: SignedJwt,
        shared: Shared,
        now: float,
        *,
        jwks_uri: str | None,
        give_up_at: float,
    ) -> Opened | BrokenRule | Fetch | Wait:
        """Try the keys that are known, and begin a search if the right one is not among them.

        Args:
            jwt: what was signed.
            shared: what is known of the provider.
            now: POSIX instant.
            jwks_uri: where the provider publishes its keys; ``None`` if nowhere.
            give_up_at: POSIX instant of the last try, unless that is less than `KEYS_AT_LEAST` seconds away.

        """
        keys = shared.fresh_keys(now)
        opened = jwt.opened(keys)
        if not isinstance(opened, NoKey):
            return opened
        if jwks_uri is None:
            return jwt.without_key()
        # A set may be dated in the future, after the clock was put back; it does not become news later on.
        since = now if shared.keys is None else max(now, shared.keys.issued_at)
        search = cls(since=since, as_of=now, give_up_at=max(give_up_at, now + KEYS_AT_LEAST))
        if keys is None or now >= keys.fetched_at + REFETCH_COOLDOWN:
            return Fetch(search)
        reason = "the key is not known, and the key set was fetched a moment ago"
        return Wait(evolve(search, has_waited=True), keys.fetched_at + REFETCH_COOLDOWN, reason)

    def at_hand(self, jwt: SignedJwt, shared: Shared, now: float) -> Opened | BrokenRule | None:
        """Decide by the keys that others have fetched meanwhile; ``None`` when those do not decide."""
        keys = shared.fresh_keys(now)
        is_news = keys is not None and keys.issued_at > self.since
        opened = jwt.opened(keys, conclusive=is_news)
        if isinstance(opened, NoKey):
            return jwt.without_key() if is_news else None
        return opened

    def waited(
        self, jwt: SignedJwt, shared: Shared, now: float, *, until: float
    ) -> Opened | BrokenRule | Fetch:
        """Go on after the wait until an instant; the wall clock may show another one by then."""
        return self.at_hand(jwt, shared, now) or Fetch(self._after(until - self.as_of, now))

    def fetched(
        self,
        jwt: SignedJwt,
        shared: Shared,
        now: float,
        *,
        client: ClientConfig,
        outcome: ResponseReceived | RequestFailed,
        noted: list[ProviderDeviation],
    ) -> tuple[Opened | BrokenRule | Wait | Unavailable, Shared]:
        """Go on after a request for the key set. The second result has the keys that came.

        Args:
            jwt: what was signed.
            shared: what is known of the provider.
            now: POSIX instant.
            client: the client's configuration.
            outcome: what came of the request.
            noted: takes what deviates from the standard in a key set that can be read all the same.

        """
        later: float | None = None
        took = outcome.elapsed
        if took is None:
            # The wall clock may have been set meanwhile: the time is bounded by what an exchange can take.
            took = min(max(now - self.as_of, 0.0), client.connect_timeout + client.timeout)
        if isinstance(outcome, RequestFailed):
            reason = outcome.reason
        else:
            response = outcome.response
            keys = parse_key_set(response, limits=client.limits, now=now, noted=noted, elapsed=took)
            if isinstance(keys, KeySet):
                shared = shared.with_keys(keys)
                # Clocks and caches make it unclear which of the two sets is newer: a key of either one
                # counts.
                for known, conclusive in ((shared.keys, False), (keys, True)):
                    by_these = jwt.opened(known, conclusive=conclusive)
                    if not isinstance(by_these, NoKey):
                        return by_these, shared
                return jwt.without_key(), shared
            reason = str(keys)
            later = retry_after(response, now) if is_busy(response) else None
        opened = self.at_hand(jwt, shared, now)
        if opened is not None:
            return opened, shared
        search = self._after(took, now)
        if search.give_up_at <= now:
            return Unavailable(reason), shared
        faults = self.faults + 1
        spread = chance(client.entropy)
        wait = max(backoff(1.0, _LONGEST_WAIT, faults=faults, chance=spread), later or 0.0)
        search = evolve(search, faults=faults, has_waited=True)
        return Wait(search, min(now + wait, search.give_up_at), reason), shared

    def _after(self, seconds: float, now: float) -> KeySearch:
        """Return the search after so many seconds, however far the wall clock has moved."""
        return evolve(self, as_of=now, give_up_at=now + (self.give_up_at - self.as_of - seconds))
