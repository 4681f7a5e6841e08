"""``application/x-www-form-urlencoded`` (RFC 6749 appendix B)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote_plus

__all__ = ["encode", "encode_pairs"]

# Most names and values need no escaping, and telling so is ten times cheaper than escaping.
_PLAIN: Final = re.compile(r"[A-Za-z0-9*._-]*")


def encode(value: str) -> str:
    """Escape one name or value: ``A-Z a-z 0-9 * - . _`` stay, a space becomes ``+``, the rest its octets."""
    return value if _PLAIN.fullmatch(value) else quote_plus(value, safe="*").replace("~", "%7E")


def encode_pairs(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a form body from names and values, in their order."""
    return "&".join([f"{encode(name)}={encode(value)}" for name, value in pairs])
