"""Workers: each login is gone on with by one of them at a time, and none is lost when one of them ends."""

from __future__ import annotations

import base64
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import anyio
import anyio.lowlevel
import pytest
from attrs import evolve

from ciba_adapters.stores import memory_stores
from ciba_adapters.transport import SendFailed
from ciba_adapters.work import Health, Worked, work
from ciba_core import (
    AuthenticationRequest,
    ClaimingStore,
    Claims,
    ClientConfig,
    ClientSecretBasic,
    Delivery,
    HttpRequest,
    HttpResponse,
    Stores,
)
from ciba_core.errors import (
    AccessDenied,
    LocalProtocolError,
    SessionOfAnotherUser,
    StoreConflict,
    StoredContentAltered,
    StoreUnavailable,
    UnknownStoreSecret,
    UnknownStoreVersion,
)
from ciba_core.testing import (
    Approve,
    Deny,
    Ignore,
    SimulatedClient,
    SimulatedProvider,
    VirtualClock,
)

from .inprocess import CLIENT, PROVIDER, AsyncCiba, SyncCiba

REQUEST: Final = AuthenticationRequest(scope="openid", login_hint="alice")
OLD, NEW = "an old secret of more than thirty-two octets", "a new secret of more than thirty-two octets"
SECOND: Final = ClientConfig("second", ClientSecretBasic("7Fjfp0ZBr1"))
UNDER_WAY: Final = {"waiting", "given_back", "lost"}


class World:
    """A provider, stores in memory, and workers over them, in virtual time."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self.clock = VirtualClock(start)
        self.op = SimulatedProvider(
            self.clock,
            clients=[SimulatedClient("s6BhdRkqt3", "gX1fBat3bV"), SimulatedClient("second", "7Fjfp0ZBr1")],
            users={
                "alice": Approve(after=12), "bob": Approve(), "dave": Deny(after=7), "carol": Ignore()
            },
            expires_in=3600,
        )  # fmt: skip
        self.stores: Stores = evolve(memory_stores(time=self.clock.time), secrets=[OLD])
        self.way: Callable[[HttpRequest], HttpResponse] = self.op.send
        self.stop = threading.Event()
        self.worked: list[Worked] = []

    def send(self, request: HttpRequest) -> HttpResponse:
        return self.way(request)

    @property
    def store(self) -> ClaimingStore:
        return cast("ClaimingStore", self.stores.transactions)

    def client(self, config: ClientConfig = CLIENT, kind: type[Any] = AsyncCiba) -> Any:
        return kind(PROVIDER, config, http=self, clock=self.clock)

    def start(self, *keys: str, hint: str = "alice", config: ClientConfig = CLIENT, **options: Any) -> None:
        ciba = self.client(config, SyncCiba)
        request = evolve(REQUEST, login_hint=hint)
        for key in keys:
            ciba.start_login(request, **({"stores": self.stores, "session_key": key} | options))

    def until(self, count: int) -> Callable[[Worked], None]:
        """Stop the workers when so many logins have come to an end."""

        def report(worked: Worked) -> None:
            self.worked.append(worked)
            if sum(worked.outcome not in UNDER_WAY for worked in self.worked) >= count:
                self.stop.set()

        return report

    def work(self, *clients: Any, ends: int = 1, **options: Any) -> Health:
        settings: dict[str, Any] = {
            "stores": self.stores, "clients": [self.client()], "clock": self.clock, "stop": self.stop,
            "report": self.until(ends), "signals": (),
        } | options  # fmt: skip
        healths: list[Health] = []

        async def one(client: Any) -> None:
            healths.append(await work(**(settings | ({} if client is None else {"clients": client}))))

        async def main() -> None:
            async with anyio.create_task_group() as group:
                for client in clients or (None,):
                    group.start_soon(one, client)

        anyio.run(main)
        return healths[-1]

    def outcomes(self, key: str = "") -> list[str]:
        return [worked.outcome for worked in self.worked if key in ("", worked.key)]

    def error(self) -> Exception:
        (error,) = [worked.error for worked in self.worked if worked.error is not None]
        return error

    def check_polls(self, count: int) -> None:
        """Everybody was asked once, nobody polled too early, beside another one, or for tokens once more."""
        polls = [entry for entry in self.op.journal if entry.endpoint == "token"]
        assert sum(entry.outcome == "acknowledged" for entry in self.op.journal) == count
        assert not any(entry.too_early or entry.overlapping or entry.replayed for entry in polls)
        issued = Counter(entry.auth_req_id for entry in polls if entry.outcome == "tokens")
        assert set(issued.values()) <= {1}


@pytest.mark.parametrize(("kind", "workers"), [(AsyncCiba, 2), (SyncCiba, 1)])
def test_workers_side_by_side(kind: type[Any], workers: int) -> None:
    """Each login is advanced by one of them at its time, until its session is stored; the health adds up."""
    world = World()
    keys = [f"session-{number}" for number in range(30)]
    world.start(*keys)
    world.start("denied", hint="dave")
    clients = [[world.client(kind=kind)] for _ in range(workers)]
    health = world.work(*clients, ends=31, concurrency=4)
    world.check_polls(31)
    ciba = world.client(kind=SyncCiba)
    assert all(ciba.load_session(stores=world.stores, session_key=key) is not None for key in keys)
    counts = Counter(world.outcomes())
    assert counts["session"] == 30
    assert counts["ended"] == 1
    assert isinstance(world.error(), AccessDenied)
    assert world.store.pending() == []
    assert (health.state, health.held, health.parked, health.store_error) == ("stopped", 0, (), None)


def test_a_worker_that_ended_is_followed_by_another() -> None:
    """What was claimed by a worker that is gone is claimed again after its lease, and not before."""
    world = World()
    world.start("key", hint="bob")
    world.clock.sleep(5)
    began = world.clock.time()
    assert len(world.store.claim(10, 60.0).claimed) == 1
    world.work()
    assert world.outcomes() == ["session"]
    assert 60 <= world.clock.time() - began < 65
    assert 60 <= world.worked[0].late < 65
    world.check_polls(1)


def test_a_lease_that_was_lost_while_a_request_was_out() -> None:
    """The answer is not thrown away: tokens are stored over what the worker that took over has made of it."""
    world = World()
    world.start("key", hint="bob")
    out: list[str] = []

    def slow(request: HttpRequest) -> HttpResponse:
        response = world.op.send(request)
        if not out:
            out.append("out")
            world.clock.sleep(120)
            (claimed,) = world.store.claim(10, 60.0).claimed
            world.client(kind=SyncCiba).advance(stores=world.stores, session_key="key", claimed=claimed)
        return response

    world.way = slow
    world.work()
    assert world.outcomes() == ["session"]
    session = world.client(kind=SyncCiba).load_session(stores=world.stores, session_key="key")
    assert session.user == ("https://op.example", "bob")


def test_another_worker_was_quicker() -> None:
    """Who saves on a claim that is over sends nothing, and leaves the login to whoever has it."""
    world = World()
    world.start("key", hint="bob")
    world.clock.sleep(5)
    real = world.store.claim
    stolen: list[Any] = []

    def claim(limit: int, lease: float, *, store_options: Any = None) -> Any:
        claims = real(limit, lease)
        if claims.claimed and not stolen:
            world.clock.sleep(lease + 1)
            stolen.append(real(limit, lease))
        return claims

    cast("Any", world.store).claim = claim
    sent = len(world.op.journal)
    world.work(ends=1)
    assert world.outcomes()[0] == "lost"
    assert world.outcomes()[-1] == "session"
    assert len([entry for entry in world.op.journal[sent:] if entry.endpoint == "token"]) == 1


@pytest.mark.parametrize("kind", [AsyncCiba, SyncCiba])
def test_nothing_is_sent_that_the_lease_does_not_outlast(kind: type[Any]) -> None:
    """By a clock that nobody sets: to set the wall clock back does not make a lease longer."""
    world = World()
    world.start("key", hint="bob")
    world.clock.sleep(5)
    real, slow = world.store.save, ["once"]

    def save(*arguments: Any, **options: Any) -> str:
        revision = real(*arguments, **options)
        if options["lease"] and slow:
            slow.clear()
            world.clock.sleep(30)
            world.clock.step_wall(-30)
        return revision

    cast("Any", world.store).save = save
    sent: list[HttpRequest] = []

    def way(request: HttpRequest) -> HttpResponse:
        assert not slow
        sent.append(request)
        return world.op.send(request)

    world.way = way
    world.work([world.client(kind=kind)])
    assert world.outcomes() == ["waiting", "session"]
    assert [request.url for request in sent] == [PROVIDER.token_endpoint, PROVIDER.jwks_uri]


def test_nobody_comes_between_tokens_and_session() -> None:
    """A login whose tokens are about to become the session is not handed out, as long as that should take."""
    world = World()
    world.start("key", hint="bob")
    real, claimed = world.stores.sessions.save, list[Any]()

    def save(*arguments: Any, **options: Any) -> str:
        claimed.append(world.store.claim(10, 60.0).claimed)
        world.clock.sleep(6)
        claimed.append(world.store.claim(10, 60.0).claimed)
        return real(*arguments, **options)

    cast("Any", world.stores.sessions).save = save

    def report(_worked: Worked) -> None:
        world.stop.set()

    world.work(report=report)
    assert claimed[0] == ()
    assert len(claimed[1]) == 1


def test_what_waits_for_its_turn_keeps_its_lease() -> None:
    """At a low rate claims are renewed while they wait here, so that nobody else takes them."""
    world = World()
    keys = [f"session-{number}" for number in range(12)]
    world.start(*keys, hint="bob")
    began = world.clock.time() + 5
    world.work(ends=12, rate=2.0, lease=1.0, look_every=0.25)
    assert Counter(world.outcomes()) == {"session": 12}
    assert world.clock.time() - began >= (12 - 1 - 2) / 2  # two of them are the burst of one second
    world.check_polls(12)


def test_a_claim_that_was_lost_in_the_queue() -> None:
    """What another worker took over meanwhile is left to that."""
    world = World()
    world.start("first", "second", hint="bob")

    def renew(*_arguments: Any, **_options: Any) -> bool:
        return False

    cast("Any", world.store).renew = renew
    world.work(ends=2, rate=0.1, concurrency=2, lease=4.0)
    assert "lost" in world.outcomes()
    assert world.outcomes().count("session") == 2


def sealed_anew(world: World, key: str, change: Callable[[str], str]) -> None:
    record = world.store.load(key, store_options=None)
    assert record is not None
    text = change(record.text)
    world.store.save(key, text, expected_revision=record.revision, wake_after=1.0, forget_after=1000.0)


def garbage(_text: str) -> str:
    return "garbage"


def altered(text: str) -> str:
    return text[:-4] + "AAAA"


def newer(text: str) -> str:
    """Return a sealed text with the header of a later version."""
    header = base64.urlsafe_b64encode(b'{"alg":"dir","enc":"A256GCM","v":2}').rstrip(b"=").decode()
    return header + text[text.index(".") :]


@pytest.mark.parametrize(
    ("change", "kind", "at_once"),
    [
        (garbage, StoredContentAltered, True),
        (altered, StoredContentAltered, True),
        (newer, UnknownStoreVersion, False),
    ],
)
def test_poison(change: Callable[[str], str], kind: type[Exception], at_once: bool) -> None:
    """What cannot be used is parked and named, not tried for ever; the others are gone on with."""
    world = World()
    world.start("poison", "good", hint="bob")
    sealed_anew(world, "poison", change)
    health = world.work(ends=2)
    assert world.outcomes("good") == ["session"]
    assert health.parked == ("poison",)
    assert world.outcomes("poison")[-1] == "parked"
    assert isinstance(next(worked.error for worked in world.worked if worked.outcome == "parked"), kind)
    assert (len(world.outcomes("poison")) == 1) is at_once
    assert world.store.pending() == []
    # It is there for whoever can repair it, or release it with a newer release.
    assert world.store.load("poison", store_options=None) is not None


def test_a_login_of_no_client() -> None:
    """A record is its client's who can open it; one of no client here is parked and named."""
    world = World()
    world.start("first", "foreign", hint="bob")
    world.start("second", hint="bob", config=SECOND)
    health = world.work([world.client(SECOND)], ends=3)
    assert Counter(world.outcomes()) == {"session": 1, "parked": 2}
    assert {*health.parked} == {"first", "foreign"}
    for key in health.parked:
        record = world.store.load(key, store_options=None)
        assert record is not None
        assert world.store.release(key, record.revision, wake_after=0.0)
    world.stop.clear()
    world.worked.clear()
    world.work([world.client(SECOND), world.client()], ends=2)
    assert Counter(world.outcomes()) == {"session": 2}


def test_clients_by_the_beginning_of_the_key() -> None:
    """In a mapping the longest beginning that fits names the client; a key that fits none is parked."""
    world = World()
    world.start("a:1", "other", hint="bob")
    world.start("a:b:1", hint="bob", config=SECOND)
    world.work({"a:": world.client(), "a:b:": world.client(SECOND)}, ends=3)
    assert world.outcomes("a:1") == world.outcomes("a:b:1") == ["session"]
    assert world.outcomes("other") == ["parked"]
    assert isinstance(world.error(), LocalProtocolError)
    assert str(world.error()) == "clients: there is none for this session key"


def test_secrets_are_replaced_while_workers_run() -> None:
    """A worker with the old secret alone gives back what it cannot open; a function brings it the new one."""
    world = World()
    world.start("old", hint="bob")
    newer_stores = evolve(world.stores, secrets=[NEW, OLD])
    world.start("new", hint="bob", stores=newer_stores)
    current = [world.stores]

    def report(worked: Worked) -> None:
        world.until(2)(worked)
        if worked.outcome == "given_back":
            assert isinstance(worked.error, UnknownStoreSecret)
            current[0] = newer_stores

    world.work(stores=lambda: current[0], report=report)
    assert world.outcomes("old") == ["session"]
    assert world.outcomes("new") == ["given_back", "session"]


def test_a_secret_that_nobody_knows() -> None:
    """It is given back for other workers for a time, ever less often, and parked after that."""
    world = World()
    world.start("key", hint="bob", stores=evolve(world.stores, secrets=[NEW]))
    began = world.clock.time()
    world.work(park_after=300)
    assert world.outcomes()[-1] == "parked"
    assert 300 <= world.clock.time() - began < 400
    assert len(world.outcomes()) < 12


def test_tokens_of_another_user_are_parked() -> None:
    """A session is not replaced by that of another user; the login stays, with its tokens, and is named."""
    world = World()
    world.start("key", hint="bob")
    world.work()
    world.stop.clear()
    world.worked.clear()
    world.start("key", hint="alice")
    health = world.work()
    assert world.outcomes()[-2:] == ["given_back", "parked"]
    assert health.parked == ("key",)
    assert isinstance(world.worked[-1].error, SessionOfAnotherUser)


def test_a_mistake_that_comes_again() -> None:
    """An exception that is not this library's does not end the work for the others, nor is it met for ever."""
    world = World()
    world.start("key", "other", hint="bob")
    ciba = world.client()
    advance = ciba.advance

    async def failing(**options: Any) -> Any:
        if options["session_key"] == "key":
            raise ZeroDivisionError
        return await advance(**options)

    ciba.advance = failing
    world.work([ciba], ends=2, park_after=20)
    assert world.outcomes("other") == ["session"]
    assert world.outcomes("key")[0] == "given_back"
    assert world.outcomes("key")[-1] == "parked"


def test_a_store_that_is_away() -> None:
    """The worker asks again, ever less often, and says so; a store that it cannot use ends it."""
    world = World()
    world.start("key", hint="bob")
    real, tries = world.store.claim, list[float]()
    errors: list[Exception] = [StoreUnavailable("gone"), OSError("gone"), StoreUnavailable("gone")]

    def claim(limit: int, lease: float, *, store_options: Any = None) -> Any:
        tries.append(world.clock.monotonic())
        if errors:
            raise errors.pop()
        return real(limit, lease)

    cast("Any", world.store).claim = claim
    world.work()
    assert world.outcomes() == ["session"]
    pauses = [after - before for before, after in itertools.pairwise(tries)]
    assert pauses[:3] == [2, 4, 8]
    for error in (UnknownStoreVersion("newer"), TypeError("a mistake")):
        errors.append(error)
        world.stop.clear()
        with pytest.raises(ExceptionGroup) as caught:
            world.work()
        assert caught.value.exceptions == (error,)


class Held:
    """A way to the provider on which requests stay until they are let go."""

    def __init__(self, world: World) -> None:
        self.world, self.out, self.go = world, anyio.Event(), anyio.Event()

    def client(self) -> Any:
        held = self

        class Transport:
            async def send(self, request: HttpRequest) -> HttpResponse:
                held.out.set()
                await held.go.wait()
                return held.world.op.send(request)

            async def sleep(self, seconds: float) -> None:
                await anyio.sleep(seconds)

        class Ciba(AsyncCiba):
            @staticmethod
            def make_transport(http: Any) -> Any:
                return Transport()

        return Ciba(PROVIDER, CLIENT, http=self.world)


@pytest.mark.parametrize("in_time", [True, False])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_drain(in_time: bool, backend: str, tmp_path: Path) -> None:
    """Told to stop, it brings to its end what is under way, in time, and gives back what it has not begun."""
    world = World(time.time())
    world.start("out", hint="bob")
    world.clock.sleep(1)
    world.start("waits", hint="bob")
    world.clock.sleep(5)
    health_file = tmp_path / "health.json"
    healths: list[Health] = []
    claims: list[Any] = []
    real = world.store.claim

    def claim(limit: int, lease: float, *, store_options: Any = None) -> Any:
        claims.append(real(limit, lease))
        return claims[-1]

    cast("Any", world.store).claim = claim

    async def main() -> None:
        held = Held(world)

        async def run() -> None:
            healths.append(
                await work(
                    world.stores, held.client(), concurrency=1, stop=world.stop, signals=(),
                    health_file=health_file, report=world.worked.append,
                    drain_within=30.0 if in_time else 0.05,
                )
            )  # fmt: skip

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await held.out.wait()
            while len(claims) < 2:
                await anyio.lowlevel.checkpoint()
            world.stop.set()
            while not world.outcomes("waits"):
                await anyio.lowlevel.checkpoint()
            assert len(world.store.claim(10, 0.0).claimed) == 1
            if in_time:
                held.go.set()

    anyio.run(main, backend=backend)
    assert world.outcomes("waits") == ["given_back"]
    assert world.outcomes("out") == (["session"] if in_time else ["cut_off"])
    (health,) = healths
    assert health.state == "stopped"
    assert health.held == 0
    written = json.loads(health_file.read_text())
    assert written == json.loads(health.to_json()) | {"at": written["at"]}


def test_what_a_worker_is_not_given() -> None:
    """Numbers, clients and stores that it cannot work with are refused by name, before anything is claimed."""
    world = World()

    def refused(kind: type[Exception], *arguments: Any, **options: Any) -> str:
        with pytest.raises(kind) as caught:
            anyio.run(lambda: work(*arguments, **options))
        return str(caught.value)

    ciba = world.client()
    assert refused(ValueError, world.stores, ciba, rate=0.0) == "rate must be a number above 0"
    assert refused(ValueError, world.stores, ciba, concurrency=-1) == "concurrency must be a number above 0"
    assert "not str" in refused(TypeError, world.stores, {"a": "client"})
    assert "cannot claim" in refused(
        TypeError, evolve(world.stores, transactions=cast("Any", object())), ciba
    )

    class Awaited:
        async def claim(self, *_arguments: Any, **_options: Any) -> Claims:
            return Claims(0.0, ())

    stores = evolve(world.stores, transactions=cast("Any", Awaited()))
    assert "not awaited" in refused(TypeError, stores, world.client(kind=SyncCiba))
    refused(OSError, world.stores, ciba, health_file="/nowhere/at/all")


def test_a_request_that_did_not_arrive() -> None:
    """A poll that could not be sent is made again at its time by whoever has the login then."""
    world = World()
    world.start("key", hint="bob")
    faults = ["once"]

    def way(request: HttpRequest) -> HttpResponse:
        if faults:
            faults.clear()
            raise SendFailed(Delivery.NOT_SENT, "connection refused")
        return world.op.send(request)

    world.way = way
    world.work()
    assert world.outcomes() == ["waiting", "session"]
    assert not any(isinstance(worked.error, StoreConflict) for worked in world.worked)
