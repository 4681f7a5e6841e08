"""Header fields of the embedder's own: a gateway's subscription key, ``x-fapi-interaction-id`` and the like.

They go to the issuer's host alone, unless another one is named: what a gateway in front of the provider wants
is no business of the network that hosts its key set.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, cast
from urllib.parse import urlsplit

from attrs import field, frozen

from ciba_core.values import check
from ciba_core.values.errors import LocalProtocolError
from ciba_core.values.http import Headers, Purpose
from ciba_core.values.json import FrozenMapping, is_array_of
from ciba_core.values.secret import Secret

__all__ = ["ExtraHeaders", "HeaderContext", "HeaderFields", "host_of", "own_headers"]

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?")
_HOST: Final = re.compile(r"(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]+)?")
_FORBIDDEN: Final = frozenset(
    {
        "authorization", "dpop", "host", "accept", "accept-encoding", "connection", "cookie", "keep-alive",
        "transfer-encoding", "te", "trailer", "upgrade", "expect", "range",
    }
)  # fmt: skip
_FORBIDDEN_BEGINNINGS: Final = ("content-", "proxy-", "if-")


@frozen(weakref_slot=False)
class HeaderContext:
    """The HTTP request that a function is to return header fields for."""

    purpose: Purpose
    url: str
    now: float
    """POSIX seconds."""
    entropy: Callable[[int], bytes] = field(repr=False)
    """`ClientConfig.entropy`: returns that many random octets."""


HeaderFields = Mapping[str, Secret | str]
"""Header fields by their names; no value shows in a ``repr``."""
ExtraHeaders = HeaderFields | Callable[[HeaderContext], HeaderFields]
"""Header fields, or a function that returns them, which runs once for each HTTP request."""


def _problem(fields: Any) -> tuple[type[Exception], str] | None:
    if not isinstance(fields, Mapping):
        return TypeError, "header fields must be a mapping"
    seen: set[str] = set()
    given = cast("Mapping[object, object]", fields)
    for name, value in given.items():
        text = value.reveal() if isinstance(value, Secret) else value
        if not isinstance(name, str) or not isinstance(text, str):
            return TypeError, "names must be str, and values str or Secret"
        lower = name.lower()
        if not _NAME.fullmatch(name):
            return ValueError, "a name is none of a header field (RFC 9110 5.1)"
        if lower in _FORBIDDEN or lower.startswith(_FORBIDDEN_BEGINNINGS):
            return ValueError, f"{name} belongs to the protocol, or to HTTP itself"
        if lower in seen:
            return ValueError, f"{name} is there twice; case does not tell names apart"
        if not _VALUE.fullmatch(text):
            return ValueError, (
                f"the value of {name} must be printable ASCII, without spaces around it (RFC 9110 5.5)"
            )
        seen.add(lower)
    return None


def to_fields(value: HeaderFields) -> HeaderFields:
    """Take a copy whose values do not show; what is no mapping of texts is left to the validator."""
    given: Any = value
    if not isinstance(given, Mapping):
        return value
    return FrozenMapping({name: check.secret(text) for name, text in value.items()})


def to_headers(value: ExtraHeaders) -> ExtraHeaders:
    """As `to_fields`; a function stays what it is."""
    return value if callable(value) else to_fields(value)


def check_fields(_instance: Any, attribute: Any, value: Any) -> None:
    """Check header fields that are a mapping."""
    if callable(value):
        raise TypeError(f"{attribute.name} must be a mapping; a function goes into ClientConfig.headers")
    problem = _problem(value)
    if problem is not None:
        raise problem[0](f"{attribute.name}: {problem[1]}")


def check_headers(instance: Any, attribute: Any, value: Any) -> None:
    """As `check_fields`; a function is taken, too."""
    if not callable(value):
        check_fields(instance, attribute, value)


def check_hosts(_instance: Any, attribute: Any, value: Any) -> None:
    """Check names of hosts."""
    if not is_array_of(value, str):
        raise TypeError(f"{attribute.name} must be an array of strings")
    if not all(_HOST.fullmatch(host) for host in value):
        raise ValueError(f"{attribute.name} must be names of hosts in lower case, such as keys.example:8443")


def check_names(_instance: Any, attribute: Any, value: Any) -> None:
    """Check names of header fields."""
    if not is_array_of(value, str):
        raise TypeError(f"{attribute.name} must be an array of strings")
    if not all(_NAME.fullmatch(name) for name in value):
        raise ValueError(f"{attribute.name} must be names of header fields (RFC 9110 5.1)")


def host_of(url: str) -> str:
    """Return host and port of a valid URL, in lower case, without the port that is the default."""
    parts = urlsplit(url)
    return parts.netloc.lower().removesuffix(":443" if parts.scheme == "https" else ":80")


def own_headers(
    headers: ExtraHeaders,
    of_request: HeaderFields,
    context: HeaderContext,
    *,
    issuer: str,
    hosts: tuple[str, ...],
) -> Headers:
    """Return the header fields to add to an HTTP request.

    Args:
        headers: the client's.
        of_request: those of the authentication request, which go before the client's of the same name.
        context: the HTTP request.
        issuer: the provider's issuer identifier.
        hosts: to what other hosts they may go.

    Raises:
        LocalProtocolError: a function returned what is no header fields.

    """
    host = host_of(context.url)
    if host != host_of(issuer) and host not in hosts:
        return ()
    if callable(headers):
        made: Any = headers(context)
        problem = _problem(made)
        if problem is not None:
            raise LocalProtocolError(f"headers: of what the function returned, {problem[1]}")
        headers = cast("HeaderFields", made)
    fields = {name.lower(): (name, value) for name, value in (*headers.items(), *of_request.items())}
    return tuple(
        (name, value.reveal() if isinstance(value, Secret) else value) for name, value in fields.values()
    )
