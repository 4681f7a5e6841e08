"""The validation that tokens have to pass before they are handed out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve

from ciba_core.client.config import ClientConfig
from ciba_core.client.request import Requested
from ciba_core.jose.keys import KeySet
from ciba_core.provider.metadata import ProviderMetadata
from ciba_core.tokens.errors import KeysUnavailable, TokensRejected
from ciba_core.tokens.grant_audit import audit_grant
from ciba_core.tokens.issued import TokenResponse
from ciba_core.tokens.response import expected_token_type
from ciba_core.tokens.signed_claims import IdTokenError, KeysNeeded, validate_id_token
from ciba_core.transaction.events import TokensIssued
from ciba_core.values.errors import (
    Endpoint,
)
from ciba_core.values.json import is_array_of
from ciba_core.values.lenient import ProviderDeviation
from ciba_core.values.secret import Guarded, Secret

__all__ = ["keys_unavailable", "missing_claim", "no_key", "validate", "validate_refreshed"]


def validate(
    untrusted: Guarded[TokenResponse],
    *,
    auth_req_id: Secret,
    requested: Requested,
    client: ClientConfig,
    provider: ProviderMetadata,
    keys: KeySet | None,
    now: float,
    noted: list[ProviderDeviation],
    push: bool = False,
) -> TokensIssued | TokensRejected | KeysNeeded:
    """Validate the ID Token of an answer against what was asked for (OpenID Connect Core 3.1.3.7).

    Args:
        untrusted: the answer.
        auth_req_id: the transaction's; if the ID Token has a claim of that name, the two have to be equal.
        requested: what was asked for.
        client: the client.
        provider: the provider.
        keys: the provider's key set; ``None`` when it is not known.
        now: POSIX seconds.
        noted: takes what deviates from the standard and is accepted all the same.
        push: whether the tokens were pushed; then the ID Token has to be bound to them (CIBA Core 10.3.1).

    Returns:
        The tokens; or why they are rejected; or `KeysNeeded` when `keys` lacks the key of the signature.

    """
    tokens = untrusted.reveal_untrusted()
    if tokens.id_token is None:
        # The parser lets this through only where no ID Token was asked for.
        return TokensIssued(_audited(tokens, requested))
    try:
        verdict = validate_id_token(
            tokens.id_token,
            tokens=tokens,
            auth_req_id=auth_req_id,
            requested=requested,
            issuer=provider.token_issuer,
            client=client,
            keys=keys,
            now=now,
            noted=noted,
            push=push,
        )
    except IdTokenError as problem:
        return _rejected(str(problem), problem.rule, untrusted, push=push)
    if isinstance(verdict, KeysNeeded):
        return verdict
    return TokensIssued(_audited(evolve(tokens, id_token_claims=verdict), requested))


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
    *,
    old: TokenResponse,
    scope: str | None,
    client: ClientConfig,
    provider: ProviderMetadata,
    keys: KeySet | None,
    now: float,
    noted: list[ProviderDeviation],
) -> TokenResponse | TokensRejected | KeysNeeded:
    """Validate the new ID Token of a refresh, if there is one (OpenID Connect Core 12.2).

    What the answer leaves out is taken from the old tokens. What was granted is compared with what was asked
    for.

    Args:
        untrusted: the answer.
        old: the tokens that were refreshed.
        scope: the scope that was asked for; ``None`` when that was all of it.
        client: the client.
        provider: the provider.
        keys: the provider's key set; ``None`` when it is not known.
        now: POSIX seconds.
        noted: takes what deviates from the standard and is accepted all the same.

    Returns:
        The tokens that are valid from now on; or why the new ones are rejected; or `KeysNeeded`, as with
        `validate`.

    """
    tokens, original = untrusted.reveal_untrusted(), old.original_grant
    claims: Mapping[str, Any] | None = None
    if tokens.id_token is not None:
        try:
            verdict = validate_id_token(
                tokens.id_token,
                tokens=tokens,
                auth_req_id=None,
                requested=None,
                issuer=provider.token_issuer,
                client=client,
                keys=keys,
                now=now,
                noted=noted,
            )
        except IdTokenError as problem:
            return _rejected(str(problem), problem.rule, untrusted)
        if isinstance(verdict, KeysNeeded):
            return verdict
        claims = verdict
        first = claims if original.id_token_claims is None else original.id_token_claims
        different = _difference(first, claims)
        if different is not None:
            return _rejected(
                f"{different} does not go with that of the first ID Token",
                f"OpenID Connect Core 12.2: {different}",
                untrusted,
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


def _difference(original: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Return the first claim of a new ID Token that contradicts the original one, or ``None``."""
    if _audiences(original) != _audiences(new):
        return "aud"
    for name in ("iss", "sub", "azp"):
        if new.get(name) != original.get(name):
            return name
    if new["iat"] < original["iat"]:
        return "iat"
    # Claims that are null were left out when the token was validated.
    if "auth_time" in new and new["auth_time"] != original.get("auth_time", new["auth_time"]):
        return "auth_time"
    if "nonce" in new and new["nonce"] != original.get("nonce"):
        return "nonce"
    return None


def _audiences(claims: Mapping[str, Any]) -> frozenset[str]:
    aud = claims["aud"]
    return frozenset([aud] if isinstance(aud, str) else aud)


def _rejected(
    message: str, rule: str, untrusted: Guarded[TokenResponse], *, push: bool = False
) -> TokensRejected:
    """Return the error for tokens that did not pass."""
    endpoint = Endpoint.CLIENT_NOTIFICATION if push else Endpoint.TOKEN
    return TokensRejected(message, rule=rule, endpoint=endpoint, untrusted=untrusted)


def no_key(untrusted: Guarded[TokenResponse], *, push: bool = False) -> TokensRejected:
    """Return the error for tokens that were signed with a key that the provider does not publish."""
    message = "no key of the provider fits the ID Token"
    return _rejected(message, "OpenID Connect Core 10.1.1", untrusted, push=push)


def keys_unavailable(untrusted: Guarded[TokenResponse], reason: str) -> KeysUnavailable:
    """Return the error for tokens that could not be validated, because the key set could not be fetched."""
    message = "the keys to validate the tokens could not be had"
    return KeysUnavailable(message, reason=reason, untrusted=untrusted)
