"""What the answers of all endpoints have in common (RFC 6749 5, RFC 9110)."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from typing import Any, Final

from attrs import field, frozen

from ciba_core.client.config import ClientConfig
from ciba_core.client.polling import parse_retry_after
from ciba_core.provider.intercepted import is_gateway_error, is_intercepted
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
from ciba_core.values.lenient import ProviderDeviation, is_absent, parse_body

__all__ = [
    "Answer",
    "Intercepted",
    "Members",
    "NotNow",
    "PendingCode",
    "TooLarge",
    "Unusable",
    "Usable",
    "challenge",
    "error_response",
    "is_busy",
    "is_redirect",
    "kept_headers",
    "note_success",
    "read_answer",
    "retry_after",
    "unavailable",
    "unusable",
    "violation",
]

Members = Mapping[str, Any]

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


def is_redirect(response: HttpResponse) -> bool:
    """Tell whether it is a redirect: whatever its body says, it comes from somewhere in between."""
    return 300 <= response.status < 400


def retry_after(response: HttpResponse, now: float) -> float | None:
    """Return the seconds of ``Retry-After``, or ``None``."""
    value = response.header("Retry-After")
    return None if value is None else parse_retry_after(value, response.header("Date"), now)


_LONGEST_HEADER: Final = 1024
"""Characters."""


def kept_headers(response: HttpResponse, client: ClientConfig) -> dict[str, str]:
    """Return the header fields of `ClientConfig.answer_headers` that are there, of a reasonable length."""
    kept: dict[str, str] = {}
    for name in client.answer_headers:
        value = response.header(name)
        if value and len(value) <= _LONGEST_HEADER and value.isascii() and value.isprintable():
            kept[name.lower()] = value
    return kept


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
        # These texts only help people: one of a wrong type does not invalidate the error code.
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
    note_success(response, noted)
    return None


def note_success(response: HttpResponse, noted: list[ProviderDeviation]) -> None:
    """Note that a JSON object came with another status than 200, or under another media type, or none."""
    if response.status != 200:
        noted.append(ProviderDeviation("RFC 6749 5.1: status", f"{response.status}; taken as 200"))
    if response.media_type != "application/json":
        said = "another media type" if response.media_type else "no media type"
        noted.append(ProviderDeviation("RFC 8259 11: application/json", f"{said}; the body is JSON"))


# --- reading an answer -----------------------------------------------------------------------------------


@frozen(weakref_slot=False)
class Usable:
    """An answer of the form that was asked for; what stands in it is still to be read."""

    members: dict[str, Any] | JsonFault = field(repr=False)
    """The JSON object of its body. A `JsonFault` where the request asked for another form than JSON."""


@frozen(weakref_slot=False)
class PendingCode:
    """An error code that is no error to the caller."""

    code: str


@frozen(weakref_slot=False)
class TooLarge:
    """An answer beyond the client's limits. It was not read, good or bad."""

    reason: str
    """The limit; without secrets."""


@frozen(weakref_slot=False)
class NotNow:
    """The answer of a busy server, or of something in front of it: it says nothing about the request."""

    reason: str
    """Short and without secrets."""
    may_have_acted: bool
    """Whether the provider may have acted on the request all the same."""


@frozen(weakref_slot=False)
class Intercepted:
    """An answer that something in front of the provider has given, and no verdict of the provider."""

    members: Members | JsonFault = field(repr=False)
    """Its JSON object, if it is one."""


@frozen(weakref_slot=False)
class Unusable:
    """An answer that is neither an error nor what was asked for."""

    broken: RemoteProtocolError
    """The rule that it breaks."""
    members: Members | JsonFault = field(repr=False)
    """Its JSON object, if it is one."""


Check = Callable[
    [Members | JsonFault, HttpResponse, Endpoint, list[ProviderDeviation]], RemoteProtocolError | None
]
"""Says which rule an answer breaks that is to be a success."""
Answer = (
    Usable | PendingCode | ErrorResponse | RemoteProtocolError | TooLarge | NotNow | Intercepted | Unusable
)
"""The kinds of answers. A `RemoteProtocolError` stands for an ``error`` member that breaks a rule."""


def error_in_body(members: Members | JsonFault, response: HttpResponse) -> Members | None:
    """Return what has an ``error`` (RFC 6749 5.2): the body, unless something in between has written it."""
    if isinstance(members, JsonFault) or is_absent(members.get("error")) or is_redirect(response):
        return None
    return members


def read_answer(
    response: HttpResponse,
    *,
    client: ClientConfig,
    endpoint: Endpoint,
    now: float,
    noted: list[ProviderDeviation],
    pending: Container[str] = (),
    told: Callable[[Members | JsonFault, HttpResponse], Members | None] = error_in_body,
    check: Check = unusable,
    user_is_asked: bool = False,
) -> Answer:
    """Read the answer of an endpoint. The order of the questions is the same for all of them.

    1. Is it too large? The driver has cut it off, so that nothing in it can be trusted to be whole.
    2. Does it tell an error? The code decides, not the status: providers send the same code with 400, 401,
       403, 429 and 503. The body of a redirect comes from somewhere in between and tells nothing.
    3. Does the error speak of the server alone (``server_error`` with 500, or a code that nobody has
       registered)? Then it is the next case.
    4. Is the status one that says "not now"? Then it says nothing about the request.
    5. Does it come from something in front of the provider? This is asked only while the user is being asked,
       when another request costs little and the end of the wait would cost the user's answer. It is asked of
       errors too: ``{"error": "Forbidden"}`` is no OAuth error.
    6. Is it what was asked for? What is left claims to be a success, and has to look like one.

    Args:
        response: the answer.
        client: the client, whose limits hold.
        endpoint: where it came from.
        now: POSIX instant at which it came.
        noted: takes what deviates from the standard and is read all the same.
        pending: error codes that are no errors to the caller, such as ``authorization_pending``.
        told: finds what has the ``error``. UserInfo has it in a challenge (RFC 6750 3).
        check: says which rule an answer breaks that is to be a success.
        user_is_asked: whether the user is being asked meanwhile: then an answer that is neither tokens nor an
            OAuth error, whatever its status, is `Intercepted`.

    """
    oversize = client.limits.exceeded_by(response)
    if oversize is not None:
        return TooLarge(oversize)
    members = parse_body(response.body, depth_limit=client.limits.json_depth, noted=noted)
    telling = told(members, response)
    gateway_error = False
    if telling is not None:
        code = telling["error"]
        if isinstance(code, str) and code in pending:
            return PendingCode(code)
        error = error_response(telling, response, client, endpoint, now)
        gateway_error = user_is_asked and is_gateway_error(telling)
        if not gateway_error and not (is_busy(response) and type(error) in _TRANSIENT):
            return error
    if is_busy(response):
        return NotNow(f"status {response.status}", response.status not in _NOT_ACTED_ON)
    if gateway_error or (user_is_asked and is_intercepted(members, response)):
        return Intercepted(members)
    broken = check(members, response, endpoint, noted)
    return Usable(members) if broken is None else Unusable(broken, members)


# --- challenges ------------------------------------------------------------------------------------------

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
