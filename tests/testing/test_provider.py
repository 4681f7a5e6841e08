"""The simulated provider, request by request."""

from __future__ import annotations

import base64
import email.utils
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from ciba_core.testing import (
    Answer,
    AnswerDropped,
    Approve,
    Busy,
    Delay,
    Deny,
    DropAfter,
    DropBefore,
    Fault,
    Ignore,
    JournalEntry,
    NoReply,
    Refuse,
    Reply,
    SimulatedClient,
    SimulatedProvider,
    SlowDown,
    Truncate,
    User,
    VirtualClock,
)
from ciba_core.values.http import HttpRequest, Purpose

FORM = "application/x-www-form-urlencoded"
GRANT = "urn:openid:params:grant-type:ciba"
CLIENT = SimulatedClient("s6BhdRkqt3", "gX1fBat3bV")
OTHER = SimulatedClient("other", "p@ss:w%rd+1 é", token_endpoint_auth_method="client_secret_post")
PUBLIC = SimulatedClient("public", token_endpoint_auth_method="none")
USERS: Mapping[str, User] = {"alice": Approve(), "bob": Deny(), "carol": Ignore()}

Pairs = Sequence[tuple[str, str]]


def basic(identifier: str, secret: str) -> tuple[str, str]:
    """An Authorization header written from RFC 6749 2.3.1."""
    pair = f"{quote(identifier, safe='')}:{quote(secret, safe='')}"
    return "Authorization", "Basic " + base64.b64encode(pair.encode()).decode()


AUTHORIZATION = basic("s6BhdRkqt3", "gX1fBat3bV")


class Harness:
    """A provider, its clock, and a client that does as it is told."""

    def __init__(self, users: Mapping[str, User] = USERS, **settings: Any) -> None:
        self.clock = VirtualClock()
        self.provider = SimulatedProvider(
            self.clock, clients=[OTHER, CLIENT, PUBLIC], users=users, **settings
        )

    def post(self, path: str, pairs: Pairs, *headers: tuple[str, str]) -> Reply:
        return self.raw(path, urlencode(pairs).encode(), *(headers or (AUTHORIZATION,)))

    def raw(self, path: str, body: bytes, *headers: tuple[str, str]) -> Reply:
        reply = self.provider.handle("POST", path, [("Content-Type", FORM), *headers], body)
        assert isinstance(reply, Reply)
        return reply

    def get(self, path: str) -> Reply:
        reply = self.provider.handle("GET", path, [], b"")
        assert isinstance(reply, Reply)
        return reply

    def authenticate(self, *more: tuple[str, str], scope: str = "openid", login_hint: str = "alice") -> Reply:
        return self.post("/bc-authorize", [("scope", scope), ("login_hint", login_hint), *more])

    def begin(self, *more: tuple[str, str], scope: str = "openid", login_hint: str = "alice") -> str:
        reply = self.authenticate(*more, scope=scope, login_hint=login_hint)
        assert reply.status == 200, reply.body
        return str(json.loads(reply.body)["auth_req_id"])

    def poll(self, auth_req_id: str) -> Reply:
        return self.post("/token", [("grant_type", GRANT), ("auth_req_id", auth_req_id)])

    def outcome(self, auth_req_id: str) -> str:
        self.poll(auth_req_id)
        return self.last.outcome

    @property
    def last(self) -> JournalEntry:
        return self.provider.journal[-1]


def content(reply: Reply) -> Any:
    assert ("Content-Type", "application/json") in reply.headers
    return json.loads(reply.body)


def header(reply: Reply, name: str) -> str | None:
    return dict(reply.headers).get(name)


def refused(reply: Reply) -> tuple[int, str]:
    error = content(reply)
    # RFC 6749 5.2: the characters of error and error_description
    assert re.fullmatch(r"[\x20-\x21\x23-\x5B\x5D-\x7E]+", error["error_description"])
    return reply.status, error["error"]


# --- metadata and keys -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("issuer", "path"),
    [
        ("https://op.example", "/.well-known/openid-configuration"),
        ("https://op.example/", "/.well-known/oauth-authorization-server"),
        ("https://op.example/a/b", "/a/b/.well-known/openid-configuration"),
        ("https://op.example/a/b/", "/.well-known/oauth-authorization-server/a/b"),
    ],
)
def test_metadata_is_where_the_standards_put_it(issuer: str, path: str) -> None:
    """OpenID Discovery appends to the issuer, RFC 8414 inserts; the issuer comes back as it was (DISC-01, -02, -05)."""
    harness = Harness(issuer=issuer)
    document = content(harness.get(path))
    assert document["issuer"] == issuer
    base = issuer.rstrip("/")
    assert document["token_endpoint"] == f"{base}/token"
    assert document["backchannel_authentication_endpoint"] == f"{base}/bc-authorize"
    assert document["backchannel_token_delivery_modes_supported"] == ["poll"]
    assert harness.last.outcome == "served"


def test_keys_are_public_and_the_id_token_verifies_with_them() -> None:
    """The ID Token is signed with RS256 by a key at the JWKS endpoint, and has the claims of OIDC Core 2."""
    harness = Harness({"tel:+49": Approve(sub="248289761001")})
    auth_req_id = harness.begin(("acr_values", "loa3 loa2"), login_hint="tel:+49")
    harness.clock.sleep(5)
    tokens = content(harness.poll(auth_req_id))
    keys = content(harness.get("/jwks"))
    assert not {"d", "p", "q"} & set(keys["keys"][0])
    token = jwt.decode(tokens["id_token"], KeySet.import_key_set(keys), algorithms=["RS256"])
    assert token.header["kid"] == keys["keys"][0]["kid"]
    assert token.claims == {
        "iss": "https://op.example",
        "sub": "248289761001",
        "aud": "s6BhdRkqt3",
        "iat": 1_700_000_005,
        "exp": 1_700_000_305,
        "auth_time": 1_700_000_005,
        "acr": "loa3",
    }


def test_import_needs_no_jose() -> None:
    """joserfc is not imported before a key is used."""
    code = "import sys, ciba_core.testing; sys.exit('joserfc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("POST", "/jwks", "GET"), ("GET", "/token", "POST"), ("PUT", "/bc-authorize", "POST")],
)
def test_wrong_method(method: str, path: str, allowed: str) -> None:
    """A wrong method gets 405 and is told the right one."""
    harness = Harness()
    reply = harness.provider.handle(method, path, [], b"")
    assert isinstance(reply, Reply)
    assert (reply.status, header(reply, "Allow")) == (405, allowed)
    assert harness.last.outcome == "method_not_allowed"


def test_unknown_path() -> None:
    """A path with nothing at it gets 404."""
    harness = Harness()
    assert harness.get("/authorize").status == 404
    assert (harness.last.endpoint, harness.last.outcome) == ("unknown", "not_found")


# --- the form and client authentication --------------------------------------------------------------------


@pytest.mark.parametrize("content_type", [None, "application/json", f"{FORM}; charset=latin-1", f"{FORM}x"])
def test_content_type_is_demanded(content_type: str | None) -> None:
    """CIBA-7.1-01: a body that is not declared as a form is refused."""
    headers = [AUTHORIZATION] + ([("Content-Type", content_type)] if content_type else [])
    reply = Harness().provider.handle("POST", "/bc-authorize", headers, b"scope=openid&login_hint=alice")
    assert isinstance(reply, Reply)
    assert refused(reply) == (400, "invalid_request")


def test_content_type_twice() -> None:
    """Two Content-Type headers are one too many."""
    assert refused(Harness().post("/token", [], AUTHORIZATION, ("content-type", FORM))) == (
        400,
        "invalid_request",
    )


@pytest.mark.parametrize("content_type", ["Application/X-WWW-Form-Urlencoded", f'{FORM} ;charset="UTF-8"'])
def test_content_type_variants(content_type: str) -> None:
    """Media types are compared without case, and UTF-8 may be named."""
    headers = [AUTHORIZATION, ("CONTENT-TYPE", content_type)]
    reply = Harness().provider.handle("POST", "/bc-authorize", headers, b"scope=openid&login_hint=alice")
    assert isinstance(reply, Reply)
    assert reply.status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"scope",
        b"=openid",
        b"scope=openid&",
        b"scope=open id",
        b"scope=openid&login_hint=%zz",
        b"scope=openid&login_hint=%4",
        b"scope=openid&login_hint=%FF",
        b"scope=openid&login_hint=\xc3\xa9",
        b"scope=openid&login_hint=tel:1",
        b"scope=openid&login_hint=alice&login_hint=alice",
        b"scope=openid&login_hint=alice&user_code=&user_code=",
        b"",
    ],
)
def test_malformed_forms(body: bytes) -> None:
    """HTTP-08: what is not properly percent-encoded UTF-8, or is there twice, is refused."""
    assert refused(Harness().raw("/bc-authorize", body, AUTHORIZATION)) == (400, "invalid_request")


def test_form_decoding() -> None:
    """RFC 6749 appendix B: plus and %20 are spaces, %2B is a plus, octets are UTF-8; empty values are left out."""
    harness = Harness({"a+b é~*": Ignore()})
    body = b"scope=openid&login_hint=a%2Bb+%c3%A9~*&binding_message=W4%20SCT&acr_values="
    assert harness.raw("/bc-authorize", body, AUTHORIZATION).status == 200
    (pending,) = harness.provider.pending
    assert (pending.hint, pending.binding_message) == ("a+b é~*", "W4 SCT")


def test_no_parameters_in_the_query() -> None:
    """CIBA-7.1-32: parameters belong into the body."""
    reply = Harness().post("/bc-authorize?scope=openid", [("login_hint", "alice")])
    assert refused(reply) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("headers", "more"),
    [
        ([basic("other", "p@ss:w%rd+1 é")], []),  # registered for client_secret_post
        ([basic("s6BhdRkqt3", "wrong")], []),
        ([("Authorization", "Basic %%%")], []),
        ([("Authorization", "Basic " + base64.b64encode(b"no colon").decode())], []),
        ([("Authorization", "Basic " + base64.b64encode(b"bad%:x").decode())], []),
        ([("Authorization", "Bearer " + base64.b64encode(b"s6BhdRkqt3:gX1fBat3bV").decode())], []),
        ([("X", "")], []),
        ([("X", "")], [("client_id", "s6BhdRkqt3")]),
        ([("X", "")], [("client_id", "s6BhdRkqt3"), ("client_secret", "gX1fBat3bV")]),
        ([("X", "")], [("client_id", "public"), ("client_secret", "x")]),
    ],
)
def test_client_authentication_fails(headers: list[tuple[str, str]], more: Pairs) -> None:
    """AUTH-01, CIBA-13-09: only the registered method with the right secret passes; the rest is 401 invalid_client."""
    harness = Harness()
    reply = harness.post("/bc-authorize", [("scope", "openid"), ("login_hint", "alice"), *more], *headers)
    assert refused(reply) == (401, "invalid_client")
    # RFC 6749 5.2: a client that tried by the Authorization header is told which scheme to use.
    assert (header(reply, "WWW-Authenticate") is not None) == (headers[0][0] == "Authorization")
    assert harness.last.client_id is None


@pytest.mark.parametrize(
    ("headers", "more"),
    [
        ([AUTHORIZATION], []),
        ([("authorization", AUTHORIZATION[1].replace("Basic", "bASIC"))], [("client_id", "s6BhdRkqt3")]),
        ([("X", "")], [("client_id", "other"), ("client_secret", "p@ss:w%rd+1 é")]),
        ([("X", "")], [("client_id", "public")]),
    ],
)
def test_client_authentication_passes(headers: list[tuple[str, str]], more: Pairs) -> None:
    """AUTH-10, -12, -13: client_secret_basic, client_secret_post and none, for whom they are registered."""
    reply = Harness().post("/bc-authorize", [("scope", "openid"), ("login_hint", "alice"), *more], *headers)
    assert reply.status == 200


def test_basic_credentials_are_form_decoded() -> None:
    """AUTH-10: id and secret are form-urlencoded within the Basic credentials."""
    clock = VirtualClock()
    client = SimulatedClient("https://client.example.org/", "p@ss:w%rd+1 £€")
    provider = SimulatedProvider(clock, clients=[client], users=USERS)
    headers = [("Content-Type", FORM), basic(client.client_id, "p@ss:w%rd+1 £€")]
    reply = provider.handle("POST", "/bc-authorize", headers, b"scope=openid&login_hint=alice")
    assert isinstance(reply, Reply)
    assert reply.status == 200


@pytest.mark.parametrize(
    ("headers", "more"),
    [
        ([AUTHORIZATION], [("client_id", "s6BhdRkqt3"), ("client_secret", "gX1fBat3bV")]),
        ([AUTHORIZATION, AUTHORIZATION], []),
        ([AUTHORIZATION], [("client_id", "other")]),
    ],
)
def test_two_ways_of_client_authentication(headers: list[tuple[str, str]], more: Pairs) -> None:
    """AUTH-02: more than one method in one request is invalid_request."""
    reply = Harness().post("/token", [("grant_type", GRANT), *more], *headers)
    assert refused(reply) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("method", "secret"),
    [("client_secret_basic", None), ("none", "x"), ("private_key_jwt", "x"), ("kerberos", "x")],
)
def test_registration_is_checked(method: str, secret: str | None) -> None:
    """A client whose method is unknown or does not fit its secret cannot be registered."""
    with pytest.raises(ValueError, match="token_endpoint_auth_method"):
        SimulatedClient("c", secret, token_endpoint_auth_method=method)


@pytest.mark.parametrize("path", ["/bc-authorize", "/token"])
def test_client_without_the_grant(path: str) -> None:
    """CIBA-13-05, CIBA-11-07: a client that is not registered for CIBA is unauthorized at both endpoints."""
    client = SimulatedClient("c", token_endpoint_auth_method="none", grant_types=("authorization_code",))
    provider = SimulatedProvider(VirtualClock(), clients=[client], users=USERS)
    body = urlencode(
        {"client_id": "c", "scope": "openid", "login_hint": "alice", "grant_type": GRANT}
    ).encode()
    reply = provider.handle("POST", path, [("Content-Type", FORM)], body)
    assert isinstance(reply, Reply)
    assert refused(reply) == (400, "unauthorized_client")


# --- the authentication request ----------------------------------------------------------------------------


def test_acknowledgement() -> None:
    """CIBA-7.3: auth_req_id in its alphabet, expires_in and interval; not to be cached."""
    harness = Harness(expires_in=300, interval=2)
    reply = harness.authenticate()
    acknowledgement = content(reply)
    assert re.fullmatch(r"[A-Za-z0-9._-]{27}", acknowledgement.pop("auth_req_id"))
    assert acknowledgement == {"expires_in": 300, "interval": 2}
    assert header(reply, "Cache-Control") == "no-store"
    assert harness.last.outcome == "acknowledged"
    assert harness.last.auth_req_id is not None


def test_interval_can_be_left_out_and_is_5_then() -> None:
    """CIBA-7.3-07: without an interval in the acknowledgement 5 seconds apply."""
    harness = Harness(interval=None)
    reply = harness.authenticate(login_hint="carol")
    assert "interval" not in content(reply)
    auth_req_id = content(reply)["auth_req_id"]
    assert harness.outcome(auth_req_id) == "authorization_pending"
    harness.clock.sleep(4.9)
    assert harness.outcome(auth_req_id) == "slow_down"


@pytest.mark.parametrize(("asked", "given"), [("60", 60), ("9000", 120), (None, 120)])
def test_requested_expiry_can_shorten(asked: str | None, given: int) -> None:
    """CIBA-7.1-25: the provider may follow requested_expiry; this one does when it is shorter."""
    more = [("requested_expiry", asked)] if asked else []
    assert content(Harness().authenticate(*more))["expires_in"] == given


@pytest.mark.parametrize(
    ("pairs", "error"),
    [
        ([("login_hint", "alice")], "invalid_request"),
        ([("scope", "profile"), ("login_hint", "alice")], "invalid_scope"),
        ([("scope", "openid  profile"), ("login_hint", "alice")], "invalid_scope"),
        ([("scope", 'openid "'), ("login_hint", "alice")], "invalid_scope"),
        ([("scope", "openid")], "invalid_request"),
        ([("scope", "openid"), ("login_hint", "alice"), ("id_token_hint", "x")], "invalid_request"),
        ([("scope", "openid"), ("login_hint", "nobody")], "unknown_user_id"),
    ],
)
def test_scope_and_hint_rules(pairs: Pairs, error: str) -> None:
    """CIBA-7.1-05, -07, -15, CIBA-7.2: a proper scope with openid, exactly one hint, and one that is known."""
    assert refused(Harness().post("/bc-authorize", pairs)) == (400, error)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("requested_expiry", "0", "invalid_request"),
        ("requested_expiry", "-5", "invalid_request"),
        ("requested_expiry", "60.0", "invalid_request"),
        ("requested_expiry", "٣", "invalid_request"),
        ("binding_message", "x" * 65, "invalid_binding_message"),
        ("binding_message", "two\nlines", "invalid_binding_message"),
        ("resource", "relative/path", "invalid_target"),
        ("resource", "https://api.example/#part", "invalid_target"),
        ("authorization_details", "{", "invalid_authorization_details"),
        ("authorization_details", '{"type":"a"}', "invalid_authorization_details"),
        ("authorization_details", '["a"]', "invalid_authorization_details"),
        ("authorization_details", '[{"type":1}]', "invalid_authorization_details"),
        ("authorization_details", '[{"type":"a","type":"b"}]', "invalid_authorization_details"),
        ("claims", "[1", "invalid_request"),
        ("claims", '{"a":NaN}', "invalid_request"),
        ("claims", "[" * 100_000, "invalid_request"),
        ("claims", "[]", "invalid_request"),
        ("claims", '{"userinfo":[]}', "invalid_request"),
        ("claims", '{"id_token":{"acr":"x"}}', "invalid_request"),
    ],
)
def test_parameter_rules(name: str, value: str, error: str) -> None:
    """Every optional parameter is checked and refused with the error its standard names, always as 400."""
    harness = Harness()
    assert refused(harness.authenticate((name, value))) == (400, error)
    assert harness.last.outcome == error
    assert harness.provider.pending == ()


def test_parameters_that_pass() -> None:
    """Proper values pass, unknown parameters are ignored (CIBA-7.2-02), resource may be repeated (RES-01)."""
    reply = Harness().authenticate(
        ("binding_message", "Überweisung 4711"),
        ("resource", "https://api.example/a?b"),
        ("resource", "urn:example:b"),
        ("claims", '{"userinfo":{"email":null},"id_token":{"auth_time":{"essential":true}}}'),
        ("x_extension", "1"),
        ("user_code", "1234"),
    )
    assert reply.status == 200


def test_plain_oauth() -> None:
    """Without require_openid any scope passes, and without openid there is no ID Token."""
    harness = Harness(require_openid=False)
    tokens = content(harness.poll(harness.begin(scope="payments")))
    assert "id_token" not in tokens
    assert tokens["scope"] == "payments"


def test_binding_message_rule_is_a_setting() -> None:
    """CIBA-7.1-23: providers differ in what they take."""
    harness = Harness(binding_message=r"[A-Z0-9]{1,20}")
    assert harness.authenticate(("binding_message", "W4SCT")).status == 200
    assert refused(harness.authenticate(("binding_message", "w4"))) == (400, "invalid_binding_message")


def test_user_code() -> None:
    """CIBA-7.1.2: a user with a code is not asked without it."""
    harness = Harness({"dora": Approve(user_code="1234")})
    assert refused(harness.authenticate(login_hint="dora")) == (400, "missing_user_code")
    assert refused(harness.authenticate(("user_code", "1"), login_hint="dora")) == (400, "invalid_user_code")
    assert harness.authenticate(("user_code", "1234"), login_hint="dora").status == 200


@pytest.mark.parametrize(
    ("error", "status"), [("access_denied", 403), ("expired_login_hint_token", 400), ("unknown_user_id", 400)]
)
def test_refused_users(error: str, status: int) -> None:
    """CIBA-13: a scripted refusal comes with the status of its error."""
    harness = Harness({"eve": Refuse(error)})
    assert refused(harness.authenticate(login_hint="eve")) == (status, error)


@pytest.mark.parametrize("kind", ["login_hint_token", "id_token_hint"])
def test_other_hints(kind: str) -> None:
    """CIBA-7.1-15: all three kinds of hint find a user."""
    pairs = [("scope", "openid"), (kind, "carol")]
    assert Harness().post("/bc-authorize", pairs).status == 200


def test_own_id_token_as_hint() -> None:
    """CIBA-7.1-18: an ID Token that the provider issued earlier finds the same user."""
    harness = Harness()
    id_token = content(harness.poll(harness.begin()))["id_token"]
    assert harness.post("/bc-authorize", [("scope", "openid"), ("id_token_hint", id_token)]).status == 200
    assert harness.provider.pending == ()  # alice again, who approves at once


# --- the token endpoint ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pairs", "error"),
    [
        ([("auth_req_id", "x")], "invalid_request"),
        ([("grant_type", "authorization_code"), ("auth_req_id", "x")], "unsupported_grant_type"),
        ([("grant_type", GRANT)], "invalid_request"),
        ([("grant_type", GRANT), ("auth_req_id", "x")], "invalid_grant"),
    ],
)
def test_token_request_rules(pairs: Pairs, error: str) -> None:
    """CIBA-10.1-01, CIBA-11: both parameters are needed and have to be right."""
    assert refused(Harness().post("/token", pairs)) == (400, error)


def test_foreign_auth_req_id() -> None:
    """CIBA-11-05: another client's auth_req_id is invalid_grant and does not count as a poll."""
    harness = Harness({"alice": Approve(after_polls=1)})
    auth_req_id = harness.begin()
    form = [("client_id", "public"), ("grant_type", GRANT), ("auth_req_id", auth_req_id)]
    assert refused(harness.post("/token", form, ("X", ""))) == (400, "invalid_grant")
    assert (harness.last.client_id, harness.last.auth_req_id) == ("public", None)
    assert harness.outcome(auth_req_id) == "authorization_pending"


def test_tokens_come_once() -> None:
    """CIBA-10.1.1-02: the answer has what was asked for; a second redemption is refused and recorded."""
    harness = Harness()
    details = [{"type": "payment", "amount": "1.00"}]
    auth_req_id = harness.begin(("authorization_details", json.dumps(details)), scope="openid offline_access")
    reply = harness.poll(auth_req_id)
    tokens = content(reply)
    assert header(reply, "Cache-Control") == "no-store"
    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 3600)
    assert tokens["scope"] == "openid offline_access"
    assert tokens["authorization_details"] == details
    assert len({tokens["access_token"], tokens["refresh_token"], tokens["id_token"]}) == 3
    assert (harness.last.outcome, harness.last.replayed) == ("tokens", False)
    assert refused(harness.poll(auth_req_id)) == (400, "invalid_grant")
    assert harness.last.replayed


def test_no_refresh_token_unasked() -> None:
    """RT-08: a refresh token comes for offline_access only."""
    harness = Harness()
    assert "refresh_token" not in content(harness.poll(harness.begin()))


@pytest.mark.parametrize(
    ("name", "value", "acr"),
    [
        ("acr_values", "loa2", "loa2"),
        ("claims", '{"id_token":{"acr":{"essential":true,"values":["loa3","loa2"]}}}', "loa3"),
        ("claims", '{"id_token":{"acr":{"value":"loa4"}}}', "loa4"),
        ("claims", '{"id_token":{"acr":{"value":4}}}', None),
        ("claims", '{"id_token":{"acr":null}}', None),
        ("claims", '{"userinfo":{"acr":{"value":"loa4"}}}', None),
    ],
)
def test_acr_reached(name: str, value: str, acr: str | None) -> None:
    """CIBA-7.1-14, CLM-01: the first acr asked for is the one reached."""
    harness = Harness()
    id_token = content(harness.poll(harness.begin((name, value))))["id_token"]
    keys = KeySet.import_key_set(content(harness.get("/jwks")))
    assert jwt.decode(id_token, keys, algorithms=["RS256"]).claims.get("acr") == acr


def test_slow_down_adds_up() -> None:
    """CIBA-11-02, VEC-DER-07: each poll that is too early adds 5 seconds for good, from its arrival on."""
    harness = Harness({"carol": Ignore()})
    auth_req_id = harness.begin(login_hint="carol")
    seen: list[tuple[str, bool]] = []
    for wait in (0, 4, 9, 15, 14.5, 20):
        harness.clock.sleep(wait)
        seen.append((harness.outcome(auth_req_id), harness.last.too_early))
    assert seen == [
        ("authorization_pending", False),  # interval 5
        ("slow_down", True),  # 10
        ("slow_down", True),  # 15
        ("authorization_pending", False),
        ("slow_down", True),  # 20
        ("authorization_pending", False),
    ]


def test_a_poll_exactly_on_time_is_not_early() -> None:
    """CIBA-10.1-04: rounding of instants as floats never makes a punctual poll early."""
    harness = Harness(expires_in=100_000)
    auth_req_id = harness.begin(login_hint="carol")
    for exchange in range(200):
        sent = harness.clock.monotonic()
        assert harness.outcome(auth_req_id) == "authorization_pending"
        harness.clock.sleep(exchange / 999)
        received = harness.clock.time()
        deadline = received + (5 - (harness.clock.monotonic() - sent))
        harness.clock.sleep(deadline - received)


def test_early_polls_can_be_let_through() -> None:
    """Some providers do not throttle; the journal tells all the same."""
    harness = Harness(throttle_early_polls=False)
    auth_req_id = harness.begin(login_hint="carol")
    assert [harness.outcome(auth_req_id), harness.outcome(auth_req_id)] == ["authorization_pending"] * 2
    assert [entry.too_early for entry in harness.provider.journal] == [False, False, True]


def test_first_poll_can_be_too_early() -> None:
    """CIBA-10.1-14: some providers throttle an immediate first poll."""
    harness = Harness(throttle_first_poll=True)
    auth_req_id = harness.begin()
    harness.clock.sleep(4)
    assert harness.outcome(auth_req_id) == "slow_down"
    harness.clock.sleep(10)
    assert harness.outcome(auth_req_id) == "tokens"


def test_expiry() -> None:
    """CIBA-11-03: from expires_in on the answer is expired_token, approved or not, early or not."""
    harness = Harness(expires_in=60)
    undecided, approved = harness.begin(login_hint="carol"), harness.begin()
    harness.clock.sleep(59)
    assert harness.outcome(undecided) == "authorization_pending"
    harness.clock.sleep(1)
    assert harness.outcome(undecided) == "expired_token"
    assert refused(harness.poll(approved)) == (400, "expired_token")


def test_the_provider_has_its_own_wall_clock() -> None:
    """A wall clock that is set at the client neither expires a request nor changes the provider's time."""
    harness = Harness()
    auth_req_id = harness.begin(login_hint="carol")
    harness.clock.step_wall(3600)
    assert harness.outcome(auth_req_id) == "authorization_pending"
    assert harness.last.arrived == harness.provider.now() == 1_700_000_000.0


# --- users -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("user", "end"), [(Approve, "tokens"), (Deny, "access_denied")])
def test_scripted_decisions(user: type[Approve | Deny], end: str) -> None:
    """A user decides after so many pending answers and so many seconds, whichever is later."""
    harness = Harness(
        {"alice": user(after_polls=2), "bob": user(after=10), "carol": user(after_polls=1, after=10)}
    )
    for hint, pending in (("alice", 2), ("bob", 2), ("carol", 2)):
        auth_req_id = harness.begin(login_hint=hint)
        seen: list[str] = []
        for _ in range(pending + 1):
            seen.append(harness.outcome(auth_req_id))
            harness.clock.sleep(5)
        assert seen == ["authorization_pending"] * pending + [end]


def test_a_denial_stays() -> None:
    """CIBA-11-04: access_denied at the token endpoint is a 400, as often as it is asked for."""
    harness = Harness()
    auth_req_id = harness.begin(login_hint="bob")
    assert refused(harness.poll(auth_req_id)) == (400, "access_denied")
    harness.clock.sleep(5)
    assert refused(harness.poll(auth_req_id)) == (400, "access_denied")


def test_decisions_by_hand() -> None:
    """Pending requests are listed with what the user's device shows, and can be approved and denied."""
    harness = Harness()
    first = harness.begin(("binding_message", "W4SCT"), login_hint="carol", scope="openid email")
    harness.clock.sleep(1)
    second = harness.begin(login_hint="carol")
    harness.begin()  # alice, who needs no help
    shown, other = harness.provider.pending
    assert (shown.auth_req_id, shown.client_id, shown.hint) == (first, "s6BhdRkqt3", "carol")
    assert (shown.binding_message, shown.scope) == ("W4SCT", "openid email")
    assert (shown.created, shown.expires) == (1_700_000_000.0, 1_700_000_120.0)
    assert other.auth_req_id == second
    harness.provider.approve(first)
    harness.provider.deny(second)
    assert harness.provider.pending == ()
    assert (harness.outcome(first), harness.outcome(second)) == ("tokens", "access_denied")


def test_decisions_that_come_too_late() -> None:
    """What is unknown, decided or expired cannot be decided."""
    harness = Harness()
    auth_req_id = harness.begin(login_hint="carol")
    with pytest.raises(LookupError):
        harness.provider.approve("unknown")
    with pytest.raises(LookupError):
        harness.provider.deny(harness.begin())
    harness.clock.sleep(120)
    with pytest.raises(LookupError):
        harness.provider.approve(auth_req_id)
    assert harness.provider.pending == ()


def test_users_may_change_on_the_way() -> None:
    """The script can be extended while the provider runs."""
    harness = Harness()
    harness.provider.users["frank"] = Deny()
    assert harness.outcome(harness.begin(login_hint="frank")) == "access_denied"


# --- long polling ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "expires_in", "outcome", "held"),
    [
        (Approve(after=7), 120, "tokens", 7.0),
        (Approve(after_polls=1), 120, "authorization_pending", 30.0),
        (Deny(), 120, "access_denied", 0.0),
        (Ignore(), 20, "expired_token", 20.0),
    ],
)
def test_long_polling(user: User, expires_in: int, outcome: str, held: float) -> None:
    """CIBA-10.1-07: a poll is held until the decision, the expiry or the limit; the next may follow at once."""
    harness = Harness({"alice": user}, long_poll=30, expires_in=expires_in)
    auth_req_id = harness.begin()
    assert harness.outcome(auth_req_id) == outcome
    assert harness.last.answered - harness.last.arrived == held
    harness.poll(auth_req_id)
    assert harness.last.too_early == (held < 5)


class RealtimeStub(VirtualClock):
    """A virtual clock that lets something happen in another thread while the provider waits."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: list[threading.Thread] = []

    def sleep(self, seconds: float, /, until: Callable[[], bool] | None = None) -> None:
        while self.meanwhile:
            thread = self.meanwhile.pop()
            thread.start()
            thread.join(10)
            assert not thread.is_alive()
        super().sleep(seconds, until)


def test_another_thread_decides_while_a_poll_is_held() -> None:
    """While a poll is held the provider can be used: a decision ends the wait, a second poll is an overlap."""
    harness = Harness(long_poll=30)
    clock = RealtimeStub()
    harness.provider = SimulatedProvider(clock, clients=[CLIENT], users=USERS, long_poll=30)
    auth_req_id = harness.begin(login_hint="carol")
    inner: list[Reply] = []

    def approve_and_poll() -> None:
        harness.provider.approve(auth_req_id)
        inner.append(harness.poll(auth_req_id))

    clock.meanwhile.append(threading.Thread(target=approve_and_poll))
    outer = harness.poll(auth_req_id)
    second, first = harness.provider.journal[-2:]
    # The second poll came too early, so the tokens go to the first one, and only to it.
    assert (second.outcome, second.overlapping, second.too_early) == ("slow_down", True, True)
    assert (first.outcome, first.overlapping) == ("tokens", False)
    assert (content(inner[0])["error"], outer.status) == ("slow_down", 200)


def test_tokens_go_to_one_of_two_held_polls() -> None:
    """CIBA-10.1.1-02: even when polls overlap, the tokens are issued once."""
    harness = Harness()
    clock = RealtimeStub()
    harness.provider = SimulatedProvider(
        clock, clients=[CLIENT], users=USERS, long_poll=30, throttle_early_polls=False
    )
    auth_req_id = harness.begin(login_hint="carol")

    def approve_and_poll() -> None:
        harness.provider.approve(auth_req_id)
        harness.poll(auth_req_id)

    clock.meanwhile.append(threading.Thread(target=approve_and_poll))
    assert refused(harness.poll(auth_req_id)) == (400, "invalid_grant")
    assert [entry.outcome for entry in harness.provider.journal[1:]] == ["tokens", "invalid_grant"]
    assert harness.last.replayed


# --- faults ------------------------------------------------------------------------------------------------


def test_answer_in_the_providers_place() -> None:
    """Any status, headers and body can be sent, and the provider does not act."""
    harness = Harness()
    auth_req_id = harness.begin()
    harness.provider.inject("token", Answer(502, b"<html>", (("Content-Type", "text/html"),)))
    reply = harness.poll(auth_req_id)
    assert (reply.status, reply.headers, reply.body) == (502, (("Content-Type", "text/html"),), b"<html>")
    assert (harness.last.outcome, harness.last.status) == ("fault", 502)
    assert harness.last.auth_req_id == auth_req_id
    harness.clock.sleep(5)
    assert harness.outcome(auth_req_id) == "tokens"


def test_faults_are_planned_in_order_and_by_endpoint() -> None:
    """Each request meets the first planned fault for its endpoint; None stands for any endpoint."""
    harness = Harness()
    harness.provider.inject("token", Answer(501))
    harness.provider.inject("jwks", Answer(502), times=2)
    harness.provider.inject(None, Answer(503))
    assert [where for where, _ in harness.provider.faults] == ["token", "jwks", "jwks", None]
    statuses = [harness.get("/jwks").status for _ in range(4)]
    assert statuses == [502, 502, 503, 200]
    (left,) = harness.provider.faults
    assert left == ("token", Answer(501))


def test_drop_before_acting() -> None:
    """A request that is dropped before the provider saw it has no effect, but is in the journal."""
    harness = Harness()
    harness.provider.inject("backchannel_authentication", DropBefore())
    request = [("Content-Type", FORM), AUTHORIZATION]
    lost = harness.provider.handle("POST", "/bc-authorize", request, b"scope=openid&login_hint=carol")
    assert lost == NoReply(acted=False)
    assert harness.provider.pending == ()
    assert (harness.last.outcome, harness.last.status) == ("dropped", None)


def test_a_dropped_poll_does_not_count_at_the_provider() -> None:
    """A poll that did not arrive starts no interval; one whose answer was lost does."""
    harness = Harness()
    auth_req_id = harness.begin(login_hint="carol")
    body = urlencode({"grant_type": GRANT, "auth_req_id": auth_req_id}).encode()
    harness.provider.inject("token", DropBefore())
    harness.provider.handle("POST", "/token", [("Content-Type", FORM), AUTHORIZATION], body)
    assert harness.outcome(auth_req_id) == "authorization_pending"
    harness.clock.sleep(5)
    harness.provider.inject("token", DropAfter())
    harness.provider.handle("POST", "/token", [("Content-Type", FORM), AUTHORIZATION], body)
    assert harness.outcome(auth_req_id) == "slow_down"


def test_drop_after_acting() -> None:
    """When the answer with the tokens is lost, they are gone: the next poll gets invalid_grant (CIBA-10.1.1-05)."""
    harness = Harness()
    auth_req_id = harness.begin()
    body = urlencode({"grant_type": GRANT, "auth_req_id": auth_req_id}).encode()
    harness.provider.inject("token", DropAfter())
    lost = harness.provider.handle("POST", "/token", [("Content-Type", FORM), AUTHORIZATION], body)
    assert lost == NoReply(acted=True)
    assert (harness.last.outcome, harness.last.status, harness.last.fault) == ("tokens", None, DropAfter())
    harness.clock.sleep(5)
    assert harness.outcome(auth_req_id) == "invalid_grant"


@pytest.mark.parametrize("reset", [True, False])
def test_truncated_answer(*, reset: bool) -> None:
    """A truncated answer is what the provider would have said, to be cut off in the body."""
    harness = Harness()
    harness.provider.inject("token", Truncate(10, reset=reset))
    reply = harness.poll(harness.begin())
    assert (reply.status, reply.cut, reply.reset) == (200, 10, reset)
    assert "access_token" in content(reply)


def test_delay() -> None:
    """A slow provider takes its time by the clock, then acts."""
    harness = Harness(expires_in=60)
    auth_req_id = harness.begin()
    harness.provider.inject("token", Delay(60))
    assert harness.outcome(auth_req_id) == "expired_token"
    assert harness.last.answered - harness.last.arrived == 60


@pytest.mark.parametrize("status", [400, 429])
def test_slow_down_on_demand(status: int) -> None:
    """A planned slow_down, with any status, lets the interval of the transaction grow."""
    harness = Harness()
    auth_req_id = harness.begin()
    harness.provider.inject("token", SlowDown(status=status))
    reply = harness.poll(auth_req_id)
    assert (reply.status, content(reply), header(reply, "Retry-After")) == (
        status,
        {"error": "slow_down"},
        None,
    )
    harness.clock.sleep(9.9)
    assert harness.outcome(auth_req_id) == "slow_down"
    assert harness.last.too_early
    harness.clock.sleep(15)
    assert harness.outcome(auth_req_id) == "tokens"


def test_slow_down_without_a_transaction() -> None:
    """A planned slow_down is given to whoever asks."""
    harness = Harness()
    harness.provider.inject(None, SlowDown(retry_after=3))
    assert header(harness.authenticate(), "Retry-After") == "3"


@pytest.mark.parametrize("fault", [Busy(20), SlowDown(20), Busy(20, http_date=True), Busy(20, status=429)])
def test_retry_after_counts(fault: Busy | SlowDown) -> None:
    """CIBA-10.1-10, -11: a poll before the Retry-After is over is too early, in both forms of the header."""
    harness = Harness()
    auth_req_id = harness.begin(login_hint="carol")
    harness.provider.inject("token", fault)
    reply = harness.poll(auth_req_id)
    assert reply.status == fault.status
    value = header(reply, "Retry-After")
    assert value == (email.utils.formatdate(1_700_000_020, usegmt=True) if fault.http_date else "20")
    harness.clock.sleep(19)
    harness.poll(auth_req_id)
    assert harness.last.too_early
    harness.clock.sleep(30)
    assert harness.outcome(auth_req_id) == "authorization_pending"
    assert not harness.last.too_early


def test_busy_without_retry_after() -> None:
    """A bare 503 has no header and leaves the interval as it was."""
    harness = Harness()
    auth_req_id = harness.begin()
    harness.provider.inject("token", Busy())
    reply = harness.poll(auth_req_id)
    assert (reply.status, reply.headers) == (503, ())
    harness.clock.sleep(5)
    assert harness.outcome(auth_req_id) == "tokens"


def test_retry_after_that_means_nothing() -> None:
    """A Retry-After that is no time is not held against the client."""
    harness = Harness()
    auth_req_id = harness.begin(login_hint="carol")
    harness.provider.inject("token", Answer(503, headers=(("Retry-After", "soon"),)))
    harness.poll(auth_req_id)
    harness.clock.sleep(5)
    assert harness.outcome(auth_req_id) == "authorization_pending"


@pytest.mark.parametrize(
    "make", [lambda: Truncate(-1), lambda: Delay(-1), lambda: Approve(after=-1), lambda: Deny(after_polls=-1)]
)
def test_scripts_are_checked(make: Any) -> None:
    """Negative times and numbers are mistakes of the test's author."""
    with pytest.raises(ValueError, match="must be >= 0"):
        make()


# --- in process --------------------------------------------------------------------------------------------


def http_request(url: str, body: bytes = b"", *, limit: int = 1000, timeout: float = 40) -> HttpRequest:
    return HttpRequest(
        id=1,
        purpose=Purpose.TOKEN,
        method="POST" if body else "GET",
        url=url,
        headers=(("Content-Type", FORM), AUTHORIZATION),
        body=body,
        connect_timeout=10,
        timeout=timeout,
        response_limit=limit,
    )


def test_send() -> None:
    """A driver's request value gets a response value."""
    harness = Harness(issuer="https://op.example/t")
    response = harness.provider.send(http_request("https://op.example/t/token", b"grant_type=x"))
    assert (response.status, response.media_type) == (400, "application/json")


def test_send_keeps_the_limit() -> None:
    """Of a large body the driver hands in one octet more than the limit, as `HttpRequest` asks for."""
    harness = Harness()
    assert len(harness.provider.send(http_request("https://op.example/jwks", limit=9)).body) == 10


@pytest.mark.parametrize(
    ("fault", "acted"), [(DropBefore(), False), (DropAfter(), True), (Truncate(3), True), (Delay(41), True)]
)
def test_send_loses_answers(fault: Fault, acted: bool) -> None:
    """A driver in process learns whether the provider had acted; a late answer is a lost one."""
    harness = Harness()
    harness.provider.inject(None, fault)
    with pytest.raises(AnswerDropped) as caught:
        harness.provider.send(http_request("https://op.example/jwks"))
    assert caught.value.acted == acted
    assert isinstance(caught.value, ConnectionError)


@pytest.mark.parametrize(
    "url", ["https://other.example/token", "https://op.example.evil/token", "https://op.example"]
)
def test_send_elsewhere(url: str) -> None:
    """A request to somewhere else is a mistake, not a lost answer."""
    with pytest.raises(ValueError, match="not at this provider"):
        Harness().provider.send(http_request(url))


# --- the provider as a whole -------------------------------------------------------------------------------


def test_an_hour_of_polling_takes_no_time() -> None:
    """An hour in virtual time, a poll every five seconds, is over in a moment of real time."""
    harness = Harness({"alice": Approve(after=3600)}, expires_in=4000)
    auth_req_id = harness.begin()
    before = time.perf_counter()
    polls = 1
    while harness.outcome(auth_req_id) != "tokens":
        harness.clock.sleep(5)
        polls += 1
    assert polls == 721
    assert time.perf_counter() - before < 5
    journal = harness.provider.journal
    assert sum(entry.endpoint == "backchannel_authentication" for entry in journal) == 1
    assert not any(entry.too_early or entry.overlapping for entry in journal)


def test_two_runs_are_the_same() -> None:
    """Identifiers and tokens come from a counter, unless an entropy source is given; issuers differ."""
    assert Harness().begin() == Harness().begin()
    assert Harness().begin() != Harness(issuer="https://other.example").begin()
    harness = Harness()
    assert harness.begin() != harness.begin()
    assert Harness(entropy=bytes).begin() == "A" * 27


def test_no_secret_in_any_repr() -> None:
    """Neither the secret, nor the identifiers, nor tokens show in what a failing test prints."""
    harness = Harness({"alice": Ignore(user_code="4711")})
    auth_req_id = harness.begin(("user_code", "4711"))
    shown = repr(
        (harness.provider.journal, harness.provider.pending, harness.provider, harness.provider.users)
    )
    assert auth_req_id not in shown
    assert "4711" not in shown
    harness.provider.approve(auth_req_id)
    assert repr(harness.poll(auth_req_id)).startswith("<Reply 200, ")
    assert "gX1fBat3bV" not in repr(CLIENT)
    assert repr(Answer(200, b"token")) == "Answer(200, 5 octets)"


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"issuer": "op.example"}, "issuer"),
        ({"issuer": "https://op.example?x"}, "issuer"),
        ({"expires_in": 0}, "expires_in"),
        ({"interval": 0}, "interval"),
        ({"long_poll": -1}, "long_poll"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], name: str) -> None:
    """A setting that makes no sense is refused by its name."""
    with pytest.raises(ValueError, match=name):
        Harness(**settings)
