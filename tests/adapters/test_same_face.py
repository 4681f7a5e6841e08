"""The sync and the async client have one face: the same methods, parameters and documentation."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any, Final

import pytest

from ciba_adapters.client import AsyncClient, SyncClient

DIFFERENT: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "steps": (
        (
            "to give up.",
            "to give up, within ``contextlib.aclosing()``: trio warns of an async generator that was left half-way.",
        ),
    ),
    "run": (
        (
            "them is asked for.",
            "them is asked for. To stop early, iterate within ``contextlib.aclosing()``, as for `steps`.",
        ),
    ),
    "login_backchannel": (("If the process ends,", "If the process or the task ends,"),),
}
"""What the documentation says of a sync method, and of its async twin instead."""


def methods(client: type[Any]) -> dict[str, Any]:
    return {name: found for name, found in inspect.getmembers(client, callable) if not name.startswith("_")}


SYNC: Final = methods(SyncClient)
ASYNC: Final = methods(AsyncClient)


def parameters(method: Any) -> list[tuple[str, Any, Any]]:
    """Name, kind and default of each, but of `cancellation`, which is the event loop's business."""
    found = inspect.signature(method).parameters.values()
    return [(each.name, each.kind, each.default) for each in found if each.name != "cancellation"]


def words(method: Any) -> str:
    """The documentation without line breaks, and without what `cancellation` is for."""
    text = re.sub(
        r"^    cancellation: .*\n(?:        .*\n)*", "", inspect.getdoc(method) or "", flags=re.MULTILINE
    )
    return " ".join(text.split())


def test_same_methods() -> None:
    """Neither client has a public method that the other lacks."""
    assert SYNC.keys() == ASYNC.keys()
    assert {"authenticate", "refresh", "login_backchannel", "make_transport"} <= SYNC.keys()


@pytest.mark.parametrize("name", SYNC)
def test_same_parameters(name: str) -> None:
    """A call of the one is a call of the other, awaited."""
    assert parameters(SYNC[name]) == parameters(ASYNC[name])


@pytest.mark.parametrize("name", SYNC)
def test_same_documentation(name: str) -> None:
    """What is said of the one is said of the other, but for what is listed."""
    expected = words(SYNC[name])
    assert expected
    for sync_words, async_words in DIFFERENT.get(name, ()):
        assert expected.count(sync_words) == 1
        expected = expected.replace(sync_words, async_words)
    assert words(ASYNC[name]) == expected


def test_who_can_be_cancelled() -> None:
    """Whatever sends requests for a transaction or an operation, or waits, takes a cancellation."""
    cancellable = {
        name for name, method in SYNC.items() if "cancellation" in inspect.signature(method).parameters
    }
    assert cancellable == {
        "adopt_login",
        "advance",
        "authenticate",
        "check_pending",
        "ensure_session",
        "initiate",
        "login_backchannel",
        "refresh",
        "resume",
        "resume_pending",
        "revoke",
        "run",
        "start_login",
        "steps",
        "userinfo",
    }
