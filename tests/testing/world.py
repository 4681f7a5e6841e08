"""A provider, its clock, and a client that speaks with keys; JWTs are made with joserfc directly."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from joserfc import jws
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from ciba_core.testing import (
    Approve,
    Ignore,
    JournalEntry,
    Reply,
    SimulatedClient,
    SimulatedProvider,
    User,
    VirtualClock,
)

FORM = "application/x-www-form-urlencoded"
GRANT = "urn:openid:params:grant-type:ciba"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ISSUER = "https://op.example"
SECRET = "a secret of more than sixty-four octets, so that HS512 can be tested too"
START = 1_700_000_000

EC = ECKey.generate_key("P-256")
EC_OTHER = ECKey.generate_key("P-256")
ED = OKPKey.generate_key("Ed25519")
RSA = RSAKey.generate_key(2048)

Pairs = Sequence[tuple[str, str]]
_numbers = itertools.count()


def public(key: Key, **members: str) -> dict[str, Any]:
    """The public JWK of a key, with more members."""
    return dict(key.as_dict(private=False)) | members


def key_set(*keys: Mapping[str, Any]) -> dict[str, Any]:
    return {"keys": list(keys)}


def unique() -> str:
    """A jti that no other test has."""
    return f"jti-{next(_numbers)}"


def make_jwt(claims: Mapping[str, Any], key: Key = EC, alg: str = "ES256", **header: Any) -> str:
    """A JWT made by joserfc alone."""
    return jws.serialize_compact({"alg": alg, **header}, json.dumps(claims), key, algorithms=[alg])


def part(value: object) -> str:
    """One part of a JWT by hand."""
    octets = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def proof(
    path: str = "/token",
    key: Key = EC,
    alg: str = "ES256",
    header: Mapping[str, Any] | None = None,
    **claims: Any,
) -> tuple[str, str]:
    """A DPoP header written from RFC 9449 4.2; claims that are None are left out."""
    members = {"jti": unique(), "htm": "POST", "htu": ISSUER + path, "iat": START} | claims
    members = {name: value for name, value in members.items() if value is not None}
    return "DPoP", make_jwt(members, key, alg, **{"typ": "dpop+jwt", "jwk": public(key)} | dict(header or {}))


def access_hash(token: str) -> str:
    return part(hashlib.sha256(token.encode()).digest())


def public_client(**settings: Any) -> SimulatedClient:
    """A client that need not authenticate, for what is not about that."""
    registered: dict[str, Any] = {"token_endpoint_auth_method": "none"} | settings
    return SimulatedClient("me", **registered)


class World:
    """A provider and what a test does with it."""

    def __init__(
        self, *clients: SimulatedClient, users: Mapping[str, User] | None = None, **settings: Any
    ) -> None:
        self.clock = VirtualClock(START)
        self.provider = SimulatedProvider(
            self.clock,
            clients=clients or [public_client()],
            users=users or {"alice": Approve(), "carol": Ignore()},
            **settings,
        )

    def post(self, path: str, pairs: Pairs, *headers: tuple[str, str]) -> Reply:
        body = urlencode(pairs).encode()
        reply = self.provider.handle("POST", path, [("Content-Type", FORM), *headers], body)
        assert isinstance(reply, Reply)
        return reply

    def get(self, path: str, *headers: tuple[str, str], method: str = "GET") -> Reply:
        reply = self.provider.handle(method, path, headers, b"")
        assert isinstance(reply, Reply)
        return reply

    def begin(
        self,
        *more: tuple[str, str],
        scope: str = "openid",
        hint: str = "alice",
        identify: Pairs = (("client_id", "me"),),
    ) -> str:
        reply = self.post("/bc-authorize", [*identify, ("scope", scope), ("login_hint", hint), *more])
        assert reply.status == 200, reply.body
        return str(json.loads(reply.body)["auth_req_id"])

    def poll(
        self, auth_req_id: str, *headers: tuple[str, str], identify: Pairs = (("client_id", "me"),)
    ) -> Reply:
        return self.post("/token", [*identify, ("grant_type", GRANT), ("auth_req_id", auth_req_id)], *headers)

    def tokens(
        self, *headers: tuple[str, str], scope: str = "openid", identify: Pairs = (("client_id", "me"),)
    ) -> dict[str, Any]:
        reply = self.poll(self.begin(scope=scope, identify=identify), *headers, identify=identify)
        assert reply.status == 200, reply.body
        return content(reply)

    def refresh(
        self, token: str, *more: tuple[str, str], headers: Pairs = (), client_id: str = "me"
    ) -> Reply:
        form = [("client_id", client_id), ("grant_type", "refresh_token"), ("refresh_token", token), *more]
        return self.post("/token", form, *headers)

    def key_list(self) -> list[dict[str, Any]]:
        keys: list[dict[str, Any]] = content(self.get("/jwks"))["keys"]
        return keys

    @property
    def last(self) -> JournalEntry:
        return self.provider.journal[-1]


def content(reply: Reply) -> dict[str, Any]:
    assert ("Content-Type", "application/json") in reply.headers
    members: dict[str, Any] = json.loads(reply.body)
    return members


def header(reply: Reply, name: str) -> str | None:
    return dict(reply.headers).get(name)


def refused(reply: Reply) -> tuple[int, str]:
    return reply.status, content(reply)["error"]


def secret(value: str = SECRET) -> OctKey:
    return OctKey.import_key(value)
