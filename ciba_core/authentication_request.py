"""The authentication request (CIBA Core 7.1): what is asked of whom."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, cast

from attrs import field, frozen

from ciba_core import _check
from ciba_core._json import dumps, freeze, is_array_of
from ciba_core.config import ClientConfig
from ciba_core.errors import LocalProtocolError
from ciba_core.metadata import ProviderMetadata
from ciba_core.secret import Secret

__all__ = ["AuthenticationRequest"]

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


def _frozen_json(value: Any) -> Any:
    return None if value is None else freeze(value)


def _check_details(_instance: Any, attribute: Any, value: Any) -> None:
    if value is None:
        return
    if not value or not is_array_of(value, Mapping):
        raise TypeError(f"{attribute.name} must be a non-empty sequence of objects (RFC 9396 2)")
    if not all(isinstance(detail.get("type"), str) for detail in value):
        raise ValueError(f"{attribute.name}: each object needs a string member 'type' (RFC 9396 2)")


def _check_claims(_instance: Any, attribute: Any, value: Any) -> None:
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(f"{attribute.name} must be an object (OpenID Connect Core 5.5)")


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


_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


@frozen(kw_only=True)
class AuthenticationRequest:
    """What to ask the user for, and which user (CIBA Core 7.1). Exactly one of the three hints is given.

    The hints and the user code are personal data or secrets: they are wrapped in `Secret` and do not show.

    Raises:
        TypeError, ValueError: a parameter is of the wrong type or form; the message names it.

    """

    scope: str = field(converter=_joined, validator=[_check.a(str), _check_scope])
    """Space-separated scope values (a sequence is joined); contains ``openid``."""
    login_hint: Secret | None = field(default=None, converter=_check.secret, validator=_check.secret_text)
    """Whatever names the user at this provider: an email address, a telephone number, an account."""
    login_hint_token: Secret | None = field(
        default=None, converter=_check.secret, validator=_check.secret_text
    )
    """A token that names the user; opaque here."""
    id_token_hint: Secret | None = field(default=None, converter=_check.secret, validator=_check.secret_text)
    """An ID Token that this provider issued to this client before, decrypted if it came encrypted."""
    binding_message: str | None = field(default=None, validator=_check.text)
    """Short plain text shown on both devices, so that the user can tell which request is approved."""
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
    authorization_details: Sequence[Mapping[str, Any]] | None = field(
        default=None, converter=_frozen_json, validator=_check_details, repr=False
    )
    """Rich authorization requests (RFC 9396): objects with a ``type`` each."""
    claims: Mapping[str, Any] | None = field(
        default=None, converter=_frozen_json, validator=_check_claims, repr=False
    )
    """Individual claims to ask for (OpenID Connect Core 5.5)."""
    extra: Mapping[str, Any] = field(default=_NOTHING, converter=freeze, validator=_check_extra, repr=False)
    """Extension parameters. Strings are sent as they are, any other JSON value as JSON text."""
    openid: bool = field(default=True, validator=_check.flag)
    """Set to false to ask for plain OAuth tokens without ``openid`` in the scope (Core leaves the behaviour
    unspecified; CAMARA providers do it). No ID Token is expected then."""

    def __attrs_post_init__(self) -> None:
        given = [name for name in _HINTS if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none"
            raise ValueError(f"exactly one of {', '.join(_HINTS)} is needed (CIBA Core 7.1), not {found}")
        if self.openid != ("openid" in self.scope.split(" ")):
            raise ValueError(
                "scope must contain 'openid' (CIBA Core 7.1)"
                if self.openid
                else "scope contains 'openid' although openid=False was given"
            )

    def check_against(self, client: ClientConfig, provider: ProviderMetadata) -> None:
        """Check what the provider's metadata says it can do. Called before anything is sent.

        Raises:
            LocalProtocolError: the provider does not support what is asked; the message names the parameter.

        """
        modes = provider.backchannel_token_delivery_modes_supported
        if modes is not None and client.backchannel_token_delivery_mode not in modes:
            raise LocalProtocolError(
                f"backchannel_token_delivery_mode: the provider does not support "
                f"{client.backchannel_token_delivery_mode!r}"
            )
        methods = provider.token_endpoint_auth_methods_supported
        if methods is not None and client.authentication.method not in methods:
            raise LocalProtocolError(
                f"authentication: the provider does not support {client.authentication.method!r} "
                "(token_endpoint_auth_methods_supported)"
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

    def parameters(self) -> Iterator[tuple[str, str]]:
        """Yield the form parameters in the order of the standard; only ``resource`` may come repeatedly."""
        yield "scope", self.scope
        for name in ("acr_values", "binding_message"):
            value: str | None = getattr(self, name)
            if value is not None:
                yield name, value
        for name in (*_HINTS, "user_code"):
            secret: Secret | None = getattr(self, name)
            if secret is not None:
                yield name, secret.reveal()
        if self.requested_expiry is not None:
            yield "requested_expiry", str(self.requested_expiry)
        for resource in self.resource:
            yield "resource", resource
        if self.authorization_details is not None:
            yield "authorization_details", dumps(self.authorization_details)
        if self.claims is not None:
            yield "claims", dumps(self.claims)
        for name, extension in self.extra.items():
            yield name, extension if isinstance(extension, str) else dumps(extension)
