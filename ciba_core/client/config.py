"""What the application decides once: who the client is, how it polls, what it accepts."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final, Literal

from attrs import Factory, field, frozen

from ciba_core.client.authentication import ClientAuthentication
from ciba_core.client.headers import ExtraHeaders, check_headers, check_hosts, check_names, to_headers
from ciba_core.client.polling import PollingPolicy, polls
from ciba_core.client.profile import Profile
from ciba_core.client.profiles import GENERIC
from ciba_core.client.registered import IdTokenPolicy, UserInfoPolicy
from ciba_core.client.signed_request import RequestSigning
from ciba_core.jose.algorithms import HMAC_ALGORITHMS
from ciba_core.jose.dpop import ProofClaims
from ciba_core.jose.key_import import UnusableKey, hmac_key
from ciba_core.values import check
from ciba_core.values.json import NO_MEMBERS
from ciba_core.values.limits import Limits
from ciba_core.values.secret import Secret

__all__ = ["ClientConfig", "DeliveryMode"]

DEFAULT_ENTROPY: Final[Callable[[int], bytes]] = secrets.token_bytes
DeliveryMode = Literal["poll", "ping", "push"]
"""Token delivery modes (CIBA Core 5)."""


def _check_authentication(_instance: Any, _attribute: Any, value: Any) -> None:
    members = ("method", "credentials", "signing_alg", "mutual_tls")
    if isinstance(value, type) or not all(hasattr(value, member) for member in members):
        raise TypeError(
            "authentication must be a client authentication method, such as ClientSecretBasic(...)"
        )


def _check_profile(_instance: Any, _attribute: Any, value: Any) -> None:
    if not isinstance(value, Profile):
        raise TypeError(f"profile must be a Profile, such as profiles.FAPI_CIBA, not {type(value).__name__}")


def _check_dpop(_instance: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, bool) and value != "if_supported":
        raise TypeError(f"{attribute.name} must be True, False or 'if_supported'")


def _check_subject_type(_instance: Any, attribute: Any, value: Any) -> None:
    if value not in (None, "public", "pairwise"):
        raise ValueError(f"{attribute.name} must be one of public, pairwise")


def _check_entropy(_instance: Any, _attribute: Any, value: Any) -> None:
    if not callable(value):
        raise TypeError("entropy must be a function from a number of octets to that many octets")


def _polling(client: ClientConfig) -> PollingPolicy:
    # The validator, which runs later, refuses a profile of the wrong type.
    return getattr(client.profile, "polling", PollingPolicy())


@frozen
class ClientConfig:
    """The client as it is registered at the provider, and its settings. One value for all transactions.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range; the message names it.

    """

    client_id: str = field(validator=[check.a(str), check.text])
    authentication: ClientAuthentication = field(validator=_check_authentication)
    """How the client authenticates; registered as ``token_endpoint_auth_method``."""
    backchannel_token_delivery_mode: DeliveryMode = field(
        default="poll", validator=check.one_of(("poll", "ping", "push")), kw_only=True
    )
    """The registered mode (CIBA Core 4). Ping and push need a client notification endpoint: see
    `ciba_core.callbacks.routing`."""
    id_token: IdTokenPolicy = field(factory=IdTokenPolicy, validator=check.a(IdTokenPolicy), kw_only=True)
    """What an ID Token has to be signed and encrypted with, and how exactly its times are taken."""
    userinfo: UserInfoPolicy = field(factory=UserInfoPolicy, validator=check.a(UserInfoPolicy), kw_only=True)
    """What the answers of the UserInfo endpoint have to be signed and encrypted with."""
    request_signing: RequestSigning | None = field(
        default=None, validator=check.a(RequestSigning, or_none=True), kw_only=True
    )
    """Sign authentication requests (CIBA Core 7.1.1); registered as
    ``backchannel_authentication_request_signing_alg``."""
    dpop_bound_access_tokens: bool | Literal["if_supported"] = field(
        default=False, validator=_check_dpop, kw_only=True
    )
    """Ask for tokens that are bound to a key of the transaction (RFC 9449), and accept no others.

    With ``"if_supported"`` they are asked for all the same, and bearer tokens are accepted too, but only from
    a provider whose metadata lists no algorithm for DPoP. Once tokens are bound, those that they are
    refreshed to have to be."""
    dpop_proof_claims: ProofClaims = field(factory=ProofClaims, validator=check.a(ProofClaims), kw_only=True)
    """What proofs say beyond RFC 9449."""
    tls_client_certificate_bound_access_tokens: bool = field(
        default=False, validator=check.flag, kw_only=True
    )
    """Ask for tokens that are bound to the client's certificate (RFC 8705 3): the endpoints of
    ``mtls_endpoint_aliases`` are called, over a session of yours that presents the certificate."""
    subject_type: Literal["public", "pairwise"] | None = field(
        default=None, validator=_check_subject_type, kw_only=True
    )
    """Whether other clients know a user by the same ``sub`` (OpenID Connect Core 8); registered under this
    name. ``None``: ``pairwise`` where the provider's metadata lists nothing else."""
    headers: ExtraHeaders = field(
        default=NO_MEMBERS, converter=to_headers, validator=check_headers, kw_only=True
    )
    """Header fields to send along, such as the subscription key of a gateway: a mapping, or a function that
    takes a `HeaderContext` and returns one, and runs once for each HTTP request. What the function raises
    passes through ``step``.

    They go to the issuer's host and port, and to those of `headers_to`. Never allowed are ``Authorization``,
    ``DPoP``, ``Host``, ``Accept``, ``Accept-Encoding``, ``Cookie``, ``Connection`` and other fields by which
    HTTP itself works, and those that begin with ``Content-``, ``Proxy-`` or ``If-``."""
    headers_to: tuple[str, ...] = field(
        default=(), converter=check.to_strings, validator=check_hosts, kw_only=True
    )
    """Hosts, with the port unless it is 443, to which `headers` go beside the issuer's: that of a mutual TLS
    endpoint, for instance."""
    answer_headers: tuple[str, ...] = field(
        default=("x-fapi-interaction-id",), converter=check.to_strings, validator=check_names, kw_only=True
    )
    """Names of header fields of answers that are kept, in `AnswerHeaders` and in `CibaError.headers`: what a
    provider echoes, or gives to find the request in its logs."""
    profile: Profile = field(
        default=GENERIC, validator=_check_profile, kw_only=True, repr=lambda profile: repr(profile.name)
    )
    """What the provider, or a profile of the standard, asks for beyond it: one of `ciba_core.profiles`."""
    polling: PollingPolicy = field(
        default=Factory(_polling, takes_self=True), validator=check.a(PollingPolicy), kw_only=True
    )
    """How to poll. The default is the polling policy of the profile."""
    limits: Limits = field(factory=Limits, validator=check.a(Limits), kw_only=True)
    connect_timeout: float = field(default=10.0, validator=check.seconds(0.001, 3600), kw_only=True)
    """Seconds to get a connection: the wait for a place in a pool, name resolution, TCP and TLS."""
    timeout: float = field(default=40.0, validator=check.seconds(0.001, 3600), kw_only=True)
    """Seconds for a whole exchange, from the wait for a connection to the last octet of the answer. Keep it
    above 30: a provider may hold back the answer to a poll that long (CIBA Core 10.1)."""
    entropy: Callable[[int], bytes] = field(
        default=DEFAULT_ENTROPY, validator=_check_entropy, kw_only=True, repr=False, eq=False
    )
    """The one source of randomness: returns as many random octets as it is asked for. Hand in a counter in
    tests and every run is the same."""

    def __attrs_post_init__(self) -> None:
        for name, policy in (("id_token", self.id_token), ("userinfo", self.userinfo)):
            if policy.needs_client_secret and self.client_secret is None:
                raise ValueError(f"{name}: its algorithms need a client secret, and there is none")
            if policy.signed_response_alg in HMAC_ALGORITHMS:
                self._check_secret(name, policy.signed_response_alg)
        if (
            self.tls_client_certificate_bound_access_tokens
            and self.dpop_bound_access_tokens == "if_supported"
        ):
            raise ValueError(
                "dpop_bound_access_tokens must be True or False: tokens are bound to the certificate already"
            )
        self.profile.check_client(self)

    def _check_secret(self, name: str, alg: str) -> None:
        # Told here: by such a key nothing would be accepted, after the user was asked (RFC 7518 3.2).
        secret = self.client_secret
        key = hmac_key("" if secret is None else secret.reveal(), alg)
        if isinstance(key, UnusableKey):
            raise ValueError(f"{name}: {key.reason}")  # noqa: TRY004  # its type is right

    @property
    def client_secret(self) -> Secret | None:
        """The secret that the client authenticates by, where it has one."""
        return getattr(self.authentication, "client_secret", None)

    @property
    def needs_callbacks(self) -> bool:
        """Whether the client relies on the provider's callbacks (CIBA Core 5).

        In push mode, and in ping mode unless `PollingPolicy.beside_ping` is set.
        """
        return not polls(self.polling, self.backchannel_token_delivery_mode, pinged=False)

    @property
    def mutual_tls(self) -> bool:
        """Whether the session presents a client certificate (RFC 8705)."""
        return self.authentication.mutual_tls or self.tls_client_certificate_bound_access_tokens
