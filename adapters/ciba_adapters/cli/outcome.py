"""The end of an authentication: as an exit status, as one JSON object, and as text for people."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, assert_never

from attrs import field, frozen
from rich.console import Console
from rich.text import Text

from ciba_adapters.cli.masking import MASK, Masking, only_secrets
from ciba_adapters.cli.text import printable
from ciba_core import TokenResponse, Transaction
from ciba_core.errors import AuthenticationExpired, CibaError, ErrorResponse
from ciba_core.states import (
    Authenticated,
    AwaitingAcknowledgement,
    AwaitingCallback,
    AwaitingKeys,
    Cancelled,
    Denied,
    Expired,
    Failed,
    FetchingKeys,
    New,
    Pending,
    Polling,
    Refused,
    SigningAuthentication,
    SigningPoll,
)

__all__ = ["CANCELLED", "INTERRUPTED", "Outcome", "Result"]

Outcome = Literal["authenticated", "denied", "expired", "refused", "failed"]

CANCELLED: Final = "cancelled"
"""The `Result.error` of a command that was interrupted."""
INTERRUPTED: Final = 130
"""The exit status of an interrupted command: 128 plus the number of SIGINT, as in shells."""

_EXIT_STATUS: Final[Mapping[Outcome, int]] = {
    "authenticated": 0, "failed": 1, "denied": 3, "expired": 4, "refused": 5,
}  # fmt: skip


@frozen(kw_only=True)
class Result:
    """How an authentication ended."""

    outcome: Outcome
    error: str | None = None
    """The provider's error code; for other faults the name of the error, such as ``request_not_sent``."""
    error_description: str | None = None
    tokens: TokenResponse | None = None
    polls: int = 0
    elapsed: float = 0.0
    """Seconds."""
    acknowledgement_extra: Mapping[str, Any] = field(factory=dict[str, Any])
    """Members of the acknowledgement that are not in the standard."""
    course: Mapping[str, Any] | None = None
    """Details of an authentication that expired: see `AuthenticationExpired`."""
    masking: Masking = field(factory=Masking, repr=False, eq=False)
    """Masks secrets that the provider may have repeated, in its description of an error or elsewhere."""

    @classmethod
    def of(cls, transaction: Transaction, elapsed: float, masking: Masking) -> Result:
        """Return the result of a transaction that came to its end."""
        outcome: Outcome
        state = transaction.state
        match state:
            case Authenticated():
                outcome = "authenticated"
            case Denied():
                outcome = "denied"
            case Expired():
                outcome = "expired"
            case Refused():
                outcome = "refused"
            case Failed() | Cancelled():
                outcome = "failed"
            case (
                New()
                | SigningAuthentication()
                | AwaitingAcknowledgement()
                | AwaitingCallback()
                | Pending()
                | SigningPoll()
                | Polling()
                | FetchingKeys()
                | AwaitingKeys()
            ):
                # The authentication was left before its end.
                outcome = "failed"
            case _:
                assert_never(state)
        error, description = (None, None) if transaction.error is None else _describe(transaction.error)
        return cls(
            outcome=outcome,
            error=error,
            error_description=description,
            tokens=transaction.tokens,
            polls=transaction.polls,
            elapsed=elapsed,
            course=_course_of(transaction.error),
            acknowledgement_extra=transaction.acknowledgement_extra,
            masking=masking,
        )

    @classmethod
    def failed(cls, error: CibaError, elapsed: float, masking: Masking) -> Result:
        """Return the result of an authentication that an error ended before it began."""
        code, description = _describe(error)
        return cls(
            outcome="failed", error=code, error_description=description, elapsed=elapsed, masking=masking
        )

    @property
    def exit_status(self) -> int:
        """The exit status of the command."""
        return INTERRUPTED if self.error == CANCELLED else _EXIT_STATUS[self.outcome]

    def to_json(self, *, show_tokens: bool) -> str:
        """Return one JSON object, in ASCII."""
        tokens = None if self.tokens is None else dict(_members(self.tokens, show_tokens=show_tokens))
        told = self.masking.masked(
            {
                "outcome": self.outcome,
                "error": self.error,
                "error_description": self.error_description,
                "token_response": tokens,
                "id_token_claims": None if self.tokens is None else self.tokens.id_token_claims,
                "polls": self.polls,
                "elapsed": round(self.elapsed, 3),
                "course": self.course,
                "acknowledgement_extra": self.acknowledgement_extra
                if show_tokens
                else only_secrets("", self.acknowledgement_extra),
            },
            show_tokens=show_tokens,
        )
        return json.dumps(told, indent=2)

    def print(self, console: Console, *, show_tokens: bool, hint: str | None = None) -> None:
        """Write the result for people; `hint` is shown beside the user's identifier."""
        rows: list[tuple[str, object]] = []
        if self.tokens is not None:
            if self.tokens.id_token_claims is not None:
                sub: str = self.tokens.id_token_claims["sub"]
                rows.append(("user", sub if hint is None else f"{sub} ({hint})"))
            rows += _members(self.tokens, show_tokens=show_tokens)
        rows += [("error", self.error), ("description", self.error_description)]
        rows += [("polls", self.polls), ("elapsed", f"{self.elapsed:.1f} s")]
        good = self.outcome == "authenticated"
        lines = [Text(f"{'✓' if good else '✗'} {self.outcome}", "bold green" if good else "bold red")]
        for name, value in rows:
            if value is not None:
                safe = self.masking.masked(value, show_tokens=show_tokens)
                shown = safe if isinstance(safe, str) else json.dumps(safe)
                # A token must be written in one piece, at any length.
                limit = len(shown) if show_tokens else 500
                lines.append(Text.assemble("  ", (f"{name:<15}", "dim"), printable(shown, limit)))
        if console.is_terminal:
            console.print()  # below the progress lines
        console.print(Text("\n").join(lines), soft_wrap=True)


def _course_of(error: CibaError | None) -> Mapping[str, Any] | None:
    if not isinstance(error, AuthenticationExpired):
        return None
    return {
        "faults": error.faults,
        "last_polls": list(error.last_polls),
        "push_rejected": error.push_rejected,
    }


def _describe(error: CibaError) -> tuple[str, str | None]:
    if isinstance(error, ErrorResponse):
        return error.error, error.error_description
    # RequestNotSent becomes request_not_sent, in the style of the standards' error codes.
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).lower(), str(error)


def _members(tokens: TokenResponse, *, show_tokens: bool) -> Iterator[tuple[str, Any]]:
    """Yield the members of the token response by their names in the standards."""

    def shown(value: Any) -> Any:
        return value if show_tokens else MASK

    yield "access_token", shown(tokens.access_token.reveal())
    yield "token_type", tokens.token_type
    if tokens.expires_at is not None:
        yield "expires_in", max(round(tokens.expires_at - time.time()), 0)
    yield "scope", tokens.scope
    if tokens.refresh_token is not None:
        yield "refresh_token", shown(tokens.refresh_token.reveal())
    if tokens.id_token is not None:
        yield "id_token", shown(tokens.id_token.reveal())
    if tokens.authorization_details is not None:
        yield "authorization_details", tokens.authorization_details
    for name, value in tokens.extra.items():
        yield name, value if show_tokens else only_secrets(name, value)
