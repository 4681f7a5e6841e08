from __future__ import annotations

import enum
import json
from typing import Any
from urllib.parse import parse_qs

import attrs
import pytest

from ciba_core import (
    AuthenticationRequest,
    Begin,
    RequestSigning,
    Secret,
    Transaction,
    profiles,
    step,
)
from ciba_core.client.request import Requested
from ciba_core.errors import LocalProtocolError
from ciba_core.values.form import encode_pairs
from ciba_core.values.json import dumps, freeze
from tests.jwt_samples import FAPI_SIGNER, opened
from tests.samples import CLIENT, NOW, PROVIDER, id_token, sent

WRONG_AGES: list[Any] = ["-1", "5\u0661", "60.0", True, 1.5, 60.0, -1, "9" * 5000, 10**70, [60]]
HINT_TOKEN = (
    "eyJraWQiOiJsdGFjZXNidyIsImFsZyI6IkVTMjU2In0."
    "eyJzdWJfaWQiOnsiZm9ybWF0IjoicGhvbmUiLCJwaG9uZSI6IisxMzMwMjgxODAwNCJ9fQ."
    "GSqxJsFbIyojdfMBDv3MOyAplCViVkwQWzthCWuu9_gnKIqECZilwANt1HfIh3x3JFjaEq-5MZ_B3qeb11NAvg"
)


def request(**changes: Any) -> AuthenticationRequest:
    arguments: dict[str, Any] = {"scope": "openid", "login_hint": "alice"}
    return AuthenticationRequest(**(arguments | changes))


def form(**changes: Any) -> list[tuple[str, str]]:
    return list(request(**changes).parameters())


def test_request_of_the_standard() -> None:
    """VEC-CORE-02, CIBA-7.1-13: the parameters of Core 7.1's example; in poll mode without notification token."""
    made = AuthenticationRequest(
        scope="openid email example-scope", binding_message="W4SCT", login_hint_token=HINT_TOKEN
    )
    assert encode_pairs(made.parameters()).replace("+", "%20") == (
        f"scope=openid%20email%20example-scope&binding_message=W4SCT&login_hint_token={HINT_TOKEN}"
    )


def test_every_parameter_is_sent_under_its_name() -> None:
    """CIBA-7.1: every field is sent, in the order of the standard, and the extensions after them."""
    given: dict[str, Any] = {
        "claims": {"userinfo": {}},
        "authorization_details": ({"type": "a"},),
        "resource": ("https://api.example",),
        "requested_expiry": 60,
        "user_code": "1234",
        "binding_message": "W4SCT",
        "acr_values": "a b",
        "scope": "openid",
    }
    for hint in ("login_hint", "login_hint_token", "id_token_hint"):
        made = request(**{"login_hint": None, **given, hint: "x", "extra": {"prompt": "none"}})
        assert made.claims_set() == {**given, hint: "x", "resource": "https://api.example", "prompt": "none"}
        assert list(made.claims_set()) == [
            "scope", "acr_values", "binding_message", hint, "user_code", "requested_expiry", "resource",
            "authorization_details", "claims", "prompt",
        ]  # fmt: skip


def test_request_of_camara() -> None:
    """VEC-CAM-01: a plus sign in a telephone number is escaped."""
    made = AuthenticationRequest(
        scope="openid dpv:FraudPreventionAndDetection sim-swap:check sim-swap:retrieve-date offline_access",
        login_hint="tel:+34666666666",
    )
    assert encode_pairs(made.parameters()).replace("+", "%20") == (
        "scope=openid%20dpv%3AFraudPreventionAndDetection%20sim-swap%3Acheck%20sim-swap%3Aretrieve-date"
        "%20offline_access&login_hint=tel%3A%2B34666666666"
    )


def test_all_parameters() -> None:
    """CIBA-7.1-14..26, RAR-01, RAR-07: every parameter once, in the order of the standard, JSON where JSON is due."""
    assert form(
        acr_values=["urn:a", "urn:b"],
        binding_message="W4SCT",
        user_code="1234",
        requested_expiry=300,
        resource=["https://api.example/", "urn:x:y"],
        authorization_details=[{"type": "payment_initiation", "amount": "1.00 €"}],
        claims={"id_token": {"acr": {"essential": True}}},
        extra={"request_context": {"device": "x"}, "audience": "https://api.example", "n": 5, "b": False},
    ) == [
        ("scope", "openid"),
        ("acr_values", "urn:a urn:b"),
        ("binding_message", "W4SCT"),
        ("login_hint", "alice"),
        ("user_code", "1234"),
        ("requested_expiry", "300"),
        ("resource", "https://api.example/"),
        ("resource", "urn:x:y"),
        ("authorization_details", '[{"type":"payment_initiation","amount":"1.00 €"}]'),
        ("claims", '{"id_token":{"acr":{"essential":true}}}'),
        ("request_context", '{"device":"x"}'),
        ("audience", "https://api.example"),
        ("n", "5"),
        ("b", "false"),
    ]


@pytest.mark.parametrize("hint", ["login_hint", "login_hint_token", "id_token_hint"])
def test_each_hint_alone(hint: str) -> None:
    """CIBA-7.1-15..21: any one hint will do, as text or wrapped, and is opaque."""
    for value in ("opaque value", Secret("opaque value")):
        made = AuthenticationRequest(scope="openid", **{hint: value})  # type: ignore[arg-type]
        assert list(made.parameters()) == [("scope", "openid"), (hint, "opaque value")]


@pytest.mark.parametrize(
    ("hints", "found"),
    [
        ((), "none"),
        (("login_hint", "login_hint_token"), "login_hint and login_hint_token"),
        (("login_hint_token", "id_token_hint"), "login_hint_token and id_token_hint"),
        (
            ("login_hint", "login_hint_token", "id_token_hint"),
            "login_hint and login_hint_token and id_token_hint",
        ),
    ],
)
def test_exactly_one_hint(hints: tuple[str, ...], found: str) -> None:
    """CIBA-7.1-15: none or several hints are refused before anything is sent."""
    arguments: dict[str, Any] = dict.fromkeys(hints, "hush")
    with pytest.raises(ValueError, match=f"exactly one of .*, not {found}$") as caught:
        AuthenticationRequest(scope="openid", **arguments)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("scope", "sent"),
    [
        ("openid", "openid"),
        ("email openid", "email openid"),
        (["openid", "email"], "openid email"),
        (("openid",), "openid"),
        ("openid !#[]~", "openid !#[]~"),
    ],
)
def test_scopes(scope: str | list[str], sent: str) -> None:
    """CIBA-7.1-05, -07: scope values in one string or in a sequence, with ``openid`` anywhere."""
    assert form(scope=scope)[0] == ("scope", sent)


@pytest.mark.parametrize(
    "scope",
    [
        "",
        " ",
        "openid ",
        " openid",
        "openid  email",
        "openid\temail",
        'openid "a"',
        "openid a\\b",
        "openid é",
        [],
        ["openid", ""],
        "openid\n",
    ],
)
def test_bad_scopes(scope: Any) -> None:
    """CIBA-7.1-07: what RFC 6749 3.3 does not allow is refused, and the message names the parameter."""
    with pytest.raises(ValueError, match=r"^scope must be scope values"):
        request(scope=scope)


@pytest.mark.parametrize("scope", ["email", "OpenID", "openid2", "not-openid"])
def test_scope_without_openid(scope: str) -> None:
    """CIBA-7.1-05, -06: ``openid`` is demanded unless the caller opts out."""
    with pytest.raises(ValueError, match="scope must contain 'openid'"):
        request(scope=scope)
    assert form(scope=scope, openid=False)[0] == ("scope", scope)


def test_opting_out_and_in_at_once() -> None:
    """CIBA-7.1-06: an opt-out that contradicts the scope is a mistake."""
    with pytest.raises(ValueError, match="although openid=False"):
        request(openid=False)


ONE = {"type": "a"}


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("scope", 5, TypeError),
        ("scope", ["openid", 5], TypeError),
        *(
            (name, value, error)
            for name in ("login_hint", "user_code", "binding_message")
            for value, error in (
                ("", ValueError),
                ("hush\r\n", ValueError),
                ("hush\0", ValueError),
                ("hush\x7f", ValueError),
                ("hush\ud800", ValueError),
                (b"hush", TypeError),
                (5, TypeError),
            )
        ),
        ("acr_values", "", ValueError),
        ("acr_values", [], ValueError),
        ("acr_values", "a  b", ValueError),
        ("acr_values", " a", ValueError),
        ("acr_values", "a\x01", ValueError),
        ("acr_values", ["a", 5], TypeError),
        ("acr_values", 5, TypeError),
        ("requested_expiry", 0, ValueError),
        ("requested_expiry", -1, ValueError),
        ("requested_expiry", 2**31, ValueError),
        ("requested_expiry", True, TypeError),
        ("requested_expiry", 1.0, TypeError),
        ("requested_expiry", "300", TypeError),
        ("resource", "api.example", ValueError),
        ("resource", "/api", ValueError),
        ("resource", "", ValueError),
        ("resource", "https:", ValueError),
        ("resource", "https://api.example/#f", ValueError),
        ("resource", "https://api.example/\n", ValueError),
        ("resource", "https://api.example/ b c", ValueError),
        ("resource", "https://\xe4.example/", ValueError),
        ("resource", "note: hello <world>", ValueError),
        ("resource", "https://api.example/%zz", ValueError),
        ("resource", 'urn:"x"', ValueError),
        ("resource", ["https://api.example/", ""], ValueError),
        ("resource", 5, TypeError),
        ("resource", ["https://api.example/", 5], TypeError),
        ("authorization_details", [], TypeError),
        ("authorization_details", ONE, TypeError),
        ("authorization_details", "x", TypeError),
        ("authorization_details", [ONE, "x"], TypeError),
        ("authorization_details", [ONE, {}], ValueError),
        ("authorization_details", [{"type": 5}], ValueError),
        ("claims", [], TypeError),
        ("claims", "{}", TypeError),
        ("extra", None, TypeError),
        ("extra", [("a", "b")], TypeError),
        ("extra", {"": "x"}, ValueError),
        ("extra", {"a\n": "x"}, ValueError),
        ("extra", {"a": ""}, ValueError),
        ("extra", {"a": None}, ValueError),
        ("extra", {"nonce": 12345}, TypeError),
        ("extra", {"nonce": ["hush"]}, TypeError),
        *(("extra", {"max_age": value}, ValueError) for value in WRONG_AGES),
        ("openid", 1, TypeError),
        ("openid", None, TypeError),
    ],
    ids=str,
)
def test_bad_parameters(name: str, value: object, error: type[Exception]) -> None:
    """CIBA-7.1-22..30, RES-01, RAR-02: what could only lead to an error is refused; named, and not shown."""
    with pytest.raises(error, match=f"^{name}\\b") as caught:
        request(**{name: value})
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("name", ["authorization_details", "claims", "extra"])
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (float("nan"), ValueError),
        ("\ud800", ValueError),
        (b"hush", TypeError),
        ({1: 2}, TypeError),
        (10**64, ValueError),
        (json.loads("[" * 128 + "]" * 128), ValueError),
    ],
)
def test_what_json_cannot_say(name: str, value: object, error: type[Exception]) -> None:
    """Found out when the request is made, so that sending it cannot fail."""
    content = [{"type": "a", "b": value}] if name == "authorization_details" else {"a": value}
    with pytest.raises(error, match=f"^{name}: ") as caught:
        request(**{name: content})
    assert "hush" not in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@pytest.mark.parametrize(
    "name",
    [
        "login_hint", "login_hint_token", "id_token_hint", "scope", "acr_values", "binding_message", "user_code",
        "requested_expiry", "resource", "authorization_details", "claims", "client_id", "client_secret",
        "client_assertion", "client_assertion_type", "client_notification_token", "request", "request_uri",
        "grant_type", "auth_req_id",
    ],
)  # fmt: skip
def test_extensions_cannot_replace_what_the_library_sends(name: str) -> None:
    """CIBA-7.1-27, CIBA-7.1.1-21, AUTH-02: no parameter is sent twice, and no credentials by the back door."""
    with pytest.raises(ValueError, match=f"must not contain {name}"):
        request(extra={name: "x"})


@pytest.mark.parametrize("value", ["https://api.example/", ["https://api.example/"], None, [], ()])
def test_one_resource_or_none(value: Any) -> None:
    """CIBA-7.1-30, RFC 8707: one resource needs no sequence; an empty one is left out."""
    expected = [("resource", "https://api.example/")] if value else []
    assert form(resource=value) == [("scope", "openid"), ("login_hint", "alice"), *expected]


SIGNING = attrs.evolve(CLIENT, request_signing=RequestSigning(FAPI_SIGNER))


class Word(str, enum.Enum):  # noqa: UP042  # the kind whose text is its name
    LOGIN = "login"
    OPENID = "openid"
    URI = "urn:x:y"


@pytest.mark.parametrize(
    "given",
    [
        {"login_hint": Word.LOGIN},
        {"scope": Word.OPENID},
        {"scope": [Word.OPENID, "email"]},
        {"acr_values": Word.LOGIN},
        {"binding_message": Word.LOGIN, "user_code": Word.LOGIN},
        {"resource": Word.URI},
        {"extra": {"prompt": Word.LOGIN, Word.URI: {"a": [Word.LOGIN]}}},
    ],
    ids=str,
)
def test_members_of_an_enumeration_are_their_values(given: dict[str, Any]) -> None:
    """CIBA-7.1.1-02: form and signed request say the same, also where a string is a member of an enumeration."""
    plain = parse_qs(
        sent(step(Transaction(client=CLIENT, provider=PROVIDER), Begin(request(**given)), NOW)).body.decode()
    )
    signed = parse_qs(
        sent(step(Transaction(client=SIGNING, provider=PROVIDER), Begin(request(**given)), NOW)).body.decode()
    )
    claims = opened(signed["request"][0])[1]
    for name, (value,) in plain.items():
        assert value == (claims[name] if isinstance(claims[name], str) else dumps(claims[name]))
    assert "Word" not in str((plain, claims))


def test_requests_do_not_change_with_their_arguments() -> None:
    """A request is a value: what it was made of can change without harm."""
    details: list[dict[str, Any]] = [{"type": "a", "n": [1]}]
    made = request(authorization_details=details)
    details[0]["n"].append(2)
    assert dict(made.parameters())["authorization_details"] == '[{"type":"a","n":[1]}]'


# ---- what the answer is measured against


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"scope": "openid email"}, {"scope": "openid email"}),
        ({"authorization_details": [ONE]}, {"authorization_details": (ONE,)}),
        # Wishes: the ID Token's own claims say what came of them.
        ({"acr_values": "1 2"}, {"acr_wanted": ("1", "2")}),
        ({"claims": {"id_token": {"acr": None, "auth_time": None}}}, {}),
        (
            {"claims": {"id_token": {"acr": {"values": ["1"]}, "auth_time": {"essential": False}}}},
            {"acr_wanted": ("1",)},
        ),
        ({"claims": {"id_token": {"acr": {"essential": False, "value": "1"}}}}, {"acr_wanted": ("1",)}),
        ({"claims": {"id_token": {"acr": {}}}, "acr_values": "1"}, {"acr_wanted": ("1",)}),
        ({"claims": {"userinfo": {"acr": {"essential": True, "value": "1"}}}}, {}),
        (
            {"claims": {"id_token": {"acr": {"essential": True, "value": "1"}}}},
            {"acr": True, "acr_values": ("1",)},
        ),
        (
            {"claims": {"id_token": {"acr": {"essential": True, "values": ["1", "2"]}}}},
            {"acr": True, "acr_values": ("1", "2")},
        ),
        ({"claims": {"id_token": {"acr": {"essential": True}}}}, {"acr": True}),
        (
            {"claims": {"id_token": {"acr": {"essential": True}}}, "acr_values": "1"},
            {"acr": True, "acr_wanted": ("1",)},
        ),
        ({"claims": {"id_token": {"auth_time": {"essential": True}}}}, {"auth_time": True}),
        ({"extra": {"nonce": "n-1"}}, {"nonce": Secret("n-1")}),
        ({"extra": {"max_age": 300}}, {"max_age": 300}),
        ({"extra": {"max_age": "0"}}, {"max_age": 0}),
        ({"extra": {"max_age": 0}}, {"max_age": 0}),
        ({"login_hint": None, "id_token_hint": id_token(sub="s-1")}, {"subject": Secret("s-1")}),
        ({"login_hint": None, "id_token_hint": id_token(sub=None)}, {}),
        ({"claims": {"id_token": {"sub": {"value": "s-1"}}}}, {"subject": Secret("s-1")}),
        ({"claims": {"id_token": {"sub": {"values": ["s-1"]}}}}, {"subject": Secret("s-1")}),
        ({"claims": {"id_token": {"sub": None}}}, {}),
        (
            {
                "login_hint": None,
                "id_token_hint": id_token(sub="s-1"),
                "claims": {"id_token": {"sub": {"essential": True, "value": "s-1"}}},
            },
            {"subject": Secret("s-1")},
        ),
        ({"login_hint": None, "id_token_hint": "opaque"}, {}),
        ({"login_hint": None, "id_token_hint": "a.b.c.d.e"}, {}),
        ({"login_hint": None, "login_hint_token": id_token(sub="s-1")}, {}),
    ],
    ids=lambda value: str(value)[:80],
)
def test_what_the_answer_is_measured_against(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    """IDT-14, -16, -17, CLM-04, CIBA-7.1-18: what was demanded is remembered, and apart from that the wishes."""
    remembered: dict[str, Any] = {"scope": "openid"} | expected
    assert request(**changes).requested() == Requested(**remembered)


@pytest.mark.parametrize("name", ["userinfo", "id_token"])
@pytest.mark.parametrize("value", ["x", ["acr"], 5, None, True])
def test_claims_requests_are_objects(name: str, value: Any) -> None:
    """OpenID Connect Core 5.5: what is asked for in each place is an object, or not there."""
    with pytest.raises(TypeError, match=f"^claims: {name} must be an object"):
        request(claims={name: value})


@pytest.mark.parametrize("place", ["userinfo", "id_token"])
@pytest.mark.parametrize(
    ("claim", "entry"),
    [
        ("email", "hush"),
        ("email", ["hush"]),
        ("email", True),
        ("acr", "hush"),
        ("acr", {"essential": "true"}),
        ("acr", {"essential": 1}),
        ("acr", {"essential": None}),
        ("acr", {"essential": True, "values": "hush"}),
        ("acr", {"essential": True, "values": {"hush": 1}}),
        ("acr", {"essential": True, "values": []}),
        ("acr", {"essential": True, "values": [], "value": "hush"}),
        ("acr", {"value": "hush", "values": ["hush"]}),
        ("acr", {"values": ["hush", 3]}),
        ("acr", {"value": 3}),
        ("acr", {"value": None}),
        ("sub", {"value": 5}),
    ],
    ids=str,
)
def test_malformed_requests_for_a_claim(place: str, claim: str, entry: Any) -> None:
    """CLM-01: a wish that no provider can read, and that nothing would be compared with, is not sent."""
    with pytest.raises(ValueError, match=rf"^claims: {place}\.{claim} must ") as caught:
        request(claims={place: {claim: entry}})
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "entry",
    [None, {}, {"essential": False}, {"value": 5}, {"values": [1, None]}, {"value": None}, {"x": "y"}],
)
def test_requests_for_a_claim(entry: Any) -> None:
    """CLM-01: null, or an object of whose members none has to be there; a value is of the claim's own type."""
    claims = {"userinfo": {"birthdate#de": entry}, "other": "x"}
    assert request(claims=claims).claims_set()["claims"] == freeze(claims)


@pytest.mark.parametrize("acr", [{"value": "1"}, {"essential": True, "values": ["1"]}])
def test_one_way_to_ask_for_an_acr(acr: dict[str, Any]) -> None:
    """CLM-05: asked for both ways, what comes is not specified."""
    with pytest.raises(ValueError, match=r"^acr_values: "):
        request(acr_values="1", claims={"id_token": {"acr": acr}})


@pytest.mark.parametrize(
    "changes",
    [
        {"login_hint": None, "id_token_hint": id_token(sub="hush")},
        {"claims": {"id_token": {"sub": {"values": ["hush", "s-1"]}}}},
    ],
)
def test_one_user_is_asked_for(changes: dict[str, Any]) -> None:
    """CLM-04, CIBA-7.1-18: nobody could be both; found out before anything is sent, and nobody is named."""
    asked = request(**({"claims": {"id_token": {"sub": {"value": "s-1"}}}} | changes))
    with pytest.raises(LocalProtocolError, match=r"^claims: sub must ") as caught:
        step(Transaction(client=CLIENT, provider=PROVIDER), Begin(asked), NOW)
    assert "hush" not in str(caught.value)


def test_without_a_scope_it_is_that_of_the_profile() -> None:
    """CIBA-7.1-07: one is always sent; what is asked for without OpenID Connect has to be said."""
    silent = AuthenticationRequest(login_hint="alice")
    assert dict(silent.parameters())["scope"] == silent.requested().scope == "openid"
    profile = attrs.evolve(profiles.GENERIC, scope=("openid", "email"))
    completed = silent.completed(profile.scope)
    assert completed.scope == completed.claims_set()["scope"] == "openid email"
    spoken = AuthenticationRequest(scope="openid phone", login_hint="alice")
    assert spoken.completed(profile.scope) is spoken
    client = attrs.evolve(CLIENT, profile=profile)
    begun = step(Transaction(client=client, provider=PROVIDER), Begin(silent), NOW)
    assert parse_qs(sent(begun).body.decode())["scope"] == ["openid email"]
    with pytest.raises(ValueError, match=r"^scope is needed with openid=False"):
        AuthenticationRequest(login_hint="alice", openid=False)


def test_openid_is_one_value_of_the_scope() -> None:
    """CIBA-7.1-06: an ID Token is due when ``openid`` was asked for, and for no word that contains it."""
    assert Requested(scope="email openid").openid
    assert not Requested(scope="openid2 email").openid
