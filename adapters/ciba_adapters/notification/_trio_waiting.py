"""Lets a task of trio wait for another thread or loop; see `_waiting`."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

__all__ = ["TrioPause", "in_trio", "within"]

ResultT = TypeVar("ResultT")


def in_trio() -> bool:
    """Tell whether the caller runs under trio."""
    try:
        trio.lowlevel.current_trio_token()
    except RuntimeError:
        return False
    return True


async def within(seconds: float, call: Callable[[], Awaitable[ResultT]]) -> ResultT | None:
    """Return the result of a call, or cancel it after that many seconds and return ``None``."""
    with trio.move_on_after(seconds):
        return await call()
    return None


class TrioPause:
    """One wait of the current task."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._event = trio.Event()

    def wake(self) -> None:
        """End the wait; safe from any thread."""
        with contextlib.suppress(trio.RunFinishedError):  # trio has ended, and its tasks with it
            self._token.run_sync_soon(self._event.set)

    async def wait(self, seconds: float) -> None:
        """Wait that many seconds, or until `wake` is called."""
        with trio.move_on_after(seconds):
            await self._event.wait()
