"""What the transactions of one provider share: its key set, and the DPoP nonces of its servers.

A driver holds one such value for each provider, hands it to every `step`, and replaces it whenever a step
returns a newer one. It is frozen like everything else, so that nothing is shared behind anybody's back: two
steps with equal arguments give equal results. A driver that keeps none still works: each transaction then
fetches the keys for itself, and remembers the nonces that it was given (`Transaction.dpop_nonces`), also from
one process to the next. A server that wants a nonce would refuse each of its polls otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import evolve, field, frozen

from ciba_core._json import FrozenMapping, freeze
from ciba_core.keys import KeySet

__all__ = ["NOTHING_SHARED", "Shared"]


_NO_NONCES: Final[Mapping[str, str]] = FrozenMapping({})


@frozen
class Shared:
    """The state of a provider, as far as any transaction has learnt it."""

    keys: KeySet | None = None
    """The key set of ``jwks_uri``, with its age."""
    dpop_nonces: Mapping[str, str] = field(default=_NO_NONCES, converter=freeze, repr=False)
    """From a server's origin to the nonce that it supplied last (RFC 9449 8.2)."""

    def fresh_keys(self, now: float) -> KeySet | None:
        """Return the key set, if it is known and may still be used without fetching it anew."""
        return self.keys if self.keys is not None and self.keys.is_fresh(now) else None

    def with_keys(self, keys: KeySet) -> Shared:
        """Return the value with a key set that has just come, unless a newer one is there already.

        An answer may be slow, or come out of a cache, while another transaction gets a younger one.
        """
        known = self.fresh_keys(keys.fetched_at)
        if known is not None and known.issued_at > keys.issued_at:
            keys = evolve(known, fetched_at=keys.fetched_at)
        return evolve(self, keys=keys)

    def with_dpop_nonce(self, origin: str, nonce: str) -> Shared:
        """Return the value with another nonce for a server."""
        return evolve(self, dpop_nonces={**self.dpop_nonces, origin: nonce})

    def knowing(self, dpop_nonces: Mapping[str, str]) -> Shared:
        """Return the value with nonces for the servers that it has none for; its own are newer."""
        if dpop_nonces.keys() <= self.dpop_nonces.keys():
            return self
        return evolve(self, dpop_nonces={**dpop_nonces, **self.dpop_nonces})


NOTHING_SHARED: Final = Shared()
