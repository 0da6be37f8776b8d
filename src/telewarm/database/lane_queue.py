"""Queue of lanes, enqueued in the transaction that adds their work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import asyncpg
from pgqueuer import AsyncpgDriver, AsyncpgPoolDriver, JobId, Queries

from telewarm.database import pgqueuer_maintenance
from telewarm.database.connection import Connection, Pool
from telewarm.models import Bot, BotId, MediaId

ENTRYPOINT = "lane"
CHANNEL = "telewarm_lane"  # NOTIFY: a bot's id; running lanes look again, others are queued


async def enqueue_lane(connection: Connection, bot: Bot) -> None:
    """Enqueue the bot's lane, to run at once.

    A job queued for later is brought forward; a running lane is woken. In the caller's transaction.
    """
    driver = AsyncpgDriver(cast(asyncpg.Connection, connection))
    (job,) = await _enqueue(Queries(driver), [(bot.id, bot.slug)])
    if job is None:
        await pgqueuer_maintenance.run_queued_now(connection, [_dedupe_key(bot.slug)])
    await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, str(bot.id))


async def enqueue_lanes(pool: Pool, lanes: Sequence[tuple[BotId, str]]) -> list[BotId]:
    """Enqueue the lanes of many bots (id, slug) in one statement. Queued and running ones stay unchanged."""
    if not lanes:
        return []
    jobs = await _enqueue(Queries(AsyncpgPoolDriver(pool)), lanes)
    return [bot_id for (bot_id, _), job in zip(lanes, jobs, strict=True) if job is None]


async def enqueue_lanes_now(pool: Pool, lanes: Sequence[tuple[BotId, str]]) -> list[BotId]:
    """Enqueue lanes, and bring those forward that are queued for later. Returns those that are running."""
    left = set(await enqueue_lanes(pool, lanes))
    keys = {_dedupe_key(slug): bot_id for bot_id, slug in lanes if bot_id in left}
    if not keys:
        return []
    await pgqueuer_maintenance.run_queued_now(pool, list(keys))
    return [keys[key] for key in await pgqueuer_maintenance.running_keys(pool, list(keys))]


async def has_waiting_lanes(pool: Pool) -> bool:
    """Return whether lanes wait that could run if there was a slot."""
    return await pgqueuer_maintenance.has_eligible_jobs(pool, ENTRYPOINT)


async def notify_sharing_lanes(pool: Pool, media_ids: Sequence[MediaId], sharing_bots: Sequence[BotId]) -> None:
    """Wake the lanes of bots that wait for these items, to forward them.

    Not for items that were forwarded themselves, which could be forwarded before.
    """
    await pool.execute(
        "SELECT pg_notify($1, bot_id::text) FROM (SELECT DISTINCT theirs.bot_id FROM"
        " (SELECT sha256, kind FROM media WHERE id = ANY ($2::bigint[]) AND NOT EXISTS (SELECT FROM media AS before"
        " WHERE before.sha256 = media.sha256 AND before.kind = media.kind AND before.bot_id = ANY ($3::bigint[])"
        " AND before.state = 'ready' AND before.warmup_message_id IS NOT NULL AND before.id <> ALL ($2::bigint[])))"
        " AS news JOIN media AS theirs ON theirs.sha256 = news.sha256 AND theirs.kind = news.kind"
        " AND theirs.bot_id = ANY ($3::bigint[]) AND theirs.state = 'warming' AND theirs.lease_id IS NULL) AS waiting",
        CHANNEL,
        list(media_ids),
        list(sharing_bots),
    )


async def _enqueue(queries: Queries, lanes: Sequence[tuple[BotId, str]]) -> Sequence[JobId | None]:
    return await queries.enqueue(
        [ENTRYPOINT] * len(lanes),
        [str(bot_id).encode() for bot_id, _ in lanes],
        [0] * len(lanes),
        dedupe_key=[_dedupe_key(slug) for _, slug in lanes],
        on_conflict="skip",
    )


def _dedupe_key(slug: str) -> str:
    return f"lane:{slug}"
