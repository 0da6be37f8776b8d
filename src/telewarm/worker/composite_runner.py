"""Runs several kinds of a bot's background work in one lane, each when it has something to do."""

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
    """`due_at`: when it is to run again, of the monotonic clock; infinite when it has nothing to do."""

    make: MakeRunner
    due_at: float = -math.inf
    runner: Runner | None = None
    task: asyncio.Task[float | None] | None = None

    @property
    def is_running(self) -> bool:
        return self.task is not None and not self.task.done()

    def start(self) -> asyncio.Task[float | None]:
        self.runner = self.make()
        self.due_at = math.inf
        self.task = asyncio.create_task(self.runner.run(), name="lane part")
        return self.task

    def end(self, now: float) -> None:
        """Take what the run answered; raises what it raised."""
        if self.task is None or not self.task.done():
            return
        task, self.task, self.runner = self.task, None, None
        delay = task.result()
        self.due_at = min(self.due_at, math.inf if delay is None else now + delay)  # nudged since: at once

    def nudge(self) -> None:
        if self.is_running and self.runner is not None:
            self.runner.nudge()
        else:
            self.due_at = -math.inf


class CompositeRunner:
    """A runner made of others. One that has ended runs anew, when it is due or nudged, while another is still busy.

    `stop` tells all to leave; it is set here when one leaves because the place is `crowded`, or fails.
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
        return sum(part.runner.in_flight for part in self._children if part.runner is not None)

    @property
    def held(self) -> int:
        return sum(part.runner.held for part in self._children if part.runner is not None)

    def nudge(self) -> None:
        """There is new work for one of them, or a reason to look up."""
        for part in self._children:
            part.nudge()
        self._changed.set()

    def abort(self) -> None:
        for part in self._children:
            if part.runner is not None:
                part.runner.abort()

    async def run(self) -> float | None:
        """Until all have ended: seconds until the first is due again, None when none is."""
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
        """Until one has ended, is nudged, or is due again."""
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
        """One failed, or we are cancelled: the others end what they have in hand. Cancelled, they cut it short."""
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
