"""The authentication request (CIBA Core 7.1): what is asked of whom."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from attrs import evolve, field, frozen
from attrs.validators import optional

from ciba_core import _check
from ciba_core._json import FrozenMapping, dumps, freeze, is_array_of
from ciba_core.config import ClientConfig
from ciba_core.dpop import DPOP_ALGORITHM
from ciba_core.errors import LocalProtocolError
from ciba_core.jose import HMAC_ALGORITHMS
from ciba_core.metadata import ProviderMetadata
from ciba_core.profile import Profile
from ciba_core.secret import Secret

__all__ = ["AuthenticationRequest", "Requested"]

# RFC 6749 3.3: one or more of %x21 / %x23-5B / %x5D-7E, separated by single spaces.
_SCOPE: Final = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+(?: [\x21\x23-\x5B\x5D-\x7E]+)*")
# RFC 3986 4.3: what makes a URI absolute is its scheme.
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.")
_SPACED: Final = re.compile(r"\S+(?: \S+)*")

_HINTS: Final = ("login_hint", "login_hint_token", "id_token_hint")
# What a caller cannot set as an extension: it has a field of its own, or belongs to client authentication, to
# the delivery mode or to the signed form of the request.
_RESERVED: Final = frozenset(
    {
        *_HINTS,
        "scope", "acr_values", "binding_message", "user_code", "requested_expiry",
        "resource", "authorization_details", "claims",
        "client_id", "client_secret", "client_assertion", "client_assertion_type",
        "client_notification_token", "request", "request_uri", "grant_type", "auth_req_id",
        "iss", "sub", "aud", "exp", "iat", "nbf", "jti",
    }
)  # fmt: skip


def _joined(value: Any) -> Any:
    """Accept a sequence of values where the standard has one space-separated string."""
    return " ".join(value) if is_array_of(value, str) else value


def _check_scope(_instance: Any, attribute: Any, value: str) -> None:
    if not _SCOPE.fullmatch(value):
        raise ValueError(
            f"{attribute.name} must be scope values separated by single spaces (RFC 6749 3.3): printable "
            "ASCII without double quotes and backslashes"
        )


def _check_spaced(_instance: Any, attribute: Any, value: str | None) -> None:
    if value is not None and not _SPACED.fullmatch(value):
        raise ValueError(f"{attribute.name} must be values separated by single spaces")


def _resources(value: Any) -> Any:
    if value is None:
        return ()
    return tuple(cast("list[str]", value)) if isinstance(value, (list, tuple)) else (value,)


def _check_resources(_instance: Any, attribute: Any, value: Any) -> None:
    for resource in value:
        if not isinstance(resource, str):
            raise TypeError(f"{attribute.name} must be str or a sequence of str")
        problem = _check.text_problem(resource)
        if problem is not None:
            raise ValueError(f"{attribute.name} {problem}")
        if "#" in resource or not _ABSOLUTE.match(resource):
            raise ValueError(f"{attribute.name} must be absolute URIs without fragment (RFC 8707 2)")


def _frozen_json(name: str, value: Any) -> Any:
    try:
        return freeze(value)
    except (TypeError, ValueError) as error:
        problem = type(error)(f"{name}: {error}")
    raise problem


def _to_details(value: Any) -> Any:
    return _frozen_json("authorization_details", value)


def _to_claims(value: Any) -> Any:
    return _frozen_json("claims", value)


def _to_extra(value: Any) -> Any:
    return _frozen_json("extra", value)


def _check_details(_instance: Any, attribute: Any, value: Any) -> None:
    if value is None:
        return
    if not value or not is_array_of(value, Mapping):
        raise TypeError(f"{attribute.name} must be a non-empty sequence of objects (RFC 9396 2)")
    if not all(isinstance(detail.get("type"), str) for detail in value):
        raise ValueError(f"{attribute.name}: each object needs a string member 'type' (RFC 9396 2)")


def _check_claims(_instance: Any, attribute: Any, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise TypeError(f"{attribute.name} must be an object (OpenID Connect Core 5.5)")
    for name in ("userinfo", "id_token"):
        if not isinstance(cast("Mapping[str, Any]", value).get(name, {}), Mapping):
            raise TypeError(f"{attribute.name}: {name} must be an object (OpenID Connect Core 5.5)")


def _check_extra(_instance: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{attribute.name} must be a mapping")
    for name, content in cast("Mapping[str, Any]", value).items():
        problem = _check.text_problem(name)
        if problem is not None:
            raise ValueError(f"{attribute.name}: a parameter name {problem}")
        if name in _RESERVED:
            raise ValueError(f"{attribute.name} must not contain {name}, which is not an extension parameter")
        if content is None or content == "":
            raise ValueError(f"{attribute.name}: {name} has no value (RFC 6749 3.1: leave it out)")


def _essential(claims: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """Return what is said of a claim that was asked for as essential (OpenID Connect Core 5.5.1)."""
    request = claims.get(name)
    if not isinstance(request, Mapping):
        return None
    members = cast("Mapping[str, Any]", request)
    return members if members.get("essential") is True else None


def _values(request: Mapping[str, Any]) -> tuple[str, ...]:
    values: Any = request.get("values", (request.get("value"),))
    return tuple(values) if is_array_of(values, str) else ()


def _seconds(value: Any) -> int | None:
    # Longer ones are no age, and numbers without bound cannot be stored.
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        return int(value)
    return value if type(value) is int and value.bit_length() < 64 else None


@frozen(kw_only=True, weakref_slot=False)
class Requested:
    """What the answer to a request is measured against; it lives as long as the transaction."""

    scope: str
    authorization_details: tuple[Mapping[str, Any], ...] | None = field(default=None, repr=False)
    nonce: Secret | None = None
    """A nonce that was sent as an extension; the ID Token has to repeat it."""
    acr_values: tuple[str, ...] = ()
    """Acceptable authentication context classes, when they were asked for as essential (OpenID Connect Core
    5.5.1.1): no other is accepted."""
    acr_wanted: tuple[str, ...] = ()
    """Those of ``acr_values``, which are wishes: the ID Token's ``acr`` says what was reached."""
    max_age: int | None = None
    """Seconds since the user's authentication, at most, when ``max_age`` was sent as an extension."""
    auth_time: bool = False
    """Whether ``auth_time`` was asked for as essential."""
    subject: Secret | None = None
    """The ``sub`` of an ``id_token_hint``: nobody else may have answered."""

    @property
    def openid(self) -> bool:
        """Whether an ID Token has to come."""
        return "openid" in self.scope.split(" ")


def _check_algorithm(setting: str, alg: str | None, supported: tuple[str, ...] | None, member: str) -> None:
    if alg is None or supported is None:
        return
    # One algorithm with two names (RFC 9864).
    names = {"Ed25519", "EdDSA"} if alg in ("Ed25519", "EdDSA") else {alg}
    if names.isdisjoint(supported):
        raise LocalProtocolError(f"{setting}: the provider does not support {alg} ({member})")


_NOTHING: Final[Mapping[str, Any]] = FrozenMapping({})
_NO_NAMES: Final[Mapping[str, str]] = FrozenMapping({})


@frozen(kw_only=True)
class AuthenticationRequest:
    """What to ask the user for, and which user (CIBA Core 7.1). Exactly one of the three hints is given.

    The hints and the user code are personal data or secrets: they are wrapped in `Secret` and do not show.

    Raises:
        TypeError, ValueError: a parameter is of the wrong type or form; the message names it.

    """

    scope: str | None = field(
        default=None, converter=_joined, validator=optional([_check.a(str), _check_scope])
    )
    """Space-separated scope values (a sequence is joined); contains ``openid``. ``None`` is what the client's
    profile says: ``openid`` as a rule."""
    login_hint: Secret | None = field(default=None, converter=_check.secret, validator=_check.secret_text)
    """Whatever names the user at this provider: an email address, a telephone number, an account. Build it
    with `ciba_core.hints` where part of it comes from outside."""
    login_hint_token: Secret | None = field(
        default=None, converter=_check.secret, validator=_check.secret_text
    )
    """A token that names the user; opaque here."""
    id_token_hint: Secret | None = field(default=None, converter=_check.secret, validator=_check.secret_text)
    """An ID Token that this provider issued to this client before, decrypted if it came encrypted."""
    binding_message: str | None = field(default=None, validator=_check.text)
    """Short plain text shown on both devices, so that the user can tell which request is approved; such as
    what `binding_code` makes. The limits are those of the client's profile."""
    user_code: Secret | None = field(default=None, converter=_check.secret, validator=_check.secret_text)
    """A code known to user and provider; ask the user for it each time, never store it (CIBA Core 7.1.2)."""
    acr_values: str | None = field(
        default=None,
        converter=_joined,
        validator=[_check.a(str, or_none=True), _check.text, _check_spaced],
    )
    """Space-separated authentication context classes in order of preference (a sequence is joined)."""
    requested_expiry: int | None = field(
        default=None, validator=_check.whole_number(1, 2**31 - 1, or_none=True)
    )
    """Seconds for which the request should be valid; the provider may choose otherwise."""
    resource: tuple[str, ...] = field(default=(), converter=_resources, validator=_check_resources)
    """Resource indicators (RFC 8707): absolute URIs, one or several."""
    authorization_details: tuple[Mapping[str, Any], ...] | None = field(
        default=None, converter=_to_details, validator=_check_details, repr=False
    )
    """Rich authorization requests (RFC 9396): objects with a ``type`` each."""
    claims: Mapping[str, Any] | None = field(
        default=None, converter=_to_claims, validator=_check_claims, repr=False
    )
    """Individual claims to ask for (OpenID Connect Core 5.5)."""
    extra: Mapping[str, Any] = field(
        default=_NOTHING, converter=_to_extra, validator=_check_extra, repr=False
    )
    """Extension parameters. Strings are sent as they are, any other JSON value as JSON text."""
    openid: bool = field(default=True, validator=_check.flag)
    """Set to false to ask for plain OAuth tokens without ``openid`` in the scope (Core leaves the behaviour
    unspecified; CAMARA providers do it). No ID Token is expected then."""

    def __attrs_post_init__(self) -> None:
        given = [name for name in _HINTS if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none"
            raise ValueError(f"exactly one of {', '.join(_HINTS)} is needed (CIBA Core 7.1), not {found}")
        if self.scope is None:
            if not self.openid:
                raise ValueError("scope is needed with openid=False")
        elif self.openid != ("openid" in self.scope.split(" ")):
            raise ValueError(
                "scope must contain 'openid' (CIBA Core 7.1)"
                if self.openid
                else "scope contains 'openid' although openid=False was given"
            )

    @property
    def _scope(self) -> str:
        return self.scope or "openid"  # also what a profile has as a rule

    def completed(self, profile: Profile) -> AuthenticationRequest:
        """Return the request with the scope of the profile, unless it has one."""
        return self if self.scope is not None else evolve(self, scope=profile.scope)

    def check_against(self, client: ClientConfig, provider: ProviderMetadata) -> None:
        """Check what the provider's metadata says it can do. Called before anything is sent.

        Raises:
            LocalProtocolError: the client's profile rules it out, or the provider does not support what is
                asked; the message names the parameter.

        """
        client.profile.check_request(self)
        modes = provider.backchannel_token_delivery_modes_supported
        if modes is not None and client.backchannel_token_delivery_mode not in modes:
            raise LocalProtocolError(
                f"backchannel_token_delivery_mode: the provider does not support "
                f"{client.backchannel_token_delivery_mode!r}"
            )
        if client.backchannel_token_delivery_mode == "push" and not self.openid:  # noqa: S105  # a mode
            raise LocalProtocolError(
                "openid: in push mode the ID Token is what vouches for the tokens (CIBA Core 10.3.1)"
            )
        methods = provider.token_endpoint_auth_methods_supported
        if methods is not None and client.authentication.method not in methods:
            raise LocalProtocolError(
                f"authentication: the provider does not support {client.authentication.method!r} "
                "(token_endpoint_auth_methods_supported)"
            )
        _check_algorithm(
            "authentication",
            client.authentication.signing_alg,
            provider.token_endpoint_auth_signing_alg_values_supported,
            "token_endpoint_auth_signing_alg_values_supported",
        )
        _check_algorithm(
            "request_signing",
            None if client.request_signing is None else client.request_signing.signer.alg,
            provider.backchannel_authentication_request_signing_alg_values_supported,
            "backchannel_authentication_request_signing_alg_values_supported",
        )
        _check_algorithm(
            "dpop_bound_access_tokens",
            DPOP_ALGORITHM if client.dpop_bound_access_tokens else None,
            provider.dpop_signing_alg_values_supported,
            "dpop_signing_alg_values_supported",
        )
        if self.openid:
            alg = client.id_token.signed_response_alg
            supported = provider.id_token_signing_alg_values_supported
            _check_algorithm("id_token", alg, supported, "id_token_signing_alg_values_supported")
            if provider.jwks_uri is None and alg not in HMAC_ALGORITHMS:
                raise LocalProtocolError(
                    "jwks_uri: without it, ID Tokens of this provider cannot be validated"
                )
        if self.user_code is not None and provider.backchannel_user_code_parameter_supported is False:
            raise LocalProtocolError(
                "user_code: the provider does not support it (backchannel_user_code_parameter_supported)"
            )
        if self.claims is not None and provider.claims_parameter_supported is False:
            raise LocalProtocolError("claims: the provider does not support it (claims_parameter_supported)")
        types = provider.authorization_details_types_supported
        if types is not None and any(
            detail["type"] not in types for detail in self.authorization_details or ()
        ):
            raise LocalProtocolError(
                "authorization_details: the provider does not support a type that is used "
                "(authorization_details_types_supported)"
            )

    def requested(self) -> Requested:
        """Return what the answer will be measured against."""
        from ciba_core.id_token import subject_of  # noqa: PLC0415  # only where there is such a hint

        claims: Mapping[str, Any] = (self.claims or {}).get("id_token", {})
        nonce, max_age = self.extra.get("nonce"), self.extra.get("max_age")
        hint = None if self.id_token_hint is None else subject_of(self.id_token_hint)
        return Requested(
            scope=self._scope,
            authorization_details=self.authorization_details,
            nonce=Secret(nonce) if isinstance(nonce, str) else None,
            acr_values=_values(_essential(claims, "acr") or {}),
            acr_wanted=() if self.acr_values is None else tuple(self.acr_values.split(" ")),
            max_age=_seconds(max_age),
            auth_time=_essential(claims, "auth_time") is not None,
            subject=None if hint is None else Secret(hint),
        )

    def parameters(self, names: Mapping[str, str] = _NO_NAMES) -> Iterator[tuple[str, str]]:
        """Yield the form parameters in the order of the standard; only ``resource`` may come repeatedly.

        `names` has those that the provider calls otherwise than the standard.
        """
        for name, value in self._members():
            for each in value if name == "resource" else (value,):
                yield names.get(name, name), each if isinstance(each, str) else dumps(each)

    def claims_set(self, names: Mapping[str, str] = _NO_NAMES) -> dict[str, Any]:
        """Return the parameters as claims of a signed request (CIBA Core 7.1.1).

        Strings stay strings, a space-separated list included; ``requested_expiry`` is a number; objects,
        arrays and the values of extension parameters keep their JSON types. One ``resource`` is a string,
        several are an array (RFC 8707 2.1). `names` is as for `parameters`.
        """
        return {
            names.get(name, name): value[0] if name == "resource" and len(value) == 1 else value
            for name, value in self._members()
        }

    def _members(self) -> Iterator[tuple[str, Any]]:
        """Yield what was given, as JSON values, in the order of the standard."""
        yield "scope", self._scope
        for name in ("acr_values", "binding_message"):
            value: str | None = getattr(self, name)
            if value is not None:
                yield name, value
        for name in (*_HINTS, "user_code"):
            secret: Secret | None = getattr(self, name)
            if secret is not None:
                yield name, secret.reveal()
        if self.requested_expiry is not None:
            yield "requested_expiry", self.requested_expiry
        if self.resource:
            yield "resource", self.resource
        if self.authorization_details is not None:
            yield "authorization_details", self.authorization_details
        if self.claims is not None:
            yield "claims", self.claims
        yield from self.extra.items()
