"""The table `media`: a bot's library."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from telewarm.database import blobs
from telewarm.database.connection import Executor, query
from telewarm.errors import NotFound
from telewarm.model import Blob, BotId, FileId, Kind, MediaId, MediaItem, Sha256, State, Warm, Way

COLUMNS = (
    "media.id, media.bot_id, media.kind, media.name, media.state, media.file_id, media.file_unique_id, media.sent_kind,"
    f" media.way, media.warmed_at, media.attempts, media.last_error_code, media.last_error, media.queued_at,"
    " media.created_at,"
    f" {blobs.COLUMNS}"
)
FROM = "media JOIN blob USING (sha256)"
WARM = "SELECT id, file_id, sent_kind FROM media WHERE bot_id = $1 AND id = ANY ($2::bigint[]) AND file_id IS NOT NULL"


async def insert(
    db: Executor, *, bot_id: BotId, blob: Blob, kind: Kind, name: str | None, priority: int
) -> tuple[MediaId, bool] | None:
    """(id, whether it is new), with the item due; None when it is here already and warm or being warmed."""
    facts = blob.facts
    row = await db.fetchrow(
        query("insert_media"),
        blob.sha256,
        facts.bytes,
        facts.mime,
        facts.ext,
        facts.width,
        facts.height,
        facts.duration,
        facts.video_codec,
        facts.audio_codec,
        facts.title,
        facts.performer,
        blob.storage_key,
        blob.thumbnail_key,
        bot_id,
        kind,
        name,
        priority,
    )
    return None if row is None else (MediaId(row["id"]), bool(row["created"]))


async def find(db: Executor, *, bot_id: BotId, sha256: Sha256, kind: Kind) -> MediaItem | None:
    row = await db.fetchrow(
        f"SELECT {COLUMNS} FROM {FROM} WHERE bot_id = $1 AND sha256 = $2 AND kind = $3", bot_id, sha256, kind
    )
    return None if row is None else _item(row)


async def get(db: Executor, media_id: MediaId) -> MediaItem:
    row = await db.fetchrow(f"SELECT {COLUMNS} FROM {FROM} WHERE media.id = $1", media_id)
    if row is None:
        raise NotFound(f"no media item {media_id}; list them with GET /api/admin/bots/{{slug}}/media")
    return _item(row)


async def page(
    db: Executor, *, bot_id: BotId, kind: Kind | None, state: State | None, limit: int, offset: int
) -> tuple[list[MediaItem], int]:
    """Newest first, and how many there are in all."""
    where = "bot_id = $1 AND ($2::text IS NULL OR kind = $2) AND ($3::text IS NULL OR state = $3)"
    rows = await db.fetch(
        f"SELECT {COLUMNS} FROM {FROM} WHERE {where} ORDER BY media.id DESC LIMIT $4 OFFSET $5",
        bot_id,
        kind,
        state,
        limit,
        offset,
    )
    count = await db.fetchval(f"SELECT count(*) FROM media WHERE {where}", bot_id, kind, state)
    return [_item(row) for row in rows], int(count)


async def warm(db: Executor, *, bot_id: BotId, media_ids: Sequence[MediaId]) -> list[Warm]:
    """Those of the items that are ready and the bot's own, from the index alone."""
    rows = await db.fetch(WARM, bot_id, media_ids)
    return [
        Warm(media_id=row["id"], bot_id=bot_id, file_id=FileId(row["file_id"]), kind=Kind(row["sent_kind"]))
        for row in rows
    ]


async def forget(db: Executor, *, media_id: MediaId, file_id: FileId) -> bool:
    """Drop a dead file id and make the item due, unless a fresher id is there already. Whether it was dropped."""
    row = await db.fetchrow(
        "WITH dropped AS (UPDATE media SET state = 'warming', file_id = NULL, file_unique_id = NULL, sent_kind = NULL,"
        " way = NULL, attempts = 0, next_attempt_at = NULL, queued_at = now()"
        " WHERE id = $1 AND file_id = $2 RETURNING id)"
        " SELECT pg_notify('telewarm_media', id::text) FROM dropped",
        media_id,
        file_id,
    )
    return row is not None


async def counts(db: Executor, bot_id: BotId) -> dict[State, int]:
    rows = await db.fetch("SELECT state, count(*) FROM media WHERE bot_id = $1 GROUP BY state", bot_id)
    return {State(row["state"]): row["count"] for row in rows}


def _item(row: asyncpg.Record) -> MediaItem:
    return MediaItem(
        id=row["id"],
        bot_id=row["bot_id"],
        sha256=Sha256(row["sha256"]),
        kind=Kind(row["kind"]),
        name=row["name"],
        state=State(row["state"]),
        facts=blobs.facts_of(row),
        storage_key=row["storage_key"],
        file_id=row["file_id"],
        file_unique_id=row["file_unique_id"],
        sent_kind=None if row["sent_kind"] is None else Kind(row["sent_kind"]),
        way=None if row["way"] is None else Way(row["way"]),
        warmed_at=row["warmed_at"],
        attempts=row["attempts"],
        last_error_code=row["last_error_code"],
        last_error=row["last_error"],
        queued_at=row["queued_at"],
        created_at=row["created_at"],
    )
