"""The bots as this process knows them: the row, its Bot API client, its traffic."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from telewarm import background, clock, coercion
from telewarm.bots.chat_faults import ChatFaults
from telewarm.bots.chat_names import Names, chat_of, check_slug, known_slug
from telewarm.bots.health_check import BotCheck, check_bot
from telewarm.database import bot_summaries, bots, chats, deletions, media, warmups
from telewarm.database.bot_summaries import BotSummary
from telewarm.database.chats import UnreachableChat
from telewarm.database.connection import Pool
from telewarm.database.deletions import PurgeResult
from telewarm.database.lane_queue import enqueue_lane
from telewarm.database.notifications import listening
from telewarm.database.token_encryption import TokenCipher
from telewarm.database.transient import is_transient
from telewarm.errors import BotDeleted, InvalidBotToken, NotFound, TelewarmError, UsageError
from telewarm.flood_control.cluster_sync import CHANNEL as TRAFFIC
from telewarm.flood_control.cluster_sync import ClusterRateSync
from telewarm.flood_control.limiter import BotRateLimiter, FloodPause
from telewarm.flood_control.limits import BotLimits
from telewarm.flood_control.waiters import WaitQueues
from telewarm.models import Bot, BotId, ChatId, ChatState
from telewarm.telegram.client import BotApi
from telewarm.telegram.transport import Transport
from telewarm.telegram.values import BotProfile

log = structlog.get_logger(__name__)

PROFILE_UPDATE_ATTEMPTS, PROFILE_UPDATE_MAX_SECONDS = 30, 5.0  # tries to end back-offs, and seconds between two of them
NO_CHAT = "warmup_chats is empty: a bot needs a warm-up chat: a private channel or group that the bot may post to"


@dataclass(kw_only=True, slots=True, eq=False)
class BotSession:
    """`traffic` and `lines`, who waits for it, are shared by everything in this process that speaks for the bot.

    `on_closed` is to be called with what a 429 closed: it tells the other processes; `on_held` when a passage is held
    until they know of it. `on_migrated` is to be awaited with the old and the new id of a warm-up group that became a
    supergroup. `fresh`: nobody said that the bot changed. Whoever holds on to one that was deleted finds
    that in `bot`: it may not speak any more.
    """

    bot: Bot
    api: BotApi
    limiter: BotRateLimiter
    on_closed: Callable[[FloodPause], None]
    on_held: Callable[[], None] = lambda: None
    fresh: bool = True
    on_migrated: Callable[[ChatId, ChatId], Awaitable[None]] | None = None
    faults: ChatFaults = field(default_factory=ChatFaults)
    names: Names = field(default_factory=dict)  # chats by @name
    wait_queues: WaitQueues = field(default_factory=WaitQueues)


class BotRegistry:
    """Rows are read once and believed until NOTIFY says that they changed."""

    def __init__(
        self, *, pool: Pool, seal: TokenCipher, transport: Transport, api_root: str, limits: BotLimits
    ) -> None:
        self._pool = pool
        self._cipher = seal
        self._transport = transport
        self._api_root = api_root
        self._limits = limits
        self._sessions: dict[BotId, BotSession] = {}
        self._limiters: dict[BotId, BotRateLimiter] = {}
        self._rate_sync = ClusterRateSync(pool, self._limiters)
        self._ids: dict[str, BotId] = {}
        self._reading: dict[BotId, asyncio.Task[None]] = {}
        self._publishing: set[asyncio.Task[None]] = set()
        self._changes: Counter[BotId] = Counter()  # heard of
        self._news = 0  # times that changes went unheard
        self._draining = asyncio.Event()

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Hear of changes that other processes make: above all flood waits, which are obeyed at once. And of what they
        send, as they hear of what is sent here.
        """
        channels = {bots.CHANNEL: self.changed, TRAFFIC: self._rate_sync.on_message}
        telling = background.start(self._rate_sync.run(), name="tell traffic")
        try:
            async with listening(self._pool, channels, on_lost=self._on_lost):
                yield
        finally:
            self._draining.set()
            self._rate_sync.stop()
            await asyncio.wait([telling])
            for task in self._reading.values():
                task.cancel()
            if busy := [*self._reading.values(), *self._publishing]:
                await asyncio.wait(busy)

    async def create(self, *, slug: str, token: str, warmup_chats: Sequence[int | str]) -> Bot:
        """Check the token with getMe, then keep the bot. `warmup_chats`: ids, or `@names` of public ones.

        Raises InvalidBotToken, Conflict, UsageError.
        """
        slug, token = check_slug(slug), coercion.text("token", token) or ""
        warmup_chats = _several(warmup_chats)
        profile = await self._profile(token)
        found = await _resolved(self._api(token), warmup_chats)
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
        """Check the token with getMe, then use it. When it is another Telegram bot's, every file id is void: all that
        was warm is due again. Raises NotFound, InvalidBotToken, Conflict, UsageError.
        """
        live = await self.by_slug(slug)
        profile = await self._profile(coercion.text("token", token) or "")
        async with self._pool.acquire() as connection, connection.transaction():
            bot, another = await bots.replace_token(
                connection,
                self._cipher,
                live.bot.id,
                token=token,
                telegram_id=profile.telegram_id,
                username=profile.username,
            )
            if another:
                await media.invalidate_file_ids(connection, bot_id=bot.id)
        log.info("bot_token_replaced", bot=slug, another=another)
        return self._keep(bot, given=True).bot

    async def replace_chats(self, slug: str, warmup_chats: Sequence[int | str]) -> Bot:
        """Upload to other warm-up chats from now on: ids, or `@names` of public ones. Raises NotFound, UsageError."""
        warmup_chats = _several(warmup_chats)
        live = await self.by_slug(slug)
        found = await _resolved(live.api, warmup_chats)
        return self._keep(await bots.replace_chats(self._pool, self._cipher, live.bot.id, found), given=True).bot

    async def follow_chat(self, bot_id: BotId, old: ChatId, new: ChatId) -> None:
        """Use a supergroup in place of the warm-up group that it was. What waits for it goes on at once."""
        words = "group chat was upgraded to a supergroup chat"
        lost = UnreachableChat(bot_id=bot_id, chat_id=old, state=ChatState.MIGRATED, reason=words, migrated_to=new)
        async with self._pool.acquire() as connection, connection.transaction():
            if (bot := await bots.follow_chat(connection, self._cipher, bot_id, old, new)) is None:
                return  # another process did
            await chats.record(connection, [lost])
        log.warning("warmup_chat_migrated", bot=bot.slug, chat_id=old, migrated_to=new)
        self._keep(bot)

    async def page(self, *, deleted: bool = False, after: str = "", limit: int = 100) -> list[BotSummary]:
        """Those that are there, or those that were deleted, by slug after one. None of them has its token."""
        return await bot_summaries.page(self._pool, deleted=deleted, after=after, limit=limit)

    async def look(self, bot_id: BotId) -> tuple[Bot, BotSummary]:
        """One of them as it is in the database now. Raises NotFound."""
        bot = await bots.by_id(self._pool, self._cipher, bot_id)
        return bot, await bot_summaries.get(self._pool, bot_id)

    async def check(self, slug: str) -> BotCheck:
        """Ask Telegram whether the token is good and the bot may post to its warm-up chats. Nothing is posted; a new
        username is kept. When all is good, what waited for that goes at once. Raises NotFound."""
        live = await self.by_slug(slug)
        live.faults.clear()
        found = await check_bot(live.api, live.bot.warmup_chats)
        for chat in found.chats:
            if chat.migrated_to is not None:
                await self.follow_chat(live.bot.id, chat.chat_id, chat.migrated_to)
        if found.profile is not None and found.profile.username != live.bot.username:
            await bots.keep_username(self._pool, live.bot.id, found.profile.username)
            live.bot = replace(live.bot, username=found.profile.username)
        if found.ok:
            self._in_background(self._update_profile(live.bot), name="bot checked")
        log.info("bot_checked", bot=slug, ok=found.ok)
        return found

    async def delete(self, slug: str) -> None:
        """It is found nowhere any more and does nothing in any process; `undelete` brings it back. Raises NotFound."""
        await self._on_notification(await deletions.delete_bot(self._pool, known_slug(slug)))
        log.info("bot_deleted", bot=slug)

    async def undelete(self, slug: str) -> tuple[BotSession, bool]:
        """Back with all it had, and what was due goes on. Whether it was away. Raises NotFound, Conflict."""
        async with self._pool.acquire() as connection, connection.transaction():
            bot_id, changed = await deletions.undelete_bot(connection, known_slug(slug))
            await enqueue_lane(connection, await bots.by_id(connection, self._cipher, bot_id))
        live = await self._read(bot_id)
        log.info("bot_undeleted", bot=slug, changed=changed)
        return live, changed

    async def delete_for_good(self, slug: str) -> PurgeResult:
        """All of a deleted bot: library, ledger, broadcasts. Broken off, it can be gone on with. Raises NotFound, and
        Conflict for a bot that is not deleted."""
        bot_id = await deletions.mark_bot_unrecoverable(self._pool, known_slug(slug))
        purged = await deletions.purge_bot(self._pool, bot_id)
        self._drop(bot_id)
        log.info("bot_purged", bot=slug, media=purged.media, broadcasts=purged.broadcasts, blobs=purged.blobs)
        return purged

    async def by_slug(self, slug: str) -> BotSession:
        """Raises NotFound."""
        known = self._ids.get(known_slug(slug, argument="bot"))
        if known is not None:
            with suppress(NotFound):  # another may have the slug by now
                return await self.get(known)
        return await self.get((await bots.by_slug(self._pool, self._cipher, slug)).id)

    async def get(self, bot_id: BotId) -> BotSession:
        """Raises NotFound."""
        if (reading := self._reading.get(bot_id)) is not None:
            await asyncio.wait([reading])
        live = self._sessions.get(bot_id)
        if live is None or not live.fresh:
            live = await self._read(bot_id)
        if live.bot.deleted_at is not None:
            raise BotDeleted(live.bot.slug)
        return live

    async def _read(self, bot_id: BotId) -> BotSession:
        """Until the row is here, whoever asks has it read too: nobody goes on with the old one."""
        news = self._news, self._changes[bot_id]
        try:
            live = self._keep(await bots.by_id(self._pool, self._cipher, bot_id))
        except NotFound:
            self._drop(bot_id)
            raise
        live.fresh = news == (self._news, self._changes[bot_id])
        return live

    def _drop(self, bot_id: BotId) -> None:
        """Its row is gone: whoever holds on to it finds it deleted."""
        self._limiters.pop(bot_id, None)
        if (live := self._sessions.pop(bot_id, None)) is not None:
            live.bot = replace(live.bot, deleted_at=live.bot.deleted_at or clock.now())
            self._ids.pop(live.bot.slug, None)

    async def _on_notification(self, bot_id: BotId) -> None:
        """Do not wait for our own notification of a deletion."""
        if bot_id in self._sessions:
            await self._read(bot_id)

    def _keep(self, bot: Bot, *, given: bool = False) -> BotSession:
        """`given`: a person gave it its token or chats, the same as before perhaps, since they are cured."""
        now = clock.monotonic()
        live = self._sessions.get(bot.id)
        changed = live is not None and (live.bot.token, live.bot.warmup_chats) != (bot.token, bot.warmup_chats)
        if live is not None and (given or changed):
            live.faults.clear()
            self._in_background(self._update_profile(bot), name="bot mended")
        if live is None or live.bot.telegram_id != bot.telegram_id:  # another Telegram bot has limits of its own
            traffic = BotRateLimiter(self._limits, now=now, learned=plausible_limits(bot.learned_limits, self._limits))
            live = BotSession(
                bot=bot,
                api=self._api(bot.token),
                limiter=traffic,
                on_closed=partial(self._on_closed, bot.id),
                on_held=self._rate_sync.flush,
                on_migrated=partial(self.follow_chat, bot.id),
            )
            self._sessions[bot.id] = live
            self._limiters[bot.id] = traffic
            self._ids[bot.slug] = bot.id
        elif live.bot.token != bot.token:
            live.api = self._api(bot.token)
        live.bot = bot
        if bot.pause_seconds > 0:  # another process met the flood
            live.limiter.pause_bot(now + bot.pause_seconds)
        for chat_id, seconds in bot.chat_pauses.items():
            live.limiter.pause_chat(chat_id, now + seconds)
        return live

    def _on_closed(self, bot_id: BotId, closed: FloodPause) -> None:
        self._in_background(self._publish_pause(bot_id, closed), name="tell flood wait")

    def _in_background(self, work: Coroutine[None, None, None], *, name: str) -> None:
        task = background.start(work, name=name)
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    async def _update_profile(self, bot: Bot) -> None:
        """It has another token or other chats: what waited for them goes at once. Each process that runs its lane does
        this once it knows them itself: woken earlier, the lane would only fail again."""
        for again in range(PROFILE_UPDATE_ATTEMPTS):
            try:
                async with self._pool.acquire() as connection, connection.transaction():
                    await warmups.retry_now(connection, bot.id)
                    await enqueue_lane(connection, bot)
            except Exception as error:  # after the last try the back-offs end by themselves
                if not is_transient(error):
                    raise
                log.warning("bot_profile_update_failed", bot=bot.slug, error=type(error).__name__)
                if await clock.wait(self._draining, min(again, PROFILE_UPDATE_MAX_SECONDS)):
                    return
            else:
                return

    async def _publish_pause(self, bot_id: BotId, closed: FloodPause) -> None:
        try:
            await bots.close(self._pool, bot_id, closed.chat_id, closed.seconds)
        except Exception as error:  # then the others meet the flood themselves
            if not is_transient(error):
                raise
            log.warning("flood_wait_notify_failed", bot_id=bot_id, error=type(error).__name__)

    async def keep_learned(self, live: BotSession) -> None:
        """Write down what this process learned of the bot's limits, if that is news."""
        learned = apply_limits(live.limiter.learned, self._limits)
        if learned != live.bot.learned_limits and self._sessions.get(live.bot.id) is live:
            await bots.learn(self._pool, live.bot.id, learned)
            live.bot = replace(live.bot, learned_limits=learned)

    def changed(self, payload: str) -> None:
        """What NOTIFY says: read the row again, once however often it changes meanwhile."""
        bot_id = BotId(int(payload))
        self._changes[bot_id] += 1
        live = self._sessions.get(bot_id)
        if live is None:
            return
        live.fresh = False
        if bot_id not in self._reading:
            task = background.start(self._read_again(bot_id), name="read bot")
            self._reading[bot_id] = task
            task.add_done_callback(lambda _: self._reading.pop(bot_id, None))

    async def _read_again(self, bot_id: BotId) -> None:
        try:
            while (live := self._sessions.get(bot_id)) is not None and not live.fresh:
                await self._read(bot_id)
        except NotFound:  # deleted for good
            return
        except Exception as error:  # then the next who asks for the bot reads it
            if not isinstance(error, TelewarmError) and not is_transient(error):
                raise
            log.warning("bot_read_failed", bot_id=bot_id, error=type(error).__name__)

    def _on_lost(self) -> None:
        """Changes went unheard: believe no row."""
        self._news += 1
        for live in self._sessions.values():
            live.fresh = False

    async def _profile(self, token: str) -> BotProfile:
        """Raises InvalidBotToken with the fix: whoever gives a token can copy it again."""
        try:
            return await self._api(token).get_me()
        except InvalidBotToken as error:
            if error.logged_out:
                raise
            fix = "Copy the token again from @BotFather, or create a new one there"
            raise InvalidBotToken(
                method=error.method, status=error.status, description=f"{error.description}. {fix}"
            ) from None

    def _api(self, token: str) -> BotApi:
        return BotApi(self._transport, token, root=self._api_root)


def _several(warmup_chats: object) -> Sequence[int | str]:
    """Raises UsageError."""
    several = coercion.several("warmup_chats", warmup_chats)
    if not several:
        raise UsageError(NO_CHAT)
    return several


async def _resolved(api: BotApi, given: Sequence[int | str]) -> list[ChatId]:
    """Each chat once. Raises UsageError, TelegramError."""
    names: Names = {}
    found = [await chat_of(api, names, chat, argument=f"warmup_chats[{place}]") for place, chat in enumerate(given)]
    return list(dict.fromkeys(found))


def apply_limits(learned: Mapping[str, float], limits: BotLimits) -> dict[str, float]:
    """What was learned, with the settings that it was learned under."""
    settings = {
        f"{kind} {word}": value
        for kind, limit in limits.by_kind.items()
        if kind in learned
        for word, value in (("burst", limit.burst), ("seconds", limit.seconds))
    }
    return {**learned, **settings}


def plausible_limits(kept: Mapping[str, float], limits: BotLimits) -> dict[str, float]:
    """What was learned under the settings of now: whoever changes one starts anew."""
    return {
        kind: kept[kind]
        for kind, limit in limits.by_kind.items()
        if kind in kept and (kept.get(f"{kind} burst"), kept.get(f"{kind} seconds")) == (limit.burst, limit.seconds)
    }
