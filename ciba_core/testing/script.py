"""The script of a simulation: who is registered, how users behave, what goes wrong on the way."""

from __future__ import annotations

from typing import Final

from attrs import field, frozen, validators

from .wire import Headers

__all__ = [
    "CIBA_GRANT",
    "Answer",
    "Approve",
    "Busy",
    "Delay",
    "Deny",
    "DropAfter",
    "DropBefore",
    "Fault",
    "Ignore",
    "Refuse",
    "SimulatedClient",
    "SlowDown",
    "Truncate",
    "User",
]

CIBA_GRANT: Final = "urn:openid:params:grant-type:ciba"

AUTHENTICATION_METHODS: Final = ("client_secret_basic", "client_secret_post", "none")


@frozen
class SimulatedClient:
    """A client registered at the simulated provider, by the names of OpenID Connect registration.

    Raises:
        ValueError: the method is unknown, or does not go with the presence of a secret.

    """

    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    token_endpoint_auth_method: str = field(
        default="client_secret_basic", validator=validators.in_(AUTHENTICATION_METHODS), kw_only=True
    )
    grant_types: tuple[str, ...] = field(default=(CIBA_GRANT,), kw_only=True)
    """Without the CIBA grant the client is refused with ``unauthorized_client``."""

    def __attrs_post_init__(self) -> None:
        if (self.client_secret is None) != (self.token_endpoint_auth_method == "none"):  # noqa: S105  # a method's name
            raise ValueError("client_secret: needed by every token_endpoint_auth_method but none")


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
    """Number of polls to answer with a pending error first."""
    after: float = field(default=0.0, validator=validators.ge(0))
    """Seconds from the authentication request."""


@frozen(kw_only=True)
class Approve(_Decider):
    """A user who approves, once both triggers have been reached."""


@frozen(kw_only=True)
class Deny(_Decider):
    """A user who denies, once both triggers have been reached."""


@frozen
class Refuse:
    """A user for whom every authentication request is refused with an error of CIBA Core 13.

    For the errors that no request can cause by itself, such as ``access_denied`` (the provider has decided
    without asking the user) and ``expired_login_hint_token``.
    """

    error: str = "access_denied"


User = Approve | Deny | Ignore | Refuse


# --- faults ----------------------------------------------------------------------------------------------


@frozen(repr=False)
class Answer:
    """Something else answers in the provider's place; the provider does not see the request."""

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
    """Whether the connection is reset, or closed as if all had been said."""


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


Fault = Answer | DropBefore | DropAfter | Truncate | Delay | SlowDown | Busy
