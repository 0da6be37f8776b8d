"""Sends several media in one call; what Telegram refuses as an album goes one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

import structlog
from msgspec import structs

from telewarm import clock
from telewarm.database.transient import as_outage
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
from telewarm.sending.file_id_resolver import FileIdResolver, ResolveRequest, warm_of
from telewarm.sending.messages import AlbumStep, SingleStep, one_by_one, together
from telewarm.sending.rate_limited_call import SendSlot, with_rate_limit
from telewarm.sending.send_context import SendContext
from telewarm.telegram.effect import maybe_delivered
from telewarm.telegram.error_patterns import in_group
from telewarm.telegram.files import FileIdRef
from telewarm.telegram.values import GroupItem

log = structlog.get_logger(__name__)

Found: TypeAlias = CachedFileId | TelewarmError  # an item's file id, or why there is none
Left: TypeAlias = tuple[MediaId, SingleStep | TelewarmError]  # an item that is to go by itself, or cannot


class AlbumSender:
    def __init__(
        self, *, cold: FileIdResolver, placements: FileIdUploader, file_ids: FileIdCache, healing: FileIdRecovery
    ) -> None:
        self._cold = cold
        self._placements = placements
        self._file_ids = file_ids
        self._healing = healing

    async def send(self, outgoing: SendContext, album: AlbumStep) -> list[Left]:
        """In one call by file ids; an item that has none gets it through a warm-up chat first.

        Empty when it went. When one id is dead or one caption wrong nothing went: the items are left to go one by
        one, each healing itself. A flood in the middle may leave a part of the album in the chat: that raises
        TelegramUnreachable and is never made again.
        """
        turn = outgoing.turn
        hits = [self._file_ids.get(part.media_id) is not None for part in album.items]
        found = await self._ids(outgoing, album.items)
        ready = [(part, one) for part, one in zip(album.items, found, strict=True) if isinstance(one, CachedFileId)]
        if not together([warm.kind for _, warm in ready]) or any(_of_warmup_chat(one) for one in found):
            return _left(album, found)
        try:
            sent = await with_rate_limit(turn, partial(_group, turn, album, ready), count=len(ready))
        except (InvalidFileId, BadRequest) as error:
            log.info("album_refused", bot=turn.live.bot.slug, error=error.message)
            return _left(album, found)
        self._healing.worked(turn.live)
        _tell(outgoing, album, found, sent, hits)
        return []

    async def _ids(self, outgoing: SendContext, parts: Sequence[Part]) -> list[Found]:
        """In the order of the parts; those without one are got all at once."""
        bot_id = outgoing.turn.live.bot.id
        known = [self._file_ids.get(part.media_id) for part in parts]
        warm: list[Found] = [one for one in known if one is not None and one.bot_id == bot_id]
        if len(warm) == len(parts):
            return warm
        return list(await asyncio.gather(*(self._id(outgoing, part.media_id) for part in parts)))

    async def _id(self, outgoing: SendContext, media_id: MediaId) -> Found:
        turn = outgoing.turn
        live = turn.live
        warm = self._file_ids.get(media_id)
        if warm is not None and warm.bot_id == live.bot.id:
            return warm
        place = partial(self._warm_up, turn)
        wanted = ResolveRequest(live=live, media_id=media_id, on_cold=outgoing.on_cold, until=turn.until, place=place)
        try:
            got = await self._cold.get(wanted)
        except TelewarmError as error:
            return error
        except Exception as error:
            if (away := as_outage(error)) is None:
                raise
            return away
        return warm_of(got, live) if isinstance(got, UploadResult) else got

    async def _warm_up(self, turn: SendSlot, item: ClaimedMedia) -> UploadResult:
        """The bytes to the warm-up chat that is free first."""
        live = turn.live
        size = self._placements.upload_bytes(item, live.api.telegram_id)
        now = clock.monotonic()

        def opens_at(chat_id: ChatId) -> float:
            return live.limiter.chat_opens_at(chat_id, size=size, now=now)

        chats = live.faults.usable(live.bot.warmup_chats, item.kind, now=now)
        chat_id = min(chats, key=opens_at)
        call = partial(self._placements.warm, item, live.api, chat_id)
        try:
            return await with_rate_limit(structs.replace(turn, chat_id=chat_id), call, size=size)
        except ChatMigrated as error:
            if live.on_migrated is not None:
                await live.on_migrated(chat_id, ChatId(error.migrate_to_chat_id))
            raise
        except TelegramError as error:
            if not maybe_delivered(error):
                raise
            # Into the warm-up chat, perhaps: the recipient surely has nothing.
            raise TelegramUnreachable(error.message, method=error.method, effect_possible=False) from error


async def _group(turn: SendSlot, album: AlbumStep, ready: Sequence[tuple[Part, CachedFileId]]) -> list[SentMessage]:
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
        return await turn.live.api.send_media_group(turn.chat_id, items, options=album.options)
    except FloodWait as wait:
        if wait.status == 429 or not in_group(wait.description):
            raise
        _apply_flood_wait(turn, wait)
        raise TelegramUnreachable(
            f"Telegram stopped an album to chat {turn.chat_id} in the middle: {wait.description}; a part of it may be"
            " in the chat, so look there before you send it again",
            method=wait.method,
            chat_id=turn.chat_id,
            effect_possible=True,
        ) from wait


def _apply_flood_wait(turn: SendSlot, wait: FloodWait) -> None:
    """Telegram may report a rate limit inside an album as HTTP 400, when the call's permit was settled already."""
    live = turn.live
    pause_chat(live.limiter, turn.chat_id, wait, now=clock.monotonic(), on_pause=live.on_pause)


def _tell(
    outgoing: SendContext, album: AlbumStep, found: Sequence[Found], sent: Sequence[SentMessage], hits: Sequence[bool]
) -> None:
    """The results of an album that went. Telegram answers in the order in which we asked."""
    lat_ms = outgoing.lap()
    answers = iter(sent)
    for part, one, hit in zip(album.items, found, hits, strict=True):
        if not isinstance(one, CachedFileId):
            outgoing.lost([part.media_id], one)
        elif (answer := next(answers, None)) is not None:
            outgoing.went(part.media_id, answer.kind or one.kind, answer.message_id, hit=hit, lat_ms=lat_ms)
        else:
            outgoing.lost([part.media_id], _unanswered(outgoing.turn.chat_id))


def _left(album: AlbumStep, found: Sequence[Found]) -> list[Left]:
    """An item goes by itself also when only the warm-up chat was at fault: it does not need it."""
    parts = [
        part
        for part, one in zip(album.items, found, strict=True)
        if isinstance(one, CachedFileId) or _of_warmup_chat(one)
    ]
    singles = iter(one_by_one(album, parts))
    return [
        (part.media_id, next(singles) if isinstance(one, CachedFileId) or _of_warmup_chat(one) else one)
        for part, one in zip(album.items, found, strict=True)
    ]


def _of_warmup_chat(one: Found) -> bool:
    return isinstance(one, ChatUnreachable | ChatMigrated)


def _unanswered(chat_id: ChatId) -> TelegramUnreachable:
    return TelegramUnreachable(
        f"The answer to an album to chat {chat_id} does not hold this message; it may be there all the same",
        method="sendMediaGroup",
        chat_id=chat_id,
        effect_possible=True,
    )
