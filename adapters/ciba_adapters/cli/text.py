"""Text for a terminal, and the error that ends a command with one line of text."""

from __future__ import annotations

from typing import Final, TextIO

import click

__all__ = ["Unusable", "is_terminal", "printable"]

_LIMIT: Final = 500


class Unusable(click.ClickException):
    """The command cannot be carried out as it was given: one line on standard error, exit status 2."""

    exit_code = 2


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether a standard stream is a terminal; ``None`` stands for a missing stream."""
    return stream is not None and stream.isatty()


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
