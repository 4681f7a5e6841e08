"""The simulated provider's checks of a request's form, written from the standards alone."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

from attrs import field, frozen

from . import jose
from .jose import BadJwt, is_list, is_object
from .script import TLS_METHODS, SimulatedClient
from .wire import Headers, WireError, decode_component, decode_form, decode_json

__all__ = [
    "ABSOLUTE_URI",
    "Form",
    "Refusal",
    "authenticate",
    "read_acr",
    "read_authorization_details",
    "read_form",
    "read_notification_token",
    "read_scope",
]

_FORM_TYPE: Final = re.compile(
    r'application/x-www-form-urlencoded(?:[ \t]*;[ \t]*charset="?utf-8"?)?', re.IGNORECASE
)
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523 2.2
_SCOPE: Final = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+(?: [\x21\x23-\x5B\x5D-\x7E]+)*")  # RFC 6749 3.3
# CIBA Core 7.1: a b64token (RFC 6750 2.1) of 128 bits at least, which are 22 characters.
_NOTIFICATION_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{22,}=*")
_NOTIFICATION_TOKEN_LENGTH: Final = 1024
ABSOLUTE_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[\x21\x22\x24-\x7E]+")  # RFC 8707 2: no fragment


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
        if not ABSOLUTE_URI.fullmatch(resource):
            raise Refusal("invalid_target", "resource: not an absolute URI without fragment")
    # RFC 6749 3.2: a parameter without a value counts as left out.
    return Form({name: value for name, value in single if value}, resources)


def authenticate(
    clients: Iterable[SimulatedClient],
    authorizations: list[str],
    parameters: Mapping[str, str],
    check_assertion: Callable[[SimulatedClient, str], None],
) -> SimulatedClient:
    """Authenticate the client by the one method it is registered for (RFC 6749 2.3).

    Args:
        clients: who is registered.
        authorizations: the values of ``Authorization`` headers.
        parameters: the form.
        check_assertion: raises `BadJwt` for a client assertion that is not right.

    Raises:
        Refusal: it fails.

    """
    client_id = parameters.get("client_id")
    secret = parameters.get("client_secret")
    assertion = parameters.get("client_assertion")
    asserts = assertion is not None or "client_assertion_type" in parameters
    if len(authorizations) + (secret is not None) + asserts > 1:
        raise Refusal("invalid_request", "more than one way of client authentication")
    challenge: Headers = ()
    if authorizations:
        methods: tuple[str, ...] = ("client_secret_basic",)
        challenge = (("WWW-Authenticate", 'Basic realm="simulated provider"'),)
        try:
            basic_id, secret = _decode_basic(authorizations[0])
        except ValueError:
            raise Refusal("invalid_client", "malformed credentials", status=401, headers=challenge) from None
        if client_id not in {None, basic_id}:
            raise Refusal("invalid_request", "two different values of client_id")
        client_id = basic_id
    elif asserts:
        methods = ("private_key_jwt", "client_secret_jwt")
        client_id = _asserted_client(parameters)
    elif secret is not None:
        methods = ("client_secret_post",)
    else:
        methods = ("none", *TLS_METHODS)
    for client in clients:
        if client.client_id != client_id or client.token_endpoint_auth_method not in methods:
            continue
        if assertion is not None:
            try:
                check_assertion(client, assertion)
            except BadJwt as error:
                raise Refusal("invalid_client", f"client_assertion: {error}", status=401) from None
            return client
        if secret is None or secret == client.client_secret:
            return client
    raise Refusal("invalid_client", "client authentication failed", status=401, headers=challenge)


def _asserted_client(parameters: Mapping[str, str]) -> str | None:
    """Return the client that an assertion claims to be from (RFC 7521 4.2); nothing is verified yet."""
    if parameters.get("client_assertion_type") != ASSERTION_TYPE:
        raise Refusal("invalid_client", "client_assertion_type: not that of a JWT", status=401)
    try:
        subject = jose.read(parameters.get("client_assertion", "")).claims.get("sub")
    except BadJwt as error:
        raise Refusal("invalid_client", f"client_assertion: {error}", status=401) from None
    if parameters.get("client_id", subject) != subject:
        raise Refusal("invalid_request", "two different values of client_id")
    return subject if isinstance(subject, str) else None


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


def read_notification_token(parameters: Mapping[str, str], client: SimulatedClient) -> str | None:
    """Check ``client_notification_token``, which ping and push demand (CIBA Core 7.1)."""
    if not client.is_called_back:
        return None
    token = parameters.get("client_notification_token")
    if token is None:
        raise Refusal("invalid_request", "client_notification_token: missing")
    if len(token) > _NOTIFICATION_TOKEN_LENGTH or not _NOTIFICATION_TOKEN.fullmatch(token):
        raise Refusal("invalid_request", "client_notification_token: not a b64token of 22 to 1024 characters")
    return token


def read_authorization_details(
    parameters: Mapping[str, str], types: Collection[str] | None
) -> list[Any] | None:
    """Read ``authorization_details``: an array of objects with a type, of `types` if given (RFC 9396 2)."""
    if "authorization_details" not in parameters:
        return None
    try:
        details = decode_json(parameters["authorization_details"])
    except WireError as error:
        raise Refusal("invalid_authorization_details", str(error)) from None
    if not is_list(details) or not all(is_object(d) and isinstance(d.get("type"), str) for d in details):
        raise Refusal("invalid_authorization_details", "not an array of objects with a type")
    if types is not None and not all(detail["type"] in types for detail in details):
        raise Refusal("invalid_authorization_details", "a type is not supported")
    return details


def read_acr(parameters: Mapping[str, str]) -> str | None:
    """Check ``claims`` (OpenID Connect Core 5.5); return the first acr asked for, if any."""
    asked: list[Any] = parameters.get("acr_values", "").split()
    if "claims" in parameters:
        try:
            claims = decode_json(parameters["claims"])
        except WireError as error:
            raise Refusal("invalid_request", f"claims: {error}") from None
        if not is_object(claims):
            raise Refusal("invalid_request", "claims: not an object")
        for target in ("userinfo", "id_token"):
            wishes = claims.get(target, {})
            if not is_object(wishes) or not all(wish is None or is_object(wish) for wish in wishes.values()):
                raise Refusal("invalid_request", "claims: not null or an object for each claim")
            if target == "id_token" and is_object(acr := wishes.get("acr")):
                values = acr.get("values")
                asked += values if is_list(values) else [acr.get("value")]
    return next((acr for acr in asked if isinstance(acr, str)), None)
