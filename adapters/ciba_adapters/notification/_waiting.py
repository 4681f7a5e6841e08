"""Lets a thread, or a task of any event loop, wait for something that another thread or loop does."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable
from typing import Protocol

__all__ = ["Bell", "Pause"]


class Pause(Protocol):
    """A wait of a thread that others can cut short, such as a `Cancellation`."""

    def wait(self, seconds: float, until: Callable[[], bool]) -> None:
        """Wait that many seconds, or until `until` is true, which is asked at first and after each `wake`."""
        ...

    def wake(self) -> None:
        """Have `until` asked again; safe from any thread."""
        ...


class Bell:
    """Wakes one thread or task that waits for a condition to become true.

    First make the condition true, then `ring`: so no wait misses it.
    """

    def __init__(self) -> None:
        self._wake: Callable[[], None] | None = None

    def listen(self, called: Callable[[], None]) -> None:
        """Have a function called at each ring, in the thread that rings, in place of a wait."""
        self._wake = called

    def ring(self) -> None:
        """Wake the waiting thread or task, if there is one; safe from any thread and any event loop."""
        wake = self._wake
        if wake is not None:
            wake()

    def wait(self, seconds: float, until: Callable[[], bool], pause: Pause | None = None) -> None:
        """Have the thread wait that many seconds, or until `until` is true, or `pause` is ended otherwise."""
        pause = pause or _ThreadPause()
        self._wake = pause.wake
        try:
            pause.wait(seconds, until)
        finally:
            self._wake = None

    async def wait_async(self, seconds: float, until: Callable[[], bool]) -> None:
        """Have the task wait that many seconds, or until `until` is true; cancellable as its loop does it."""
        pause = _task_pause()
        self._wake = pause.wake
        try:
            if until():
                pause.wake()
            await pause.wait(seconds)
        finally:
            self._wake = None


class _ThreadPause:
    def __init__(self) -> None:
        self._event = threading.Event()
        self.wake = self._event.set

    def wait(self, seconds: float, until: Callable[[], bool]) -> None:
        if not until():
            self._event.wait(seconds)


class _TaskPause(Protocol):
    def wake(self) -> None: ...

    async def wait(self, seconds: float) -> None: ...


class _AsyncioPause:
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed, and its tasks are gone
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()


def _task_pause() -> _TaskPause:
    # Neither trio nor anyio is needed to serve, or to wait, under asyncio. Where trio runs, it is imported.
    if "trio" in sys.modules:
        from ciba_adapters.notification import _trio_waiting  # noqa: PLC0415  # see above

        if _trio_waiting.in_trio():
            return _trio_waiting.TrioPause()
    return _AsyncioPause()
