"""Learns which connection a call of ``requests`` uses, for another thread to shut down, and when it sends."""

from __future__ import annotations

import functools
from typing import Any, TypeVar, cast

from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool

from ciba_adapters._cancellation import Exchange
from ciba_adapters.transport import request_leaves

__all__ = ["watched"]


class _WatchedPool(HTTPConnectionPool):
    """A pool that tells an exchange which connection it uses, and when the request is about to be written.

    urllib3 has no public way to learn that before the answer has begun. This module uses its private parts: a
    pool takes a connection by `_get_conn` and gives it back by `_put_conn`; a connection gets its socket, not
    yet with TLS, by `_new_conn`; and `http.client` writes the first octet of a request in `endheaders`.
    """

    __slots__ = ("connect_timeout", "exchange", "original")
    exchange: Exchange
    connect_timeout: float
    original: object

    def _get_conn(self, timeout: float | None = None) -> Any:
        self.exchange.go_on()
        # requests sets no limit on the wait for a place (`pool_block`).
        connection: Any = super()._get_conn(self.connect_timeout if timeout is None else timeout)
        try:
            self._watch(connection)
        except BaseException:
            super()._put_conn(connection)  # another call has its place now
            raise
        return connection

    def _put_conn(self, conn: Any) -> None:
        self.exchange.leave()
        if conn is not None:
            # Make the methods of its class visible again.
            own = cast("dict[str, Any]", vars(conn))
            own.pop("_new_conn", None)
            own.pop("endheaders", None)
        super()._put_conn(conn)

    def _watch(self, connection: Any) -> None:
        exchange, exchange.placed = self.exchange, True

        def connect() -> Any:
            del connection._new_conn  # noqa: SLF001  # its class's own is to be seen again
            sock = connection._new_conn()  # noqa: SLF001  # as said above
            exchange.use(sock)
            return sock

        def endheaders(*arguments: Any, **settings: Any) -> None:
            if connection.sock is None:
                connection.connect()
            exchange.begin()
            request_leaves()
            del connection.endheaders
            connection.endheaders(*arguments, **settings)

        if connection.is_closed:
            connection._new_conn = connect  # noqa: SLF001  # as said above
        else:
            exchange.use(connection.sock)
        connection.endheaders = endheaders


class _WatchedAdapter(HTTPAdapter):
    """An adapter whose pools are watched."""

    __slots__ = ("connect_timeout", "exchange", "original")
    exchange: Exchange
    connect_timeout: float
    original: object

    def get_connection_with_tls_context(self, *args: Any, **settings: Any) -> HTTPConnectionPool:
        pool = super().get_connection_with_tls_context(*args, **settings)
        return _view(_WatchedPool, pool, self.exchange, self.connect_timeout)


ViewT = TypeVar("ViewT", _WatchedAdapter, _WatchedPool)


def watched(adapter: BaseAdapter, exchange: Exchange, connect_timeout: float) -> HTTPAdapter | None:
    """Return a view of the adapter that reports to the exchange; ``None`` for an adapter of another kind."""
    if not isinstance(adapter, HTTPAdapter):
        return None
    return _view(_WatchedAdapter, adapter, exchange, connect_timeout)


def _view(kind: type[ViewT], original: object, exchange: Exchange, connect_timeout: float) -> ViewT:
    """Return an object that shares the original's attributes, and has the methods of `kind` before its own.

    So the caller's adapter and its pools stay as they are, for the other calls that use them meanwhile.
    """
    view: ViewT = object.__new__(_class(kind, type(original)))  # type: ignore[arg-type]  # mypy: classes cannot be hashed
    view.__dict__ = original.__dict__
    view.exchange = exchange
    view.connect_timeout = connect_timeout
    view.original = original  # a pool closes its connections when it is collected
    return view


@functools.cache
def _class(kind: type[Any], original: type) -> type[Any]:
    return type(kind.__name__, (kind, original), {})
