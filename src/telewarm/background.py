"""Background tasks that nobody awaits: one that fails is logged with its traceback."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

import structlog

log = structlog.get_logger(__name__)

_RUNNING: set[asyncio.Task[None]] = set()  # the event loop holds its tasks by weak references only


class BackgroundTasks:
    """The background tasks of one component, which ends them when it closes."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Start a task of this component."""
        task = start(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def close(self, *, timeout_seconds: float | None = None) -> None:
        """Wait for the tasks, at most `timeout_seconds` (None: without limit), and cancel the rest."""
        if self._running:
            await asyncio.wait(self._running, timeout=timeout_seconds)
        for task in self._running:
            task.cancel()


def start(work: Coroutine[Any, Any, None], *, name: str, context: Context | None = None) -> asyncio.Task[None]:
    """Run work in a task that needs no owner."""
    task = asyncio.create_task(work, name=name, context=context)
    _RUNNING.add(task)
    task.add_done_callback(_on_done)
    return task


def _on_done(task: asyncio.Task[None]) -> None:
    _RUNNING.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("background_task_failed", task=task.get_name(), exc_info=error)
