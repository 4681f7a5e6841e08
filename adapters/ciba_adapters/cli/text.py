"""Text on its way to a terminal, and the error that ends a command with one line of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, TextIO, cast

import click

__all__ = ["MASK", "Unusable", "is_terminal", "masked", "printable"]

_LIMIT: Final = 500
MASK: Final = "***"
_SHORTEST_SECRET: Final = 4
"""Characters. Shorter ones are in every other word; who has such a secret has none."""


class Unusable(click.ClickException):
    """The command cannot be carried out as it was given: one line on standard error, exit status 2."""

    exit_code = 2


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether a standard stream is a terminal; it is ``None`` when the process was started without."""
    return stream is not None and stream.isatty()


def masked(value: Any, secrets: Collection[str]) -> Any:
    """Return JSON with secrets masked wherever they are in its strings, names of members included."""
    if isinstance(value, str):
        for secret in sorted(secrets, key=len, reverse=True):  # one can be a part of another
            if len(secret) >= _SHORTEST_SECRET:
                value = value.replace(secret, MASK)
        return value
    if isinstance(value, Mapping):
        members = cast("Mapping[str, Any]", value)
        return {masked(name, secrets): masked(member, secrets) for name, member in members.items()}
    if isinstance(value, (list, tuple)):
        return [masked(item, secrets) for item in cast("list[Any]", value)]
    return value


def printable(text: str, limit: int = _LIMIT) -> str:
    r"""Return text from outside so that a terminal shows it and does not obey it.

    Control and format characters (escape sequences, line breaks, right-to-left overrides) are written as in
    Python, such as ``\x1b``; no more than `limit` characters are kept.
    """
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text[:limit]
    )
    return shown if len(text) <= limit else shown + " ..."
