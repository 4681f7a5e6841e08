"""The common part of the sync and the async pool: everything but sending requests and waiting.

One loop, in a task or in a thread, owns the `Schedule`. Each event elsewhere (a start, an answer, a callback,
a cancellation) is put into a queue as a function. A bell wakes the loop, which calls the function. So nothing
needs a lock, and any thread may start or cancel.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, assert_never

from attrs import frozen

from ciba_adapters._client import Client, Lane, lane_of, tokens_of
from ciba_adapters.notification._waiting import Bell, Pause
from ciba_core import (
    Action,
    AuthenticationRequest,
    Broken,
    Cancel,
    Ended,
    Handle,
    Input,
    Moved,
    NotificationReceived,
    ProviderLimits,
    Reply,
    RequestFailed,
    ResponseReceived,
    Schedule,
    Send,
    Sign,
    SignaturesMade,
    SigningFailed,
    Step,
    TokenResponse,
    Transaction,
)
from ciba_core.errors import LocalProtocolError
from ciba_core.events import Event
from ciba_core.values.http import Delivery

if TYPE_CHECKING:
    from ciba_adapters.notification import Held

__all__ = ["ClientT", "MemberBase", "MemberT", "PoolBase", "PoolClosed", "PoolRest"]

ClientT = TypeVar("ClientT", bound=Client[Any, Any, Any])
MemberT = TypeVar("MemberT", bound="MemberBase")

_LONG: Final = 86_400.0
"""Seconds after which a wait that only a bell ends begins anew."""
_Job = Callable[[float, float], "list[Action]"]
"""A function for the loop to call with the instants of the wall clock and of the monotonic clock."""


class PoolClosed(LocalProtocolError):
    """The pool is closed, or was closed before this authentication came to its end."""

    transaction: Transaction | None = None
    """The transaction as it was left, to be resumed elsewhere; ``None`` if its request was never sent."""


@frozen
class PoolRest:
    """The authentications that a pool had not finished when it was closed."""

    transactions: tuple[Transaction, ...] = ()
    """Transactions that were begun: store them, or hand them to `resume` of another pool or of a client."""
    requests: tuple[AuthenticationRequest, ...] = ()
    """Requests that were still in line: they were not sent."""


class MemberBase:
    """One authentication in a pool."""

    __slots__ = (
        "_error",
        "_events",
        "_pool",
        "bells",
        "client",
        "handle",
        "held",
        "is_acknowledged",
        "is_busy",
        "request",
        "transaction",
    )

    def __init__(self, pool: PoolBase[Any, Any], client: Client[Any, Any, Any], *, events: bool) -> None:
        self._pool = pool
        self.bells: list[Bell] | None = None
        self._events: deque[Event] | None = deque() if events else None
        self._error: Exception | None = None
        self.is_acknowledged = False
        self.is_busy = False
        self.client: Any = client  # of the kind that the pool has
        self.request: AuthenticationRequest | None = None
        """The request, until it is acknowledged."""
        self.handle: Handle | None = None
        self.held: Held | None = None
        self.transaction: Transaction | None = None
        """The end, once it has come."""

    @property
    def is_done(self) -> bool:
        """Whether it has come to its end, good or bad, or the pool was closed."""
        return self.transaction is not None or self._error is not None

    def cancel(self) -> None:
        """Stop asking; safe from any thread and any number of times.

        A request that is under way is brought to its end first. The result is `AuthenticationCancelled` then,
        unless the authentication came to another end before.
        """
        self._pool.post(lambda now, monotonic: self._pool.fed(self, Cancel(), now, monotonic))

    def end(self, transaction: Transaction | None, error: Exception | None) -> None:
        """Note the end, and wake all that wait for it."""
        self.transaction, self._error = transaction, error
        self.ring()

    def happened(self, events: tuple[Event, ...]) -> None:
        """Keep events, if they were asked for."""
        if self._events is not None:
            self._events.extend(events)
            self.ring()

    def ring(self) -> None:
        """Wake all that wait for something of this authentication."""
        for bell in [*(self.bells or ())]:
            bell.ring()

    def _outcome(self) -> TokenResponse:
        if self._error is not None:
            raise self._error
        assert self.transaction is not None  # noqa: S101  # asked at the end only; for the type checker
        return tokens_of(self.transaction)

    def _taken_events(self) -> deque[Event]:
        if self._events is None:
            raise LocalProtocolError("events: they were not asked for; start with events=True")
        return self._events

    def _has_news(self) -> bool:
        return bool(self._events) or self.is_done

    def _wait(self, until: Callable[[], bool], pause: Pause | None = None) -> None:
        with _Listening(self) as bell:
            bell.wait(_LONG, until, pause)

    async def _wait_async(self, until: Callable[[], bool]) -> None:
        with _Listening(self) as bell:
            await bell.wait_async(_LONG, until)


class _Listening:
    """A bell for one waiting call; a member can have several."""

    def __init__(self, member: MemberBase) -> None:
        self._member = member
        self._bell = Bell()

    def __enter__(self) -> Bell:
        if self._member.bells is None:
            self._member.bells = []
        self._member.bells.append(self._bell)
        return self._bell

    def __exit__(self, *_: object) -> None:
        bells = self._member.bells
        if bells is not None:
            bells.remove(self._bell)


class PoolBase(ABC, Generic[ClientT, MemberT]):
    """The common part of the sync and the async pool.

    Args:
        clients: the clients whose authentications the pool does; of one or several providers.
        limits: the most that is asked of each provider.
        limits_of: other limits for some providers, by issuer.
        start_limit: authentications whose request is not acknowledged yet, at most; `start` waits meanwhile.

    Raises:
        LocalProtocolError: there is no client, two have different clocks, or `start_limit` is not positive.

    """

    def __init__(
        self,
        *clients: ClientT,
        limits: ProviderLimits | None = None,
        limits_of: Mapping[str, ProviderLimits] | None = None,
        start_limit: int = 1000,
    ) -> None:
        if not clients:
            raise LocalProtocolError("clients: a pool needs at least one")
        if start_limit < 1:
            raise LocalProtocolError("start_limit must be at least 1")
        self._start_limit = start_limit
        self._lanes: dict[ClientT, Lane] = {client: lane_of(client) for client in clients}
        self._lane = self._lanes[clients[0]]
        if any(lane.clock is not self._lane.clock for lane in self._lanes.values()):
            raise LocalProtocolError("clients: those of one pool must have the same clock")
        self._schedule = Schedule(limits, limits_of=limits_of)
        self._members: dict[Handle, MemberT] = {}
        self._jobs: deque[_Job] = deque()
        self._bell = Bell()
        self._lock = threading.Lock()
        self._under_way = 0
        self._is_open = self._is_closing = self._is_closed = False
        self._left: list[Transaction] = []
        self._unsent: list[AuthenticationRequest] = []

    def __len__(self) -> int:
        """Return the number of authentications that have not ended."""
        return len(self._members)

    @property
    def rest(self) -> PoolRest:
        """The authentications that were not finished when the pool was closed."""
        return PoolRest(tuple(self._left), tuple(self._unsent))

    # --- what the two pools bring --------------------------------------------------------------------------

    @abstractmethod
    def _spawn_send(self, member: MemberT, action: Send) -> None:
        """Send a request on the side, and post the outcome by `_answered`."""

    @abstractmethod
    def _spawn_sign(self, member: MemberT, action: Sign, seconds: float | None) -> None:
        """Have a draft signed on the side, and post the outcome by `_answered`."""

    @abstractmethod
    def _release_start(self) -> None:
        """Let the next authentication start."""

    # --- from anywhere -------------------------------------------------------------------------------------

    def post(self, job: _Job) -> bool:
        """Have the loop call a function, and return whether there is a loop; safe from any thread."""
        with self._lock:
            if self._is_closed:
                return False
            self._jobs.append(job)
        self._bell.ring()
        return True

    def _post_or_raise(self, job: _Job) -> None:
        if not self.post(job):
            raise PoolClosed("pool: it is closed")

    def _check_open(self) -> None:
        if self._is_closing:
            raise PoolClosed("pool: it is closed")
        if not self._is_open:
            raise LocalProtocolError("pool: it is not open; use it within a with block")

    def _open_once(self) -> None:
        if self._is_open:
            raise LocalProtocolError("pool: it was opened already; make another one")
        self._is_open = True

    def _begin_to_close(self) -> None:
        if self._is_closing:
            raise PoolClosed("pool: it was closed already")
        self._check_open()
        self._is_closing = True
        self.post(_nothing)

    def _client(self, client: ClientT | None) -> ClientT:
        if client is None and len(self._lanes) == 1:
            (client,) = self._lanes
        if client is None:
            raise LocalProtocolError("client: the pool has several; say which one is to send the request")
        if client not in self._lanes:
            raise LocalProtocolError("client: it is not one of this pool's")
        return client

    def _client_of(self, transaction: Transaction) -> ClientT:
        of_provider = [
            client for client, lane in self._lanes.items() if lane.provider == transaction.provider
        ]
        if not of_provider:
            issuer = transaction.provider.issuer
            raise LocalProtocolError(f"transaction: no client of this pool has its provider, {issuer}")
        for client in of_provider:
            if self._lanes[client].client == transaction.client:
                return client
        name = transaction.client.client_id
        raise LocalProtocolError(f"transaction: its client, {name}, is not one of this pool's")

    # --- what the loop does --------------------------------------------------------------------------------

    def begin(self, member: MemberT, request: AuthenticationRequest) -> None:
        """Have a new authentication put in line."""
        member.request = request

        def job(_now: float, _monotonic: float) -> list[Action]:
            lane = self._lanes[member.client]
            transaction = Transaction(client=lane.client, provider=lane.provider)
            self._enter(member, self._schedule.begin(transaction, request))
            return []

        self._post_or_raise(job)

    def take_in(self, member: MemberT, transaction: Transaction) -> None:
        """Have a transaction go on."""
        member.is_acknowledged = True  # it does not count towards `start_limit`

        def job(now: float, monotonic: float) -> list[Action]:
            if self._is_closing:
                self._left.append(transaction)
                member.end(None, _left_behind(transaction))
                return []
            self._enter(member, self._schedule.resume(transaction, now, monotonic))
            if not transaction.is_finished:
                self._note(member, transaction, None)
            return self._schedule.tick(now, monotonic)

        self._post_or_raise(job)

    def drop(self, member: MemberT) -> None:
        """Have the loop forget an authentication that no call waits for any more."""

        def job(_now: float, _monotonic: float) -> list[Action]:
            if not member.is_done:
                self._take_out(member, PoolClosed("pool: the call was cancelled"))
            return []

        self.post(job)

    def fed(self, member: MemberBase, happened: Input, now: float, monotonic: float) -> list[Action]:
        """Tell a member what happened."""
        if member.handle is None or member.is_done:
            return []
        return self._schedule.feed(member.handle, happened, now, monotonic)

    def _answered(
        self,
        member: MemberT,
        handle: Handle,
        happened: ResponseReceived | RequestFailed | SignaturesMade | SigningFailed | None,
        error: Exception | None = None,
    ) -> None:
        """Post the outcome of a request or of signatures; ``None``: the signatures did not come in time."""

        def job(now: float, monotonic: float) -> list[Action]:
            self._under_way -= 1
            member.is_busy = False
            if error is not None and not member.is_done:
                self._take_out(member, error)
            actions = [] if happened is None else self._schedule.feed(handle, happened, now, monotonic)
            lane = self._lanes[member.client]
            lane.knowledge.shared = self._schedule.shared(lane.provider.issuer)
            lane.knowledge.taken_in(happened)
            return actions

        self.post(job)

    def _enter(self, member: MemberT, handle: Handle) -> None:
        member.handle = handle
        self._members[handle] = member

    def _turn(self) -> bool:
        """Do all that is due now; return whether the loop goes on."""
        self._learn()
        while self._jobs:
            job = self._jobs.popleft()
            self._perform(job(self._lane.time(), self._lane.monotonic()))
            if self._is_closing:
                self._leave_those_that_wait()
        if not self._is_closing:
            self._perform(self._schedule.tick(self._lane.time(), self._lane.monotonic()))
        for lane in self._lanes.values():
            lane.knowledge.shared = self._schedule.shared(lane.provider.issuer)
        if self._is_closing:
            self._leave_those_that_wait()
        return not self._is_closing or bool(self._under_way)

    def _learn(self) -> None:
        """Take over what other clients have learnt since the last turn, at whose end all are equal."""
        known = [self._schedule.shared(lane.provider.issuer) for lane in self._lanes.values()]
        for lane, before in zip(self._lanes.values(), known, strict=True):
            if lane.knowledge.shared is not before:
                self._schedule.share(lane.provider.issuer, lane.knowledge.shared)

    def _seconds(self) -> float | None:
        """Return the seconds until something is due, if nothing is posted; ``None``: never."""
        wake_at = None if self._is_closing else self._schedule.wake_at
        return None if wake_at is None else max(wake_at - self._lane.monotonic(), 0.0)

    def _let_time_pass(self) -> float:
        """Return how long the loop should sleep; on a clock for tests, first let the time pass."""
        seconds, clock = self._seconds(), self._lane.clock
        if clock is None:
            return min(_LONG if seconds is None else seconds, self._lane.nap)
        if seconds is None or self._under_way or self._has_job():
            return _LONG
        clock.sleep(seconds, self._has_job)
        return 0.0

    def _has_job(self) -> bool:
        return bool(self._jobs)

    def _perform(self, actions: list[Action]) -> None:
        for position, action in enumerate(actions):
            member = self._members.get(action.handle)
            if member is None:
                if isinstance(action, Send):  # it was taken out between two actions
                    self._perform(self._not_sent(action))
                continue
            match action:
                case Moved(_, transaction, events):
                    following = actions[position + 1] if position + 1 < len(actions) else None
                    self._note(member, transaction, following if isinstance(following, Reply) else None)
                    member.happened(events)
                case Reply():
                    if not position or not isinstance(actions[position - 1], Moved):
                        self._note(member, _latest(self._schedule, actions, action.handle), action)
                case Send():
                    member.is_busy = True
                    self._under_way += 1
                    self._spawn_send(member, action)
                case Sign():
                    deadline = self._schedule[action.handle].deadline
                    member.is_busy = True
                    self._under_way += 1
                    left = None if deadline is None else max(deadline - self._lane.time(), 0.0)
                    self._spawn_sign(member, action, left)
                case Ended(_, outcome):
                    assert isinstance(outcome, Transaction)  # noqa: S101  # no operation came in
                    self._note(member, outcome, None)
                    self._forget(member, outcome, None)
                case Broken(_, _, error):
                    self._forget(member, None, error)
                case _:
                    assert_never(action)

    def _not_sent(self, action: Send) -> list[Action]:
        failed = RequestFailed(action.request.id, Delivery.NOT_SENT, "taken out of the pool", elapsed=0.0)
        return self._schedule.feed(action.handle, failed, self._lane.time(), self._lane.monotonic())

    def _note(self, member: MemberT, transaction: Transaction, reply: Reply | None) -> None:
        """Take callbacks for a transaction's new value, before anything is sent for it."""
        if transaction.auth_req_id is not None:
            member.request = None
            self._acknowledged(member)
        lane = self._lanes[member.client]
        shared = self._schedule.shared(lane.provider.issuer)
        current = Step(transaction, shared=shared, answer=None if reply is None else reply.answer)
        try:
            if member.held is not None:
                member.held.update(current)
            elif not transaction.is_finished:
                member.held = lane.hold(current)
                if member.held is not None:
                    member.held.listen(lambda: self._called(member))
        except Exception as error:  # noqa: BLE001  # whatever the embedder's routes raise
            self._take_out(member, error)

    def _called(self, member: MemberT) -> None:
        """Have the loop take a transaction's notification; called in any thread."""

        def job(now: float, monotonic: float) -> list[Action]:
            held, handle = member.held, member.handle
            notification = None if held is None else held.take()
            if notification is None or handle is None:
                return []
            actions = self.fed(member, NotificationReceived(notification), now, monotonic)
            if not member.is_done and not any(
                isinstance(action, (Moved, Reply)) and action.handle == handle for action in actions
            ):
                self._note(member, _latest(self._schedule, actions, handle), None)
            if held is not None and held.ready():
                self._called(member)
            return actions

        self.post(job)

    def _acknowledged(self, member: MemberT) -> None:
        if not member.is_acknowledged:
            member.is_acknowledged = True
            self._release_start()

    def _forget(self, member: MemberT, transaction: Transaction | None, error: Exception | None) -> None:
        assert member.handle is not None  # noqa: S101  # it was taken in; for the type checker
        del self._members[member.handle]
        self._acknowledged(member)
        if member.held is not None:
            member.held.close()
        member.end(transaction, error)

    def _take_out(self, member: MemberT, error: Exception) -> Transaction:
        assert member.handle is not None  # noqa: S101  # it was taken in; for the type checker
        transaction = self._schedule.remove(member.handle)
        assert isinstance(transaction, Transaction)  # noqa: S101  # no operation came in
        self._forget(member, None, error)
        return transaction

    def _leave(self, members: list[MemberT]) -> None:
        """Take members out to be resumed elsewhere."""
        for member in members:
            transaction = self._take_out(member, error := _left_behind(None))
            if member.request is not None and not member.is_busy:
                self._unsent.append(member.request)
            else:
                self._left.append(transaction)
                error.transaction = transaction

    def _leave_those_that_wait(self) -> None:
        self._leave([member for member in self._members.values() if not member.is_busy])

    def _finish(self) -> None:
        """Leave everything as it is: the loop has ended."""
        self._is_closing = True
        with self._lock:
            self._is_closed = True
        while self._jobs:
            self._jobs.popleft()(self._lane.time(), self._lane.monotonic())
        self._leave([*self._members.values()])
        self._release_start()  # a `start` that waits for a place finds the pool closed


def _left_behind(transaction: Transaction | None) -> PoolClosed:
    error = PoolClosed("pool: it was closed before the authentication came to its end")
    error.transaction = transaction
    return error


def _nothing(_now: float, _monotonic: float) -> list[Action]:
    """Wake the loop."""
    return []


def _latest(schedule: Schedule, actions: list[Action], handle: Handle) -> Transaction:
    """Return the value of a transaction after some actions, which may have ended it."""
    for action in actions:
        if isinstance(action, Ended) and action.handle == handle:
            assert isinstance(action.outcome, Transaction)  # noqa: S101  # no operation came in
            return action.outcome
    member = schedule[handle]
    assert isinstance(member, Transaction)  # noqa: S101  # likewise
    return member
