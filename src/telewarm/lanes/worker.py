"""Runs lanes: PgQueuer hands them out, the sweep finds bots that nobody woke, NOTIFY nudges the ones that run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

import structlog
from pgqueuer.db import AsyncpgPoolDriver
from pgqueuer.errors import FailingListenerError, RetryRequested
from pgqueuer.models import Job
from pgqueuer.qm import QueueManager
from pgqueuer.queries import Queries

from telewarm import clock
from telewarm.database import bots, leases, warmups
from telewarm.database.connection import Pool
from telewarm.database.pool import AWAY, listening
from telewarm.lanes.lane import PATIENCE, Lane
from telewarm.lanes.wake import CHANNEL, ENTRYPOINT, enqueue
from telewarm.lanes.work import Budget
from telewarm.model import BotId

log = structlog.get_logger(__name__)

RESTART = 1.0  # seconds before the engine is started again after the database went away
LATE = 0.15  # seconds: by then a lane that just ended has mostly left the queue and can be queued again
LOOKS = 6  # at a woken bot whose lane is still in the queue; a lane that runs elsewhere was woken there

AnyLane: TypeAlias = Lane[Any, Any]
MakeLane: TypeAlias = Callable[[BotId, Budget, asyncio.Event, Callable[[], bool]], Awaitable[AnyLane]]


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerLimits:
    """`interval`: seconds between sweeps. `held`: claimed jobs in memory. `lanes`: how many run at once.

    `heartbeat`: seconds; a lane without one for so long is handed to another worker.
    """

    interval: float
    held: int
    lanes: int = 200
    heartbeat: float = 6.0


class Worker:
    """Any number of these may run on one database."""

    def __init__(self, *, pool: Pool, make_lane: MakeLane, limits: WorkerLimits) -> None:
        self._pool = pool
        self._make_lane = make_lane
        self._limits = limits
        self._budget = Budget(limits.held)
        self._lanes: dict[BotId, AnyLane] = {}
        self._missed: dict[BotId, int] = {}  # woken while their lane was not here, and the looks left
        self._look = asyncio.Event()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Until `stop`. Survives the database going away. Cancelled, it cuts short what is in flight."""
        async with listening(self._pool, {CHANNEL: self._on_due}, on_lost=self._look.set):
            tasks = [
                asyncio.create_task(self._sweep_all(), name="sweep"),
                asyncio.create_task(self._run_engines(), name="engine"),
            ]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self.stop()
                await self._until_ended(tasks)
        for task in tasks:
            task.result()

    def stop(self) -> None:
        """Drain: lanes end what is in flight, put the rest back, and leave."""
        self._stop.set()
        self._look.set()
        for lane in self._lanes.values():
            lane.nudge()

    async def _until_ended(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """The engine waits for its lanes; when we are cancelled, they must not wait for what they have in flight."""
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
        for lane in self._lanes.values():
            lane.abort()

    async def _run_engines(self) -> None:
        while not self._stop.is_set():
            await self._run_engine()

    async def _run_engine(self) -> None:
        engine = QueueManager(Queries(AsyncpgPoolDriver(self._pool)))
        heartbeat = timedelta(seconds=self._limits.heartbeat)
        engine.entrypoint(ENTRYPOINT)(self._run_lane)
        stopper = asyncio.create_task(self._stop.wait(), name="engine stop")
        stopper.add_done_callback(lambda _: engine.shutdown.set())
        try:
            await engine.run(
                dequeue_timeout=heartbeat / 2,  # lanes of dead workers are found by looking
                batch_size=10,
                max_concurrent_tasks=self._limits.lanes,
                heartbeat_timeout=heartbeat,
                shutdown_on_listener_failure=True,
            )
        except (*AWAY, FailingListenerError) as error:
            log.warning("[WORKER][ENGINE][RESTART]", error=type(error).__name__)
            await clock.wait(self._stop, RESTART)
        finally:
            stopper.cancel()

    async def _run_lane(self, job: Job) -> None:
        bot_id = BotId(int(job.payload or b"0"))
        pause = await bots.pause_left(self._pool, bot_id)
        if pause > 0:
            raise RetryRequested(timedelta(seconds=pause), "flood wait")
        lane = await self._make_lane(bot_id, self._budget, self._stop, self._crowded)
        self._lanes[bot_id] = lane
        try:
            delay = await lane.run()
        finally:
            del self._lanes[bot_id]
        if delay is not None:
            closed = lane.bot_closed_for(clock.monotonic())
            if closed > PATIENCE:  # every process obeys it, whoever runs the lane next
                await bots.pause(self._pool, bot_id, closed)
            raise RetryRequested(timedelta(seconds=delay), "yield")

    def _crowded(self) -> bool:
        return len(self._lanes) >= self._limits.lanes

    def _on_due(self, payload: str) -> None:
        bot_id = BotId(int(payload))
        lane = self._lanes.get(bot_id)
        if lane is not None:
            lane.nudge()
        else:
            self._missed[bot_id] = LOOKS
            self._look.set()

    async def _sweep_all(self) -> None:
        """Queue lanes for bots with due work: soon for those that were woken, now and then for all."""
        all_at = clock.monotonic()
        while not self._stop.is_set():
            try:
                if clock.monotonic() >= all_at:
                    all_at = clock.monotonic() + self._limits.interval
                    await leases.sweep(self._pool)
                    await enqueue(self._pool, await warmups.bots_with_due_work(self._pool))
                if missed := await self._missed_before(all_at):
                    await self._queue(missed)
            except AWAY as error:
                log.warning("[WORKER][SWEEP][FAILED]", error=type(error).__name__)
                await clock.wait(self._stop, RESTART)

    async def _missed_before(self, deadline: float) -> dict[BotId, int]:
        """Bots that were woken while their lane was not here, as soon as there are some; none at the deadline."""
        if not await clock.wait(self._look, deadline - clock.monotonic()):
            return {}
        self._look.clear()
        if self._missed:
            await clock.wait(self._stop, LATE)
        missed, self._missed = self._missed, {}
        return {bot_id: looks for bot_id, looks in missed.items() if bot_id not in self._lanes}

    async def _queue(self, missed: Mapping[BotId, int]) -> None:
        """Queue the lanes of those that have work; one that ended but is still in the queue is looked at again."""
        due = await warmups.bots_with_due_work(self._pool, list(missed))
        for bot_id in await enqueue(self._pool, due):
            if missed[bot_id] > 1 and bot_id not in self._lanes:
                self._missed.setdefault(bot_id, missed[bot_id] - 1)
                self._look.set()
