"""Answers in forms that deviate from the standards: what is taken, with which event, and what never is."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from ciba_core import (
    AuthenticationRequest,
    ClientConfig,
    HttpResponse,
    NotificationReceived,
    Step,
    TokenResponse,
    Transaction,
    Verdict,
    step,
)
from ciba_core.errors import GrantDiffers, TokensRejected
from ciba_core.events import ProviderDeviation
from ciba_core.jose.signing import compact, sign
from ciba_core.notification import Notification, read_body
from ciba_core.provider.shared import NOTHING_SHARED
from ciba_core.states import Authenticated, Pending
from tests.samples import (
    ACKNOWLEDGEMENT,
    AUTH_REQ_ID,
    CLIENT,
    JWKS,
    NOW,
    PING,
    PING_CLIENT,
    PROVIDER_KEY,
    PUBLIC_JWK,
    PUSH_CLIENT,
    SHARED,
    TOKENS,
    Json,
    answer,
    awaiting,
    fetching,
    fire,
    pending,
    polling,
    pushed,
    reply,
    without,
)

BOM = b"\xef\xbb\xbf"
OAUTH = "RFC 6749 5.1"
TYPE = "RFC 8259 11: application/json"


def told(current: Step) -> list[str]:
    """The rules that the events of a step name as bent."""
    return [event.rule for event in current.events if isinstance(event, ProviderDeviation)]


def issued(current: Step) -> TokenResponse:
    assert isinstance(current.transaction.state, Authenticated)
    return current.transaction.state.tokens


def rejected(current: Step) -> TokensRejected:
    error = current.transaction.error
    assert isinstance(error, TokensRejected)
    return error


def with_claims(claims: Json, *, before: bytes = b"", like: object = TOKENS["id_token"]) -> str:
    """An ID Token like the one of the samples with other claims, of which any may be null."""
    header, payload, _ = str(like).split(".")
    content = before + json.dumps({**json.loads(urlsafe_b64decode(payload + "==")), **claims}).encode()
    signed = f"{header}.{urlsafe_b64encode(content).decode().rstrip('=')}"
    return compact(signed.encode(), sign(signed.encode(), PROVIDER_KEY, "Ed25519"))


# --- the acknowledgement


@pytest.mark.parametrize(
    ("response", "rules"),
    [
        (reply(200, {**ACKNOWLEDGEMENT, "expires_in": "120"}), ["CIBA Core 7.3: expires_in"]),
        (reply(200, {**ACKNOWLEDGEMENT, "expires_in": 120.0}), ["CIBA Core 7.3: expires_in"]),
        (reply(200, {**ACKNOWLEDGEMENT, "interval": "2"}), ["CIBA Core 7.3: interval"]),
        (reply(200, {**ACKNOWLEDGEMENT, "error": None}), ["RFC 6749 5.2: error"]),
        (reply(200, {**ACKNOWLEDGEMENT, "error": ""}), ["RFC 6749 5.2: error"]),
        (reply(200, BOM + json.dumps(ACKNOWLEDGEMENT).encode()), ["RFC 8259 8.1"]),
        (reply(201, ACKNOWLEDGEMENT), ["RFC 6749 5.1: status"]),
        (reply(202, ACKNOWLEDGEMENT), ["RFC 6749 5.1: status"]),
        (reply(200, ACKNOWLEDGEMENT, media_type=None), [TYPE]),
        (reply(200, ACKNOWLEDGEMENT, media_type="text/html"), [TYPE]),
        (reply(200, ACKNOWLEDGEMENT, media_type="text/plain; charset=utf-8"), [TYPE]),
    ],
)
def test_acknowledgements(response: HttpResponse, rules: list[str]) -> None:
    """CIBA-7.3: the user is being asked; the acknowledgement is taken as it is meant."""
    found = answer(awaiting(), response)
    assert found.transaction.state == pending().state
    assert told(found) == rules


@pytest.mark.parametrize("value", [None, ""])
def test_an_interval_that_is_null(value: object) -> None:
    """CIBA-7.3-06: as one that is left out: five seconds."""
    found = answer(awaiting(), reply(200, {**ACKNOWLEDGEMENT, "interval": value}))
    assert isinstance(found.transaction.state, Pending)
    assert found.transaction.state.interval == 5.0
    assert told(found) == ["CIBA Core 7.3: interval"]


# --- tokens

PLAIN = AuthenticationRequest(scope="api", openid=False, login_hint="alice")


def without_openid() -> Transaction:
    return fire(answer(awaiting(PLAIN), reply(200, ACKNOWLEDGEMENT)).transaction).transaction


@pytest.mark.parametrize(
    ("changes", "same_as", "rules"),
    [
        ({"expires_in": "120"}, {}, [f"{OAUTH}: expires_in"]),
        ({"expires_in": 120.0}, {}, [f"{OAUTH}: expires_in"]),
        ({"expires_in": None}, {"expires_in": ...}, [f"{OAUTH}: expires_in"]),
        ({"expires_in": ""}, {"expires_in": ...}, [f"{OAUTH}: expires_in"]),
        ({"refresh_token": None}, {"refresh_token": ...}, [f"{OAUTH}: refresh_token"]),
        ({"refresh_token": ""}, {"refresh_token": ...}, [f"{OAUTH}: refresh_token"]),
        ({"scope": ["openid", "email"]}, {"scope": "openid email"}, [f"{OAUTH}: scope"]),
        ({"authorization_details": None}, {}, ["RFC 9396 7: authorization_details"]),
        ({"error": None}, {}, ["RFC 6749 5.2: error"]),
        ({"error": "", "error_description": ""}, {}, ["RFC 6749 5.2: error"]),
    ],
)
@pytest.mark.parametrize("keys", ["known", "fetched"])
def test_tokens(changes: Json, same_as: dict[str, Any], rules: list[str], keys: str) -> None:
    """TOK-05..07: tokens that the user approved are taken as they are meant, be the keys still to be fetched."""
    plain = without({**TOKENS, **same_as}, *(name for name, value in same_as.items() if value is ...))
    found = answer(
        polling(), reply(200, {**TOKENS, **changes}), shared=SHARED if keys == "known" else NOTHING_SHARED
    )
    assert told(found) == rules
    if keys == "fetched":
        found = answer(found.transaction, reply(200, JWKS), shared=NOTHING_SHARED)
    got, expected = issued(found), issued(answer(polling(), reply(200, plain)))
    assert attrs.evolve(got, extra={}) == attrs.evolve(expected, extra={})


@pytest.mark.parametrize("value", [None, ""])
def test_an_id_token_that_nobody_asked_for(value: object) -> None:
    """TOK-03: null where none is demanded is none; where one is, it is missing."""
    found = answer(without_openid(), reply(200, {**TOKENS, "id_token": value}))
    assert issued(found).id_token is None
    assert told(found) == ["OpenID Connect Core 3.1.3.3: id_token"]
    assert rejected(answer(polling(), reply(200, {**TOKENS, "id_token": value}))).args == (
        "id_token is missing",
    )


@pytest.mark.parametrize("value", [None, "", []])
def test_a_scope_that_is_not_told(value: object) -> None:
    """TOK-06: the member is there and says nothing: the tokens are taken, and nobody vouches for their scope."""
    found = answer(polling(), reply(200, {**TOKENS, "scope": value}))
    assert told(found) == [f"{OAUTH}: scope"]
    tokens = issued(found)
    item = tokens.grant.item("scope")
    assert item is not None
    assert (tokens.scope, item.verdict, item.granted) == ("", Verdict.NOT_TOLD, ())
    assert tokens.differs_in == ("scope",)
    with pytest.raises(GrantDiffers, match="scope"):
        tokens.require_as_requested()
    stored = Transaction.from_json(
        found.transaction.to_json(), client=found.transaction.client, provider=found.transaction.provider
    )
    assert stored.state == found.transaction.state


@pytest.mark.parametrize(
    ("response", "rules"),
    [
        (reply(200, BOM + json.dumps(TOKENS).encode()), ["RFC 8259 8.1"]),
        (reply(201, TOKENS), ["RFC 6749 5.1: status"]),
        (reply(202, TOKENS), ["RFC 6749 5.1: status"]),
        (reply(200, TOKENS, media_type=None), [TYPE]),
        (reply(200, TOKENS, media_type="text/html"), [TYPE]),
        (reply(200, TOKENS, media_type="text/json"), [TYPE]),
        (reply(200, TOKENS, media_type="application/octet-stream"), [TYPE]),
        (reply(200, TOKENS, media_type="application/json;charset=ISO-8859-1"), []),
        (reply(200, b"\r\n " + json.dumps(TOKENS).encode() + b"\r\n\r\n"), []),
    ],
)
def test_what_surrounds_tokens(response: HttpResponse, rules: list[str]) -> None:
    """TOK-01, HTTP-04: the body decides what an answer is, not what is said about it."""
    found = answer(polling(), response)
    assert issued(found) == issued(answer(polling(), reply(200, TOKENS)))
    assert told(found) == rules


@pytest.mark.parametrize(
    "changes",
    [
        {"access_token": None},
        {"access_token": ""},
        {"access_token": ["a"]},
        {"token_type": None},
        {"token_type": ""},
        {"token_type": ["Bearer"]},
        {"authorization_details": ""},
        {"authorization_details": "[]"},
        {"authorization_details": {"type": "a"}},
        {"expires_in": "soon"},
        {"expires_in": [120]},
        {"refresh_token": 5},
        {"scope": ["openid email"]},
    ],
)
def test_tokens_that_are_refused(changes: Json) -> None:
    """TOK-02..06: what it all hangs on is not guessed, and a value that is there and wrong is no absent one."""
    error = rejected(answer(polling(), reply(200, {**TOKENS, **changes})))
    assert error.rule


@pytest.mark.parametrize("octets", [BOM * 2, b" " + BOM, b"\xff\xfe", b"\x00"])
def test_other_marks_make_no_json(octets: bytes) -> None:
    """RFC 8259 8.1: one mark of UTF-8 at the very beginning, and nothing else."""
    found = answer(polling(), reply(200, octets + json.dumps(TOKENS).encode()))
    assert isinstance(found.transaction.state, Pending)
    assert told(found) in ([], ["RFC 8259 8.1"])


# --- ID Tokens

CORE = "OpenID Connect Core 2"


@pytest.mark.parametrize(
    ("claims", "rules"),
    [
        *(
            ({name: None}, [f"{CORE}: {name}"])
            for name in ("nbf", "auth_time", "azp", "at_hash", "nonce", "acr")
        ),
        *(({name: ""}, [f"{CORE}: {name}"]) for name in ("nbf", "auth_time", "acr")),
        ({"auth_time": "1537819000"}, ["OpenID Connect Core 3.1.3.7 (13): auth_time"]),
        ({"auth_time": "2018-09-24T20:00:00Z"}, ["OpenID Connect Core 3.1.3.7 (13): auth_time"]),
        ({"nbf": None, "acr": None}, [f"{CORE}: nbf", f"{CORE}: acr"]),
        ({"email": None, "given_name": ""}, []),
    ],
)
def test_claims_that_say_nothing(claims: Json, rules: list[str]) -> None:
    """OpenID Connect Core 2: an optional claim that is null is as good as left out."""
    found = answer(polling(), reply(200, {**TOKENS, "id_token": with_claims(claims)}))
    told_claims = issued(found).id_token_claims
    assert told_claims is not None
    assert told(found) == rules
    assert not {name for name, value in claims.items() if rules and value in (None, "")} & set(told_claims)


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"iss": None}, "iss is missing"),
        ({"iss": "https://other.example"}, "iss is not the issuer"),
        ({"iss": ""}, "iss is not the issuer"),
        ({"sub": None}, "sub is not"),
        ({"aud": None}, "aud is neither"),
        ({"exp": None}, "exp is not a number"),
        ({"exp": "9999999999"}, "exp is not a number"),
        ({"iat": ""}, "iat is not a number"),
        ({"iat": "1537819486"}, "iat is not a number"),
        ({"nbf": "0"}, "nbf is not a number"),
        ({"azp": ""}, "azp is not the client"),
        ({"azp": "other"}, "azp is not the client"),
        ({"at_hash": ""}, "at_hash is missing or wrong"),
        ({"auth_time": "9999999999"}, "auth_time is in the future"),
        ({"auth_time": True}, "auth_time is not a number"),
        ({"urn:openid:params:jwt:claim:auth_req_id": None}, "auth_req_id is missing or wrong"),
        ({"urn:openid:params:jwt:claim:rt_hash": None}, "rt_hash is missing or wrong"),
    ],
)
def test_claims_that_are_never_guessed(claims: Json, message: str) -> None:
    """IDT-03..13: issuer, subject, audience, times and CIBA's own claims; a value that is there and wrong."""
    error = rejected(answer(polling(), reply(200, {**TOKENS, "id_token": with_claims(claims)})))
    assert error.args[0].startswith(message)


@pytest.mark.parametrize(
    ("request_", "claims"),
    [
        ({"extra": {"nonce": "n"}}, {"nonce": None}),
        ({"extra": {"max_age": "60"}}, {"auth_time": None}),
        ({"extra": {"max_age": "60"}}, {"auth_time": str(int(NOW))}),
        ({"claims": {"id_token": {"auth_time": {"essential": True}}}}, {"auth_time": ""}),
        ({"claims": {"id_token": {"auth_time": {"essential": True}}}}, {"auth_time": str(int(NOW))}),
        ({"claims": {"id_token": {"acr": {"essential": True}}}}, {"acr": None}),
        ({"claims": {"id_token": {"acr": {"essential": True}}}}, {"acr": ""}),
    ],
)
def test_claims_that_were_asked_for(request_: dict[str, Any], claims: Json) -> None:
    """IDT-14..17: null is absent, and what was asked for must not be; text is no time where one is measured."""
    name = next(iter(claims))
    request = AuthenticationRequest(login_hint="alice", **request_)
    tx = fire(answer(awaiting(request), reply(200, ACKNOWLEDGEMENT)).transaction).transaction
    assert name in rejected(answer(tx, reply(200, {**TOKENS, "id_token": with_claims(claims)}))).rule


def test_a_byte_order_mark_in_a_jwt() -> None:
    """RFC 7519 7.2: inside a JWT nothing is ignored; it was signed."""
    signed = with_claims({}, before=BOM)
    assert rejected(answer(polling(), reply(200, {**TOKENS, "id_token": signed}))).rule == "RFC 7515 5.2"


# --- keys


@pytest.mark.parametrize(
    ("response", "rules"),
    [
        *(
            (reply(200, JWKS, media_type=media_type), ["RFC 7517 8.5.2"])
            for media_type in (
                None, "text/html", "text/plain", "application/octet-stream", "application/jwk+json", "x",
            )
        ),
        (reply(200, JWKS, media_type="application/jwk-set+json; charset=UTF-8"), []),
        (reply(200, JWKS, media_type="Application/JSON"), []),
        (reply(201, JWKS), []),
        (reply(200, BOM + json.dumps(JWKS).encode()), ["RFC 8259 8.1"]),
        (reply(200, {"keys": [{**PUBLIC_JWK, "d": None, "use": None, "x5c": None}]}), ["RFC 7517 4"]),
    ],
)  # fmt: skip
def test_key_sets(response: HttpResponse, rules: list[str]) -> None:
    """JWKS-01: keys are taken from any media type, and those with private members that are null, too."""
    found = answer(fetching(), response, shared=NOTHING_SHARED)
    assert issued(found).access_token.reveal() == TOKENS["access_token"]
    assert told(found) == rules


# --- callbacks


def notified(body: bytes, client: ClientConfig) -> Step:
    notification = read_body(body)
    assert isinstance(notification, Notification)
    return step(pending(client=client), NotificationReceived(notification), NOW, SHARED)


def octets(members: Mapping[str, object]) -> bytes:
    return json.dumps(members).encode()


@pytest.mark.parametrize(
    ("body", "rules"),
    [
        (octets({**PING, "error": None}), ["CIBA Core 10.2: error"]),
        (
            octets({**PING, "access_token": None, "id_token": None, "error": ""}),
            ["CIBA Core 10.2: access_token", "CIBA Core 10.2: id_token", "CIBA Core 10.2: error"],
        ),
        (octets({**PING, "refresh_token": None, "foo": None}), ["CIBA Core 10.2: refresh_token"]),
        (BOM + octets(PING), ["RFC 8259 8.1"]),
    ],
)
def test_pings(body: bytes, rules: list[str]) -> None:
    """CIBA-10.2-01: a ping with members that are null is one; the poll follows at once."""
    found = notified(body, PING_CLIENT)
    assert (found.answer is not None, told(found)) == (True, rules)
    assert found.transaction.state == notified(octets(PING), PING_CLIENT).transaction.state


def test_a_ping_that_is_held() -> None:
    """CIBA-10.2: what was bent in a ping that overtakes the acknowledgement is told once."""
    notification = read_body(BOM + octets(PING))
    assert isinstance(notification, Notification)
    held = step(awaiting(client=PING_CLIENT), NotificationReceived(notification), NOW, SHARED)
    assert told(held) == ["RFC 8259 8.1"]
    assert told(answer(held.transaction, reply(200, ACKNOWLEDGEMENT))) == []


@pytest.mark.parametrize(
    ("body", "rules"),
    [
        (octets({**pushed(), "error": None}), ["CIBA Core 12: error"]),
        (octets({**pushed(), "expires_in": "120"}), [f"{OAUTH}: expires_in"]),
        (octets({**pushed(), "scope": ["openid"]}), [f"{OAUTH}: scope"]),
        (BOM + octets(pushed()), ["RFC 8259 8.1"]),
        (octets({**pushed(nonce=None), "scope": "openid"}), []),
    ],
)
def test_pushes(body: bytes, rules: list[str]) -> None:
    """CIBA-10.3-01: what is pushed is read as an answer of the token endpoint is."""
    found = notified(body, PUSH_CLIENT)
    issued(found)
    assert told(found) == rules


def test_an_error_with_tokens_that_are_null() -> None:
    """CIBA-12-06: an error beside tokens is ambiguous; beside members that are null it is an error."""
    found = notified(octets({**PING, "error": "access_denied", "access_token": None}), PUSH_CLIENT)
    assert type(found.transaction.error).__name__ == "AccessDenied"
    assert told(found) == ["CIBA Core 12: access_token"]


@pytest.mark.parametrize("value", [None, ""])
def test_a_push_has_to_be_bound(value: object) -> None:
    """CIBA-10.3-04: in a push an ``at_hash`` that is null is missing."""
    signed = with_claims({"at_hash": value}, like=pushed()["id_token"])
    found = notified(octets({**pushed(), "id_token": signed}), PUSH_CLIENT)
    assert found.answer is not None
    assert found.answer.status == 400
    assert isinstance(found.transaction.state, Pending)


def test_the_auth_req_id_is_never_guessed() -> None:
    """CIBA-7.3-02: null, empty or of another type, it is none."""
    for value in (None, "", 5, [AUTH_REQ_ID]):
        found = answer(awaiting(client=CLIENT), reply(200, {**ACKNOWLEDGEMENT, "auth_req_id": value}))
        assert "auth_req_id" in str(found.transaction.error)
