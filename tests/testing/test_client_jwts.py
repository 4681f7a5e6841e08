"""Client assertions and signed requests at the simulated provider."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from ciba_core.testing import DropBefore, SimulatedClient

from .world import (
    ASSERTION_TYPE,
    EC,
    EC_OTHER,
    ED,
    FORM,
    ISSUER,
    RSA,
    SECRET,
    START,
    Pairs,
    World,
    key_set,
    make_jwt,
    part,
    public,
    refused,
    secret,
    unique,
)

JWKS = key_set(public(EC, kid="a", use="sig", alg="ES256"), public(EC_OTHER, kid="b"), public(RSA))
BY_KEY = SimulatedClient("me", token_endpoint_auth_method="private_key_jwt", jwks=JWKS)
BY_SECRET = SimulatedClient("me", SECRET, token_endpoint_auth_method="client_secret_jwt")


def assertion_claims(**more: Any) -> dict[str, Any]:
    claims = {"iss": "me", "sub": "me", "aud": ISSUER, "jti": unique(), "iat": START, "exp": START + 60}
    return {name: value for name, value in (claims | more).items() if value is not None}


def asserted(token: str, *more: tuple[str, str]) -> Pairs:
    return [("client_assertion_type", ASSERTION_TYPE), ("client_assertion", token), *more]


def try_assertion(world: World, token: str, *more: tuple[str, str]) -> str:
    """Poll with an assertion; invalid_grant tells that the client was let in."""
    world.post(
        "/token",
        [*asserted(token, *more), ("grant_type", "urn:openid:params:grant-type:ciba"), ("auth_req_id", "x")],
    )
    return world.last.outcome


@pytest.mark.parametrize(
    ("claims", "more"),
    [
        ({}, []),
        ({}, [("client_id", "me")]),
        ({"aud": f"{ISSUER}/token"}, []),
        ({"aud": ["https://else.example", ISSUER]}, []),
        ({"iat": None, "exp": START + 300}, []),
        ({"iat": START + 10, "nbf": START + 10, "exp": START + 310}, []),
        ({"exp": START + 0.5}, []),
    ],
)
def test_good_assertions(claims: dict[str, Any], more: Pairs) -> None:
    """AUTH-16, -17, -19, -20, -23, CIBA-7.1-04: every audience that has to be accepted, and all forms of the times."""
    world = World(BY_KEY)
    assert try_assertion(world, make_jwt(assertion_claims(**claims), kid="a"), *more) == "invalid_grant"
    assert world.last.client_id == "me"


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "other"},
        {"iss": None},
        {"sub": "other"},
        {"sub": None},
        {"sub": 5},
        {"aud": "https://else.example"},
        {"aud": None},
        {"aud": f"{ISSUER}/"},
        {"exp": None},
        {"exp": True},
        {"exp": str(START + 60)},
        {"exp": START},
        {"exp": START + 301},
        {"exp": 10**400},
        {"iat": None, "exp": START + 301},
        {"iat": START + 11, "exp": START + 60},
        {"iat": "now"},
        {"nbf": START + 11},
        {"jti": None},
        {"jti": ""},
        {"jti": 5},
    ],
)
def test_claims_of_assertions(claims: dict[str, Any]) -> None:
    """AUTH-17, -18, -19, -20, -24: a claim that is missing or wrong is invalid_client."""
    world = World(BY_KEY)
    reply = world.post("/bc-authorize", asserted(make_jwt(assertion_claims(**claims), kid="a")))
    assert refused(reply) == (401, "invalid_client")
    assert world.last.client_id is None


def test_an_assertion_is_for_one_use() -> None:
    """AUTH-18: a jti that was used before is refused for this client, even if that request was lost."""
    world = World(BY_KEY, SimulatedClient("you", token_endpoint_auth_method="private_key_jwt", jwks=JWKS))
    token = make_jwt(assertion_claims(jti="1"), kid="a")
    assert try_assertion(world, token) == "invalid_grant"
    assert try_assertion(world, token) == "invalid_client"
    other = make_jwt(assertion_claims(jti="1", iss="you", sub="you"), kid="a")
    assert try_assertion(world, other) == "invalid_grant"
    lost = make_jwt(assertion_claims(jti="2"), kid="a")
    world.provider.inject("token", DropBefore())
    world.provider.handle("POST", "/token", [("Content-Type", FORM)], urlencode(asserted(lost)).encode())
    assert world.last.outcome == "dropped"
    assert try_assertion(world, lost) == "invalid_client"


@pytest.mark.parametrize(("audience", "endpoint"), [("called_endpoint", "/bc-authorize"), ("issuer", "")])
def test_audiences_are_a_setting(audience: Any, endpoint: str) -> None:
    """AUTH-20, -21: a provider may accept one audience only."""
    world = World(BY_KEY, assertion_audiences=[audience])
    form = [("scope", "openid"), ("login_hint", "alice")]
    for place in ("", "/token", "/bc-authorize"):
        token = make_jwt(assertion_claims(aud=ISSUER + place), kid="a")
        status = world.post("/bc-authorize", [*asserted(token), *form]).status
        assert status == (200 if place == endpoint else 401)


@pytest.mark.parametrize(
    ("key", "alg", "header"),
    [(EC, "ES256", {"kid": "a"}), (EC_OTHER, "ES256", {"kid": "b"}), (RSA, "RS256", {}), (RSA, "PS512", {})],
)
def test_keys_of_assertions(key: Any, alg: str, header: dict[str, str]) -> None:
    """AUTH-22: the kid chooses, and need not where one key fits."""
    assert try_assertion(World(BY_KEY), make_jwt(assertion_claims(), key, alg, **header)) == "invalid_grant"


@pytest.mark.parametrize(
    ("key", "alg", "header"),
    [
        (EC, "ES256", {}),  # two keys fit
        (EC, "ES256", {"kid": "b"}),
        (EC, "ES256", {"kid": "c"}),
        (ED, "Ed25519", {}),
        (secret(), "HS256", {}),
    ],
)
def test_wrong_keys_of_assertions(key: Any, alg: str, header: dict[str, str]) -> None:
    """AUTH-22, AUTH-24: no key, the wrong key or the wrong kind of key is invalid_client."""
    assert try_assertion(World(BY_KEY), make_jwt(assertion_claims(), key, alg, **header)) == "invalid_client"


@pytest.mark.parametrize(("alg", "outcome"), [("PS256", "invalid_grant"), ("RS256", "invalid_client")])
def test_registered_algorithm_of_assertions(alg: str, outcome: str) -> None:
    """REG-07: with an algorithm registered no other passes."""
    client = SimulatedClient(
        "me", token_endpoint_auth_method="private_key_jwt", jwks=JWKS, token_endpoint_auth_signing_alg="PS256"
    )
    assert try_assertion(World(client), make_jwt(assertion_claims(), RSA, alg)) == outcome


def test_assertions_by_secret() -> None:
    """AUTH-14: HMAC with the octets of the secret; a wrong secret and a public key's algorithm are refused."""
    world = World(BY_SECRET)
    for alg in ("HS256", "HS384", "HS512"):
        assert try_assertion(world, make_jwt(assertion_claims(), secret(), alg)) == "invalid_grant"
    wrong = make_jwt(assertion_claims(), secret("x" + SECRET), "HS256")
    assert try_assertion(world, wrong) == "invalid_client"
    assert try_assertion(world, make_jwt(assertion_claims())) == "invalid_client"


GOOD_HEADER = {"alg": "ES256", "kid": "a"}


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b",
        "a.b.c.d.e",
        f"{part([])}.{part({'sub': 'me'})}.",
        f"{part(GOOD_HEADER)}.{part('me')}.",
        f"{part(GOOD_HEADER)}.{part(b'{')}.",
        f"{part(GOOD_HEADER)}.{part(bytes([0xFF]))}.",
        f"{part(GOOD_HEADER)}.A.",
        f"{part(GOOD_HEADER)}.e31.",  # bits left over
        f"{part(GOOD_HEADER)}=.{part({'sub': 'me'})}.",
        part({"alg": "none"}) + "." + part({"iss": "me", "sub": "me"}) + ".",
        part(GOOD_HEADER) + "." + part({"iss": "me", "sub": "me"}) + ".",
        part({"alg": ["ES256"]}) + "." + part({"sub": "me"}) + ".",
        part(GOOD_HEADER | {"crit": ["exp"]}) + "." + part({"sub": "me"}) + ".",
        part(GOOD_HEADER) + "." + part(b'{"sub":"me","sub":"me"}') + ".",
    ],
)
def test_what_is_no_assertion(token: str) -> None:
    """AUTH-24, IDT-25: what is not a signed JWT in its strict form is invalid_client."""
    assert try_assertion(World(BY_KEY), token) == "invalid_client"


def test_one_way_of_authentication() -> None:
    """AUTH-02, AUTH-24: an assertion beside a secret, of another client_id or of another type is refused."""
    world = World(BY_KEY, SimulatedClient("you", "x"))
    token = make_jwt(assertion_claims(), kid="a")
    assert try_assertion(world, token, ("client_secret", "x")) == "invalid_request"
    assert try_assertion(world, token, ("client_id", "you")) == "invalid_request"
    assert refused(world.post("/token", [("client_assertion", token)])) == (401, "invalid_client")
    saml = [("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer")]
    assert refused(world.post("/token", [*saml, ("client_id", "me")])) == (401, "invalid_client")
    assert try_assertion(world, make_jwt(assertion_claims(sub="you", iss="you"), kid="a")) == "invalid_client"
    assert (
        try_assertion(World(SimulatedClient("me", SECRET)), make_jwt(assertion_claims(), secret(), "HS256"))
        == "invalid_client"
    )


@pytest.mark.parametrize("method", ["tls_client_auth", "self_signed_tls_client_auth"])
def test_authentication_by_certificate(method: str) -> None:
    """MTLS-02: the client_id alone is in the form; the certificate is a matter of the TLS server."""
    world = World(SimulatedClient("me", token_endpoint_auth_method=method))
    world.begin()
    assert refused(world.post("/token", [("grant_type", "x")])) == (401, "invalid_client")
    assert refused(world.post("/token", [("client_id", "me"), ("client_secret", "x")])) == (
        401,
        "invalid_client",
    )


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"token_endpoint_auth_method": "private_key_jwt"}, "token_endpoint_auth_method"),
        ({"token_endpoint_auth_method": "client_secret_jwt"}, "client_secret"),
        (
            {"token_endpoint_auth_method": "client_secret_jwt", "client_secret": "short"},
            "token_endpoint_auth_method",
        ),
        (
            {"client_secret": SECRET, "token_endpoint_auth_signing_alg": "HS256"},
            "token_endpoint_auth_signing_alg",
        ),
        ({"client_secret": "s", "jwks": {}}, "jwks"),
        ({"client_secret": "s", "jwks": {"keys": ["x"]}}, "jwks"),
        ({"client_secret": "s", "jwks": {"keys": [EC.as_dict(private=True)]}}, "jwks"),
        ({"client_secret": "s", "jwks": {"keys": [secret().as_dict()]}}, "jwks"),
        (
            {"client_secret": "s", "backchannel_authentication_request_signing_alg": "ES256"},
            "backchannel_auth",
        ),
        (
            {
                "client_secret": SECRET,
                "jwks": JWKS,
                "backchannel_authentication_request_signing_alg": "HS256",
            },
            "backchannel_auth",
        ),
        ({"client_secret": "s", "id_token_signed_response_alg": "HS256"}, "id_token_signed_response_alg"),
        ({"client_secret": "s", "id_token_signed_response_alg": "none"}, "id_token_signed_response_alg"),
        ({"client_secret": "s", "userinfo_signed_response_alg": "HS256"}, "userinfo_signed_response_alg"),
        (
            {"client_secret": "s", "id_token_encrypted_response_alg": "ECDH-ES"},
            "id_token_encrypted_response_alg",
        ),
        (
            {"jwks": JWKS, "token_endpoint_auth_method": "none", "id_token_encrypted_response_alg": "dir"},
            "id_token_encrypted_response_alg",
        ),
        (
            {"client_secret": "s", "id_token_encrypted_response_enc": "A128GCM"},
            "id_token_encrypted_response_enc",
        ),
    ],
)
def test_registrations_that_make_no_sense(settings: dict[str, Any], name: str) -> None:
    """AUTH-15, REG-04, -08, -09: what could not work, or would show a private key, cannot be registered."""
    with pytest.raises(ValueError, match=name):
        SimulatedClient("me", **settings)


# --- signed requests ---------------------------------------------------------------------------------------

SIGNING = SimulatedClient(
    "me",
    SECRET,
    token_endpoint_auth_method="client_secret_post",
    jwks=JWKS,
    backchannel_authentication_request_signing_alg="ES256",
)
IDENTITY = [("client_id", "me"), ("client_secret", SECRET)]


def request_claims(**more: Any) -> dict[str, Any]:
    claims = {
        "iss": "me", "aud": ISSUER, "iat": START, "nbf": START, "exp": START + 300, "jti": unique(),
        "scope": "openid", "login_hint": "carol",
    }  # fmt: skip
    return {name: value for name, value in (claims | more).items() if value is not None}


def send_request(world: World, token: str, *more: tuple[str, str]) -> str:
    world.post("/bc-authorize", [*IDENTITY, ("request", token), *more])
    return world.last.outcome


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"aud": [ISSUER, f"{ISSUER}/bc-authorize"]},
        {"nbf": START - 3000, "exp": START + 600},
        {"client_id": "me"},
        {"requested_expiry": 60},
        {"requested_expiry": "60"},
        {"authorization_details": [{"type": "payment"}]},
        {"claims": {"id_token": {"acr": None}}},
        {"resource": "https://api.example/a"},
        {"resource": ["https://api.example/a", "urn:b"]},
        {"request_context": {"ip": "192.0.2.1"}, "x": True, "user_code": ""},
    ],
)
def test_good_signed_requests(claims: dict[str, Any]) -> None:
    """CIBA-7.1.1-02, -03, -06, -17, -19: parameters are claims, each of its JSON type."""
    world = World(SIGNING)
    assert send_request(world, make_jwt(request_claims(**claims), kid="a")) == "acknowledged"
    (pending,) = world.provider.pending
    assert pending.expires - pending.created == (60 if "requested_expiry" in claims else 120)


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        *(
            ({name: None}, "invalid_request")
            for name in ("iss", "aud", "iat", "nbf", "exp", "jti", "scope", "login_hint")
        ),
        ({"iss": "you"}, "invalid_request"),
        ({"aud": f"{ISSUER}/bc-authorize"}, "invalid_request"),
        ({"exp": START}, "invalid_request"),
        ({"nbf": START + 11}, "invalid_request"),
        ({"iat": START + 11}, "invalid_request"),
        ({"iat": "0"}, "invalid_request"),
        ({"exp": START + 3601}, "invalid_request"),
        ({"client_id": "you"}, "invalid_request"),
        ({"requested_expiry": 0}, "invalid_request"),
        ({"requested_expiry": True}, "invalid_request"),
        ({"scope": ["openid"]}, "invalid_request"),
        ({"authorization_details": '[{"type":"payment"}]'}, "invalid_request"),
        ({"claims": "{}"}, "invalid_request"),
        ({"resource": "relative"}, "invalid_target"),
        ({"resource": ["urn:a", 5]}, "invalid_target"),
        ({"request": "x"}, "invalid_request"),
        ({"request_uri": "urn:x"}, "invalid_request"),
    ],
)
def test_bad_signed_requests(claims: dict[str, Any], error: str) -> None:
    """CIBA-7.1.1-03, -06, -07, -08, FAPI-CIBA 5.2.2: mandatory claims, lifetime, and types are checked."""
    world = World(SIGNING)
    assert send_request(world, make_jwt(request_claims(**claims), kid="a")) == error
    assert world.provider.pending == ()


def test_nothing_beside_client_authentication() -> None:
    """CIBA-7.1.1-04, -05: a parameter outside of the JWT is refused, even of the same value."""
    world = World(SIGNING)
    for outside in (("scope", "openid"), ("x", "1"), ("resource", "urn:a")):
        assert send_request(world, make_jwt(request_claims(), kid="a"), outside) == "invalid_request"


def test_a_signed_request_is_for_one_use() -> None:
    """CIBA-7.1.1-13, AUTH-25: neither the JWT nor its jti is good twice."""
    world = World(SIGNING)
    token = make_jwt(request_claims(), kid="a")
    assert send_request(world, token) == "acknowledged"
    assert send_request(world, token) == "invalid_request"


@pytest.mark.parametrize(
    ("key", "alg", "header", "outcome"),
    [
        (EC, "ES256", {"kid": "a", "typ": "oauth-authz-req+jwt"}, "acknowledged"),
        (EC, "ES256", {"kid": "a", "typ": "dpop+jwt"}, "invalid_request"),
        (EC, "ES256", {}, "invalid_request"),
        (EC, "ES256", {"kid": "b"}, "invalid_request"),
        (RSA, "RS256", {}, "invalid_request"),
        (secret(), "HS256", {}, "invalid_request"),
    ],
)
def test_signatures_of_requests(key: Any, alg: str, header: dict[str, str], outcome: str) -> None:
    """CIBA-7.1.1-09, -10, -11, -15: the registered algorithm, the key that kid names, a fitting typ."""
    assert send_request(World(SIGNING), make_jwt(request_claims(), key, alg, **header)) == outcome


def test_a_client_signs_always_or_never() -> None:
    """CIBA-7.1.1-18: unsigned requests of a signing client are refused, and signed ones of any other."""
    world = World(SIGNING)
    world.post("/bc-authorize", [*IDENTITY, ("scope", "openid"), ("login_hint", "carol")])
    assert world.last.outcome == "invalid_request"
    other = World(SimulatedClient("me", SECRET, token_endpoint_auth_method="client_secret_post", jwks=JWKS))
    assert send_request(other, make_jwt(request_claims(), kid="a")) == "invalid_request"


def test_types_of_authorization_details() -> None:
    """RAR: where types are listed they are advertised, and others are refused; otherwise all pass."""
    world = World(authorization_details_types=["payment"])
    document = json.loads(world.get("/.well-known/openid-configuration").body)
    assert document["authorization_details_types_supported"] == ["payment"]
    world.begin(("authorization_details", '[{"type":"payment"}]'))
    form = [("client_id", "me"), ("scope", "openid"), ("login_hint", "alice")]
    reply = world.post("/bc-authorize", [*form, ("authorization_details", '[{"type":"other"}]')])
    assert refused(reply) == (400, "invalid_authorization_details")
    assert "authorization_details_types_supported" not in json.loads(
        World().get("/.well-known/openid-configuration").body
    )
