"""How the client authenticates to the provider (CIBA Core 7.1 and 10.1, OpenID Connect Core 9).

One and the same method serves the backchannel authentication endpoint and the token endpoint. A method is a
value with one function, from a `CredentialsContext` to the `Credentials` that go into a request.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from typing import Any, Final, Protocol

from attrs import define, field, frozen
from attrs.validators import optional

from ciba_core.jose import signing
from ciba_core.jose.algorithms import HMAC_ALGORITHMS
from ciba_core.jose.key_import import Key, UnusableKey, hmac_key
from ciba_core.jose.unsigned_jwt import (
    AnySigner,
    Audience,
    AudiencePolicy,
    UnsignedJwt,
    audience_claim,
    check_audience,
    check_backdate,
    check_signer,
    numeric_date,
    to_optional_audience,
    unique_id,
    unsigned_jwt,
)
from ciba_core.values import check, form
from ciba_core.values.secret import NotPickled, Secret

__all__ = [
    "ClientAuthentication",
    "ClientSecretBasic",
    "ClientSecretJwt",
    "ClientSecretPost",
    "Credentials",
    "CredentialsContext",
    "NoClientAuthentication",
    "PrivateKeyJwt",
    "SelfSignedTlsClientAuth",
    "TlsClientAuth",
]

_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_LIMIT: Final = 300
"""Seconds that a client assertion may live; CAMARA has the lowest limit."""


# Not frozen, though nothing changes it: one is made for every request, and freezing costs time.
@define(weakref_slot=False)
class CredentialsContext:
    """The facts about a request that an authentication method may need."""

    client_id: str
    issuer: str
    token_endpoint: str
    """URL of the token endpoint, whichever endpoint is called."""
    endpoint_url: str
    """URL of the endpoint that is about to be called."""
    now: float
    """POSIX seconds."""
    entropy: Callable[[int], bytes] = field(repr=False)
    """Returns that many random octets."""
    audience: AudiencePolicy = Audience.ISSUER
    """The audience of a JWT, unless the client's settings name another one."""
    signing_algs: tuple[str, ...] | None = None
    """The signature algorithms that the provider lists for such a JWT; ``None`` where it lists none."""


@frozen(weakref_slot=False)
class Credentials(NotPickled):
    """Header fields and form parameters that authenticate one request."""

    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    parameters: tuple[tuple[str, str | UnsignedJwt], ...] = field(default=(), repr=False)
    """A JWT is signed before it is sent."""


class ClientAuthentication(Protocol):
    """A client authentication method. Implementations are frozen and do no I/O."""

    @property
    def method(self) -> str:
        """The registered name, as in ``token_endpoint_auth_method``."""
        ...

    @property
    def signing_alg(self) -> str | None:
        """The algorithm, as in ``token_endpoint_auth_signing_alg``, where the method signs."""
        ...

    @property
    def mutual_tls(self) -> bool:
        """Whether the client shows a certificate, so that ``mtls_endpoint_aliases`` apply (RFC 8705 5)."""
        ...

    def credentials(self, context: CredentialsContext, /) -> Credentials:
        """Return what to put into one request; called anew for every request, every poll included."""
        ...


@frozen
class ClientSecretBasic:
    """``client_secret_basic``: HTTP Basic with form-encoded identifier and secret (RFC 6749 2.3.1).

    Raises:
        TypeError, ValueError: the secret is not a non-empty string without control characters.

    """

    client_secret: Secret = field(converter=check.secret, validator=[check.a(str, Secret), check.secret_text])
    raw: bool = field(default=False, kw_only=True, validator=check.flag)
    """Leave out the form-encoding, for providers that do not decode it. It makes a difference only for
    identifiers and secrets with other characters than letters, digits and ``*-._``."""

    method = "client_secret_basic"
    signing_alg = None
    mutual_tls = False

    def credentials(self, context: CredentialsContext, /) -> Credentials:
        """Return the ``Authorization`` header."""
        user, password = context.client_id, self.client_secret.reveal()
        if not self.raw:
            user, password = form.encode(user), form.encode(password)
        pair = b":".join((user.encode(), password.encode()))
        token = binascii.b2a_base64(pair, newline=False).decode("ascii")
        return Credentials((("Authorization", f"Basic {token}"),))


@frozen
class ClientSecretPost:
    """``client_secret_post``: identifier and secret in the form (RFC 6749 2.3.1, which advises against it).

    Raises:
        TypeError, ValueError: the secret is not a non-empty string without control characters.

    """

    client_secret: Secret = field(converter=check.secret, validator=[check.a(str, Secret), check.secret_text])

    method = "client_secret_post"
    signing_alg = None
    mutual_tls = False

    def credentials(self, context: CredentialsContext, /) -> Credentials:
        """Return ``client_id`` and ``client_secret``."""
        return Credentials(
            parameters=(("client_id", context.client_id), ("client_secret", self.client_secret.reveal()))
        )


@frozen(kw_only=True)
class _JwtAssertion:
    """What the two methods that send a JWT have in common (RFC 7523 2.2, OpenID Connect Core 9)."""

    audience: AudiencePolicy | None = field(
        default=None, converter=to_optional_audience, validator=optional(check_audience)
    )
    """The ``aud`` claim; what providers take differs. ``None`` for what the client's profile has: the issuer,
    unless it is known that something else is taken."""
    lifetime: int = field(default=60, validator=check.whole_number(1, _LIMIT))
    """Seconds from now to ``exp``."""
    typ: str | None = field(default=None, validator=check.text)
    """The ``typ`` header, such as ``client-authentication+jwt``."""
    backdate: int = field(default=0, validator=check_backdate(_LIMIT))
    """Seconds by which ``iat`` lies before now, for providers whose clock is behind; with `lifetime` at most
    300."""

    mutual_tls = False

    def _credentials(self, context: CredentialsContext, signer: AnySigner) -> Credentials:
        now = numeric_date(context.now)
        claims: dict[str, Any] = {
            "iss": context.client_id,
            "sub": context.client_id,
            "aud": audience_claim(
                context.audience if self.audience is None else self.audience,
                issuer=context.issuer,
                token_endpoint=context.token_endpoint,
                called_endpoint=context.endpoint_url,
            ),
            "jti": unique_id(context.entropy),
            "iat": now - self.backdate,
            "exp": now + self.lifetime,
        }
        return Credentials(
            parameters=(
                ("client_assertion_type", _ASSERTION_TYPE),
                (
                    "client_assertion",
                    unsigned_jwt(claims, signer=signer, typ=self.typ, listed_algs=context.signing_algs),
                ),
            )
        )


@frozen
class PrivateKeyJwt(_JwtAssertion):
    """``private_key_jwt``: a JWT signed with the client's private key (OpenID Connect Core 9).

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range; the message names it.

    """

    signer: AnySigner = field(validator=check_signer)

    method = "private_key_jwt"

    @property
    def signing_alg(self) -> str:
        """The algorithm of the signer."""
        return self.signer.alg

    def credentials(self, context: CredentialsContext, /) -> Credentials:
        """Return a new assertion, used once."""
        return self._credentials(context, self.signer)


@frozen
class _Hmac:
    """A `Signer` by the client's secret."""

    alg: str
    key: Key = field(repr=False)

    kid = None

    def sign(self, octets: bytes, /) -> bytes:
        return signing.sign(octets, self.key, self.alg)


def _check_hmac(_instance: Any, attribute: Any, value: Any) -> None:
    if value not in HMAC_ALGORITHMS:
        raise ValueError(f"{attribute.name} must be one of {', '.join(HMAC_ALGORITHMS)}")


@frozen
class ClientSecretJwt(_JwtAssertion):
    """``client_secret_jwt``: a JWT authenticated with the client secret (OpenID Connect Core 9).

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range; the message names it. The
            secret has to have at least as many octets as the hash: 32, 48 or 64 (RFC 7518 3.2).

    """

    client_secret: Secret = field(converter=check.secret, validator=[check.a(str, Secret), check.secret_text])
    alg: str = field(default="HS256", kw_only=True, validator=[check.a(str), _check_hmac])
    """``HS256``, ``HS384`` or ``HS512``."""
    _signer: _Hmac = field(init=False, repr=False, eq=False)

    method = "client_secret_jwt"

    def __attrs_post_init__(self) -> None:
        key = hmac_key(self.client_secret.reveal(), self.alg)
        if isinstance(key, UnusableKey):
            raise ValueError(f"client_secret: {key.reason}")  # noqa: TRY004  # its type is right
        object.__setattr__(self, "_signer", _Hmac(self.alg, key))

    @property
    def signing_alg(self) -> str:
        """The algorithm of the HMAC."""
        return self.alg

    def credentials(self, context: CredentialsContext, /) -> Credentials:
        """Return a new assertion, used once."""
        return self._credentials(context, self._signer)


@frozen
class _Identified:
    """What the methods without credentials of their own in the request have in common."""

    signing_alg = None
    mutual_tls = True

    def credentials(self, context: CredentialsContext, /) -> Credentials:
        """Return ``client_id``."""
        return Credentials(parameters=(("client_id", context.client_id),))


@frozen
class TlsClientAuth(_Identified):
    """``tls_client_auth``: a certificate of a known authority, shown in the TLS handshake (RFC 8705 2.1).

    The driver's HTTP client holds the certificate and its key.
    """

    method = "tls_client_auth"


@frozen
class SelfSignedTlsClientAuth(_Identified):
    """``self_signed_tls_client_auth``: a certificate that is registered by itself (RFC 8705 2.2).

    The driver's HTTP client holds the certificate and its key.
    """

    method = "self_signed_tls_client_auth"


@frozen
class NoClientAuthentication(_Identified):
    """``none``: only the client identifier is sent.

    CIBA demands client authentication (Core 7.1); this is for development against providers that do not.
    """

    method = "none"
    mutual_tls = False
