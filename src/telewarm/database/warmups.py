"""Warm-up queue: the `warming` rows of `media`. The cost of a claim does not grow with the queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from telewarm.database import queue_priority
from telewarm.database.blobs import blob_of
from telewarm.database.connection import Connection, Executor, Pool, query
from telewarm.models import BotId, ChatId, ClaimedMedia, Kind, MediaId, MessageId, MessageRef, UploadResult


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmupFailure:
    """A failed warm-up. `retry_delay`: seconds until the next attempt, None to give up.

    `counts_as_attempt`: whether it is one of the item's attempts.
    """

    media_id: MediaId
    retry_delay: float | None
    counts_as_attempt: bool = True
    code: str
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueDepth:
    """A bot's queue.

    `due`: all warming items, claimed and waiting ones included. `waiting`: in a back-off, at most 100.

    `head_age`: seconds since the request of the next item; None when nothing could start now.
    """

    slug: str
    due: int
    waiting: int
    head_age: float | None


UNSTORABLE_CODE = "UNSTORABLE"  # code of an outcome that the database refused
MAX_COUNTED_WAITING = 100
ROWS_PER_UPDATE = 10_000  # items written in one statement: far below its time limit


def unstorable_failure(media_id: MediaId, error: Exception) -> WarmupFailure:
    """Return the failure to write in place of an outcome that the database refused."""
    message = (
        f"The database refuses to keep what became of this item ({type(error).__name__}). "
        "The log has the reason; rewarm it once that is gone."
    )
    return WarmupFailure(media_id=media_id, retry_delay=None, code=UNSTORABLE_CODE, message=message)


async def claim(
    pool: Pool, *, bot_id: BotId, limit: int, lease_id: UUID, sharing_bots: Sequence[BotId], chats: Sequence[ChatId]
) -> list[ClaimedMedia]:
    """Claim due media, best first. Bots that share a chat claim one after the other, so that only one uploads."""
    async with pool.acquire() as connection:
        if not sharing_bots:
            rows = await _claim(connection, bot_id, limit, lease_id, sharing_bots, chats)
        else:
            async with connection.transaction():
                await connection.execute(
                    "SELECT pg_advisory_xact_lock(hashint8(chat)) FROM unnest($1::bigint[]) AS chat ORDER BY chat",
                    chats,
                )
                rows = await _claim(connection, bot_id, limit, lease_id, sharing_bots, chats)
    return sorted(map(_claimed, rows), key=lambda item: (item.priority, item.media_id))


async def _claim(
    connection: Connection, bot_id: BotId, limit: int, *rest: UUID | Sequence[BotId] | Sequence[ChatId]
) -> list[asyncpg.Record]:
    """Claim in one statement when nothing is in a back-off.

    Items whose back-off has ended come with the next claim, or with this one when there is room.
    """
    rows = await connection.fetch(query("claim_media"), bot_id, limit, *rest)
    if rows and not rows[0]["overdue"]:
        return rows
    promoted = await connection.fetchval(query("release_expired_backoffs"), bot_id)
    if promoted and len(rows) < limit:
        rows += await connection.fetch(query("claim_media"), bot_id, limit - len(rows), *rest)
    return rows


async def claim_one(db: Executor, *, bot_id: BotId, media_id: MediaId, lease_id: UUID) -> ClaimedMedia | None:
    """Claim one item whatever its priority; None when it is claimed or has a file id."""
    row = await db.fetchrow(query("claim_media_item"), media_id, bot_id, lease_id)
    return None if row is None else _claimed(row)


async def release(db: Executor, lease_id: UUID, media_ids: Sequence[MediaId]) -> None:
    """Release items untried: they are due at once."""
    await db.execute(
        "UPDATE media SET lease_id = NULL WHERE id = ANY ($1) AND lease_id = $2", sorted(media_ids), lease_id
    )


async def raise_priority(db: Executor, media_id: MediaId) -> bool:
    """Raise the priority of an item for which a sender waits, above all that waited less than a day.

    Returns whether that changed anything: then the lane has to be woken. Nothing is written the second time.
    """
    return await db.fetchval(query("raise_priority"), media_id, queue_priority.INTERACTIVE_OFFSET_MS) is not None


async def end_backoffs(db: Executor, bot_id: BotId) -> None:
    """End the back-offs of a bot after a repair."""
    while await db.fetchval(query("end_backoffs"), bot_id, ROWS_PER_UPDATE) == ROWS_PER_UPDATE:
        pass


async def record_ready(
    db: Executor, results: Sequence[UploadResult], *, lease_id: UUID | None = None, telegram_id: int | None = None
) -> list[MediaId]:
    """Record file ids in one statement. Returns the items that were written.

    `lease_id`: the lease of the claim; without it, or when the item has another, an id is stored only where there is
    none. `telegram_id`: the Telegram bot that got them: ids of a bot that was replaced meanwhile are dropped and their
    items released.
    """
    rows = sorted(results, key=lambda one: one.media_id)
    written = await db.fetch(
        query("record_ready"),
        [one.media_id for one in rows],
        [one.file_id for one in rows],
        [one.file_unique_id for one in rows],
        [one.kind for one in rows],
        [one.way for one in rows],
        [one.message.chat_id if one.in_warmup_chat else None for one in rows],
        [one.message.message_id if one.in_warmup_chat else None for one in rows],
        lease_id,
        telegram_id,
        [one.name for one in rows],
    )
    return [MediaId(row["id"]) for row in written]


async def record_failed(db: Executor, lease_id: UUID, failures: Sequence[WarmupFailure]) -> None:
    """Record failures. Items with another holder stay unchanged; one with an old file id never ends in error."""
    rows = sorted(failures, key=lambda one: one.media_id)
    await db.execute(
        query("record_failed"),
        lease_id,
        [one.media_id for one in rows],
        [one.retry_delay for one in rows],
        [one.counts_as_attempt for one in rows],
        [one.code for one in rows],
        [one.message for one in rows],
    )


async def bots_with_due_work(db: Executor, only: Sequence[BotId] | None = None) -> list[tuple[BotId, str]]:
    """Return (id, slug) of all bots whose lane would find work now."""
    rows = await db.fetch(query("bots_with_due_work"), only)
    return [(BotId(row["id"]), row["slug"]) for row in rows]


async def run_due_lanes_now(db: Executor, only: Sequence[BotId], *, min_wait_seconds: float) -> None:
    """Bring queued lanes of these bots forward when more is due since they were queued, or after `min_wait_seconds`."""
    if only:
        await db.execute(query("run_due_lanes_now"), only, min_wait_seconds)


async def queue_depths(db: Executor) -> list[QueueDepth]:
    """Return the queues of all bots that have one, by slug. The cost does not grow with their length."""
    return [QueueDepth(**row) for row in await db.fetch(query("queue_depths"), MAX_COUNTED_WAITING)]


async def merge_count_deltas(db: Executor) -> None:
    """Merge the deltas that `counts` and `queue_depths` read. Concurrent processes do it once."""
    await db.execute(query("merge_count_deltas"))


def _claimed(row: asyncpg.Record) -> ClaimedMedia:
    chat, message = row["warmup_chat"], row["warmup_message_id"]
    origin = None if chat is None else MessageRef(chat_id=ChatId(chat), message_id=MessageId(message))
    return ClaimedMedia(
        media_id=row["id"],
        kind=Kind(row["kind"]),
        name=row["name"],
        attempts=row["attempts"],
        priority=row["priority"],
        queued_at=row["queued_at"],
        blob=blob_of(row),
        origin=origin,
        waited=row["waited"] or 0.0,
    )
