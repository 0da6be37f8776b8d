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
FAILING_STATUS_SECONDS = 10.0  # seconds without another failure after which it counts as well again


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneStatus:
    """A lane that runs here: jobs in flight, and claimed ones that wait for their turn."""

    bot_id: BotId
    in_flight: int
    held: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerStatus:
    """`since`: when the worker was started. `draining`: it was told to stop and lets what is in flight end. `failing`:
    a bug ended it a moment ago, and another took its place.
    """

    running: bool
    draining: bool
    failing: bool
    since: datetime | None
    limits: WorkerLimits
    lanes: tuple[LaneStatus, ...]

    @property
    def state(self) -> str:
        return "draining" if self.draining else "running" if self.running else "stopped"

    @property
    def in_flight(self) -> int:
        return sum(lane.in_flight for lane in self.lanes)

    @property
    def held(self) -> int:
        return sum(lane.held for lane in self.lanes)


class WorkerSupervisor:
    """At most one worker at a time. `drain_seconds`: seconds a stop lets uploads in flight end; then it cuts them
    short.

    `on_change`: called whenever it was started, told to stop, or has ended.
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
        """A worker beside the caller, until the end or until somebody stops it."""
        await self.start()
        try:
            yield
        finally:
            await self.stop()

    async def start(self) -> bool:
        """Whether it had to be started."""
        async with self._lock:
            if self._task is not None:
                return False
            self._stop.clear()
            self._since = clock.now()
            apart = Context()  # it outlives the request that starts it, whose id is not its own
            self._task = asyncio.create_task(self._keep_running(), name="worker", context=apart)
            interval = round(1000 * self.limits.interval)
            concurrency, held = self.limits.concurrency, self.limits.held
            line = f"{{ interval_ms: {interval}, concurrency: {concurrency}, max_queue_size: {held} }}"
            log.info("[MEDIA][PREWARM][WORKER][START] " + line)  # noqa: G003 - one line of text, as operators know it
            self._on_change()
            return True

    async def stop(self) -> bool:
        """Drain, put back what was not begun, and end. Whether there was a worker to stop."""
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
        await stop_event.wait()
        await self.stop()

    async def _keep_running(self) -> None:
        """A worker that ends by itself has a bug: it is told, and another takes its place."""
        while not self._stop.is_set():
            try:
                self._worker = self.make_worker()
                await self._worker.run()
            except Exception:
                self._failed_at = clock.monotonic()
                log.exception("worker_crashed", again_in_s=WORKER_RESTART_SECONDS)
                await clock.wait(self._stop, WORKER_RESTART_SECONDS)

    def status(self) -> WorkerStatus:
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
