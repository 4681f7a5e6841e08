"""The successful answer of a token endpoint, and the same when it is pushed.

CIBA Core 10.1.1 and 10.3.1, OpenID Connect Core 3.1.3.3, RFC 6749 5.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ciba_core.client.polling import bounded_seconds
from ciba_core.jose.dpop import DpopKey
from ciba_core.tokens.errors import TokensRejected
from ciba_core.tokens.issued import TokenResponse
from ciba_core.tokens.signed_jwt import BrokenRule
from ciba_core.values.errors import Endpoint, RemoteProtocolError
from ciba_core.values.json import FrozenMapping, is_array_of
from ciba_core.values.lenient import ProviderDeviation, is_absent, number, present, space_separated
from ciba_core.values.secret import Guarded, Secret

__all__ = ["expected_token_type", "parse_token_response", "rejected"]

_KNOWN: Final = frozenset(
    {
        "access_token",
        "token_type",
        "expires_in",
        "refresh_token",
        "id_token",
        "scope",
        "authorization_details",
    }
)
_TYPES: Final = ("bearer", "dpop")
_OAUTH: Final = "RFC 6749 5.1"
_VSCHARS: Final = re.compile(r"[\x20-\x7e]+")
_NEEDED: Final = ("access_token", "token_type")
# Members that are strings; the rule that says so; the rule that bounds their characters, if there is one.
_STRINGS: Final = (
    ("access_token", _OAUTH, "RFC 6749 A.12"),
    ("token_type", _OAUTH, None),
    ("id_token", "OpenID Connect Core 3.1.3.3", None),
    ("refresh_token", _OAUTH, "RFC 6749 A.17"),
)


def parse_token_response(
    members: Mapping[str, Any],
    *,
    endpoint: Endpoint,
    requested_scope: str,
    dpop_key: DpopKey | None,
    string_limit: int,
    now: float,
    noted: list[ProviderDeviation],
    id_token_optional: bool = False,
    bearer_too: bool = False,
) -> Guarded[TokenResponse] | RemoteProtocolError:
    """Build the value from the members of a successful answer, or say which rule they break.

    Args:
        members: the parsed JSON object, read-only in all its parts.
        endpoint: where it came from.
        requested_scope: what holds when the answer names no scope.
        dpop_key: the key that the tokens have to be bound to, or ``None`` for bearer tokens.
        string_limit: characters allowed in one string.
        now: POSIX instant at which the answer came.
        noted: takes what deviates from the standard and is read all the same.
        id_token_optional: whether it may be missing although ``openid`` was asked for.
        bearer_too: whether bearer tokens will do although there is a key; theirs is ``None``.

    Returns:
        The tokens, whose ID Token is still to be validated; or what `rejected` returns, when a required
        member is missing, or one is of the wrong type.

    """
    tokens = _parsed(
        members,
        requested_scope=requested_scope,
        dpop_key=dpop_key,
        string_limit=string_limit,
        now=now,
        noted=noted,
        id_token_optional=id_token_optional,
        bearer_too=bearer_too,
    )
    if isinstance(tokens, TokenResponse):
        return Guarded(tokens)
    broken = RemoteProtocolError(tokens.message, rule=tokens.rule, endpoint=endpoint)
    return rejected(broken, members, requested_scope=requested_scope, dpop_key=dpop_key)


def rejected(
    broken: RemoteProtocolError,
    members: Mapping[str, Any],
    *,
    requested_scope: str,
    dpop_key: DpopKey | None,
) -> RemoteProtocolError:
    """Return the error for an answer that breaks a rule.

    Tokens that it brought were issued all the same, and can be revoked: then it is a `TokensRejected` that
    has whatever of them is a string.
    """
    access_token, refresh_token = _secret(members, "access_token"), _secret(members, "refresh_token")
    if access_token is None and refresh_token is None:
        return broken
    token_type, scope = members.get("token_type"), members.get("scope")
    untrusted = TokenResponse(
        access_token=Secret("") if access_token is None else access_token,
        # `token_type` shows in logs: an unknown value, which could be anything, is left out.
        token_type=token_type if isinstance(token_type, str) and token_type.lower() in _TYPES else "",
        expires_at=None,
        refresh_token=refresh_token,
        id_token=_secret(members, "id_token"),
        scope=scope if isinstance(scope, str) else requested_scope,
        authorization_details=None,
        extra=_extra(members),
        dpop_key=dpop_key,
    )
    message: str = broken.args[0]
    return TokensRejected(message, rule=broken.rule, endpoint=broken.endpoint, untrusted=Guarded(untrusted))


def _extra(members: Mapping[str, Any]) -> Mapping[str, Any]:
    return FrozenMapping({name: value for name, value in members.items() if name not in _KNOWN})


def _parsed(
    members: Mapping[str, Any],
    *,
    requested_scope: str,
    dpop_key: DpopKey | None,
    string_limit: int,
    now: float,
    noted: list[ProviderDeviation],
    id_token_optional: bool,
    bearer_too: bool,
) -> TokenResponse | BrokenRule:
    broken = next(_broken_strings(members, string_limit, noted), None)
    if broken is not None:
        return broken
    token_type: str = members["token_type"]
    if bearer_too and token_type.lower() == "bearer":
        dpop_key = None
    expected_type = expected_token_type(dpop_key)
    if token_type.lower() != expected_type.lower():
        # RFC 6749 7.1: a token of a type that is not understood must not be used. Bearer where DPoP was
        # asked for means that the provider did not bind the token (RFC 9449 5).
        return BrokenRule(f"token_type is not {expected_type}", "RFC 6749 7.1, RFC 9449 5")
    id_token = _secret(members, "id_token")
    if id_token is None and not id_token_optional and "openid" in requested_scope.split(" "):
        return BrokenRule("id_token is missing", "OpenID Connect Core 3.1.3.3")
    expires_at = None
    if present(members, "expires_in", _OAUTH, noted):
        expires_in = bounded_seconds(number(members, "expires_in", _OAUTH, noted))
        if expires_in is None or expires_in < 0:
            return BrokenRule("expires_in is not a number of seconds", "RFC 6749 5.1")
        expires_at = now + expires_in
    details: Any = members.get("authorization_details")
    if details is None:
        # Only null counts as left out. With any other value nobody could tell what was granted.
        present(members, "authorization_details", "RFC 9396 7", noted)
    elif not is_array_of(details, Mapping):
        return BrokenRule("authorization_details is not an array of objects", "RFC 9396 7")
    scope: str | None = requested_scope
    if "scope" in members:
        scope = _granted_scope(members, noted)
    if scope is None or len(scope) > string_limit:
        return BrokenRule("scope is not a string", "RFC 6749 5.1")
    return TokenResponse(
        access_token=Secret(members["access_token"]),
        token_type=token_type,
        expires_at=expires_at,
        refresh_token=_secret(members, "refresh_token"),
        id_token=id_token,
        scope=scope,
        authorization_details=details,
        extra=_extra(members),
        dpop_key=dpop_key,
    )


def _broken_strings(
    members: Mapping[str, Any], limit: int, noted: list[ProviderDeviation]
) -> Iterator[BrokenRule]:
    """Yield the rules that the tokens, or their type, break, whatever they say."""
    for name, rule, syntax in _STRINGS:
        # A needed member that is empty is wrong; an optional one that is empty counts as left out.
        given = name in members if name in _NEEDED else present(members, name, rule, noted)
        if not given:
            continue
        value: object = members[name]
        if not isinstance(value, str) or not value:
            yield BrokenRule(f"{name} is not a non-empty string", rule)
        elif len(value) > limit:
            yield BrokenRule(f"{name} is longer than {limit} characters", "size limit")
        elif syntax is not None and not _VSCHARS.fullmatch(value):
            # An access token goes into a header field.
            yield BrokenRule(f"{name} has characters outside of printable ASCII", syntax)
    for name in _NEEDED:
        if name not in members:
            yield BrokenRule(f"{name} is missing", _OAUTH)


def _secret(members: Mapping[str, Any], name: str) -> Secret | None:
    value = members.get(name)
    return Secret(value) if isinstance(value, str) and value else None


def _granted_scope(members: Mapping[str, Any], noted: list[ProviderDeviation]) -> str | None:
    if is_absent(members["scope"]):
        # A member that is left out means "as requested" (RFC 6749 5.1); one that is empty means nothing.
        noted.append(ProviderDeviation(f"{_OAUTH}: scope", "null or empty; what was granted is not told"))
        return ""
    return space_separated(members, "scope", _OAUTH, noted)


def expected_token_type(dpop_key: DpopKey | None) -> str:
    """Return the type of tokens that are to be bound to a key, or to none (RFC 9449 5)."""
    return "Bearer" if dpop_key is None else "DPoP"
