"""Tail of the event table: read once for all subscribers of this process, buffered for a short time."""

from __future__ import annotations

import asyncio
import math
from collections import deque

import structlog

from telewarm import clock
from telewarm.database import events
from telewarm.database.connection import Pool
from telewarm.database.leases import sweep
from telewarm.database.notifications import subscribe
from telewarm.database.transient import is_transient
from telewarm.errors import DatabaseUnavailable
from telewarm.events.batches import EventBatch, batched

log = structlog.get_logger(__name__)

READ_PAUSE_SECONDS = 0.1  # seconds between two reads, so that events are read in batches
POLL_SECONDS = 5.0  # seconds between reads without a notification, and between checks for dead processes
HEARTBEAT_SECONDS = 15.0  # seconds between two heartbeats, and up to a poll interval more
READ_SECONDS = 5.0
MAX_BUFFERED_EVENTS = 5000  # for subscribers that are a little behind


class EventTail:
    """Runs while there are subscribers. `upto`: number of the newest event that was read."""

    def __init__(self, pool: Pool) -> None:
        self.upto = 0
        self.closed = False
        self.changed = asyncio.Event()  # set once, for news or a heartbeat; then replaced by another
        self._pool = pool
        self._batches: deque[EventBatch] = deque()
        self._buffered = 0
        self._read_requested = asyncio.Event()
        self._swept_at = -math.inf

    async def run(self, ready: asyncio.Future[None]) -> None:
        """Read until cancelled. `ready`: set once it listens, or to the error that prevents it."""
        try:
            async with subscribe(self._pool, {events.CHANNEL: self._on_notification}, on_lost=self._read_requested.set):
                async with asyncio.timeout(READ_SECONDS):
                    self.upto = await events.assign_sequence(self._pool)
                ready.set_result(None)
                await self._read_next()
        except Exception as error:
            if ready.done() or not is_transient(error):
                raise
            words = str(error) if isinstance(error, DatabaseUnavailable) else type(error).__name__
            ready.set_exception(DatabaseUnavailable(f"events cannot be listened to now: {words}"))

    def batch_after(self, seen: int) -> EventBatch | None:
        """Return the buffered batch after a number; None if it is not buffered."""
        for batch in reversed(self._batches):
            if batch.after <= seen:
                return batch if seen < batch.upto else None
        return None

    def close(self) -> None:
        """Wake all subscribers for the last time."""
        self.closed = True
        self._wake()

    def _on_notification(self, _payload: str) -> None:
        self._read_requested.set()

    async def _read_next(self) -> None:
        beat_at = clock.monotonic() + HEARTBEAT_SECONDS
        while True:
            heard = await clock.wait(self._read_requested, min(beat_at - clock.monotonic(), POLL_SECONDS))
            self._read_requested.clear()
            await self._read_with_retry()
            if clock.monotonic() >= beat_at:
                beat_at = clock.monotonic() + HEARTBEAT_SECONDS
                self._wake()
            if heard:
                await clock.sleep(READ_PAUSE_SECONDS)

    async def _read_with_retry(self) -> None:
        """Read, and leave what fails to the next poll."""
        try:
            async with asyncio.timeout(READ_SECONDS):
                await self._read()
                if clock.monotonic() >= self._swept_at + POLL_SECONDS:
                    self._swept_at = clock.monotonic()
                    await self._sweep()
        except Exception as error:
            if is_transient(error):
                log.warning("events_read_failed", error=type(error).__name__)
            else:
                log.exception("unhandled_exception")

    async def _sweep(self) -> None:
        """Sweep, as workers do: this may be the only process left to report a dead one."""
        await sweep(self._pool)
        await events.trim(self._pool)

    async def _read(self) -> None:
        while (page := await events.read_after(self._pool, self.upto)).last_id != self.upto:
            if page.is_gap:  # each subscriber finds the gap itself
                self._batches.clear()
                self._buffered = 0
            for batch in batched(page.events, after=self.upto, upto=page.last_id):
                self._batches.append(batch)
                self._buffered += len(batch)
            while self._buffered > MAX_BUFFERED_EVENTS:
                self._buffered -= len(self._batches.popleft())
            self.upto = page.last_id
            self._wake()

    def _wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()
