"""What the transactions of one provider share: its key set, and the DPoP nonces of its servers.

A driver holds one such value for each provider, passes it to every `step`, and replaces it by the one that
comes back. It is frozen like everything else, so `step` depends on nothing but its arguments.

A driver that keeps none still works: each transaction then fetches the keys for itself. It also remembers the
nonces that it was given (`Transaction.dpop_nonces`), and its snapshots have them. Without them, a server that
wants a nonce would refuse each of its polls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import evolve, field, frozen

from ciba_core.jose.keys import KeySet
from ciba_core.values import check
from ciba_core.values.json import FrozenMapping

__all__ = ["NOTHING_SHARED", "Shared"]


_NO_NONCES: Final[Mapping[str, str]] = FrozenMapping({})


@frozen
class Shared:
    """The knowledge about a provider that its transactions share."""

    keys: KeySet | None = None
    """The key set of ``jwks_uri``, with its age."""
    dpop_nonces: Mapping[str, str] = field(default=_NO_NONCES, converter=check.to_frozen_strings, repr=False)
    """The nonce that each server supplied last, by the origin of the server (RFC 9449 8.2)."""

    def fresh_keys(self, now: float) -> KeySet | None:
        """Return the key set, if it is known and still fresh, so that it need not be fetched again."""
        return self.keys if self.keys is not None and self.keys.is_fresh(now) else None

    def with_keys(self, keys: KeySet) -> Shared:
        """Return the value with a key set that was just fetched.

        If a newer one is known, that one stays, and counts as just fetched: the answer may have been slow, or
        from a cache, while another transaction got the newer one.
        """
        known = self.fresh_keys(keys.fetched_at)
        if known is not None and known.issued_at > keys.issued_at:
            keys = evolve(known, fetched_at=keys.fetched_at)
        return evolve(self, keys=keys)

    def with_dpop_nonce(self, origin: str, nonce: str) -> Shared:
        """Return the value with the nonce that a server, known by its origin, has just supplied."""
        return evolve(self, dpop_nonces={**self.dpop_nonces, origin: nonce})

    def knowing(self, dpop_nonces: Mapping[str, str]) -> Shared:
        """Return the value with nonces for the servers that it has none for; those it has are newer."""
        if dpop_nonces.keys() <= self.dpop_nonces.keys():
            return self
        return evolve(self, dpop_nonces={**dpop_nonces, **self.dpop_nonces})


NOTHING_SHARED: Final = Shared()
