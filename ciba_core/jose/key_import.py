"""Keys as the rest of this room uses them, made of JWKs, PEMs and secrets.

joserfc and the cryptography below it are imported when the first key is made, and not before. The reason of
an `UnusableKey` names what was wrong and never contains a token or a key.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from ciba_core.jose.algorithms import KEY_TYPES, names_of
from ciba_core.jose.encoding import octets_of
from ciba_core.values.json import is_array_of

if TYPE_CHECKING:
    from joserfc.jwk import Key as JoserfcKey

__all__ = [
    "Key",
    "UnusableKey",
    "content_encryption_key",
    "derive_p256",
    "hmac_key",
    "import_key",
    "import_pem",
    "symmetric_key",
]

_CURVES: Final = {"EC": ("P-256", "P-384", "P-521"), "OKP": ("Ed25519", "X25519")}
# The members that make up a key (RFC 7518 6.2 and 6.3, RFC 8037 2).
_MEMBERS: Final = {
    "RSA": ("n", "e", "d", "p", "q", "dp", "dq", "qi"),
    "EC": ("crv", "x", "y", "d"),
    "OKP": ("crv", "x", "d"),
}
_LEAST_RSA_BITS: Final = 2048
_MOST_RSA_BITS: Final = 16384
"""The longest key that `cryptography` verifies with. A longer one would only cost time."""


@frozen
class UnusableKey:
    """What was given is no key that can be used."""

    reason: str
    """Why, as a noun phrase, and without any part of the key."""


@frozen(repr=False, eq=False)
class Key:
    """A key, public or private or symmetric, with what its owner says it is for (RFC 7517 4)."""

    kty: str
    crv: str | None
    kid: str | None
    alg: str | None
    use: str | None
    key_ops: tuple[str, ...] | None
    is_private: bool
    signs: frozenset[str]
    """The signature algorithms that it fits and may sign with, by its kind and by what its owner says."""
    verifies: frozenset[str]
    """The signature algorithms for which it may verify, by its kind and by what its owner says."""
    inner: JoserfcKey
    """The key of joserfc; for this module only."""

    def __repr__(self) -> str:
        kind = "private" if self.is_private else "public"
        return f"<{kind} {self.kty} key{f' {self.crv}' if self.crv else ''}, kid {self.kid!r}>"

    def public_jwk(self) -> dict[str, Any]:
        """Return the public members as a JWK, without ``kid`` and the like (for DPoP proofs)."""
        public = self.inner.as_dict(private=False)
        return {name: public[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in public}

    def private_jwk(self) -> dict[str, Any]:
        """Return an EC key as a JWK, its private member included, without ``kid`` and the like."""
        private = self.inner.as_dict(private=True)
        return {name: private[name] for name in ("kty", "crv", "x", "y", "d")}

    def thumbprint(self) -> str:
        """Return the SHA-256 thumbprint of RFC 7638."""
        return self.inner.thumbprint()


def import_key(jwk: Mapping[str, Any]) -> Key | UnusableKey:
    """Import a JWK of a key pair or its public half; symmetric keys come from `hmac_key` only.

    `UnusableKey` comes back for a key of an unknown or weak kind, and for a malformed one.
    """
    from joserfc.jwk import JWKRegistry  # noqa: PLC0415

    kty, crv = jwk.get("kty"), jwk.get("crv")
    if not isinstance(kty, str) or kty not in _MEMBERS:
        return UnusableKey("a key of a type other than RSA, EC and OKP")
    if kty == "RSA":
        # Checked before the import, which warns of short keys and takes long with long ones.
        unfit = _unfit_bits(int.from_bytes(octets_of(jwk.get("n")), "big").bit_length())
    else:
        unfit = _unfit_curve(kty, crv)
    if unfit is not None:
        return unfit
    inner: Any = None
    # Somebody else chose the members: the import may raise anything.
    with contextlib.suppress(Exception):
        # The import gets the key itself only. `_wrap` judges kid, alg, use and key_ops; the rest does not
        # matter.
        members = {name: jwk[name] for name in _MEMBERS[kty] if jwk.get(name) is not None}
        inner = JWKRegistry.import_key({**members, "kty": kty})
    if inner is not None and kty == "OKP" and inner.public_key.public_bytes_raw() != octets_of(jwk["x"]):
        # A private key on these curves is made of `d` alone, whatever `x` says.
        inner = None
    if inner is not None and crv == "Ed25519" and not _is_proper_point(octets_of(jwk["x"])):
        inner = None
    if inner is None:
        return UnusableKey("a malformed key")
    return _wrap(inner, crv if kty != "RSA" else None, jwk)


def import_pem(pem: str | bytes, *, kid: str | None = None, alg: str | None = None) -> Key | UnusableKey:
    """Import a private or public key from PEM, unencrypted; the type is told from it.

    `UnusableKey` comes back for what is not a key of a supported kind.
    """
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from joserfc.jwk import ECKey, OKPKey, RSAKey  # noqa: PLC0415

    data = pem.encode("ascii", "replace") if isinstance(pem, str) else pem
    raw: Any = None
    with contextlib.suppress(ValueError, TypeError, UnsupportedAlgorithm):
        if b"PRIVATE KEY-" in data:
            raw = serialization.load_pem_private_key(data, None)
        else:
            raw = serialization.load_pem_public_key(data)
    types: Any = (RSAKey, ECKey, OKPKey)
    cls: Any = next((cls for cls in types if cls.binding.check_cryptography_key(raw)), None)
    if cls is None:
        return UnusableKey("a PEM that is not an RSA, EC or Ed25519 key, or is encrypted")
    crv = None
    unfit = _unfit_bits(raw.key_size) if cls is RSAKey else None
    if unfit is not None:
        return unfit
    inner: Any = cls.import_key(raw)
    if cls is not RSAKey:
        with contextlib.suppress(KeyError):  # a curve that joserfc has no name for
            crv = inner.curve_name
        unfit = _unfit_curve(inner.key_type, crv)
        if unfit is not None:
            return unfit
    if crv == "Ed25519" and not _is_proper_point(inner.public_key.public_bytes_raw()):
        return UnusableKey("a malformed key")
    return _wrap(inner, crv, {"kid": kid, "alg": alg})


_P: Final = 2**255 - 19
_D: Final = -121665 * pow(121666, -1, _P) % _P


def _is_proper_point(octets: bytes) -> bool:
    """Tell whether octets are a point of Ed25519, and not one of the few of small order (RFC 8032 5.1.3).

    Anybody can make signatures that verify by a key of small order; the library below takes any 32 octets.
    """
    y = int.from_bytes(octets, "little") & (2**255 - 1)
    if y >= _P:
        return False
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    if square and pow(square, (_P - 1) // 2, _P) != 1:
        return False
    # Points of order 1, 2 and 4 have x or y zero. One of order 8, doubled, gives one with y zero, and the
    # numerator of that y is the sum of both squares.
    return square * y % _P != 0 and (y * y + square) % _P != 0


def _unfit_bits(bits: int) -> UnusableKey | None:
    if _LEAST_RSA_BITS <= bits <= _MOST_RSA_BITS:
        return None
    return UnusableKey(f"an RSA key of fewer than {_LEAST_RSA_BITS} or more than {_MOST_RSA_BITS} bits")


def _unfit_curve(kty: str, crv: object) -> UnusableKey | None:
    return None if crv in _CURVES[kty] else UnusableKey("a key on a curve that is not supported")


def _wrap(inner: Any, crv: str | None, labels: Mapping[str, Any]) -> Key | UnusableKey:
    """Put a key together with what its owner says of it; ``null`` counts as nothing said."""
    key_ops = labels.get("key_ops")
    if not all(isinstance(labels.get(name), (str, type(None))) for name in ("kid", "alg", "use")) or not (
        key_ops is None or is_array_of(key_ops, str)
    ):
        # These members limit what a key may be used for. A limit that cannot be read cannot be kept.
        return UnusableKey("a key with a malformed kid, alg, use or key_ops")
    return _labelled(inner, crv, labels)


def _labelled(inner: Any, crv: str | None, labels: Mapping[str, Any]) -> Key:
    """Put a key together with labels that are well formed."""
    kty, alg, use = inner.key_type, labels.get("alg"), labels.get("use")
    key_ops = labels.get("key_ops")
    fits: frozenset[str] = frozenset()
    if use in (None, "sig"):
        fits = frozenset(
            name
            for name, (needed, on) in KEY_TYPES.items()
            if kty == needed and on in (None, crv) and alg in (None, *names_of(name))
        )
    return Key(
        kty=kty,
        crv=crv,
        kid=labels.get("kid"),
        alg=alg,
        use=use,
        key_ops=None if key_ops is None else tuple(key_ops),
        is_private=inner.is_private,
        signs=fits if inner.is_private and (key_ops is None or "sign" in key_ops) else frozenset(),
        verifies=fits if key_ops is None or "verify" in key_ops else frozenset(),
        inner=inner,
    )


def hmac_key(secret: str, alg: str) -> Key | UnusableKey:
    """Make the key of an HMAC algorithm from a client secret: its UTF-8 octets (OpenID Connect Core 10.1).

    `UnusableKey` comes back for a secret that is shorter than the hash (RFC 7518 3.2).
    """
    octets = secret.encode("utf-8")
    if len(octets) * 8 < int(alg[2:]):
        return UnusableKey(f"a client secret of at least {int(alg[2:]) // 8} octets is needed for {alg}")
    return symmetric_key(octets)


def derive_p256(octets: bytes) -> Key:
    """Derive a private key on P-256 from random octets; the same ones always give the same key.

    32 octets have all the strength that the curve can use. They go through HKDF, which gives the excess bits
    that FIPS 186-5 A.2.1 wants against bias.
    """
    from joserfc.jwk import ECKey  # noqa: PLC0415

    inner = ECKey.derive_key(octets, "P-256")
    return _labelled(inner, "P-256", {})


def content_encryption_key(secret: str, alg: str, enc: str) -> Key:
    """Derive the symmetric key for an encrypted token from a client secret (OpenID Connect Core 10.2)."""
    bits = _SYMMETRIC_BITS[enc] if alg == "dir" else int(alg[1:4])
    size = "256" if bits <= 256 else "384" if bits <= 384 else "512"
    return symmetric_key(hashlib.new(f"sha{size}", secret.encode()).digest()[: bits // 8])


_SYMMETRIC_BITS: Final = {
    "A128GCM": 128, "A192GCM": 192, "A256GCM": 256,
    "A128CBC-HS256": 256, "A192CBC-HS384": 384, "A256CBC-HS512": 512,
}  # fmt: skip


def symmetric_key(octets: bytes) -> Key:
    """Make a key of octets that are secret to both sides."""
    from joserfc.jwk import OctKey  # noqa: PLC0415

    # `import_key` of joserfc would try to read the octets as a certificate and more, and may warn.
    return _labelled(OctKey(octets, octets), None, {})
