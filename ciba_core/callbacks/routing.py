"""From a callback to the transaction that it is for (CIBA Core 10.2, 10.3.1).

A route leads from the hash of a ``client_notification_token`` to whatever name the application has for the
transaction. It is laid before the authentication request is sent, since a callback can overtake the
acknowledgement, and stays for a while after the end, so that a repeated callback is told "yes, thank you".

Where callbacks can reach another process than the one that waits, `RoutingStore` is implemented over
something that all processes see, and the transaction behind the name is restored from its snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from attrs import frozen

from ciba_core.callbacks.notification import (
    BODY_LIMIT,
    UNKNOWN_TOKEN,
    Notification,
    NotificationRejected,
    Rejection,
    check_head,
    read_body,
)
from ciba_core.values.http import HttpResponse

__all__ = ["Received", "Routes", "RoutingStore", "receive"]


class RoutingStore(Protocol):
    """Where routes are kept. A store that shares them between processes keeps the hashes and no tokens."""

    def add(self, token_hash: str, key: str, *, forget_at: float, now: float) -> None:
        """Lay a route, or replace it.

        Args:
            token_hash: see `ciba_core.token_hash`.
            key: the application's name for the transaction.
            forget_at: POSIX instant after which the route need not be kept.
            now: POSIX seconds.

        """
        ...

    def find(self, token_hash: str, now: float) -> str | None:
        """Return the name of the transaction, or ``None`` when no route is known, or no longer."""
        ...


class Routes:
    """Routes in the memory of one process."""

    def __init__(self) -> None:
        self._routes: dict[str, tuple[str, float]] = {}
        self._sweep_at = _SWEEP

    def add(self, token_hash: str, key: str, *, forget_at: float, now: float) -> None:
        """Lay a route, or replace it; see `RoutingStore`."""
        if len(self._routes) >= self._sweep_at:
            # Routes that are over go when their number may have doubled: a constant cost for each.
            for known, (_, instant) in tuple(self._routes.items()):
                if instant <= now:
                    self._routes.pop(known, None)
            self._sweep_at = 2 * len(self._routes) + _SWEEP
        self._routes[token_hash] = key, forget_at

    def find(self, token_hash: str, now: float) -> str | None:
        """Return the name of the transaction; see `RoutingStore`."""
        key, forget_at = self._routes.get(token_hash, (None, now))
        return key if forget_at > now else None

    def __len__(self) -> int:
        return len(self._routes)


_SWEEP: Final = 1024


@frozen(weakref_slot=False)
class Received:
    """What came of a request to the client notification endpoint.

    There is either an `answer`, or a `notification` for the transaction called `key`: hand it to `step`; the
    answer is then its `Step.answer`.
    """

    answer: HttpResponse | None = None
    key: str | None = None
    notification: Notification | None = None
    event: NotificationRejected | None = None
    """Why the request was turned away."""


def receive(
    method: str,
    headers: Iterable[tuple[str, str]],
    body: bytes,
    *,
    routes: RoutingStore,
    now: float,
    body_limit: int = BODY_LIMIT,
) -> Received:
    """Judge a request to the client notification endpoint, as far as that goes without the transaction.

    Args:
        method: as it came.
        headers: name and value pairs as they came.
        body: its octets; of a longer one than `body_limit`, one octet more is enough.
        routes: where to look for the transaction.
        now: POSIX seconds.
        body_limit: octets of the body, at most.

    """
    head = check_head(method, headers, body_limit=body_limit)
    if isinstance(head, Rejection):
        return Received(head.answer, event=head.event)
    key = routes.find(head, now)
    if key is None:
        return Received(UNKNOWN_TOKEN.answer, event=UNKNOWN_TOKEN.event)
    notification = read_body(body, body_limit=body_limit)
    if isinstance(notification, Rejection):
        return Received(notification.answer, event=notification.event)
    return Received(key=key, notification=notification)
