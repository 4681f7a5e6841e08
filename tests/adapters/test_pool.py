"""Many authentications in one pool, over every stack and in virtual time."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from itertools import pairwise
from typing import Any, Final

import aiohttp
import anyio
import anyio.lowlevel
import httpx
import httpx2
import pytest
import requests
import requests.adapters
from attrs import evolve

import ciba_adapters.aiohttp
import ciba_adapters.httpx
import ciba_adapters.httpx2
import ciba_adapters.requests
import ciba_adapters.trio
from ciba_adapters.client import Cancellation, ProviderKnowledge
from ciba_adapters.notification import NotificationEndpoint
from ciba_adapters.pool import AsyncPool, Pool, PoolClosed, PoolRest
from ciba_core import (
    AuthenticationRequest,
    ClientConfig,
    ClientSecretBasic,
    PollingPolicy,
    PrivateKeyJwt,
    ProviderLimits,
    ProviderMetadata,
    RemoteSigner,
)
from ciba_core.errors import (
    AccessDenied,
    AuthenticationCancelled,
    AuthenticationExpired,
    InvalidClient,
    LocalProtocolError,
    ProviderUnavailable,
)
from ciba_core.testing import (
    Approve,
    Callback,
    Deny,
    Ignore,
    LoopbackServer,
    SimulatedClient,
    SimulatedProvider,
    VirtualClock,
)
from ciba_core.values.http import HttpRequest, HttpResponse

from .clients import ADAPTERS, ASYNC, SYNC, Adapter, AsyncAdapter, SyncAdapter
from .inprocess import PROVIDER, AsyncCiba, SyncCiba

CLIENT: Final = ClientConfig("s6BhdRkqt3", ClientSecretBasic("gX1fBat3bV"))
EAGER: Final = evolve(CLIENT, polling=PollingPolicy(first_poll_after=0))
OTHER: Final = ClientConfig("other", ClientSecretBasic("7Fjfp0ZBr1Kt"))
QUICK: Final = ProviderLimits(rate=10_000, burst=10_000)
TEN: Final = 10


def ten_of_requests() -> requests.Session:
    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=TEN, pool_block=True))
    return session


def ten_of_aiohttp() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=TEN))


_httpx = partial(httpx.AsyncClient, limits=httpx.Limits(max_connections=TEN), verify=False)
_httpx2 = partial(httpx2.AsyncClient, limits=httpx2.Limits(max_connections=TEN), verify=False)
SMALL: Final[list[Adapter]] = [
    SyncAdapter("requests", ciba_adapters.requests.CibaClient, ten_of_requests),
    SyncAdapter(
        "httpx",
        ciba_adapters.httpx.CibaClient,
        partial(httpx.Client, limits=httpx.Limits(max_connections=TEN), verify=False),
    ),
    SyncAdapter(
        "httpx2",
        ciba_adapters.httpx2.CibaClient,
        partial(httpx2.Client, limits=httpx2.Limits(max_connections=TEN), verify=False),
    ),
    AsyncAdapter("httpx-asyncio", ciba_adapters.httpx.AsyncCibaClient, _httpx, "asyncio"),
    AsyncAdapter("httpx-trio", ciba_adapters.httpx.AsyncCibaClient, _httpx, "trio"),
    AsyncAdapter("httpx2-asyncio", ciba_adapters.httpx2.AsyncCibaClient, _httpx2, "asyncio"),
    AsyncAdapter("httpx2-trio", ciba_adapters.httpx2.AsyncCibaClient, _httpx2, "trio"),
    AsyncAdapter("aiohttp", ciba_adapters.aiohttp.AsyncCibaClient, ten_of_aiohttp, "asyncio"),
    AsyncAdapter(
        "trio",
        ciba_adapters.trio.AsyncCibaClient,
        partial(ciba_adapters.trio.TrioHttp, max_connections=TEN),
        "trio",
    ),
]
"""Every stack, each with a session that has ten connections."""

every_stack: Final = pytest.mark.parametrize("adapter", ADAPTERS, ids=repr)
one_of_each: Final = pytest.mark.parametrize("adapter", [SYNC[0], ASYNC[4], ASYNC[5]], ids=repr)


class Awaitables:
    """Something sync with methods to be awaited, so that one test does for both pools."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any, **options: Any) -> Any:
            result = getattr(self.inner, name)(*arguments, **options)
            return Awaitables(result) if name in {"start", "resume"} else result

        return call


def finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits for something")


class World:
    """A simulated provider behind a port, in virtual time, whose callbacks go to an endpoint."""

    mode = "poll"

    def __init__(self, server: LoopbackServer, mode: Any = "poll") -> None:
        self.clock = VirtualClock()
        self.endpoint = NotificationEndpoint(clock=self.clock)
        self.op = SimulatedProvider(
            self.clock,
            issuer=server.url,
            clients=[
                SimulatedClient(
                    "s6BhdRkqt3",
                    "gX1fBat3bV",
                    backchannel_token_delivery_mode=mode,
                    backchannel_client_notification_endpoint=None
                    if mode == "poll"
                    else "https://client.example/cb",
                ),
                SimulatedClient("other", "7Fjfp0ZBr1Kt"),
            ],
            users={
                "alice": Approve(after=7),
                "bob": Deny(after=7),
                "carol": Ignore(),
                "dora": Approve(),
                **{f"user{number}": Approve(after=7) for number in range(500)},
            },
            deliver=self.deliver,
        )
        self.provider = ProviderMetadata(
            issuer=server.url,
            token_endpoint=f"{server.url}/token",
            backchannel_authentication_endpoint=f"{server.url}/bc-authorize",
            jwks_uri=f"{server.url}/jwks",
            allow_loopback_http=True,
        )
        server.handler = self.op.handle

    def deliver(self, callback: Callback) -> int | None:
        admitted = self.endpoint.check_head(callback.method, callback.headers)
        reply = admitted if isinstance(admitted, HttpResponse) else admitted.submit(callback.body)
        response = reply if isinstance(reply, HttpResponse) else reply.response
        return None if response is None else response.status

    def count(self, endpoint: str) -> Counter[str]:
        """The outcomes at an endpoint, as the provider has them."""
        return Counter(entry.outcome for entry in self.op.journal if entry.endpoint == endpoint)

    def pooled(
        self,
        adapter: Adapter,
        use: Callable[..., Coroutine[Any, Any, Any]],
        *configurations: ClientConfig,
        **options: Any,
    ) -> Any:
        """Do something with a pool of clients, and return what comes of it and what was left."""

        def make(http: Any) -> list[Any]:
            return [
                adapter.adapter(self.provider, each, http=http, endpoint=self.endpoint, clock=self.clock)
                for each in configurations or [CLIENT]
            ]

        async def asynchronously(http: Any) -> Any:
            clients = make(http)
            async with AsyncPool(*clients, **options) as pool:
                result = await use(pool, *clients)
            return result, pool.rest

        def synchronously(http: Any) -> Any:
            clients = make(http)
            with Pool(*clients, **options) as pool:
                result = finished(use(Awaitables(pool), *clients))
            return result, pool.rest

        return adapter.with_session(synchronously if isinstance(adapter, SyncAdapter) else asynchronously)


@pytest.fixture
def world() -> Iterator[World]:
    with LoopbackServer() as server:
        yield World(server)


def asking(user: str) -> AuthenticationRequest:
    return AuthenticationRequest(scope="openid", login_hint=user)


async def outcome(member: Any) -> Any:
    try:
        return (await member.result()).id_token_claims["sub"]
    except (LocalProtocolError, AccessDenied, AuthenticationCancelled, AuthenticationExpired) as error:
        return type(error)


async def events_of(member: Any) -> list[Any]:
    if isinstance(member, Awaitables):
        return list(member.inner.events())
    return [event async for event in member.events()]


# ---- many


@pytest.mark.parametrize("adapter", SMALL, ids=repr)
def test_a_burst_of_starts_waits_in_line(world: World, adapter: Adapter) -> None:
    """CIBA-7.3-07: of 500 starts at once over ten connections none fails, and no poll is early.

    All of them come to their tokens by one fetch of the key set.
    """

    async def use(pool: Any, _client: Any) -> Any:
        members = [await pool.start(asking(f"user{number}")) for number in range(500)]
        return [await outcome(member) for member in members]

    users, rest = world.pooled(adapter, use, limits=evolve(QUICK, in_flight=16))
    assert users == [f"user{number}" for number in range(500)]
    assert rest == PoolRest()
    assert world.count("backchannel_authentication") == {"acknowledged": 500}
    assert world.count("token").keys() == {"authorization_pending", "tokens"}
    assert world.count("jwks") == {"served": 1}


@every_stack
def test_each_comes_to_its_own_end(world: World, adapter: Adapter) -> None:
    """Whatever becomes of one concerns no other one; the wait for the last is as long as it lives."""

    async def use(pool: Any, _client: Any) -> Any:
        members = [await pool.start(asking(user)) for user in ("alice", "bob", "carol", "dora")]
        return [await outcome(member) for member in members]

    ends, _ = world.pooled(adapter, use)
    assert ends == ["alice", AccessDenied, AuthenticationExpired, "dora"]


@every_stack
def test_authenticate(world: World, adapter: Adapter) -> None:
    """The pool's `authenticate` is the client's."""

    async def use(pool: Any, _client: Any) -> Any:
        return (await pool.authenticate(asking("alice"))).id_token_claims["sub"]

    assert world.pooled(adapter, use)[0] == "alice"


@one_of_each
def test_the_limits_are_kept(world: World, adapter: Adapter) -> None:
    """A rate of two a second is one: twenty requests take at least nine seconds and a half."""

    async def use(pool: Any, _client: Any) -> Any:
        members = [await pool.start(asking(f"user{number}")) for number in range(20)]
        return [await outcome(member) for member in members]

    world.pooled(adapter, use, limits=ProviderLimits(rate=2, burst=1, in_flight=1))
    starts = [entry.arrived for entry in world.op.journal if entry.outcome == "acknowledged"]
    assert max(starts) - min(starts) >= 9.5
    arrived = [entry.arrived for entry in world.op.journal]
    assert all(later - earlier > 0.49 for earlier, later in pairwise(arrived))


@one_of_each
def test_starts_are_held_back(world: World, adapter: Adapter) -> None:
    """`start` returns when one of so many was acknowledged."""
    acknowledged: list[int] = []

    async def use(pool: Any, _client: Any) -> Any:
        members: list[Any] = []
        for number in range(6):
            members.append(await pool.start(asking(f"user{number}")))
            acknowledged.append(number + 1 - world.count("backchannel_authentication")["acknowledged"])
        return [await outcome(member) for member in members]

    world.pooled(adapter, use, start_limit=2)
    assert max(acknowledged) <= 2


@one_of_each
def test_events(world: World, adapter: Adapter) -> None:
    """They come in order and end with the outcome; they are kept only for who asks for them."""

    async def use(pool: Any, _client: Any) -> Any:
        member = await pool.start(asking("alice"), events=True)
        kept = await events_of(member)
        quiet = await pool.start(asking("dora"))
        with pytest.raises(LocalProtocolError, match=r"^events: they were not asked for"):
            await events_of(quiet)
        return [type(event).__name__ for event in kept]

    names, _ = world.pooled(adapter, use)
    assert names[:2] == ["AuthenticationRequestSent", "AuthReqIdIssued"]
    assert names[-1] == "TokensIssued"


@one_of_each
def test_cancel(world: World, adapter: Adapter) -> None:
    """A cancelled one ends as such, the others go on, and cancelling again does nothing."""

    async def use(pool: Any, _client: Any) -> Any:
        members = [await pool.start(asking(user)) for user in ("carol", "alice")]
        inner = getattr(members[0], "inner", members[0])
        inner.cancel()
        inner.cancel()
        ends = [await outcome(member) for member in members]
        inner.cancel()
        return ends

    assert world.pooled(adapter, use)[0] == [AuthenticationCancelled, "alice"]


# ---- several clients


@one_of_each
def test_several_clients(world: World, adapter: Adapter) -> None:
    """Each request is its client's; which one has to be said, and has to be one of the pool."""

    async def use(pool: Any, first: Any, second: Any) -> Any:
        with pytest.raises(LocalProtocolError, match=r"^client: the pool has several"):
            await pool.start(asking("alice"))
        with pytest.raises(LocalProtocolError, match=r"^client: it is not one of this pool's"):
            await pool.start(asking("alice"), client=object())
        members = [await pool.start(asking("alice"), client=each) for each in (first, second)]
        return [await outcome(member) for member in members]

    assert world.pooled(adapter, use, CLIENT, OTHER)[0] == ["alice", "alice"]
    clients = {entry.client_id for entry in world.op.journal if entry.outcome == "acknowledged"}
    assert clients == {"s6BhdRkqt3", "other"}
    assert world.count("jwks") == {"served": 1}


def test_several_providers() -> None:
    """A provider that is asked little does not hold up the other one; each has its own limits and keys."""
    clock = VirtualClock()
    issuers = ["https://quick.example", "https://slow.example"]
    ops = [
        SimulatedProvider(
            clock,
            issuer=issuer,
            clients=[SimulatedClient("s6BhdRkqt3", "gX1fBat3bV")],
            users={"alice": Approve()},
        )
        for issuer in issuers
    ]
    first, second = (
        SyncCiba(
            evolve(
                PROVIDER,
                issuer=issuer,
                token_endpoint=f"{issuer}/token",
                backchannel_authentication_endpoint=f"{issuer}/bc-authorize",
                jwks_uri=f"{issuer}/jwks",
            ),
            CLIENT,
            http=op,
            clock=clock,
        )
        for issuer, op in zip(issuers, ops, strict=True)
    )
    limits = {issuers[1]: ProviderLimits(rate=0.1, burst=1)}
    with Pool(first, second, limits=QUICK, limits_of=limits) as pool:
        members = [pool.start(asking("alice"), client=each) for each in (second, first) * 3]
        assert [member.result().access_token is not None for member in members] == [True] * 6
    quick, slow = (
        [entry.arrived for entry in op.journal if entry.endpoint == "backchannel_authentication"]
        for op in ops
    )
    assert max(quick) - min(quick) < 1
    assert max(slow) - min(slow) >= 20
    assert [sum(entry.endpoint == "jwks" for entry in op.journal) for op in ops] == [1, 1]


@pytest.mark.parametrize("of_the_first", [True, False])
@one_of_each
def test_a_pool_and_a_client_know_the_same(world: World, adapter: Adapter, *, of_the_first: bool) -> None:
    """Keys that a client has fetched serve the pool, and those of the pool serve the client."""

    async def use(pool: Any, first: Any, second: Any) -> Any:
        one, other = (first, second) if of_the_first else (second, first)
        for call in (one.authenticate, partial(pool.authenticate, client=other), other.authenticate):
            made = call(asking("dora"))
            tokens = await made if hasattr(made, "__await__") else made
            assert tokens.access_token

    world.pooled(adapter, use, CLIENT, OTHER)
    assert world.count("jwks") == {"served": 1}


# ---- the end of the pool, and after it


@one_of_each
def test_what_is_left_goes_on_elsewhere(world: World, adapter: Adapter) -> None:
    """Who waits at the end of the block is told, with the transaction, which another pool resumes."""
    waiting: list[Any] = []

    async def use(pool: Any, _client: Any) -> Any:
        done = await pool.start(asking("dora"))
        waiting.extend([await pool.start(asking(user)) for user in ("alice", "bob")])
        return await outcome(done)

    slow = evolve(CLIENT, polling=PollingPolicy(first_poll_after=0))
    user, rest = world.pooled(adapter, use, slow)
    assert user == "dora"
    assert len(rest.transactions) + len(rest.requests) == 2
    for member in waiting:
        inner = getattr(member, "inner", member)
        with pytest.raises(PoolClosed) as caught:
            inner._outcome()
        assert caught.value.transaction in {None, *rest.transactions}

    async def go_on(pool: Any, _client: Any) -> Any:
        members = [await pool.resume(transaction) for transaction in rest.transactions]
        members += [await pool.start(request) for request in rest.requests]
        return [await outcome(member) for member in members]

    ends, rest = world.pooled(adapter, go_on, slow)
    assert sorted(map(str, ends)) == sorted(map(str, ["alice", AccessDenied]))
    assert rest == PoolRest()
    assert world.count("backchannel_authentication") == {"acknowledged": 3}


@one_of_each
def test_wrong_turns(world: World, adapter: Adapter) -> None:
    """A pool that is closed or not open, and transactions of others, are named."""
    stranger = evolve(world.provider, issuer="https://op.example")
    kind: Any = Pool if adapter in SYNC else AsyncPool

    async def use(pool: Any, client: Any) -> Any:
        inner = getattr(pool, "inner", pool)
        member = await pool.start(asking("alice"))
        await outcome(member)
        transaction = getattr(member, "inner", member).transaction
        with pytest.raises(LocalProtocolError, match=r"^transaction: no client of .* https://op.example$"):
            await pool.resume(evolve(transaction, provider=stranger))
        with pytest.raises(LocalProtocolError, match=r"^transaction: its client, other, is not one"):
            await pool.resume(evolve(transaction, client=OTHER))
        unopened: Any = kind(client)
        unopened = Awaitables(unopened) if kind is Pool else unopened
        with pytest.raises(LocalProtocolError, match="it is not open"):
            await unopened.start(asking("alice"))
        assert await outcome(await pool.resume(transaction)) == "alice"
        assert await pool.close() == PoolRest()
        with pytest.raises(PoolClosed, match="closed already"):
            await pool.close()
        with pytest.raises(PoolClosed, match="it is closed"):
            await pool.start(asking("alice"))
        with pytest.raises(PoolClosed, match="it is closed"):
            await pool.resume(transaction)
        with pytest.raises(LocalProtocolError, match="opened already"):
            inner._open_once()

    world.pooled(adapter, use)


def test_arguments() -> None:
    """What a pool cannot be made of is named."""
    world = ProviderMetadata(
        issuer="https://op.example",
        token_endpoint="https://op.example/token",
        backchannel_authentication_endpoint="https://op.example/bc",
        jwks_uri="https://op.example/jwks",
    )
    op = SimulatedProvider(VirtualClock(), issuer="https://op.example", clients=[])
    sync, other = (SyncCiba(world, CLIENT, http=op, clock=clock) for clock in (None, VirtualClock()))
    with pytest.raises(LocalProtocolError, match=r"^clients: a pool needs at least one"):
        Pool()
    with pytest.raises(LocalProtocolError, match=r"^clients: those of one pool must have the same clock"):
        Pool(sync, other)
    with pytest.raises(LocalProtocolError, match=r"^start_limit must be at least 1"):
        Pool(sync, start_limit=0)
    with pytest.raises(LocalProtocolError, match=r"^threads must be from 1 to 31"):
        Pool(sync, threads=32)
    with pytest.raises(TypeError, match=r"^clients must be ciba_adapters\.AsyncClient, not"):
        AsyncPool(sync)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"^clients must be ciba_adapters\.SyncClient, not"):
        Pool(AsyncCiba(world, CLIENT, http=op))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# ---- ping and push


@pytest.mark.parametrize("mode", ["ping", "push"])
@every_stack
def test_callbacks(adapter: Adapter, mode: Any) -> None:
    """CIBA-10.2-05, CIBA-10.1-16: a ping leads to one token request for each, a push to none."""
    client = evolve(CLIENT, backchannel_token_delivery_mode=mode)

    async def use(pool: Any, _client: Any) -> Any:
        members = [await pool.start(asking(f"user{number}")) for number in range(40)]
        return [await outcome(member) for member in members]

    with LoopbackServer() as server:
        world = World(server, mode)
        users, _ = world.pooled(adapter, use, client, limits=QUICK)
    assert users == [f"user{number}" for number in range(40)]
    assert world.count("token") == ({"tokens": 40} if mode == "ping" else {})
    assert world.count("jwks") == {"served": 1}
    statuses = {entry.status for entry in world.op.journal if entry.endpoint == "client_notification"}
    assert statuses <= {204, None}


# ---- what goes wrong in code of the embedder's own


class Broken:
    """A way to the provider that has a fault."""

    def send(self, request: HttpRequest) -> HttpResponse:
        raise ZeroDivisionError


def in_process(http: Any, config: ClientConfig, use: Callable[..., Coroutine[Any, Any, Any]]) -> list[Any]:
    """Do something with each kind of pool over a provider without a network."""
    metadata = ProviderMetadata(
        issuer="https://op.example",
        token_endpoint="https://op.example/token",
        backchannel_authentication_endpoint="https://op.example/bc-authorize",
        jwks_uri="https://op.example/jwks",
    )
    with Pool(SyncCiba(metadata, config, http=http, clock=VirtualClock())) as pool:
        results = [finished(use(Awaitables(pool)))]

    async def main() -> Any:
        async with AsyncPool(AsyncCiba(metadata, config, http=http, clock=VirtualClock())) as pool:
            return await use(pool)

    return [*results, anyio.run(main), anyio.run(main, backend="trio")]


def test_a_transport_with_a_fault() -> None:
    """What it raises is the result of the one that it concerns, and the pool goes on."""

    async def use(pool: Any) -> Any:
        for _ in range(40):  # more than may be under way at a time
            with pytest.raises(ZeroDivisionError):
                await pool.authenticate(asking("alice"))
        return True

    assert in_process(Broken(), CLIENT, use) == [True, True, True]


def test_nothing_to_sign_with() -> None:
    """JOSE-01: a client with a `RemoteSigner` and without ``sign`` is told so."""
    signer = PrivateKeyJwt(RemoteSigner("the key of the HSM", alg="ES256"))

    async def use(pool: Any) -> Any:
        with pytest.raises(LocalProtocolError, match="sign"):
            await pool.authenticate(asking("alice"))
        return True

    assert in_process(Broken(), ClientConfig("s6BhdRkqt3", signer), use) == [True, True, True]


class Slow:
    """A way to the provider on which a request waits until it is let through, and a clock that nobody moves."""

    def __init__(self, op: SimulatedProvider) -> None:
        self.op = op
        self.arrived = threading.Event()
        self.go_on = threading.Event()

    def send(self, request: HttpRequest) -> HttpResponse:
        self.arrived.set()
        assert self.go_on.wait(10)
        return self.op.send(request)


def test_what_is_under_way_is_brought_to_its_end() -> None:
    """Promise 4: the acknowledgement of a request that was out when the pool was closed is not lost."""
    clock = VirtualClock()
    op = SimulatedProvider(
        clock,
        issuer="https://op.example",
        clients=[SimulatedClient("s6BhdRkqt3", "gX1fBat3bV")],
        users={"alice": Approve(), "bob": Approve()},
    )
    slow = Slow(op)
    client = SyncCiba(PROVIDER, CLIENT, http=slow, clock=clock)
    with Pool(client, limits=ProviderLimits(in_flight=1)) as pool:
        out = pool.start(asking("alice"))
        in_line = pool.start(asking("bob"))
        assert slow.arrived.wait(10)
        closing = threading.Thread(target=pool.close)
        closing.start()
        slow.go_on.set()
        closing.join()
    (transaction,), (request,) = pool.rest.transactions, pool.rest.requests
    assert transaction.auth_req_id is not None
    assert request == asking("bob")
    with pytest.raises(PoolClosed) as caught:
        out.result()
    assert caught.value.transaction == transaction
    with pytest.raises(PoolClosed) as caught:
        in_line.result()
    assert caught.value.transaction is None
    assert client.resume(transaction).access_token


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_pool_whose_task_is_cancelled(backend: Any) -> None:
    """It ends at once: a request that was out may have arrived, so its transaction is left as one."""

    class Hanging(AsyncCiba):
        @staticmethod
        def make_transport(http: Any) -> Any:
            class Transport:
                async def send(self, _request: HttpRequest) -> HttpResponse:
                    scope.cancel()
                    await anyio.sleep_forever()
                    raise AssertionError

            return Transport()

    scope: Any = None

    async def main() -> PoolRest:
        nonlocal scope
        pool = AsyncPool(Hanging(PROVIDER, CLIENT, http=Broken()))
        with anyio.CancelScope() as scope:
            async with pool:
                await pool.authenticate(asking("alice"))
        assert scope.cancelled_caught
        return pool.rest

    assert anyio.run(main, backend=backend).requests == ()


@one_of_each
def test_signatures(world: World, adapter: Adapter) -> None:
    """JOSE-01: drafts are signed by the client's ``sign``, as many as it takes."""
    used: list[bytes] = []
    config = ClientConfig("s6BhdRkqt3", PrivateKeyJwt(RemoteSigner("the key of the HSM", alg="ES256")))

    def sign(_signer: RemoteSigner, octets: bytes) -> bytes:
        used.append(octets)
        return bytes(64)

    async def sign_async(signer: RemoteSigner, octets: bytes) -> bytes:
        await anyio.lowlevel.checkpoint()
        return sign(signer, octets)

    def make(http: Any) -> Any:
        return adapter.adapter(
            world.provider, config, http=http, clock=world.clock, sign=sign if adapter in SYNC else sign_async
        )

    async def asynchronously(http: Any) -> None:
        async with AsyncPool(make(http)) as pool:
            await pool.authenticate(asking("alice"))

    def synchronously(http: Any) -> None:
        with Pool(make(http)) as pool:
            pool.authenticate(asking("alice"))

    with pytest.raises(InvalidClient):  # the provider does not know the key
        adapter.with_session(synchronously if adapter in SYNC else asynchronously)
    assert len(used) == 1


def test_a_call_that_is_cancelled(world: World) -> None:
    """The event loop ends the wait at once, and the pool forgets the authentication."""

    async def use(pool: Any, _client: Any) -> Any:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await pool.authenticate(asking("carol"))
        await outcome(await pool.start(asking("dora")))
        return len(pool)

    for adapter in (ASYNC[4], ASYNC[5]):
        left, rest = world.pooled(adapter, use)
        assert left == 0
        assert rest == PoolRest()


def test_cancellation_of_a_sync_call(world: World) -> None:
    """A `Cancellation` ends the call of a sync pool as it ends that of a client."""
    cancellation = Cancellation()
    cancellation.cancel()

    async def use(pool: Any, _client: Any) -> Any:
        with pytest.raises(AuthenticationCancelled):
            await pool.authenticate(asking("carol"), cancellation=cancellation)

    world.pooled(SYNC[0], use)


def test_few_threads(world: World) -> None:
    """A sync pool has fewer than 64 threads, however many wait."""
    most: list[int] = []
    before = threading.active_count()

    async def use(pool: Any, _client: Any) -> Any:
        members = [await pool.start(asking(f"user{number}")) for number in range(200)]
        most.append(threading.active_count())
        return [await outcome(member) for member in members]

    users, _ = world.pooled(SYNC[0], use, limits=evolve(QUICK, in_flight=200))
    assert len(users) == 200
    assert max(most) - before <= 64 + 31  # the loopback server has a thread for each connection


# ---- what is shared without a pool


@pytest.mark.parametrize("adapter", ADAPTERS, ids=repr)
def test_one_fetch_for_all_calls(world: World, adapter: Adapter) -> None:
    """100 who approve at once: calls of one client, or of two with one `ProviderKnowledge`, fetch once."""
    knowledge = ProviderKnowledge()

    def make(http: Any) -> list[Any]:
        return [
            adapter.adapter(world.provider, EAGER, http=http, knowledge=knowledge, clock=world.clock)
            for _ in range(2)
        ]

    async def asynchronously(http: Any) -> None:
        async with anyio.create_task_group() as tasks:
            for client in make(http):
                for _ in range(50):
                    tasks.start_soon(client.authenticate, asking("dora"))

    def synchronously(http: Any) -> None:
        clients = make(http)
        threads = [
            threading.Thread(target=client.authenticate, args=(asking("dora"),))
            for client in clients
            for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    adapter.with_session(synchronously if isinstance(adapter, SyncAdapter) else asynchronously)
    assert world.count("token")["tokens"] == (40 if isinstance(adapter, SyncAdapter) else 100)
    assert world.count("jwks") == {"served": 1}
    assert knowledge.shared.keys is not None


def test_unavailable_is_told_to_each() -> None:
    """A provider that is away ends each start with the error of a client."""

    class Away:
        def send(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse(503, (), b"")

    async def use(pool: Any) -> Any:
        with pytest.raises(ProviderUnavailable):
            await pool.authenticate(asking("alice"))
        return True

    assert in_process(Away(), CLIENT, use) == [True, True, True]
