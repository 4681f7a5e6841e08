"""What an answer of the token endpoint says, whatever was asked for."""

from __future__ import annotations

import json

import pytest

from ciba_core import Guarded, HttpResponse, TokenResponse
from ciba_core.errors import (
    AccessDenied,
    CibaError,
    ErrorResponse,
    InvalidGrant,
    RemoteProtocolError,
    TokensRejected,
)
from ciba_core.provider.answers import PendingCode
from ciba_core.tokens.endpoint import Unanswered, read_token_answer
from tests.samples import CLIENT, NOW, TOKENS, reply, without


def read(
    response: HttpResponse, *statuses: str
) -> Guarded[TokenResponse] | PendingCode | ErrorResponse | RemoteProtocolError | Unanswered:
    return read_token_answer(
        response, client=CLIENT, requested_scope="openid", dpop_key=None, now=NOW, noted=[], pending=statuses
    )


@pytest.mark.parametrize(
    ("response", "lost"),
    [
        *((reply(status), status not in (408, 425, 429, 503)) for status in (408, 425, 429, 500, 502, 503)),
        (reply(504, {"error": "Gateway Timeout", "status": 504}), True),
        (reply(500, {"error": "server_error"}), True),
        (reply(500, {"error": {"code": 500}}), True),
        (reply(503, {"error": "temporarily_unavailable"}), False),
        (reply(429, {"error": "rate limited"}), False),
        (reply(400, {"error": "too_many_requests"}), False),
        (reply(500, TOKENS), True),
        (reply(200, b'{"access_token": "cut'), True),
        (reply(200, b" " * (CLIENT.limits.body + 1)), True),
    ],
)
def test_faults(response: HttpResponse, lost: bool) -> None:
    """RT-07, HTTP-05: what a busy server, or something in between, says is nothing about the grant."""
    answer = read(response)
    assert isinstance(answer, Unanswered)
    assert answer.lost is lost


@pytest.mark.parametrize(
    ("response", "cls"),
    [
        (reply(400, {"error": "invalid_grant"}), InvalidGrant),
        (reply(503, {"error": "access_denied"}), AccessDenied),
        (reply(400, {"error": "server_error_of_ours"}), ErrorResponse),
        (reply(400, {"error": 7}), RemoteProtocolError),
        (reply(302, {"error": "invalid_grant"}), RemoteProtocolError),
        (reply(302, TOKENS), RemoteProtocolError),
        (reply(200, b"[]"), RemoteProtocolError),
        (reply(404, b"<html>"), RemoteProtocolError),
        (reply(404, TOKENS), TokensRejected),
        (reply(200, without(TOKENS, "token_type")), TokensRejected),
    ],
)
def test_errors(response: HttpResponse, cls: type[CibaError]) -> None:
    """RT-06, SM-14: each error has its class, and tokens that came are kept."""
    assert type(read(response)) is cls


def test_statuses() -> None:
    """CIBA-11-03: a code that is no error for the caller is not made one, whatever the status."""
    for status in (400, 429, 503):
        assert read(reply(status, {"error": "waiting"}), "waiting") == PendingCode("waiting")
    assert isinstance(read(reply(400, {"error": "waiting"})), ErrorResponse)


@pytest.mark.parametrize("code", [["waiting"], {"waiting": 1}, 5, None, True])
def test_a_status_is_a_string(code: object) -> None:
    """SM-14, RFC 6749 5.2: an error of another type is a broken answer, whatever the caller looks for."""
    answer = read_token_answer(
        reply(400, {"error": code}),
        client=CLIENT,
        requested_scope="openid",
        dpop_key=None,
        now=NOW,
        noted=[],
        pending=frozenset({"waiting"}),
    )
    assert type(answer) is RemoteProtocolError


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (reply(200, json.dumps(TOKENS) + " " * CLIENT.limits.body), "answer larger than"),
        (reply(200, TOKENS, ("X", "x" * CLIENT.limits.headers)), "header fields larger than"),
        (reply(400, {"error": "too_many_requests"}), "too_many_requests"),
        (reply(502, {"error": "hush"}), "status 502"),
        (reply(200, b'{"access_token": "hush'), "200 with a body that is not JSON"),
    ],
    ids=["body", "headers", "error", "status", "syntax"],
)
def test_what_is_said_of_faults(response: HttpResponse, reason: str) -> None:
    """HTTP-05, promise 6: one cause each; what is too large is not read, good tokens or not."""
    answer = read(response)
    assert isinstance(answer, Unanswered)
    assert answer.reason.startswith(reason)


@pytest.mark.parametrize("optional", [True, False])
def test_an_id_token_that_may_be_missing(optional: bool) -> None:
    """RT-04, TOK-03: without ``openid`` or after a refresh there need be none; else its lack is a fault."""
    answer = read_token_answer(
        reply(200, without(TOKENS, "id_token")),
        client=CLIENT,
        requested_scope="openid",
        dpop_key=None,
        now=NOW,
        noted=[],
        id_token_optional=optional,
    )
    assert isinstance(answer, Guarded if optional else TokensRejected)


def test_tokens() -> None:
    """TOK-01: tokens, of which nothing is validated yet."""
    assert isinstance(read(reply(200, TOKENS)), Guarded)


@pytest.mark.parametrize("value", [None, "no-store", "max-age=600", "public"])
def test_caching_is_no_matter(value: str | None) -> None:
    """TOK-10: an answer may be kept by nobody; a provider that fails to say so has issued tokens all the same."""
    headers = () if value is None else (("Cache-Control", value),)
    assert read(reply(200, TOKENS, *headers)) == read(reply(200, TOKENS))
