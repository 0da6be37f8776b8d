"""Claims jobs for a lane ahead of time, within its share of the worker's budget, and releases what was not done."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import AbstractContextManager
from typing import Generic

import structlog

from telewarm import clock
from telewarm.database.transient import is_transient
from telewarm.worker.claim_pacing import ClaimPacing
from telewarm.worker.outcome_recorder import RETRY_SECONDS, OutcomeRecorder
from telewarm.worker.work import BudgetShare, Done, Item, Job, Work

log = structlog.get_logger(__name__)


class JobClaimer(Generic[Item, Done]):
    """`held`: the lane's queue, into which claimed jobs go. `changed`: set when there may be more to do."""

    def __init__(
        self,
        work: Work[Item, Done],
        share: BudgetShare,
        *,
        held: deque[Job[Item]],
        pacing: ClaimPacing,
        changed: asyncio.Event,
    ) -> None:
        self.pacing = pacing
        self.task: asyncio.Task[None] | None = None
        self._work = work
        self._share = share
        self._held = held
        self._changed = changed

    def joined(self) -> AbstractContextManager[None]:
        """While the lane runs, it has a share of the budget."""
        return self._share.joined()

    def give_back(self, count: int) -> None:
        """So many claimed jobs are held no more."""
        self._share.give_back(count)

    def refill(self, now: float) -> None:
        """Claim in the background, when it is time. Raises what the claim before raised."""
        if self.task is not None and self.task.done():
            task, self.task = self.task, None
            task.result()
        if self.task is not None or not (wanted := self.pacing.wanted(len(self._held), now=now)):
            return
        limit = self._share.take(wanted)
        if limit == 0:
            self._share.call_when_freed(self._changed.set)
            return
        self.pacing.begin(now=now)
        self.task = asyncio.create_task(self._claim(limit), name="lane claim")

    async def _claim(self, limit: int) -> None:
        claimed = 0
        try:
            jobs = await self._work.claim(limit)
            claimed = len(jobs)
            self._held.extend(jobs)
            self.pacing.end(claimed, limit=limit)
        finally:
            self._share.give_back(limit - claimed)
            self._changed.set()

    def log_failure(self) -> None:
        """Of a claim that is done, when nobody asks for jobs any more."""
        if self.task is not None and (error := self.task.exception()) is not None:
            log.warning("lane_claim_failed", error=type(error).__name__)

    async def release_held(self, recorder: OutcomeRecorder[Item, Done]) -> None:
        """However long the database is away: this process keeps its lease, so that nobody else would free them."""
        items = [job.item for job in self._held]
        self._held.clear()
        self._share.give_back(len(items))
        while items:
            try:
                await self._work.release(items)
            except Exception as error:
                if not is_transient(error):
                    raise
                if recorder.has_given_up:
                    return  # the process ends, and its lease with it
                await clock.sleep(RETRY_SECONDS)
            else:
                return

    def close(self) -> None:
        """The lane has ended: what it claimed and did not release is in nobody's hand."""
        self._work.end()
