"""What a profile of CIBA or a provider asks for beyond the standard, as data.

A `Profile` belongs to a `ClientConfig`. It is read at fixed places: when the configuration is built, before a
request is sent, when the request is written, and when ``access_denied`` comes. There is nothing to subclass,
and nothing in the transaction knows one profile from another. `ciba_core.profiles` has the known ones; change
one with ``attrs.evolve(profiles.KEYCLOAK, ...)``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, Protocol, cast

from attrs import Attribute, field, frozen

from ciba_core.client.authentication import ClientAuthentication
from ciba_core.client.binding_message import BindingMessageLimits
from ciba_core.client.hints import HintFormat, has_format
from ciba_core.client.polling import PollingPolicy
from ciba_core.client.registered import IdTokenPolicy, UserInfoPolicy
from ciba_core.client.request import HINTS, PARAMETER_NAMES, RESERVED_NAMES, AuthenticationRequest
from ciba_core.client.signed_request import RequestSigning
from ciba_core.jose.algorithms import SIGNATURE_ALGORITHMS, names_of
from ciba_core.jose.unsigned_jwt import Audience, AudiencePolicy, check_audience, to_audience
from ciba_core.values import check
from ciba_core.values.errors import LocalProtocolError
from ciba_core.values.json import freeze, is_array_of

__all__ = ["Profile"]

_Check = Callable[[Any, Any, Any], None]
_NO_NAMES: Final[Mapping[str, str]] = freeze({})
_Presence = Literal["required", "optional", "forbidden"]
_OPTIONAL: _Presence = "optional"
_NO_STRINGS: tuple[str, ...] = ()
_NO_FORMATS: tuple[HintFormat, ...] = ()


_check_array = check.strings()


def _check_strings(instance: Any, attribute: Any, value: Any) -> None:
    _check_array(instance, attribute, value)
    for item in cast("tuple[str, ...]", value):
        problem = check.text_problem(item)
        if problem is not None:
            raise ValueError(f"{attribute.name}: a string in it {problem}")


def _check_openid(_instance: Any, attribute: Any, value: tuple[str, ...]) -> None:
    if "openid" not in value:
        raise ValueError(f"{attribute.name} must have openid")


def _check_subset(allowed: tuple[str, ...], *, or_none: bool = False) -> _Check:
    def validate(instance: Any, attribute: Any, value: Any) -> None:
        if or_none and value is None:
            return
        _check_strings(instance, attribute, value)
        if not value or not set(allowed).issuperset(value):
            raise ValueError(f"{attribute.name} must be of {', '.join(allowed)}")

    return validate


def _check_presence(_instance: Any, attribute: Attribute[_Presence], value: _Presence) -> None:
    if value not in ("required", "optional", "forbidden"):
        raise ValueError(f"{attribute.name} must be required, optional or forbidden")


def _check_methods(instance: Any, attribute: Any, value: Any) -> None:
    if value is not None:
        _check_strings(instance, attribute, value)


def _check_names(instance: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{attribute.name} must be a mapping from names to names")
    names = cast("Mapping[str, object]", value)
    unknown = sorted(names.keys() - {*PARAMETER_NAMES})
    if unknown:
        raise ValueError(f"{attribute.name}: {', '.join(unknown)} is no parameter of the standard")
    others = tuple(names.values())
    _check_strings(instance, attribute, others)
    if len(set(others)) != len(others) or not {*PARAMETER_NAMES}.isdisjoint(cast("tuple[str, ...]", others)):
        raise ValueError(f"{attribute.name}: two parameters would have the same name")
    reserved = sorted(RESERVED_NAMES.intersection(cast("tuple[str, ...]", others)))
    if reserved:
        raise ValueError(f"{attribute.name}: {', '.join(reserved)} is no name for a parameter of a request")


def _check_pattern(_instance: Any, attribute: Any, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise TypeError(f"{attribute.name} must be str, not {type(value).__name__}")
    try:
        re.compile(value)
    except re.error:
        pass
    else:
        return
    raise ValueError(f"{attribute.name} must be a regular expression")


def _to_formats(value: list[HintFormat] | tuple[HintFormat, ...]) -> tuple[HintFormat, ...]:
    return tuple(value) if isinstance(value, list) else value


def _to_range(value: tuple[int, int] | list[int] | None) -> tuple[int, int] | None:
    return cast("tuple[int, int]", tuple(value)) if isinstance(value, list) else value


def _check_formats(_instance: Any, attribute: Any, value: Any) -> None:
    if not is_array_of(value, HintFormat):
        raise TypeError(f"{attribute.name} must be HintFormat values")


def _check_range(_instance: Any, attribute: Any, value: Any) -> None:
    if value is None:
        return
    if not is_array_of(value, int) or len(value) != 2:
        raise TypeError(f"{attribute.name} must be two whole numbers")
    if not 1 <= value[0] <= value[1]:
        raise ValueError(f"{attribute.name} must be the least and the most, from 1 on")


class ClientSettings(Protocol):
    """The part of a `ClientConfig` that a profile checks."""

    @property
    def authentication(self) -> ClientAuthentication: ...
    @property
    def backchannel_token_delivery_mode(self) -> str: ...
    @property
    def request_signing(self) -> RequestSigning | None: ...
    @property
    def id_token(self) -> IdTokenPolicy: ...
    @property
    def userinfo(self) -> UserInfoPolicy: ...
    @property
    def dpop_bound_access_tokens(self) -> bool | Literal["if_supported"]: ...
    @property
    def tls_client_certificate_bound_access_tokens(self) -> bool: ...


@frozen(kw_only=True)
class Profile:
    """The rules of a profile for clients and requests, and how it reads answers.

    Raises:
        TypeError, ValueError: a member is unknown, of the wrong type or out of range, or members contradict
            each other; the message names the member.

    """

    name: str = field(validator=[check.a(str), check.text])
    """The name of the profile in error messages."""

    # --- the client

    delivery_modes: tuple[str, ...] = field(
        default=("poll", "ping", "push"),
        converter=check.to_strings,
        validator=_check_subset(("poll", "ping", "push")),
    )
    """The token delivery modes that may be used (CIBA Core 5)."""
    authentication_methods: tuple[str, ...] | None = field(
        default=None, converter=check.to_optional_strings, validator=_check_methods
    )
    """The client authentication methods that may be used; ``None`` for any."""
    signing_algorithms: tuple[str, ...] | None = field(
        default=None,
        converter=check.to_optional_strings,
        validator=_check_subset(SIGNATURE_ALGORITHMS, or_none=True),
    )
    """The algorithms that may sign client assertions, requests, ID Tokens and UserInfo; ``None`` for any."""
    signed_requests: _Presence = field(default=_OPTIONAL, validator=_check_presence)
    """Whether authentication requests are signed (CIBA Core 7.1.1)."""
    request_lifetime: int = field(default=3600, validator=check.whole_number(1, 3600))
    """Seconds from ``nbf`` to ``exp`` of a signed request, at most."""
    assertion_audience: AudiencePolicy = field(
        default=Audience.ISSUER, converter=to_audience, validator=check_audience
    )
    """The ``aud`` of client assertions where the client does not choose one."""
    request_audience: AudiencePolicy = field(
        default=Audience.ISSUER, converter=to_audience, validator=check_audience
    )
    """The ``aud`` of signed requests where the client does not choose one."""
    fixed_audiences: bool = field(default=False, validator=check.flag)
    """Whether the client may not choose other audiences."""
    send_client_id: bool = field(default=False, validator=check.flag)
    """Send ``client_id`` as a form parameter whatever the client authentication, and as a claim of signed
    requests."""
    sender_constrained_tokens: bool = field(default=False, validator=check.flag)
    """Whether access tokens have to be bound, to a certificate (RFC 8705) or by DPoP (RFC 9449)."""
    polling: PollingPolicy = field(factory=PollingPolicy, validator=check.a(PollingPolicy))
    """The polling policy of clients that set none."""

    # --- the request

    scope: tuple[str, ...] = field(
        default=("openid",), converter=check.to_strings, validator=[_check_strings, _check_openid]
    )
    """What to ask for where the application does not say."""
    single_scope: str | None = field(default=None, validator=_check_pattern)
    """A regular expression that exactly one scope value of a request has to match."""
    required: tuple[str, ...] = field(
        default=_NO_STRINGS, converter=check.to_strings, validator=_check_strings
    )
    """Parameters, by the names of the standard, that a request must have."""
    one_of: tuple[str, ...] = field(default=_NO_STRINGS, converter=check.to_strings, validator=_check_strings)
    """Parameters of which a request must have one at least; none for no such rule."""
    forbidden: tuple[str, ...] = field(
        default=_NO_STRINGS, converter=check.to_strings, validator=_check_strings
    )
    """Parameters that a request must not have."""
    parameter_names: Mapping[str, str] = field(
        default=_NO_NAMES, converter=check.to_frozen_strings, validator=_check_names
    )
    """What the provider calls parameters that have another name in the standard."""
    login_hint_formats: tuple[HintFormat, ...] = field(
        default=_NO_FORMATS, converter=_to_formats, validator=_check_formats
    )
    """The forms of which a ``login_hint`` has to have one; none for any text."""
    binding_message: BindingMessageLimits = field(
        factory=BindingMessageLimits, validator=check.a(BindingMessageLimits)
    )
    requested_expiry: tuple[int, int] | None = field(
        default=None, converter=_to_range, validator=_check_range
    )
    """The least and the most seconds that may be asked for; ``None`` for any."""

    # --- the answers

    denied_may_mean_expired: bool = field(default=False, validator=check.flag)
    """Whether ``access_denied`` is also what an expired ``auth_req_id`` is answered with. It is taken for
    expiry then when it comes within one interval of the end, by the client's own clock."""

    at_hash_in_push: bool = field(default=True, validator=check.flag)
    """Whether pushed ID Tokens have ``at_hash``, as CIBA Core 10.3.1 demands. Where that is off, nothing but
    the bearer token of the callback tells that the access token beside the ID Token is the one that was
    issued; an ``at_hash`` that is there has to be right all the same."""

    def __attrs_post_init__(self) -> None:
        barred = frozenset(self.forbidden)
        for member in ("required", "one_of"):
            both = sorted(barred.intersection(getattr(self, member)))
            if both:
                raise ValueError(f"{member}: {', '.join(both)} is forbidden")
        if len({*HINTS}.intersection(self.required)) > 1:
            raise ValueError("required: a request has one hint only (CIBA Core 7.1)")
        if barred.issuperset(HINTS):
            raise ValueError("forbidden: a request needs one of the hints (CIBA Core 7.1)")
        if self.login_hint_formats and "login_hint" in barred:
            raise ValueError("login_hint_formats: login_hint is forbidden")

    def check_client(self, client: ClientSettings) -> None:
        """Check a client's configuration; `ClientConfig` does so when it is built.

        Raises:
            ValueError: the profile rules a setting out; the message names it.

        """
        problem = self._client_problem(client)
        if problem is not None:
            raise ValueError(f"{problem} (profile {self.name})")

    def _client_problem(self, client: ClientSettings) -> str | None:
        method, signing = client.authentication, client.request_signing
        if client.backchannel_token_delivery_mode not in self.delivery_modes:
            return f"backchannel_token_delivery_mode must be {' or '.join(self.delivery_modes)}"
        if self.authentication_methods is not None and method.method not in self.authentication_methods:
            return f"authentication must be one of {', '.join(self.authentication_methods)}"
        if self.signed_requests == "required" and signing is None:
            return "request_signing must be set: requests have to be signed"
        if self.signed_requests == "forbidden" and signing is not None:
            return "request_signing must not be set: requests must not be signed"
        if self.signing_algorithms is not None:
            for setting, alg in (
                ("authentication", method.signing_alg),
                ("request_signing", None if signing is None else signing.signer.alg),
                ("id_token", client.id_token.signed_response_alg),
                ("userinfo", client.userinfo.signed_response_alg),
            ):
                if alg is not None and set(names_of(alg)).isdisjoint(self.signing_algorithms):
                    return f"{setting} must be signed with {' or '.join(self.signing_algorithms)}, not {alg}"
        if signing is not None and signing.lifetime + signing.backdate > self.request_lifetime:
            return (
                f"request_signing must not make requests valid for more than {self.request_lifetime} seconds"
            )
        if self.fixed_audiences:
            for setting, audience, fixed in (
                ("authentication", getattr(method, "audience", None), self.assertion_audience),
                ("request_signing", None if signing is None else signing.audience, self.request_audience),
            ):
                if audience not in (None, fixed):
                    return f"{setting} must leave the audience to the profile"
        # "if_supported" is true as well, and lets bearer tokens pass.
        dpop = client.dpop_bound_access_tokens is True
        bound = dpop or client.tls_client_certificate_bound_access_tokens
        if self.sender_constrained_tokens and not bound:
            return (
                "dpop_bound_access_tokens or tls_client_certificate_bound_access_tokens must be true: tokens "
                "have to be sender-constrained"
            )
        return None

    def check_request(self, request: AuthenticationRequest) -> None:
        """Check a request; `ciba_core.check_fit` does so before anything is sent.

        Raises:
            BindingMessageUnfit: the binding message is not one that can be shown.
            LocalProtocolError: the profile rules a parameter out, or misses one; the message names it.

        """
        problem = self._request_problem(request)
        if problem is not None:
            raise LocalProtocolError(f"{problem} (profile {self.name})")
        if request.binding_message is not None:
            self.binding_message.check(request.binding_message)

    def _request_problem(self, request: AuthenticationRequest) -> str | None:
        given = request.claims_set().keys()
        for name in self.required:
            if name not in given:
                return f"{name} must be given"
        for name in self.forbidden:
            if name in given:
                return f"{name} must not be given"
        if self.one_of and given.isdisjoint(self.one_of):
            return f"one of {', '.join(self.one_of)} must be given"
        for name, other in self.parameter_names.items():
            if other in request.extra:
                return f"extra must not contain {other}: give it as {name}"
        if self.single_scope is not None:
            values = (request.scope or "").split(" ")
            found = [value for value in values if re.fullmatch(self.single_scope, value)]
            if len(found) != 1:
                return f"scope must have exactly one value of the form {self.single_scope}"
        hint, formats = request.login_hint, self.login_hint_formats
        if hint is not None and formats and not any(has_format(hint.reveal(), form) for form in formats):
            return f"login_hint must be in the form of {' or '.join(form.value for form in formats)}"
        if request.requested_expiry is not None and self.requested_expiry is not None:
            least, most = self.requested_expiry
            if not least <= request.requested_expiry <= most:
                return f"requested_expiry must be from {least} to {most}"
        return None
