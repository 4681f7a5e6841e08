"""What the simulated provider demands of a request's form, after the standards and nothing else."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeGuard

from attrs import field, frozen

from .script import SimulatedClient
from .wire import Headers, WireError, decode_component, decode_form, decode_json

__all__ = [
    "Form",
    "Refusal",
    "authenticate",
    "read_acr",
    "read_authorization_details",
    "read_form",
    "read_scope",
]

_FORM_TYPE: Final = re.compile(
    r'application/x-www-form-urlencoded(?:[ \t]*;[ \t]*charset="?utf-8"?)?', re.IGNORECASE
)
_SCOPE: Final = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+(?: [\x21\x23-\x5B\x5D-\x7E]+)*")  # RFC 6749 3.3
_ABSOLUTE_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[\x21\x22\x24-\x7E]+")  # RFC 8707 2: no fragment


class Refusal(Exception):
    """The request is answered with an error."""

    def __init__(self, error: str, description: str, *, status: int = 400, headers: Headers = ()) -> None:
        super().__init__(error)
        self.error = error
        self.description = description
        self.status = status
        self.headers = headers


@frozen
class Form:
    """The parameters of a request, without those that have no value."""

    parameters: dict[str, str] = field(factory=dict[str, str])
    resources: tuple[str, ...] = ()
    """Values of ``resource``, the one parameter that may be repeated (RFC 8707 2)."""


def read_form(query: str, content_types: list[str], body: bytes) -> Form:
    """Read the form of a POST request (RFC 6749 3.2, CIBA Core 7.1 and 10.1)."""
    if query:
        raise Refusal("invalid_request", "parameters belong into the body")
    if len(content_types) != 1 or not _FORM_TYPE.fullmatch(content_types[0]):
        raise Refusal("invalid_request", "the body is not application/x-www-form-urlencoded")
    try:
        pairs = decode_form(body)
    except WireError as error:
        raise Refusal("invalid_request", f"the form: {error}") from None
    single = [(name, value) for name, value in pairs if name != "resource"]
    if len(dict(single)) != len(single):
        raise Refusal("invalid_request", "a parameter is there twice")
    resources = tuple(value for name, value in pairs if name == "resource")
    for resource in resources:
        if not _ABSOLUTE_URI.fullmatch(resource):
            raise Refusal("invalid_target", "resource: not an absolute URI without fragment")
    # RFC 6749 3.2: a parameter without a value counts as left out.
    return Form({name: value for name, value in single if value}, resources)


def authenticate(
    clients: Iterable[SimulatedClient], authorizations: list[str], parameters: Mapping[str, str]
) -> SimulatedClient:
    """Authenticate the client by the one method it is registered for (RFC 6749 2.3)."""
    client_id = parameters.get("client_id")
    secret = parameters.get("client_secret")
    method = "none" if secret is None else "client_secret_post"
    challenge: Headers = ()
    if authorizations:
        if len(authorizations) > 1 or secret is not None:
            raise Refusal("invalid_request", "more than one way of client authentication")
        method = "client_secret_basic"
        challenge = (("WWW-Authenticate", 'Basic realm="simulated provider"'),)
        try:
            basic_id, secret = _decode_basic(authorizations[0])
        except ValueError:
            raise Refusal("invalid_client", "malformed credentials", status=401, headers=challenge) from None
        if client_id not in {None, basic_id}:
            raise Refusal("invalid_request", "two different values of client_id")
        client_id = basic_id
    for client in clients:
        registered = client.client_id, client.client_secret, client.token_endpoint_auth_method
        if registered == (client_id, secret, method):
            return client
    raise Refusal("invalid_client", "client authentication failed", status=401, headers=challenge)


def _decode_basic(credentials: str) -> tuple[str, str]:
    """Decode an ``Authorization`` header of RFC 6749 2.3.1; raise `ValueError` if it is none."""
    scheme, _, encoded = credentials.partition(" ")
    identifier, colon, secret = base64.b64decode(encoded, validate=True).partition(b":")
    if scheme.lower() != "basic" or not colon:
        raise ValueError("not Basic credentials")
    return decode_component(identifier), decode_component(secret)


def read_scope(parameters: Mapping[str, str], *, require_openid: bool) -> str:
    """Check ``scope`` (CIBA Core 7.1, RFC 6749 3.3)."""
    scope = parameters.get("scope")
    if scope is None:
        raise Refusal("invalid_request", "scope: missing")
    if not _SCOPE.fullmatch(scope):
        raise Refusal("invalid_scope", "scope: not tokens separated by single spaces")
    if require_openid and "openid" not in scope.split(" "):
        raise Refusal("invalid_scope", "scope: openid is missing")
    return scope


def read_authorization_details(parameters: Mapping[str, str]) -> list[Any] | None:
    """Read ``authorization_details``: a JSON array of objects with a type (RFC 9396 2)."""
    if "authorization_details" not in parameters:
        return None
    try:
        details = decode_json(parameters["authorization_details"])
    except WireError as error:
        raise Refusal("invalid_authorization_details", str(error)) from None
    if not _is_list(details) or not all(_is_object(d) and isinstance(d.get("type"), str) for d in details):
        raise Refusal("invalid_authorization_details", "not an array of objects with a type")
    return details


def read_acr(parameters: Mapping[str, str]) -> str | None:
    """Check ``claims`` (OpenID Connect Core 5.5); return the first acr asked for, if any."""
    asked: list[Any] = parameters.get("acr_values", "").split()
    if "claims" in parameters:
        try:
            claims = decode_json(parameters["claims"])
        except WireError as error:
            raise Refusal("invalid_request", f"claims: {error}") from None
        if not _is_object(claims):
            raise Refusal("invalid_request", "claims: not an object")
        for target in ("userinfo", "id_token"):
            wishes = claims.get(target, {})
            if not _is_object(wishes) or not all(
                wish is None or _is_object(wish) for wish in wishes.values()
            ):
                raise Refusal("invalid_request", "claims: not null or an object for each claim")
            if target == "id_token" and _is_object(acr := wishes.get("acr")):
                values = acr.get("values")
                asked += values if _is_list(values) else [acr.get("value")]
    return next((acr for acr in asked if isinstance(acr, str)), None)


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)
