"""JSON Web Encryption in compact form (RFC 7516): what a provider encrypts, and what this library stores.

The algorithms are always the caller's choice: none is ever taken from a token alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from attrs import frozen

from ciba_core.jose.encoding import octets_of
from ciba_core.jose.key_import import Key, symmetric_key
from ciba_core.values.json import JsonFault, parse_object

__all__ = [
    "NotDecrypted",
    "decrypt",
    "jwe_header",
    "seal",
    "unseal",
]


@frozen(weakref_slot=False)
class NotDecrypted:
    """The result in place of the content of a token that could not be decrypted."""

    reason: str
    """What is wrong with the token; the text contains nothing of it."""


def decrypt(token: str, keys: Iterable[Key], *, alg: str, enc: str, limit: int) -> str | NotDecrypted:
    """Decrypt a compact JWE and return its content as text (RFC 7516).

    Args:
        token: the JWE.
        keys: candidates; those with the header's ``kid`` come first.
        alg: the one key management algorithm to accept.
        enc: the one content encryption to accept.
        limit: characters to accept.

    Returns:
        The content; `NotDecrypted` for a token with other algorithms, or one that is compressed, too large,
        for none of the keys, or damaged.

    """
    if len(token) > limit:
        return NotDecrypted("an encrypted token that is too large")
    if token.count(".") != 4:
        return NotDecrypted("not an encrypted token of five parts")
    header = jwe_header(token)
    if isinstance(header, NotDecrypted):
        return header
    if (header.get("alg"), header.get("enc")) != (alg, enc):
        return NotDecrypted("a token that is not encrypted by the registered algorithms")
    if "zip" in header:
        # A few octets may unfold into gigabytes (RFC 8725 3.6).
        return NotDecrypted("a compressed token")
    if "crit" in header:
        return NotDecrypted("a token with a critical header that is not understood")
    kid = header.get("kid")
    for key in sorted(keys, key=lambda candidate: candidate.kid != kid):
        if key.use in (None, "enc") and (key.alg is None or key.alg == alg):
            plain = _try_decrypt(token, key, (alg, enc), limit)
            if plain is not None:
                return plain
    return NotDecrypted("a token that none of the keys decrypts")


def _try_decrypt(token: str, key: Key, algorithms: Collection[str], limit: int) -> str | None:
    from joserfc import jwe  # noqa: PLC0415

    registry = jwe.JWERegistry(algorithms=algorithms, strict_check_header=False)
    # The token as a whole is bounded; joserfc's limits would refuse RSA keys beyond 6144 bits.
    registry.max_protected_header_length = registry.max_encrypted_key_length = limit
    registry.max_ciphertext_length = limit
    try:
        plaintext: Any = jwe.decrypt_compact(token, key.inner, registry=registry).plaintext
        text: str = plaintext.decode("utf-8")
    except Exception:  # noqa: BLE001  # a header chosen by the sender brings out errors of every kind
        return None
    return text


def jwe_header(token: str) -> dict[str, Any] | NotDecrypted:
    """Return the protected header of a compact JWE, if it has a readable one. Nothing has vouched for it."""
    header = parse_object(octets_of(token.partition(".")[0]), depth_limit=8)
    if isinstance(header, JsonFault):
        return NotDecrypted("an encrypted token without a readable header")
    return header


# --- what this library stores -----------------------------------------------------------------------------


def seal(text: str, key: bytes, header: Mapping[str, Any]) -> str:
    """Encrypt a text for this library's own use: a compact JWE under ``dir`` and ``A256GCM``.

    Args:
        text: the content.
        key: 32 octets.
        header: further members of the protected header. They are not secret, and cannot be changed.

    """
    from joserfc import jwe  # noqa: PLC0415

    registry = jwe.JWERegistry(algorithms=("dir", "A256GCM"), strict_check_header=False)
    protected = {"alg": "dir", "enc": "A256GCM", **header}
    return jwe.encrypt_compact(protected, text, symmetric_key(key).inner, registry=registry)


def unseal(token: str, key: bytes) -> str | NotDecrypted:
    """Decrypt what `seal` made; `NotDecrypted` if it was not made under this key, or is damaged."""
    # The octets come from a store of the application's own, which bounds them as it likes.
    return decrypt(token, (symmetric_key(key),), alg="dir", enc="A256GCM", limit=len(token))
