"""A store in a PostgreSQL database (13 or newer): for any number of processes on any number of machines.

Over psycopg 3 and a pool of connections that the application opens and closes::

    from psycopg_pool import ConnectionPool

    with ConnectionPool("postgresql://...", kwargs={"autocommit": True}, timeout=5) as pool:
        stores = postgres_stores(pool, secrets=[...])

``autocommit`` saves two messages for each method; each statement is atomic by itself. ``timeout`` limits the
time that a method waits for a connection while the database is away.

The tables are made by the first method that is called, in the first schema of the ``search_path``, by any
number of processes at once: ``ciba_transactions``, ``ciba_sessions``, ``ciba_routes``, and ``ciba_store`` for
the version. A role that may not make tables can use existing ones.

When a save returns, it is on the server's disk, unless ``synchronous_commit`` or ``fsync`` was turned off. In
that case a crash of the server can lose the save, and the user may be asked a second time. With asynchronous
replicas the same holds for a failover.
"""

# ruff: noqa: S608  # only names and expressions of this module are put into statements
from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Final, Protocol

from ciba_adapters._missing import missing_extra
from ciba_core import AsyncStores, Claimed, Claims, Secret, StoredCallback, StoredRecord, Stores
from ciba_core.errors import StoreConflict, StoreError, StoreUnavailable, UnknownStoreVersion

from ._server import (
    CALLBACKS,
    PURGED,
    AsyncRouteMethods,
    AsyncRunner,
    AsyncStoreMethods,
    Commands,
    Runner,
    SyncRouteMethods,
    SyncStoreMethods,
    Table,
    checked_table,
    new_revision,
)

try:
    import psycopg
    from psycopg.rows import tuple_row
except ImportError as error:
    raise missing_extra("postgres", error, module="stores.postgres") from error

__all__ = [
    "AsyncConnections",
    "AsyncPostgresRoutes",
    "AsyncPostgresStore",
    "Connections",
    "PostgresRoutes",
    "PostgresStore",
    "async_postgres_stores",
    "postgres_stores",
]


class Connections(Protocol):
    """The interface of a pool: a `psycopg_pool.ConnectionPool` with any row factory."""

    def connection(self) -> AbstractContextManager[psycopg.Connection[Any]]:
        """Lend a connection; commit at the end of the block, and roll back if it fails."""
        ...


class AsyncConnections(Protocol):
    """As `Connections`, awaited: a `psycopg_pool.AsyncConnectionPool`."""

    def connection(self) -> AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]:
        """Lend a connection; commit at the end of the block, and roll back if it fails."""
        ...


Statement = tuple[str, dict[str, Any]]
Rows = list[tuple[Any, ...]]

VERSION: Final = 1
_LOCK: Final = 0x43494241  # "CIBA": the advisory lock under which the tables are made
# It does not change within a statement, so that an index serves conditions on it.
_NOW: Final = "extract(epoch FROM statement_timestamp())::float8"
_ALIVE: Final = f"(forget_at IS NULL OR forget_at > {_NOW})"
# Keys are compared octet by octet, with any collation of the database: that is the order of code points. A
# tenth of each page stays free for new versions of its rows: a claim then touches no index.
_TABLE: Final = """CREATE TABLE IF NOT EXISTS ciba_{0} (
        key text COLLATE "C" PRIMARY KEY,
        revision text NOT NULL,
        text text NOT NULL,
        saved_at double precision NOT NULL,
        wake_at double precision,
        lease_until double precision NOT NULL,
        forget_at double precision,
        callbacks jsonb NOT NULL DEFAULT '[]'
    ) WITH (fillfactor = 80);
    CREATE INDEX IF NOT EXISTS ciba_{0}_wake_at ON ciba_{0} (wake_at) WHERE wake_at IS NOT NULL;
    CREATE INDEX IF NOT EXISTS ciba_{0}_forget_at ON ciba_{0} (forget_at) WHERE forget_at IS NOT NULL;"""
# Under the lock, "if not exists" has no race. (It looks anew; to_regclass has a cache.)
_CREATE: Final = f"""DO $$ BEGIN
    PERFORM pg_advisory_xact_lock({_LOCK});
    {_TABLE.format("transactions")}
    {_TABLE.format("sessions")}
    CREATE TABLE IF NOT EXISTS ciba_routes (
        token_hash text PRIMARY KEY, key text NOT NULL, forget_at double precision NOT NULL
    );
    CREATE INDEX IF NOT EXISTS ciba_routes_forget_at ON ciba_routes (forget_at);
    CREATE TABLE IF NOT EXISTS ciba_store (version integer NOT NULL);
    INSERT INTO ciba_store SELECT {VERSION} WHERE NOT EXISTS (SELECT FROM ciba_store);
END $$"""


def _prepare() -> Commands[None]:
    """Make the tables if they are not there, and refuse those of another version."""
    ((there,),) = yield "SELECT to_regclass('ciba_store') IS NOT NULL", {}
    if not there:
        yield _CREATE, {}
    versions = yield "SELECT version FROM ciba_store", {}
    if versions != [(VERSION,)]:
        raise UnknownStoreVersion(f"the tables of the database are not of version {VERSION}")


class _Plan:
    """The statements of a store."""

    def __init__(self, table: Table) -> None:
        self._table = f"ciba_{checked_table(table)}"

    def load(self, key: str) -> Commands[StoredRecord | None]:
        query = f"""SELECT text, revision, {_NOW} - saved_at, callbacks
            FROM {self._table} WHERE key = %(key)s AND {_ALIVE}"""
        rows = yield query, {"key": key}
        return _record(*rows[0]) if rows else None

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
        values = {
            "key": key,
            "text": text,
            "expected": expected_revision,
            "revision": revision,
            "wake_after": wake_after,
            "lease": lease,
            "forget_at": forget_at,
            "forget_after": forget_after,
            "taken": list(taken),
        }
        rows = yield self._insert() if expected_revision is None else self._update(), values
        if rows:
            return revision
        # An earlier try of the same save may have succeeded while its answer was lost.
        rows = yield f"SELECT 1 FROM {self._table} WHERE key = %(key)s AND revision = %(revision)s", values
        if not rows:
            raise StoreConflict("somebody else changed the record since it was loaded")
        return revision

    def _insert(self) -> str:
        """Make a record, in place of an expired one if there is one, and drop other expired records."""
        return f"""WITH dropped AS ({self._purge(str(PURGED), "key <> %(key)s")})
            INSERT INTO {self._table} AS old
            (key, revision, text, saved_at, wake_at, lease_until, forget_at)
            VALUES (%(key)s, %(revision)s, %(text)s, {_NOW}, {_NOW} + %(wake_after)s::float8,
                {_NOW} + %(lease)s::float8,
                coalesce({_NOW} + %(forget_after)s::float8, %(forget_at)s::float8))
            ON CONFLICT (key) DO UPDATE SET revision = excluded.revision, text = excluded.text,
                saved_at = excluded.saved_at, wake_at = excluded.wake_at,
                lease_until = excluded.lease_until, forget_at = excluded.forget_at, callbacks = '[]'
            WHERE old.forget_at <= {_NOW}
            RETURNING 1"""

    def _update(self) -> str:
        """Replace a record; callbacks that came since it was loaded stay, and make it due."""
        left = """CASE WHEN callbacks = '[]' THEN callbacks ELSE (
                SELECT coalesce(jsonb_agg(one ORDER BY place), '[]')
                FROM jsonb_array_elements(callbacks) WITH ORDINALITY AS kept (one, place)
                WHERE one ->> 'id' <> ALL (%(taken)s::text[])) END"""
        return f"""UPDATE {self._table} SET revision = %(revision)s, text = %(text)s, saved_at = {_NOW},
                wake_at = {_wake_at(left)}, lease_until = {_NOW} + %(lease)s::float8,
                forget_at = coalesce({_NOW} + %(forget_after)s::float8, %(forget_at)s::float8),
                callbacks = {left}
            WHERE key = %(key)s AND revision = %(expected)s AND {_ALIVE}
            RETURNING 1"""

    def remove(self, key: str) -> Commands[None]:
        yield f"DELETE FROM {self._table} WHERE key = %(key)s", {"key": key}

    def claim(self, limit: int, lease: float) -> Commands[Claims]:
        # The outer join returns the server's clock even if nothing is due.
        statement = f"""WITH due AS (
                SELECT key FROM {self._table}
                WHERE wake_at <= {_NOW} AND lease_until <= {_NOW} AND {_ALIVE}
                ORDER BY wake_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
            ), claimed AS (
                UPDATE {self._table} AS one
                SET lease_until = {_NOW} + %(lease)s::float8, revision = %(revision)s
                FROM due WHERE one.key = due.key
                RETURNING one.key, one.text, one.revision, one.saved_at, one.callbacks, one.wake_at
            )
            SELECT now, key, now - wake_at, text, revision, now - saved_at, callbacks
            FROM (SELECT {_NOW} AS now) AS clock LEFT JOIN claimed ON true ORDER BY wake_at"""
        rows = yield statement, {"limit": limit, "lease": lease, "revision": new_revision()}
        claimed = (Claimed(key, _record(*record), late) for _, key, late, *record in rows if key is not None)
        return Claims(rows[0][0], tuple(claimed))

    def renew(self, key: str, revision: str, lease: float) -> Commands[bool]:
        statement = f"""UPDATE {self._table} SET lease_until = {_NOW} + %(lease)s::float8
            WHERE key = %(key)s AND revision = %(revision)s RETURNING 1"""
        rows = yield statement, {"key": key, "revision": revision, "lease": lease}
        return bool(rows)

    def release(self, key: str, revision: str, wake_after: float | None) -> Commands[bool]:
        statement = f"""UPDATE {self._table} SET lease_until = 0, wake_at = {_wake_at("callbacks")}
            WHERE key = %(key)s AND revision = %(revision)s RETURNING 1"""
        rows = yield statement, {"key": key, "revision": revision, "wake_after": wake_after}
        return bool(rows)

    def deliver(self, key: str, text: str) -> Commands[bool]:
        there = "callbacks @> jsonb_build_array(jsonb_build_object('text', %(text)s::text))"
        statement = f"""UPDATE {self._table} SET
                wake_at = CASE WHEN wake_at IS NOT NULL THEN {_NOW} END,
                callbacks = CASE WHEN {there} THEN callbacks ELSE callbacks
                    || jsonb_build_object('id', %(id)s::text, 'text', %(text)s::text) END
            WHERE key = %(key)s AND {_ALIVE}
                AND ({there} OR jsonb_array_length(callbacks) < {CALLBACKS})
            RETURNING 1"""
        rows = yield statement, {"key": key, "text": text, "id": new_revision()}
        return bool(rows)

    def pending(self, limit: int, after: str) -> Commands[list[str]]:
        query = f"""SELECT key FROM {self._table}
            WHERE wake_at IS NOT NULL AND {_ALIVE} AND key > %(after)s ORDER BY key LIMIT %(limit)s"""
        rows = yield query, {"after": after, "limit": limit}
        return [key for (key,) in rows]

    def purge(self, limit: int) -> Commands[int]:
        rows = yield self._purge("%(limit)s", "true"), {"limit": limit}
        return len(rows)

    def _purge(self, limit: str, condition: str) -> str:
        return f"""DELETE FROM {self._table} WHERE forget_at <= {_NOW} AND key IN (
            SELECT key FROM {self._table} WHERE forget_at <= {_NOW} AND {condition}
            ORDER BY forget_at LIMIT {limit} FOR UPDATE SKIP LOCKED) RETURNING 1"""


def _wake_at(left: str) -> str:
    """Return the expression for `wake_at` of a record whose callbacks are `left`: now, if there are any."""
    return f"""CASE WHEN {left} = '[]' OR %(wake_after)s::float8 IS NULL THEN {_NOW} + %(wake_after)s::float8
        ELSE {_NOW} END"""


def _record(text: str, revision: str, age: float, callbacks: list[dict[str, str]]) -> StoredRecord:
    kept = tuple(StoredCallback(one["id"], one["text"]) for one in callbacks)
    return StoredRecord(text, revision, max(age, 0.0), kept)


class _RoutePlan:
    """The statements of a routing store."""

    def add(self, token_hash: str, key: str, seconds: float) -> Commands[None]:
        purge = f"""DELETE FROM ciba_routes WHERE token_hash IN (
            SELECT token_hash FROM ciba_routes WHERE forget_at <= {_NOW}
            ORDER BY forget_at LIMIT {PURGED} FOR UPDATE SKIP LOCKED)"""
        yield purge, {}
        statement = f"""INSERT INTO ciba_routes (token_hash, key, forget_at)
            VALUES (%(token_hash)s, %(key)s, {_NOW} + %(seconds)s::float8)
            ON CONFLICT (token_hash) DO UPDATE SET key = excluded.key, forget_at = excluded.forget_at"""
        yield statement, {"token_hash": token_hash, "key": key, "seconds": seconds}

    def find(self, token_hash: str) -> Commands[str | None]:
        query = f"SELECT key FROM ciba_routes WHERE token_hash = %(token_hash)s AND {_ALIVE}"
        rows = yield query, {"token_hash": token_hash}
        return rows[0][0] if rows else None


@contextlib.contextmanager
def _typed_errors() -> Generator[None, None, None]:
    """Turn psycopg's exceptions into a `StoreError`. Keep the message, but not the details with values."""
    try:
        yield
    except (psycopg.DataError, UnicodeEncodeError) as error:
        raise StoreError(f"the database does not take the record: {type(error).__name__}") from error
    except psycopg.Error as error:
        told = error.diag.message_primary or type(error).__name__
        raise StoreUnavailable(f"the database cannot be used: {told}") from error


def _runner(pool: Connections) -> Runner:
    @contextlib.contextmanager
    def connect() -> Generator[Callable[[Statement], Rows], None, None]:
        with _typed_errors(), pool.connection() as connection:

            def execute(command: Statement) -> Rows:
                cursor = connection.cursor(row_factory=tuple_row)
                cursor.execute(command[0].encode(), command[1])
                return cursor.fetchall() if cursor.description else []

            yield execute

    return Runner(connect, _prepare)


def _async_runner(pool: AsyncConnections) -> AsyncRunner:
    @contextlib.asynccontextmanager
    async def connect() -> AsyncGenerator[Callable[[Statement], Awaitable[Rows]], None]:
        with _typed_errors():
            async with pool.connection() as connection:

                async def execute(command: Statement) -> Rows:
                    cursor = await connection.cursor(row_factory=tuple_row).execute(
                        command[0].encode(), command[1]
                    )
                    return await cursor.fetchall() if cursor.description else []

                yield execute

    return AsyncRunner(connect, _prepare)


class PostgresStore(SyncStoreMethods):
    """Keeps logins, or sessions, in a PostgreSQL database. Safe to use from threads, processes and machines.

    It is a `ciba_core.ClaimingStore`, and the server's clock is the one that counts.

    Each method raises `StoreUnavailable` if the database cannot be reached, read or written (away, full,
    read-only), `StoreError` if it does not take a value (U+0000 in a key), and `UnknownStoreVersion` if its
    tables are of a later release of this library.

    Args:
        pool: connections to the database, which the application opens and closes.
        table: the table to keep the records in.

    Raises:
        ValueError: there is no such table.

    """

    def __init__(self, pool: Connections, table: Table) -> None:
        super().__init__(_Plan(table), _runner(pool))


class AsyncPostgresStore(AsyncStoreMethods):
    """As `PostgresStore`, for asyncio: a `ciba_core.AsyncClaimingStore`.

    Args:
        pool: connections to the database, which the application opens, in its event loop, and closes.
        table: the table to keep the records in.

    Raises:
        ValueError: there is no such table.

    """

    def __init__(self, pool: AsyncConnections, table: Table) -> None:
        super().__init__(_Plan(table), _async_runner(pool))


class PostgresRoutes(SyncRouteMethods):
    """Routes for callbacks in a PostgreSQL database, so that they can come to any process of any machine.

    A `ciba_core.RoutingStore`; it may be the database of the logins. It keeps hashes, and no tokens.

    Args:
        pool: connections to the database; see `PostgresStore`, also for exceptions.

    """

    def __init__(self, pool: Connections) -> None:
        super().__init__(_RoutePlan(), _runner(pool))


class AsyncPostgresRoutes(AsyncRouteMethods):
    """As `PostgresRoutes`, with methods that are awaited, for asyncio."""

    def __init__(self, pool: AsyncConnections) -> None:
        super().__init__(_RoutePlan(), _async_runner(pool))


def postgres_stores(pool: Connections, *, secrets: Sequence[str | Secret]) -> Stores:
    """Return stores in one PostgreSQL database; see `PostgresStore`.

    Args:
        pool: connections to the database, which the application opens and closes.
        secrets: encrypt the contents: the first one encrypts, all of them decrypt.

    Raises:
        TypeError, ValueError: the secrets are not of the right form; see `Stores`.

    """
    return Stores(
        transactions=PostgresStore(pool, "transactions"),
        sessions=PostgresStore(pool, "sessions"),
        secrets=secrets,
    )


def async_postgres_stores(pool: AsyncConnections, *, secrets: Sequence[str | Secret]) -> AsyncStores:
    """As `postgres_stores`, for asyncio; see `AsyncPostgresStore`."""
    return AsyncStores(
        transactions=AsyncPostgresStore(pool, "transactions"),
        sessions=AsyncPostgresStore(pool, "sessions"),
        secrets=secrets,
    )
