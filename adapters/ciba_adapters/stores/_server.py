"""What stores in a database server have in common: their methods, for sync and for async clients.

What a method does is a `Plan`'s to say: a generator, which yields commands for the server and is sent their
replies. A class of stores adds how a command is carried out: by a call that returns, or by one that is
awaited. So there is one text of each command, and one way to read its reply.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Final, Generic, Literal, Protocol, TypeVar

from ciba_core import Claims, StoredRecord

__all__ = [
    "CALLBACKS",
    "PURGED",
    "AsyncRouteMethods",
    "AsyncRunner",
    "AsyncStoreMethods",
    "Commands",
    "Plan",
    "RouteMethods",
    "RoutePlan",
    "Runner",
    "StoreMethods",
    "SyncRouteMethods",
    "SyncStoreMethods",
    "Table",
    "checked_table",
    "new_revision",
]

CALLBACKS: Final = 8
"""Callbacks that a record keeps which nobody has taken. A provider sends one."""
PURGED: Final = 100
"""Records that are over, of which a new one clears away so many at most: `purge` is for the rest."""

ValueT = TypeVar("ValueT")
Commands = Generator[Any, Any, ValueT]
"""Yields commands, is sent replies, returns what the method returns."""
Table = Literal["transactions", "sessions"]


class Plan(Protocol):
    """What the methods of a store do; `ciba_core.ClaimingStore` says what is asked of each."""

    def load(self, key: str) -> Commands[StoredRecord | None]:
        """Find the record."""
        ...

    def save(
        self,
        key: str,
        text: str,
        *,
        expected_revision: str | None,
        forget_at: float | None,
        revision: str,
        wake_after: float | None,
        lease: float,
        forget_after: float | None,
        taken: Sequence[str],
    ) -> Commands[str]:
        """Compare the revision, and store the text."""
        ...

    def remove(self, key: str) -> Commands[None]:
        """Forget the record."""
        ...

    def claim(self, limit: int, lease: float) -> Commands[Claims]:
        """Hand out what is due."""
        ...

    def renew(self, key: str, revision: str, lease: float) -> Commands[bool]:
        """Lengthen a lease."""
        ...

    def release(self, key: str, revision: str, wake_after: float | None) -> Commands[bool]:
        """End a lease."""
        ...

    def deliver(self, key: str, text: str) -> Commands[bool]:
        """Keep a callback."""
        ...

    def pending(self, limit: int, after: str) -> Commands[list[str]]:
        """List what has an instant to be due at."""
        ...

    def purge(self, limit: int) -> Commands[int]:
        """Drop what may be forgotten."""
        ...


class RoutePlan(Protocol):
    """What the methods of a `ciba_core.RoutingStore` do."""

    def add(self, token_hash: str, key: str, seconds: float) -> Commands[None]:
        """Lay a route for a time."""
        ...

    def find(self, token_hash: str) -> Commands[str | None]:
        """Find where a route leads."""
        ...


Run = Callable[[Commands[Any]], Any]


class Runner:
    """Carries out what plans yield, by calls that return.

    `connect` lends a connection, as a function that carries out one command, and turns what goes wrong into
    a `StoreError`. `prepare` is carried out first, once.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractContextManager[Callable[[Any], Any]]],
        prepare: Callable[[], Commands[None]],
    ) -> None:
        self._connect = connect
        self._prepare = prepare
        self._is_prepared = False

    def __call__(self, commands: Commands[Any]) -> Any:
        """Return what the method returns."""
        if not self._is_prepared:
            self._carry_out(self._prepare())
            self._is_prepared = True
        return self._carry_out(commands)

    def _carry_out(self, commands: Commands[Any]) -> Any:
        with self._connect() as execute:
            reply = None
            while True:
                try:
                    command = commands.send(reply)
                except StopIteration as end:
                    return end.value
                reply = execute(command)


class AsyncRunner:
    """As `Runner`, by calls that are awaited."""

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[Callable[[Any], Awaitable[Any]]]],
        prepare: Callable[[], Commands[None]],
    ) -> None:
        self._connect = connect
        self._prepare = prepare
        self._is_prepared = False

    async def __call__(self, commands: Commands[Any]) -> Any:
        """Return what the method returns."""
        if not self._is_prepared:
            await self._carry_out(self._prepare())
            self._is_prepared = True
        return await self._carry_out(commands)

    async def _carry_out(self, commands: Commands[Any]) -> Any:
        async with self._connect() as execute:
            reply = None
            while True:
                try:
                    command = commands.send(reply)
                except StopIteration as end:
                    return end.value
                reply = await execute(command)


FoundT = TypeVar("FoundT")
RevisionT = TypeVar("RevisionT")
NothingT = TypeVar("NothingT")
ClaimsT = TypeVar("ClaimsT")
WhetherT = TypeVar("WhetherT")
KeysT = TypeVar("KeysT")
CountT = TypeVar("CountT")
RouteT = TypeVar("RouteT")


class StoreMethods(Generic[FoundT, RevisionT, NothingT, ClaimsT, WhetherT, KeysT, CountT]):
    """The methods of `ciba_core.ClaimingStore`, or of `ciba_core.AsyncClaimingStore`, over a plan.

    What is returned depends on who carries out the plan, so that a class of stores has to say it.
    """

    def __init__(self, plan: Plan, run: Run) -> None:
        self._plan = plan
        self._run = run

    def load(self, key: str, *, store_options: Any = None) -> FoundT:  # noqa: ARG002  # not needed here
        """Return what is stored under the key, or ``None``."""
        found: FoundT = self._run(self._plan.load(key))
        return found

    def save(
        self,
        key: str,
        text: str,
        *,
        expected_revision: str | None,
        forget_at: float | None = None,
        store_options: Any = None,  # noqa: ARG002
        revision: str | None = None,
        wake_after: float | None = None,
        lease: float = 0.0,
        forget_after: float | None = None,
        taken: Sequence[str] = (),
    ) -> RevisionT:
        """Store a text if the record is still at `expected_revision`; see `ciba_core.ClaimingStore`.

        Raises:
            StoreConflict: it is not; nothing was changed.

        """
        saved: RevisionT = self._run(
            self._plan.save(
                key,
                text,
                expected_revision=expected_revision,
                forget_at=forget_at,
                revision=revision or new_revision(),
                wake_after=wake_after,
                lease=lease,
                forget_after=forget_after,
                taken=taken,
            )
        )
        return saved

    def remove(self, key: str, *, store_options: Any = None) -> NothingT:  # noqa: ARG002
        """Forget the record, if there is one."""
        removed: NothingT = self._run(self._plan.remove(key))
        return removed

    def claim(self, limit: int, lease: float, *, store_options: Any = None) -> ClaimsT:  # noqa: ARG002
        """Hand out records that are due; see `ciba_core.ClaimingStore`."""
        claims: ClaimsT = self._run(self._plan.claim(limit, lease))
        return claims

    def renew(self, key: str, revision: str, lease: float, *, store_options: Any = None) -> WhetherT:  # noqa: ARG002
        """Keep a record that was claimed for `lease` seconds more; see `ciba_core.ClaimingStore`."""
        renewed: WhetherT = self._run(self._plan.renew(key, revision, lease))
        return renewed

    def release(
        self,
        key: str,
        revision: str,
        *,
        wake_after: float | None,
        store_options: Any = None,  # noqa: ARG002
    ) -> WhetherT:
        """Give a record back, due in `wake_after` seconds; see `ciba_core.ClaimingStore`."""
        released: WhetherT = self._run(self._plan.release(key, revision, wake_after))
        return released

    def deliver(self, key: str, text: str, *, store_options: Any = None) -> WhetherT:  # noqa: ARG002
        """Keep a callback for a record and make that due now; see `ciba_core.ClaimingStore`."""
        delivered: WhetherT = self._run(self._plan.deliver(key, text))
        return delivered

    def pending(self, limit: int = 1000, *, after: str = "", store_options: Any = None) -> KeysT:  # noqa: ARG002
        """Return the keys of records that have an instant to be due at; see `ciba_core.ClaimingStore`."""
        keys: KeysT = self._run(self._plan.pending(limit, after))
        return keys

    def purge(self, limit: int = 1000, *, store_options: Any = None) -> CountT:  # noqa: ARG002
        """Drop records that may be forgotten, and return how many; a new record drops some, too."""
        count: CountT = self._run(self._plan.purge(limit))
        return count


SyncStoreMethods = StoreMethods[StoredRecord | None, str, None, Claims, bool, list[str], int]
AsyncStoreMethods = StoreMethods[
    Awaitable[StoredRecord | None],
    Awaitable[str],
    Awaitable[None],
    Awaitable[Claims],
    Awaitable[bool],
    Awaitable[list[str]],
    Awaitable[int],
]


class RouteMethods(Generic[NothingT, RouteT]):
    """The methods of `ciba_core.RoutingStore`, awaited or not, over a plan.

    It is the server's clock that counts: of the caller's two instants only the time between them is used.
    """

    def __init__(self, plan: RoutePlan, run: Run) -> None:
        self._plan = plan
        self._run = run

    def add(self, token_hash: str, key: str, *, forget_at: float, now: float) -> NothingT:
        """Lay a route, or replace it; see `ciba_core.RoutingStore`."""
        added: NothingT = self._run(self._plan.add(token_hash, key, forget_at - now))
        return added

    def find(self, token_hash: str, now: float) -> RouteT:  # noqa: ARG002  # the server's clock counts
        """Return the name of the transaction; see `ciba_core.RoutingStore`."""
        found: RouteT = self._run(self._plan.find(token_hash))
        return found


SyncRouteMethods = RouteMethods[None, str | None]
AsyncRouteMethods = RouteMethods[Awaitable[None], Awaitable[str | None]]


def checked_table(table: Table) -> Table:
    """Return the name of the table, which is put into commands.

    Raises:
        ValueError: there is no such table.

    """
    if table not in ("transactions", "sessions"):
        raise ValueError("table must be 'transactions' or 'sessions'")
    return table


def new_revision() -> str:
    """Return a name for a state of a record that no other has had."""
    return secrets.token_hex(8)
