"""The errors that carry tokens which nothing vouches for."""

from __future__ import annotations

from typing import Final

from attrs import evolve

from ciba_core.tokens.issued import TokenResponse
from ciba_core.values.errors import (
    CibaError,
    Endpoint,
    LocalProtocolError,
    RemoteProtocolError,
    TransportError,
)
from ciba_core.values.secret import Guarded

__all__ = ["AuthenticationCancelled", "KeysUnavailable", "TokensRejected"]


class TokensRejected(RemoteProtocolError):
    """The provider issued tokens, but they, or the answer they came in, broke a rule; `rule` says which.

    `untrusted` holds the answer all the same, for diagnosis and for revocation: a `Guarded` `TokenResponse`.
    Of an answer that could not be read in full it has those tokens that were there; an access token that was
    not is empty.
    """

    def __init__(
        self, message: str, *, rule: str, endpoint: Endpoint, untrusted: Guarded[TokenResponse]
    ) -> None:
        super().__init__(message, rule=rule, endpoint=endpoint)
        self.untrusted: Final = untrusted

    def kept(self, refreshed: TokenResponse) -> TokenResponse:
        """Return tokens that could not be refreshed, with the refresh token that came all the same.

        A provider that rotates refresh tokens takes the one that was sent for used up. Store what this
        returns in the place of `refreshed`, so that a later refresh is possible, once the cause is gone or
        `IdTokenPolicy.may_differ_after_refresh` accepts it. Nothing else of the answer is in it.

        Args:
            refreshed: the tokens that were to be refreshed.

        Raises:
            LocalProtocolError: the ID Token that came is another issuer's, about another user or for another
                client, and the refresh token may be, too. Revoke `untrusted`, and authenticate anew.

        """
        if self.rule.rpartition(": ")[2] in _WHOSE:
            raise LocalProtocolError("untrusted: the refresh token may be another user's")
        return _kept(refreshed, self.untrusted)


class KeysUnavailable(TransportError):
    """The provider issued tokens, but its key set could not be had in time to validate them.

    `untrusted` holds the answer all the same: a `Guarded` `TokenResponse`.
    """

    def __init__(self, message: str, *, reason: str, untrusted: Guarded[TokenResponse]) -> None:
        super().__init__(message, reason=reason)
        self.untrusted: Final = untrusted

    def kept(self, refreshed: TokenResponse) -> TokenResponse:
        """Return tokens that could not be refreshed, with the refresh token that came.

        See `TokensRejected.kept`.
        """
        return _kept(refreshed, self.untrusted)


_WHOSE: Final = ("iss", "sub", "aud")


def _kept(refreshed: TokenResponse, untrusted: Guarded[TokenResponse]) -> TokenResponse:
    refresh_token = untrusted.reveal_untrusted().refresh_token
    return evolve(refreshed, refresh_token=refresh_token or refreshed.refresh_token)


class AuthenticationCancelled(CibaError):
    """The application cancelled the authentication.

    `untrusted` holds the tokens that had come by then and waited to be validated, for revocation: a `Guarded`
    `TokenResponse`, or ``None``.
    """

    def __init__(self, message: str, *, untrusted: Guarded[TokenResponse] | None = None) -> None:
        super().__init__(message)
        self.untrusted: Final = untrusted
