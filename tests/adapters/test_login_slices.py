"""Logins in slices, by several processes, with stores that hand out what is due: one prompt, no early poll."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Literal, cast

import anyio
import pytest
from attrs import evolve

from ciba_adapters._cancellation import Leavable
from ciba_adapters.client import Cancellation
from ciba_adapters.notification.endpoint import NotificationEndpoint
from ciba_adapters.stores import (
    MemoryStore,
    SqliteRoutes,
    SqliteStore,
    keep_callbacks,
    keep_callbacks_async,
    memory_stores,
    sqlite_stores,
)
from ciba_core import (
    AsyncStores,
    AuthenticationRequest,
    ClaimingStore,
    HttpRequest,
    HttpResponse,
    Secret,
    Session,
    Stores,
    Transaction,
    Waiting,
)
from ciba_core.errors import (
    AccessDenied,
    AcknowledgementLost,
    AuthenticationCancelled,
    LoginStillWaiting,
    LoginUnderWay,
    NoPendingLogin,
    StoreConflict,
    StoreUnavailable,
)
from ciba_core.testing import (
    Approve,
    Callback,
    Deny,
    Ignore,
    SimulatedClient,
    SimulatedProvider,
    VirtualClock,
)

from .inprocess import CLIENT, PROVIDER, AsyncCiba, SyncCiba

SECRET: Final = "a secret of at least thirty-two octets"
KEY: Final = "session-1"
REQUEST: Final = AuthenticationRequest(scope="openid", login_hint="alice", binding_message="W4SCT")
Kind = Literal["memory", "sqlite"]
both: Final = pytest.mark.parametrize("kind", ["memory", "sqlite"])
every_form: Final = pytest.mark.parametrize("form", ["sync", "async"])


class World:
    """A provider, and an application in several processes."""

    def __init__(self, path: Path | None = None, form: str = "sync", **settings: Any) -> None:
        self.clock, self.form = VirtualClock(), form
        self.op = SimulatedProvider(
            self.clock,
            clients=settings.pop("clients", [SimulatedClient("s6BhdRkqt3", "gX1fBat3bV")]),
            users={"alice": Approve(after=12), "dave": Deny(), "carol": Ignore()},
            **settings,
        )
        time = self.clock.time
        made = memory_stores(time=time)
        self.stores: Any = made
        if path is not None:
            self.stores = sqlite_stores(path / "stores.db", secrets=[SECRET], time=time)
        self.way: Callable[[HttpRequest], HttpResponse] = self.op.send
        """How requests get to the provider."""

    def send(self, request: HttpRequest) -> HttpResponse:
        return self.way(request)

    @property
    def store(self) -> ClaimingStore:
        return cast("ClaimingStore", self.stores.transactions)

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a client in a process of its own."""
        options = {"stores": self.stores, "session_key": KEY} | options
        setting = {"endpoint": options.pop("endpoint", None), "clock": options.pop("clock", self.clock)}
        client = options.pop("client", CLIENT)
        if self.form == "sync":
            return getattr(SyncCiba(PROVIDER, client, http=self, **setting), method)(*arguments, **options)

        async def main() -> Any:
            ciba = AsyncCiba(PROVIDER, client, http=self, **setting)
            return await getattr(ciba, method)(*arguments, **options)

        return anyio.run(main)

    def work(self) -> Any:
        """Do what a worker does once: claim what is due, and advance it."""
        (claimed,) = self.store.claim(10, 60.0).claimed
        return self.call("advance", session_key=claimed.key, claimed=claimed)

    @property
    def prompts(self) -> int:
        return sum(entry.outcome == "acknowledged" for entry in self.op.journal)

    @property
    def polls(self) -> int:
        return sum(entry.endpoint == "token" for entry in self.op.journal)


def world_of(kind: Kind, tmp_path: Path, **settings: Any) -> World:
    return World(tmp_path if kind == "sqlite" else None, **settings)


@both
@every_form
def test_a_login_in_slices(kind: Kind, form: str, tmp_path: Path) -> None:
    """Started, looked at, and gone on with at its time: one poll a slice, none before its time."""
    world = world_of(kind, tmp_path, form=form)
    waiting = world.call("start_login", REQUEST)
    assert isinstance(waiting, Waiting)
    with pytest.raises(LoginUnderWay):
        world.call("start_login", REQUEST)
    slices = 0
    while isinstance(waiting, Waiting):
        polls = world.polls
        assert world.call("check_pending") is None
        assert world.polls == polls
        world.clock.sleep(waiting.seconds)
        waiting = world.call("advance")
        slices += 1
        assert world.polls == polls + 1
    assert slices == 3
    assert waiting.user == ("https://op.example", "alice")
    assert world.call("check_pending") == world.call("load_session") == waiting
    assert world.prompts == 1
    assert not any(entry.outcome == "slow_down" for entry in world.op.journal)


@both
def test_a_worker_goes_on_with_what_is_due(kind: Kind, tmp_path: Path) -> None:
    """What was started is handed out at its time, and given back for the next one, until it has ended."""
    world = world_of(kind, tmp_path)
    waiting = world.call("start_login", REQUEST)
    outcome: Any = waiting
    while isinstance(outcome, Waiting):
        assert world.store.claim(10, 60.0).claimed == ()
        assert world.store.pending() == [KEY]
        world.clock.sleep(outcome.seconds)
        outcome = world.work()
    assert outcome == world.call("load_session")
    assert world.store.pending() == []
    world.clock.sleep(100)
    assert world.store.claim(10, 60.0).claimed == ()


def test_a_worker_whose_process_waits_is_not_needed() -> None:
    """A login that a process waits for by itself is not handed out beside it; only when that has ended."""
    world = World()
    with pytest.raises(LoginStillWaiting) as caught:
        world.call("login_backchannel", REQUEST, wait_at_most=7)
    assert caught.value.wake_at > world.clock.time()
    world.clock.sleep(caught.value.wake_at - world.clock.time())
    assert isinstance(world.work(), Waiting)
    killed = World()
    killed.way = cast("Any", None)  # the process ends where it would send
    with pytest.raises(TypeError):
        killed.call("login_backchannel", REQUEST)
    assert killed.store.claim(10, 60.0).claimed == ()


def test_the_end_of_a_login_ends_its_claims() -> None:
    """A login that was denied is told as that to the worker, and is not handed out again."""
    world = World()
    waiting = world.call("start_login", evolve(REQUEST, login_hint="dave"))
    world.clock.sleep(waiting.seconds)
    with pytest.raises(AccessDenied):
        world.work()
    world.clock.sleep(100)
    assert world.store.pending() == []
    with pytest.raises(AccessDenied):
        world.call("check_pending")
    with pytest.raises(NoPendingLogin):
        world.call("check_pending", session_key="another")


def test_a_lease_that_was_lost_while_a_request_was_out() -> None:
    """Tokens that come after another worker took over are stored all the same, over what that one has made."""
    world = World()
    world.op.users["alice"] = Approve()
    waiting = world.call("start_login", REQUEST)
    world.clock.sleep(waiting.seconds)
    late: list[Any] = []

    def slow(request: HttpRequest) -> HttpResponse:
        response = world.op.send(request)
        if not late:
            late.append("out")
            world.clock.sleep(70)
            late.append(world.work())
        return response

    world.way = slow
    session = world.work()
    assert isinstance(late[1], Waiting)
    assert session.user == ("https://op.example", "alice")
    assert world.call("load_session") == session


@both
def test_two_workers_claim_and_advance(kind: Kind, tmp_path: Path) -> None:
    """Any number of logins, two workers in threads: each user is asked once, and nobody polls twice at once."""
    world = world_of(kind, tmp_path)
    keys = [f"session-{number}" for number in range(20)]
    for key in keys:
        world.call("start_login", REQUEST, session_key=key)
    lock = threading.Lock()

    def send(request: HttpRequest) -> HttpResponse:
        with lock:
            return world.op.send(request)

    world.way = send
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for claimed in world.store.claim(5, 600.0).claimed:
                world.call("advance", session_key=claimed.key, claimed=claimed)
        except BaseException as error:
            errors.append(error)
            raise

    for _ in range(20):
        world.clock.sleep(6)
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
    assert world.prompts == 20
    assert all(world.call("load_session", session_key=key) for key in keys)
    assert not any(entry.overlapping or entry.outcome == "slow_down" for entry in world.op.journal)


# One session for all


@every_form
def test_a_session_is_ensured(form: str) -> None:
    """The session that is there, or a new one: asked for once."""
    world = World(form=form)
    session = world.call("ensure_session", REQUEST)
    assert world.call("ensure_session", REQUEST) == session
    assert world.prompts == 1


def test_who_looked_before_the_session_was_there() -> None:
    """A process that saw no session, and comes to its turn after the whole login of another one, finds that."""
    world = World()
    load, looked = world.stores.sessions.load, list[str]()

    def load_late(key: str, **options: Any) -> Any:
        found = load(key, **options)
        if not looked:
            looked.append(key)
            world.call("ensure_session", REQUEST)
        return found

    world.stores.sessions.load = load_late
    session = world.call("ensure_session", REQUEST)
    assert session == world.call("load_session")
    assert world.prompts == 1


@pytest.mark.parametrize("at", range(1, 13))
def test_two_who_ensure_a_session_at_once(at: int) -> None:
    """Wherever a second process comes in between, for longer than the first one had time: one prompt.

    Both have the one session; or the second one has learnt that an acknowledgement was lost, for all it knew.
    """
    world, calls, others = World(), list[str](), list[Session | None]()

    class Between:
        def __init__(self, inner: MemoryStore) -> None:
            self.inner = inner
            self.claim = inner.claim
            self.release = inner.release

        def load(self, key: str, **options: Any) -> Any:
            self.come_between()
            return self.inner.load(key, **options)

        def save(self, *arguments: Any, **options: Any) -> Any:
            self.come_between()
            return self.inner.save(*arguments, **options)

        def remove(self, key: str, **options: Any) -> None:
            raise NotImplementedError

        def come_between(self) -> None:
            calls.append("call")
            if len(calls) == at:
                try:
                    others.append(world.call("ensure_session", REQUEST))
                except AcknowledgementLost:
                    others.append(None)

    stores = Stores(
        transactions=Between(world.stores.transactions),
        sessions=Between(world.stores.sessions),
        secrets=world.stores.sealer,
    )
    session = world.call("ensure_session", REQUEST, stores=stores)
    assert others in ([], [session], [None])
    assert world.prompts == 1


def test_to_join_without_waiting() -> None:
    """Who does not wait learns when to come again, and the user is not asked again."""
    world = World()
    for _ in range(3):
        with pytest.raises(LoginStillWaiting):
            world.call("ensure_session", REQUEST, wait_at_most=0)
    assert world.prompts == 1
    world.clock.sleep(30)
    assert world.call("ensure_session", REQUEST).user == ("https://op.example", "alice")
    assert world.prompts == 1


# Snapshots


@every_form
def test_a_snapshot_that_several_processes_have(form: str) -> None:
    """A snapshot is stored as a login by one of them, so that nobody polls beside another one."""
    world = World(form=form)
    begun = SyncCiba(PROVIDER, CLIENT, http=world, clock=world.clock).initiate(REQUEST)
    text = begun.to_json()
    adopted: list[Waiting] = []
    for _ in range(2):
        transaction = Transaction.from_json(text, client=CLIENT, provider=PROVIDER)
        try:
            adopted.append(world.call("adopt_login", transaction))
        except LoginUnderWay:
            adopted.append(Waiting(0.0, 0.0))
    assert adopted[0].wake_at == begun.deadline
    assert adopted[1] == Waiting(0.0, 0.0)
    assert world.call("resume_pending").user == ("https://op.example", "alice")
    assert world.prompts == 1
    with pytest.raises(LoginUnderWay):
        world.call("adopt_login", Transaction.from_json(text, client=CLIENT, provider=PROVIDER))


# Left


def test_a_sync_wait_is_left_from_another_thread() -> None:
    """`leave` ends the wait, and not the login; `cancel` ends both."""
    world, cancellation = World(), Cancellation()
    world.clock.call_at(3.0, cancellation.leave)
    with pytest.raises(LoginStillWaiting):
        world.call("login_backchannel", REQUEST, cancellation=cancellation)
    assert cancellation.left
    assert not cancellation.cancelled
    assert world.call("resume_pending").user == ("https://op.example", "alice")
    assert world.prompts == 1


def test_a_wait_in_real_time_is_left_at_once() -> None:
    """Where a thread really waits, it is woken."""
    world, cancellation = World(), Cancellation()

    def leave_later(request: HttpRequest) -> HttpResponse:
        threading.Timer(0.05, cancellation.leave).start()
        return world.op.send(request)

    world.way = leave_later
    stores, before = memory_stores(), time.monotonic()
    with pytest.raises(LoginStillWaiting):
        world.call("login_backchannel", REQUEST, stores=stores, cancellation=cancellation, clock=None)
    assert time.monotonic() - before < 4
    assert world.polls == 0


@pytest.mark.parametrize("may_leave", [False, True])
def test_what_leaving_ends(may_leave: bool) -> None:
    """Only calls that keep their state can be left: the wait of another one is not cut short, nor its poll early."""
    cancellation = Cancellation()
    waiting = threading.Thread(
        target=(Leavable(cancellation) if may_leave else cancellation).wait, args=(60,)
    )
    waiting.start()
    cancellation.leave()
    waiting.join(60 if may_leave else 0.05)
    assert waiting.is_alive() is not may_leave
    cancellation.cancel()
    waiting.join(60)
    assert not waiting.is_alive()


@every_form
def test_a_wait_has_an_end(form: str) -> None:
    """After `wait_at_most` seconds the login is left, to be resumed."""
    world = World(form=form)
    before = world.clock.monotonic()
    with pytest.raises(LoginStillWaiting):
        world.call("login_backchannel", REQUEST, wait_at_most=2)
    assert world.clock.monotonic() - before == 2
    with pytest.raises(LoginStillWaiting):
        world.call("resume_pending", wait_at_most=0)
    assert world.call("resume_pending", wait_at_most=600).user == ("https://op.example", "alice")


# Stores that fail


class Failing:
    """A store whose next saves fail, before or after they took place."""

    def __init__(self, inner: MemoryStore, fails: int, times: int, after: bool) -> None:
        self.inner, self.fails, self.times, self.after = inner, fails, times, after
        self.saves = 0
        self.load, self.remove = inner.load, inner.remove

    def save(self, *arguments: Any, **options: Any) -> str:
        self.saves += 1
        fails = self.fails <= self.saves < self.fails + self.times
        if fails and not self.after:
            raise OSError("away")
        revision = self.inner.save(*arguments, **options)
        if fails:
            raise OSError("the answer was lost")
        return revision


@every_form
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 9))
def test_a_store_that_fails_for_a_moment_costs_nothing(at: int, after: bool, form: str) -> None:
    """Whichever save fails, and whether or not it took place: one prompt, and a session."""
    for place in ("transactions", "sessions"):
        world = World(form=form)
        failing = Failing(getattr(world.stores, place), at, 3, after)
        stores = evolve(world.stores, **{place: failing})
        assert world.call("login_backchannel", REQUEST, stores=stores).user is not None
        assert world.prompts == 1


def test_tokens_of_a_store_that_stays_away() -> None:
    """When a login is given up for its store, the error has the tokens, for use or for revocation."""
    world = World()
    stores = evolve(world.stores, sessions=Failing(world.stores.sessions, 1, 10_000, after=False))
    with pytest.raises(StoreUnavailable) as caught:
        world.call("login_backchannel", REQUEST, stores=stores)
    assert isinstance(caught.value.snapshot, Secret)
    saved = Transaction.from_json(caught.value.snapshot.reveal(), client=CLIENT, provider=PROVIDER)
    assert saved.tokens is not None


def test_a_save_that_is_tried_again_can_be_cancelled() -> None:
    """Who cancels does not wait for the store."""
    world, cancellation = World(), Cancellation()
    stores = evolve(world.stores, transactions=Failing(world.stores.transactions, 3, 10_000, after=False))
    world.clock.call_at(8.0, cancellation.cancel)
    with pytest.raises((StoreUnavailable, AuthenticationCancelled)):
        world.call("login_backchannel", REQUEST, stores=stores, cancellation=cancellation)
    assert world.clock.monotonic() < 20


def test_virtual_time_with_stores_in_real_time() -> None:
    """A client in virtual time works with stores whose clock is the machine's."""
    world = World()
    assert world.call("login_backchannel", REQUEST, stores=memory_stores()).user is not None


# Callbacks that come elsewhere


@both
@every_form
@pytest.mark.parametrize("mode", ["ping", "push"])
def test_a_callback_comes_to_another_process(
    mode: Literal["ping", "push"], form: str, kind: Kind, tmp_path: Path
) -> None:
    """Started in one process, called back in another, gone on with in a third one: stored before it is answered."""
    answered: list[tuple[int, bool]] = []
    registered = SimulatedClient(
        "s6BhdRkqt3",
        "gX1fBat3bV",
        backchannel_token_delivery_mode=mode,
        backchannel_client_notification_endpoint="https://client.example/cb",
    )

    def deliver(callback: Callback) -> int:
        answer = receiver.answer_sync(callback.method, callback.headers, callback.body)
        found = world.store.load(KEY, store_options=None)
        assert found is not None
        answered.append((answer.status, bool(found.callbacks)))
        return answer.status

    world = world_of(kind, tmp_path, form=form, clients=[registered], deliver=deliver)
    routes = SqliteRoutes(tmp_path / "routes.db")
    client = evolve(CLIENT, backchannel_token_delivery_mode=mode)

    def endpoint(**options: Any) -> NotificationEndpoint:
        return NotificationEndpoint(routes=routes, clock=world.clock, **options)

    receiver = endpoint(not_held=keep_callbacks(world.stores))
    keep = keep_callbacks(world.stores)
    waiting = world.call("start_login", REQUEST, client=client, endpoint=endpoint(not_held=keep))
    assert isinstance(waiting, Waiting)
    assert world.store.claim(10, 60.0).claimed == ()
    world.clock.sleep(13)
    assert answered == [(204, True)]
    (claimed,) = world.store.claim(10, 60.0).claimed
    session = world.call(
        "advance", client=client, endpoint=endpoint(not_held=keep), session_key=claimed.key, claimed=claimed
    )
    assert session.user == ("https://op.example", "alice")
    assert (world.prompts, world.polls) == (1, 1 if mode == "ping" else 0)


def test_a_callback_that_cannot_be_kept() -> None:
    """A callback for a login that is not there is not accepted; an async store is awaited."""
    from tests.samples import notification

    stores = memory_stores()
    assert keep_callbacks(stores)("hash:key", notification()) is None

    class Awaited:
        async def deliver(self, key: str, text: str, *, store_options: Any) -> bool:
            return key == "key" and store_options == "option"

    awaited: Any = Awaited()
    kept = keep_callbacks_async(
        AsyncStores(transactions=awaited, sessions=MemoryStore(), secrets=[SECRET]), store_options="option"
    )

    async def status(key: str) -> Any:
        answer: Awaitable[HttpResponse | None] = kept(key, notification())
        return await answer

    accepted = anyio.run(status, "hash:key")
    assert accepted.status == 204
    assert anyio.run(status, "hash:other") is None


def test_a_store_that_conflicts_is_told() -> None:
    """A record that another process changes while a request is out, without tokens for us, is a conflict."""
    world = World()
    waiting = world.call("start_login", REQUEST)
    world.clock.sleep(waiting.seconds)

    def meddle(request: HttpRequest) -> HttpResponse:
        found = world.store.load(KEY, store_options=None)
        assert found is not None
        world.store.save(KEY, found.text, expected_revision=found.revision)
        return world.op.send(request)

    world.way = meddle
    with pytest.raises(StoreConflict):
        world.call("advance")


def test_sqlite_stores_share_a_file(tmp_path: Path) -> None:
    """Stores of one file are stores of the right tables."""
    stores = sqlite_stores(tmp_path / "stores.db", secrets=[SECRET])
    assert isinstance(stores.sessions, SqliteStore)
    stores.sessions.save("key", "text", expected_revision=None)
    assert SqliteStore(tmp_path / "stores.db", "sessions").keys() == ["key"]
    assert SqliteStore(tmp_path / "stores.db", "transactions").keys() == []
