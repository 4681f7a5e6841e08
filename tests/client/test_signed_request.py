from __future__ import annotations

import base64
import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciba_core import AuthenticationRequest
from ciba_core.client.authentication import CredentialsContext, PrivateKeyJwt
from ciba_core.client.signed_request import RequestSigning, request_object
from ciba_core.jose.unsigned_jwt import Audience, RemoteSigner, UnsignedJwt
from ciba_core.values.form import encode_pairs
from tests.jwt_samples import (
    CORE_LOGIN_HINT_TOKEN,
    CORE_SIGNER,
    FAPI_KEY,
    FAPI_REQUEST,
    FAPI_SIGNER,
    OTHER_SIGNER,
    SIGNERS,
    always,
    bad_signers,
    counter,
    opened,
    verified,
)
from tests.samples import NOW, zeros

ENDPOINT = "https://server.example.com/bc-authorize"
ISSUER = "https://server.example.com"


CONTEXT = CredentialsContext(
    "s6BhdRkqt3", ISSUER, "https://server.example.com/token", ENDPOINT, NOW, zeros, Audience.ISSUER
)
REQUEST = AuthenticationRequest(scope="openid", login_hint="alice")


def made(
    signing: RequestSigning | None = None,
    request: AuthenticationRequest = REQUEST,
    client_notification_token: str | None = None,
    **changes: Any,
) -> UnsignedJwt:
    parameters = request.claims_set()
    if client_notification_token is not None:
        parameters["client_notification_token"] = client_notification_token
    context = attrs.evolve(CONTEXT, **changes)
    return request_object(parameters, signing=signing or RequestSigning(CORE_SIGNER), context=context)


def claims(signing: RequestSigning | None = None, **changes: Any) -> dict[str, Any]:
    return opened(made(signing, **changes))[1]


def test_request_of_the_standard() -> None:
    """VEC-CORE-03, CIBA-7.1.1-02, -06, -07, -08: header and claims of the published request. (Its `jti` is no
    base64url, and its `iat` is not set back as its `nbf` is.)"""
    header, found = opened(
        made(
            RequestSigning(CORE_SIGNER, lifetime=600, backdate=600),
            request=AuthenticationRequest(
                scope="openid email example-scope",
                binding_message="W4SCT",
                login_hint_token=CORE_LOGIN_HINT_TOKEN,
            ),
            client_notification_token="8d67dc78-7faa-4d41-aabd-67707b374255",
        )
    )
    assert header == {"kid": "ltacesbw", "alg": "ES256"}
    assert found == {
        "iss": "s6BhdRkqt3",
        "aud": "https://server.example.com",
        "exp": 1537820086,
        "iat": 1537818886,
        "nbf": 1537818886,
        "jti": "A" * 22,
        "scope": "openid email example-scope",
        "client_notification_token": "8d67dc78-7faa-4d41-aabd-67707b374255",
        "binding_message": "W4SCT",
        "login_hint_token": CORE_LOGIN_HINT_TOKEN,
    }


def test_request_of_fapi() -> None:
    """VEC-FAPI-01, CIBA-7.1.1-03, -15, -17: the published request is verified and rebuilt: `typ`, objects as
    objects, the slash of the issuer; `requested_expiry` as a number, which is as good as the string there."""
    assert verified(FAPI_REQUEST, FAPI_KEY, "ES256")
    header, published = opened(FAPI_REQUEST)
    jwt = made(
        RequestSigning(FAPI_SIGNER, typ="JWT"),
        request=AuthenticationRequest(
            scope="openid payments",
            acr_values=["urn:mace:incommon:iap:silver", "urn:mace:incommon:iap:bronze"],
            login_hint="john@example.com",
            binding_message="S24R",
            user_code="6365",
            requested_expiry=120,
            extra={name: published[name] for name in ("request_context", "payment_intent")},
        ),
        client_id="301183373814979",
        issuer="https://server.example.com/",
        now=1564902738.5,
        entropy=always(base64.urlsafe_b64decode(published["jti"])),
        client_notification_token="_MiUOY07EOCvWR5BVuOL=",
    )
    assert opened(jwt) == (header, published | {"requested_expiry": 120})
    token = jwt.sign()
    assert verified(token, FAPI_KEY, "ES256")
    assert not verified(token, OTHER_SIGNER.key, "ES256")


def test_values_keep_their_types() -> None:
    """CIBA-7.1.1-03, -16, -17, RAR-04, CLM-02, FAPI-07: strings stay strings, everything else stays JSON."""
    found = claims(
        request=AuthenticationRequest(
            scope=["openid", "email"],
            login_hint="alice",
            acr_values=("urn:a", "urn:b"),
            requested_expiry=300,
            authorization_details=[{"type": "payment_initiation", "amount": "1.00 €", "n": [1, None]}],
            claims={"id_token": {"acr": {"essential": True}, "email": None}},
            extra={
                "request_context": {"device": {"lat": 51.5}},
                "max_age": 300,
                "text": "5",
                "flag": False,
                "list": ["a", 1],
            },
        )
    )
    assert {
        name: found[name] for name in found if name not in ("iss", "aud", "exp", "iat", "nbf", "jti")
    } == {
        "scope": "openid email",
        "login_hint": "alice",
        "acr_values": "urn:a urn:b",
        "requested_expiry": 300,
        "authorization_details": [{"type": "payment_initiation", "amount": "1.00 €", "n": [1, None]}],
        "claims": {"id_token": {"acr": {"essential": True}, "email": None}},
        "request_context": {"device": {"lat": 51.5}},
        "max_age": 300,
        "text": "5",
        "flag": False,
        "list": ["a", 1],
    }
    assert found["flag"] is False
    assert type(found["requested_expiry"]) is int


@pytest.mark.parametrize(
    ("resource", "claim"),
    [
        ("https://api.example/", "https://api.example/"),
        (["https://api.example/"], "https://api.example/"),
        (["https://api.example/", "urn:x:y"], ["https://api.example/", "urn:x:y"]),
    ],
)
def test_resources(resource: Any, claim: Any) -> None:
    """RES-01, CIBA-7.1.1-17: one resource is a string, several are an array; the form repeats the parameter."""
    request = AuthenticationRequest(scope="openid", login_hint="alice", resource=resource)
    assert claims(request=request)["resource"] == claim
    sent = [value for name, value in request.parameters() if name == "resource"]
    assert sent == (claim if isinstance(claim, list) else [claim])


def test_only_what_is_needed() -> None:
    """CIBA-7.1.1-08, -12..15: the mandatory claims and the parameters; no `sub`, no nulls, no `typ`; readable."""
    assert opened(made()) == (
        {"alg": "ES256", "kid": "ltacesbw"},
        {
            "iss": "s6BhdRkqt3",
            "aud": ISSUER,
            "exp": 1537819786,
            "iat": 1537819486,
            "nbf": 1537819486,
            "jti": "A" * 22,
            "scope": "openid",
            "login_hint": "alice",
        },
    )


@pytest.mark.parametrize("hint", ["login_hint", "login_hint_token", "id_token_hint"])
def test_hints(hint: str) -> None:
    """CIBA-7.1.1-02: each hint is a claim of its own name."""
    arguments: dict[str, Any] = {hint: "opaque"}
    found = claims(request=AuthenticationRequest(scope="openid", **arguments))
    assert {name: found[name] for name in found if "hint" in name} == {hint: "opaque"}


@pytest.mark.parametrize(
    "name",
    [
        "iss",
        "sub",
        "aud",
        "exp",
        "iat",
        "nbf",
        "jti",
        "client_assertion",
        "client_secret",
        "client_id",
        "request",
    ],
)
def test_extensions_do_not_replace_claims(name: str) -> None:
    """CIBA-7.1.1-14: no extension makes the JWT a client assertion, prolongs it or carries credentials."""
    with pytest.raises(ValueError, match=f"must not contain {name}"):
        AuthenticationRequest(scope="openid", login_hint="alice", extra={name: "x"})


@pytest.mark.parametrize(
    ("audience", "aud"),
    [
        (Audience.ISSUER, ISSUER),
        (Audience.CALLED_ENDPOINT, ENDPOINT),
        (Audience.TOKEN_ENDPOINT, "https://server.example.com/token"),
        ([Audience.ISSUER, Audience.CALLED_ENDPOINT], [ISSUER, ENDPOINT]),
        ("urn:x", "urn:x"),
    ],
)
def test_audiences(audience: Any, aud: Any) -> None:
    """CIBA-7.1.1-06, -20, CAM-13, CONFLICT-02: the issuer, the called endpoint, or an array of both."""
    assert claims(RequestSigning(CORE_SIGNER, audience=audience))["aud"] == aud


def test_type_is_optional() -> None:
    """CIBA-7.1.1-15: the media type of request objects can be set."""
    assert opened(made(RequestSigning(CORE_SIGNER, typ="oauth-authz-req+jwt")))[0] == {
        "alg": "ES256",
        "typ": "oauth-authz-req+jwt",
        "kid": "ltacesbw",
    }


@given(lifetime=st.integers(1, 3600), backdate=st.integers(0, 3599), now=st.floats(0, 1e11))
def test_lifetimes(lifetime: int, backdate: int, now: float) -> None:
    """FAPI-06, CIBA-7.1.1-13: whole seconds, at most an hour of them, around now."""
    if lifetime + backdate > 3600:
        with pytest.raises(ValueError, match="together must not exceed 3600 seconds"):
            RequestSigning(CORE_SIGNER, lifetime=lifetime, backdate=backdate)
        return
    found = claims(RequestSigning(CORE_SIGNER, lifetime=lifetime, backdate=backdate), now=now)
    assert {type(found[name]) for name in ("exp", "iat", "nbf")} == {int}
    # Whoever's clock is behind by that much finds neither of them in the future.
    assert found["iat"] == found["nbf"] <= now - backdate < found["nbf"] + 1
    assert now < found["exp"] + 1
    assert found["exp"] - found["nbf"] == lifetime + backdate <= 3600


def test_no_request_comes_twice() -> None:
    """CIBA-7.1.1-13, AUTH-25: every attempt has its own `jti`, and shares none with the client's assertions."""
    entropy = counter()
    context = CredentialsContext("s6BhdRkqt3", ISSUER, ENDPOINT, ENDPOINT, NOW, entropy)
    method = PrivateKeyJwt(CORE_SIGNER)
    found: list[str] = []
    for _ in range(20):
        found.append(claims(entropy=entropy)["jti"])
        _, assertion = method.credentials(context).parameters[-1]
        found.append(opened(assertion)[1]["jti"])
    assert len(set(found)) == 40
    assert all(len(base64.urlsafe_b64decode(jti + "==")) == 16 for jti in found)


@pytest.mark.parametrize("signer", SIGNERS, ids=str)
def test_signers(signer: Any) -> None:
    """CIBA-7.1.1-10, -11: algorithm and key are the signer's, in the process or behind I/O."""
    jwt = made(RequestSigning(signer))
    assert jwt.signer is signer
    assert opened(jwt)[0]["alg"] == signer.alg
    assert opened(jwt)[0].get("kid") == signer.kid


@pytest.mark.parametrize(
    ("alg", "listed", "name"),
    [
        ("Ed25519", ("EdDSA",), "EdDSA"),
        ("EdDSA", ("PS256", "Ed25519"), "Ed25519"),
        ("Ed25519", ("EdDSA", "Ed25519"), "Ed25519"),
        ("Ed25519", (), "Ed25519"),
        ("EdDSA", None, "EdDSA"),
        ("PS256", ("EdDSA",), "PS256"),
    ],
)
def test_the_name_is_the_one_that_the_provider_lists(
    alg: str, listed: tuple[str, ...] | None, name: str
) -> None:
    """CIBA-7.1.1-10, AUTH-22, RFC 9864: a provider that knows one name of an algorithm is not told the other."""
    signer = RemoteSigner("x", alg=alg)
    assert opened(made(RequestSigning(signer), signing_algs=listed))[0]["alg"] == name
    _, assertion = (
        PrivateKeyJwt(signer).credentials(attrs.evolve(CONTEXT, signing_algs=listed)).parameters[-1]
    )
    assert opened(assertion)[0]["alg"] == name


@pytest.mark.parametrize(("signer", "error"), bad_signers())
def test_bad_signers(signer: Any, error: type[Exception]) -> None:
    """CIBA-7.1.1-09: asymmetric signatures only; neither ``none`` nor an HMAC."""
    with pytest.raises(error, match=r"^signer must"):
        RequestSigning(signer)


@pytest.mark.parametrize(
    ("settings", "error", "name"),
    [
        ({"lifetime": 0}, ValueError, "lifetime must"),
        ({"lifetime": 3601}, ValueError, "lifetime must"),
        ({"lifetime": None}, TypeError, "lifetime must"),
        ({"backdate": -1}, ValueError, "backdate must"),
        ({"backdate": 3301}, ValueError, "lifetime and backdate together"),
        ({"typ": ""}, ValueError, "typ must"),
        ({"audience": []}, ValueError, "audience must"),
        ({"audience": 5}, TypeError, "audience must"),
    ],
    ids=str,
)
def test_bad_settings(settings: dict[str, Any], error: type[Exception], name: str) -> None:
    """FAPI-06: settings that cannot be are refused by name when the policy is made."""
    with pytest.raises(error, match=f"^{name}"):
        RequestSigning(CORE_SIGNER, **settings)


def test_requests_do_not_show() -> None:
    """AUTH-07: hints and codes are personal data; neither the JWT nor the settings show any, nor the key."""
    request = AuthenticationRequest(scope="openid", login_hint="hush", user_code="hush")
    signing = RequestSigning(FAPI_SIGNER)
    for shown in (repr(made(signing, request=request)), str(made(signing, request=request)), repr(signing)):
        assert "hush" not in shown
        assert "gM__X2" not in shown


JSON = st.recursive(
    st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    extra=st.dictionaries(st.text("vwxyz", min_size=3, max_size=6), JSON, max_size=4),
    expiry=st.none() | st.integers(1, 9999),
)
def test_both_encodings_say_the_same(extra: dict[str, Any], expiry: int | None) -> None:
    """CIBA-7.1.1-02, -17: form and JWT carry the same parameters; what is JSON text in one is JSON in the other."""
    request = AuthenticationRequest(scope="openid", login_hint="alice", requested_expiry=expiry, extra=extra)
    form = dict(request.parameters())
    found = opened(made(request=request))[1]
    assert set(form) == set(found) - {"iss", "aud", "exp", "iat", "nbf", "jti"}
    assert {name: found[name] for name in extra} == extra
    for name, text in form.items():
        assert text == found[name] if isinstance(found[name], str) else json.loads(text) == found[name]
    assert encode_pairs(form.items())
