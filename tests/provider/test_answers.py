"""Reading what answers of several endpoints have in common."""

from __future__ import annotations

import pytest
from attrs import evolve

from ciba_core import HttpResponse
from ciba_core.errors import Endpoint, ErrorResponse
from ciba_core.provider.answers import challenge, error_response, is_busy, is_redirect, unusable
from ciba_core.values.limits import Limits
from tests.samples import CLIENT, NOW


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
