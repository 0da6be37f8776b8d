"""The bots as this process knows them: the row, its Bot API client, its traffic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from telewarm import clock
from telewarm.database import bots
from telewarm.database.connection import Pool
from telewarm.database.sealing import Seal
from telewarm.errors import UsageError
from telewarm.model import Bot, BotId, ChatId
from telewarm.telegram import BotApi, Limits, Traffic, Transport

FRESH = 5.0  # seconds for which a bot's row is believed without asking again


@dataclass(kw_only=True, slots=True)
class LiveBot:
    """`traffic` is shared by everything in this process that speaks for the bot."""

    bot: Bot
    api: BotApi
    traffic: Traffic
    read_at: float


class Bots:
    def __init__(self, *, pool: Pool, seal: Seal, transport: Transport, api_root: str, limits: Limits) -> None:
        self._pool = pool
        self._seal = seal
        self._transport = transport
        self._api_root = api_root
        self._limits = limits
        self._live: dict[BotId, LiveBot] = {}
        self._ids: dict[str, BotId] = {}

    async def create(self, *, slug: str, token: str, warmup_chats: Sequence[ChatId]) -> Bot:
        """Check the token with getMe, then keep the bot. Raises TokenRefused, Conflict, UsageError."""
        if not warmup_chats:
            raise UsageError("a bot needs a warm-up chat: a private channel or group that the bot may post to")
        profile = await self._api(token).get_me()
        return await bots.insert(
            self._pool,
            self._seal,
            slug=slug,
            token=token,
            telegram_id=profile.telegram_id,
            username=profile.username,
            chats=warmup_chats,
        )

    async def by_slug(self, slug: str) -> LiveBot:
        """Raises NotFound."""
        known = self._ids.get(slug)
        if known is not None:
            return await self.get(known)
        return self._keep(await bots.by_slug(self._pool, self._seal, slug))

    async def get(self, bot_id: BotId) -> LiveBot:
        """Raises NotFound."""
        live = self._live.get(bot_id)
        if live is not None and clock.monotonic() - live.read_at < FRESH:
            return live
        return self._keep(await bots.by_id(self._pool, self._seal, bot_id))

    def _keep(self, bot: Bot) -> LiveBot:
        now = clock.monotonic()
        live = self._live.get(bot.id)
        if live is None:
            live = LiveBot(bot=bot, api=self._api(bot.token), traffic=Traffic(self._limits, now=now), read_at=now)
            self._live[bot.id] = live
            self._ids[bot.slug] = bot.id
        elif live.bot.token != bot.token:
            live.api = self._api(bot.token)
        live.bot, live.read_at = bot, now
        if bot.pause_left > 0:  # another process met the flood
            live.traffic.close_bot(now + bot.pause_left)
        return live

    def _api(self, token: str) -> BotApi:
        return BotApi(self._transport, token, root=self._api_root)
