from __future__ import annotations

from typing import Any

import attrs
import pytest

from ciba_core import AuthenticationRequest, ClientSecretPost, Secret
from ciba_core._form import encode_pairs
from ciba_core.errors import LocalProtocolError

from .samples import CLIENT, PROVIDER

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
    """CIBA-7.1-14..26: every parameter once, in the order of the standard, JSON where JSON is due."""
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
        ("scope", None, TypeError),
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
        ("openid", 1, TypeError),
        ("openid", None, TypeError),
    ],
    ids=str,
)
def test_bad_parameters(name: str, value: object, error: type[Exception]) -> None:
    """CIBA-7.1-22..30, RES, RAR: what could only lead to an error is refused; named, and not shown."""
    with pytest.raises(error, match=f"^{name}\\b") as caught:
        request(**{name: value})
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("name", ["authorization_details", "claims", "extra"])
@pytest.mark.parametrize(
    ("value", "error"),
    [(float("nan"), ValueError), ("\ud800", ValueError), (b"hush", TypeError), ({1: 2}, TypeError)],
)
def test_what_json_cannot_say(name: str, value: object, error: type[Exception]) -> None:
    """Found out when the request is made, so that sending it cannot fail."""
    content = [{"type": "a", "b": value}] if name == "authorization_details" else {"a": value}
    with pytest.raises(error) as caught:
        request(**{name: content})
    assert "hush" not in str(caught.value)


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
    """CIBA-7.1-27, AUTH-02: no parameter is sent twice, and no credentials by the back door."""
    with pytest.raises(ValueError, match=f"must not contain {name}"):
        request(extra={name: "x"})


@pytest.mark.parametrize("value", ["https://api.example/", ["https://api.example/"], None, [], ()])
def test_one_resource_or_none(value: Any) -> None:
    """CIBA-7.1-30, RFC 8707: one resource needs no sequence; an empty one is left out."""
    expected = [("resource", "https://api.example/")] if value else []
    assert form(resource=value) == [("scope", "openid"), ("login_hint", "alice"), *expected]


def test_requests_do_not_change_with_their_arguments() -> None:
    """A request is a value: what it was made of can change without harm."""
    details: list[dict[str, Any]] = [{"type": "a", "n": [1]}]
    made = request(authorization_details=details)
    details[0]["n"].append(2)
    assert dict(made.parameters())["authorization_details"] == '[{"type":"a","n":[1]}]'


# ---- what the provider supports


@pytest.mark.parametrize(
    ("provider", "changes"),
    [
        ({}, {"user_code": "1", "claims": {}, "authorization_details": [ONE]}),
        ({"backchannel_token_delivery_modes_supported": ["ping", "poll"]}, {}),
        ({"token_endpoint_auth_methods_supported": ["client_secret_basic"]}, {}),
        ({"backchannel_user_code_parameter_supported": False}, {}),
        ({"backchannel_user_code_parameter_supported": True}, {"user_code": "1"}),
        ({"claims_parameter_supported": False}, {}),
        ({"claims_parameter_supported": True}, {"claims": {}}),
        ({"authorization_details_types_supported": []}, {}),
        ({"authorization_details_types_supported": ["a", "b"]}, {"authorization_details": [ONE]}),
    ],
    ids=str,
)
def test_supported(provider: dict[str, Any], changes: dict[str, Any]) -> None:
    """OPM-07: what the metadata names, or does not speak of, is not refused."""
    request(**changes).check_against(CLIENT, attrs.evolve(PROVIDER, **provider))


@pytest.mark.parametrize(
    ("provider", "changes", "name"),
    [
        ({"backchannel_token_delivery_modes_supported": ["ping"]}, {}, "backchannel_token_delivery_mode"),
        ({"backchannel_token_delivery_modes_supported": []}, {}, "backchannel_token_delivery_mode"),
        ({"token_endpoint_auth_methods_supported": ["private_key_jwt"]}, {}, "authentication"),
        ({"backchannel_user_code_parameter_supported": False}, {"user_code": "hush"}, "user_code"),
        ({"claims_parameter_supported": False}, {"claims": {"hush": None}}, "claims"),
        (
            {"authorization_details_types_supported": ["b"]},
            {"authorization_details": [ONE]},
            "authorization_details",
        ),
        (
            {"authorization_details_types_supported": ["a"]},
            {"authorization_details": [ONE, {"type": "hush"}]},
            "authorization_details",
        ),
    ],
    ids=str,
)
def test_not_supported(provider: dict[str, Any], changes: dict[str, Any], name: str) -> None:
    """OPM-06, -07, CIBA-7.1-24: what the provider says it cannot do is refused before any I/O."""
    with pytest.raises(LocalProtocolError, match=f"^{name}: the provider does not support") as caught:
        request(**changes).check_against(CLIENT, attrs.evolve(PROVIDER, **provider))
    assert "hush" not in str(caught.value)


def test_authentication_method_is_the_clients_own() -> None:
    """OPM-06: the method that counts is that of the configuration."""
    provider = attrs.evolve(PROVIDER, token_endpoint_auth_methods_supported=["client_secret_post"])
    request().check_against(attrs.evolve(CLIENT, authentication=ClientSecretPost("x")), provider)
    with pytest.raises(LocalProtocolError, match="'client_secret_basic'"):
        request().check_against(CLIENT, provider)
