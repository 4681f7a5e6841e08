"""The tokens (CIBA Core 10.1.1, OpenID Connect Core 3.1.3.3, RFC 6749 5.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import field, frozen

from ciba_core._json import freeze, is_array_of
from ciba_core.dpop import DpopKey
from ciba_core.errors import GrantDiffers
from ciba_core.grant_audit import NOT_AUDITED, GrantAudit
from ciba_core.polling import bounded_seconds
from ciba_core.secret import Guarded, Secret

__all__ = ["TokenResponse"]

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


@frozen(kw_only=True, weakref_slot=False)
class TokenResponse:
    """What the provider issued. Tokens are `Secret`: call ``reveal()`` where one is used."""

    access_token: Secret
    token_type: str
    """How to use the access token: ``Bearer`` or ``DPoP``, in the provider's spelling."""
    expires_at: float | None
    """POSIX instant at which the access token ends, or ``None`` when the provider did not say."""
    refresh_token: Secret | None
    id_token: Secret | None
    """The ID Token as it came."""
    id_token_claims: Mapping[str, Any] | None = field(default=None, repr=False)
    """The claims of the ID Token, validated (OpenID Connect Core 3.1.3.7); ``None`` when there is none."""
    scope: str
    """The granted scope; as requested when the provider did not name it (RFC 6749 5.1)."""
    authorization_details: tuple[Mapping[str, Any], ...] | None = field(repr=False)
    """The granted authorization details (RFC 9396 7); ``None`` when the answer had none."""
    extra: Mapping[str, Any] = field(repr=False)
    """Members of the answer that are not known here, read-only. They may be secret."""
    grant: GrantAudit = NOT_AUDITED
    """What was granted beside what was asked for; of refreshed tokens, which nothing was asked for, empty."""
    dpop_key: DpopKey | None = None
    """The key that the access token is bound to (RFC 9449), without which it cannot be used."""

    @property
    def differs_in(self) -> tuple[str, ...]:
        """Names of what was not granted as asked: of ``scope``, ``authorization_details``, ``acr``.

        What was granted counts (RFC 6749 3.3, RFC 9396 7).
        """
        return self.grant.differs_in

    def require_as_asked(self, *names: str) -> None:
        """Insist on what was asked for.

        Args:
            names: of the items that have to be as asked; all of them when none is named.

        Raises:
            GrantDiffers: one is not. The tokens are in the error.

        """
        different = [name for name in self.differs_in if not names or name in names]
        if different:
            raise GrantDiffers(
                f"granted otherwise than asked: {', '.join(different)}", untrusted=Guarded(self)
            )


class TokenResponseError(ValueError):
    """A 200 answer of the token endpoint that breaks a rule; the message says which member."""

    def __init__(self, message: str, rule: str) -> None:
        super().__init__(message)
        self.rule = rule


def parse_token_response(
    members: Mapping[str, Any],
    *,
    requested_scope: str,
    expected_type: str,
    string_limit: int,
    now: float,
    id_token_optional: bool = False,
) -> TokenResponse:
    """Build the value from the members of a successful answer.

    Args:
        members: the parsed JSON object.
        requested_scope: what holds when the answer names no scope.
        expected_type: ``Bearer`` or ``DPoP``.
        string_limit: characters allowed in one string.
        now: POSIX instant at which the answer came.
        id_token_optional: whether it may be missing although ``openid`` was asked for.

    Raises:
        TokenResponseError: a required member is missing, or one is of the wrong type.

    """

    def string(name: str, rule: str) -> str | None:
        value = members.get(name)
        if value is None and name not in members:
            return None
        if not isinstance(value, str) or not value:
            raise TokenResponseError(f"{name} is not a non-empty string", rule)
        if len(value) > string_limit:
            raise TokenResponseError(f"{name} is longer than {string_limit} characters", "size limit")
        return value

    def secret(name: str, rule: str) -> Secret | None:
        value = string(name, rule)
        return None if value is None else Secret(value)

    access_token = secret("access_token", "RFC 6749 5.1")
    token_type = string("token_type", "RFC 6749 5.1")
    id_token = secret("id_token", "OpenID Connect Core 3.1.3.3")
    if access_token is None:
        raise TokenResponseError("access_token is missing", "RFC 6749 5.1")
    if token_type is None:
        raise TokenResponseError("token_type is missing", "RFC 6749 5.1")
    if token_type.lower() != expected_type.lower():
        # RFC 6749 7.1: a token of a type that is not understood must not be used. Bearer where DPoP was
        # asked for means that the provider did not bind the token (RFC 9449 5).
        raise TokenResponseError(f"token_type is not {expected_type}", "RFC 6749 7.1, RFC 9449 5")
    if id_token is None and not id_token_optional and "openid" in requested_scope.split(" "):
        raise TokenResponseError("id_token is missing", "OpenID Connect Core 3.1.3.3")
    expires_at = None
    if "expires_in" in members:
        expires_in = bounded_seconds(members["expires_in"])
        if expires_in is None or expires_in < 0:
            raise TokenResponseError("expires_in is not a number of seconds", "RFC 6749 5.1")
        expires_at = now + expires_in
    details: Any = members.get("authorization_details")
    if details is not None and not is_array_of(details, Mapping):
        raise TokenResponseError("authorization_details is not an array of objects", "RFC 9396 7")
    scope = members.get("scope", requested_scope)
    if not isinstance(scope, str) or len(scope) > string_limit:
        raise TokenResponseError("scope is not a string", "RFC 6749 5.1")
    return TokenResponse(
        access_token=access_token,
        token_type=token_type,
        expires_at=expires_at,
        refresh_token=secret("refresh_token", "RFC 6749 5.1"),
        id_token=id_token,
        scope=scope,
        authorization_details=freeze(details),
        extra=freeze({name: value for name, value in members.items() if name not in _KNOWN}),
    )
