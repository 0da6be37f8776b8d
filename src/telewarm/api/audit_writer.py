"""Batch writer of the audit log: entries are noted after the response and written in the background."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from telewarm import background, clock
from telewarm.database import audit
from telewarm.database.audit import AuditEntry
from telewarm.database.batch_writer import BatchWriter, FifoBuffer
from telewarm.database.connection import Pool
from telewarm.logs import redact
from telewarm.text import storable

log = structlog.get_logger(__name__)

FLUSH_INTERVAL_SECONDS = 1.0  # seconds between two writes
MAX_BUFFERED_ENTRIES = 20_000  # rows kept while the database is away; the oldest go first
ROWS_PER_STATEMENT = 5_000  # rows of one write
WRITE_TIMEOUT_SECONDS = 5.0
MAX_TEXT_CHARACTERS = 500  # characters of a text that are kept
API_TOKEN_PATTERN = re.compile(r"tw_[A-Za-z0-9_-]{20,}")


class AuditWriter:
    """Buffers entries and writes them in the background."""

    def __init__(self, pool: Pool) -> None:
        self._buffer: FifoBuffer[AuditEntry] = FifoBuffer(max_rows=MAX_BUFFERED_ENTRIES)
        self._writer = BatchWriter(
            self._buffer,
            lambda rows: audit.insert(pool, rows),
            name="audit log",
            max_batch=ROWS_PER_STATEMENT,
            timeout_seconds=WRITE_TIMEOUT_SECONDS,
            describe=lambda entry: f"{entry.action} {entry.target}",
        )

    def add(self, entry: AuditEntry) -> None:
        """Buffer an entry. Never waits, never fails."""
        self._buffer.add(entry)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write in the background; at the end, write what is left."""
        stop = asyncio.Event()
        task = background.start(self._flush_periodically(stop), name="audit log")
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait([task])
            task.result()

    async def flush(self) -> None:
        """Write what is buffered, as far as the database accepts it."""
        await self._writer.flush()

    async def _flush_periodically(self, stop: asyncio.Event) -> None:
        while not await clock.wait(stop, FLUSH_INTERVAL_SECONDS):
            await self.flush()
            if self._buffer.dropped:
                log.error("audit_entries_dropped", rows=self._buffer.dropped)
                self._buffer.dropped = 0
        await self.flush()
        if lost := len(self._buffer) + self._buffer.dropped:
            log.error("audit_entries_dropped", rows=lost)


def sanitize(text: str, *secrets: str | None) -> str:
    """Return a caller's text as the log stores it: without secrets, and without what a text column cannot hold."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "<token>")
    return storable(API_TOKEN_PATTERN.sub("<token>", redact(text)))[:MAX_TEXT_CHARACTERS]
