"""What is read leniently: forms that deviate from a standard and leave no doubt about what is meant.

The user may have approved by the time an answer is read, so that no answer is given up for its form alone.
Each reader here takes one such form and notes it: `noted` is the list of the deviations so far, which the
caller turns into events.

===================================  ==================================================================
what comes                           how it is read
===================================  ==================================================================
``null`` or ``""``                   as a member that is absent
``"120"`` for a number               as the number: 1 to 10 ASCII digits, nothing else beside them
``5.0`` or ``5.5`` for an integer    as the number
``["a", "b"]`` for ``"a b"``         as the list, where no item has a space or is empty
a byte order mark before the JSON    as if it were not there; not inside a JWT
===================================  ==================================================================

Which members are read in this way is decided where they are read. Never are: ``iss``, ``aud``, ``exp``,
``iat``, ``sub``, the claims of CIBA, access tokens and their type, and the ``auth_req_id``. Members that come
twice are refused everywhere (`parse_object`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from attrs import frozen

from ciba_core.values.json import JsonFault, is_array_of, parse_object

__all__ = ["ProviderDeviation", "is_absent", "number", "parse_body", "present", "space_separated"]


@frozen(weakref_slot=False)
class ProviderDeviation:
    """The provider bent a rule in a way that does no harm. Worth a log line; it changes no state."""

    rule: str
    """The rule and its source."""
    message: str
    """What was found, and what the library does about it."""


_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_DIGITS: Final = re.compile(r"[0-9]{1,10}")
_ONE_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_WORDS: Final[dict[object, str]] = {None: "null", "": "an empty string"}


def is_absent(value: object) -> bool:
    """Tell whether a member says no more than one that is not there: ``null`` and ``""`` do not."""
    return value is None or value == ""


def present(members: Mapping[str, Any], name: str, rule: str, noted: list[ProviderDeviation]) -> bool:
    """Tell whether a member is there and says something; `rule` is where the standard defines it."""
    value = members.get(name)
    if not is_absent(value):
        return True
    if name in members:
        noted.append(ProviderDeviation(f"{rule}: {name}", f"{_WORDS[value]}; taken as absent"))
    return False


def number(
    members: Mapping[str, Any], name: str, rule: str, noted: list[ProviderDeviation]
) -> int | float | None:
    """Return a member that is there as the number that it is or spells, or ``None`` when it is neither."""
    value = members[name]
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        noted.append(ProviderDeviation(f"{rule}: {name}", "a number written as text; taken as the number"))
        return int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float):
        noted.append(ProviderDeviation(f"{rule}: {name}", "a number with a fraction; taken as the number"))
    return value


def space_separated(
    members: Mapping[str, Any], name: str, rule: str, noted: list[ProviderDeviation]
) -> str | None:
    """Return a member that is there as the text that it is, or lists; ``None`` when it does neither."""
    value = members[name]
    if isinstance(value, str):
        return value
    if not is_array_of(value, str):
        return None
    items = cast("tuple[str, ...]", value)
    if not all(map(_ONE_TOKEN.fullmatch, items)):
        return None
    noted.append(ProviderDeviation(f"{rule}: {name}", "an array; taken as the space-separated list"))
    return " ".join(items)


def parse_body(
    body: bytes, *, depth_limit: int, noted: list[ProviderDeviation], mutable: bool = False
) -> dict[str, Any] | JsonFault:
    """As `parse_object`, for the body of an HTTP message: a byte order mark may be before the JSON."""
    if body.startswith(_BYTE_ORDER_MARK):
        noted.append(ProviderDeviation("RFC 8259 8.1", "a byte order mark before the JSON; ignored"))
        body = body[len(_BYTE_ORDER_MARK) :]
    return parse_object(body, depth_limit=depth_limit, mutable=mutable)
