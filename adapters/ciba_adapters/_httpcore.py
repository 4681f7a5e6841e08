"""Looks up private state of httpcore for the transports of httpx and httpx2; no public API has it.

httpcore does not tell which kept connection a request uses. This module uses: a client's
`_transport_for_url`, the `_pool` of its transport, the `_requests` of a pool with the connection of each, the
`_connection` inside of a connection, and of the innermost one, for HTTP/1.1, `_h11_state` and
`_network_stream`. Where one of these is missing, as in a transport of the caller's own, the answer is "not
known".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ciba_adapters._exchange import has_more

__all__ = ["Kept", "causes", "kept_connection", "pool_of", "was_refused"]

_REFUSED_STREAM = 7
"""RFC 9113 7."""


class Kept:
    """A kept connection of HTTP/1.1 that is about to be used again."""

    def __init__(self, connection: Any) -> None:
        self._h11 = connection._h11_state  # noqa: SLF001  # as said above
        self.stream = connection._network_stream  # noqa: SLF001  # as said above

    @property
    def has_something_to_read(self) -> bool:
        """Whether its end, or unrequested octets, have arrived."""
        if self._h11.trailing_data[0] or self.stream.get_extra_info("is_readable"):
            return True
        # Octets that anyio, or TLS, has read from the system's socket and not handed on.
        inner = getattr(self.stream, "_stream", None)
        protocol = getattr(getattr(inner, "transport_stream", inner), "_protocol", None)
        if getattr(protocol, "read_queue", None):
            return True
        return has_more(self.stream.get_extra_info("ssl_object"))


def pool_of(http: Any, url: Any) -> Any:
    """Return the connection pool by which a client reaches a URL; ``None`` if that is not known."""
    find = getattr(http, "_transport_for_url", None)
    return None if find is None else getattr(find(url), "_pool", None)


def kept_connection(pool: Any, request: Any) -> Kept | None:
    """Return the connection that a pool has assigned to a request of httpcore; ``None`` if not known."""
    for entry in getattr(pool, "_requests", ()):
        if entry.request is request or getattr(entry.request, "extensions", None) is request.extensions:
            return _innermost(entry.connection)
    return None


def _innermost(connection: Any) -> Kept | None:
    while connection is not None:
        if hasattr(connection, "_h11_state") and hasattr(connection, "_network_stream"):
            return Kept(connection)
        connection = getattr(connection, "_connection", None)
    return None


def was_refused(error: BaseException, stream: int | None) -> bool:
    """Tell whether the server said that it did not process an HTTP/2 stream (RFC 9113 6.8, 8.7)."""
    for event in (argument for cause in causes(error) for argument in cause.args):
        match type(event).__name__:
            case "ConnectionTerminated":
                return stream is not None and (event.last_stream_id or 0) < stream
            case "StreamReset":
                return bool(event.error_code == _REFUSED_STREAM)
            case _:
                pass
    return False


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
