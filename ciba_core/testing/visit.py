"""A request on its way through the simulated provider."""

from __future__ import annotations

import json

from attrs import define, field

from .authentications import Authentication
from .checks import Form
from .journal import Endpoint
from .script import SimulatedClient, Twist
from .wire import Headers, Reply

__all__ = ["Visit", "json_reply"]


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
    authentication: Authentication | None = None
    """The authentication that is requested or polled."""
    jkt: str | None = None
    """Thumbprint of the key whose possession the DPoP proof has shown."""
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
