"""The tokens that the simulated provider has issued, and what can be done with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field

from . import jose
from .checks import Refusal, read_scope
from .jose import KeyRing
from .script import BadIdToken, IgnoreDpop, OtherSubject, SimulatedClient, Twist

if TYPE_CHECKING:
    from joserfc.jwk import Key

__all__ = ["AUTH_REQ_ID_CLAIM", "AccessToken", "Grant", "Issued", "TokenStore"]

AUTH_REQ_ID_CLAIM: Final = "urn:openid:params:jwt:claim:auth_req_id"
RT_HASH_CLAIM: Final = "urn:openid:params:jwt:claim:rt_hash"

_TOKEN_LIFETIME: Final = 3600
_ID_TOKEN_LIFETIME: Final = 300
_WRONG_SECRET: Final = "nobody's secret"  # noqa: S105  # is meant to be wrong


@define(eq=False)
class Grant:
    """What a user has agreed to."""

    client: SimulatedClient
    auth_req_id: str
    hint: str
    sub: str
    scope: str
    authorization_details: list[Any] | None
    acr: str | None
    auth_time: float
    revoked: bool = False


@define(eq=False)
class AccessToken:
    """An access token; ``jkt``: the thumbprint of the key it is bound to."""

    grant: Grant
    scope: str
    expires: float
    jkt: str | None
    revoked: bool = False


@define(eq=False)
class _RefreshToken:
    grant: Grant
    jkt: str | None
    used: bool = False


@define
class Issued:
    """A token response, and whether the fault planned for it had something to change."""

    response: dict[str, object]
    twisted: bool = False


@define(eq=False)
class TokenStore:
    """Issues tokens and recognises them."""

    issuer: str
    keys: KeyRing
    random_token: Callable[[int], str]
    at_hash: bool
    auth_req_id_claim: bool
    rotate_refresh_tokens: bool
    id_token_on_refresh: bool
    hints: dict[str, str] = field(init=False, factory=dict[str, str])
    """Maps each issued ID Token to the hint of its user."""
    _access_tokens: dict[str, AccessToken] = field(init=False, factory=dict[str, AccessToken])
    _refresh_tokens: dict[str, _RefreshToken] = field(init=False, factory=dict[str, _RefreshToken])

    def issue(
        self, grant: Grant, *, now: float, jkt: str | None, twist: Twist | None, push: bool = False
    ) -> Issued:
        """Build the successful token response (CIBA Core 10.1.1), or the part of it for a push (10.3.1)."""
        scopes = grant.scope.split(" ")
        issued = self._issue_access_token(grant, grant.scope, now, jkt, twist)
        if "offline_access" in scopes:
            issued.response["refresh_token"] = self._issue_refresh_token(grant, jkt)
        if grant.authorization_details is not None:
            issued.response["authorization_details"] = grant.authorization_details
        if "openid" in scopes:
            bind = self.auth_req_id_claim or push
            more: dict[str, Any] = {AUTH_REQ_ID_CLAIM: grant.auth_req_id} if bind else {}
            self._add_id_token(issued, grant, more, now, twist, push=push)
        return issued

    def refresh(
        self,
        client: SimulatedClient,
        parameters: Mapping[str, str],
        *,
        now: float,
        jkt: str | None,
        twist: Twist | None,
    ) -> Issued:
        """Answer a refresh request (RFC 6749 6, OpenID Connect Core 12).

        Raises:
            Refusal: the refresh token is not good, or not for this client, or the scope is wider.

        """
        if "refresh_token" not in parameters:
            raise Refusal("invalid_request", "refresh_token: missing")
        known = self._refresh_tokens.get(parameters["refresh_token"])
        if known is None or known.grant.client is not client or known.grant.revoked:
            raise Refusal("invalid_grant", "no such refresh token")
        grant = known.grant
        if known.used:
            grant.revoked = True  # there is a copy of it (RFC 9700 4.14.2)
            raise Refusal("invalid_grant", "the refresh token was used before")
        if known.jkt not in {None, jkt}:
            raise Refusal("invalid_dpop_proof", "the refresh token is bound to another key")
        scope = grant.scope
        if "scope" in parameters:
            scope = read_scope(parameters, require_openid=False)
            if not set(scope.split(" ")) <= set(grant.scope.split(" ")):
                raise Refusal("invalid_scope", "scope: more than was granted")
        issued = self._issue_access_token(grant, scope, now, jkt, twist)
        if self.rotate_refresh_tokens:
            known.used = True
            issued.response["refresh_token"] = self._issue_refresh_token(grant, known.jkt)
        if self.id_token_on_refresh and "openid" in scope.split(" "):
            self._add_id_token(issued, grant, {}, now, twist)
        return issued

    def revoke(self, client: SimulatedClient, parameters: Mapping[str, str]) -> None:
        """Revoke a token; for a refresh token also its grant and that grant's access tokens (RFC 7009 2.1).

        Raises:
            Refusal: the token is another client's.

        """
        if "token" not in parameters:
            raise Refusal("invalid_request", "token: missing")
        access = self._access_tokens.get(parameters["token"])
        refresh = self._refresh_tokens.get(parameters["token"])
        known = access or refresh
        if known is None:
            return
        if known.grant.client is not client:
            raise Refusal("invalid_grant", "the token is not this client's")
        if access is not None:
            access.revoked = True
        else:
            known.grant.revoked = True

    def find(self, access_token: str, *, now: float) -> AccessToken | None:
        """Return an access token if it is valid, else ``None``."""
        known = self._access_tokens.get(access_token)
        if known is None or known.revoked or known.grant.revoked or now >= known.expires:
            return None
        return known

    def userinfo(self, token: AccessToken, twist: Twist | None) -> tuple[str | None, dict[str, Any]]:
        """Return the UserInfo answer as a signed JWT, if the client is registered for it, and as claims."""
        client = token.grant.client
        claims = {"sub": twist.sub if isinstance(twist, OtherSubject) else token.grant.sub}
        alg = client.userinfo_signed_response_alg
        if alg is None:
            return None, claims
        claims |= {"iss": self.issuer, "aud": client.client_id}
        return self._sign(client, alg, claims), claims

    # --- the parts of a token response -----------------------------------------------------------------

    def _issue_access_token(
        self, grant: Grant, scope: str, now: float, jkt: str | None, twist: Twist | None
    ) -> Issued:
        twisted = isinstance(twist, IgnoreDpop) and jkt is not None
        if twisted:
            jkt = None
        value = self.random_token(32)
        self._access_tokens[value] = AccessToken(grant, scope, now + _TOKEN_LIFETIME, jkt)
        return Issued(
            {
                "access_token": value,
                "token_type": "Bearer" if jkt is None else "DPoP",
                "expires_in": _TOKEN_LIFETIME,
                "scope": scope,
            },
            twisted,
        )

    def _issue_refresh_token(self, grant: Grant, jkt: str | None) -> str:
        # RFC 9449 5: refresh tokens of clients that authenticate are bound to the client already.
        public = grant.client.token_endpoint_auth_method == "none"  # noqa: S105  # a method's name
        value = self.random_token(32)
        self._refresh_tokens[value] = _RefreshToken(grant, jkt if public else None)
        return value

    def _add_id_token(
        self,
        issued: Issued,
        grant: Grant,
        more: Mapping[str, Any],
        now: float,
        twist: Twist | None,
        *,
        push: bool = False,
    ) -> None:
        client = grant.client
        alg = client.id_token_signed_response_alg
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": grant.sub,
            "aud": client.client_id,
            "iat": int(now),
            "exp": int(now) + _ID_TOKEN_LIFETIME,
            "auth_time": int(grant.auth_time),
            **more,
        }
        if grant.acr is not None:
            claims["acr"] = grant.acr
        bad = twist if isinstance(twist, BadIdToken) else None
        if bad is not None and bad.alg is not None:
            alg = bad.alg
        if self.at_hash or push:
            claims["at_hash"] = jose.half_hash(alg, str(issued.response["access_token"]))
        if push and "refresh_token" in issued.response:
            claims[RT_HASH_CLAIM] = jose.half_hash(alg, str(issued.response["refresh_token"]))
        if bad is None:
            token = self._sign(client, alg, claims)
            self.hints[token] = grant.hint
        else:
            issued.twisted = True
            token = self._sign_badly(client, alg, claims, bad)
        if client.id_token_encrypted_response_alg is not None:
            token = jose.encrypt(
                token,
                alg=client.id_token_encrypted_response_alg,
                enc=client.id_token_encrypted_response_enc or "A128CBC-HS256",
                jwks=client.jwks,
                secret=client.client_secret,
            )
        issued.response["id_token"] = bad.token if bad is not None and bad.token is not None else token

    def _sign(self, client: SimulatedClient, alg: str, claims: Mapping[str, Any]) -> str:
        header, key = self._signer(client, alg)
        return jose.compact(header, claims, jose.sign(header, claims, key, alg))

    def _signer(self, client: SimulatedClient, alg: str) -> tuple[dict[str, Any], Key]:
        if alg in jose.HMAC:
            return {"typ": "JWT", "alg": alg}, jose.import_secret(client.client_secret or "")
        kid, key = self.keys.current(alg)
        return {"typ": "JWT", "alg": alg, "kid": kid}, key

    def _sign_badly(
        self, client: SimulatedClient, alg: str, claims: Mapping[str, Any], bad: BadIdToken
    ) -> str:
        claims = {name: value for name, value in claims.items() if name not in bad.without} | dict(bad.claims)
        header, key = self._signer(client, alg)
        if bad.signature == "none":
            header = {"alg": "none", **bad.header}
            return jose.compact(header, claims, b"")
        if bad.signature == "hmac_with_public_key":
            kid, public = self.keys.current("RS256" if alg in jose.HMAC else alg)
            header = {"alg": "HS256", "kid": kid, **bad.header}
            return jose.compact(header, claims, jose.forge_with_public_key(header, claims, public))
        if bad.signature == "wrong_key":
            key = jose.import_secret(_WRONG_SECRET) if alg in jose.HMAC else self.keys.wrong(alg)
        header |= bad.header
        signature = jose.sign(header, claims, key, alg)
        if bad.signature == "bit_flipped":
            signature = bytes([signature[0] ^ 1]) + signature[1:]
        return jose.compact(header, claims, signature)
