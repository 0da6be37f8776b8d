"""Table `lease`: process leases of media rows. Times are the database's, so hosts' clocks may differ."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import repeat, takewhile
from uuid import UUID, uuid4

import msgspec
import structlog

from telewarm import background, clock
from telewarm.database.connection import Executor, Pool, query
from telewarm.database.held import HeldRows
from telewarm.database.retry import RETRY_SECONDS, log_transient, retry_transient
from telewarm.database.transient import is_transient

FORGOTTEN_CHECK_SECONDS = (
    15.0  # between two looks for rows in hand that nobody here holds: they are free after the second
)
FINAL_WRITE_SECONDS = 2.0  # for it at the end
LEASE_TTL_SECONDS = 6.0  # seconds without a renewal after which a holder counts as dead
log = structlog.get_logger(__name__)


class ProcessLease:
    """Lease of one process. `id` changes after the lease has expired.

    `describe_worker`: status of the process's worker, stored with each renewal and, when changed, published as an
    event; None: never started.
    """

    def __init__(self, pool: Pool, *, ttl: float) -> None:
        self.id: UUID = uuid4()
        self.describe_worker: Callable[[], Mapping[str, object] | None] = lambda: None
        self._pool = pool
        self._ttl_seconds = ttl
        self._renew_event = asyncio.Event()
        self.media = HeldRows()
        self.broadcast_runs = HeldRows()
        self._writes = background.BackgroundTasks()
        self._closing = False

    def renew_now(self) -> None:
        """Renew at once, to publish the worker's status."""
        self._renew_event.set()

    @classmethod
    @asynccontextmanager
    async def open(cls, pool: Pool, *, ttl_seconds: float = LEASE_TTL_SECONDS) -> AsyncIterator[ProcessLease]:
        """Open a lease, renew it, and at the end free its rows. `ttl_seconds`: its lifetime without a renewal."""
        lease = cls(pool, ttl=ttl_seconds)
        await lease._renew()
        tasks = [
            background.start(lease._renew_periodically(), name="lease keeper"),
            background.start(lease._free_forgotten_periodically(), name="look for forgotten rows"),
        ]
        try:
            yield lease
        finally:
            lease._closing = True
            await lease._writes.close(timeout_seconds=FINAL_WRITE_SECONDS)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await _delete_lease(pool, lease.id)

    def write_until_done(
        self, work: Callable[[], Awaitable[object]], media_ids: Sequence[int], *, name: str
    ) -> asyncio.Task[None]:
        """Write about these media in the background, with retries; they stay held until then.

        Ends with the lease, which frees the rows.
        """
        return self._writes.start(self._write_with_retry(work, media_ids), name=name)

    async def _write_with_retry(self, work: Callable[[], Awaitable[object]], media_ids: Sequence[int]) -> None:
        delays = takewhile(lambda _: not self._closing, repeat(RETRY_SECONDS))
        try:
            with log_transient("media_write_given_up", media_ids=media_ids):
                await retry_transient(work, event="media_write_retried", delays=delays, media_ids=media_ids)
        finally:
            self.media.discard(media_ids)

    async def free_forgotten(self) -> int:
        """Free rows that are leased by this process and held by nobody in it, after a lost response or a failure.

        Returns their number.
        """
        count = 0
        for table, held in (("media", self.media), ("broadcast_run", self.broadcast_runs)):
            key = "id" if table == "media" else "broadcast_id"
            lease_id, before, now = self.id, held.ids, clock.monotonic()
            rows = await self._pool.fetch(f"SELECT {key} AS id FROM {table} WHERE lease_id = $1", lease_id)
            forgotten = held.find_forgotten([row["id"] for row in rows], held_before=before, now=now)
            if forgotten:
                free = f"UPDATE {table} SET lease_id = NULL WHERE {key} = ANY ($2) AND lease_id = $1"
                await self._pool.execute(free, lease_id, forgotten)
                log.warning("forgotten_rows_freed", table=table, rows=len(forgotten), ids=forgotten[:20])
                count += len(forgotten)
        return count

    async def _free_forgotten_periodically(self) -> None:
        while True:
            await clock.sleep(FORGOTTEN_CHECK_SECONDS)
            try:
                await self.free_forgotten()
            except Exception as error:
                log.warning("forgotten_rows_unread", error=type(error).__name__, exc_info=not is_transient(error))

    async def _renew_periodically(self) -> None:
        while True:
            await clock.wait(self._renew_event, self._ttl_seconds / 4)
            self._renew_event.clear()
            try:
                await self._renew()
            except Exception as error:
                log.warning("lease_renewal_failed", error=type(error).__name__, exc_info=not is_transient(error))

    async def _renew(self) -> None:
        said = self.describe_worker()
        worker = None if said is None else msgspec.json.encode(said).decode()
        renewed = await self._pool.fetchval(
            "UPDATE lease SET expires_at = now() + make_interval(secs => $2), worker = $3 WHERE id = $1 RETURNING true",
            self.id,
            self._ttl_seconds,
            worker,
        )
        if renewed is None:  # first time, or swept away while this process stood still
            fresh = uuid4()
            await self._pool.execute(
                "INSERT INTO lease (id, holder, expires_at, worker)"
                " VALUES ($1, $2, now() + make_interval(secs => $3), $4)",
                fresh,
                f"{socket.gethostname()}:{os.getpid()}",
                self._ttl_seconds,
                worker,
            )
            self.id = fresh


async def has_peers(db: Executor) -> bool:
    """Return whether more than one living process uses the database."""
    return bool(await db.fetchval("SELECT count(*) > 1 FROM lease WHERE expires_at > now()"))


async def is_any_worker_running(db: Executor) -> bool:
    """Return whether any living process has a running worker."""
    return bool(
        await db.fetchval("SELECT true FROM lease WHERE expires_at > now() AND worker ->> 'state' = 'running' LIMIT 1")
    )


async def sweep(db: Executor) -> int:
    """Free the rows of expired leases. Returns how many became due."""
    freed = await db.fetchval(query("sweep_leases"))
    return int(freed)


async def _delete_lease(pool: Pool, lease_id: UUID) -> None:
    with log_transient("lease_kept", lease_id=str(lease_id)):  # until it expires
        await pool.execute("UPDATE media SET lease_id = NULL WHERE lease_id = $1", lease_id)
        await pool.execute("DELETE FROM lease WHERE id = $1", lease_id)
