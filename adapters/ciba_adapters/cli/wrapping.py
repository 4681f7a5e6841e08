"""Breaks lines between words; a terminal would break them anywhere."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.text import Text

__all__ = ["print_hanging"]

_NARROWEST: Final = 20


def print_hanging(console: Console, head: Text, body: Text) -> None:
    """Write a line; on a terminal a long one continues below its body, in a file it stays one line."""
    if not console.is_terminal:
        console.print(Text.assemble(head, body), soft_wrap=True)
        return
    indent = head.cell_len
    lines = body.wrap(console, max(console.width - indent, _NARROWEST))
    for line in lines:
        line.rstrip()
    console.print(Text.assemble(head, Text("\n" + " " * indent).join(lines)), soft_wrap=True)
