"""Job claimer of a lane: claims jobs in advance, within its share of the worker's budget, and releases unused ones."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import AbstractContextManager
from functools import partial
from itertools import repeat, takewhile
from typing import Generic

import structlog

from telewarm.database.retry import RETRY_SECONDS, log_transient, retry_transient
from telewarm.worker.claim_pacing import ClaimPacing
from telewarm.worker.outcome_recorder import OutcomeRecorder
from telewarm.worker.work import BudgetShare, Done, Item, Job, Work

log = structlog.get_logger(__name__)


class JobClaimer(Generic[Item, Done]):
    """`held`: the lane's queue for claimed jobs. `changed`: set when more work may be possible."""

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
        """Hold a share of the budget while the lane runs."""
        return self._share.joined()

    def give_back(self, count: int) -> None:
        """Return the budget of jobs that are no longer held."""
        self._share.give_back(count)

    def refill(self, now: float) -> None:
        """Claim in the background, when a claim is due. Raises the exception of the previous claim."""
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
        """Log the failure of a finished claim after the lane has stopped asking for jobs."""
        if self.task is not None and (error := self.task.exception()) is not None:
            log.warning("lane_claim_failed", error=type(error).__name__)

    async def release_held(self, recorder: OutcomeRecorder[Item, Done]) -> None:
        """Release the held jobs, with retries until the database is reachable: the lease would keep them."""
        items = [job.item for job in self._held]
        self._held.clear()
        self._share.give_back(len(items))
        if not items:
            return
        delays = takewhile(lambda _: not recorder.has_given_up, repeat(RETRY_SECONDS))
        with log_transient("lane_release_given_up", items=len(items)):  # the process ends, and its lease with it
            release = partial(self._work.release, items)
            await retry_transient(release, event="lane_release_retried", delays=delays, items=len(items))

    def close(self) -> None:
        """Forget the claims of a lane that has ended."""
        self._work.end()
