"""HTTP as the simulated provider sees it: answers as values, and strict readers for what clients send.

The readers are written from the standards and share nothing with the encoders of the client side, so that
they do not repeat the encoders' mistakes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from attrs import frozen

__all__ = [
    "Handler",
    "NoReply",
    "Reply",
    "WireError",
    "decode_component",
    "decode_form",
    "decode_json",
]

Headers = tuple[tuple[str, str], ...]


@frozen(repr=False)
class Reply:
    """An answer of a server."""

    status: int
    headers: Headers = ()
    """Name and value pairs. The server adds ``Content-Length`` by itself, unless
    a ``Transfer-Encoding`` is given: then the body has to be in that coding already."""
    body: bytes = b""
    cut: int | None = None
    """The connection ends after so many octets of the body; ``None``: the answer is complete."""
    reset: bool = True
    """``True``: a cut connection is reset; ``False``: it is closed as after a complete answer."""
    stream: Iterable[bytes] = ()
    """More of the body, for a server to send piece after piece in chunked coding for as long as the client
    reads. None of it is empty."""

    before: Iterable[bytes] = ()
    """Octets that a server sends before the answer, as they are."""

    def __repr__(self) -> str:
        return f"<Reply {self.status}, {len(self.body)} octets>"


@frozen
class NoReply:
    """No answer: the connection is closed instead."""

    acted: bool
    """Whether the server had acted on the request by then."""


Handler = Callable[[str, str, Iterable[tuple[str, str]], bytes], Reply | NoReply]
"""A server without a network: called with the method, the target (path and query), headers and body."""


class WireError(ValueError):
    """A client's request is not in the form that the standards demand."""


# RFC 6749 appendix B refers to the form-urlencoded serialiser of HTML: it leaves A-Z a-z 0-9 * - . _ as they
# are and turns a space into "+". Encoders made for URIs (RFC 3986 2.3) leave "~" as well and encode "*".
_COMPONENT: Final = re.compile(rb"(?:[A-Za-z0-9*._~+-]|%[0-9A-Fa-f]{2})*")
_ESCAPE: Final = re.compile(rb"%(..)")


def decode_component(octets: bytes) -> str:
    """Decode one name or value of a form (RFC 6749 appendix B).

    Raises:
        WireError: an octet that needs encoding is not encoded, or the result is not UTF-8.

    """
    if not _COMPONENT.fullmatch(octets):
        raise WireError("an octet is not percent-encoded, or a percent sign stands alone")
    decoded = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), octets.replace(b"+", b" "))
    try:
        return decoded.decode("utf-8")
    except UnicodeDecodeError:
        raise WireError("not UTF-8") from None


def decode_form(body: bytes) -> tuple[tuple[str, str], ...]:
    """Decode an ``application/x-www-form-urlencoded`` body into name and value pairs, in order.

    Raises:
        WireError: the body is no such form.

    """
    pairs: list[tuple[str, str]] = []
    for part in body.split(b"&") if body else ():
        name, equals, value = part.partition(b"=")
        if not (name and equals):
            raise WireError("not a sequence of name=value")
        pairs.append((decode_component(name), decode_component(value)))
    return tuple(pairs)


def _object_without_repeats(members: list[tuple[str, Any]]) -> dict[str, Any]:
    decoded = dict(members)
    if len(decoded) != len(members):
        raise ValueError
    return decoded


def _no_constant(_name: str) -> Any:
    raise ValueError


def decode_json(text: str) -> Any:
    """Decode JSON text (RFC 8259), refusing repeated members, ``NaN`` and ``Infinity``.

    Raises:
        WireError: the text is not such JSON.

    """
    try:
        return json.loads(text, object_pairs_hook=_object_without_repeats, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise WireError("not JSON, or an object names a member twice") from None
