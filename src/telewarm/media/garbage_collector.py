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

GRACE_SECONDS = 900.0  # minimum seconds before a deletion; an ingest takes at most six minutes
INTERVAL_SECONDS = 60.0  # seconds between two rounds
MAX_ROWS_PER_TRANSACTION = 1000  # rows
MAX_OBJECTS_PER_TRANSACTION = 64  # objects
MAX_CONCURRENT_DELETES = 16  # objects
DELETE_TIMEOUT_SECONDS = 40.0  # seconds for the objects of one transaction: the server ends idle ones after 60
MIN_ORPHANED_OBJECT_AGE = timedelta(days=1)  # age of an object without a row: younger ones may get theirs yet
BLOB_KEY_PATTERN = re.compile(r"media/[0-9a-f]{2}/([0-9a-f]{64})\.[a-z0-9]{1,16}")
THUMBNAIL_KEY_PATTERN = re.compile(r"thumbnails/[0-9a-f]{2}/([0-9a-f]{64})\.jpg")


class BlobGarbageCollector:
    """Deletes unreferenced blobs. Concurrent processes share the work."""

    def __init__(self, *, pool: Pool, store: BlobStore, disk_cache: BlobCache, grace: float = GRACE_SECONDS) -> None:
        self._pool = pool
        self._store = store
        self._disk_cache = disk_cache
        self._grace = grace

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Collect in the background, at an interval."""
        stop = asyncio.Event()
        task = background.start(self._run(stop), name="collector")
        try:
            yield
        finally:
            stop.set()
            task.cancel()
            await asyncio.wait([task])

    async def collect(self) -> int:
        """Delete blobs that have been unreferenced long enough. Returns their number. Raises on a lost database."""
        while await self._delete_rows() == MAX_ROWS_PER_TRANSACTION:
            pass
        total = 0
        while count := await self._delete_object_batch():
            total += count
        await blob_tombstones.trim(self._pool)
        if total:
            log.info("blobs_deleted", blobs=total)
        return total

    async def find_orphaned_objects(self) -> int:
        """Find objects without a row, left by a process that was killed during an ingest. Returns their number.

        The collector deletes them later. Lists the whole store.
        """
        found, before = 0, clock.now() - MIN_ORPHANED_OBJECT_AGE
        for prefix in ("media", "thumbnails"):
            async for page in self._store.list_objects(prefix):
                orphaned = [
                    tombstone
                    for one in page
                    if one.modified_at < before and (tombstone := _tombstone_of(one)) is not None
                ]
                found += await blob_tombstones.add_orphaned_objects(self._pool, orphaned)
        log.info("orphaned_objects_found", objects=found)
        return found

    async def _run(self, stop: asyncio.Event) -> None:
        while not await clock.wait(stop, INTERVAL_SECONDS):
            try:
                await self.collect()
                for bot_id in await deletions.unfinished_purges(self._pool):
                    await deletions.purge_bot(self._pool, bot_id)
            except Exception as error:
                log.warning("blob_gc_retried", error=type(error).__name__, exc_info=not is_transient(error))

    async def _delete_rows(self) -> int:
        async with self._pool.acquire() as connection, connection.transaction():
            return await blob_tombstones.delete_unused_blobs(
                connection, min_age_seconds=self._grace, limit=MAX_ROWS_PER_TRANSACTION
            )

    async def _delete_object_batch(self) -> int:
        """Delete one batch. Returns the number of deleted blobs; failed ones are tried again later."""
        async with self._pool.acquire() as connection, connection.transaction():
            found = await blob_tombstones.lock_collectable(
                connection, min_age_seconds=self._grace, limit=MAX_OBJECTS_PER_TRANSACTION
            )
            gone = await self._delete_objects(found)
            await blob_tombstones.mark_collected(connection, sorted(gone))
            await blob_tombstones.postpone(connection, sorted({one.sha256 for one in found} - gone))
        return len(gone)

    async def _delete_objects(self, tombstones: Sequence[BlobTombstone]) -> set[Sha256]:
        """Delete objects. Returns the blobs whose objects are deleted."""
        gone: set[Sha256] = set()
        slots = asyncio.Semaphore(MAX_CONCURRENT_DELETES)

        async def one(tombstone: BlobTombstone) -> None:
            """Delete the objects of one blob."""
            async with slots:
                try:
                    await self._delete(tombstone)
                except (StoreError, OSError) as error:
                    log.warning("blob_delete_failed", sha256=tombstone.sha256, error=str(error))
                except Exception:
                    log.exception("blob_delete_failed", sha256=tombstone.sha256)
                else:
                    gone.add(tombstone.sha256)

        try:
            async with asyncio.timeout(DELETE_TIMEOUT_SECONDS), asyncio.TaskGroup() as group:
                for tombstone in tombstones:
                    group.create_task(one(tombstone), name="collect a blob")
        except TimeoutError:
            log.warning("blob_gc_backlog", blobs=len(tombstones) - len(gone))
        return gone

    async def _delete(self, tombstone: BlobTombstone) -> None:
        await self._store.delete(tombstone.storage_key)
        if tombstone.thumbnail_key is not None:
            await self._store.delete(tombstone.thumbnail_key)
        await self._disk_cache.discard(tombstone.sha256)


def _tombstone_of(stored: ObjectInfo) -> BlobTombstone | None:
    """Return a tombstone for the object; None for a foreign object."""
    if (blob := BLOB_KEY_PATTERN.fullmatch(stored.key)) is not None:
        sha256 = Sha256(blob[1])
        return BlobTombstone(sha256=sha256, storage_key=stored.key, thumbnail_key=thumbnail_key(sha256))
    if (thumbnail := THUMBNAIL_KEY_PATTERN.fullmatch(stored.key)) is not None:
        return BlobTombstone(sha256=Sha256(thumbnail[1]), storage_key=stored.key, thumbnail_key=None)
    return None
