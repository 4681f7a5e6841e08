"""Keys and ID Tokens of the simulated provider, good and bad."""

from __future__ import annotations

import hashlib
import json
import warnings
from typing import Any

import pytest
from joserfc import jwe, jws
from joserfc.errors import BadSignatureError, SecurityWarning
from joserfc.jwk import ECKey, Key, KeySet, OctKey, import_key

from ciba_core.testing import BadIdToken, SimulatedClient

from .world import SECRET, START, World, content, header, key_set, part, public, public_client, secret

AUTH_REQ_ID = "urn:openid:params:jwt:claim:auth_req_id"
ENCRYPTION = ECKey.generate_key("P-256")


def secret_client(**settings: Any) -> SimulatedClient:
    registered: dict[str, Any] = {"token_endpoint_auth_method": "client_secret_post"} | settings
    return SimulatedClient("me", SECRET, **registered)


IDENTITY = (("client_id", "me"), ("client_secret", SECRET))


def verified(token: str, keys: list[dict[str, Any]], alg: str) -> dict[str, Any]:
    """The claims, after the signature was verified with the key that kid names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # joserfc warns of the older name EdDSA
        opened = jws.deserialize_compact(token, KeySet.import_key_set({"keys": keys}), algorithms=[alg])
    assert opened.headers()["alg"] == alg
    claims: dict[str, Any] = json.loads(opened.payload or b"")
    return claims


@pytest.mark.parametrize("alg", ["RS256", "PS256", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"])
def test_signature_algorithms(alg: str) -> None:
    """REG-09, IDT-08: ID Tokens are signed as registered, by a published key of their own."""
    world = World(public_client(id_token_signed_response_alg=alg))
    claims = verified(world.tokens()["id_token"], world.key_list(), alg)
    assert (claims["iss"], claims["sub"], claims["aud"]) == ("https://op.example", "alice", "me")
    (key,) = world.key_list()
    assert (key["alg"], key["use"]) == (alg, "sig")


def test_signature_by_secret() -> None:
    """IDT-09: HS256 uses the octets of the secret, and publishes no key."""
    world = World(secret_client(id_token_signed_response_alg="HS256"))
    token = world.tokens(identify=IDENTITY)["id_token"]
    opened = jws.deserialize_compact(token, secret(), algorithms=["HS256"])
    assert "kid" not in opened.headers()
    assert world.key_list() == []


def test_several_algorithms() -> None:
    """JWKS-01: the key set has a key for each algorithm in use, each under its own kid."""
    world = World(
        public_client(),
        SimulatedClient("x", "s", id_token_signed_response_alg="ES256", userinfo_signed_response_alg="PS256"),
    )
    keys = world.key_list()
    assert [key["alg"] for key in keys] == ["RS256", "ES256", "PS256"]
    assert len({key["kid"] for key in keys}) == 3


@pytest.mark.parametrize("keep_old", [True, False])
def test_rotation(keep_old: bool) -> None:
    """JWKS-02: after a rotation there is a new key under a new kid; the old one stays or goes."""
    world = World()
    before = world.key_list()
    old = world.tokens()["id_token"]
    world.provider.rotate_keys(keep_old=keep_old)
    after = world.key_list()
    new = world.tokens()["id_token"]
    verified(new, after, "RS256")
    verified(old, before, "RS256")
    assert after[0]["kid"] != before[0]["kid"]
    assert after[0]["n"] != before[0]["n"]
    assert after[1:] == (before if keep_old else [])


@pytest.mark.parametrize("value", ["public, max-age=3600", None])
def test_caching_of_keys(value: str | None) -> None:
    """JWKS: the Cache-Control header of the key set is a setting."""
    assert header(World(jwks_cache_control=value).get("/jwks"), "Cache-Control") == value


@pytest.mark.parametrize(
    ("alg", "digest"),
    [
        ("RS256", hashlib.sha256),
        ("ES384", hashlib.sha384),
        ("PS512", hashlib.sha512),
        ("Ed25519", hashlib.sha512),
    ],
)
def test_access_token_hash(alg: str, digest: Any) -> None:
    """IDT-30, -31, -32: the left half of the hash that belongs to the algorithm."""
    world = World(public_client(id_token_signed_response_alg=alg), at_hash=True)
    tokens = world.tokens()
    octets = digest(tokens["access_token"].encode()).digest()
    assert verified(tokens["id_token"], world.key_list(), alg)["at_hash"] == part(octets[: len(octets) // 2])


def test_auth_req_id_claim() -> None:
    """CIBA-10.3-04: the auth_req_id can be in the ID Token."""
    world = World(auth_req_id_claim=True)
    auth_req_id = world.begin()
    token = content(world.poll(auth_req_id))["id_token"]
    assert verified(token, world.key_list(), "RS256")[AUTH_REQ_ID] == auth_req_id


def decrypted(token: str, key: Key, alg: str, enc: str) -> str:
    opened = jwe.decrypt_compact(token, key, algorithms=[alg, enc])
    assert (opened.headers()["cty"], opened.headers()["enc"]) == ("JWT", enc)
    return (opened.plaintext or b"").decode()


@pytest.mark.parametrize("alg", ["ECDH-ES", "ECDH-ES+A256KW"])
def test_encryption_by_key(alg: str) -> None:
    """IDT-40, -41, -43: a signed JWT within a JWE, for the client's encryption key, A128CBC-HS256 by default."""
    keys = key_set(public(ENCRYPTION, use="sig"), public(ENCRYPTION, use="enc", kid="e"))
    world = World(public_client(jwks=keys, id_token_encrypted_response_alg=alg))
    token = world.tokens()["id_token"]
    inner = decrypted(token, ENCRYPTION, alg, "A128CBC-HS256")
    assert verified(inner, world.key_list(), "RS256")["sub"] == "alice"
    # CIBA-7.1-19: as a hint the inner JWT is sent, not what was encrypted.
    form = [("client_id", "me"), ("scope", "openid")]
    assert world.post("/bc-authorize", [*form, ("id_token_hint", inner)]).status == 200
    assert world.post("/bc-authorize", [*form, ("id_token_hint", token)]).status == 400


def test_encryption_without_kid() -> None:
    """IDT-41: a client key without kid is named by none."""
    world = World(public_client(jwks=key_set(public(ENCRYPTION)), id_token_encrypted_response_alg="ECDH-ES"))
    opened = jwe.decrypt_compact(
        world.tokens()["id_token"], ENCRYPTION, algorithms=["ECDH-ES", "A128CBC-HS256"]
    )
    assert "kid" not in opened.headers()


@pytest.mark.parametrize(
    ("enc", "digest", "size"),
    [
        ("A128GCM", hashlib.sha256, 16),
        ("A256GCM", hashlib.sha256, 32),
        ("A192CBC-HS384", hashlib.sha384, 48),
        ("A256CBC-HS512", hashlib.sha512, 64),
    ],
)
def test_encryption_by_secret(enc: str, digest: Any, size: int) -> None:
    """IDT-42: the key of dir is the left part of the hash of the secret that is long enough."""
    client = secret_client(id_token_encrypted_response_alg="dir", id_token_encrypted_response_enc=enc)
    key = OctKey.import_key(digest(SECRET.encode()).digest()[:size])
    world = World(client)
    inner = decrypted(world.tokens(identify=IDENTITY)["id_token"], key, "dir", enc)
    verified(inner, world.key_list(), "RS256")


def test_bad_encryption_is_not_hidden() -> None:
    """A bad ID Token is encrypted like a good one; a token given as it is stays so."""
    world = World(public_client(jwks=key_set(public(ENCRYPTION)), id_token_encrypted_response_alg="ECDH-ES"))
    world.provider.inject("token", BadIdToken(claims={"sub": "mallory"}))
    inner = decrypted(world.tokens()["id_token"], ENCRYPTION, "ECDH-ES", "A128CBC-HS256")
    assert verified(inner, world.key_list(), "RS256")["sub"] == "mallory"
    world.provider.inject("token", BadIdToken(token="a.b.c.d.e"))
    assert world.tokens()["id_token"] == "a.b.c.d.e"


# --- bad ID Tokens -----------------------------------------------------------------------------------------


def test_bad_claims() -> None:
    """BadIdToken replaces, adds and leaves out claims, and changes the header, under a good signature."""
    world = World()
    fault = BadIdToken(
        claims={"exp": START, "nbf": 1}, without=("auth_time",), header={"kid": "RS256-0", "typ": "x"}
    )
    world.provider.inject("token", fault)
    token = world.tokens()["id_token"]
    assert world.last.fault == fault
    assert verified(token, world.key_list(), "RS256") == {
        "iss": "https://op.example", "sub": "alice", "aud": "me", "iat": START, "exp": START, "nbf": 1,
    }  # fmt: skip
    assert jws.extract_compact(token.encode()).headers()["typ"] == "x"
    assert world.provider.faults == ()
    # it is not what a client may send as a hint
    form = [("client_id", "me"), ("scope", "openid"), ("id_token_hint", token)]
    assert world.post("/bc-authorize", form).status == 400


def test_a_bad_id_token_waits_for_its_turn() -> None:
    """Pending answers and answers without an ID Token leave the fault planned, at the head of the line."""
    world = World(require_openid=False)
    world.provider.inject(None, BadIdToken(token="x.y.z"))
    world.poll(world.begin(hint="carol"))
    assert (world.last.outcome, world.last.fault) == ("authorization_pending", None)
    assert "id_token" not in world.tokens(scope="payments")
    (planned,) = world.provider.faults
    assert planned == (None, BadIdToken(token="x.y.z"))
    assert world.tokens()["id_token"] == "x.y.z"
    assert not world.provider.faults
    assert "x.y.z" not in repr(world.last)


@pytest.mark.parametrize("alg", ["RS256", "ES256", "HS256"])
@pytest.mark.parametrize("signature", ["wrong_key", "bit_flipped"])
def test_bad_signatures(alg: str, signature: Any) -> None:
    """IDT-07: a signature with one bit changed, and one of a key that is nowhere published."""
    world = World(secret_client(id_token_signed_response_alg=alg))
    world.provider.inject("token", BadIdToken(signature=signature))
    token = world.tokens(identify=IDENTITY)["id_token"]
    keys = world.key_list() or [dict(secret().as_dict())]
    with pytest.raises(BadSignatureError):
        verified(token, keys, alg)


def test_no_signature() -> None:
    """IDT-10: alg none, with an empty signature."""
    world = World()
    world.provider.inject("token", BadIdToken(signature="none", header={"x": 1}))
    head, _, signature = world.tokens()["id_token"].split(".")
    assert (head, signature) == (part({"alg": "none", "x": 1}), "")


@pytest.mark.parametrize("alg", ["RS256", "HS256"])
def test_hmac_with_the_public_key(alg: str) -> None:
    """IDT-08: HS256 with the published key in PEM as the secret."""
    world = World(secret_client(id_token_signed_response_alg=alg))
    world.provider.inject("token", BadIdToken(signature="hmac_with_public_key"))
    token = world.tokens(identify=IDENTITY)["id_token"]
    (key,) = world.key_list()
    head, claims, signature = token.split(".")
    pem = import_key(key, "RSA").as_pem(private=False)
    digest = hashlib.sha256
    # RFC 2104 by hand, since libraries rightly refuse such a secret
    block = pem if len(pem) <= 64 else digest(pem).digest()
    block = block.ljust(64, b"\0")
    inner = digest(bytes(octet ^ 0x36 for octet in block) + f"{head}.{claims}".encode()).digest()
    assert signature == part(digest(bytes(octet ^ 0x5C for octet in block) + inner).digest())
    assert head == part({"alg": "HS256", "kid": key["kid"]})


def test_another_algorithm() -> None:
    """IDT-08: a good signature of a published key, but not with the registered algorithm."""
    world = World()
    world.provider.inject("token", BadIdToken(alg="ES256"))
    token = world.tokens()["id_token"]
    assert [member["alg"] for member in world.key_list()] == ["RS256", "ES256"]
    verified(token, world.key_list(), "ES256")
