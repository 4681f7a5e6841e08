"""Demonstrating proof of possession: access tokens that are bound to a key (RFC 9449)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Self, cast
from urllib.parse import urlsplit

from attrs import field, frozen

from ciba_core.jose.encoding import base64url
from ciba_core.jose.key_import import Key, derive_p256, import_key
from ciba_core.jose.signing import compact, encoded, sign, signing_input
from ciba_core.jose.unsigned_jwt import numeric_date
from ciba_core.values import check
from ciba_core.values.http import HttpResponse
from ciba_core.values.json import FrozenMapping, JsonFault, dumps, freeze, parse_object
from ciba_core.values.secret import Secret

__all__ = ["DPOP_ALGORITHM", "DpopKey", "ProofClaims", "origin", "supplied_nonce", "valid_nonce"]

DPOP_ALGORITHM: Final = "ES256"
"""The algorithm of all proofs; has to be in the provider's ``dpop_signing_alg_values_supported``."""
_KEY_OCTETS: Final = 32
_JTI_OCTETS: Final = 12
_NONCE: Final = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]{1,2048}")


def valid_nonce(value: str) -> bool:
    """Tell whether the value of a ``DPoP-Nonce`` header can be a nonce (RFC 9449 8.1).

    More than 2048 characters are not taken: they would go into the header fields of every request.
    """
    return _NONCE.fullmatch(value) is not None


def supplied_nonce(response: HttpResponse) -> str | None:
    """Return the nonce that an answer supplies (RFC 9449 8 and 9), unless it has none or a malformed one."""
    nonce = response.header("DPoP-Nonce")
    return nonce if nonce is not None and valid_nonce(nonce) else None


def origin(url: str) -> str:
    """Return what nonces are kept by: scheme, host and port of a valid URL (RFC 9449 8.2, RFC 6454 4)."""
    parts = urlsplit(url)
    default = ":443" if parts.scheme == "https" else ":80"
    return f"{parts.scheme}://{parts.netloc.lower().removesuffix(default)}"


_REGISTERED: Final = frozenset({"jti", "htm", "htu", "iat", "ath", "nonce"})
"""What a proof says by itself (RFC 9449 4.2)."""
_NO_CLAIMS: Final = FrozenMapping({})


def _check_name(_instance: Any, attribute: Any, value: Any) -> None:
    check.text(_instance, attribute, value)
    if value in _REGISTERED:
        raise ValueError(f"{attribute.name}: a proof has {value} already")


def _to_claims(value: Mapping[str, Any]) -> Mapping[str, Any]:
    claims: Mapping[str, Any] = freeze(value)
    return claims


def _check_claims(_instance: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{attribute.name} must be a mapping")
    taken = sorted(_REGISTERED.intersection(cast("Mapping[str, object]", value)))
    if taken:
        raise ValueError(f"{attribute.name}: a proof has {taken[0]} already")


@frozen(kw_only=True, weakref_slot=False)
class ProofClaims:
    """What DPoP proofs say beyond RFC 9449, where a provider asks for more.

    CAMARA has hashes of the request in them: ``ProofClaims(body_hash="camara:bh", query_hash="camara:qh")``,
    by the names that the provider lists.

    Raises:
        TypeError, ValueError: an argument is of the wrong type, or names a claim that proofs have already, or
            two claims have one name; the message names it.

    """

    body_hash: str | None = field(default=None, validator=_check_name)
    """The claim for the SHA-256 of the octets of the body, base64url; it is left out where there is none."""
    query_hash: str | None = field(default=None, validator=_check_name)
    """The same for the query of the URL."""
    fixed: Mapping[str, Any] = field(default=_NO_CLAIMS, converter=_to_claims, validator=_check_claims)
    """Claims that are the same in every proof."""

    def __attrs_post_init__(self) -> None:
        names = [*self.fixed, *(name for name in (self.body_hash, self.query_hash) if name is not None)]
        if len(set(names)) != len(names):
            raise ValueError("body_hash, query_hash and fixed must name different claims")

    def of(self, url: str, body: bytes) -> Mapping[str, Any]:
        """Return the claims for a request, for `DpopKey.proof`.

        Args:
            url: URL of the request, as called.
            body: the octets of its body; empty where it has none.

        """
        claims = dict(self.fixed)
        query = url.partition("#")[0].partition("?")[2].encode()
        for name, octets in ((self.body_hash, body), (self.query_hash, query)):
            if name is not None and octets:
                claims[name] = base64url(hashlib.sha256(octets).digest())
        return claims


@frozen(repr=False, weakref_slot=False)
class DpopKey:
    """The key that the access tokens of one transaction are bound to; used for nothing else.

    It has to live as long as the tokens: store it with them through `to_secret`. Two are equal when their
    thumbprints are.
    """

    _key: Key = field(eq=False)
    thumbprint: str = field(init=False)
    """``jkt``: the SHA-256 thumbprint of the public key (RFC 7638)."""
    _header: str = field(init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "thumbprint", self._key.thumbprint())
        header = {"typ": "dpop+jwt", "alg": DPOP_ALGORITHM, "jwk": self._key.public_jwk()}
        object.__setattr__(self, "_header", encoded(header))

    @classmethod
    def generate(cls, entropy: Callable[[int], bytes]) -> Self:
        """Make a key on P-256 from 32 random octets; the same octets give the same key.

        Args:
            entropy: returns that many random octets.

        """
        return cls(derive_p256(entropy(_KEY_OCTETS)))

    @classmethod
    def from_secret(cls, secret: Secret) -> Self:
        """Restore a key from what `to_secret` returned, or take a private P-256 key in the form of a JWK.

        Raises:
            ValueError: it is none.

        """
        members = parse_object(secret.reveal().encode("utf-8", "replace"), depth_limit=4)
        key = None if isinstance(members, JsonFault) else import_key(members)
        if not isinstance(key, Key) or DPOP_ALGORITHM not in key.signs:
            raise ValueError("a DPoP key must be a private P-256 key as a JWK")
        return cls(key)

    def to_secret(self) -> Secret:
        """Return the private key as a JWK, in JSON."""
        return Secret(dumps(self._key.private_jwk()))

    def proof(
        self,
        *,
        method: str,
        url: str,
        now: float,
        jti: bytes,
        nonce: str | None = None,
        access_token: Secret | None = None,
        claims: Mapping[str, Any] = _NO_CLAIMS,
    ) -> str:
        """Return a new value of the ``DPoP`` header, for one request (RFC 9449 4.2).

        Polls and repeated requests each need their own.

        Args:
            method: HTTP method of the request.
            url: URL of the request, as called; query and fragment are left out of the proof.
            now: POSIX seconds.
            jti: 12 random octets or more, not used before.
            nonce: the nonce that this server supplied last (RFC 9449 8), checked by `valid_nonce`.
            access_token: the token that goes along, at a resource (RFC 9449 7).
            claims: further claims; `ProofClaims` makes them.

        Raises:
            ValueError: `jti` is too short, or `claims` has one that proofs have already.

        """
        if len(jti) < _JTI_OCTETS:
            raise ValueError(f"jti must have at least {_JTI_OCTETS} octets (RFC 9449 4.2)")
        taken = sorted(_REGISTERED.intersection(claims))
        if taken:
            raise ValueError(f"claims: a proof has {taken[0]} already")
        all_claims: dict[str, Any] = {
            **claims,
            "jti": base64url(jti),
            "htm": method.upper(),
            "htu": url.partition("#")[0].partition("?")[0],
            "iat": numeric_date(now),
        }
        if access_token is not None:
            digest = hashlib.sha256(access_token.reveal().encode("utf-8")).digest()
            all_claims["ath"] = base64url(digest)
        if nonce is not None:
            all_claims["nonce"] = nonce
        octets = signing_input(self._header, all_claims)
        return compact(octets, sign(octets, self._key, DPOP_ALGORITHM))

    def __repr__(self) -> str:
        return f"<DpopKey {self.thumbprint}>"
