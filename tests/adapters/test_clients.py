"""The clients that people use, over loopback: what they return and raise, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import anyio
import anyio.lowlevel
import pytest
import trio
from attrs import evolve

from ciba_adapters._pace import NAP
from ciba_adapters.client import AsyncClient, Cancellation, SyncClient
from ciba_core import (
    AuthenticationRequest,
    ClientConfig,
    ClientSecretBasic,
    PollingPolicy,
    ProviderMetadata,
    Step,
    TokenResponse,
    Transaction,
)
from ciba_core.errors import (
    AccessDenied,
    AcknowledgementLost,
    AuthenticationCancelled,
    AuthenticationExpired,
    CibaError,
    LocalProtocolError,
    ProviderUnavailable,
    RemoteProtocolError,
    TransportError,
    UnknownUserId,
)
from ciba_core.events import (
    AuthenticationRequestSent,
    AuthorizationPending,
    AuthReqIdIssued,
    CancelRequested,
    PollSent,
    TokensIssued,
    UserDenied,
)
from ciba_core.states import Authenticated, Pending
from ciba_core.testing import (
    Answer,
    Approve,
    Deny,
    DropAfter,
    Ignore,
    LoopbackServer,
    NoReply,
    Reply,
    SimulatedClient,
    SimulatedProvider,
    User,
    VirtualClock,
)

from .clients import ADAPTERS, ASYNC, SYNC, Adapter, AsyncAdapter, SyncAdapter
from .server import PATIENCE, Peer, Server, response

CLIENT: Final = ClientConfig("s6BhdRkqt3", ClientSecretBasic("gX1fBat3bV"))
EAGER: Final = evolve(CLIENT, polling=PollingPolicy(first_poll_after=0))
PATIENT: Final = evolve(CLIENT, polling=PollingPolicy(first_poll_after=100))
# Without `openid`, whose keys would be one request more; one test below has it.
REQUEST: Final = AuthenticationRequest(scope="profile", openid=False, login_hint="alice")


class World:
    """A simulated provider behind a port, its clock, and the paths that were asked for."""

    def __init__(self, server: LoopbackServer) -> None:
        self.clock = VirtualClock()
        self.server = server
        self.issuer = server.url
        self.arrived: list[str] = []
        self.before: Callable[[str], Reply | None] = lambda _path: None
        self.users: dict[str, User] = {
            "alice": Approve(after_polls=1),
            "bob": Deny(),
            "carol": Ignore(),
            "dora": Approve(),
        }
        self.op = SimulatedProvider(
            self.clock,
            issuer=self.issuer,
            clients=[SimulatedClient("s6BhdRkqt3", "gX1fBat3bV")],
            users=self.users,
            require_openid=False,
        )
        self.provider = ProviderMetadata(
            issuer=self.issuer,
            token_endpoint=f"{self.issuer}/token",
            backchannel_authentication_endpoint=f"{self.issuer}/bc-authorize",
            jwks_uri=f"{self.issuer}/jwks",
            backchannel_user_code_parameter_supported=False,
            allow_loopback_http=True,
        )
        server.handler = self.handle

    def handle(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> Reply | NoReply:
        self.arrived.append(target)
        return self.before(target) or self.op.handle(method, target, headers, body)

    def call(self, adapter: Adapter, use: Callable[[Any], Any], *, client: ClientConfig = CLIENT) -> Any:
        """Do something with a client that lives in virtual time."""
        return adapter.call(use, self.provider, client, self.clock)

    def fetch(self, adapter: Adapter, name: str, issuer: str | None = None, **options: Any) -> Any:
        """Call a class method that fetches metadata."""
        fetch = getattr(adapter.adapter, name)
        return adapter.with_session(
            lambda http: fetch(issuer or self.issuer, CLIENT, http=http, allow_loopback_http=True, **options)
        )


@pytest.fixture
def world() -> Iterator[World]:
    with LoopbackServer() as server:
        yield World(server)


every_adapter: Final = pytest.mark.parametrize("adapter", ADAPTERS, ids=repr)
every_sync_adapter: Final = pytest.mark.parametrize("adapter", SYNC, ids=repr)
every_async_adapter: Final = pytest.mark.parametrize("adapter", ASYNC, ids=repr)


def asking_for(user: str) -> AuthenticationRequest:
    return AuthenticationRequest(scope="profile", openid=False, login_hint=user)


# Metadata


@every_adapter
def test_discover(adapter: Adapter, world: World) -> None:
    """`discover` returns a client that works, made of what the provider publishes (DISC-01)."""
    ciba = world.fetch(adapter, "discover", clock=world.clock)
    assert world.arrived == ["/.well-known/openid-configuration"]
    assert ciba.provider.token_endpoint == world.provider.token_endpoint
    assert ciba.provider.backchannel_token_delivery_modes_supported == ("poll",)
    assert ciba.client is CLIENT


@every_adapter
def test_discover_at_the_other_place(adapter: Adapter, world: World) -> None:
    """A provider that is an OAuth server only is found at the place of RFC 8414, whole document included."""
    world.before = lambda path: Reply(404) if "openid-configuration" in path else None
    document = world.fetch(adapter, "fetch_metadata")
    assert world.arrived == [
        "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
    ]
    assert document.members["subject_types_supported"] == ("public",)
    assert document.provider().issuer == world.issuer


def document(**members: object) -> Callable[[str], Reply]:
    body = json.dumps(members).encode()
    return lambda _path: Reply(200, (("Content-Type", "application/json"),), body)


@every_adapter
def test_wrong_issuer(adapter: Adapter, world: World) -> None:
    """A document that names another issuer is refused."""
    world.before = document(issuer="https://evil.example", token_endpoint="https://evil.example/token")
    with pytest.raises(
        RemoteProtocolError, match=r"issuer in the document, 'https://evil\.example', is not the one"
    ):
        world.fetch(adapter, "discover")


@every_adapter
def test_provider_without_ciba(adapter: Adapter, world: World) -> None:
    """A provider that has no backchannel authentication endpoint is refused, by the name of what lacks."""
    world.before = document(issuer=world.issuer, token_endpoint=f"{world.issuer}/token")
    with pytest.raises(RemoteProtocolError, match="backchannel_authentication_endpoint is missing"):
        world.fetch(adapter, "discover")


@every_adapter
def test_no_metadata_anywhere(adapter: Adapter, world: World) -> None:
    """Where there is no document at all, each place is named, and what came."""
    world.before = lambda _path: Reply(404)
    each = r"openid-configuration: status 404; \S+oauth-authorization-server: status 404"
    with pytest.raises(RemoteProtocolError, match=each):
        world.fetch(adapter, "discover")
    assert len(world.arrived) == 2


@every_adapter
def test_metadata_not_available(adapter: Adapter, world: World) -> None:
    """A provider that is busy, or not there, is a `TransportError`: to be tried again later."""
    world.before = lambda _path: Reply(503)
    with pytest.raises(ProviderUnavailable):
        world.fetch(adapter, "discover")
    world.server.close()
    with pytest.raises(TransportError, match="the provider's metadata could not be fetched") as caught:
        world.fetch(adapter, "discover")
    assert caught.value.reason


@every_adapter
def test_issuer_must_use_https(adapter: Adapter) -> None:
    """Nothing is fetched over plain HTTP unless it was allowed."""
    with pytest.raises(LocalProtocolError, match="issuer must use https"):
        adapter.with_session(lambda http: adapter.adapter.discover("http://127.0.0.1:1", CLIENT, http=http))


# How it goes


@every_adapter
def test_authenticate(adapter: Adapter, world: World) -> None:
    """The user approves, and the tokens come back."""
    tokens: TokenResponse = world.call(adapter, lambda ciba: ciba.authenticate(REQUEST))
    assert tokens.id_token_claims is None
    assert tokens.expires_at == world.clock.time() + 3600
    assert world.arrived == ["/bc-authorize", "/token", "/token"]


@every_adapter
def test_authenticate_with_openid(adapter: Adapter, world: World) -> None:
    """JWKS-01, IDT-07: the keys are fetched when tokens have come, and the claims are validated ones."""
    request = AuthenticationRequest(scope="openid", login_hint="alice")
    tokens: TokenResponse = world.call(adapter, lambda ciba: ciba.authenticate(request))
    assert tokens.id_token_claims is not None
    assert tokens.id_token_claims["sub"] == "alice"
    assert world.arrived == ["/bc-authorize", "/token", "/token", "/jwks"]


@every_adapter
@pytest.mark.parametrize(("user", "end"), [("dora", TokensIssued), ("bob", UserDenied)])
def test_run(adapter: Adapter, world: World, user: str, end: type) -> None:
    """`run` tells all that happens, to the last; outcomes are events there, not exceptions."""
    events: list[object] = []

    def use(ciba: Any) -> Any:
        return adapter.each(ciba.run(asking_for(user)), events.append)

    world.call(adapter, use)
    assert [type(event) for event in events] == [
        AuthenticationRequestSent,
        AuthReqIdIssued,
        PollSent,
        end,
    ]


@every_adapter
def test_steps_come_before_they_are_acted_on(adapter: Adapter, world: World) -> None:
    """At each step nothing of it has been done yet, so that storing it then loses nothing."""
    steps: list[Step] = []
    sent = 0

    def look(current: Step) -> None:
        nonlocal sent
        steps.append(current)
        assert len(world.arrived) == sent
        sent += current.request is not None
        deadline = current.transaction.deadline
        if isinstance(current.transaction.state, Pending):
            assert deadline is not None
            assert deadline > world.clock.time()

    world.call(adapter, lambda ciba: adapter.each(ciba.steps(REQUEST), look))
    assert [type(event) for current in steps for event in current.events] == [
        AuthenticationRequestSent,
        AuthReqIdIssued,
        PollSent,
        AuthorizationPending,
        PollSent,
        TokensIssued,
    ]
    assert isinstance(steps[-1].transaction.state, Authenticated)


@every_adapter
def test_initiate_and_resume(adapter: Adapter, world: World) -> None:
    """What one client began another one finishes, from the stored text alone."""
    pending: Transaction = world.call(adapter, lambda ciba: ciba.initiate(REQUEST))
    assert isinstance(pending.state, Pending)
    assert world.arrived == ["/bc-authorize"]
    text = pending.to_json()
    tokens = world.call(adapter, lambda ciba: ciba.resume(ciba.transaction_from_json(text)))
    assert isinstance(tokens, TokenResponse)
    public, secrets = pending.to_json_parts()
    restored = world.call(adapter, lambda ciba: ciba.transaction_from_json(public, secrets=secrets))
    assert restored == pending


@every_adapter
def test_resume_at_any_step(adapter: Adapter, world: World) -> None:
    """From any step that was stored it goes on as it should; a lost acknowledgement is not asked for again."""
    stored: list[str] = []
    world.call(
        adapter,
        lambda ciba: adapter.each(ciba.steps(REQUEST), lambda now: stored.append(now.transaction.to_json())),
    )
    world.op.inject("token", Answer(400, b'{"error":"access_denied"}'), times=9)

    def resume(text: str) -> Any:
        return world.call(adapter, lambda ciba: ciba.resume(ciba.transaction_from_json(text)))

    awaiting, *unfinished, finished = stored
    asked = world.arrived.count("/bc-authorize")
    with pytest.raises(AcknowledgementLost):
        resume(awaiting)
    for text in unfinished:
        with pytest.raises(AccessDenied):
            resume(text)
    assert world.arrived.count("/bc-authorize") == asked
    sent = len(world.arrived)
    assert isinstance(resume(finished), TokenResponse)
    assert len(world.arrived) == sent


@every_adapter
def test_resume_what_has_not_begun(adapter: Adapter, world: World) -> None:
    """There is nothing to resume in a new transaction."""
    new = Transaction(client=CLIENT, provider=world.provider)
    with pytest.raises(LocalProtocolError):
        world.call(adapter, lambda ciba: ciba.resume(new))
    assert not world.arrived


# How it ends otherwise


@every_adapter
@pytest.mark.parametrize(
    ("user", "error"), [("bob", AccessDenied), ("carol", AuthenticationExpired), ("nobody", UnknownUserId)]
)
def test_outcomes_are_raised(adapter: Adapter, world: World, user: str, error: type[CibaError]) -> None:
    """Every other end is the exception of its kind."""
    with pytest.raises(error):
        world.call(adapter, lambda ciba: ciba.authenticate(asking_for(user)))


@every_adapter
def test_initiate_raises(adapter: Adapter, world: World) -> None:
    """`initiate` raises what keeps the transaction from being pending."""
    with pytest.raises(UnknownUserId):
        world.call(adapter, lambda ciba: ciba.initiate(asking_for("nobody")))
    world.op.inject("backchannel_authentication", DropAfter())
    with pytest.raises(AcknowledgementLost):
        world.call(adapter, lambda ciba: ciba.initiate(REQUEST))


@every_adapter
def test_raised_errors_are_copies(adapter: Adapter, world: World) -> None:
    """The value in the state is never raised itself, so that no traceback gathers in it."""
    steps: list[Step] = []
    world.call(adapter, lambda ciba: adapter.each(ciba.steps(asking_for("bob")), steps.append))
    ended = steps[-1].transaction
    raised: list[AccessDenied] = []
    for _ in range(2):
        with pytest.raises(AccessDenied) as caught:
            world.call(adapter, lambda ciba: ciba.resume(ended))
        raised.append(caught.value)
    first, second = raised
    assert first == second == ended.error
    assert first is not second
    assert first is not ended.error
    assert ended.error is not None
    assert ended.error.__traceback__ is None
    assert len(traceback.extract_tb(first.__traceback__)) == len(traceback.extract_tb(second.__traceback__))
    assert second.__context__ is None


@every_adapter
@pytest.mark.parametrize("name", ["authenticate", "initiate", "run", "steps"])
def test_nothing_is_sent_that_cannot_be_right(adapter: Adapter, world: World, name: str) -> None:
    """A request that the provider's metadata rule out is refused before anything is sent (CIBA-7.1.2-01)."""
    request = AuthenticationRequest(scope="profile", openid=False, login_hint="alice", user_code="1234")

    def use(ciba: Any) -> Any:
        result = getattr(ciba, name)(request)
        return adapter.each(result, print) if name in {"run", "steps"} else result

    with pytest.raises(LocalProtocolError, match="user_code"):
        world.call(adapter, use)
    assert not world.arrived


# Many at once


@every_sync_adapter
def test_threads_share_a_client(adapter: SyncAdapter[Any], world: World) -> None:
    """Calls from several threads on one client do not disturb each other."""
    results: list[TokenResponse] = []

    def use(ciba: SyncClient[Any]) -> None:
        threads = [
            threading.Thread(target=lambda: results.append(ciba.authenticate(REQUEST))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)

    world.op = long_lived(world)
    world.call(adapter, use)
    assert_distinct(world, results, 8)


@every_async_adapter
def test_tasks_share_a_client(adapter: AsyncAdapter[Any], world: World) -> None:
    """Calls from many tasks on one client do not disturb each other."""
    results: list[TokenResponse] = []

    async def use(ciba: AsyncClient[Any]) -> None:
        async def one() -> None:
            results.append(await ciba.authenticate(REQUEST))

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(one)

    world.op = long_lived(world)
    world.call(adapter, use)
    assert_distinct(world, results, 20)


def long_lived(world: World) -> SimulatedProvider:
    """The clock is everybody's: when one waits, time passes for all."""
    return SimulatedProvider(
        world.clock,
        issuer=world.issuer,
        clients=[SimulatedClient("s6BhdRkqt3", "gX1fBat3bV")],
        users=world.users,
        require_openid=False,
        expires_in=10_000,
    )


def assert_distinct(world: World, results: list[TokenResponse], number: int) -> None:
    assert len({tokens.access_token for tokens in results}) == number
    assert not any(entry.overlapping for entry in world.op.journal)


# Breaking off


@every_adapter
@pytest.mark.parametrize("name", ["run", "steps"])
@pytest.mark.parametrize("sent", [0, 1, 2])
def test_breaking_off(adapter: Adapter, world: World, name: str, sent: int) -> None:
    """Whoever stops iterating leaves nothing behind: no request, no warning, no open connection."""

    def use(ciba: Any) -> Any:
        iterator = getattr(ciba, name)(REQUEST)
        if isinstance(adapter, AsyncAdapter):
            return break_off(iterator)
        for _ in iterator:
            if len(world.arrived) == sent:
                break
        return None

    async def break_off(iterator: Any) -> None:
        async with contextlib.aclosing(iterator):
            async for _ in iterator:
                if len(world.arrived) == sent:
                    break

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        world.call(adapter, use)
        gc.collect()
    assert len(world.arrived) == sent


# Cancelling, by another thread


class Watched(Cancellation):
    """Tells when a wait begins."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Event()

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        assert seconds == NAP
        self.waiting.set()
        super().wait(seconds, until)


def request_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ciba request"]


@every_sync_adapter
def test_cancel_while_waiting(adapter: SyncAdapter[Any], world: World) -> None:
    """A wait in real time ends as soon as another thread cancels; nothing more is sent."""
    cancellation = Watched()

    def cancel() -> None:
        assert cancellation.waiting.wait(PATIENCE)
        cancellation.cancel()

    other = threading.Thread(target=cancel)
    other.start()
    events: list[object] = []
    adapter.call(
        lambda ciba: events.extend(ciba.run(REQUEST, cancellation=cancellation)), world.provider, PATIENT
    )
    other.join()
    assert [type(event) for event in events] == [AuthenticationRequestSent, AuthReqIdIssued, CancelRequested]
    assert world.arrived == ["/bc-authorize"]


@every_sync_adapter
@pytest.mark.parametrize("path", ["/bc-authorize", "/token"])
def test_cancel_while_a_request_is_under_way(adapter: SyncAdapter[Any], world: World, path: str) -> None:
    """The call returns at once, and its thread does not wait for the server."""
    cancellation, let_go = Cancellation(), threading.Event()

    def cancel(asked: str) -> None:
        if asked == path:
            cancellation.cancel()
            assert let_go.wait(PATIENCE)

    world.before = cancel
    events: list[object] = []

    def use(ciba: SyncClient[Any]) -> None:
        events.extend(ciba.run(REQUEST, cancellation=cancellation))
        for thread in request_threads():
            thread.join(PATIENCE)
        assert not request_threads()
        let_go.set()

    world.call(adapter, use)
    assert type(events[-1]) is CancelRequested
    assert world.arrived[-1] == path


@every_sync_adapter
@pytest.mark.parametrize("name", ["authenticate", "initiate"])
def test_cancelled_before_it_begins(adapter: SyncAdapter[Any], world: World, name: str) -> None:
    """A call that was cancelled before sends nothing: nobody is asked."""
    cancellation = Cancellation()
    cancellation.cancel()
    assert cancellation.cancelled

    def use(ciba: SyncClient[Any]) -> None:
        with pytest.raises(AuthenticationCancelled):
            getattr(ciba, name)(REQUEST, cancellation=cancellation)
        for thread in request_threads():
            thread.join(PATIENCE)

    world.call(adapter, use)
    assert not world.arrived


@every_sync_adapter
def test_cancellation_that_is_not_used(adapter: SyncAdapter[Any], world: World) -> None:
    """With a cancellation at hand all goes as without, faults included."""
    cancellation = Cancellation()
    world.op.inject("token", DropAfter())
    pending = world.call(adapter, lambda ciba: ciba.initiate(REQUEST, cancellation=cancellation))
    tokens = world.call(adapter, lambda ciba: ciba.resume(pending, cancellation=cancellation))
    assert isinstance(tokens, TokenResponse)
    assert not request_threads()


def test_bugs_of_a_transport_are_not_swallowed(world: World) -> None:
    """What is no fault of the network comes out as it is, from the other thread too."""

    class Broken(SyncClient[Any]):
        @staticmethod
        def make_transport(http: Any) -> Any:
            return None

    for cancellation in None, Cancellation():
        ciba = Broken(world.provider, CLIENT, http=None)
        with pytest.raises(AttributeError):
            ciba.authenticate(REQUEST, cancellation=cancellation)


# Cancelling, by the event loop


def acknowledging(peer: Peer) -> None:
    """Acknowledge one authentication request, and leave what follows without an answer."""
    peer.request()
    peer.send(response(b'{"auth_req_id":"1c266114","expires_in":600}', "Content-Type: application/json"))
    with contextlib.suppress(EOFError):
        peer.request()
    peer.until_closed()


@every_async_adapter
@pytest.mark.parametrize("client", [PATIENT, EAGER], ids=["waiting", "under way"])
def test_cancel_a_task(adapter: AsyncAdapter[Any], client: ClientConfig) -> None:
    """Cancelling ends a wait, or a request under way, at once; the server sees the connection end."""
    with Server(acknowledging) as server:
        provider = ProviderMetadata(
            issuer=server.url(""),
            token_endpoint=server.url("/token"),
            backchannel_authentication_endpoint=server.url("/bc-authorize"),
            jwks_uri=server.url("/jwks"),
            allow_loopback_http=True,
        )
        expected = 1 if client is PATIENT else 2

        async def use(ciba: AsyncClient[Any]) -> None:
            acknowledged = anyio.Event()
            ended: list[BaseException] = []

            async def consume() -> None:
                try:
                    async for current in ciba.steps(REQUEST):
                        if isinstance(current.transaction.state, Pending):
                            acknowledged.set()
                except BaseException as error:
                    ended.append(error)
                    raise

            async with anyio.create_task_group() as group:
                group.start_soon(consume)
                await acknowledged.wait()
                while len(server.requests) < expected:
                    await anyio.lowlevel.checkpoint()
                for _ in range(10):
                    await anyio.lowlevel.checkpoint()
                assert not ended
                group.cancel_scope.cancel()
            [error] = ended
            cancelled = asyncio.CancelledError if adapter.backend == "asyncio" else trio.Cancelled
            assert isinstance(error, cancelled)
            if client is EAGER:
                gone = server.connections[0].gone
                assert await anyio.to_thread.run_sync(gone.wait, PATIENCE)

        begun = time.monotonic()
        adapter.call(use, provider, client)
        assert time.monotonic() - begun < PATIENCE
    assert server.connections[0].gone.is_set()
    assert len(server.requests) == expected


@every_adapter
def test_waits_in_real_time(adapter: Adapter, world: World) -> None:
    """Without a virtual clock a client waits by real time, of which this takes a millisecond."""
    soon = evolve(CLIENT, polling=PollingPolicy(first_poll_after=0.001))
    tokens = adapter.call(lambda ciba: ciba.authenticate(asking_for("dora")), world.provider, soon)
    assert isinstance(tokens, TokenResponse)
