"""DPoP proofs as the simulated provider checks them (RFC 9449)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define, field

from . import jose
from .checks import Refusal
from .jose import BadJwt, Jwt, is_object
from .wire import Headers

__all__ = ["DpopProofs"]

_AGE: Final = 60  # seconds since iat; RFC 9449 4.3 wants "an acceptable window"
_LEEWAY: Final = 10


@define
class DpopProofs:
    """Checks DPoP proofs, remembers them, and hands out nonces if it is to.

    Args:
        new_nonce: makes a nonce, or ``None`` if none is demanded.
        nonce_uses: number of proofs after which there is a new nonce; ``None``: the nonce stays.

    """

    _new_nonce: Callable[[], str] | None
    _nonce_uses: int | None
    _nonce: str | None = field(init=False, default=None)
    _uses: int = field(init=False, default=0)
    _used: set[tuple[str, str]] = field(init=False, factory=set[tuple[str, str]])

    def check(
        self, proofs: list[str], *, method: str, url: str, now: float, access_token: str | None = None
    ) -> tuple[str, Headers]:
        """Check the proof of one request; return the thumbprint of its key, and headers for the answer.

        Raises:
            Refusal: with ``invalid_dpop_proof`` or ``use_dpop_nonce``.

        """
        try:
            jwt = jose.read(" ".join(proofs))  # two headers are ambiguous
            thumbprint = self._check_key(jwt)
            jti = self._check_claims(jwt, method=method, url=url, now=now, access_token=access_token)
        except BadJwt as error:
            raise Refusal("invalid_dpop_proof", f"DPoP: {error}") from None
        self._check_nonce(jwt)
        if (thumbprint, jti) in self._used:
            raise Refusal("invalid_dpop_proof", "DPoP: jti: used before")
        self._used.add((thumbprint, jti))
        return thumbprint, self._count_use()

    @staticmethod
    def _check_key(jwt: Jwt) -> str:
        alg = jwt.header.get("alg")
        jwk = jwt.header.get("jwk")
        if jwt.header.get("typ") != "dpop+jwt":
            raise BadJwt("typ: not dpop+jwt")
        if alg not in jose.ASYMMETRIC:
            raise BadJwt("alg: not supported")
        if not is_object(jwk) or jose.private_members(jwk):
            raise BadJwt("jwk: not a public key")
        jose.verify(jwt, jwk, alg)
        return jose.thumbprint(jwk)

    @staticmethod
    def _check_claims(jwt: Jwt, *, method: str, url: str, now: float, access_token: str | None) -> str:
        claims = jwt.claims
        if claims.get("htm") != method:
            raise BadJwt("htm: not the method of this request")
        if claims.get("htu") != url:
            raise BadJwt("htu: not the URL of this request without query and fragment")
        issued = claims.get("iat")
        if isinstance(issued, bool) or not isinstance(issued, (int, float)):
            raise BadJwt("iat: not a number")
        if not now - _AGE <= issued <= now + _LEEWAY:
            raise BadJwt("iat: too old, or in the future")
        if access_token is not None and claims.get("ath") != jose.token_hash(access_token):
            raise BadJwt("ath: not that of the access token")
        jti = claims.get("jti")
        if not isinstance(jti, str) or not jti:
            raise BadJwt("jti: missing")
        return jti

    def _check_nonce(self, jwt: Jwt) -> None:
        if self._new_nonce is None:
            return
        if self._nonce is None:
            self._nonce = self._new_nonce()
        if jwt.claims.get("nonce") != self._nonce:
            raise Refusal(
                "use_dpop_nonce", "the DPoP proof needs the nonce", headers=(("DPoP-Nonce", self._nonce),)
            )

    def _count_use(self) -> Headers:
        """Count a good proof; when the nonce is used up, the answer brings the next one (RFC 9449 8.2)."""
        self._uses += 1
        if self._new_nonce is None or self._uses != self._nonce_uses:
            return ()
        self._uses = 0
        self._nonce = self._new_nonce()
        return (("DPoP-Nonce", self._nonce),)
