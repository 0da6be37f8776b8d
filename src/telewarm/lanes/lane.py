"""One bot's background work: claim, keep N in flight, record in batches, yield. No ticks, no batches that wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic

import structlog

from telewarm import clock
from telewarm.database.pool import AWAY
from telewarm.errors import FloodWait, TelewarmError
from telewarm.lanes.work import Budget, Done, Item, Job, Work
from telewarm.model import ChatId
from telewarm.telegram import Traffic

log = structlog.get_logger(__name__)

PATIENCE = 5.0  # seconds of flood wait that a lane sits out; for longer it gives its place back
LOOK_AHEAD = 16  # held jobs looked at for one that may go now
BATCH = 200  # outcomes written in one statement at most
CLAIM_AHEAD = 0.5  # seconds of work claimed ahead
MOST_AHEAD = 256  # jobs claimed ahead at most
RECORD_RETRY = 0.5  # seconds between tries to write outcomes while the database is away
RECORD_TRIES = 6  # once the lane is told to stop


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneLimits:
    """`concurrency`: jobs in flight. `slice`: seconds after which a lane makes room when others wait for one.

    `linger`: seconds an idle lane waits for more work before it ends.
    """

    concurrency: int
    slice: float = 10.0
    linger: float = 0.5


class Lane(Generic[Item, Done]):
    """Runs once. `wake` is set by whoever knows of new work; `stop` by whoever wants the lane to end."""

    def __init__(
        self,
        work: Work[Item, Done],
        traffic: Traffic,
        *,
        limits: LaneLimits,
        budget: Budget,
        stop: asyncio.Event,
        crowded: Callable[[], bool] = lambda: False,
    ) -> None:
        self._work = work
        self._traffic = traffic
        self._limits = limits
        self._budget = budget
        self._stop = stop
        self._crowded = crowded
        self._changed = asyncio.Event()
        self._recorded = asyncio.Event()
        self._held: deque[Job[Item]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._claiming: asyncio.Task[None] | None = None
        self._done: list[Done] = []
        self._ended = False
        self._more = True  # something may be due that we have not claimed
        self._started = clock.monotonic()
        self._ahead = 2 * limits.concurrency
        self._claimed_at = self._started
        self._full = False

    def nudge(self) -> None:
        """There is new work, or a reason to look up."""
        self._more = True
        self._changed.set()

    def bot_closed_for(self, now: float) -> float:
        """Seconds until the bot itself may speak again, whatever the chat."""
        return self._traffic.bot_opens_at(now) - now

    def abort(self) -> None:
        """Cut short what is in flight: it is put back. For a lane that was told to stop and takes too long."""
        for task in self._running:
            task.cancel()

    async def run(self) -> float | None:
        """Seconds after which to run again, None when nothing is left. Leaves nothing in hand.

        Lets what is in flight end; cancelled, it cuts that short.
        """
        recorder = asyncio.create_task(self._record_all(), name="lane recorder")
        try:
            delay = await self._dispatch()
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            await self._wind_down(recorder)
        return 0.0 if delay is None and self._more else delay  # nudged while it wound down

    async def _dispatch(self) -> float | None:
        idle_since: float | None = None
        while True:
            self._changed.clear()
            now = clock.monotonic()
            if self._must_leave(now):
                return 0.0
            self._refill(now)
            opens_at = self._start_open_jobs(now)
            if self._held or self._running or self._claiming or self._more:
                idle_since = None
            elif idle_since is None:
                idle_since = now
            elif now - idle_since >= self._limits.linger:
                return None
            if opens_at is not None and not self._running and opens_at - now > PATIENCE:
                return opens_at - now
            until = idle_since + self._limits.linger if idle_since is not None else opens_at
            await self._wait(None if until is None else until - now)

    def _must_leave(self, now: float) -> bool:
        if self._claiming is not None and self._claiming.done():
            claiming, self._claiming = self._claiming, None
            claiming.result()
        return self._stop.is_set() or (now - self._started > self._limits.slice and self._crowded())

    async def _wait(self, seconds: float | None) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    def _refill(self, now: float) -> None:
        """Claim ahead, in the background, about as much as goes out in half a second."""
        if self._claiming is not None or not self._more:
            return
        if len(self._held) > self._ahead // 2:
            return
        since = now - self._claimed_at
        if self._full and since < CLAIM_AHEAD:
            self._ahead = min(2 * self._ahead, MOST_AHEAD)
        elif since > 2 * CLAIM_AHEAD:
            self._ahead = max(self._ahead // 2, 2 * self._limits.concurrency)
        limit = self._budget.take(self._ahead - len(self._held))
        if limit == 0:
            self._budget.tell(self._changed.set)
            return
        self._more = False
        self._claimed_at = now
        self._claiming = asyncio.create_task(self._claim(limit), name="lane claim")

    async def _claim(self, limit: int) -> None:
        claimed = 0
        try:
            jobs = await self._work.claim(limit)
            claimed = len(jobs)
            self._held.extend(jobs)
            self._full = claimed == limit
            self._more = self._more or self._full
        finally:
            self._budget.give(limit - claimed)
            self._changed.set()

    def _start_open_jobs(self, now: float) -> float | None:
        """Start what may go; the time at which the next held job may, None when it only waits for a free place."""
        while self._held and len(self._running) < self._limits.concurrency:
            place, chat_id, opens_at = self._choose(now)
            if opens_at > now:
                return opens_at
            job = self._held[place]
            del self._held[place]
            self._traffic.spend(chat_id, size=job.size, now=now)
            task = asyncio.create_task(self._do(job, chat_id), name="lane job")
            self._running.add(task)
            task.add_done_callback(self._finished)
        return None

    def _choose(self, now: float) -> tuple[int, ChatId, float]:
        """The first held job that may go now and its chat, or the one that may go soonest."""
        best: tuple[int, ChatId, float] | None = None
        seen: set[int] = set()
        for place in range(min(LOOK_AHEAD, len(self._held))):
            job = self._held[place]
            if job.size in seen:
                continue
            seen.add(job.size)
            for chat_id in job.chats:
                opens_at = self._traffic.opens_at(chat_id, size=job.size, now=now)
                if opens_at <= now:
                    return place, chat_id, opens_at
                if best is None or opens_at < best[2]:
                    best = place, chat_id, opens_at
        assert best is not None  # noqa: S101 - a job has at least one chat
        return best

    async def _do(self, job: Job[Item], chat_id: ChatId) -> None:
        try:
            outcome = await self._work.do(job.item, chat_id)
            self._done.append(outcome)  # not in one line: the list is another one by now
        except FloodWait as wait:
            self._traffic.close(wait.retry_after, chat_id, size=job.size, now=clock.monotonic())
            self._held.appendleft(job)
            log.info("[LANE][FLOOD_WAIT]", chat_id=chat_id, retry_after=wait.retry_after)
        except TelewarmError as error:
            self._done.append(self._work.failed(job.item, error))
        except asyncio.CancelledError:
            self._held.append(job)
            raise
        except Exception as error:
            log.exception("[LANE][BUG]")
            self._done.append(self._work.failed(job.item, TelewarmError(f"unexpected {type(error).__name__}")))

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._changed.set()
        if self._done:
            self._recorded.set()

    async def _record_all(self) -> None:
        """Write outcomes as they come: one at a time when slow, many in a statement when fast."""
        while not self._ended or self._done:
            await self._recorded.wait()
            self._recorded.clear()
            while self._done:
                batch, self._done = self._done[:BATCH], self._done[BATCH:]
                await self._record(batch)
                self._budget.give(len(batch))

    async def _record(self, batch: list[Done]) -> None:
        """As long as it takes, unless the lane is told to stop: what Telegram answered is dear."""
        tries = RECORD_TRIES
        while tries > 0:
            try:
                await self._work.record(batch)
            except AWAY as error:
                log.warning("[LANE][RECORD][RETRY]", outcomes=len(batch), error=type(error).__name__)
                tries -= self._stop.is_set()
                await clock.sleep(RECORD_RETRY)
            except Exception:
                log.exception("[LANE][RECORD][BUG]", outcomes=len(batch))
                return
            else:
                return
        log.error("[LANE][RECORD][LOST]", outcomes=len(batch))

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
                await self._put_back()

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
            log.warning("[LANE][CLAIM][FAILED]", error=type(error).__name__)

    async def _put_back(self) -> None:
        items = [job.item for job in self._held]
        self._held.clear()
        self._budget.give(len(items))
        if items:
            with suppress(*AWAY):  # then the lease runs out by itself
                await self._work.release(items)
