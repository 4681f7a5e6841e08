"""JWTs that wait for their signature: what is to be signed, and by whom.

A key may be in the process, which makes signing a call, or behind I/O, in an HSM or a key management service.
So nothing that builds a JWT signs it: it returns an `UnsignedJwt`, and whoever holds that either calls `sign`
or has the driver see to it and calls `signed`.
"""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from attrs import field, frozen

from ciba_core.jose.algorithms import ASYMMETRIC_ALGORITHMS, listed_name
from ciba_core.jose.encoding import base64url
from ciba_core.jose.keys import Signer
from ciba_core.jose.signing import compact, encoded, signing_input
from ciba_core.values import check
from ciba_core.values.errors import LocalProtocolError
from ciba_core.values.json import is_array_of
from ciba_core.values.secret import NotPickled

__all__ = [
    "AnySigner",
    "Audience",
    "AudiencePolicy",
    "NotSigned",
    "RemoteSigner",
    "UnsignedJwt",
    "audience_claim",
    "check_audience",
    "check_backdate",
    "check_signer",
    "numeric_date",
    "signed",
    "to_audience",
    "to_optional_audience",
    "unique_id",
    "unsigned_jwt",
]

_UNIQUE_OCTETS: Final = 16
# R and S one after the other, each as long as the order of the curve (RFC 7518 3.4); RFC 8032 5.1.6.
_SIGNATURE_OCTETS: Final = {"ES256": 64, "ES384": 96, "ES512": 132, "Ed25519": 64, "EdDSA": 64}


def _check_asymmetric(_instance: Any, attribute: Any, value: Any) -> None:
    if value not in ASYMMETRIC_ALGORITHMS:
        raise ValueError(f"{attribute.name} must be one of {', '.join(ASYMMETRIC_ALGORITHMS)}")


@frozen
class RemoteSigner:
    """A private key that only the driver can reach, through I/O.

    It has no ``sign``: the octets go out as the output of a step, and the signature comes back as an input.

    Raises:
        TypeError, ValueError: the name is empty, or the algorithm is not one with a public key.

    """

    name: str = field(validator=[check.a(str), check.text])
    """The name of the key in the service that keeps it. It is for the driver, and is not sent to the
    provider."""
    alg: str = field(kw_only=True, validator=[check.a(str), _check_asymmetric])
    """The JWS algorithm (RFC 7518 3.1)."""
    kid: str | None = field(default=None, kw_only=True, validator=check.text)
    """The identifier under which the public key is registered at the provider."""


@frozen(weakref_slot=False)
class NotSigned:
    """The result in place of a request that could not be signed, or whose signature is unusable."""

    reason: str
    """A short text for people and logs, with nothing in it of what a signer returned or raised."""


AnySigner = Signer | RemoteSigner
"""Who signs: a `Signer` in the process, or the driver."""


def check_signer(_instance: Any, attribute: Any, value: Any) -> None:
    """Check for a `Signer` or `RemoteSigner` with an algorithm that has a public key."""
    if isinstance(value, type) or not (
        isinstance(value, RemoteSigner) or callable(getattr(value, "sign", None))
    ):
        raise TypeError(f"{attribute.name} must be a signer, such as SigningKey.from_jwk(...)")
    if getattr(value, "alg", None) not in ASYMMETRIC_ALGORITHMS:
        raise ValueError(
            f"{attribute.name} must sign with one of {', '.join(ASYMMETRIC_ALGORITHMS)}, since only a "
            "public key proves who signed"
        )
    kid = getattr(value, "kid", None)
    if kid is not None and (not isinstance(kid, str) or check.text_problem(kid)):
        raise ValueError(f"{attribute.name} must have a kid that is text, or none")


@frozen(repr=False, weakref_slot=False)
class UnsignedJwt(NotPickled):
    """A JWT but for its signature. Its claims may be personal data, so that they do not show."""

    octets: bytes
    """What to sign (RFC 7515 5.1)."""
    signer: AnySigner
    """Who has to sign, and by which algorithm."""
    expires_at: float | None = None
    """Its ``exp``: the POSIX instant at which it becomes useless. ``None`` if it has no ``exp``."""

    def sign(self) -> str:
        """Have a signer in the process sign, and return the compact JWT.

        Raises:
            LocalProtocolError: the key is behind I/O, or the signer made no proper signature.

        """
        if isinstance(self.signer, RemoteSigner):
            raise LocalProtocolError("the signature has to come from the driver, which alone reaches the key")
        return self.signed(self.signer.sign(self.octets))

    def signed(self, signature: bytes) -> str:
        """Return the compact JWT with a signature that came from elsewhere.

        Args:
            signature: octets in the form of JWS (RFC 7518 3); for ``ES*``, R and S one after the other.

        Raises:
            LocalProtocolError: it is not of the length that the algorithm makes. Services that sign with
                elliptic curves often answer in DER.

        """
        problem = self.signature_problem(signature)
        if problem is not None:
            raise LocalProtocolError(problem)
        return compact(self.octets, signature)

    def signature_problem(self, signature: object) -> str | None:
        """Say why that cannot be the signature, or return ``None``; whether it verifies is not looked at."""
        if not isinstance(signature, bytes):
            return "a signature must be bytes"
        if not signature:
            return "a signature must not be empty"
        expected = _SIGNATURE_OCTETS.get(self.signer.alg)
        if expected is None or len(signature) == expected:
            return None
        form = "R and S of equal length, not DER" if self.signer.alg.startswith("ES") else "RFC 8032"
        return f"a signature with {self.signer.alg} has {expected} octets ({form}), not {len(signature)}"

    def __repr__(self) -> str:
        return f"<UnsignedJwt for {self.signer.alg}, kid {self.signer.kid!r}>"


def signed(jwt: UnsignedJwt, signature: bytes) -> str | NotSigned:
    """Return the compact JWT; or `NotSigned`, if the signature is not of the form that the algorithm has."""
    problem = jwt.signature_problem(signature)
    return compact(jwt.octets, signature) if problem is None else NotSigned(problem)


def unsigned_jwt(
    claims: Mapping[str, Any],
    *,
    signer: AnySigner,
    typ: str | None,
    listed_algs: tuple[str, ...] | None = None,
) -> UnsignedJwt:
    """Return a JWT for a signer, with ``alg`` in its header, and ``kid`` and ``typ`` where there is one.

    Of an algorithm with two names, the header has the one among `listed_algs`, which the receiver knows.
    """
    alg = listed_name(signer.alg, listed_algs)
    octets = signing_input(_header(alg, typ, signer.kid), claims)
    expires_at = claims.get("exp")
    return UnsignedJwt(octets, signer, None if expires_at is None else float(expires_at))


@functools.lru_cache(maxsize=64)
def _header(alg: str, typ: str | None, kid: str | None) -> str:
    # Cached: the header of a signer is the same for every poll. It contains no secret.
    header = {"alg": alg, "typ": typ, "kid": kid}
    return encoded({name: value for name, value in header.items() if value is not None})


def unique_id(entropy: Callable[[int], bytes]) -> str:
    """Return a ``jti`` of 128 random bits."""
    return base64url(entropy(_UNIQUE_OCTETS))


def numeric_date(now: float) -> int:
    """Return a POSIX instant as a NumericDate without fraction (RFC 7519 2), which every provider reads."""
    return math.floor(now)


def check_backdate(limit: int) -> Callable[[Any, Any, Any], None]:
    """Check that ``backdate`` and the ``lifetime`` beside it, in seconds, stay within a limit together."""
    number = check.whole_number(0, limit - 1)

    def validate(instance: Any, attribute: Any, value: Any) -> None:
        number(instance, attribute, value)
        if value + instance.lifetime > limit:
            raise ValueError(f"lifetime and {attribute.name} together must not exceed {limit} seconds")

    return validate


class Audience(enum.Enum):
    """Whom a JWT is meant for, as far as it depends on the provider or on the request."""

    ISSUER = "issuer"
    """The provider's issuer identifier (CIBA Core 7.1, FAPI 2.0)."""
    TOKEN_ENDPOINT = "token endpoint"  # noqa: S105  # a name, not a credential
    """The URL of the token endpoint, whichever endpoint is called (OpenID Connect Core 9)."""
    CALLED_ENDPOINT = "called endpoint"
    """The URL of the endpoint that the JWT is sent to (CAMARA)."""


AudiencePolicy = Audience | str | tuple[Audience | str, ...]
"""One audience or several; a string is taken as it is."""


def to_audience(value: Audience | str | Sequence[Audience | str]) -> AudiencePolicy:
    """Take a list where a tuple is meant."""
    return cast("AudiencePolicy", tuple(value) if isinstance(value, list) else value)


def to_optional_audience(value: Audience | str | Sequence[Audience | str] | None) -> AudiencePolicy | None:
    """Convert as `to_audience` does; ``None`` stays ``None``."""
    return None if value is None else to_audience(value)


def check_audience(_instance: Any, attribute: Any, value: Any) -> None:
    """Check for an `AudiencePolicy`."""
    if value == ():
        raise ValueError(f"{attribute.name} must not be empty")
    for item in value if is_array_of(value, object) else (value,):
        if isinstance(item, str):
            problem = check.text_problem(item)
            if problem is not None:
                raise ValueError(f"{attribute.name} {problem}")
        elif not isinstance(item, Audience):
            raise TypeError(f"{attribute.name} must be an Audience, a str, or several of them")


def audience_claim(
    policy: AudiencePolicy, *, issuer: str, token_endpoint: str, called_endpoint: str
) -> str | tuple[str, ...]:
    """Return the ``aud`` claim: a plain string for one audience (FAPI 2.0 5.3.3.1), an array for several.

    Audiences that turn out to be the same are named once.
    """

    def resolved(item: Audience | str) -> str:
        match item:
            case Audience.ISSUER:
                return issuer
            case Audience.TOKEN_ENDPOINT:
                return token_endpoint
            case Audience.CALLED_ENDPOINT:
                return called_endpoint
            case _:
                return item

    if not isinstance(policy, tuple):
        return resolved(policy)
    values = tuple(dict.fromkeys(map(resolved, policy)))
    return values[0] if len(values) == 1 else values
