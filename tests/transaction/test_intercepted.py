"""Something in front of the provider keeps answering in its place."""

from __future__ import annotations

import attrs
import pytest

from ciba_core import HttpResponse, PollingPolicy, Step, Transaction
from ciba_core.errors import RemoteProtocolError, TokenResponseLost
from ciba_core.events import PollFailed, PollsIntercepted, ProviderDeviation, TokenRequestFailed
from ciba_core.states import Authenticated, Pending
from tests.samples import ACKNOWLEDGEMENT, CLIENT, TOKENS, answer, fail, fire, pending, polling, reply

PAGE = reply(403, "<html>Just a moment...</html>", media_type="text/html")
LIMITED = attrs.evolve(CLIENT, polling=PollingPolicy(safety_margin=0, intercepted_limit=2))


def poll(tx: Transaction, response: HttpResponse) -> Step:
    """The next poll, and its answer."""
    sent = fire(tx)
    assert sent.request is not None
    return answer(sent.transaction, response, now=tx.deadline or 0.0)


def told(current: Step) -> list[int]:
    return [event.count for event in current.events if isinstance(event, PollsIntercepted)]


def count(tx: Transaction) -> int:
    assert isinstance(tx.state, Pending)
    return tx.state.intercepted


def test_the_third_in_a_row_is_told() -> None:
    """CIBA-10.1-13: once, as an event that is a deviation, too; polling goes on, and the tokens come."""
    tx = pending({**ACKNOWLEDGEMENT, "expires_in": 10_000})
    found: list[list[int]] = []
    for _ in range(5):
        current = poll(tx, PAGE)
        assert isinstance(current.events[0], PollFailed)
        found.append(told(current))
        tx = current.transaction
    assert found == [[], [], [3], [], []]
    assert issubclass(PollsIntercepted, ProviderDeviation)
    assert isinstance(poll(tx, reply(200, TOKENS)).transaction.state, Authenticated)


def test_only_the_provider_ends_a_row() -> None:
    """CIBA-11-01: a fault of the network in between does not; an answer of the provider does."""
    tx = poll(pending({**ACKNOWLEDGEMENT, "expires_in": 10_000}), PAGE).transaction
    tx = poll(tx, reply(503)).transaction
    sent = fire(tx)
    tx = fail(sent.transaction, now=tx.deadline or 0.0).transaction
    assert count(tx) == 1
    tx = poll(tx, PAGE).transaction
    assert count(tx) == 2
    tx = poll(tx, reply(400, {"error": "authorization_pending"})).transaction
    assert count(tx) == 0
    assert told(poll(tx, PAGE)) == []


def test_a_row_survives_a_restart() -> None:
    """Promise 5: the count is part of the snapshot, and a snapshot without it has none."""
    tx = poll(poll(pending({**ACKNOWLEDGEMENT, "expires_in": 10_000}), PAGE).transaction, PAGE).transaction
    again = Transaction.from_json(tx.to_json(), client=tx.client, provider=tx.provider)
    assert again.state == tx.state
    assert told(poll(again, PAGE)) == [3]
    assert "intercepted" not in polling().to_json()


def test_a_limit_ends_it() -> None:
    """`PollingPolicy.intercepted_limit`: off by default; the error says what answered, and how often."""
    first = poll(pending(client=LIMITED), PAGE)
    assert isinstance(first.transaction.state, Pending)
    last = poll(first.transaction, reply(302, b"", ("Location", "https://portal.example/")))
    assert isinstance(last.events[0], TokenRequestFailed)
    error = last.transaction.error
    assert isinstance(error, RemoteProtocolError)
    assert str(error) == (
        "token endpoint: something in front of it has answered 2 polls in a row; the last: status 302 with "
        "neither tokens nor an OAuth error [RFC 6749 5]"
    )


@pytest.mark.parametrize("limit", [0, -1, 1.5, True])
def test_limits_that_are_none(limit: object) -> None:
    """A limit is a whole number from 1 on."""
    with pytest.raises((TypeError, ValueError), match="intercepted_limit"):
        PollingPolicy(intercepted_limit=limit)  # type: ignore[arg-type]


def test_tokens_behind_a_page() -> None:
    """CIBA-10.1.1-05: the page may have stood in front of tokens that were issued."""
    tx = poll(pending(), PAGE).transaction
    assert type(poll(tx, reply(400, {"error": "invalid_grant"})).transaction.error) is TokenResponseLost
