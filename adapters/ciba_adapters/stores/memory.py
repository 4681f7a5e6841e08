"""A store in the memory of one process."""

from __future__ import annotations

import heapq
import itertools
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from attrs import define, field

from ciba_core import Claimed, Claims, StoredCallback, StoredRecord, Stores
from ciba_core.errors import StoreConflict

__all__ = ["MemoryStore", "memory_stores"]

CALLBACKS: Final = 8
"""Most callbacks that a record keeps until a save takes them. A provider sends one."""
_NEVER: Final = float("inf")


@define
class _Entry:
    text: str
    revision: str
    saved_at: float
    forget_at: float = _NEVER
    wake_at: float = _NEVER
    lease_until: float = 0.0
    callbacks: list[StoredCallback] = field(factory=list[StoredCallback])


class _Agenda:
    """The instants of keys; the last one of each key counts. The next instant is found in O(log n)."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str]] = []
        self._current: dict[str, tuple[float, int, str]] = {}
        self._numbers = itertools.count()

    def put(self, key: str, instant: float) -> None:
        """Note the instant of a key in place of its earlier one."""
        self.drop(key)
        if instant != _NEVER:
            item = self._current[key] = instant, next(self._numbers), key
            heapq.heappush(self._heap, item)
        if len(self._heap) > 2 * len(self._current) + 64:
            # Drop replaced entries when they may be half of the heap: a constant cost for each.
            self._heap = list(self._current.values())
            heapq.heapify(self._heap)

    def drop(self, key: str) -> None:
        """Forget the instant of a key."""
        self._current.pop(key, None)

    def due(self, now: float) -> Iterator[str]:
        """Yield keys whose instant has come, in the order of their instants, and forget the keys."""
        while self._heap and self._heap[0][0] <= now:
            item = heapq.heappop(self._heap)
            if self._current.get(item[2]) == item:
                self.drop(item[2])
                yield item[2]


class MemoryStore:
    """Keeps logins, or sessions, until the process ends. Safe to use from several threads and tasks.

    It is a `ciba_core.ClaimingStore`: a worker in the same process can claim what is due.

    Args:
        time: the wall clock in POSIX seconds, by which records become due and are dropped. If the clients
            have a clock of their own, use that one.

    """

    def __init__(self, *, time: Callable[[], float] = time.time) -> None:
        self._time = time
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._due = _Agenda()
        self._old = _Agenda()

    def load(self, key: str, *, store_options: Any = None) -> StoredRecord | None:  # noqa: ARG002  # not needed here
        """Return what is stored under the key, or ``None``."""
        with self._lock:
            self._drop_old(self._time())
            found = self._entries.get(key)
            return None if found is None else _record(found)

    def save(
        self,
        key: str,
        text: str,
        *,
        expected_revision: str | None,
        forget_at: float | None = None,
        store_options: Any = None,  # noqa: ARG002
        revision: str | None = None,
        wake_after: float | None = None,
        lease: float = 0.0,
        forget_after: float | None = None,
        taken: Sequence[str] = (),
    ) -> str:
        """Store a text if the record is still at `expected_revision`; see `ciba_core.ClaimingStore`.

        Raises:
            StoreConflict: it is not; nothing was changed.

        """
        with self._lock:
            now = self._time()
            self._drop_old(now)
            found = self._entries.get(key)
            if found is not None and found.revision == revision:
                return found.revision
            if (None if found is None else found.revision) != expected_revision:
                raise StoreConflict("somebody else changed the record since it was loaded")
            new = _Entry(text, revision or secrets.token_hex(8), now)
            new.forget_at = _NEVER if forget_at is None else forget_at
            if forget_after is not None:
                new.forget_at = now + forget_after
            new.lease_until = now + lease
            new.callbacks = [] if found is None else [one for one in found.callbacks if one.id not in taken]
            self._entries[key] = new
            self._old.put(key, new.forget_at)
            self._wake(key, new, wake_after, now)
        return new.revision

    def remove(self, key: str, *, store_options: Any = None) -> None:  # noqa: ARG002
        """Forget the record, if there is one."""
        with self._lock:
            self._remove(key)

    def keys(self) -> list[str]:
        """Return the keys of all records."""
        with self._lock:
            self._drop_old(self._time())
            return list(self._entries)

    def claim(self, limit: int, lease: float, *, store_options: Any = None) -> Claims:  # noqa: ARG002
        """Hand out records that are due; see `ciba_core.ClaimingStore`."""
        with self._lock:
            now = self._time()
            self._drop_old(now)
            claimed: list[Claimed] = []
            for key in list(itertools.islice(self._due.due(now), limit)):
                entry = self._entries[key]
                entry.revision, entry.lease_until = secrets.token_hex(8), now + lease
                self._due.put(key, max(entry.wake_at, entry.lease_until))
                claimed.append(Claimed(key, _record(entry, now), now - entry.wake_at))
            return Claims(now, tuple(claimed))

    def renew(self, key: str, revision: str, lease: float, *, store_options: Any = None) -> bool:  # noqa: ARG002
        """Keep a record that was claimed for `lease` seconds more; see `ciba_core.ClaimingStore`."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or entry.revision != revision:
                return False
            entry.lease_until = self._time() + lease
            self._due.put(key, max(entry.wake_at, entry.lease_until))
            return True

    def release(
        self,
        key: str,
        revision: str,
        *,
        wake_after: float | None,
        store_options: Any = None,  # noqa: ARG002
    ) -> bool:
        """Give a record back, due in `wake_after` seconds; see `ciba_core.ClaimingStore`."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or entry.revision != revision:
                return False
            entry.lease_until = 0.0
            self._wake(key, entry, wake_after, self._time())
            return True

    def deliver(self, key: str, text: str, *, store_options: Any = None) -> bool:  # noqa: ARG002
        """Keep a callback for a record and make the record due now; see `ciba_core.ClaimingStore`."""
        with self._lock:
            now = self._time()
            self._drop_old(now)
            entry = self._entries.get(key)
            if entry is None:
                return False
            if all(one.text != text for one in entry.callbacks):
                if len(entry.callbacks) >= CALLBACKS:
                    return False
                entry.callbacks.append(StoredCallback(secrets.token_hex(8), text))
            if entry.wake_at != _NEVER:
                self._wake(key, entry, 0.0, now)
            return True

    def pending(self, limit: int = 1000, *, after: str = "", store_options: Any = None) -> list[str]:  # noqa: ARG002
        """Return the keys of records that are due now or later; see `ciba_core.ClaimingStore`."""
        with self._lock:
            self._drop_old(self._time())
            found = (key for key, entry in self._entries.items() if entry.wake_at != _NEVER and key > after)
            return heapq.nsmallest(limit, found)

    def purge(self, limit: int = 1000, *, store_options: Any = None) -> int:  # noqa: ARG002
        """Drop records that may be forgotten, and return how many; all other methods drop them, too."""
        with self._lock:
            return self._drop_old(self._time(), limit)

    # Call the methods below with the lock held.

    def _wake(self, key: str, entry: _Entry, wake_after: float | None, now: float) -> None:
        entry.wake_at = _NEVER if wake_after is None else now + (0.0 if entry.callbacks else wake_after)
        self._due.put(key, max(entry.wake_at, entry.lease_until))

    def _drop_old(self, now: float, limit: int | None = None) -> int:
        count = 0
        for key in itertools.islice(self._old.due(now), limit):
            self._remove(key)
            count += 1
        return count

    def _remove(self, key: str) -> None:
        self._entries.pop(key, None)
        self._due.drop(key)
        self._old.drop(key)


def _record(entry: _Entry, now: float | None = None) -> StoredRecord:
    # `load` gives no age: within one process there is only the caller's own clock.
    age = None if now is None else max(now - entry.saved_at, 0.0)
    return StoredRecord(text=entry.text, revision=entry.revision, age=age, callbacks=tuple(entry.callbacks))


def memory_stores(*, time: Callable[[], float] = time.time) -> Stores:
    """Return stores in memory, for tests and for applications that need not survive a restart.

    Args:
        time: the wall clock in POSIX seconds; see `MemoryStore`.

    """
    return Stores(
        transactions=MemoryStore(time=time),
        sessions=MemoryStore(time=time),
        secrets=secrets.token_urlsafe(32),
    )
