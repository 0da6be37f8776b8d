"""Table `media`: the libraries of bots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import asyncpg

from telewarm.cures import Cure
from telewarm.database import blobs, queue_priority
from telewarm.database.connection import Executor, query
from telewarm.errors import NotFound
from telewarm.models import (
    Blob,
    BotId,
    CachedFileId,
    FileId,
    Kind,
    MediaId,
    MediaItem,
    MediaState,
    Sha256,
    UploadMethod,
)

COLUMNS = (
    "media.id, media.bot_id, media.kind, media.name, media.state, media.file_id, media.file_unique_id, media.sent_kind,"
    f" media.way, media.warmed_at, media.attempts, media.last_error_code, media.last_error, media.queued_at,"
    " media.created_at, media.sent_name,"
    f" {blobs.COLUMNS}"
)
FROM = "media JOIN blob USING (sha256)"
ROWS_PER_UPDATE = 10_000  # items written in one statement: far below its time limit
SELECT_FILE_IDS = (
    "SELECT id, file_id, sent_kind FROM media WHERE bot_id = $1 AND id = ANY ($2::bigint[]) AND file_id IS NOT NULL"
)


class RewarmScope(StrEnum):
    """Scope of a rewarm: items in error, or all."""

    FAILED = "failed"
    ALL = "all"


SELECT_TO_REWARM = {
    which: "SELECT media.id, blob.bytes, media.file_id IS NOT NULL AS warm FROM media JOIN blob USING (sha256)"
    f" WHERE media.bot_id = $1 AND media.id > $2 AND {condition} ORDER BY media.id LIMIT $3"
    for which, condition in ((RewarmScope.FAILED, "media.state = 'error'"), (RewarmScope.ALL, "true"))
}
SELECT_TO_SHARE = (
    "SELECT media.id, blob.bytes FROM media JOIN blob USING (sha256)"
    " WHERE media.bot_id = $1 AND media.id > $2 AND ($3::bigint[] IS NULL OR media.id = ANY ($3))"
    " ORDER BY media.id LIMIT $4"
)


class InsertResult(NamedTuple):
    """Result of an insert.

    `created`: the item is new. `had_tombstone`: its blob was about to be collected: check that the object exists.
    """

    item: MediaItem
    created: bool
    had_tombstone: bool


async def insert(
    db: Executor, *, bot_id: BotId, blob: Blob, kind: Kind, name: str | None, priority_offset: int
) -> InsertResult | None:
    """Insert an item, due; None when it exists and is ready or being warmed.

    `priority_offset`: milliseconds, see `queue_priority`.
    """
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
        priority_offset,
        blob.thumbnail_bytes,
        facts.streamable,
    )
    return None if row is None else InsertResult(_item_of(row, blob), row["created"], row["orphaned"])


async def find(db: Executor, *, bot_id: BotId, sha256: Sha256, kind: Kind) -> MediaItem | None:
    """Return the item of a blob as a kind, if it exists."""
    row = await db.fetchrow(
        f"SELECT {COLUMNS} FROM {FROM} WHERE bot_id = $1 AND sha256 = $2 AND kind = $3", bot_id, sha256, kind
    )
    return None if row is None else item_of(row)


LIST_CURE = Cure(
    library="`tw.library.page(…)` has those of a bot",
    cli="list them with `telewarm media list BOT`",
    api="list them with GET /api/admin/bots/{slug}/media",
)


async def get(db: Executor, media_id: MediaId) -> MediaItem:
    """Return an item. Raises NotFound."""
    row = await db.fetchrow(f"SELECT {COLUMNS} FROM {FROM} WHERE media.id = $1", media_id)
    if row is None:
        raise NotFound(f"there is no media item {media_id}", by_face=LIST_CURE)
    return item_of(row)


async def page(
    db: Executor, *, bot_id: BotId, kind: Kind | None, state: MediaState | None, limit: int, offset: int
) -> tuple[list[MediaItem], int]:
    """Return items, newest first, and their total number."""
    where = "bot_id = $1 AND ($2::text IS NULL OR kind = $2) AND ($3::text IS NULL OR state = $3)"
    rows = await db.fetch(
        f"SELECT {COLUMNS} FROM {FROM} WHERE {where} ORDER BY media.id DESC LIMIT $4 OFFSET $5",
        bot_id,
        kind,
        state,
        limit,
        offset,
    )
    counted = [
        row["items"]
        for row in await db.fetch(query("media_counts"), bot_id)
        if kind in {None, row["kind"]} and state in {None, row["state"]}
    ]
    return [item_of(row) for row in rows], sum(counted)


async def rename(db: Executor, media_id: MediaId, name: str | None) -> MediaItem:
    """Rename an item. Raises NotFound."""
    await db.execute("UPDATE media SET name = $2 WHERE id = $1", media_id, name)
    return await get(db, media_id)


async def owned(db: Executor, bot_id: BotId, media_ids: Sequence[MediaId]) -> list[MediaId]:
    """Return those items that are the bot's, in order."""
    rows = await db.fetch(
        "SELECT id FROM media WHERE bot_id = $1 AND id = ANY ($2::bigint[]) ORDER BY id", bot_id, media_ids
    )
    return [MediaId(row["id"]) for row in rows]


async def claimed(db: Executor, media_ids: Sequence[MediaId]) -> set[MediaId]:
    """Return those items that a process is warming now; other warming ones are queued."""
    rows = await db.fetch(
        "SELECT id FROM media WHERE id = ANY ($1::bigint[]) AND state = 'warming' AND lease_id IS NOT NULL", media_ids
    )
    return {MediaId(row["id"]) for row in rows}


async def file_ids(db: Executor, *, bot_id: BotId, media_ids: Sequence[MediaId]) -> list[CachedFileId]:
    """Return the file ids of those items that are ready and the bot's."""
    rows = await db.fetch(SELECT_FILE_IDS, bot_id, media_ids)
    return [
        CachedFileId(media_id=row["id"], bot_id=bot_id, file_id=FileId(row["file_id"]), kind=Kind(row["sent_kind"]))
        for row in rows
    ]


async def drop_file_id(db: Executor, *, media_id: MediaId, file_id: FileId) -> bool:
    """Drop an invalid file id and make the item due, unless it has a newer one. Returns whether it was dropped."""
    row = await db.fetchrow(query("drop_file_id"), media_id, file_id, queue_priority.EXPLICIT_OFFSET_MS)
    return row is not None


async def rewarm(db: Executor, priority_offsets: Mapping[MediaId, int]) -> int:
    """Make items due for a new upload, with priority offsets in ms. Present file ids are used meanwhile.

    Returns how many changed: claimed items, and those due earlier, stay unchanged.
    """
    rows = await db.fetch(query("rewarm"), list(priority_offsets), list(priority_offsets.values()))
    return len(rows)


async def rewarm_next(
    db: Executor, *, bot_id: BotId, scope: RewarmScope, after: MediaId, limit: int = ROWS_PER_UPDATE
) -> tuple[int, MediaId | None]:
    """Rewarm the next items of a bot after an id, at most `limit`. Returns how many changed, and the last id.

    None: there are no more. Items without a file id go in the order of new ones, others a day later.
    """
    rows = await db.fetch(SELECT_TO_REWARM[scope], bot_id, after, limit)
    handicaps = {
        MediaId(row["id"]): queue_priority.renewal_priority_offset(row["bytes"])
        if row["warm"]
        else queue_priority.priority_offset(row["bytes"])
        for row in rows
    }
    changed = await rewarm(db, handicaps) if handicaps else 0
    return changed, _next_after(rows, limit)


async def share_next(
    db: Executor,
    *,
    source: BotId,
    target: BotId,
    after: MediaId,
    media_ids: Sequence[MediaId] | None = None,
    limit: int = ROWS_PER_UPDATE,
) -> tuple[int, MediaId | None]:
    """Add the source's next items after an id (the named ones, or all) to the target's library, due.

    Returns how many were new, and the last id; None: there are no more.
    """
    rows = await db.fetch(SELECT_TO_SHARE, source, after, media_ids, limit)
    handicaps = [queue_priority.priority_offset(row["bytes"]) for row in rows]
    shared = await db.fetch(query("share_media"), target, [row["id"] for row in rows], handicaps) if rows else []
    return len(shared), _next_after(rows, limit)


async def invalidate_file_ids(db: Executor, *, bot_id: BotId) -> None:
    """Drop all file ids of a bot that became another Telegram bot: all ready items are due. Notifies the caches."""
    after: int | None = 0
    while after is not None:
        after = await db.fetchval(query("invalidate_file_ids"), bot_id, after, ROWS_PER_UPDATE)
    await db.execute("SELECT pg_notify('telewarm_media', $1)", f"bot {bot_id}")


async def count_by_state(db: Executor, media_ids: Sequence[MediaId]) -> dict[MediaState, int]:
    """Return the number of these items in each state, without deleted ones."""
    rows = await db.fetch(
        "SELECT state, count(*) AS items FROM media WHERE id = ANY ($1::bigint[]) GROUP BY state", media_ids
    )
    return {MediaState(row["state"]): row["items"] for row in rows}


async def count_by_state_of_bot(db: Executor, bot_id: BotId) -> dict[MediaState, int]:
    """Return the number of a bot's items in each state. The cost does not grow with them."""
    counted: dict[MediaState, int] = {}
    for row in await db.fetch(query("media_counts"), bot_id):
        state = MediaState(row["state"])
        counted[state] = counted.get(state, 0) + row["items"]
    return counted


def _next_after(rows: Sequence[asyncpg.Record], limit: int) -> MediaId | None:
    return MediaId(rows[-1]["id"]) if len(rows) == limit else None


def item_of(row: asyncpg.Record) -> MediaItem:
    """Convert a row with `COLUMNS`."""
    return _item_of(row, blobs.blob_of(row))


def _item_of(row: asyncpg.Record, blob: Blob) -> MediaItem:
    return MediaItem(
        id=row["id"],
        bot_id=row["bot_id"],
        sha256=blob.sha256,
        kind=Kind(row["kind"]),
        name=row["name"],
        state=MediaState(row["state"]),
        facts=blob.facts,
        storage_key=blob.storage_key,
        file_id=row["file_id"],
        file_unique_id=row["file_unique_id"],
        sent_kind=None if row["sent_kind"] is None else Kind(row["sent_kind"]),
        way=None if row["way"] is None else UploadMethod(row["way"]),
        warmed_at=row["warmed_at"],
        attempts=row["attempts"],
        last_error_code=row["last_error_code"],
        last_error=row["last_error"],
        queued_at=row["queued_at"],
        created_at=row["created_at"],
        sent_name=row["sent_name"],
    )
