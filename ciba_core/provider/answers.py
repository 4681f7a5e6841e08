"""What the answers of all endpoints have in common (RFC 6749 5, RFC 9110)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeGuard

from ciba_core.client.config import ClientConfig
from ciba_core.client.polling import parse_retry_after
from ciba_core.values.errors import (
    ERROR_CLASSES,
    Endpoint,
    ErrorResponse,
    ProviderUnavailable,
    RemoteProtocolError,
    ServerError,
    TemporarilyUnavailable,
)
from ciba_core.values.http import HttpResponse
from ciba_core.values.json import JsonFault
from ciba_core.values.lenient import ProviderDeviation, is_absent

__all__ = [
    "challenge",
    "error_response",
    "has_error",
    "is_busy",
    "is_redirect",
    "is_transient",
    "may_have_acted",
    "note_media_type",
    "retry_after",
    "too_large",
    "unavailable",
    "unusable",
    "violation",
]

# Statuses that say "not now" and nothing about the request itself (RFC 9110 15.5.9, RFC 8470, RFC 6585 4);
# those of 500 and above join them.
_BUSY: Final = frozenset({408, 425, 429})
# With one of these, the provider or a proxy in front of it certainly did not act on the request.
_NOT_ACTED_ON: Final = _BUSY | {503}
# With a busy status, these errors are about the server and not about the request. `ErrorResponse` itself is a
# code that is not registered, `RemoteProtocolError` an error member that is not a string.
_TRANSIENT: Final = frozenset({ServerError, TemporarilyUnavailable, ErrorResponse, RemoteProtocolError})


def violation(endpoint: Endpoint, message: str, rule: str) -> RemoteProtocolError:
    """Return the error for a broken rule."""
    return RemoteProtocolError(message, rule=rule, endpoint=endpoint)


def is_busy(response: HttpResponse) -> bool:
    """Tell whether the status says "not now" and nothing about the request itself."""
    return response.status in _BUSY or response.status >= 500


def may_have_acted(response: HttpResponse) -> bool:
    """Tell whether the provider may have acted on a request that it gave a busy status for."""
    return response.status not in _NOT_ACTED_ON


def is_transient(error: ErrorResponse | RemoteProtocolError, response: HttpResponse) -> bool:
    """Tell whether an error speaks of the state of the server alone."""
    return is_busy(response) and type(error) in _TRANSIENT


def has_error(members: Mapping[str, Any] | JsonFault) -> TypeGuard[Mapping[str, Any]]:
    """Tell whether an answer is an error response: one whose ``error`` says something (RFC 6749 5.2)."""
    return not isinstance(members, JsonFault) and not is_absent(members.get("error"))


def is_redirect(response: HttpResponse) -> bool:
    """Tell whether it is a redirect: whatever its body says, it comes from somewhere in between."""
    return 300 <= response.status < 400


def too_large(response: HttpResponse, client: ClientConfig) -> str | None:
    """Say which limit an answer exceeds, or return ``None``."""
    return client.limits.exceeded_by(response)


def retry_after(response: HttpResponse, now: float) -> float | None:
    """Return the seconds of ``Retry-After``, or ``None``."""
    value = response.header("Retry-After")
    return None if value is None else parse_retry_after(value, response.header("Date"), now)


def unavailable(message: str, response: HttpResponse, now: float) -> ProviderUnavailable:
    """Return the error for an answer that `is_busy`."""
    return ProviderUnavailable(
        message,
        reason=f"status {response.status}",
        status=response.status,
        retry_after=retry_after(response, now),
    )


def error_response(
    members: Mapping[str, Any],
    response: HttpResponse | None,
    client: ClientConfig,
    endpoint: Endpoint,
    now: float,
) -> ErrorResponse | RemoteProtocolError:
    """Read an error response (RFC 6749 5.2); `members` has an ``error``. A pushed one is no HTTP response."""

    def text(name: str) -> str | None:
        value = members.get(name)
        return value if isinstance(value, str) and 0 < len(value) <= client.limits.string else None

    code = text("error")
    if code is None:
        return violation(endpoint, "error is not a non-empty string", "RFC 6749 5.2")
    return ERROR_CLASSES[endpoint].get(code, ErrorResponse)(
        code,
        endpoint=endpoint,
        status=None if response is None else response.status,
        # Helpful texts; a wrong type there is no reason to lose the code.
        error_description=text("error_description"),
        error_uri=text("error_uri"),
        retry_after=None if response is None else retry_after(response, now),
    )


def unusable(
    members: Mapping[str, Any] | JsonFault,
    response: HttpResponse,
    endpoint: Endpoint,
    noted: list[ProviderDeviation],
) -> RemoteProtocolError | None:
    """Say which rule an answer without ``error`` breaks when it is to be a success.

    The body decides: what is said about it, in the status and the media type, is noted where it is odd.
    """
    if is_redirect(response):
        return violation(endpoint, f"a redirect ({response.status}) is not followed", "RFC 6749 3.2")
    if not response.is_success:
        return violation(endpoint, f"status {response.status} without an error code", "RFC 6749 5.2")
    if isinstance(members, JsonFault):
        return violation(endpoint, f"the answer is {members.value}", "RFC 6749 5.1")
    if "error" in members:
        noted.append(ProviderDeviation("RFC 6749 5.2: error", "null or empty; taken as absent"))
    if response.status != 200:
        noted.append(ProviderDeviation("RFC 6749 5.1: status", f"{response.status}; taken as 200"))
    note_media_type(response, noted)
    return None


def note_media_type(response: HttpResponse, noted: list[ProviderDeviation]) -> None:
    """Note that a JSON object came under another media type, or under none."""
    if response.media_type != "application/json":
        said = "another media type" if response.media_type else "no media type"
        noted.append(ProviderDeviation("RFC 8259 11: application/json", f"{said}; the body is JSON"))


_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"  # noqa: S105  # a syntax
# A parameter, or the name of a scheme (RFC 9110 11.6.1). The closing quote is optional, so that a string
# without an end is read once and not tried again from within.
_CHALLENGE: Final = re.compile(rf'({_TOKEN})\s*+(=\s*+(?:"((?:[^"\\]|\\.)*+)"?|({_TOKEN})))?')
_ESCAPED: Final = re.compile(r"\\(.)")


def challenge(response: HttpResponse, scheme: str) -> Mapping[str, str] | None:
    """Return the parameters of a challenge that has an ``error`` (RFC 6750 3, RFC 9449 7.1).

    Of several, the first of `scheme`, which the request used, goes before the first of all.
    """
    challenges: list[tuple[str, dict[str, str]]] = []
    for header, value in response.headers:
        if header.lower() != "www-authenticate":
            continue
        parameters: dict[str, str] = {}
        challenges.append(("", parameters))
        for name, given, quoted, token in _CHALLENGE.findall(value):
            if given:
                parameters.setdefault(name.lower(), token or _ESCAPED.sub(r"\1", quoted))
            else:
                parameters = {}
                challenges.append((name.lower(), parameters))
    explaining = [each for each in challenges if "error" in each[1]]
    own = (parameters for name, parameters in explaining if name == scheme.lower())
    return next(own, explaining[0][1] if explaining else None)
