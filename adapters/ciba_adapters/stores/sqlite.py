"""A store in an SQLite database: one file, shared by all processes and threads of one machine."""

# ruff: noqa: S608  # the one thing put into a statement is a table name, one of two constants
from __future__ import annotations

import contextlib
import copy
import json
import os
import secrets
import sqlite3
import stat
import threading
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from ciba_core import Claimed, Claims, Secret, StoredCallback, StoredRecord, Stores
from ciba_core.errors import StoreConflict, StoredContentAltered, StoreUnavailable, UnknownStoreVersion

__all__ = ["SqliteRoutes", "SqliteStore", "sqlite_stores"]

VERSION: Final = 2
CALLBACKS: Final = 8
"""Most callbacks that a record keeps until a save takes them. A provider sends one."""
_APPLICATION: Final = 0x43494241  # "CIBA", in the header of the file
_TABLES: Final = ("transactions", "sessions")
# Version 1 had the two tables with their first four columns, and the index of the last one.
_RECORDS: Final = (
    "CREATE TABLE {0} (key TEXT PRIMARY KEY, revision TEXT NOT NULL, text TEXT NOT NULL, forget_at REAL)",
    "CREATE INDEX {0}_forget_at ON {0} (forget_at)",
)
_CLAIMS: Final = (
    "ALTER TABLE {0} ADD COLUMN saved_at REAL",
    "ALTER TABLE {0} ADD COLUMN wake_at REAL",
    "ALTER TABLE {0} ADD COLUMN lease_until REAL NOT NULL DEFAULT 0",
    "CREATE INDEX {0}_wake_at ON {0} (wake_at) WHERE wake_at IS NOT NULL",
)
_CALLBACKS: Final = (
    """CREATE TABLE callbacks (
        number INTEGER PRIMARY KEY, store TEXT NOT NULL, key TEXT NOT NULL, text TEXT NOT NULL
    )""",
    "CREATE INDEX callbacks_key ON callbacks (store, key)",
    "CREATE TABLE routes (token_hash TEXT PRIMARY KEY, key TEXT NOT NULL, forget_at REAL NOT NULL)",
    "CREATE INDEX routes_forget_at ON routes (forget_at)",
)


class _Connection:
    """An open database, for one thread of one process."""

    def __init__(self, path: Path, timeout: float) -> None:
        self.process = os.getpid()
        # Only its own thread uses it. But another thread may drop it after its own has ended.
        self.database = sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)
        # Do not rely on the library's build options: saved records must survive a loss of power.
        self.database.execute("PRAGMA synchronous = FULL")

    def __del__(self) -> None:
        # After a fork the file belongs to the parent: closing it here would release the parent's locks.
        if self.process == os.getpid() and hasattr(self, "database"):
            self.database.close()


class _Database:
    """A file, with a connection for each thread and process that uses it."""

    def __init__(self, path: str | os.PathLike[str], timeout: float) -> None:
        if str(path) in ("", ":memory:"):
            raise ValueError("path must name a file")
        self._path = Path(path).absolute()
        self._timeout = timeout
        self._local = threading.local()
        self._inherited: list[_Connection] = []
        self._create()
        with self.writing() as database:
            _prepare(database)
        # It does not wait, and fails if another process is doing the same. Only speed depends on it.
        with contextlib.suppress(StoreUnavailable), self.reading() as database:
            database.execute("PRAGMA journal_mode = WAL")

    def _create(self) -> None:
        try:
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            if os.name == "posix" and (mode := stat.S_IMODE(self._path.stat().st_mode)) & 0o077:
                message = f"{self._path.name} is not its owner's alone (mode {mode:03o})"
                warnings.warn(message, stacklevel=5)
        except OSError as error:
            raise StoreUnavailable(f"the database cannot be made: {error.strerror}") from error

    @contextlib.contextmanager
    def reading(self) -> Generator[sqlite3.Connection, None, None]:
        """Give the connection of this thread; turn SQLite's exceptions into a `StoreError`."""
        try:
            connection: _Connection | None = getattr(self._local, "connection", None)
            if connection is None or connection.process != os.getpid():
                if connection is not None:
                    self._inherited.append(connection)
                connection = self._local.connection = _Connection(self._path, self._timeout)
            yield connection.database
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
                raise UnknownStoreVersion("the file is no SQLite database") from error
            raise StoreUnavailable(f"the database cannot be used: {error}") from error

    @contextlib.contextmanager
    def writing(self) -> Generator[sqlite3.Connection, None, None]:
        """Keep other writers out from the first read on; undo everything if it fails."""
        with self.reading() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:
                if database.in_transaction:  # if the disk is full, the transaction has ended already
                    database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")


class SqliteStore:
    """Keeps logins, or sessions, in a database file. Safe to use from threads, tasks and processes.

    It is a `ciba_core.ClaimingStore`: workers on the same machine can claim what is due.

    Each thread has a connection of its own, which stays open, and waits for other processes up to `timeout`
    seconds. A write is on the disk when it returns; that blocks an event loop for some milliseconds. If the
    database cannot be read or written, `StoreUnavailable` is raised.

    Args:
        path: the file, on a local disk. If it is missing, it is made, readable for its owner only. If other
            users can access an existing file, a warning says so.
        table: the table to keep the records in.
        timeout: seconds to wait for a lock.
        time: the wall clock in POSIX seconds, by which records become due and are dropped.

    Raises:
        ValueError: the path names a database in memory, which no two connections share.
        UnknownStoreVersion: the file is of another application, or of a later release of this library. One of
            an earlier release is brought up to date.
        StoreUnavailable: the file cannot be made, read or written.

    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        table: Literal["transactions", "sessions"],
        *,
        timeout: float = 5.0,
        time: Callable[[], float] = time.time,
    ) -> None:
        if table not in _TABLES:
            raise ValueError("table must be 'transactions' or 'sessions'")
        self._database = _Database(path, timeout)
        self._table = table
        self._time = time

    def beside(self, table: Literal["transactions", "sessions"]) -> SqliteStore:
        """Return the store for the other table of the file, over the same connections."""
        other = copy.copy(self)
        other._table = table  # noqa: SLF001  # a copy of its own
        return other

    def load(self, key: str, *, store_options: Any = None) -> StoredRecord | None:  # noqa: ARG002  # not needed here
        """Return what is stored under the key, or ``None``."""
        query = f"""SELECT key, text, revision, saved_at, forget_at,
            EXISTS (SELECT 1 FROM callbacks WHERE store = '{self._table}' AND key = ?1)
            FROM {self._table} WHERE key = ?1"""
        with self._database.reading() as database:
            now = self._time()
            for *row, forget_at, called_back in database.execute(query, (key,)):
                if forget_at is None or forget_at > now:
                    return self._record(database, row, now, called_back=bool(called_back))
        return None

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
    ) -> str:
        """Store a text if the record is still at `expected_revision`; see `ciba_core.ClaimingStore`.

        Raises:
            StoreConflict: it is not; nothing was changed.

        """
        new = revision or secrets.token_hex(8)
        with self._database.writing() as database:
            now = self._time()
            found = self._revision(database, key, now)
            if found == revision and found is not None:
                return new
            if found != expected_revision:
                raise StoreConflict("somebody else changed the record since it was loaded")
            if found is None:
                # If there was a record, it has expired.
                database.execute("DELETE FROM callbacks WHERE store = ? AND key = ?", (self._table, key))
            for number in taken:
                database.execute("DELETE FROM callbacks WHERE number = ? AND key = ?", (number, key))
            values = {
                "key": key,
                "revision": new,
                "text": text,
                "forget_at": forget_at if forget_after is None else now + forget_after,
                "now": now,
                "wake_at": self._wake_at(database, key, wake_after, now),
                "lease_until": now + lease,
            }
            database.execute(
                f"""INSERT OR REPLACE INTO {self._table}
                (key, revision, text, forget_at, saved_at, wake_at, lease_until)
                VALUES (:key, :revision, :text, :forget_at, :now, :wake_at, :lease_until)""",
                values,
            )
            self._drop_old(database, self._time())
        return new

    def remove(self, key: str, *, store_options: Any = None) -> None:  # noqa: ARG002
        """Forget the record, if there is one."""
        with self._database.writing() as database:
            database.execute(f"DELETE FROM {self._table} WHERE key = ?", (key,))
            database.execute("DELETE FROM callbacks WHERE store = ? AND key = ?", (self._table, key))

    def keys(self) -> list[str]:
        """Return the keys of all records."""
        query = f"SELECT key FROM {self._table} WHERE forget_at IS NULL OR forget_at > ?"
        with self._database.reading() as database:
            return [key for (key,) in database.execute(query, (self._time(),))]

    def claim(self, limit: int, lease: float, *, store_options: Any = None) -> Claims:  # noqa: ARG002
        """Hand out records that are due; see `ciba_core.ClaimingStore`."""
        statement = f"""UPDATE {self._table}
            SET lease_until = :until, revision = lower(hex(randomblob(8)))
            WHERE key IN (
                SELECT key FROM {self._table}
                WHERE wake_at <= :now AND lease_until <= :now AND (forget_at IS NULL OR forget_at > :now)
                ORDER BY wake_at LIMIT :limit
            )
            RETURNING wake_at, key, text, revision, saved_at,
            EXISTS (
                SELECT 1 FROM callbacks WHERE store = '{self._table}' AND callbacks.key = {self._table}.key
            )"""
        with self._database.writing() as database:
            now = self._time()
            rows = database.execute(statement, {"now": now, "until": now + lease, "limit": limit}).fetchall()
            claimed = [
                Claimed(
                    row[0], self._record(database, row, now, called_back=bool(called_back)), now - wake_at
                )
                for wake_at, *row, called_back in sorted(rows)
            ]
        return Claims(now, tuple(claimed))

    def renew(self, key: str, revision: str, lease: float, *, store_options: Any = None) -> bool:  # noqa: ARG002
        """Keep a record that was claimed for `lease` seconds more; see `ciba_core.ClaimingStore`."""
        statement = f"UPDATE {self._table} SET lease_until = ? WHERE key = ? AND revision = ?"
        with self._database.writing() as database:
            return database.execute(statement, (self._time() + lease, key, revision)).rowcount == 1

    def release(
        self,
        key: str,
        revision: str,
        *,
        wake_after: float | None,
        store_options: Any = None,  # noqa: ARG002
    ) -> bool:
        """Give a record back, due in `wake_after` seconds; see `ciba_core.ClaimingStore`."""
        statement = f"UPDATE {self._table} SET wake_at = ?, lease_until = 0 WHERE key = ? AND revision = ?"
        with self._database.writing() as database:
            wake_at = self._wake_at(database, key, wake_after, self._time())
            return database.execute(statement, (wake_at, key, revision)).rowcount == 1

    def deliver(self, key: str, text: str, *, store_options: Any = None) -> bool:  # noqa: ARG002
        """Keep a callback for a record and make the record due now; see `ciba_core.ClaimingStore`."""
        query = "SELECT text FROM callbacks WHERE store = ? AND key = ?"
        with self._database.writing() as database:
            now = self._time()
            if self._revision(database, key, now) is None:
                return False
            kept = [one for (one,) in database.execute(query, (self._table, key))]
            if text not in kept:
                if len(kept) >= CALLBACKS:
                    return False
                statement = "INSERT INTO callbacks (store, key, text) VALUES (?, ?, ?)"
                database.execute(statement, (self._table, key, text))
            statement = f"UPDATE {self._table} SET wake_at = ? WHERE key = ? AND wake_at IS NOT NULL"
            database.execute(statement, (now, key))
            return True

    def pending(self, limit: int = 1000, *, after: str = "", store_options: Any = None) -> list[str]:  # noqa: ARG002
        """Return the keys of records that are due now or later; see `ciba_core.ClaimingStore`."""
        query = f"""SELECT key FROM {self._table}
            WHERE wake_at IS NOT NULL AND (forget_at IS NULL OR forget_at > ?) AND key > ?
            ORDER BY key LIMIT ?"""
        with self._database.reading() as database:
            return [key for (key,) in database.execute(query, (self._time(), after, limit))]

    def purge(self, limit: int = 1000, *, store_options: Any = None) -> int:  # noqa: ARG002
        """Drop records that may be forgotten, and return how many; each save does so, too."""
        with self._database.writing() as database:
            return self._drop_old(database, self._time(), limit)

    def _revision(self, database: sqlite3.Connection, key: str, now: float) -> str | None:
        query = f"SELECT revision, forget_at FROM {self._table} WHERE key = ?"
        for revision, forget_at in database.execute(query, (key,)):
            if forget_at is None or forget_at > now:
                return str(revision)
        return None

    def _record(
        self, database: sqlite3.Connection, row: Sequence[Any], now: float, *, called_back: bool
    ) -> StoredRecord:
        key, text, revision, saved_at = row
        if not isinstance(text, str) or not isinstance(revision, str):
            raise StoredContentAltered("the stored record is not text")
        callbacks: tuple[StoredCallback, ...] = ()
        if called_back:
            query = "SELECT number, text FROM callbacks WHERE store = ? AND key = ? ORDER BY number"
            found = database.execute(query, (self._table, key))
            callbacks = tuple(StoredCallback(str(number), str(one)) for number, one in found)
        age = None if saved_at is None else max(now - saved_at, 0.0)
        return StoredRecord(text=text, revision=revision, age=age, callbacks=callbacks)

    def _wake_at(
        self, database: sqlite3.Connection, key: str, wake_after: float | None, now: float
    ) -> float | None:
        if wake_after is None:
            return None
        query = "SELECT 1 FROM callbacks WHERE store = ? AND key = ?"
        left = database.execute(query, (self._table, key)).fetchone() is not None
        return now if left else now + wake_after

    def _drop_old(self, database: sqlite3.Connection, now: float, limit: int = 1000) -> int:
        statement = f"""DELETE FROM {self._table} WHERE key IN (
            SELECT key FROM {self._table} WHERE forget_at <= ? ORDER BY forget_at LIMIT ?) RETURNING key"""
        keys = [key for (key,) in database.execute(statement, (now, limit))]
        if keys:
            statement = "DELETE FROM callbacks WHERE store = ? AND key IN (SELECT value FROM json_each(?))"
            database.execute(statement, (self._table, json.dumps(keys)))
        return len(keys)


class SqliteRoutes:
    """Routes for callbacks in a database file, so that they can come to any process of the machine.

    A `ciba_core.RoutingStore`; it may be the file of the logins. It keeps hashes, and no tokens.

    Args:
        path: the file; see `SqliteStore`, also for exceptions.
        timeout: seconds to wait for a lock.

    """

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = 5.0) -> None:
        self._database = _Database(path, timeout)

    def add(self, token_hash: str, key: str, *, forget_at: float, now: float) -> None:
        """Lay a route, or replace it; see `ciba_core.RoutingStore`."""
        with self._database.writing() as database:
            database.execute("INSERT OR REPLACE INTO routes VALUES (?, ?, ?)", (token_hash, key, forget_at))
            database.execute("DELETE FROM routes WHERE forget_at <= ?", (now,))

    def find(self, token_hash: str, now: float) -> str | None:
        """Return the name of the transaction; see `ciba_core.RoutingStore`."""
        query = "SELECT key FROM routes WHERE token_hash = ? AND forget_at > ?"
        with self._database.reading() as database:
            for (key,) in database.execute(query, (token_hash, now)):
                return str(key)
        return None


def _prepare(database: sqlite3.Connection) -> None:
    ((application,),) = database.execute("PRAGMA application_id")
    ((version,),) = database.execute("PRAGMA user_version")
    ((tables,),) = database.execute("SELECT count(*) FROM sqlite_master")
    is_new = (application, version, tables) == (0, 0, 0)
    if not is_new and (application != _APPLICATION or not 1 <= version <= VERSION):
        raise UnknownStoreVersion(f"the database is not a store of this library, of version {VERSION}")
    if version == VERSION:
        return
    statements = [*(_RECORDS if is_new else ()), *_CLAIMS]
    for table in _TABLES:
        for statement in statements:
            database.execute(statement.format(table))
    for statement in _CALLBACKS:
        database.execute(statement)
    database.execute(f"PRAGMA application_id = {_APPLICATION}")
    database.execute(f"PRAGMA user_version = {VERSION}")


def sqlite_stores(
    path: str | os.PathLike[str],
    *,
    secrets: Sequence[str | Secret],
    time: Callable[[], float] = time.time,
) -> Stores:
    """Return stores in one database file; see `SqliteStore`.

    Args:
        path: the file.
        secrets: encrypt the contents: the first one encrypts, all of them decrypt.
        time: the wall clock in POSIX seconds.

    Raises:
        TypeError, ValueError: the secrets are not of the right form; see `Stores`.

    """
    transactions = SqliteStore(path, "transactions", time=time)
    return Stores(transactions=transactions, sessions=transactions.beside("sessions"), secrets=secrets)
