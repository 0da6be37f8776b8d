"""One bot's background work: claim, keep N in flight, record in batches, yield. No ticks, no batches that wait."""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Generic

import structlog

from telewarm import clock
from telewarm.database.transient import as_outage, is_transient
from telewarm.errors import FloodWait, TelegramClientError, TelewarmError
from telewarm.flood_control.failure_counter import FailureCounter
from telewarm.flood_control.flood_wait import count_flood, settle_flood
from telewarm.flood_control.limiter import BotRateLimiter, FloodPause, Permit
from telewarm.flood_control.priority import Priority
from telewarm.worker.next_job import pick_next_job
from telewarm.worker.work import ClaimBudget, Done, Item, Job, Work

log = structlog.get_logger(__name__)

LEASE_GRACE_SECONDS = 5.0  # seconds of flood wait that a lane sits out; for longer it gives its place back
HOLD_SECONDS = 1.0  # of a flood wait for which a lane keeps what it claimed; for longer whoever waits may have it
ANSWER_SECONDS = 0.5  # for which an answer that may open a chat is waited for
CLAIM_EARLY_SECONDS = 0.1  # before the end of such a wait
CLAIM_AGAIN_SECONDS = 0.5  # between two claims of a lane that can do nothing with them
EARLY_SECONDS = 0.5  # seconds before the end of such a wait at which it wants its place again
MAX_BATCH = 200  # outcomes written in one statement at most
CLAIM_AHEAD = 0.5  # seconds of work claimed ahead
MAX_CLAIMED_AHEAD = 256  # jobs claimed ahead at most
RECORD_RETRY_SECONDS = 0.5  # seconds between tries to write outcomes while the database is away
FINAL_RECORD_SECONDS = 2.0  # seconds that it may stay away once the lane is cut short


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneLimits:
    """`concurrency`: jobs in flight. `slice`: seconds after which a lane makes room when others wait for one.

    `linger`: seconds an idle lane waits for more work before it ends; none when others wait for its place.
    """

    concurrency: int
    slice: float = 10.0
    linger: float = 0.5


class Lane(Generic[Item, Done]):
    """Runs once. `wake` is set by whoever knows of new work; `stop` by whoever wants the lane to end."""

    def __init__(
        self,
        work: Work[Item, Done],
        limiter: BotRateLimiter,
        *,
        limits: LaneLimits,
        budget: ClaimBudget,
        stop: asyncio.Event,
        has_waiting_lanes: Callable[[], bool] = lambda: False,
        on_closed: Callable[[FloodPause], None] = lambda _: None,
    ) -> None:
        self._work = work
        self._limiter = limiter
        self._limits = limits
        self._share = budget.share(least=limits.concurrency)
        self._stop = stop
        self._has_waiting_lanes = has_waiting_lanes
        self._on_closed = on_closed
        self._breaker = FailureCounter(tolerance=limits.concurrency)
        self._changed = asyncio.Event()
        self._recorded = asyncio.Event()
        self._held: deque[Job[Item]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._claiming: asyncio.Task[None] | None = None
        self._done: list[Done] = []
        self._ended = False
        self._give_up_at = math.inf
        self._may_have_work = True  # something may be due that we have not claimed
        self._started = clock.monotonic()
        self._claim_ahead = 2 * limits.concurrency
        self._claimed_at = self._started
        self._claims_exhausted = False
        self._waits = False
        self._claims_at = -math.inf  # put back before, since every chat was closed until then
        self._put_back_at = -math.inf
        self._closed_since = math.inf

    @property
    def in_flight(self) -> int:
        return len(self._running)

    @property
    def held(self) -> int:
        """Claimed jobs that wait for their turn."""
        return len(self._held)

    def nudge(self) -> None:
        """There is new work, or a reason to look up."""
        self._may_have_work = True
        self._claims_at = min(self._claims_at, self._put_back_at + CLAIM_AGAIN_SECONDS)
        self._changed.set()

    def abort(self) -> None:
        """Cut short what is in flight: it is put back. For a lane that was told to stop and takes too long."""
        self._give_up_at = clock.monotonic() + FINAL_RECORD_SECONDS
        for task in self._running:
            task.cancel()

    async def run(self) -> float | None:
        """Seconds after which to run again, None when nothing is left. Leaves nothing in hand.

        Lets what is in flight end; cancelled, it cuts that short.
        """
        recorder = asyncio.create_task(self._persist_loop(), name="lane recorder")
        with self._share.joined():
            try:
                delay = await self._dispatch()
            except asyncio.CancelledError:
                self.abort()
                raise
            finally:
                self._wait_for_bot(waits=False)
                try:
                    await self._wind_down(recorder)
                finally:
                    self._work.end()
        return 0.0 if delay is None and self._may_have_work else delay  # nudged while it wound down

    async def _dispatch(self) -> float | None:
        idle_since: float | None = None
        while True:
            self._changed.clear()
            now = clock.monotonic()
            if self._should_yield(now):
                return 0.0
            self._refill(now)
            opens_at = self._start_open_jobs(now)
            if self._held:
                opens_at = await self._hold(opens_at, now)
            elif self._may_have_work and self._claims_at > now:
                opens_at = self._claims_at
            if self._held or self._running or self._claiming or self._may_have_work:
                idle_since = None
            elif idle_since is None:
                idle_since = now
            elif now - idle_since >= self._limits.linger or self._has_waiting_lanes():
                return None
            if opens_at is not None and not self._running and opens_at - now > LEASE_GRACE_SECONDS:
                return opens_at - now - EARLY_SECONDS
            until = idle_since + self._limits.linger if idle_since is not None else opens_at
            await self._wait(None if until is None else until - now)

    def _should_yield(self, now: float) -> bool:
        if self._claiming is not None and self._claiming.done():
            claiming, self._claiming = self._claiming, None
            claiming.result()
        return self._stop.is_set() or (now - self._started > self._limits.slice and self._has_waiting_lanes())

    async def _wait(self, seconds: float | None) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    def _refill(self, now: float) -> None:
        """Claim ahead, in the background, about as much as goes out in half a second."""
        if self._claiming is not None or not self._may_have_work or now < self._claims_at:
            return
        if len(self._held) > self._claim_ahead // 2:
            return
        since = now - self._claimed_at
        if self._claims_exhausted and since < CLAIM_AHEAD:
            self._claim_ahead = min(2 * self._claim_ahead, MAX_CLAIMED_AHEAD)
        elif since > 2 * CLAIM_AHEAD:
            self._claim_ahead = max(self._claim_ahead // 2, 2 * self._limits.concurrency)
        limit = self._share.take(self._claim_ahead - len(self._held))
        if limit == 0:
            self._share.notify(self._changed.set)
            return
        self._may_have_work = False
        self._claimed_at = now
        self._claiming = asyncio.create_task(self._claim(limit), name="lane claim")

    async def _claim(self, limit: int) -> None:
        claimed = 0
        try:
            jobs = await self._work.claim(limit)
            claimed = len(jobs)
            self._held.extend(jobs)
            self._claims_exhausted = claimed == limit
            self._may_have_work = self._may_have_work or self._claims_exhausted
        finally:
            self._share.give(limit - claimed)
            self._changed.set()

    def _start_open_jobs(self, now: float) -> float | None:
        """Start what may go; the time at which the next held job may, None when it only waits for a free place."""
        if self._held and now < self._breaker.retry_at:
            self._wait_for_bot(waits=False)
            return self._breaker.retry_at
        places = 1 if self._breaker.is_open else self._limits.concurrency
        while self._held and len(self._running) < places:
            turn = pick_next_job(self._held, self._limiter, now=now)
            job = self._held[turn.place]
            if turn.opens_at > now:
                chat_opens_at = self._limiter.chat_opens_at(turn.chat_id, size=job.size, now=now)
                self._wait_for_bot(waits=chat_opens_at <= now)
                return turn.opens_at
            del self._held[turn.place]
            self._start(job, self._limiter.acquire(turn.chat_id, size=job.size, now=now))
        self._wait_for_bot(waits=False)
        return None

    def _closed_until(self, now: float) -> float:
        """Before this no warm-up goes, of whatever size, through any of the chats."""
        return min(
            self._limiter.next_send_at(chat_id, now=now, rank=Priority.WARMUP) for chat_id in self._held[0].chats
        )

    async def _hold(self, opens_at: float | None, now: float) -> float | None:
        """When to look again. Once nothing has gone for a moment and nothing will for long, what is held is put back:
        a sender that waits for one of these can have it then.
        """
        closed_until = self._closed_until(now)
        if closed_until <= now + HOLD_SECONDS:
            self._closed_since = math.inf
            return opens_at
        self._closed_since = min(self._closed_since, now)
        if self._running and now < self._closed_since + ANSWER_SECONDS:
            return self._closed_since + ANSWER_SECONDS
        self._claims_at, self._put_back_at, self._may_have_work = closed_until - CLAIM_EARLY_SECONDS, now, True
        self._wait_for_bot(waits=False)
        await self._release_held()
        return self._claims_at

    def _wait_for_bot(self, *, waits: bool) -> None:
        """Deliveries wait while it is the bot's limit that holds us, and not a chat's."""
        if waits and not self._waits:
            self._limiter.waiting.join(Priority.WARMUP)
        elif self._waits and not waits:
            self._limiter.waiting.leave(Priority.WARMUP)
        self._waits = waits

    def _start(self, job: Job[Item], passage: Permit) -> None:
        task = asyncio.create_task(self._run_job(job, passage), name="lane job")
        self._running.add(task)
        task.add_done_callback(partial(self._finished, job, passage))

    async def _run_job(self, job: Job[Item], passage: Permit) -> None:
        """Every way out settles or abandons the passage; cancelled, `_finished` does, since it may not have begun."""
        try:
            outcome = await self._work.do(job.item, passage.chat_id)
        except FloodWait as wait:
            self._flooded(job, passage, wait)
        except TelewarmError as error:
            self._on_job_done(passage, answered=isinstance(error, TelegramClientError))
            self._failed(job, error)
        except Exception as error:
            self._on_job_done(passage, answered=False)
            if (outage := as_outage(error)) is not None:
                self._failed(job, outage)
                return
            log.exception("unhandled_exception")
            self._done.append(self._work.failed(job.item, TelewarmError(f"unexpected {type(error).__name__}")))
        else:
            self._on_job_done(passage, answered=True)
            self._breaker.succeeded()
            self._done.append(outcome)

    def _on_job_done(self, passage: Permit, *, answered: bool) -> None:
        now = clock.monotonic()
        if answered:
            self._limiter.confirm(passage, now=now, retry_after=None)
        else:
            self._limiter.refund(passage, now=now)

    def _failed(self, job: Job[Item], error: TelewarmError) -> None:
        """In an outage the job is not to blame: it waits here, and others are tried before it. Unless it is alone."""
        now, told = clock.monotonic(), self._breaker.retry_at
        if self._breaker.failed(error, now=now, dice=random.random()) and (self._held or len(self._running) > 1):  # noqa: S311 (jitter)
            self._held.append(job)
            if self._breaker.retry_at > told:
                retry_in = round(self._breaker.retry_at - now, 1)
                log.warning("lane_circuit_opened", code=error.code, error=error.message, retry_in_s=retry_in)
        else:
            self._done.append(self._work.failed(job.item, error))

    def _flooded(self, job: Job[Item], passage: Permit, wait: FloodWait) -> None:
        """The job goes back untried, to the front; whoever else speaks for the bot is told."""
        self._held.appendleft(job)
        self._breaker.succeeded()
        closed = settle_flood(self._limiter, passage, wait, now=clock.monotonic())
        count_flood(closed, wait.retry_after)
        log.info("flood_wait", chat_id=passage.chat_id, retry_after=wait.retry_after)
        if closed is not None:
            self._on_closed(closed)

    def _finished(self, job: Job[Item], passage: Permit, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if task.cancelled():
            self._on_job_done(passage, answered=False)
            self._held.append(job)
        self._claims_at = -math.inf  # an answer may have opened a chat
        self._changed.set()
        if self._done:
            self._recorded.set()

    async def _persist_loop(self) -> None:
        """Write outcomes as they come: one at a time when slow, many in a statement when fast."""
        while not self._ended or self._done:
            await self._recorded.wait()
            self._recorded.clear()
            while self._done:
                batch, self._done = self._done[:MAX_BATCH], self._done[MAX_BATCH:]
                await self._persist_batch(batch)
                self._share.give(len(batch))

    async def _persist_batch(self, batch: list[Done]) -> None:
        """As long as it takes, unless the lane is cut short: what Telegram answered is dear."""
        while True:
            try:
                await self._work.record(batch)
            except Exception as error:
                if not is_transient(error):
                    log.exception("outcome_write_failed", outcomes=len(batch))
                    await self._persist_one_by_one(batch, error)
                    return
                log.warning("outcome_write_retried", outcomes=len(batch), error=type(error).__name__)
                if clock.monotonic() > self._give_up_at:
                    log.exception("outcomes_dropped", outcomes=len(batch))
                    return
                await clock.sleep(RECORD_RETRY_SECONDS)
            else:
                return

    async def _persist_one_by_one(self, batch: list[Done], error: Exception) -> None:
        """One of them cannot be stored: it alone fails, with the reason. A replacement that fails too is given up."""
        if len(batch) > 1:
            for one in batch:
                await self._persist_batch([one])
        elif (replacement := self._work.unstorable(batch[0], error)) is not None:
            await self._persist_batch([replacement])

    async def _wind_down(self, recorder: asyncio.Task[None]) -> None:
        """Let what is under way end, write it down, put the rest back."""
        try:
            await self._drain()
        finally:
            self._ended = True
            self._recorded.set()
            try:
                await recorder
            finally:
                await self._release_held()

    async def _drain(self) -> None:
        under_way: set[asyncio.Task[None]] = {*self._running, *([self._claiming] if self._claiming else [])}
        if not under_way:
            return
        try:
            await asyncio.wait(under_way)
        except asyncio.CancelledError:
            for task in under_way:
                task.cancel()
            await asyncio.wait(under_way)
            raise
        if self._claiming is not None and (error := self._claiming.exception()) is not None:
            log.warning("lane_claim_failed", error=type(error).__name__)

    async def _release_held(self) -> None:
        """As long as it takes, like `_record`: this process's lease lives on, so nobody else would free them."""
        items = [job.item for job in self._held]
        self._held.clear()
        self._share.give(len(items))
        while items:
            try:
                await self._work.release(items)
            except Exception as error:
                if not is_transient(error):
                    raise
                if clock.monotonic() > self._give_up_at:
                    return  # the process ends, and its lease with it
                await clock.sleep(RECORD_RETRY_SECONDS)
            else:
                return
