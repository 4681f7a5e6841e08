"""Algorithms of JSON Web Signatures and Encryption: which are known, and what they are called (RFC 7518)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

__all__ = [
    "ASYMMETRIC_ALGORITHMS",
    "CONTENT_ENCRYPTIONS",
    "HMAC_ALGORITHMS",
    "KEY_MANAGEMENT_ALGORITHMS",
    "KEY_TYPES",
    "SIGNATURE_ALGORITHMS",
    "listed_name",
    "names_of",
]

HMAC_ALGORITHMS: Final = ("HS256", "HS384", "HS512")
ASYMMETRIC_ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA",
)  # fmt: skip
"""Signature algorithms with a public key. ``EdDSA`` is the older name of ``Ed25519`` (RFC 9864) and means
just that curve here."""
SIGNATURE_ALGORITHMS: Final = (*ASYMMETRIC_ALGORITHMS, *HMAC_ALGORITHMS)
KEY_MANAGEMENT_ALGORITHMS: Final = (
    "RSA-OAEP-256", "RSA-OAEP", "ECDH-ES", "ECDH-ES+A128KW", "ECDH-ES+A192KW", "ECDH-ES+A256KW",
    "A128KW", "A192KW", "A256KW", "A128GCMKW", "A192GCMKW", "A256GCMKW", "dir",
)  # fmt: skip
"""How the content key of an encrypted token may travel. ``RSA1_5`` and the password-based ones are left out:
the first leaks, the others let a sender burn the receiver's time."""
CONTENT_ENCRYPTIONS: Final = (
    "A128CBC-HS256", "A192CBC-HS384", "A256CBC-HS512", "A128GCM", "A192GCM", "A256GCM",
)  # fmt: skip

KEY_TYPES: Final = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None)),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "Ed25519": ("OKP", "Ed25519"),
    "EdDSA": ("OKP", "Ed25519"),
    **dict.fromkeys(HMAC_ALGORITHMS, ("oct", None)),
}  # fmt: skip
"""Which key goes with which algorithm: type and curve (RFC 7518 3.1, RFC 8037 3.1, RFC 9864)."""
# RFC 9864 gave an algorithm a second name: `EdDSA` and `Ed25519` mean the same here.
_OTHER_NAME: Final = {"Ed25519": "EdDSA", "EdDSA": "Ed25519"}


def names_of(alg: str) -> tuple[str, ...]:
    """Return the names of an algorithm, the given one first: ``Ed25519`` has an older one (RFC 9864)."""
    other = _OTHER_NAME.get(alg)
    return (alg,) if other is None else (alg, other)


def listed_name(alg: str, listed: Collection[str] | None) -> str:
    """Return the name by which a provider lists an algorithm; the given one if it lists that, or neither."""
    other = _OTHER_NAME.get(alg)
    if other is None or listed is None or alg in listed or other not in listed:
        return alg
    return other
