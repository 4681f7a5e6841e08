"""Callbacks over real HTTP on loopback."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future

import pytest
import trustme

from ciba_core.testing import (
    Approve,
    Callback,
    CallbackSender,
    LoopbackServer,
    NoReply,
    RealClock,
    Reply,
    SimulatedClient,
    SimulatedProvider,
)

from .world import FORM

TOKEN = "8d67dc78-7faa-4d41-aabd-67707b374255"
HEADERS = (("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer x"), ("Content-Type", "a/b"))


class Endpoint:
    """A handler that notes what comes."""

    def __init__(self, reply: Reply | NoReply) -> None:
        self.reply = reply
        self.received: list[tuple[str, str, tuple[tuple[str, str], ...], bytes]] = []
        self.called = threading.Event()

    def __call__(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> Reply | NoReply:
        self.received.append((method, target, tuple(headers), body))
        self.called.set()
        return self.reply


def callback(url: str) -> Callback:
    return Callback(url, HEADERS, b'{"auth_req_id": "1"}', "1", due=0.0)


@pytest.mark.parametrize("path", ["/cb", "/cb?a=b", ""])
@pytest.mark.parametrize("status", [204, 200, 401, 302])
def test_what_is_sent(path: str, status: int) -> None:
    """CIBA-9-08, -10: the callback as it is, repeated header fields included, and no redirect followed."""
    endpoint = Endpoint(Reply(status, (("Location", "/elsewhere"),)))
    with LoopbackServer(endpoint) as server:
        assert CallbackSender(patience=5)(callback(server.url + path)) == status
    ((method, target, headers, body),) = endpoint.received
    assert (method, target, body) == ("POST", path or "/", b'{"auth_req_id": "1"}')
    assert [one for one in headers if one[0] in {"Authorization", "Content-Type"}] == [*HEADERS]


def test_no_answer() -> None:
    """Nobody there, a connection that is closed, and an answer that does not come: all the same."""
    with LoopbackServer(Endpoint(NoReply(acted=True))) as server:
        assert CallbackSender(patience=5)(callback(server.url)) is None
    assert CallbackSender(patience=5)(callback(server.url)) is None
    with LoopbackServer() as server:

        def hang(*_request: object) -> Reply:
            server.closing.wait()
            return Reply(204)

        server.handler = hang
        assert CallbackSender(timeout=0.05, patience=5)(callback(server.url)) is None


def test_a_late_answer() -> None:
    """SM-05: an answer that waits for something else holds nobody up, and is noted when it comes."""
    go_on = threading.Event()

    def hold(*_request: object) -> Reply:
        go_on.wait(5)
        return Reply(204)

    with LoopbackServer(hold) as server:
        answer = CallbackSender(patience=0.02)(callback(server.url))
        assert isinstance(answer, Future)
        go_on.set()
        assert answer.result(5) == 204


def test_what_cannot_be_sent() -> None:
    """A callback that is no request is a mistake of the caller, and said at once."""
    with pytest.raises(ValueError, match="header"):
        CallbackSender(patience=5)(Callback("http://127.0.0.1:1/", (("A", "b\nc"),), b"", "1", due=0.0))


def test_tls() -> None:
    """CIBA-9-01: over TLS to whom the context trusts, and to nobody else."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  # of pyOpenSSL
    trust = ssl.create_default_context()
    authority.configure_trust(trust)  # pyright: ignore[reportUnknownMemberType]  # of pyOpenSSL
    endpoint = Endpoint(Reply(204))
    with LoopbackServer(endpoint, ssl_context=context) as server:
        assert CallbackSender(ssl_context=trust, patience=5)(callback(server.url + "/cb")) == 204
        assert CallbackSender(patience=5)(callback(server.url + "/cb")) is None
    assert len(endpoint.received) == 1


def test_a_provider_in_real_time() -> None:
    """A provider behind a port calls back a client behind another one, from the clock's thread."""
    endpoint = Endpoint(Reply(204))
    with LoopbackServer(endpoint) as listener, RealClock() as clock:
        client = SimulatedClient(
            "me",
            token_endpoint_auth_method="none",
            backchannel_token_delivery_mode="ping",
            backchannel_client_notification_endpoint=listener.url + "/cb",
        )
        users = {"alice": Approve(after=0.01)}
        provider = SimulatedProvider(clock, clients=[client], users=users, deliver=CallbackSender(patience=5))
        form = f"client_id=me&scope=openid&login_hint=alice&client_notification_token={TOKEN}"
        reply = provider.handle("POST", "/bc-authorize", [("Content-Type", FORM)], form.encode())
        assert isinstance(reply, Reply)
        assert endpoint.called.wait(5)
        recorded = threading.Event()
        clock.call_at(time.monotonic(), recorded.set)  # after the callback has been noted
        assert recorded.wait(5)
        entry = provider.journal[-1]
    assert (entry.endpoint, entry.outcome, entry.status) == ("client_notification", "ping", 204)
    assert json.loads(endpoint.received[0][3]) == {"auth_req_id": json.loads(reply.body)["auth_req_id"]}
