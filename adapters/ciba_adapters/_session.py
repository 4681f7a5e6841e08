"""Checks that a client got a session, and values, that it can work with."""

from __future__ import annotations

from typing import TypeVar

__all__ = ["of_kind"]

ValueT = TypeVar("ValueT")


def of_kind(name: str, value: ValueT, kind: type[object]) -> ValueT:
    """Return a value, or say which argument is of the wrong kind: an async session for a sync client, a dict.

    Raises:
        TypeError: it is not of that kind; the message names the parameter and both kinds.

    """
    if isinstance(value, kind):
        return value
    raise TypeError(f"{name} must be {_called(kind)}, not {_called(type(value))}")


def _called(kind: type[object]) -> str:
    package = kind.__module__.partition(".")[0]
    return kind.__qualname__ if package == "builtins" else f"{package}.{kind.__qualname__}"
