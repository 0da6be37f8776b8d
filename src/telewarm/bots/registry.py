"""Registry of bots: add, change, check, pause, resume, delete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from telewarm import coercion
from telewarm.bots.chat_names import ChatNameCache, check_slug, known_slug, resolve_chat
from telewarm.bots.health_check import BotCheck, check_bot
from telewarm.bots.sessions import BotSession, BotSessions
from telewarm.database import bot_summaries, bots, deletions, media
from telewarm.database.bot_summaries import BotSummary
from telewarm.database.connection import Pool
from telewarm.database.deletions import PurgeResult
from telewarm.database.lane_queue import enqueue_lane
from telewarm.database.token_encryption import TokenCipher
from telewarm.errors import InvalidBotToken, UsageError
from telewarm.models import Bot, BotId, ChatId
from telewarm.telegram.client import BotApi
from telewarm.telegram.values import BotProfile

log = structlog.get_logger(__name__)

NO_WARMUP_CHAT_MESSAGE = (
    "warmup_chats is empty: a bot needs a warm-up chat: a private channel or group that the bot may post to"
)


class BotRegistry:
    """Bots of an installation. `sessions`: the bots of this process."""

    def __init__(
        self, *, pool: Pool, cipher: TokenCipher, make_api: Callable[[str], BotApi], sessions: BotSessions
    ) -> None:
        self.sessions = sessions
        self._pool = pool
        self._cipher = cipher
        self._make_api = make_api

    async def by_slug(self, slug: str) -> BotSession:
        """Return a bot by slug. Raises NotFound."""
        return await self.sessions.by_slug(slug)

    async def get(self, bot_id: BotId) -> BotSession:
        """Return a bot by id. Raises NotFound."""
        return await self.sessions.get(bot_id)

    async def create(self, *, slug: str, token: str, warmup_chats: Sequence[int | str]) -> Bot:
        """Check the token with getMe and create the bot. `warmup_chats`: ids, or `@names` of public chats.

        Raises InvalidBotToken, Conflict, UsageError.
        """
        slug, token = check_slug(slug), coercion.text("token", token) or ""
        warmup_chats = _check_warmup_chats(warmup_chats)
        profile = await self._get_profile(token)
        found = await _resolve_chats(self._make_api(token), warmup_chats)
        return await bots.insert(
            self._pool,
            self._cipher,
            slug=slug,
            token=token,
            telegram_id=profile.telegram_id,
            username=profile.username,
            chats=found,
        )

    async def replace_token(self, slug: str, token: str) -> Bot:
        """Check the token with getMe and replace it.

        If it belongs to another Telegram bot, every file id becomes invalid: all ready media are due again. Raises
        NotFound, InvalidBotToken, Conflict, UsageError.
        """
        session = await self.by_slug(slug)
        profile = await self._get_profile(coercion.text("token", token) or "")
        async with self._pool.acquire() as connection, connection.transaction():
            bot, another = await bots.replace_token(
                connection,
                self._cipher,
                session.bot.id,
                token=token,
                telegram_id=profile.telegram_id,
                username=profile.username,
            )
            if another:
                await media.invalidate_file_ids(connection, bot_id=bot.id)
        log.info("bot_token_replaced", bot=slug, another=another)
        return self.sessions.cache(bot, by_person=True).bot

    async def replace_chats(self, slug: str, warmup_chats: Sequence[int | str]) -> Bot:
        """Replace the warm-up chats: ids, or `@names` of public chats. Raises NotFound, UsageError."""
        warmup_chats = _check_warmup_chats(warmup_chats)
        session = await self.by_slug(slug)
        found = await _resolve_chats(session.api, warmup_chats)
        return self.sessions.cache(
            await bots.replace_warmup_chats(self._pool, self._cipher, session.bot.id, found), by_person=True
        ).bot

    async def pause(self, slug: str) -> bool:
        """Pause warm-ups and broadcasts in every process; what is in flight finishes, and sends continue.

        Returns whether the state changed. Raises NotFound.
        """
        session = await self.by_slug(slug)
        return await bots.set_paused(self._pool, session.bot.id, paused=True)

    async def resume(self, slug: str) -> bool:
        """Resume warm-ups and broadcasts. Returns whether the state changed. Raises NotFound."""
        session = await self.by_slug(slug)
        async with self._pool.acquire() as connection, connection.transaction():
            changed = await bots.set_paused(connection, session.bot.id, paused=False)
            await enqueue_lane(connection, session.bot)
        return changed

    async def page(self, *, deleted: bool = False, after: str = "", limit: int = 100) -> list[BotSummary]:
        """Return bots, or deleted ones, by slug, after one. Without tokens."""
        return await bot_summaries.page(self._pool, deleted=deleted, after=after, limit=limit)

    async def read_current(self, bot_id: BotId) -> tuple[Bot, BotSummary]:
        """Read a bot from the database. Raises NotFound."""
        bot = await bots.by_id(self._pool, self._cipher, bot_id)
        return bot, await bot_summaries.get(self._pool, bot_id)

    async def check(self, slug: str) -> BotCheck:
        """Check with Telegram that the token is valid and the bot may post to its warm-up chats, without posting.

        A changed username is stored. After a successful check, warm-ups that waited for a repair are due at once.
        Raises NotFound.
        """
        session = await self.by_slug(slug)
        session.faults.clear()
        found = await check_bot(session.api, session.bot.warmup_chats)
        for chat in found.chats:
            if chat.migrated_to is not None:
                await self.sessions.follow_chat(session.bot.id, chat.chat_id, chat.migrated_to)
        if found.profile is not None and found.profile.username != session.bot.username:
            await bots.update_username(self._pool, session.bot.id, found.profile.username)
            session.bot = replace(session.bot, username=found.profile.username)
        if found.ok:
            self.sessions.retry_soon(session.bot)
        log.info("bot_checked", bot=slug, ok=found.ok)
        return found

    async def delete(self, slug: str) -> None:
        """Delete a bot: it does nothing in any process until `undelete`. Raises NotFound."""
        await self.sessions.refresh(await deletions.delete_bot(self._pool, known_slug(slug)))
        log.info("bot_deleted", bot=slug)

    async def undelete(self, slug: str) -> tuple[BotSession, bool]:
        """Restore a deleted bot with all its data. Returns whether it was deleted. Raises NotFound, Conflict."""
        async with self._pool.acquire() as connection, connection.transaction():
            bot_id, changed = await deletions.undelete_bot(connection, known_slug(slug))
            await enqueue_lane(connection, await bots.by_id(connection, self._cipher, bot_id))
        session = await self.sessions.read(bot_id)
        log.info("bot_undeleted", bot=slug, changed=changed)
        return session, changed

    async def delete_for_good(self, slug: str) -> PurgeResult:
        """Delete a deleted bot's data: library, chat statuses, broadcasts.

        An interrupted call can be repeated. Raises NotFound, and Conflict for a bot that is not deleted.
        """
        bot_id = await deletions.mark_bot_unrecoverable(self._pool, known_slug(slug))
        purged = await deletions.purge_bot(self._pool, bot_id)
        self.sessions.drop(bot_id)
        log.info("bot_purged", bot=slug, media=purged.media, broadcasts=purged.broadcasts, blobs=purged.blobs)
        return purged

    async def _get_profile(self, token: str) -> BotProfile:
        """Return the profile of a token. Raises InvalidBotToken with the remedy."""
        try:
            return await self._make_api(token).get_me()
        except InvalidBotToken as error:
            if error.logged_out:
                raise
            fix = "Copy the token again from @BotFather, or create a new one there"
            raise InvalidBotToken(
                method=error.method, status=error.status, description=f"{error.description}. {fix}"
            ) from None


def _check_warmup_chats(warmup_chats: object) -> Sequence[int | str]:
    """Check the argument's type. Raises UsageError."""
    several = coercion.to_list("warmup_chats", warmup_chats)
    if not several:
        raise UsageError(NO_WARMUP_CHAT_MESSAGE)
    return several


async def _resolve_chats(api: BotApi, given: Sequence[int | str]) -> list[ChatId]:
    """Resolve names, and drop duplicates. Raises UsageError, TelegramError."""
    names: ChatNameCache = {}
    found = [
        await resolve_chat(api, names, chat, argument=f"warmup_chats[{place}]") for place, chat in enumerate(given)
    ]
    return list(dict.fromkeys(found))
