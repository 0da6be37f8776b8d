"""Pool of long-lived delivery tasks: cheaper than a task for each recipient."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

import structlog

from telewarm import background
from telewarm.broadcasts import policy
from telewarm.broadcasts.policy import SendDecision
from telewarm.models import ChatId, Delivery, DeliveryStatus

log = structlog.get_logger(__name__)


class WorkerPool:
    """`call` sends to one chat. `on_done`: called with the outcome of every call that was begun."""

    def __init__(
        self, call: Callable[[ChatId], Awaitable[SendDecision]], on_done: Callable[[ChatId, SendDecision], None]
    ) -> None:
        self._call = call
        self._on_done = on_done
        self._queue: deque[ChatId] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def queued(self) -> int:
        """Number of queued calls."""
        return len(self._queue)

    def start(self, chat_ids: Iterable[ChatId], *, tasks: int) -> None:
        """Queue calls, for at least so many tasks."""
        self._queue.extend(chat_ids)
        for _ in range(min(len(self._queue), len(self._idle))):
            self._idle.pop().set_result(None)
        while len(self._tasks) < tasks:
            self._tasks.append(background.start(self._run(), name="broadcast caller"))

    def unqueue(self) -> list[ChatId]:
        """Remove and return the calls that were not begun."""
        left = list(self._queue)
        self._queue.clear()
        return left

    async def end(self) -> None:
        """Cancel the calls in flight."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def cancel_all(self) -> None:
        """Cancel all tasks and wait for their end."""
        for task in self._tasks:
            task.cancel()

    async def _run(self) -> None:
        queue, call, on_done = self._queue, self._call, self._on_done
        while True:
            while not queue:
                await self._wait_for_job()
            chat_id = queue.popleft()
            try:
                verdict = await call(chat_id)
            except asyncio.CancelledError:
                on_done(chat_id, policy.interrupted_delivery(chat_id))
                raise
            except Exception as error:
                log.exception("unhandled_exception", chat_id=chat_id)
                on_done(chat_id, _unexpected_failure(chat_id, error))
            else:
                on_done(chat_id, verdict)

    async def _wait_for_job(self) -> None:
        idle = asyncio.get_running_loop().create_future()
        self._idle.append(idle)
        try:
            await idle
        except asyncio.CancelledError:
            if idle in self._idle:
                self._idle.remove(idle)
            raise


def _unexpected_failure(chat_id: ChatId, error: Exception) -> Delivery:
    return Delivery(
        chat_id=chat_id, outcome=DeliveryStatus.UNKNOWN, error=f"INTERNAL: unexpected {type(error).__name__}"
    )
