"""Tell the lanes that there is work, in the transaction that adds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import asyncpg
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.queries import Queries
from pgqueuer.types import JobId

from telewarm.database.connection import Connection, Pool
from telewarm.model import Bot, BotId, MediaId

ENTRYPOINT = "lane"
CHANNEL = "telewarm_due"  # NOTIFY: a bot's id; running lanes look again, others are queued


async def wake(connection: Connection, bot: Bot) -> None:
    """Queue the bot's lane unless it is queued or running; nudge it if it runs. Inside the caller's transaction."""
    driver = AsyncpgDriver(cast(asyncpg.Connection, connection))
    await _enqueue(Queries(driver), [(bot.id, bot.slug)])
    await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, str(bot.id))


async def enqueue(pool: Pool, lanes: Sequence[tuple[BotId, str]]) -> list[BotId]:
    """Queue the lanes of many bots (id, slug) in one statement. Those that stayed as they are: queued or running."""
    if not lanes:
        return []
    jobs = await _enqueue(Queries(AsyncpgPoolDriver(pool)), lanes)
    return [bot_id for (bot_id, _), job in zip(lanes, jobs, strict=True) if job is None]


async def wake_siblings(pool: Pool, media_ids: Sequence[MediaId], sharers: Sequence[BotId]) -> None:
    """Nudge the lanes of bots that wait for these items, to forward them instead of uploading."""
    await pool.execute(
        "SELECT pg_notify($1, bot_id::text) FROM (SELECT DISTINCT theirs.bot_id FROM media JOIN media AS theirs"
        " ON theirs.sha256 = media.sha256 AND theirs.kind = media.kind AND theirs.bot_id = ANY ($3::bigint[])"
        " WHERE media.id = ANY ($2::bigint[]) AND theirs.state = 'warming') AS waiting",
        CHANNEL,
        list(media_ids),
        list(sharers),
    )


async def _enqueue(queries: Queries, lanes: Sequence[tuple[BotId, str]]) -> Sequence[JobId | None]:
    return await queries.enqueue(
        [ENTRYPOINT] * len(lanes),
        [str(bot_id).encode() for bot_id, _ in lanes],
        [0] * len(lanes),
        dedupe_key=[f"lane:{slug}" for _, slug in lanes],
        on_conflict="skip",
    )
