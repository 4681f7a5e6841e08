"""A callback that comes to another process than the one that asked: found by a shared route, restored, resumed."""

from __future__ import annotations

from typing import Any, Final

import pytest
import requests

from ciba_adapters.notification import NotificationEndpoint
from ciba_adapters.requests import CibaClient
from ciba_core import (
    AuthenticationRequest,
    ClientConfig,
    ClientSecretBasic,
    HttpResponse,
    Notification,
    NotificationReceived,
    ProviderMetadata,
    Routes,
    Transaction,
    step,
)
from ciba_core.errors import AccessDenied
from ciba_core.notification import token_hash
from ciba_core.testing import (
    Approve,
    Callback,
    Deny,
    LoopbackServer,
    SimulatedClient,
    SimulatedProvider,
    VirtualClock,
)

REQUEST: Final = AuthenticationRequest(scope="openid", login_hint="alice")


class Process:
    """One of several that run the same application: what they share is a table of routes and one of snapshots."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.endpoint = NotificationEndpoint(routes=world.routes, not_held=self.not_held, clock=world.clock)

    def client(self, http: requests.Session) -> CibaClient:
        world = self.world
        return CibaClient(world.provider, world.config, http=http, endpoint=self.endpoint, clock=world.clock)

    def not_held(self, key: str, notification: Notification) -> HttpResponse | None:
        """Do as the documentation says: restore, step, store, answer."""
        world = self.world
        stored = world.snapshots.get(key)
        if stored is None:
            return None
        transaction = Transaction.from_json(stored, client=world.config, provider=world.provider)
        found = step(transaction, NotificationReceived(notification), world.clock.time())
        # A push whose keys are to be fetched goes on when it is resumed; the provider may push it again.
        world.snapshots[key] = found.transaction.to_json()
        return found.answer


class World:
    def __init__(self, server: LoopbackServer, mode: Any) -> None:
        self.clock = VirtualClock()
        self.routes = Routes()
        self.snapshots: dict[str, str] = {}
        self.config = ClientConfig(
            "s6BhdRkqt3", ClientSecretBasic("gX1fBat3bV"), backchannel_token_delivery_mode=mode
        )
        self.asking, self.called = Process(self), Process(self)
        self.statuses: list[int] = []
        self.op = SimulatedProvider(
            self.clock,
            issuer=server.url,
            clients=[
                SimulatedClient(
                    "s6BhdRkqt3",
                    "gX1fBat3bV",
                    backchannel_token_delivery_mode=mode,
                    backchannel_client_notification_endpoint="https://client.example/cb",
                )
            ],
            users={"alice": Approve(after=10), "bob": Deny(after=10)},
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

    def deliver(self, callback: Callback) -> int:
        answer = self.called.endpoint.answer_sync(callback.method, callback.headers, callback.body)
        self.statuses.append(answer.status)
        return answer.status

    def ask(self, request: AuthenticationRequest) -> str:
        """Ask in one process, which stores the pending transaction and ends; return the key."""
        with requests.Session() as http:
            pending = self.asking.client(http).initiate(request)
        assert pending.client_notification_token is not None
        key = token_hash(pending.client_notification_token)
        self.snapshots[key] = pending.to_json()
        return key

    def go_on(self, key: str) -> Any:
        """Go on in the process that was called."""
        with requests.Session() as http:
            ciba = self.called.client(http)
            return ciba.resume(ciba.transaction_from_json(self.snapshots[key]))


@pytest.mark.parametrize(("mode", "status"), [("ping", 204), ("push", None)])
def test_the_process_that_is_called_goes_on(mode: str, status: int | None) -> None:
    """CIBA-10.2-05, SM-18: the route is shared, the snapshot has the rest, and nothing is asked twice."""
    with LoopbackServer() as server:
        world = World(server, mode)
        key = world.ask(REQUEST)
        asked = world.clock.time()
        world.clock.sleep(10)
        assert world.statuses == [status or 503]
        tokens = world.go_on(key)
        assert tokens.id_token_claims["sub"] == "alice"
        # The keys that a push wants are asked for after the restart, as after any request that was lost.
        assert asked + 10 <= world.clock.time() < asked + 13
        journal = [entry.endpoint for entry in world.op.journal]
    assert journal.count("backchannel_authentication") == 1
    assert journal.count("token") == (1 if mode == "ping" else 0)


@pytest.mark.parametrize("mode", ["ping", "push"])
def test_a_denial(mode: str) -> None:
    """CIBA-12-02: the same for a user who says no."""
    with LoopbackServer() as server:
        world = World(server, mode)
        key = world.ask(AuthenticationRequest(scope="openid", login_hint="bob"))
        world.clock.sleep(10)
        assert world.statuses == [204]
        with pytest.raises(AccessDenied):
            world.go_on(key)


@pytest.mark.parametrize("mode", ["ping", "push"])
def test_nobody_knows_it(mode: str) -> None:
    """A route whose transaction was not stored: 503, since it may be yet."""
    with LoopbackServer() as server:
        world = World(server, mode)
        world.snapshots.pop(world.ask(REQUEST))
        world.clock.sleep(10)
        assert world.statuses == [503]
