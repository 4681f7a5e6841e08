"""The simulated provider calls back the core: pings and pushes, end to end and in process."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from typing import Any, Literal

import pytest

from ciba_core import (
    AuthenticationRequest,
    Begin,
    ClientConfig,
    ClientSecretBasic,
    Input,
    NotificationReceived,
    ProviderMetadata,
    ResponseReceived,
    Step,
    TimerFired,
    Transaction,
    step,
)
from ciba_core.callbacks.routing import Routes, receive
from ciba_core.errors import AccessDenied, AuthenticationExpired, TransactionFailed
from ciba_core.notification import Notification, token_hash
from ciba_core.states import Authenticated
from ciba_core.testing import (
    Approve,
    BadIdToken,
    BeforeAcknowledgement,
    Callback,
    CallbackFault,
    Delay,
    Deny,
    DropBefore,
    Forge,
    Forgery,
    Ignore,
    Overtaken,
    Repeat,
    SimulatedClient,
    SimulatedProvider,
    User,
    VirtualClock,
)

Mode = Literal["ping", "push"]
CLAIM = "urn:openid:params:jwt:claim:"
USERS: dict[str, User] = {
    "alice": Approve(after=42),
    "bob": Deny(after=42),
    "carol": Ignore(),
    "dave": Deny(after=42, error="transaction_failed"),
}


class Client:
    """A client in process, with a loop of a dozen lines."""

    def __init__(self, mode: Mode, **settings: Any) -> None:
        self.clock = VirtualClock()
        registered = SimulatedClient(
            "me",
            "s",
            backchannel_token_delivery_mode=mode,
            backchannel_client_notification_endpoint="https://client.example/cb",
        )
        self.provider = SimulatedProvider(
            self.clock, clients=[registered], users=USERS, deliver=self.receive, **settings
        )
        self.routes = Routes()
        self.inbox: deque[tuple[Notification, Future[int | None]]] = deque()
        self.idle: dict[str, Transaction] = {}
        """The transactions for which no loop is running."""
        base = "https://op.example"
        self.new = Transaction(
            client=ClientConfig("me", ClientSecretBasic("s"), backchannel_token_delivery_mode=mode),
            provider=ProviderMetadata(
                issuer=base,
                token_endpoint=base + "/token",
                backchannel_authentication_endpoint=base + "/bc-authorize",
                jwks_uri=base + "/jwks",
            ),
        )

    def receive(self, callback: Callback) -> int | Future[int | None] | None:
        """What the web server does."""
        now = self.clock.time()
        received = receive(callback.method, callback.headers, callback.body, routes=self.routes, now=now)
        if received.answer is not None:
            return received.answer.status
        assert received.notification is not None
        assert received.key is not None
        if received.key in self.idle:
            judged = step(self.idle[received.key], NotificationReceived(received.notification), now)
            return judged.answer.status if judged.answer else None
        answer = Future[int | None]()
        self.inbox.append((received.notification, answer))
        return answer

    def begin(self, hint: str) -> tuple[str, Step]:
        """Lay the route, and then send the request."""
        now = self.clock.time()
        request = AuthenticationRequest(scope="openid offline_access", login_hint=hint)
        current = step(self.new, Begin(request), now)
        token = current.transaction.client_notification_token
        assert token is not None
        key = token_hash(token)[:8]
        self.routes.add(token_hash(token), key, forget_at=now + 600, now=now)
        return key, self.exchange(current)

    def exchange(self, current: Step) -> Step:
        """Send a request and hand in the answer."""
        assert current.request is not None
        begun = self.clock.monotonic()
        response = self.provider.send(current.request)
        answer = ResponseReceived(current.request.id, response, self.clock.monotonic() - begun)
        return step(current.transaction, answer, self.clock.time())

    def abandon(self, hint: str) -> None:
        """Begin a transaction and wait for nothing."""
        key, current = self.begin(hint)
        self.idle[key] = current.transaction

    def run(self, hint: str = "alice") -> Transaction:
        """What the driver does."""
        waiting = Future[int | None]()
        key, current = self.begin(hint)
        while True:
            if current.answer is not None:
                waiting.set_result(current.answer.status)
            if current.transaction.is_finished:
                self.idle[key] = current.transaction
                return current.transaction
            if current.request is not None:
                current = self.exchange(current)
                continue
            deadline = current.transaction.deadline
            if deadline is not None:
                self.clock.sleep(max(deadline - self.clock.time(), 0), until=lambda: bool(self.inbox))
            if self.inbox:
                notification, waiting = self.inbox.popleft()
                happened: Input = NotificationReceived(notification)
            else:
                assert deadline is not None
                happened = TimerFired(deadline)
            current = step(current.transaction, happened, self.clock.time())

    @property
    def answers(self) -> list[tuple[str, int | None]]:
        return [
            (entry.outcome, entry.status)
            for entry in self.provider.journal
            if entry.endpoint == "client_notification"
        ]


MODES = pytest.mark.parametrize("mode", ["ping", "push"])


@MODES
@pytest.mark.parametrize(("faults", "after"), [((), 42), ((BeforeAcknowledgement(),), 0), ((Delay(5),), 47)])
def test_approved(mode: Mode, faults: tuple[CallbackFault, ...], after: float) -> None:
    """SM-05, SM-18, SM-19: tokens as soon as the callback is there, and no more polls than one after a ping."""
    client = Client(mode)
    client.provider.inject_callback(*faults)
    finished = client.run()
    assert isinstance(finished.state, Authenticated)
    assert finished.polls == (mode == "ping")
    assert client.clock.monotonic() == pytest.approx(after)
    assert [status for _, status in client.answers] == [204]


@MODES
@pytest.mark.parametrize(("hint", "error"), [("bob", AccessDenied), ("carol", AuthenticationExpired)])
def test_not_approved(mode: Mode, hint: str, error: type[Exception]) -> None:
    """SM-20, SM-21, VEC-DER-05: denial and expiry come to the same error in both modes."""
    finished = Client(mode).run(hint)
    assert isinstance(finished.error, error)


def test_failure_pushed() -> None:
    """CIBA-12-04: only a push tells that the transaction failed."""
    assert isinstance(Client("push").run("dave").error, TransactionFailed)


def test_expiry_pushed() -> None:
    """CIBA-12-03: a provider may push expired_token; late by a moment it is too late."""
    client = Client("push", callback_on_expiry=True)
    assert isinstance(client.run("carol").error, AuthenticationExpired)


def test_lost_ping() -> None:
    """CIBA-10.2-07: without a ping, the poll before expiry brings the tokens."""
    client = Client("ping")
    client.provider.inject_callback(DropBefore())
    assert isinstance(client.run().state, Authenticated)
    assert client.clock.monotonic() > 80


def test_overtaken_ping() -> None:
    """CIBA-9-16: a ping of a transaction that has ended is answered as if it were needed."""
    client = Client("ping")
    client.provider.inject_callback(Overtaken())
    client.run()
    client.run()
    client.clock.sleep(0)
    assert client.answers == [("ping", 204), ("ping", 204)]


@MODES
def test_repeated(mode: Mode) -> None:
    """CIBA-9-16, SM-23: a callback that comes twice changes nothing."""
    client = Client(mode)
    client.provider.inject_callback(Repeat())
    finished = client.run()
    assert isinstance(finished.state, Authenticated)
    assert finished.polls == (mode == "ping")


WRONG: list[tuple[Forgery, int]] = [
    ("wrong_token", 401),
    ("no_token", 401),
    ("two_tokens", 401),
    ("unknown_auth_req_id", 401),
    ("numeric_auth_req_id", 400),
    ("other_mode", 400),
    ("error_and_tokens", 400),
    ("broken_json", 400),
    ("repeated_member", 400),
    ("not_utf8", 400),
]


@MODES
@pytest.mark.parametrize(("what", "status"), WRONG)
def test_forged(mode: Mode, what: Forgery, status: int) -> None:
    """CIBA-9-04, -05, -13, -18, CIBA-12-06: a forged callback is turned away, and the transaction goes on."""
    client = Client(mode)
    client.provider.inject_callback(Forge(what))
    assert isinstance(client.run().state, Authenticated)
    assert client.answers[0] == ("forged", status)
    assert client.answers[-1][1] == 204


@MODES
@pytest.mark.parametrize("what", ["foreign_token", "foreign_auth_req_id"])
def test_forged_of_another_transaction(mode: Mode, what: Forgery) -> None:
    """CIBA-9-04: token and auth_req_id have to be of one transaction, and a foreign pair changes nothing."""
    client = Client(mode)
    client.abandon("carol")
    client.provider.inject_callback(Forge(what))
    assert isinstance(client.run().state, Authenticated)
    assert ("forged", 401) in client.answers


@pytest.mark.parametrize(
    "bad",
    [
        *(BadIdToken(without=(claim,)) for claim in ("at_hash", CLAIM + "rt_hash", CLAIM + "auth_req_id")),
        *(BadIdToken(claims={name: "x"}) for name in ("at_hash", CLAIM + "rt_hash", CLAIM + "auth_req_id")),
        BadIdToken(signature="wrong_key"),
        BadIdToken(signature="none"),
        BadIdToken(header={"kid": "nobody's"}),
    ],
)
def test_bad_push(bad: BadIdToken) -> None:
    """CIBA-10.3-03 to -09: a push that does not hold together is turned away; the right one is still taken."""
    client = Client("push")
    client.provider.inject_callback(bad)
    finished = client.run()
    assert finished.tokens is not None
    assert client.answers[0] == ("forged", 400)
    assert client.answers[-1] == ("tokens", 204)
