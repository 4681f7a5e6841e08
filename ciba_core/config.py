"""What the application decides once: who the client is, how it polls, what it accepts."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Literal

from attrs import field, frozen
from attrs.validators import ge, in_, instance_of, le

from ciba_core import _check
from ciba_core.client_auth import ClientAuthentication
from ciba_core.polling import PollingPolicy

__all__ = ["ClientConfig", "DeliveryMode", "Limits"]

DeliveryMode = Literal["poll"]
"""Token delivery modes (CIBA Core 5) that the library speaks."""


@frozen
class Limits:
    """Bounds on everything that a provider controls.

    Raises:
        TypeError, ValueError: a bound is not an int in its range.

    """

    body: int = field(default=1 << 20, validator=_check.whole_number(1024, 1 << 30))
    """Octets of a response body. 1 MiB, as most OpenID libraries have it."""
    headers: int = field(default=64 << 10, validator=_check.whole_number(1024, 1 << 24))
    """Octets of all response header fields together. 64 KiB, four times what common servers send at most."""
    json_depth: int = field(default=32, validator=_check.whole_number(4, 128))
    """Levels of nesting in a JSON document."""
    string: int = field(default=64 << 10, validator=_check.whole_number(256, 1 << 24))
    """Characters of an ``auth_req_id``, a token or an error text. Real ones stay far below 10 000."""


def _check_authentication(_instance: Any, _attribute: Any, value: Any) -> None:
    if isinstance(value, type) or not callable(getattr(value, "credentials", None)):
        raise TypeError(
            "authentication must be a client authentication method, such as ClientSecretBasic(...)"
        )


def _check_entropy(_instance: Any, _attribute: Any, value: Any) -> None:
    if not callable(value):
        raise TypeError("entropy must be a function from a number of octets to that many octets")


_SECONDS = (int, float)


@frozen
class ClientConfig:
    """The client as it is registered at the provider, and its settings. One value for all transactions.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range; the message names it.

    """

    client_id: str = field(validator=[_check.a(str), _check.text])
    authentication: ClientAuthentication = field(validator=_check_authentication)
    """How the client authenticates; registered as ``token_endpoint_auth_method``."""
    backchannel_token_delivery_mode: DeliveryMode = field(
        default="poll", validator=in_(("poll",)), kw_only=True
    )
    """The registered mode (CIBA Core 4)."""
    polling: PollingPolicy = field(factory=PollingPolicy, validator=_check.a(PollingPolicy), kw_only=True)
    limits: Limits = field(factory=Limits, validator=_check.a(Limits), kw_only=True)
    connect_timeout: float = field(
        default=10.0, validator=[instance_of(_SECONDS), ge(0.001), le(3600)], kw_only=True
    )
    """Seconds to establish a connection."""
    timeout: float = field(default=40.0, validator=[instance_of(_SECONDS), ge(0.001), le(3600)], kw_only=True)
    """Seconds from sending a request to the end of its answer. Keep it above 30: a provider may hold back the
    answer to a poll that long (CIBA Core 10.1)."""
    entropy: Callable[[int], bytes] = field(
        default=secrets.token_bytes, validator=_check_entropy, kw_only=True, repr=False, eq=False
    )
    """The one source of randomness: returns as many random octets as it is asked for. Hand in a counter in
    tests and every run is the same."""
