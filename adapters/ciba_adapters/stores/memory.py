"""A store in the memory of one process."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

from ciba_core import StoredRecord, Stores
from ciba_core.errors import StoreConflict

__all__ = ["MemoryStore", "memory_stores"]


class MemoryStore:
    """Keeps logins, or sessions, until the process ends. Safe to use from several threads and tasks.

    Args:
        time: the wall clock in POSIX seconds, by which records are dropped that need not be kept any more.

    """

    def __init__(self, *, time: Callable[[], float] = time.time) -> None:
        self._time = time
        self._lock = threading.Lock()
        self._records: dict[str, tuple[StoredRecord, float | None]] = {}

    def load(self, key: str, *, store_options: Any = None) -> StoredRecord | None:  # noqa: ARG002  # not needed here
        """Return what is stored under the key, or ``None``."""
        with self._lock:
            return self._find(key)

    def save(
        self,
        key: str,
        text: str,
        *,
        expected_revision: str | None,
        forget_at: float | None = None,
        store_options: Any = None,  # noqa: ARG002
    ) -> str:
        """Store a text if the record is still at `expected_revision`, and return its new revision.

        Raises:
            StoreConflict: it is not; nothing was changed.

        """
        new = StoredRecord(text, secrets.token_hex(8))
        with self._lock:
            found = self._find(key)
            if (None if found is None else found.revision) != expected_revision:
                raise StoreConflict("somebody else changed the record since it was loaded")
            self._records[key] = new, forget_at
        return new.revision

    def remove(self, key: str, *, store_options: Any = None) -> None:  # noqa: ARG002
        """Forget the record, if there is one."""
        with self._lock:
            self._records.pop(key, None)

    def keys(self) -> list[str]:
        """Return the keys of all records, to go on with after a restart."""
        with self._lock:
            self._drop_old()
            return list(self._records)

    def _find(self, key: str) -> StoredRecord | None:
        self._drop_old()
        found = self._records.get(key)
        return None if found is None else found[0]

    def _drop_old(self) -> None:
        now = self._time()
        for key in [key for key, (_, end) in self._records.items() if end is not None and end <= now]:
            del self._records[key]


def memory_stores(*, time: Callable[[], float] = time.time) -> Stores:
    """Return stores in memory, for tests and for applications that need not survive a restart."""
    return Stores(
        transactions=MemoryStore(time=time),
        sessions=MemoryStore(time=time),
        secrets=secrets.token_urlsafe(32),
    )
