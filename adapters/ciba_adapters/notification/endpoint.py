"""Brings callbacks to the transactions that wait for them, across threads and event loops.

The web server's side takes a callback and returns the answer to it. The client's loop takes notifications and
reports their outcome::

    web server: check_head, Admission.answer ──►  Held  ◄── client: hold, wait, update, close

A ping is answered at once: `step` gives the answer for the transaction's present value. Then the ping is
queued for the loop, which may have a poll under way. A push waits for the loop: it is accepted only after the
tokens have passed their checks, and after the caller of the loop had the chance to store them.
"""

# The classes of this module work on one table of transactions.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import heapq
import inspect
import logging
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from ciba_adapters.notification._waiting import Bell, Pause
from ciba_core import Step, Transaction, step
from ciba_core.callbacks.routing import Routes, RoutingStore
from ciba_core.errors import LocalProtocolError
from ciba_core.notification import (
    BODY_LIMIT,
    UNKNOWN_TOKEN,
    Notification,
    NotificationRejected,
    Rejection,
    check_head,
    read_body,
    token_hash,
)
from ciba_core.provider.shared import NOTHING_SHARED, Shared
from ciba_core.transaction.inputs import NotificationReceived
from ciba_core.values.http import HttpResponse

if TYPE_CHECKING:
    from ciba_adapters.transport import Clock

__all__ = ["Admission", "Held", "NotHeld", "NotificationEndpoint", "Reply"]

NotHeld = Callable[[str, Notification], HttpResponse | Awaitable[HttpResponse | None] | None]
"""Takes the key of a transaction and the notification for it, and returns the answer, or an awaitable of it;
``None`` if it does not know the transaction either."""

_log: Final = logging.getLogger(__name__)
_UNAVAILABLE: Final = HttpResponse(503, (), b"")
_LENGTHS: Final = {"transfer-encoding", "content-length"}
"""RFC 9112 6.1."""
_QUEUE: Final = 8
"""Most notifications that a transaction keeps while its loop is busy. A provider sends one."""
_UNACKNOWLEDGED: Final = 600.0
"""Seconds that a route stays for a transaction whose expiry is not known yet: its authentication request is
under way, or being signed."""


class Reply:
    """The answer to a callback: there already, or still to come from the transaction's loop."""

    def __init__(self, response: HttpResponse | None = None) -> None:
        self._response = response
        self._bell = Bell()

    @property
    def response(self) -> HttpResponse | None:
        """The answer, once it is there."""
        return self._response

    def wait(self, seconds: float) -> HttpResponse:
        """Block the thread until the answer is there; return 503 if it is not there after so many seconds."""
        if self._response is None:
            self._bell.wait(seconds, self._is_there)
        return self._response or _UNAVAILABLE

    async def wait_async(self, seconds: float) -> HttpResponse:
        """Like `wait`, for a task under asyncio or trio."""
        if self._response is None:
            await self._bell.wait_async(seconds, self._is_there)
        return self._response or _UNAVAILABLE

    def give(self, response: HttpResponse) -> None:
        """Answer, unless that was done already."""
        if self._response is None:
            self._response = response
            self._bell.ring()

    def _is_there(self) -> bool:
        return self._response is not None


@frozen(eq=False)
class _Callback:
    notification: Notification
    reply: Reply
    octets: int


class NotificationEndpoint:
    """The client notification endpoint of any number of clients and transactions (CIBA Core 9).

    Hand it to the clients, and to the code that receives callbacks: see `ciba_adapters.notification`. Safe to
    use from any thread and any event loop.

    Args:
        routes: from token hashes to keys, by default in memory. With a store that other processes share, a
            callback can come to any of them. Its methods run in the thread or event loop that receives the
            callback: a slow method delays everything else there.
        not_held: called for callbacks to transactions that no loop of this process waits for. Restore the
            transaction from its snapshot, feed the notification to `ciba_core.step`, store the new
            transaction, and return `Step.answer`. Without `not_held`, or if it returns ``None``, the answer
            is 503. It may be ``async`` if the web server is.
        on_rejected: told of callbacks that were turned away before they came to a transaction. Callbacks that
            a transaction turned away are among its own events.
        answer_timeout: seconds that a push waits for the loop of its transaction; then the answer is 503. The
            tokens are not lost: the loop still gets them. (A push also waits for the acknowledgement: if a
            provider pushes before it acknowledges, and waits for the answer, it gets 503 after that time.)
        grace: seconds for which callbacks are accepted, and ignored, after the end of a transaction.
        body_limit: octets of a callback's body, at most.
        queue_limit: octets of bodies, at most, that wait for the loops of all transactions together;
            callbacks beyond it are answered with 503.
        clock: virtual time, for tests: the clock of the clients.

    """

    def __init__(
        self,
        *,
        routes: RoutingStore | None = None,
        not_held: NotHeld | None = None,
        on_rejected: Callable[[NotificationRejected], object] | None = None,
        answer_timeout: float = 10.0,
        grace: float = 60.0,
        body_limit: int = BODY_LIMIT,
        queue_limit: int = 8 << 20,
        clock: Clock | None = None,
    ) -> None:
        self.answer_timeout: Final = answer_timeout
        """Seconds after which a callback is answered at the latest."""
        self.body_limit: Final = body_limit
        """Octets of a callback's body, at most. A web server stops reading after one more than this."""
        self._routes = Routes() if routes is None else routes
        self._not_held = not_held
        self._on_rejected = on_rejected
        self._grace = grace
        self._queue_limit = queue_limit
        self._time = time.time if clock is None else clock.time
        self._queued = 0
        self._held: dict[str, Held] = {}
        # Until when, and which: a heap.
        self._leaving: list[tuple[float, str]] = []
        # Reentrant, as the lock of `Held`: the garbage collector can close an abandoned loop at any point in
        # here.
        self._lock = threading.RLock()

    def check_head(self, method: str, headers: Iterable[tuple[str, str]]) -> Admission | HttpResponse:
        """Judge a callback by its method and header, before its body is read.

        Args:
            method: as it came.
            headers: name and value pairs as they came; names in any case, values decoded as Latin-1.

        Returns:
            The `Admission` that takes the body; or the answer that turns the callback away without its body.

        """
        headers = [*headers]
        if {name.lower() for name, _ in headers} >= _LENGTHS:
            return HttpResponse(400, (), b"")  # two lengths: another server may see other requests in it
        head = check_head(method, headers, body_limit=self.body_limit)
        if isinstance(head, Rejection):
            return self._turn_away(head)
        key = self._routes.find(head, self._time())
        return self._turn_away(UNKNOWN_TOKEN) if key is None else Admission(self, key)

    async def answer(self, method: str, headers: Iterable[tuple[str, str]], body: bytes) -> HttpResponse:
        """Answer a callback whose body was read, under asyncio or trio.

        For a web framework that reads bodies by itself. If the body is longer than `body_limit`, one octet
        more than the limit is enough.
        """
        admitted = self.check_head(method, headers)
        return admitted if isinstance(admitted, HttpResponse) else await admitted.answer(body)

    def answer_sync(self, method: str, headers: Iterable[tuple[str, str]], body: bytes) -> HttpResponse:
        """Like `answer`; blocks the thread.

        Raises:
            LocalProtocolError: `not_held` is asynchronous.

        """
        admitted = self.check_head(method, headers)
        return admitted if isinstance(admitted, HttpResponse) else admitted.answer_sync(body)

    def hold(
        self, transaction: Transaction, *, shared: Shared = NOTHING_SHARED, key: str | None = None
    ) -> Held:
        """Take callbacks for a transaction from now on: before its authentication request is sent.

        Args:
            transaction: one that was begun, in ping or push mode. If it was held before, this takes over the
                notifications that were left for it.
            shared: what is known of the provider; see `ciba_core.step`.
            key: the application's name for the transaction, for `not_held`; by default the hash of its
                ``client_notification_token``.

        Raises:
            LocalProtocolError: the transaction has no ``client_notification_token``.

        """
        token = transaction.client_notification_token
        if token is None:
            raise LocalProtocolError(
                "a transaction in poll mode, or one that was not begun, gets no callbacks"
            )
        hashed = token_hash(token)
        held = Held(self, Step(transaction, shared=shared), token_hash=hashed, key=key or hashed)
        self._enter(held)
        return held

    # --- for `Admission` and `Held` ---------------------------------------------------------------------

    def _turn_away(self, rejection: Rejection) -> HttpResponse:
        """Tell the embedder, and return the answer."""
        if self._on_rejected is not None:
            self._on_rejected(rejection.event)
        return rejection.answer

    def _reserve(self, octets: int) -> bool:
        """Reserve octets for a body that waits; return whether that many are left."""
        with self._lock:
            fits = self._queued + octets <= self._queue_limit
            self._queued += octets if fits else 0
        return fits

    def _release(self, octets: int) -> None:
        """Give reserved octets back."""
        with self._lock:
            self._queued -= octets

    def _find(self, key: str) -> Held | None:
        """Return the transaction; ``None`` if it is not held here, or its loop has left it to `not_held`."""
        held = self._held.get(key)
        return None if held is None or (held.is_left and self._not_held is not None) else held

    def _ask(
        self, key: str, notification: Notification
    ) -> HttpResponse | Awaitable[HttpResponse | None] | None:
        """Ask the embedder about a transaction that is not held here."""
        return None if self._not_held is None else self._not_held(key, notification)

    def _enter(self, held: Held) -> None:
        """Take callbacks for a transaction."""
        self._lay_route(held)
        with self._lock:
            self._sweep()
            former = self._held.get(held.key)
            self._held[held.key] = held
        if former is not None:
            former.hand_over(held)

    def _leave(self, held: Held) -> None:
        """Keep a transaction whose loop has ended for as long as its route is there."""
        with self._lock:
            self._sweep()
            heapq.heappush(self._leaving, (held.forget_at, held.key))
        self._lengthen_route(held)

    def _lay_route(self, held: Held) -> None:
        """Lay the route to a transaction."""
        self._routes.add(held.token_hash, held.key, forget_at=held.forget_at, now=self._time())

    def _lengthen_route(self, held: Held) -> None:
        """Extend the route; a failure of the store must not cost the transaction its tokens."""
        try:
            self._lay_route(held)
        except Exception:  # noqa: BLE001  # whatever the embedder's store raises
            _log.exception("a route for callbacks could not be laid for longer")

    def _sweep(self) -> None:
        now = self._time()
        while self._leaving and self._leaving[0][0] <= now:
            _, key = heapq.heappop(self._leaving)
            held = self._held.get(key)
            if held is not None and held.is_closed and held.forget_at <= now:
                del self._held[key]
                held.discard()


@frozen(eq=False, repr=False)
class Admission:
    """A callback whose head is in order and whose token is known: have its body answered, once."""

    _endpoint: NotificationEndpoint
    key: str
    """The application's name for the transaction."""

    async def answer(self, body: bytes) -> HttpResponse:
        """Answer the callback, under asyncio or trio.

        If the body is longer than the endpoint's `body_limit`, one octet more than the limit is enough.
        """
        taken = self._take(body)
        if isinstance(taken, Reply):
            return await taken.wait_async(self._endpoint.answer_timeout)
        found = self._endpoint._ask(self.key, taken)
        return (await found if inspect.isawaitable(found) else found) or _UNAVAILABLE

    def answer_sync(self, body: bytes) -> HttpResponse:
        """Like `answer`; blocks the thread.

        Raises:
            LocalProtocolError: `not_held` is asynchronous.

        """
        return self.submit(body).wait(self._endpoint.answer_timeout)

    def submit(self, body: bytes) -> Reply:
        """Hand the callback over without waiting for its answer; raises as `answer_sync` does."""
        taken = self._take(body)
        if isinstance(taken, Reply):
            return taken
        found = self._endpoint._ask(self.key, taken)
        if inspect.isawaitable(found):
            if inspect.iscoroutine(found):
                found.close()
            raise LocalProtocolError("not_held: a server without event loop needs one that is not async")
        return Reply(found or _UNAVAILABLE)

    def _take(self, body: bytes) -> Reply | Notification:
        """Hand the callback to its transaction; return the notification if that is held elsewhere."""
        read = read_body(body, body_limit=self._endpoint.body_limit)
        if isinstance(read, Rejection):
            return Reply(self._endpoint._turn_away(read))
        held = self._endpoint._find(self.key)
        return read if held is None else held.deliver(read, len(body))


class Held:
    """A transaction that takes callbacks, for its one loop, in a thread or a task.

    The loop waits by `wait` or `wait_async` instead of waiting for the deadline alone, feeds a
    `NotificationReceived`, and calls `update` for each step: after the step was stored, before the loop acts
    on it.
    """

    def __init__(self, endpoint: NotificationEndpoint, current: Step, *, token_hash: str, key: str) -> None:
        self._endpoint = endpoint
        self._current = current
        self._lock = threading.RLock()
        self._bell = Bell()
        self._queue: deque[_Callback] = deque()
        self._fed: _Callback | None = None
        self._open: Reply | None = None
        self._successor: Held | None = None
        self.token_hash = token_hash
        """The token hash that the route starts from."""
        self.key = key
        """The key that the route leads to."""
        self.forget_at = endpoint._time() + _UNACKNOWLEDGED
        """POSIX instant until which callbacks are taken."""
        self.is_closed = False
        """Whether the loop has ended."""
        self._lengthen(current.transaction)

    @property
    def is_left(self) -> bool:
        """Whether the loop has ended before the transaction did."""
        return self.is_closed and not self._current.transaction.is_finished

    def ready(self) -> bool:
        """Whether a notification is there to be taken."""
        return bool(self._queue)

    def listen(self, called: Callable[[], None]) -> None:
        """Have a function called when a notification has come, in the thread that it came in.

        For a loop of many transactions, which cannot wait for each of them.
        """
        self._bell.listen(called)
        if self.ready():
            called()

    def take(self) -> Notification | None:
        """Take the next notification, if one is there: feed it, and call `update` with the step."""
        with self._lock:
            self._fed = self._queue.popleft() if self._queue else None
            if self._fed is not None:
                self._endpoint._release(self._fed.octets)
            return None if self._fed is None else self._fed.notification

    def wait(self, seconds: float, pause: Pause | None = None) -> Notification | None:
        """Block the thread until a notification comes, and take it; ``None`` after so many seconds.

        Args:
            seconds: how long to wait, at most.
            pause: can end the wait from elsewhere, such as a `Cancellation`.

        """
        self._bell.wait(seconds, self.ready, pause)
        return self.take()

    async def wait_async(self, seconds: float) -> Notification | None:
        """Like `wait`, for a task under asyncio or trio; the event loop can cancel it."""
        await self._bell.wait_async(seconds, self.ready)
        return self.take()

    def update(self, current: Step) -> None:
        """Note the transaction's new value, and answer the callback whose answer the step has."""
        with self._lock:
            self._current = current
            fed, self._fed = self._fed, None
            if fed is not None and current.answer is None:
                self._open = fed.reply
            elif current.answer is not None:
                # The answer is for the notification that was fed, or for one that was fed earlier and still
                # waits.
                waiting = fed.reply if fed is not None else self._open
                if waiting is not None:
                    waiting.give(current.answer)
            if self._open is not None and not current.transaction.owes_answer:
                # The callback has its answer, or the transaction has ended without it.
                self._open.give(_UNAVAILABLE)
                self._open = None
        if self._lengthen(current.transaction):
            self._endpoint._lengthen_route(self)

    def close(self) -> None:
        """End the loop. After the end of the transaction, callbacks are accepted for a while and ignored.

        Notifications for a transaction that has not ended are kept until it is held again.
        """
        with self._lock:
            if self.is_closed or self._successor is not None:
                return
            self.is_closed = True
            if self._open is not None:
                self._open.give(_UNAVAILABLE)
            if not self.is_left:
                for callback in self._queue:
                    callback.reply.give(self._judge(callback.notification) or _UNAVAILABLE)
                self.discard()
                self.forget_at = self._endpoint._time() + self._endpoint._grace
        self._endpoint._leave(self)

    def discard(self) -> None:
        """Forget the notifications that the loop has not taken."""
        with self._lock:
            self._endpoint._release(sum(callback.octets for callback in self._queue))
            self._queue.clear()

    def deliver(self, notification: Notification, octets: int) -> Reply:
        """Take a callback, whose body had so many octets, from the web server's side."""
        with self._lock:
            if self._successor is None:
                reply = self._receive(notification, octets)
            else:
                return self._successor.deliver(notification, octets)
        self._bell.ring()
        return reply

    def hand_over(self, successor: Held) -> None:
        """Leave everything to another loop of the same transaction."""
        with self._lock:
            self._successor = successor
            fed = [] if self._fed is None else [evolve(self._fed, octets=0)]  # the loop gave its octets back
            callbacks = [*fed, *self._queue]
            self._queue.clear()
            reply = self._open
        successor.succeed(callbacks, reply)

    def succeed(self, callbacks: list[_Callback], reply: Reply | None) -> None:
        """Take over the notifications that another loop has left."""
        with self._lock:
            self._queue.extendleft(reversed(callbacks))
            self._open = reply

    def _receive(self, notification: Notification, octets: int) -> Reply:
        transaction = self._current.transaction
        if transaction.is_finished:
            return Reply(self._judge(notification))
        # The loop answers only a push to a client in push mode.
        mode = transaction.client.backchannel_token_delivery_mode
        waits = mode == "push" and not notification.is_ping
        reply = Reply(None if waits else self._judge(notification))
        if len(self._queue) >= _QUEUE:
            reply.give(_UNAVAILABLE)
        elif self._endpoint._reserve(octets):
            self._queue.append(_Callback(notification, reply, octets))
        else:
            return Reply(_UNAVAILABLE)
        return reply

    def _judge(self, notification: Notification) -> HttpResponse | None:
        current = self._current
        received = NotificationReceived(notification)
        return step(current.transaction, received, self._endpoint._time(), current.shared).answer

    def _lengthen(self, transaction: Transaction) -> bool:
        """Take callbacks for as long as the transaction may last; return whether that has grown."""
        until = transaction.callbacks_until
        if until is None:
            return False
        before, self.forget_at = self.forget_at, max(self.forget_at, until + self._endpoint._grace)
        return self.forget_at > before
