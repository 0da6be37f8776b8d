"""The table `lease`: who holds media rows right now. Time is the database's, so hosts' clocks may differ."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import msgspec
import structlog

from telewarm import background, clock
from telewarm.database.connection import Executor, Pool, query
from telewarm.database.held import Held
from telewarm.database.transient import is_transient

FORGOTTEN_SECONDS = 15.0  # between two looks for rows in hand that nobody here holds: they are free after the second
RETRY_SECONDS = 0.5  # between two tries of what has to be written
LAST_SECONDS = 2.0  # for it at the end
TTL = 6.0  # seconds without a renewal after which a holder counts as dead
log = structlog.get_logger(__name__)


class ProcessLease:
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
        self.media = Held()
        self.flights = Held()
        self._writing: set[asyncio.Task[None]] = set()
        self._ended = False

    def hurry(self) -> None:
        """There is news of the worker: renew at once."""
        self._hurry.set()

    @classmethod
    @asynccontextmanager
    async def held(cls, pool: Pool, *, ttl: float = TTL) -> AsyncIterator[ProcessLease]:
        """Take a lease, keep it alive, and at the end free whatever it still holds. `ttl`: seconds."""
        lease = cls(pool, ttl=ttl)
        await lease._renew()
        tasks = [
            background.start(lease._keep(), name="lease keeper"),
            background.start(lease._look_for_forgotten(), name="look for forgotten rows"),
        ]
        try:
            yield lease
        finally:
            await lease._end_writing()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await _free(pool, lease.id)

    def surely(
        self, work: Callable[[], Awaitable[object]], media_ids: Sequence[int], *, name: str
    ) -> asyncio.Task[None]:
        """Write something of these media down in the background, however long the database is away; they are in hand
        until then. Ends with the lease, which frees them.
        """
        task = background.start(self._insist(work, media_ids), name=name)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return task

    async def _insist(self, work: Callable[[], Awaitable[object]], media_ids: Sequence[int]) -> None:
        try:
            while True:
                try:
                    await work()
                except Exception as error:
                    if not is_transient(error):
                        raise
                    log.warning("media_write_retried", media_ids=media_ids, error=type(error).__name__)
                    if self._ended:
                        return
                    await clock.sleep(RETRY_SECONDS)
                else:
                    return
        finally:
            self.media.discard(media_ids)

    async def _end_writing(self) -> None:
        self._ended = True
        if self._writing:
            _, late = await asyncio.wait(self._writing, timeout=LAST_SECONDS)
            for task in late:
                task.cancel()

    async def free_forgotten(self) -> int:
        """Free the rows that the database says this process has in hand and nobody in it holds: of a claim whose answer
        was lost, or of one who failed. How many.
        """
        count = 0
        for table, held in (("media", self.media), ("flight", self.flights)):
            key = "id" if table == "media" else "broadcast_id"
            lease_id, before, now = self.id, held.ids, clock.monotonic()
            rows = await self._pool.fetch(f"SELECT {key} AS id FROM {table} WHERE lease_id = $1", lease_id)
            forgotten = held.forgotten([row["id"] for row in rows], before=before, now=now)
            if forgotten:
                free = f"UPDATE {table} SET lease_id = NULL WHERE {key} = ANY ($2) AND lease_id = $1"
                await self._pool.execute(free, lease_id, forgotten)
                log.warning("forgotten_rows_freed", table=table, rows=len(forgotten), ids=forgotten[:20])
                count += len(forgotten)
        return count

    async def _look_for_forgotten(self) -> None:
        while True:
            await clock.sleep(FORGOTTEN_SECONDS)
            try:
                await self.free_forgotten()
            except Exception as error:
                log.warning("forgotten_rows_unread", error=type(error).__name__, exc_info=not is_transient(error))

    async def _keep(self) -> None:
        while True:
            await clock.wait(self._hurry, self._ttl / 4)
            self._hurry.clear()
            try:
                await self._renew()
            except Exception as error:
                log.warning("lease_renewal_failed", error=type(error).__name__, exc_info=not is_transient(error))

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
