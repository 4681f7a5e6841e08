"""The client notification endpoint as data, fed with everything that a network can bring."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ciba_core import HttpResponse, Secret
from ciba_core.notification import (
    ACCEPTED,
    BODY_LIMIT,
    UNKNOWN_TOKEN,
    Notification,
    Rejection,
    check_head,
    read_body,
    rejection,
    token_hash,
)
from tests.samples import AUTH_REQ_ID, pushed

TOKEN: Final = "8d67dc78-7faa-4d41-aabd-67707b374255"
JSON: Final = ("Content-Type", "application/json")
BEARER: Final = ("Authorization", f"Bearer {TOKEN}")
GOOD: Final = [BEARER, JSON]
Headers = Sequence[tuple[str, str]]


def rejected(found: object) -> Rejection:
    assert isinstance(found, Rejection)
    return found


def turned_away(headers: Headers, method: str = "POST") -> HttpResponse:
    return rejected(check_head(method, headers)).answer


def body(**members: Any) -> bytes:
    return json.dumps(members).encode()


# ---- method and header


def test_a_good_head() -> None:
    """VEC-CORE-07, CIBA-9-10: what comes back is the hash that the token is looked up by, and nothing else."""
    headers = [("Host", "client.example.com"), BEARER, JSON, ("Content-Length", "62")]
    assert check_head("POST", headers) == token_hash(Secret(TOKEN))
    assert check_head("POST", iter(headers)) == token_hash(Secret(TOKEN))


def test_token_hash() -> None:
    """CIBA-9-11: a token is looked up by its SHA-256, as whoever shares a store computes it too."""
    assert token_hash(Secret(TOKEN)) == hashlib.sha256(TOKEN.encode()).hexdigest()
    assert token_hash(Secret("abc")) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("name", ["authorization", "Authorization", "AUTHORIZATION", "aUTHORIZATION"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_names_and_schemes_in_any_case(name: str, scheme: str) -> None:
    """CIBA-9-11, VEC-DER-06: names of fields and schemes have no case; the token does."""
    assert check_head("POST", [(name, f"{scheme} {TOKEN}"), JSON]) == token_hash(Secret(TOKEN))
    assert check_head("POST", [(name, f"{scheme} {TOKEN.upper()}"), JSON]) != token_hash(Secret(TOKEN))


@pytest.mark.parametrize("value", [f"Bearer {TOKEN} ", f" Bearer {TOKEN}\t", f"Bearer  {TOKEN}"])
def test_white_space_around_a_token(value: str) -> None:
    """VEC-DER-06: white space before, after and in front of the token is none of it."""
    assert check_head("POST", [("Authorization", value), JSON]) == token_hash(Secret(TOKEN))


@pytest.mark.parametrize("token", ["a", "A" * 43, "a" * 1024, "-._~+/", "abc=", "abc==", "09"])
def test_every_token_of_the_syntax(token: str) -> None:
    """CIBA Core 7.1: any ``b64token`` of up to 1024 characters can be one."""
    assert check_head("POST", [("Authorization", f"Bearer {token}"), JSON]) == token_hash(Secret(token))


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS", "post", "POST ", ""])
def test_other_methods(method: str) -> None:
    """CIBA-9-13: 405 with ``Allow``, whatever else is there."""
    for headers in (GOOD, []):
        answer = turned_away(headers, method)
        assert (answer.status, answer.headers, answer.body) == (405, (("Allow", "POST"),), b"")


ANOTHER: Final = (("WWW-Authenticate", "Bearer"),)
BAD: Final = (("WWW-Authenticate", 'Bearer error="invalid_token"'),)


@pytest.mark.parametrize(
    ("authorization", "challenge", "message"),
    [
        ([], ANOTHER, "no Authorization field"),
        ([f"Bearer {TOKEN}"] * 2, ANOTHER, "more than one Authorization field"),
        ([f"Basic {TOKEN}"], ANOTHER, "another authentication scheme"),
        ([TOKEN], ANOTHER, "another authentication scheme"),
        ([f"Bearer\t{TOKEN}"], ANOTHER, "another authentication scheme"),
        ([f"Bearer:{TOKEN}"], ANOTHER, "another authentication scheme"),
        ([""], ANOTHER, "another authentication scheme"),
        (["Bearer"], BAD, "a malformed bearer token"),
        (["Bearer "], BAD, "a malformed bearer token"),
        (["Bearer =="], BAD, "a malformed bearer token"),
        (["Bearer a=b"], BAD, "a malformed bearer token"),
        ([f"Bearer {TOKEN},{TOKEN}"], BAD, "a malformed bearer token"),
        ([f"Bearer {TOKEN} {TOKEN}"], BAD, "a malformed bearer token"),
        ([f'Bearer "{TOKEN}"'], BAD, "a malformed bearer token"),
        ([f"Bearer {TOKEN}\n"], BAD, "a malformed bearer token"),
        ([f"Bearer {TOKEN}é"], BAD, "a malformed bearer token"),
        (["Bearer \u0661"], BAD, "a malformed bearer token"),
        (["Bearer \ud800"], BAD, "a malformed bearer token"),
        (["Bearer " + "a" * 1025], BAD, "a malformed bearer token"),
    ],
    ids=ascii,
)
def test_bad_credentials(
    authorization: list[str], challenge: tuple[tuple[str, str], ...], message: str
) -> None:
    """CIBA-9-05, -14, -15, VEC-DER-06: 401 with a challenge; an error only where a token was presented."""
    found = rejected(check_head("POST", [JSON, *(("Authorization", value) for value in authorization)]))
    assert found.answer == HttpResponse(401, challenge, b"")
    assert found.event.message == message


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        " application/json ",
    ],
)
def test_media_types_that_are_json(media_type: str) -> None:
    """CIBA-9-17: without regard to case, parameters and white space."""
    assert check_head("POST", [BEARER, ("content-TYPE", media_type)]) == token_hash(Secret(TOKEN))


@pytest.mark.parametrize(
    "media_type",
    ["", "text/json", "application/x-www-form-urlencoded", "application/jwt", "application/jsonx", None],
)
def test_other_media_types(media_type: str | None) -> None:
    """CIBA-9-13: 415, for a missing one as well."""
    headers = [BEARER] if media_type is None else [BEARER, ("Content-Type", media_type)]
    assert turned_away(headers) == HttpResponse(415, (), b"")


@pytest.mark.parametrize(("coding", "status"), [("gzip", 415), ("br", 415), ("", 415), (" Identity", None)])
def test_content_codings(coding: str, status: int | None) -> None:
    """CIBA-9-13: nothing is unpacked, so that a small body cannot become a large one."""
    found = check_head("POST", [*GOOD, ("Content-Encoding", coding)])
    assert (found.answer.status if isinstance(found, Rejection) else None) == status


@pytest.mark.parametrize(
    ("length", "large"),
    [
        ("65536", False),
        (" 65536 ", False),
        ("65537", True),
        ("1073741824", True),
        ("1" * 18, True),
        ("1" * 19, True),
        ("0" * 17 + "1", False),
        ("0" * 18 + "1", True),
        ("9" * 10_000, True),
        # What is no number is the server's matter, which reads the body.
        ("-1", False),
        ("", False),
        ("1e9", False),
        ("\u0661" * 9, False),
        ("9" * 17 + "\u00b2", False),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_a_length_above_the_limit(length: str, large: bool) -> None:
    """CIBA-9-13: a body that says it is too large is turned away before it is read."""
    found = check_head("POST", [*GOOD, ("Content-Length", length)])
    if large:
        assert rejected(found).answer == HttpResponse(413, (), b"")
        assert rejected(found).event.message == "a body of more than 65536 octets"
    else:
        assert found == token_hash(Secret(TOKEN))


def test_the_limit_is_the_callers() -> None:
    """CIBA-9-13: at both places, to the octet."""
    length = ("Content-Length", "100")
    assert check_head("POST", [*GOOD, length], body_limit=100) == token_hash(Secret(TOKEN))
    assert rejected(check_head("POST", [*GOOD, length], body_limit=99)).answer.status == 413
    octets = body(auth_req_id="a").ljust(100)
    assert isinstance(read_body(octets, body_limit=100), Notification)
    assert rejected(read_body(octets, body_limit=99)).answer == HttpResponse(413, (), b"")
    assert BODY_LIMIT == 65536
    assert isinstance(read_body(octets.ljust(BODY_LIMIT)), Notification)
    assert rejected(read_body(octets.ljust(BODY_LIMIT + 1))).event.message == (
        "a body of more than 65536 octets"
    )


def test_the_token_comes_before_the_rest() -> None:
    """CIBA-9-15: whoever is not known learns nothing of what else would be wrong."""
    bad = [("Content-Type", "text/html"), ("Content-Encoding", "gzip"), ("Content-Length", "9" * 9)]
    assert turned_away(bad).status == 401
    assert turned_away([*bad, ("Authorization", "Bearer ä")]).status == 401
    assert turned_away([*bad, BEARER]).status == 415
    assert turned_away([*bad[1:], *GOOD]).status == 415
    assert turned_away([*bad[2:], *GOOD]).status == 413


# ---- the body


def test_a_ping() -> None:
    """VEC-CORE-07, CIBA-10.2-01, CIBA-9-09: unknown members do not matter."""
    for more in ({}, {"foo": 1}, {"state": {"a": [None]}}):
        found = read_body(body(auth_req_id=AUTH_REQ_ID, **more))
        assert found == Notification(Secret(AUTH_REQ_ID), {"auth_req_id": AUTH_REQ_ID, **more})
        assert isinstance(found, Notification)
        assert found.is_ping


@pytest.mark.parametrize("name", ["access_token", "id_token", "refresh_token", "error"])
@pytest.mark.parametrize("value", ["x", 5, [], False])
def test_what_makes_a_push(name: str, value: object) -> None:
    """CIBA-9-18: a token or an error makes a callback a push, whatever its value, unless it says nothing."""
    found = read_body(body(auth_req_id=AUTH_REQ_ID, **{name: value}))
    assert isinstance(found, Notification)
    assert not found.is_ping


@pytest.mark.parametrize(
    ("octets", "message"),
    [
        (b"", "a body that is not JSON"),
        (b"auth_req_id=1c266114", "a body that is not JSON"),
        (b'{"auth_req_id":"a"', "a body that is not JSON"),
        (2 * b"\xef\xbb\xbf" + body(auth_req_id="a"), "a body that is not JSON"),
        (b'{"auth_req_id":"\xff"}', "a body that is not JSON"),
        (b'{"auth_req_id":"\\ud800"}', "a body that is JSON with text that is not valid Unicode"),
        (b'["a"]', "a body that is JSON, but not an object"),
        (
            b'{"auth_req_id":"a","auth_req_id":"b"}',
            "a body that is a JSON object with a repeated member name",
        ),
        (b'{"auth_req_id":"a","x":NaN}', "a body that is JSON with NaN, Infinity or a number out of range"),
        (b'{"auth_req_id":"a","x":' + b"[" * 40 + b"]" * 40 + b"}", "a body that is JSON nested too deeply"),
        (b"{}", "auth_req_id is missing"),
        (body(auth_req_id=None), "auth_req_id is not a non-empty string"),
        (body(auth_req_id=1), "auth_req_id is not a non-empty string"),
        (body(auth_req_id=""), "auth_req_id is not a non-empty string"),
        (body(auth_req_id=["a"]), "auth_req_id is not a non-empty string"),
    ],
    ids=lambda value: ascii(value)[:50],
)
def test_bad_bodies(octets: bytes, message: str) -> None:
    """CIBA-9-13, HTTP-05, VEC-DER-06: 400 without a word for what is no JSON object with an ``auth_req_id``."""
    found = rejected(read_body(octets))
    assert found.answer == HttpResponse(400, (), b"")
    assert found.event.message == message


def test_members_are_for_reading() -> None:
    """A notification is a value: nothing in it can be changed, at any depth."""
    found = read_body(body(auth_req_id="a", x={"y": [1]}))
    assert isinstance(found, Notification)
    with pytest.raises(TypeError):
        found.members["auth_req_id"] = "b"  # type: ignore[index]
    with pytest.raises(TypeError):
        found.members["x"]["y"] = 2
    assert found.members["x"]["y"] == (1,)


# ---- the answers


def test_the_fixed_answers() -> None:
    """CIBA-9-06, -07, -12, -14: 204 without a body; the same 401 for all that is not known; never a redirect."""
    assert HttpResponse(204, (), b"") == ACCEPTED
    assert HttpResponse(401, BAD, b"") == UNKNOWN_TOKEN.answer
    assert UNKNOWN_TOKEN.event.message == "a token that no transaction waits for"
    assert rejection(400, "rule", "message").answer == HttpResponse(400, (), b"")
    assert (rejection(400, "rule", "message").event.rule, rejection(400, "r", "message").event.message) == (
        "rule",
        "message",
    )


RULES: Final = {
    "GET": (check_head("GET", []), "CIBA Core 10.2: POST"),
    "no token": (check_head("POST", []), "CIBA Core 9: bearer token"),
    "basic": (check_head("POST", [("Authorization", "Basic x")]), "CIBA Core 9: bearer token"),
    "malformed": (check_head("POST", [("Authorization", "Bearer ")]), "RFC 6750 2.1: b64token"),
    "unknown": (UNKNOWN_TOKEN, "CIBA Core 10.2: bearer token"),
    "text": (check_head("POST", [BEARER]), "CIBA Core 10.2: application/json"),
    "gzip": (check_head("POST", [*GOOD, ("content-encoding", "gzip")]), "RFC 9110 8.4: Content-Encoding"),
    "length": (check_head("POST", [*GOOD, ("content-length", "99999")]), "size limit"),
    "size": (read_body(bytes(99_999)), "size limit"),
    "no object": (read_body(b"[]"), "CIBA Core 10.2: JSON object"),
    "no id": (read_body(b"{}"), "CIBA Core 10.2: auth_req_id"),
}


@pytest.mark.parametrize(("found", "rule"), RULES.values(), ids=RULES)
def test_events_name_the_rule(found: object, rule: str) -> None:
    """Each refusal tells the operator which rule of which standard was broken; the caller learns the status."""
    assert rejected(found).event.rule == rule
    assert rejected(found).answer.body == b""


def test_nothing_of_a_callback_shows() -> None:
    """Promise 6: neither identifier nor tokens, in any way of showing it."""
    found = read_body(json.dumps(pushed()).encode())
    assert isinstance(found, Notification)
    for shown in (repr(found), str(found), f"{found}"):
        assert "auth_req_id=Secret('***')" in shown
        for value in pushed().values():
            assert str(value) not in shown


# ---- anything at all

MARK: Final = "zQ7marker"
TEXT: Final = st.one_of(
    st.text(),
    st.text(alphabet=st.characters(codec="latin-1")),
    st.binary().map(lambda octets: octets.decode("latin-1")),
    st.sampled_from(
        [
            f"Bearer {MARK}",
            f"bearer  {MARK}",
            "Bearer",
            f"Basic {MARK}",
            "application/json",
            "application/json;q=1",
            "gzip",
            "identity",
            "62",
            "-1",
            "9" * 30,
            f"{MARK}\r\nX: y",
        ]
    ),
)
NAMES: Final = st.one_of(
    st.sampled_from(["Authorization", "authorization", "Content-Type", "content-encoding", "Content-Length"]),
    st.text(max_size=10),
)
DOCUMENTED: Final = {
    405: (("Allow", "POST"),),
    413: (),
    415: (),
    400: (),
}


def check_rejection(found: Rejection) -> None:
    answer = found.answer
    if answer.status == 401:
        assert answer.headers in (ANOTHER, BAD)
    else:
        assert answer.headers == DOCUMENTED[answer.status]
    assert answer.body == b""
    for shown in (repr(found), repr(answer), found.event.rule, found.event.message):
        assert MARK not in shown
    # What an event says is of this library's making.
    assert (found.event.message + found.event.rule).isascii()


@settings(deadline=None)
@given(
    method=st.one_of(st.just("POST"), st.text(max_size=8)),
    headers=st.lists(st.tuples(NAMES, TEXT), max_size=8),
)
@example(method="POST", headers=[("Authorization", f"Bearer {MARK}"), JSON])
def test_any_head(method: str, headers: Headers) -> None:
    """Bad input: whatever comes in method and header, a documented answer or the hash of a token."""
    found = check_head(method, headers)
    if isinstance(found, Rejection):
        assert found.answer.status in (405, 401, 415, 413)
        check_rejection(found)
    else:
        assert method == "POST"
        assert len(found) == 64
        assert [name.lower() for name, _ in headers].count("authorization") == 1


MEMBERS: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(MARK),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OCTETS: Final = st.one_of(
    st.binary(),
    MEMBERS.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(
        st.sampled_from(["auth_req_id", "error", "access_token", "id_token", MARK]), MEMBERS, max_size=4
    ).map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    st.tuples(st.sampled_from([body(auth_req_id=MARK), body(**pushed())]), st.integers(0, 80)).map(
        lambda pair: pair[0][: pair[1]]
    ),
)


@settings(deadline=None)
@given(octets=OCTETS)
@example(octets=body(auth_req_id=MARK))
@example(octets=body(auth_req_id=MARK) * 2)
def test_any_body(octets: bytes) -> None:
    """Bad input: whatever comes as a body, a documented answer or a notification with an identifier."""
    found = read_body(octets, body_limit=200)
    if isinstance(found, Rejection):
        assert found.answer.status == (413 if len(octets) > 200 else 400)
        check_rejection(found)
    else:
        assert found.auth_req_id.reveal() == found.members["auth_req_id"]
        assert found.auth_req_id
        assert MARK not in repr(found)
