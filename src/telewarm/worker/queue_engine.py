"""PgQueuer's engine, which hands a queued lane to one worker of the cluster. The only user of its queue manager."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog
from pgqueuer import AsyncpgPoolDriver, Job, Queries, QueueManager, RetryRequested

from telewarm import clock
from telewarm.database import pgqueuer_maintenance
from telewarm.database.connection import Pool
from telewarm.database.lane_queue import ENTRYPOINT
from telewarm.database.transient import is_transient
from telewarm.models import BotId

log = structlog.get_logger(__name__)

RESTART_SECONDS = 1.0  # before the engine is started again after the database went away
MAX_DEQUEUE_BATCH = 10  # lanes taken from the queue at once, at most


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


class QueueEngine:
    """`run_lane`: called with the bot of each lane that is handed out; keeps the lane's job until it returns.

    `on_end`: called when the engine ends or may be ending, so that the lanes of this worker end, too.
    `heartbeat`: seconds; a lane without one for so long is handed to another worker.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        run_lane: Callable[[BotId], Awaitable[None]],
        on_end: Callable[[], None],
        lanes: int,
        heartbeat: float,
    ) -> None:
        self._pool = pool
        self._run_lane = run_lane
        self._on_end = on_end
        self._lanes = lanes
        self._heartbeat = timedelta(seconds=heartbeat)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop`; restarted whenever the database comes back."""
        while not stop.is_set():
            try:
                await self._run_once(stop)
            except Exception as error:
                if not pgqueuer_maintenance.is_lost_listener(error) and not is_transient(error):
                    raise
                log.warning("queue_engine_restarted", error=type(error).__name__)
                await clock.wait(stop, RESTART_SECONDS)

    async def _run_once(self, stop: asyncio.Event) -> None:
        driver = FailureReportingDriver(self._pool, self._on_end)
        queue = QueueManager(Queries(driver))
        queue.entrypoint(ENTRYPOINT)(self._handle_job)
        stopper = asyncio.create_task(stop.wait(), name="engine stop")
        stopper.add_done_callback(lambda _: queue.shutdown.set())
        ending = asyncio.create_task(queue.shutdown.wait(), name="engine end")
        ending.add_done_callback(lambda _: self._on_end())
        try:
            async with driver:
                # PgQueuer probes its own LISTEN without waiting for it, and gives up when the probe was faster.
                await driver.add_listener(queue.channel, lambda _: None)
                await queue.run(
                    dequeue_timeout=self._heartbeat / 2,  # lanes of dead workers are found by looking
                    batch_size=min(MAX_DEQUEUE_BATCH, self._lanes // 2),
                    max_concurrent_tasks=self._lanes,
                    heartbeat_timeout=self._heartbeat,
                    shutdown_on_listener_failure=True,
                    log_aggregation_interval=timedelta(0),  # statistics that nobody reads, and that nobody would trim
                )
        finally:
            stopper.cancel()
            ending.cancel()

    async def _handle_job(self, job: Job) -> None:
        await self._run_lane(BotId(int(job.payload or b"0")))


def requeue_in(seconds: float, reason: str) -> RetryRequested:
    """The exception by which a lane puts itself back into the queue for so many seconds."""
    return RetryRequested(timedelta(seconds=seconds), reason)
