"""What the provider issued: the tokens, and what was granted with them (RFC 6749 5.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import field, frozen

from ciba_core.jose.dpop import DpopKey
from ciba_core.tokens.grant_audit import NOT_AUDITED, GrantAudit
from ciba_core.values.errors import CibaError
from ciba_core.values.secret import Guarded, Secret

__all__ = ["GrantDiffers", "OriginalGrant", "TokenResponse"]


@frozen(kw_only=True, weakref_slot=False)
class OriginalGrant:
    """The grant of the first tokens. Every refresh is compared with it."""

    scope: str
    """The scope that was granted; a refresh may ask for less, and for all of it again (RFC 6749 6)."""
    authorization_details: tuple[Mapping[str, Any], ...] | None = field(repr=False)
    """The granted authorization details."""
    id_token_claims: Mapping[str, Any] | None = field(repr=False)
    """The claims of the first ID Token, with which later ones have to go (OpenID Connect Core 12.2)."""


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
    """The granted scope; as requested when the provider did not name it (RFC 6749 5.1).

    Empty when the answer has the member and nothing in it: what was granted is not told then; see `grant`."""
    authorization_details: tuple[Mapping[str, Any], ...] | None = field(repr=False)
    """The granted authorization details (RFC 9396 7); ``None`` when the answer had none."""
    extra: Mapping[str, Any] = field(repr=False)
    """Members of the answer that are not known here, read-only. They may be secret."""
    grant: GrantAudit = NOT_AUDITED
    """What was granted beside what was asked for. A refresh asks for `Refresh.scope` or, where that is
    ``None``, for all that was granted at first."""
    dpop_key: DpopKey | None = None
    """The key that the access token is bound to (RFC 9449), without which it cannot be used."""
    original: OriginalGrant | None = None
    """Of refreshed tokens: what was granted at first. The first tokens have ``None``."""

    @property
    def original_grant(self) -> OriginalGrant:
        """What was granted at first, be it with these tokens."""
        return self.original or OriginalGrant(
            scope=self.scope,
            authorization_details=self.authorization_details,
            id_token_claims=self.id_token_claims,
        )

    @property
    def differs_in(self) -> tuple[str, ...]:
        """Names of what was not granted as asked: ``scope``, ``authorization_details``, ``acr``, ``claims``.

        What was granted counts (RFC 6749 3.3, RFC 9396 7).
        """
        return self.grant.differs_in

    def require_as_requested(self, *names: str) -> None:
        """Insist on what was asked for.

        Args:
            names: of the items that have to be as asked; all of them when none is named.

        Raises:
            GrantDiffers: one is not. The tokens are in the error.

        """
        different = [name for name in self.differs_in if not names or name in names]
        claims = self.grant.item("claims")
        if claims is not None and "claims" in different:
            different[different.index("claims")] = f"claims ({', '.join(claims.missing)})"
        if different:
            raise GrantDiffers(
                f"granted otherwise than requested: {', '.join(different)}", untrusted=Guarded(self)
            )


class GrantDiffers(CibaError):
    """The provider granted less, more or other than was asked for, which the application does not accept.

    `untrusted` holds the tokens all the same, for revocation or for use, since they are valid: a `Guarded`
    `TokenResponse`.
    """

    def __init__(self, message: str, *, untrusted: Guarded[TokenResponse]) -> None:
        super().__init__(message)
        self.untrusted: Final = untrusted

    @property
    def grant(self) -> GrantAudit:
        """What was granted beside what was asked for."""
        return self.untrusted.reveal_untrusted().grant
