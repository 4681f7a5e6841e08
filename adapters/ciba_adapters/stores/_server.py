"""The common part of stores in a database server: their methods, for sync and for async clients.

A `Plan` says what a method does: it is a generator that yields commands for the server and is sent their
replies. A class of stores carries the commands out, by calls that return or by calls that are awaited. So
each command is written once, and its reply is read in one place.
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
"""Most callbacks that a record keeps until a save takes them. A provider sends one."""
PURGED: Final = 100
"""Most expired records that a new record drops; `purge` drops the rest."""

ValueT = TypeVar("ValueT")
Commands = Generator[Any, Any, ValueT]
"""Yields commands, is sent replies, and returns the method's result."""
Table = Literal["transactions", "sessions"]


class Plan(Protocol):
    """The plans of a store's methods; `ciba_core.ClaimingStore` has the rules for each."""

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
        """Hand out records that are due."""
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
        """List the records that are due now or later."""
        ...

    def purge(self, limit: int) -> Commands[int]:
        """Drop records that may be forgotten."""
        ...


class RoutePlan(Protocol):
    """The plans of the methods of a `ciba_core.RoutingStore`."""

    def add(self, token_hash: str, key: str, seconds: float) -> Commands[None]:
        """Lay a route for a time."""
        ...

    def find(self, token_hash: str) -> Commands[str | None]:
        """Find where a route leads."""
        ...


Run = Callable[[Commands[Any]], Any]


class Runner:
    """Carries out plans by calls that return.

    `connect` lends a connection, as a function that carries out one command, and turns exceptions into a
    `StoreError`. `prepare` is carried out first, once.
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
        """Carry out a plan and return its result."""
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
        """Carry out a plan and return its result."""
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

    The types of results depend on the runner, so each class of stores names them.
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
        """Keep a callback for a record and make the record due now; see `ciba_core.ClaimingStore`."""
        delivered: WhetherT = self._run(self._plan.deliver(key, text))
        return delivered

    def pending(self, limit: int = 1000, *, after: str = "", store_options: Any = None) -> KeysT:  # noqa: ARG002
        """Return the keys of records that are due now or later; see `ciba_core.ClaimingStore`."""
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

    The server's clock counts: only the difference of the caller's two instants is used.
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
    """Return a new, unique name for a state of a record."""
    return secrets.token_hex(8)
