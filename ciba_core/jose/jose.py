"""JSON Web Signatures, Encryption and Keys; the one module that knows joserfc.

joserfc and the cryptography below it are imported when the first key is used, and not before. Everything
here works on an explicit choice of algorithm: nothing is ever taken from a token alone. Messages of
`JoseError` name what was wrong and never contain a token or a key.
"""

from __future__ import annotations

import binascii
import contextlib
import functools
import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

from attrs import define, frozen

from ciba_core.values.json import JsonFault, dumps, is_array_of, parse_object

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.hashes import Hash
    from joserfc.jwk import Key as JoserfcKey

__all__ = [
    "ASYMMETRIC_ALGORITHMS",
    "CONTENT_ENCRYPTIONS",
    "HMAC_ALGORITHMS",
    "KEY_MANAGEMENT_ALGORITHMS",
    "SIGNATURE_ALGORITHMS",
    "JoseError",
    "Jws",
    "Key",
    "base64url",
    "compact",
    "content_encryption_key",
    "decrypt",
    "derive_p256",
    "encoded",
    "half_hash",
    "hmac_key",
    "import_key",
    "import_pem",
    "jwe_header",
    "listed_name",
    "names_of",
    "parse_jws",
    "seal",
    "sign",
    "signing_input",
    "unseal",
    "verify",
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

# Which key goes with which algorithm (RFC 7518 3.1, RFC 8037 3.1, RFC 9864).
_KEY_TYPES: Final = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None)),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "Ed25519": ("OKP", "Ed25519"),
    "EdDSA": ("OKP", "Ed25519"),
    **dict.fromkeys(HMAC_ALGORITHMS, ("oct", None)),
}  # fmt: skip
# One algorithm that has two names (RFC 9864).
_OTHER_NAME: Final = {"Ed25519": "EdDSA", "EdDSA": "Ed25519"}
_CURVES: Final = {"EC": ("P-256", "P-384", "P-521"), "OKP": ("Ed25519", "X25519")}
# The members that make up a key (RFC 7518 6.2 and 6.3, RFC 8037 2).
_MEMBERS: Final = {
    "RSA": ("n", "e", "d", "p", "q", "dp", "dq", "qi"),
    "EC": ("crv", "x", "y", "d"),
    "OKP": ("crv", "x", "d"),
}
_LEAST_RSA_BITS: Final = 2048
_MOST_RSA_BITS: Final = 16384
"""What the library below still verifies with; a longer key can only cost time."""


class JoseError(Exception):
    """A token or key that cannot be used; the message says why."""


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
    """Those whose signatures it fits and may verify."""
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


# --- names -----------------------------------------------------------------------------------------------


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


# --- keys ------------------------------------------------------------------------------------------------


def import_key(jwk: Mapping[str, Any]) -> Key:
    """Import a JWK of a key pair or its public half; symmetric keys come from `hmac_key` only.

    Raises:
        JoseError: of an unknown or weak kind, or malformed.

    """
    from joserfc.jwk import JWKRegistry  # noqa: PLC0415

    kty, crv = jwk.get("kty"), jwk.get("crv")
    if not isinstance(kty, str) or kty not in _MEMBERS:
        raise JoseError("a key of a type other than RSA, EC and OKP")
    if kty == "RSA":
        # Told before the import, which warns of short keys and takes its time with long ones.
        _check_rsa_bits(int.from_bytes(_octets(jwk.get("n")), "big").bit_length())
    else:
        _check_curve(kty, crv)
    inner: Any = None
    # Whatever comes of members that somebody else chose.
    with contextlib.suppress(Exception):
        # Only what belongs to the key itself: the rest is ours to judge, or of no interest.
        members = {name: jwk[name] for name in _MEMBERS[kty] if jwk.get(name) is not None}
        inner = JWKRegistry.import_key({**members, "kty": kty})
    if inner is not None and kty == "OKP" and inner.public_key.public_bytes_raw() != _octets(jwk["x"]):
        # A private key on these curves is made of `d` alone, whatever `x` says.
        inner = None
    if inner is None:
        # Out here, since what was raised may have the key's members in it.
        raise JoseError("a malformed key")
    return _wrap(inner, crv if kty != "RSA" else None, jwk)


def import_pem(pem: str | bytes, *, kid: str | None = None, alg: str | None = None) -> Key:
    """Import a private or public key from PEM, unencrypted; the type is told from it.

    Raises:
        JoseError: not a key of a supported kind.

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
        raise JoseError("a PEM that is not an RSA, EC or Ed25519 key, or is encrypted")
    crv = None
    if cls is RSAKey:
        _check_rsa_bits(raw.key_size)
    inner: Any = cls.import_key(raw)
    if cls is not RSAKey:
        with contextlib.suppress(KeyError):  # a curve that joserfc has no name for
            crv = inner.curve_name
        _check_curve(inner.key_type, crv)
    return _wrap(inner, crv, {"kid": kid, "alg": alg})


def _check_rsa_bits(bits: int) -> None:
    if not _LEAST_RSA_BITS <= bits <= _MOST_RSA_BITS:
        raise JoseError(f"an RSA key of fewer than {_LEAST_RSA_BITS} or more than {_MOST_RSA_BITS} bits")


def _check_curve(kty: str, crv: object) -> None:
    if crv not in _CURVES[kty]:
        raise JoseError("a key on a curve that is not supported")


def _wrap(inner: Any, crv: str | None, labels: Mapping[str, Any]) -> Key:
    """Put a key together with what its owner says of it; ``null`` counts as nothing said."""
    key_ops = labels.get("key_ops")
    if not all(isinstance(labels.get(name), (str, type(None))) for name in ("kid", "alg", "use")) or not (
        key_ops is None or is_array_of(key_ops, str)
    ):
        # Not what it says is unknown, so that it cannot be used within its limits.
        raise JoseError("a key with a malformed kid, alg, use or key_ops")
    kty, alg, use = inner.key_type, labels.get("alg"), labels.get("use")
    fits: frozenset[str] = frozenset()
    if use in (None, "sig"):
        fits = frozenset(
            name
            for name, (needed, on) in _KEY_TYPES.items()
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


def hmac_key(secret: str, alg: str) -> Key:
    """Make the key of an HMAC algorithm from a client secret: its UTF-8 octets (OpenID Connect Core 10.1).

    Raises:
        JoseError: the secret is shorter than the hash (RFC 7518 3.2).

    """
    octets = secret.encode("utf-8")
    if len(octets) * 8 < int(alg[2:]):
        raise JoseError(f"a client secret of at least {int(alg[2:]) // 8} octets is needed for {alg}")
    return _symmetric_key(octets)


def derive_p256(octets: bytes) -> Key:
    """Derive a private key on P-256 from random octets; the same ones always give the same key.

    32 octets have all the strength that the curve can use. They go through HKDF, which gives the excess bits
    that FIPS 186-5 A.2.1 wants against bias.
    """
    from joserfc.jwk import ECKey  # noqa: PLC0415

    inner = ECKey.derive_key(octets, "P-256")
    return _wrap(inner, "P-256", {})


def content_encryption_key(secret: str, alg: str, enc: str) -> Key:
    """Derive the symmetric key for an encrypted token from a client secret (OpenID Connect Core 10.2)."""
    bits = _SYMMETRIC_BITS[enc] if alg == "dir" else int(alg[1:4])
    size = "256" if bits <= 256 else "384" if bits <= 384 else "512"
    return _symmetric_key(hashlib.new(f"sha{size}", secret.encode()).digest()[: bits // 8])


_SYMMETRIC_BITS: Final = {
    "A128GCM": 128, "A192GCM": 192, "A256GCM": 256,
    "A128CBC-HS256": 256, "A192CBC-HS384": 384, "A256CBC-HS512": 512,
}  # fmt: skip


def _symmetric_key(octets: bytes) -> Key:
    from joserfc.jwk import OctKey  # noqa: PLC0415

    # Not imported but made: the import tries to read the octets as a certificate and more, and may warn.
    return _wrap(OctKey(octets, octets), None, {})


# --- signatures ------------------------------------------------------------------------------------------


_TO_BASE64URL: Final = bytes.maketrans(b"+/", b"-_")


def base64url(octets: bytes) -> str:
    """Encode as base64url without padding (RFC 7515 2)."""
    return binascii.b2a_base64(octets, newline=False).translate(_TO_BASE64URL, b"=").decode("ascii")


_TO_BASE64: Final = bytes.maketrans(b"-_+/=", b"+/!!!")
# The last character of a part of this length, modulo 4, has no bits left over (RFC 4648 3.5).
_LAST: Final = (b"", b"", b"AQgw", b"AEIMQUYcgkosw048")
_PADDING: Final = (b"", b"", b"==", b"=")


def _decode(part: bytes) -> bytes | None:
    """Decode base64url, strictly: no padding, no other characters, no left-over bits (RFC 7515 2)."""
    rest = len(part) % 4
    if rest and part[-1] not in _LAST[rest]:
        return None
    try:
        return binascii.a2b_base64(part.translate(_TO_BASE64) + _PADDING[rest], strict_mode=True)
    except binascii.Error:
        return None


def _octets(member: object) -> bytes:
    """Decode a member of a JWK; what is not base64url comes out empty, which fits no key."""
    return (_decode(member.encode("utf-8", "replace")) or b"") if isinstance(member, str) else b""


def encoded(members: Mapping[str, Any]) -> str:
    """Return a JSON object as one part of a JWS."""
    return base64url(dumps(members).encode("utf-8"))


def signing_input(header: Mapping[str, Any] | str, claims: Mapping[str, Any]) -> bytes:
    """Return the octets that a JWS signature is made over (RFC 7515 5.1).

    Args:
        header: the JOSE header, or what `encoded` made of it for a signer whose header is always the same.
        claims: what is signed.

    """
    part = header if isinstance(header, str) else encoded(header)
    return f"{part}.{encoded(claims)}".encode("ascii")


class _Algorithm(Protocol):
    """What joserfc's algorithms do; its class has no public name."""

    def sign(self, msg: bytes, key: Any) -> bytes: ...

    def verify(self, msg: bytes, sig: bytes, key: Any) -> bool: ...


@functools.cache
def _algorithm(alg: str) -> _Algorithm:
    """Return the algorithm as joserfc has it. Its parameters are fixed: none of them comes from a token."""
    from joserfc.jws import JWSRegistry  # noqa: PLC0415  # not before a key is used

    name = "Ed25519" if alg == "EdDSA" else alg
    return JWSRegistry(algorithms=[name]).get_alg(name)


def sign(octets: bytes, key: Key, alg: str) -> bytes:
    """Sign; ``ES*`` signatures come as R and S (RFC 7518 3.4).

    Raises:
        JoseError: the key does not fit the algorithm.

    """
    if alg not in key.signs:
        raise JoseError(f"a key that is not for signing with {alg}")
    if key.kty != "EC":
        return _algorithm(alg).sign(octets, key.inner)
    # joserfc does the same by way of hexadecimal digits, for a third of the time that a signature takes, and
    # every poll has one.
    private: Any = key.inner.raw_value
    scheme, half, in_numbers = _ecdsa(alg)
    r, s = in_numbers(private.sign(octets, scheme))
    return r.to_bytes(half, "big") + s.to_bytes(half, "big")


@functools.cache
def _ecdsa(alg: str) -> tuple[Any, int, Callable[[bytes], tuple[int, int]]]:
    """Return how `cryptography` signs, the octets of R and of S, and how to read these two (RFC 7518 3.4)."""
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec, utils  # noqa: PLC0415

    digest, half = {
        "ES256": (hashes.SHA256(), 32),
        "ES384": (hashes.SHA384(), 48),
        "ES512": (hashes.SHA512(), 66),
    }[alg]
    return ec.ECDSA(digest), half, utils.decode_dss_signature


def compact(octets: bytes, signature: bytes) -> str:
    """Put a signing input and its signature together (RFC 7515 7.1)."""
    return f"{octets.decode('ascii')}.{base64url(signature)}"


# Not frozen, though nothing changes it: it lives for one validation, and freezing costs time.
@define(repr=False, eq=False, weakref_slot=False)
class Jws:
    """A compact JWS taken apart, not verified."""

    header: Mapping[str, Any]
    claims: dict[str, Any]
    octets: bytes
    signature: bytes


def parse_jws(token: str, *, depth_limit: int) -> Jws | str:
    """Take a compact JWS apart without judging its signature, or say what is wrong with it.

    It has to be three parts of strict base64url with a JSON object in each of the first two, without a
    ``crit`` header, which asks for something not understood (RFC 7515 4.1.11).
    """
    signed, _, signature_part = token.encode("utf-8", "replace").rpartition(b".")
    header_part, dot, claims_part = signed.partition(b".")
    if not dot or b"." in claims_part:
        return "not a signed JWT of three parts"
    claims, signature = _decode(claims_part), _decode(signature_part)
    if claims is None or signature is None:
        return "a JWT that is not in base64url"
    header = _header(header_part, depth_limit)
    if isinstance(header, str):
        return header
    members = parse_object(claims, depth_limit=depth_limit)
    if not isinstance(members, dict):
        return f"a JWT whose claims are {members.value}"
    return Jws(header, members, signed, signature)


@functools.lru_cache(maxsize=16)
def _header(part: bytes, depth_limit: int) -> Mapping[str, Any] | str:
    """Read the header of a JWS, or say what is wrong with it.

    Remembered, since all tokens of a provider have the same one, until its key changes.
    """
    octets = _decode(part)
    if octets is None:
        return "a JWT that is not in base64url"
    header = parse_object(octets, depth_limit=depth_limit)
    if isinstance(header, JsonFault):
        return f"a JWT whose header is {header.value}"
    if "crit" in header or "b64" in header:
        return "a JWT with a critical header that is not understood"
    return MappingProxyType(header)


def verify(jws: Jws, key: Key, alg: str) -> bool:
    """Verify a signature by one key and one algorithm, which the caller chose."""
    return alg in key.verifies and _algorithm(alg).verify(jws.octets, jws.signature, key.inner)


def half_hash(alg: str, value: str) -> str:
    """Return the left half of the hash of a token, as in ``at_hash`` (OpenID Connect Core 3.1.3.6).

    The hash is that of the ID Token's signature algorithm.
    """
    state = _token_hash(alg).copy()
    state.update(value.encode())
    digest = state.finalize()
    return base64url(digest[: len(digest) // 2])


@functools.cache
def _token_hash(alg: str) -> Hash:
    """Return the hash for tokens by the signature algorithm, to be copied; SHA-512 for Ed25519, as is usual.

    It is that of `cryptography`, whose OpenSSL has just verified the signature: that of `hashlib` is another
    one, and takes longer after the first.
    """
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415  # not before a key is used

    family: dict[str, hashes.HashAlgorithm] = {
        "256": hashes.SHA256(),
        "384": hashes.SHA384(),
        "512": hashes.SHA512(),
    }
    return hashes.Hash(family["512" if _KEY_TYPES[alg][0] == "OKP" else alg[2:]])


# --- encryption ------------------------------------------------------------------------------------------


def decrypt(token: str, keys: Iterable[Key], *, alg: str, enc: str, limit: int) -> str:
    """Decrypt a compact JWE and return its content as text (RFC 7516).

    Args:
        token: the JWE.
        keys: candidates; those with the header's ``kid`` come first.
        alg: the one key management algorithm to accept.
        enc: the one content encryption to accept.
        limit: characters to accept.

    Raises:
        JoseError: other algorithms, compressed, too large, not for any of the keys, or damaged.

    """
    if len(token) > limit:
        raise JoseError("an encrypted token that is too large")
    if token.count(".") != 4:
        raise JoseError("not an encrypted token of five parts")
    header = jwe_header(token)
    if (header.get("alg"), header.get("enc")) != (alg, enc):
        raise JoseError("a token that is not encrypted by the registered algorithms")
    if "zip" in header:
        # A few octets may unfold into gigabytes (RFC 8725 3.6).
        raise JoseError("a compressed token")
    if "crit" in header:
        raise JoseError("a token with a critical header that is not understood")
    kid = header.get("kid")
    for key in sorted(keys, key=lambda candidate: candidate.kid != kid):
        if key.use in (None, "enc") and (key.alg is None or key.alg == alg):
            plain = _try_decrypt(token, key, (alg, enc), limit)
            if plain is not None:
                return plain
    raise JoseError("a token that none of the keys decrypts")


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


def jwe_header(token: str) -> dict[str, Any]:
    """Return the protected header of a compact JWE; nothing has vouched for it.

    Raises:
        JoseError: there is none.

    """
    header = parse_object(_octets(token.partition(".")[0]), depth_limit=8)
    if isinstance(header, JsonFault):
        raise JoseError("an encrypted token without a readable header")
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
    return jwe.encrypt_compact(protected, text, _symmetric_key(key).inner, registry=registry)


def unseal(token: str, key: bytes) -> str:
    """Decrypt what `seal` made.

    Raises:
        JoseError: it was not made under this key, or is damaged.

    """
    # The octets come from a store of the application's own, which bounds them as it likes.
    return decrypt(token, (_symmetric_key(key),), alg="dir", enc="A256GCM", limit=len(token))
