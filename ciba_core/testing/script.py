"""The script of a simulation: who is registered, how users behave, what goes wrong on the way."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from attrs import field, frozen, validators

from .jose import (
    ASYMMETRIC,
    CONTENT_ENCRYPTIONS,
    HMAC,
    KEY_MANAGEMENT,
    encrypts,
    is_list,
    is_object,
    private_members,
)
from .wire import Headers

__all__ = [
    "CIBA_GRANT",
    "Answer",
    "Approve",
    "BadIdToken",
    "BeforeAcknowledgement",
    "Busy",
    "CallbackFault",
    "Delay",
    "Deny",
    "DropAfter",
    "DropBefore",
    "Fault",
    "Forge",
    "Forgery",
    "Ignore",
    "IgnoreDpop",
    "OtherSubject",
    "Overtaken",
    "Refuse",
    "Repeat",
    "SimulatedClient",
    "SlowDown",
    "Truncate",
    "Twist",
    "User",
]

CIBA_GRANT: Final = "urn:openid:params:grant-type:ciba"

REFRESH_GRANT: Final = "refresh_token"
TLS_METHODS: Final = ("tls_client_auth", "self_signed_tls_client_auth")
DELIVERY_MODES: Final = ("poll", "ping", "push")
AUTHENTICATION_METHODS: Final = (
    "client_secret_basic",
    "client_secret_post",
    "client_secret_jwt",
    "private_key_jwt",
    *TLS_METHODS,
    "none",
)

# https (CIBA Core 9); http for clients that listen on the same machine.
_NOTIFICATION_ENDPOINT: Final = re.compile(
    r"(?:https://[^/?#\s]+|http://(?:127\.0\.0\.1|\[::1\]|localhost)(?::[0-9]+)?)(?:[/?][^#\s]*)?"
)


def _check_alg(name: str, alg: str | None, permitted: Iterable[str]) -> None:
    if alg is not None and alg not in permitted:
        raise ValueError(f"{name}: unknown, or not for the keys and the method of this client")


@frozen
class SimulatedClient:
    """A client registered at the simulated provider, by the names of OpenID Connect registration.

    Raises:
        ValueError: a value is unknown, or does not fit the others; the message begins with its name.

    """

    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    token_endpoint_auth_method: str = field(
        default="client_secret_basic", validator=validators.in_(AUTHENTICATION_METHODS), kw_only=True
    )
    """For `tls_client_auth` and `self_signed_tls_client_auth` a request needs the ``client_id`` and no other
    credential; certificates are a matter of the TLS server in front of the provider."""
    grant_types: tuple[str, ...] = field(default=(CIBA_GRANT,), kw_only=True)
    """Without the CIBA grant the client is refused with ``unauthorized_client``, unless it is a push
    client, which has no use for a grant."""
    backchannel_token_delivery_mode: str = field(
        default="poll", validator=validators.in_(DELIVERY_MODES), kw_only=True
    )
    backchannel_client_notification_endpoint: str | None = field(default=None, kw_only=True)
    """Where callbacks go; for ping and push."""
    jwks: Mapping[str, Any] | None = field(default=None, kw_only=True, hash=False, repr=False)
    """The client's public keys, as a JWK Set (RFC 7517)."""
    token_endpoint_auth_signing_alg: str | None = field(default=None, kw_only=True)
    """The one algorithm of client assertions; ``None``: any that the method allows."""
    backchannel_authentication_request_signing_alg: str | None = field(default=None, kw_only=True)
    """The one algorithm of authentication requests, which are then always signed; ``None``: never."""
    id_token_signed_response_alg: str = field(default="RS256", kw_only=True)
    id_token_encrypted_response_alg: str | None = field(default=None, kw_only=True)
    id_token_encrypted_response_enc: str | None = field(default=None, kw_only=True)
    """``None``: ``A128CBC-HS256``, where ID Tokens are encrypted at all."""
    userinfo_signed_response_alg: str | None = field(default=None, kw_only=True)
    """``None``: UserInfo is plain JSON."""
    dpop_bound_access_tokens: bool = field(default=False, kw_only=True)
    """Refuse token requests without a DPoP proof (RFC 9449 5.2)."""

    def __attrs_post_init__(self) -> None:
        method = self.token_endpoint_auth_method
        if (method.startswith("client_secret_") and self.client_secret is None) or (
            method == "none" and self.client_secret is not None
        ):
            raise ValueError("client_secret: does not go with this token_endpoint_auth_method")
        endpoint = self.backchannel_client_notification_endpoint
        if (endpoint is not None) != self.is_called_back or not (
            endpoint is None or _NOTIFICATION_ENDPOINT.fullmatch(endpoint)
        ):
            raise ValueError(
                "backchannel_client_notification_endpoint: an https URL for ping and push, else None"
            )
        keys: Any = [] if self.jwks is None else self.jwks.get("keys")
        if not is_list(keys) or not all(is_object(key) and not private_members(key) for key in keys):
            raise ValueError("jwks: not a set of public keys")
        by_key = ASYMMETRIC if keys else ()
        by_secret = self.secret_algs
        _check_alg(
            "backchannel_authentication_request_signing_alg",
            self.backchannel_authentication_request_signing_alg,
            by_key,
        )
        if method in {"private_key_jwt", "client_secret_jwt"} and not self.assertion_algs:
            raise ValueError(
                "token_endpoint_auth_method: the keys for it are missing, or the secret is too short"
            )
        _check_alg(
            "token_endpoint_auth_signing_alg", self.token_endpoint_auth_signing_alg, self.assertion_algs
        )
        _check_alg(
            "id_token_signed_response_alg", self.id_token_signed_response_alg, (*ASYMMETRIC, *by_secret)
        )
        _check_alg(
            "userinfo_signed_response_alg", self.userinfo_signed_response_alg, (*ASYMMETRIC, *by_secret)
        )
        _check_alg(
            "id_token_encrypted_response_alg",
            self.id_token_encrypted_response_alg,
            [
                alg
                for alg in KEY_MANAGEMENT
                if (
                    self.client_secret is not None
                    if alg == "dir"
                    else any(encrypts(key, alg) for key in keys)
                )
            ],
        )
        _check_alg(
            "id_token_encrypted_response_enc",
            self.id_token_encrypted_response_enc,
            CONTENT_ENCRYPTIONS if self.id_token_encrypted_response_alg is not None else (),
        )

    @property
    def is_called_back(self) -> bool:
        """Whether the client is in ping or push mode."""
        return self.backchannel_token_delivery_mode != "poll"  # noqa: S105  # a mode

    @property
    def is_pushed_to(self) -> bool:
        """Whether the client is in push mode."""
        return self.backchannel_token_delivery_mode == "push"  # noqa: S105  # a mode

    @property
    def secret_algs(self) -> tuple[str, ...]:
        """The HMAC algorithms for which the client's secret is long enough."""
        size = len((self.client_secret or "").encode())
        return tuple(alg for alg, least in HMAC.items() if size >= least)

    @property
    def assertion_algs(self) -> tuple[str, ...]:
        """The algorithms that client assertions may have; empty: this client may not use assertions."""
        match self.token_endpoint_auth_method:
            case "private_key_jwt":
                permitted = ASYMMETRIC if self.jwks is not None else ()
            case "client_secret_jwt":
                permitted = self.secret_algs
            case _:
                permitted = ()
        return permitted


# --- users -----------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class _Person:
    user_code: str | None = field(default=None, repr=False)
    """The code the client has to send for this user (CIBA Core 7.1.2); ``None``: the user has none."""
    sub: str | None = None
    """Subject of the ID Token; ``None``: the hint by which the user was found."""


@frozen(kw_only=True)
class Ignore(_Person):
    """A user who never looks at the request: it expires, unless it is decided by hand."""


@frozen(kw_only=True)
class _Decider(_Person):
    after_polls: int = field(default=0, validator=validators.ge(0))
    """Number of polls to answer with a pending error first. In push mode there are none."""
    after: float = field(default=0.0, validator=validators.ge(0))
    """Seconds from the authentication request."""


@frozen(kw_only=True)
class Approve(_Decider):
    """A user who approves, once both triggers have been reached."""


@frozen(kw_only=True)
class Deny(_Decider):
    """A user who denies, once both triggers have been reached."""

    error: str = "access_denied"
    """What the client is told; in push mode it can be ``transaction_failed`` as well (CIBA Core 12)."""


@frozen
class Refuse:
    """A user for whom every authentication request is refused with an error of CIBA Core 13.

    Use it for errors that no request causes by itself, such as ``access_denied`` (the provider has decided
    without asking the user) and ``expired_login_hint_token``.
    """

    error: str = "access_denied"


User = Approve | Deny | Ignore | Refuse


# --- faults ----------------------------------------------------------------------------------------------


@frozen(repr=False)
class Answer:
    """Another server answers in the provider's place; the provider does not see the request."""

    status: int
    body: bytes = b""
    headers: Headers = ()

    def __repr__(self) -> str:
        return f"Answer({self.status}, {len(self.body)} octets)"


@frozen
class DropBefore:
    """The connection is lost before the provider has seen the request."""


@frozen
class DropAfter:
    """The provider acts on the request; its answer is lost."""


@frozen
class Truncate:
    """The provider acts on the request; the connection ends after so many octets of the body."""

    octets: int = field(validator=validators.ge(0))
    reset: bool = True
    """``True``: the connection is reset; ``False``: it is closed as after a complete answer."""


@frozen
class Delay:
    """The provider takes so many seconds of its clock before it acts on the request."""

    seconds: float = field(validator=validators.ge(0))


@frozen
class SlowDown:
    """The poll is answered with ``slow_down``, and the interval of the transaction grows (CIBA Core 11)."""

    retry_after: int | None = None
    """Seconds for a ``Retry-After`` header; ``None``: no such header."""
    http_date: bool = False
    """Write the header as a date by the provider's clock instead of a number (RFC 9110 10.2.3)."""
    status: int = 400


@frozen
class Busy:
    """The provider is overloaded and does not act on the request (CIBA Core 10.1)."""

    retry_after: int | None = None
    """Seconds for a ``Retry-After`` header; ``None``: no such header."""
    http_date: bool = False
    """Write the header as a date by the provider's clock instead of a number (RFC 9110 10.2.3)."""
    status: int = 503


@frozen
class BadIdToken:
    """The provider issues tokens as it should, but the ID Token among them is not right.

    For the token endpoint. Stays planned until there is an answer with an ID Token. Without arguments it
    changes nothing.
    """

    claims: Mapping[str, Any] = field(factory=dict[str, Any], kw_only=True)
    """Claims that are added, or that replace the right ones."""
    without: tuple[str, ...] = field(default=(), kw_only=True)
    """Claims that are left out."""
    header: Mapping[str, Any] = field(factory=dict[str, Any], kw_only=True)
    """Header members that are added, or that replace the right ones; the signature is over the result."""
    alg: str | None = field(
        default=None, kw_only=True, validator=validators.optional(validators.in_(ASYMMETRIC))
    )
    """Sign with this algorithm and a published key for it, even if the client is registered for another
    one."""
    signature: Literal["right", "wrong_key", "bit_flipped", "none", "hmac_with_public_key"] = field(
        default="right", kw_only=True
    )
    """``"wrong_key"``: made with a key that is in no key set; ``"none"``: left out, ``alg`` is ``none``;
    ``"hmac_with_public_key"``: HS256 with the provider's public key in PEM as the secret."""
    token: str | None = field(default=None, kw_only=True, repr=False)
    """Send this in the place of the ID Token, as it is."""


@frozen
class IgnoreDpop:
    """The provider answers with a ``Bearer`` token although there was a good DPoP proof.

    For the token endpoint. Stays planned until there is an answer with tokens.
    """


@frozen
class OtherSubject:
    """The UserInfo answer is about another user (OpenID Connect Core 5.3.2).

    For the UserInfo endpoint. Stays planned until there is an answer with claims.
    """

    sub: str = "mallory"


Twist = BadIdToken | IgnoreDpop | OtherSubject
"""Faults that change an answer of success; each stays planned until there is one."""
Fault = Answer | DropBefore | DropAfter | Truncate | Delay | SlowDown | Busy | Twist

# --- faults of callbacks ---------------------------------------------------------------------------------


@frozen
class BeforeAcknowledgement:
    """The callback is sent before the answer to the authentication request.

    Stays planned until there is a request whose user is scripted to decide; the user then decides at once. A
    callback that another fault delays still comes later.
    """


@frozen
class Repeat:
    """The callback is sent more than once."""

    times: int = field(default=1, validator=validators.ge(1))
    """How many times more."""
    every: float = field(default=0.0, validator=validators.ge(0))
    """Seconds between them."""


@frozen
class Overtaken:
    """The callback is kept back until another one has been sent."""


Forgery = Literal[
    "wrong_token",
    "foreign_token",
    "no_token",
    "two_tokens",
    "foreign_auth_req_id",
    "unknown_auth_req_id",
    "numeric_auth_req_id",
    "other_mode",
    "error_and_tokens",
    "broken_json",
    "repeated_member",
    "not_utf8",
]
"""What is wrong with a forged callback.

``foreign_``: the value of another transaction, the latest one; the remaining forged values are made up.
``"other_mode"``: the callback of the other mode, a push instead of a ping or the reverse. ``"two_tokens"``:
the right token, in two ``Authorization`` headers. ``"error_and_tokens"``: both in one push.
"""


@frozen
class Forge:
    """A third party also sends a callback, ahead of the right one. All but one thing in it is right.

    A ``foreign_`` forgery stays planned until another transaction has a ``client_notification_token``.
    """

    what: Forgery


CallbackFault = BadIdToken | BeforeAcknowledgement | Delay | DropBefore | Forge | Overtaken | Repeat
"""What can go wrong with a callback. `BadIdToken` adds a push with a bad ID Token ahead of the right one."""
