"""Batch writer of a lane's outcomes: single statements at a low rate, large batches at a high one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Generic

import structlog

from telewarm import clock
from telewarm.database.transient import is_transient
from telewarm.worker.work import Done, Item, Work

log = structlog.get_logger(__name__)

MAX_BATCH = 200  # outcomes in one statement
RETRY_SECONDS = 0.5  # between tries while the database is away


class OutcomeRecorder(Generic[Item, Done]):
    """Retries while the database is unavailable, because Telegram's answer would be lost with the outcome.

    `on_recorded`: called with the number of outcomes that were written or dropped.
    """

    def __init__(self, work: Work[Item, Done], *, on_recorded: Callable[[int], None]) -> None:
        self._work = work
        self._on_recorded = on_recorded
        self._outcomes: list[Done] = []
        self._changed = asyncio.Event()
        self._finished = False
        self._give_up_at = math.inf

    def add(self, outcome: Done) -> None:
        """Add an outcome to the next batch."""
        self._outcomes.append(outcome)
        self._changed.set()

    def finish(self) -> None:
        """End `run` once all outcomes are written."""
        self._finished = True
        self._changed.set()

    def give_up_in(self, seconds: float) -> None:
        """Limit the retries to some seconds, because the process ends."""
        self._give_up_at = clock.monotonic() + seconds

    @property
    def has_given_up(self) -> bool:
        """Whether the limit of `give_up_in` has passed."""
        return clock.monotonic() > self._give_up_at

    async def run(self) -> None:
        """Write batches until `finish`."""
        while not self._finished or self._outcomes:
            await self._changed.wait()
            self._changed.clear()
            while self._outcomes:
                batch, self._outcomes = self._outcomes[:MAX_BATCH], self._outcomes[MAX_BATCH:]
                await self._write(batch)
                self._on_recorded(len(batch))

    async def _write(self, batch: list[Done]) -> None:
        while True:
            try:
                await self._work.record(batch)
            except Exception as error:
                if not is_transient(error):
                    log.exception("outcome_write_failed", outcomes=len(batch))
                    await self._write_one_by_one(batch, error)
                    return
                log.warning("outcome_write_retried", outcomes=len(batch), error=type(error).__name__)
                if self.has_given_up:
                    log.exception("outcomes_dropped", outcomes=len(batch))
                    return
                await clock.sleep(RETRY_SECONDS)
            else:
                return

    async def _write_one_by_one(self, batch: list[Done], error: Exception) -> None:
        """Write one by one after a batch was refused.

        A refused outcome is replaced by a failure; a refused failure is dropped.
        """
        if len(batch) > 1:
            for one in batch:
                await self._write([one])
        elif (replacement := self._work.unstorable(batch[0], error)) is not None:
            await self._write([replacement])
