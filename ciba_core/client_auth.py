"""How the client authenticates to the provider (CIBA Core 7.1 and 10.1, OpenID Connect Core 9).

One and the same method serves the backchannel authentication endpoint and the token endpoint. A method is a
value with one function, from a `CredentialsContext` to the `Credentials` that go into a request.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Protocol

from attrs import field, frozen

from ciba_core import _check, _form
from ciba_core.secret import Secret

__all__ = [
    "ClientAuthentication",
    "ClientSecretBasic",
    "ClientSecretPost",
    "Credentials",
    "CredentialsContext",
    "NoClientAuthentication",
]


@frozen(weakref_slot=False)
class CredentialsContext:
    """What a method may need to know of the request that it authenticates."""

    client_id: str
    issuer: str
    endpoint_url: str
    """URL of the endpoint that is about to be called."""
    now: float
    """POSIX seconds."""
    entropy: Callable[[int], bytes] = field(repr=False)
    """Returns that many random octets."""


@frozen(weakref_slot=False)
class Credentials:
    """Header fields and form parameters that authenticate one request."""

    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    parameters: tuple[tuple[str, str], ...] = field(default=(), repr=False)


class ClientAuthentication(Protocol):
    """A client authentication method. Implementations are frozen and do no I/O."""

    @property
    def method(self) -> str:
        """The registered name, as in ``token_endpoint_auth_method``."""
        ...

    def credentials(self, context: CredentialsContext, /) -> Credentials:
        """Return what to put into one request; called anew for every request, every poll included."""
        ...


@frozen
class ClientSecretBasic:
    """``client_secret_basic``: HTTP Basic with form-encoded identifier and secret (RFC 6749 2.3.1).

    Raises:
        TypeError, ValueError: the secret is not a non-empty string without control characters.

    """

    client_secret: Secret = field(
        converter=_check.secret, validator=[_check.a(str, Secret), _check.secret_text]
    )
    raw: bool = field(default=False, kw_only=True, validator=_check.flag)
    """Leave out the form-encoding, for providers that do not decode it. It makes a difference only for
    identifiers and secrets with other characters than letters, digits and ``*-._``."""

    method = "client_secret_basic"

    def credentials(self, context: CredentialsContext, /) -> Credentials:
        """Return the ``Authorization`` header."""
        user, password = context.client_id, self.client_secret.reveal()
        if not self.raw:
            user, password = _form.encode(user), _form.encode(password)
        token = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
        return Credentials(headers=(("Authorization", f"Basic {token}"),))


@frozen
class ClientSecretPost:
    """``client_secret_post``: identifier and secret in the form (RFC 6749 2.3.1, which advises against it).

    Raises:
        TypeError, ValueError: the secret is not a non-empty string without control characters.

    """

    client_secret: Secret = field(
        converter=_check.secret, validator=[_check.a(str, Secret), _check.secret_text]
    )

    method = "client_secret_post"

    def credentials(self, context: CredentialsContext, /) -> Credentials:
        """Return ``client_id`` and ``client_secret``."""
        return Credentials(
            parameters=(("client_id", context.client_id), ("client_secret", self.client_secret.reveal()))
        )


@frozen
class NoClientAuthentication:
    """``none``: only the client identifier is sent.

    CIBA demands client authentication (Core 7.1); this is for development against providers that do not.
    """

    method = "none"

    def credentials(self, context: CredentialsContext, /) -> Credentials:
        """Return ``client_id``."""
        return Credentials(parameters=(("client_id", context.client_id),))
