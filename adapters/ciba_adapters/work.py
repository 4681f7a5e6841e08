"""A worker: goes on with logins that are due, beside other workers on any number of machines.

An application starts logins (`start_login`) and forgets them; workers poll for them at their time and
store the sessions. The store says which logins are due and which worker has them (`ciba_core.ClaimingStore`),
so workers need not know of each other. A worker that ends in the middle loses nothing but time: its claims
end with their leases.

::

    import anyio, httpx
    from ciba_adapters.httpx import AsyncCibaClient
    from ciba_adapters.stores import sqlite_stores
    from ciba_adapters.work import work

    async def main():
        stores = sqlite_stores("logins.db", secrets=[secret])
        async with httpx.AsyncClient() as http:
            await work(stores, [AsyncCibaClient(provider, client, http=http)], health_file="health.json")

    anyio.run(main)  # ends on SIGTERM, with what is under way brought to its end

It runs in asyncio and in trio. Clients may be sync as well: their calls are made in threads. ``ciba work`` is
the same as a command.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, cast

import attrs
from attrs import define, field, frozen

from ciba_adapters._async import AsyncClient
from ciba_adapters._missing import missing_extra
from ciba_adapters._pace import suspend_counting_clock
from ciba_adapters._sync import SyncClient
from ciba_adapters.transport import Clock
from ciba_core import AsyncStores, Claimed, Claims, Session, Stores, Waiting
from ciba_core.errors import (
    CibaError,
    LocalProtocolError,
    SessionOfAnotherUser,
    StoreConflict,
    StoredContentAltered,
    StoreError,
    StoreUnavailable,
    UnknownStoreSecret,
    UnknownStoreVersion,
)

try:
    import anyio
    import anyio.lowlevel
    import anyio.to_thread
except ImportError as error:
    raise missing_extra("work", error) from error

__all__ = ["Health", "Outcome", "Worked", "work"]

AnyClient = SyncClient[Any] | AsyncClient[Any]
AnyStores = Stores | AsyncStores

Outcome = Literal["waiting", "session", "ended", "parked", "given_back", "lost", "failed", "cut_off"]
"""The outcome of a claimed login.

``waiting``: it goes on later. ``session``: its tokens are stored. ``ended``: by the user, the provider or its
time. ``parked``: it cannot be used, so no worker goes on with it any more. ``given_back``: this worker stops,
or cannot use the login, which another worker perhaps can. ``lost``: another worker has it. ``failed``: the
store was away. ``cut_off``: the time to drain was over.
"""

NAP: Final = 0.25
"""Seconds between two looks at whether the worker should stop."""
NAMED: Final = 20
"""Number of parked logins that the health file names, the latest ones."""
LEAST_PAUSE, LONGEST_PAUSE = 5.0, 60.0
"""Seconds until a login that this worker cannot use is due again."""
PURGE_EVERY: Final = 60.0


@frozen(kw_only=True)
class Worked:
    """The outcome of a claimed login."""

    key: str
    """Its session key."""
    outcome: Outcome
    error: Exception | None = None
    """The error that it ended with, or the reason why it could not go on."""
    late: float = 0.0
    """Seconds from the instant at which it was due until the worker was done with it."""


@frozen(kw_only=True)
class Health:
    """How a worker is doing."""

    state: Literal["working", "draining", "stopped"]
    at: float
    """POSIX instant of this."""
    counts: Mapping[Outcome, int]
    """The number of claims by outcome."""
    held: int
    """Claimed logins that the worker is not done with."""
    lag: float
    """Lateness of the last login, in seconds; 0 if nothing was due at the last look."""
    parked: tuple[str, ...] = ()
    """Session keys of the last logins that were parked, at most 20."""
    store_error: str | None = None
    """The reason why the store could not be asked; ``None`` if it could."""

    def to_json(self) -> str:
        """Return it as a JSON object with these members."""
        return json.dumps(attrs.asdict(self))


@define(eq=False)
class _Held:
    """A login that was claimed."""

    claimed: Claimed
    since: float
    """When the store was asked, by the monotonic clock, as the next field."""
    until: float
    """Earliest end of the lease."""


async def work(
    stores: AnyStores | Callable[[], AnyStores],
    clients: AnyClient | Sequence[AnyClient] | Mapping[str, AnyClient],
    *,
    concurrency: int = 16,
    rate: float | None = None,
    lease: float = 60.0,
    look_every: float = 1.0,
    drain_within: float = 60.0,
    park_after: float = 600.0,
    store_options: Any = None,
    stop: threading.Event | None = None,
    signals: Sequence[signal.Signals] = (signal.SIGTERM,),
    health_file: str | os.PathLike[str] | None = None,
    report: Callable[[Worked], object] | None = None,
    clock: Clock | None = None,
) -> Health:
    """Go on with logins that are due, until told to stop; return the worker's final health.

    Each login is claimed by one worker at a time. Each step is stored before its request is sent. A request
    whose answer may come after the end of the lease, by a monotonic clock of this process, is not sent. If an
    answer comes for a login that another worker has taken over, it is stored even so, unless that worker has
    it as well.

    When it stops, it claims nothing more, gives logins that it has not begun back at once, and brings those
    under way to their end.

    Args:
        stores: where logins and sessions are kept; ``stores.transactions`` is a `ciba_core.ClaimingStore`. Or
            a function that returns the stores, called before each claim: use it to replace secrets while the
            worker runs.
        clients: the clients that can go on with the logins. In a sequence, the worker takes the client that
            can decrypt the record. A mapping goes from the beginnings of session keys to clients; the longest
            beginning that fits counts. A sync client needs stores whose methods are not awaited.
        concurrency: logins that the worker goes on with at the same time.
        rate: the most logins to begin with in a second, for this worker alone; ``None``: no limit.
        lease: seconds for which a login is claimed; renewed while it waits for its turn here.
        look_every: seconds between two looks at the store while nothing is due.
        drain_within: seconds that logins under way get when the worker stops. Then they are cut off: the
            answer to a request that is out may be lost. Leave it above the clients' ``connect_timeout`` and
            ``timeout`` together.
        park_after: a login that this worker cannot use, but another one perhaps can (its secret or its form
            is unknown here, or something failed unexpectedly), is parked this many seconds after its last
            save. Until then the worker gives it back. A login that no worker can use (altered, or of none of
            the clients) is parked at once.
        store_options: handed to the stores as it is.
        stop: set it, from any thread, to stop the worker.
        signals: stop the worker as well, where it runs in the main thread.
        health_file: a file to write `Health` to as JSON, each second and at the end. If it becomes old, the
            worker hangs. It names session keys of parked logins.
        report: called with the outcome of each claim.
        clock: virtual time, for tests.

    Raises:
        TypeError: the store cannot claim; or a sync client was given stores whose methods are awaited.
        ValueError: a number is out of range.
        OSError: the health file cannot be written.
        StoreError: the store is of a form that this release does not know.

    """
    _check(concurrency=concurrency, rate=rate, lease=lease, look_every=look_every)
    worker = _Worker(
        stores=stores if callable(stores) else lambda: stores,
        clients=clients if isinstance(clients, Mapping) else {"": clients},
        concurrency=concurrency,
        batch=concurrency if rate is None else max(1, min(concurrency, int(rate))),
        pause=0.0 if rate is None else 1.0 / rate,
        lease=lease,
        look_every=look_every,
        drain_within=drain_within,
        park_after=park_after,
        store_options=store_options,
        stop=threading.Event() if stop is None else stop,
        health_file=None if health_file is None else Path(health_file),
        report=report,
        clock=clock,
    )
    return await worker.run(signals)


def _check(**numbers: float | None) -> None:
    for name, number in numbers.items():
        if number is not None and not 0 < number < float("inf"):
            raise ValueError(f"{name} must be a number above 0")


@define(kw_only=True, eq=False)
class _Worker:
    stores: Callable[[], AnyStores]
    clients: Mapping[str, AnyClient | Sequence[AnyClient]]
    concurrency: int
    batch: int
    """The most logins that wait here for their turn."""
    pause: float
    """Seconds between the beginnings of two logins."""
    lease: float
    look_every: float
    drain_within: float
    park_after: float
    store_options: Any
    stop: threading.Event
    health_file: Path | None
    report: Callable[[Worked], object] | None
    clock: Clock | None

    queue: deque[_Held] = field(factory=deque[_Held], init=False)
    running: set[_Held] = field(factory=set[_Held], init=False)
    counts: Counter[Outcome] = field(factory=Counter[Outcome], init=False)
    parked: deque[str] = field(factory=lambda: deque[str](maxlen=NAMED), init=False)
    state: Literal["working", "draining", "stopped"] = field(default="working", init=False)
    lag: float = field(default=0.0, init=False)
    failures: int = field(default=0, init=False)
    store_error: str | None = field(default=None, init=False)
    ask_at: float = field(default=0.0, init=False)
    begin_at: float = field(default=0.0, init=False)
    purge_at: float = field(default=0.0, init=False)
    written_at: float = field(default=float("-inf"), init=False)
    changed: anyio.Event = field(factory=anyio.Event, init=False)
    threads: anyio.CapacityLimiter = field(init=False)
    some_sync: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.threads = anyio.CapacityLimiter(self.concurrency)
        self._current()
        for found in self.clients.values():
            for client in _each(found):
                if not isinstance(cast("object", client), (SyncClient, AsyncClient)):
                    raise TypeError(f"clients must be clients of ciba_adapters, not {type(client).__name__}")
                self.some_sync = self.some_sync or isinstance(client, SyncClient)

    def _now(self) -> float:
        """Return the time by a clock that cannot be set."""
        if self.clock is not None:
            return self.clock.monotonic()
        return _counting()

    def _current(self) -> AnyStores:
        stores = self.stores()
        if not hasattr(stores.transactions, "claim"):
            raise TypeError("stores.transactions cannot claim; a worker needs a ciba_core.ClaimingStore")
        return stores

    # --- from the beginning to the end -------------------------------------------------------------------

    async def run(self, signals: Sequence[signal.Signals]) -> Health:
        fatal: Exception | None = None
        self.purge_at = self._now() + PURGE_EVERY
        with contextlib.ExitStack() as stack:
            received: AsyncIterable[signal.Signals] | None = None
            if signals and sys.platform != "win32" and _is_main():
                received = stack.enter_context(anyio.open_signal_receiver(*signals))
            # Fail at the start only. Later a full disk is no reason to stop: the old file tells of it.
            self._write_file()
            try:
                async with anyio.create_task_group() as group:
                    if received is not None:
                        group.start_soon(self._obey, received)
                    try:
                        while not self.stop.is_set():
                            await self._nap(await self._round(group))
                    except Exception as error:  # noqa: BLE001  # raised below, when what is under way has ended
                        fatal = error
                    await self._drain()
                    group.cancel_scope.cancel()
            finally:
                with anyio.CancelScope(shield=True), anyio.move_on_after(self.drain_within):
                    await self._give_back()
                self.state = "stopped"
                self._write()
        if fatal is not None:
            raise fatal
        return self.health()

    async def _obey(self, received: AsyncIterable[signal.Signals]) -> None:
        async for _ in received:
            self.stop.set()
            self.changed.set()

    async def _round(self, group: Any) -> float:
        """Do what is due, and return the seconds until more may be due."""
        now = self._now()
        if len(self.queue) <= self.batch // 2 and self.ask_at <= now:
            await self._claim(now)
        await self._keep()
        now = self._now()
        while self.queue and len(self.running) < self.concurrency and self.begin_at <= now:
            held = self.queue.popleft()
            self.begin_at = max(self.begin_at, now - 1.0) + self.pause
            self.running.add(held)
            group.start_soon(self._one, held)
        if self.purge_at <= now:
            self.purge_at = now + PURGE_EVERY
            with contextlib.suppress(StoreUnavailable):
                await self._ask("purge")
        if self.written_at + 1.0 <= now:
            self._write()
        begins = self.begin_at if self.queue and len(self.running) < self.concurrency else float("inf")
        asks = self.ask_at if len(self.queue) <= self.batch // 2 else float("inf")
        return max(min(begins, asks, now + NAP) - now, 0.0)

    async def _nap(self, seconds: float) -> None:
        if self.clock is None:
            with anyio.move_on_after(seconds):
                await self.changed.wait()
        elif self.running:
            await self.changed.wait()
        else:
            self.clock.sleep(seconds)
        if self.changed.is_set():
            self.changed = anyio.Event()
        await anyio.lowlevel.checkpoint()

    async def _drain(self) -> None:
        self.state = "draining"
        await self._give_back()
        self._write()
        until = self._now() + self.drain_within
        while self.running and self._now() < until:
            await self._nap(min(until - self._now(), NAP))

    async def _give_back(self) -> None:
        while self.queue:
            claimed = self.queue.popleft().claimed
            # If that fails, the lease ends the claim.
            with contextlib.suppress(Exception):
                await self._release(claimed, 0.0)
            self._done(claimed.key, "given_back")

    # --- the store ---------------------------------------------------------------------------------------

    async def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        store: Any = self._current().transactions
        answer = getattr(store, method)(*arguments, store_options=self.store_options, **options)
        if not inspect.isawaitable(answer):
            return answer
        answer = await answer
        if self.some_sync:
            raise TypeError("clients: a sync client needs stores whose methods are not awaited")
        return answer

    async def _claim(self, now: float) -> None:
        limit = self.batch - len(self.queue)
        try:
            claims: Claims = await self._ask("claim", limit, self.lease)
        except (TypeError, AttributeError, NotImplementedError):
            raise
        except Exception as error:
            if isinstance(error, StoreError) and not isinstance(error, StoreUnavailable):
                raise
            self.failures += 1
            self.store_error = (
                f"{type(error).__name__}: {error}" if isinstance(error, CibaError) else type(error).__name__
            )
            self.ask_at = now + min(self.look_every * 2 ** min(self.failures, 10), LONGEST_PAUSE)
            return
        self.failures, self.store_error = 0, None
        self.queue.extend(_Held(claimed, now, now + self.lease) for claimed in claims.claimed)
        if not claims.claimed and not self.queue and not self.running:
            self.lag = 0.0
        self.ask_at = now if len(claims.claimed) == limit else now + self.look_every

    async def _keep(self) -> None:
        """Renew the leases of logins that wait for their turn; drop those that another worker has."""
        for held in list(self.queue):
            now = self._now()
            if held.until - now > self.lease / 2:
                continue
            ours = True
            try:
                ours = await self._ask("renew", held.claimed.key, held.claimed.record.revision, self.lease)
            except (TypeError, AttributeError, NotImplementedError):
                raise
            except Exception as error:  # noqa: BLE001  # the store is away; the lease may last until it is back
                self.store_error = type(error).__name__
                ours = held.until > now
            else:
                held.until = now + self.lease
            if not ours:
                self.queue.remove(held)
                self._done(held.claimed.key, "lost")

    async def _release(self, claimed: Claimed, wake_after: float | None) -> bool:
        answer: bool = await self._ask("release", claimed.key, claimed.record.revision, wake_after=wake_after)
        return answer

    # --- one login ---------------------------------------------------------------------------------------

    async def _one(self, held: _Held) -> None:
        claimed = held.claimed
        outcome: Outcome = "cut_off"
        error: Exception | None = None
        try:
            outcome, error = await self._advance(claimed)
        finally:
            self.running.discard(held)
            self.lag = claimed.late + self._now() - held.since
            self._done(claimed.key, outcome, error, self.lag)
            self.changed.set()

    async def _advance(self, claimed: Claimed) -> tuple[Outcome, Exception | None]:
        error: Exception = LocalProtocolError("clients: there is none for this session key")
        for client in self._clients_of(claimed.key):
            try:
                found = await self._call(client, claimed)
            except StoredContentAltered as altered:
                error = altered  # or it is another client's: only its own client can decrypt a record
            except Exception as failed:  # noqa: BLE001  # one login must not end the work for all others
                error = failed
                break
            else:
                return ("waiting" if isinstance(found, Waiting) else "session"), None
        try:
            return (await self._settle(claimed, error)), error
        except Exception as failed:  # noqa: BLE001  # the store is away; the lease ends the claim
            return "failed", failed

    def _clients_of(self, key: str) -> Sequence[AnyClient]:
        fitting = [beginning for beginning in self.clients if key.startswith(beginning)]
        if not fitting:
            return ()
        return _each(self.clients[max(fitting, key=len)])

    async def _call(self, client: AnyClient, claimed: Claimed) -> Waiting | Session:
        options: dict[str, Any] = {
            "stores": self._current(),
            "session_key": claimed.key,
            "claimed": claimed,
            "store_options": self.store_options,
        }
        if isinstance(client, AsyncClient):
            return await client.advance(**options)
        return await anyio.to_thread.run_sync(
            partial(client.advance, **options), abandon_on_cancel=True, limiter=self.threads
        )

    async def _settle(self, claimed: Claimed, error: Exception) -> Outcome:
        """Park a login that could not go on, or give it back, as its error demands."""
        if isinstance(error, StoreConflict):
            return "lost"
        if isinstance(error, StoreUnavailable):
            return "failed"
        age = claimed.record.age
        usable_elsewhere = isinstance(error, (UnknownStoreSecret, UnknownStoreVersion))
        if usable_elsewhere or not isinstance(error, CibaError):
            if age is not None and age < self.park_after:
                await self._release(claimed, min(max(age, LEAST_PAUSE), LONGEST_PAUSE))
                return "given_back"
            return "parked" if await self._release(claimed, None) else "lost"
        if await self._release(claimed, None):
            return "parked"
        # The login was saved meanwhile: with its end, or with tokens that do not fit the stored session's
        # user. In the latter case it becomes due again and is parked then.
        return "given_back" if isinstance(error, SessionOfAnotherUser) else "ended"

    # --- what is told ------------------------------------------------------------------------------------

    def _done(self, key: str, outcome: Outcome, error: Exception | None = None, late: float = 0.0) -> None:
        self.counts[outcome] += 1
        if outcome == "parked":
            self.parked.append(key)
        if self.report is not None:
            self.report(Worked(key=key, outcome=outcome, error=error, late=late))

    def health(self) -> Health:
        return Health(
            state=self.state,
            at=time.time() if self.clock is None else self.clock.time(),
            counts=dict(self.counts),
            held=len(self.queue) + len(self.running),
            lag=self.lag,
            parked=tuple(self.parked),
            store_error=self.store_error,
        )

    def _write(self) -> None:
        self.written_at = self._now()
        with contextlib.suppress(OSError):
            self._write_file()

    def _write_file(self) -> None:
        if self.health_file is None:
            return
        # Replace the file in one step: a reader finds one whole state.
        beside = self.health_file.with_name(f"{self.health_file.name}.{os.getpid()}")
        beside.write_text(self.health().to_json() + "\n", encoding="utf-8")
        beside.replace(self.health_file)


_counting: Final = suspend_counting_clock() or time.monotonic


def _each(clients: AnyClient | Sequence[AnyClient]) -> Sequence[AnyClient]:
    return clients if isinstance(clients, Sequence) else (clients,)


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()
