"""What the tests of signed messages share: the published key, the published JWTs, and ways to look into one."""

from __future__ import annotations

import hashlib
import itertools
import json
from base64 import urlsafe_b64decode
from collections.abc import Callable
from typing import Any, Final

from attrs import frozen

from ciba_core.jose import signing
from ciba_core.jose.key_import import Key, derive_p256
from ciba_core.jose.keys import SigningKey
from ciba_core.jose.signing import Jws, compact, parse_jws, verify
from ciba_core.jose.unsigned_jwt import AnySigner, RemoteSigner, UnsignedJwt
from tests.made_keys import import_key

FAPI_JWK: Final = {
    "kty": "EC",
    "d": "gM__X2faDsb4s6QLer9h-y4KzLIgwt5Jz2dJi5r64Pc",
    "use": "sig",
    "kid": "thrwqnuer",
    "crv": "P-256",
    "x": "YPczq3aBrd8PjtFsXX_HPZNwnzp89vAGjgQXm4cOgdQ",
    "y": "eqE4OZu0V07qXi9ojhQAeqKndWp0QwUfB3aNp4dYYPQ",
    "alg": "ES256",
}
"""VEC-FAPI-01: the example key of the client, published with its private part."""
FAPI_REQUEST: Final = (
    "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6InRocndxbnVlciJ9."
    "eyJpc3MiOiIzMDExODMzNzM4MTQ5NzkiLCJhdWQiOiJodHRwczovL3NlcnZlci5leGFtcGxlLmNvbS8iLCJpYXQiOjE1NjQ5MDI3MzgsIm5iZiI6MTU2NDkwMjczOCwiZXhwIjoxNTY0OTAzMDM4LCJqdGkiOiJBSnhaUnBOcWxnNjJVVGR5MzdndSIsInNjb3BlIjoib3BlbmlkIHBheW1lbnRzIiwiYWNyX3ZhbHVlcyI6InVybjptYWNlOmluY29tbW9uOmlhcDpzaWx2ZXIgdXJuOm1hY2U6aW5jb21tb246aWFwOmJyb256ZSIsImNsaWVudF9ub3RpZmljYXRpb25fdG9rZW4iOiJfTWlVT1kwN0VPQ3ZXUjVCVnVPTD0iLCJsb2dpbl9oaW50Ijoiam9obkBleGFtcGxlLmNvbSIsImJpbmRpbmdfbWVzc2FnZSI6IlMyNFIiLCJ1c2VyX2NvZGUiOiI2MzY1IiwicmVxdWVzdGVkX2V4cGlyeSI6IjEyMCIsInJlcXVlc3RfY29udGV4dCI6eyJsb2NhdGlvbiI6eyJsYXQiOjUxLjE3Mzk3LCJsbmciOi0xLjgyMjM4fX0sInBheW1lbnRfaW50ZW50Ijp7ImFtb3VudCI6IjE2NS44OCIsImN1cnJlbmN5IjoiR0JQIiwiY3JlZGl0b3JfYWNjb3VudCI6eyJzY2hlbWVfbmFtZSI6IlVLLk9CSUUuU29ydENvZGVBY2NvdW50TnVtYmVyIiwiaWRlbnRpZmljYXRpb24iOiIwODA4MDAyMTMyNTY5OCIsIm5hbWUiOiJBQ01FIEluYyJ9fX0."
    "6YQ2j27lXlsfw5QFUoDDbkXJnu8ldi6Tw8LwUEg_C1w2ru_tksYyIN81jv4Q0NXwRBtWsojahPFynZJa39Q3Yg"
)
FAPI_ASSERTION: Final = (
    "eyJraWQiOiJ0aHJ3cW51ZXIiLCJhbGciOiJFUzI1NiJ9."
    "eyJzdWIiOiIzMDExODMzNzM4MTQ5NzkiLCJhdWQiOiJodHRwczovL3NlcnZlci5leGFtcGxlLmNvbS8iLCJpc3MiOiIzMDExODMzNzM4MTQ5NzkiLCJleHAiOjE1NjQ5MDI3OTgsImlhdCI6MTU2NDkwMjczOCwianRpIjoiNnNSVndWdVpseDFERUJjSEVIaHgifQ."
    "b9fpM3hUv5Nex9DZOYS8AGUiBMIFnlvf5YgRmUqzBhljIGr4M5f-mkt2VOMImaKe-LaUMeD5y_PZGaBiDTo50A"
)
CORE_LOGIN_HINT_TOKEN: Final = (
    "eyJraWQiOiJsdGFjZXNidyIsImFsZyI6IkVTMjU2In0."
    "eyJzdWJfaWQiOnsiZm9ybWF0IjoicGhvbmUiLCJwaG9uZSI6IisxMzMwMjgxODAwNCJ9fQ."
    "GSqxJsFbIyojdfMBDv3MOyAplCViVkwQWzthCWuu9_gnKIqECZilwANt1HfIh3x3JFjaEq-5MZ_B3qeb11NAvg"
)
CORE_SIGNER: Final = RemoteSigner("the client of CIBA Core", alg="ES256", kid="ltacesbw")
"""Its key is not published, so that nothing but header and claims can be compared."""


@frozen
class LocalSigner:
    """A signer of an embedder's own."""

    key: Key
    alg: str
    kid: str | None = None

    def sign(self, octets: bytes, /) -> bytes:
        return signing.sign(octets, self.key, self.alg)


FAPI_KEY: Final = import_key(FAPI_JWK)
FAPI_SIGNER: Final = SigningKey.from_jwk(FAPI_JWK)
OTHER_SIGNER: Final = LocalSigner(derive_p256(b"another client"), "ES256")


def taken_apart(token: str) -> Jws:
    """A JWT that is in order, taken apart."""
    parsed = parse_jws(token, depth_limit=32)
    assert isinstance(parsed, Jws), parsed
    return parsed


def opened(jwt: UnsignedJwt | str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a JWT, signed or not."""
    token = jwt if isinstance(jwt, str) else compact(jwt.octets, b"?")
    header, claims = (urlsafe_b64decode(part + "==") for part in token.split(".")[:2])
    return json.loads(header), json.loads(claims)


def verified(token: str, key: Key, alg: str) -> bool:
    """Whether a JWT was signed by a key."""
    return verify(taken_apart(token), key, alg)


def counter() -> Callable[[int], bytes]:
    """A source of octets that never repeats and is the same in every run."""
    numbers = itertools.count()
    return lambda count: hashlib.shake_256(str(next(numbers)).encode()).digest(count)


def always(octets: bytes) -> Callable[[int], bytes]:
    """A source that gives the octets of a published `jti`, however many are asked for."""
    return lambda _count: octets


def bad_signers() -> list[tuple[Any, type[Exception]]]:
    """What is no signer for a key pair."""

    class NoSign:
        alg = "ES256"
        kid = None

    class NoAlg:
        def sign(self, octets: bytes, /) -> bytes:
            return octets

    return [
        (None, TypeError),
        ("key.pem", TypeError),
        (RemoteSigner, TypeError),
        (LocalSigner, TypeError),
        (NoSign(), TypeError),
        (NoAlg(), ValueError),
        (LocalSigner(FAPI_KEY, "none"), ValueError),
        (LocalSigner(FAPI_KEY, "HS256"), ValueError),
        (LocalSigner(FAPI_KEY, "es256"), ValueError),
        (LocalSigner(FAPI_KEY, "ES256", ""), ValueError),
        (LocalSigner(FAPI_KEY, "ES256", "a\nb"), ValueError),
        (LocalSigner(FAPI_KEY, "ES256", 7), ValueError),  # type: ignore[arg-type]
    ]


SIGNERS: Final[list[AnySigner]] = [FAPI_SIGNER, OTHER_SIGNER, CORE_SIGNER]
