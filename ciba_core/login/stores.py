"""What a login needs of a store. How a store does it is the store's own business.

A store keeps texts under keys, and replaces a text only for a caller that holds the latest revision. It need
not be trusted: the texts are encrypted before it gets them (see `ciba_core.login.sealing`).

There are two kinds, and each has a sync and an async form:

- `TransactionStore` and `SessionStore`: ``load``, ``save``, ``remove``. That is enough for logins.
- `ClaimingStore`: these, with a column for when a login is due, and with ``claim``, ``renew``, ``release``,
  ``deliver``, ``pending`` and ``purge``. Workers need it, and so do callbacks that come to another process. A
  store that has a method ``claim`` is treated as a `ClaimingStore`.

**Whose clock counts.** Clocks of machines differ. Therefore a `ClaimingStore` gets spans of seconds, not
instants (``wake_after``, ``lease``, ``forget_after``), and adds them to its own clock. With each record it
says how long ago the record was saved (`StoredRecord.age`). So the store decides which records are due.

**What is due, and who has it.** A record has two instants beside its text: ``wake_at`` (or none), at which a
process should go on with it, and ``lease_until``, until which one caller has it alone. ``claim`` hands out
the records for which both instants have passed, each to one caller. Every ``save`` sets both anew.

**Lost answers.** If the store's answer to a save is lost, the caller does not know whether the save took
place. Therefore each save names the revision that it makes. A caller that repeats the save gets that
revision, not a `StoreConflict` with its own earlier try.

`ciba_core.testing.check_transaction_store` and `check_session_store` hold a store of your own to all of this.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Protocol, TypeVar

from attrs import field, frozen

from ciba_core.login.sealing import Sealer, Secrets
from ciba_core.values import check

__all__ = [
    "AsyncClaimingStore",
    "AsyncSessionStore",
    "AsyncStores",
    "AsyncTransactionStore",
    "BasicStore",
    "Claimed",
    "ClaimingStore",
    "ClaimingStoreMethods",
    "Claims",
    "SessionStore",
    "StoredCallback",
    "StoredRecord",
    "Stores",
    "TransactionStore",
]


@frozen
class StoredCallback:
    """A callback of the provider that is kept for a login until a process goes on with the login."""

    id: str
    """Names it within the record, for ``save(taken=...)``."""
    text: str = field(repr=False)
    """ASCII; encrypted as records are."""


@frozen
class StoredRecord:
    """A text as it is stored."""

    text: str = field(repr=False)
    """ASCII; some kilobytes."""
    revision: str
    """Names this state of the record: never empty, and never used twice for one key, not even after the
    record was removed and made anew."""
    age: float | None = field(default=None, eq=False)
    """Seconds since it was saved, by the store's clock; ``None`` where the store does not tell. Only ``save``
    sets it back to 0; ``claim``, ``renew``, ``release`` and ``deliver`` do not."""
    callbacks: tuple[StoredCallback, ...] = field(default=(), eq=False)
    """Callbacks that ``deliver`` has brought and no save has taken, in the order in which they came."""


@frozen
class Claimed:
    """A login that was handed to one caller, for the time of a lease."""

    key: str
    record: StoredRecord
    """The claimed record. The claim gave it a new revision, so a save by an earlier holder is a conflict."""
    late: float = field(default=0.0, eq=False)
    """Seconds since it became due, by the store's clock."""


@frozen
class Claims:
    """The records that a store handed out."""

    now: float
    """The store's clock, in POSIX seconds."""
    claimed: tuple[Claimed, ...]
    """Those that have been due for longest come first."""


FoundT_co = TypeVar("FoundT_co", covariant=True)
RevisionT_co = TypeVar("RevisionT_co", covariant=True)
NothingT_co = TypeVar("NothingT_co", covariant=True)
ClaimsT_co = TypeVar("ClaimsT_co", covariant=True)
WhetherT_co = TypeVar("WhetherT_co", covariant=True)
KeysT_co = TypeVar("KeysT_co", covariant=True)
CountT_co = TypeVar("CountT_co", covariant=True)


class BasicStore(Protocol[FoundT_co, RevisionT_co, NothingT_co]):
    """The three methods that every store has; `TransactionStore` and its like say what they return.

    Every method gets the caller's ``store_options`` untouched: the request and response of a web framework, a
    tenant, a database session.

    A method raises `StoreUnavailable` when the store cannot be reached, or cannot read or write just now. Any
    other exception, unless it is a `StoreError`, is treated alike. A save that failed in this way is tried
    again.
    """

    def load(self, key: str, *, store_options: Any) -> FoundT_co:
        """Return what is stored under the key, or ``None``."""
        ...

    def save(
        self,
        key: str,
        text: str,
        *,
        expected_revision: str | None,
        forget_at: float | None,
        store_options: Any,
    ) -> RevisionT_co:
        """Store a text if the record is still at `expected_revision`, and return its new revision.

        Comparing and storing are one atomic act: of several callers that expect one revision, one succeeds.
        When this returns, the text is stored for good, and every process sees it.

        Args:
            key: any text. Keys that differ in one character are different.
            text: what to store.
            expected_revision: the revision that was loaded or saved last; ``None``: there is no record yet.
            forget_at: POSIX instant after which the store may drop the record by itself, and not before;
                ``None``: never.
            store_options: the caller's own, as they were given to the login.

        Raises:
            StoreConflict: the record is at another revision, or there is one, or none. Nothing was changed.

        """
        ...

    def remove(self, key: str, *, store_options: Any) -> NothingT_co:
        """Forget the record, if there is one."""
        ...


class ClaimingStoreMethods(
    BasicStore[FoundT_co, RevisionT_co, NothingT_co],
    Protocol[FoundT_co, RevisionT_co, NothingT_co, ClaimsT_co, WhetherT_co, KeysT_co, CountT_co],
):
    """A store that hands each due record to one caller; `ClaimingStore` says what its methods return.

    All spans are seconds, added to the store's own clock.
    """

    def save(
        self,
        key: str,
        text: str,
        *,
        expected_revision: str | None,
        forget_at: float | None = None,
        store_options: Any = None,
        revision: str | None = None,
        wake_after: float | None = None,
        lease: float = 0.0,
        forget_after: float | None = None,
        taken: Sequence[str] = (),
    ) -> RevisionT_co:
        """Store a text if the record is still at `expected_revision`, and return its new revision.

        As `BasicStore.save`, and:

        Args:
            key: any text.
            text: what to store.
            expected_revision: the revision that was loaded, claimed or saved last.
            forget_at: as in `BasicStore.save`, by the store's clock. Logins give `forget_after` instead.
            store_options: the caller's own.
            revision: the new state's revision, unique; ``None``: the store chooses one. If the record is at
                this revision already, an earlier try of this save succeeded: that is no conflict, and nothing
                is changed.
            wake_after: seconds until the record is due; ``None``: it does not become due by itself. If
                callbacks are left that no save has taken, it is due at once.
            lease: seconds for which no other caller can claim it.
            forget_after: seconds after which the store may drop the record by itself.
            taken: identifiers of the callbacks that this text takes into account; the save drops them.

        Raises:
            StoreConflict: the record is at another revision, or there is one, or none. Nothing was changed.

        """
        ...

    def claim(self, limit: int, lease: float, *, store_options: Any = None) -> ClaimsT_co:
        """Hand out at most `limit` records that are due and not leased; the longest overdue come first.

        Each gets a new revision, and cannot be claimed again for `lease` seconds.
        """
        ...

    def renew(self, key: str, revision: str, lease: float, *, store_options: Any = None) -> WhetherT_co:
        """Extend the lease of a record to `lease` seconds from now; return whether the caller still has it.

        Args:
            key: the record's.
            revision: the one from the claim, or from the last save since.
            lease: seconds.
            store_options: the caller's own.

        """
        ...

    def release(
        self, key: str, revision: str, *, wake_after: float | None, store_options: Any = None
    ) -> WhetherT_co:
        """Give a record back, due in `wake_after` seconds; return whether the caller still had it.

        ``None``: it does not become due by itself. As with ``save``, callbacks make it due at once.
        """
        ...

    def deliver(self, key: str, text: str, *, store_options: Any = None) -> WhetherT_co:
        """Keep a callback for a record and make the record due now; return ``False`` if there is none.

        When this returns ``True``, the callback is stored for good. A record need keep no more than eight
        callbacks that no save has taken; for a further one return ``False``. A lease stays in force. A text
        that the record has already is not kept twice.
        """
        ...

    def pending(self, limit: int = 1000, *, after: str = "", store_options: Any = None) -> KeysT_co:
        """Return, in order, the keys after `after` of the records that are due now or later."""
        ...

    def purge(self, limit: int = 1000, *, store_options: Any = None) -> CountT_co:
        """Drop records that may be forgotten, at most `limit`, and return how many those were."""
        ...


TransactionStore = BasicStore[StoredRecord | None, str, None]
"""Keeps the logins under way, one for each session key, from before the first request to their outcome."""

AsyncTransactionStore = BasicStore[Awaitable[StoredRecord | None], Awaitable[str], Awaitable[None]]
"""A `TransactionStore` whose methods are awaited."""

SessionStore = TransactionStore
"""Keeps the sessions that logins brought, one for each session key, until the application removes it."""

AsyncSessionStore = AsyncTransactionStore
"""A `SessionStore` whose methods are awaited."""

ClaimingStore = ClaimingStoreMethods[StoredRecord | None, str, None, Claims, bool, list[str], int]
"""A `TransactionStore` that hands each record that is due to one caller."""

AsyncClaimingStore = ClaimingStoreMethods[
    Awaitable[StoredRecord | None],
    Awaitable[str],
    Awaitable[None],
    Awaitable[Claims],
    Awaitable[bool],
    Awaitable[list[str]],
    Awaitable[int],
]
"""A `ClaimingStore` whose methods are awaited."""


def _sealer(value: Sealer | Secrets) -> Sealer:
    return value if isinstance(value, Sealer) else Sealer(value)


def _check_apart(instance: Any, attribute: Any, value: Any) -> None:
    if value is instance.transactions:
        raise ValueError(f"{attribute.name} must be another store than transactions: both have the same keys")


@frozen(kw_only=True)
class Stores:
    """The two stores of an application, and the secrets that their contents are encrypted under.

    Raises:
        TypeError, ValueError: the secrets are not of the right form; see `Sealer`.

    """

    transactions: TransactionStore
    sessions: SessionStore = field(validator=_check_apart)
    sealer: Sealer = field(alias="secrets", converter=_sealer, validator=check.a(Sealer), repr=False)
    """Given as ``secrets=[...]``: the first one encrypts, all of them decrypt. At least 32 octets each."""


@frozen(kw_only=True)
class AsyncStores:
    """As `Stores`, for async clients with stores whose methods are awaited, or not."""

    transactions: TransactionStore | AsyncTransactionStore
    sessions: SessionStore | AsyncSessionStore = field(validator=_check_apart)
    sealer: Sealer = field(alias="secrets", converter=_sealer, validator=check.a(Sealer), repr=False)
    """Given as ``secrets=[...]``: the first one encrypts, all of them decrypt. At least 32 octets each."""
