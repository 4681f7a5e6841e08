"""Ping and push through the clients that people use: the same `authenticate`, given an endpoint."""

from __future__ import annotations

import http.client
import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from attrs import evolve

from ciba_adapters.notification import NotificationEndpoint, Reply
from ciba_core import ClientConfig, ClientSecretBasic, PollingPolicy, ProviderMetadata, Transaction
from ciba_core.client.request import AuthenticationRequest
from ciba_core.errors import (
    AccessDenied,
    AcknowledgementLost,
    AuthenticationExpired,
    LocalProtocolError,
    TransactionFailed,
)
from ciba_core.events import AuthReqIdRecovered, CallbackAwaited, Event, PushRejected, TokensIssued
from ciba_core.notification import NotificationRejected
from ciba_core.states import AwaitingCallback, Pending
from ciba_core.testing import (
    Answer,
    Approve,
    BadIdToken,
    BeforeAcknowledgement,
    Callback,
    CallbackSender,
    Deny,
    DropAfter,
    Forge,
    Ignore,
    LoopbackServer,
    RealClock,
    Repeat,
    SimulatedClient,
    SimulatedProvider,
    VirtualClock,
)
from ciba_core.testing import Reply as HttpReply
from ciba_core.values.http import HttpResponse

from .clients import ADAPTERS, ASYNC, SYNC, Adapter

PING: Final = ClientConfig(
    "s6BhdRkqt3", ClientSecretBasic("gX1fBat3bV"), backchannel_token_delivery_mode="ping"
)
PUSH: Final = evolve(PING, backchannel_token_delivery_mode="push")
MODES: Final = [PING, PUSH]
REQUEST: Final = AuthenticationRequest(scope="openid", login_hint="alice")
CALLBACK_URL: Final = "https://client.example/cb"

every_adapter: Final = pytest.mark.parametrize("adapter", ADAPTERS, ids=repr)
one_of_each: Final = pytest.mark.parametrize("adapter", [SYNC[0], ASYNC[4], ASYNC[5]], ids=repr)
every_mode: Final = pytest.mark.parametrize("client", MODES, ids=lambda c: c.backchannel_token_delivery_mode)


class World:
    """A simulated provider behind a port, in virtual time, whose callbacks go straight to the endpoint."""

    def __init__(self, server: LoopbackServer) -> None:
        self.clock = VirtualClock()
        self.rejected: list[NotificationRejected] = []
        self.replies: list[Reply | HttpResponse] = []
        self.endpoint = NotificationEndpoint(on_rejected=self.rejected.append, clock=self.clock)
        self.op = SimulatedProvider(
            self.clock,
            issuer=server.url,
            clients=[
                SimulatedClient(
                    "s6BhdRkqt3",
                    "gX1fBat3bV",
                    backchannel_token_delivery_mode=mode,
                    backchannel_client_notification_endpoint=CALLBACK_URL,
                )
                for mode in [self.mode]
            ],
            users={
                "alice": Approve(after=17),
                "bob": Deny(after=17),
                "carol": Ignore(),
                "dave": Deny(after=17, error="transaction_failed"),
                "erin": Approve(),
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

    mode = "ping"

    def deliver(self, callback: Callback) -> int | None:
        """Hand a callback over as a web server does that does not wait in the loop's own thread."""
        admitted = self.endpoint.check_head(callback.method, callback.headers)
        reply = admitted if isinstance(admitted, HttpResponse) else admitted.submit(callback.body)
        self.replies.append(reply)
        response = reply if isinstance(reply, HttpResponse) else reply.response
        return None if response is None else response.status

    @property
    def statuses(self) -> list[int | None]:
        """The answers to all callbacks so far."""
        responses = [one if isinstance(one, HttpResponse) else one.response for one in self.replies]
        return [None if response is None else response.status for response in responses]

    def polls(self) -> int:
        """Token requests that the provider has seen."""
        return sum(entry.endpoint == "token" for entry in self.op.journal)

    def call(self, adapter: Adapter, client: ClientConfig, use: Callable[[Any], Any]) -> Any:
        return adapter.with_session(
            lambda session: use(
                adapter.adapter(self.provider, client, http=session, endpoint=self.endpoint, clock=self.clock)
            )
        )

    def authenticate(self, adapter: Adapter, client: ClientConfig, hint: str = "alice") -> Any:
        request = evolve(REQUEST, login_hint=hint)
        return self.call(adapter, client, lambda ciba: ciba.authenticate(request))

    def events(self, adapter: Adapter, client: ClientConfig, hint: str = "alice") -> list[Event]:
        request = evolve(REQUEST, login_hint=hint)
        seen: list[Event] = []
        self.call(adapter, client, lambda ciba: adapter.each(ciba.run(request), seen.append))
        return seen


class PushWorld(World):
    mode = "push"


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    client = request.node.callspec.params.get("client", PING)
    with LoopbackServer() as server:
        yield (PushWorld if client.backchannel_token_delivery_mode == "push" else World)(server)


@every_mode
@every_adapter
def test_authenticate_works_unchanged(world: World, adapter: Adapter, client: ClientConfig) -> None:
    """CIBA-10.2-05, CIBA-10.1-16, -17, -19: a ping leads to one token request at once, a push to none."""
    started = world.clock.time()
    tokens = world.authenticate(adapter, client)
    assert tokens.id_token_claims["sub"]
    assert world.clock.time() == pytest.approx(started + 17)
    assert world.polls() == (1 if client is PING else 0)
    assert world.statuses == [204]
    assert world.rejected == []


@every_mode
@one_of_each
def test_a_callback_that_overtakes_the_acknowledgement(
    world: World, adapter: Adapter, client: ClientConfig
) -> None:
    """Promise 8, SM-05: it is kept and used."""
    world.op.inject_callback(BeforeAcknowledgement())
    started = world.clock.time()
    assert world.authenticate(adapter, client, "erin").access_token
    assert world.clock.time() == started
    assert world.statuses == [204]


@every_mode
@one_of_each
def test_denied(world: World, adapter: Adapter, client: ClientConfig) -> None:
    """CIBA-10.2-02, CIBA-12-02: a denial is told like any other result."""
    with pytest.raises(AccessDenied):
        world.authenticate(adapter, client, "bob")
    assert world.statuses == [204]


@pytest.mark.parametrize("client", [PUSH])
@one_of_each
def test_failed_at_the_provider(world: World, adapter: Adapter, client: ClientConfig) -> None:
    """CIBA-12-04."""
    with pytest.raises(TransactionFailed) as caught:
        world.authenticate(adapter, client, "dave")
    assert caught.value.status is None
    assert world.statuses == [204]


@every_mode
@one_of_each
def test_nothing_comes(world: World, adapter: Adapter, client: ClientConfig) -> None:
    """CIBA-10.2-02, -07: the client's own timer ends it; before that, a ping client asks once."""
    started = world.clock.time()
    with pytest.raises(AuthenticationExpired):
        world.authenticate(adapter, client, "carol")
    assert world.clock.time() == pytest.approx(started + 120)
    assert world.polls() == (1 if client is PING else 0)
    assert world.statuses == []


@every_mode
@one_of_each
def test_a_repeated_callback(world: World, adapter: Adapter, client: ClientConfig) -> None:
    """CIBA-9-16: it is accepted and has no effect, at once and after the end; later the token is forgotten."""
    world.op.inject_callback(Repeat(3, every=0))
    events = world.events(adapter, client)
    assert isinstance(events[-1], TokensIssued)
    world.clock.sleep(1)
    assert world.statuses == [204] * 4
    assert world.polls() == (1 if client is PING else 0)


@every_mode
@one_of_each
def test_after_the_grace_the_token_is_unknown(world: World, adapter: Adapter, client: ClientConfig) -> None:
    """CIBA-9-16, CIBA-10.3-11: 204 for a minute, then 401 as for any other token."""
    world.op.inject_callback(Repeat(2, every=50))
    world.authenticate(adapter, client)
    world.clock.sleep(50)
    assert world.statuses == [204, 204]
    world.clock.sleep(200)
    assert world.statuses == [204, 204, 401]
    assert len(world.rejected) == 1


@every_mode
@pytest.mark.parametrize(
    ("forgery", "status"),
    [
        ("wrong_token", 401),
        ("no_token", 401),
        ("two_tokens", 401),
        ("unknown_auth_req_id", 401),
        ("numeric_auth_req_id", 400),
        ("other_mode", 400),
        ("broken_json", 400),
        ("repeated_member", 400),
        ("not_utf8", 400),
    ],
)
def test_a_forged_callback_changes_nothing(
    world: World, client: ClientConfig, forgery: Any, status: int
) -> None:
    """CIBA-9-04, -05, -12, -13, -15, -18: it is turned away with a warning, and the good one is taken."""
    world.op.inject_callback(Forge(forgery))
    events = world.events(SYNC[0], client)
    assert isinstance(events[-1], TokensIssued)
    assert world.statuses == [status, 204]
    warnings = [event for event in events if isinstance(event, NotificationRejected)]
    assert len(warnings + world.rejected) == 1


@pytest.mark.parametrize("client", [PUSH])
@pytest.mark.parametrize("what", ["signature", "no at_hash", "wrong aud"])
def test_a_push_that_does_not_pass(world: World, client: ClientConfig, what: str) -> None:
    """CIBA-10.3-05, -08, -09: 400, the tokens are not used, and a later good push completes it."""
    faults = {
        "signature": BadIdToken(signature="bit_flipped"),
        "no at_hash": BadIdToken(without=("at_hash",)),
        "wrong aud": BadIdToken(claims={"aud": "another"}),
    }
    world.op.inject_callback(faults[what])
    events = world.events(ASYNC[0], client)
    assert [type(event) for event in events if isinstance(event, (PushRejected, TokensIssued))] == [
        PushRejected,
        TokensIssued,
    ]
    assert world.statuses == [400, 204]


@pytest.mark.parametrize("client", [PUSH])
@one_of_each
def test_keys_that_cannot_be_had(world: World, adapter: Adapter, client: ClientConfig) -> None:
    """CIBA-10.3-14: the provider hears 503 soon, and the tokens are kept until there are keys."""
    world.op.inject("jwks", Answer(500), times=2)
    assert world.authenticate(adapter, client).access_token
    assert world.statuses == [503]


@pytest.mark.parametrize("client", [PING])
@one_of_each
def test_a_ping_during_a_poll(world: World, adapter: Adapter, client: ClientConfig) -> None:
    """CIBA-10.1-06, -17: the ping is answered, and its token request comes right after the poll's answer."""
    beside = evolve(client, polling=PollingPolicy(beside_ping=True, first_poll_after=17.0))
    events = world.events(adapter, beside)
    assert isinstance(events[-1], TokensIssued)
    assert world.statuses == [204]


@every_mode
@one_of_each
def test_initiate_now_and_resume_later(world: World, adapter: Adapter, client: ClientConfig) -> None:
    """A callback that comes while nobody waits is kept for the one who resumes."""

    def use(ciba: Any) -> Any:
        def go_on(pending: Transaction) -> Any:
            assert isinstance(pending.state, Pending)
            world.clock.sleep(60)
            return ciba.resume(ciba.transaction_from_json(pending.to_json()))

        async def both(first: Any) -> Any:
            return await go_on(await first)

        pending = ciba.initiate(REQUEST)
        return both(pending) if inspect.isawaitable(pending) else go_on(pending)

    assert world.call(adapter, client, use).access_token
    assert world.statuses == [204]
    assert world.polls() == (1 if client is PING else 0)


@every_mode
@every_adapter
def test_a_callback_heals_a_lost_acknowledgement(
    world: World, adapter: Adapter, client: ClientConfig
) -> None:
    """Promise 3: the answer is lost once the user is asked; the callback tells the rest, without a second prompt."""
    world.op.inject("backchannel_authentication", DropAfter())
    events = world.events(adapter, client)
    moves = [type(event) for event in events]
    assert [CallbackAwaited, AuthReqIdRecovered] == moves[1:3]
    assert moves[-1] is TokensIssued
    assert world.statuses == [204]
    assert world.polls() == (1 if client is PING else 0)
    assert [entry.endpoint for entry in world.op.journal].count("backchannel_authentication") == 1


@every_mode
@one_of_each
def test_a_lost_acknowledgement_without_a_callback(
    world: World, adapter: Adapter, client: ClientConfig
) -> None:
    """Promise 3: after two minutes, or at once where that is set, it is lost for good."""
    for seconds, policy in ((120, PollingPolicy()), (0, PollingPolicy(callback_after_loss=None))):
        world.op.inject("backchannel_authentication", DropAfter())
        before = world.clock.monotonic()
        with pytest.raises(AcknowledgementLost):
            world.authenticate(adapter, evolve(client, polling=policy), "carol")
        assert world.clock.monotonic() - before == pytest.approx(seconds, abs=1)


@every_mode
@one_of_each
def test_initiate_without_an_acknowledgement(world: World, adapter: Adapter, client: ClientConfig) -> None:
    """What waits for a callback is stored and resumed as what was acknowledged."""
    world.op.inject("backchannel_authentication", DropAfter())

    def use(ciba: Any) -> Any:
        def go_on(waiting: Transaction) -> Any:
            assert isinstance(waiting.state, AwaitingCallback)
            world.clock.sleep(60)
            return ciba.resume(ciba.transaction_from_json(waiting.to_json()))

        async def both(first: Any) -> Any:
            return await go_on(await first)

        waiting = ciba.initiate(REQUEST)
        return both(waiting) if inspect.isawaitable(waiting) else go_on(waiting)

    assert world.call(adapter, client, use).access_token
    assert world.statuses == [204]


@pytest.mark.parametrize("client", [PING])
def test_a_ping_client_may_poll_without_an_endpoint(world: World, client: ClientConfig) -> None:
    """CIBA-10.1-15."""
    beside = evolve(client, polling=PollingPolicy(beside_ping=True))
    tokens = SYNC[0].call(lambda ciba: ciba.authenticate(REQUEST), world.provider, beside, world.clock)
    assert tokens.access_token
    assert world.polls() == 4
    assert world.statuses == [401]


@every_mode
@every_adapter
def test_without_an_endpoint_there_is_nothing_to_wait_for(adapter: Adapter, client: ClientConfig) -> None:
    """A mistake in the wiring shows when the client is made, not when the user has approved in vain."""
    provider = ProviderMetadata(
        issuer="https://op.example",
        token_endpoint="https://op.example/token",
        backchannel_authentication_endpoint="https://op.example/bc",
    )
    with pytest.raises(LocalProtocolError, match=r"^endpoint: a client in (ping|push) mode needs"):
        adapter.call(lambda ciba: ciba, provider, client)


def test_one_endpoint_serves_many_authentications_side_by_side() -> None:
    """Each callback finds its transaction among those of several threads, in real time and over real HTTP."""
    endpoint = NotificationEndpoint()

    def receive(method: str, _target: str, headers: Any, body: bytes) -> HttpReply:
        answer = endpoint.answer_sync(method, headers, body)
        return HttpReply(answer.status, tuple(answer.headers), answer.body)

    with RealClock() as clock, LoopbackServer() as server, LoopbackServer(receive) as listening:
        users = {f"user-{number}": Approve(sub=f"sub-{number}") for number in range(8)}
        port = urlsplit(listening.url).port

        def deliver(callback: Callback) -> int | Future[int | None] | None:
            return CallbackSender()(evolve(callback, url=f"http://127.0.0.1:{port}/cb"))

        op = SimulatedProvider(
            clock,
            issuer=server.url,
            clients=[
                SimulatedClient(
                    "s6BhdRkqt3",
                    "gX1fBat3bV",
                    backchannel_token_delivery_mode="push",
                    backchannel_client_notification_endpoint=CALLBACK_URL,
                )
            ],
            users=users,
            deliver=deliver,
        )
        server.handler = op.handle

        def log_in(number: int) -> str:
            ciba = SYNC[number % 3].adapter

            def use(session: Any) -> Any:
                client = ciba.discover(
                    server.url, PUSH, http=session, endpoint=endpoint, allow_loopback_http=True
                )
                return client.authenticate(evolve(REQUEST, login_hint=f"user-{number}"))

            sub: str = SYNC[number % 3].with_session(use).id_token_claims["sub"]
            return sub

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(log_in, range(8))) == [f"sub-{number}" for number in range(8)]
        # A stranger without a token gets nothing but the status.
        stranger = http.client.HTTPConnection("127.0.0.1", port or 0, timeout=10)
        stranger.request("POST", "/cb", b"{}", {"Content-Type": "application/json"})
        with stranger.getresponse() as answer:
            assert (answer.status, answer.read()) == (401, b"")
        stranger.close()
