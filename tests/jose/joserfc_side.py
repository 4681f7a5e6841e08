"""Keys and tokens made by joserfc and cryptography directly, to hold this library against."""

from __future__ import annotations

import base64
import functools
import json
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from ciba_core.jose.key_import import Key
from tests.made_keys import hmac_key, import_key

SECRET: Final = "7Fjfp0ZBr1KtDRbnfVdmIw"
LONG_SECRET: Final = "client-secret-MARKER-" + "0123456789" * 5
PKCS8: Final = serialization.PrivateFormat.PKCS8
PLAIN: Final = serialization.NoEncryption()


def b64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def unb64(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


@functools.cache
def private_key(alg: str) -> Any:
    """Make a key for an algorithm, by joserfc alone."""
    if alg.startswith("HS"):
        return OctKey.import_key(LONG_SECRET.encode())
    if alg.startswith(("RS", "PS")):
        return RSAKey.generate_key(2048)
    if alg.startswith("ES"):
        return ECKey.generate_key({"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[alg])
    return OKPKey.generate_key("Ed25519")


def ours(of: str, **labels: Any) -> Key:
    """Import the public half of that key by the module under test."""
    if of.startswith("HS"):
        return hmac_key(LONG_SECRET, of)
    return import_key({**private_key(of).as_dict(private=False), **labels})


def token_of(alg: str, claims: dict[str, Any] | None = None) -> str:
    octets = f"{b64(json.dumps({'alg': alg}).encode())}.{b64(json.dumps(claims or {'sub': 'x'}).encode())}"
    return f"{octets}.{b64(JWSRegistry.algorithms[alg].sign(octets.encode(), private_key(alg)))}"


def pem_of(raw: Any) -> bytes:
    octets: bytes = raw.private_bytes(serialization.Encoding.PEM, PKCS8, PLAIN)
    return octets


def part(value: object) -> str:
    return b64(value if isinstance(value, bytes) else json.dumps(value).encode())


HEAD: Final = part({"alg": "x"})
DEEP: Final[Any] = [[[[[[[[[]]]]]]]]]
NOTHING: Final = part({})
