"""Requests for individual claims (OpenID Connect Core 5.5), and what came of them.

A provider need not send a claim because it was asked for as essential, and it answers without an error where
a value that was asked for is not to be had (5.5.1): the client has to look. The same holds for what is asked
for in ``verified_claims`` (OpenID Connect for Identity Assurance 1.0, 6), which has entries of the same kind
at any depth.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, Final, cast

from ciba_core.values.json import NO_MEMBERS, is_array_of

__all__ = ["Found", "acceptable", "entry_problem", "found", "is_essential", "told_apart"]

VERIFIED: Final = "verified_claims"
_WISHES: Final = frozenset({"essential", "value", "values", "purpose", "max_age"})
"""Members of an entry that are no claims themselves."""
_COMPARED: Final = ("acr", "sub")
"""The claims whose values in the ID Token are compared with those that were asked for."""
_NOTHING: Final = object()


class Found(enum.Enum):
    """What came of a claim that was asked for as essential, or with values."""

    AS_REQUESTED = "as requested"
    MISSING = "missing"
    OTHER_VALUE = "another value"


def acceptable(entry: Mapping[str, Any] | None) -> tuple[Any, ...]:
    """Return the values that the request for one claim names."""
    if entry is None:
        return ()
    return (entry["value"],) if "value" in entry else entry.get("values", ())


def is_essential(entry: Mapping[str, Any] | None) -> bool:
    """Tell whether a claim was asked for as essential."""
    return entry is not None and entry.get("essential") is True


def entry_problem(claim: str, entry: Any) -> str | None:
    """Say what is wrong with a request for one claim, so that no wish is sent which nothing comes of."""
    if entry is None:
        return None
    if claim == VERIFIED:
        entries: Any = [entry] if isinstance(entry, Mapping) else entry
        if not entries or not is_array_of(entries, Mapping):
            return "must be null, an object or an array of objects"
        return _nested_problem(entries)
    if not isinstance(entry, Mapping):
        return "must be null or an object"
    members = cast("Mapping[str, Any]", entry)
    problem = _wish_problem(members)
    if problem is None and claim in _COMPARED and not is_array_of(acceptable(members), str):
        return "must have strings as value or values"
    return problem


def _wish_problem(members: Mapping[str, Any]) -> str | None:
    if not isinstance(members.get("essential", False), bool):
        return "must have a boolean as essential"
    if "value" in members and "values" in members:
        return "must not have both value and values"
    if "values" in members and not (is_array_of(members["values"], object) and members["values"]):
        return "must have an array that is not empty as values"
    return None


def _nested_problem(node: Any) -> str | None:
    problem: str | None = None
    if isinstance(node, Mapping):
        members = cast("Mapping[str, Any]", node)
        problem = _wish_problem(members)
        children: Any = [child for name, child in members.items() if name not in _WISHES]
    else:
        children = node if is_array_of(node, object) else ()
    for child in children:
        problem = problem or _nested_problem(child)
    return problem


def found(entries: Mapping[str, Any] | None, claims: Mapping[str, Any]) -> dict[str, Found]:
    """Say of each claim that was asked for as essential, or with values, what came of it.

    Args:
        entries: the member ``id_token`` or ``userinfo`` of a request for claims.
        claims: what came there.

    Returns:
        By the name of the claim; in ``verified_claims`` by the names on the way to it, joined by dots, with a
        number in brackets where several objects were asked for. What is null or an empty string is missing.

    """
    results: dict[str, Found] = {}
    for claim, entry in (entries or NO_MEMBERS).items():
        actual: Any = claims.get(claim, _NOTHING)
        if claim == VERIFIED:
            wanted: Any = [entry] if isinstance(entry, Mapping) else entry or ()
            results.update(_of_several(wanted, actual, claim))
        elif isinstance(entry, Mapping):
            results.update(_of_wish(cast("Mapping[str, Any]", entry), actual, claim))
    return results


def _of_several(wanted: Any, actual: Any, path: str) -> Iterator[tuple[str, Found]]:
    """Look for each object that was asked for among those that came: the one that has most of it counts."""
    candidates: Any = actual if is_array_of(actual, object) else (actual,)
    for number, node in enumerate(wanted):
        place = path if len(wanted) == 1 else f"{path}[{number}]"
        several = [dict(_of_node(node, candidate, place)) for candidate in candidates or (_NOTHING,)]
        yield from min(several, key=_misses).items()


def _misses(results: Mapping[str, Found]) -> int:
    return sum(result is not Found.AS_REQUESTED for result in results.values())


def _of_node(node: Any, actual: Any, path: str) -> Iterator[tuple[str, Found]]:
    if is_array_of(node, object):
        yield from _of_several(node, actual, path)
    elif isinstance(node, Mapping):
        members = cast("Mapping[str, Any]", node)
        yield from _of_wish(members, actual, path)
        came = cast("Mapping[str, Any]", actual) if isinstance(actual, Mapping) else NO_MEMBERS
        for name, child in members.items():
            if name not in _WISHES:
                yield from _of_node(child, came.get(name, _NOTHING), f"{path}.{name}")


def _of_wish(entry: Mapping[str, Any], actual: Any, path: str) -> Iterator[tuple[str, Found]]:
    # A value of null is none: nothing is asked for by it.
    values = [told_apart(value) for value in acceptable(entry) if value is not None]
    if not values and not is_essential(entry):
        return
    if actual is _NOTHING or actual is None or actual == "":
        yield path, Found.MISSING
    else:
        met = not values or told_apart(actual) in values
        yield path, Found.AS_REQUESTED if met else Found.OTHER_VALUE


def told_apart(value: object) -> Hashable:
    """Return what equal JSON values have in common; to Python, true and 1 are equal."""
    if isinstance(value, bool):
        return bool, value
    if isinstance(value, (list, tuple)):
        return tuple(map(told_apart, cast("list[object]", value)))
    if isinstance(value, Mapping):
        members = cast("Mapping[str, object]", value)
        return frozenset((name, told_apart(member)) for name, member in members.items())
    return value
