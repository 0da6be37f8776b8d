"""Deletion of bots and media items: hidden first, then deleted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from telewarm.database import deliveries
from telewarm.database.bots import CHANNEL
from telewarm.database.connection import Connection, Executor, Pool, query
from telewarm.errors import BotDeleted, Conflict, NoSuchBot, NotFound
from telewarm.models import BotId, BroadcastId, MediaId

ROWS_PER_DELETE = 10_000  # rows deleted in one statement: far below its time limit
MAX_NAMED_BROADCASTS = 5  # broadcasts that a refusal names
LOCK_MEDIA = "SELECT id FROM media WHERE bot_id = $1 AND id = ANY ($2::bigint[]) ORDER BY id FOR UPDATE"
LOCK_NEXT_MEDIA = "SELECT id FROM media WHERE bot_id = $1 ORDER BY id LIMIT $2 FOR UPDATE"
LOCK_MEDIA_SHARED = "SELECT id FROM media WHERE bot_id = $1 AND id = ANY ($2::bigint[]) ORDER BY id FOR KEY SHARE"
SELECT_NEEDING_BROADCASTS = (
    "SELECT id, name, state FROM broadcast"
    " WHERE bot_id = $1 AND state IN ('draft', 'scheduled', 'running', 'paused') AND media && $2::bigint[]"
    " ORDER BY id LIMIT $3"
)
LARGE_TABLES = ("chat", "idempotency_key")  # what a bot may have very many of, beside media and deliveries
DELETE_ROWS_OF_BOT = "DELETE FROM {0} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {0} WHERE bot_id = $1 LIMIT $2))"
FINAL_STATEMENTS = (
    "DELETE FROM media_count_delta WHERE bot_id = $1",
    "DELETE FROM media_count WHERE bot_id = $1",
    "DELETE FROM bot WHERE id = $1",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeletionResult:
    """Deleted media. `blobs`: unreferenced ones, of `bytes` in all; the garbage collector deletes them later."""

    media_ids: Sequence[MediaId]
    blobs: int
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PurgeResult:
    """Data deleted with a bot. `blobs`, `bytes`: as in `DeletionResult`."""

    media: int
    broadcasts: int
    blobs: int
    bytes: int


async def delete_media(connection: Connection, bot_id: BotId, media_ids: Sequence[MediaId]) -> DeletionResult:
    """Delete those items that are the bot's, notifying all caches.

    A warm-up in flight does not restore its item. In the caller's transaction. Raises Conflict when a broadcast still
    needs one of them.
    """
    found = [MediaId(row["id"]) for row in await connection.fetch(LOCK_MEDIA, bot_id, media_ids)]
    needed = await connection.fetch(SELECT_NEEDING_BROADCASTS, bot_id, found, MAX_NAMED_BROADCASTS)
    if needed:
        raise Conflict(
            f"nothing was deleted: some of these are the media of broadcast "
            f"{', '.join(map(_describe_broadcast, needed))}; "
            "wait until it is done, or cancel it first"
        )
    return await _delete(connection, found)


async def lock_media(connection: Connection, bot_id: BotId, media_ids: Sequence[MediaId]) -> None:
    """Lock items against deletion until the caller's transaction ends. Raises NotFound for a deleted one."""
    held = {row["id"] for row in await connection.fetch(LOCK_MEDIA_SHARED, bot_id, media_ids)}
    if missing := sorted(set(media_ids) - held):
        raise NotFound(f"media item {', '.join(map(str, missing))} was deleted just now; add the file again")


async def delete_bot(db: Executor, slug: str) -> BotId:
    """Hide a bot and its data, notifying all processes. Raises NotFound, BotDeleted."""
    bot_id = await db.fetchval(
        "WITH gone AS (UPDATE bot SET deleted_at = now() WHERE slug = $1 AND deleted_at IS NULL RETURNING id)"
        " SELECT id FROM gone, LATERAL pg_notify($2, id::text) AS told",
        slug,
        CHANNEL,
    )
    if bot_id is None:
        if await db.fetchval("SELECT true FROM bot WHERE slug = $1", slug):
            raise BotDeleted(slug)
        raise NoSuchBot(slug)
    return BotId(bot_id)


async def undelete_bot(connection: Connection, slug: str) -> tuple[BotId, bool]:
    """Restore a bot. Returns whether it was deleted.

    Notifies all processes. In the caller's transaction. Raises NotFound, and Conflict for one that is being deleted for
    good.
    """
    row = await connection.fetchrow("SELECT id, deleted_at, purged_at FROM bot WHERE slug = $1 FOR UPDATE", slug)
    if row is None:
        raise NoSuchBot(slug)
    if row["purged_at"] is not None:
        raise Conflict(
            f"bot {slug!r} is being deleted for good, and nothing brings it back; create it again after that"
        )
    await connection.execute("UPDATE bot SET deleted_at = NULL WHERE id = $1", row["id"])
    await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, str(row["id"]))
    return BotId(row["id"]), row["deleted_at"] is not None


async def mark_bot_unrecoverable(db: Executor, slug: str) -> BotId:
    """Make a deletion final, to be followed by `purge_bot`. Raises NotFound, Conflict."""
    bot_id = await db.fetchval(
        "UPDATE bot SET purged_at = coalesce(purged_at, now()) WHERE slug = $1 AND deleted_at IS NOT NULL RETURNING id",
        slug,
    )
    if bot_id is None:
        if await db.fetchval("SELECT true FROM bot WHERE slug = $1", slug):
            raise Conflict(f"bot {slug!r} is in use: delete it first, then delete it for good")
        raise NoSuchBot(slug)
    return BotId(bot_id)


async def unfinished_purges(db: Executor) -> list[BotId]:
    """Return bots whose purge has not finished."""
    return [BotId(row["id"]) for row in await db.fetch("SELECT id FROM bot WHERE purged_at IS NOT NULL ORDER BY id")]


async def purge_bot(pool: Pool, bot_id: BotId) -> PurgeResult:
    """Delete all data of a bot and finally its row. Can be interrupted and repeated, also concurrently."""
    broadcasts = await _purge_broadcasts(pool, bot_id)
    media = blobs = freed = 0
    while True:
        async with pool.acquire() as connection, connection.transaction():
            found = [MediaId(row["id"]) for row in await connection.fetch(LOCK_NEXT_MEDIA, bot_id, ROWS_PER_DELETE)]
            removed = await _delete(connection, found)
        media, blobs, freed = media + len(found), blobs + removed.blobs, freed + removed.bytes
        if len(found) == ROWS_PER_DELETE:
            continue
        for table in LARGE_TABLES:
            while (
                await pool.execute(DELETE_ROWS_OF_BOT.format(table), bot_id, ROWS_PER_DELETE)
                == f"DELETE {ROWS_PER_DELETE}"
            ):
                pass
        if await _delete_bot_row(pool, bot_id):
            return PurgeResult(media=media, broadcasts=broadcasts, blobs=blobs, bytes=freed)


async def _purge_broadcasts(pool: Pool, bot_id: BotId) -> int:
    """Delete broadcasts, their rows first, so that a holder of a run writes nothing any more."""
    total = 0
    while True:
        found = await pool.fetchval("SELECT id FROM broadcast WHERE bot_id = $1 ORDER BY id LIMIT 1", bot_id)
        if found is None:
            return total
        while await deliveries.delete_some(pool, BroadcastId(found)):
            pass
        await pool.execute("DELETE FROM broadcast WHERE id = $1", found)
        while await deliveries.delete_some(pool, BroadcastId(found)):
            pass
        total += 1


async def _delete_bot_row(pool: Pool, bot_id: BotId) -> bool:
    """Delete the bot's row. Returns False when an upload from before the deletion has added media."""
    try:
        async with pool.acquire() as connection, connection.transaction():
            for statement in FINAL_STATEMENTS:
                await connection.execute(statement, bot_id)
            await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, str(bot_id))
    except asyncpg.ForeignKeyViolationError:
        return False
    return True


async def _delete(connection: Connection, media_ids: Sequence[MediaId]) -> DeletionResult:
    row = await connection.fetchrow(query("remove_media"), media_ids)
    assert row is not None  # noqa: S101 - it counts
    return DeletionResult(media_ids=media_ids, blobs=row["blobs"], bytes=row["bytes"])


def _describe_broadcast(row: asyncpg.Record) -> str:
    name = f", {row['name']!r}" if row["name"] else ""
    return f"{row['id']} ({row['state']}{name})"
