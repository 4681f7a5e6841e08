"""Validation of ID Tokens (OpenID Connect Core 3.1.3.7, CIBA Core 10.3.1).

One pure function: `validate_id_token` gives the claims, or says that keys are needed, or raises the first
rule that is broken. Nothing of a token or of a claim gets into a message. `validate_userinfo` does the same
for claims that come as a JWT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from attrs import frozen

from ciba_core.client.config import ClientConfig
from ciba_core.client.registered import EncryptionPolicy, IdTokenPolicy
from ciba_core.client.request import Requested
from ciba_core.jose.algorithms import HMAC_ALGORITHMS, names_of
from ciba_core.jose.encryption import decrypt
from ciba_core.jose.key_import import JoseError, Key, content_encryption_key, hmac_key
from ciba_core.jose.keys import KeySet
from ciba_core.jose.signing import half_hash, parse_jws, verify
from ciba_core.tokens.issued import TokenResponse
from ciba_core.values.json import FrozenMapping, JsonFault, is_array_of, parse_object
from ciba_core.values.lenient import ProviderDeviation, number
from ciba_core.values.secret import Secret

__all__ = ["IdTokenError", "KeysNeeded", "validate_id_token", "validate_userinfo"]

_CORE: Final = "OpenID Connect Core 3.1.3.7"
_USERINFO: Final = "OpenID Connect Core 5.3.2"
_SUBJECT: Final = "CIBA Core 7.1: id_token_hint; OpenID Connect Core 5.5.1: sub"
_AUTH_REQ_ID: Final = "urn:openid:params:jwt:claim:auth_req_id"
_RT_HASH: Final = "urn:openid:params:jwt:claim:rt_hash"
_AUTH_TIME: Final = "OpenID Connect Core 3.1.3.7 (13)"
_MOST_TRIED: Final = 8
"""Keys under one ``kid`` that are tried; more is no key rotation any more."""


class IdTokenError(ValueError):
    """An ID Token that must not be accepted; `rule` names the broken rule and its source."""

    def __init__(self, message: str, rule: str) -> None:
        super().__init__(message)
        self.rule: Final = rule


@frozen
class KeysNeeded:
    """No key at hand made the signature; a new one may have. `KeySearch` says what to do."""


def validate_id_token(
    id_token: Secret,
    *,
    tokens: TokenResponse,
    auth_req_id: Secret | None,
    requested: Requested | None,
    issuer: str,
    client: ClientConfig,
    keys: KeySet | None,
    now: float,
    noted: list[ProviderDeviation],
    push: bool = False,
) -> Mapping[str, Any] | KeysNeeded:
    """Validate an ID Token and return its claims, read-only.

    Of several keys that may have made the signature, those under the ``kid`` that the token names are all
    tried, up to eight. A token without ``kid`` is accepted only when there is just one; when that does not
    fit, the token may have been signed with a new one.

    Args:
        id_token: the ID Token.
        tokens: what it came with.
        auth_req_id: the transaction's; ``None`` after a refresh.
        requested: what the authentication request asked for; ``None`` after a refresh, which asks for no ID
            Token.
        issuer: the provider's.
        client: the client, with its policy and limits.
        keys: the provider's key set; ``None`` when it is not known, which is no matter for ``HS*``.
        now: POSIX seconds.
        noted: takes what deviates from the standard and is accepted all the same.
        push: whether the token was pushed, so that it has to vouch for what it came with (CIBA Core 10.3.1).

    Returns:
        The claims; or `KeysNeeded` when the set is not known or has no key that may have made the signature.

    Raises:
        IdTokenError: the token breaks a rule.

    """
    policy = client.id_token
    opened = _opened(id_token, policy, policy.signed_response_alg, client, keys)
    if isinstance(opened, KeysNeeded):
        return opened
    alg, claims = opened
    _leave_out_absent(claims, noted)
    if claims.get("iss") != issuer:
        raise _wrong_issuer(claims, _CORE + " (2)")
    sub = claims.get("sub")
    if not isinstance(sub, str) or not 0 < len(sub) <= 255 or not sub.isascii():
        raise IdTokenError("sub is not a string of 1 to 255 ASCII characters", "OpenID Connect Core 2: sub")
    if claims.get("aud") != client.client_id:
        _check_audiences(claims.get("aud"), alg, client)
    if "azp" in claims and claims["azp"] != client.client_id:
        raise IdTokenError("azp is not the client", f"{_CORE} (5): azp")

    earliest, latest = now - policy.leeway, now + policy.leeway
    # The two that every token has are looked at in place: each call here costs a hundredth of the whole.
    exp: Any = claims.get("exp")
    if type(exp) not in _NUMBERS:
        raise _not_a_number(claims, "exp", "OpenID Connect Core 2")
    if exp <= earliest:
        raise IdTokenError("the token has expired", f"{_CORE} (9): exp")
    iat: Any = claims.get("iat")
    if type(iat) not in _NUMBERS:
        raise _not_a_number(claims, "iat", "OpenID Connect Core 2")
    if iat > latest:
        raise IdTokenError("iat is in the future", f"{_CORE} (10): iat")
    if policy.max_age is not None and iat < earliest - policy.max_age:
        raise IdTokenError("the token was issued too long ago", f"{_CORE} (10): iat")
    if "nbf" in claims and _number(claims, "nbf", "RFC 7519 4.1.5") > latest:
        raise IdTokenError("the token is not valid yet", "RFC 7519 4.1.5: nbf")
    if "auth_time" in claims and _auth_time(claims, requested, noted) > latest:
        raise IdTokenError("auth_time is in the future", f"{_CORE} (13): auth_time")
    if requested is not None:
        _check_request(claims, policy, requested, earliest)

    if (push or (auth_req_id is not None and _AUTH_REQ_ID in claims)) and not _same(
        claims.get(_AUTH_REQ_ID), auth_req_id
    ):
        raise IdTokenError("auth_req_id is missing or wrong", "CIBA Core 10.3.1: auth_req_id")
    if (push or "at_hash" in claims) and claims.get("at_hash") != half_hash(
        alg, tokens.access_token.reveal()
    ):
        raise IdTokenError("at_hash is missing or wrong", "OpenID Connect Core 3.1.3.6: at_hash")
    if tokens.refresh_token is None:
        if push and _RT_HASH in claims:
            # Somebody took the refresh token out on the way.
            raise IdTokenError("rt_hash is there, but no refresh token", "CIBA Core 10.3.1: rt_hash")
    elif (push or _RT_HASH in claims) and claims.get(_RT_HASH) != half_hash(
        alg, tokens.refresh_token.reveal()
    ):
        raise IdTokenError("rt_hash is missing or wrong", "CIBA Core 10.3.1: rt_hash")
    return FrozenMapping(claims)


def validate_userinfo(
    token: Secret,
    *,
    issuer: str,
    client: ClientConfig,
    keys: KeySet | None,
    now: float,
    noted: list[ProviderDeviation],
) -> Mapping[str, Any] | KeysNeeded:
    """Validate an ``application/jwt`` answer of the UserInfo endpoint (OpenID Connect Core 5.3.2 and 5.3.4).

    Args:
        token: the answer: signed, encrypted or both, as was registered. One of them was.
        issuer: the provider's, which ``iss`` has to be.
        client: the client, which ``aud`` has to be or have, with its policy and limits.
        keys: the provider's key set; ``None`` when it is not known.
        now: POSIX seconds.
        noted: takes what deviates from the standard and is accepted all the same.

    Returns:
        The claims, read-only; or `KeysNeeded`, as `validate_id_token` returns it.

    Raises:
        IdTokenError: the answer breaks a rule.

    """
    policy = client.userinfo
    if policy.signed_response_alg is None:
        text = token.reveal()
        if len(text) > client.limits.string:
            raise _too_long(client)
        plain = _decrypted(text, policy, client)
        members = parse_object(plain.encode(), depth_limit=client.limits.json_depth)
        if isinstance(members, JsonFault):
            raise IdTokenError(f"the decrypted answer is {members.value}", _USERINFO)
        return FrozenMapping(members)
    opened = _opened(token, policy, policy.signed_response_alg, client, keys)
    if isinstance(opened, KeysNeeded):
        return opened
    _, claims = opened
    _leave_out_absent(claims, noted)
    if claims.get("iss") != issuer:
        raise _wrong_issuer(claims, _USERINFO)
    aud: Any = claims.get("aud")
    if aud != client.client_id and not (is_array_of(aud, str) and client.client_id in aud):
        raise IdTokenError("aud does not have the client", f"{_USERINFO}: aud")
    # Neither has to be there; where one is, it holds.
    leeway = client.id_token.leeway
    if "exp" in claims and now >= _number(claims, "exp", "RFC 7519 4.1.4") + leeway:
        raise IdTokenError("the answer has expired", "RFC 7519 4.1.4: exp")
    if "nbf" in claims and _number(claims, "nbf", "RFC 7519 4.1.5") > now + leeway:
        raise IdTokenError("the answer is not valid yet", "RFC 7519 4.1.5: nbf")
    return FrozenMapping(claims)


def _opened(
    token: Secret, policy: EncryptionPolicy, registered: str, client: ClientConfig, keys: KeySet | None
) -> tuple[str, dict[str, Any]] | KeysNeeded:
    """Decrypt a token where that was registered, verify its signature, and return its ``alg`` and claims."""
    text, limits = token.reveal(), client.limits
    if len(text) > limits.string:
        raise _too_long(client)
    if policy.encrypted_response_alg is not None:
        text = _decrypted(text, policy, client)
    jws = parse_jws(text, depth_limit=limits.json_depth)
    if isinstance(jws, str):
        raise IdTokenError(jws, "RFC 7515 5.2")
    alg: Any = jws.header.get("alg")
    if alg != registered and alg not in names_of(registered):
        raise IdTokenError(f"the token is not signed with {registered}", f"{_CORE} (7)")
    kid = jws.header.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise IdTokenError("kid is not a string", "RFC 7515 4.1.4")
    if alg in HMAC_ALGORITHMS:
        candidates: Sequence[Key] = (_hmac_key(alg, client),)
    else:
        candidates = () if keys is None else keys.candidates(kid, alg)
        if not candidates:
            return KeysNeeded()
        if kid is None and len(candidates) > 1:
            raise IdTokenError("the token names no kid, and several keys fit", "OpenID Connect Core 10.1")
    for key in candidates[:_MOST_TRIED]:
        if verify(jws, key, alg):
            return alg, jws.claims
    if kid is None and alg not in HMAC_ALGORITHMS:
        # Without a name nobody can tell whether it was made with a key that is new.
        return KeysNeeded()
    raise IdTokenError("the signature does not verify", f"{_CORE} (6)")


def _too_long(client: ClientConfig) -> IdTokenError:
    return IdTokenError(f"the token is longer than {client.limits.string} characters", "size limit")


def _decrypted(text: str, policy: EncryptionPolicy, client: ClientConfig) -> str:
    # Typed: both are set, or neither.
    alg, enc = cast("str", policy.encrypted_response_alg), cast("str", policy.encrypted_response_enc)
    if policy.decryption_keys:
        keys = [candidate.key for candidate in policy.decryption_keys]
    else:
        keys = [content_encryption_key(_client_secret(client), alg, enc)]
    try:
        return decrypt(text, keys, alg=alg, enc=enc, limit=client.limits.string)
    except JoseError as problem:
        message = str(problem)
    raise IdTokenError(message, f"{_CORE} (1)")


def _hmac_key(alg: str, client: ClientConfig) -> Key:
    try:
        return hmac_key(_client_secret(client), alg)
    except JoseError as problem:
        message = str(problem)
    raise IdTokenError(message, f"{_CORE} (8)")


def _client_secret(client: ClientConfig) -> str:
    # A client whose algorithms need a secret has one.
    return cast("Secret", client.client_secret).reveal()


def _check_audiences(aud: Any, alg: str, client: ClientConfig) -> None:
    audiences: Any = [aud] if isinstance(aud, str) else aud
    if not is_array_of(audiences, str):
        raise IdTokenError("aud is neither a string nor an array of strings", "OpenID Connect Core 2: aud")
    if client.client_id not in audiences:
        raise IdTokenError("aud does not have the client", f"{_CORE} (3): aud")
    if not {client.client_id, *client.id_token.trusted_audiences}.issuperset(audiences):
        raise IdTokenError("aud has an audience that is not trusted", f"{_CORE} (3): aud")
    if alg in HMAC_ALGORITHMS and len(audiences) != 1:
        raise IdTokenError(f"{alg} with several audiences is undefined", f"{_CORE} (8): aud")


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


def _wrong_issuer(claims: Mapping[str, Any], rule: str) -> IdTokenError:
    found = "is missing" if claims.get("iss") is None else "is not the issuer"
    return IdTokenError(f"iss {found}", f"{rule}: iss")


def _auth_time(
    claims: Mapping[str, Any], requested: Requested | None, noted: list[ProviderDeviation]
) -> float:
    """Return the time of the user's authentication; that of a text which nobody asked for may be anything."""
    asked = requested is not None and (requested.auth_time or requested.max_age is not None)
    if asked or not isinstance(claims["auth_time"], str):
        return _number(claims, "auth_time", _AUTH_TIME)
    told = number(claims, "auth_time", _AUTH_TIME, noted)
    if told is not None:
        return told
    noted.append(ProviderDeviation(f"{_AUTH_TIME}: auth_time", "text that is no number; not used"))
    return 0.0


# JSON's true is no 1; the parser lets no infinities in.
_NUMBERS: Final = (int, float)


def _number(claims: Mapping[str, Any], name: str, rule: str) -> float:
    value: Any = claims.get(name)
    if type(value) in _NUMBERS:
        number: float = value
        return number
    raise _not_a_number(claims, name, rule)


def _not_a_number(claims: Mapping[str, Any], name: str, rule: str) -> IdTokenError:
    return IdTokenError(f"{name} is {'not a number' if name in claims else 'missing'}", f"{rule}: {name}")


def _check_request(
    claims: Mapping[str, Any], policy: IdTokenPolicy, requested: Requested, earliest: float
) -> None:
    if requested.subject is not None and Secret(claims["sub"]) != requested.subject:
        raise IdTokenError("sub is not the one that was asked for", _SUBJECT)
    if requested.nonce is not None:
        if not _same(claims.get("nonce"), requested.nonce):
            raise IdTokenError("nonce is not the one that was sent", f"{_CORE} (11): nonce")
    elif policy.forbid_unexpected_nonce and "nonce" in claims:
        raise IdTokenError("nonce is there, but none was sent", "OpenID Connect Core 2: nonce")
    if requested.acr:
        acr = claims.get("acr")
        if not isinstance(acr, str):
            raise IdTokenError("acr is missing or not a string", f"{_CORE} (12): acr")
        if requested.acr_values and acr not in requested.acr_values:
            raise IdTokenError("acr is not one of those that were asked for", f"{_CORE} (12): acr")
    if requested.auth_time or requested.max_age is not None:
        auth_time = _number(claims, "auth_time", _AUTH_TIME)
        if requested.max_age is not None and auth_time < earliest - requested.max_age:
            raise IdTokenError("the user authenticated too long ago", f"{_CORE} (13): auth_time")


def _same(claim: object, expected: Secret | None) -> bool:
    return isinstance(claim, str) and Secret(claim) == expected
