"""The authentication request (CIBA Core 7.1): what is asked of whom."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from attrs import evolve, field, fields, frozen
from attrs.validators import optional

from ciba_core.client.claims import acceptable, entry_problem, found, is_essential
from ciba_core.client.headers import HeaderFields, check_fields, to_fields
from ciba_core.jose.signing import Jws, parse_jws
from ciba_core.values import check
from ciba_core.values.errors import LocalProtocolError
from ciba_core.values.json import (
    NO_MEMBERS,
    JsonFault,
    dumps,
    freeze,
    is_array_of,
    parse_object,
)
from ciba_core.values.secret import Secret

__all__ = ["AuthenticationRequest", "Requested", "subject_of"]

# RFC 6749 3.3: one or more of %x21 / %x23-5B / %x5D-7E, separated by single spaces.
_SCOPE: Final = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+(?: [\x21\x23-\x5B\x5D-\x7E]+)*")
# RFC 3986 4.3: a scheme and something after it, of the characters of a URI, without a fragment.
_ABSOLUTE_URI: Final = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~:/?@!$&'()*+,;=\[\]-]|%[0-9A-Fa-f]{2})+"
)
_SPACED: Final = re.compile(r"\S+(?: \S+)*")

RESERVED_NAMES: Final = frozenset(
    {
        "client_id", "client_secret", "client_assertion", "client_assertion_type",
        "client_notification_token", "request", "request_uri", "grant_type", "auth_req_id",
        "iss", "sub", "aud", "exp", "iat", "nbf", "jti",
    }
)  # fmt: skip
"""What no parameter may be called: it belongs to client authentication, to the delivery mode or to the signed
form of a request."""
# How a field of `AuthenticationRequest` says that it is one of the hints.
_HINT: Final = {"hint": True}


def _joined(value: str | list[str] | tuple[str, ...] | None) -> str | None:
    """Accept a sequence of values where the standard has one space-separated string."""
    return cast("str | None", " ".join(cast("list[str]", value)) if is_array_of(value, str) else value)


def _check_scope(_instance: Any, attribute: Any, value: str) -> None:
    if not _SCOPE.fullmatch(value):
        raise ValueError(
            f"{attribute.name} must be scope values separated by single spaces (RFC 6749 3.3): printable "
            "ASCII without double quotes and backslashes"
        )


def _check_spaced(_instance: Any, attribute: Any, value: str | None) -> None:
    if value is not None and not _SPACED.fullmatch(value):
        raise ValueError(f"{attribute.name} must be values separated by single spaces")


def _resources(value: str | list[str] | tuple[str, ...] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _check_resources(_instance: Any, attribute: Any, value: Any) -> None:
    for resource in value:
        if not isinstance(resource, str):
            raise TypeError(f"{attribute.name} must be str or a sequence of str")
        if not _ABSOLUTE_URI.fullmatch(resource):
            raise ValueError(f"{attribute.name} must be absolute URIs without fragment (RFC 8707 2)")


def _frozen_json(name: str, value: Any) -> Any:
    try:
        return freeze(value)
    except (TypeError, ValueError) as error:
        problem = type(error)(f"{name}: {error}")
    raise problem


def _to_details(value: Sequence[Mapping[str, Any]] | None) -> tuple[Mapping[str, Any], ...] | None:
    details: tuple[Mapping[str, Any], ...] | None = _frozen_json("authorization_details", value)
    return details


def _to_claims(value: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    claims: Mapping[str, Any] | None = _frozen_json("claims", value)
    return claims


def _to_extra(value: Mapping[str, Any]) -> Mapping[str, Any]:
    extra: Mapping[str, Any] = _frozen_json("extra", value)
    return extra


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
    for place in ("userinfo", "id_token"):
        entries = cast("Mapping[str, Any]", value).get(place, {})
        if not isinstance(entries, Mapping):
            raise TypeError(f"{attribute.name}: {place} must be an object (OpenID Connect Core 5.5)")
        for claim, entry in cast("Mapping[str, Any]", entries).items():
            problem = entry_problem(claim, entry)
            if problem is not None:
                raise ValueError(f"{attribute.name}: {place}.{claim} {problem} (OpenID Connect Core 5.5.1)")


def _to_token_parameters(value: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters: Mapping[str, Any] = _frozen_json("token_parameters", value)
    return parameters


def _check_token_parameters(_instance: Any, attribute: Any, value: Any) -> None:
    _check_names(attribute, value)
    for name, content in value.items():
        if name in RESERVED_NAMES:
            raise ValueError(f"{attribute.name} must not contain {name}, which is not the caller's to set")
        if content is None or content in ("", ()):
            raise ValueError(f"{attribute.name}: {name} has no value (RFC 6749 3.1: leave it out)")
        if name == "resource":
            _check_resources(None, attribute, _resources(content))


def _check_names(attribute: Any, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{attribute.name} must be a mapping")
    for name in cast("Mapping[str, Any]", value):
        problem = check.text_problem(name)
        if problem is not None:
            raise ValueError(f"{attribute.name}: a parameter name {problem}")


def _check_extra(_instance: Any, attribute: Any, value: Any) -> None:
    _check_names(attribute, value)
    for name, content in cast("Mapping[str, Any]", value).items():
        # The parameter has a field of its own, or the library sets it.
        if name in RESERVED_NAMES or name in PARAMETER_NAMES:
            raise ValueError(f"{attribute.name} must not contain {name}, which is not an extension parameter")
        if content is None or content == "":
            raise ValueError(f"{attribute.name}: {name} has no value (RFC 6749 3.1: leave it out)")
        # The ID Token is measured against these two (OpenID Connect Core 3.1.2.1).
        if name == "nonce" and not isinstance(content, str):
            raise TypeError(f"{attribute.name}: nonce must be str")
        if name == "max_age" and _seconds(content) is None:
            raise ValueError(f"{attribute.name}: max_age must be a whole number of seconds, from 0 on")


def _seconds(value: Any) -> int | None:
    # A longer number is not an age in seconds. A number without bound could not be stored.
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        return int(value)
    return value if type(value) is int and 0 <= value < 10**15 else None


@frozen(kw_only=True, weakref_slot=False)
class Requested:
    """What the answer to a request is measured against; it lives as long as the transaction."""

    scope: str
    authorization_details: tuple[Mapping[str, Any], ...] | None = field(default=None, repr=False)
    nonce: Secret | None = None
    """A nonce that was sent as an extension; the ID Token has to repeat it."""
    acr: bool = False
    """Whether ``acr`` was asked for as essential (OpenID Connect Core 5.5.1.1)."""
    acr_values: tuple[str, ...] = ()
    """Acceptable authentication context classes, when they were asked for as essential: no other is accepted;
    none for any."""
    acr_wanted: tuple[str, ...] = ()
    """Authentication context classes that were requested as voluntary claims. The ID Token may have another
    one: its ``acr`` says what was reached."""
    max_age: int | None = None
    """Seconds since the user's authentication, at most, when ``max_age`` was sent as an extension."""
    auth_time: bool = False
    """Whether ``auth_time`` was asked for as essential."""
    subject: Secret | None = None
    """The ``sub`` of an ``id_token_hint`` or an ``iss_sub``, one that was asked for by ``claims``, or the
    `AuthenticationRequest.expected_subject`: nobody else may have answered."""
    claims: Mapping[str, Any] | None = field(default=None, repr=False)
    """What was asked for of the ID Token as essential, or with values (OpenID Connect Core 5.5.1)."""
    token_parameters: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """What goes along with each token request."""
    headers: HeaderFields = NO_MEMBERS
    """Header fields that go along with each HTTP request."""
    requested_expiry: int | None = None
    """Seconds that were asked for to decide in."""

    @property
    def openid(self) -> bool:
        """Whether an ID Token has to come."""
        return "openid" in self.scope.split(" ")


_NOTHING: Final[Mapping[str, Any]] = NO_MEMBERS
_NO_NAMES: Final[Mapping[str, str]] = NO_MEMBERS


_HINT_DEPTH: Final = 32


def subject_of(token: Secret) -> str | None:
    """Return the ``sub`` of an ID Token that is to be sent as a hint, or ``None`` when it cannot be read.

    Nothing is verified: the hint is the caller's own. Encrypted and opaque ones cannot be read.
    """
    jws = parse_jws(token.reveal(), depth_limit=_HINT_DEPTH)
    sub = jws.claims.get("sub") if isinstance(jws, Jws) else None
    return sub if isinstance(sub, str) else None


def _named_subject(members: object, issuer: str) -> str | None:
    """Return the ``sub`` of a subject identifier of this issuer (RFC 9493 3.2.3 and 3.2.8), if it has one."""
    identifier = cast("Mapping[str, Any]", members) if isinstance(members, Mapping) else _NOTHING
    if identifier.get("format") == "aliases":
        each: Any = identifier.get("identifiers")
        named = (_named_subject(one, issuer) for one in (each if is_array_of(each, Mapping) else ()))
        return next((sub for sub in named if sub is not None), None)
    sub = identifier.get("sub") if identifier.get("iss") == issuer else None
    return sub if identifier.get("format") == "iss_sub" and isinstance(sub, str) else None


@frozen(kw_only=True)
class AuthenticationRequest:
    """What to ask the user for, and which user (CIBA Core 7.1). Exactly one of the three hints is given.

    The hints and the user code are personal data or secrets: they are wrapped in `Secret` and do not show.
    The fields from `scope` to `claims` are the parameters of these names, and are sent in this order.

    Raises:
        TypeError, ValueError: a parameter is of the wrong type or form; the message names it.

    """

    scope: str | None = field(
        default=None, converter=_joined, validator=optional([check.a(str), _check_scope])
    )
    """Space-separated scope values (a sequence is joined); contains ``openid``. ``None`` is what the client's
    profile says: ``openid`` as a rule."""
    acr_values: str | None = field(
        default=None,
        converter=_joined,
        validator=[check.a(str, or_none=True), check.text, _check_spaced],
    )
    """Space-separated authentication context classes in order of preference (a sequence is joined)."""
    binding_message: str | None = field(default=None, validator=check.text)
    """Short plain text shown on both devices, so that the user can tell which request is approved; such as
    what `binding_code` makes. The limits are those of the client's profile."""
    login_hint: Secret | None = field(
        default=None, converter=check.optional_secret, validator=check.secret_text, metadata=_HINT
    )
    """Whatever names the user at this provider: an email address, a telephone number, an account. Build it
    with `ciba_core.hints` where part of it comes from outside."""
    login_hint_token: Secret | None = field(
        default=None, converter=check.optional_secret, validator=check.secret_text, metadata=_HINT
    )
    """A token that names the user; opaque here."""
    id_token_hint: Secret | None = field(
        default=None, converter=check.optional_secret, validator=check.secret_text, metadata=_HINT
    )
    """An ID Token that this provider issued to this client before, decrypted if it came encrypted."""
    user_code: Secret | None = field(
        default=None, converter=check.optional_secret, validator=check.secret_text
    )
    """A code known to user and provider; ask the user for it each time, never store it (CIBA Core 7.1.2)."""
    requested_expiry: int | None = field(
        default=None, validator=check.whole_number(1, 2**31 - 1, or_none=True)
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
    openid: bool = field(default=True, validator=check.flag)
    """Set to false to ask for plain OAuth tokens without ``openid`` in the scope (Core leaves the behaviour
    unspecified; CAMARA providers do it). No ID Token is expected then."""
    expected_subject: Secret | None = field(
        default=None, converter=check.optional_secret, validator=check.secret_text
    )
    """The ``sub`` that the ID Token has to have: tokens about somebody else are refused. It is not sent.

    Where it is not given, it is that of an ``id_token_hint`` or of ``claims``, or that of a ``login_hint`` or
    ``login_hint_token`` in the form ``iss_sub`` whose ``iss`` is the provider's issuer, unless subject
    identifiers are pairwise (`ClientConfig.subject_type`)."""
    token_parameters: Mapping[str, Any] = field(
        default=_NOTHING, converter=_to_token_parameters, validator=_check_token_parameters, repr=False
    )
    """Further parameters of the token requests, which are the polls. Strings are sent as they are, several
    values of ``resource`` each by itself (RFC 8707 2.2), any other JSON value as JSON text."""
    headers: HeaderFields = field(default=_NOTHING, converter=to_fields, validator=check_fields)
    """Header fields for every HTTP request of this authentication, such as ``x-fapi-customer-ip-address``.
    They go before those of `ClientConfig.headers` of the same name, and to the same hosts."""

    def __attrs_post_init__(self) -> None:
        given = [name for name in HINTS if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none"
            raise ValueError(f"exactly one of {', '.join(HINTS)} is needed (CIBA Core 7.1), not {found}")
        if self.scope is None:
            if not self.openid:
                raise ValueError("scope is needed with openid=False")
        elif self.openid != ("openid" in self.scope.split(" ")):
            raise ValueError(
                "scope must contain 'openid' (CIBA Core 7.1)"
                if self.openid
                else "scope contains 'openid' although openid=False was given"
            )
        if self.expected_subject is not None and not self.openid:
            raise ValueError("expected_subject: without openid, no ID Token comes that could say who it was")
        if self.acr_values is not None and acceptable(self._asked("acr")):
            raise ValueError(
                "acr_values: claims ask for other values of acr (OpenID Connect Core 5.5.1.1: unspecified)"
            )

    @property
    def _scope(self) -> str:
        return self.scope or "openid"  # also what a profile has as a rule

    def completed(self, scope: tuple[str, ...]) -> AuthenticationRequest:
        """Return the request with these scope values, such as those of a profile, unless it has its own."""
        return self if self.scope is not None else evolve(self, scope=scope)

    def _asked(self, claim: str) -> Mapping[str, Any] | None:
        """Return what `claims` say of one that is to come in the ID Token, if it is more than its name."""
        entries: Mapping[str, Any] = (self.claims or _NOTHING).get("id_token", _NOTHING)
        return entries.get(claim)

    def requested(self, *, issuer: str | None = None) -> Requested:
        """Return what the answer will be measured against.

        Args:
            issuer: the provider's, whose subject identifiers mean the same to all clients; ``None`` where
                they are pairwise (OpenID Connect Core 8).

        Raises:
            LocalProtocolError: `claims`, `id_token_hint` and `expected_subject` name different users.

        """
        acr, nonce = self._asked("acr"), self.extra.get("nonce")
        classes, essential = acceptable(acr), is_essential(acr)
        subjects: set[str] = set(acceptable(self._asked("sub")))
        hint = None if self.id_token_hint is None else subject_of(self.id_token_hint)
        if hint is not None:
            subjects.add(hint)
        if self.expected_subject is not None:
            if not subjects.issubset({self.expected_subject.reveal()}):
                raise LocalProtocolError("expected_subject must be that of the id_token_hint and of claims")
            subjects.add(self.expected_subject.reveal())
        if len(subjects) > 1:
            raise LocalProtocolError("claims: sub must name one user, and that of the id_token_hint")
        if not subjects and issuer is not None and (named := self._subject_at(issuer)) is not None:
            subjects.add(named)
        return Requested(
            scope=self._scope,
            authorization_details=self.authorization_details,
            nonce=None if nonce is None else Secret(nonce),
            acr=essential,
            acr_values=classes if essential else (),
            acr_wanted=tuple(self.acr_values.split(" ")) if self.acr_values else () if essential else classes,
            max_age=_seconds(self.extra.get("max_age")),
            auth_time=is_essential(self._asked("auth_time")),
            subject=Secret(subjects.pop()) if subjects else None,
            claims=self._demanded(),
            token_parameters=tuple(
                (name, each if isinstance(each, str) else dumps(each))
                for name, value in self.token_parameters.items()
                for each in (_resources(value) if name == "resource" else (value,))
            ),
            headers=self.headers,
            requested_expiry=self.requested_expiry,
        )

    def _subject_at(self, issuer: str) -> str | None:
        """Return whom the hint names by a subject identifier of the issuer, if it can be read."""
        if self.login_hint is not None:
            octets = self.login_hint.reveal().encode()
            members = parse_object(octets, depth_limit=_HINT_DEPTH)
            return None if isinstance(members, JsonFault) else _named_subject(members, issuer)
        if self.login_hint_token is not None:
            jws = parse_jws(self.login_hint_token.reveal(), depth_limit=_HINT_DEPTH)
            return _named_subject(jws.claims.get("sub_id"), issuer) if isinstance(jws, Jws) else None
        return None

    def _demanded(self) -> Mapping[str, Any] | None:
        """Return what `claims` ask for of the ID Token and its validation does not look for."""
        entries: Mapping[str, Any] = (self.claims or _NOTHING).get("id_token", _NOTHING)
        demanded = {
            name: entry
            for name, entry in entries.items()
            if name not in ("acr", "auth_time", "sub") and found({name: entry}, _NOTHING)
        }
        return freeze(demanded) if demanded and self.openid else None

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
        for name in PARAMETER_NAMES:
            value: Any = self._scope if name == "scope" else getattr(self, name)
            if value is not None and value != ():
                yield name, value.reveal() if isinstance(value, Secret) else value
        yield from self.extra.items()


_PARAMETERS: Final = tuple(
    each
    for each in fields(AuthenticationRequest)
    if each.name not in ("extra", "openid", "expected_subject", "token_parameters", "headers")
)
PARAMETER_NAMES: Final = tuple(each.name for each in _PARAMETERS)
"""The parameters of a request, by the names and in the order of the standard."""
HINTS: Final = tuple(each.name for each in _PARAMETERS if each.metadata == _HINT)
"""The parameters that say which user is meant. A request has exactly one of them (CIBA Core 7.1)."""
