"""Batch writer of the audit log: entries are noted after the response and written in the background."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from telewarm import background, clock
from telewarm.database import audit
from telewarm.database.audit import AuditEntry
from telewarm.database.connection import Pool
from telewarm.database.transient import is_transient
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
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._buffer: deque[AuditEntry] = deque()
        self._dropped = 0
        self._flush_lock = asyncio.Lock()

    def add(self, entry: AuditEntry) -> None:
        """Never waits, never fails."""
        if len(self._buffer) >= MAX_BUFFERED_ENTRIES:
            self._buffer.popleft()
            self._dropped += 1
        self._buffer.append(entry)

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
        """Write what was noted up to now, as far as the database takes it."""
        async with self._flush_lock:
            while self._buffer:
                chunk = [self._buffer.popleft() for _ in range(min(ROWS_PER_STATEMENT, len(self._buffer)))]
                try:
                    async with asyncio.timeout(WRITE_TIMEOUT_SECONDS):
                        await audit.insert(self._pool, chunk)
                except BaseException as error:
                    if isinstance(error, Exception) and not is_transient(error):
                        log.exception("audit_rows_refused", rows=len(chunk))
                        await self._write_each(chunk)
                        continue
                    self._buffer.extendleft(reversed(chunk))
                    if not isinstance(error, Exception):
                        raise
                    log.warning("audit_write_retried", rows=len(self._buffer), error=type(error).__name__)
                    return

    async def _write_each(self, chunk: list[AuditEntry]) -> None:
        """One of them cannot be stored: it is dropped, and the others are kept."""
        for number, change in enumerate(chunk):
            try:
                async with asyncio.timeout(WRITE_TIMEOUT_SECONDS):
                    await audit.insert(self._pool, [change])
            except Exception as error:
                if is_transient(error):
                    self._buffer.extendleft(reversed(chunk[number:]))
                    return
                self._dropped += 1
                log.exception("audit_row_refused", action=change.action, target=change.target)

    async def _flush_periodically(self, stop: asyncio.Event) -> None:
        while not await clock.wait(stop, FLUSH_INTERVAL_SECONDS):
            await self.flush()
            if self._dropped:
                log.error("audit_entries_dropped", rows=self._dropped)
                self._dropped = 0
        await self.flush()
        if self._buffer or self._dropped:
            log.error("audit_entries_dropped", rows=len(self._buffer) + self._dropped)


def sanitize(text: str, *secrets: str | None) -> str:
    """A text of the caller's as the log keeps it: no secret that we know or would know, nothing a text cannot hold."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "<token>")
    return storable(API_TOKEN_PATTERN.sub("<token>", redact(text)))[:MAX_TEXT_CHARACTERS]
