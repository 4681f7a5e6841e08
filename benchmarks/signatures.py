"""More rows of the core alone: ID Tokens and client assertions, against the bare `cryptography`."""

from __future__ import annotations

import base64
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, Final, Self

from attrs import evolve, frozen
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from benchmarks.core import compare_cpu, polls
from benchmarks.measure import Fact, Goal, Result, Row, Scale
from benchmarks.subject import AUTH_REQ_ID, CLIENT, CLIENT_ID, EXPIRES_IN, PROVIDER, START, pending, poll_once
from ciba_core import ClientConfig, IdTokenPolicy, PrivateKeyJwt, Secret, SigningKey, TokenResponse
from ciba_core.client.request import Requested
from ciba_core.jose.key_import import Key, import_pem
from ciba_core.jose.keys import KeySet
from ciba_core.jose.signing import compact, half_hash, sign, signing_input
from ciba_core.tokens.signed_claims import validate_id_token
from ciba_core.tokens.signed_jwt import Opened, SignedJwt

__all__ = ["peers", "rows"]

_ACCESS_TOKEN: Final = "G5kXH2wHvUra0sHlDy1iTkDJgsgUO1bN"
_ECDSA: Final = ec.ECDSA(SHA256())
_PKCS1: Final = padding.PKCS1v15()
_SHA256: Final = SHA256()
_ASSERTION: Final = signing_input(
    {"alg": "ES256", "kid": "client"},
    {
        "iss": CLIENT_ID,
        "sub": CLIENT_ID,
        "aud": PROVIDER.issuer,
        "jti": "AAAAAAAAAAAAAAAAAAAAAA",
        "iat": int(START),
        "exp": int(START) + 60,
    },
)
"""Octets as they are signed for each poll."""


def _key(pem: str | bytes, *, kid: str | None = None) -> Key:
    key = import_pem(pem, kid=kid)
    assert isinstance(key, Key)
    return key


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@frozen
class _Token:
    """An ID Token as providers issue it, and the contenders that check it."""

    alg: str
    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    text: str

    @classmethod
    def issued(cls, alg: str, *, at_hash: bool = True) -> Self:
        """Have a provider with a new key issue it, with or without the hash of the access token."""
        private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
        if alg == "ES256":
            private = ec.generate_private_key(ec.SECP256R1())
        else:
            private = rsa.generate_private_key(65537, 2048)
        claims: dict[str, object] = {
            "iss": PROVIDER.issuer,
            "sub": "248289761001",
            "aud": CLIENT_ID,
            "iat": int(START),
            "exp": int(START) + 20 * EXPIRES_IN,  # the peers go by the clock of the machine
            "auth_time": int(START),
            "acr": "urn:mace:incommon:iap:silver",
        }
        if at_hash:
            claims["at_hash"] = half_hash(alg, _ACCESS_TOKEN)
        octets = signing_input({"alg": alg, "kid": "provider"}, claims)
        return cls(alg, private, compact(octets, sign(octets, _key(_pem(private)), alg)))

    def public_pem(self) -> bytes:
        """Return the key to verify with."""
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def validation(self) -> Callable[[int], None]:
        """Return this project's: the signature and all the claims, with the key from a key set."""
        public = _key(self.public_pem(), kid="provider")
        keys = KeySet(keys=(public,), fetched_at=START, fresh_until=START + EXPIRES_IN)
        client = evolve(CLIENT, id_token=IdTokenPolicy(signed_response_alg=self.alg))
        token, auth_req_id, requested = Secret(self.text), Secret(AUTH_REQ_ID), Requested(scope="openid")
        tokens = TokenResponse(
            access_token=Secret(_ACCESS_TOKEN),
            token_type="Bearer",
            expires_at=START + EXPIRES_IN,
            refresh_token=None,
            id_token=token,
            scope="openid",
            authorization_details=None,
            extra={},
        )

        jwt = SignedJwt("the ID Token", token, self.alg, client.id_token, client)

        def validate(count: int) -> None:
            claims: object = None
            for _ in range(count):
                opened = jwt.opened(keys)
                assert isinstance(opened, Opened)  # for the type checker
                claims = validate_id_token(
                    opened,
                    tokens=tokens,
                    auth_req_id=auth_req_id,
                    requested=requested,
                    issuer=PROVIDER.issuer,
                    client=client,
                    now=START,
                    noted=[],
                )
            # Of each round, and not of each token: the reference looks at nothing either.
            assert isinstance(claims, Mapping)

        return validate

    def bare(self) -> Callable[[int], None]:
        """Return the least there is to do: verify the signature and parse the claims; check nothing."""
        public = self.private.public_key()

        def verify(signature: bytes, signed: bytes) -> None:
            if isinstance(public, ec.EllipticCurvePublicKey):
                r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
                public.verify(encode_dss_signature(r, s), signed, _ECDSA)
            else:
                public.verify(signature, signed, _PKCS1, _SHA256)

        def verify_and_parse(count: int) -> None:
            for _ in range(count):
                signed, _, signature = self.text.rpartition(".")
                verify(base64.urlsafe_b64decode(signature + "=="), signed.encode())
                json.loads(base64.urlsafe_b64decode(signed.partition(".")[2] + "=="))

        return verify_and_parse

    def by_joserfc(self) -> Callable[[int], None]:
        """Return the decoding of joserfc, which checks no claims."""
        key = (ECKey if self.alg == "ES256" else RSAKey).import_key(self.public_pem())

        def decode(count: int) -> None:
            for _ in range(count):
                jwt.decode(self.text, key, algorithms=[self.alg])

        return decode

    def by_pyjwt(self) -> Callable[[int], None]:
        """Return the decoding of PyJWT, which checks issuer, audience and times."""
        peer: Any = import_module("jwt")
        key = self.private.public_key()

        def decode(count: int) -> None:
            for _ in range(count):
                peer.decode(self.text, key, algorithms=[self.alg], audience=CLIENT_ID, issuer=PROVIDER.issuer)

        return decode

    def by_authlib(self) -> Callable[[int], None]:
        """Return the decoding of Authlib and its check of the claims: issuer, audience and times."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is deprecated in favour of joserfc, and used all the same
            peer: Any = import_module("authlib.jose")
        key = peer.JsonWebKey.import_key(self.public_pem())
        decoder = peer.JsonWebToken([self.alg])
        options = {"iss": {"essential": True, "value": PROVIDER.issuer}, "aud": {"value": CLIENT_ID}}

        def decode(count: int) -> None:
            for _ in range(count):
                decoder.decode(self.text, key, claims_options=options).validate(now=int(START))

        return decode


def rows(scale: Scale) -> Iterator[Row]:
    """Measure ID Token validation and the poll cycle with a signed assertion."""
    for alg in ("ES256", "RS256"):
        token = _Token.issued(alg)
        name, validate = f"ID Token validation, {alg}", token.validation()
        yield compare_cpu(
            scale, name, validate, "bare verification, json.loads", token.bare(), goal=Goal(1.4)
        )
        yield compare_cpu(
            scale, name, validate, "joserfc", token.by_joserfc(), note="the reference checks no claims"
        )
    token = _Token.issued("RS256", at_hash=False)
    yield compare_cpu(
        scale,
        "RS256 ID Token, no at_hash",
        token.validation(),
        "bare verification, json.loads",
        token.bare(),
    )

    key = ec.generate_private_key(ec.SECP256R1())
    client = ClientConfig(CLIENT_ID, PrivateKeyJwt(SigningKey.from_pem(_pem(key), alg="ES256", kid="client")))

    def sign_and_poll(count: int) -> None:
        transaction = pending()
        for _ in range(count):
            # In turns, as in a poll: in bulk, each of the two would have the caches to itself.
            key.sign(_ASSERTION, _ECDSA)
            transaction = poll_once(transaction)

    yield compare_cpu(
        scale,
        "poll cycle, private_key_jwt ES256",
        lambda count: polls(count, client),
        "bare signature, poll cycle with a secret",
        sign_and_poll,
        goal=Goal(1.5),
    )


def peers(scale: Scale) -> Iterator[Result]:
    """Measure ID Token validation against peers that need not be installed."""
    for name, peer in (("PyJWT", _Token.by_pyjwt), ("Authlib", _Token.by_authlib)):
        try:
            for alg in ("ES256", "RS256"):
                token = _Token.issued(alg)
                yield compare_cpu(
                    scale,
                    f"ID Token validation, {alg}",
                    token.validation(),
                    name,
                    peer(token),
                    note="the reference checks iss, aud and times",
                )
        except ImportError as problem:
            yield Fact(group="core", name=name, text=f"skipped: {problem}")
