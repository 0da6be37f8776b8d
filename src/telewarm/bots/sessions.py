"""Sessions: the bots of this process, with their rows, Bot API clients and rate limiters, kept current by NOTIFY."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from telewarm import background, clock
from telewarm.bots.chat_faults import ChatFaults
from telewarm.bots.chat_names import ChatNameCache, known_slug
from telewarm.bots.learned_limits import plausible_limits, with_settings
from telewarm.database import bots, chats, warmups
from telewarm.database.chats import UnreachableChat
from telewarm.database.connection import Pool
from telewarm.database.lane_queue import enqueue_lane
from telewarm.database.notifications import subscribe
from telewarm.database.retry import log_transient
from telewarm.database.token_encryption import TokenCipher
from telewarm.database.transient import is_transient
from telewarm.errors import BotDeleted, NotFound, TelewarmError
from telewarm.flood_control.cluster_sync import CHANNEL as RATES
from telewarm.flood_control.cluster_sync import ClusterRateSync
from telewarm.flood_control.limiter import BotRateLimiter, FloodPause
from telewarm.flood_control.limits import BotLimits
from telewarm.flood_control.waiters import WaitQueues
from telewarm.models import Bot, BotId, ChatId, ChatState
from telewarm.telegram.client import BotApi

log = structlog.get_logger(__name__)

END_BACKOFF_ATTEMPTS, END_BACKOFF_MAX_WAIT_SECONDS = (
    30,
    5.0,
)  # for ending back-offs after a repair of the bot


@dataclass(kw_only=True, slots=True, eq=False)
class BotSession:
    """One bot with its client and its rate limiter, shared by all code of this process that sends for it.

    `on_pause`: called with the pause that a 429 asks for; it notifies the other processes. `on_held`: called when a
    permit is held until they know of it. `on_migrated`: awaited with the old and the new id of a warm-up group that
    became a supergroup. `is_current`: no change of the row was notified. The session of a deleted bot has its
    `deleted_at` in `bot`, and may not send any more.
    """

    bot: Bot
    api: BotApi
    limiter: BotRateLimiter
    on_pause: Callable[[FloodPause], None]
    on_held: Callable[[], None] = lambda: None
    is_current: bool = True
    on_migrated: Callable[[ChatId, ChatId], Awaitable[None]] | None = None
    faults: ChatFaults = field(default_factory=ChatFaults)
    chat_names: ChatNameCache = field(default_factory=dict)  # chat ids by @name
    wait_queues: WaitQueues = field(default_factory=WaitQueues)


class BotSessions:
    """Cache of sessions. A row is read once and stays valid until a NOTIFY."""

    def __init__(
        self, *, pool: Pool, cipher: TokenCipher, make_api: Callable[[str], BotApi], limits: BotLimits
    ) -> None:
        self._pool = pool
        self._cipher = cipher
        self._make_api = make_api
        self._limits = limits
        self._sessions: dict[BotId, BotSession] = {}
        self._limiters: dict[BotId, BotRateLimiter] = {}
        self._rate_sync = ClusterRateSync(pool, self._limiters)
        self._ids: dict[str, BotId] = {}
        self._reads: dict[BotId, asyncio.Task[None]] = {}
        self._tasks = background.BackgroundTasks()
        self._changes: Counter[BotId | None] = Counter()  # notified; None: times that notifications were lost
        self._closing = asyncio.Event()

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Listen for changes of other processes, above all flood waits, and exchange message counts with them."""
        channels = {
            bots.CHANNEL: self.on_notification,
            bots.FLOOD_CHANNEL: self._on_flood_wait,
            RATES: self._rate_sync.on_message,
        }
        publishing = background.start(self._rate_sync.run(), name="synchronise rates")
        try:
            async with subscribe(self._pool, channels, on_lost=self._invalidate_all):
                yield
        finally:
            self._closing.set()
            self._rate_sync.stop()
            await asyncio.wait([publishing])
            for task in self._reads.values():
                task.cancel()
            await self._tasks.close()

    async def by_slug(self, slug: str) -> BotSession:
        """Return a bot by slug. Raises NotFound."""
        known = self._ids.get(known_slug(slug, argument="bot"))
        if known is not None:
            with suppress(NotFound):  # another bot may have the slug by now
                return await self.get(known)
        return await self.get((await bots.by_slug(self._pool, self._cipher, slug)).id)

    async def get(self, bot_id: BotId) -> BotSession:
        """Return a bot by id. Raises NotFound."""
        if (reading := self._reads.get(bot_id)) is not None:
            await asyncio.wait([reading])
        session = self._sessions.get(bot_id)
        if session is None or not session.is_current:
            session = await self.read(bot_id)
        if session.bot.deleted_at is not None:
            raise BotDeleted(session.bot.slug)
        return session

    async def read(self, bot_id: BotId) -> BotSession:
        """Read the row. Concurrent callers wait for it, too: none continues with the old row."""
        seen = self._changes[None], self._changes[bot_id]
        try:
            session = self.cache(await bots.by_id(self._pool, self._cipher, bot_id))
        except NotFound:
            self.drop(bot_id)
            raise
        session.is_current = seen == (self._changes[None], self._changes[bot_id])
        return session

    def drop(self, bot_id: BotId) -> None:
        """Remove a bot whose row was deleted; holders of its session find it deleted."""
        self._limiters.pop(bot_id, None)
        if (session := self._sessions.pop(bot_id, None)) is not None:
            session.bot = replace(session.bot, deleted_at=session.bot.deleted_at or clock.now())
            self._ids.pop(session.bot.slug, None)

    async def refresh(self, bot_id: BotId) -> None:
        """Read the row now, without waiting for a notification, if the bot is cached here."""
        if bot_id in self._sessions:
            await self.read(bot_id)

    def cache(self, bot: Bot, *, by_person: bool = False) -> BotSession:
        """Cache a row that was just read or written.

        `by_person`: a person set its token or chats, perhaps to the same values, after a repair.
        """
        now = clock.monotonic()
        session = self._sessions.get(bot.id)
        changed = session is not None and (session.bot.token, session.bot.warmup_chats) != (bot.token, bot.warmup_chats)
        if session is not None and (by_person or changed):
            session.faults.clear()
            self.retry_soon(bot)
        if session is None or session.bot.telegram_id != bot.telegram_id:  # another Telegram bot has its own limits
            limiter = BotRateLimiter(self._limits, now=now, learned=plausible_limits(bot.learned_limits, self._limits))
            session = BotSession(
                bot=bot,
                api=self._make_api(bot.token),
                limiter=limiter,
                on_pause=partial(self._on_pause, bot.id),
                on_held=self._rate_sync.flush,
                on_migrated=partial(self.follow_chat, bot.id),
            )
            self._sessions[bot.id] = session
            self._limiters[bot.id] = limiter
            self._ids[bot.slug] = bot.id
        elif session.bot.token != bot.token:
            session.api = self._make_api(bot.token)
        session.bot = bot
        if bot.pause_seconds > 0:  # after a 429 in another process
            session.limiter.pause_bot(now + bot.pause_seconds)
        for chat_id, seconds in bot.chat_pauses.items():
            session.limiter.pause_chat(chat_id, now + seconds)
        return session

    async def follow_chat(self, bot_id: BotId, old: ChatId, new: ChatId) -> None:
        """Replace a warm-up group by its supergroup. Warm-ups that waited for it are due at once."""
        reason = "group chat was upgraded to a supergroup chat"
        lost = UnreachableChat(bot_id=bot_id, chat_id=old, state=ChatState.MIGRATED, reason=reason, migrated_to=new)
        async with self._pool.acquire() as connection, connection.transaction():
            if (bot := await bots.migrate_warmup_chat(connection, self._cipher, bot_id, old, new)) is None:
                return  # another process did
            await chats.record_unreachable(connection, [lost])
        log.warning("warmup_chat_migrated", bot=bot.slug, chat_id=old, migrated_to=new)
        self.cache(bot)

    def retry_soon(self, bot: Bot) -> None:
        """What waited for a cure of the bot goes at once."""
        self._tasks.start(self._retry_waiting_warmups(bot), name="end back-offs")

    def _on_pause(self, bot_id: BotId, pause: FloodPause) -> None:
        self._tasks.start(self._publish_pause(bot_id, pause), name="publish flood wait")

    async def _retry_waiting_warmups(self, bot: Bot) -> None:
        """Make warm-ups due that waited for another token or other chats.

        Each process with a lane of the bot does so once it has the new row: before that, the lane would fail again.
        """
        for again in range(END_BACKOFF_ATTEMPTS):
            with log_transient("bot_backoffs_end_failed", bot=bot.slug):
                async with self._pool.acquire() as connection, connection.transaction():
                    await warmups.end_backoffs(connection, bot.id)
                    await enqueue_lane(connection, bot)
                return
            if await clock.wait(self._closing, min(again, END_BACKOFF_MAX_WAIT_SECONDS)):
                return  # the back-offs end by themselves, as after the last attempt

    async def _publish_pause(self, bot_id: BotId, pause: FloodPause) -> None:
        with log_transient("flood_wait_notify_failed", bot_id=bot_id):  # then the others meet the flood themselves
            await bots.pause(self._pool, bot_id, pause.chat_id, pause.seconds)

    async def save_learned(self, session: BotSession) -> None:
        """Store the learned rate limits, if they changed."""
        learned = with_settings(session.limiter.learned, self._limits)
        if learned != session.bot.learned_limits and self._sessions.get(session.bot.id) is session:
            await bots.save_learned_limits(self._pool, session.bot.id, learned)
            session.bot = replace(session.bot, learned_limits=learned)

    def _on_flood_wait(self, payload: str) -> None:
        """Apply the pause of a flood wait, of whatever process, without reading the row."""
        bot_id, chat_id, seconds = payload.split(":")
        self._changes[BotId(int(bot_id))] += 1  # a row that is being read may be older
        if (limiter := self._limiters.get(BotId(int(bot_id)))) is None:
            return
        until = clock.monotonic() + float(seconds)
        if chat_id:
            limiter.pause_chat(ChatId(int(chat_id)), until)
        else:
            limiter.pause_bot(until)

    def on_notification(self, payload: str) -> None:
        """Apply a NOTIFY payload: read the row again, once for several changes."""
        bot_id = BotId(int(payload))
        self._changes[bot_id] += 1
        session = self._sessions.get(bot_id)
        if session is None:
            return
        session.is_current = False
        if bot_id not in self._reads:
            task = self._tasks.start(self._read_again(bot_id), name="read bot")
            self._reads[bot_id] = task
            task.add_done_callback(lambda _: self._reads.pop(bot_id, None))

    async def _read_again(self, bot_id: BotId) -> None:
        try:
            while (session := self._sessions.get(bot_id)) is not None and not session.is_current:
                await self.read(bot_id)
        except NotFound:  # deleted for good
            return
        except Exception as error:  # the next caller reads the row
            if not isinstance(error, TelewarmError) and not is_transient(error):
                raise
            log.warning("bot_read_failed", bot_id=bot_id, error=type(error).__name__)

    def _invalidate_all(self) -> None:
        """Invalidate all rows, after notifications were lost."""
        self._changes[None] += 1
        for session in self._sessions.values():
            session.is_current = False
