"""Summaries of bots for lists, without tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from telewarm.database.connection import Executor
from telewarm.errors import NotFound
from telewarm.models import BotId, ChatId, MediaState

SELECT_BOTS = (
    "SELECT id, slug, telegram_id, username, warmup_chats, paused_at, created_at, deleted_at,"
    " greatest(0, extract(epoch FROM paused_until - now()))::float8 AS flood_wait_seconds FROM bot"
)
SELECT_PAGE = f"{SELECT_BOTS} WHERE slug > $1 AND (deleted_at IS NOT NULL) = $2 ORDER BY slug LIMIT $3"
SELECT_MEDIA_COUNTS = (
    "SELECT bot_id, state, sum(items)::bigint AS items FROM ("
    " SELECT bot_id, state, items FROM media_count WHERE bot_id = ANY ($1::bigint[])"
    " UNION ALL SELECT bot_id, state, items FROM media_count_delta WHERE bot_id = ANY ($1::bigint[])"
    ") AS counted GROUP BY bot_id, state"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class BotSummary:
    """Summary of a bot. `flood_wait_seconds`: of the whole bot, remaining. `media_counts`: by state."""

    id: BotId
    slug: str
    telegram_id: int
    username: str | None
    warmup_chats: Sequence[ChatId]
    paused_at: datetime | None
    flood_wait_seconds: float
    created_at: datetime
    deleted_at: datetime | None
    media_counts: Mapping[MediaState, int]


async def page(db: Executor, *, deleted: bool = False, after: str = "", limit: int) -> list[BotSummary]:
    """Return bots by slug, after one. The cost does not grow with their media."""
    return await _summaries(db, await db.fetch(SELECT_PAGE, after, deleted, limit))


async def get(db: Executor, bot_id: BotId) -> BotSummary:
    """Return a bot, also a deleted one. Raises NotFound."""
    found = await _summaries(db, await db.fetch(f"{SELECT_BOTS} WHERE id = $1", bot_id))
    if not found:
        raise NotFound(f"bot {bot_id} is gone")
    return found[0]


async def _summaries(db: Executor, rows: Sequence[asyncpg.Record]) -> list[BotSummary]:
    counts: dict[BotId, dict[MediaState, int]] = {row["id"]: dict.fromkeys(MediaState, 0) for row in rows}
    for counted in await db.fetch(SELECT_MEDIA_COUNTS, list(counts)):
        counts[counted["bot_id"]][MediaState(counted["state"])] = counted["items"]
    return [
        BotSummary(
            **dict(row) | {"flood_wait_seconds": row["flood_wait_seconds"] or 0.0, "media_counts": counts[row["id"]]}
        )
        for row in rows
    ]
