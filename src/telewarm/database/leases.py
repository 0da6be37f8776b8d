"""The table `lease`: who holds media rows right now. Time is the database's, so hosts' clocks may differ."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from uuid import UUID, uuid4

import msgspec
import structlog

from telewarm import clock
from telewarm.database.connection import Executor, Pool, query
from telewarm.database.transient import is_transient

TTL = 6.0  # seconds without a renewal after which a holder counts as dead
log = structlog.get_logger(__name__)


class Lease:
    """One process's hold on media rows. `id` changes when the old lease ran out under us.

    What `worker` says of the process's worker goes along with each renewal, and whoever listens to events is told when
    it has changed; None: there was never one.
    """

    def __init__(self, pool: Pool, *, ttl: float) -> None:
        self.id: UUID = uuid4()
        self.worker: Callable[[], Mapping[str, object] | None] = lambda: None
        self._pool = pool
        self._ttl = ttl
        self._hurry = asyncio.Event()

    def hurry(self) -> None:
        """There is news of the worker: renew at once."""
        self._hurry.set()

    @classmethod
    @asynccontextmanager
    async def held(cls, pool: Pool, *, ttl: float = TTL) -> AsyncIterator[Lease]:
        """Take a lease, keep it alive, and at the end free whatever it still holds. `ttl`: seconds."""
        lease = cls(pool, ttl=ttl)
        await lease._renew()
        keeper = asyncio.create_task(lease._keep(), name="lease keeper")
        try:
            yield lease
        finally:
            keeper.cancel()
            with suppress(asyncio.CancelledError):
                await keeper
            await _free(pool, lease.id)

    async def _keep(self) -> None:
        while True:
            await clock.wait(self._hurry, self._ttl / 4)
            self._hurry.clear()
            try:
                await self._renew()
            except Exception as error:
                log.warning("[LEASE][RENEW][FAILED]", error=type(error).__name__, exc_info=not is_transient(error))

    async def _renew(self) -> None:
        said = self.worker()
        worker = None if said is None else msgspec.json.encode(said).decode()
        renewed = await self._pool.fetchval(
            "UPDATE lease SET expires_at = now() + make_interval(secs => $2), worker = $3 WHERE id = $1 RETURNING true",
            self.id,
            self._ttl,
            worker,
        )
        if renewed is None:  # first time, or swept away while this process stood still
            fresh = uuid4()
            await self._pool.execute(
                "INSERT INTO lease (id, holder, expires_at, worker)"
                " VALUES ($1, $2, now() + make_interval(secs => $3), $4)",
                fresh,
                f"{socket.gethostname()}:{os.getpid()}",
                self._ttl,
                worker,
            )
            self.id = fresh


async def working(db: Executor) -> bool:
    """Whether any living process has a worker that runs."""
    return bool(
        await db.fetchval("SELECT true FROM lease WHERE expires_at > now() AND worker ->> 'state' = 'running' LIMIT 1")
    )


async def sweep(db: Executor) -> int:
    """Free the media rows of holders that stopped renewing. How many rows became due again."""
    freed = await db.fetchval(query("sweep_leases"))
    return int(freed)


async def _free(pool: Pool, lease_id: UUID) -> None:
    try:
        await pool.execute("UPDATE media SET lease_id = NULL WHERE lease_id = $1", lease_id)
        await pool.execute("DELETE FROM lease WHERE id = $1", lease_id)
    except Exception as error:
        if not is_transient(error):
            raise
