"""From a callback to its transaction: the routes, and the way through `receive`."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ciba_core import HttpResponse, Received, Routes, RoutingStore, Secret, Transaction, receive, step
from ciba_core.notification import NotificationRejected, token_hash
from ciba_core.states import Pending
from ciba_core.transaction.inputs import NotificationReceived
from tests.samples import AUTH_REQ_ID, NOW, PING, PING_CLIENT, PROVIDER, pending, status

T: Final = "8d67dc78-7faa-4d41-aabd-67707b374255"
T2: Final = "another-token"
BODY: Final = json.dumps(PING).encode()
Headers = list[tuple[str, str]]


def headers(*authorization: str) -> Headers:
    return [*(("Authorization", value) for value in authorization), ("Content-Type", "application/json")]


def routes(**keys: str) -> Routes:
    found = Routes()
    for token, key in {T: "A", T2: "A2", **keys}.items():
        found.add(token_hash(Secret(token)), key, forget_at=NOW + 100, now=NOW)
    return found


# ---- routes


def test_a_route_is_found_until_it_is_forgotten() -> None:
    """CIBA-9-12, -16: from its beginning to its end, and not at the end itself."""
    known = Routes()
    assert known.find("h", NOW) is None
    known.add("h", "first", forget_at=NOW + 10, now=NOW)
    assert known.find("h", NOW) == "first"
    assert known.find("h", NOW + 9.9) == "first"
    assert known.find("h", NOW + 10) is None
    assert known.find("other", NOW) is None
    assert len(known) == 1


def test_a_route_is_replaced() -> None:
    """The same hash leads to what was said last, for as long as was said last."""
    known = Routes()
    known.add("h", "first", forget_at=NOW + 10, now=NOW)
    known.add("h", "second", forget_at=NOW + 20, now=NOW)
    assert known.find("h", NOW + 15) == "second"
    known.add("h", "third", forget_at=NOW + 5, now=NOW)
    assert known.find("h", NOW + 6) is None
    assert len(known) == 1


def test_routes_are_a_store() -> None:
    """What is in memory can be replaced by what an embedder shares between processes."""
    store: RoutingStore = Routes()
    store.add("h", "key", forget_at=1.0, now=0.0)
    assert store.find("h", 0.0) == "key"


def test_forgotten_routes_go() -> None:
    """The memory is that of the routes in use: those that are over are swept out, the others never."""
    known = Routes()
    for number in range(1024):
        known.add(f"old {number}", "old", forget_at=NOW + 1, now=NOW)
    for number in range(1024):
        known.add(f"new {number}", str(number), forget_at=NOW + 1000, now=NOW)
    assert len(known) == 2048
    # The sweep at 1024 found nothing to forget, and the next one comes when the number may have doubled.
    assert known.find("old 5", NOW) == "old"
    for number in range(1024):
        known.add(f"third {number}", str(number), forget_at=NOW + 1000, now=NOW + 1)
    assert len(known) == 3072
    known.add("last", "last", forget_at=NOW + 1000, now=NOW + 1)
    assert len(known) == 2049
    assert all(known.find(f"{which} {n}", NOW + 1) == str(n) for which in ("new", "third") for n in (0, 9))
    assert known.find("old 5", NOW) is None


def test_memory_is_bounded_at_any_scale() -> None:
    """A hundred thousand transactions, a hundred waiting at a time: the routes do not pile up."""
    known = Routes()
    most = 0
    for number in range(100_000):
        known.add(str(number), "key", forget_at=NOW + number + 100, now=NOW + number)
        most = max(most, len(known))
    assert most <= 2 * 1024
    assert known.find("99999", NOW + 99_999) == "key"
    assert known.find("99899", NOW + 99_999) is None


def test_a_hundred_thousand_waiting() -> None:
    """None of those that wait is lost, however many there are."""
    known = Routes()
    for number in range(100_000):
        known.add(str(number), f"key {number}", forget_at=NOW + 100, now=NOW)
    assert len(known) == 100_000
    assert [known.find(str(number), NOW) for number in (0, 1023, 1024, 50_000, 99_999)] == [
        "key 0", "key 1023", "key 1024", "key 50000", "key 99999",
    ]  # fmt: skip


# ---- receive


def test_a_good_callback() -> None:
    """VEC-CORE-07: a callback leads to its transaction, whose answer it gets."""
    found = receive("POST", headers(f"Bearer {T}"), BODY, routes=routes(), now=NOW)
    assert found.answer is None
    assert found.event is None
    assert found.key == "A"
    assert found.notification is not None
    tx = pending(client=PING_CLIENT)
    assert status(step(tx, NotificationReceived(found.notification), NOW)) == 204


def answered(
    authorization: list[str], body: dict[str, Any], *, known: RoutingStore | None = None
) -> int | None:
    """The status that a callback gets from the endpoint and the transactions A and A2 together."""
    found = receive(
        "POST",
        headers(*authorization),
        json.dumps(body).encode(),
        routes=routes() if known is None else known,
        now=NOW,
    )
    if found.answer is not None:
        assert found.key is None
        assert found.notification is None
        assert isinstance(found.event, NotificationRejected)
        return found.answer.status
    assert found.key is not None
    assert found.notification is not None
    auth_req_id = {"A": AUTH_REQ_ID, "A2": "A2"}[found.key]
    tx = pending({"auth_req_id": auth_req_id, "expires_in": 120}, client=PING_CLIENT)
    moved = step(tx, NotificationReceived(found.notification), NOW)
    assert isinstance(moved.transaction.state, Pending)
    if status(moved) == 204:
        assert moved.transaction != tx
    else:
        assert moved.transaction is tx
    return status(moved)


@pytest.mark.parametrize(
    ("authorization", "body", "expected"),
    [
        ([f"Bearer {T}"], PING, 204),
        ([f"bearer {T}"], PING, 204),
        ([f"Bearer {T} "], PING, 204),
        ([], PING, 401),
        ([f"Basic {T}"], PING, 401),
        ([f"Bearer {T.upper()}"], PING, 401),
        ([f"Bearer {T2}"], PING, 401),
        ([f"Bearer {T2}"], {"auth_req_id": "A2"}, 204),
        ([f"Bearer {T}"], {"auth_req_id": "A2"}, 401),
        ([f"Bearer {T}"], {"auth_req_id": "unknown"}, 401),
        ([f"Bearer {T}"], {}, 400),
        ([f"Bearer {T}"], {"auth_req_id": 5}, 400),
        ([f"Bearer {T}"], {**PING, "foo": [1]}, 204),
        ([f"Bearer {T}"] * 2, PING, 401),
        ([f"Bearer {T[:-1]}"], PING, 401),
        ([f"Bearer {token_hash(Secret(T))}"], PING, 401),
    ],
    ids=str,
)
def test_callback_authentication(authorization: list[str], body: dict[str, Any], expected: int) -> None:
    """VEC-DER-06, CIBA-9-04, -05, -09, -12: the token has to be the one of the ``auth_req_id``."""
    assert answered(authorization, body) == expected


def test_an_unknown_token_and_a_foreign_one_look_the_same() -> None:
    """CIBA-9-12: nobody can find out which tokens or identifiers exist."""
    unknown = receive("POST", headers("Bearer nobody"), BODY, routes=routes(), now=NOW)
    foreign = receive("POST", headers(f"Bearer {T2}"), BODY, routes=routes(), now=NOW)
    assert foreign.notification is not None
    tx = pending({"auth_req_id": "A2", "expires_in": 120}, client=PING_CLIENT)
    assert step(tx, NotificationReceived(foreign.notification), NOW).answer == unknown.answer
    assert unknown.answer == HttpResponse(401, {"WWW-Authenticate": 'Bearer error="invalid_token"'}, b"")


def test_a_route_that_is_over() -> None:
    """CIBA-9-16: once the route is forgotten, its token is as unknown as any other."""
    found = receive("POST", headers(f"Bearer {T}"), BODY, routes=routes(), now=NOW + 100)
    assert found.answer is not None
    assert found.answer.status == 401
    assert receive("POST", headers(f"Bearer {T}"), BODY, routes=routes(), now=NOW + 99).answer is None


def test_an_unknown_token_hides_what_is_wrong_with_the_body() -> None:
    """CIBA-9-15: the body is not looked at before the token is known."""
    for body in (b"", b"[]", bytes(99_999), b"{}"):
        unknown = receive("POST", headers("Bearer nobody"), body, routes=routes(), now=NOW)
        assert unknown.answer is not None
        assert unknown.answer.status == 401


@pytest.mark.parametrize(
    ("method", "more", "body", "expected"),
    [("GET", [], BODY, 405), ("POST", [("Content-Length", "11")], b"{}", 413), ("POST", [], b" " * 11, 413)],
)
def test_the_limit_reaches_both_halves(method: str, more: Headers, body: bytes, expected: int) -> None:
    """CIBA-9-13: what the caller allows is what is read."""
    found = receive(method, [*headers(f"Bearer {T}"), *more], body, routes=routes(), now=NOW, body_limit=10)
    assert found.answer is not None
    assert found.answer.status == expected
    assert (found.key, found.notification) == (None, None)
    assert found.event is not None


def test_nothing_has_come_by_default() -> None:
    """The value that an adapter tells its own results by."""
    assert Received() == Received(None, None, None, None)


def test_through_a_snapshot() -> None:
    """Promise 5: a callback in another process finds the transaction that was stored under its name."""
    stored = {"A": pending(client=PING_CLIENT).to_json()}
    found = receive("POST", headers(f"Bearer {T}"), BODY, routes=routes(), now=NOW)
    assert found.key is not None
    assert found.notification is not None
    tx = Transaction.from_json(stored[found.key], client=PING_CLIENT, provider=PROVIDER)
    moved = step(tx, NotificationReceived(found.notification), NOW + 1)
    assert status(moved) == 204
    assert moved.transaction.deadline == NOW + 1


@settings(deadline=None)
@given(
    method=st.sampled_from(["POST", "POST", "GET"]) | st.text(max_size=5),
    authorization=st.lists(
        st.sampled_from([f"Bearer {T}", f"bearer {T2}", "Bearer x", f"Basic {T}"]) | st.text(), max_size=2
    ),
    body=st.sampled_from([BODY, b"{}", b"[]", b'{"auth_req_id":1}']) | st.binary(),
)
def test_any_callback(method: str, authorization: list[str], body: bytes) -> None:
    """Bad input: either a documented answer with an event, or a notification with a name; no exception."""
    found = receive(method, headers(*authorization), body, routes=routes(), now=NOW)
    if found.answer is None:
        assert found.key in ("A", "A2")
        assert found.notification is not None
        assert found.event is None
    else:
        assert found.answer.status in (400, 401, 405)
        assert found.answer.body == b""
        assert (found.key, found.notification) == (None, None)
        assert found.event is not None
        assert not any(T in shown or T2 in shown for shown in (repr(found), found.event.message))
