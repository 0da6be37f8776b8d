"""Table `blob_tombstone`: blobs whose objects are to be deleted from the store.

A blob's row is deleted first, its objects after that, so that a crash in between never leaves a row without bytes.
Adding the same bytes deletes the tombstone in the statement that writes the blob, and so either finds the objects or
learns that they may be missing (`insert_media`). Only an addition that began before the tombstone was written does not
see it: it ends long before the grace period, since the server ends statements and idle transactions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from telewarm.database.connection import Connection, Executor
from telewarm.models import Sha256

COLLECTED_RETENTION_DAYS = 7  # for which it is known that an object was deleted
ROWS_PER_DELETE = 10_000  # lines of one statement

SELECT_WAITING = (
    "SELECT sha256, storage_key, thumbnail_key FROM blob_tombstone"
    " WHERE collected_at IS NULL AND since <= now() - make_interval(secs => $1)"
)
LOCK_WAITING = f"{SELECT_WAITING} ORDER BY since LIMIT $2 FOR UPDATE SKIP LOCKED"
LOCK_WITHOUT_BLOB = (
    f"{SELECT_WAITING} AND NOT EXISTS (SELECT FROM blob WHERE blob.sha256 = blob_tombstone.sha256)"
    " ORDER BY since LIMIT $2 FOR UPDATE SKIP LOCKED"
)
LOCK_BLOBS = "SELECT FROM blob WHERE sha256 = ANY ($1::text[]) ORDER BY sha256 FOR UPDATE"
DROP_BLOBS = (
    "DELETE FROM blob WHERE sha256 = ANY ($1::text[])"
    " AND NOT EXISTS (SELECT FROM media WHERE media.sha256 = blob.sha256)"
)
DELETE_NEEDED_TOMBSTONES = (
    "DELETE FROM blob_tombstone WHERE sha256 = ANY ($1::text[])"
    " AND EXISTS (SELECT FROM blob WHERE blob.sha256 = blob_tombstone.sha256)"
)
INSERT_ORPHANED_OBJECTS = (
    "INSERT INTO blob_tombstone (sha256, storage_key, thumbnail_key)"
    " SELECT DISTINCT ON (found.sha256) * FROM unnest($1::text[], $2::text[], $3::text[])"
    " AS found (sha256, storage_key, thumbnail_key)"
    " WHERE NOT EXISTS (SELECT FROM blob WHERE blob.sha256 = found.sha256) ORDER BY found.sha256"
    " ON CONFLICT (sha256) DO UPDATE SET since = now(), collected_at = NULL,"
    " storage_key = EXCLUDED.storage_key, thumbnail_key = EXCLUDED.thumbnail_key"
    " WHERE blob_tombstone.collected_at IS NOT NULL"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class BlobTombstone:
    """Objects that no blob needs."""

    sha256: Sha256
    storage_key: str
    thumbnail_key: str | None


async def delete_unused_blobs(connection: Connection, *, min_age_seconds: float, limit: int) -> int:
    """Delete the rows of unreferenced blobs, and the tombstones of referenced ones.

    Returns the number of tombstones examined. `min_age_seconds`: their minimum age. In the caller's transaction.
    """
    hashes = [row["sha256"] for row in await connection.fetch(LOCK_WAITING, min_age_seconds, limit)]
    if hashes:
        # One after the other, each with a fresh look: who put a media item in while we waited for its blob is seen.
        await connection.execute(LOCK_BLOBS, hashes)
        await connection.execute(DROP_BLOBS, hashes)
        await connection.execute(DELETE_NEEDED_TOMBSTONES, hashes)
    return len(hashes)


async def lock_collectable(connection: Connection, *, min_age_seconds: float, limit: int) -> list[BlobTombstone]:
    """Lock tombstones whose blob has no row, until the caller's transaction ends."""
    return [_tombstone(row) for row in await connection.fetch(LOCK_WITHOUT_BLOB, min_age_seconds, limit)]


async def mark_collected(connection: Connection, hashes: Sequence[Sha256]) -> None:
    """Record that the objects are deleted. The tombstones stay for some days."""
    await connection.execute("UPDATE blob_tombstone SET collected_at = now() WHERE sha256 = ANY ($1::text[])", hashes)


async def postpone(connection: Connection, hashes: Sequence[Sha256]) -> None:
    """Record that the store failed to delete the objects: they wait again."""
    await connection.execute("UPDATE blob_tombstone SET since = now() WHERE sha256 = ANY ($1::text[])", hashes)


async def add_orphaned_objects(db: Executor, tombstones: Sequence[BlobTombstone]) -> int:
    """Add tombstones for objects of the store that have no blob's row. Returns their number."""
    status = await db.execute(
        INSERT_ORPHANED_OBJECTS,
        [one.sha256 for one in tombstones],
        [one.storage_key for one in tombstones],
        [one.thumbnail_key for one in tombstones],
    )
    return int(status.rpartition(" ")[2])


async def trim(db: Executor) -> None:
    """Delete tombstones that were collected long ago."""
    await db.execute(
        "DELETE FROM blob_tombstone WHERE sha256 IN (SELECT sha256 FROM blob_tombstone"
        " WHERE collected_at < now() - make_interval(days => $1) ORDER BY collected_at LIMIT $2)",
        COLLECTED_RETENTION_DAYS,
        ROWS_PER_DELETE,
    )


def _tombstone(row: asyncpg.Record) -> BlobTombstone:
    return BlobTombstone(
        sha256=Sha256(row["sha256"]), storage_key=row["storage_key"], thumbnail_key=row["thumbnail_key"]
    )
