"""The validation that tokens have to pass before they are handed out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attrs import evolve

from ciba_core.client.config import ClientConfig
from ciba_core.client.request import Requested
from ciba_core.provider.metadata import ProviderMetadata
from ciba_core.tokens.errors import KeysUnavailable, TokensRejected
from ciba_core.tokens.grant_audit import audit_grant
from ciba_core.tokens.issued import TokenResponse
from ciba_core.tokens.response import expected_token_type
from ciba_core.tokens.signed_claims import validate_id_token
from ciba_core.tokens.signed_jwt import BrokenRule, Opened, SignedJwt
from ciba_core.values.errors import Endpoint
from ciba_core.values.json import is_array_of
from ciba_core.values.lenient import ProviderDeviation
from ciba_core.values.secret import Guarded, Secret

__all__ = [
    "id_token_of",
    "keys_unavailable",
    "missing_claim",
    "tokens_rejected",
    "validate",
    "validate_refreshed",
]


def id_token_of(untrusted: Guarded[TokenResponse], client: ClientConfig) -> SignedJwt | None:
    """Return the ID Token, which is to be opened first of all; ``None`` where none was asked for."""
    token, policy = untrusted.reveal_untrusted().id_token, client.id_token
    # The parser lets tokens without one through only where none was asked for.
    if token is None:
        return None
    return SignedJwt("the ID Token", token, policy.signed_response_alg, policy, client)


def validate(
    untrusted: Guarded[TokenResponse],
    opened: Opened | None,
    *,
    auth_req_id: Secret,
    requested: Requested,
    client: ClientConfig,
    provider: ProviderMetadata,
    now: float,
    noted: list[ProviderDeviation],
    push: bool = False,
) -> TokenResponse | TokensRejected:
    """Validate the ID Token of an answer against what was asked for (OpenID Connect Core 3.1.3.7).

    Args:
        untrusted: the answer.
        opened: its ID Token; ``None`` where it has none.
        auth_req_id: the transaction's; if the ID Token has a claim of that name, the two have to be equal.
        requested: what was asked for.
        client: the client.
        provider: the provider.
        now: POSIX seconds.
        noted: takes what deviates from the standard and is accepted all the same.
        push: whether the tokens were pushed; then the ID Token has to be bound to them (CIBA Core 10.3.1).

    """
    tokens = untrusted.reveal_untrusted()
    if opened is None:
        return _audited(tokens, requested)
    claims = validate_id_token(
        opened,
        tokens=tokens,
        auth_req_id=auth_req_id,
        requested=requested,
        issuer=provider.token_issuer,
        client=client,
        now=now,
        noted=noted,
        push=push,
    )
    if isinstance(claims, BrokenRule):
        return tokens_rejected(claims, untrusted, push=push)
    return _audited(evolve(tokens, id_token_claims=claims), requested)


def _audited(tokens: TokenResponse, requested: Requested) -> TokenResponse:
    token_type = expected_token_type(tokens.dpop_key)
    return evolve(tokens, grant=audit_grant(tokens, requested, token_type=token_type))


def missing_claim(original: Mapping[str, Any]) -> str | None:
    """Return the name of a claim that is needed to compare a new ID Token with this one, and is not usable.

    ``None`` when all of them are usable.
    """
    for name in ("iss", "sub"):
        if not isinstance(original.get(name), str):
            return name
    if not isinstance(original.get("aud"), str) and not is_array_of(original.get("aud"), str):
        return "aud"
    return None if type(original.get("iat")) in (int, float) else "iat"


def validate_refreshed(
    untrusted: Guarded[TokenResponse],
    opened: Opened | None,
    *,
    old: TokenResponse,
    scope: str | None,
    client: ClientConfig,
    provider: ProviderMetadata,
    now: float,
    noted: list[ProviderDeviation],
) -> TokenResponse | TokensRejected:
    """Validate the new ID Token of a refresh, if there is one (OpenID Connect Core 12.2).

    What the answer leaves out is taken from the old tokens. What was granted is compared with what was asked
    for.

    Args:
        untrusted: the answer.
        opened: its ID Token; ``None`` where it has none.
        old: the tokens that were refreshed.
        scope: the scope that was asked for; ``None`` when that was all of it.
        client: the client.
        provider: the provider.
        now: POSIX seconds.
        noted: takes what deviates from the standard and is accepted all the same.

    Returns:
        The tokens that are valid from now on; or why the new ones are rejected.

    """
    tokens, original = untrusted.reveal_untrusted(), old.original_grant
    claims: Mapping[str, Any] | None = None
    if opened is not None:
        verdict = validate_id_token(
            opened,
            tokens=tokens,
            auth_req_id=None,
            requested=None,
            issuer=provider.token_issuer,
            client=client,
            now=now,
            noted=noted,
        )
        if isinstance(verdict, BrokenRule):
            return tokens_rejected(verdict, untrusted)
        claims = verdict
        first = claims if original.id_token_claims is None else original.id_token_claims
        soft = client.id_token.may_differ_after_refresh
        different = [name for name in _differences(first, claims) if name not in soft]
        if different:
            contradiction = f"{different[0]} does not go with that of the first ID Token"
            return tokens_rejected(
                BrokenRule(contradiction, f"OpenID Connect Core 12.2: {different[0]}"), untrusted
            )
        original = evolve(original, id_token_claims=first)
    details = tokens.authorization_details
    refreshed = evolve(
        tokens,
        refresh_token=tokens.refresh_token or old.refresh_token,
        id_token=tokens.id_token or old.id_token,
        id_token_claims=old.id_token_claims if claims is None else claims,
        authorization_details=original.authorization_details if details is None else details,
        original=original,
    )
    asked = Requested(
        scope=original.scope if scope is None else scope,
        authorization_details=original.authorization_details,
    )
    return _audited(refreshed, asked)


def _differences(original: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Name the claims of a new ID Token that contradict the original one."""
    if _audiences(original) != _audiences(new):
        yield "aud"
    for name in ("iss", "sub", "azp"):
        if new.get(name) != original.get(name):
            yield name
    if new["iat"] < original["iat"]:
        yield "iat"
    # Claims that are null were left out when the token was validated.
    if "auth_time" in new and new["auth_time"] != original.get("auth_time", new["auth_time"]):
        yield "auth_time"
    if "nonce" in new and new["nonce"] != original.get("nonce"):
        yield "nonce"


def _audiences(claims: Mapping[str, Any]) -> frozenset[str]:
    aud = claims["aud"]
    return frozenset([aud] if isinstance(aud, str) else aud)


def tokens_rejected(
    broken: BrokenRule, untrusted: Guarded[TokenResponse], *, push: bool = False
) -> TokensRejected:
    """Return the error for tokens that did not pass."""
    endpoint = Endpoint.CLIENT_NOTIFICATION if push else Endpoint.TOKEN
    return TokensRejected(broken.message, rule=broken.rule, endpoint=endpoint, untrusted=untrusted)


def keys_unavailable(untrusted: Guarded[TokenResponse], reason: str) -> KeysUnavailable:
    """Return the error for tokens that could not be validated, because the key set could not be fetched."""
    message = "the keys to validate the tokens could not be had"
    return KeysUnavailable(message, reason=reason, untrusted=untrusted)
