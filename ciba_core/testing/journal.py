"""The records that the simulated provider gives a test: past events, and requests without a decision."""

from __future__ import annotations

from typing import Any, Literal

from attrs import field, frozen

from .script import CallbackFault, Fault

__all__ = ["AnswerDropped", "Endpoint", "JournalEntry", "PendingRequest"]

Endpoint = Literal[
    "metadata", "backchannel_authentication", "token", "jwks", "revocation", "userinfo", "unknown"
]
"""What a request was for; ``"unknown"`` when nothing is at its path."""


class AnswerDropped(ConnectionError):
    """An exchange with `SimulatedProvider.send` brought no complete answer.

    `acted` tells whether the provider had acted on the request. A client reports ``False`` as "not sent",
    ``True`` as "unknown".
    """

    def __init__(self, *, acted: bool) -> None:
        super().__init__("the answer was lost" if acted else "the request did not arrive")
        self.acted = acted


@frozen
class JournalEntry:
    """The outcome of one request or callback. Instants are POSIX seconds by the provider's clock."""

    endpoint: Endpoint | Literal["client_notification"]
    """``"client_notification"``: a callback, which the provider has sent itself."""
    arrived: float
    """When the request came, or the callback went out."""
    answered: float
    outcome: str
    """The error code of the answer; or ``"served"`` (metadata, keys), ``"acknowledged"``, ``"tokens"``,
    ``"revoked"``, ``"claims"`` (UserInfo); or, when the provider did not act, ``"not_found"``,
    ``"method_not_allowed"``, ``"fault"``, ``"dropped"``. Of a callback: ``"ping"``, ``"tokens"``, the error
    code that was pushed, ``"forged"`` or ``"dropped"``."""
    status: int | None
    """Status of the answer; ``None`` when there was none."""
    fault: Fault | CallbackFault | None
    client_id: str | None
    """The client, once authenticated."""
    auth_req_id: str | None = field(repr=False)
    """The transaction that was begun or polled, if it is one of this client's, or that of a callback."""
    too_early: bool = False
    """A poll that came before the interval or an earlier ``Retry-After`` was over (CIBA Core 10.1)."""
    overlapping: bool = False
    """A poll that came while another one of its transaction was being handled (CIBA Core 10.1)."""
    replayed: bool = False
    """A poll for tokens that had been issued already. Some providers revoke the grant on this."""


@frozen
class PendingRequest:
    """An authentication request that its user has not decided yet. Instants are POSIX seconds."""

    auth_req_id: str = field(repr=False)
    client_id: str
    hint: str
    """Value of the ``login_hint``, ``login_hint_token`` or ``id_token_hint`` parameter."""
    binding_message: str | None
    scope: str
    created: float
    expires: float
    authorization_details: list[Any] | None = None
    """What the client asks to be authorized, as it wrote it (RFC 9396 2)."""
