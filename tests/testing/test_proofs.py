"""DPoP at the simulated provider."""

from __future__ import annotations

from typing import Any

import pytest

from ciba_core.testing import IgnoreDpop

from .world import (
    EC,
    EC_OTHER,
    ED,
    ISSUER,
    RSA,
    START,
    World,
    access_hash,
    content,
    header,
    part,
    proof,
    public,
    public_client,
    refused,
    secret,
)


@pytest.mark.parametrize(("key", "alg"), [(EC, "ES256"), (RSA, "RS256"), (RSA, "PS256"), (ED, "Ed25519")])
def test_good_proofs(key: Any, alg: str) -> None:
    """DPOP-02, -08, -09: with a good proof the token is of the type DPoP, without one it is Bearer."""
    assert World().tokens(proof(key=key, alg=alg))["token_type"] == "DPoP"
    assert World().tokens()["token_type"] == "Bearer"


@pytest.mark.parametrize(
    "claims", [{"iat": START - 60}, {"iat": START + 10}, {"iat": START + 0.5}, {"nonce": "unasked"}]
)
def test_proofs_within_the_rules(claims: dict[str, Any]) -> None:
    """DPOP-03: a window of time is accepted, and a nonce that nobody asked for does no harm."""
    assert World().tokens(proof(**claims))["token_type"] == "DPoP"


@pytest.mark.parametrize(
    ("claims", "members"),
    [
        ({"jti": None}, {}),
        ({"jti": 5}, {}),
        ({"htm": None}, {}),
        ({"htm": "post"}, {}),
        ({"htu": None}, {}),
        ({"htu": f"{ISSUER}/token?x"}, {}),
        ({"htu": f"{ISSUER}/bc-authorize"}, {}),
        ({"iat": None}, {}),
        ({"iat": True}, {}),
        ({"iat": START - 61}, {}),
        ({"iat": START + 11}, {}),
        ({}, {"typ": "JWT"}),
        ({}, {"jwk": public(EC_OTHER)}),
        ({}, {"jwk": public(ED)}),
        ({}, {"jwk": {"kty": "EC"}}),
        ({}, {"jwk": {}}),
        ({}, {"jwk": EC.as_dict(private=True)}),
    ],
)
def test_bad_proofs(claims: dict[str, Any], members: dict[str, Any]) -> None:
    """DPOP-02, -03, -05, -13: what is wrong with a proof is invalid_dpop_proof, and no tokens are lost by it."""
    world = World()
    auth_req_id = world.begin()
    assert refused(world.poll(auth_req_id, proof(header=members, **claims))) == (400, "invalid_dpop_proof")
    assert world.last.auth_req_id == auth_req_id
    assert world.poll(auth_req_id, proof()).status == 200


def test_more_bad_proofs() -> None:
    """DPOP-01, -02: two headers, no JWT, and a symmetric key are refused."""
    world = World()
    auth_req_id = world.begin()
    by_hand = part({"typ": "dpop+jwt", "alg": "ES256", "jwk": "x"}) + "." + part({}) + "."
    for headers in (
        (proof(), proof()),
        (("DPoP", "x"),),
        (("DPoP", by_hand),),
        (proof(key=secret(), alg="HS256", header={"jwk": {}}),),
    ):
        assert refused(world.poll(auth_req_id, *headers)) == (400, "invalid_dpop_proof")


def test_a_proof_is_for_one_use() -> None:
    """DPOP-04: a jti is good once for each key."""
    world = World()
    assert world.poll(world.begin(), proof(jti="1")).status == 200
    assert refused(world.poll(world.begin(), proof(jti="1"))) == (400, "invalid_dpop_proof")
    assert world.poll(world.begin(), proof(jti="1", key=RSA, alg="RS256")).status == 200


def test_clients_that_need_a_proof() -> None:
    """DPOP-12: dpop_bound_access_tokens demands a proof."""
    world = World(public_client(dpop_bound_access_tokens=True))
    auth_req_id = world.begin()
    assert refused(world.poll(auth_req_id)) == (400, "invalid_dpop_proof")
    assert world.poll(auth_req_id, proof()).status == 200


def test_nonce() -> None:
    """DPOP-13, -14: without the nonce comes a challenge that is no poll; with it the tokens come at once."""
    world = World(require_dpop_nonce=True)
    auth_req_id = world.begin()
    reply = world.poll(auth_req_id, proof())
    assert refused(reply) == (400, "use_dpop_nonce")
    nonce = header(reply, "DPoP-Nonce")
    assert nonce is not None
    assert refused(world.poll(auth_req_id, proof(nonce="x" + nonce))) == (400, "use_dpop_nonce")
    reply = world.poll(auth_req_id, proof(nonce=nonce))
    assert (reply.status, header(reply, "DPoP-Nonce"), world.last.too_early) == (200, None, False)
    assert world.poll(world.begin(), proof(nonce=nonce)).status == 200  # it stays


def test_nonces_are_replaced() -> None:
    """DPOP-15: after so many uses any answer, a pending one too, brings the next nonce; the old one is over."""
    world = World(require_dpop_nonce=True, dpop_nonce_uses=2)
    auth_req_id = world.begin(hint="carol")
    nonce = header(world.poll(auth_req_id, proof()), "DPoP-Nonce")
    assert header(world.poll(auth_req_id, proof(nonce=nonce)), "DPoP-Nonce") is None
    world.clock.sleep(5)
    reply = world.poll(auth_req_id, proof(nonce=nonce, iat=START + 5))
    second = header(reply, "DPoP-Nonce")
    assert refused(reply) == (400, "authorization_pending")
    assert second not in {None, nonce}
    reply = world.poll(auth_req_id, proof(nonce=nonce, iat=START + 5))
    assert (refused(reply), header(reply, "DPoP-Nonce")) == ((400, "use_dpop_nonce"), second)


def test_setting_of_nonces() -> None:
    """A nonce serves at least once."""
    with pytest.raises(ValueError, match="dpop_nonce_uses"):
        World(dpop_nonce_uses=0)


def test_bearer_in_spite_of_a_proof() -> None:
    """DPOP-09: the fault waits for tokens that are to be bound, and answers Bearer."""
    world = World()
    world.provider.inject("token", IgnoreDpop())
    assert refused(world.poll("unknown", proof())) == (400, "invalid_grant")
    assert world.provider.journal[0].fault is None
    assert world.tokens()["token_type"] == "Bearer"  # no proof: nothing to ignore
    tokens = world.tokens(proof())
    assert (tokens["token_type"], world.last.fault, world.provider.faults) == ("Bearer", IgnoreDpop(), ())
    assert world.get("/userinfo", ("Authorization", f"Bearer {tokens['access_token']}")).status == 200
    assert world.tokens(proof())["token_type"] == "DPoP"


# --- at the UserInfo endpoint ------------------------------------------------------------------------------


def test_bound_tokens_at_userinfo() -> None:
    """DPOP-07, -10: the same key and the hash of the token; each request its own proof."""
    world = World()
    token = world.tokens(proof())["access_token"]
    authorization = ("Authorization", f"DPoP {token}")
    good: dict[str, Any] = {"htm": "GET", "ath": access_hash(token)}
    assert content(world.get("/userinfo", authorization, proof("/userinfo", **good))) == {"sub": "alice"}
    lowercase = ("authorization", f"dpop {token}")
    assert world.get("/userinfo?x", lowercase, proof("/userinfo", **good)).status == 200
    for bad, error in (
        (proof("/userinfo", htm="GET"), "invalid_dpop_proof"),
        (proof("/userinfo", htm="GET", ath=access_hash("x")), "invalid_dpop_proof"),
        (proof("/userinfo", ath=access_hash(token)), "invalid_dpop_proof"),
        (proof("/token", **good), "invalid_dpop_proof"),
        (proof("/userinfo", RSA, "RS256", **good), "invalid_token"),
        (("X", ""), "invalid_dpop_proof"),
    ):
        reply = world.get("/userinfo", authorization, bad)
        assert refused(reply) == (401, error)
        assert header(reply, "WWW-Authenticate") == f'DPoP error="{error}"'


def test_token_types_are_not_mixed() -> None:
    """DPOP-10: a bound token is no bearer token, and the reverse."""
    world = World()
    bound, bearer = world.tokens(proof())["access_token"], world.tokens()["access_token"]
    for authorization in (f"Bearer {bound}", f"DPoP {bearer}"):
        reply = world.get("/userinfo", ("Authorization", authorization), proof("/userinfo", htm="GET"))
        assert refused(reply) == (401, "invalid_token")


def test_nonce_at_userinfo() -> None:
    """DPOP-17: the challenge is a 401 with the nonce."""
    world = World(require_dpop_nonce=True)
    nonce = header(world.poll(world.begin(), proof()), "DPoP-Nonce")
    token = world.tokens(proof(nonce=nonce))["access_token"]
    authorization = ("Authorization", f"DPoP {token}")
    good: dict[str, Any] = {"htm": "GET", "ath": access_hash(token)}
    reply = world.get("/userinfo", authorization, proof("/userinfo", **good))
    assert refused(reply) == (401, "use_dpop_nonce")
    assert (header(reply, "WWW-Authenticate"), header(reply, "DPoP-Nonce")) == (
        'DPoP error="use_dpop_nonce"',
        nonce,
    )
    assert world.get("/userinfo", authorization, proof("/userinfo", nonce=nonce, **good)).status == 200
