"""Recovery of an invalid file id: it is dropped, and the warm-up message is copied to the recipient."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import structlog

from telewarm import clock
from telewarm import file_ids as placements
from telewarm.bots.registry import BotRegistry
from telewarm.bots.sessions import BotSession
from telewarm.database import origins
from telewarm.database.connection import Pool
from telewarm.database.lane_queue import enqueue_lane
from telewarm.errors import InvalidBotToken, TelegramUnreachable
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

PROBE_TTL_SECONDS = 60.0  # seconds that a look at a bot is believed


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenProbe:
    """What getMe said of a bot under the token of `api`. `error` None: the bot is well, or it has been mended."""

    api: BotApi
    error: InvalidBotToken | None
    probed_at: float


class FileIdRecovery:
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
        """A send by file id did."""
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
        """Forget the dead id, and send a copy of the warm-up message. None: that cannot be, send the bytes.

        `deadline`: on the monotonic clock. When many ids of the bot die together it is checked first: raises
        InvalidBotToken when its token is, and what keeps us from asking; then nothing was forgotten. Raises FloodWait,
        ChatUnreachable and the like when the copy does.
        """
        if self._detector.note_invalid(session.bot.id, warm.media_id, now=clock.monotonic()):
            await self._check_token(session)
        key = (warm.media_id, warm.file_id)
        origin = await self._dropping.run(key, partial(self._drop_file_id, session, warm))
        if origin is None or options.has_spoiler or not self._uploader.may_copy(origin, session.api):
            return None  # a copy cannot hide under a spoiler
        slot = SendSlot(session=session, chat_id=chat_id, deadline=deadline, priority=priority)
        copying = partial(self._uploader.copy, origin, session.api, chat_id, caption=caption, options=options)
        message_id = await with_rate_limit(slot, copying)
        log.info("media_copied", bot=session.bot.slug, media_id=warm.media_id, copied=message_id is not None)
        return message_id

    async def _check_token(self, session: BotSession) -> None:
        """Is it the bot that the ids belong to? Asked once in a while, however many wait for the answer."""
        look = self._probes.get(session.bot.id)
        if look is None or look.api is not session.api or clock.monotonic() > look.probed_at + PROBE_TTL_SECONDS:
            look = await self._probing.run(session.bot.id, partial(self._probe_token, session))
        if look.error is not None:  # anew: an error that is raised again and again keeps all who caught it
            raise InvalidBotToken(method="getMe", status=look.error.status, description=look.error.description)

    async def _probe_token(self, session: BotSession) -> TokenProbe:
        refused = None
        bot, api = session.bot, session.api
        try:
            profile = await api.get_me()
        except InvalidBotToken as error:
            refused = error
            log.warning("bot_token_refused", bot=bot.slug)
        except TelegramUnreachable as error:  # a question has no effect: nobody may take the send for a sent one
            raise TelegramUnreachable(error.message, method=error.method, effect_possible=False) from error
        else:
            log.warning("file_ids_mass_invalid", bot=bot.slug, another=profile.telegram_id != bot.telegram_id)
            if profile.telegram_id != bot.telegram_id:
                await self._bots.replace_token(bot.slug, bot.token)  # every id is void
        look = TokenProbe(api=session.api, error=refused, probed_at=clock.monotonic())
        self._probes[bot.id] = look
        return look

    async def _drop_file_id(self, session: BotSession, warm: CachedFileId) -> MessageRef | None:
        """Make the item due unless it has a fresher id. Its warm-up message; None also when it is not needed."""
        self._file_ids.drop(warm.media_id)
        async with self._pool.acquire() as connection, connection.transaction():
            origin = await origins.lock(connection, warm.media_id)
            if origin is None or origin.file_id not in {None, warm.file_id}:
                return None
            if await placements.invalidate(connection, warm.media_id, warm.file_id):
                log.warning("file_id_invalid", bot=session.bot.slug, media_id=warm.media_id)
                await enqueue_lane(connection, session.bot)
            return origin.message
