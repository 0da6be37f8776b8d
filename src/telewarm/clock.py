"""Clock: the only module that reads time or sleeps."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime

monotonic = time.monotonic  # seconds, for deadlines and durations


def now() -> datetime:
    """Return the wall clock as an aware time in UTC."""
    return datetime.now(UTC)


async def sleep(seconds: float) -> None:
    """Pause a task whose owner cancels it. Loops wait for their stop event with `wait` instead."""
    await asyncio.sleep(max(0.0, seconds))


async def wait(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event for at most `seconds`. Returns whether it is set."""
    if not event.is_set() and seconds > 0:
        with suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()
