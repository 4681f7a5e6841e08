"""Answers of the token endpoint: what is the same for all grants (RFC 6749 5)."""

from __future__ import annotations

from collections.abc import Container
from typing import assert_never

from attrs import frozen

from ciba_core.client.config import ClientConfig
from ciba_core.jose.dpop import DpopKey
from ciba_core.provider.answers import (
    Intercepted,
    NotNow,
    PendingCode,
    TooLarge,
    Unusable,
    Usable,
    is_redirect,
    read_answer,
)
from ciba_core.tokens.issued import TokenResponse
from ciba_core.tokens.response import parse_token_response, rejected
from ciba_core.values.errors import Endpoint, ErrorResponse, RemoteProtocolError, TooManyRequests
from ciba_core.values.http import HttpResponse
from ciba_core.values.json import JsonFault
from ciba_core.values.lenient import ProviderDeviation
from ciba_core.values.secret import Guarded

__all__ = ["Unanswered", "read_token_answer"]


@frozen(weakref_slot=False)
class Unanswered:
    """An answer that says nothing about the grant."""

    reason: str
    """Short and without secrets."""
    lost: bool
    """Whether the provider may have acted on the request all the same, so that tokens may be lost."""
    intercepted: bool = False
    """Whether it comes from something in front of the provider; see `ciba_core.provider.intercepted`."""


def read_token_answer(
    response: HttpResponse,
    *,
    client: ClientConfig,
    requested_scope: str,
    dpop_key: DpopKey | None,
    now: float,
    noted: list[ProviderDeviation],
    pending: Container[str] = (),
    id_token_optional: bool = False,
    user_is_asked: bool = False,
    bearer_too: bool = False,
) -> Guarded[TokenResponse] | PendingCode | ErrorResponse | RemoteProtocolError | Unanswered:
    """Read an answer.

    Args:
        response: the answer.
        client: the client.
        requested_scope: the scope that was granted if the answer names none.
        dpop_key: the key that the tokens have to be bound to, or ``None`` for bearer tokens.
        now: POSIX instant at which the answer came.
        noted: takes what deviates from the standard and is read all the same.
        pending: error codes that are no errors to the caller, such as ``authorization_pending``.
        id_token_optional: whether the ID Token may be missing although ``openid`` was asked for.
        user_is_asked: whether the user is being asked meanwhile: then an answer that is neither tokens nor an
            OAuth error, whatever its status, is `Unanswered`.
        bearer_too: whether bearer tokens will do although there is a key.

    Returns:
        Tokens, whose ID Token is still to be validated; one of `pending`; an error, which is
        `TokensRejected` if tokens came with it; or `Unanswered`.

    """
    answer = read_answer(
        response,
        client=client,
        endpoint=Endpoint.TOKEN,
        now=now,
        noted=noted,
        pending=pending,
        user_is_asked=user_is_asked,
    )
    match answer:
        case PendingCode():
            return answer
        case TooManyRequests():
            return Unanswered("too_many_requests", lost=False)
        case ErrorResponse() | RemoteProtocolError():
            return answer
        case TooLarge():
            return Unanswered(answer.reason, lost=True)
        case NotNow():
            return Unanswered(answer.reason, lost=answer.may_have_acted)
        case Unusable(members=JsonFault.SYNTAX) | Intercepted(members=JsonFault.SYNTAX) if (
            response.status == 200
        ):
            # This is the page of a proxy, or an answer with tokens that was cut short.
            cut_short = response.body.lstrip().startswith(b"{")
            return Unanswered("200 with a body that is not JSON", lost=True, intercepted=not cut_short)
        case Intercepted():
            # The provider may have issued tokens that the gateway did not pass on.
            reason = f"status {response.status} with neither tokens nor an OAuth error"
            return Unanswered(reason, lost=True, intercepted=True)
        case Unusable(broken, members):
            if isinstance(members, JsonFault) or is_redirect(response):
                return broken
            return rejected(broken, members, requested_scope=requested_scope, dpop_key=dpop_key)
        case Usable(members):
            assert not isinstance(members, JsonFault)  # noqa: S101  # it was checked; for the type checker
            return parse_token_response(
                members,
                endpoint=Endpoint.TOKEN,
                requested_scope=requested_scope,
                dpop_key=dpop_key,
                string_limit=client.limits.string,
                now=now,
                noted=noted,
                id_token_optional=id_token_optional,
                bearer_too=bearer_too,
            )
        case _:
            assert_never(answer)
