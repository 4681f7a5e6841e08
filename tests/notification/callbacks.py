"""Callbacks as a provider sends them and as it must not, and transactions that wait for them."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from attrs import evolve, field, frozen

from ciba_adapters.notification import Held, NotificationEndpoint
from ciba_core import (
    ClientConfig,
    HttpResponse,
    NotificationReceived,
    Routes,
    Shared,
    Step,
    Transaction,
    step,
)
from ciba_core.jose.signing import half_hash
from ciba_core.notification import NotificationRejected
from ciba_core.testing import VirtualClock
from tests.samples import AUTH_REQ_ID, CLIENT, NOW, SHARED, awaiting, id_token, pending

Mode = Literal["ping", "push"]
PATIENCE: Final = 10.0
"""Seconds after which whatever should have happened at once has not happened."""
ACCESS_TOKEN: Final = "G5kXH2wHvUra0sHlDy1iTkDJgsgUO1bN"
PING: Final[Mapping[str, Any]] = {"auth_req_id": AUTH_REQ_ID}
_BOUND: Final[dict[str, Any]] = {
    "at_hash": half_hash("Ed25519", ACCESS_TOKEN),
    "urn:openid:params:jwt:claim:auth_req_id": AUTH_REQ_ID,
}
PUSH: Final[Mapping[str, Any]] = {
    **PING,
    "access_token": ACCESS_TOKEN,
    "token_type": "Bearer",
    "expires_in": 120,
    "id_token": id_token(**_BOUND),
}
PUSHED_ERROR: Final = {**PING, "error": "access_denied"}

_seeds: Final = itertools.count(1)


def _entropy(count: int) -> bytes:
    return next(_seeds).to_bytes(count, "big")


def client(mode: Mode) -> ClientConfig:
    """A client whose transactions have a token each."""
    return evolve(CLIENT, backchannel_token_delivery_mode=mode, entropy=_entropy)


def acknowledged(mode: Mode = "ping", *, expires_in: int = 120) -> Transaction:
    """A transaction that waits for its callback."""
    return pending({"auth_req_id": AUTH_REQ_ID, "expires_in": expires_in, "interval": 2}, client=client(mode))


def unacknowledged(mode: Mode = "ping") -> Transaction:
    """A transaction whose authentication request is under way."""
    return awaiting(client=client(mode))


@frozen
class Callback:
    """A request to the client notification endpoint."""

    body: bytes
    authorization: tuple[str, ...] = ()
    method: str = "POST"
    content_type: str | None = "application/json"
    more_headers: tuple[tuple[str, str], ...] = ()
    content_length: int | None = field(default=None, kw_only=True)
    """What is claimed, if not the truth."""

    @property
    def headers(self) -> list[tuple[str, str]]:
        content_type = [] if self.content_type is None else [("Content-Type", self.content_type)]
        length = len(self.body) if self.content_length is None else self.content_length
        return [
            ("Host", "client.example"),
            *content_type,
            *(("Authorization", value) for value in self.authorization),
            *self.more_headers,
            ("Content-Length", str(length)),
        ]

    def octets(self, path: str = "/cb") -> bytes:
        """The request as HTTP/1.1 has it."""
        lines = [f"{self.method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in self.headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


def token_of(transaction: Transaction) -> str:
    assert transaction.client_notification_token is not None
    return transaction.client_notification_token.reveal()


def callback(transaction: Transaction, content: Mapping[str, Any] | bytes = PING, **changes: Any) -> Callback:
    """A callback under the transaction's own token."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return evolve(Callback(body, (f"Bearer {token_of(transaction)}",)), **changes)


class World:
    """An endpoint in virtual time, and what it tells."""

    def __init__(self, **settings: Any) -> None:
        self.clock = VirtualClock(NOW)
        self.rejected: list[NotificationRejected] = []
        settings.setdefault("on_rejected", self.rejected.append)
        self.endpoint = NotificationEndpoint(clock=self.clock, **settings)

    def hold(self, transaction: Transaction, *, shared: Shared = SHARED, key: str | None = None) -> Held:
        return self.endpoint.hold(transaction, shared=shared, key=key)

    def send(self, callback: Callback) -> HttpResponse:
        """Deliver a callback from a web server without an event loop."""
        return self.endpoint.answer_sync(callback.method, callback.headers, callback.body)


def elsewhere(transaction: Transaction) -> Routes:
    """The routes of a process that shares them with the one that has the transaction."""
    routes = Routes()
    World(routes=routes).hold(transaction, key="order-17")
    return routes


class Loop:
    """The loop of a client in a thread of its own: feeds what comes until the transaction has ended."""

    def __init__(self, held: Held, transaction: Transaction, *, shared: Shared = SHARED) -> None:
        self.steps = [Step(transaction, shared=shared)]
        self._held = held
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self.steps[-1].transaction.is_finished:
            notification = self._held.wait(PATIENCE)
            if notification is None:
                break
            current = self.steps[-1]
            self.steps.append(
                step(current.transaction, NotificationReceived(notification), NOW, current.shared)
            )
            self._held.update(self.steps[-1])
        self._held.close()

    def end(self) -> Transaction:
        """Wait for the end."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self.steps[-1].transaction


@frozen
class Bad:
    """A callback that is turned away."""

    make: Callable[[Transaction], Callback]
    status: int
    challenge: str | None = None
    """What ``WWW-Authenticate`` has to be."""
    reaches: bool = False
    """Whether it is the transaction that turns it away."""


INVALID: Final = 'Bearer error="invalid_token"'


def _of(content: Mapping[str, Any] | bytes = PING, **changes: Any) -> Callable[[Transaction], Callback]:
    return lambda transaction: callback(transaction, content, **changes)


def _twice(transaction: Transaction) -> Callback:
    return callback(transaction, authorization=(f"Bearer {token_of(transaction)}",) * 2)


BAD: Final[dict[str, Bad]] = {
    "GET": Bad(_of(b"", method="GET"), 405),
    "PUT": Bad(_of(method="PUT"), 405),
    "no token": Bad(_of(authorization=()), 401, "Bearer"),
    "two Authorization fields": Bad(_twice, 401),
    "Basic": Bad(_of(authorization=("Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3",)), 401, "Bearer"),
    "not a token": Bad(_of(authorization=("Bearer \xe4\xf6\xfc",)), 401, INVALID),
    "unknown token": Bad(_of(authorization=("Bearer 8d67dc78-7faa-4d41-aabd-67707b374255",)), 401, INVALID),
    "text": Bad(_of(content_type="text/plain"), 415),
    "form": Bad(_of(b"auth_req_id=1c266114", content_type="application/x-www-form-urlencoded"), 415),
    "no media type": Bad(_of(content_type=None), 415),
    "gzip": Bad(_of(more_headers=(("Content-Encoding", "gzip"),)), 415),
    "1 GB, not sent": Bad(_of(b"", content_length=1 << 30), 413),
    "no body": Bad(_of(b""), 400),
    "not JSON": Bad(_of(b"auth_req_id"), 400),
    "not an object": Bad(_of(b'["1c266114"]'), 400),
    "invalid UTF-8": Bad(_of(b'{"auth_req_id": "\xff\xfe"}'), 400),
    "two byte order marks": Bad(_of(2 * b"\xef\xbb\xbf" + json.dumps(PING).encode()), 400),
    "duplicate members": Bad(_of(b'{"auth_req_id": "1c266114", "auth_req_id": "1c266114"}'), 400),
    "deep nesting": Bad(_of(b'{"auth_req_id": "x", "y": ' + b"[" * 1000 + b"]" * 1000 + b"}"), 400),
    "no auth_req_id": Bad(_of({"error": "access_denied"}), 400),
    "auth_req_id a number": Bad(_of({"auth_req_id": 1266114}), 400),
    "auth_req_id null": Bad(_of({"auth_req_id": None}), 400),
    "another auth_req_id": Bad(_of({"auth_req_id": "another"}), 401, INVALID, reaches=True),
    "a push in ping mode": Bad(_of(PUSH), 400, reaches=True),
}
"""Callbacks for a transaction in ping mode."""
