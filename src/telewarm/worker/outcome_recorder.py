"""Batch writer of a lane's outcomes: one at a time when they come slowly, many in a statement when they come fast."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Generic

import structlog

from telewarm import clock
from telewarm.database.batch_writer import BatchWriter, FifoBuffer
from telewarm.database.retry import RETRY_SECONDS
from telewarm.worker.work import Done, Item, Work

log = structlog.get_logger(__name__)

MAX_BATCH = 200  # outcomes in one statement


class OutcomeRecorder(Generic[Item, Done]):
    """Keeps trying while the database is away: Telegram's answer would be lost with the outcome.

    An outcome that cannot be stored fails alone, with the reason. `on_recorded`: called with how many outcomes were
    written, or given up.
    """

    def __init__(self, work: Work[Item, Done], *, on_recorded: Callable[[int], None]) -> None:
        self._on_recorded = on_recorded
        self._outcomes: FifoBuffer[Done] = FifoBuffer()
        self._writer = BatchWriter(
            self._outcomes,
            work.record,
            name="lane outcomes",
            max_batch=MAX_BATCH,
            replace=work.unstorable,
            on_written=on_recorded,
        )
        self._changed = asyncio.Event()
        self._finished = False
        self._give_up_at = math.inf

    def add(self, outcome: Done) -> None:
        """Record an outcome soon."""
        self._outcomes.add(outcome)
        self._changed.set()

    def finish(self) -> None:
        """End `run` once all outcomes are written: no more come."""
        self._finished = True
        self._changed.set()

    def give_up_in(self, seconds: float) -> None:
        """Limit the time that the database has to come back: the process ends."""
        self._give_up_at = clock.monotonic() + seconds

    @property
    def has_given_up(self) -> bool:
        """Whether the time for the database to come back is over."""
        return clock.monotonic() > self._give_up_at

    async def run(self) -> None:
        """Write outcomes until `finish`."""
        while not self._finished or self._outcomes:
            await self._changed.wait()
            self._changed.clear()
            while not await self._writer.flush():
                if self.has_given_up:
                    dropped = len(self._outcomes.take(len(self._outcomes)))
                    log.error("outcomes_dropped", outcomes=dropped)
                    self._on_recorded(dropped)
                    break
                await clock.sleep(RETRY_SECONDS)
