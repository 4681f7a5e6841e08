"""Many transactions and operations on one heap of deadlines, within limits for each provider.

A `Schedule` does for many transactions what `step` does for one. It does no I/O, reads no clock and starts no
threads. A driver tells it what happened, and carries out the actions that it returns::

    schedule = Schedule()
    handle = schedule.begin(Transaction(client=client, provider=provider), request, monotonic)
    actions = schedule.tick(now, monotonic)
    while True:
        for action in actions:
            ...  # Send: send the request, later feed what came of it; Ended: hand out the result; ...
        ...  # wait until `schedule.wake_at` by the monotonic clock, or until something came
        actions = schedule.tick(now, monotonic)                # the wait is over
        actions = schedule.feed(handle, input, now, monotonic)  # or: an answer, a callback, a cancellation

The driver hands in two clocks. `now` is the wall clock in POSIX seconds, as for `step`: it goes into JWTs.
`monotonic` is the driver's monotonic clock in seconds: all waits and all limits are counted by it. So setting
the wall clock makes no poll early and no wait longer.

The rules:

1. A member, a transaction or an operation, has at most one request under way (CIBA Core 10.1).
2. Of one provider, known by its issuer, at most `ProviderLimits.in_flight` requests are under way, and no
   more leave in a second than its token bucket allows. Drafts that are being signed count as under way.
3. When more is due than may be sent, requests that are made already go first. After them two lines take
   turns: members whose deadline has passed, longest ago first, and starts, first come first. So starts do not
   starve polls, and polls do not starve starts.
4. A member that waits in line still ends at its own expiry.
5. One request for a key set serves all members of a provider that need it.
6. ``Retry-After`` in a 429 or 503 to one member holds for all members of that provider (RFC 9110 10.2.3).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from heapq import heappop, heappush
from math import ceil, isfinite
from typing import Any, Final, NewType

from attrs import define, evolve, field, frozen

from ciba_core.client.request import AuthenticationRequest
from ciba_core.operations.operation import OperationStep
from ciba_core.operations.token_operation import TokenOperation
from ciba_core.pool.limits import ProviderLimits, TokenBucket
from ciba_core.provider.answers import is_busy, retry_after
from ciba_core.provider.draft import Draft
from ciba_core.provider.shared import NOTHING_SHARED, Shared
from ciba_core.transaction.events import Event
from ciba_core.transaction.inputs import (
    Begin,
    Input,
    NotificationReceived,
    RequestFailed,
    ResponseReceived,
    Resumed,
    SignaturesMade,
    SigningFailed,
    TimerFired,
)
from ciba_core.transaction.states import SigningAuthentication, SigningPoll
from ciba_core.transaction.step import step
from ciba_core.transaction.transaction import Step, Transaction
from ciba_core.values.errors import LocalProtocolError
from ciba_core.values.http import Delivery, HttpRequest, HttpResponse, Purpose

__all__ = [
    "Action",
    "Broken",
    "Ended",
    "Handle",
    "Moved",
    "Reply",
    "Schedule",
    "Send",
    "Sign",
]

Handle = NewType("Handle", int)
"""Names a member of a schedule; never used again for another one."""
Driven = Transaction | TokenOperation[Any]

_SLOTS: Final = 1 << 32
_NEVER: Final = 0
"""Stands in place of a wait's key when there is no wait."""
_ELSEWHERE: Final = "another member of the pool fetched the key set"
_IN_LINE: Final = "it waited in line until it had expired"


@frozen(weakref_slot=False)
class Send:
    """Send this request now, and in any case feed `ResponseReceived` or `RequestFailed` for it.

    Feed it even if the member has ended meanwhile: until then the request counts as under way.
    """

    handle: Handle
    request: HttpRequest


@frozen(weakref_slot=False)
class Sign:
    """Have this draft signed, and feed `SignaturesMade` or `SigningFailed`; see `Step.draft`."""

    handle: Handle
    draft: Draft


@frozen(weakref_slot=False)
class Reply:
    """Answer the callback of this transaction that waits; see `Step.answer`."""

    handle: Handle
    answer: HttpResponse


@frozen(weakref_slot=False)
class Moved:
    """A transaction has a new value. Store it before the actions that follow: they may send for it."""

    handle: Handle
    transaction: Transaction
    events: tuple[Event, ...]


@frozen(weakref_slot=False)
class Ended:
    """A member has come to its end and is forgotten.

    The outcome is a finished transaction, or the last step of an operation.
    """

    handle: Handle
    outcome: Transaction | OperationStep[Any]


@frozen(weakref_slot=False)
class Broken:
    """A member was taken out as it was, because moving it on raised an exception.

    The exception is a `LocalProtocolError` if the request does not fit the client or the provider. Any other
    exception comes from the embedder's own code that the configuration names.
    """

    handle: Handle
    member: Driven
    error: Exception


Action = Send | Sign | Reply | Moved | Ended | Broken
"""What a driver does, in the given order."""


@frozen(weakref_slot=False)
class _Queued:
    """A request that is made and waits in line."""

    handle: Handle
    request: HttpRequest


@define(weakref_slot=False, eq=False)
class _Provider:
    """One provider: its shared state, its requests under way, and the members that wait for their turn."""

    limits: ProviderLimits
    bucket: TokenBucket
    shared: Shared = NOTHING_SHARED
    under_way: int = 0
    not_before: float = float("-inf")
    """Monotonic instant until which the provider asked to be left alone."""
    ready: deque[_Queued] = field(factory=deque[_Queued])
    due: list[tuple[float, Handle]] = field(factory=list[tuple[float, Handle]])
    """A heap by the instant at which the deadline passed. Members that left the line meanwhile are
    skipped."""
    starts: deque[tuple[Handle, Begin | None]] = field(factory=deque[tuple[Handle, Begin | None]])
    starts_turn: bool = False
    fetches: dict[str, list[_Queued]] = field(factory=dict[str, list[_Queued]])
    """By URL, the requests for key sets that wait for the outcome of the one that is queued or under way."""

    @property
    def has_line(self) -> bool:
        return bool(self.ready or self.due or self.starts)

    @property
    def turn_at(self) -> float | None:
        """The monotonic instant of the next turn, or ``None`` while all places are taken."""
        if self.under_way >= self.limits.in_flight:
            return None
        return max(self.not_before, self.bucket.available_at())


class Schedule:
    """Any number of members, of any number of clients and providers; see the docstring of this module.

    Args:
        limits: the most that is asked of each provider.
        limits_of: other limits for some providers, by issuer.

    """

    def __init__(
        self,
        limits: ProviderLimits | None = None,
        *,
        limits_of: Mapping[str, ProviderLimits] | None = None,
    ) -> None:
        self._limits = ProviderLimits() if limits is None else limits
        self._limits_of = {} if limits_of is None else dict(limits_of)
        self._providers: dict[str, _Provider] = {}
        # Members by slot: four lists cost a fifth of one object for each member.
        self._members: list[Driven | None] = []
        self._waits: list[int] = []
        self._generations: list[int] = []
        self._free: list[int] = []
        self._heap: list[int] = []
        """Waits of all members: the monotonic instant in microseconds, and the slot below it. An entry counts
        only while it stands in `_waits` too."""
        self._in_line: dict[Handle, float] = {}
        """Members whose deadline has passed and that wait for their turn, with the instant at which it
        passed."""
        self._under_way: dict[tuple[Handle, int], tuple[_Provider, HttpRequest]] = {}
        self._signing: dict[Handle, _Provider] = {}
        self._with_line: set[str] = set()
        self._actions: list[Action] = []

    def __len__(self) -> int:
        """Return the number of members that have not ended."""
        return len(self._members) - len(self._free)

    @property
    def wake_at(self) -> float | None:
        """The monotonic instant at which to call `tick`, or ``None`` while there is nothing to wait for."""
        while self._heap and self._waits[self._heap[0] % _SLOTS] != self._heap[0]:
            heappop(self._heap)
        instants = [self._heap[0] // _SLOTS / 1e6] if self._heap else []
        for issuer in self._with_line:
            turn = self._providers[issuer].turn_at
            if turn is not None:
                instants.append(turn)
        return min(instants, default=None)

    def __getitem__(self, handle: Handle) -> Driven:
        """Return the present value of a member; raises `KeyError` when it has ended."""
        member = self._member(handle)
        if member is None:
            raise KeyError(handle)
        return member

    def handles(self) -> list[Handle]:
        """Return the handles of all members that have not ended."""
        return [
            Handle(generation * _SLOTS + slot)
            for slot, (generation, member) in enumerate(zip(self._generations, self._members, strict=True))
            if member is not None
        ]

    def shared(self, issuer: str) -> Shared:
        """Return the shared state of a provider, for its other users."""
        found = self._providers.get(issuer)
        return NOTHING_SHARED if found is None else found.shared

    def share(self, issuer: str, shared: Shared) -> None:
        """Take over what other users of a provider have learnt of it."""
        self._provider(issuer).shared = shared

    # --- members come and go ---------------------------------------------------------------------------

    def begin(self, transaction: Transaction, request: AuthenticationRequest) -> Handle:
        """Put a new transaction in line; its request leaves when it is its turn, after the next `tick`.

        Raises:
            LocalProtocolError: the transaction is not new.

        """
        if transaction.requests or transaction.is_finished:
            raise LocalProtocolError("transaction: it was begun already; resume it instead")
        return self._queue_start(transaction, Begin(request))

    def start(self, operation: TokenOperation[Any]) -> Handle:
        """Put an operation in line that was not started yet.

        Raises:
            LocalProtocolError: it was started already.

        """
        if operation.progress.last:
            raise LocalProtocolError("operation: it was started already")
        return self._queue_start(operation, None)

    def resume(self, transaction: Transaction, now: float, monotonic: float) -> Handle:
        """Take in a transaction that was restored from a snapshot, or taken out of another schedule."""
        handle = self._take_in(transaction)
        if transaction.is_finished:
            self._let_go(handle)
            self._actions.append(Ended(handle, transaction))
        else:
            self._move(handle, Resumed(), now, monotonic)
        return handle

    def remove(self, handle: Handle) -> Driven:
        """Take a member out as it is, to be stored or resumed elsewhere; a transaction stays resumable.

        Raises:
            KeyError: it has ended.

        """
        member = self[handle]
        self._let_go(handle)
        return member

    # --- what happens ----------------------------------------------------------------------------------

    def tick(self, now: float, monotonic: float) -> list[Action]:
        """Do what is due.

        Args:
            now: the wall clock, in POSIX seconds.
            monotonic: the monotonic clock, in seconds.

        """
        _check_clock(monotonic)
        self._due(now, monotonic)
        return self._taken(now, monotonic)

    def feed(self, handle: Handle, input: Input, now: float, monotonic: float) -> list[Action]:  # noqa: A002
        """Tell a member what happened; this also does what is due for all members, as `tick`.

        An input for a member that has ended is ignored.

        Args:
            handle: the member.
            input: what happened to it, as for `step`.
            now: the wall clock, in POSIX seconds.
            monotonic: the monotonic clock, in seconds.

        Raises:
            LocalProtocolError: the member cannot take this input, or was never taken in; nothing has changed.

        """
        _check_clock(monotonic)
        if isinstance(input, (Begin, TimerFired, Resumed)):
            raise LocalProtocolError(f"input: {type(input).__name__} is what the schedule itself feeds")
        if handle % _SLOTS >= len(self._generations) or handle // _SLOTS > self._generations[handle % _SLOTS]:
            raise LocalProtocolError("handle: there was no such member")
        if isinstance(input, (ResponseReceived, RequestFailed)):
            self._answered(handle, input, now, monotonic)
        else:
            if isinstance(input, (SignaturesMade, SigningFailed)):
                self._release_signing(handle)
            self._move(handle, input, now, monotonic, of_the_driver=True)
        self._due(now, monotonic)
        return self._taken(now, monotonic)

    # --- inside ----------------------------------------------------------------------------------------

    def _provider(self, issuer: str) -> _Provider:
        found = self._providers.get(issuer)
        if found is None:
            limits = self._limits_of.get(issuer, self._limits)
            found = _Provider(limits, TokenBucket(limits.rate, limits.burst))
            self._providers[issuer] = found
        return found

    def _member(self, handle: Handle) -> Driven | None:
        slot = handle % _SLOTS
        known = slot < len(self._members) and self._generations[slot] == handle // _SLOTS
        return self._members[slot] if known else None

    def _take_in(self, member: Driven) -> Handle:
        if self._free:
            slot = self._free.pop()
            self._generations[slot] += 1
            self._members[slot] = member
        else:
            slot = len(self._members)
            self._members.append(member)
            self._waits.append(_NEVER)
            self._generations.append(0)
        return Handle(self._generations[slot] * _SLOTS + slot)

    def _let_go(self, handle: Handle) -> None:
        slot = handle % _SLOTS
        self._members[slot] = None
        self._waits[slot] = _NEVER
        self._free.append(slot)
        self._in_line.pop(handle, None)
        self._release_signing(handle)

    def _queue_start(self, member: Driven, begin: Begin | None) -> Handle:
        handle = self._take_in(member)
        issuer = member.provider.issuer
        self._provider(issuer).starts.append((handle, begin))
        self._with_line.add(issuer)
        return handle

    def _wait(self, handle: Handle, until: float | None) -> None:
        """Wake the member at a monotonic instant, in place of the one that was planned before."""
        slot = handle % _SLOTS
        # Rounded up: a wait may be two microseconds too long, and is never too short.
        key = _NEVER if until is None else (ceil(until * 1e6) + 1) * _SLOTS + slot
        self._waits[slot] = key
        if until is not None:
            heappush(self._heap, key)

    def _is_waiting(self, handle: Handle) -> bool:
        return self._waits[handle % _SLOTS] != _NEVER or handle in self._in_line

    def _due(self, now: float, monotonic: float) -> None:
        """Put the members in line whose wait is over; end those that have expired."""
        reached = (round(monotonic * 1e6) + 1) * _SLOTS
        while self._heap and self._heap[0] < reached:
            key = heappop(self._heap)
            slot = key % _SLOTS
            member = self._members[slot]
            if self._waits[slot] != key or member is None:
                continue
            self._waits[slot] = _NEVER
            handle = Handle(self._generations[slot] * _SLOTS + slot)
            if handle in self._in_line:
                self._expire(handle, now, monotonic)
            elif _needs_a_turn(member):
                self._get_in_line(handle, member, key // _SLOTS / 1e6)
            else:
                self._fire(handle, now, monotonic)

    def _get_in_line(self, handle: Handle, member: Driven, since: float) -> None:
        self._in_line[handle] = since
        heappush(self._provider(member.provider.issuer).due, (since, handle))
        self._with_line.add(member.provider.issuer)
        deadline = member.deadline
        expires_at = member.expires_at if isinstance(member, Transaction) else None
        if deadline is not None and expires_at is not None:
            self._wait(handle, since + expires_at - deadline)

    def _fire(self, handle: Handle, now: float, monotonic: float) -> None:
        member = self._member(handle)
        assert member is not None  # noqa: S101  # its wait is over, so it is there; for the type checker
        deadline = member.deadline
        assert deadline is not None  # noqa: S101  # likewise
        self._move(handle, TimerFired(deadline), now, monotonic)

    def _expire(self, handle: Handle, now: float, monotonic: float) -> None:
        """End a transaction whose time ran out while it waited in line."""
        del self._in_line[handle]
        member = self[handle]
        assert isinstance(member, Transaction)  # noqa: S101  # operations have no such wait; for the type checker
        expires_at = member.expires_at
        assert expires_at is not None  # noqa: S101  # likewise
        now = max(now, expires_at)
        provider = self._provider(member.provider.issuer)
        queued = next((each for each in provider.ready if each.handle == handle), None)
        if queued is not None:
            provider.ready.remove(queued)
            self._move(handle, _not_sent(queued.request.id, _IN_LINE), now, monotonic)
        self._fire(handle, now, monotonic)

    def _answered(
        self, handle: Handle, outcome: ResponseReceived | RequestFailed, now: float, monotonic: float
    ) -> None:
        found = self._under_way.pop((handle, outcome.request_id), None)
        if found is None:
            self._move(handle, outcome, now, monotonic, of_the_driver=True)
            return
        provider, request = found
        provider.under_way -= 1
        if request.purpose is Purpose.KEYS:
            self._fetched(handle, outcome, provider.fetches.pop(request.url), now, monotonic)
            return
        if isinstance(outcome, ResponseReceived) and is_busy(outcome.response):
            later = retry_after(outcome.response, now)
            if later is not None:
                provider.not_before = max(provider.not_before, monotonic + later)
        self._move(handle, outcome, now, monotonic)

    def _fetched(
        self,
        handle: Handle,
        outcome: ResponseReceived | RequestFailed,
        others: list[_Queued],
        now: float,
        monotonic: float,
    ) -> None:
        """Give the key set to the first member that is still there. The others find it in the shared state.

        The others are told that their own request was not sent. If their key is not in the key set, the set
        may be older than the token to validate, and they ask again.
        """
        numbers = [(handle, outcome.request_id), *((each.handle, each.request.id) for each in others)]
        present = [(each, number) for each, number in numbers if self._member(each) is not None]
        for position, (each, number) in enumerate(present):
            if position:
                self._move(each, _not_sent(number, _ELSEWHERE), now, monotonic)
            else:
                self._move(each, evolve(outcome, request_id=number), now, monotonic)

    def _release_signing(self, handle: Handle) -> None:
        provider = self._signing.pop(handle, None)
        if provider is not None:
            provider.under_way -= 1

    def _taken(self, now: float, monotonic: float) -> list[Action]:
        """Send as much as the limits allow, and return the actions."""
        for issuer in sorted(self._with_line):
            provider = self._providers[issuer]
            while provider.has_line and _reached(provider.turn_at, monotonic):
                self._turn(provider, now, monotonic)
            if not provider.has_line:
                self._with_line.discard(issuer)
        actions, self._actions = self._actions, []
        return actions

    def _turn(self, provider: _Provider, now: float, monotonic: float) -> None:
        """Let one member go on: first requests that are made, then due members and starts in turns."""
        if provider.ready:
            self._send(provider, provider.ready.popleft(), monotonic)
            return
        if provider.starts and (provider.starts_turn or not provider.due):
            provider.starts_turn = False
            handle, begin = provider.starts.popleft()
            if self._member(handle) is not None:
                self._move(handle, begin, now, monotonic)
            return
        provider.starts_turn = True
        since, handle = heappop(provider.due)
        if self._in_line.get(handle) == since:
            del self._in_line[handle]
            self._fire(handle, now, monotonic)

    def _queue(
        self, handle: Handle, member: Driven, request: HttpRequest, now: float, monotonic: float
    ) -> None:
        """Put a request in line; the same key set is not asked for twice at a time."""
        issuer = member.provider.issuer
        provider = self._provider(issuer)
        queued = _Queued(handle, request)
        if request.purpose is Purpose.KEYS and request.url in provider.fetches:
            self._wait(handle, None)
            provider.fetches[request.url].append(queued)
            return
        if request.purpose is Purpose.KEYS:
            provider.fetches[request.url] = []
        provider.ready.append(queued)
        self._with_line.add(issuer)
        self._in_line[handle] = monotonic
        expires_at = member.expires_at if isinstance(member, Transaction) else None
        self._wait(handle, None if expires_at is None else monotonic + max(0.0, expires_at - now))

    def _send(self, provider: _Provider, queued: _Queued, monotonic: float) -> None:
        handle, request = queued.handle, queued.request
        if self._member(handle) is None:
            self._give_up_fetch(provider, request)
            return
        del self._in_line[handle]
        self._wait(handle, None)
        provider.bucket.take(monotonic)
        provider.under_way += 1
        self._under_way[handle, request.id] = (provider, request)
        self._actions.append(Send(handle, request))

    def _give_up_fetch(self, provider: _Provider, request: HttpRequest) -> None:
        """Let the next member ask for the key set, since the member that asked is gone."""
        others = provider.fetches.pop(request.url, []) if request.purpose is Purpose.KEYS else []
        present = [each for each in others if self._member(each.handle) is not None]
        if present:
            first, *rest = present
            provider.fetches[request.url] = rest
            provider.ready.appendleft(first)
            self._in_line[first.handle] = float("-inf")

    def _move(
        self,
        handle: Handle,
        happened: Input | None,
        now: float,
        monotonic: float,
        *,
        of_the_driver: bool = False,
    ) -> None:
        """Feed a member; ``None`` starts an operation."""
        member = self._member(handle)
        if member is None:
            return
        provider = self._provider(member.provider.issuer)
        try:
            current = _stepped(member, happened, now, provider.shared)
        except Exception as problem:  # one member's own code must not stop the others
            if of_the_driver and isinstance(problem, LocalProtocolError):
                raise
            self._let_go(handle)
            self._actions.append(Broken(handle, member, problem))
            return
        provider.shared = current.shared
        after = current.operation if isinstance(current, OperationStep) else current.transaction
        assert isinstance(after, (Transaction, TokenOperation))  # noqa: S101  # as it was; for the type checker
        self._members[handle % _SLOTS] = after
        if isinstance(current, Step):
            if current.events:
                self._actions.append(Moved(handle, current.transaction, current.events))
            if current.answer is not None:
                self._actions.append(Reply(handle, current.answer))
        if not _is_signing(after):
            self._release_signing(handle)
        if current.draft is not None:
            provider.under_way += 1
            self._signing[handle] = provider
            self._actions.append(Sign(handle, current.draft))
        if current.request is not None:
            self._queue(handle, after, current.request, now, monotonic)
        elif _is_over(current):
            self._let_go(handle)
            outcome = current if isinstance(current, OperationStep) else current.transaction
            self._actions.append(Ended(handle, outcome))
        elif after.deadline != member.deadline or not self._is_waiting(handle):
            # The member waits for the same thing as before: its wait goes on, even if the wall clock was set.
            self._in_line.pop(handle, None)
            deadline = after.deadline
            self._wait(handle, None if deadline is None else monotonic + max(0.0, deadline - now))


def _stepped(member: Driven, happened: Input | None, now: float, shared: Shared) -> Step | OperationStep[Any]:
    if isinstance(member, Transaction):
        assert happened is not None  # noqa: S101  # only operations are started without an input
        return step(member, happened, now, shared)
    if happened is None:
        return member.start(now, shared)
    if isinstance(happened, (Begin, NotificationReceived, Resumed)):
        raise LocalProtocolError(f"input: {type(happened).__name__} is nothing for an operation")
    return member.proceed(happened, now, shared)


def _is_over(current: Step | OperationStep[Any]) -> bool:
    return current.is_finished


def _is_signing(member: Driven) -> bool:
    if isinstance(member, Transaction):
        return isinstance(member.state, (SigningAuthentication, SigningPoll))
    return isinstance(member.progress.in_flight, Draft)


def _needs_a_turn(member: Driven) -> bool:
    """Tell whether the end of a wait makes the member send a request, not end or give a signature up."""
    if isinstance(member, Transaction):
        expires_at = member.expires_at
        return not _is_signing(member) and (expires_at is None or member.deadline != expires_at)
    return True


def _not_sent(number: int, reason: str) -> RequestFailed:
    return RequestFailed(number, Delivery.NOT_SENT, reason, elapsed=0.0)


def _reached(instant: float | None, monotonic: float) -> bool:
    return instant is not None and instant <= monotonic


def _check_clock(monotonic: float) -> None:
    if not isfinite(monotonic):
        raise LocalProtocolError("monotonic must be a finite number of seconds")
