"""Readiness of a broadcast: it waits until its media are ready, and requests their warm-up."""

from __future__ import annotations

import structlog

from telewarm.bots.sessions import BotSession
from telewarm.database import broadcasts, media, warmups
from telewarm.database.connection import Pool
from telewarm.database.lane_queue import enqueue_lane
from telewarm.errors import MediaError
from telewarm.models import Broadcast, BroadcastId, MediaId, MediaState

log = structlog.get_logger(__name__)


class MediaReadiness:
    """Readiness check of one bot's broadcasts. Requests warm-ups once for each; `reason`: why one waits."""

    def __init__(self, pool: Pool, session: BotSession) -> None:
        self._pool = pool
        self._session = session
        self._requested: set[BroadcastId] = set()

    async def is_ready(self, broadcast: Broadcast) -> bool:
        """Return whether all media are ready.

        Raises NotFound and MediaError when they will not become so by themselves.
        """
        wanted = {part.media_id for part in broadcast.message.media}
        if not broadcast.gate or not wanted:
            return True
        warm = await media.file_ids(self._pool, bot_id=broadcast.bot_id, media_ids=sorted(wanted))
        missing = wanted - {one.media_id for one in warm}
        if not missing:
            self._requested.discard(broadcast.id)
            if broadcast.reason is not None:
                await broadcasts.set_reason(self._pool, broadcast.id, None)
            return True
        await self._request_warmup(missing, broadcast)
        return False

    async def _request_warmup(self, missing: set[MediaId], broadcast: Broadcast) -> None:
        reason: str | None = None
        for media_id in sorted(missing):
            item = await media.get(self._pool, media_id)
            if item.state is MediaState.ERROR:
                raise MediaError(f"media item {media_id} cannot be warmed: {item.last_error}")
            if item.last_error is not None and item.state is MediaState.WARMING:
                reason = f"waits for media item {media_id}, which is tried again: {item.last_error}"
        if reason is not None and reason != broadcast.reason:
            log.warning("broadcast_waits", bot=self._session.bot.slug, broadcast_id=broadcast.id, reason=reason)
            await broadcasts.set_reason(self._pool, broadcast.id, reason)
        if broadcast.id not in self._requested:
            self._requested.add(broadcast.id)
            log.info(
                "broadcast_waits_for_media",
                bot=self._session.bot.slug,
                broadcast_id=broadcast.id,
                media=sorted(missing),
            )
        async with self._pool.acquire() as connection, connection.transaction():
            prioritised = [await warmups.raise_priority(connection, media_id) for media_id in sorted(missing)]
            if any(prioritised):
                await enqueue_lane(connection, self._session.bot)
