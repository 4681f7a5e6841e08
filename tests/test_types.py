"""No `Any` in what a public name takes, so that the type checkers see the wrong kind."""

from __future__ import annotations

import builtins
import importlib
import inspect
import itertools
import pkgutil
import typing
from collections import ChainMap, defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import pytest

import ciba_adapters

CORE = [
    "ciba_core",
    *(
        f"ciba_core.{door}"
        for door in ("errors", "events", "hints", "notification", "profiles", "states", "testing")
    ),
]
ADAPTERS = sorted(
    module.name
    for module in pkgutil.walk_packages(ciba_adapters.__path__, "ciba_adapters.")
    if not any(part.startswith("_") for part in module.name.split(".")) and ".cli" not in module.name
)
JSON = (Mapping, dict)
"""What holds JSON values, of whatever kind: ``Mapping[str, Any]``."""
JSON_VALUES = {
    ("GrantedItem", "requested"),
    ("GrantedItem", "granted"),
    ("PendingRequest", "authorization_details"),
}
"""Arrays of JSON values: authorization details, or strings."""
EMBEDDERS = {"store_options"}
"""Parameters that belong to the caller and are handed through to the caller's own code."""


def evaluated(annotation: Any, where: Mapping[str, Any]) -> Any:
    """What is imported for the type checker alone stands for no `Any`, and is taken for a type like any other."""
    if not isinstance(annotation, str):
        return annotation
    unknown: defaultdict[str, Any] = defaultdict(lambda: list)
    return eval(annotation, {}, ChainMap(dict(where), dict(vars(builtins)), unknown))  # our own source


def has_any(kind: Any) -> bool:
    """Of a class of our own, such as a client over any session, the parameters do not matter to who takes it."""
    if kind is Any:
        return True
    parts = typing.get_args(kind)
    if getattr(typing.get_origin(kind), "__module__", "").startswith("ciba_"):
        return False
    if typing.get_origin(kind) in (*JSON, typing.get_origin(typing.Mapping[str, Any])):
        return any(map(has_any, parts[:1]))
    lists: list[list[Any]] = [each if isinstance(each, list) else [each] for each in parts]
    return any(map(has_any, itertools.chain(*lists)))


def taken(call: Callable[..., Any], where: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, parameter in inspect.signature(call).parameters.items():
        if name not in ("self", "cls"):
            kind = parameter.annotation
            yield name, Any if kind is parameter.empty else evaluated(kind, where)


def constructor(cls: type) -> Iterator[tuple[str, Any]]:
    """The fields of an attrs class; where one has a converter, what that takes."""
    for each in attrs.fields(cls):
        if each.init:
            where = vars(importlib.import_module(cls.__module__))
            if callable(each.converter):
                yield (
                    each.alias,
                    next(iter(taken(each.converter, vars(inspect.getmodule(each.converter)))))[1],
                )
            else:
                yield each.alias, evaluated(each.type, where)


def parameters(module: str) -> Iterator[tuple[str, str, Any]]:
    offered = importlib.import_module(module)
    for name in offered.__all__:
        found = getattr(offered, name)
        if inspect.isfunction(found):
            # Of an overloaded function, callers see the overloads alone.
            for call in typing.get_overloads(found) or [found]:
                yield from ((name, *each) for each in taken(call, found.__globals__))
        if not isinstance(found, type):
            continue
        if attrs.has(found):
            yield from ((name, *each) for each in constructor(found))
        for method, member in inspect.getmembers(found, inspect.isfunction):
            written = "attrs generated" not in member.__code__.co_filename
            public = not method.startswith("_") or method == "__init__"
            if written and public and member.__module__.startswith("ciba_"):
                yield from ((f"{name}.{method}", *each) for each in taken(member, member.__globals__))


@pytest.mark.parametrize("module", [*CORE, *ADAPTERS])
def test_what_a_public_name_takes_has_a_type(module: str) -> None:
    """The places for JSON values, and what is handed through to the caller's own code, are the exceptions."""
    found = [(name, parameter) for name, parameter, kind in parameters(module) if has_any(kind)]
    assert [place for place in found if place[1] not in EMBEDDERS and place not in JSON_VALUES] == []


def test_the_count_counts() -> None:
    """Converters, unions and containers are looked into, and what holds JSON values is not."""
    kinds: list[Any] = [Any, list[Any], Any | None, Callable[[Any], int], tuple[str, ...] | list[Any]]
    assert [has_any(kind) for kind in kinds] == [True] * 5
    kinds = [int, Mapping[str, Any], dict[str, Any] | None, tuple[Mapping[str, Any], ...]]
    assert [has_any(kind) for kind in kinds] == [False] * 4
    seen = {(name, parameter): kind for name, parameter, kind in parameters("ciba_core")}
    assert seen["AuthenticationRequest", "scope"] == str | list[str] | tuple[str, ...] | None
    assert len(seen) > 250
