"""The UserInfo endpoint of the simulated provider."""

from __future__ import annotations

from attrs import define

from .checks import Refusal
from .dpop import DpopProofs
from .script import OtherSubject
from .tokens import AccessToken, TokenStore
from .visit import Visit, json_reply
from .wire import Reply

__all__ = ["UserInfo"]


@define(eq=False)
class UserInfo:
    """Answers clients that have a valid access token, and the key if the token is bound to one."""

    tokens: TokenStore
    dpop: DpopProofs

    def answer(self, visit: Visit, now: float) -> Reply:
        """Answer a UserInfo request (OpenID Connect Core 5.3, RFC 9449 7)."""
        authorizations = visit.header("authorization")
        scheme, _, value = authorizations[0].partition(" ") if len(authorizations) == 1 else ("", "", "")
        scheme = {"bearer": "Bearer", "dpop": "DPoP"}.get(scheme.lower(), "")
        if not scheme:
            challenges = (("WWW-Authenticate", "Bearer"), ("WWW-Authenticate", "DPoP"))
            raise Refusal("invalid_token", "no access token", status=401, headers=challenges)
        try:
            token = self._admit(visit, scheme, value, now)
        except Refusal as refusal:
            challenge = ("WWW-Authenticate", f'{scheme} error="{refusal.error}"')
            raise Refusal(
                refusal.error,
                refusal.description,
                # RFC 9449 7.1: errors that have status 400 at the token endpoint have 401 here.
                status=max(refusal.status, 401),
                headers=(challenge, *refusal.headers),
            ) from None
        visit.outcome = "claims"
        visit.twisted = isinstance(visit.twist, OtherSubject)
        signed, claims = self.tokens.userinfo(token, visit.twist)
        if signed is None:
            return json_reply(claims)
        return Reply(
            200, (("Content-Type", "application/jwt"), ("Cache-Control", "no-store")), signed.encode()
        )

    def _admit(self, visit: Visit, scheme: str, value: str, now: float) -> AccessToken:
        """Check an access token and the possession of the key that it is bound to."""
        token = self.tokens.find(value, now=now)
        if token is not None:
            visit.client = token.grant.client
        if token is None or (token.jkt is None) != (scheme == "Bearer"):
            raise Refusal("invalid_token", "the token is not good, or of another type")
        if token.jkt is not None:
            jkt, visit.more_headers = self.dpop.check(
                visit.header("dpop"),
                method=visit.method,
                url=visit.url,
                now=visit.arrived,
                access_token=value,
            )
            if jkt != token.jkt:
                raise Refusal("invalid_token", "the token is bound to another key")
        if "openid" not in token.scope.split(" "):
            raise Refusal("insufficient_scope", "openid was not granted", status=403)
        return token
