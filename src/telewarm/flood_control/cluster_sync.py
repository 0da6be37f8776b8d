"""Synchronisation of rate limits between processes: each publishes what it sent for which bot.

Publishes only while another process listens, and only after sending: one statement for all bots, about every
`PUBLISH_INTERVAL_SECONDS`, and at once when a message is held back until the other processes know of it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from uuid import uuid4

import structlog

from telewarm import clock
from telewarm.database.connection import Pool
from telewarm.database.leases import has_peers
from telewarm.database.notifications import notify
from telewarm.database.transient import is_transient
from telewarm.flood_control.limiter import BotRateLimiter
from telewarm.models import BotId

log = structlog.get_logger(__name__)

CHANNEL = "telewarm_rate_sync"  # NOTIFY payload: <sender>|<bot>:<messages>,<bot>:<messages>
PUBLISH_INTERVAL_SECONDS = 0.2  # seconds
MIN_PUBLISH_INTERVAL_SECONDS = 0.02  # seconds between two publications, however urgent
PEER_CHECK_SECONDS = 2.0  # seconds between checks for other processes
MAX_COUNTS_PER_MESSAGE = 300  # bots in one notification, whose payload holds 8,000 bytes


class ClusterRateSync:
    """Publishes and receives message counts. `limiters`: the bots of this process, as they come and go."""

    def __init__(self, pool: Pool, limiters: Mapping[BotId, BotRateLimiter]) -> None:
        self._pool = pool
        self._limiters = limiters
        self._process_id = uuid4().hex
        self._published_counts: dict[BotId, int] = {}
        self._check_peers_at = -math.inf
        self._peers_seen = False
        self._flush_requested = asyncio.Event()
        self._stopped = False

    def flush(self) -> None:
        """Publish soon: a message waits until the other processes make room."""
        self._flush_requested.set()

    def stop(self) -> None:
        """Stop publishing."""
        self._stopped = True
        self._flush_requested.set()

    def on_message(self, payload: str) -> None:
        """Apply a NOTIFY payload; those of this process are ignored."""
        who, _, counts = payload.partition("|")
        if who == self._process_id:
            return
        now = clock.monotonic()
        self._peers_seen, self._check_peers_at = True, now + PEER_CHECK_SECONDS
        for one in counts.split(","):
            bot_id, _, count = one.partition(":")
            if (limiter := self._limiters.get(BotId(int(bot_id)))) is not None:
                limiter.add_remote(int(count), now=now)

    async def run(self) -> None:
        """Publish until `stop`. While the database is unavailable, other processes learn of the limits from 429s."""
        while not self._stopped:
            await clock.wait(self._flush_requested, PUBLISH_INTERVAL_SECONDS)
            self._flush_requested.clear()
            counts = self._pending_counts()
            try:
                if counts and await self._has_peers():
                    await notify(self._pool, CHANNEL, self._payloads(counts))
            except Exception as error:
                log.warning("rate_sync_publish_failed", error=type(error).__name__, exc_info=not is_transient(error))
            if counts and not self._stopped:
                await clock.sleep(MIN_PUBLISH_INTERVAL_SECONDS)

    def _pending_counts(self) -> list[tuple[BotId, int]]:
        """Return the messages of each bot since the last publication."""
        counts = []
        for bot_id, limiter in self._limiters.items():
            if (count := limiter.sent - self._published_counts.get(bot_id, 0)) > 0:
                self._published_counts[bot_id] = limiter.sent
                counts.append((bot_id, count))
        return counts

    def _payloads(self, counts: list[tuple[BotId, int]]) -> list[str]:
        words = [f"{bot_id}:{count}" for bot_id, count in counts]
        return [
            f"{self._process_id}|{','.join(words[at : at + MAX_COUNTS_PER_MESSAGE])}"
            for at in range(0, len(words), MAX_COUNTS_PER_MESSAGE)
        ]

    async def _has_peers(self) -> bool:
        now = clock.monotonic()
        if now >= self._check_peers_at:
            self._check_peers_at = now + PEER_CHECK_SECONDS
            self._peers_seen = await has_peers(self._pool)
        return self._peers_seen
