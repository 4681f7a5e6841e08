"""A transaction by another clock: every wait is as long as before."""

from __future__ import annotations

import json
from typing import Any, Final, cast

import pytest
from attrs import evolve

from ciba_core import Transaction
from ciba_core.states import SigningPoll
from ciba_core.transaction.shifted import shifted
from tests.samples import (
    PING_CLIENT,
    TOKENS,
    answer,
    awaiting,
    awaiting_keys,
    fail,
    fetching,
    pending,
    pending_state,
    polling,
    reply,
)

LEAST: Final = 1e9
"""What is larger in a snapshot is a POSIX instant."""

_STATE: Final = pending_state(pending())
SIGNING: Final = evolve(
    pending(),
    state=SigningPoll(
        _STATE.auth_req_id, _STATE.requested, _STATE.expires_at, 5.0, 0, False, sign_by=_STATE.expires_at - 1
    ),
)


def instants(value: Any, path: str = "") -> dict[str, float]:
    """All POSIX instants of a snapshot, except those of tokens, by where they stand."""
    if isinstance(value, dict):
        found: dict[str, float] = {}
        for name, member in cast("dict[str, Any]", value).items():
            if name not in ("untrusted", "tokens"):
                found |= instants(member, f"{path}/{name}")
        return found
    return {path: value} if isinstance(value, (int, float)) and value > LEAST else {}


@pytest.mark.parametrize(
    "transaction",
    [
        awaiting(),
        fail(awaiting(client=PING_CLIENT)).transaction,
        pending(),
        polling(),
        fetching(),
        awaiting_keys(),
        SIGNING,
    ],
    ids=lambda transaction: type(transaction.state).__name__,
)
def test_all_instants_move(transaction: Transaction) -> None:
    """Whatever instant stands in a snapshot moves by the same span, and nothing else changes."""
    before = instants(json.loads(transaction.to_json()))
    moved = shifted(transaction, 100.0)
    assert instants(json.loads(moved.to_json())) == {path: at + 100 for path, at in before.items()}
    assert shifted(moved, -100.0) == transaction


def test_what_has_ended_stays() -> None:
    """The times of tokens are the provider's."""
    ended = answer(polling(), reply(200, TOKENS)).transaction
    assert shifted(ended, 100.0) == ended
