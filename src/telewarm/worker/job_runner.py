"""Job runner of a lane: runs each job in a task, and decides what happens to failed ones."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Generic

import structlog

from telewarm import clock
from telewarm.database.transient import as_unavailable_error
from telewarm.errors import FloodWait, TelegramClientError, TelewarmError
from telewarm.flood_control.failure_counter import FailureCounter
from telewarm.flood_control.flood_wait import apply_flood_wait
from telewarm.flood_control.limiter import BotRateLimiter, FloodPause, Permit
from telewarm.worker.outcome_recorder import OutcomeRecorder
from telewarm.worker.work import Done, Item, Job, Work

log = structlog.get_logger(__name__)


class JobRunner(Generic[Item, Done]):
    """`held`: the lane's queue, to which unfinished jobs return.

    `on_pause`: called with the pause that a 429 asks for. `on_done`: called after each job.
    """

    def __init__(
        self,
        work: Work[Item, Done],
        limiter: BotRateLimiter,
        *,
        held: deque[Job[Item]],
        recorder: OutcomeRecorder[Item, Done],
        breaker: FailureCounter,
        on_pause: Callable[[FloodPause], None],
        on_done: Callable[[], None],
    ) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self._work = work
        self._limiter = limiter
        self._held = held
        self._recorder = recorder
        self.breaker = breaker
        self._on_pause = on_pause
        self._on_done = on_done

    def start(self, job: Job[Item], permit: Permit) -> None:
        """Start a job in a task of its own."""
        task = asyncio.create_task(self._run(job, permit), name="lane job")
        self.tasks.add(task)
        task.add_done_callback(partial(self._on_task_done, job, permit))

    def cancel_all(self) -> None:
        """Cancel all running jobs."""
        for task in self.tasks:
            task.cancel()

    async def _run(self, job: Job[Item], permit: Permit) -> None:
        """Run a job.

        Every path returns the permit; `_on_task_done` does it for a cancelled task, which may not have begun.
        """
        try:
            outcome = await self._work.do(job.item, permit.chat_id)
        except FloodWait as wait:
            self._flooded(job, permit, wait)
        except TelewarmError as error:
            self._return_permit(permit, answered=isinstance(error, TelegramClientError))
            self._failed(job, error)
        except Exception as error:
            self._return_permit(permit, answered=False)
            if (outage := as_unavailable_error(error)) is not None:
                self._failed(job, outage)
                return
            log.exception("unhandled_exception")
            self._recorder.add(self._work.failed(job.item, TelewarmError(f"unexpected {type(error).__name__}")))
        else:
            self._return_permit(permit, answered=True)
            self.breaker.succeeded()
            self._recorder.add(outcome)

    def _return_permit(self, permit: Permit, *, answered: bool) -> None:
        now = clock.monotonic()
        if answered:
            self._limiter.confirm(permit, now=now, retry_after=None)
        else:
            self._limiter.abandon_permit(permit, now=now)

    def _failed(self, job: Job[Item], error: TelewarmError) -> None:
        """Handle a failed job. During an outage it is held again and others go first, unless it is the only one."""
        now, retry_at = clock.monotonic(), self.breaker.retry_at
        if self.breaker.failed(error, now=now, dice=random.random()) and (self._held or len(self.tasks) > 1):  # noqa: S311 (jitter)
            self._held.append(job)
            if self.breaker.retry_at > retry_at:
                retry_in = round(self.breaker.retry_at - now, 1)
                log.warning("lane_circuit_opened", code=error.code, error=error.message, retry_in_s=retry_in)
        else:
            self._recorder.add(self._work.failed(job.item, error))

    def _flooded(self, job: Job[Item], permit: Permit, wait: FloodWait) -> None:
        """Return the job to the front of the queue, without counting an attempt, and apply the flood wait."""
        self._held.appendleft(job)
        self.breaker.succeeded()
        log.info("flood_wait", chat_id=permit.chat_id, retry_after=wait.retry_after)
        apply_flood_wait(self._limiter, permit, wait, now=clock.monotonic(), on_pause=self._on_pause)

    def _on_task_done(self, job: Job[Item], permit: Permit, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if task.cancelled():
            self._return_permit(permit, answered=False)
            self._held.append(job)
        self._on_done()
