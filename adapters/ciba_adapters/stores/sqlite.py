"""A store in an SQLite database: one file, shared by all processes and threads of one machine."""

# ruff: noqa: S608  # the one thing put into a statement is a table name, one of two constants
from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from ciba_core import Secret, StoredRecord, Stores
from ciba_core.errors import StoreConflict, UnknownStoreVersion

__all__ = ["SqliteStore", "sqlite_stores"]

VERSION: Final = 1
_APPLICATION: Final = 0x43494241  # "CIBA", in the header of the file
_TABLES: Final = ("transactions", "sessions")
_SCHEMA: Final = """
CREATE TABLE {0} (key TEXT PRIMARY KEY, revision TEXT NOT NULL, text TEXT NOT NULL, forget_at REAL);
CREATE INDEX {0}_forget_at ON {0} (forget_at);
"""


class SqliteStore:
    """Keeps logins, or sessions, in a database file. Safe to use from threads, tasks and processes.

    Each method opens the database, and waits for other processes up to `timeout` seconds. A write is on the
    disk when it returns; that takes some milliseconds, for which an event loop stands still. Where the
    database cannot be read or written, `sqlite3.Error` is raised as it is.

    Args:
        path: the file; made if it is not there, readable for its owner only. It has to be on a local disk.
        table: what is kept.
        timeout: seconds to wait for a lock.
        time: the wall clock in POSIX seconds, by which records are dropped that need not be kept any more.

    Raises:
        ValueError: the path names a database in memory, which no two connections share.
        UnknownStoreVersion: the file is of another application, or of another release of this library.

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
        if str(path) in ("", ":memory:"):
            raise ValueError("path must name a file")
        self._path = Path(path).absolute()
        self._table = table
        self._timeout = timeout
        self._time = time
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        with self._connection() as database:
            _prepare(database)

    def load(self, key: str, *, store_options: Any = None) -> StoredRecord | None:  # noqa: ARG002  # not needed here
        """Return what is stored under the key, or ``None``."""
        with self._connection() as database:
            found = self._find(database, key)
        return None if found is None else StoredRecord(*found)

    def save(
        self,
        key: str,
        text: str,
        *,
        expected_revision: str | None,
        forget_at: float | None = None,
        store_options: Any = None,  # noqa: ARG002
    ) -> str:
        """Store a text if the record is still at `expected_revision`, and return its new revision.

        Raises:
            StoreConflict: it is not; nothing was changed.

        """
        revision = secrets.token_hex(8)
        with self._connection() as database, _writing(database):
            found = self._find(database, key)
            if (None if found is None else found[1]) != expected_revision:
                raise StoreConflict("somebody else changed the record since it was loaded")
            database.execute(
                f"INSERT OR REPLACE INTO {self._table} VALUES (?, ?, ?, ?)", (key, revision, text, forget_at)
            )
            database.execute(f"DELETE FROM {self._table} WHERE forget_at <= ?", (self._time(),))
        return revision

    def remove(self, key: str, *, store_options: Any = None) -> None:  # noqa: ARG002
        """Forget the record, if there is one."""
        with self._connection() as database, _writing(database):
            database.execute(f"DELETE FROM {self._table} WHERE key = ?", (key,))

    def keys(self) -> list[str]:
        """Return the keys of all records, to go on with after a restart."""
        with self._connection() as database:
            query = f"SELECT key FROM {self._table} WHERE forget_at IS NULL OR forget_at > ?"
            return [key for (key,) in database.execute(query, (self._time(),))]

    def _find(self, database: sqlite3.Connection, key: str) -> tuple[str, str] | None:
        query = f"SELECT text, revision, forget_at FROM {self._table} WHERE key = ?"
        for text, revision, forget_at in database.execute(query, (key,)):
            if forget_at is None or forget_at > self._time():
                return text, revision
        return None

    @contextlib.contextmanager
    def _connection(self) -> Generator[sqlite3.Connection, None, None]:
        # One for each call: a connection must not be shared by threads, nor outlive a fork.
        database = sqlite3.connect(self._path, timeout=self._timeout, isolation_level=None)
        try:
            # Not left to how the library was built: what was saved is there after a loss of power, too.
            database.execute("PRAGMA synchronous = FULL")
            yield database
        finally:
            database.close()


@contextlib.contextmanager
def _writing(database: sqlite3.Connection) -> Generator[None, None, None]:
    """Keep other writers out from the first read on; undo everything if it fails."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if database.in_transaction:  # where the disk is full, it is over already
            database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _prepare(database: sqlite3.Connection) -> None:
    with _writing(database):
        ((application,),) = database.execute("PRAGMA application_id")
        ((version,),) = database.execute("PRAGMA user_version")
        ((tables,),) = database.execute("SELECT count(*) FROM sqlite_master")
        if (application, version, tables) == (0, 0, 0):
            for table in _TABLES:
                for statement in _SCHEMA.format(table).split(";"):
                    database.execute(statement)
            database.execute(f"PRAGMA application_id = {_APPLICATION}")
            database.execute(f"PRAGMA user_version = {VERSION}")
        elif (application, version) != (_APPLICATION, VERSION):
            raise UnknownStoreVersion(f"the database is not a store of this library, of version {VERSION}")
    # It waits for nobody, and fails where another process is just doing the same. Only speed depends on it.
    with contextlib.suppress(sqlite3.OperationalError):
        database.execute("PRAGMA journal_mode = WAL")


def sqlite_stores(
    path: str | os.PathLike[str],
    *,
    secrets: Sequence[str | Secret],
    time: Callable[[], float] = time.time,
) -> Stores:
    """Return stores in one database file; see `SqliteStore`.

    Args:
        path: the file.
        secrets: what the contents are encrypted under: the first one encrypts, all of them decrypt.
        time: the wall clock in POSIX seconds.

    Raises:
        TypeError, ValueError: the secrets are not of the right form; see `Stores`.

    """
    return Stores(
        transactions=SqliteStore(path, "transactions", time=time),
        sessions=SqliteStore(path, "sessions", time=time),
        secrets=secrets,
    )
