"""A request and a transaction on their way through the simulated provider."""

from __future__ import annotations

import json
from typing import Any

from attrs import define, field

from .callbacks import Address
from .checks import Form
from .journal import Endpoint
from .script import Approve, Deny, Ignore, SimulatedClient, Twist
from .tokens import Grant
from .wire import Headers, Reply

__all__ = ["Transaction", "Visit", "json_reply"]


@define(eq=False)
class Transaction:
    """An acknowledged authentication request, and what has become of it."""

    auth_req_id: str
    client: SimulatedClient
    user: Approve | Deny | Ignore
    hint: str
    scope: str
    binding_message: str | None
    authorization_details: list[Any] | None
    acr: str | None
    created: float
    expires: float
    interval: int
    poll_due: float
    """Instant before which a poll is too early."""
    jkt: str | None
    """Thumbprint of the key that what is pushed gets bound to."""
    address: Address | None
    """Where the client is told of the decision, if it is in ping or push mode."""
    polls: int = 0
    in_flight: int = 0
    settled: bool = False
    """Whether the user has decided."""
    error: str | None = None
    """What the decision comes to at the token endpoint; ``None``: tokens."""
    decided: float = 0.0
    redeemed: bool = False

    def settle(self, error: str | None, *, now: float) -> None:
        """Note the user's decision."""
        self.settled = True
        self.error = error
        self.decided = now
        if self.address is not None:
            self.poll_due = now  # a callback is followed by a poll at once

    @property
    def consent(self) -> Grant:
        """What the user has agreed to."""
        return Grant(
            client=self.client,
            auth_req_id=self.auth_req_id,
            hint=self.hint,
            sub=self.user.sub or self.hint,
            scope=self.scope,
            authorization_details=self.authorization_details,
            acr=self.acr,
            auth_time=self.decided,
        )


@define(eq=False)
class Visit:
    """One request on its way through the provider, and what the journal will say of it."""

    endpoint: Endpoint
    method: str
    query: str
    headers: tuple[tuple[str, str], ...]  # names in lower case
    body: bytes
    arrived: float
    url: str
    twist: Twist | None
    form: Form = field(factory=Form)
    client: SimulatedClient | None = None
    transaction: Transaction | None = None
    jkt: str | None = None
    """Thumbprint of the key whose possession was proven."""
    more_headers: Headers = ()
    twisted: bool = False
    outcome: str = "fault"
    too_early: bool = False
    overlapping: bool = False
    replayed: bool = False

    def header(self, name: str) -> list[str]:
        """Return the values of a header field, given in lower case."""
        return [value for key, value in self.headers if key == name]


def json_reply(
    content: object, *, status: int = 200, headers: Headers = (), cache_control: str | None = "no-store"
) -> Reply:
    """Return an answer in JSON."""
    caching = () if cache_control is None else (("Cache-Control", cache_control),)
    return Reply(
        status, (("Content-Type", "application/json"), *caching, *headers), json.dumps(content).encode()
    )
