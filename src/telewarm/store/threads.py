"""Disk work off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

Result = TypeVar("Result")

HOP = 1 << 18  # bytes below which reading, hashing or writing (0.2 ms) costs less than a hop to a thread and back


async def in_thread(work: Callable[[], Result]) -> Result:
    """Run blocking work in a thread. A cancelled caller still waits for it, since it is about to close its files."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # fetched, for the caller is gone and nobody else will
        raise


async def near(size: int, work: Callable[[], Result]) -> Result:
    """Do work over `size` bytes where it is cheaper: here, or in a thread."""
    return work() if size <= HOP else await in_thread(work)
