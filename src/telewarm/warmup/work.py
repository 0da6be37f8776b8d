"""Warm-ups as the work of a bot's lane."""

from __future__ import annotations

import random
from collections.abc import Sequence

import structlog

from telewarm import clock
from telewarm.database import bots, warmups
from telewarm.database.connection import Pool
from telewarm.database.leases import Lease
from telewarm.database.warmups import Failed
from telewarm.errors import TelewarmError
from telewarm.lanes import Job, LiveBot, wake_siblings
from telewarm.model import BotId, ChatId, Claimed, Placed
from telewarm.placements import Placements
from telewarm.warmup import policy
from telewarm.warmup.policy import Retries

log = structlog.get_logger(__name__)


class WarmUps:
    """One bot's due media: claimed from Postgres, placed, and the outcome written back in batches."""

    def __init__(self, *, pool: Pool, lease: Lease, live: LiveBot, placements: Placements, retries: Retries) -> None:
        self._pool = pool
        self._lease = lease
        self._live = live
        self._placements = placements
        self._retries = retries
        self._sharers: Sequence[BotId] | None = None

    async def claim(self, limit: int) -> list[Job[Claimed]]:
        bot = self._live.bot
        if self._sharers is None:
            self._sharers = await bots.sharers(self._pool, bot.id)
        claimed = await warmups.claim(
            self._pool,
            bot_id=bot.id,
            limit=limit,
            lease_id=self._lease.id,
            sharers=self._sharers,
            chats=bot.warmup_chats,
        )
        return [
            Job(item=item, chats=bot.warmup_chats, size=0 if item.origin else item.blob.facts.bytes) for item in claimed
        ]

    async def do(self, item: Claimed, chat_id: ChatId) -> Placed:
        started = clock.monotonic()
        placed = await self._place(item, chat_id)
        log.info(
            "[MEDIA][PREWARM][OK]",
            bot=self._live.bot.slug,
            media_id=item.media_id,
            kind=item.kind,
            sent_kind=placed.kind,
            way=placed.way,
            bytes=item.blob.facts.bytes,
            ms=round(1000 * (clock.monotonic() - started)),
        )
        return placed

    async def _place(self, item: Claimed, chat_id: ChatId) -> Placed:
        for upload in range(1 + self._retries.weak_id):
            placed = await self._placements.warm(item, self._live.api, chat_id)
            if not policy.is_weak(placed.file_unique_id):
                break
            log.warning("[MEDIA][PREWARM][WEAK_ID]", bot=self._live.bot.slug, media_id=item.media_id, upload=upload + 1)
        return placed

    def failed(self, item: Claimed, error: TelewarmError) -> Failed:
        delay = policy.retry_in(error, item.attempts, self._retries, random.random())  # noqa: S311 - jitter, no secret
        event = "[MEDIA][PREWARM][ERROR]" if delay is None else "[MEDIA][PREWARM][RETRY]"
        log.warning(
            event,
            bot=self._live.bot.slug,
            media_id=item.media_id,
            kind=item.kind,
            code=error.code,
            error=error.message,
            attempts=item.attempts + policy.counts(error),
            retry_in_s=delay and round(delay, 1),
        )
        message = f"{error.message}. {policy.cure(error)}"
        return Failed(
            media_id=item.media_id, delay=delay, counted=policy.counts(error), code=error.code, message=message
        )

    async def record(self, done: Sequence[Placed | Failed]) -> None:
        placed = [one for one in done if isinstance(one, Placed)]
        failed = [one for one in done if isinstance(one, Failed)]
        if placed:
            await warmups.record_ready(self._pool, placed)
        if failed:
            await warmups.record_failed(self._pool, self._lease.id, failed)
        if self._sharers:
            await wake_siblings(self._pool, [one.media_id for one in done], self._sharers)

    async def release(self, items: Sequence[Claimed]) -> None:
        await warmups.release(self._pool, self._lease.id, [item.media_id for item in items])
