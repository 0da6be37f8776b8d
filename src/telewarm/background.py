"""Background tasks that nobody awaits: one that fails is logged with its traceback."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

import structlog

log = structlog.get_logger(__name__)

_RUNNING: set[asyncio.Task[None]] = set()  # the event loop holds its tasks by weak references only


def start(work: Coroutine[Any, Any, None], *, name: str, context: Context | None = None) -> asyncio.Task[None]:
    """Run it in a task that nothing else needs to hold or to look at."""
    task = asyncio.create_task(work, name=name, context=context)
    _RUNNING.add(task)
    task.add_done_callback(_ended)
    return task


def _ended(task: asyncio.Task[None]) -> None:
    _RUNNING.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("background_task_failed", task=task.get_name(), exc_info=error)
