"""The signed form of the authentication request (CIBA Core 7.1.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from attrs import field, frozen
from attrs.validators import optional

from ciba_core import _check
from ciba_core.unsigned_jwt import (
    AnySigner,
    Audience,
    AudiencePolicy,
    UnsignedJwt,
    audience_claim,
    check_audience,
    check_backdate,
    check_signer,
    numeric_date,
    to_audience,
    unique_id,
    unsigned_jwt,
)

if TYPE_CHECKING:
    from ciba_core.authentication_request import AuthenticationRequest

__all__ = ["RequestSigning", "request_object"]

_LIMIT: Final = 3600
"""Seconds from ``nbf`` to ``exp`` at most (FAPI-CIBA 5.2.2)."""


@frozen
class RequestSigning:
    """That authentication requests are signed, and how (CIBA Core 7.1.1). The signature is asymmetric.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range; the message names it.

    """

    signer: AnySigner = field(validator=check_signer)
    """Its ``alg`` is registered as ``backchannel_authentication_request_signing_alg``."""
    lifetime: int = field(default=300, kw_only=True, validator=_check.whole_number(1, _LIMIT))
    """Seconds from now to ``exp``."""
    audience: AudiencePolicy | None = field(
        default=None, kw_only=True, converter=to_audience, validator=optional(check_audience)
    )
    """``None`` for what the client's profile has. CIBA Core wants the issuer among the audiences, CAMARA
    recommends the called endpoint; an array of both serves both."""
    typ: str | None = field(default=None, kw_only=True, validator=_check.text)
    """The ``typ`` header. CIBA Core sets none; RFC 9101 has ``oauth-authz-req+jwt``."""
    include_client_id: bool = field(default=False, kw_only=True, validator=_check.flag)
    """Add a ``client_id`` claim, for providers that want one beside ``iss``."""
    backdate: int = field(default=0, kw_only=True, validator=check_backdate(_LIMIT))
    """Seconds by which ``iat`` and ``nbf`` lie before now, for providers whose clock is behind; with
    `lifetime` at most 3600."""


def request_object(
    request: AuthenticationRequest,
    *,
    signing: RequestSigning,
    client_id: str,
    issuer: str,
    endpoint_url: str,
    token_endpoint: str,
    now: float,
    entropy: Callable[[int], bytes],
    extra_claims: Iterable[tuple[str, Any]] = (),
    audience: AudiencePolicy = Audience.ISSUER,
    names: Mapping[str, str] = MappingProxyType({}),
) -> UnsignedJwt:
    """Return what goes, signed, into ``request``, the one parameter beside client authentication.

    Every call makes a new ``jti``; a repeated attempt needs a new call (CIBA Core 7.1.1).

    Args:
        request: its parameters become claims of the same name.
        signing: the client's settings.
        client_id: becomes ``iss``; never ``sub``, which would make the JWT a client assertion.
        issuer: the provider's issuer identifier.
        endpoint_url: URL of the backchannel authentication endpoint as called.
        token_endpoint: URL of the token endpoint.
        now: POSIX seconds.
        entropy: returns that many random octets.
        extra_claims: names and values of what the library itself adds to the parameters, such as
            ``client_notification_token``.
        audience: whom the request is for where `signing` does not say.
        names: what the provider calls parameters that have another name in the standard.

    """
    moment = numeric_date(now)
    issued_at = moment - signing.backdate
    claims: dict[str, Any] = {
        "iss": client_id,
        "aud": audience_claim(
            audience if signing.audience is None else signing.audience,
            issuer=issuer,
            token_endpoint=token_endpoint,
            called_endpoint=endpoint_url,
        ),
        "exp": moment + signing.lifetime,
        "iat": issued_at,
        "nbf": issued_at,
        "jti": unique_id(entropy),
    }
    if signing.include_client_id:
        claims["client_id"] = client_id
    # The request keeps the names above out of its extensions, so that nothing is overwritten.
    claims.update(request.claims_set(names))
    claims.update(extra_claims)
    return unsigned_jwt(claims, signer=signing.signer, typ=signing.typ)
