"""What a login needs of a store, and nothing about how one does it.

A store keeps texts under keys, and replaces a text only for a caller that holds the latest revision. It need
not be trusted: the texts are encrypted before it gets them (see `ciba_core.login.sealing`).
`ciba_core.testing.check_transaction_store` and `check_session_store` hold a store of your own to this.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

from attrs import field, frozen

from ciba_core.login.sealing import Sealer
from ciba_core.values import check

__all__ = [
    "AsyncSessionStore",
    "AsyncStores",
    "AsyncTransactionStore",
    "SessionStore",
    "StoredRecord",
    "Stores",
    "TransactionStore",
]


@frozen
class StoredRecord:
    """A text as it is stored."""

    text: str = field(repr=False)
    """ASCII; some kilobytes."""
    revision: str
    """Names this state of the record: never empty, and never used twice for one key, not even after the
    record was removed and made anew."""


class _Store(Protocol):
    def load(self, key: str, *, store_options: Any) -> StoredRecord | None:
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
    ) -> str:
        """Store a text if the record is still at `expected_revision`, and return its new revision.

        To compare and to store is one act: of several callers that expect one revision, one gets through.
        When this returns, the text is stored for good, and every process sees it.

        Args:
            key: any text; what differs in one character is another key.
            text: what to store.
            expected_revision: the revision that was loaded or saved last; ``None``: there is no record yet.
            forget_at: POSIX instant after which the store may drop the record by itself, and not before;
                ``None``: never.
            store_options: the caller's own, as they were given to the login.

        Raises:
            StoreConflict: the record is at another revision, or there is one, or none. Nothing was changed.

        """
        ...

    def remove(self, key: str, *, store_options: Any) -> None:
        """Forget the record, if there is one."""
        ...


class _AsyncStore(Protocol):
    def load(self, key: str, *, store_options: Any) -> Awaitable[StoredRecord | None]: ...
    def save(
        self,
        key: str,
        text: str,
        *,
        expected_revision: str | None,
        forget_at: float | None,
        store_options: Any,
    ) -> Awaitable[str]: ...
    def remove(self, key: str, *, store_options: Any) -> Awaitable[None]: ...


class TransactionStore(_Store, Protocol):
    """Keeps the logins under way, one for each session key, from before the first request to their outcome.

    Every method gets the caller's ``store_options`` untouched: the request and response of a web framework, a
    tenant, a database session.
    """


class SessionStore(_Store, Protocol):
    """Keeps what logins brought, one session for each session key, until the application removes it.

    Every method gets the caller's ``store_options`` untouched.
    """


class AsyncTransactionStore(_AsyncStore, Protocol):
    """A `TransactionStore` whose methods are awaited."""


class AsyncSessionStore(_AsyncStore, Protocol):
    """A `SessionStore` whose methods are awaited."""


def _sealer(value: Any) -> Any:
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
