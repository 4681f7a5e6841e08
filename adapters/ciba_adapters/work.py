"""A worker: goes on with logins that are due, beside any number of others on any number of machines.

An application starts logins (`start_login`) and forgets them; workers poll for them at their time and
store the sessions. What is due, and who has it, the store says (`ciba_core.ClaimingStore`), so that workers
need not know of each other. One that ends in the middle loses nothing but time: its claims end with their
leases.

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
"""What came of a login that was claimed.

``waiting``: to be gone on with later. ``session``: its tokens are stored. ``ended``: by the user, the
provider or its time. ``parked``: nobody goes on with it by itself any more, since it cannot be used.
``given_back``: not gone on with here: for a while, to a worker that can perhaps use it; or since this one
stops. ``lost``: another worker has it. ``failed``: the store was away. ``cut_off``: the time to drain was
over.
"""

NAP: Final = 0.25
"""Seconds after which the worker looks whether it is to stop."""
NAMED: Final = 20
"""Parked logins that are named in the health file, the last ones."""
LEAST_PAUSE, LONGEST_PAUSE = 5.0, 60.0
"""Seconds for which a login is given back that this worker cannot use."""
PURGE_EVERY: Final = 60.0


@frozen(kw_only=True)
class Worked:
    """What came of a login that was claimed."""

    key: str
    """Its session key."""
    outcome: Outcome
    error: Exception | None = None
    """What it ended with, or why it could not be gone on with."""
    late: float = 0.0
    """Seconds between the instant at which it was due and that at which this was done with it."""


@frozen(kw_only=True)
class Health:
    """How a worker is doing."""

    state: Literal["working", "draining", "stopped"]
    at: float
    """POSIX instant of this."""
    counts: Mapping[Outcome, int]
    """How many claims have come to what."""
    held: int
    """Logins that were due when they were claimed, and are not done with."""
    lag: float
    """Seconds that the login that was done last was late; 0 where nothing was due when last asked."""
    parked: tuple[str, ...] = ()
    """Session keys of the last logins that were parked, at most 20."""
    store_error: str | None = None
    """Why the store could not be asked; ``None`` if it could."""

    def to_json(self) -> str:
        """Return it as a JSON object with these members."""
        return json.dumps(attrs.asdict(self))


@define(eq=False)
class _Held:
    """A login that was claimed."""

    claimed: Claimed
    since: float
    """When the store was asked, by the monotonic clock, as is what follows."""
    until: float
    """When the lease is over, at the earliest."""


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
    """Go on with logins that are due, until told to stop, and return how it went.

    Each login is claimed by one worker at a time. Nothing is sent before it was stored, and nothing whose
    answer may come after the lease, by a monotonic clock of this process. An answer that comes for a login
    that another worker has taken over is stored all the same, unless that one has it as well.

    When it stops, it claims nothing more, gives back at once what it has not begun, and brings to its end
    what is under way.

    Args:
        stores: where logins and sessions are kept; ``stores.transactions`` is a `ciba_core.ClaimingStore`. Or
            what returns them, called before each claim: that is how secrets are replaced while it runs.
        clients: who can go on with the logins. Of several in a sequence, the one whose record it is, which is
            the one who can open it. A mapping has the beginnings of session keys, and the longest that fits
            names the client. A sync client needs stores whose methods are not awaited.
        concurrency: logins that are gone on with at once.
        rate: the most logins to begin with in a second; ``None``: no limit. It is this worker's own.
        lease: seconds for which a login is claimed; renewed while it waits for its turn here.
        look_every: seconds between two looks at the store while nothing is due.
        drain_within: seconds that what is under way gets when the worker stops. Then it is cut off: a request
            that is out may be answered to nobody. Leave it above the clients' ``connect_timeout`` and
            ``timeout`` together.
        park_after: seconds since it was last stored after which a login is parked that this worker cannot
            use, and another one perhaps can: since it was encrypted under a secret, or is of a form, that is
            not known here, or since something failed that should not. Until then it is given back. What
            nobody can use (altered, or of none of the clients) is parked at once.
        store_options: handed to the stores as it is.
        stop: set it, from any thread, to stop the worker.
        signals: stop the worker as well, where it runs in the main thread.
        health_file: a file to write `Health` to as JSON, each second and at the end. If it becomes old, the
            worker hangs. It names session keys of parked logins.
        report: called with what came of each claim.
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
    """The most that wait here for their turn."""
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
        """Return the time by a clock that nobody sets."""
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
            # Unlike later, when a full disk is no reason to stop: then the file becomes old, which tells.
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
        """Do what is to do, and return the seconds until there may be more."""
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
            # Where that fails, the lease ends the claim.
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
        """Renew the leases of what waits for its turn, and let go of what another worker has."""
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
                error = altered  # or another client's: only its own client can open a record
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
        """Do with a login that was not gone on with what its error asks for."""
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
        # It was saved meanwhile: with its end, or with tokens for a session that is another user's, which
        # is due again and parked then.
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
        # In one go: whoever reads it finds the whole of one state.
        beside = self.health_file.with_name(f"{self.health_file.name}.{os.getpid()}")
        beside.write_text(self.health().to_json() + "\n", encoding="utf-8")
        beside.replace(self.health_file)


_counting: Final = suspend_counting_clock() or time.monotonic


def _each(clients: AnyClient | Sequence[AnyClient]) -> Sequence[AnyClient]:
    return clients if isinstance(clients, Sequence) else (clients,)


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()
