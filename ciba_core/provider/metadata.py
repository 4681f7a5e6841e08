"""What is known of the provider: its metadata, discovered or given by hand.

OpenID Connect Discovery 1.0, RFC 8414, CIBA Core 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast
from urllib.parse import urlsplit, urlunsplit

from attrs import evolve, field, fields, frozen

from ciba_core.provider.terms import CIBA
from ciba_core.values import check
from ciba_core.values.errors import Endpoint, RemoteProtocolError
from ciba_core.values.json import FrozenMapping, freeze_object
from ciba_core.values.lenient import is_absent

__all__ = ["MetadataDocument", "ProviderMetadata", "metadata_urls"]

_check_strings: Final = check.strings(or_none=True)


def _check_endpoint(instance: Any, attribute: Any, value: Any) -> None:
    problem = check.url_problem(value, allow_loopback_http=instance.allow_loopback_http)
    if problem is not None:
        raise ValueError(f"{attribute.name} {problem}")


def _check_optional_endpoint(instance: Any, attribute: Any, value: Any) -> None:
    if value is not None:
        _check_endpoint(instance, attribute, value)


_NO_ALIASES: Final[Mapping[str, str]] = FrozenMapping({})


def _aliases(value: Mapping[str, str | None]) -> Mapping[str, str]:
    given: object = value
    if not isinstance(given, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        return value  # type: ignore[return-value]  # which the validator refuses
    # A member that is null counts as left out, as everywhere.
    return freeze_object({name: url for name, url in value.items() if url is not None})


def _check_aliases(instance: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{attribute.name} must be an object")
    for name, url in cast("Mapping[str, Any]", value).items():
        problem = check.url_problem(url, allow_loopback_http=instance.allow_loopback_http)
        if name in DOCUMENT_MEMBERS and problem is not None:
            raise ValueError(f"{attribute.name}: {name} {problem}")


def _check_issuer(instance: Any, attribute: Any, value: Any) -> None:
    problem = check.url_problem(value, allow_loopback_http=instance.allow_loopback_http, query=False)
    if problem is not None:
        raise ValueError(f"{attribute.name} {problem}")


@frozen(kw_only=True)
class ProviderMetadata:
    """The provider as a CIBA client sees it. Member names are those of the metadata document.

    Members that are ``None`` are unknown, and nothing is refused on their account. What the standards have a
    default for is not unknown where a document leaves it out: `from_document` fills it in. Where a provider's
    document is wrong, correct the value with ``attrs.evolve(metadata, ...)``.

    Raises:
        TypeError, ValueError: a member is of the wrong type, or a URL is not ``https``; the message names it.

    """

    allow_loopback_http: bool = field(default=False, validator=check.flag)
    """Accept plain ``http`` for 127.0.0.0/8, ``[::1]`` and ``localhost``, for development and tests."""
    issuer: str = field(validator=_check_issuer)
    expected_issuer: str | None = field(default=None, validator=check.text)
    """The exact ``iss`` of ID Tokens and of signed UserInfo, for a provider that writes another one there
    than its `issuer`; ``None`` if not. It is no member of the document: whoever sets it vouches for it."""
    token_endpoint: str = field(validator=_check_endpoint)
    backchannel_authentication_endpoint: str = field(validator=_check_endpoint)
    jwks_uri: str | None = field(default=None, validator=_check_optional_endpoint)
    backchannel_token_delivery_modes_supported: tuple[str, ...] | None = field(
        default=None, converter=check.to_optional_strings, validator=_check_strings
    )
    backchannel_user_code_parameter_supported: bool | None = field(
        default=None, validator=check.a(bool, or_none=True)
    )
    token_endpoint_auth_methods_supported: tuple[str, ...] | None = field(
        default=None, converter=check.to_optional_strings, validator=_check_strings
    )
    authorization_details_types_supported: tuple[str, ...] | None = field(
        default=None, converter=check.to_optional_strings, validator=_check_strings
    )
    claims_parameter_supported: bool | None = field(default=None, validator=check.a(bool, or_none=True))
    backchannel_authentication_request_signing_alg_values_supported: tuple[str, ...] | None = field(
        default=None, converter=check.to_optional_strings, validator=_check_strings
    )
    token_endpoint_auth_signing_alg_values_supported: tuple[str, ...] | None = field(
        default=None, converter=check.to_optional_strings, validator=_check_strings
    )
    id_token_signing_alg_values_supported: tuple[str, ...] | None = field(
        default=None, converter=check.to_optional_strings, validator=_check_strings
    )
    id_token_encryption_alg_values_supported: tuple[str, ...] | None = field(
        default=None, converter=check.to_optional_strings, validator=_check_strings
    )
    id_token_encryption_enc_values_supported: tuple[str, ...] | None = field(
        default=None, converter=check.to_optional_strings, validator=_check_strings
    )
    subject_types_supported: tuple[str, ...] | None = field(
        default=None, converter=check.to_optional_strings, validator=_check_strings
    )
    dpop_signing_alg_values_supported: tuple[str, ...] | None = field(
        default=None, converter=check.to_optional_strings, validator=_check_strings
    )
    revocation_endpoint_auth_methods_supported: tuple[str, ...] | None = field(
        default=None, converter=check.to_optional_strings, validator=_check_strings
    )
    tls_client_certificate_bound_access_tokens: bool | None = field(
        default=None, validator=check.a(bool, or_none=True)
    )
    revocation_endpoint: str | None = field(default=None, validator=_check_optional_endpoint)
    userinfo_endpoint: str | None = field(default=None, validator=_check_optional_endpoint)
    mtls_endpoint_aliases: Mapping[str, str] = field(
        default=_NO_ALIASES, converter=_aliases, validator=_check_aliases
    )
    """Endpoints to call instead when a client certificate is presented, by the name of the member that each
    stands for (RFC 8705 5)."""

    @property
    def token_issuer(self) -> str:
        """What ``iss`` has to be in ID Tokens and in signed UserInfo."""
        return self.issuer if self.expected_issuer is None else self.expected_issuer

    def endpoint(self, name: str, *, mutual_tls: bool) -> str | None:
        """Return the URL of an endpoint, by its member name; that of its alias for mutual TLS."""
        plain: str | None = getattr(self, name)
        return self.mtls_endpoint_aliases.get(name, plain) if mutual_tls else plain

    @classmethod
    def from_document(
        cls, document: Mapping[str, Any], *, allow_loopback_http: bool = False
    ) -> ProviderMetadata:
        """Build the value from a metadata document that the caller has already parsed and trusts.

        Raises:
            RemoteProtocolError: a member that a CIBA client needs is missing, or a member is wrong.

        """
        members: dict[str, Any] = {
            name: document[name] for name in sorted(DOCUMENT_MEMBERS) if not is_absent(document.get(name))
        }
        if members.get("mtls_endpoint_aliases") in ([], ()):
            # Some languages write an object without members as an empty array.
            del members["mtls_endpoint_aliases"]
        for name in ("issuer", CIBA.poll_endpoint, CIBA.start_endpoint):
            if name not in members:
                raise _violation(f"{name} is missing", rule=_RULES.get(name, "RFC 8414 2"))
        members = {**_DEFAULTS, **members}
        problem: str
        try:
            return cls(**members, allow_loopback_http=allow_loopback_http)
        except (TypeError, ValueError) as error:
            problem = str(error)
        raise _violation(problem, rule="RFC 8414 2")


_BY_HAND: Final = frozenset({"allow_loopback_http", "expected_issuer"})
"""The fields that the client decides, whatever a document says."""
DOCUMENT_MEMBERS: Final = frozenset(each.name for each in fields(ProviderMetadata)) - _BY_HAND
"""What a CIBA client reads of a metadata document."""
# The meaning of a member that is left out. Without the first one, a provider takes no signed requests.
_DEFAULTS: Final[Mapping[str, object]] = {
    "backchannel_authentication_request_signing_alg_values_supported": (),  # CIBA Core 4
    "backchannel_user_code_parameter_supported": False,  # CIBA Core 4
    "token_endpoint_auth_methods_supported": ("client_secret_basic",),  # OpenID Connect Discovery 3
    "claims_parameter_supported": False,  # OpenID Connect Discovery 3
    "tls_client_certificate_bound_access_tokens": False,  # RFC 8705 3.3
}
_RULES: Final = {CIBA.start_endpoint: "CIBA Core 4"}


def _violation(message: str, *, rule: str) -> RemoteProtocolError:
    return RemoteProtocolError(message, rule=rule, endpoint=Endpoint.METADATA)


def metadata_urls(issuer: str) -> tuple[str, ...]:
    """Return the URLs at which an issuer's metadata may be, in the order to try them.

    First as OpenID Connect Discovery 4 appends, then as RFC 8414 3 inserts. `issuer` is not checked here.
    """
    parts = urlsplit(issuer)
    path = parts.path.removesuffix("/")

    def at(where: str) -> str:
        return urlunsplit((parts.scheme, parts.netloc, where, "", ""))

    openid, oauth = "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"
    # RFC 8414 5: an issuer with a path may have its OpenID document at the inserted form, too.
    inserted = (at(openid + path),) if path else ()
    return (at(path + openid), at(oauth + path), *inserted)


@frozen
class MetadataDocument:
    """A metadata document whose issuer has been checked; every member as the provider published it."""

    issuer: str
    members: Mapping[str, Any] = field(repr=False)
    allow_loopback_http: bool

    def provider(self, *, expected_issuer: str | None = None) -> ProviderMetadata:
        """Return what a CIBA client needs of it.

        Args:
            expected_issuer: see `ProviderMetadata.expected_issuer`.

        Raises:
            RemoteProtocolError: a member that a CIBA client needs is missing, or a member is wrong.

        """
        found = ProviderMetadata.from_document(self.members, allow_loopback_http=self.allow_loopback_http)
        return found if expected_issuer is None else evolve(found, expected_issuer=expected_issuer)
