"""Answers of the token endpoint: what is the same for all grants (RFC 6749 5).

The body decides, not the status: providers send the same error code with 400, 401, 403 and 429. The answer of
a busy server, or of a proxy in front of it, says nothing about the grant.
"""

from __future__ import annotations

from collections.abc import Container

from attrs import frozen

from ciba_core.client.config import ClientConfig
from ciba_core.jose.dpop import DpopKey
from ciba_core.provider.answers import (
    error_response,
    has_error,
    is_busy,
    is_redirect,
    is_transient,
    may_have_acted,
    too_large,
    unusable,
)
from ciba_core.provider.intercepted import is_gateway_error, is_intercepted
from ciba_core.tokens.issued import TokenResponse
from ciba_core.tokens.response import parse_token_response, rejected
from ciba_core.values.errors import Endpoint, ErrorResponse, RemoteProtocolError, TooManyRequests
from ciba_core.values.http import HttpResponse
from ciba_core.values.json import JsonFault
from ciba_core.values.lenient import ProviderDeviation, parse_body
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
    statuses: Container[str] = (),
    id_token_optional: bool = False,
    user_is_asked: bool = False,
) -> Guarded[TokenResponse] | str | ErrorResponse | RemoteProtocolError | Unanswered:
    """Read an answer.

    Args:
        response: the answer.
        client: the client.
        requested_scope: the scope that was granted if the answer names none.
        dpop_key: the key that the tokens have to be bound to, or ``None`` for bearer tokens.
        now: POSIX instant at which the answer came.
        noted: takes what deviates from the standard and is read all the same.
        statuses: error codes that are not errors to the caller, such as ``authorization_pending``.
        id_token_optional: whether the ID Token may be missing although ``openid`` was asked for.
        user_is_asked: whether the user is being asked meanwhile: then an answer that is neither tokens nor an
            OAuth error, whatever its status, is `Unanswered`.

    Returns:
        Tokens, whose ID Token is still to be validated; one of `statuses`; an error, which is
        `TokensRejected` if tokens came with it; or `Unanswered`.

    """
    endpoint = Endpoint.TOKEN
    oversize = too_large(response, client)
    if oversize is not None:
        return Unanswered(oversize, lost=True)
    members = parse_body(response.body, depth_limit=client.limits.json_depth, noted=noted)
    intercepted = False
    if has_error(members) and not is_redirect(response):
        code = members["error"]
        if isinstance(code, str) and code in statuses:
            return code
        error = error_response(members, response, client, endpoint, now)
        if isinstance(error, TooManyRequests):
            return Unanswered("too_many_requests", lost=False)
        intercepted = user_is_asked and is_gateway_error(members)
        if not intercepted and not is_transient(error, response):
            return error
    if is_busy(response):
        return Unanswered(f"status {response.status}", lost=may_have_acted(response))
    if response.status == 200 and members is JsonFault.SYNTAX:
        # A page of some proxy, or tokens that were cut short.
        cut_short = response.body.lstrip().startswith(b"{")
        return Unanswered("200 with a body that is not JSON", lost=True, intercepted=not cut_short)
    if intercepted or (user_is_asked and is_intercepted(members, response)):
        # It may stand in front of tokens that were issued.
        reason = f"status {response.status} with neither tokens nor an OAuth error"
        return Unanswered(reason, lost=True, intercepted=True)
    broken = unusable(members, response, endpoint, noted)
    if broken is not None:
        if isinstance(members, JsonFault) or is_redirect(response):
            return broken
        return rejected(broken, members, requested_scope=requested_scope, dpop_key=dpop_key)
    assert not isinstance(members, JsonFault)  # noqa: S101  # `unusable` has told; for the type checker
    return parse_token_response(
        members,
        endpoint=endpoint,
        requested_scope=requested_scope,
        dpop_key=dpop_key,
        string_limit=client.limits.string,
        now=now,
        noted=noted,
        id_token_optional=id_token_optional,
    )
