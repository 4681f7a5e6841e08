"""The login that keeps its state: killed anywhere, it goes on, and nobody is prompted twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import anyio
import anyio.lowlevel
import pytest
from attrs import define, evolve, field
from hypothesis import given, settings
from hypothesis import strategies as st

from ciba_adapters.client import Cancellation
from ciba_adapters.notification.endpoint import Admission, Held, NotificationEndpoint
from ciba_adapters.stores import MemoryStore, memory_stores
from ciba_core import (
    AsyncStores,
    AuthenticationRequest,
    ClientConfig,
    HttpRequest,
    HttpResponse,
    ProviderMetadata,
    Secret,
    Session,
    StoredRecord,
    Stores,
)
from ciba_core.errors import (
    AccessDenied,
    AcknowledgementLost,
    AuthenticationCancelled,
    AuthenticationExpired,
    CibaError,
    GrantDiffers,
    LocalProtocolError,
    LoginUnderWay,
    NoPendingLogin,
    SessionOfAnotherUser,
    StoreConflict,
    StoredContentAltered,
    TokenResponseLost,
    UnknownStoreSecret,
)
from ciba_core.login.records import LoginRecords
from ciba_core.login.sealing import Sealer
from ciba_core.testing import (
    Approve,
    Callback,
    Deny,
    DropBefore,
    Ignore,
    LoopbackServer,
    SimulatedClient,
    SimulatedProvider,
    VirtualClock,
)

from .clients import ADAPTERS, Adapter
from .inprocess import CLIENT, PROVIDER, AsyncCiba, SyncCiba

Form = Literal["sync", "async"]
FORMS: Final[tuple[Form, ...]] = ("sync", "async")
every_form: Final = pytest.mark.parametrize("form", FORMS)
KEY: Final = "session-1"
SECRET: Final = "a secret of at least thirty-two octets"


class Killed(BaseException):
    """The process ends here."""


@define
class Fuse:
    """Counts what a process does, and ends it at one point."""

    at: int | None = None
    points: list[str] = field(factory=list[str])

    def burn(self, point: str) -> None:
        self.points.append(point)
        if len(self.points) == self.at:
            raise Killed(point)


class WatchedStore:
    """A store of a process that may be killed before and after each call."""

    def __init__(self, world: World, name: str, store: MemoryStore, fuse: Fuse) -> None:
        self.world, self.name, self.store, self.fuse = world, name, store, fuse

    def load(self, key: str, *, store_options: Any) -> Any:
        return self._call("load", lambda: self.store.load(key), store_options)

    def save(
        self,
        key: str,
        text: str,
        *,
        expected_revision: str | None,
        forget_at: float | None,
        store_options: Any,
    ) -> Any:
        self.world.texts.append(text)
        return self._call(
            "save",
            lambda: self.store.save(key, text, expected_revision=expected_revision, forget_at=forget_at),
            store_options,
        )

    def remove(self, key: str, *, store_options: Any) -> Any:
        raise NotImplementedError

    def _call(self, what: str, call: Callable[[], object], store_options: Any) -> Any:
        def made() -> object:
            self.world.options_seen.append(store_options)
            self.fuse.burn(f"before {what} {self.name}")
            result = call()
            self.fuse.burn(f"after {what} {self.name}")
            return result

        async def awaited() -> object:
            await anyio.lowlevel.checkpoint()
            return made()

        return made() if self.world.form == "sync" else awaited()


class WatchedProvider:
    """The way to the provider of a process that may be killed before and after each request."""

    def __init__(self, world: World, fuse: Fuse) -> None:
        self.world, self.fuse = world, fuse

    def send(self, request: HttpRequest) -> HttpResponse:
        name = request.url.rpartition("/")[2]
        self.fuse.burn(f"before send {name}")
        response = self.world.op.send(request)
        self.fuse.burn(f"after send {name}")
        if self.world.narrowed:
            return evolve(response, body=response.body.replace(b'"openid profile"', b'"openid"'))
        return response


class Clock(VirtualClock):
    """Time that passes for all processes of a world at once."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def sleep(self, seconds: float, /, until: Callable[[], bool] | None = None) -> None:
        meanwhile, self.world.meanwhile = self.world.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        super().sleep(seconds, until)


class World:
    """A provider, the stores of an application, and its processes, one after the other."""

    def __init__(self, form: Form = "sync", **settings: Any) -> None:
        self.form = form
        self.clock = Clock(self)
        self.op = SimulatedProvider(
            self.clock,
            clients=settings.pop("clients", [SimulatedClient("s6BhdRkqt3", "gX1fBat3bV")]),
            users={
                "alice": Approve(after_polls=1),
                "bob": Approve(),
                "dave": Deny(),
                "carol": Ignore(),
            },
            **settings,
        )
        # What happens in another process while one waits, once.
        self.meanwhile: Callable[[], object] | None = None
        self.transactions = MemoryStore(time=self.clock.time)
        self.sessions = MemoryStore(time=self.clock.time)
        self.narrowed = False
        """Whether the provider grants less than is asked for."""
        self.options_seen: list[Any] = []
        self.texts: list[str] = []

    @property
    def prompts(self) -> int:
        return sum(entry.outcome == "acknowledged" for entry in self.op.journal)

    @property
    def issued(self) -> int:
        return sum(entry.outcome == "tokens" for entry in self.op.journal)

    def stores(self, fuse: Fuse | None = None, secrets: Any = SECRET) -> Any:
        fuse = fuse or Fuse()
        kind = Stores if self.form == "sync" else AsyncStores
        return kind(
            transactions=WatchedStore(self, "login", self.transactions, fuse),
            sessions=WatchedStore(self, "session", self.sessions, fuse),
            secrets=secrets,
        )

    def process(
        self,
        method: str,
        *arguments: Any,
        fuse: Fuse | None = None,
        client: ClientConfig = CLIENT,
        secrets: Any = SECRET,
        **options: Any,
    ) -> Any:
        """Call a method of a client in a process of its own."""
        fuse = fuse or Fuse()
        options = {"stores": self.stores(fuse, secrets), "session_key": KEY} | options
        http = WatchedProvider(self, fuse)
        if self.form == "sync":
            ciba = SyncCiba(PROVIDER, client, http=http, clock=self.clock)
            return getattr(ciba, method)(*arguments, **options)

        async def main() -> Any:
            ciba = AsyncCiba(PROVIDER, client, http=http, clock=self.clock)
            return await getattr(ciba, method)(*arguments, **options)

        return anyio.run(main)

    def login(self, user: str = "alice", **options: Any) -> Session:
        request = options.pop("request", None) or asking_for(user)
        session: Session = self.process("login_backchannel", request, **options)
        return session

    def resume(self, **options: Any) -> Session:
        session: Session = self.process("resume_pending", **options)
        return session

    def session(self, **options: Any) -> Session | None:
        session: Session | None = self.process("load_session", **options)
        return session

    def go_on(self, user: str = "alice", **options: Any) -> Session:
        """Do what an application does when it starts."""
        try:
            return self.resume(**options)
        except NoPendingLogin:
            return self.login(user, **options)


def asking_for(user: str) -> AuthenticationRequest:
    return AuthenticationRequest(scope="openid profile", login_hint=user, binding_message="W4SCT")


def stored(store: MemoryStore) -> StoredRecord:
    record = store.load(KEY)
    assert record is not None
    return record


# The good case


@every_form
def test_login(form: Form) -> None:
    """A login returns the tokens, and leaves them as the session of its key."""
    world = World(form)
    session = world.login()
    assert session.tokens.id_token_claims is not None
    assert session.user == ("https://op.example", "alice")
    assert world.session() == session
    assert (world.prompts, world.issued) == (1, 1)


@every_form
def test_store_options_go_through_untouched(form: Form) -> None:
    """Each call of each store gets the very object that the caller gave."""
    world, options = World(form), object()
    world.login(store_options=options)
    world.resume(store_options=options)
    world.session(store_options=options)
    assert len(world.options_seen) > 10
    assert all(seen is options for seen in world.options_seen)


@every_form
def test_nothing_readable_is_stored(form: Form) -> None:
    """Neither tokens nor identifiers nor what was asked for stand in a store."""
    world = World(form)
    session = world.login()
    secrets = [session.tokens.access_token.reveal(), "alice", "openid", "https://op.example", SECRET]
    assert len(world.texts) > 8
    assert not any(secret in text for text in world.texts for secret in secrets)
    assert all(text.isascii() and text.count(".") == 4 for text in world.texts)


@pytest.mark.parametrize("adapter", ADAPTERS, ids=repr)
def test_every_client_logs_in(adapter: Adapter) -> None:
    """Each client has the login, over its own HTTP stack; the sync and the async ones alike."""
    with LoopbackServer() as server:
        world = World(issuer=server.url)
        server.handler = world.op.handle
        provider = ProviderMetadata(
            issuer=server.url,
            token_endpoint=f"{server.url}/token",
            backchannel_authentication_endpoint=f"{server.url}/bc-authorize",
            jwks_uri=f"{server.url}/jwks",
            allow_loopback_http=True,
        )
        options = {"stores": memory_stores(time=world.clock.time), "session_key": KEY}

        def call(method: str, *arguments: object) -> Any:
            return adapter.call(
                lambda ciba: getattr(ciba, method)(*arguments, **options), provider, CLIENT, world.clock
            )

        session = call("login_backchannel", asking_for("alice"))
        assert session.user == (server.url, "alice")
        assert call("load_session") == call("resume_pending") == session
        tokens = evolve(session.tokens, access_token=Secret("refreshed"))
        assert call("renew_session", session, tokens) == call("load_session") != session


# Killed


def points(form: Form) -> list[str]:
    """Where a login can be killed."""
    fuse = Fuse()
    World(form).login(fuse=fuse)
    return fuse.points


POINTS: Final = points("sync")


def test_what_is_sent_was_stored_before() -> None:
    """Save before act: a login is stored between any two requests, and before the first one."""
    acts = [
        point
        for point in POINTS
        if point in ("after save login", "after save session") or "before send" in point
    ]
    assert [act for act in acts if "send" in act] == [
        "before send bc-authorize", "before send token", "before send token", "before send jwks",
    ]  # fmt: skip
    assert all(acts[number - 1] == "after save login" for number, act in enumerate(acts) if "send" in act)
    assert acts[-3:] == ["after save login", "after save session", "after save login"]
    assert points("async") == POINTS


def place(at: int) -> str:
    return f"{at} {POINTS[at - 1]}"


def expected(happened: list[str]) -> type[CibaError] | None:
    """What the next process can know of a login that was killed after this."""
    if happened.count("after save login") == 1:
        return AcknowledgementLost
    requests = [point for point in happened if "send" in point or point == "after save login"]
    if happened.count("after send token") == 2 and requests[-1] == "after send token":
        return TokenResponseLost
    return None


@every_form
@pytest.mark.parametrize("at", range(1, len(POINTS) + 1), ids=place)
def test_killed_anywhere(at: int, form: Form) -> None:
    """Whatever a process was doing when it was killed, the next one goes on, and the user is prompted once."""
    world = World(form)
    with pytest.raises(Killed):
        world.login(fuse=Fuse(at))
    happened = POINTS[:at]
    prompted = world.prompts
    error = expected(happened)
    if error is None:
        session = world.go_on()
        assert world.prompts == 1
        assert world.session() == session
        assert world.resume() == session
        assert world.issued == 1
    else:
        with pytest.raises(error):
            world.go_on()
        with pytest.raises(error):
            world.resume()
        # The user was not prompted again; whether to do so is for the application to decide.
        assert world.prompts == prompted
        assert world.login().user == ("https://op.example", "alice")
        assert world.prompts == prompted + 1


def outcome(world: World, user: str) -> type:
    try:
        return type(world.go_on(user).user)
    except CibaError as error:
        return type(error)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 30), max_size=5), st.sampled_from(["alice", "dave"]))
def test_killed_again_and_again(kills: list[int], user: str) -> None:
    """However often the processes are killed, there is one prompt, one set of tokens, and one outcome."""
    world = World(expires_in=3600)
    for at in kills:
        try:
            world.go_on(user, fuse=Fuse(at))
        except (Killed, CibaError):
            continue
    alternatives = (tuple, TokenResponseLost) if user == "alice" else (AccessDenied,)
    outcomes = [outcome(world, user) for _ in range(2)]
    assert outcomes[0] == outcomes[1]
    assert outcomes[0] in {AcknowledgementLost, *alternatives}
    assert world.prompts <= 1
    assert world.issued <= 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 25), min_size=1, max_size=4))
def test_ensured_by_processes_that_are_killed(kills: list[int]) -> None:
    """Killed wherever, each next process that ensures a session goes on: one prompt, one set of tokens."""
    world = World(expires_in=3600)
    error: CibaError | None = None
    for at in [*kills, 10_000]:
        try:
            world.process("ensure_session", asking_for("alice"), fuse=Fuse(at))
        except Killed:
            continue
        except CibaError as raised:
            error = raised
            break
    if error is None:
        assert (world.prompts, world.issued) == (1, 1)
    else:
        assert isinstance(error, (AcknowledgementLost, TokenResponseLost))
        assert world.prompts <= 1


# Several processes at once


def test_another_process_takes_over_between_polls() -> None:
    """Who resumes a login that waits has it; the one before stops, with nothing sent beside."""
    world, taken = World(), list[Session]()
    world.meanwhile = lambda: taken.append(world.resume())
    with pytest.raises(StoreConflict):
        world.login()
    assert [session.user for session in taken] == [("https://op.example", "alice")]
    assert world.session() == taken[0]
    assert (world.prompts, world.issued) == (1, 1)
    assert not any(entry.overlapping or entry.replayed for entry in world.op.journal)


@every_form
@pytest.mark.parametrize("path", ["bc-authorize", "token"])
def test_what_was_under_way_is_waited_for(path: str, form: Form) -> None:
    """A request that another process may still be waiting for is not given up before its time is over."""
    world, fuse = World(form, expires_in=600), Fuse()
    with pytest.raises(Killed):
        world.login(fuse=Fuse(POINTS.index(f"before send {path}") + 1))
    before = world.clock.time()
    if path == "token":
        assert world.resume(fuse=fuse).user is not None
    else:
        with pytest.raises(AcknowledgementLost):
            world.resume(fuse=fuse)
    assert fuse.points[:4] == ["before load login", "after load login"] * 2
    polls = [entry.arrived for entry in world.op.journal if entry.endpoint == "token"]
    first = polls[0] if polls else world.clock.time()
    assert first - before >= CLIENT.connect_timeout + CLIENT.timeout


def test_the_wait_does_not_trust_the_clock() -> None:
    """A wall clock that is hours behind makes nobody wait for longer than a request takes."""
    world = World(expires_in=600, require_openid=False)
    # Without an ID Token, whose times would be in the future.
    request = AuthenticationRequest(scope="profile", openid=False, login_hint="alice")
    with pytest.raises(Killed):
        world.login(request=request, fuse=Fuse(POINTS.index("before send token") + 1))
    world.clock.step_wall(-10_000)
    before = world.clock.monotonic()
    world.resume()
    assert world.clock.monotonic() - before < 100


def test_a_login_that_went_on_meanwhile_is_left_alone() -> None:
    """While one waits for what was under way, another process goes on: that one has it."""
    world = World(expires_in=600)
    with pytest.raises(Killed):
        world.login(fuse=Fuse(POINTS.index("before send token") + 1))

    def other() -> None:
        with pytest.raises(Killed):
            world.resume(fuse=Fuse(7))

    world.meanwhile = other
    polls = len(world.op.journal)
    with pytest.raises(StoreConflict):
        world.resume()
    assert len(world.op.journal) == polls


def test_a_login_that_ended_meanwhile_gives_its_outcome() -> None:
    """While one waits for what was under way, another process brings it to its end: the outcome is for both."""
    world = World(expires_in=600)
    with pytest.raises(Killed):
        world.login(fuse=Fuse(POINTS.index("before send token") + 1))
    ended: list[Session] = []
    world.meanwhile = lambda: ended.append(world.resume())
    assert world.resume() == ended[0]
    assert world.issued == 1


def test_a_login_that_was_removed_meanwhile() -> None:
    """What is not there any more cannot be gone on with."""
    world = World(expires_in=600)
    with pytest.raises(Killed):
        world.login(fuse=Fuse(POINTS.index("before send token") + 1))
    world.meanwhile = lambda: world.transactions.remove(KEY)
    with pytest.raises(StoreConflict):
        world.resume()


def test_two_logins_begin_at_once() -> None:
    """Of two processes that begin a login of one key, one gets through; the other has sent nothing."""
    world = World()
    stores = world.stores()
    save = stores.transactions.save

    def save_late(*arguments: Any, **options: Any) -> Any:
        stores.transactions.save = save
        world.login()
        return save(*arguments, **options)

    stores.transactions.save = save_late
    with pytest.raises(StoreConflict):
        world.login("bob", stores=stores)
    assert world.prompts == 1
    session = world.session()
    assert session is not None
    assert session.user == ("https://op.example", "alice")


# Called back


@pytest.mark.parametrize("mode", ["ping", "push"])
def test_a_login_that_waits_for_a_callback_is_gone_on_with(mode: Literal["ping", "push"]) -> None:
    """Killed while it waits, a login is called back in the next process; a push is answered once it is stored."""
    answered: list[tuple[int, bool]] = []

    def deliver(callback: Callback) -> int | None:
        admitted = endpoints[-1].check_head(callback.method, callback.headers)
        assert isinstance(admitted, Admission)
        reply = admitted.submit(callback.body)
        give = reply.give

        def watched(response: HttpResponse) -> None:
            if reply.response is None:
                note(response)
            give(response)

        if reply.response is not None:
            note(reply.response)
            return reply.response.status
        reply.give = watched  # type: ignore[method-assign]
        return None

    def note(response: HttpResponse) -> None:
        sealer = Sealer([SECRET])
        records = LoginRecords(client=client, provider=PROVIDER, sealer=sealer, session_key=KEY)
        answered.append((response.status, records.unseal(stored(world.transactions)).is_finished))

    address = "https://client.example/cb"
    registered = SimulatedClient(
        "s6BhdRkqt3",
        "gX1fBat3bV",
        backchannel_token_delivery_mode=mode,
        backchannel_client_notification_endpoint=address,
    )
    world = World(clients=[registered], deliver=deliver)
    world.op.users["alice"] = Approve(after=17)
    endpoints: list[NotificationEndpoint] = []
    client = evolve(CLIENT, backchannel_token_delivery_mode=mode)

    def process(method: str, *arguments: Any) -> Session:
        endpoints.append(NotificationEndpoint(clock=world.clock))
        http = WatchedProvider(world, Fuse())
        ciba = SyncCiba(PROVIDER, client, http=http, endpoint=endpoints[-1], clock=world.clock)
        session: Session = getattr(ciba, method)(*arguments, stores=world.stores(), session_key=KEY)
        return session

    def kill() -> None:
        raise Killed

    world.meanwhile = kill
    with pytest.raises(Killed):
        process("login_backchannel", asking_for("alice"))
    session = process("resume_pending")
    assert session.user == ("https://op.example", "alice")
    assert (world.prompts, world.issued) == (1, 1)
    assert answered == [(204, mode == "push")]


# One login at a time


@every_form
def test_no_second_prompt_beside_a_login(form: Form) -> None:
    """While a login has not come to its end, none begins beside it, in whatever state it is."""
    for at in range(1, len(POINTS)):
        if expected(POINTS[:at]) is None and "after save login" in POINTS[:at]:
            world = World(form)
            with pytest.raises(Killed):
                world.login(fuse=Fuse(at))
            before = world.op.journal
            with pytest.raises(LoginUnderWay, match="session_key"):
                world.login()
            assert world.op.journal == before


@every_form
def test_after_its_end_another_login_may_begin(form: Form) -> None:
    """Denied, expired, or over in time without anybody looking: the next login takes the place."""
    world = World(form)
    with pytest.raises(AccessDenied):
        world.login("dave")
    with pytest.raises(AuthenticationExpired):
        world.login("carol")
    with pytest.raises(Killed):
        world.login("carol", fuse=Fuse(POINTS.index("before send token") + 1))
    with pytest.raises(LoginUnderWay):
        world.login()
    world.clock.sleep(120)
    assert world.login().user == ("https://op.example", "alice")
    assert world.prompts == 4


@every_form
def test_outcomes_can_be_asked_for_again(form: Form) -> None:
    """A login that ended badly says so again, for a day, without another request."""
    world = World(form)
    with pytest.raises(AccessDenied) as first:
        world.login("dave")
    before = world.op.journal
    with pytest.raises(AccessDenied) as again:
        world.resume()
    assert again.value == first.value
    assert world.op.journal == before
    world.clock.sleep(86_400)
    with pytest.raises(AccessDenied):
        world.resume()
    # The day counts from when the provider itself would have forgotten it.
    world.clock.sleep(120)
    with pytest.raises(NoPendingLogin):
        world.resume()


@every_form
def test_nothing_to_go_on_with(form: Form) -> None:
    """Where nothing was begun there is nothing to resume, and no session."""
    world = World(form)
    with pytest.raises(NoPendingLogin):
        world.resume()
    assert world.session() is None
    assert world.op.journal == ()


def test_a_session_that_is_gone_is_no_outcome() -> None:
    """After the session was removed (a log-out), an earlier login does not bring it back."""
    world = World()
    world.login()
    world.sessions.remove(KEY)
    with pytest.raises(NoPendingLogin, match="not there any more"):
        world.resume()
    assert world.session() is None


def test_a_request_that_does_not_fit_is_not_stored() -> None:
    """What the provider rules out is refused before anything is stored or sent."""
    world = World()
    client = evolve(CLIENT, backchannel_token_delivery_mode="poll")
    request = AuthenticationRequest(scope="openid", login_hint="alice")
    provider = evolve(PROVIDER, backchannel_token_delivery_modes_supported=("ping",))
    ciba = SyncCiba(provider, client, http=WatchedProvider(world, Fuse()), clock=world.clock)
    with pytest.raises(LocalProtocolError, match="delivery_mode"):
        ciba.login_backchannel(request, stores=world.stores(), session_key=KEY)
    assert world.transactions.keys() == []
    assert world.op.journal == ()


def test_faults_of_the_network_are_the_loops_business() -> None:
    """A request that was not sent ends a login as it ends `authenticate`, and can be begun anew."""
    world = World()

    def unreachable(request: HttpRequest) -> HttpResponse:
        world.op.inject("backchannel_authentication", DropBefore())
        return world.op.send(request)

    http = WatchedProvider(world, Fuse())
    http.send = unreachable  # type: ignore[method-assign]
    ciba = SyncCiba(PROVIDER, CLIENT, http=http, clock=world.clock)
    with pytest.raises(CibaError, match="could not be sent"):
        ciba.login_backchannel(asking_for("alice"), stores=world.stores(), session_key=KEY)
    assert world.login().user is not None
    assert world.prompts == 1


def test_cancelled_logins() -> None:
    """A cancelled login is over: it does not come back after a restart."""
    world, cancellation = World(), Cancellation()
    world.meanwhile = cancellation.cancel
    with pytest.raises(AuthenticationCancelled):
        world.login(cancellation=cancellation)
    with pytest.raises(AuthenticationCancelled):
        world.resume()
    assert world.issued == 0


def test_no_second_login_while_a_poll_may_get_its_answer() -> None:
    """A poll that was sent just before expiry is waited for: its tokens are not thrown away for a new prompt."""
    world = World()
    world.op.users["alice"] = Approve(after=118)
    send, started = world.op.send, world.clock.time()
    found: list[str] = []

    def slow(request: Any) -> Any:
        if found or not request.url.endswith("/token") or world.clock.time() - started < 115:
            return send(request)
        VirtualClock.sleep(world.clock, 4)
        response = send(request)
        VirtualClock.sleep(world.clock, 4)
        with pytest.raises(LoginUnderWay):
            world.login()
        found.append("under way")
        return response

    world.op.send = slow  # type: ignore[method-assign]
    assert world.login().user is not None
    assert (found, world.prompts) == (["under way"], 1)


@pytest.mark.parametrize("path", ["/token", "/bc-authorize"])
def test_who_waits_for_another_process_can_be_cancelled(path: str) -> None:
    """It leaves the login as it is: the one that is waited for gets its answer, and goes on."""
    world = World(expires_in=600)
    send = world.op.send
    cancelled: list[bool] = []

    def watched(request: Any) -> Any:
        response = send(request)
        if request.url.endswith(path) and not cancelled:
            cancelled.append(True)
            cancellation = Cancellation()
            cancellation.cancel()
            with pytest.raises(AuthenticationCancelled):
                world.resume(cancellation=cancellation)
        return response

    world.op.send = watched  # type: ignore[method-assign]
    assert world.login().user is not None
    assert (cancelled, world.prompts) == ([True], 1)


def test_an_async_login_that_is_cancelled_can_be_resumed() -> None:
    """Where a task is cancelled, the login stays as it is and waits for the next one."""
    world = World("async")

    async def main() -> None:
        ciba = AsyncCiba(PROVIDER, CLIENT, http=WatchedProvider(world, Fuse()), clock=world.clock)
        with anyio.CancelScope() as scope:
            world.meanwhile = scope.cancel
            await ciba.login_backchannel(asking_for("alice"), stores=world.stores(), session_key=KEY)
        assert scope.cancelled_caught

    anyio.run(main)
    assert world.resume().user == ("https://op.example", "alice")
    assert world.prompts == 1


@every_form
def test_a_login_that_fails_lets_go_of_its_callbacks(form: Form) -> None:
    """When a store stops a login half-way, its callbacks are let go there and then, not when it is collected."""
    address = "https://client.example/cb"
    registered = SimulatedClient(
        "s6BhdRkqt3",
        "gX1fBat3bV",
        backchannel_token_delivery_mode="ping",
        backchannel_client_notification_endpoint=address,
    )

    def refuse(_callback: Callback) -> int:
        return 503

    world = World(form, clients=[registered], deliver=refuse)
    held: list[Held] = []

    class Endpoint(NotificationEndpoint):
        def hold(self, *arguments: Any, **options: Any) -> Held:
            held.append(super().hold(*arguments, **options))
            return held[-1]

    client = evolve(CLIENT, backchannel_token_delivery_mode="ping")
    http, stores, endpoint = WatchedProvider(world, Fuse()), world.stores(), Endpoint(clock=world.clock)
    world.meanwhile = lambda: world.transactions.remove(KEY)

    async def main() -> None:
        ciba = AsyncCiba(PROVIDER, client, http=http, endpoint=endpoint, clock=world.clock)
        await ciba.login_backchannel(asking_for("carol"), stores=stores, session_key=KEY)

    def log_in() -> None:
        if form == "async":
            anyio.run(main)
        else:
            ciba = SyncCiba(PROVIDER, client, http=http, endpoint=endpoint, clock=world.clock)
            ciba.login_backchannel(asking_for("carol"), stores=stores, session_key=KEY)

    with pytest.raises(StoreConflict) as caught:
        log_in()
    assert [each.is_closed for each in held] == [True]
    assert caught.value.__traceback__ is not None


def test_async_clients_take_stores_that_are_not_awaited() -> None:
    """Stores of either kind serve async clients."""
    world = World("async")
    stores = memory_stores(time=world.clock.time)
    session = world.login(stores=stores)
    assert world.session(stores=stores) == session


# What was granted


@every_form
def test_what_was_granted_can_be_insisted_on(form: Form) -> None:
    """CIBA-10.1: less than was asked for is a difference to see, or an error; its tokens are not lost."""
    world = World(form)
    world.narrowed = True
    with pytest.raises(GrantDiffers) as caught:
        world.login(as_requested=True)
    assert caught.value.untrusted.reveal_untrusted().scope == "openid"
    assert world.session() is None
    with pytest.raises(GrantDiffers):
        world.resume(as_requested=True)
    with pytest.raises(LoginUnderWay):
        world.login()
    session = world.resume()
    assert session.tokens.differs_in == ("scope",)
    assert world.session() == session
    with pytest.raises(GrantDiffers):
        world.resume(as_requested=True)
    assert (world.prompts, world.issued) == (1, 1)


@every_form
def test_what_was_granted_as_requested(form: Form) -> None:
    """Who insists on what was asked for, and gets it, has a session."""
    assert World(form).login(as_requested=True).tokens.differs_in == ()


# Whose session it is


@every_form
def test_tokens_of_another_user_replace_no_session(form: Form) -> None:
    """A session of user A is neither overwritten by nor merged with tokens of user B; nothing is lost."""
    world = World(form)
    session = world.login()
    before = stored(world.sessions)
    with pytest.raises(SessionOfAnotherUser) as caught:
        world.login("bob")
    assert "alice" not in str(caught.value)
    assert "bob" not in str(caught.value)
    assert stored(world.sessions) == before
    assert world.session() == session
    # The tokens stay with the login, and no second prompt is needed for them.
    with pytest.raises(SessionOfAnotherUser):
        world.resume()
    world.sessions.remove(KEY)
    assert world.resume().user == ("https://op.example", "bob")
    assert (world.prompts, world.issued) == (2, 2)


def test_tokens_of_the_same_user_replace_the_session() -> None:
    """A second login of the same user brings a new session, with nothing left of the old one."""
    world = World()
    first, second = world.login(), world.login()
    assert second.user == first.user
    assert second.login != first.login
    assert second.tokens.access_token != first.tokens.access_token
    assert world.session() == second


@pytest.mark.parametrize("openid_first", [True, False])
def test_sessions_without_id_token_are_not_replaced(openid_first: bool) -> None:
    """Without an ID Token nobody can tell whose tokens they are, so that they replace nothing."""
    world = World(require_openid=False)
    plain = AuthenticationRequest(scope="profile", openid=False, login_hint="alice")
    first = world.login() if openid_first else world.login(request=plain)
    assert (first.user is None) is not openid_first
    with pytest.raises(SessionOfAnotherUser):
        world.login(request=plain)
    assert world.session() == first


@every_form
def test_a_session_is_renewed(form: Form) -> None:
    """Refreshed tokens take the place of the old ones, unless somebody else was quicker."""
    world = World(form)
    session = world.login()
    tokens = evolve(session.tokens, access_token=Secret("refreshed"))
    renewed: Session = world.process("renew_session", session, tokens)
    assert world.session() == renewed == Session(tokens, session.login)
    again: Session = world.process("renew_session", renewed, session.tokens)
    with pytest.raises(StoreConflict):
        world.process("renew_session", renewed, tokens)
    assert world.session() == again == session
    world.sessions.remove(KEY)
    with pytest.raises(StoreConflict):
        world.process("renew_session", again, tokens)
    assert world.session() is None


def test_a_session_that_was_renewed_stays() -> None:
    """A process killed between session and login is gone on with, and what happened to the session stays."""
    world = World()
    with pytest.raises(Killed):
        world.login(fuse=Fuse(POINTS.index("after save session") + 1))
    session = world.session()
    assert session is not None
    renewed = world.process(
        "renew_session", session, evolve(session.tokens, access_token=Secret("refreshed"))
    )
    assert renewed != session
    assert world.resume() == renewed
    assert world.resume() == renewed
    assert world.session() == renewed


def test_a_session_that_changes_at_the_same_time() -> None:
    """Who changed the session first is not overwritten; the login's tokens are not lost either."""
    world = World()
    world.login()
    stores = world.stores()
    save = stores.sessions.save

    def save_late(*arguments: Any, **options: Any) -> Any:
        record = stored(world.sessions)
        world.sessions.save(KEY, record.text, expected_revision=record.revision)
        return save(*arguments, **options)

    stores.sessions.save = save_late
    with pytest.raises(StoreConflict):
        world.login(stores=stores)
    assert world.resume().user == ("https://op.example", "alice")
    assert world.prompts == 2


# Bad stores


def forge(store: MemoryStore, text: str) -> None:
    store.save(KEY, text, expected_revision=stored(store).revision)


@every_form
@pytest.mark.parametrize("method", ["login", "resume"])
def test_an_altered_login_is_not_used(method: str, form: Form) -> None:
    """A login that was altered stops everything: nothing is sent, nothing is overwritten."""
    world = World(form)
    with pytest.raises(AccessDenied):
        world.login("dave")
    text = stored(world.transactions).text
    forge(world.transactions, text[:-1] + ("A" if text[-1] != "A" else "Q"))
    before, journal = stored(world.transactions), world.op.journal
    with pytest.raises(StoredContentAltered):
        getattr(world, method)()
    assert stored(world.transactions) == before
    assert world.op.journal == journal


def test_records_cannot_be_swapped() -> None:
    """A record of another key, or of the other store, is not taken, though it is genuine."""
    world = World()
    world.login()
    world.login("bob", session_key="session-2")
    for store, other in (
        (world.sessions, world.sessions.load("session-2")),
        (world.sessions, stored(world.transactions)),
    ):
        assert other is not None
        kept = stored(store).text
        forge(store, other.text)
        with pytest.raises(StoredContentAltered):
            world.session()
        forge(store, kept)
    assert world.session() is not None


def test_an_altered_session_is_not_overwritten() -> None:
    """A login whose session store is broken keeps its tokens until that is mended."""
    world = World()
    world.login()
    forge(world.sessions, "x")
    with pytest.raises(StoredContentAltered):
        world.login()
    assert stored(world.sessions).text == "x"
    world.sessions.remove(KEY)
    assert world.resume().user == ("https://op.example", "alice")
    assert world.prompts == 2


@every_form
def test_secrets_are_rotated(form: Form) -> None:
    """The first secret encrypts and all decrypt; without the old one, old records cannot be read."""
    world, new = World(form), "another secret of at least 32 octets"
    with pytest.raises(Killed):
        world.login(fuse=Fuse(POINTS.index("before send token") + 1))
    with pytest.raises(UnknownStoreSecret):
        world.resume(secrets=[new])
    assert world.resume(secrets=[new, SECRET]).user is not None
    with pytest.raises(UnknownStoreSecret):
        world.session(secrets=[SECRET])
    assert world.session(secrets=[new]) is not None


@pytest.mark.parametrize("key", ["", "a\nb", "\ud800"])
def test_session_keys(key: str) -> None:
    """A session key is text that every store can have for a key."""
    with pytest.raises(ValueError, match="session_key"):
        World().login(session_key=key)
