"""Sender: one message set to one chat."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from functools import partial

from telewarm import clock, metrics
from telewarm.bots.sessions import BotSession
from telewarm.database import media
from telewarm.database.connection import Pool
from telewarm.database.leases import ProcessLease
from telewarm.database.transient import as_unavailable_error
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

MAX_INVALID_IDS = 3  # file ids of one item that may be invalid one after the other


class Sender:
    """Sends message sets, by file id where there is one."""

    def __init__(
        self,
        *,
        pool: Pool,
        lease: ProcessLease,
        uploader: FileIdUploader,
        file_ids: FileIdCache,
        chat_status: ChatStatusWriter,
        recovery: FileIdRecovery,
        limits: SendLimits,
    ) -> None:
        self._pool = pool
        self._uploader = uploader
        self._file_ids = file_ids
        self._chat_status = chat_status
        self._recovery = recovery
        self._limits = limits
        self._resolver = FileIdResolver(pool=pool, lease=lease, file_ids=file_ids)
        self._albums = AlbumSender(resolver=self._resolver, uploader=uploader, file_ids=file_ids, recovery=recovery)

    async def send(
        self,
        session: BotSession,
        chat_id: ChatId,
        message: MessageSet,
        *,
        on_cold: OnCold | None = None,
        patience: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
    ) -> list[SendResult]:
        """Send audio, video, photo, other kinds, then text.

        A failed message stops no other, unless the chat is unreachable.

        `patience`: seconds that the whole set may wait for the bot's limits and for cold media; what would take longer
        fails at once, with FloodWait for the limits. Raises UsageError for a set that cannot be sent, NotFound when the
        bot has no such media item; nothing is sent then.
        """
        steps, missed = await self._plan(session, message)
        if message.media:
            metrics.file_ids_read(hits=len(message.media) - missed, misses=missed)
        return await self.send_plan(session, chat_id, steps, on_cold=on_cold, patience=patience, priority=priority)

    async def file_id(self, session: BotSession, media_id: MediaId, *, wait: float) -> CachedFileId:
        """Return the bot's file id of a media item, to send it by other means. `wait`: seconds for it to become ready.

        Raises MediaNotReady when it has none in that time, MediaError when its warm-up failed for good, NotFound.
        """
        warm = self._file_ids.get(media_id)
        if warm is not None and warm.bot_id == session.bot.id:
            return warm
        on_cold = OnCold.WAIT if wait > 0 else OnCold.FAIL
        until = clock.monotonic() + wait
        wanted = ResolveRequest(
            session=session, media_id=media_id, on_cold=on_cold, deadline=until, upload=_unexpected_upload
        )
        got = await self._resolver.get(wanted)
        assert isinstance(got, CachedFileId)  # noqa: S101 - waiting never uploads
        return got

    async def planned(self, session: BotSession, message: MessageSet) -> tuple[Step, ...]:
        """Return the steps of `send`, for `send_plan` to many recipients. Raises UsageError, NotFound."""
        steps, _ = await self._plan(session, message)
        return steps

    async def send_plan(
        self,
        session: BotSession,
        chat_id: ChatId,
        steps: Sequence[Step],
        *,
        on_cold: OnCold | None = None,
        patience: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        follow: bool = True,
    ) -> list[SendResult]:
        """Send the steps that `planned` returned for the same bot.

        Without `follow`, a supergroup that a group has become is not written to; the results say ChatMigrated.
        """
        began = clock.monotonic()
        until = began + (self._limits.patience_seconds if patience is None else patience)
        context = SendContext(
            slot=SendSlot(session=session, chat_id=chat_id, deadline=until, priority=priority),
            on_cold=on_cold or self._limits.on_cold,
            step_started_at=began,
            redirected=not follow,
        )
        bot_id = session.bot.id
        if (now_at := self._chat_status.moved_to(bot_id, chat_id)) != chat_id:
            if follow:
                context.redirect(now_at)
            else:
                context.aborted_by = _migrated(chat_id, now_at)
        for step in steps:
            await self._run_step(context, step)
        if context.reached:
            self._chat_status.note_reached(bot_id, context.slot.chat_id)
        return context.results

    async def _plan(self, session: BotSession, message: MessageSet) -> tuple[tuple[Step, ...], int]:
        """Return the steps and the number of cache misses. Does not query when all ids are cached."""
        bot_id = session.bot.id
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
            kinds |= await self._read(session, missing)
        return plan(message, kinds), len(missing)

    async def _read(self, session: BotSession, media_ids: Sequence[MediaId]) -> dict[MediaId, Kind]:
        """Return the kinds as which the items are sent. Raises NotFound when one is not the bot's."""
        kinds: dict[MediaId, Kind] = {}
        for warm in await media.file_ids(self._pool, bot_id=session.bot.id, media_ids=media_ids):
            self._file_ids.put(warm)
            kinds[warm.media_id] = warm.kind
        for media_id in media_ids:
            if media_id not in kinds:
                item = await media.get(self._pool, media_id)
                if item.bot_id != session.bot.id:
                    raise not_in_library(session, media_id)
                kinds[media_id] = item.kind
        return kinds

    async def _run_step(self, context: SendContext, step: Step) -> None:
        """Run one step. Failures become results in `context`."""
        if context.aborted_by is not None:
            context.add_step_failure(step, context.aborted_by)
            return
        try:
            await self._make(context, step)
        except ChatMigrated as error:
            old, new = context.slot.chat_id, ChatId(error.migrate_to_chat_id)
            self._chat_status.note_migration(context.slot.session.bot.id, old, new)
            if context.redirected:
                context.aborted_by = error
                context.add_step_failure(step, error)
                return
            context.redirected = True
            context.redirect(new)
            await self._run_step(context, step)
        except ChatUnreachable as error:
            self._chat_status.note_failure(context.slot.session.bot.id, context.slot.chat_id, error)
            if error.reason != "no_rights":  # `no_rights` may concern this kind of message alone
                context.aborted_by = error
            context.add_step_failure(step, error)
        except TelewarmError as error:
            context.aborted_by = _abort_reason(context, error)
            context.add_step_failure(step, error)
        except Exception as error:
            if (away := as_unavailable_error(error)) is None:
                raise
            context.add_step_failure(step, away)

    def _make(self, context: SendContext, step: Step) -> Awaitable[None]:
        if isinstance(step, SingleStep):
            return self._single(context, step)
        if isinstance(step, TextStep):
            return _text(context, step)
        return self._album(context, step)

    async def _single(self, context: SendContext, step: SingleStep) -> None:
        """Send one item by file id; recover from an invalid one: copy the warm-up message or send the bytes."""
        slot, media_id, deaths = context.slot, step.media_id, 0
        warm = self._file_ids.get(media_id)
        hit = warm is not None
        while True:
            if warm is None or warm.bot_id != slot.session.bot.id:
                got = await self._resolver.get(self._resolve_request(context, step, again=deaths > 0))
                hit = False
                if isinstance(got, UploadResult):
                    context.add_sent(
                        media_id, got.kind, got.message.message_id, cache_hit=False, lat_ms=context.take_elapsed_ms()
                    )
                    return
                warm = got
            try:
                sent = await with_rate_limit(slot, partial(_send_by_id, slot, warm, step))
            except InvalidFileId:
                deaths += 1
                if deaths > MAX_INVALID_IDS:
                    raise
                if await self._recover(context, step, warm):
                    return
                warm, hit = self._file_ids.get(media_id), False
            else:
                self._recovery.send_succeeded(slot.session)
                kind = sent.kind or warm.kind
                context.add_sent(media_id, kind, sent.message_id, cache_hit=hit, lat_ms=context.take_elapsed_ms())
                return

    def _resolve_request(self, context: SendContext, step: SingleStep, *, again: bool) -> ResolveRequest:
        """Build the request for a file id.

        `again`: the id was invalid; then the bytes are sent whatever `on_cold` says.
        """
        slot = context.slot
        return ResolveRequest(
            session=slot.session,
            media_id=step.media_id,
            on_cold=OnCold.UPLOAD if again else context.on_cold,
            deadline=slot.deadline,
            upload=partial(self._send_bytes, slot, step),
        )

    async def _recover(self, context: SendContext, step: SingleStep, warm: CachedFileId) -> bool:
        """Recover from an invalid file id. Returns whether a copy was sent."""
        slot = context.slot
        message_id = await self._recovery.recover(
            slot.session,
            slot.chat_id,
            warm,
            caption=step.caption,
            options=step.options,
            deadline=slot.deadline,
            priority=slot.priority,
        )
        if message_id is None:
            return False
        context.add_sent(warm.media_id, warm.kind, message_id, cache_hit=False, lat_ms=context.take_elapsed_ms())
        return True

    async def _send_bytes(self, slot: SendSlot, step: SingleStep, item: ClaimedMedia) -> UploadResult:
        """Send the bytes to the recipient."""
        api = slot.session.api
        call = partial(self._uploader.deliver, item, api, slot.chat_id, caption=step.caption, options=step.options)
        return await with_rate_limit(slot, call, size=self._uploader.delivery_bytes(item, api.telegram_id))

    async def _album(self, context: SendContext, album: AlbumStep) -> None:
        for media_id, left in await self._albums.send(context, album):
            if isinstance(left, SingleStep):
                await self._run_step(context, left)
            else:
                context.add_failures([media_id], left)


async def _unexpected_upload(item: ClaimedMedia) -> UploadResult:
    raise AssertionError(f"media item {item.media_id} was to be waited for")


def _migrated(chat_id: ChatId, now_at: ChatId) -> ChatMigrated:
    return ChatMigrated(
        method="send",
        chat_id=chat_id,
        status=400,
        description="group chat was upgraded to a supergroup chat",
        migrate_to_chat_id=now_at,
    )


async def _text(context: SendContext, step: TextStep) -> None:
    slot = context.slot
    call = partial(slot.session.api.send_message, slot.chat_id, step.text, options=step.options)
    sent = await with_rate_limit(slot, call)
    context.add_sent(None, None, sent.message_id, cache_hit=False, lat_ms=context.take_elapsed_ms())


def _send_by_id(slot: SendSlot, warm: CachedFileId, step: SingleStep) -> Awaitable[SentMessage]:
    return slot.session.api.send_media(
        warm.kind, slot.chat_id, FileIdRef(file_id=warm.file_id), caption=step.caption, options=step.options
    )


def _abort_reason(context: SendContext, error: TelewarmError) -> TelewarmError | None:
    """Return why the remaining steps are skipped: an invalid token, or no answer until the deadline."""
    if isinstance(error, InvalidBotToken):
        return error
    slot = context.slot
    if not isinstance(error, TelegramUnreachable) or clock.monotonic() <= slot.deadline:
        return None
    return TelegramUnreachable(
        f"Not sent to chat {slot.chat_id}: no answer to {error.method} came in all the time there was",
        method="send",
        chat_id=slot.chat_id,
        effect_possible=False,
    )
