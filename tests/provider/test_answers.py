"""Reading what answers of several endpoints have in common."""

from __future__ import annotations

import pytest
from attrs import evolve

from ciba_core import HttpResponse
from ciba_core.errors import AccessDenied, Endpoint, ErrorResponse, RemoteProtocolError, ServerError
from ciba_core.provider.answers import (
    Intercepted,
    NotNow,
    PendingCode,
    TooLarge,
    Unusable,
    Usable,
    challenge,
    error_response,
    is_busy,
    is_redirect,
    read_answer,
    unusable,
)
from ciba_core.values.limits import Limits
from tests.samples import CLIENT, NOW, reply


def refusal(*challenges: str) -> HttpResponse:
    return HttpResponse(401, tuple(("WWW-Authenticate", value) for value in challenges), b"")


@pytest.mark.parametrize(
    ("challenges", "scheme", "error"),
    [
        (['DPoP error="use_dpop_nonce"'], "DPoP", "use_dpop_nonce"),
        (['Bearer error="invalid_token", DPoP algs="ES256", error="a"'], "DPoP", "a"),
        (['Bearer error="invalid_token"', 'dpop error="a"'], "DPoP", "a"),
        (['DPoP error="a"', 'Bearer error="invalid_token"'], "Bearer", "invalid_token"),
        (['Bearer error="first", DPoP', 'DPoP error="a"', 'DPoP error="b"'], "DPoP", "a"),
        # Of another scheme, for want of one's own.
        (['Bearer error="a", DPoP algs="ES256"'], "DPoP", "a"),
        (['Bearer realm="", error="a"'], "Bearer", "a"),
        (['Bearer error="a"', 'DPoP realm="", error="b"'], "DPoP", "b"),
        (['Bearer error_description="x, DPoP error=b", error="a"'], "DPoP", "a"),
        (["Negotiate YWJj==, Bearer error=a"], "Bearer", "a"),
        (['error="a"'], "Bearer", "a"),
        (['Bearer realm="x", Basic', "DPoP"], "DPoP", None),
        (["", '"', "= , ="], "DPoP", None),
        ([], "Bearer", None),
    ],
)
def test_challenges(challenges: list[str], scheme: str, error: str | None) -> None:
    """DPOP-17, UI-06: of several challenges, in one field or more, that of the scheme in use explains."""
    found = challenge(refusal(*challenges), scheme)
    assert (None if found is None else found["error"]) == error


@pytest.mark.parametrize(
    ("status", "busy", "redirect"),
    [
        (199, False, False),
        (300, False, True),
        (399, False, True),
        (400, False, False),
        (408, True, False),
        (425, True, False),
        (429, True, False),
        (499, False, False),
        (500, True, False),
        (599, True, False),
    ],
)
def test_kinds_of_statuses(status: int, busy: bool, redirect: bool) -> None:
    """RT-07, RFC 9110 15: what says "not now", and what comes from somewhere in between."""
    response = HttpResponse(status, (), b"")
    assert (is_busy(response), is_redirect(response)) == (busy, redirect)
    broken = unusable({}, response, Endpoint.TOKEN, [])
    assert broken is not None
    assert ("is not followed" in str(broken)) is redirect


@pytest.mark.parametrize(("length", "kept"), [(0, False), (1, True), (300, True), (301, False)])
def test_texts_of_errors(length: int, kept: bool) -> None:
    """HTTP-05, RFC 6749 5.2: from one character to the limit; a description beyond it is left out."""
    client, text = evolve(CLIENT, limits=Limits(string=300)), "x" * length
    error = error_response({"error": text}, None, client, Endpoint.TOKEN, NOW)
    assert isinstance(error, ErrorResponse) is kept
    described = error_response({"error": "x", "error_description": text}, None, client, Endpoint.TOKEN, NOW)
    assert isinstance(described, ErrorResponse)
    assert described.error_description == (text if kept else None)
    # One that was pushed is no HTTP response.
    assert (described.status, described.retry_after) == (None, None)
    response = HttpResponse(400, (("Retry-After", "7"),), b"")
    answered = error_response({"error": "x"}, response, client, Endpoint.TOKEN, NOW)
    assert isinstance(answered, ErrorResponse)
    assert (answered.status, answered.retry_after) == (400, 7)


LARGE = {"error": "access_denied", "x": "x" * (CLIENT.limits.body + 1)}


@pytest.mark.parametrize(
    ("response", "read"),
    [
        (reply(503, LARGE), TooLarge),
        (reply(302, {"error": "access_denied"}), Unusable),
        (reply(503, {"error": "access_denied"}), AccessDenied),
        (reply(200, {"error": "access_denied"}), AccessDenied),
        (reply(503, {"error": "wait"}), PendingCode),
        (reply(500, {"error": "server_error"}), NotNow),
        (reply(400, {"error": "server_error"}), ServerError),
        (reply(503, {"error": "Service Unavailable"}), NotNow),
        (reply(400, {"error": "of ours"}), ErrorResponse),
        (reply(503, {"error": 7}), NotNow),
        (reply(400, {"error": 7}), RemoteProtocolError),
        (reply(503, {"access_token": "x"}), NotNow),
        (reply(429, b"<html>"), NotNow),
        (reply(404, b"<html>"), Unusable),
        (reply(200, b"<html>"), Unusable),
        (reply(200, {"sub": "alice"}), Usable),
    ],
)
def test_the_order_of_the_questions(response: HttpResponse, read: type) -> None:
    """SM-14, HTTP-05: size, error, error of the server alone, busy, form: the first that applies decides."""
    answer = read_answer(
        response, client=CLIENT, endpoint=Endpoint.TOKEN, now=NOW, noted=[], pending={"wait"}
    )
    assert type(answer) is read
    assert "access_token" not in repr(answer)


@pytest.mark.parametrize(
    ("response", "read"),
    [
        (reply(403, LARGE), TooLarge),
        (reply(403, {"error": "wait"}), PendingCode),
        (reply(403, {"error": "access_denied"}), AccessDenied),
        (reply(403, {"error": "Forbidden"}), Intercepted),
        (reply(503, {"error": "Service Unavailable"}), NotNow),
        (reply(403, b"<html>"), Intercepted),
        (reply(302, {"error": "access_denied"}), Intercepted),
        (reply(200, b"<html>"), Intercepted),
        (reply(200, {"token_type": "Bearer"}), Usable),
    ],
)
def test_what_stands_in_front_of_the_provider(response: HttpResponse, read: type) -> None:
    """SM-14: while the user is being asked, it is told apart after what is said to be busy, before what is unusable."""
    answer = read_answer(
        response,
        client=CLIENT,
        endpoint=Endpoint.TOKEN,
        now=NOW,
        noted=[],
        pending={"wait"},
        user_is_asked=True,
    )
    assert type(answer) is read


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_whether_a_busy_provider_has_acted(status: int) -> None:
    """RT-07: these statuses say that the request was not looked at; others leave it open."""
    answer = read_answer(reply(status), client=CLIENT, endpoint=Endpoint.TOKEN, now=NOW, noted=[])
    assert answer == NotNow(f"status {status}", may_have_acted=status in (500, 502, 504))


def test_where_the_error_is_and_what_a_success_is_can_differ() -> None:
    """UI-06, RFC 7009 2.2: the differences of an endpoint are arguments, the order is not."""
    wrong = RemoteProtocolError("no", rule="x", endpoint=Endpoint.USERINFO)
    answer = read_answer(
        reply(200, {"error": "a claim"}),
        client=CLIENT,
        endpoint=Endpoint.USERINFO,
        now=NOW,
        noted=[],
        told=lambda _members, _response: None,
        check=lambda _members, _response, _endpoint, _noted: wrong,
    )
    assert answer == Unusable(wrong, {"error": "a claim"})
