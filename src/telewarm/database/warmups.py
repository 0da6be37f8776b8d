"""The warm-up queue: the rows of `media` that are `warming`. Cost does not grow with what waits behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from telewarm.database.blobs import blob_of
from telewarm.database.connection import Executor, Pool, query
from telewarm.model import BotId, ChatId, Claimed, Kind, MediaId, MessageId, MessageRef, Placed


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """A warm-up that did not work. `delay`: seconds until the next attempt, None to give up.

    `counted`: as one of the attempts that an item has.
    """

    media_id: MediaId
    delay: float | None
    counted: bool = True
    code: str
    message: str


async def claim(
    pool: Pool, *, bot_id: BotId, limit: int, lease_id: UUID, sharers: Sequence[BotId], chats: Sequence[ChatId]
) -> list[Claimed]:
    """Take due media in hand, best first. Bots that share a chat claim one after the other: else two could upload."""
    async with pool.acquire() as connection, connection.transaction():
        if sharers:
            await connection.execute(
                "SELECT pg_advisory_xact_lock(hashint8(chat)) FROM unnest($1::bigint[]) AS chat ORDER BY chat", chats
            )
        await connection.execute(query("promote"), bot_id)
        rows = await connection.fetch(query("claim"), bot_id, limit, lease_id, sharers, chats)
    return sorted(map(_claimed, rows), key=lambda item: (item.priority, item.media_id))


async def claim_one(db: Executor, *, bot_id: BotId, media_id: MediaId, lease_id: UUID) -> Claimed | None:
    """Take one media item in hand whatever its turn; None when somebody has it or it is ready."""
    row = await db.fetchrow(query("claim_one"), media_id, bot_id, lease_id)
    return None if row is None else _claimed(row)


async def release(db: Executor, lease_id: UUID, media_ids: Sequence[MediaId]) -> None:
    """Put items back untried: they are due at once."""
    await db.execute(
        "UPDATE media SET lease_id = NULL WHERE id = ANY ($1) AND lease_id = $2", sorted(media_ids), lease_id
    )


async def record_ready(db: Executor, placed: Sequence[Placed]) -> list[MediaId]:
    """Keep the file ids, in one statement. The items that were not ready before."""
    rows = sorted(placed, key=lambda one: one.media_id)
    written = await db.fetch(
        query("record_ready"),
        [one.media_id for one in rows],
        [one.file_id for one in rows],
        [one.file_unique_id for one in rows],
        [one.kind for one in rows],
        [one.way for one in rows],
        [one.message.chat_id if one.in_warmup_chat else None for one in rows],
        [one.message.message_id if one.in_warmup_chat else None for one in rows],
    )
    return [MediaId(row["id"]) for row in written]


async def record_failed(db: Executor, lease_id: UUID, failed: Sequence[Failed]) -> None:
    """Items that are no longer in this holder's hand stay as they are."""
    rows = sorted(failed, key=lambda one: one.media_id)
    await db.execute(
        query("record_failed"),
        lease_id,
        [one.media_id for one in rows],
        [one.delay for one in rows],
        [one.counted for one in rows],
        [one.code for one in rows],
        [one.message for one in rows],
    )


async def bots_with_due_work(db: Executor, only: Sequence[BotId] | None = None) -> list[tuple[BotId, str]]:
    """(id, slug) of every bot for which a lane would find something to do now."""
    rows = await db.fetch(query("bots_with_due_work"), only)
    return [(BotId(row["id"]), row["slug"]) for row in rows]


def _claimed(row: asyncpg.Record) -> Claimed:
    chat, message = row["warmup_chat"], row["warmup_message_id"]
    origin = None if chat is None else MessageRef(chat_id=ChatId(chat), message_id=MessageId(message))
    return Claimed(
        media_id=row["id"],
        kind=Kind(row["kind"]),
        name=row["name"],
        attempts=row["attempts"],
        priority=row["priority"],
        queued_at=row["queued_at"],
        blob=blob_of(row),
        origin=origin,
    )
