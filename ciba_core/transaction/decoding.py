"""From an HTTP answer to the one CIBA event that it means (Core 7.3, 10.1.1, 11, 13).

`ciba_core.provider.answers` reads what all answers have in common. What cannot be understood is told apart
into faults, after which polling goes on, and violations, which end the transaction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, assert_never

from ciba_core.callbacks.notification import Notification
from ciba_core.client.config import ClientConfig
from ciba_core.client.polling import (
    DEFAULT_INTERVAL,
    SLOW_DOWN_INCREMENT,
    bounded_seconds,
    chance,
    first_poll_at,
    interval_from,
    polls,
    wait_after_answer,
    wait_after_fault,
)
from ciba_core.jose.dpop import DpopKey, supplied_nonce
from ciba_core.provider.answers import (
    Members,
    NotNow,
    PendingCode,
    TooLarge,
    Unusable,
    Usable,
    error_response,
    read_answer,
    retry_after,
    unavailable,
    violation,
)
from ciba_core.provider.terms import CIBA
from ciba_core.tokens.endpoint import Unanswered, read_token_answer
from ciba_core.tokens.errors import TokensRejected
from ciba_core.tokens.issued import TokenResponse
from ciba_core.tokens.response import parse_token_response, rejected
from ciba_core.transaction.events import (
    AuthenticationRefused,
    AuthenticationRequestFailed,
    AuthorizationPending,
    AuthReqIdExpired,
    AuthReqIdIssued,
    DpopNonceRequired,
    ErrorPushed,
    PollFailed,
    PollsIntercepted,
    PushRejected,
    SlowDown,
    TokenRequestFailed,
    TokensUntrusted,
    Transition,
    UserDenied,
)
from ciba_core.transaction.states import Pending, Polling, SigningPoll
from ciba_core.values.errors import (
    AccessDenied,
    AcknowledgementLost,
    Endpoint,
    ErrorResponse,
    ExpiredToken,
    InvalidGrant,
    ProviderUnavailable,
    RemoteProtocolError,
    TokenResponseLost,
)
from ciba_core.values.http import HttpResponse
from ciba_core.values.json import NO_MEMBERS, FrozenMapping, JsonFault, dumps
from ciba_core.values.lenient import ProviderDeviation, number, present
from ciba_core.values.secret import Guarded, Secret

__all__ = ["decode_acknowledgement", "decode_push", "decode_token_answer", "poll_failed"]

_CORE: Final = "CIBA Core 7.3"
_AUTH_REQ_ID: Final = re.compile(r"[A-Za-z0-9._-]+")


def decode_acknowledgement(
    response: HttpResponse, *, client: ClientConfig, now: float
) -> tuple[Transition, tuple[ProviderDeviation, ...]]:
    """Decode the answer to an authentication request (CIBA Core 7.3 and 13)."""
    endpoint = Endpoint.BACKCHANNEL_AUTHENTICATION
    noted: list[ProviderDeviation] = []
    answer = read_answer(response, client=client, endpoint=endpoint, now=now, noted=noted)
    match answer:
        case ErrorResponse():
            return AuthenticationRefused(answer), tuple(noted)
        case RemoteProtocolError():
            return AuthenticationRequestFailed(answer), ()
        case TooLarge(reason):
            return AuthenticationRequestFailed(violation(endpoint, reason, "size limit")), ()
        case NotNow():
            return AuthenticationRequestFailed(_not_taken(answer, response, now)), ()
        case Unusable(broken):
            return AuthenticationRequestFailed(broken), ()
        case _:
            assert isinstance(answer, Usable)  # noqa: S101  # nothing is pending yet; for the type checker
            assert not isinstance(answer.members, JsonFault)  # noqa: S101  # it was checked
            return _acknowledgement(answer.members, client, now, noted)


def _not_taken(
    answer: NotNow, response: HttpResponse, now: float
) -> ProviderUnavailable | AcknowledgementLost:
    if answer.may_have_acted:
        return AcknowledgementLost(
            "the provider failed; it may have asked the user all the same", reason=answer.reason
        )
    return unavailable("the provider cannot take authentication requests just now", response, now)


def _acknowledgement(
    members: Members, client: ClientConfig, now: float, noted: list[ProviderDeviation]
) -> tuple[Transition, tuple[ProviderDeviation, ...]]:
    endpoint = Endpoint.BACKCHANNEL_AUTHENTICATION

    def broken(message: str, member: str) -> tuple[Transition, tuple[ProviderDeviation, ...]]:
        return AuthenticationRequestFailed(violation(endpoint, message, f"CIBA Core 7.3: {member}")), ()

    auth_req_id = members.get(CIBA.handle)
    if not isinstance(auth_req_id, str) or not auth_req_id:
        missing = "missing" if CIBA.handle not in members else "not a non-empty string"
        return broken(f"{CIBA.handle} is {missing}", CIBA.handle)
    if len(auth_req_id) > client.limits.string:
        return broken(f"{CIBA.handle} is longer than {client.limits.string} characters", CIBA.handle)
    if not _AUTH_REQ_ID.fullmatch(auth_req_id):
        # Such characters do no harm: the value is form-encoded like every other one.
        noted.append(
            ProviderDeviation(
                "CIBA Core 7.3: auth_req_id", "characters outside A-Z a-z 0-9 . - _; used as it is"
            )
        )

    if "expires_in" not in members:
        return broken("expires_in is missing", "expires_in")
    expires_in = bounded_seconds(number(members, "expires_in", _CORE, noted))
    if expires_in is None or expires_in < 1:
        return broken("expires_in is not a positive number of seconds", "expires_in")
    # A fraction is cut off: the client must not go on after the provider has ended.
    expires_in = float(int(expires_in))

    interval = DEFAULT_INTERVAL
    if present(members, "interval", _CORE, noted):
        given = bounded_seconds(number(members, "interval", _CORE, noted))
        if given is None and client.backchannel_token_delivery_mode == "push":  # noqa: S105  # a mode
            # A client in push mode does not poll, and so does not need an interval.
            given = 0.0
        if given is None:
            return broken("interval is not a number of seconds", "interval")
        interval = interval_from(given)
        if given <= 0:
            noted.append(
                ProviderDeviation("CIBA Core 7.3: interval", "not positive; the default of 5 seconds is used")
            )
    first = first_poll_at(
        client.polling,
        client.backchannel_token_delivery_mode,
        interval=interval,
        expires_in=expires_in,
        now=now,
    )
    return AuthReqIdIssued(
        auth_req_id=Secret(auth_req_id),
        expires_at=now + expires_in,
        interval=interval,
        next_poll_at=first,
        extra=_unknown_members(members, client.limits.string, noted),
    ), tuple(noted)


_ACKNOWLEDGED: Final = frozenset({"auth_req_id", "expires_in", "interval", "error"})


def _unknown_members(members: Members, limit: int, noted: list[ProviderDeviation]) -> Mapping[str, Any]:
    """Return the members that the standard does not know, but for what is beyond `limit` characters of JSON.

    They stay with the transaction to its end and are in every snapshot, so that their size matters.
    """
    kept: dict[str, Any] = {}
    for name, value in members.items():
        if name not in _ACKNOWLEDGED:
            limit -= len(dumps({name: value}))
            if limit < 0:
                message = "unknown members are too large; not all of them are kept"
                noted.append(ProviderDeviation(_CORE, message))
                break
            kept[name] = value
    return FrozenMapping(kept) if kept else NO_MEMBERS


def poll_failed(
    state: Pending | SigningPoll | Polling,
    *,
    client: ClientConfig,
    reason: str,
    answer_lost: bool,
    elapsed: float | None,
    now: float,
    retry_after: float | None = None,
    intercepted: bool = False,
) -> PollFailed:
    """Return the event for a poll without an answer to go by, with the time of the next one."""
    faults = state.faults + 1
    if retry_after is None:
        wait = wait_after_fault(
            client.polling,
            interval=state.interval,
            elapsed=elapsed,
            faults=faults,
            remaining=state.expires_at - now,
            chance=chance(client.entropy),
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
        intercepted=state.intercepted + intercepted,
    )


def decode_token_answer(
    response: HttpResponse,
    state: Polling,
    *,
    client: ClientConfig,
    dpop_key: DpopKey | None,
    elapsed: float | None,
    now: float,
    noted: list[ProviderDeviation],
    bearer_too: bool = False,
) -> Transition | Guarded[TokenResponse]:
    """Decode the answer to a poll (CIBA Core 10.1.1 and 11). Tokens in it are still to be validated.

    `noted` takes what deviates from the standard and is read all the same, here and in `decode_push`;
    `bearer_too` tells whether bearer tokens will do although there is a `dpop_key`.
    """
    answer = read_token_answer(
        response,
        client=client,
        requested_scope=state.requested.scope,
        dpop_key=dpop_key,
        now=now,
        noted=noted,
        user_is_asked=True,
        bearer_too=bearer_too,
        # A client that sends no proof can do nothing with a nonce.
        pending=_PENDING if dpop_key is None else _STILL_PENDING,
    )
    match answer:
        case PendingCode(code):
            event = _STILL_PENDING[code]
            if event is DpopNonceRequired and supplied_nonce(response) is None:
                return TokenRequestFailed(
                    violation(Endpoint.TOKEN, "DPoP-Nonce is missing or malformed", "RFC 9449 8")
                )
            return _still_pending(response, state, event, client=client, elapsed=elapsed, now=now)
        case Unanswered():
            failed = poll_failed(
                state,
                client=client,
                reason=answer.reason,
                answer_lost=answer.lost,
                elapsed=elapsed,
                now=now,
                retry_after=retry_after(response, now),
                intercepted=answer.intercepted,
            )
            return _intercepted(failed, client, noted) if answer.intercepted else failed
        case Guarded():
            return answer
        case ErrorResponse() | RemoteProtocolError():
            return _final(answer, state, client, now)
        case _:
            assert_never(answer)


def decode_push(
    notification: Notification,
    state: Pending,
    *,
    client: ClientConfig,
    dpop_key: DpopKey | None,
    now: float,
    noted: list[ProviderDeviation],
    bearer_too: bool = False,
) -> UserDenied | AuthReqIdExpired | ErrorPushed | PushRejected | Guarded[TokenResponse]:
    """Decode what was pushed (CIBA Core 10.3.1 and 12). Tokens in it are still to be validated."""
    endpoint = Endpoint.CLIENT_NOTIFICATION
    members = {name: value for name, value in notification.members.items() if name != CIBA.handle}
    if not present(members, "error", "CIBA Core 12", noted):
        tokens = parse_token_response(
            members,
            endpoint=endpoint,
            requested_scope=state.requested.scope,
            dpop_key=dpop_key,
            string_limit=client.limits.string,
            now=now,
            noted=noted,
            bearer_too=bearer_too,
        )
        return PushRejected(tokens) if isinstance(tokens, RemoteProtocolError) else tokens
    tokens_beside = [name for name in _TOKENS if present(members, name, "CIBA Core 12", noted)]
    if tokens_beside:
        both = violation(endpoint, "an error and tokens together", "CIBA Core 12")
        return PushRejected(rejected(both, members, requested_scope=state.requested.scope, dpop_key=dpop_key))
    error = error_response(members, None, client, endpoint, now)
    match error:
        case RemoteProtocolError():
            return PushRejected(error)
        case AccessDenied():
            return _denied(error, state, client, now)
        case ExpiredToken():
            return AuthReqIdExpired(error)
        case _:
            return ErrorPushed(error)


_TOKENS: Final = ("access_token", "id_token", "refresh_token")


_STILL_PENDING: Final[dict[str, type[AuthorizationPending | SlowDown | DpopNonceRequired]]] = {
    CIBA.pending: AuthorizationPending,
    CIBA.slow_down: SlowDown,
    "use_dpop_nonce": DpopNonceRequired,
}
_PENDING: Final = _STILL_PENDING.keys() - {"use_dpop_nonce"}


def _still_pending(
    response: HttpResponse,
    state: Polling,
    event: type[AuthorizationPending | SlowDown | DpopNonceRequired],
    *,
    client: ClientConfig,
    elapsed: float | None,
    now: float,
) -> AuthorizationPending | SlowDown | DpopNonceRequired:
    interval = state.interval + (SLOW_DOWN_INCREMENT if event is SlowDown else 0.0)
    asked = retry_after(response, now) or 0.0
    wait = wait_after_answer(
        client.polling,
        interval=interval,
        elapsed=elapsed,
        retry_after=asked,
        slow_down=event is SlowDown,
    )
    # Any answer of the provider itself ends a run of faults. Whoever is still pending got no tokens; but one
    # may be told to slow down, or asked for a nonce, before the state of the authentication is looked at.
    lost = state.answer_lost and event is not AuthorizationPending
    next_poll_at: float | None = now + wait
    if state.poll_again:
        # The interval does not hold for the token request after a ping (CIBA Core 10.2); Retry-After does.
        next_poll_at = now + asked
    elif event is not DpopNonceRequired and not polls(
        client.polling, client.backchannel_token_delivery_mode, pinged=state.pinged
    ):
        # This was the one poll that is made when no ping has come; the ping can still come.
        next_poll_at = None
    return event(interval=interval, next_poll_at=next_poll_at, faults=0, answer_lost=lost)


_TOLD_AT: Final = 3
"""Answers in a row of something in front of the provider that are worth an event."""


def _intercepted(failed: PollFailed, client: ClientConfig, noted: list[ProviderDeviation]) -> Transition:
    """Say that something in front of the provider keeps answering, and end it where the policy says so."""
    rule, count, limit = "RFC 6749 5", failed.intercepted, client.polling.intercepted_limit
    if limit is not None and count >= limit:
        message = f"something in front of it has answered {count} polls in a row; the last: {failed.reason}"
        return TokenRequestFailed(violation(Endpoint.TOKEN, message, rule))
    if count == _TOLD_AT:
        message = "something in front of the token endpoint has answered in its place; polling goes on"
        noted.append(PollsIntercepted(rule=rule, message=message, count=count))
    return failed


def _final(
    error: ErrorResponse | RemoteProtocolError, state: Polling, client: ClientConfig, now: float
) -> Transition:
    match error:
        case AccessDenied():
            return _denied(error, state, client, now)
        case ExpiredToken():
            return AuthReqIdExpired(ExpiredToken(**{**vars(error), **state.course.told()}))
        case InvalidGrant() if state.answer_lost:
            return TokenRequestFailed(TokenResponseLost(**vars(error)))
        case TokensRejected():
            return TokensUntrusted(error)
        case _:
            return TokenRequestFailed(error)


def _denied(
    error: AccessDenied, state: Polling | Pending, client: ClientConfig, now: float
) -> UserDenied | AuthReqIdExpired:
    if client.profile.denied_may_mean_expired and now >= state.expires_at - state.interval:
        return AuthReqIdExpired(ExpiredToken(**vars(error)))
    return UserDenied(error)
