"""How a simulated provider is set up."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Final, TypedDict

from attrs import frozen

from .assertions import AssertionAudience

__all__ = ["ProviderOptions", "ProviderSettings"]

_ISSUER: Final = re.compile(r"https?://[^/?#\s]+(?:/[^?#\s]*)?")


class ProviderOptions(TypedDict, total=False):
    """The members of `ProviderSettings`, for callers who name those that differ."""

    issuer: str
    expires_in: int
    interval: int | None
    throttle_early_polls: bool
    throttle_first_poll: bool
    long_poll: float
    require_openid: bool
    binding_message: str
    authorization_details_types: Collection[str] | None
    assertion_audiences: Collection[AssertionAudience]
    require_dpop_nonce: bool
    dpop_nonce_uses: int | None
    jwks_cache_control: str | None
    at_hash: bool
    auth_req_id_claim: bool
    callback_on_expiry: bool
    rotate_refresh_tokens: bool
    id_token_on_refresh: bool
    entropy: Callable[[int], bytes] | None


@frozen(kw_only=True)
class ProviderSettings:
    """The behaviour of a simulated provider; clients and users are set separately.

    `SimulatedProvider` explains each.

    Raises:
        ValueError: a setting is out of range.

    """

    issuer: str = "https://op.example"
    expires_in: int = 120
    interval: int | None = 5
    throttle_early_polls: bool = True
    throttle_first_poll: bool = False
    long_poll: float = 0.0
    require_openid: bool = True
    binding_message: str = r"[^\x00-\x1f\x7f-\x9f]{1,64}"
    authorization_details_types: Collection[str] | None = None
    assertion_audiences: Collection[AssertionAudience] = ("issuer", "token_endpoint", "called_endpoint")
    require_dpop_nonce: bool = False
    dpop_nonce_uses: int | None = None
    jwks_cache_control: str | None = "no-store"
    at_hash: bool = False
    auth_req_id_claim: bool = False
    callback_on_expiry: bool = False
    rotate_refresh_tokens: bool = True
    id_token_on_refresh: bool = True
    entropy: Callable[[int], bytes] | None = None

    def __attrs_post_init__(self) -> None:
        if not _ISSUER.fullmatch(self.issuer):
            raise ValueError("issuer: an http or https URL without query and fragment")
        if self.expires_in < 1:
            raise ValueError("expires_in: a positive number of seconds")
        if self.interval is not None and self.interval < 1:
            raise ValueError("interval: a positive number of seconds, or None")
        if self.long_poll < 0:
            raise ValueError("long_poll: a number of seconds, or 0")
        if self.dpop_nonce_uses is not None and self.dpop_nonce_uses < 1:
            raise ValueError("dpop_nonce_uses: a positive number, or None")
