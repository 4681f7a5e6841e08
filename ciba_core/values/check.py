"""Argument checks whose messages name the parameter and never show the value."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from ciba_core.values.errors import LocalProtocolError
from ciba_core.values.json import freeze, is_array_of
from ciba_core.values.secret import Secret

__all__ = [
    "a",
    "elapsed",
    "flag",
    "is_loopback",
    "now",
    "number",
    "one_of",
    "optional_secret",
    "seconds",
    "secret",
    "secret_text",
    "strings",
    "text",
    "text_problem",
    "to_frozen_strings",
    "to_optional_strings",
    "to_strings",
    "url_problem",
    "whole_number",
]

NameT = TypeVar("NameT", bound=str)
# attrs hands a validator the instance, the attribute and the value.
Validator = Callable[[Any, Any, Any], None]


def a(*classes: type, or_none: bool = False) -> Validator:
    """Check the type of a value."""

    def check(_instance: Any, attribute: Any, value: Any) -> None:
        if isinstance(value, classes) or (or_none and value is None):
            return
        expected = " or ".join(cls.__name__ for cls in classes)
        raise TypeError(f"{attribute.name} must be {expected}, not {type(value).__name__}")

    return check


def flag(_instance: Any, attribute: Any, value: Any) -> None:
    """Check for a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{attribute.name} must be bool, not {type(value).__name__}")


def text_problem(value: str) -> str | None:
    """Say what keeps a string from being sent as a parameter, or return ``None``."""
    if not value:
        return "must not be empty"
    if any(character < " " or character == "\x7f" for character in value):
        return "must not contain control characters"
    if any("\ud800" <= character <= "\udfff" for character in value):
        return "must be valid Unicode"
    return None


def text(_instance: Any, attribute: Any, value: Any) -> None:
    """Check for a string that can be a parameter: not empty, no control characters, valid Unicode."""
    if value is None:
        return
    if not isinstance(value, str):
        raise TypeError(f"{attribute.name} must be str, not {type(value).__name__}")
    problem = text_problem(value)
    if problem is not None:
        raise ValueError(f"{attribute.name} {problem}")


def secret_text(_instance: Any, attribute: Any, value: Any) -> None:
    """Check as `text` does, inside of a `Secret`."""
    if value is None:
        return
    if not isinstance(value, Secret):
        raise TypeError(f"{attribute.name} must be str or Secret, not {type(value).__name__}")
    problem = text_problem(value.reveal())
    if problem is not None:
        raise ValueError(f"{attribute.name} {problem}")


# Converters: a constructor takes what their parameter shows. What is of another type passes through them, for
# the validator to refuse.


def secret(value: Secret | str) -> Secret:
    """Wrap a string so that it does not show."""
    return Secret(value) if isinstance(value, str) else value


def optional_secret(value: Secret | str | None) -> Secret | None:
    """Convert as `secret` does; ``None`` stays ``None``."""
    return Secret(value) if isinstance(value, str) else value


Strings = list[str] | tuple[str, ...]


def to_strings(value: Strings) -> tuple[str, ...]:
    """Take a list where a tuple is meant."""
    return tuple(value) if isinstance(value, list) else value


def to_optional_strings(value: Strings | None) -> tuple[str, ...] | None:
    """Convert as `to_strings` does; ``None`` stays ``None``."""
    return tuple(value) if isinstance(value, list) else value


def to_frozen_strings(value: Mapping[str, str]) -> Mapping[str, str]:
    """Take a copy of a mapping that cannot be changed."""
    frozen: Mapping[str, str] = freeze(value)
    return frozen


def strings(*, or_none: bool = False) -> Validator:
    """Check for an array of strings."""

    def check(_instance: Any, attribute: Any, value: Any) -> None:
        if not is_array_of(value, str) and not (or_none and value is None):
            raise TypeError(f"{attribute.name} must be an array of strings")

    return check


def one_of(names: tuple[NameT, ...]) -> Callable[[Any, Any, NameT], None]:
    """Check for one of some names."""

    def check(_instance: Any, attribute: Any, value: NameT) -> None:
        if value not in names:
            raise ValueError(f"{attribute.name} must be one of {', '.join(names)}")

    return check


def whole_number(low: int, high: int, *, or_none: bool = False) -> Validator:
    """Check for an int within bounds."""

    def check(_instance: Any, attribute: Any, value: Any) -> None:
        if or_none and value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{attribute.name} must be int, not {type(value).__name__}")
        if not low <= value <= high:
            raise ValueError(f"{attribute.name} must be from {low} to {high}")

    return check


def number(low: float, high: float, *, unit: str, or_none: bool = False) -> Validator:
    """Check for a number of something within bounds."""

    def check(_instance: Any, attribute: Any, value: Any) -> None:
        if or_none and value is None:
            return
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{attribute.name} must be a number of {unit}, not {type(value).__name__}")
        if not low <= value <= high:
            raise ValueError(f"{attribute.name} must be from {low} to {high} {unit}")

    return check


def seconds(low: float, high: float, *, or_none: bool = False) -> Validator:
    """Check for a number of seconds within bounds."""
    return number(low, high, unit="seconds", or_none=or_none)


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address can only be this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


# A name, an IPv4 address or an IPv6 address in brackets, and perhaps a port (RFC 3986 3.2).
_AUTHORITY: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]*)?")
_PRINTABLE: Final = frozenset(map(chr, range(0x21, 0x7F)))


def url_problem(url: object, *, allow_loopback_http: bool, query: bool = True) -> str | None:
    """Say what is wrong with a URL to send credentials to, or return ``None``.

    It has to be absolute, ``https`` (or ``http`` to a loopback address where that was allowed), ASCII,
    without user information or fragment, and without a query where `query` is false.
    """
    if not isinstance(url, str) or not url:
        return "must be a URL"
    if not _PRINTABLE.issuperset(url):
        return "must be a URL of printable ASCII characters without spaces"
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        return "must be a valid URL"
    if not host or "@" in parts.netloc:
        return "must be an absolute URL with a host and without user information"
    if not _AUTHORITY.fullmatch(parts.netloc):
        return "must be a valid URL"
    if "#" in url:
        return "must not have a fragment"
    if not query and "?" in url:
        return "must not have a query"
    if parts.scheme == "https" or (parts.scheme == "http" and allow_loopback_http and is_loopback(host)):
        return None
    return "must use https" + (
        " (plain http is allowed for loopback addresses only)" if allow_loopback_http else ""
    )


def now(instant: float) -> None:
    """Check the wall clock of a step; raises `LocalProtocolError`."""
    if not math.isfinite(instant):
        raise LocalProtocolError("now must be a finite number of POSIX seconds")


def elapsed(duration: float | None) -> None:
    """Check the seconds that an exchange took, if they are known; raises `LocalProtocolError`."""
    if duration is not None and not duration >= 0:
        raise LocalProtocolError("elapsed must not be negative")
