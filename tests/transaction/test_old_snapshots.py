"""Snapshots that earlier versions wrote: what somebody stored before an update comes back after it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import attrs
import pytest

from ciba_core import Resumed, Transaction, step
from tests.samples import CLIENT, NOW, PROVIDER

from .test_states import STATES

STORED: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("snapshots_version_1.json").read_text(encoding="utf-8")
)
"""Never to be written anew: a new form of snapshots gets a file beside this one."""


def without_news(new: Any, old: Any) -> Any:
    """Return the new value without the members that have joined since."""
    if isinstance(old, dict) and isinstance(new, dict):
        members, found = cast("dict[str, Any]", old), cast("dict[str, Any]", new)
        return {name: without_news(found.get(name), value) for name, value in members.items()}
    if isinstance(old, list) and isinstance(new, list):
        items, those = cast("list[object]", new), cast("list[object]", old)
        return [*map(without_news, items, those), *items[len(those) :]]
    return new


def restored(case: dict[str, Any]) -> Transaction:
    client = attrs.evolve(CLIENT, backchannel_token_delivery_mode=case["mode"])
    return Transaction.from_json(json.dumps(case["snapshot"]), client=client, provider=PROVIDER)


def test_every_state_was_stored() -> None:
    """No state is left out."""
    assert {case["state"] for case in STORED} == {type(state).__name__ for state in STATES}


@pytest.mark.parametrize("case", STORED, ids=[case["name"] for case in STORED])
def test_a_stored_snapshot_comes_back(case: dict[str, Any]) -> None:
    """Promise 5 holds from one version to the next: the same state, deadline and members."""
    tx = restored(case)
    assert type(tx.state).__name__ == case["state"]
    assert tx.deadline == case["deadline"]
    assert without_news(json.loads(tx.to_json()), case["snapshot"]) == case["snapshot"]


@pytest.mark.parametrize("case", STORED, ids=[case["name"] for case in STORED])
def test_a_stored_snapshot_goes_on(case: dict[str, Any]) -> None:
    """Promise 5: resumed, it goes to the state to which it went in the version that wrote it."""
    assert type(step(restored(case), Resumed(), NOW + 1).transaction.state).__name__ == case["resumed"]
