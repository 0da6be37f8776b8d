"""Lane: the background work of one bot. Claims jobs, keeps some in flight, records their outcomes in batches."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic

import structlog

from telewarm import clock
from telewarm.flood_control.failure_counter import FailureCounter
from telewarm.flood_control.limiter import BotRateLimiter, FloodPause
from telewarm.flood_control.priority import Priority
from telewarm.worker.claim_pacing import ClaimPacing
from telewarm.worker.job_claimer import JobClaimer
from telewarm.worker.job_runner import JobRunner
from telewarm.worker.next_job import pick_next_job
from telewarm.worker.outcome_recorder import OutcomeRecorder
from telewarm.worker.work import ClaimBudget, Done, Item, Job, Work

log = structlog.get_logger(__name__)

MAX_WAIT_SECONDS = 5.0  # of a flood wait that a lane waits for; during a longer one it yields its slot
KEEP_CLAIMS_SECONDS = 1.0  # of a flood wait during which a lane keeps its claims; senders take them in a longer one
PENDING_ANSWER_SECONDS = 0.5  # for an answer in flight that may open a chat
EARLY_CLAIM_SECONDS = 0.1  # before the end of such a wait
EARLY_RUN_SECONDS = 0.5  # before the end of such a wait, for getting a slot again
FINAL_WRITE_SECONDS = 2.0  # that the database may stay unavailable after the lane is aborted


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneLimits:
    """`concurrency`: jobs in flight. `slice`: seconds after which a lane yields its slot when other lanes wait.

    `linger`: seconds that an idle lane waits for more work before it ends; none when other lanes wait.
    """

    concurrency: int
    slice: float = 10.0
    linger: float = 0.5


class Lane(Generic[Item, Done]):
    """Runs once. `stop`: ends the lane. `on_pause`: called with the pause that a 429 asks for."""

    def __init__(
        self,
        work: Work[Item, Done],
        limiter: BotRateLimiter,
        *,
        limits: LaneLimits,
        budget: ClaimBudget,
        stop: asyncio.Event,
        has_waiting_lanes: Callable[[], bool] = lambda: False,
        on_pause: Callable[[FloodPause], None] = lambda _: None,
    ) -> None:
        self._limiter = limiter
        self._limits = limits
        self._stop = stop
        self._has_waiting_lanes = has_waiting_lanes
        self._changed = asyncio.Event()
        self._held: deque[Job[Item]] = deque()
        self._started_at = clock.monotonic()
        self._is_waiting = False  # whether the bot's limit is what the lane waits for
        self._paused_since = math.inf
        self._claimer: JobClaimer[Item, Done] = JobClaimer(
            work,
            budget.share(least=limits.concurrency),
            held=self._held,
            pacing=ClaimPacing(concurrency=limits.concurrency, now=self._started_at),
            changed=self._changed,
        )
        self._recorder: OutcomeRecorder[Item, Done] = OutcomeRecorder(work, on_recorded=self._claimer.give_back)
        self._jobs: JobRunner[Item, Done] = JobRunner(
            work,
            limiter,
            held=self._held,
            recorder=self._recorder,
            breaker=FailureCounter(tolerance=limits.concurrency),
            on_pause=on_pause,
            on_done=self._on_job_done,
        )

    @property
    def in_flight(self) -> int:
        """Number of jobs in flight."""
        return len(self._jobs.tasks)

    @property
    def held(self) -> int:
        """Number of claimed jobs that are not started."""
        return len(self._held)

    def nudge(self) -> None:
        """Wake the lane: there is new work, or its context changed."""
        self._claimer.pacing.nudge()
        self._changed.set()

    def abort(self) -> None:
        """Cancel the jobs in flight and release them, after a `stop` that takes too long."""
        self._recorder.give_up_in(FINAL_WRITE_SECONDS)
        self._jobs.cancel_all()

    async def run(self) -> float | None:
        """Run until nothing is due. Returns the seconds after which to run again, None when nothing is left.

        Keeps no claim. Lets jobs in flight finish; when cancelled, cancels them.
        """
        recording = asyncio.create_task(self._recorder.run(), name="lane recorder")
        with self._claimer.joined():
            try:
                delay = await self._dispatch()
            except asyncio.CancelledError:
                self.abort()
                raise
            finally:
                self._wait_for_bot(waits=False)
                try:
                    await self._wind_down(recording)
                finally:
                    self._claimer.close()
        return 0.0 if delay is None and self._claimer.pacing.may_have_work else delay  # nudged in the wind-down

    async def _dispatch(self) -> float | None:
        pacing = self._claimer.pacing
        idle_since: float | None = None
        while True:
            self._changed.clear()
            now = clock.monotonic()
            if self._should_yield(now):
                return 0.0
            self._claimer.refill(now)
            opens_at = self._start_open_jobs(now)
            if self._held:
                opens_at = await self._hold(opens_at, now)
            elif pacing.may_have_work and pacing.not_before > now:
                opens_at = pacing.not_before
            if self._held or self._jobs.tasks or self._claimer.task or pacing.may_have_work:
                idle_since = None
            elif idle_since is None:
                idle_since = now
            elif now - idle_since >= self._limits.linger or self._has_waiting_lanes():
                return None
            if opens_at is not None and not self._jobs.tasks and opens_at - now > MAX_WAIT_SECONDS:
                return opens_at - now - EARLY_RUN_SECONDS
            until = idle_since + self._limits.linger if idle_since is not None else opens_at
            await self._wait(None if until is None else until - now)

    def _should_yield(self, now: float) -> bool:
        return self._stop.is_set() or (now - self._started_at > self._limits.slice and self._has_waiting_lanes())

    async def _wait(self, seconds: float | None) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    def _start_open_jobs(self, now: float) -> float | None:
        """Start the jobs that the limits allow. Returns when the next held job may start; None: when a slot is free."""
        breaker = self._jobs.breaker
        if self._held and now < breaker.retry_at:
            self._wait_for_bot(waits=False)
            return breaker.retry_at
        slots = 1 if breaker.is_open else self._limits.concurrency
        while self._held and len(self._jobs.tasks) < slots:
            slot = pick_next_job(self._held, self._limiter, now=now)
            job = self._held[slot.index]
            if slot.opens_at > now:
                chat_opens_at = self._limiter.chat_opens_at(slot.chat_id, size=job.size, now=now)
                self._wait_for_bot(waits=chat_opens_at <= now)
                return slot.opens_at
            del self._held[slot.index]
            self._jobs.start(job, self._limiter.acquire(slot.chat_id, size=job.size, now=now))
        self._wait_for_bot(waits=False)
        return None

    def _paused_until(self, now: float) -> float:
        """Return the time before which no warm-up may start, whatever its size and chat."""
        return min(
            self._limiter.next_send_at(chat_id, now=now, priority=Priority.WARMUP) for chat_id in self._held[0].chats
        )

    async def _hold(self, opens_at: float | None, now: float) -> float | None:
        """Return when to check again.

        Releases the held jobs when nothing was sent for a moment and nothing will be for long, so that a waiting sender
        can claim them.
        """
        closed_until = self._paused_until(now)
        if closed_until <= now + KEEP_CLAIMS_SECONDS:
            self._paused_since = math.inf
            return opens_at
        self._paused_since = min(self._paused_since, now)
        if self._jobs.tasks and now < self._paused_since + PENDING_ANSWER_SECONDS:
            return self._paused_since + PENDING_ANSWER_SECONDS
        self._claimer.pacing.postpone(closed_until - EARLY_CLAIM_SECONDS, now=now)
        self._wait_for_bot(waits=False)
        await self._claimer.release_held(self._recorder)
        return self._claimer.pacing.not_before

    def _wait_for_bot(self, *, waits: bool) -> None:
        """Count the lane as a waiter while the bot's limit, not a chat's, blocks it: deliveries then wait behind it."""
        if waits and not self._is_waiting:
            self._limiter.waiting.join(Priority.WARMUP)
        elif self._is_waiting and not waits:
            self._limiter.waiting.leave(Priority.WARMUP)
        self._is_waiting = waits

    def _on_job_done(self) -> None:
        self._claimer.pacing.resume()  # an answer may have opened a chat
        self._changed.set()

    async def _wind_down(self, recording: asyncio.Task[None]) -> None:
        """Let jobs in flight finish, record them, release the rest."""
        try:
            await self._drain()
        finally:
            self._recorder.finish()
            try:
                await recording
            finally:
                await self._claimer.release_held(self._recorder)

    async def _drain(self) -> None:
        tasks: set[asyncio.Task[None]] = {*self._jobs.tasks, *([self._claimer.task] if self._claimer.task else [])}
        if not tasks:
            return
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            raise
        self._claimer.log_failure()
