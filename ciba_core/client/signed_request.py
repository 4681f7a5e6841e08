"""The signed form of the authentication request (CIBA Core 7.1.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import field, frozen
from attrs.validators import optional

from ciba_core.client.authentication import CredentialsContext
from ciba_core.jose.unsigned_jwt import (
    AnySigner,
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
from ciba_core.values import check

__all__ = ["RequestSigning", "request_object"]

_LIMIT: Final = 3600
"""Seconds from ``nbf`` to ``exp`` at most (FAPI-CIBA 5.2.2)."""


@frozen
class RequestSigning:
    """How the client signs its authentication requests (CIBA Core 7.1.1). The signature is asymmetric.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range; the message names it.

    """

    signer: AnySigner = field(validator=check_signer)
    """Its ``alg`` is registered as ``backchannel_authentication_request_signing_alg``."""
    lifetime: int = field(default=300, kw_only=True, validator=check.whole_number(1, _LIMIT))
    """Seconds from now to ``exp``."""
    audience: AudiencePolicy | None = field(
        default=None, kw_only=True, converter=to_optional_audience, validator=optional(check_audience)
    )
    """``None`` for what the client's profile has. CIBA Core wants the issuer among the audiences, CAMARA
    recommends the called endpoint; an array of both serves both."""
    typ: str | None = field(default=None, kw_only=True, validator=check.text)
    """The ``typ`` header. CIBA Core sets none; RFC 9101 has ``oauth-authz-req+jwt``."""
    backdate: int = field(default=0, kw_only=True, validator=check_backdate(_LIMIT))
    """Seconds by which ``iat`` and ``nbf`` lie before now, for providers whose clock is behind; with
    `lifetime` at most 3600."""


def request_object(
    parameters: Mapping[str, Any], *, signing: RequestSigning, context: CredentialsContext
) -> UnsignedJwt:
    """Return what goes, signed, into ``request``, the one parameter beside client authentication.

    Every call makes a new ``jti``; a repeated attempt needs a new call (CIBA Core 7.1.1).

    Args:
        parameters: those of the request, which become claims of the same name.
        signing: the client's settings.
        context: the request that it goes into. The client becomes ``iss``; never ``sub``, which would make
            the JWT a client assertion.

    """
    moment = numeric_date(context.now)
    issued_at = moment - signing.backdate
    claims: dict[str, Any] = {
        "iss": context.client_id,
        "aud": audience_claim(
            context.audience if signing.audience is None else signing.audience,
            issuer=context.issuer,
            token_endpoint=context.token_endpoint,
            called_endpoint=context.endpoint_url,
        ),
        "exp": moment + signing.lifetime,
        "iat": issued_at,
        "nbf": issued_at,
        "jti": unique_id(context.entropy),
        # `extra` and the profile refuse the names above, so that no parameter overwrites a claim.
        **parameters,
    }
    return unsigned_jwt(claims, signer=signing.signer, typ=signing.typ, listed_algs=context.signing_algs)
