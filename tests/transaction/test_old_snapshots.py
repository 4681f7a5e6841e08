"""Snapshots that earlier versions wrote: what somebody stored before an update comes back after it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, cast

import attrs
import pytest

from ciba_core import Resumed, Transaction, step
from tests.samples import CLIENT, NOW, PROVIDER

from .test_states import STATES

VERSIONS: Final = (1, 2)
BY_VERSION: Final[dict[int, list[dict[str, Any]]]] = {
    version: json.loads(
        Path(__file__).with_name(f"snapshots_version_{version}.json").read_text(encoding="utf-8")
    )
    for version in VERSIONS
}
"""Never to be written anew: a new form of snapshots gets a file beside these."""
STORED: Final = [case for version in VERSIONS for case in BY_VERSION[version]]
NAMES: Final = [f"{version}: {case['name']}" for version in VERSIONS for case in BY_VERSION[version]]
HEALED: Final = {"holding a push": "FetchingKeys"}
"""What version 1 gave up, and a callback heals now."""


def without_news(new: Any, old: Any) -> Any:
    """Return the new value without the members that have joined since, and with the old version."""
    if isinstance(old, dict) and isinstance(new, dict):
        members, found = cast("dict[str, Any]", old), cast("dict[str, Any]", new)
        return {
            name: value if name == "version" else without_news(found.get(name), value)
            for name, value in members.items()
        }
    if isinstance(old, list) and isinstance(new, list):
        items, those = cast("list[object]", new), cast("list[object]", old)
        return [*map(without_news, items, those), *items[len(those) :]]
    return new


def restored(case: dict[str, Any]) -> Transaction:
    client = attrs.evolve(CLIENT, backchannel_token_delivery_mode=case["mode"])
    return Transaction.from_json(json.dumps(case["snapshot"]), client=client, provider=PROVIDER)


def test_every_state_was_stored() -> None:
    """No state is left out; the version that the snapshots say is that of the file."""
    assert {case["state"] for case in BY_VERSION[VERSIONS[-1]]} == {type(state).__name__ for state in STATES}
    for version in VERSIONS:
        assert {case["snapshot"]["version"] for case in BY_VERSION[version]} == {version}
    assert json.loads(Transaction(client=CLIENT, provider=PROVIDER).to_json())["version"] == VERSIONS[-1]


@pytest.mark.parametrize("case", STORED, ids=NAMES)
def test_a_stored_snapshot_comes_back(case: dict[str, Any]) -> None:
    """Promise 5 holds from one version to the next: the same state, deadline and members."""
    tx = restored(case)
    assert type(tx.state).__name__ == case["state"]
    assert tx.deadline == case["deadline"]
    assert without_news(json.loads(tx.to_json()), case["snapshot"]) == case["snapshot"]


@pytest.mark.parametrize("case", STORED, ids=NAMES)
def test_a_stored_snapshot_goes_on(case: dict[str, Any]) -> None:
    """Promise 5: resumed, it goes to the state to which it went in the version that wrote it, or a better one."""
    expected = case["resumed"]
    if expected == "Failed":
        expected = HEALED.get(case["name"], expected)
    assert type(step(restored(case), Resumed(), NOW + 1).transaction.state).__name__ == expected
