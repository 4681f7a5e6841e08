"""Refresh, revocation, UserInfo and the metadata of the simulated provider."""

from __future__ import annotations

import json
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import KeySet

from ciba_core.testing import OtherSubject, Reply, SimulatedClient

from .world import EC_OTHER, RSA, SECRET, START, World, content, header, proof, public_client, refused, secret

OFFLINE = "openid email offline_access"


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(jws.extract_compact(token.encode()).payload)
    return claims


def userinfo(world: World, access_token: str) -> Reply:
    return world.get("/userinfo", ("Authorization", f"Bearer {access_token}"))


# --- refresh -----------------------------------------------------------------------------------------------


def test_refresh_with_rotation() -> None:
    """RT-02, -03, -04: new tokens and a new refresh token; the ID Token keeps sub and auth_time."""
    world = World(auth_req_id_claim=True)
    first = world.tokens(scope=OFFLINE)
    world.clock.sleep(100)
    second = content(world.refresh(first["refresh_token"]))
    assert world.last.outcome == "tokens"
    assert second["scope"] == OFFLINE
    assert second["access_token"] != first["access_token"]
    assert second["refresh_token"] != first["refresh_token"]
    claims = claims_of(second["id_token"])
    assert (claims["sub"], claims["auth_time"], claims["iat"]) == ("alice", START, START + 100)
    assert not any("auth_req_id" in name for name in claims)  # RT-09


def test_a_rotated_refresh_token_is_over() -> None:
    """RT-06, -07: a second use is invalid_grant, and ends what was issued to the first."""
    world = World()
    first = world.tokens(scope=OFFLINE)
    second = content(world.refresh(first["refresh_token"]))
    assert refused(world.refresh(first["refresh_token"])) == (400, "invalid_grant")
    assert refused(world.refresh(second["refresh_token"])) == (400, "invalid_grant")
    assert refused(userinfo(world, second["access_token"])) == (401, "invalid_token")


def test_refresh_without_rotation() -> None:
    """RT-02, -03: without a new refresh token the old one stays in use; the ID Token may be left out."""
    world = World(rotate_refresh_tokens=False, id_token_on_refresh=False)
    token = world.tokens(scope=OFFLINE)["refresh_token"]
    for _ in range(2):
        refreshed = content(world.refresh(token))
        assert not {"refresh_token", "id_token"} & set(refreshed)


def test_narrower_scope() -> None:
    """RT-01: less may be asked for, not more; the next refresh has the whole scope again."""
    world = World(rotate_refresh_tokens=False)
    token = world.tokens(scope=OFFLINE)["refresh_token"]
    narrow = content(world.refresh(token, ("scope", "email")))
    assert (narrow["scope"], "id_token" in narrow) == ("email", False)
    assert refused(userinfo(world, narrow["access_token"])) == (403, "insufficient_scope")
    assert refused(world.refresh(token, ("scope", "openid phone"))) == (400, "invalid_scope")
    assert refused(world.refresh(token, ("scope", '"'))) == (400, "invalid_scope")
    assert content(world.refresh(token))["scope"] == OFFLINE


def test_refresh_tokens_that_are_not_known() -> None:
    """RT-06: unknown and foreign refresh tokens are invalid_grant; none at all is invalid_request."""
    other = SimulatedClient("other", token_endpoint_auth_method="none")
    world = World(
        public_client(), other, SimulatedClient("no", token_endpoint_auth_method="none", grant_types=())
    )
    token = world.tokens(scope=OFFLINE)["refresh_token"]
    assert refused(world.refresh("x")) == (400, "invalid_grant")
    assert refused(world.refresh(token, client_id="other")) == (400, "invalid_grant")
    assert refused(world.refresh("")) == (400, "invalid_request")
    assert refused(world.refresh(token, client_id="no")) == (400, "unauthorized_client")
    assert world.refresh(token).status == 200


def test_refresh_and_dpop() -> None:
    """RT-10, DPOP-11: a public client's refresh token is bound to its key, through rotation."""
    world = World()
    token = world.tokens(proof(), scope=OFFLINE)["refresh_token"]
    for headers in ([], [proof(key=EC_OTHER)]):
        assert refused(world.refresh(token, headers=headers)) == (400, "invalid_dpop_proof")
    refreshed = content(world.refresh(token, headers=[proof()]))
    assert refreshed["token_type"] == "DPoP"
    assert (
        refused(world.refresh(refreshed["refresh_token"], headers=[proof(key=EC_OTHER)]))[1]
        == "invalid_dpop_proof"
    )


def test_refresh_tokens_of_confidential_clients() -> None:
    """DPOP-11: those of clients that authenticate are not bound; the new access token is, to the new key."""
    identity = (("client_id", "me"), ("client_secret", SECRET))
    world = World(SimulatedClient("me", SECRET, token_endpoint_auth_method="client_secret_post"))
    token = world.tokens(proof(), scope=OFFLINE, identify=identity)["refresh_token"]
    reply = world.refresh(token, ("client_secret", SECRET), headers=[proof(key=RSA, alg="RS256")])
    assert content(reply)["token_type"] == "DPoP"


# --- revocation --------------------------------------------------------------------------------------------


def revoke(world: World, token: str, *more: tuple[str, str], client_id: str = "me") -> Reply:
    return world.post("/revoke", [("client_id", client_id), ("token", token), *more])


def test_revoked_access_token() -> None:
    """REV-01, -02, -06: an access token goes alone, as often as asked; the hint does not matter."""
    world = World()
    tokens = world.tokens(scope=OFFLINE)
    for _ in range(2):
        reply = revoke(world, tokens["access_token"], ("token_type_hint", "refresh_token"))
        assert (reply.status, reply.body, world.last.outcome) == (200, b"", "revoked")
    assert refused(userinfo(world, tokens["access_token"])) == (401, "invalid_token")
    assert world.refresh(tokens["refresh_token"]).status == 200


def test_revoked_refresh_token() -> None:
    """REV-06: with a refresh token all of its grant goes."""
    world = World()
    tokens = world.tokens(scope=OFFLINE)
    assert revoke(world, tokens["refresh_token"]).status == 200
    assert refused(world.refresh(tokens["refresh_token"])) == (400, "invalid_grant")
    assert refused(userinfo(world, tokens["access_token"])) == (401, "invalid_token")


def test_revocation_rules() -> None:
    """REV-01, -02, -04: an unknown token is a success; a foreign one, none, and a stranger are errors."""
    world = World(public_client(), SimulatedClient("other", token_endpoint_auth_method="none"))
    token = world.tokens()["access_token"]
    assert revoke(world, "unknown").status == 200
    assert refused(revoke(world, token, client_id="other")) == (400, "invalid_grant")
    assert refused(revoke(world, "")) == (400, "invalid_request")
    assert refused(revoke(world, token, client_id="stranger")) == (401, "invalid_client")
    assert userinfo(world, token).status == 200
    assert world.get("/revoke").status == 405
    assert (world.last.endpoint, world.last.outcome) == ("revocation", "method_not_allowed")


# --- UserInfo ----------------------------------------------------------------------------------------------


def test_plain_userinfo() -> None:
    """UI-01, -02, -03: GET and POST with a bearer token; the same sub as in the ID Token."""
    world = World()
    tokens = world.tokens()
    authorization = ("Authorization", f"Bearer {tokens['access_token']}")
    for method in ("GET", "POST"):
        reply = world.get("/userinfo", authorization, method=method)
        assert content(reply) == {"sub": claims_of(tokens["id_token"])["sub"]}
    assert (world.last.endpoint, world.last.outcome, world.last.client_id) == ("userinfo", "claims", "me")
    reply = world.get("/userinfo", method="PUT")
    assert (reply.status, header(reply, "Allow")) == (405, "GET, POST")


@pytest.mark.parametrize("alg", ["RS256", "ES256", "HS256"])
def test_signed_userinfo(alg: str) -> None:
    """UI-04: application/jwt with iss and aud, signed as registered."""
    client = SimulatedClient(
        "me", SECRET, token_endpoint_auth_method="client_secret_post", userinfo_signed_response_alg=alg
    )
    world = World(client)
    tokens = world.tokens(identify=(("client_id", "me"), ("client_secret", SECRET)))
    reply = userinfo(world, tokens["access_token"])
    assert header(reply, "Content-Type") == "application/jwt"
    keys = secret() if alg == "HS256" else KeySet.import_key_set({"keys": world.key_list()})
    opened = jws.deserialize_compact(reply.body, keys, algorithms=[alg])
    assert json.loads(opened.payload or b"") == {"sub": "alice", "iss": "https://op.example", "aud": "me"}


def test_userinfo_about_somebody_else() -> None:
    """UI-02: the fault waits for an answer with claims and changes sub."""
    world = World()
    world.provider.inject("userinfo", OtherSubject())
    assert userinfo(world, "unknown").status == 401
    assert world.provider.journal[0].fault is None
    token = world.tokens()["access_token"]
    assert content(userinfo(world, token)) == {"sub": "mallory"}
    assert (world.last.fault, world.provider.faults) == (OtherSubject(), ())
    assert content(userinfo(world, token)) == {"sub": "alice"}


def test_userinfo_rules() -> None:
    """UI-06: no token, an unusable one and one that is over are 401 with a challenge."""
    world = World()
    token = world.tokens()["access_token"]
    good = ("Authorization", f"Bearer {token}")
    for headers in ([], [good, good], [("Authorization", "Basic eDp5")]):
        reply = world.get("/userinfo", *headers)
        assert refused(reply) == (401, "invalid_token")
        assert ("WWW-Authenticate", "Bearer") in reply.headers
    assert world.last.client_id is None
    world.clock.sleep(3600)
    reply = world.get("/userinfo", good)
    assert refused(reply) == (401, "invalid_token")
    assert header(reply, "WWW-Authenticate") == 'Bearer error="invalid_token"'


# --- metadata ----------------------------------------------------------------------------------------------


def test_metadata_tells_all() -> None:
    """OPM-03, -06, -09: endpoints, methods and algorithms are advertised; none is the algorithm of nothing."""
    document = content(World().get("/.well-known/openid-configuration"))
    assert document["revocation_endpoint"] == "https://op.example/revoke"
    assert document["userinfo_endpoint"] == "https://op.example/userinfo"
    assert "refresh_token" in document["grant_types_supported"]
    methods = {"private_key_jwt", "client_secret_jwt", "tls_client_auth", "self_signed_tls_client_auth"}
    for name in ("token_endpoint_auth_methods_supported", "revocation_endpoint_auth_methods_supported"):
        assert methods <= set(document[name])
    asymmetric = {"RS256", "PS256", "ES256", "Ed25519", "EdDSA"}
    for name in (
        "backchannel_authentication_request_signing_alg_values_supported",
        "dpop_signing_alg_values_supported",
    ):
        assert asymmetric <= set(document[name])
        assert "HS256" not in document[name]
    for name in (
        "token_endpoint_auth_signing_alg_values_supported",
        "id_token_signing_alg_values_supported",
        "userinfo_signing_alg_values_supported",
    ):
        assert asymmetric | {"HS256"} <= set(document[name])
        assert "none" not in document[name]
    assert {"RSA-OAEP-256", "ECDH-ES", "dir"} <= set(document["id_token_encryption_alg_values_supported"])
    assert "A128CBC-HS256" in document["id_token_encryption_enc_values_supported"]
