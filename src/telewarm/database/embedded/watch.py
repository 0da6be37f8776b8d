"""Watchdog that restarts the embedded PostgreSQL when it dies in use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import structlog

from telewarm import clock
from telewarm.errors import EmbeddedPostgresFailed

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.5
STOP_GRACE_SECONDS = 10.0  # that a stop which none of us asked for may last: a service manager stops all of a group
MAX_BACKOFF_SECONDS = 15.0  # between two attempts that fail


class WatchedServer(Protocol):
    """Server, as the watchdog sees it."""

    def seems_dead(self) -> bool:
        """Check cheaply whether the server has died."""
        ...

    def is_stopping(self) -> bool:
        """Return whether the server is stopping."""
        ...

    def heartbeat(self) -> None:
        """Show that the folder is in use."""
        ...

    async def is_reachable(self) -> bool:
        """Return whether the socket accepts connections."""
        ...

    async def restart_if_dead(self) -> bool:
        """Restart a dead server."""
        ...


class ServerWatchdog:
    """Checks the server twice a second, without a connection."""

    def __init__(self, server: WatchedServer) -> None:
        self._server = server
        self._failures = 0
        self._stopping_since: float | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch while the block runs."""
        stop = asyncio.Event()
        watching = asyncio.create_task(self._watch(stop), name="watch the embedded database")
        try:
            yield
        finally:
            stop.set()
            watching.cancel()  # a start that has begun ends before it is
            await asyncio.wait([watching])

    async def _watch(self, stop: asyncio.Event) -> None:
        while not await clock.wait(stop, self._backoff_seconds()):
            try:
                self._server.heartbeat()
                if await self._is_lost():
                    await self._restart()
                self._failures = 0
            except (EmbeddedPostgresFailed, OSError) as error:
                self._failures += 1
                log.error(  # noqa: TRY400 (a traceback would add nothing to the sentence)
                    "embedded_postgres_restart_failed", error=str(error), retry_in_s=self._backoff_seconds()
                )
            except Exception:
                self._failures += 1
                log.exception("embedded_postgres_watch_bug")

    async def _is_lost(self) -> bool:
        if self._server.is_stopping():
            now = clock.monotonic()
            self._stopping_since = now if self._stopping_since is None else self._stopping_since
            return now - self._stopping_since > STOP_GRACE_SECONDS
        self._stopping_since = None
        return self._server.seems_dead() and not await self._server.is_reachable()

    async def _restart(self) -> None:
        begun = clock.monotonic()
        log.warning("embedded_postgres_lost")
        if await self._server.restart_if_dead():
            log.warning("embedded_postgres_restarted", seconds=round(clock.monotonic() - begun, 2))

    def _backoff_seconds(self) -> float:
        return min(POLL_SECONDS * 2.0**self._failures, MAX_BACKOFF_SECONDS)
