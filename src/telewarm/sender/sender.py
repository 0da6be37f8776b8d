"""Send one message set to one chat."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar
from weakref import WeakValueDictionary

import structlog

from telewarm import clock, metrics, placements
from telewarm.database import media, warmups
from telewarm.database.connection import Pool
from telewarm.database.leases import Lease
from telewarm.database.pool import AWAY
from telewarm.errors import (
    DatabaseUnavailable,
    DeadFileId,
    FloodWait,
    MediaError,
    MediaNotReady,
    NotFound,
    TelegramRefused,
    TelewarmError,
    UsageError,
)
from telewarm.lanes import LiveBot, count_flood, wake
from telewarm.model import ChatId, Claimed, FileId, Kind, MediaId, MessageId, Placed, State, Warm
from telewarm.placements import Placements
from telewarm.sender.cache import FileIds
from telewarm.telegram import ById, Passage, SendOptions

log = structlog.get_logger(__name__)
T = TypeVar("T")

ORDER = {Kind.AUDIO: 0, Kind.VIDEO: 1, Kind.PHOTO: 2}  # the rest after them, then text
MOST_MEDIA = 10
LOOK_AGAIN = 1.0  # seconds: who holds an item may put it back without telling
RECORD_TRIES = 3
RECORD_RETRY = 0.5  # seconds between tries to write a file id while the database is away


class OnCold(StrEnum):
    """When a media item has no file id yet: send its bytes now, wait for its warm-up, or fail."""

    UPLOAD = "upload"
    WAIT = "wait"
    FAIL = "fail"


@dataclass(frozen=True, kw_only=True, slots=True)
class SendLimits:
    """`patience`: seconds that a send waits for floods and warm-ups, at most."""

    on_cold: OnCold = OnCold.UPLOAD
    patience: float = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class SendResult:
    """One message of the set. `error` and no `message_id` when this one did not go; `lat_ms`: milliseconds."""

    media_id: MediaId | None
    kind: Kind | None  # None for text
    message_id: MessageId | None
    cache_hit: bool
    lat_ms: float
    error: TelewarmError | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Send:
    """One message on its way."""

    live: LiveBot
    chat_id: ChatId
    caption: str | None
    options: SendOptions
    deadline: float


class Sender:
    def __init__(
        self, *, pool: Pool, lease: Lease, placements: Placements, file_ids: FileIds, limits: SendLimits
    ) -> None:
        self._pool = pool
        self._lease = lease
        self._placements = placements
        self._file_ids = file_ids
        self._limits = limits
        self._flights: WeakValueDictionary[MediaId, asyncio.Lock] = WeakValueDictionary()

    async def send(
        self,
        live: LiveBot,
        chat_id: ChatId,
        *,
        media_ids: Sequence[MediaId] = (),
        text: str | None = None,
        caption: str | None = None,
        options: SendOptions | None = None,
        on_cold: OnCold | None = None,
    ) -> list[SendResult]:
        """Audio, video, photo, the rest, then text; the caption goes with the first. One that fails stops none.

        Raises UsageError for an empty set, NotFound when the bot has no such media item; nothing is sent then.
        """
        _check(media_ids, text)
        items = await self._known(live, media_ids)
        ordered = sorted(media_ids, key=lambda media_id: ORDER.get(items[media_id], len(ORDER)))
        results = []
        for place, media_id in enumerate(ordered):
            one = _Send(
                live=live,
                chat_id=chat_id,
                caption=caption if place == 0 else None,
                options=options or SendOptions(),
                deadline=clock.monotonic() + self._limits.patience,
            )
            results.append(await self._timed(self._media(one, media_id, on_cold or self._limits.on_cold), media_id))
        if text:
            results.append(await self._timed(self._text(live, chat_id, text, options or SendOptions()), None))
        return results

    async def _known(self, live: LiveBot, media_ids: Sequence[MediaId]) -> dict[MediaId, Kind]:
        """The kind to order each item by; file ids go to the cache on the way. No query when all are cached."""
        kinds = {
            media_id: warm.kind
            for media_id in media_ids
            if (warm := self._file_ids.get(media_id)) is not None and warm.bot_id == live.bot.id
        }
        missing = [media_id for media_id in media_ids if media_id not in kinds]
        metrics.ids_read(hits=len(media_ids) - len(missing), misses=len(missing))
        if missing:
            for warm in await media.warm(self._pool, bot_id=live.bot.id, media_ids=missing):
                self._file_ids.keep(warm)
                kinds[warm.media_id] = warm.kind
        for media_id in missing:
            if media_id not in kinds:
                item = await media.get(self._pool, media_id)
                if item.bot_id != live.bot.id:
                    raise NotFound(f"media item {media_id} is not in the library of bot {live.bot.slug!r}")
                kinds[media_id] = item.kind
        return kinds

    async def _timed(self, sending: Awaitable[SendResult], media_id: MediaId | None) -> SendResult:
        started = clock.monotonic()
        try:
            result = await sending
        except TelewarmError as error:
            result = _failure(media_id, error)
        except AWAY as error:
            result = _failure(
                media_id, DatabaseUnavailable(f"the database went away ({type(error).__name__}): try again")
            )
        lat_ms = round(1000 * (clock.monotonic() - started), 1)
        return SendResult(
            media_id=media_id,
            kind=result.kind,
            message_id=result.message_id,
            cache_hit=result.cache_hit,
            lat_ms=lat_ms,
            error=result.error,
        )

    async def _text(self, live: LiveBot, chat_id: ChatId, text: str, options: SendOptions) -> SendResult:
        deadline = clock.monotonic() + self._limits.patience
        one = _Send(live=live, chat_id=chat_id, caption=None, options=options, deadline=deadline)
        sent = await _in_turn(one, lambda: live.api.send_message(chat_id, text, options=options))
        return SendResult(media_id=None, kind=None, message_id=sent.message_id, cache_hit=False, lat_ms=0.0)

    async def _media(self, one: _Send, media_id: MediaId, on_cold: OnCold) -> SendResult:
        hit = True
        while True:
            warm = self._file_ids.get(media_id)
            if warm is None:
                got = await self._get_warm(one, media_id, on_cold)
                if isinstance(got, Placed):
                    return _result(media_id, got.kind, got.message.message_id, hit=False)
                warm, hit = got, False
            try:
                return await self._by_id(one, warm, hit=hit)
            except DeadFileId:
                await self._forget(one.live, warm)
                if clock.monotonic() > one.deadline:
                    raise

    async def _by_id(self, one: _Send, warm: Warm, *, hit: bool) -> SendResult:
        sent = await _in_turn(
            one,
            lambda: one.live.api.send_media(
                warm.kind, one.chat_id, ById(file_id=warm.file_id), caption=one.caption, options=one.options
            ),
        )
        return _result(warm.media_id, sent.kind or warm.kind, sent.message_id, hit=hit)

    async def _get_warm(self, one: _Send, media_id: MediaId, on_cold: OnCold) -> Warm | Placed:
        """A file id, whoever gets it first; or the message itself, when getting the id was sending it."""
        lock = self._flights.setdefault(media_id, asyncio.Lock())
        hastened = False
        async with lock:
            while True:
                change = self._file_ids.change_of(media_id)
                warm = self._file_ids.get(media_id) or await self._read(one.live, media_id, on_cold)
                if warm is not None:
                    return warm
                if on_cold is OnCold.FAIL:
                    raise MediaNotReady(
                        f"media item {media_id} has no file id yet; ask again shortly, or send with on_cold=upload",
                        retry_after=1.0,
                    )
                if on_cold is OnCold.UPLOAD and (placed := await self._upload(one, media_id)) is not None:
                    return placed
                if not hastened:
                    hastened = True
                    await self._hasten(one.live, media_id)
                left = one.deadline - clock.monotonic()
                if not await clock.wait(change, min(left, LOOK_AGAIN)) and left <= LOOK_AGAIN:
                    raise MediaNotReady(f"media item {media_id} did not become warm in time", retry_after=1.0)

    async def _hasten(self, live: LiveBot, media_id: MediaId) -> None:
        """Somebody waits: the item's warm-up goes first."""
        async with self._pool.acquire() as connection, connection.transaction():
            if await warmups.hasten(connection, media_id):
                await wake(connection, live.bot)

    async def _read(self, live: LiveBot, media_id: MediaId, on_cold: OnCold) -> Warm | None:
        for warm in await media.warm(self._pool, bot_id=live.bot.id, media_ids=[media_id]):
            self._file_ids.keep(warm)
            return warm
        if on_cold is not OnCold.UPLOAD:
            item = await media.get(self._pool, media_id)
            if item.state is State.ERROR:
                raise MediaError(item.last_error or f"media item {media_id} is in error")
        return None

    async def _upload(self, one: _Send, media_id: MediaId) -> Placed | None:
        """Take the item in hand and send its bytes to the recipient; None when somebody else has it."""
        item = await warmups.claim_one(self._pool, bot_id=one.live.bot.id, media_id=media_id, lease_id=self._lease.id)
        if item is None:
            return None
        try:
            placed = await _in_turn(one, lambda: self._deliver(one, item), size=item.blob.facts.bytes)
        except BaseException:
            await asyncio.shield(warmups.release(self._pool, self._lease.id, [media_id]))
            raise
        self._file_ids.keep(Warm(media_id=media_id, bot_id=one.live.bot.id, file_id=placed.file_id, kind=placed.kind))
        await asyncio.shield(self._record(one.live, placed))
        return placed

    async def _record(self, live: LiveBot, placed: Placed) -> None:
        """The message has gone: nothing may fail or cancel that now."""
        for _ in range(RECORD_TRIES):
            try:
                await warmups.record_ready(
                    self._pool, [placed], lease_id=self._lease.id, telegram_id=live.bot.telegram_id
                )
            except AWAY as error:
                log.warning("[MEDIA][RECORD][RETRY]", media_id=placed.media_id, error=type(error).__name__)
                await clock.sleep(RECORD_RETRY)
            else:
                return

    async def _deliver(self, one: _Send, item: Claimed) -> Placed:
        return await self._placements.deliver(item, one.live.api, one.chat_id, caption=one.caption, options=one.options)

    async def _forget(self, live: LiveBot, warm: Warm) -> None:
        self._file_ids.drop(warm.media_id)
        async with self._pool.acquire() as connection, connection.transaction():
            if await placements.forget(connection, warm.media_id, FileId(warm.file_id)):
                log.warning("[MEDIA][FILE_ID][DEAD]", bot=live.bot.slug, media_id=warm.media_id)
                await wake(connection, live.bot)


def _check(media_ids: Sequence[MediaId], text: str | None) -> None:
    if not media_ids and not text:
        raise UsageError("there is nothing to send: give media, text, or both")
    if len(media_ids) > MOST_MEDIA:
        raise UsageError(f"at most {MOST_MEDIA} media go in one set; this one has {len(media_ids)}")


def _failure(media_id: MediaId | None, error: TelewarmError) -> SendResult:
    return SendResult(media_id=media_id, kind=None, message_id=None, cache_hit=False, lat_ms=0.0, error=error)


def _result(media_id: MediaId, kind: Kind, message_id: MessageId, *, hit: bool) -> SendResult:
    return SendResult(media_id=media_id, kind=kind, message_id=message_id, cache_hit=hit, lat_ms=0.0)


async def _in_turn(one: _Send, call: Callable[[], Awaitable[T]], *, size: int = 0) -> T:
    """Make the call when the bot's limits let it go; a flood wait is waited out, not failed, up to the deadline."""
    traffic = one.live.traffic
    while True:
        passage = await _passage(one, size)
        try:
            answer = await call()
        except FloodWait as wait:
            closed = traffic.settle(passage, now=clock.monotonic(), retry_after=wait.retry_after)
            count_flood(closed, wait.retry_after)
            if closed is not None:
                one.live.on_closed(closed)
        except TelegramRefused:
            traffic.settle(passage, now=clock.monotonic(), retry_after=None)
            raise
        except BaseException:
            traffic.abandon(passage, now=clock.monotonic())
            raise
        else:
            traffic.settle(passage, now=clock.monotonic(), retry_after=None)
            return answer


async def _passage(one: _Send, size: int) -> Passage:
    """Leave to send now, once the limits give it. Raises FloodWait when that would be after the deadline."""
    traffic = one.live.traffic
    while True:
        now = clock.monotonic()
        opens_at = traffic.opens_at(one.chat_id, size=size, now=now)
        if opens_at <= now or traffic.may_probe(one.chat_id, size=size, now=now, beyond_settings=False):
            return traffic.spend(one.chat_id, size=size, now=now)
        if opens_at > one.deadline:
            raise FloodWait(
                method="send",
                chat_id=one.chat_id,
                status=429,
                description="the bot's limits are used up",
                retry_after=round(opens_at - now, 1),
            )
        await clock.sleep(opens_at - now)
