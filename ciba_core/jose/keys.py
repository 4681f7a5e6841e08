"""Keys: the client's own, which sign and decrypt, and the provider's, which verify.

Keys are imported, and joserfc with them, when such a value is made; importing this module loads neither.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Final, Protocol, cast

from attrs import Factory, field, frozen

from ciba_core.jose import signing
from ciba_core.jose.algorithms import ASYMMETRIC_ALGORITHMS, KEY_MANAGEMENT_ALGORITHMS
from ciba_core.jose.key_import import Key, UnusableKey, import_key, import_pem
from ciba_core.values.errors import Endpoint, RemoteProtocolError
from ciba_core.values.http import HttpResponse
from ciba_core.values.json import JsonFault
from ciba_core.values.lenient import ProviderDeviation, parse_body
from ciba_core.values.limits import Limits

__all__ = ["DecryptionKey", "KeySet", "Signer", "SigningKey", "parse_key_set"]


class Signer(Protocol):
    """Something that signs with one private key and one algorithm, such as a `SigningKey`.

    An embedder whose key never leaves an HSM or a key management service hands in its own. It must not block.
    """

    @property
    def alg(self) -> str:
        """The algorithm: one with a key pair, such as ``ES256`` (RFC 7518 3.1, RFC 9864)."""
        ...

    @property
    def kid(self) -> str | None:
        """The ``kid`` under which the public key is registered at the provider."""
        ...

    def sign(self, octets: bytes, /) -> bytes:
        """Return the JWS signature of the octets; for ``ES*`` that is R and S (RFC 7518 3.4)."""
        ...


def _import_jwk(jwk: object) -> Key:
    if not isinstance(jwk, Mapping):
        raise TypeError(f"jwk must be a mapping, not {type(jwk).__name__}")
    if "keys" in jwk and "kty" not in jwk:
        raise ValueError("jwk must be one key, not a set of keys: pass one of those in its member keys")
    key = import_key(cast("Mapping[str, Any]", jwk))
    if isinstance(key, UnusableKey):
        raise ValueError(f"jwk is {key.reason}")  # noqa: TRY004  # its type is right
    return key


def _import_pem(pem: object, *, kid: object, alg: str | None = None) -> Key:
    if not isinstance(pem, (str, bytes)):
        raise TypeError(f"pem must be str or bytes, not {type(pem).__name__}")
    if not isinstance(kid, (str, type(None))):
        raise TypeError(f"kid must be str, not {type(kid).__name__}")
    key = import_pem(pem, kid=kid, alg=alg)
    if isinstance(key, UnusableKey):
        raise ValueError(f"pem is {key.reason}")  # noqa: TRY004  # its type is right
    return key


def _content(key: Key) -> object:
    # Two keys are equal when they are the same key pair under the same name.
    return key.thumbprint(), key.kid


_ALGORITHM_OF_CURVE: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "Ed25519"}


@frozen(repr=False)
class SigningKey:
    """A private key of the client with the one algorithm that it signs with; a `Signer`.

    Make it with `from_jwk` or `from_pem`.
    """

    _key: Key = field(alias="key", eq=_content)
    alg: str
    """One with a key pair, such as ``ES256`` (RFC 7518 3.1, RFC 9864)."""

    @classmethod
    def from_jwk(cls, jwk: Mapping[str, Any], *, alg: str | None = None) -> SigningKey:
        """Make the value from a private JWK (RFC 7517).

        Args:
            jwk: the key; its ``kid``, ``use``, ``key_ops`` and ``alg`` count.
            alg: the algorithm. When it is left out, the JWK's ``alg`` holds, and without that the curve
                decides. An RSA key goes with six algorithms, so that one has to be named.

        Raises:
            TypeError, ValueError: not a private key that is fit and meant for signing with the algorithm.
                The message names the parameter and shows nothing of the key.

        """
        key = _import_jwk(jwk)
        return cls._checked(key, alg or key.alg or _ALGORITHM_OF_CURVE.get(key.crv or ""), "jwk")

    @classmethod
    def from_pem(cls, pem: str | bytes, *, alg: str, kid: str | None = None) -> SigningKey:
        """Make the value from an unencrypted PEM.

        Raises:
            TypeError, ValueError: not a private key that is fit for signing with the algorithm. The message
                names the parameter and shows nothing of the key.

        """
        return cls._checked(_import_pem(pem, kid=kid), alg, "pem")

    @classmethod
    def _checked(cls, key: Key, alg: str | None, parameter: str) -> SigningKey:
        if alg is None:
            raise ValueError("alg must be given: the key alone does not tell it")
        if alg not in ASYMMETRIC_ALGORITHMS:
            raise ValueError(f"alg must be one of {', '.join(ASYMMETRIC_ALGORITHMS)}")
        if not key.is_private:
            raise ValueError(f"{parameter} must be a private key")
        if alg not in key.signs:
            raise ValueError(f"{parameter} must be a key for signing with {alg}, by its type, use and alg")
        return cls(key, alg)

    @property
    def kid(self) -> str | None:
        """The key identifier, or ``None``."""
        return self._key.kid

    def sign(self, octets: bytes, /) -> bytes:
        """Return the JWS signature of the octets."""
        return signing.sign(octets, self._key, self.alg)

    def __repr__(self) -> str:
        return f"<SigningKey {self.alg}, kid {self.kid!r}>"


_DECRYPTION_OPS: Final = frozenset({"decrypt", "unwrapKey", "deriveKey", "deriveBits"})


@frozen(repr=False)
class DecryptionKey:
    """A private key of the client to which the provider encrypts (OpenID Connect Core 10.2).

    Make it with `from_jwk` or `from_pem`.
    """

    key: Key = field(eq=_content)
    """The key as `ciba_core.jose.key_import` has it."""

    @classmethod
    def from_jwk(cls, jwk: Mapping[str, Any]) -> DecryptionKey:
        """Make the value from a private JWK; its ``kid``, ``use``, ``key_ops`` and ``alg`` count.

        Raises:
            TypeError, ValueError: not a private key that is fit and meant for decryption. The message names
                the parameter and shows nothing of the key.

        """
        return cls._checked(_import_jwk(jwk), "jwk")

    @classmethod
    def from_pem(cls, pem: str | bytes, *, kid: str | None = None) -> DecryptionKey:
        """Make the value from an unencrypted PEM.

        Raises:
            TypeError, ValueError: not a private key that is fit for decryption. The message names the
                parameter and shows nothing of the key.

        """
        return cls._checked(_import_pem(pem, kid=kid), "pem")

    @classmethod
    def _checked(cls, key: Key, parameter: str) -> DecryptionKey:
        if not key.is_private:
            raise ValueError(f"{parameter} must be a private key")
        if (
            key.crv == "Ed25519"
            or key.use not in (None, "enc")
            or (key.alg is not None and key.alg not in KEY_MANAGEMENT_ALGORITHMS)
            or (key.key_ops is not None and _DECRYPTION_OPS.isdisjoint(key.key_ops))
        ):
            raise ValueError(f"{parameter} must be a key for decryption, by its type, use, key_ops and alg")
        return cls(key)

    @property
    def kid(self) -> str | None:
        """The key identifier, or ``None``."""
        return self.key.kid

    def fits(self, alg: str) -> bool:
        """Tell whether the key goes with a key management algorithm of RFC 7518 4.1."""
        types = ("RSA",) if alg.startswith("RSA") else ("EC", "OKP") if alg.startswith("ECDH") else ()
        return self.key.kty in types and self.key.alg in (None, alg)

    def __repr__(self) -> str:
        return f"<DecryptionKey {self.key.kty}, kid {self.kid!r}>"


_MOST_KEYS: Final = 100
_DEFAULT_AGE: Final = 300.0
_LEAST_AGE: Final = 60.0
_MOST_AGE: Final = 86400.0
_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


def _index(key_set: KeySet) -> Mapping[tuple[str | None, str], tuple[Key, ...]]:
    found: dict[tuple[str | None, str], tuple[Key, ...]] = {}
    for key in key_set.keys:
        for kid_and_alg in itertools.product({key.kid, None}, key.verifies):
            found[kid_and_alg] = (*found.get(kid_and_alg, ()), key)
    return found


@frozen(eq=False)
class KeySet:
    """The public keys that a provider signs with, as they were fetched from its ``jwks_uri``."""

    keys: tuple[Key, ...]
    """The keys of the set that can be used, in its order."""
    fetched_at: float
    """POSIX instant at which the provider was asked last."""
    fresh_until: float
    """POSIX instant from which on the set is to be fetched anew."""
    issued_at: float = field(default=Factory(lambda self: self.fetched_at, takes_self=True))
    """POSIX instant at which the provider gave the set out: earlier, where the answer was long on its way or
    came out of a cache (RFC 9111 4.2.3)."""

    _by_kid_and_alg: Mapping[tuple[str | None, str], tuple[Key, ...]] = field(
        default=Factory(_index, takes_self=True), init=False, repr=False
    )

    def is_fresh(self, now: float) -> bool:
        """Tell whether the set may still be used without fetching it anew.

        A set from the future, after the clock was put back, is not fresh.
        """
        return self.fetched_at <= now < self.fresh_until

    def candidates(self, kid: str | None, alg: str) -> tuple[Key, ...]:
        """Return the keys that may have made a signature, in the order of the set.

        A key is one when it goes with the algorithm by its type, curve, ``use``, ``key_ops`` and ``alg``
        (RFC 7517 4) and, where the token names a ``kid``, bears that. Several keys may bear the same one
        (FAPI 2.0 Security Profile 5.4.3).

        Args:
            kid: that of the token's header, or ``None``.
            alg: one of `ciba_core.jose.algorithms.ASYMMETRIC_ALGORITHMS`.

        """
        return self._by_kid_and_alg.get((kid, alg), ())

    def bears(self, kid: str) -> bool:
        """Tell whether a key bears a ``kid``, whatever it may be used for."""
        return any(key.kid == kid for key in self.keys)


def parse_key_set(
    response: HttpResponse,
    *,
    limits: Limits,
    now: float,
    noted: list[ProviderDeviation],
    elapsed: float = 0.0,
) -> KeySet | RemoteProtocolError:
    """Read the answer of a ``jwks_uri`` (RFC 7517 5).

    Keys of unknown kinds, malformed and weak ones are left out, and so are symmetric keys and private ones:
    what is published can be used by anyone to sign. ``Cache-Control`` decides how long the set is fresh,
    between a minute and a day; five minutes when it does not say.

    Args:
        response: the answer.
        limits: bounds on the size of the answer and the depth of the JSON in it.
        now: POSIX instant at which it came.
        noted: takes what deviates from the standard and is read all the same, as the media type may.
        elapsed: seconds that it took to come.

    Returns:
        The keys; or why there are none: it is not a key set, is too large, or has more than 100 keys.

    """
    if not response.is_success:
        return _violation(f"status {response.status}", "OpenID Connect Discovery 3: jwks_uri")
    oversize = limits.exceeded_by(response)
    if oversize is not None:
        return _violation(oversize, "size limit")
    members = parse_body(response.body, depth_limit=limits.json_depth, noted=noted, mutable=True)
    if isinstance(members, JsonFault):
        return _violation(members.value, "RFC 7517 5")
    jwks = members.get("keys")
    if not isinstance(jwks, list):
        return _violation("keys is not an array", "RFC 7517 5.1")
    entries = cast("list[object]", jwks)
    if len(entries) > _MOST_KEYS:
        return _violation(f"more than {_MOST_KEYS} keys", "size limit")
    if response.media_type not in ("application/json", "application/jwk-set+json"):
        said = "another media type" if response.media_type else "no media type"
        noted.append(ProviderDeviation("RFC 7517 8.5.2", f"{said}; the body is a key set"))
    if any(isinstance(entry, dict) and None in cast("dict[str, Any]", entry).values() for entry in entries):
        noted.append(ProviderDeviation("RFC 7517 4", "members of a key that are null; taken as absent"))
    keys = tuple(key for entry in entries if (key := _public_key(entry)) is not None)
    age = _age(response) + elapsed
    return KeySet(keys=keys, fetched_at=now, fresh_until=now + _fresh_for(response, age), issued_at=now - age)


def _violation(message: str, rule: str) -> RemoteProtocolError:
    return RemoteProtocolError(message, rule=rule, endpoint=Endpoint.KEYS)


def _public_key(entry: object) -> Key | None:
    if not isinstance(entry, dict):
        return None
    # Some providers write every member that a JWK can have, null where the key has none.
    jwk = {name: value for name, value in cast("dict[str, Any]", entry).items() if value is not None}
    if not _PRIVATE_MEMBERS.isdisjoint(jwk):
        return None
    key = import_key(jwk)
    return None if isinstance(key, UnusableKey) else key


def _age(response: HttpResponse) -> float:
    """Return the seconds that caches on the way have kept an answer for (RFC 9111 5.1)."""
    age = response.header("Age") or ""
    return min(float(age), _MOST_AGE) if age.isascii() and age.isdigit() else 0.0


def _fresh_for(response: HttpResponse, age: float) -> float:
    """Return the seconds for which a key set of that age is fresh (RFC 9111 4.2)."""
    fresh_for = _DEFAULT_AGE
    for name, value in response.headers:
        if name.lower() != "cache-control":
            continue
        for directive in value.lower().split(","):
            what, _, argument = directive.strip().partition("=")
            if what in ("no-store", "no-cache"):
                return _LEAST_AGE
            seconds = argument.strip('"')
            if what == "max-age" and seconds.isascii() and seconds.isdigit():
                fresh_for = min(max(float(seconds) - age, _LEAST_AGE), _MOST_AGE)
    return fresh_for
