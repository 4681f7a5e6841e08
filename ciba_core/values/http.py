"""HTTP requests and responses as values: what the core asks for and what it is given.

The core never sends anything. A driver sends the `HttpRequest` that a step returned, exactly as it is, and
hands the answer back as an `HttpResponse`. Neither value shows its body, nor any header value, in its
``repr``: both carry credentials and tokens.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Final, cast

from attrs import field, frozen

from ciba_core.values.secret import NotPickled

__all__ = ["Delivery", "HttpRequest", "HttpResponse", "Purpose"]

Headers = tuple[tuple[str, str], ...]

FORM_HEADERS: Final[Headers] = (
    ("Accept", "application/json"),
    ("Content-Type", "application/x-www-form-urlencoded"),
)
_NAME: Final = itemgetter(0)
"""Of a header field, which is a pair."""


class Purpose(enum.Enum):
    """Why a request is sent; for logs, metrics and routing, never for protocol decisions."""

    METADATA = "provider metadata"
    KEYS = "key set"
    AUTHENTICATION = "backchannel authentication"
    TOKEN = "token"  # noqa: S105  # the name of an endpoint, not a credential
    REFRESH = "refresh"
    REVOCATION = "revocation"
    USERINFO = "UserInfo"


class Delivery(enum.Enum):
    """What is known of a request that brought no answer."""

    NOT_SENT = "not sent"
    """No octet of the request reached the provider: the connection could not be made."""
    UNKNOWN = "unknown"
    """The provider may have acted on the request; its answer was lost, cut short or too late."""


def _to_headers(value: Mapping[str, str] | Iterable[tuple[str, str]]) -> Headers:
    return tuple(cast("Mapping[str, str]", value).items() if isinstance(value, Mapping) else value)


@frozen(repr=False, weakref_slot=False)
class HttpRequest(NotPickled):
    """One HTTP request for the driver to send as it stands.

    The driver sends exactly these headers and octets (plus what its stack needs for the message itself, such
    as ``Host`` and ``Content-Length``), verifies the server's certificate, follows no redirect, and does not
    repeat the request by itself.
    """

    id: int
    """Number of the request within its transaction; goes back with the answer."""
    purpose: Purpose
    method: str
    """``"GET"`` or ``"POST"``."""
    url: str
    """Absolute URL, ``https`` unless plain HTTP to a loopback address was allowed explicitly."""
    headers: Headers
    body: bytes
    """Octets of the body; empty for GET."""
    connect_timeout: float
    """Seconds to get the connection: the wait for a place in a pool, name resolution, TCP and TLS. Part of
    `timeout`."""
    timeout: float
    """Seconds for the whole exchange, to the last octet of the answer. More than 30 for a poll, since the
    provider may hold the answer back (CIBA Core 10.1, long polling)."""
    response_limit: int
    """Octets of body the core accepts. The driver stops reading after one more than this and hands in what
    it has; the core then knows that the answer was too large."""

    def __repr__(self) -> str:
        return f"<HttpRequest {self.id} {self.purpose.value}: {self.method}, {len(self.body)} octets>"


@frozen(repr=False, weakref_slot=False)
class HttpResponse(NotPickled):
    """The answer to an `HttpRequest`, final status only (no 1xx)."""

    status: int
    headers: Headers = field(converter=_to_headers)
    """Name and value pairs in order; a mapping is accepted too."""
    body: bytes
    """The body, content coding removed; at most `HttpRequest.response_limit` octets plus one."""

    @property
    def is_success(self) -> bool:
        """Whether the status says that it went well, and that the body is what was asked for.

        204 and 205 have no body, 206 has a part of one (RFC 9110 15.3).
        """
        return 200 <= self.status <= 203

    def header(self, name: str) -> str | None:
        """Return the first value of a header, its name compared without case (RFC 9110 5.1), or ``None``."""
        names, wanted = [*map(str.lower, map(_NAME, self.headers))], name.lower()
        return self.headers[names.index(wanted)][1] if wanted in names else None

    @property
    def media_type(self) -> str:
        """The ``Content-Type`` without parameters and in lower case; empty when there is none."""
        return (self.header("Content-Type") or "").partition(";")[0].strip().lower()

    def __repr__(self) -> str:
        return f"<HttpResponse {self.status}, {len(self.body)} octets>"
