from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from ciba_core import ClientConfig, Guarded, HttpResponse, Limits, PollingPolicy, Secret
from ciba_core.client.polling import LONGEST
from ciba_core.errors import (
    AccessDenied,
    AcknowledgementLost,
    Endpoint,
    ErrorResponse,
    ExpiredToken,
    InvalidClient,
    InvalidGrant,
    InvalidRequest,
    ProviderUnavailable,
    RemoteProtocolError,
    TokenResponseLost,
    TokensRejected,
    TooManyRequests,
    UnauthorizedClient,
)
from ciba_core.events import (
    AuthenticationRefused,
    AuthenticationRequestFailed,
    AuthorizationPending,
    AuthReqIdExpired,
    AuthReqIdIssued,
    DpopNonceRequired,
    PollFailed,
    ProviderDeviation,
    SlowDown,
    StillPending,
    TokenRequestFailed,
    TokensUntrusted,
    Transition,
    UserDenied,
)
from ciba_core.jose.dpop import DpopKey
from ciba_core.states import Polling
from ciba_core.tokens.issued import TokenResponse
from ciba_core.transaction.decoding import decode_acknowledgement, decode_token_answer, poll_failed
from ciba_core.values.errors import ERROR_CLASSES
from ciba_core.values.json import dumps
from tests.jwt_samples import counter
from tests.samples import (
    ACKNOWLEDGEMENT,
    AUTH_REQ_ID,
    CLIENT,
    NO_NUMBERS,
    NOW,
    OPENID,
    TOKENS,
    Json,
    ones,
    reply,
    without,
    zeros,
)

DUPLICATE = b'{"auth_req_id":"a","auth_req_id":"b","expires_in":120}'
HTML = b"<html><body>Sign in to the guest network</body></html>"
SHORT = {**TOKENS, "id_token": "eyJ.eyJ.x"}
LIMITED = attrs.evolve(CLIENT, limits=Limits(body=2000, headers=1024, json_depth=4, string=256))


# ---- the acknowledgement


def acknowledge(
    response: HttpResponse, client: ClientConfig = CLIENT
) -> tuple[Transition, tuple[ProviderDeviation, ...]]:
    return decode_acknowledgement(response, client=client, now=NOW)


def issued(members: Json, client: ClientConfig = CLIENT) -> AuthReqIdIssued:
    event, _ = acknowledge(reply(200, members), client)
    assert isinstance(event, AuthReqIdIssued)
    return event


def broken(response: HttpResponse, client: ClientConfig = CLIENT) -> RemoteProtocolError:
    event, deviations = acknowledge(response, client)
    assert deviations == ()
    assert isinstance(event, AuthenticationRequestFailed)
    assert isinstance(event.error, RemoteProtocolError)
    assert event.error.endpoint is Endpoint.BACKCHANNEL_AUTHENTICATION
    return event.error


def test_acknowledgement_of_the_standard() -> None:
    """VEC-CORE-04, VEC-CAM-01: identifier, 120 s, interval 2 s; the first poll after one interval."""
    assert acknowledge(reply(200, ACKNOWLEDGEMENT)) == (
        AuthReqIdIssued(Secret(AUTH_REQ_ID), NOW + 120, 2.0, NOW + 2),
        (),
    )


def test_acknowledgement_of_auth0() -> None:
    """VEC-AUTH0-01, CIBA-7.3-04: a long identifier is taken as it is."""
    long = "eyJh" * 500 + ".x_y-z"
    assert issued({"auth_req_id": long, "expires_in": 300, "interval": 5}) == AuthReqIdIssued(
        Secret(long), NOW + 300, 5.0, NOW + 5
    )


@pytest.mark.parametrize(
    ("interval", "expected", "deviates"),
    [
        ({}, 5, False),
        ({"interval": 2}, 2, False),
        ({"interval": 5.0}, 5, True),
        ({"interval": 1.1}, 2, True),
        ({"interval": 0.001}, 1, True),
        ({"interval": "5"}, 5, True),
        ({"interval": "0012"}, 12, True),
        ({"interval": None}, 5, True),
        ({"interval": ""}, 5, True),
        ({"interval": 0}, 5, True),
        ({"interval": "0"}, 5, True),
        ({"interval": -0.0}, 5, True),
        ({"interval": -3}, 5, True),
        ({"interval": -(10**50)}, 5, True),
        ({"interval": 21600}, 21600, False),
        ({"interval": 10**50}, LONGEST, False),
    ],
    ids=str,
)
def test_intervals(interval: Json, expected: float, deviates: bool) -> None:
    """CIBA-7.3-06, -07, -09: absent, zero and negative mean 5; fractions round up; a bent rule is told.

    Null is absent, and digits in a string are a number: what they mean is beyond doubt.
    """
    event, deviations = acknowledge(reply(200, without(ACKNOWLEDGEMENT, "interval") | interval))  # type: ignore[operator]
    assert isinstance(event, AuthReqIdIssued)
    assert (event.interval, event.next_poll_at) == (expected, NOW + expected)
    assert {deviation.rule for deviation in deviations} == (
        {"CIBA Core 7.3: interval"} if deviates else set()
    )


@pytest.mark.parametrize(
    ("expires_in", "lifetime"),
    [
        (1, 1),
        (1.0, 1),
        (1.99, 1),
        (120, 120),
        (120.0, 120),
        (120.9, 120),
        ("120", 120),
        ("9999999999", LONGEST),
        (10**50, LONGEST),
        (1e300, LONGEST),
    ],
)
def test_lifetimes(expires_in: object, lifetime: float) -> None:
    """CIBA-7.3-05, -10, CIBA-7.4-04: seconds from the arrival of the acknowledgement, fractions cut off."""
    assert issued({**ACKNOWLEDGEMENT, "expires_in": expires_in}).expires_at == NOW + lifetime


BAD_MEMBERS: dict[str, list[object]] = {
    "auth_req_id": [None, "", 5, True, ["a"], {}, "x" * 257],
    "expires_in": [None, True, False, 0, 0.5, -1, -0.0, -(10**50), [120], {}, "0", *NO_NUMBERS],
    "interval": [True, False, [5], {}, *NO_NUMBERS[1:]],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, bad in BAD_MEMBERS.items() for value in bad], ids=str
)
def test_bad_members_of_an_acknowledgement(name: str, value: object) -> None:
    """CIBA-7.3-02, -05, -09, -10: a member of the wrong type or range ends it; the rule names the member."""
    error = broken(reply(200, {**ACKNOWLEDGEMENT, name: value}), LIMITED)
    assert error.rule == f"CIBA Core 7.3: {name}"
    assert error.args[0].startswith(f"{name} is ")


@pytest.mark.parametrize("name", ["auth_req_id", "expires_in"])
def test_missing_members_of_an_acknowledgement(name: str) -> None:
    """CIBA-7.4-01: without both there is nothing to poll for."""
    assert broken(reply(200, without(ACKNOWLEDGEMENT, name))).args == (f"{name} is missing",)


def test_unknown_members_are_ignored() -> None:
    """CIBA-7.3-08: more members do no harm."""
    members = {**ACKNOWLEDGEMENT, "consent_id": [1], "x": {"y": None}}
    event, deviations = acknowledge(reply(200, members))
    assert isinstance(event, AuthReqIdIssued)
    assert attrs.evolve(event, extra={}) == issued(ACKNOWLEDGEMENT)
    assert deviations == ()


def test_unknown_members_are_kept() -> None:
    """CIBA-7.3-08: what a provider adds, such as ``auth_url`` of WSO2, is there for the application."""
    more = {"auth_url": "https://op.example/approve?id=7", "consent": {"ids": [1, None]}, "notes": None}
    event = issued({**ACKNOWLEDGEMENT, **more, "error": None})
    assert json.loads(dumps(event.extra)) == more
    assert "approve" not in repr(event)
    assert issued(ACKNOWLEDGEMENT).extra == {}
    with pytest.raises(TypeError):
        event.extra["auth_url"] = "https://elsewhere.example"  # type: ignore[index]


def test_unknown_members_are_bounded() -> None:
    """CIBA-7.3-08: they are stored with each snapshot, so that no more than `Limits.string` of them is kept."""
    short = attrs.evolve(CLIENT, limits=Limits(string=256))
    members = {**ACKNOWLEDGEMENT, "auth_url": "https://op.example/", "blob": "x" * 250, "after": 1}
    event, deviations = acknowledge(reply(200, members), short)
    assert isinstance(event, AuthReqIdIssued)
    assert event.extra == {"auth_url": "https://op.example/"}
    assert [each.message for each in deviations] == [
        "unknown members are too large; not all of them are kept"
    ]
    assert "blob" in issued(members).extra
    exactly = {**ACKNOWLEDGEMENT, "a": "x" * (256 - len('{"a":""}'))}
    assert "a" in issued(exactly, short).extra
    assert issued({**exactly, "b": ""}, short).extra.keys() == {"a"}


@pytest.mark.parametrize("identifier", ["a b", "a+b", "a=", "ü", "a/b", "a\n", "~"])
def test_characters_outside_the_set_are_told(identifier: str) -> None:
    """CIBA-7.3-03, -11: an identifier with other characters is used as it is, with a warning."""
    event, deviations = acknowledge(reply(200, {**ACKNOWLEDGEMENT, "auth_req_id": identifier}))
    assert isinstance(event, AuthReqIdIssued)
    assert event.auth_req_id == Secret(identifier)
    assert [deviation.rule for deviation in deviations] == ["CIBA Core 7.3: auth_req_id"]


def test_two_deviations_at_once() -> None:
    """Each bent rule is told."""
    _, deviations = acknowledge(reply(200, {"auth_req_id": "~", "expires_in": 60, "interval": 0}))
    assert len(deviations) == 2


def test_identifier_of_just_the_limit() -> None:
    """CIBA-7.3-04, HTTP-05: the limit is inclusive."""
    assert issued({**ACKNOWLEDGEMENT, "auth_req_id": "x" * 256}, LIMITED).auth_req_id == Secret("x" * 256)


@pytest.mark.parametrize(("first_poll_after", "expected"), [(None, 2), (0, 0), (0.25, 0.25), (30, 30)])
def test_first_poll(first_poll_after: float | None, expected: float) -> None:
    """CIBA-10.1-14: the first poll comes after one interval unless the policy says otherwise."""
    client = attrs.evolve(CLIENT, polling=PollingPolicy(first_poll_after=first_poll_after))
    assert issued(ACKNOWLEDGEMENT, client).next_poll_at == NOW + expected


@pytest.mark.parametrize(
    ("response", "rule"),
    [
        (reply(200, HTML), "RFC 6749 5.1"),
        (reply(200, HTML, media_type="text/html"), "RFC 6749 5.1"),
        (reply(201, HTML, media_type="text/html"), "RFC 6749 5.1"),
        (reply(200, b""), "RFC 6749 5.1"),
        (reply(200, b"[]"), "RFC 6749 5.1"),
        (reply(200, DUPLICATE), "RFC 6749 5.1"),
        (reply(200, b'{"auth_req_id":"a","expires_in":NaN}'), "RFC 6749 5.1"),
        (reply(200, b'{"auth_req_id":"a","expires_in":Infinity}'), "RFC 6749 5.1"),
        (reply(200, b'{"auth_req_id":"a","expires_in":1e999}'), "RFC 6749 5.1"),
        (reply(200, b'{"auth_req_id":"a","expires_in":1' + b"0" * 70 + b"}"), "RFC 6749 5.1"),
        (reply(200, rb'{"auth_req_id":"\ud800","expires_in":1}'), "RFC 6749 5.1"),
        (reply(200, b'\xef\xbb\xbf\xef\xbb\xbf{"auth_req_id":"a","expires_in":1}'), "RFC 6749 5.1"),
        (reply(200, b'\xff\xfe{\0"\0a\0"\0:\0001\0}\0'), "RFC 6749 5.1"),
        (reply(200, {**ACKNOWLEDGEMENT, "x": [[[[1]]]]}), "RFC 6749 5.1"),
        (reply(200, " " * 2001), "size limit"),
        (reply(200, ACKNOWLEDGEMENT, ("X", "y" * 1100)), "size limit"),
        (reply(200, ACKNOWLEDGEMENT, *[("X", "")] * 1100), "size limit"),
        (reply(503, " " * 2001), "size limit"),
        (reply(200, {}), "CIBA Core 7.3: auth_req_id"),
        *((reply(status, ACKNOWLEDGEMENT), "RFC 6749 5.2") for status in (400, 401, 403, 404, 413, 451)),
        *((reply(status, HTML, media_type="text/html"), "RFC 6749 5.2") for status in (400, 401, 403, 404)),
        *(
            (reply(status, body, ("Location", "https://evil.example/")), "RFC 6749 3.2")
            for status in (300, 301, 302, 303, 304, 307, 308)
            for body in (b"", HTML, ACKNOWLEDGEMENT, {"error": "invalid_request"})
        ),
    ],
    ids=lambda value: repr(value) if isinstance(value, HttpResponse) else str(value),
)
def test_answers_that_are_no_acknowledgement(response: HttpResponse, rule: str) -> None:
    """CIBA-7.3-01, -12, HTTP-03..06: another kind of status or body is a breach of the protocol."""
    assert broken(response, LIMITED).rule == rule


CODES_13 = sorted(ERROR_CLASSES[Endpoint.BACKCHANNEL_AUTHENTICATION].items())


@pytest.mark.parametrize("status", [200, 400, 401, 403, 429, 500, 503])
@pytest.mark.parametrize(("code", "cls"), CODES_13, ids=[code for code, _ in CODES_13])
def test_error_codes_of_the_backchannel_authentication_endpoint(
    code: str, cls: type[ErrorResponse], status: int
) -> None:
    """CIBA-13-01..16, HTTP-07: the code decides, whatever the status; nothing of the answer is lost."""
    members = {"error": code, "error_description": "why", "error_uri": "https://op.example/e", "x": 1}
    event, deviations = acknowledge(reply(status, members, ("Retry-After", "7")))
    assert deviations == ()
    if code in {"server_error", "temporarily_unavailable"} and status in {429, 500, 503}:
        # See `test_errors_of_a_server_are_no_refusals`.
        assert isinstance(event, AuthenticationRequestFailed)
        return
    assert isinstance(event, AuthenticationRefused)
    assert type(event.error) is cls
    assert event.error == cls(
        code,
        endpoint=Endpoint.BACKCHANNEL_AUTHENTICATION,
        status=status,
        error_description="why",
        error_uri="https://op.example/e",
        retry_after=7.0,
    )


def test_error_of_the_standard() -> None:
    """VEC-CORE-09: the example of Core 13."""
    event, _ = acknowledge(
        reply(
            400,
            {
                "error": "unauthorized_client",
                "error_description": "The client 'client.example.org' is not allowed to use CIBA.",
            },
        )
    )
    assert isinstance(event, AuthenticationRefused)
    assert isinstance(event.error, UnauthorizedClient)
    assert event.error.error_description == "The client 'client.example.org' is not allowed to use CIBA."


@pytest.mark.parametrize(
    "code", ["something_new", "use_dpop_nonce", "authorization_pending", "slow_down", "expired_token", "Ü"]
)
def test_other_codes_are_kept(code: str) -> None:
    """CIBA-13-14: an unknown code is passed on verbatim; codes of the token endpoint mean nothing here."""
    event, _ = acknowledge(reply(400, {"error": code}))
    assert isinstance(event, AuthenticationRefused)
    assert type(event.error) is ErrorResponse
    assert event.error.error == code


@pytest.mark.parametrize("media_type", ["text/html", "application/problem+json", None])
def test_media_type_of_an_error_does_not_matter(media_type: str | None) -> None:
    """HTTP-06: an error is tried as JSON, whatever it is said to be."""
    event, _ = acknowledge(reply(400, {"error": "invalid_request"}, media_type=media_type))
    assert isinstance(event, AuthenticationRefused)


@pytest.mark.parametrize("code", [5, True, ["invalid_request"], {}, "x" * 257])
@pytest.mark.parametrize("status", [200, 400])
def test_error_that_is_no_string(code: object, status: int) -> None:
    """CIBA-13: an error member that is no code is a breach of the protocol."""
    assert broken(reply(status, {**ACKNOWLEDGEMENT, "error": code}), LIMITED).rule == "RFC 6749 5.2"


@pytest.mark.parametrize("text", [None, "", 5, True, ["why"], "x" * 257])
def test_useless_texts_do_not_cost_the_code(text: object) -> None:
    """CIBA-11: a description or URI of the wrong type is left out, the error stays."""
    event, _ = acknowledge(
        reply(400, {"error": "invalid_scope", "error_description": text, "error_uri": text}), LIMITED
    )
    assert isinstance(event, AuthenticationRefused)
    assert (event.error.error_description, event.error.error_uri) == (None, None)


@pytest.mark.parametrize("body", [b"", HTML, b'{"message":"later"}', b"[]"])
@pytest.mark.parametrize("status", [500, 502, 504, 599])
def test_provider_fails(body: bytes, status: int) -> None:
    """CIBA-13: a failure says nothing about the request; the user may have been asked all the same."""
    assert acknowledge(reply(status, body)) == (
        AuthenticationRequestFailed(
            AcknowledgementLost(
                "the provider failed; it may have asked the user all the same", reason=f"status {status}"
            )
        ),
        (),
    )


@pytest.mark.parametrize("code", ["server_error", "temporarily_unavailable", "Gateway Timeout", 5, None])
@pytest.mark.parametrize(("status", "error"), [(500, AcknowledgementLost), (503, ProviderUnavailable)])
def test_errors_of_a_server_are_no_refusals(code: object, status: int, error: type[Exception]) -> None:
    """CIBA-13-15: with a status that speaks of the server, a code that does so too is no verdict."""
    event, _ = acknowledge(reply(status, {"error": code}))
    assert isinstance(event, AuthenticationRequestFailed)
    assert type(event.error) is error
    refused, _ = acknowledge(reply(status, {"error": "unknown_user_id"}))
    assert isinstance(refused, AuthenticationRefused)


@pytest.mark.parametrize("body", [b"", HTML, b'{"message":"later"}', b"[]"])
@pytest.mark.parametrize("status", [408, 425, 429, 503])
@pytest.mark.parametrize(
    ("headers", "retry_after"),
    [
        ([], None),
        ([("retry-after", "120")], 120.0),
        ([("Retry-After", "Mon, 24 Sep 2018 20:05:46 GMT")], 60.0),
        ([("Retry-After", "Mon, 24 Sep 2018 20:05:46 GMT"), ("Date", "Mon, 24 Sep 2018 20:05:40 GMT")], 6.0),
        ([("Retry-After", "Fri, 31 Dec 1999 23:59:59 GMT")], 0.0),
        ([("Retry-After", "soon")], None),
    ],
    ids=str,
)
def test_provider_is_busy(
    body: bytes, status: int, headers: list[tuple[str, str]], retry_after: float | None
) -> None:
    """CIBA-13-15: overload is an outcome of its own, with the delay that was asked for."""
    assert acknowledge(reply(status, body, *headers)) == (
        AuthenticationRequestFailed(
            ProviderUnavailable(
                "the provider cannot take authentication requests just now",
                reason=f"status {status}",
                status=status,
                retry_after=retry_after,
            )
        ),
        (),
    )


# ---- the answer to a poll

STATE = Polling(Secret(AUTH_REQ_ID), OPENID, NOW + 1000, 5.0, 0, False)


def answered(
    response: HttpResponse,
    *,
    state: Polling = STATE,
    client: ClientConfig = CLIENT,
    elapsed: float | None = 1.0,
    now: float = NOW,
    noted: list[ProviderDeviation] | None = None,
) -> Transition | Guarded[TokenResponse]:
    key = DpopKey.generate(counter()) if client.dpop_bound_access_tokens else None
    return decode_token_answer(
        response,
        state,
        client=client,
        dpop_key=key,
        elapsed=elapsed,
        now=now,
        noted=[] if noted is None else noted,
    )


def tokens_of(response: HttpResponse, client: ClientConfig = CLIENT) -> TokenResponse:
    found = answered(response, client=client)
    assert isinstance(found, Guarded)
    return found.reveal_untrusted()


def violation(response: HttpResponse, client: ClientConfig = CLIENT) -> RemoteProtocolError:
    event = answered(response, client=client)
    assert isinstance(event, (TokenRequestFailed, TokensUntrusted))
    assert isinstance(event.error, RemoteProtocolError)
    assert isinstance(event, TokensUntrusted) == isinstance(event.error, TokensRejected)
    assert event.error.endpoint is Endpoint.TOKEN
    return event.error


def poll_fault(
    response: HttpResponse, *, state: Polling = STATE, client: ClientConfig = CLIENT
) -> PollFailed:
    event = answered(response, state=state, client=client)
    assert isinstance(event, PollFailed)
    return event


def test_tokens_of_the_standard() -> None:
    """VEC-CORE-06, TOK-09: a 200 with tokens, which nothing has vouched for yet."""
    tokens = tokens_of(reply(200, TOKENS, ("Cache-Control", "no-store")))
    assert tokens.expires_at == NOW + 120
    assert tokens.scope == "openid"
    assert tokens.id_token_claims is None


def test_tokens_of_auth0() -> None:
    """VEC-AUTH0-01, TOK-02: its printed example has no ``token_type``, which the standard demands."""
    members = {"access_token": "eyJh...", "id_token": "eyJh...", "expires_in": 86400, "scope": "openid"}
    assert violation(reply(200, members)).args == ("token_type is missing",)
    assert tokens_of(reply(200, {**members, "token_type": "Bearer"})).scope == "openid"


def error_response(cls: type[ErrorResponse], code: str, status: int = 400) -> ErrorResponse:
    return cls(code, endpoint=Endpoint.TOKEN, status=status)


def intercepted(status: int, wait: float = 5) -> PollFailed:
    """What follows from an answer that is no verdict of the provider."""
    reason = f"status {status} with neither tokens nor an OAuth error"
    return PollFailed(5.0, NOW + wait, 1, True, reason, 1)


PENDING_5 = AuthorizationPending(5.0, NOW + 5, 0, False)


@pytest.mark.parametrize(
    ("response", "event"),
    [
        (reply(400, {"error": "authorization_pending"}), PENDING_5),
        (
            reply(
                400,
                {
                    "error": "authorization_pending",
                    "error_description": "The end-user authorization is pending",
                    "unknown": 1,
                },
            ),
            PENDING_5,
        ),
        (reply(400, {"error": "slow_down"}), SlowDown(10.0, NOW + 10, 0, False)),
        (
            reply(
                400,
                {
                    "error": "slow_down",
                    "error_description": "You are polling faster than allowed. Try again in 15 seconds.",
                    "interval": 15,
                },
                ("Retry-After", "15"),
            ),
            SlowDown(10.0, NOW + 15, 0, False),
        ),
        (
            reply(400, {"error": "expired_token"}),
            AuthReqIdExpired(ExpiredToken("expired_token", endpoint=Endpoint.TOKEN, status=400)),
        ),
        (
            reply(400, {"error": "access_denied"}),
            UserDenied(AccessDenied("access_denied", endpoint=Endpoint.TOKEN, status=400)),
        ),
        (
            reply(403, {"error": "access_denied"}),
            UserDenied(AccessDenied("access_denied", endpoint=Endpoint.TOKEN, status=403)),
        ),
        (
            reply(400, {"error": "invalid_grant"}),
            TokenRequestFailed(error_response(InvalidGrant, "invalid_grant")),
        ),
        (
            reply(400, {"error": "invalid_request"}),
            TokenRequestFailed(error_response(InvalidRequest, "invalid_request")),
        ),
        (
            reply(400, {"error": "unauthorized_client"}),
            TokenRequestFailed(error_response(UnauthorizedClient, "unauthorized_client")),
        ),
        (
            reply(401, {"error": "invalid_client"}, ("WWW-Authenticate", 'Basic realm="x"')),
            TokenRequestFailed(error_response(InvalidClient, "invalid_client", 401)),
        ),
        # A client that sent no DPoP proof can do nothing with a nonce.
        (
            reply(400, {"error": "use_dpop_nonce"}, ("DPoP-Nonce", "n1")),
            TokenRequestFailed(error_response(ErrorResponse, "use_dpop_nonce")),
        ),
        (
            reply(400, {"error": "something_new"}),
            TokenRequestFailed(error_response(ErrorResponse, "something_new")),
        ),
        (
            reply(400, HTML, media_type="text/html"),
            intercepted(400),
        ),
        (reply(503, HTML, ("Retry-After", "120")), PollFailed(5.0, NOW + 120, 1, False, "status 503")),
        (
            reply(503, b"", ("Retry-After", "Fri, 31 Dec 1999 23:59:59 GMT")),
            PollFailed(5.0, NOW + 5, 1, False, "status 503"),
        ),
        (
            reply(200, {"token_type": "Bearer", "id_token": "..."}),
            TokenRequestFailed(
                RemoteProtocolError("access_token is missing", rule="RFC 6749 5.1", endpoint=Endpoint.TOKEN)
            ),
        ),
        *(
            (
                reply(302, body, ("Location", "https://x.example/")),
                intercepted(302),
            )
            for body in (b"", HTML, TOKENS, {"error": "authorization_pending"}, {"error": "slow_down"})
        ),
    ],
)
def test_token_error_responses(response: HttpResponse, event: Transition) -> None:
    """VEC-DER-04, CIBA-11-01..18, CIBA-10.1-10, -11: what follows from each answer, to the second."""
    assert answered(response) == event


@pytest.mark.parametrize(
    ("interval", "exchange", "response", "expected"),
    [
        (5, (0, 30), reply(400, {"error": "authorization_pending"}), (5, 30)),
        (5, (0, 2), reply(400, {"error": "authorization_pending"}), (5, 7)),
        (5, (0, 0.125), reply(400, {"error": "authorization_pending"}), (5, 5.125)),
        (2, (0, 0.125), reply(400, {"error": "authorization_pending"}), (2, 2.125)),
        (5, (0, 1), reply(400, {"error": "slow_down"}), (10, 11)),
        (10, (10, 31), reply(400, {"error": "slow_down"}), (15, 46)),
        (15, (25, 26), reply(400, {"error": "authorization_pending"}), (15, 41)),
        (5, (0, 5), reply(400, {"error": "authorization_pending"}), (5, 10)),
        (5, (0, 6), reply(400, {"error": "authorization_pending"}), (5, 6)),
        (5, (0, 1), reply(503, b"", ("Retry-After", "20")), (5, 21)),
    ],
    ids=str,
)
def test_poll_timing(
    interval: float, exchange: tuple[float, float], response: HttpResponse, expected: tuple[float, float]
) -> None:
    """VEC-DER-07: interval and earliest next poll after an exchange from one instant to another, exactly."""
    sent, received = exchange
    state = attrs.evolve(STATE, interval=float(interval))
    event = answered(response, state=state, elapsed=received - sent, now=NOW + received)
    assert isinstance(event, StillPending)
    assert event.next_poll_at is not None
    assert (event.interval, event.next_poll_at - NOW) == expected


@pytest.mark.parametrize(("entropy", "following"), [(zeros, 6), (ones, 11)])
def test_poll_timing_after_503_alone(entropy: Any, following: float) -> None:
    """VEC-DER-07, CIBA-10.1-13: busy without Retry-After, s=0 r=1: not before 5, and backed off from 1."""
    event = poll_fault(reply(503), client=attrs.evolve(CLIENT, entropy=entropy))
    assert event.interval == 5
    assert event.next_poll_at == NOW - 1 + following


@pytest.mark.parametrize(("entropy", "following"), [(zeros, 35), (ones, 40)])
def test_poll_timing_after_no_answer_by_30_seconds(entropy: Any, following: float) -> None:
    """VEC-DER-07, CIBA-10.1-09, -12: given up after 30 s, the next poll comes later than at once."""
    event = poll_failed(
        STATE,
        client=attrs.evolve(CLIENT, entropy=entropy),
        reason="ReadTimeout",
        answer_lost=True,
        elapsed=30,
        now=NOW + 30,
    )
    assert event == PollFailed(5.0, NOW + following, 1, True, "ReadTimeout")


@pytest.mark.parametrize("status", [200, 400, 401, 403, 429, 500, 503])
@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ([], 5),
        ([("Retry-After", "2")], 5),
        ([("RETRY-AFTER", "15")], 15),
        ([("Retry-After", "Mon, 24 Sep 2018 20:05:46 GMT")], 60),
        ([("Retry-After", "Mon, 24 Sep 2018 20:05:46 GMT"), ("Date", "Mon, 24 Sep 2018 20:05:36 GMT")], 10),
        ([("Retry-After", "never")], 5),
    ],
    ids=str,
)
def test_still_pending(status: int, headers: list[tuple[str, str]], wait: float) -> None:
    """CIBA-11-01, -02, CIBA-10.1-11: a poll is kept alive whatever the status, Retry-After honoured."""
    state = attrs.evolve(STATE, faults=3, answer_lost=True)
    assert answered(reply(status, {"error": "authorization_pending"}, *headers), state=state) == (
        AuthorizationPending(5.0, NOW + wait, 0, False)
    )
    slower = max(wait, 10)
    assert answered(reply(status, {"error": "slow_down"}, *headers), state=state) == (
        # It may be told before the state of the authentication is looked at, so that it undoes no loss.
        SlowDown(10.0, NOW + slower, 0, True)
    )


CODES_11 = sorted(ERROR_CLASSES[Endpoint.TOKEN].items())
BUSY = (408, 425, 429, 500, 502, 503, 504)


@pytest.mark.parametrize("status", [200, 400, 401, 403, *BUSY])
@pytest.mark.parametrize(("code", "cls"), CODES_11, ids=[code for code, _ in CODES_11])
def test_error_codes_of_the_token_endpoint(code: str, cls: type[ErrorResponse], status: int) -> None:
    """CIBA-11-03..17: every code ends it, but those of an overloaded server with the status of one."""
    event = answered(reply(status, {"error": code, "error_description": "why"}, ("Retry-After", "20")))
    if code == "too_many_requests" or (
        code in ("server_error", "temporarily_unavailable") and status in BUSY
    ):
        assert isinstance(event, PollFailed)
        assert event.next_poll_at == NOW + 20
    else:
        assert isinstance(event, (TokenRequestFailed, UserDenied, AuthReqIdExpired))
        assert isinstance(event, UserDenied) == (code == "access_denied")
        assert isinstance(event, AuthReqIdExpired) == (code == "expired_token")
        assert event.error == cls(
            code, endpoint=Endpoint.TOKEN, status=status, error_description="why", retry_after=20.0
        )


@pytest.mark.parametrize("code", ["something_new", "unknown_user_id", 5, None, ["x"]])
@pytest.mark.parametrize("status", [400, 401, 403, *BUSY])
def test_codes_that_nobody_registered(code: object, status: int) -> None:
    """CIBA-11-11, -16, -17: terminal, but transient from a server that is busy by its status.

    What is no code comes from something in front of the provider.
    """
    event = answered(reply(status, {"error": code}))
    if status in BUSY:
        assert isinstance(event, PollFailed)
        assert event.intercepted == (code is None and status not in BUSY)
    elif isinstance(code, str):
        assert isinstance(event, TokenRequestFailed)
        assert type(event.error) is ErrorResponse
        assert event.error.error == code
    else:
        assert event == intercepted(status)


@pytest.mark.parametrize(
    "body", [b"", HTML, b"[]", b'{"message":"later"}', b'{"error":"server_error"}', DUPLICATE]
)
@pytest.mark.parametrize(
    ("status", "lost"),
    [
        (408, False),
        (425, False),
        (429, False),
        (503, False),
        (500, True),
        (502, True),
        (504, True),
        (599, True),
    ],
)
def test_provider_is_busy_while_polling(body: bytes, status: int, lost: bool) -> None:
    """CIBA-10.1-13, CIBA-11-16, -17: transient; whether tokens may be lost depends on who gave up where."""
    assert poll_fault(reply(status, body)) == PollFailed(5.0, NOW + 5, 1, lost, f"status {status}")


@pytest.mark.parametrize("status", [400, 403, 429, 500, 503])
def test_a_rate_limit_loses_no_tokens(status: int) -> None:
    """CIBA-11-17: a provider that counts requests did not issue tokens; a later refusal is no loss."""
    event = poll_fault(reply(status, {"error": "too_many_requests"}))
    assert (event.reason, event.answer_lost) == ("too_many_requests", False)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (reply(200, HTML, media_type="text/html"), "200 with a body that is not JSON"),
        (reply(200, b""), "200 with a body that is not JSON"),
        (reply(200, b'{"access_token":"G5kX'), "200 with a body that is not JSON"),
        (reply(200, b"\xef\xbb\xbf<html>"), "200 with a body that is not JSON"),
        (reply(200, b" " * 2001), "answer larger than 2000 octets"),
        (reply(200, TOKENS, ("X", "y" * 1100)), "header fields larger than 1024 octets"),
        (reply(400, b" " * 2001), "answer larger than 2000 octets"),
    ],
)
def test_answers_that_were_lost_on_the_way(response: HttpResponse, reason: str) -> None:
    """CIBA-10.1.1-05, HTTP-05, -09: a page of a middlebox or half of an answer does not end it."""
    event = poll_fault(response, client=LIMITED)
    assert attrs.evolve(event, intercepted=0) == PollFailed(5.0, NOW + 5, 1, True, reason)
    # A page, but no cut, comes from something in front of the provider.
    assert event.intercepted == (reason.startswith("200") and not response.body.startswith(b"{"))


def test_faults_add_up_and_a_loss_is_remembered() -> None:
    """CIBA-10.1-12, -13: each fault in a row doubles the wait; the interval stays."""
    waits: list[float] = []
    state = attrs.evolve(STATE, answer_lost=True)
    for number in range(1, 7):
        event = poll_fault(reply(503), state=state)
        assert (event.interval, event.faults, event.answer_lost) == (5.0, number, True)
        assert event.next_poll_at is not None
        waits.append(event.next_poll_at - NOW)
        state = attrs.evolve(state, faults=event.faults)
    assert waits == [5, 10, 20, 30, 30, 30]


@pytest.mark.parametrize(
    ("response", "rule"),
    [
        (reply(200, b'{"access_token":"a","access_token":"b"}'), "RFC 6749 5.1"),
        (reply(200, b'{"expires_in":NaN}'), "RFC 6749 5.1"),
        (reply(200, rb'{"access_token":"\ud800"}'), "RFC 6749 5.1"),
        (reply(200, {**TOKENS, "x": [[[[1]]]]}), "RFC 6749 5.1"),
        (reply(200, {**SHORT, "token_type": "DPoP"}), "RFC 6749 7.1, RFC 9449 5"),
        (reply(200, {**SHORT, "access_token": "x" * 257}), "size limit"),
        *((reply(status, TOKENS), "RFC 6749 5.2") for status in (400, 401, 403, 404)),
    ],
)
def test_answers_that_break_the_protocol(response: HttpResponse, rule: str) -> None:
    """CIBA-11-18, TOK-01..04, HTTP-03..06: tokens out of place are not taken, and it ends."""
    assert violation(response, LIMITED).rule == rule


@pytest.mark.parametrize(
    "response",
    [
        reply(200, without(TOKENS, "id_token")),
        reply(200, {**TOKENS, "expires_in": "soon"}),
        reply(404, TOKENS),
    ],
)
def test_issued_tokens_can_be_revoked(response: HttpResponse) -> None:
    """SM-14: a broken rule does not undo that tokens were issued; they are kept under guard."""
    event = answered(response)
    assert isinstance(event, TokensUntrusted)
    assert isinstance(event.error, TokensRejected)
    assert event.error.untrusted.reveal_untrusted().refresh_token == Secret(str(TOKENS["refresh_token"]))


@pytest.mark.parametrize("status", [302, 307])
def test_tokens_in_a_redirect_are_nobodys(status: int) -> None:
    """HTTP-03: what stands in the body of a redirect comes from somewhere in between."""
    assert answered(reply(status, TOKENS)) == intercepted(status)


SPRING = {"timestamp": "2026-01-01T00:00:00Z", "status": 403, "error": "something_new", "path": "/token"}


@pytest.mark.parametrize("status", [199, 400, 401, 403, 404, 405, 406, 409, 410, 413, 415, 421, 451, 499])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        HTML,
        b"default backend - 404",
        b"[]",
        b"{}",
        {"type": "about:blank", "title": "Forbidden", "status": 403},
        {"message": "Missing Authentication Token"},
        {"error": None},
        {"error": {"code": 403, "message": "denied", "status": "PERMISSION_DENIED"}},
        {"error": True},
        {"error": "Forbidden"},
        {"error": "FORBIDDEN", "message": "Access Denied"},
        {"error": "Not Found", "path": "/token"},
        SPRING,
        without(SPRING, "path"),
        without(SPRING, "timestamp"),
        b'{"a":1,"a":2}',
    ],
    ids=str,
)
def test_what_is_no_verdict(body: Any, status: int) -> None:
    """CIBA-11: what is neither tokens nor an OAuth error comes from the way, and leaves the matter open."""
    assert answered(reply(status, body)) == intercepted(status)


@pytest.mark.parametrize(
    "body", [b"[1]", b"{}", {"message": "ok"}, {"expires_in": 5}, b"null", {"error": ""}]
)
@pytest.mark.parametrize("status", [200, 201, 202])
def test_successes_without_tokens(body: Any, status: int) -> None:
    """TOK-02: a success that brings nothing is no token response; tokens may have been meant."""
    assert answered(reply(status, body)) == intercepted(status)


@pytest.mark.parametrize(
    "code", ["invalid_grant", "invalid_client", "access_denied", "expired_token", "login_required"]
)
def test_registered_codes_are_verdicts(code: str) -> None:
    """CIBA-11, RFC 6749 5.2: beside whatever members, a registered code is the provider's."""
    event = answered(reply(403, {**SPRING, "error": code}))
    assert not isinstance(event, PollFailed)


@pytest.mark.parametrize(
    "members",
    [
        {"error": "something_new", "status": 403},
        {"error": "something_new", "path": "/token"},
        {"error": "E0000011"},
        {"error": "forbidden_client"},
        {"error": "not_found"},
    ],
)
def test_other_codes_stay_final(members: Json) -> None:
    """CIBA-11-11: a code that nobody registered, and that no gateway writes, ends it."""
    event = answered(reply(400, members))
    assert isinstance(event, TokenRequestFailed)
    assert type(event.error) is ErrorResponse


def test_retry_after_of_a_page() -> None:
    """CIBA-10.1-11: whoever answers, a Retry-After is kept to."""
    page = reply(403, HTML, ("Retry-After", "17"), media_type="text/html")
    assert answered(page) == intercepted(403, wait=17)


def test_limits_are_inclusive() -> None:
    """HTTP-05: an answer of just the allowed size passes."""
    body = str(SHORT).replace("'", '"').ljust(2000)
    headers = ("X", "y" * (1024 - 1 - len("Content-Typeapplication/json")))
    assert tokens_of(reply(200, body, headers), LIMITED).token_type == "Bearer"


@pytest.mark.parametrize("status", [400, 401, 403])
def test_tokens_that_were_lost(status: int) -> None:
    """CIBA-10.1.1-02, -05: ``invalid_grant`` after a lost answer is reported as the loss that it may be."""
    members = {"error": "invalid_grant", "error_description": "used", "error_uri": "https://op.example/"}
    response = reply(status, members, ("Retry-After", "1"))
    state = attrs.evolve(STATE, answer_lost=True)
    arguments: dict[str, Any] = {
        "endpoint": Endpoint.TOKEN,
        "status": status,
        "error_description": "used",
        "error_uri": "https://op.example/",
        "retry_after": 1.0,
    }
    assert answered(response, state=state) == TokenRequestFailed(
        TokenResponseLost("invalid_grant", **arguments)
    )
    assert answered(response) == TokenRequestFailed(InvalidGrant("invalid_grant", **arguments))


@pytest.mark.parametrize("between", ["slow_down", "use_dpop_nonce", None])
def test_what_undoes_no_loss(between: str | None) -> None:
    """CIBA-10.1.1-05: tokens may be lost behind a page, too, and what says nothing of them does not find them."""
    client = BOUND if between == "use_dpop_nonce" else CLIENT
    lost = poll_fault(reply(403, HTML), client=client)
    state = attrs.evolve(STATE, answer_lost=lost.answer_lost)
    if between is not None:
        event = answered(reply(400, {"error": between}, ("DPoP-Nonce", "n")), state=state, client=client)
        assert isinstance(event, StillPending)
        state = attrs.evolve(state, answer_lost=event.answer_lost)
    ended = answered(reply(400, {"error": "invalid_grant"}), state=state, client=client)
    assert isinstance(ended, TokenRequestFailed)
    assert type(ended.error) is TokenResponseLost


def test_after_a_loss_other_codes_stay_what_they_are() -> None:
    """CIBA-11-05: only ``invalid_grant`` tells of an identifier that was used up."""
    state = attrs.evolve(STATE, answer_lost=True)
    for code, cls in CODES_11:
        event = answered(reply(400, {"error": code}), state=state)
        if isinstance(event, TokenRequestFailed):
            assert (type(event.error) is cls) == (code != "invalid_grant")


def test_busy_backchannel_endpoint_with_a_rate_limit_code() -> None:
    """CIBA-13-15: a rate limit with a code keeps its delay for the caller."""
    event, _ = acknowledge(reply(429, {"error": "too_many_requests"}, ("Retry-After", "30")))
    assert isinstance(event, AuthenticationRefused)
    assert isinstance(event.error, TooManyRequests)
    assert event.error.retry_after == 30


# ---- DPoP

BOUND = attrs.evolve(CLIENT, dpop_bound_access_tokens=True)


@pytest.mark.parametrize("status", [400, 401])
def test_a_nonce_is_asked_for(status: int) -> None:
    """CIBA-11-12, DPOP-13, -14: no result; the next poll comes at its time, and with the nonce."""
    response = reply(status, {"error": "use_dpop_nonce"}, ("DPoP-Nonce", "n-1"), ("Retry-After", "9"))
    lost = attrs.evolve(STATE, faults=2, answer_lost=True)
    # The nonce may be asked for before the state of the authentication is looked at.
    assert answered(response, client=BOUND, state=lost) == DpopNonceRequired(5.0, NOW + 9, 0, True)
    assert answered(response, client=BOUND) == DpopNonceRequired(5.0, NOW + 9, 0, False)


@pytest.mark.parametrize(
    "headers", [[], [("DPoP-Nonce", "")], [("DPoP-Nonce", 'a"b')], [("DPoP-Nonce", "n" * 2049)]]
)
def test_a_nonce_is_asked_for_but_not_given(headers: list[tuple[str, str]]) -> None:
    """DPOP-14, -18: without a nonce that can be one, asking for it breaks the protocol."""
    error = violation(reply(400, {"error": "use_dpop_nonce"}, *headers), BOUND)
    assert (error.args, error.rule) == (("DPoP-Nonce is missing or malformed",), "RFC 9449 8")


def test_tokens_that_are_not_bound_to_the_key() -> None:
    """DPOP-09: ``Bearer`` where DPoP was asked for is refused, and the other way round."""
    assert violation(reply(200, TOKENS), BOUND).rule == "RFC 6749 7.1, RFC 9449 5"
    assert tokens_of(reply(200, {**TOKENS, "token_type": "dpop"}), BOUND).token_type == "dpop"
