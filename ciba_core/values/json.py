"""Strict JSON for what a provider sends: bounded, without the ambiguities that parsers disagree on."""

from __future__ import annotations

import enum
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

__all__ = [
    "NO_MEMBERS",
    "FrozenMapping",
    "JsonFault",
    "dumps",
    "freeze",
    "freeze_object",
    "is_array_of",
    "parse_object",
]


# Of an integer, its sign included. No member of the protocol needs more than a handful, and converting long
# ones is quadratic.
_DIGITS: Final = 64
_SMALLEST: Final = -(10 ** (_DIGITS - 1))
_LARGEST: Final = 10**_DIGITS


class JsonFault(enum.Enum):
    """Why a body is not taken. The value is a phrase for a message; nothing of the body is in it."""

    SYNTAX = "not JSON"
    NOT_AN_OBJECT = "JSON, but not an object"
    DUPLICATE = "a JSON object with a repeated member name"
    NUMBER = "JSON with NaN, Infinity or a number out of range"
    DEPTH = "JSON nested too deeply"
    TEXT = "JSON with text that is not valid Unicode"


class _Refused(ValueError):
    def __init__(self, fault: JsonFault) -> None:
        super().__init__(fault)
        self.fault = fault


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Refused(JsonFault.DUPLICATE)
    return members


def _no_constant(_name: str) -> Any:
    raise _Refused(JsonFault.NUMBER)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _Refused(JsonFault.NUMBER)
    return number


def _bounded_int(text: str) -> int:
    if len(text) > _DIGITS:
        raise _Refused(JsonFault.NUMBER)
    return int(text)


# One decoder for the life of the process; the hooks run inside the C scanner. It takes a value from the start
# of a text and says where that ends: what `decode` does about the space around it, `strip` does for less.
_decode: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite, parse_int=_bounded_int
).raw_decode
_SPACE: Final = " \t\n\r"
# The closing quote is optional, so that a string without an end is skipped once and not tried from each of
# its quotes: the scan stays linear.
_STRING_OR_BRACKET: Final = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def _depth(text: str) -> int:
    deepest = depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        found = match[0]
        if found in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif found in "]}":
            depth -= 1
    return deepest


def parse_object(body: bytes, *, depth_limit: int, mutable: bool = False) -> dict[str, Any] | JsonFault:
    """Parse a JSON object, or say why not.

    What is nested in it is read-only, as `freeze` makes it, unless `mutable` is set by a reader who takes
    it apart at once: it comes as plain lists and dictionaries then, for less.

    Refused are: anything but UTF-8 (a byte order mark included), duplicate member names at any level, NaN and
    infinities, more than `depth_limit` levels, escapes that form no valid Unicode text.
    """
    # The fault is returned, not raised: the exceptions of `json` and of the codec carry the whole body.
    try:
        text = body.decode("utf-8").strip(_SPACE)
        # Searching and counting are fast upper bounds; the exact depth matters only near the limit.
        nested = "[" in text or text.find("{", 1) > 0
        if nested and text.count("[") + text.count("{") > depth_limit and _depth(text) > depth_limit:
            return JsonFault.DEPTH
        value, end = _decode(text)
        if end != len(text):
            return JsonFault.SYNTAX
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except _Refused as refused:
        return refused.fault
    except UnicodeEncodeError:
        return JsonFault.TEXT
    except ValueError:
        return JsonFault.SYNTAX
    if not isinstance(value, dict):
        return JsonFault.NOT_AN_OBJECT
    members = cast("dict[str, Any]", value)
    if nested and not mutable:
        members = {name: freeze(member) for name, member in members.items()}
    return members


def is_array_of(value: Any, kind: type) -> bool:
    """Tell whether a value is a JSON array, or a frozen one, whose items are all of one type."""
    return isinstance(value, (list, tuple)) and all(isinstance(item, kind) for item in value)  # pyright: ignore[reportUnknownVariableType]  # Any in, Any out


class FrozenMapping(Mapping[str, Any]):
    """A JSON object that cannot be changed; hashable, and its own copy, unlike a `types.MappingProxyType`."""

    __slots__ = ("_members",)

    def __init__(self, members: dict[str, Any]) -> None:
        """Take a dictionary over, which its maker must not change any more."""
        self._members = members

    def __getitem__(self, name: str) -> Any:
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __hash__(self) -> int:
        return hash(frozenset(self._members.items()))

    def __repr__(self) -> str:
        return repr(self._members)

    def __copy__(self) -> FrozenMapping:
        return self

    def __deepcopy__(self, memo: object) -> FrozenMapping:
        return self


NO_MEMBERS: Final[Mapping[str, Any]] = FrozenMapping({})
"""An object with nothing in it."""

# The greatest depth that `parse_object` reads, so that a frozen value can be stored and read again.
_LEVELS: Final = 128


def freeze(value: object, levels: int = _LEVELS) -> Any:
    """Return a read-only deep copy of a JSON value: objects become `FrozenMapping`, arrays tuples.

    Raises:
        TypeError: something in it is not a JSON value.
        ValueError: a number is NaN, infinite or an integer of more than 64 characters, a string is not valid
            Unicode, or there are more than `levels` levels.

    """
    # The most frequent kinds first, and without `match`, which takes twice as long.
    if isinstance(value, str):
        if not value.isascii() and _SURROGATE.search(value):
            raise ValueError("text with lone surrogates is not valid Unicode")
        return value
    if value is None:
        return value
    if isinstance(value, int):  # a bool is an int
        if not _SMALLEST < value < _LARGEST:
            raise ValueError(f"an integer has more than {_DIGITS} characters")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("NaN and Infinity are not JSON")
        return value
    if not isinstance(value, (list, tuple, Mapping)):
        raise TypeError(f"{type(value).__name__} is not a JSON value")
    if not levels:
        raise ValueError(f"it has more than {_LEVELS} levels")
    if isinstance(value, Mapping):
        return freeze_object(cast("Mapping[str, object]", value), levels)
    return tuple([freeze(item, levels - 1) for item in cast("list[object]", value)])


def freeze_object(members: Mapping[str, object], levels: int = _LEVELS) -> FrozenMapping:
    """Freeze a JSON object, as `freeze` does."""
    if not all(isinstance(name, str) for name in members):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError("JSON member names are strings")
    return FrozenMapping({freeze(name): freeze(member, levels - 1) for name, member in members.items()})


def dumps(value: object) -> str:
    """Serialise a JSON value, frozen or not, compactly."""
    return _encode(value)


_encode: Final = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=dict
).encode
