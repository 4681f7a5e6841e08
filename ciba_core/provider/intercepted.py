"""Answers that do not come from the provider's endpoint, but from something in front of it.

Gateways, bot guards, load balancers and captive portals answer with any status: 403, 404, 405, 302, 401, 204,
with a page, a text, JSON of their own or nothing. Such an answer is no verdict of the provider (RFC 6749 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ciba_core.values.errors import ERROR_CLASSES
from ciba_core.values.http import HttpResponse
from ciba_core.values.json import JsonFault
from ciba_core.values.lenient import is_absent

__all__ = ["is_gateway_error", "is_intercepted"]

# Beside those that have a class: what IANA registers as OAuth extension errors, and CIBA Core 11 and 12.
_REGISTERED: Final = frozenset[str]().union(*ERROR_CLASSES.values()) | {
    "account_selection_required", "authorization_pending", "consent_required", "incompatible_ace_profiles",
    "insufficient_user_authentication", "interaction_required", "invalid_request_uri", "login_required",
    "need_info", "registration_not_supported", "request_denied", "request_not_supported", "request_submitted",
    "request_uri_not_supported", "slow_down", "transaction_failed", "unmet_authentication_requirements",
    "unsupported_pop_key", "unsupported_response_type", "use_dpop_nonce",
}  # fmt: skip
# RFC 9110 15 and its predecessors, RFC 6585, RFC 7725, RFC 8470; nginx has the last one.
_REASON_PHRASES: Final = frozenset({
    "bad request", "unauthorized", "payment required", "forbidden", "not found", "method not allowed",
    "not acceptable", "proxy authentication required", "request timeout", "conflict", "gone",
    "length required", "precondition failed", "payload too large", "content too large",
    "request entity too large", "uri too long", "unsupported media type", "range not satisfiable",
    "expectation failed", "misdirected request", "unprocessable entity", "unprocessable content", "locked",
    "failed dependency", "too early", "upgrade required", "precondition required", "too many requests",
    "request header fields too large", "unavailable for legal reasons", "internal server error",
    "not implemented", "bad gateway", "service unavailable", "gateway timeout",
    "http version not supported", "insufficient storage", "loop detected",
    "network authentication required", "client closed request",
})  # fmt: skip
# `token_type` is among them: only the provider itself sends it, even in a broken answer.
_TOKENS: Final = ("access_token", "refresh_token", "id_token", "token_type")
_NO_OBJECT: Final = (JsonFault.SYNTAX, JsonFault.NOT_AN_OBJECT)


def is_gateway_error(members: Mapping[str, Any]) -> bool:
    """Tell whether an object with an ``error`` is that of a gateway, and no OAuth error (RFC 6749 5.2).

    It is one where ``error`` is no string, or is a reason phrase of HTTP, or is not registered and stands
    beside ``status`` and ``path`` or ``timestamp``, as on the error page of Spring. Other codes that nobody
    registered are taken for the provider's own.
    """
    code = members["error"]
    if not isinstance(code, str):
        return True
    if code in _REGISTERED:
        return False
    return code.casefold() in _REASON_PHRASES or (
        "status" in members and ("path" in members or "timestamp" in members)
    )


def is_intercepted(members: Mapping[str, Any] | JsonFault, response: HttpResponse) -> bool:
    """Tell whether an answer of the token endpoint without an OAuth error has no tokens either.

    JSON that is an object, and broken, comes from the provider if the status says so: what is broken in it is
    not a matter of the way.
    """
    if 300 <= response.status < 400:
        return True
    if isinstance(members, JsonFault):
        return not response.is_success or members in _NO_OBJECT
    return all(is_absent(members.get(name)) for name in _TOKENS)
