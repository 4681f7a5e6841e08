"""JWTs that a client makes: client assertions and signed authentication requests."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, Final, Literal

from attrs import define, field

from . import jose
from .checks import ABSOLUTE_URI, Form, Refusal
from .jose import BadJwt, Jwt, is_list
from .script import SimulatedClient

__all__ = ["AssertionAudience", "ClientJwts"]

AssertionAudience = Literal["issuer", "token_endpoint", "called_endpoint"]
"""What the ``aud`` of a client assertion may name."""

_ASSERTION_LIFETIME: Final = 300
_REQUEST_LIFETIME: Final = 3600  # FAPI-CIBA 5.2.2
_LEEWAY: Final = 10  # for clocks of clients that are ahead (FAPI 2.0 Security Profile 5.3.2.1)

_LAST_INSTANT: Final = 1e11  # the year 5138; far beyond, sums of numbers fail

_OUTSIDE: Final = frozenset(
    {"request", "client_id", "client_secret", "client_assertion", "client_assertion_type"}
)
_REQUEST_TYPES: Final = (None, "JWT", "oauth-authz-req+jwt")
_ABOUT_THE_JWT: Final = frozenset({"iss", "aud", "exp", "iat", "nbf", "jti"})
_JSON_TYPES: Final[Mapping[str, type]] = {
    "scope": str, "acr_values": str, "login_hint": str, "login_hint_token": str, "id_token_hint": str,
    "binding_message": str, "user_code": str, "client_notification_token": str,
    "authorization_details": list, "claims": dict,
}  # fmt: skip
"""JSON types of parameters. requested_expiry is not here: it is a number or a string (CIBA Core 7.1.1)."""


def _number(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > _LAST_INSTANT:
        raise BadJwt(f"{name}: not an instant")
    return value


def _audiences(claims: Mapping[str, Any]) -> list[Any]:
    audience = claims.get("aud")
    return audience if is_list(audience) else [audience]


@define
class ClientJwts:
    """Checks the JWTs of all clients and remembers them: each can be used once."""

    issuer: str
    token_endpoint: str
    assertion_audiences: Collection[AssertionAudience]
    _used: set[tuple[str, str]] = field(init=False, factory=set[tuple[str, str]])

    def check_assertion(self, client: SimulatedClient, token: str, *, url: str, now: float) -> None:
        """Check a client assertion (RFC 7523 3, OpenID Connect Core 9).

        Raises:
            BadJwt: the assertion breaks a rule.

        """
        jwt = jose.read(token)
        permitted = (
            client.assertion_algs
            if client.token_endpoint_auth_signing_alg is None
            else (client.token_endpoint_auth_signing_alg,)
        )
        self._verify(client, jwt, permitted)
        places = {"issuer": self.issuer, "token_endpoint": self.token_endpoint, "called_endpoint": url}
        if not any(places[name] in _audiences(jwt.claims) for name in self.assertion_audiences):
            raise BadJwt("aud: not this provider")
        begins = _number(jwt.claims, "iat") if "iat" in jwt.claims else now
        if _number(jwt.claims, "exp") - begins > _ASSERTION_LIFETIME:
            raise BadJwt("exp: more than 300 seconds")
        self._use(client, jwt, now)

    def read_request(self, client: SimulatedClient, form: Form, *, now: float) -> Form:
        """Return the parameters of an authentication request, signed or not (CIBA Core 7.1.1).

        Raises:
            Refusal: the JWT is not right, or the client has to sign and did not, or the reverse.

        """
        alg = client.backchannel_authentication_request_signing_alg
        token = form.parameters.get("request")
        if token is None and alg is None:
            return form
        if token is None:
            raise Refusal("invalid_request", "this client signs its authentication requests")
        if alg is None:
            raise Refusal("invalid_request", "this client does not sign its authentication requests")
        if form.resources or not form.parameters.keys() <= _OUTSIDE:
            raise Refusal("invalid_request", "a parameter is outside of the signed request")
        try:
            return self._read_request(client, jose.read(token), alg, now)
        except BadJwt as error:
            raise Refusal("invalid_request", f"request: {error}") from None

    def _read_request(self, client: SimulatedClient, jwt: Jwt, alg: str, now: float) -> Form:
        if jwt.header.get("typ") not in _REQUEST_TYPES:
            raise BadJwt("typ: not that of a request")
        self._verify(client, jwt, (alg,))
        if self.issuer not in _audiences(jwt.claims):
            raise BadJwt("aud: not the issuer")
        if jwt.claims.get("client_id", client.client_id) != client.client_id:
            raise BadJwt("client_id: not that of the client")
        _number(jwt.claims, "iat")
        if _number(jwt.claims, "exp") - _number(jwt.claims, "nbf") > _REQUEST_LIFETIME:
            raise BadJwt("exp: more than 3600 seconds after nbf")
        form = _parameters(jwt.claims)
        self._use(client, jwt, now)
        return form

    def _verify(self, client: SimulatedClient, jwt: Jwt, permitted: Collection[str]) -> None:
        alg = jwt.header.get("alg")
        if not isinstance(alg, str) or alg not in permitted:
            raise BadJwt("alg: not the one registered")
        key: Mapping[str, Any] = (
            jose.secret_key(client.client_secret or "")
            if alg in jose.HMAC
            else jose.select(client.jwks or {}, jwt.header, alg)
        )
        jose.verify(jwt, key, alg)
        if jwt.claims.get("iss") != client.client_id:
            raise BadJwt("iss: not the client_id")

    def _use(self, client: SimulatedClient, jwt: Jwt, now: float) -> None:
        """Check the times, and that the JWT was not used before."""
        if _number(jwt.claims, "exp") <= now:
            raise BadJwt("exp: over")
        for name in ("iat", "nbf"):
            if name in jwt.claims and _number(jwt.claims, name) > now + _LEEWAY:
                raise BadJwt(f"{name}: in the future")
        jti = jwt.claims.get("jti")
        if not isinstance(jti, str) or not jti:
            raise BadJwt("jti: missing")
        if (client.client_id, jti) in self._used:
            raise BadJwt("jti: used before")
        self._used.add((client.client_id, jti))


def _parameters(claims: Mapping[str, Any]) -> Form:
    """Read the parameters of an authentication request from claims of the same names (CIBA Core 7.1.1)."""
    parameters: dict[str, str] = {}
    resources: tuple[str, ...] = ()
    for name, value in claims.items():
        if name in _ABOUT_THE_JWT:
            continue
        if name in {"request", "request_uri"}:
            raise BadJwt(f"{name}: a request within a request")
        if name == "resource":
            resources = _resources(value)
        elif not isinstance(value, _JSON_TYPES.get(name, object)):
            raise BadJwt(f"{name}: of the wrong JSON type")
        elif value != "":  # as in a form, an empty value counts as left out
            parameters[name] = value if isinstance(value, str) else json.dumps(value)
    return Form(parameters, resources)


def _resources(value: Any) -> tuple[str, ...]:
    values = value if is_list(value) else [value]
    for resource in values:
        if not isinstance(resource, str) or not ABSOLUTE_URI.fullmatch(resource):
            raise Refusal("invalid_target", "resource: not an absolute URI without fragment")
    return tuple(values)
