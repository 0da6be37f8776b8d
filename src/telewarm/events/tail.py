"""Tail of the event table: read once for all subscribers of this process, buffered for a moment."""

from __future__ import annotations

import asyncio
import math
from collections import deque

import structlog

from telewarm import clock
from telewarm.database import events
from telewarm.database.connection import Pool
from telewarm.database.leases import sweep
from telewarm.database.notifications import listening
from telewarm.database.transient import is_transient
from telewarm.errors import DatabaseUnavailable
from telewarm.events.batches import EventBatch, batched

log = structlog.get_logger(__name__)

PAUSE = 0.1  # seconds between two reads: what happens meanwhile comes together
LOOK = 5.0  # seconds between reads that no notification asked for, and looks for processes that died
BEAT = 15.0  # seconds between two signs of life, and up to LOOK more
READ_SECONDS = 5.0
HELD = 5000  # events that are kept for those who are a little behind


class EventTail:
    """Runs while somebody listens. `upto`: the number of the newest event that was read."""

    def __init__(self, pool: Pool) -> None:
        self.upto = 0
        self.closed = False
        self.changed = asyncio.Event()  # set once, when there is news or a sign of life is due; then another takes over
        self._pool = pool
        self._batches: deque[EventBatch] = deque()
        self._held = 0
        self._look = asyncio.Event()
        self._swept_at = -math.inf

    async def run(self, ready: asyncio.Future[None]) -> None:
        """Until cancelled. `ready`: it listens, or why it does not."""
        try:
            async with listening(self._pool, {events.CHANNEL: self._heard}, on_lost=self._look.set):
                async with asyncio.timeout(READ_SECONDS):
                    self.upto = await events.number(self._pool)
                ready.set_result(None)
                await self._read_next()
        except Exception as error:
            if ready.done() or not is_transient(error):
                raise
            words = str(error) if isinstance(error, DatabaseUnavailable) else type(error).__name__
            ready.set_exception(DatabaseUnavailable(f"events cannot be listened to now: {words}"))

    def batch_after(self, seen: int) -> EventBatch | None:
        """What follows a number, if it is kept here."""
        for batch in reversed(self._batches):
            if batch.after <= seen:
                return batch if seen < batch.upto else None
        return None

    def close(self) -> None:
        self.closed = True
        self._wake()

    def _heard(self, _payload: str) -> None:
        self._look.set()

    async def _read_next(self) -> None:
        beat_at = clock.monotonic() + BEAT
        while True:
            heard = await clock.wait(self._look, min(beat_at - clock.monotonic(), LOOK))
            self._look.clear()
            await self._read_with_retry()
            if clock.monotonic() >= beat_at:
                beat_at = clock.monotonic() + BEAT
                self._wake()
            if heard:
                await clock.sleep(PAUSE)

    async def _read_with_retry(self) -> None:
        """What fails is done again with the next look."""
        try:
            async with asyncio.timeout(READ_SECONDS):
                await self._read()
                if clock.monotonic() >= self._swept_at + LOOK:
                    self._swept_at = clock.monotonic()
                    await self._sweep()
        except Exception as error:
            if is_transient(error):
                log.warning("events_read_failed", error=type(error).__name__)
            else:
                log.exception("unhandled_exception")

    async def _sweep(self) -> None:
        """As workers do. Perhaps there is none left: then it is here that one is told of as gone."""
        await sweep(self._pool)
        await events.trim(self._pool)

    async def _read(self) -> None:
        while (page := await events.after(self._pool, self.upto)).upto != self.upto:
            if page.lost:  # each of those who listen finds it out for itself
                self._batches.clear()
                self._held = 0
            for batch in batched(page.events, after=self.upto, upto=page.upto):
                self._batches.append(batch)
                self._held += len(batch)
            while self._held > HELD:
                self._held -= len(self._batches.popleft())
            self.upto = page.upto
            self._wake()

    def _wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()
