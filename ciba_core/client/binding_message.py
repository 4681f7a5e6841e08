"""Binding messages: what providers and telephones can show, and codes that people can compare.

The same short text stands on both devices (CIBA Core 7.1), so that the user can tell which request is being
approved. That protects only as far as people can read it: what does not show, or reorders what shows, is
refused here; what a provider is known not to take, its profile refuses.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any, Final

from attrs import field, frozen

from ciba_core.values import check
from ciba_core.values.errors import BindingMessageUnfit

__all__ = ["BindingMessageLimits", "binding_code"]

# Unicode's own classes of these: what sets, embeds, overrides or isolates the direction of text (UAX 9).
_BIDIRECTIONAL: Final = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
_MARKS: Final = frozenset("\u061c\u200e\u200f")
# Characters without a glyph: they exist for the sake of the encoding.
_BLANK: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
# Sixteen, so that each octet gives one without bias. No vowels, which make words (RFC 8628 6.1), no digits,
# and of letters that look or sound alike one at most.
_ALPHABET: Final = "BCDFGHJKMNPRTVWX"


def _check_class(_instance: Any, attribute: Any, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise TypeError(f"{attribute.name} must be str, not {type(value).__name__}")
    try:
        re.compile(f"[{value}]")
    except re.error:
        pass
    else:
        return
    raise ValueError(f"{attribute.name} must be the inside of a character class of a regular expression")


@frozen(kw_only=True)
class BindingMessageLimits:
    """The limits of a binding message. Invisible characters are refused whatever the limits say.

    Raises:
        TypeError, ValueError: a limit is of the wrong type or out of range; the message names it.

    """

    max_length: int | None = field(default=None, validator=check.whole_number(1, 4096, or_none=True))
    """Characters at most, counted as Unicode code points; ``None`` for no known limit."""
    characters: str | None = field(default=None, validator=_check_class)
    """The allowed characters, as the inside of a regular expression's class: ``A-Za-z0-9``; ``None`` for any
    that show."""

    def check(self, message: str) -> None:
        """Check a message.

        Raises:
            BindingMessageUnfit: it is not within the limits; `rule` says which one it breaks.

        """
        if self.max_length is not None and len(message) > self.max_length:
            raise BindingMessageUnfit(
                f"binding_message: {len(message)} characters are more than {self.max_length}", rule="length"
            )
        for character in message:
            rule = self._broken_by(character)
            if rule is not None:
                raise BindingMessageUnfit(
                    f"binding_message: U+{ord(character):04X} is not allowed", rule=rule
                )
        if not message.strip():
            raise BindingMessageUnfit("binding_message: there is nothing to see", rule="empty")
        if unicodedata.combining(message[0]):
            raise BindingMessageUnfit(
                "binding_message: it begins with a mark on nothing", rule="combining mark"
            )

    def _broken_by(self, character: str) -> str | None:
        if unicodedata.bidirectional(character) in _BIDIRECTIONAL or character in _MARKS:
            return "bidirectional control"
        if unicodedata.category(character) == "Cc":
            return "control character"
        if not character.isprintable() or character in _BLANK:
            # Joiners, blanks of odd widths, private use, what Unicode has not assigned.
            return "invisible character"
        if self.characters is not None and not re.fullmatch(f"[{self.characters}]", character):
            return f"characters [{self.characters}]"
        return None


def binding_code(entropy: Callable[[int], bytes], *, length: int = 6) -> str:
    """Return a random code to use as a binding message, or as part of one. Show it to the user, too.

    It consists of capital consonants that are hard to mistake for one another, 4 bits of chance in each.
    Every provider known here takes up to 20 of them.

    Args:
        entropy: returns that many random octets, as `ClientConfig.entropy` does.
        length: characters, from 4 to 20.

    Raises:
        TypeError, ValueError: `length` is not a whole number in its range.

    """
    if isinstance(length, bool) or not isinstance(length, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"length must be int, not {type(length).__name__}")
    if not 4 <= length <= 20:
        raise ValueError("length must be from 4 to 20")
    return "".join(_ALPHABET[octet % 16] for octet in entropy(length))
