"""Single-flight: concurrent calls for one key share one task and its result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


@dataclass(kw_only=True, slots=True, eq=False)
class SharedTask(Generic[T]):
    """A task with its number of waiting callers."""

    task: asyncio.Task[T]
    waiters: int = 0


class SingleFlight(Generic[K, T]):
    """Shares tasks by key. All waiting callers get the result or the error; the next caller starts a new task."""

    def __init__(self, name: str) -> None:
        """`name`: of the tasks."""
        self._name = name
        self._in_flight: dict[K, SharedTask[T]] = {}

    def __len__(self) -> int:
        """Return the number of keys in flight."""
        return len(self._in_flight)

    async def run(self, key: K, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `work`, or wait for the run of an earlier caller.

        When the last waiting caller is cancelled, the task is, too.
        """
        shared = self._in_flight.get(key) or self._start(key, work())
        shared.waiters += 1
        try:
            return await asyncio.shield(shared.task)
        finally:
            shared.waiters -= 1
            if shared.waiters == 0 and not shared.task.done():
                self._forget(key, shared)
                shared.task.cancel()
                await asyncio.wait([shared.task])

    def _start(self, key: K, work: Coroutine[Any, Any, T]) -> SharedTask[T]:
        shared = self._in_flight[key] = SharedTask(task=asyncio.create_task(work, name=self._name))
        shared.task.add_done_callback(lambda _: self._forget(key, shared))
        return shared

    def _forget(self, key: K, shared: SharedTask[T]) -> None:
        if self._in_flight.get(key) is shared:
            del self._in_flight[key]
        if shared.task.done() and not shared.task.cancelled():
            shared.task.exception()  # mark the exception as retrieved: the last caller may be gone
