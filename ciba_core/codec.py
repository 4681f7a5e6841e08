"""From an HTTP answer to the one CIBA event that it means (Core 7.3, 10.1.1, 11, 13).

The body decides, not the status: providers send the same error code with 400, 401, 403 and 429. What cannot
be understood is told apart into faults, after which polling goes on, and violations, which end the
transaction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ciba_core._json import JsonFault, parse_object
from ciba_core.config import ClientConfig
from ciba_core.errors import (
    ERROR_CLASSES,
    AccessDenied,
    Endpoint,
    ErrorResponse,
    ExpiredToken,
    InvalidGrant,
    ProviderUnavailable,
    RemoteProtocolError,
    ServerError,
    TemporarilyUnavailable,
    TokenResponseLost,
    TooManyRequests,
)
from ciba_core.events import (
    AuthenticationRefused,
    AuthenticationRequestFailed,
    AuthorizationPending,
    AuthReqIdExpired,
    AuthReqIdIssued,
    PollFailed,
    ProviderDeviation,
    SlowDown,
    TokenRequestFailed,
    TokensIssued,
    Transition,
    UserDenied,
)
from ciba_core.http import HttpResponse
from ciba_core.polling import (
    DEFAULT_INTERVAL,
    SLOW_DOWN_INCREMENT,
    bounded_seconds,
    interval_from,
    parse_retry_after,
    wait_after_answer,
    wait_after_fault,
)
from ciba_core.secret import Secret
from ciba_core.states import Polling
from ciba_core.token_response import TokenResponseError, parse_token_response

__all__ = ["decode_acknowledgement", "decode_token_answer", "poll_failed"]

_AUTH_REQ_ID: Final = re.compile(r"[A-Za-z0-9._-]+")
# Statuses that say "not now" and nothing about the request itself (RFC 9110 15.5.9, RFC 8470, RFC 6585 4);
# those of 500 and above join them.
_BUSY: Final = frozenset({408, 425, 429})
# Answers of a provider, or of what stands before it, that certainly did not act on the request.
_NOT_ACTED_ON: Final = frozenset({408, 425, 429, 503})

Members = Mapping[str, Any]


def _violation(endpoint: Endpoint, message: str, rule: str) -> RemoteProtocolError:
    return RemoteProtocolError(message, rule=rule, endpoint=endpoint)


def _too_large(response: HttpResponse, client: ClientConfig) -> str | None:
    limits = client.limits
    if len(response.body) > limits.body:
        return f"answer larger than {limits.body} octets"
    octets = 0
    for name, value in response.headers:
        octets += len(name) + len(value)
    if octets > limits.headers:
        return f"header fields larger than {limits.headers} octets"
    return None


def _is_redirect(response: HttpResponse) -> bool:
    # Whatever its body says: it comes from somewhere in between.
    return 300 <= response.status < 400


def _retry_after(response: HttpResponse, now: float) -> float | None:
    value = response.header("Retry-After")
    return None if value is None else parse_retry_after(value, response.header("Date"), now)


def _error_response(
    members: Members, response: HttpResponse, client: ClientConfig, endpoint: Endpoint, now: float
) -> ErrorResponse | RemoteProtocolError:
    """Read an error response (RFC 6749 5.2); `members` has an ``error``."""

    def text(name: str) -> str | None:
        value = members.get(name)
        return value if isinstance(value, str) and 0 < len(value) <= client.limits.string else None

    code = text("error")
    if code is None:
        return _violation(endpoint, "error is not a non-empty string", "RFC 6749 5.2")
    return ERROR_CLASSES[endpoint].get(code, ErrorResponse)(
        code,
        endpoint=endpoint,
        status=response.status,
        # Helpful texts; a wrong type there is no reason to lose the code.
        error_description=text("error_description"),
        error_uri=text("error_uri"),
        retry_after=_retry_after(response, now),
    )


def _unusable(
    members: Members | JsonFault, response: HttpResponse, endpoint: Endpoint
) -> RemoteProtocolError | None:
    """Say which rule an answer without ``error`` breaks when it is to be a success."""
    if _is_redirect(response):
        return _violation(endpoint, f"a redirect ({response.status}) is not followed", "RFC 6749 3.2")
    if response.status != 200:
        return _violation(endpoint, f"status {response.status} without an error code", "RFC 6749 5.2")
    if isinstance(members, JsonFault):
        return _violation(endpoint, f"the answer is {members.value}", "RFC 6749 5.1")
    if response.media_type != "application/json":
        return _violation(endpoint, "the answer is not application/json", "RFC 6749 5.1")
    return None


def decode_acknowledgement(
    response: HttpResponse, *, client: ClientConfig, now: float
) -> tuple[Transition, tuple[ProviderDeviation, ...]]:
    """Decode the answer to an authentication request (CIBA Core 7.3 and 13)."""
    endpoint = Endpoint.BACKCHANNEL_AUTHENTICATION
    too_large = _too_large(response, client)
    if too_large is not None:
        return AuthenticationRequestFailed(_violation(endpoint, too_large, "size limit")), ()
    members = parse_object(response.body, depth_limit=client.limits.json_depth)
    if not isinstance(members, JsonFault) and "error" in members and not _is_redirect(response):
        error = _error_response(members, response, client, endpoint, now)
        if isinstance(error, RemoteProtocolError):
            return AuthenticationRequestFailed(error), ()
        return AuthenticationRefused(error), ()
    if response.status in _BUSY or response.status >= 500:
        return AuthenticationRequestFailed(
            ProviderUnavailable(
                "the provider cannot take authentication requests just now",
                reason=f"status {response.status}",
                status=response.status,
                retry_after=_retry_after(response, now),
            )
        ), ()
    unusable = _unusable(members, response, endpoint)
    if unusable is not None:
        return AuthenticationRequestFailed(unusable), ()
    assert not isinstance(members, JsonFault)  # noqa: S101  # `_unusable` has told; for the type checker
    return _acknowledgement(members, client, now)


def _acknowledgement(
    members: Members, client: ClientConfig, now: float
) -> tuple[Transition, tuple[ProviderDeviation, ...]]:
    endpoint = Endpoint.BACKCHANNEL_AUTHENTICATION
    deviations: list[ProviderDeviation] = []

    def broken(message: str, member: str) -> tuple[Transition, tuple[ProviderDeviation, ...]]:
        return AuthenticationRequestFailed(_violation(endpoint, message, f"CIBA Core 7.3: {member}")), ()

    auth_req_id = members.get("auth_req_id")
    if not isinstance(auth_req_id, str) or not auth_req_id:
        missing = "missing" if "auth_req_id" not in members else "not a non-empty string"
        return broken(f"auth_req_id is {missing}", "auth_req_id")
    if len(auth_req_id) > client.limits.string:
        return broken(f"auth_req_id is longer than {client.limits.string} characters", "auth_req_id")
    if not _AUTH_REQ_ID.fullmatch(auth_req_id):
        # Harmless, since it is form-encoded like every value.
        deviations.append(
            ProviderDeviation(
                "CIBA Core 7.3: auth_req_id", "characters outside A-Z a-z 0-9 . - _; used as it is"
            )
        )

    if "expires_in" not in members:
        return broken("expires_in is missing", "expires_in")
    expires_in = bounded_seconds(members["expires_in"])
    if expires_in is None or expires_in < 1:
        return broken("expires_in is not a positive number of seconds", "expires_in")
    # A fraction is cut off: the client must not go on after the provider has ended.
    expires_in = float(int(expires_in))

    interval = DEFAULT_INTERVAL
    if "interval" in members:
        given = bounded_seconds(members["interval"])
        if given is None:
            return broken("interval is not a number of seconds", "interval")
        interval = interval_from(given)
        if given <= 0:
            deviations.append(
                ProviderDeviation("CIBA Core 7.3: interval", "not positive; the default of 5 seconds is used")
            )
    first = client.polling.first_poll_after
    return AuthReqIdIssued(
        auth_req_id=Secret(auth_req_id),
        expires_at=now + expires_in,
        interval=interval,
        next_poll_at=now + (interval if first is None else first),
    ), tuple(deviations)


def poll_failed(
    state: Polling,
    *,
    client: ClientConfig,
    reason: str,
    answer_lost: bool,
    elapsed: float,
    now: float,
    retry_after: float | None = None,
) -> PollFailed:
    """Return the event for a poll without an answer to go by, with the time of the next one."""
    faults = state.faults + 1
    if retry_after is None:
        chance = int.from_bytes(client.entropy(4), "big") / 0xFFFFFFFF
        wait = wait_after_fault(
            client.polling,
            interval=state.interval,
            elapsed=elapsed,
            faults=faults,
            remaining=state.expires_at - now,
            chance=chance,
        )
    else:
        wait = wait_after_answer(
            client.polling, interval=state.interval, elapsed=elapsed, retry_after=retry_after
        )
    return PollFailed(
        interval=state.interval,
        next_poll_at=now + wait,
        faults=faults,
        answer_lost=state.answer_lost or answer_lost,
        reason=reason,
    )


def decode_token_answer(
    response: HttpResponse, state: Polling, *, client: ClientConfig, elapsed: float, now: float
) -> Transition:
    """Decode the answer to a poll (CIBA Core 10.1.1 and 11)."""

    def fault(reason: str, *, answer_lost: bool) -> PollFailed:
        return poll_failed(
            state,
            client=client,
            reason=reason,
            answer_lost=answer_lost,
            elapsed=elapsed,
            now=now,
            retry_after=_retry_after(response, now),
        )

    endpoint = Endpoint.TOKEN
    too_large = _too_large(response, client)
    if too_large is not None:
        return fault(too_large, answer_lost=True)
    members = parse_object(response.body, depth_limit=client.limits.json_depth)
    busy = response.status in _BUSY or response.status >= 500
    if not isinstance(members, JsonFault) and "error" in members and not _is_redirect(response):
        code = members["error"]
        if code in ("authorization_pending", "slow_down"):
            return _still_pending(
                response, state, slow_down=code == "slow_down", client=client, elapsed=elapsed, now=now
            )
        error = _error_response(members, response, client, endpoint, now)
        if isinstance(error, TooManyRequests):
            return fault("too_many_requests", answer_lost=False)
        if not (busy and type(error) in _TRANSIENT):
            return _final(error, state)
    if busy:
        return fault(f"status {response.status}", answer_lost=response.status not in _NOT_ACTED_ON)
    if response.status == 200 and members is JsonFault.SYNTAX:
        # A page of some middlebox, or tokens cut short.
        return fault("200 with a body that is not JSON", answer_lost=True)
    unusable = _unusable(members, response, endpoint)
    if unusable is not None:
        return TokenRequestFailed(unusable)
    assert not isinstance(members, JsonFault)  # noqa: S101  # `_unusable` has told; for the type checker
    try:
        tokens = parse_token_response(
            members, requested_scope=state.scope, string_limit=client.limits.string, now=now
        )
    except TokenResponseError as problem:
        violation = _violation(endpoint, str(problem), problem.rule)
    else:
        return TokensIssued(tokens)
    return TokenRequestFailed(violation)


# With a status of 500 and above, or 429, these are a state of the server and not of the authentication; so
# are codes that nobody registered and error members that are no string.
_TRANSIENT: Final = frozenset({ServerError, TemporarilyUnavailable, ErrorResponse, RemoteProtocolError})


def _still_pending(
    response: HttpResponse,
    state: Polling,
    *,
    slow_down: bool,
    client: ClientConfig,
    elapsed: float,
    now: float,
) -> AuthorizationPending | SlowDown:
    interval = state.interval + SLOW_DOWN_INCREMENT if slow_down else state.interval
    wait = wait_after_answer(
        client.polling, interval=interval, elapsed=elapsed, retry_after=_retry_after(response, now) or 0.0
    )
    # Any answer of the provider itself ends a run of faults; and whoever is still pending got no tokens.
    event = SlowDown if slow_down else AuthorizationPending
    return event(interval=interval, next_poll_at=now + wait, faults=0, answer_lost=False)


def _final(error: ErrorResponse | RemoteProtocolError, state: Polling) -> Transition:
    match error:
        case AccessDenied():
            return UserDenied(error)
        case ExpiredToken():
            return AuthReqIdExpired(error)
        case InvalidGrant() if state.answer_lost:
            return TokenRequestFailed(
                TokenResponseLost(
                    error.error,
                    endpoint=error.endpoint,
                    status=error.status,
                    error_description=error.error_description,
                    error_uri=error.error_uri,
                    retry_after=error.retry_after,
                )
            )
        case _:
            return TokenRequestFailed(error)
