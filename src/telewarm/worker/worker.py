"""Worker: PgQueuer hands out lanes, a sweep enqueues bots with due work, NOTIFY wakes running lanes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

import structlog
from pgqueuer import AsyncpgPoolDriver, Job, Queries, QueueManager, RetryRequested

from telewarm import clock
from telewarm.bots.registry import BotRegistry
from telewarm.bots.sessions import BotSession
from telewarm.database import bots, leases, pgqueuer_maintenance, warmups
from telewarm.database.connection import Pool
from telewarm.database.lane_queue import CHANNEL, ENTRYPOINT, enqueue_lanes, enqueue_lanes_now, has_waiting_lanes
from telewarm.database.notifications import subscribe
from telewarm.database.transient import is_transient
from telewarm.errors import NotFound
from telewarm.models import Bot, BotId
from telewarm.worker.lane import EARLY_RUN_SECONDS, MAX_WAIT_SECONDS
from telewarm.worker.maintenance import maintain, run_step
from telewarm.worker.work import ClaimBudget, Runner

log = structlog.get_logger(__name__)

ENGINE_RESTART_SECONDS = 1.0  # seconds before the engine is restarted after it lost the database
WAKE_RECHECK_SECONDS = (
    0.15  # seconds; by then a lane that just ended has usually left the queue and can be enqueued again
)
WAKE_RECHECKS = 6  # rechecks of a woken bot whose lane is still queued; a lane that runs elsewhere was woken there
LOST_WAKE_SECONDS = 30.0  # after which a lane that was requeued for a limit is checked again, whatever it waits for
WAITING_LANES_CHECK_SECONDS = 1.0  # seconds between checks for lanes that wait for a slot here
MAX_LANES = 200
MAX_DEQUEUE_BATCH = 10  # maximum of lanes taken from the queue at once


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneContext:
    """Context of a lane in this worker. `stop`: the lane is to end; `crowded`: other lanes wait for a slot."""

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


class FailureReportingDriver(AsyncpgPoolDriver):
    """Reports database failures of the engine, which may be ending then and would wait for lanes that run for hours."""

    def __init__(self, pool: Pool, on_failure: Callable[[], None]) -> None:
        super().__init__(pool)
        self._on_failure = on_failure

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        """Run a query, reporting a failure."""
        try:
            return await super().fetch(query, *args)
        except Exception:
            self._on_failure()
            raise

    async def execute(self, query: str, *args: object) -> str:
        """Run a statement, reporting a failure."""
        try:
            return await super().execute(query, *args)
        except Exception:
            self._on_failure()
            raise


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
        self._heartbeat_pool = heartbeat_pool or pool
        self._bots = registry
        self._make_lane = make_lane
        self._budget = ClaimBudget(limits.held)
        self._contexts: dict[BotId, LaneContext] = {}
        self._missed_wakes: dict[BotId, int] = {}  # bots woken while their lane was not here, and the rechecks left
        self._woken_while_ending: dict[BotId, bool] = {}  # ended lanes that still have their job: was work announced?
        self._lanes_waiting = False
        self._recheck = asyncio.Event()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Run until `stop`, across database outages. When cancelled, aborts what is in flight."""
        channels = {CHANNEL: self._on_wake, bots.CHANNEL: self._on_bot_changed}
        async with subscribe(self._pool, channels, on_lost=self._recheck.set):
            tasks = [
                asyncio.create_task(self._sweep_all(), name="sweep"),
                asyncio.create_task(self._run_engines(), name="engine"),
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
        self._recheck.set()
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

    async def _run_engines(self) -> None:
        while not self._stop.is_set():
            await self._run_engine()

    async def _run_engine(self) -> None:
        driver = FailureReportingDriver(self._heartbeat_pool, self._stop_all_lanes)
        queue = QueueManager(Queries(driver))
        heartbeat = timedelta(seconds=self.limits.heartbeat)
        queue.entrypoint(ENTRYPOINT)(self._handle_job)
        stopper = asyncio.create_task(self._stop.wait(), name="engine stop")
        stopper.add_done_callback(lambda _: queue.shutdown.set())
        ending = asyncio.create_task(queue.shutdown.wait(), name="engine end")
        ending.add_done_callback(lambda _: self._stop_all_lanes())
        try:
            async with driver:
                # PgQueuer probes its own LISTEN without waiting for it, and fails when the probe was faster.
                await driver.add_listener(queue.channel, lambda _: None)
                await queue.run(
                    dequeue_timeout=heartbeat / 2,  # lanes of dead workers are found by polling
                    batch_size=min(MAX_DEQUEUE_BATCH, self.limits.lanes // 2),
                    max_concurrent_tasks=self.limits.lanes,
                    heartbeat_timeout=heartbeat,
                    shutdown_on_listener_failure=True,
                    log_aggregation_interval=timedelta(0),  # its statistics are not read, and it never trims them
                )
        except Exception as error:
            if not pgqueuer_maintenance.is_lost_listener(error) and not is_transient(error):
                raise
            log.warning("queue_engine_restarted", error=type(error).__name__)
            await clock.wait(self._stop, ENGINE_RESTART_SECONDS)
        finally:
            stopper.cancel()
            ending.cancel()

    async def _handle_job(self, job: Job) -> None:
        bot_id = BotId(int(job.payload or b"0"))
        session = await self._active_session(bot_id)
        if session is None:  # resuming the bot enqueues it again
            return
        if self._is_full():
            self._yield_if_paused(session)
        delay = await self._run_lane(session)
        self._woken_while_ending[bot_id] = False
        try:
            await self._bots.sessions.save_learned(session)
        finally:
            woken = self._woken_while_ending.pop(bot_id)
        if is_paused(session.bot):
            return
        if woken:
            raise RetryRequested(timedelta(0), "woken")
        if delay is None:
            return
        self._yield_if_paused(session)
        if delay == 0 and self._has_waiting_lanes():  # to the end of the queue: the retained job would be first again
            self._missed_wakes[bot_id] = WAKE_RECHECKS
            self._recheck.set()
            return
        raise RetryRequested(timedelta(seconds=delay), "yield")

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
            raise RetryRequested(timedelta(seconds=closed - EARLY_RUN_SECONDS), "flood wait")

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
        lane = self.lanes.get(bot_id)
        if lane is not None:
            lane.nudge()
        else:
            if bot_id in self._woken_while_ending:
                self._woken_while_ending[bot_id] = True
            self._missed_wakes[bot_id] = WAKE_RECHECKS
            self._recheck.set()

    def _on_bot_changed(self, payload: str) -> None:
        """Note a changed bot row: the sweep checks whether its lane may go on."""
        self._bots.sessions.on_notification(payload)  # the session has its own listener, which may be slower
        if BotId(int(payload)) in self.lanes:
            self._recheck.set()

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
                missed = await self._collect_missed(deadline)
                await self._stop_paused_lanes()
                if missed:
                    await self._queue_missed(missed)
            except Exception as error:
                log.warning("due_work_sweep_failed", error=type(error).__name__, exc_info=not is_transient(error))
                await clock.wait(self._stop, ENGINE_RESTART_SECONDS)

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

    async def _collect_missed(self, deadline: float) -> dict[BotId, int]:
        """Wait for bots that are woken while their lane is not here; none at the deadline."""
        if not await clock.wait(self._recheck, deadline - clock.monotonic()):
            return {}
        self._recheck.clear()
        if self._missed_wakes:
            await clock.wait(self._stop, WAKE_RECHECK_SECONDS)
        missed, self._missed_wakes = self._missed_wakes, {}
        return {bot_id: looks for bot_id, looks in missed.items() if bot_id not in self.lanes}

    async def _queue_missed(self, missed: Mapping[BotId, int]) -> None:
        """Enqueue those lanes that have work; recheck one that has ended and is still queued."""
        due = await warmups.bots_with_due_work(self._pool, list(missed))
        for bot_id in await enqueue_lanes_now(self._pool, due):
            if missed[bot_id] > 1 and bot_id not in self.lanes:
                self._missed_wakes.setdefault(bot_id, missed[bot_id] - 1)
                self._recheck.set()


def is_paused(bot: Bot) -> bool:
    """Whether a person has paused the bot's background work."""
    return bot.paused or bot.deleted_at is not None
