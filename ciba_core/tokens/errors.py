"""The errors that carry tokens which nothing vouches for."""

from __future__ import annotations

from typing import Final

from ciba_core.tokens.issued import TokenResponse
from ciba_core.values.errors import CibaError, Endpoint, RemoteProtocolError, TransportError
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


class KeysUnavailable(TransportError):
    """The provider issued tokens, but its key set could not be had in time to validate them.

    `untrusted` holds the answer all the same: a `Guarded` `TokenResponse`.
    """

    def __init__(self, message: str, *, reason: str, untrusted: Guarded[TokenResponse]) -> None:
        super().__init__(message, reason=reason)
        self.untrusted: Final = untrusted


class AuthenticationCancelled(CibaError):
    """The application cancelled the authentication.

    `untrusted` holds the tokens that had come by then and waited to be validated, for revocation: a `Guarded`
    `TokenResponse`, or ``None``.
    """

    def __init__(self, message: str, *, untrusted: Guarded[TokenResponse] | None = None) -> None:
        super().__init__(message)
        self.untrusted: Final = untrusted
