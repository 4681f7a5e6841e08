"""Runs a program as a process of its own, in which waits pass at once: ``python fast_forward.py PROGRAM``.

Under asyncio the clock of the event loop jumps, so that whatever else was to happen meanwhile, such as the
end of a cancel scope, happens.
"""

from __future__ import annotations

import asyncio
import runpy
import sys
import time
from unittest.mock import patch

import anyio

from ciba_adapters._cancellation import Cancellation

_sleep = anyio.sleep
_skipped = 0.0


def _loop_time(_loop: object) -> float:
    return time.monotonic() + _skipped


def _skip(seconds: float) -> None:
    global _skipped  # noqa: PLW0603  # one clock for the process
    _skipped += seconds


async def _skipping_sleep(seconds: float) -> None:
    asyncio.get_running_loop().call_soon(_skip, seconds)
    await _sleep(seconds)


def _no_wait(_cancellation: Cancellation, _seconds: float, _until: object = None) -> None:
    pass


if __name__ == "__main__":
    with (
        patch.object(asyncio.BaseEventLoop, "time", _loop_time),
        patch.object(anyio, "sleep", _skipping_sleep),
        patch.object(Cancellation, "wait", _no_wait),
    ):
        runpy.run_path(sys.argv[1], run_name="__main__")
