"""Album sender: several media in one call; items that Telegram refuses as an album are sent separately."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

import structlog
from msgspec import structs

from telewarm import clock
from telewarm.database.transient import as_unavailable_error
from telewarm.errors import (
    BadRequest,
    ChatMigrated,
    ChatUnreachable,
    FloodWait,
    InvalidFileId,
    TelegramError,
    TelegramUnreachable,
    TelewarmError,
)
from telewarm.file_ids.uploader import FileIdUploader
from telewarm.flood_control.flood_wait import pause_chat
from telewarm.models import CachedFileId, ChatId, ClaimedMedia, MediaId, Part, SentMessage, UploadResult
from telewarm.sending.file_id_cache import FileIdCache
from telewarm.sending.file_id_recovery import FileIdRecovery
from telewarm.sending.file_id_resolver import FileIdResolver, ResolveRequest, to_cached_file_id
from telewarm.sending.messages import AlbumStep, SingleStep, can_be_one_album, one_by_one
from telewarm.sending.rate_limited_call import SendSlot, with_rate_limit
from telewarm.sending.send_context import SendContext
from telewarm.telegram.effect import maybe_delivered
from telewarm.telegram.files import FileIdRef
from telewarm.telegram.responses import is_group_item_error
from telewarm.telegram.values import GroupItem

log = structlog.get_logger(__name__)

FileIdOrError: TypeAlias = CachedFileId | TelewarmError  # an item's file id, or the reason why there is none
RemainingItem: TypeAlias = tuple[MediaId, SingleStep | TelewarmError]  # an item to send separately, or its error


class AlbumSender:
    """Sends the albums of message sets."""

    def __init__(
        self, *, resolver: FileIdResolver, uploader: FileIdUploader, file_ids: FileIdCache, recovery: FileIdRecovery
    ) -> None:
        self._resolver = resolver
        self._uploader = uploader
        self._file_ids = file_ids
        self._recovery = recovery

    async def send(self, context: SendContext, album: AlbumStep) -> list[RemainingItem]:
        """Send an album in one call by file ids; an item without one gets it through a warm-up chat first.

        Returns the items that are still to be sent; empty after success. When one id is invalid or one caption
        malformed, Telegram sends nothing: the items are returned, to be sent one by one, each with its own recovery. A
        flood wait in the middle may leave part of the album in the chat: that raises TelegramUnreachable and is never
        retried.
        """
        slot = context.slot
        hits = [self._file_ids.get(part.media_id) is not None for part in album.items]
        found = await self._resolve_ids(context, album.items)
        ready = [(part, one) for part, one in zip(album.items, found, strict=True) if isinstance(one, CachedFileId)]
        if not can_be_one_album([warm.kind for _, warm in ready]) or any(_is_warmup_chat_error(one) for one in found):
            return _remaining_items(album, found)
        try:
            sent = await with_rate_limit(slot, partial(_send_group, slot, album, ready), count=len(ready))
        except (InvalidFileId, BadRequest) as error:
            log.info("album_refused", bot=slot.session.bot.slug, error=error.message)
            return _remaining_items(album, found)
        self._recovery.send_succeeded(slot.session)
        _add_results(context, album, found, sent, hits)
        return []

    async def _resolve_ids(self, context: SendContext, parts: Sequence[Part]) -> list[FileIdOrError]:
        """Return the file ids in the order of the parts; resolve missing ones concurrently."""
        bot_id = context.slot.session.bot.id
        known = [self._file_ids.get(part.media_id) for part in parts]
        warm: list[FileIdOrError] = [one for one in known if one is not None and one.bot_id == bot_id]
        if len(warm) == len(parts):
            return warm
        return list(await asyncio.gather(*(self._resolve_id(context, part.media_id) for part in parts)))

    async def _resolve_id(self, context: SendContext, media_id: MediaId) -> FileIdOrError:
        slot = context.slot
        session = slot.session
        warm = self._file_ids.get(media_id)
        if warm is not None and warm.bot_id == session.bot.id:
            return warm
        place = partial(self._warm_up, slot)
        wanted = ResolveRequest(
            session=session, media_id=media_id, on_cold=context.on_cold, deadline=slot.deadline, upload=place
        )
        try:
            got = await self._resolver.get(wanted)
        except TelewarmError as error:
            return error
        except Exception as error:
            if (away := as_unavailable_error(error)) is None:
                raise
            return away
        return to_cached_file_id(got, session) if isinstance(got, UploadResult) else got

    async def _warm_up(self, slot: SendSlot, item: ClaimedMedia) -> UploadResult:
        """Upload the bytes to the warm-up chat that accepts a message first."""
        session = slot.session
        size = self._uploader.upload_bytes(item, session.api.telegram_id)
        now = clock.monotonic()

        def opens_at(chat_id: ChatId) -> float:
            """Return the time at which the chat accepts the upload."""
            return session.limiter.chat_opens_at(chat_id, size=size, now=now)

        chats = session.faults.usable(session.bot.warmup_chats, item.kind, now=now)
        chat_id = min(chats, key=opens_at)
        call = partial(self._uploader.warm, item, session.api, chat_id)
        try:
            return await with_rate_limit(structs.replace(slot, chat_id=chat_id), call, size=size)
        except ChatMigrated as error:
            if session.on_migrated is not None:
                await session.on_migrated(chat_id, ChatId(error.migrate_to_chat_id))
            raise
        except TelegramError as error:
            if not maybe_delivered(error):
                raise
            # The call may have been to the warm-up chat: the recipient surely has nothing.
            raise TelegramUnreachable(error.message, method=error.method, effect_possible=False) from error


async def _send_group(
    slot: SendSlot, album: AlbumStep, ready: Sequence[tuple[Part, CachedFileId]]
) -> list[SentMessage]:
    items = [
        GroupItem(
            kind=warm.kind,
            file=FileIdRef(file_id=warm.file_id),
            caption=part.caption,
            parse_mode=part.parse_mode,
            entities=part.entities,
            has_spoiler=part.has_spoiler,
            extra=part.extra,
        )
        for part, warm in ready
    ]
    try:
        return await slot.session.api.send_media_group(slot.chat_id, items, options=album.options)
    except FloodWait as wait:
        if wait.status == 429 or not is_group_item_error(wait.description):
            raise
        _apply_flood_wait(slot, wait)
        raise TelegramUnreachable(
            f"Telegram stopped an album to chat {slot.chat_id} in the middle: {wait.description}; a part of it may be"
            " in the chat, so look there before you send it again",
            method=wait.method,
            chat_id=slot.chat_id,
            effect_possible=True,
        ) from wait


def _apply_flood_wait(slot: SendSlot, wait: FloodWait) -> None:
    """Telegram may report a rate limit inside an album as HTTP 400, after the call's permit was confirmed."""
    session = slot.session
    pause_chat(session.limiter, slot.chat_id, wait, now=clock.monotonic(), on_pause=session.on_pause)


def _add_results(
    context: SendContext,
    album: AlbumStep,
    found: Sequence[FileIdOrError],
    sent: Sequence[SentMessage],
    hits: Sequence[bool],
) -> None:
    """Add the results of a sent album. Telegram answers in the order of the request."""
    lat_ms = context.take_elapsed_ms()
    answers = iter(sent)
    for part, one, hit in zip(album.items, found, hits, strict=True):
        if not isinstance(one, CachedFileId):
            context.add_failures([part.media_id], one)
        elif (answer := next(answers, None)) is not None:
            context.add_sent(part.media_id, answer.kind or one.kind, answer.message_id, cache_hit=hit, lat_ms=lat_ms)
        else:
            context.add_failures([part.media_id], _missing_in_answer(context.slot.chat_id))


def _remaining_items(album: AlbumStep, found: Sequence[FileIdOrError]) -> list[RemainingItem]:
    """Return the items to send separately, also those for which only the warm-up chat failed."""
    parts = [
        part
        for part, one in zip(album.items, found, strict=True)
        if isinstance(one, CachedFileId) or _is_warmup_chat_error(one)
    ]
    singles = iter(one_by_one(album, parts))
    return [
        (part.media_id, next(singles) if isinstance(one, CachedFileId) or _is_warmup_chat_error(one) else one)
        for part, one in zip(album.items, found, strict=True)
    ]


def _is_warmup_chat_error(one: FileIdOrError) -> bool:
    return isinstance(one, ChatUnreachable | ChatMigrated)


def _missing_in_answer(chat_id: ChatId) -> TelegramUnreachable:
    return TelegramUnreachable(
        f"The answer to an album to chat {chat_id} does not hold this message; it may be there all the same",
        method="sendMediaGroup",
        chat_id=chat_id,
        effect_possible=True,
    )
