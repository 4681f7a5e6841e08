"""Keys for tests, of JWKs and secrets that are known to be good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ciba_core.jose import key_import
from ciba_core.jose.key_import import Key

__all__ = ["hmac_key", "import_key", "import_pem"]


def import_key(jwk: Mapping[str, Any]) -> Key:
    """The key of a good JWK."""
    key = key_import.import_key(jwk)
    assert isinstance(key, Key), key
    return key


def import_pem(pem: str | bytes, *, kid: str | None = None, alg: str | None = None) -> Key:
    """The key of a good PEM."""
    key = key_import.import_pem(pem, kid=kid, alg=alg)
    assert isinstance(key, Key), key
    return key


def hmac_key(secret: str, alg: str) -> Key:
    """The key of a secret that is long enough."""
    key = key_import.hmac_key(secret, alg)
    assert isinstance(key, Key), key
    return key
