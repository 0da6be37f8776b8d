"""Composite of a lane's runners: several kinds of a bot's background work, each run when it has something to do."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from telewarm import clock
from telewarm.worker.work import Runner

log = structlog.get_logger(__name__)

MakeRunner = Callable[[], Runner]


@dataclass(kw_only=True, slots=True, eq=False)
class _Child:
    """One kind of work. `due_at`: next run, on the monotonic clock; infinite when it has nothing to do."""

    make: MakeRunner
    due_at: float = -math.inf
    runner: Runner | None = None
    task: asyncio.Task[float | None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether a run is in progress."""
        return self.task is not None and not self.task.done()

    def start(self) -> asyncio.Task[float | None]:
        """Start a run."""
        self.runner = self.make()
        self.due_at = math.inf
        self.task = asyncio.create_task(self.runner.run(), name="lane part")
        return self.task

    def end(self, now: float) -> None:
        """Process the end of a run: schedule the next one. Raises the run's exception."""
        if self.task is None or not self.task.done():
            return
        task, self.task, self.runner = self.task, None, None
        delay = task.result()
        # The time of a nudge since then is earlier.
        self.due_at = min(self.due_at, math.inf if delay is None else now + delay)

    def nudge(self) -> None:
        """Wake the current run, or make a new one due at once."""
        if self.is_running and self.runner is not None:
            self.runner.nudge()
        else:
            self.due_at = -math.inf


class CompositeRunner:
    """Runs several runners in one lane.

    A runner that has ended starts again, when due or nudged, while another is busy.

    `stop` ends all of them; set here when one ends because other lanes wait, or fails.
    """

    def __init__(
        self, factories: Sequence[MakeRunner], *, stop: asyncio.Event, has_waiting_lanes: Callable[[], bool]
    ) -> None:
        self._children = [_Child(make=make) for make in factories]
        self._stop = stop
        self._has_waiting_lanes = has_waiting_lanes
        self._changed = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """Number of jobs in flight."""
        return sum(part.runner.in_flight for part in self._children if part.runner is not None)

    @property
    def held(self) -> int:
        """Number of claimed jobs that are not started."""
        return sum(part.runner.held for part in self._children if part.runner is not None)

    def nudge(self) -> None:
        """Nudge every runner: there is new work, or the context changed."""
        for part in self._children:
            part.nudge()
        self._changed.set()

    def abort(self) -> None:
        """Abort every runner."""
        for part in self._children:
            if part.runner is not None:
                part.runner.abort()

    async def run(self) -> float | None:
        """Run until all have ended. Returns the seconds until the next is due, None when none is."""
        try:
            while True:
                self._changed.clear()
                self._start_due()
                if not any(part.is_running for part in self._children):
                    return self._seconds_until_due()
                await self._wait_for_change()
                self._collect_finished()
        finally:
            await self._stop_children()

    def _start_due(self) -> None:
        first = all(part.task is None and part.due_at == -math.inf for part in self._children)
        for part in self._children:
            if not part.is_running and part.due_at <= clock.monotonic() and (first or not self._stop.is_set()):
                part.start().add_done_callback(lambda _: self._changed.set())

    def _seconds_until_due(self) -> float | None:
        due_at = min(part.due_at for part in self._children)
        return None if due_at == math.inf else max(0.0, due_at - clock.monotonic())

    async def _wait_for_change(self) -> None:
        """Wait until one has ended, is nudged, or is due again."""
        due_at = min((part.due_at for part in self._children if not part.is_running), default=math.inf)
        if due_at == math.inf or self._stop.is_set():
            await self._changed.wait()
        else:
            await clock.wait(self._changed, due_at - clock.monotonic())

    def _collect_finished(self) -> None:
        now = clock.monotonic()
        for part in self._children:
            part.end(now)
            if part.task is None and part.due_at <= now and self._has_waiting_lanes():
                self._drain()

    def _drain(self) -> None:
        self._stop.set()
        for part in self._children:
            if part.is_running:
                part.nudge()

    async def _stop_children(self) -> None:
        """Stop the other runners after a failure; they finish what is in flight. When cancelled, abort them."""
        tasks = [part.task for part in self._children if part.task is not None]
        if not tasks:
            return
        running = asyncio.current_task()
        if running is not None and running.cancelling():
            await _cancel(tasks)
            return
        self._drain()
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            await _cancel(tasks)
            raise
        for task in tasks:
            if (error := task.exception()) is not None:
                log.error("lane_runner_failed", exc_info=error)


async def _cancel(tasks: Sequence[asyncio.Task[float | None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
