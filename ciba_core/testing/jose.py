"""JSON Web Tokens as the simulated provider writes and reads them; joserfc is loaded when a key is used.

Tokens are put together and taken apart here, octet by octet, so that the provider can also issue bad ones.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from attrs import frozen

from .wire import WireError, decode_json

if TYPE_CHECKING:
    from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

    AsymmetricKey = ECKey | OKPKey | RSAKey

__all__ = [
    "ASYMMETRIC",
    "CONTENT_ENCRYPTIONS",
    "HMAC",
    "KEY_MANAGEMENT",
    "BadJwt",
    "Jwt",
    "KeyRing",
    "compact",
    "encrypt",
    "encrypts",
    "forge_with_public_key",
    "half_hash",
    "import_secret",
    "is_list",
    "is_object",
    "private_members",
    "read",
    "secret_key",
    "select",
    "sign",
    "thumbprint",
    "token_hash",
    "verify",
]

_FAMILIES: Final = {
    "RS256": "RSA", "RS384": "RSA", "RS512": "RSA", "PS256": "RSA", "PS384": "RSA", "PS512": "RSA",
    "ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519", "Ed25519": "Ed25519",
}  # fmt: skip
ASYMMETRIC: Final = tuple(_FAMILIES)
HMAC: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
"""Octets that the secret has at least (RFC 7518 3.2)."""
KEY_MANAGEMENT: Final = {
    "RSA-OAEP-256": "RSA", "RSA-OAEP": "RSA",
    "ECDH-ES": "EC", "ECDH-ES+A128KW": "EC", "ECDH-ES+A256KW": "EC", "dir": "oct",
}  # fmt: skip
"""Key types by algorithm."""
CONTENT_ENCRYPTIONS: Final = {
    "A128CBC-HS256": 32, "A192CBC-HS384": 48, "A256CBC-HS512": 64,
    "A128GCM": 16, "A192GCM": 24, "A256GCM": 32,
}  # fmt: skip
"""Octets of the key (RFC 7518 5)."""

_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*")
_WRONG_KEY: Final = -1  # a generation that is never published


class BadJwt(ValueError):
    """A JWT, or the key for it, is not as it has to be."""


@frozen(repr=False)
class Jwt:
    """A signed JWT taken apart. Trust nothing in it before `verify`."""

    header: dict[str, Any]
    claims: dict[str, Any]
    signed: bytes
    signature: bytes


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Tell whether a value is a JSON object."""
    return isinstance(value, dict)


def is_list(value: Any) -> TypeGuard[list[Any]]:
    """Tell whether a value is a JSON array."""
    return isinstance(value, list)


def private_members(jwk: Mapping[str, Any]) -> set[str]:
    """Return the private and secret members of a key (RFC 7518 6)."""
    return {name for name in jwk if name in _PRIVATE}


# --- reading -----------------------------------------------------------------------------------------------


def _decode(part: str) -> bytes:
    if not _BASE64URL.fullmatch(part):
        raise BadJwt("not base64url without padding")
    try:
        octets = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        raise BadJwt("not base64url without padding") from None
    if _encode(octets) != part:  # unused bits of the last character have to be 0 (RFC 4648 3.5)
        raise BadJwt("not base64url without padding")
    return octets


def read(token: str) -> Jwt:
    """Take a signed JWT apart (RFC 7515 7.1, RFC 7519 7.2).

    Raises:
        BadJwt: the text is no signed JWT, or has a ``crit`` header: no extension is supported here.

    """
    try:
        header, payload, signature = token.split(".")
    except ValueError:
        raise BadJwt("not three parts") from None
    try:
        members = decode_json(_decode(header).decode())
        claims = decode_json(_decode(payload).decode())
    except (UnicodeDecodeError, WireError):
        raise BadJwt("header or payload: not JSON") from None
    if not is_object(members) or not is_object(claims):
        raise BadJwt("header or payload: not an object")
    if "crit" in members:
        raise BadJwt("crit: not understood")
    return Jwt(members, claims, f"{header}.{payload}".encode(), _decode(signature))


def select(jwks: Mapping[str, Any], header: Mapping[str, Any], alg: str) -> Mapping[str, Any]:
    """Return the one key of a set that a header refers to (OpenID Connect Core 10.1).

    Raises:
        BadJwt: no key fits, or several keys fit and no ``kid`` selects one.

    """
    family = _FAMILIES[alg]
    fitting: list[Mapping[str, Any]] = [
        key
        for key in jwks["keys"]
        if family in {key.get("kty"), key.get("crv")}
        and key.get("use", "sig") == "sig"
        and key.get("alg", alg) == alg
        and header.get("kid", key.get("kid")) == key.get("kid")
    ]
    if len(fitting) != 1:
        raise BadJwt("not exactly one key fits alg and kid")
    return fitting[0]


def verify(jwt: Jwt, jwk: Mapping[str, Any], alg: str) -> None:
    """Verify a signature with an algorithm that the caller has chosen.

    Raises:
        BadJwt: the key is not for this algorithm, or the signature is wrong.

    """
    from joserfc.errors import JoseError  # noqa: PLC0415  # joserfc is loaded only when a key is used
    from joserfc.jwk import import_key  # noqa: PLC0415
    from joserfc.jws import JWSRegistry  # noqa: PLC0415

    model = JWSRegistry.algorithms[alg]
    try:
        key = import_key(dict(jwk))
        model.check_key(key)
        right = model.verify(jwt.signed, jwt.signature, key)
    except (JoseError, ValueError, TypeError, KeyError):
        raise BadJwt("the key is not for this algorithm") from None
    if not right:
        raise BadJwt("wrong signature")


def secret_key(secret: str) -> dict[str, Any]:
    """Return the key for HMAC algorithms: the octets of the client secret (OpenID Connect Core 10.1)."""
    return {"kty": "oct", "k": _encode(secret.encode())}


def import_secret(secret: str) -> Key:
    """Return the same key, to sign with."""
    from joserfc.jwk import import_key  # noqa: PLC0415  # joserfc is loaded only when a key is used

    return import_key(secret_key(secret))


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """Return the SHA-256 thumbprint of a key that `verify` has used (RFC 7638)."""
    from joserfc.jwk import import_key  # noqa: PLC0415  # joserfc is loaded only when a key is used

    return import_key(dict(jwk)).thumbprint()


# --- writing -----------------------------------------------------------------------------------------------


def _encode(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def _signing_input(header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    return ".".join(_encode(json.dumps(part).encode()) for part in (dict(header), dict(claims)))


def compact(header: Mapping[str, Any], claims: Mapping[str, Any], signature: bytes) -> str:
    """Put a JWT together with any signature, right or wrong."""
    return f"{_signing_input(header, claims)}.{_encode(signature)}"


def sign(header: Mapping[str, Any], claims: Mapping[str, Any], key: Key, alg: str) -> bytes:
    """Return the signature of a JWT."""
    from joserfc.jws import JWSRegistry  # noqa: PLC0415  # joserfc is loaded only when a key is used

    return JWSRegistry.algorithms[alg].sign(_signing_input(header, claims).encode(), key)


def forge_with_public_key(header: Mapping[str, Any], claims: Mapping[str, Any], key: AsymmetricKey) -> bytes:
    """Return an HS256 signature whose secret is a public key in PEM, which everybody knows (RFC 8725 2.1)."""
    return hmac.digest(key.as_pem(private=False), _signing_input(header, claims).encode(), "sha256")


def encrypt(token: str, *, alg: str, enc: str, jwks: Mapping[str, Any] | None, secret: str | None) -> str:
    """Encrypt a signed JWT for a client (OpenID Connect Core 10.2)."""
    from joserfc import jwe  # noqa: PLC0415  # joserfc is loaded only when a key is used
    from joserfc.jwk import import_key  # noqa: PLC0415

    header = {"alg": alg, "enc": enc, "cty": "JWT"}
    if alg == "dir":
        size = CONTENT_ENCRYPTIONS[enc]
        digest = hashlib.sha256 if size <= 32 else hashlib.sha384 if size <= 48 else hashlib.sha512
        jwk = secret_key("") | {"k": _encode(digest((secret or "").encode()).digest()[:size])}
    else:
        jwk = next(key for key in (jwks or {})["keys"] if encrypts(key, alg))
        if "kid" in jwk:
            header["kid"] = jwk["kid"]
    return jwe.encrypt_compact(header, token, import_key(jwk), algorithms=[alg, enc])


def encrypts(jwk: Mapping[str, Any], alg: str) -> bool:
    """Tell whether a public key is for a key management algorithm."""
    return (jwk.get("kty"), jwk.get("use", "enc")) == (KEY_MANAGEMENT[alg], "enc") and jwk.get(
        "alg", alg
    ) == alg


def half_hash(alg: str, value: str) -> str:
    """Return ``at_hash`` of an access token for an ID Token's algorithm (OpenID Connect Core 3.1.3.6)."""
    name = "sha512" if _FAMILIES.get(alg) == "Ed25519" else f"sha{alg[2:]}"
    digest = hashlib.new(name, value.encode()).digest()
    return _encode(digest[: len(digest) // 2])


def token_hash(access_token: str) -> str:
    """Return ``ath`` of an access token (RFC 9449 4.2)."""
    return _encode(hashlib.sha256(access_token.encode()).digest())


# --- the provider's own keys -------------------------------------------------------------------------------


@functools.cache
def _private_key(family: str, generation: int) -> AsymmetricKey:
    # Once for the whole process: to make an RSA key takes longer than an hour of virtual polling.
    from joserfc.jwk import ECKey, OKPKey, RSAKey  # noqa: PLC0415  # loaded only when a key is used

    del generation  # tells the keys of a family apart
    if family == "RSA":
        return RSAKey.generate_key(2048)
    if family == "Ed25519":
        return OKPKey.generate_key("Ed25519")
    return ECKey.generate_key(family)


class KeyRing:
    """The provider's signing keys: one for each algorithm in use, and their earlier generations.

    Args:
        algs: the algorithms whose keys are published from the beginning; those used later are added.

    """

    def __init__(self, algs: Iterable[str]) -> None:
        self._algs = dict.fromkeys(alg for alg in algs if alg in _FAMILIES)
        self._generations = [0]

    def rotate(self, *, keep_old: bool) -> None:
        """Make new keys; the old ones stay published or are dropped."""
        new = self._generations[0] + 1
        self._generations = [new, *self._generations] if keep_old else [new]

    def current(self, alg: str) -> tuple[str, AsymmetricKey]:
        """Return ``kid`` and key to sign with."""
        self._algs.setdefault(alg)
        generation = self._generations[0]
        return f"{alg}-{generation}", _private_key(_FAMILIES[alg], generation)

    @staticmethod
    def wrong(alg: str) -> AsymmetricKey:
        """Return a key that is not in the key set."""
        return _private_key(_FAMILIES[alg], _WRONG_KEY)

    def public(self) -> list[dict[str, Any]]:
        """Return the published keys, the current generation first."""
        return [
            _private_key(_FAMILIES[alg], generation).as_dict(
                private=False, use="sig", alg=alg, kid=f"{alg}-{generation}"
            )
            for generation in self._generations
            for alg in self._algs
        ]
