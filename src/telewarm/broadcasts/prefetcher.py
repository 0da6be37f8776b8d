"""Prefetcher of recipients: reads them in key order before they are needed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import structlog

from telewarm import background, clock
from telewarm.database import broadcast_runs
from telewarm.database.broadcast_runs import Recipient
from telewarm.database.connection import Pool
from telewarm.database.transient import is_transient
from telewarm.models import Broadcast, ChatId

log = structlog.get_logger(__name__)

BATCH_RECIPIENTS = 2000  # recipients of one query; the next query starts when half of them are left
RETRY_SECONDS = 0.5  # seconds between attempts while the database is unavailable


class RecipientPrefetcher:
    """Holds the next recipients in `ready`. `on_change`: called when there are more, or no more."""

    def __init__(self, pool: Pool, broadcast: Broadcast, *, after: ChatId, on_change: Callable[[], None]) -> None:
        self.ready: deque[Recipient] = deque()
        self._pool = pool
        self._broadcast = broadcast
        self._after = after
        self._on_change = on_change
        self._all_read = False
        self._reading: asyncio.Task[None] | None = None

    @property
    def is_exhausted(self) -> bool:
        """Whether all recipients have been taken."""
        return self._all_read and not self.ready

    def prefetch(self) -> None:
        """Start the next query in the background, when it is time."""
        if not self._all_read and self._reading is None and len(self.ready) <= BATCH_RECIPIENTS // 2:
            self._reading = background.start(self._read(), name="recipients ahead")

    async def close(self) -> None:
        """Cancel the query."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _read(self) -> None:
        try:
            found = await broadcast_runs.next_recipients(
                self._pool, self._broadcast.id, bot_id=self._broadcast.bot_id, after=self._after, limit=BATCH_RECIPIENTS
            )
        except Exception as error:
            bug = not is_transient(error)
            log.warning(
                "broadcast_prefetch_retried", broadcast_id=self._broadcast.id, error=type(error).__name__, exc_info=bug
            )
            await clock.sleep(RETRY_SECONDS)
        else:
            self.ready.extend(found)
            self._all_read = len(found) < BATCH_RECIPIENTS
            if found:
                self._after = found[-1].chat_id
        self._reading = None
        self._on_change()
