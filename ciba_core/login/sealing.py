"""Encryption of stored texts: each is sealed under a secret of the embedder, for one place only."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any, Final, cast

from attrs import field, frozen

from ciba_core.jose import encryption
from ciba_core.jose.encoding import base64url
from ciba_core.jose.encryption import NotDecrypted, jwe_header
from ciba_core.values import check
from ciba_core.values.errors import StoredContentAltered, UnknownStoreSecret, UnknownStoreVersion
from ciba_core.values.json import dumps, is_array_of
from ciba_core.values.secret import Secret

__all__ = ["Sealer"]

VERSION: Final = 1
LEAST_SECRET: Final = 32
"""Octets; as many as the derived key has."""


Secrets = Secret | str | Sequence[Secret | str]
"""One secret, or several in a list or tuple."""


def _secrets(value: Secrets) -> tuple[Secret, ...]:
    if isinstance(value, (str, Secret)):
        return (check.secret(value),)
    if not isinstance(value, (list, tuple)):
        return cast("tuple[Secret, ...]", value)  # which the validator refuses
    return tuple(check.secret(item) for item in value)


def _check_secrets(_instance: Any, attribute: Any, value: Any) -> None:
    if not is_array_of(value, Secret):
        raise TypeError(f"{attribute.name} must be a sequence of secrets, each a str or Secret")
    if not value:
        raise ValueError(f"{attribute.name} must not be empty")
    if any(len(_octets(secret)) < LEAST_SECRET for secret in value):
        raise ValueError(f"{attribute.name} must have at least {LEAST_SECRET} octets each")


def _octets(secret: Secret) -> bytes:
    return secret.reveal().encode("utf-8", "surrogatepass")


@frozen(repr=False, eq=False)
class Sealer:
    """Encrypts under the first of its secrets and decrypts under any of them.

    To change the secret, put the new one first and keep the old one behind it until all texts under the old
    one are gone or saved anew.

    The form, version 1: a compact JWE (RFC 7516) with ``dir`` and ``A256GCM``, whose header names the version
    ``v`` and, by ``kid``, the secret. Its key is derived by HKDF with SHA-256 (RFC 5869) from the secret and
    from the place, so that a text sealed for one place cannot be read in another. Replaying an older record
    for the same place is not detected.

    Raises:
        TypeError, ValueError: a secret is not text, or has fewer than 32 octets. It is a key, not a password:
            make it with ``secrets.token_urlsafe(32)`` or the like.

    """

    secrets: tuple[Secret, ...] = field(converter=_secrets, validator=_check_secrets)

    def seal(self, text: str, place: tuple[str, ...]) -> str:
        """Encrypt a text for a place."""
        root = _extract(self.secrets[0])
        return encryption.seal(text, _expand(root, "content", *place), {"v": VERSION, "kid": _kid(root)})

    def unseal(self, sealed: str, place: tuple[str, ...]) -> str:
        """Decrypt a text that was sealed for a place.

        Raises:
            UnknownStoreVersion: the text is of another form.
            UnknownStoreSecret: the text was encrypted under a secret that is not among these.
            StoredContentAltered: the text is damaged or forged, or from another place.

        """
        if type(sealed) is not str:  # a store may return any value
            raise StoredContentAltered("what is stored is not text")
        header = jwe_header(sealed)
        if isinstance(header, NotDecrypted):
            raise StoredContentAltered("the stored text is not encrypted")
        version = header.get("v")
        if type(version) is not int or version != VERSION:
            raise UnknownStoreVersion(f"the stored text is not of version {VERSION}")
        roots = map(_extract, self.secrets)
        root = next((root for root in roots if _kid(root) == header.get("kid")), None)
        if root is None:
            raise UnknownStoreSecret("the stored text was encrypted under a secret that was not given")
        text = encryption.unseal(sealed, _expand(root, "content", *place))
        if isinstance(text, NotDecrypted):
            raise StoredContentAltered(
                "the stored text was altered, or stored for another key, client or provider"
            )
        return text


# HKDF in its two halves (RFC 5869 2.2 and 2.3), without salt and for one block.


def _extract(secret: Secret) -> bytes:
    return hmac.digest(b"", _octets(secret), hashlib.sha256)


def _expand(root: bytes, *purpose: str) -> bytes:
    info = dumps(["ciba_core", VERSION, *purpose]).encode("utf-8", "surrogatepass")
    return hmac.digest(root, info + b"\x01", hashlib.sha256)


def _kid(root: bytes) -> str:
    return base64url(_expand(root, "kid")[:12])
