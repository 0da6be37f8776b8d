"""Send one message set to one chat."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from functools import partial

from telewarm import clock, metrics
from telewarm.bots.sessions import BotSession
from telewarm.database import media
from telewarm.database.connection import Pool
from telewarm.database.leases import ProcessLease
from telewarm.database.transient import as_outage
from telewarm.errors import (
    ChatMigrated,
    ChatUnreachable,
    InvalidBotToken,
    InvalidFileId,
    TelegramUnreachable,
    TelewarmError,
)
from telewarm.file_ids.uploader import FileIdUploader
from telewarm.flood_control.priority import Priority
from telewarm.models import CachedFileId, ChatId, ClaimedMedia, Kind, MediaId, MessageSet, SentMessage, UploadResult
from telewarm.sending.album_sender import AlbumSender
from telewarm.sending.chat_status import ChatStatusWriter
from telewarm.sending.file_id_cache import FileIdCache
from telewarm.sending.file_id_recovery import FileIdRecovery
from telewarm.sending.file_id_resolver import FileIdResolver, ResolveRequest, not_in_library
from telewarm.sending.messages import AlbumStep, SingleStep, Step, TextStep, check, plan
from telewarm.sending.rate_limited_call import SendSlot, with_rate_limit
from telewarm.sending.send_context import OnCold, SendContext, SendLimits, SendResult
from telewarm.telegram.files import FileIdRef

MAX_INVALID_IDS = 3  # file ids of one item that may turn out dead one after the other


class Sender:
    def __init__(
        self,
        *,
        pool: Pool,
        lease: ProcessLease,
        placements: FileIdUploader,
        file_ids: FileIdCache,
        ledger: ChatStatusWriter,
        healing: FileIdRecovery,
        limits: SendLimits,
    ) -> None:
        self._pool = pool
        self._placements = placements
        self._file_ids = file_ids
        self._chat_status = ledger
        self._recovery = healing
        self._limits = limits
        self._resolver = FileIdResolver(pool=pool, lease=lease, file_ids=file_ids)
        self._albums = AlbumSender(cold=self._resolver, placements=placements, file_ids=file_ids, healing=healing)

    async def send(
        self,
        live: BotSession,
        chat_id: ChatId,
        message: MessageSet,
        *,
        on_cold: OnCold | None = None,
        patience: float | None = None,
        rank: Priority = Priority.INTERACTIVE,
    ) -> list[SendResult]:
        """Audio, video, photo, the rest, then text. One that fails stops no other, unless the chat cannot be reached.

        `patience`: seconds that the whole set waits at most for the bot's limits and for cold media; what would have
        to wait longer fails at once, with FloodWait for the limits. Raises UsageError for a set that cannot be sent,
        NotFound when the bot has no such media item; nothing is sent then.
        """
        steps, missed = await self._plan(live, message)
        if message.media:
            metrics.ids_read(hits=len(message.media) - missed, misses=missed)
        return await self.send_plan(live, chat_id, steps, on_cold=on_cold, patience=patience, rank=rank)

    async def file_id(self, live: BotSession, media_id: MediaId, *, wait: float) -> CachedFileId:
        """The bot's file id of a media item, to send it by other means. `wait`: seconds for it to become warm.

        Raises MediaNotReady when it has none in that time, MediaError when it will have none, NotFound.
        """
        warm = self._file_ids.get(media_id)
        if warm is not None and warm.bot_id == live.bot.id:
            return warm
        on_cold = OnCold.WAIT if wait > 0 else OnCold.FAIL
        until = clock.monotonic() + wait
        wanted = ResolveRequest(live=live, media_id=media_id, on_cold=on_cold, until=until, place=_never)
        got = await self._resolver.get(wanted)
        assert isinstance(got, CachedFileId)  # noqa: S101 - nothing is placed by whoever only waits
        return got

    async def planned(self, live: BotSession, message: MessageSet) -> tuple[Step, ...]:
        """The steps of `send`, for `send_plan` to many recipients. Raises UsageError, NotFound."""
        steps, _ = await self._plan(live, message)
        return steps

    async def send_plan(
        self,
        live: BotSession,
        chat_id: ChatId,
        steps: Sequence[Step],
        *,
        on_cold: OnCold | None = None,
        patience: float | None = None,
        rank: Priority = Priority.INTERACTIVE,
        follow: bool = True,
    ) -> list[SendResult]:
        """`send` of what was planned for the same bot.

        Not `follow`: a group that has become a supergroup is not written to there; the results say ChatMigrated.
        """
        began = clock.monotonic()
        until = began + (self._limits.patience if patience is None else patience)
        outgoing = SendContext(
            turn=SendSlot(live=live, chat_id=chat_id, until=until, rank=rank),
            on_cold=on_cold or self._limits.on_cold,
            began=began,
            followed=not follow,
        )
        bot_id = live.bot.id
        if (now_at := self._chat_status.moved_to(bot_id, chat_id)) != chat_id:
            if follow:
                outgoing.follow(now_at)
            else:
                outgoing.aborted_by = _migrated(chat_id, now_at)
        for step in steps:
            await self._take(outgoing, step)
        if outgoing.reached:
            self._chat_status.note_reached(bot_id, outgoing.turn.chat_id)
        return outgoing.results

    async def _plan(self, live: BotSession, message: MessageSet) -> tuple[tuple[Step, ...], int]:
        """And how many ids were not in memory. No query when all are."""
        bot_id = live.bot.id
        kinds: dict[MediaId, Kind] = {}
        missing = []
        for part in message.media:
            warm = self._file_ids.get(part.media_id)
            if warm is not None and warm.bot_id == bot_id:
                kinds[part.media_id] = warm.kind
            else:
                missing.append(part.media_id)
        if missing:
            check(message)
            kinds |= await self._read(live, missing)
        return plan(message, kinds), len(missing)

    async def _read(self, live: BotSession, media_ids: Sequence[MediaId]) -> dict[MediaId, Kind]:
        """What they are sent as. Raises NotFound when one is not the bot's."""
        kinds: dict[MediaId, Kind] = {}
        for warm in await media.warm(self._pool, bot_id=live.bot.id, media_ids=media_ids):
            self._file_ids.keep(warm)
            kinds[warm.media_id] = warm.kind
        for media_id in media_ids:
            if media_id not in kinds:
                item = await media.get(self._pool, media_id)
                if item.bot_id != live.bot.id:
                    raise not_in_library(live, media_id)
                kinds[media_id] = item.kind
        return kinds

    async def _take(self, outgoing: SendContext, step: Step) -> None:
        """One step, whatever becomes of it: its results are in `outgoing` then."""
        if outgoing.aborted_by is not None:
            outgoing.failed(step, outgoing.aborted_by)
            return
        try:
            await self._make(outgoing, step)
        except ChatMigrated as error:
            old, new = outgoing.turn.chat_id, ChatId(error.migrate_to_chat_id)
            self._chat_status.note_migration(outgoing.turn.live.bot.id, old, new)
            if outgoing.followed:
                outgoing.aborted_by = error
                outgoing.failed(step, error)
                return
            outgoing.followed = True
            outgoing.follow(new)
            await self._take(outgoing, step)
        except ChatUnreachable as error:
            self._chat_status.note_failure(outgoing.turn.live.bot.id, outgoing.turn.chat_id, error)
            if error.reason != "no_rights":  # that may be of this kind of message alone
                outgoing.aborted_by = error
            outgoing.failed(step, error)
        except TelewarmError as error:
            outgoing.aborted_by = _ends_all(outgoing, error)
            outgoing.failed(step, error)
        except Exception as error:
            if (away := as_outage(error)) is None:
                raise
            outgoing.failed(step, away)

    def _make(self, outgoing: SendContext, step: Step) -> Awaitable[None]:
        if isinstance(step, SingleStep):
            return self._single(outgoing, step)
        if isinstance(step, TextStep):
            return _text(outgoing, step)
        return self._album(outgoing, step)

    async def _single(self, outgoing: SendContext, step: SingleStep) -> None:
        """By its file id; a dead one is healed: a copy of the warm-up message, else a URL or the bytes."""
        turn, media_id, deaths = outgoing.turn, step.media_id, 0
        warm = self._file_ids.get(media_id)
        hit = warm is not None
        while True:
            if warm is None or warm.bot_id != turn.live.bot.id:
                got = await self._resolver.get(self._wanted(outgoing, step, again=deaths > 0))
                hit = False
                if isinstance(got, UploadResult):
                    outgoing.went(media_id, got.kind, got.message.message_id, hit=False, lat_ms=outgoing.lap())
                    return
                warm = got
            try:
                sent = await with_rate_limit(turn, partial(_by_id, turn, warm, step))
            except InvalidFileId:
                deaths += 1
                if deaths > MAX_INVALID_IDS:
                    raise
                if await self._recover(outgoing, step, warm):
                    return
                warm, hit = self._file_ids.get(media_id), False
            else:
                self._recovery.worked(turn.live)
                kind = sent.kind or warm.kind
                outgoing.went(media_id, kind, sent.message_id, hit=hit, lat_ms=outgoing.lap())
                return

    def _wanted(self, outgoing: SendContext, step: SingleStep, *, again: bool) -> ResolveRequest:
        """`again`: its id was dead. Then it is no cold one, and its bytes go whatever was said of cold ones."""
        turn = outgoing.turn
        return ResolveRequest(
            live=turn.live,
            media_id=step.media_id,
            on_cold=OnCold.UPLOAD if again else outgoing.on_cold,
            until=turn.until,
            place=partial(self._deliver, turn, step),
        )

    async def _recover(self, outgoing: SendContext, step: SingleStep, warm: CachedFileId) -> bool:
        """Whether a copy went."""
        turn = outgoing.turn
        message_id = await self._recovery.recover(
            turn.live,
            turn.chat_id,
            warm,
            caption=step.caption,
            options=step.options,
            patience_until=turn.until,
            rank=turn.rank,
        )
        if message_id is None:
            return False
        outgoing.went(warm.media_id, warm.kind, message_id, hit=False, lat_ms=outgoing.lap())
        return True

    async def _deliver(self, turn: SendSlot, step: SingleStep, item: ClaimedMedia) -> UploadResult:
        """The bytes to the recipient."""
        api = turn.live.api
        call = partial(self._placements.deliver, item, api, turn.chat_id, caption=step.caption, options=step.options)
        return await with_rate_limit(turn, call, size=self._placements.delivery_bytes(item, api.telegram_id))

    async def _album(self, outgoing: SendContext, album: AlbumStep) -> None:
        for media_id, left in await self._albums.send(outgoing, album):
            if isinstance(left, SingleStep):
                await self._take(outgoing, left)
            else:
                outgoing.lost([media_id], left)


async def _never(item: ClaimedMedia) -> UploadResult:
    raise AssertionError(f"media item {item.media_id} was to be waited for")


def _migrated(chat_id: ChatId, now_at: ChatId) -> ChatMigrated:
    return ChatMigrated(
        method="send",
        chat_id=chat_id,
        status=400,
        description="group chat was upgraded to a supergroup chat",
        migrate_to_chat_id=now_at,
    )


async def _text(outgoing: SendContext, step: TextStep) -> None:
    turn = outgoing.turn
    call = partial(turn.live.api.send_message, turn.chat_id, step.text, options=step.options)
    sent = await with_rate_limit(turn, call)
    outgoing.went(None, None, sent.message_id, hit=False, lat_ms=outgoing.lap())


def _by_id(turn: SendSlot, warm: CachedFileId, step: SingleStep) -> Awaitable[SentMessage]:
    return turn.live.api.send_media(
        warm.kind, turn.chat_id, FileIdRef(file_id=warm.file_id), caption=step.caption, options=step.options
    )


def _ends_all(outgoing: SendContext, error: TelewarmError) -> TelewarmError | None:
    """Why the rest of the set is not begun: a token that is void, or no answer in all the time there was."""
    if isinstance(error, InvalidBotToken):
        return error
    turn = outgoing.turn
    if not isinstance(error, TelegramUnreachable) or clock.monotonic() <= turn.until:
        return None
    return TelegramUnreachable(
        f"Not sent to chat {turn.chat_id}: no answer to {error.method} came in all the time there was",
        method="send",
        chat_id=turn.chat_id,
        effect_possible=False,
    )
