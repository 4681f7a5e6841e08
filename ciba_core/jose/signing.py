"""JSON Web Signatures in compact form (RFC 7515): made, taken apart, verified.

The algorithm is always the caller's choice: none is ever taken from a token alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from attrs import define, frozen

from ciba_core.jose.algorithms import KEY_TYPES
from ciba_core.jose.encoding import base64url, decoded
from ciba_core.jose.key_import import Key
from ciba_core.values.json import JsonFault, dumps, parse_object

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.hashes import Hash

__all__ = [
    "Jws",
    "MalformedJws",
    "compact",
    "encoded",
    "half_hash",
    "parse_jws",
    "sign",
    "signing_input",
    "verify",
]


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
        ValueError: the key does not fit the algorithm. Whoever makes a signer has seen to it that it does.

    """
    if alg not in key.signs:
        raise ValueError(f"a key that is not for signing with {alg}")
    if key.kty != "EC":
        return _algorithm(alg).sign(octets, key.inner)
    # joserfc converts R and S by way of hexadecimal digits. That takes a third of the time of a signature,
    # and every poll has one.
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


@frozen(weakref_slot=False)
class MalformedJws:
    """A text that is not a compact JWS."""

    reason: str
    """What is wrong with the text; the message contains nothing of it."""


def parse_jws(token: str, *, depth_limit: int) -> Jws | MalformedJws:
    """Take a compact JWS apart without judging its signature, or say what is wrong with it.

    It has to be three parts of strict base64url with a JSON object in each of the first two, without a
    ``crit`` header, which asks for something not understood (RFC 7515 4.1.11).
    """
    signed, _, signature_part = token.encode("utf-8", "replace").rpartition(b".")
    header_part, dot, claims_part = signed.partition(b".")
    if not dot or b"." in claims_part:
        return MalformedJws("not a signed JWT of three parts")
    claims, signature = decoded(claims_part), decoded(signature_part)
    if claims is None or signature is None:
        return MalformedJws("a JWT that is not in base64url")
    header = _header(header_part, depth_limit)
    if isinstance(header, MalformedJws):
        return header
    members = parse_object(claims, depth_limit=depth_limit)
    if not isinstance(members, dict):
        return MalformedJws(f"a JWT whose claims are {members.value}")
    return Jws(header=header, claims=members, octets=signed, signature=signature)


@functools.lru_cache(maxsize=16)
def _header(part: bytes, depth_limit: int) -> Mapping[str, Any] | MalformedJws:
    """Read the header of a JWS, or say what is wrong with it.

    Remembered, since all tokens of a provider have the same one, until its key changes.
    """
    octets = decoded(part)
    if octets is None:
        return MalformedJws("a JWT that is not in base64url")
    header = parse_object(octets, depth_limit=depth_limit)
    if isinstance(header, JsonFault):
        return MalformedJws(f"a JWT whose header is {header.value}")
    if "crit" in header or "b64" in header:
        return MalformedJws("a JWT with a critical header that is not understood")
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
    return hashes.Hash(family["512" if KEY_TYPES[alg][0] == "OKP" else alg[2:]])
