"""Batch writer: buffered rows are written many in a statement; none is lost to an outage, or to a row beside it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

import structlog

from telewarm.database.transient import is_transient

log = structlog.get_logger(__name__)
Row = TypeVar("Row")


class RowBuffer(Protocol[Row]):
    """Rows that are to be written."""

    def take(self, limit: int) -> list[Row]:
        """Remove and return rows, the oldest first, `limit` at most."""

    def put_back(self, rows: Sequence[Row]) -> None:
        """Buffer rows again that were not written. What was added meanwhile is newer."""


class FifoBuffer(Generic[Row]):
    """Rows in the order in which they came. Beyond `max_rows` the oldest are dropped and counted."""

    def __init__(self, *, max_rows: float = float("inf")) -> None:
        self.dropped = 0
        self._max_rows = max_rows
        self._rows: deque[Row] = deque()

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: Row) -> None:
        """Buffer a row. Never waits, never fails."""
        if len(self._rows) >= self._max_rows:
            self._rows.popleft()
            self.dropped += 1
        self._rows.append(row)

    def take(self, limit: int) -> list[Row]:
        """Remove and return the oldest rows, `limit` at most."""
        return [self._rows.popleft() for _ in range(min(limit, len(self._rows)))]

    def put_back(self, rows: Sequence[Row]) -> None:
        """Buffer rows again, before all others."""
        self._rows.extendleft(reversed(rows))


class BatchWriter(Generic[Row]):
    """Writes a buffer to the database. When a batch is refused, its rows are written one by one.

    `replace`: what is written for a row that is refused alone, None: it is dropped. `on_written`: called with how many
    rows left the buffer for good. `name`: of what is written, and `describe`: of a row, for the log.
    """

    def __init__(
        self,
        buffer: RowBuffer[Row],
        write: Callable[[list[Row]], Awaitable[object]],
        *,
        name: str,
        max_batch: int,
        timeout_seconds: float | None = None,
        describe: Callable[[Row], object] = lambda _: None,
        replace: Callable[[Row, Exception], Row | None] = lambda _row, _error: None,
        on_written: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._buffer = buffer
        self._write = write
        self._name = name
        self._max_batch = max_batch
        self._timeout_seconds = timeout_seconds
        self._describe = describe
        self._replace = replace
        self._on_written = on_written
        self._lock = asyncio.Lock()

    async def flush(self) -> bool:
        """Write what is buffered. False when the database is away: then the rest is still buffered."""
        async with self._lock:
            while rows := self._buffer.take(self._max_batch):
                if not await self._write_batch(rows):
                    return False
        return True

    async def _write_batch(self, rows: list[Row]) -> bool:
        if not await self._try(rows, rest=rows):
            return False
        self._on_written(len(rows))
        return True

    async def _try(self, rows: list[Row], *, rest: Sequence[Row], replaced: bool = False) -> bool:
        """Write rows; when the database is away, buffer `rest` again."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._write(rows)
        except Exception as error:
            if is_transient(error):
                self._buffer.put_back(rest)
                log.warning("batch_write_retried", writer=self._name, rows=len(rest), error=type(error).__name__)
                return False
            if len(rows) > 1:
                log.exception("batch_write_refused", writer=self._name, rows=len(rows))
                return await self._try_each(rows)
            log.exception("row_write_refused", writer=self._name, row=self._describe(rows[0]))
            if not replaced and (replacement := self._replace(rows[0], error)) is not None:
                return await self._try([replacement], rest=[replacement, *rest[1:]], replaced=True)
            return True
        except BaseException:
            self._buffer.put_back(rest)
            raise
        return True

    async def _try_each(self, rows: list[Row]) -> bool:
        for number, row in enumerate(rows):
            if not await self._try([row], rest=rows[number:]):
                self._on_written(number)
                return False
        return True
