"""Resolver of file ids that are not cached: read, upload or wait. Single-flight: one upload for all callers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias
from uuid import UUID

import structlog

from telewarm import clock
from telewarm.bots.sessions import BotSession
from telewarm.database import media, warmups
from telewarm.database.connection import Pool
from telewarm.database.lane_queue import enqueue_lane
from telewarm.database.leases import ProcessLease
from telewarm.database.transient import is_transient
from telewarm.errors import MediaError, MediaNotReady, NotFound
from telewarm.idle_tracking import mark_idle
from telewarm.models import CachedFileId, ClaimedMedia, MediaId, MediaState, UploadResult
from telewarm.sending.file_id_cache import FileIdCache
from telewarm.sending.send_context import OnCold

log = structlog.get_logger(__name__)

Place: TypeAlias = Callable[[ClaimedMedia], Awaitable[UploadResult]]

POLL_SECONDS = 0.5  # seconds: who holds an item may put it back without telling
WRITE_SECONDS = 1.5  # that a caller waits until what became of an item is written down


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolveRequest:
    """A media item that somebody waits for, until a time of the monotonic clock. `place`: get its id by sending it."""

    live: BotSession
    media_id: MediaId
    on_cold: OnCold
    until: float
    place: Place


class FileIdResolver:
    def __init__(self, *, pool: Pool, lease: ProcessLease, file_ids: FileIdCache) -> None:
        self._pool = pool
        self._lease = lease
        self._file_ids = file_ids
        # Set when the search is over. Who may upload does not wait behind who may only wait.
        self._inflight: dict[tuple[MediaId, OnCold], asyncio.Event] = {}

    async def get(self, wanted: ResolveRequest) -> CachedFileId | UploadResult:
        """A file id, whoever gets it first; or what placing the item gave, when that was our doing.

        Raises MediaNotReady when it takes too long or may not take any time, MediaError, NotFound, and what `place`
        raises.
        """
        if wanted.on_cold is OnCold.FAIL:
            return await self._resolve_now(wanted)
        key = (wanted.media_id, wanted.on_cold)
        while (flight := self._inflight.get(key)) is not None:
            with mark_idle():
                landed = await clock.wait(flight, wanted.until - clock.monotonic())
            if not landed:
                raise _timed_out(wanted)
            warm = self._file_ids.get(wanted.media_id)
            if warm is not None and warm.bot_id == wanted.live.bot.id:
                return warm
        flight = self._inflight[key] = asyncio.Event()
        try:
            return await self._search(wanted)
        finally:
            del self._inflight[key]
            flight.set()

    async def _resolve_now(self, wanted: ResolveRequest) -> CachedFileId:
        if (warm := await self._read(wanted)) is not None:
            return warm
        await self._check(wanted)
        raise MediaNotReady(
            f"media item {wanted.media_id} has no file id yet; ask again shortly, or send with on_cold=upload",
            retry_after=1.0,
        )

    async def _search(self, wanted: ResolveRequest) -> CachedFileId | UploadResult:
        hastened = False
        while True:
            change = self._file_ids.change_of(wanted.media_id)
            if (warm := await self._read(wanted)) is not None:
                return warm
            if wanted.on_cold is OnCold.UPLOAD and (placed := await self._upload(wanted)) is not None:
                return placed
            await self._check(wanted)
            if not hastened:
                hastened = True
                await self._raise_priority(wanted)
            left = wanted.until - clock.monotonic()
            with mark_idle():
                changed = await clock.wait(change, min(left, POLL_SECONDS))
            if not changed and left <= POLL_SECONDS:
                raise _timed_out(wanted)

    async def _read(self, wanted: ResolveRequest) -> CachedFileId | None:
        for warm in await media.warm(self._pool, bot_id=wanted.live.bot.id, media_ids=[wanted.media_id]):
            self._file_ids.keep(warm)
            return warm
        return None

    async def _check(self, wanted: ResolveRequest) -> None:
        """Whether waiting makes sense: it may have been deleted, or given up."""
        item = await media.get(self._pool, wanted.media_id)
        if item.bot_id != wanted.live.bot.id:
            raise not_in_library(wanted.live, wanted.media_id)
        if item.state is MediaState.ERROR and wanted.on_cold is not OnCold.UPLOAD:
            raise MediaError(item.last_error or f"media item {wanted.media_id} is in error")

    async def _raise_priority(self, wanted: ResolveRequest) -> None:
        """Somebody waits: the item's warm-up goes first."""
        async with self._pool.acquire() as connection, connection.transaction():
            if await warmups.raise_priority(connection, wanted.media_id):
                await enqueue_lane(connection, wanted.live.bot)

    async def _upload(self, wanted: ResolveRequest) -> UploadResult | None:
        """Take the item in hand and place it; None when somebody else has it."""
        live, media_id = wanted.live, wanted.media_id
        lease, lease_id = self._lease, self._lease.id
        with lease.media.claiming():
            item = await warmups.claim_one(self._pool, bot_id=live.bot.id, media_id=media_id, lease_id=lease_id)
            if item is None:
                return None
            lease.media.add([media_id])
        try:
            placed = await wanted.place(item)
        except BaseException:  # why it was not placed is what the caller has to hear, whatever the release does
            release = partial(self._release, live, media_id, lease_id)
            await _settled(lease.surely(release, [media_id], name="release media"))
            raise
        self._file_ids.keep(warm_of(placed, live))
        record = partial(self._record, live, placed, lease_id)
        await _settled(lease.surely(record, [media_id], name="record file id"))
        return placed

    async def _release(self, live: BotSession, media_id: MediaId, lease_id: UUID) -> None:
        """The item is anybody's again, and its lane has it first."""
        async with self._pool.acquire() as connection, connection.transaction():
            await warmups.release(connection, lease_id, [media_id])
            await enqueue_lane(connection, live.bot)

    async def _record(self, live: BotSession, placed: UploadResult, lease_id: UUID) -> None:
        """The message has gone: nothing may fail or cancel that now."""
        try:
            await warmups.record_ready(self._pool, [placed], lease_id=lease_id, telegram_id=live.bot.telegram_id)
        except Exception as error:
            if is_transient(error):
                raise
            log.exception("media_record_failed", media_id=placed.media_id)
            await warmups.record_failed(self._pool, lease_id, [warmups.unstorable(placed.media_id, error)])


async def _settled(writing: asyncio.Task[None]) -> None:
    """Wait for it a moment: while the database is away, the caller does not."""
    await asyncio.wait([writing], timeout=WRITE_SECONDS)


def warm_of(placed: UploadResult, live: BotSession) -> CachedFileId:
    return CachedFileId(media_id=placed.media_id, bot_id=live.bot.id, file_id=placed.file_id, kind=placed.kind)


def not_in_library(live: BotSession, media_id: MediaId) -> NotFound:
    return NotFound(f"media item {media_id} is not in the library of bot {live.bot.slug!r}")


def _timed_out(wanted: ResolveRequest) -> MediaNotReady:
    return MediaNotReady(f"media item {wanted.media_id} did not become warm in time", retry_after=1.0)
