"""Garbage collector of blobs: rows first, then objects, then the copy in the disk cache."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from telewarm import background, clock
from telewarm.database import blob_tombstones, deletions
from telewarm.database.blob_tombstones import BlobTombstone
from telewarm.database.connection import Pool
from telewarm.database.transient import is_transient
from telewarm.errors import StoreError
from telewarm.models import Sha256
from telewarm.storage.disk_cache import BlobCache
from telewarm.storage.keys import thumbnail_key
from telewarm.storage.object_store import BlobStore, ObjectInfo

log = structlog.get_logger(__name__)

GRACE = 900.0  # seconds that an orphan waits at least; an addition under way is over in six minutes, see `orphans`
EVERY = 60.0  # seconds between two rounds
ROWS = 1000  # of one transaction
OBJECTS = 64  # of one transaction
AT_ONCE = 16  # objects
PATIENCE = 40.0  # seconds for those of one transaction: the server ends one that does nothing for 60
STRAY_AGE = timedelta(days=1)  # of an object that belongs to no row: younger ones may get theirs yet
BLOB = re.compile(r"media/[0-9a-f]{2}/([0-9a-f]{64})\.[a-z0-9]{1,16}")
THUMBNAIL = re.compile(r"thumbnails/[0-9a-f]{2}/([0-9a-f]{64})\.jpg")


class BlobGarbageCollector:
    """Every process may have one; they share the work."""

    def __init__(self, *, pool: Pool, store: BlobStore, spool: BlobCache, grace: float = GRACE) -> None:
        self._pool = pool
        self._store = store
        self._spool = spool
        self._grace = grace

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Collect in the background, now and then."""
        stop = asyncio.Event()
        task = background.start(self._run(stop), name="collector")
        try:
            yield
        finally:
            stop.set()
            task.cancel()
            await asyncio.wait([task])

    async def collect(self) -> int:
        """Whatever has waited long enough; how many blobs. Raises what a lost database does."""
        while await self._drop_some() == ROWS:
            pass
        total = 0
        while count := await self._burn_some():
            total += count
        await blob_tombstones.trim(self._pool)
        if total:
            log.info("blobs_deleted", blobs=total)
        return total

    async def look_for_strays(self) -> int:
        """Find objects of blobs that no row tells of, left by a process that was killed while it added them: how many.
        They are collected by and by. Reads the store's whole list."""
        found, before = 0, clock.now() - STRAY_AGE
        for prefix in ("media", "thumbnails"):
            async for page in self._store.listed(prefix):
                strays = [orphan for one in page if one.at < before and (orphan := _orphan_of(one)) is not None]
                found += await blob_tombstones.strays(self._pool, strays)
        log.info("orphaned_objects_found", objects=found)
        return found

    async def _run(self, stop: asyncio.Event) -> None:
        while not await clock.wait(stop, EVERY):
            try:
                await self.collect()
                for bot_id in await deletions.given_up(self._pool):
                    await deletions.purge_bot(self._pool, bot_id)
            except Exception as error:
                log.warning("blob_gc_retried", error=type(error).__name__, exc_info=not is_transient(error))

    async def _drop_some(self) -> int:
        async with self._pool.acquire() as connection, connection.transaction():
            return await blob_tombstones.drop_blobs(connection, grace=self._grace, limit=ROWS)

    async def _burn_some(self) -> int:
        """How many were collected; those that the store did not take wait again."""
        async with self._pool.acquire() as connection, connection.transaction():
            found = await blob_tombstones.lock_bare(connection, grace=self._grace, limit=OBJECTS)
            gone = await self._burn(found)
            await blob_tombstones.collected(connection, sorted(gone))
            await blob_tombstones.put_off(connection, sorted({one.sha256 for one in found} - gone))
        return len(gone)

    async def _burn(self, found: Sequence[BlobTombstone]) -> set[Sha256]:
        """Those whose objects are gone."""
        gone: set[Sha256] = set()
        places = asyncio.Semaphore(AT_ONCE)

        async def one(orphan: BlobTombstone) -> None:
            async with places:
                try:
                    await self._delete(orphan)
                except (StoreError, OSError) as error:
                    log.warning("blob_delete_failed", sha256=orphan.sha256, error=str(error))
                except Exception:
                    log.exception("blob_delete_failed", sha256=orphan.sha256)
                else:
                    gone.add(orphan.sha256)

        try:
            async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
                for orphan in found:
                    group.create_task(one(orphan), name="collect a blob")
        except TimeoutError:
            log.warning("blob_gc_backlog", blobs=len(found) - len(gone))
        return gone

    async def _delete(self, orphan: BlobTombstone) -> None:
        await self._store.delete(orphan.storage_key)
        if orphan.thumbnail_key is not None:
            await self._store.delete(orphan.thumbnail_key)
        await self._spool.discard(orphan.sha256)


def _orphan_of(stored: ObjectInfo) -> BlobTombstone | None:
    """None for what is none of ours."""
    if (blob := BLOB.fullmatch(stored.key)) is not None:
        sha256 = Sha256(blob[1])
        return BlobTombstone(sha256=sha256, storage_key=stored.key, thumbnail_key=thumbnail_key(sha256))
    if (thumbnail := THUMBNAIL.fullmatch(stored.key)) is not None:
        return BlobTombstone(sha256=Sha256(thumbnail[1]), storage_key=stored.key, thumbnail_key=None)
    return None
