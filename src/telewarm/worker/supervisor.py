"""Supervisor of the worker of this process: start, stop, restart, status."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime
from math import inf

import structlog

from telewarm import clock
from telewarm.models import BotId
from telewarm.worker.worker import Worker, WorkerLimits

log = structlog.get_logger(__name__)

WORKER_RESTART_SECONDS = 1.0  # seconds
FAILING_STATUS_SECONDS = 10.0  # seconds after the last failure until the worker counts as healthy again


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneStatus:
    """Status of a lane in this process: jobs in flight, and claimed jobs that are not started."""

    bot_id: BotId
    in_flight: int
    held: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerStatus:
    """Status of the worker.

    `since`: when it was started. `draining`: stopped, and finishing what is in flight. `failing`: restarted after an
    unexpected error a moment ago.
    """

    running: bool
    draining: bool
    failing: bool
    since: datetime | None
    limits: WorkerLimits
    lanes: tuple[LaneStatus, ...]

    @property
    def state(self) -> str:
        """`running`, `draining`, `stopped` or `failing`."""
        return "draining" if self.draining else "running" if self.running else "stopped"

    @property
    def in_flight(self) -> int:
        """Number of jobs in flight in all lanes."""
        return sum(lane.in_flight for lane in self.lanes)

    @property
    def held(self) -> int:
        """Number of claimed, unstarted jobs in all lanes."""
        return sum(lane.held for lane in self.lanes)


class WorkerSupervisor:
    """Runs at most one worker at a time.

    `drain_seconds`: how long a stop waits for uploads in flight before it cancels them. `on_change`: called after each
    start, stop and end.
    """

    def __init__(
        self,
        make_worker: Callable[[], Worker],
        limits: WorkerLimits,
        *,
        drain_seconds: float,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.make_worker = make_worker
        self.limits = limits
        self._drain_seconds = drain_seconds
        self._on_change = on_change
        self._worker: Worker | None = None
        self._task: asyncio.Task[None] | None = None
        self._since: datetime | None = None
        self._failed_at = -inf  # monotonic
        self._stop = asyncio.Event()
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run a worker in the background until the block ends or the worker is stopped."""
        await self.start()
        try:
            yield
        finally:
            await self.stop()

    async def start(self) -> bool:
        """Start the worker. Returns whether it was not running."""
        async with self._lock:
            if self._task is not None:
                return False
            self._stop.clear()
            self._since = clock.now()
            apart = Context()  # not the context of the request that starts it, with its request id
            self._task = asyncio.create_task(self._keep_running(), name="worker", context=apart)
            interval = round(1000 * self.limits.interval)
            concurrency, held = self.limits.concurrency, self.limits.held
            line = f"{{ interval_ms: {interval}, concurrency: {concurrency}, max_queue_size: {held} }}"
            log.info("[MEDIA][PREWARM][WORKER][START] " + line)  # noqa: G003 - one line of text, as operators know it
            self._on_change()
            return True

    async def stop(self) -> bool:
        """Drain the worker and wait for its end. Returns whether it was running."""
        async with self._lock:
            running = self._task
            if running is None:
                return False
            self._stop.set()
            self._on_change()
            if self._worker is not None:
                self._worker.stop()
            late: set[asyncio.Task[None]] = set()
            try:
                _, late = await asyncio.wait([running], timeout=self._drain_seconds)
            finally:
                running.cancel()
                await asyncio.wait([running])
                self._task = self._worker = self._since = None
                self._on_change()
            log.info("worker_stopped", drained=not late)
            return True

    async def stop_when(self, stop_event: asyncio.Event) -> None:
        """Stop the worker once the event is set."""
        await stop_event.wait()
        await self.stop()

    async def _keep_running(self) -> None:
        """Restart a worker that ends by itself, which is a bug: log it."""
        while not self._stop.is_set():
            try:
                self._worker = self.make_worker()
                await self._worker.run()
            except Exception:
                self._failed_at = clock.monotonic()
                log.exception("worker_crashed", again_in_s=WORKER_RESTART_SECONDS)
                await clock.wait(self._stop, WORKER_RESTART_SECONDS)

    def status(self) -> WorkerStatus:
        """Return the present status."""
        worker, running = self._worker, self._task
        lanes = {} if worker is None else worker.lanes
        return WorkerStatus(
            running=running is not None,
            draining=running is not None and self._stop.is_set(),
            failing=running is not None and clock.monotonic() - self._failed_at < FAILING_STATUS_SECONDS,
            since=self._since,
            limits=self.limits,
            lanes=tuple(
                LaneStatus(bot_id=bot_id, in_flight=lane.in_flight, held=lane.held) for bot_id, lane in lanes.items()
            ),
        )
