"""What CIBA calls its things, where another standard of the same kind would have other names for them."""

from __future__ import annotations

from typing import Final

from attrs import frozen

__all__ = ["CIBA", "Terms"]


@frozen
class Terms:
    """The names of one standard in which a user decides elsewhere while the client waits."""

    start_endpoint: str
    """The member of the provider's metadata that has the URL where an authentication starts."""
    poll_endpoint: str
    """The member of the metadata that has the URL where the client asks for the result."""
    grant_type: str
    """The ``grant_type`` of such a token request."""
    handle: str
    """What names an authentication: a member of the acknowledgement, of token requests and of callbacks."""
    pending: str
    """The error code for "the user has not decided yet"."""
    slow_down: str
    """The error code for the same, with a longer interval from then on."""


CIBA: Final = Terms(
    start_endpoint="backchannel_authentication_endpoint",  # CIBA Core 4
    poll_endpoint="token_endpoint",  # RFC 8414 2
    grant_type="urn:openid:params:grant-type:ciba",  # CIBA Core 4 and 10.1
    handle="auth_req_id",  # CIBA Core 7.3
    pending="authorization_pending",  # CIBA Core 11
    slow_down="slow_down",  # CIBA Core 11
)
"""OpenID Connect CIBA Core 1.0."""
