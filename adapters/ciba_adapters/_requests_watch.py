"""Which connection a call of ``requests`` uses, so that another thread can shut it down."""

from __future__ import annotations

import functools
from typing import Any, TypeVar

from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool

from ciba_adapters._cancellation import Exchange, current_exchange

__all__ = ["watched"]


class _WatchedPool(HTTPConnectionPool):
    """A pool that tells an exchange which connection it uses.

    urllib3 has no public way to learn that before the answer has begun. What is used of its inside: a pool
    takes a connection by `_get_conn` and gives it back by `_put_conn`; a connection gets its socket, not yet
    with TLS, by `_new_conn`.
    """

    __slots__ = ("exchange", "original")
    exchange: Exchange
    original: object

    def _get_conn(self, timeout: float | None = None) -> Any:
        self.exchange.go_on()
        connection: Any = super()._get_conn(timeout)

        def connect() -> Any:
            del connection._new_conn  # noqa: SLF001  # its class's own is to be seen again
            sock = connection._new_conn()  # noqa: SLF001  # as said above
            self.exchange.use(sock)
            return sock

        if connection.is_closed:
            connection._new_conn = connect  # noqa: SLF001  # as said above
        else:
            self.exchange.use(connection.sock)
        return connection

    def _put_conn(self, conn: Any) -> None:
        self.exchange.leave()
        super()._put_conn(conn)


class _WatchedAdapter(HTTPAdapter):
    """An adapter whose pools are watched."""

    __slots__ = ("exchange", "original")
    exchange: Exchange
    original: object

    def get_connection_with_tls_context(self, *args: Any, **settings: Any) -> HTTPConnectionPool:
        pool = super().get_connection_with_tls_context(*args, **settings)
        return _view(_WatchedPool, pool, self.exchange)


ViewT = TypeVar("ViewT", _WatchedAdapter, _WatchedPool)


def watched(adapter: BaseAdapter) -> BaseAdapter:
    """Return the adapter, or a view of it if the call can be cancelled."""
    exchange = current_exchange()
    if exchange is None or not isinstance(adapter, HTTPAdapter):
        return adapter
    return _view(_WatchedAdapter, adapter, exchange)


def _view(kind: type[ViewT], original: object, exchange: Exchange) -> ViewT:
    """Return an object that shares the original's attributes, and has the methods of `kind` before its own.

    So the caller's adapter and its pools stay as they are, for the other calls that use them meanwhile.
    """
    view: ViewT = object.__new__(_class(kind, type(original)))  # type: ignore[arg-type]  # mypy: classes cannot be hashed
    view.__dict__ = original.__dict__
    view.exchange = exchange
    view.original = original  # a pool closes its connections when it is collected
    return view


@functools.cache
def _class(kind: type[Any], original: type) -> type[Any]:
    return type(kind.__name__, (kind, original), {})
