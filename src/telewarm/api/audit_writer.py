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
MAX_BUFFERED = 20_000  # rows kept while the database is away; the oldest go first
ROWS_PER_STATEMENT = 5_000  # rows of one write
WRITE_SECONDS = 5.0
LENGTH = 500  # characters of a text that are kept
OURS = re.compile(r"tw_[A-Za-z0-9_-]{20,}")


class AuditWriter:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: deque[AuditEntry] = deque()
        self._lost = 0
        self._turn = asyncio.Lock()

    def note(self, change: AuditEntry) -> None:
        """Never waits, never fails."""
        if len(self._waiting) >= MAX_BUFFERED:
            self._waiting.popleft()
            self._lost += 1
        self._waiting.append(change)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write in the background; at the end, write what is left."""
        stop = asyncio.Event()
        task = background.start(self._write_on(stop), name="audit log")
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait([task])
            task.result()

    async def flush(self) -> None:
        """Write what was noted up to now, as far as the database takes it."""
        async with self._turn:
            while self._waiting:
                chunk = [self._waiting.popleft() for _ in range(min(ROWS_PER_STATEMENT, len(self._waiting)))]
                try:
                    async with asyncio.timeout(WRITE_SECONDS):
                        await audit.record(self._pool, chunk)
                except BaseException as error:
                    if isinstance(error, Exception) and not is_transient(error):
                        log.exception("audit_rows_refused", rows=len(chunk))
                        await self._write_each(chunk)
                        continue
                    self._waiting.extendleft(reversed(chunk))
                    if not isinstance(error, Exception):
                        raise
                    log.warning("audit_write_retried", rows=len(self._waiting), error=type(error).__name__)
                    return

    async def _write_each(self, chunk: list[AuditEntry]) -> None:
        """One of them cannot be stored: it is dropped, and the others are kept."""
        for number, change in enumerate(chunk):
            try:
                async with asyncio.timeout(WRITE_SECONDS):
                    await audit.record(self._pool, [change])
            except Exception as error:
                if is_transient(error):
                    self._waiting.extendleft(reversed(chunk[number:]))
                    return
                self._lost += 1
                log.exception("audit_row_refused", action=change.action, target=change.target)

    async def _write_on(self, stop: asyncio.Event) -> None:
        while not await clock.wait(stop, FLUSH_INTERVAL_SECONDS):
            await self.flush()
            if self._lost:
                log.error("audit_entries_dropped", rows=self._lost)
                self._lost = 0
        await self.flush()
        if self._waiting or self._lost:
            log.error("audit_entries_dropped", rows=len(self._waiting) + self._lost)


def kept(text: str, *secrets: str | None) -> str:
    """A text of the caller's as the log keeps it: no secret that we know or would know, nothing a text cannot hold."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "<token>")
    return storable(OURS.sub("<token>", redact(text)))[:LENGTH]
