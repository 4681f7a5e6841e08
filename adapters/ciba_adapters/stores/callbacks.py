"""Keeps callbacks that come to another process than the waiting one, until the login goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ciba_core import AsyncStores, Notification, Stores, seal_callback, session_key_of
from ciba_core.callbacks.notification import ACCEPTED
from ciba_core.values.http import HttpResponse

__all__ = ["keep_callbacks", "keep_callbacks_async"]


def keep_callbacks(
    stores: Stores, *, store_options: Any = None
) -> Callable[[str, Notification], HttpResponse | None]:
    """Return a ``not_held`` for a `NotificationEndpoint`: it stores callbacks for logins that wait elsewhere.

    The callback is encrypted and stored with its login, and then answered 204; the login is due at once, for
    `advance` in any process. For a web server in several processes::

        NotificationEndpoint(routes=SqliteRoutes("logins.db"), not_held=keep_callbacks(stores))

    A callback is answered 503 if its login is not stored, or if it could not be stored itself: the provider
    may send it again.

    Args:
        stores: the stores of the logins; ``transactions`` is a `ciba_core.ClaimingStore`.
        store_options: handed to the store as it is.

    """
    transactions: Any = stores.transactions

    def keep(key: str, notification: Notification) -> HttpResponse | None:
        session_key = session_key_of(key)
        text = seal_callback(notification, stores.sealer, session_key)
        return ACCEPTED if transactions.deliver(session_key, text, store_options=store_options) else None

    return keep


def keep_callbacks_async(
    stores: AsyncStores, *, store_options: Any = None
) -> Callable[[str, Notification], Awaitable[HttpResponse | None]]:
    """As `keep_callbacks`, for a store whose methods are awaited."""
    transactions: Any = stores.transactions

    async def keep(key: str, notification: Notification) -> HttpResponse | None:
        session_key = session_key_of(key)
        text = seal_callback(notification, stores.sealer, session_key)
        kept = await transactions.deliver(session_key, text, store_options=store_options)
        return ACCEPTED if kept else None

    return keep
