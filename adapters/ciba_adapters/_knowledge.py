"""The knowledge of a provider, held in one place for all clients that speak to it."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Final, Self

from attrs import evolve

from ciba_adapters.notification._waiting import Bell, Pause
from ciba_core import Delivery, HttpRequest, Input, RequestFailed, ResponseReceived, Shared
from ciba_core.provider.shared import NOTHING_SHARED

__all__ = ["KeyFetch", "ProviderKnowledge"]


_LINGERING: Final = 0.5
"""Seconds for which an answer serves others, until the thread that got it has taken it in."""


class KeyFetch:
    """A request for a key set, and the callers that wait for its outcome.

    The caller that began it sends the request, within a ``with`` block, and sets `outcome`.
    """

    def __init__(self, knowledge: ProviderKnowledge, url: str) -> None:
        self._knowledge = knowledge
        self._url = url
        self._bells: list[Bell] = []
        self._is_over = False
        self._ended_at: float | None = None
        self.outcome: ResponseReceived | RequestFailed | None = None
        """The outcome; ``None`` at the end if the call that sent the request was cancelled."""

    @property
    def is_stale(self) -> bool:
        """Whether it ended so long ago that the next caller should ask for itself."""
        return self._ended_at is not None and time.monotonic() - self._ended_at > _LINGERING

    def outcome_for(self, request: HttpRequest) -> ResponseReceived | RequestFailed | None:
        """Return the outcome as that of another request for the same; ``None``: ask for yourself."""
        if not self._is_over:
            reason = "timed out waiting for a key set that another call fetches"
            return RequestFailed(request.id, Delivery.NOT_SENT, reason, elapsed=0.0)
        return None if self.outcome is None else evolve(self.outcome, request_id=request.id)

    def wait(self, seconds: float, pause: Pause | None) -> None:
        """Block the thread until it is over, for so many seconds at most, or until `pause` is ended."""
        self._new_bell().wait(seconds, self._ended, pause)

    async def wait_async(self, seconds: float) -> None:
        """Like `wait`, for a task under asyncio or trio."""
        await self._new_bell().wait_async(seconds, self._ended)

    def _new_bell(self) -> Bell:
        bell = Bell()
        self._bells.append(bell)
        return bell

    def _ended(self) -> bool:
        return self._is_over

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended_at = time.monotonic()
        if not isinstance(self.outcome, ResponseReceived):
            self._knowledge.forget(self._url)
        self._is_over = True
        for bell in [*self._bells]:
            bell.ring()


class ProviderKnowledge:
    """The things learnt of one provider: its key set, and the DPoP nonces of its servers.

    By default each client has its own. Clients of the same provider that get the same one, as ``knowledge=``,
    share it: a key set is fetched once for all of them, even if many need it at the same time. Safe to use
    from any thread and any event loop. It holds no secrets.

    Args:
        shared: what is known at first.

    """

    def __init__(self, shared: Shared = NOTHING_SHARED) -> None:
        self.shared = shared
        """What is known now."""
        self._lock = threading.Lock()
        self._fetches: dict[str, KeyFetch] = {}

    def learn(self, before: Shared, after: Shared) -> None:
        """Take over what a step has learnt, and keep what other steps have learnt since it began.

        Args:
            before: what the step was given.
            after: what it returned.

        """
        if after is before:
            return
        with self._lock:
            present = self.shared
            if present is not before:
                nonces = {
                    origin: nonce
                    for origin, nonce in after.dpop_nonces.items()
                    if before.dpop_nonces.get(origin) != nonce
                }
                keys = present.keys if after.keys is before.keys else after.keys
                after = Shared(keys, {**present.dpop_nonces, **nonces})
            self.shared = after

    def fetch(self, url: str) -> tuple[KeyFetch, bool]:
        """Return the fetch of a key set that is under way, or a new one, and whether it is a new one.

        For transports and drivers; a client does this by itself.
        """
        with self._lock:
            found = self._fetches.get(url)
            if found is not None and not found.is_stale:
                return found, False
            self._fetches[url] = fetch = KeyFetch(self, url)
            return fetch, True

    def taken_in(self, happened: Input | None) -> None:
        """If this is the outcome of a fetch, end the sharing of it: its key set is known now."""
        if self._fetches:
            with self._lock:
                for url, fetch in [*self._fetches.items()]:
                    if fetch.outcome is happened and happened is not None:
                        del self._fetches[url]

    def forget(self, url: str) -> None:
        """Have the next caller fetch anew."""
        with self._lock:
            self._fetches.pop(url, None)
