"""The sandbox's own clock: it shares nothing with the rest of Telewarm."""

from __future__ import annotations

import asyncio
import time

monotonic = time.monotonic


class Clock:
    """The wall clock, shifted by `offset` seconds."""

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset

    def now(self) -> int:
        """Return Unix time in whole seconds, as messages are dated."""
        return int(time.time() + self.offset)


async def sleep(seconds: float) -> None:
    """Sleep."""
    if seconds > 0:
        await asyncio.sleep(seconds)
