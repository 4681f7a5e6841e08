"""Octets as text, in the way of JSON Web Tokens: base64url without padding (RFC 7515 2)."""

from __future__ import annotations

import binascii
from typing import Final

__all__ = [
    "base64url",
    "decoded",
    "octets_of",
]

_TO_BASE64URL: Final = bytes.maketrans(b"+/", b"-_")


def base64url(octets: bytes) -> str:
    """Encode as base64url without padding (RFC 7515 2)."""
    return binascii.b2a_base64(octets, newline=False).translate(_TO_BASE64URL, b"=").decode("ascii")


_TO_BASE64: Final = bytes.maketrans(b"-_+/=", b"+/!!!")
# The last character of a part of this length, modulo 4, has no bits left over (RFC 4648 3.5).
_LAST: Final = (b"", b"", b"AQgw", b"AEIMQUYcgkosw048")
_PADDING: Final = (b"", b"", b"==", b"=")


def decoded(part: bytes) -> bytes | None:
    """Decode base64url, strictly: no padding, no other characters, no left-over bits (RFC 7515 2)."""
    rest = len(part) % 4
    if rest and part[-1] not in _LAST[rest]:
        return None
    try:
        return binascii.a2b_base64(part.translate(_TO_BASE64) + _PADDING[rest], strict_mode=True)
    except binascii.Error:
        return None


def octets_of(member: object) -> bytes:
    """Decode a member of a JWK; what is not base64url comes out empty, which fits no key."""
    return (decoded(member.encode("utf-8", "replace")) or b"") if isinstance(member, str) else b""
