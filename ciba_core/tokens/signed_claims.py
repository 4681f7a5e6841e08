"""What the claims of ID Tokens and of UserInfo answers have to say (OpenID Connect Core 3.1.3.7, 5.3.2).

The signature has been verified by then: see `signed_jwt`. Each check yields the rule that is broken; the
first one is the verdict. Nothing of a token or of a claim gets into a message.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ciba_core.client.config import ClientConfig
from ciba_core.client.registered import IdTokenPolicy
from ciba_core.client.request import Requested
from ciba_core.jose.algorithms import HMAC_ALGORITHMS
from ciba_core.jose.signing import half_hash
from ciba_core.tokens.issued import TokenResponse
from ciba_core.tokens.signed_jwt import BrokenRule, Opened, decrypted
from ciba_core.values.json import FrozenMapping, JsonFault, is_array_of, parse_object
from ciba_core.values.lenient import ProviderDeviation, number
from ciba_core.values.secret import Secret

__all__ = ["read_encrypted_userinfo", "validate_id_token", "validate_userinfo"]

_CORE: Final = "OpenID Connect Core 3.1.3.7"
_USERINFO: Final = "OpenID Connect Core 5.3.2"
_SUBJECT: Final = "CIBA Core 7.1: id_token_hint; OpenID Connect Core 5.5.1: sub"
_AUTH_REQ_ID: Final = "urn:openid:params:jwt:claim:auth_req_id"
_RT_HASH: Final = "urn:openid:params:jwt:claim:rt_hash"
_AUTH_TIME: Final = "OpenID Connect Core 3.1.3.7 (13)"


def validate_id_token(
    opened: Opened,
    *,
    tokens: TokenResponse,
    auth_req_id: Secret | None,
    requested: Requested | None,
    issuer: str,
    client: ClientConfig,
    now: float,
    noted: list[ProviderDeviation],
    push: bool = False,
) -> Mapping[str, Any] | BrokenRule:
    """Validate the claims of an ID Token and return them, read-only; or the first rule that is broken.

    Args:
        opened: the ID Token, its signature verified.
        tokens: what it came with.
        auth_req_id: the transaction's; ``None`` after a refresh.
        requested: what the authentication request asked for; ``None`` after a refresh, which asks for no ID
            Token.
        issuer: the provider's.
        client: the client, with its policy.
        now: POSIX seconds.
        noted: takes what deviates from the standard and is accepted all the same.
        push: whether the token was pushed, so that it has to vouch for what it came with (CIBA Core 10.3.1).

    """
    broken = _broken_rules(
        opened,
        tokens=tokens,
        auth_req_id=auth_req_id,
        requested=requested,
        issuer=issuer,
        client=client,
        now=now,
        noted=noted,
        push=push,
    )
    # Only the first broken rule counts: the later checks rely on the earlier ones.
    return next(broken, None) or FrozenMapping(opened.claims)


def _broken_rules(
    opened: Opened,
    *,
    tokens: TokenResponse,
    auth_req_id: Secret | None,
    requested: Requested | None,
    issuer: str,
    client: ClientConfig,
    now: float,
    noted: list[ProviderDeviation],
    push: bool,
) -> Iterator[BrokenRule]:
    policy = client.id_token
    alg, claims = opened.alg, opened.claims
    if opened.deviation is not None:
        noted.append(opened.deviation)
    _leave_out_absent(claims, noted)
    if claims.get("iss") != issuer:
        yield _wrong_issuer(claims, _CORE + " (2)")
    sub = claims.get("sub")
    if not isinstance(sub, str) or not 0 < len(sub) <= 255 or not sub.isascii():
        yield BrokenRule("sub is not a string of 1 to 255 ASCII characters", "OpenID Connect Core 2: sub")
    if claims.get("aud") != client.client_id:
        yield from _check_audiences(claims.get("aud"), alg, client)
    if "azp" in claims and claims["azp"] != client.client_id:
        yield BrokenRule("azp is not the client", f"{_CORE} (5): azp")

    earliest, latest = now - policy.leeway, now + policy.leeway
    # The two that every token has are looked at in place: each call here costs a hundredth of the whole.
    exp: Any = claims.get("exp")
    if type(exp) not in _NUMBERS:
        yield _not_a_number(claims, "exp", "OpenID Connect Core 2")
    if exp <= earliest:
        yield BrokenRule("the token has expired", f"{_CORE} (9): exp")
    iat: Any = claims.get("iat")
    if type(iat) not in _NUMBERS:
        yield _not_a_number(claims, "iat", "OpenID Connect Core 2")
    if iat > latest:
        yield BrokenRule("iat is in the future", f"{_CORE} (10): iat")
    if policy.max_age is not None and iat < earliest - policy.max_age:
        yield BrokenRule("the token was issued too long ago", f"{_CORE} (10): iat")
    if "nbf" in claims:
        yield from _number(claims, "nbf", "RFC 7519 4.1.5")
        if claims["nbf"] > latest:
            yield BrokenRule("the token is not valid yet", "RFC 7519 4.1.5: nbf")
    if "auth_time" in claims:
        auth_time = _auth_time(claims, requested, noted)
        if isinstance(auth_time, BrokenRule):
            yield auth_time
        elif auth_time > latest:
            yield BrokenRule("auth_time is in the future", f"{_CORE} (13): auth_time")
    if requested is not None:
        yield from _check_request(claims, policy, requested, earliest)

    if (push or (auth_req_id is not None and _AUTH_REQ_ID in claims)) and not _same(
        claims.get(_AUTH_REQ_ID), auth_req_id
    ):
        yield BrokenRule("auth_req_id is missing or wrong", "CIBA Core 10.3.1: auth_req_id")
    if ((push and client.profile.at_hash_in_push) or "at_hash" in claims) and claims.get(
        "at_hash"
    ) != half_hash(alg, tokens.access_token.reveal()):
        yield BrokenRule("at_hash is missing or wrong", "OpenID Connect Core 3.1.3.6: at_hash")
    if tokens.refresh_token is None:
        if push and _RT_HASH in claims:
            # The hash proves that the provider sent a refresh token: somebody removed it on the way.
            yield BrokenRule("rt_hash is there, but no refresh token", "CIBA Core 10.3.1: rt_hash")
    elif (push or _RT_HASH in claims) and claims.get(_RT_HASH) != half_hash(
        alg, tokens.refresh_token.reveal()
    ):
        yield BrokenRule("rt_hash is missing or wrong", "CIBA Core 10.3.1: rt_hash")


def validate_userinfo(
    opened: Opened, *, issuer: str, client: ClientConfig, now: float, noted: list[ProviderDeviation]
) -> Mapping[str, Any] | BrokenRule:
    """Validate the claims of a signed UserInfo answer and return them, read-only; or the rule that is broken.

    Args:
        opened: the answer (OpenID Connect Core 5.3.2, 5.3.4), its signature verified.
        issuer: the provider's, which ``iss`` has to be.
        client: the client, which ``aud`` has to be or have, with its policy.
        now: POSIX seconds.
        noted: takes what deviates from the standard and is accepted all the same.

    """
    if opened.deviation is not None:
        noted.append(opened.deviation)
    _leave_out_absent(opened.claims, noted)
    return next(_broken_userinfo(opened.claims, issuer, client, now), None) or FrozenMapping(opened.claims)


def read_encrypted_userinfo(answer: Secret, *, client: ClientConfig) -> Mapping[str, Any] | BrokenRule:
    """Return the claims of a UserInfo answer that is encrypted and not signed, read-only."""
    plain = decrypted(answer, client.userinfo, client)
    if isinstance(plain, BrokenRule):
        return plain
    members = parse_object(plain.encode(), depth_limit=client.limits.json_depth)
    if isinstance(members, JsonFault):
        return BrokenRule(f"the decrypted answer is {members.value}", _USERINFO)
    return FrozenMapping(members)


def _broken_userinfo(
    claims: Mapping[str, Any], issuer: str, client: ClientConfig, now: float
) -> Iterator[BrokenRule]:
    if claims.get("iss") != issuer:
        yield _wrong_issuer(claims, _USERINFO)
    aud: Any = claims.get("aud")
    if aud != client.client_id and not (is_array_of(aud, str) and client.client_id in aud):
        yield BrokenRule("aud does not have the client", f"{_USERINFO}: aud")
    # Both claims are optional; one that is present counts.
    leeway = client.id_token.leeway
    if "exp" in claims:
        yield from _number(claims, "exp", "RFC 7519 4.1.4")
        if now >= claims["exp"] + leeway:
            yield BrokenRule("the answer has expired", "RFC 7519 4.1.4: exp")
    if "nbf" in claims:
        yield from _number(claims, "nbf", "RFC 7519 4.1.5")
        if claims["nbf"] > now + leeway:
            yield BrokenRule("the answer is not valid yet", "RFC 7519 4.1.5: nbf")


def _check_audiences(aud: Any, alg: str, client: ClientConfig) -> Iterator[BrokenRule]:
    audiences: Any = [aud] if isinstance(aud, str) else aud
    if not is_array_of(audiences, str):
        yield BrokenRule("aud is neither a string nor an array of strings", "OpenID Connect Core 2: aud")
    if client.client_id not in audiences:
        yield BrokenRule("aud does not have the client", f"{_CORE} (3): aud")
    if not {client.client_id, *client.id_token.trusted_audiences}.issuperset(audiences):
        yield BrokenRule("aud has an audience that is not trusted", f"{_CORE} (3): aud")
    if alg in HMAC_ALGORITHMS and len(audiences) != 1:
        yield BrokenRule(f"{alg} with several audiences is undefined", f"{_CORE} (8): aud")


# Claims that say no more than one that is left out. Of the first three an empty string is a value, and wrong.
_ABSENT: Final[Mapping[str, tuple[str | None, ...]]] = {
    "azp": (None,),
    "at_hash": (None,),
    "nonce": (None,),
    "nbf": (None, ""),
    "auth_time": (None, ""),
    "acr": (None, ""),
}


def _leave_out_absent(claims: dict[str, Any], noted: list[ProviderDeviation]) -> None:
    """Take out the optional claims that say nothing, so that what holds for one that is left out holds."""
    for name, forms in _ABSENT.items():
        if name in claims and claims[name] in forms:
            del claims[name]
            message = "null or empty; taken as absent"
            noted.append(ProviderDeviation(f"OpenID Connect Core 2: {name}", message))


def _wrong_issuer(claims: Mapping[str, Any], rule: str) -> BrokenRule:
    found = "is missing" if claims.get("iss") is None else "is not the issuer"
    return BrokenRule(f"iss {found}", f"{rule}: iss")


def _auth_time(
    claims: Mapping[str, Any], requested: Requested | None, noted: list[ProviderDeviation]
) -> float | BrokenRule:
    """Return the time of the user's authentication; that of a text which nobody asked for may be anything."""
    asked = requested is not None and (requested.auth_time or requested.max_age is not None)
    if asked or not isinstance(claims["auth_time"], str):
        return next(_number(claims, "auth_time", _AUTH_TIME), None) or claims["auth_time"]
    told = number(claims, "auth_time", _AUTH_TIME, noted)
    if told is not None:
        return told
    noted.append(ProviderDeviation(f"{_AUTH_TIME}: auth_time", "text that is no number; not used"))
    return 0.0


# `True` is an int in Python, and no number in JSON. The parser refuses infinities.
_NUMBERS: Final = (int, float)


def _number(claims: Mapping[str, Any], name: str, rule: str) -> Iterator[BrokenRule]:
    if type(claims.get(name)) not in _NUMBERS:
        yield _not_a_number(claims, name, rule)


def _not_a_number(claims: Mapping[str, Any], name: str, rule: str) -> BrokenRule:
    return BrokenRule(f"{name} is {'not a number' if name in claims else 'missing'}", f"{rule}: {name}")


def _check_request(
    claims: Mapping[str, Any], policy: IdTokenPolicy, requested: Requested, earliest: float
) -> Iterator[BrokenRule]:
    if requested.subject is not None and Secret(claims["sub"]) != requested.subject:
        yield BrokenRule("sub is not the one that was asked for", _SUBJECT)
    if requested.nonce is not None:
        if not _same(claims.get("nonce"), requested.nonce):
            yield BrokenRule("nonce is not the one that was sent", f"{_CORE} (11): nonce")
    elif policy.forbid_unexpected_nonce and "nonce" in claims:
        yield BrokenRule("nonce is there, but none was sent", "OpenID Connect Core 2: nonce")
    if requested.acr:
        acr = claims.get("acr")
        if not isinstance(acr, str):
            yield BrokenRule("acr is missing or not a string", f"{_CORE} (12): acr")
        if requested.acr_values and acr not in requested.acr_values:
            yield BrokenRule("acr is not one of those that were asked for", f"{_CORE} (12): acr")
    if requested.auth_time or requested.max_age is not None:
        yield from _number(claims, "auth_time", _AUTH_TIME)
        if requested.max_age is not None and claims["auth_time"] < earliest - requested.max_age:
            yield BrokenRule("the user authenticated too long ago", f"{_CORE} (13): auth_time")


def _same(claim: object, expected: Secret | None) -> bool:
    return isinstance(claim, str) and Secret(claim) == expected
