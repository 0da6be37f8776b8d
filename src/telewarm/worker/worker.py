"""Worker: PgQueuer hands out lanes, a sweep enqueues bots with due work, NOTIFY wakes running lanes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import structlog

from telewarm import clock
from telewarm.bots.registry import BotRegistry
from telewarm.bots.sessions import BotSession
from telewarm.database import bots, leases, warmups
from telewarm.database.connection import Pool
from telewarm.database.lane_queue import CHANNEL, enqueue_lanes, enqueue_lanes_now, has_waiting_lanes
from telewarm.database.notifications import subscribe
from telewarm.database.transient import is_transient
from telewarm.errors import NotFound
from telewarm.models import Bot, BotId
from telewarm.worker.lane import EARLY_RUN_SECONDS, MAX_WAIT_SECONDS
from telewarm.worker.maintenance import maintain, run_step
from telewarm.worker.queue_engine import QueueEngine, requeue_in
from telewarm.worker.wake_tracker import WakeTracker
from telewarm.worker.work import ClaimBudget, Runner

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0  # before the sweep is tried again after a failure
LOST_WAKE_SECONDS = 30.0  # after which a lane that was requeued for a limit is checked again, whatever it waits for
WAITING_LANES_CHECK_SECONDS = 1.0  # seconds between checks for lanes that wait for a slot here
MAX_LANES = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneContext:
    """Context of a lane in this worker. `stop`: the lane is to end; `has_waiting_lanes`: others wait."""

    session: BotSession
    budget: ClaimBudget
    stop: asyncio.Event
    has_waiting_lanes: Callable[[], bool]


MakeLane: TypeAlias = Callable[[LaneContext], Runner]


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerLimits:
    """`interval`: seconds between sweeps. `held`: claimed jobs in memory. `concurrency`: jobs in flight of one lane.

    `heartbeat`: seconds after which a lane without a heartbeat is handed to another worker.
    """

    interval: float
    held: int
    concurrency: int
    heartbeat: float = 6.0

    @property
    def lanes(self) -> int:
        """Number of lanes at once: as many as can be kept busy, so that the rest is left to other workers."""
        return max(2, min(MAX_LANES, self.held // self.concurrency))


class Worker:
    """Runs lanes. Any number of workers may run on one database."""

    def __init__(
        self,
        *,
        pool: Pool,
        registry: BotRegistry,
        make_lane: MakeLane,
        limits: WorkerLimits,
        heartbeat_pool: Pool | None = None,
    ) -> None:
        """`heartbeat_pool`: a pool for the engine's heartbeats alone, so that nothing delays them."""
        self.limits = limits
        self.lanes: dict[BotId, Runner] = {}
        self._pool = pool
        self._engine = QueueEngine(
            heartbeat_pool or pool,
            run_lane=self._handle_lane,
            on_end=self._stop_all_lanes,
            lanes=limits.lanes,
            heartbeat=limits.heartbeat,
        )
        self._bots = registry
        self._make_lane = make_lane
        self._budget = ClaimBudget(limits.held)
        self._contexts: dict[BotId, LaneContext] = {}
        self._wakes = WakeTracker()
        self._lanes_waiting = False
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Run until `stop`, across database outages. When cancelled, aborts what is in flight."""
        channels = {CHANNEL: self._on_wake, bots.CHANNEL: self._on_bot_changed}
        async with subscribe(self._pool, channels, on_lost=self._wakes.request_recheck):
            tasks = [
                asyncio.create_task(self._sweep_all(), name="sweep"),
                asyncio.create_task(self._engine.run(self._stop), name="engine"),
            ]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self.stop()
                await self._wait_for_tasks(tasks)
        for task in tasks:
            task.result()

    def stop(self) -> None:
        """Drain: lanes finish what is in flight and release the rest."""
        self._stop.set()
        self._wakes.request_recheck()
        self._stop_all_lanes()

    def _stop_all_lanes(self) -> None:
        for bot_id in self.lanes:
            self._stop_lane(bot_id)

    def _stop_lane(self, bot_id: BotId) -> None:
        self._contexts[bot_id].stop.set()
        self.lanes[bot_id].nudge()

    async def _wait_for_tasks(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Wait for the engine's lanes; when cancelled, abort what they have in flight."""
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            self._abort()
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            self._abort()
            await asyncio.wait(tasks)
            raise

    def _abort(self) -> None:
        for lane in self.lanes.values():
            lane.abort()

    async def _handle_lane(self, bot_id: BotId) -> None:
        session = await self._active_session(bot_id)
        if session is None:  # resuming the bot wakes it
            return
        if self._is_full():
            self._yield_if_paused(session)
        delay = await self._run_lane(session)
        with self._wakes.ending(bot_id) as ended:
            await self._bots.sessions.save_learned(session)
        if is_paused(session.bot):
            return
        if ended.woken:
            raise requeue_in(0, "woken")
        if delay is None:
            return
        self._yield_if_paused(session)
        if delay == 0 and self._has_waiting_lanes():
            self._wakes.on_wake(bot_id)  # to the end of the queue: the job that is kept would be first again
            return
        raise requeue_in(delay, "yield")

    async def _active_session(self, bot_id: BotId) -> BotSession | None:
        """Return the bot's session; None for a paused or deleted bot."""
        try:
            session = await self._bots.get(bot_id)
        except NotFound:
            return None
        return None if is_paused(session.bot) else session

    def _yield_if_paused(self, session: BotSession) -> None:
        now = clock.monotonic()
        closed = session.limiter.bot_opens_at(now) - now
        if closed > MAX_WAIT_SECONDS:
            raise requeue_in(closed - EARLY_RUN_SECONDS, "flood wait")

    async def _run_lane(self, session: BotSession) -> float | None:
        context = LaneContext(
            session=session, budget=self._budget, stop=asyncio.Event(), has_waiting_lanes=self._has_waiting_lanes
        )
        if self._stop.is_set():
            context.stop.set()
        bot_id = session.bot.id
        self._contexts[bot_id], self.lanes[bot_id] = context, self._make_lane(context)
        try:
            return await self.lanes[bot_id].run()
        finally:
            del self._contexts[bot_id], self.lanes[bot_id]

    def _has_waiting_lanes(self) -> bool:
        return self._lanes_waiting and self._is_full()

    def _is_full(self) -> bool:
        return len(self.lanes) >= self.limits.lanes

    def _on_wake(self, payload: str) -> None:
        bot_id = BotId(int(payload))
        if (lane := self.lanes.get(bot_id)) is not None:
            lane.nudge()
        else:
            self._wakes.on_wake(bot_id)

    def _on_bot_changed(self, payload: str) -> None:
        """Note a changed bot row: the sweep checks whether its lane may go on."""
        self._bots.sessions.on_notification(payload)  # the session has its own listener, which may be slower
        if BotId(int(payload)) in self.lanes:
            self._wakes.request_recheck()

    async def _sweep_all(self) -> None:
        """Enqueue lanes of bots with due work: woken ones at once, all at an interval."""
        all_at = clock.monotonic()
        while not self._stop.is_set():
            try:
                if clock.monotonic() >= all_at:
                    all_at = clock.monotonic() + self.limits.interval
                    await self._sweep()
                self._lanes_waiting = self._is_full() and await has_waiting_lanes(self._pool)
                deadline = min(all_at, clock.monotonic() + WAITING_LANES_CHECK_SECONDS) if self._is_full() else all_at
                missed = await self._wakes.collect(deadline, stop=self._stop, running=self.lanes)
                await self._stop_paused_lanes()
                if missed:
                    await self._queue_missed(missed)
            except Exception as error:
                log.warning("due_work_sweep_failed", error=type(error).__name__, exc_info=not is_transient(error))
                await clock.wait(self._stop, RETRY_SECONDS)

    async def _sweep(self) -> None:
        await run_step("queue_due_lanes", self._queue_due)
        await maintain(self._pool)

    async def _queue_due(self) -> None:
        freed = await leases.sweep(self._pool)
        due = await warmups.bots_with_due_work(self._pool)
        left = await enqueue_lanes(self._pool, due)
        await warmups.run_due_lanes_now(self._pool, left, min_wait_seconds=0.0 if freed else LOST_WAKE_SECONDS)
        for bot_id, _ in due:  # a lane that runs here may be busy with other work
            if bot_id in self.lanes:
                self.lanes[bot_id].nudge()

    async def _stop_paused_lanes(self) -> None:
        for bot_id in list(self.lanes):
            session = await self._active_session(bot_id)
            if bot_id in self.lanes and self._contexts[bot_id].session is not session:  # or the session was replaced
                self._stop_lane(bot_id)

    async def _queue_missed(self, missed: Mapping[BotId, int]) -> None:
        """Enqueue those lanes that have work; recheck one that has ended and is still queued."""
        due = await warmups.bots_with_due_work(self._pool, list(missed))
        for bot_id in await enqueue_lanes_now(self._pool, due):
            if bot_id not in self.lanes:
                self._wakes.recheck_later(bot_id, rechecks=missed[bot_id] - 1)


def is_paused(bot: Bot) -> bool:
    """Whether a person has paused the bot's background work."""
    return bot.paused or bot.deleted_at is not None
