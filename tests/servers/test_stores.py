"""The stores on database servers: against PostgreSQL and Redis on loopback."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, Literal

import psycopg
import pytest
from attrs import evolve

from ciba_adapters.notification.endpoint import NotificationEndpoint
from ciba_adapters.stores import keep_callbacks, keep_callbacks_async
from ciba_adapters.stores.postgres import PostgresStore
from ciba_adapters.stores.redis import RedisStore
from ciba_core import AuthenticationRequest, Routes, Session, Waiting
from ciba_core.errors import StoreConflict, StoreError, StoreUnavailable, UnknownStoreVersion
from ciba_core.testing import (
    Approve,
    Callback,
    SimulatedClient,
    SimulatedProvider,
    VirtualClock,
    check_session_store,
    check_transaction_store,
)
from tests.adapters.inprocess import CLIENT, PROVIDER, AsyncCiba, SyncCiba

from .kinds import Kind, Make, PostgresKind, RedisKind, Settled, SyncPostgres, SyncRedis
from .running import Postgres, Proxy, Redis

pytestmark = pytest.mark.servers

FIRST_USE: Final = Path(__file__).with_name("first_use.py")
HOUR: Final = 3600.0
REQUEST: Final = AuthenticationRequest(scope="openid", login_hint="alice", binding_message="W4SCT")


def test_the_stores_pass_the_checks(kind: Kind) -> None:
    """The stores do what logins and workers rely on, by the clock of the server."""
    kind.check(check_transaction_store, "transactions", own_clock=True)
    kind.check(check_session_store, "sessions")


def test_a_check_leaves_nothing_behind(kind: Kind) -> None:
    """What a check saved, it removes: all of what a record consists of goes with it."""
    kind.check(check_transaction_store, "transactions")
    if isinstance(kind, PostgresKind):
        assert kind.execute("SELECT count(*) FROM ciba_transactions") == [(0,)]
    elif isinstance(kind, RedisKind):
        assert kind.execute("KEYS", "*") == [b"{ciba}:transactions:version"]


def test_the_two_tables_are_apart(kind: Kind) -> None:
    """Logins and sessions have the same keys and nothing else in common."""

    async def work(make: Make) -> None:
        await make("transactions").save("key", "login", expected_revision=None)
        assert await make("sessions").load("key") is None

    kind.run(work)


def test_what_is_late_comes_first(kind: Kind) -> None:
    """Claims are in the order of the instants, and told how long ago those were; a limit leaves the rest."""

    async def work(make: Make) -> None:
        store = make("transactions")
        for key, wake_after in (("second", -20.0), ("third", -10.0), ("first", -30.0)):
            await store.save(key, "text", expected_revision=None, wake_after=wake_after)
        claims = await store.claim(2, HOUR)
        assert [claimed.key for claimed in claims.claimed] == ["first", "second"]
        first, second = claims.claimed
        assert first.late - second.late == pytest.approx(10.0, abs=5.0)
        assert [claimed.key for claimed in (await store.claim(2, HOUR)).claimed] == ["third"]

    kind.run(work)


def test_a_lease_that_ended_is_handed_on(kind: Kind) -> None:
    """Who comes back after the lease conflicts with whoever has the record now, and changes nothing."""

    async def work(make: Make) -> None:
        one, other = make("transactions"), make("transactions")
        await one.save("key", "text", expected_revision=None, wake_after=0.0)
        (mine,) = (await one.claim(1, 0.0)).claimed
        (theirs,) = (await other.claim(1, HOUR)).claimed
        assert not await one.renew("key", mine.record.revision, HOUR)
        assert not await one.release("key", mine.record.revision, wake_after=0.0)
        with pytest.raises(StoreConflict):
            await one.save("key", "late", expected_revision=mine.record.revision)
        assert (await other.load("key")).text == "text"
        assert await other.renew("key", theirs.record.revision, HOUR)

    kind.run(work)


def test_keys_are_listed_page_by_page(kind: Kind) -> None:
    """Pending keys come in the order of their code points, whatever the language of the database; none is missed."""
    names = sorted(["a", "A", "ä", "b", "_", "a b", "€", "\U0001f600", "aa", "Z"])

    async def work(make: Make) -> None:
        store = make("transactions")
        for name in names:
            await store.save(name, "text", expected_revision=None, wake_after=HOUR)
            await store.save(f"{name} parked", "text", expected_revision=None)
        over = [
            (f"{name} over", await store.save(f"{name} over", "", expected_revision=None)) for name in names
        ]
        for name, revision in over:
            await store.save(name, "text", expected_revision=revision, wake_after=HOUR, forget_after=0.0)
        listed: list[str] = []
        while page := await store.pending(3, after=listed[-1] if listed else ""):
            assert len(page) <= 3
            listed += page
        assert listed == names

    kind.run(work)


def test_what_is_over_is_dropped(kind: Kind) -> None:
    """A purge drops what may be forgotten, as many as it is told; a new record drops it, too."""

    async def work(make: Make) -> None:
        store = make("transactions")
        revision = await store.save("old", "text", expected_revision=None, wake_after=HOUR)
        for number in range(3):
            await store.save(f"over {number}", "text", expected_revision=None, wake_after=0.0)
        await store.deliver("over 1", "callback")
        for number in range(3):
            found = await store.load(f"over {number}")
            await store.save(
                f"over {number}", "text", expected_revision=found.revision, forget_after=0.0, wake_after=0.0
            )
        assert (await store.claim(10, HOUR)).claimed == ()
        left = await store.purge(2) + await store.purge(10)
        assert left <= 3
        assert await store.purge() == 0
        assert (await store.load("old")).revision == revision
        await store.save("over", "text", expected_revision=None, forget_after=0.0)
        await store.save("new", "text", expected_revision=None)
        assert await store.purge() == 0

    kind.run(work)


def test_a_new_record_has_nothing_of_the_one_before(kind: Kind) -> None:
    """Callbacks of a record that is over are not those of the next one, however much else is to be dropped."""

    async def work(make: Make) -> None:
        store = make("transactions")
        keys = ["key", *(f"over {number}" for number in range(120))]
        revisions = {key: await store.save(key, "text", expected_revision=None) for key in keys}
        assert await store.deliver("key", "callback")
        for seconds, (key, revision) in enumerate(revisions.items()):
            await store.save(key, "text", expected_revision=revision, forget_after=-float(seconds))
        await store.save("key", "new", expected_revision=None, wake_after=HOUR)
        assert (await store.load("key")).callbacks == ()
        assert (await store.claim(10, HOUR)).claimed == ()

    kind.run(work)


def test_a_record_keeps_eight_callbacks(kind: Kind) -> None:
    """Callbacks that nobody takes do not fill the database."""

    async def work(make: Make) -> None:
        store = make("transactions")
        await store.save("key", "text", expected_revision=None)
        assert [await store.deliver("key", f"callback {number}") for number in range(9)] == [True] * 8 + [
            False
        ]
        assert await store.deliver("key", "callback 0")
        assert len((await store.load("key")).callbacks) == 8

    kind.run(work)


def test_own_save_whose_answer_was_lost(kind: Kind) -> None:
    """The server saved, and nobody heard of it: the same save again counts as saved, another one does not."""

    async def work(make: Make) -> None:
        store = make("transactions")
        expected = None
        for revision in ("made", "changed"):
            await store.load("key")
            proxy.lose_answer(kind.answers_to_a_save)
            with pytest.raises(StoreUnavailable):
                await store.save("key", revision, expected_revision=expected, revision=revision)
            with pytest.raises(StoreConflict):
                await store.save("key", "other", expected_revision=expected, revision="other")
            assert (await store.load("key")).text == revision
            assert (
                await store.save("key", revision, expected_revision=expected, revision=revision) == revision
            )
            expected = revision

    with Proxy(kind.server.port) as proxy:
        kind.port = proxy.port
        kind.run(work)


def test_a_restart_in_mid_flight(kind: Kind) -> None:
    """Nothing that was saved is lost with the server, leases hold on, and the same store goes on by itself."""

    async def work(make: Make) -> None:
        store = make("transactions")
        await store.save("claimed", "one", expected_revision=None, wake_after=0.0)
        (claimed,) = (await store.claim(1, HOUR)).claimed
        await store.save("due", "two", expected_revision=None, wake_after=0.0)
        kind.server.crash()
        try:
            with pytest.raises(StoreUnavailable):
                await store.load("claimed")
            with pytest.raises(StoreUnavailable):
                await store.save("claimed", "lost", expected_revision=claimed.record.revision)
        finally:
            kind.server.start()
        while True:
            try:
                claims = await store.claim(10, HOUR)
            except StoreUnavailable:  # a connection of before
                continue
            break
        assert [(each.key, each.record.text) for each in claims.claimed] == [("due", "two")]
        await store.save("claimed", "three", expected_revision=claimed.record.revision)
        assert (await store.load("claimed")).text == "three"

    kind.run(work)


def test_a_database_that_is_gone(kind: Kind) -> None:
    """Where nobody listens, each method says so by its type, and names no secret."""

    async def work(make: Make) -> None:
        store, routes = make("transactions"), make("routes")
        for call in (
            store.load("key"),
            store.save("key", "text", expected_revision=None),
            store.claim(1, HOUR),
            routes.find("hash", 0.0),
        ):
            with pytest.raises(StoreUnavailable, match="the database cannot be used"):
                await call

    with Proxy(kind.server.port) as proxy:
        kind.port = proxy.port
    kind.timeout = 0.2
    kind.run(work)


@pytest.mark.parametrize("what", ["full", "read_only"])
def test_a_database_that_does_not_write(what: str, kind: Kind) -> None:
    """A database that is full, or read-only, is not available: what is there can be read, and is unchanged."""

    async def save(make: Make) -> None:
        await make("transactions").save("key", "text", expected_revision=None, revision="first")

    async def refused(make: Make) -> None:
        store = make("transactions")
        for key, expected in (("key", "first"), ("new", None)):
            with pytest.raises(StoreUnavailable):
                await store.save(key, "other", expected_revision=expected, wake_after=0.0)
        assert (await store.load("key")).text == "text"
        assert await store.load("new") is None

    kind.run(save)
    getattr(kind, f"make_{what}")()
    try:
        kind.run(refused)
    finally:
        kind.set_right()
    kind.run(go_on)


async def go_on(make: Make) -> None:
    await make("transactions").save("key", "more", expected_revision="first")
    assert (await make("transactions").claim(1, HOUR)).claimed == ()


def test_a_later_version_is_refused(kind: Kind) -> None:
    """What a later release made is left as it is."""

    async def save(make: Make) -> None:
        await make("transactions").save("key", "text", expected_revision=None, revision="first")

    async def refused(make: Make) -> None:
        store = make("transactions")
        for call in (
            store.load("key"),
            store.save("key", "other", expected_revision="first"),
            store.remove("key"),
        ):
            with pytest.raises(UnknownStoreVersion, match="version 1"):
                await call

    kind.run(save)
    kind.make_newer()
    kind.run(refused)


def test_a_key_that_the_database_does_not_take(kind: Kind) -> None:
    """What will not be better by trying again is not called unavailable."""

    async def work(make: Make) -> None:
        store = make("transactions")
        keys = ["\ud800", *(["a\x00b"] if isinstance(kind, PostgresKind) else [])]
        for key in keys:
            with pytest.raises(StoreError, match="does not take") as caught:
                await store.save(key, "text", expected_revision=None)
            assert not isinstance(caught.value, StoreUnavailable)

    kind.run(work)


def test_routes(kind: Kind) -> None:
    """A route leads where it was last laid to, in every process, until its time is over."""

    async def work(make: Make) -> None:
        routes, other = make("routes"), make("routes")
        assert await routes.find("hash", 1000.0) is None
        await routes.add("hash", "first", forget_at=1060.0, now=1000.0)
        await routes.add("hash", "second", forget_at=1060.0, now=1000.0)
        await routes.add("over", "third", forget_at=1000.0, now=1000.0)
        # The clock of whoever asks may be another one than that of whoever laid the route.
        assert await other.find("hash", 5000.0) == "second"
        assert await other.find("over", 1000.0) is None
        await routes.add("hash", "second", forget_at=1000.0, now=1000.0)
        assert await other.find("hash", 1000.0) is None

    kind.run(work)


@pytest.mark.parametrize("mode", ["ping", "push"])
def test_a_login_of_three_processes(mode: Literal["ping", "push"], kind: Kind) -> None:
    """Started in one process, called back in another, gone on with by a third one: one prompt, no early poll."""
    clock = VirtualClock()
    registered = SimulatedClient(
        "s6BhdRkqt3",
        "gX1fBat3bV",
        backchannel_token_delivery_mode=mode,
        backchannel_client_notification_endpoint="https://client.example/cb",
    )
    callbacks: list[Callback] = []

    def deliver(callback: Callback) -> int:
        callbacks.append(callback)
        return 204

    op = SimulatedProvider(clock, clients=[registered], users={"alice": Approve(after=12)}, deliver=deliver)
    client = evolve(CLIENT, backchannel_token_delivery_mode=mode)
    routes = Routes()

    async def call(method: str, stores: Any, *arguments: Any, **options: Any) -> Any:
        endpoint = NotificationEndpoint(routes=options.pop("routes", routes), clock=clock)
        ciba = (AsyncCiba if kind.is_async else SyncCiba)(
            PROVIDER, client, http=op, endpoint=endpoint, clock=clock
        )
        result = getattr(ciba, method)(*arguments, stores=stores, **options)
        return await result if kind.is_async else result

    async def start() -> None:
        async with kind.connected() as makers:
            own = {} if kind.is_async else {"routes": makers["routes"]()}
            waiting = await call("start_login", makers["stores"](), REQUEST, session_key="key", **own)
            assert isinstance(waiting, Waiting)
            assert (await Settled(makers["transactions"]()).claim(10, HOUR)).claimed == ()

    async def called_back() -> None:
        async with kind.connected() as makers:
            keep = (keep_callbacks_async if kind.is_async else keep_callbacks)(makers["stores"]())
            # An endpoint awaits no routes: those of an async application are laid by a sync store.
            own = routes if kind.is_async else makers["routes"]()
            endpoint = NotificationEndpoint(routes=own, not_held=keep, clock=clock)
            (callback,) = callbacks
            answer = await endpoint.answer(callback.method, callback.headers, callback.body)
            assert answer.status == 204

    async def go_on() -> None:
        async with kind.connected() as makers:
            store = Settled(makers["transactions"]())
            (claimed,) = (await store.claim(10, HOUR)).claimed
            session = await call("advance", makers["stores"](), session_key=claimed.key, claimed=claimed)
            assert isinstance(session, Session)
            assert session.user == ("https://op.example", "alice")
            assert await store.pending() == []

    asyncio.run(start())
    clock.sleep(13)
    asyncio.run(called_back())
    asyncio.run(go_on())
    assert sum(entry.outcome == "acknowledged" for entry in op.journal) == 1
    assert sum(entry.endpoint == "token" for entry in op.journal) == (1 if mode == "ping" else 0)


@pytest.mark.parametrize("time", range(3))  # what is raced for is not always met
@pytest.mark.parametrize("kind", [SyncPostgres, SyncRedis], indirect=True, ids=lambda kind: kind.__name__)
def test_several_processes_start_at_once(kind: Kind, time: int) -> None:
    """The tables are made once, whoever comes first, and nobody fails over it."""
    where = str(kind.port)
    if isinstance(kind, PostgresKind):
        where = kind.conninfo()
    processes = [
        subprocess.Popen(
            [sys.executable, FIRST_USE, type(kind).__name__, where],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert sorted(process.communicate()[0] for process in processes) == [
        "conflict\n",
        "conflict\n",
        "saved\n",
    ]
    assert [process.returncode for process in processes] == [0, 0, 0]
    if isinstance(kind, PostgresKind):
        assert kind.execute("SELECT version FROM ciba_store") == [(1,)]


@pytest.mark.parametrize("kind", [SyncPostgres], indirect=True, ids=lambda kind: kind.__name__)
def test_a_callback_that_comes_during_a_save(kind: PostgresKind) -> None:
    """A save that waited for a callback to be stored sees it: it stays, and makes the record due."""
    delivered = """UPDATE ciba_transactions SET callbacks = callbacks || '{"id": "1", "text": "callback"}'"""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"

    async def work(make: Make) -> None:
        store = make("transactions")
        await store.save("key", "text", expected_revision=None, revision="first", wake_after=HOUR)
        with psycopg.connect(kind.conninfo()) as other:
            other.execute(delivered)
            task = asyncio.create_task(asyncio.to_thread(save))
            while not await asyncio.to_thread(kind.execute, waiting):
                assert not task.done()
        await task
        (claimed,) = (await store.claim(1, HOUR)).claimed
        assert claimed.record.text == "saved"
        assert [callback.text for callback in claimed.record.callbacks] == ["callback"]

    def save() -> None:
        async def again(make: Make) -> None:
            await make("transactions").save("key", "saved", expected_revision="first", wake_after=HOUR)

        kind.run(again)

    kind.run(work)


@pytest.mark.parametrize("kind", [SyncPostgres], indirect=True, ids=lambda kind: kind.__name__)
def test_a_role_that_may_not_make_tables(kind: PostgresKind) -> None:
    """Tables that somebody else made can be used; where there are none, the database is not available."""
    kind.role = f"worker_of_{kind.schema}"
    kind.execute(f"CREATE ROLE {kind.role} LOGIN; GRANT USAGE ON SCHEMA {kind.schema} TO {kind.role}")

    async def use(make: Make) -> None:
        await make("transactions").save("key", "text", expected_revision=None)

    async def make_tables(make: Make) -> None:
        await make("transactions").load("key")

    with pytest.raises(StoreUnavailable, match="permission denied"):
        kind.run(use)
    kind.role, worker = "tester", kind.role
    kind.run(make_tables)
    kind.role = worker
    kind.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {kind.schema} TO {kind.role}")
    kind.run(use)


def test_tables_have_their_names(postgres: Postgres, redis_server: Redis) -> None:
    """No other table can be named, so that no name is put into a command."""
    for store in (PostgresStore, RedisStore):
        with pytest.raises(ValueError, match="table must be"):
            store(None, "sessions; DROP TABLE sessions")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
