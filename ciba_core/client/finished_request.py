"""The parameters of an authentication request as they are sent (CIBA Core 7.1 and 7.1.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ciba_core.client.config import ClientConfig
from ciba_core.client.request import AuthenticationRequest
from ciba_core.values.json import FrozenMapping
from ciba_core.values.secret import Secret

__all__ = ["FinishedParameters", "finished_parameters"]

FinishedParameters = tuple[tuple[str, str], ...] | Mapping[str, Any]
"""Form parameters in their order; or, for a client that signs its requests, the claims of the signed form.

They have the names that the provider has for them, and hold secrets."""


def finished_parameters(
    request: AuthenticationRequest, client: ClientConfig, *, client_notification_token: Secret | None
) -> FinishedParameters:
    """Return everything that a request says, but for what is new in each attempt to send it.

    Args:
        request: what to ask for.
        client: who asks.
        client_notification_token: what the provider calls back with; ``None`` in poll mode.

    """
    names = client.profile.parameter_names
    own: dict[str, str] = {}
    if client_notification_token is not None:
        own["client_notification_token"] = client_notification_token.reveal()
    if client.request_signing is None:
        return (*request.parameters(names), *own.items())
    if client.profile.send_client_id:
        own["client_id"] = client.client_id
    return FrozenMapping(request.claims_set(names) | own)
