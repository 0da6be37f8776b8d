"""Recovery from an invalid file id: drop it, and copy the warm-up message to the recipient."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import structlog

from telewarm import clock
from telewarm.bots.registry import BotRegistry
from telewarm.bots.sessions import BotSession
from telewarm.database import origins
from telewarm.database.connection import Pool
from telewarm.database.lane_queue import enqueue_lane
from telewarm.errors import InvalidBotToken, TelegramUnreachable
from telewarm.file_ids import invalidate
from telewarm.file_ids.uploader import FileIdUploader
from telewarm.flood_control.priority import Priority
from telewarm.models import BotId, CachedFileId, ChatId, FileId, MediaId, MessageId, MessageRef
from telewarm.sending.file_id_cache import FileIdCache
from telewarm.sending.invalid_id_detector import InvalidFileIdDetector
from telewarm.sending.rate_limited_call import SendSlot, with_rate_limit
from telewarm.single_flight import SingleFlight
from telewarm.telegram.client import BotApi
from telewarm.telegram.values import SendOptions

log = structlog.get_logger(__name__)

PROBE_TTL_SECONDS = 60.0  # seconds that a token check stays valid


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenProbe:
    """Result of `getMe` for the token of `api`. `error` None: the token is valid, or the bot got another one."""

    api: BotApi
    error: InvalidBotToken | None
    probed_at: float


class FileIdRecovery:
    """Recovers sends whose file id is invalid."""

    def __init__(self, *, pool: Pool, bots: BotRegistry, uploader: FileIdUploader, file_ids: FileIdCache) -> None:
        self._pool = pool
        self._bots = bots
        self._uploader = uploader
        self._file_ids = file_ids
        self._detector = InvalidFileIdDetector()
        self._probes: dict[BotId, TokenProbe] = {}
        self._probing: SingleFlight[BotId, TokenProbe] = SingleFlight("probe bot token")
        self._dropping: SingleFlight[tuple[MediaId, FileId], MessageRef | None] = SingleFlight("drop file id")

    def send_succeeded(self, session: BotSession) -> None:
        """Record a successful send by file id."""
        if self._detector:
            self._detector.note_valid(session.bot.id)

    async def recover(
        self,
        session: BotSession,
        chat_id: ChatId,
        warm: CachedFileId,
        *,
        caption: str | None,
        options: SendOptions,
        deadline: float,
        priority: Priority,
    ) -> MessageId | None:
        """Drop the invalid id and send a copy of the warm-up message. None: no copy is possible, send the bytes.

        `deadline`: on the monotonic clock. When many ids of the bot become invalid together, its token is checked
        first: raises InvalidBotToken for an invalid one, and the error of a check that failed; then no id was dropped.
        Raises what the copy raises (FloodWait, ChatUnreachable and others).
        """
        if self._detector.note_invalid(session.bot.id, warm.media_id, now=clock.monotonic()):
            await self._check_token(session)
        key = (warm.media_id, warm.file_id)
        origin = await self._dropping.run(key, partial(self._drop_file_id, session, warm))
        if origin is None or options.has_spoiler or not self._uploader.may_copy(origin, session.api):
            return None  # a copy cannot be covered with a spoiler
        slot = SendSlot(session=session, chat_id=chat_id, deadline=deadline, priority=priority)
        copying = partial(self._uploader.copy, origin, session.api, chat_id, caption=caption, options=options)
        message_id = await with_rate_limit(slot, copying)
        log.info("media_copied", bot=session.bot.slug, media_id=warm.media_id, copied=message_id is not None)
        return message_id

    async def _check_token(self, session: BotSession) -> None:
        """Check that the bot is still the one that owns the ids. Cached for a minute, shared by all callers."""
        probe = self._probes.get(session.bot.id)
        if probe is None or probe.api is not session.api or clock.monotonic() > probe.probed_at + PROBE_TTL_SECONDS:
            probe = await self._probing.run(session.bot.id, partial(self._probe_token, session))
        if probe.error is not None:  # a copy: an exception raised repeatedly keeps every frame that caught it
            raise InvalidBotToken(method="getMe", status=probe.error.status, description=probe.error.description)

    async def _probe_token(self, session: BotSession) -> TokenProbe:
        refused = None
        bot, api = session.bot, session.api
        try:
            profile = await api.get_me()
        except InvalidBotToken as error:
            refused = error
            log.warning("bot_token_refused", bot=bot.slug)
        except TelegramUnreachable as error:  # getMe has no effect: the caller must not take its send for delivered
            raise TelegramUnreachable(error.message, method=error.method, effect_possible=False) from error
        else:
            log.warning("file_ids_mass_invalid", bot=bot.slug, another=profile.telegram_id != bot.telegram_id)
            if profile.telegram_id != bot.telegram_id:
                await self._bots.replace_token(bot.slug, bot.token)  # all its ids are invalid
        probe = TokenProbe(api=session.api, error=refused, probed_at=clock.monotonic())
        self._probes[bot.id] = probe
        return probe

    async def _drop_file_id(self, session: BotSession, warm: CachedFileId) -> MessageRef | None:
        """Make the item due unless it has a newer id. Returns its warm-up message; None also when it is not needed."""
        self._file_ids.drop(warm.media_id)
        async with self._pool.acquire() as connection, connection.transaction():
            origin = await origins.lock(connection, warm.media_id)
            if origin is None or origin.file_id not in {None, warm.file_id}:
                return None
            if await invalidate(connection, warm.media_id, warm.file_id):
                log.warning("file_id_invalid", bot=session.bot.slug, media_id=warm.media_id)
                await enqueue_lane(connection, session.bot)
            return origin.message
