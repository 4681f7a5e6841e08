"""Refresh, revocation and UserInfo through the clients, over loopback."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, Final, TypeVar

import aiohttp
import anyio
import httpx
import pytest
import requests
import trio
from attrs import evolve, frozen

import ciba_adapters.aiohttp
import ciba_adapters.httpx
import ciba_adapters.requests
import ciba_adapters.trio
from ciba_adapters._pace import NAP
from ciba_adapters.client import AsyncClient, Cancellation, SyncClient
from ciba_adapters.transport import AsyncTransport
from ciba_core import (
    AuthenticationRequest,
    ClientConfig,
    ClientSecretBasic,
    Guarded,
    PollingPolicy,
    PrivateKeyJwt,
    ProviderMetadata,
    RemoteSigner,
    Secret,
    TokenResponse,
)
from ciba_core.errors import (
    InvalidGrant,
    InvalidToken,
    KeysUnavailable,
    LocalProtocolError,
    RefreshLost,
    RequestNotSent,
    TransportError,
)
from ciba_core.jose.dpop import DpopKey
from ciba_core.testing import (
    Approve,
    Clock,
    LoopbackServer,
    SimulatedClient,
    SimulatedProvider,
    VirtualClock,
)
from ciba_core.testing.wire import NoReply, Reply

from .clients import ASYNC, SYNC, Adapter, AsyncAdapter, SyncAdapter
from .server import PATIENCE

R = TypeVar("R")
CLIENT: Final = ClientConfig("me", ClientSecretBasic("client secret"))
TOKENS: Final = TokenResponse(
    access_token=Secret("access"),
    token_type="Bearer",
    expires_at=None,
    refresh_token=Secret("refresh"),
    id_token=Secret("a.b.c"),
    id_token_claims={"iss": "https://op.example", "sub": "alice", "aud": "me", "iat": 1},
    scope="openid",
    authorization_details=None,
    extra={},
)
BOUND: Final = evolve(TOKENS, token_type="DPoP", dpop_key=DpopKey.generate(lambda count: b"k" * count))
REFRESHED: Final = {"access_token": "new", "token_type": "Bearer", "refresh_token": "next"}


@frozen
class Call:
    """A request as the server got it."""

    path: str
    headers: Mapping[str, str]
    body: str


class Endpoints:
    """The endpoints that come after the tokens, each with the answers that a test puts there."""

    def __init__(self, server: LoopbackServer) -> None:
        self.server, url = server, server.url
        self.answers: list[Reply | NoReply] = []
        self.calls: list[Call] = []
        self.provider = ProviderMetadata(
            issuer=url,
            token_endpoint=f"{url}/token",
            backchannel_authentication_endpoint=f"{url}/bc-authorize",
            revocation_endpoint=f"{url}/revoke",
            userinfo_endpoint=f"{url}/userinfo",
            allow_loopback_http=True,
        )

    def handle(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> Reply | NoReply:
        found = {name.lower(): value for name, value in headers}
        self.calls.append(Call(f"{method} {target}", found, body.decode()))
        return self.answers.pop(0)


def reply(status: int, body: Mapping[str, Any], *headers: tuple[str, str]) -> Reply:
    return Reply(status, (("Content-Type", "application/json"), *headers), json.dumps(body).encode())


@pytest.fixture
def endpoints() -> Generator[Endpoints]:
    with LoopbackServer() as server:
        found = Endpoints(server)
        server.handler = found.handle
        yield found


# One face for all: a function from the provider, the client and the name of a method to its result.
Do = Callable[..., Any]


def with_requests(
    provider: ProviderMetadata, client: ClientConfig, sign: Any, method: str, *args: Any, **more: Any
) -> Any:
    with requests.Session() as http:
        ciba = ciba_adapters.requests.CibaClient(provider, client, http=http, sign=sign)
        return getattr(ciba, method)(*args, **more)


def with_httpx(
    provider: ProviderMetadata, client: ClientConfig, sign: Any, method: str, *args: Any, **more: Any
) -> Any:
    with httpx.Client() as http:
        ciba = ciba_adapters.httpx.CibaClient(provider, client, http=http, sign=sign)
        return getattr(ciba, method)(*args, **more)


def awaitable(sign: Any) -> Any:
    async def signing(*args: Any) -> Any:
        return sign(*args)

    return None if sign is None else signing


def with_async_httpx(
    provider: ProviderMetadata, client: ClientConfig, sign: Any, method: str, *args: Any, **more: Any
) -> Any:
    async def main() -> Any:
        async with httpx.AsyncClient() as http:
            ciba = ciba_adapters.httpx.AsyncCibaClient(provider, client, http=http, sign=awaitable(sign))
            return await getattr(ciba, method)(*args, **more)

    return asyncio.run(main())


def with_aiohttp(
    provider: ProviderMetadata, client: ClientConfig, sign: Any, method: str, *args: Any, **more: Any
) -> Any:
    async def main() -> Any:
        async with aiohttp.ClientSession() as http:
            ciba = ciba_adapters.aiohttp.AsyncCibaClient(provider, client, http=http, sign=awaitable(sign))
            return await getattr(ciba, method)(*args, **more)

    return asyncio.run(main())


def with_trio(
    provider: ProviderMetadata, client: ClientConfig, sign: Any, method: str, *args: Any, **more: Any
) -> Any:
    async def main() -> Any:
        async with ciba_adapters.trio.TrioHttp() as http:
            ciba = ciba_adapters.trio.AsyncCibaClient(provider, client, http=http, sign=awaitable(sign))
            return await getattr(ciba, method)(*args, **more)

    return trio.run(main)


@pytest.fixture(params=[with_requests, with_httpx, with_async_httpx, with_aiohttp, with_trio])
def do(request: pytest.FixtureRequest, endpoints: Endpoints) -> Do:
    """Call a method of a client, through each kind of stack in turn."""

    def call(method: str, *args: Any, client: ClientConfig = CLIENT, sign: Any = None, **more: Any) -> Any:
        return request.param(endpoints.provider, client, sign, method, *args, **more)

    return call


def test_refresh(do: Do, endpoints: Endpoints) -> None:
    """RT-01, RT-02: the next tokens come back, with the rotated refresh token."""
    endpoints.answers = [reply(200, REFRESHED)]
    tokens = do("refresh", TOKENS, scope="openid")
    assert (tokens.access_token, tokens.refresh_token) == (Secret("new"), Secret("next"))
    assert (tokens.original, tokens.differs_in) == (TOKENS.original_grant, ())
    [call] = endpoints.calls
    assert call.path == "POST /token"
    assert call.body == "grant_type=refresh_token&refresh_token=refresh&scope=openid"


def test_refresh_of_bound_tokens(do: Do, endpoints: Endpoints) -> None:
    """DPOP-14: the nonce that the provider asks for is sent, once."""
    nonce = ("DPoP-Nonce", "n1")
    endpoints.answers = [
        reply(400, {"error": "use_dpop_nonce"}, nonce),
        reply(200, {**REFRESHED, "token_type": "DPoP"}),
    ]
    assert do("refresh", BOUND).dpop_key == BOUND.dpop_key
    first, second = endpoints.calls
    assert first.headers["dpop"] != second.headers["dpop"]


def test_failures_are_raised(do: Do, endpoints: Endpoints) -> None:
    """RT-06, RT-07, UI-06: each failure is an exception of its class, and nothing is sent twice."""
    endpoints.answers = [
        reply(400, {"error": "invalid_grant"}),
        NoReply(acted=True),
        reply(401, {}, ("WWW-Authenticate", 'Bearer error="invalid_token"')),
    ]
    with pytest.raises(InvalidGrant):
        do("refresh", TOKENS)
    with pytest.raises(RefreshLost):
        do("refresh", TOKENS)
    with pytest.raises(InvalidToken):
        do("userinfo", TOKENS)
    with pytest.raises(LocalProtocolError):
        do("refresh", TOKENS, scope="more")
    assert len(endpoints.calls) == 3


def test_revocation(do: Do, endpoints: Endpoints) -> None:
    """REV-01, REV-06: one token, or of tokens the one that ends them all, validated or not."""
    endpoints.answers = [Reply(200)] * 3
    do("revoke", Secret("x"), token_type_hint="access_token")
    do("revoke", TOKENS)
    do("revoke", Guarded(evolve(TOKENS, refresh_token=None)))
    assert [call.body for call in endpoints.calls] == [
        "token=x&token_type_hint=access_token",
        "token=refresh&token_type_hint=refresh_token",
        "token=access&token_type_hint=access_token",
    ]


def test_userinfo(do: Do, endpoints: Endpoints) -> None:
    """UI-01, UI-02, DPOP-10: claims for a token, with the proof of a bound one."""
    endpoints.answers = [reply(200, {"sub": "alice", "name": "Alice"})] * 2
    assert do("userinfo", TOKENS) == do("userinfo", BOUND) == {"sub": "alice", "name": "Alice"}
    bearer, bound = endpoints.calls
    assert (bearer.path, bearer.body) == ("GET /userinfo", "")
    assert bearer.headers["authorization"] == "Bearer access"
    assert "dpop" not in bearer.headers
    assert bound.headers["authorization"] == "DPoP access"
    assert "dpop" in bound.headers


def test_remote_signer(do: Do, endpoints: Endpoints) -> None:
    """A key outside of the process signs; when it cannot, nothing is sent."""
    client = ClientConfig("me", PrivateKeyJwt(RemoteSigner("hsm", alg="ES256", kid="k")))
    endpoints.answers = [Reply(200)]

    def signature(*_args: Any) -> bytes:
        return bytes(64)

    do("revoke", TOKENS, client=client, sign=signature)
    assert "client_assertion=" in endpoints.calls[0].body

    def broken(*_args: Any) -> bytes:
        raise TimeoutError

    with pytest.raises(RequestNotSent, match="TimeoutError"):
        do("revoke", TOKENS, client=client, sign=broken)
    assert len(endpoints.calls) == 1


# Waiting for the keys


class KeysLater:
    """A simulated provider behind a port that has tokens to refresh, and is busy when asked for its keys."""

    def __init__(self, server: LoopbackServer, clock: Clock) -> None:
        self.busy = 0
        self.asked: list[str] = []
        self.op = SimulatedProvider(
            clock,
            issuer=server.url,
            clients=[SimulatedClient("me", "client secret")],
            users={"alice": Approve()},
        )
        self.provider = ProviderMetadata(
            issuer=server.url,
            token_endpoint=f"{server.url}/token",
            backchannel_authentication_endpoint=f"{server.url}/bc-authorize",
            revocation_endpoint=f"{server.url}/revoke",
            jwks_uri=f"{server.url}/jwks",
            allow_loopback_http=True,
        )
        server.handler = self.handle
        client = evolve(CLIENT, polling=PollingPolicy(first_poll_after=0))
        request = AuthenticationRequest(scope="openid offline_access", login_hint="alice")
        self.tokens: TokenResponse = SYNC[0].call(
            lambda ciba: ciba.authenticate(request),
            self.provider,
            client,
            clock if isinstance(clock, VirtualClock) else None,
        )
        self.asked.clear()

    def handle(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> Reply | NoReply:
        self.asked.append(target)
        if target == "/jwks" and self.busy:
            self.busy -= 1
            return reply(503, {}, ("Retry-After", "55"))
        return self.op.handle(method, target, headers, body)


@pytest.mark.parametrize(
    "adapter", [adapter for adapter in (*SYNC, *ASYNC) if adapter.name in {"requests", "aiohttp"}], ids=repr
)
def test_refresh_waits_for_the_keys(adapter: Adapter) -> None:
    """RT-04, RFC 9110 10.2.3: the keys are asked for again when the provider has said, and no sooner."""
    with LoopbackServer() as server:
        clock = VirtualClock()
        world = KeysLater(server, clock)
        world.busy, begun = 1, clock.monotonic()
        tokens = adapter.call(lambda ciba: ciba.refresh(world.tokens), world.provider, CLIENT, clock)
    assert tokens.id_token_claims["sub"] == "alice"
    assert tokens.refresh_token != world.tokens.refresh_token
    assert world.asked == ["/token", "/jwks", "/jwks"]
    assert clock.monotonic() - begun == 55


# Cancelling, by another thread


class Watched(Cancellation):
    """Tells when a wait begins, after which nothing is to be tried."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Event()

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        assert seconds == NAP
        self.waiting.set()
        super().wait(seconds, until)

    def call(self, function: Callable[[], R]) -> R | None:
        assert not self.waiting.is_set()
        return super().call(function)


def assert_no_thread() -> None:
    for thread in threading.enumerate():
        if thread.name == "ciba request":
            thread.join(PATIENCE)
            assert not thread.is_alive()


every_sync_adapter: Final = pytest.mark.parametrize("adapter", SYNC, ids=repr)
every_operation: Final = pytest.mark.parametrize("method", ["refresh", "revoke", "userinfo"])


@every_sync_adapter
def test_cancel_the_wait_for_the_keys(adapter: SyncAdapter[Any]) -> None:
    """RT-07: a wait in real time ends at once; the tokens that came are in the error."""
    cancellation = Watched()

    def cancel() -> None:
        assert cancellation.waiting.wait(PATIENCE)
        cancellation.cancel()

    def use(ciba: SyncClient[Any]) -> None:
        with pytest.raises(KeysUnavailable) as caught:
            ciba.refresh(world.tokens, cancellation=cancellation)
        assert caught.value.reason == "cancelled"
        next_token = caught.value.untrusted.reveal_untrusted().refresh_token
        assert next_token not in {None, world.tokens.refresh_token}
        ciba.revoke(caught.value.untrusted)

    with LoopbackServer() as server:
        world = KeysLater(server, time)
        world.busy = 1
        other = threading.Thread(target=cancel)
        other.start()
        adapter.call(use, world.provider, CLIENT)
        other.join()
    assert world.asked == ["/token", "/jwks", "/revoke"]
    assert_no_thread()


@every_sync_adapter
@every_operation
def test_cancel_a_request_under_way(adapter: SyncAdapter[Any], method: str, endpoints: Endpoints) -> None:
    """RT-07: the call returns at once, and a refresh token that was sent may be used up."""
    cancellation, let_go = Cancellation(), threading.Event()
    handle = endpoints.handle

    def cancel(*request: Any) -> Reply | NoReply:
        cancellation.cancel()
        assert let_go.wait(PATIENCE)
        return handle(*request)

    def use(ciba: SyncClient[Any]) -> None:
        with pytest.raises(TransportError) as caught:
            getattr(ciba, method)(TOKENS, cancellation=cancellation)
        assert type(caught.value) is (RefreshLost if method == "refresh" else TransportError)
        assert caught.value.reason == "cancelled"
        assert_no_thread()
        let_go.set()

    endpoints.answers = [Reply(500)]
    endpoints.server.handler = cancel
    adapter.call(use, endpoints.provider, CLIENT)


@every_sync_adapter
@every_operation
def test_cancelled_before_it_begins(adapter: SyncAdapter[Any], method: str, endpoints: Endpoints) -> None:
    """RT-07: a call that was cancelled before sends nothing, and says so."""
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(RequestNotSent, match="cancelled"):
        adapter.call(
            lambda ciba: getattr(ciba, method)(TOKENS, cancellation=cancellation), endpoints.provider, CLIENT
        )
    assert not endpoints.calls


def test_cancelled_while_signing(endpoints: Endpoints) -> None:
    """RT-07: what was signed after the cancellation is not sent."""
    cancellation = Cancellation()

    def sign(*_args: Any) -> bytes:
        cancellation.cancel()
        return bytes(64)

    client = ClientConfig("me", PrivateKeyJwt(RemoteSigner("hsm", alg="ES256", kid="k")))
    with pytest.raises(RequestNotSent) as caught:
        with_requests(endpoints.provider, client, sign, "refresh", TOKENS, cancellation=cancellation)
    assert caught.value.reason == "cancelled"
    assert not endpoints.calls


@every_sync_adapter
def test_cancellation_that_is_not_used(adapter: SyncAdapter[Any], endpoints: Endpoints) -> None:
    """With a cancellation at hand all goes as without, faults included."""
    cancellation = Cancellation()

    def use(ciba: SyncClient[Any]) -> None:
        assert ciba.refresh(TOKENS, cancellation=cancellation).access_token == Secret("new")
        ciba.revoke(TOKENS, cancellation=cancellation)
        assert ciba.userinfo(TOKENS, cancellation=cancellation)["sub"] == "alice"
        with pytest.raises(RefreshLost):
            ciba.refresh(TOKENS, cancellation=cancellation)

    endpoints.answers = [reply(200, REFRESHED), Reply(200), reply(200, {"sub": "alice"}), NoReply(acted=True)]
    adapter.call(use, endpoints.provider, CLIENT)
    assert_no_thread()


# Cancelling, by the event loop


@pytest.mark.parametrize(
    "adapter", [adapter for adapter in ASYNC if adapter.name in {"aiohttp", "httpx-trio"}], ids=repr
)
def test_cancel_a_task_that_waits_for_the_keys(adapter: AsyncAdapter[Any]) -> None:
    """The event loop ends the wait at once; nothing more is sent, and the client serves the next call."""
    ended: list[BaseException] = []

    async def use(http: Any) -> None:
        waiting = anyio.Event()

        def make_transport(http: Any) -> AsyncTransport:
            return TellingTransport(adapter.adapter.make_transport(http), waiting)

        telling: Any = type("Telling", (adapter.adapter,), {"make_transport": staticmethod(make_transport)})
        ciba: AsyncClient[Any] = telling(world.provider, CLIENT, http=http)

        async def refresh() -> None:
            try:
                await ciba.refresh(world.tokens)
            except BaseException as error:
                ended.append(error)
                raise

        async with anyio.create_task_group() as group:
            group.start_soon(refresh)
            await waiting.wait()
            assert not ended
            group.cancel_scope.cancel()
        await ciba.revoke(world.tokens)

    with LoopbackServer() as server:
        world = KeysLater(server, time)
        world.busy = 1
        begun = time.monotonic()
        adapter.with_session(use)
        assert time.monotonic() - begun < PATIENCE
    [error] = ended
    assert isinstance(error, asyncio.CancelledError if adapter.backend == "asyncio" else trio.Cancelled)
    assert world.asked == ["/token", "/jwks", "/revoke"]


class TellingTransport:
    """A transport that tells when a wait begins."""

    def __init__(self, transport: AsyncTransport, waiting: anyio.Event) -> None:
        self.send = transport.send
        self._transport = transport
        self._waiting = waiting

    async def sleep(self, seconds: float) -> None:
        assert seconds == NAP
        self._waiting.set()
        await self._transport.sleep(seconds)
