"""Blocking work in threads, outside of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_BATCH_ITEMS = 64
INLINE_BYTES = (
    1 << 18
)  # bytes below which reading, hashing or writing (0.2 ms) costs less than a switch to a thread and back


async def in_thread(work: Callable[[], Result]) -> Result:
    """Run blocking work in a thread. A cancelled caller waits for it, since it is about to close its files."""
    return await _wait_uncancelled(asyncio.ensure_future(asyncio.to_thread(work)))


async def run_inline_or_in_thread(size: int, work: Callable[[], Result]) -> Result:
    """Process `size` bytes inline if that is cheaper than a thread."""
    return work() if size <= INLINE_BYTES else await in_thread(work)


class ThreadBatcher(Generic[Item, Result]):
    """Batches the blocking work of many callers: requests that arrive while a thread runs share the next one.

    `work` returns an outcome for each item, in order. A cancelled caller still waits for its own, as with `in_thread`.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Sequence[Result | Exception]], *, name: str) -> None:
        self._work = work
        self._name = name
        self._queue: list[tuple[Item, asyncio.Future[Result]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        """Process an item with others. Returns its outcome."""
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.append((item, done))
        if self._worker is None:
            self._worker = asyncio.create_task(self._run(), name=self._name)
        return await _wait_uncancelled(done)

    async def _run(self) -> None:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        try:
            while self._queue:
                batch, self._queue = self._queue[:MAX_BATCH_ITEMS], self._queue[MAX_BATCH_ITEMS:]
                outcomes = await asyncio.to_thread(self._work, [item for item, _ in batch])
                for (_, done), outcome in zip(batch, outcomes, strict=True):
                    _set_outcome(done, outcome)
        finally:
            self._worker = None
            for _, done in (*batch, *self._queue):
                done.cancel()  # only when the event loop is closing: finished futures ignore it


async def _wait_uncancelled(running: asyncio.Future[Result]) -> Result:
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # mark the exception as retrieved: the caller is gone
        raise


def _set_outcome(done: asyncio.Future[Result], outcome: Result | Exception) -> None:
    if isinstance(outcome, Exception):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)
