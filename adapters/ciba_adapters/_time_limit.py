"""A time limit for a call in a task of any event loop."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["within"]

ResultT = TypeVar("ResultT")


async def within(seconds: float, call: Callable[[], Awaitable[ResultT]]) -> ResultT | None:
    """Return the result of a call, or cancel it after that many seconds and return ``None``.

    The call must raise no `TimeoutError` of its own.
    """
    # Neither trio nor anyio is needed under asyncio. Where trio runs, it is imported.
    if "trio" in sys.modules:
        from ciba_adapters.notification import _trio_waiting  # noqa: PLC0415  # see above

        if _trio_waiting.in_trio():
            return await _trio_waiting.within(seconds, call)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await call()
    return None
