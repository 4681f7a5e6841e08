"""What every receiver does alike: one table of callbacks, and the same answers from each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from attrs import frozen

from ciba_core import NotificationReceived, step
from ciba_core.states import Denied
from tests.samples import NOW, SHARED

from .callbacks import (
    ACCESS_TOKEN,
    BAD,
    PUSH,
    PUSHED_ERROR,
    Bad,
    Callback,
    Loop,
    World,
    acknowledged,
    callback,
)
from .receivers import RECEIVERS, Answer, Connection, exchange


@frozen
class Receiver:
    name: str
    world: World
    port: int

    def send(self, sent: Callback) -> Answer:
        self.world.rejected.clear()
        return exchange(self.port, sent.octets())


@pytest.fixture(params=RECEIVERS, scope="module")
def receiver(request: pytest.FixtureRequest) -> Iterator[Receiver]:
    """Each way to receive callbacks."""
    world = World()
    with RECEIVERS[request.param](world.endpoint) as port:
        yield Receiver(request.param, world, port)


def check_form(answer: Answer) -> None:
    """CIBA-9-06, -07: an empty body, no redirect, and nothing that tells why."""
    assert answer.body == b""
    assert not 300 <= answer.status < 400
    assert answer.values("Location") == []
    assert bool(answer.values("WWW-Authenticate")) == (answer.status == 401)


def test_a_good_ping(receiver: Receiver) -> None:
    """CIBA-9-06, CIBA-10.2-05: 204 at once, while the loop does something else, which gets it afterwards."""
    transaction = acknowledged()
    held = receiver.world.hold(transaction)
    answer = receiver.send(callback(transaction))
    check_form(answer)
    assert answer.status == 204
    assert answer.values("Content-Length") in ([], ["0"])
    notification = held.take()
    assert notification is not None
    assert notification.is_ping
    assert receiver.world.rejected == []


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_media_types(receiver: Receiver, content_type: str) -> None:
    """CIBA-9-17: with parameters, and in any case."""
    transaction = acknowledged()
    receiver.world.hold(transaction)
    assert receiver.send(callback(transaction, content_type=content_type)).status == 204


def test_a_good_push(receiver: Receiver) -> None:
    """CIBA-10.3-12: 204 when the loop has checked the tokens."""
    transaction = acknowledged("push")
    loop = Loop(receiver.world.hold(transaction), transaction)
    answer = receiver.send(callback(transaction, PUSH))
    check_form(answer)
    assert answer.status == 204
    tokens = loop.end().tokens
    assert tokens is not None
    assert tokens.access_token.reveal() == ACCESS_TOKEN


def test_a_pushed_error(receiver: Receiver) -> None:
    """CIBA-12-07: the user's refusal is accepted like tokens."""
    transaction = acknowledged("push")
    loop = Loop(receiver.world.hold(transaction), transaction)
    assert receiver.send(callback(transaction, PUSHED_ERROR)).status == 204
    assert isinstance(loop.end().state, Denied)


def test_a_bad_push(receiver: Receiver) -> None:
    """CIBA-10.3-09: tokens that do not pass get 400 without detail, and a good push may follow."""
    transaction = acknowledged("push")
    loop = Loop(receiver.world.hold(transaction), transaction)
    answer = receiver.send(callback(transaction, {**PUSH, "access_token": "another"}))
    check_form(answer)
    assert answer.status == 400
    assert receiver.send(callback(transaction, PUSH)).status == 204
    assert loop.end().tokens is not None


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_bad_callback(receiver: Receiver, bad: Bad) -> None:
    """CIBA-9-05, -12..-15, -18: each has its status and one warning, and the transaction goes on."""
    transaction = acknowledged()
    held = receiver.world.hold(transaction)
    answer = receiver.send(bad.make(transaction))
    check_form(answer)
    assert answer.status == bad.status
    if bad.challenge is not None:
        assert answer.values("WWW-Authenticate") == [bad.challenge]
    assert answer.values("Allow") == (["POST"] if bad.status == 405 else [])
    assert held.ready() == bad.reaches
    assert len(receiver.world.rejected) == (not bad.reaches)
    notification = held.take()
    if notification is not None:
        after = step(transaction, NotificationReceived(notification), NOW, SHARED)
        assert after.transaction == transaction
        assert len(after.events) == 1
    held.close()


def test_a_large_body(receiver: Receiver) -> None:
    """CIBA-9-13: 413 for a body of one octet too many, though nothing in its header says so."""
    transaction = acknowledged()
    receiver.world.hold(transaction)
    body = b'{"auth_req_id": "%s"}' % (b"x" * 65536)
    assert receiver.send(callback(transaction, body)).status == 413


@pytest.mark.parametrize("right", [True, False], ids=["right token", "unknown token"])
def test_a_body_without_end(receiver: Receiver, right: bool) -> None:
    """A body that announces no length is given up when it is too long, and not read where the token is wrong."""
    transaction = acknowledged()
    if right:
        receiver.world.hold(transaction)
    head = callback(transaction, b"", more_headers=(("Transfer-Encoding", "chunked"),)).octets()
    head = head.replace(b"Content-Length: 0\r\n", b"")
    with Connection.to(receiver.port) as connection:
        connection.send(head)
        if right and receiver.name != "wsgi":  # where a body needs a length, by the server of the tests
            for _ in range(17):
                connection.send(b"1000\r\n" + bytes(4096) + b"\r\n")
        expected = 401 if not right else 400 if receiver.name == "wsgi" else 413
        assert connection.answer().status == expected


def test_a_slow_body(receiver: Receiver) -> None:
    """A callback whose body comes octet by octet is like any other."""
    transaction = acknowledged()
    held = receiver.world.hold(transaction)
    with Connection.to(receiver.port) as connection:
        for octet in callback(transaction).octets():
            connection.send(bytes([octet]))
        assert connection.answer().status == 204
    assert held.ready()


def test_a_client_that_goes_away(receiver: Receiver) -> None:
    """Half a body, and then nothing: no notification, no error, and the next callback is served."""
    transaction = acknowledged()
    held = receiver.world.hold(transaction)
    with Connection.to(receiver.port) as connection:
        connection.send(callback(transaction).octets()[:-5])
    assert receiver.send(callback(transaction)).status == 204
    assert held.take() is not None
