"""How a task of trio waits for another thread or loop; see `_waiting`."""

from __future__ import annotations

import contextlib

import trio

__all__ = ["TrioPause", "in_trio"]


def in_trio() -> bool:
    """Tell whether the caller runs under trio."""
    try:
        trio.lowlevel.current_trio_token()
    except RuntimeError:
        return False
    return True


class TrioPause:
    """One wait of the current task."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._event = trio.Event()

    def wake(self) -> None:
        """End the wait; safe from any thread."""
        with contextlib.suppress(trio.RunFinishedError):  # its tasks are gone
            self._token.run_sync_soon(self._event.set)

    async def wait(self, seconds: float) -> None:
        """Wait that many seconds, or until `wake` is called."""
        with trio.move_on_after(seconds):
            await self._event.wait()
