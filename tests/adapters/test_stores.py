"""The stores that come with the library: in memory, and in an SQLite database that outlives its processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from ciba_adapters.stores import MemoryStore, SqliteRoutes, SqliteStore, memory_stores, sqlite_stores
from ciba_core.errors import (
    StoreConflict,
    StoredContentAltered,
    StoreUnavailable,
    UnknownStoreVersion,
)
from ciba_core.testing import Approve, LoopbackServer, SimulatedClient, SimulatedProvider, VirtualClock

SCRIPT: Final = Path(__file__).with_name("login_process.py")
SECRET: Final = "a secret of at least thirty-two octets"
Store = MemoryStore | SqliteStore
MakeStore = Callable[[Path, VirtualClock], Store]


def in_memory(_path: Path, clock: VirtualClock) -> Store:
    return MemoryStore(time=clock.time)


def transactions(path: Path, clock: VirtualClock) -> Store:
    return SqliteStore(path / "stores.db", "transactions", time=clock.time)


def sessions(path: Path, clock: VirtualClock) -> Store:
    return SqliteStore(path / "stores.db", "sessions", time=clock.time)


every_store: Final = pytest.mark.parametrize("make", [in_memory, transactions, sessions])


# What `check_transaction_store` finds is in tests/testing/test_store_checks.py.


@every_store
def test_records_are_forgotten_in_time(make: MakeStore, tmp_path: Path) -> None:
    """A record is there until its instant, and then makes room for a new one; others stay."""
    clock = VirtualClock(1000.0)
    store = make(tmp_path, clock)
    old = store.save("old", "text", expected_revision=None, forget_at=1060.0)
    store.save("kept", "text", expected_revision=None)
    clock.sleep(59.9)
    assert sorted(store.keys()) == ["kept", "old"]
    assert store.load("old") is not None
    clock.sleep(0.1)
    assert store.keys() == ["kept"]
    assert store.load("old") is None
    with pytest.raises(StoreConflict):
        store.save("old", "text", expected_revision=old)
    assert store.save("old", "new", expected_revision=None, forget_at=2000.0) != old
    assert sorted(store.keys()) == ["kept", "old"]


def test_expired_records_leave_the_database(tmp_path: Path) -> None:
    """What is over does not stay in the file: each save clears it away."""
    clock = VirtualClock(1000.0)
    store = SqliteStore(tmp_path / "stores.db", "transactions", time=clock.time)
    for number in range(5):
        store.save(f"old {number}", "text", expected_revision=None, forget_at=1060.0 + number)
    clock.sleep(62)
    store.save("new", "text", expected_revision=None, forget_at=2000.0)
    with sqlite3.connect(tmp_path / "stores.db") as database:
        found = sorted(key for (key,) in database.execute("SELECT key FROM transactions"))
    database.close()
    assert found == ["new", "old 3", "old 4"]


def test_the_two_tables_are_apart(tmp_path: Path) -> None:
    """Logins and sessions of one file have the same keys and nothing else in common."""
    stores = sqlite_stores(tmp_path / "stores.db", secrets=[SECRET])
    assert isinstance(stores.transactions, SqliteStore)
    stores.transactions.save("key", "login", expected_revision=None)
    assert stores.sessions.load("key", store_options=None) is None
    assert stores.sealer.secrets[0].reveal() == SECRET


def test_stores_in_memory() -> None:
    """Stores in memory need no secret of the application, and share nothing."""
    one, other = memory_stores(), memory_stores()
    one.transactions.save("key", "text", expected_revision=None, forget_at=None, store_options=None)
    assert other.transactions.load("key", store_options=None) is None
    assert one.sessions.load("key", store_options=None) is None
    assert one.sealer.secrets != other.sealer.secrets


def test_to_compare_and_to_store_is_one_act_in_memory() -> None:
    """No other thread comes between: whatever a store in memory does, it does under its lock."""
    locked: list[bool] = []

    def time() -> float:
        locked.append(store._lock.locked())  # pyright: ignore[reportPrivateUsage]
        return 1000.0

    store = MemoryStore(time=time)
    store.save("key", "text", expected_revision=None)
    store.load("key")
    store.keys()
    assert locked == [True] * 3


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_the_database_is_its_owners_alone(tmp_path: Path) -> None:
    """Nobody else can read the file, nor the files that SQLite makes beside it."""
    store = SqliteStore(tmp_path / "stores.db", "transactions")
    with sqlite3.connect(tmp_path / "stores.db") as reader:
        reader.execute("SELECT * FROM transactions")
        store.save("key", "text", expected_revision=None)
        files = sorted(tmp_path.iterdir())
        assert [file.name for file in files] == ["stores.db", "stores.db-shm", "stores.db-wal"]
        assert [file.stat().st_mode & 0o777 for file in files] == [0o600] * 3
    reader.close()


@pytest.mark.parametrize("path", ["", ":memory:"])
def test_a_database_needs_a_file(path: str) -> None:
    """A database in memory would be another one for each call."""
    with pytest.raises(ValueError, match="path must name a file"):
        SqliteStore(path, "transactions")


def test_tables_have_their_names(tmp_path: Path) -> None:
    """No other table can be named, so that no name is put into a statement."""
    with pytest.raises(ValueError, match="table must be"):
        SqliteStore(tmp_path / "stores.db", "sessions; DROP TABLE sessions")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "statement",
    ["PRAGMA user_version = 3", "PRAGMA user_version = 0", "PRAGMA application_id = 1"],
)
def test_databases_of_another_version(statement: str, tmp_path: Path) -> None:
    """A file of another release is refused as it is, by the name of what is wrong."""
    SqliteStore(tmp_path / "stores.db", "transactions").save("key", "text", expected_revision=None)
    with sqlite3.connect(tmp_path / "stores.db") as database:
        database.execute(statement)
    database.close()
    with pytest.raises(UnknownStoreVersion, match="version 2"):
        SqliteStore(tmp_path / "stores.db", "transactions")


def test_databases_of_other_applications(tmp_path: Path) -> None:
    """A file that something else lives in is left alone."""
    with sqlite3.connect(tmp_path / "other.db") as database:
        database.execute("CREATE TABLE accounts (name TEXT)")
    database.close()
    (tmp_path / "other.db").chmod(0o600)
    before = (tmp_path / "other.db").read_bytes()
    with pytest.raises(UnknownStoreVersion):
        SqliteStore(tmp_path / "other.db", "transactions")
    assert (tmp_path / "other.db").read_bytes() == before
    (tmp_path / "text.db").write_bytes(b"no database, but a text of more than a hundred octets" * 10)
    (tmp_path / "text.db").chmod(0o600)
    with pytest.raises(UnknownStoreVersion, match="no SQLite database"):
        SqliteStore(tmp_path / "text.db", "transactions")


def test_workers_that_start_together(tmp_path: Path) -> None:
    """Who makes the file first makes no difference, and nobody is turned away."""

    def work(number: int) -> str:
        store = SqliteStore(tmp_path / f"{number // 4}.db", "transactions")
        return store.save(f"key {number}", "text", expected_revision=None)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(work, range(160)))) == 160


def test_a_locked_database_is_waited_for_and_then_named(tmp_path: Path) -> None:
    """Who cannot write is told so in SQLite's words; reading goes on meanwhile."""
    store = SqliteStore(tmp_path / "stores.db", "transactions", timeout=0.0)
    revision = store.save("key", "text", expected_revision=None)
    writer = sqlite3.connect(tmp_path / "stores.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        store.save("key", "text", expected_revision=revision)
    assert store.load("key") is not None
    writer.execute("ROLLBACK")
    writer.close()
    store.save("key", "text", expected_revision=revision)


def test_a_save_that_fails_half_way_changes_nothing(tmp_path: Path) -> None:
    """What goes wrong after the record was written, and before the end, takes it back."""
    clock = VirtualClock(1000.0)
    instants: list[float] = []

    def time() -> float:
        # Read once for the old record, and once more to clear away what is over.
        instants.append(clock.time())
        if len(instants) > 1:
            raise OSError("no clock")
        return clock.time()

    path = tmp_path / "stores.db"
    store = SqliteStore(path, "transactions", time=clock.time)
    revision = store.save("key", "old", expected_revision=None, forget_at=2000.0)
    with pytest.raises(OSError, match="no clock"):
        SqliteStore(path, "transactions", time=time).save("key", "new", expected_revision=revision)
    found = store.load("key")
    assert found is not None
    assert (found.text, found.revision) == ("old", revision)


# What claims rest on is in the check, too.


def test_a_database_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    """What an earlier release has stored is there, and can be claimed as soon as it was saved anew."""
    path = tmp_path / "stores.db"
    with sqlite3.connect(path) as database:
        for table in ("transactions", "sessions"):
            database.execute(
                f"CREATE TABLE {table} (key TEXT PRIMARY KEY, revision TEXT NOT NULL, text TEXT NOT NULL, forget_at REAL)"
            )
            database.execute(f"CREATE INDEX {table}_forget_at ON {table} (forget_at)")
        database.execute("INSERT INTO transactions VALUES ('key', '1', 'text', NULL)")
        database.execute("PRAGMA application_id = 1128874561")
        database.execute("PRAGMA user_version = 1")
    database.close()
    path.chmod(0o600)
    store = SqliteStore(path, "transactions")
    found = store.load("key")
    assert found is not None
    assert (found.text, found.revision, found.age) == ("text", "1", None)
    assert store.claim(9, 60.0).claimed == ()
    store.save("key", "new", expected_revision="1", wake_after=0.0)
    assert [claimed.key for claimed in store.claim(9, 60.0).claimed] == ["key"]


def test_a_record_that_is_no_text(tmp_path: Path) -> None:
    """Octets in a column are a store's fault, told as one."""
    store = SqliteStore(tmp_path / "stores.db", "transactions")
    store.save("key", "text", expected_revision=None)
    with sqlite3.connect(tmp_path / "stores.db") as database:
        database.execute("UPDATE transactions SET text = X'00FF'")
    database.close()
    with pytest.raises(StoredContentAltered, match="not text"):
        store.load("key")


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """A database that is read-only is named as that, by whatever would write; it can still be read."""
    path = tmp_path / "stores.db"
    SqliteStore(path, "transactions").save("key", "text", expected_revision=None)
    connect = sqlite3.connect

    def read_only(path: Path, **options: Any) -> sqlite3.Connection:
        database: sqlite3.Connection = connect(f"file:{path}?mode=ro", uri=True, **options)
        return database

    store = SqliteStore(path, "transactions")
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as other_thread:
        patch.setattr(sqlite3, "connect", read_only)
        found = other_thread.submit(store.load, "key").result()
        assert found is not None
        saving = other_thread.submit(store.save, "key", "new", expected_revision=found.revision)
        with pytest.raises(StoreUnavailable, match="readonly"):
            saving.result()


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    """A folder is no database."""
    tmp_path.chmod(0o700)
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        SqliteStore(tmp_path, "transactions")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """A file that cannot be made is named as that."""
    with pytest.raises(StoreUnavailable, match="cannot be made"):
        SqliteStore(tmp_path / "nowhere" / "stores.db", "transactions")


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_file_that_others_can_read_is_warned_of(tmp_path: Path) -> None:
    """A database that is there already, and not its owner's alone, is used; but somebody should know."""
    path = tmp_path / "stores.db"
    SqliteStore(path, "transactions")
    path.chmod(0o644)
    with pytest.warns(UserWarning, match=r"stores\.db is not its owner's alone \(mode 644\)"):
        SqliteStore(path, "transactions")


def test_connections_stay_open(tmp_path: Path) -> None:
    """Each thread has one connection for both tables, and keeps it."""
    stores, opened = sqlite_stores(tmp_path / "stores.db", secrets=[SECRET]), list[object]()
    connect = sqlite3.connect

    def counted(*arguments: Any, **options: Any) -> Any:
        opened.append(arguments)
        return connect(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", counted)

        def work(number: int) -> None:
            for store in (stores.transactions, stores.sessions):
                options: dict[str, Any] = {
                    "expected_revision": None,
                    "forget_at": None,
                    "store_options": None,
                }
                store.save(f"key {number}", "text", **options)

        work(0)
        assert opened == []
        with ThreadPoolExecutor(1) as pool:
            list(pool.map(work, range(1, 5)))
        assert len(opened) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork of POSIX")
def test_a_connection_does_not_outlive_a_fork(tmp_path: Path) -> None:
    """A process that was forked opens the file anew, and leaves its parent's connection alone."""
    store = SqliteStore(tmp_path / "stores.db", "transactions")
    store.save("parent", "text", expected_revision=None)
    child = multiprocessing.get_context("fork").Process(
        target=store.save, args=("child", "text"), kwargs={"expected_revision": None}
    )
    child.start()
    child.join()
    assert child.exitcode == 0
    store.save("parent again", "text", expected_revision=None)
    assert sorted(store.keys()) == ["child", "parent", "parent again"]


def test_routes_are_found_by_every_process(tmp_path: Path) -> None:
    """A route that one process has laid, another one finds, until it is over."""
    one, other = SqliteRoutes(tmp_path / "stores.db"), SqliteRoutes(tmp_path / "stores.db")
    one.add("hash", "key", forget_at=1060.0, now=1000.0)
    assert other.find("hash", 1059.0) == "key"
    assert other.find("hash", 1060.0) is None
    assert other.find("other", 1000.0) is None
    one.add("hash", "another", forget_at=1100.0, now=1010.0)
    assert other.find("hash", 1060.0) == "another"
    one.add("next", "key", forget_at=1200.0, now=1100.0)
    with sqlite3.connect(tmp_path / "stores.db") as database:
        assert database.execute("SELECT token_hash FROM routes").fetchall() == [("next",)]
    database.close()


# Killed for real


class World:
    def __init__(self, server: LoopbackServer, database: Path) -> None:
        self.database, self.url = database, server.url
        self.clock = VirtualClock()
        # The clocks of the processes are their own, and run ahead of the provider's.
        self.op = SimulatedProvider(
            self.clock,
            issuer=server.url,
            clients=[SimulatedClient("s6BhdRkqt3", "gX1fBat3bV")],
            users={"alice": Approve(after_polls=1)},
            throttle_early_polls=False,
        )
        server.handler = self.op.handle

    def start(self, *stop: str) -> subprocess.Popen[str]:
        arguments = [str(self.database), self.url, str(self.clock.time()), *stop]
        return subprocess.Popen(
            [sys.executable, str(SCRIPT), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def kill_at(self, place: str) -> None:
        with self.start(place) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "stopped\n"
            process.kill()
        assert process.returncode == -signal.SIGKILL

    def go_on(self) -> Any:
        with self.start() as process:
            output, _ = process.communicate()
        assert process.returncode == 0
        return json.loads(output)

    def count(self, outcome: str) -> int:
        return sum(entry.outcome == outcome for entry in self.op.journal)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("place", "prompts_before"),
    [
        ("transactions within 1", 0),
        ("transactions within 3", 1),
        ("transactions after 6", 1),
        ("sessions after 1", 1),
    ],
)
def test_a_process_that_was_killed_is_gone_on_with(place: str, prompts_before: int, tmp_path: Path) -> None:
    """Killed by the system, within a database transaction or after it: another process goes on, and the user is
    prompted once."""
    with LoopbackServer() as server:
        world = World(server, tmp_path / "stores.db")
        world.kill_at(place)
        assert world.count("acknowledged") == prompts_before
        assert world.go_on() == [server.url, "alice"]
        assert (world.count("acknowledged"), world.count("tokens")) == (1, 1)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_process_that_was_killed_before_it_asked(tmp_path: Path) -> None:
    """Whether the request was sent nobody knows; so it is not sent again."""
    with LoopbackServer() as server:
        world = World(server, tmp_path / "stores.db")
        world.kill_at("transactions after 1")
        assert world.go_on() == ["AcknowledgementLost", ""]
        assert world.count("acknowledged") == 0
