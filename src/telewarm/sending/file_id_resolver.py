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

Upload: TypeAlias = Callable[[ClaimedMedia], Awaitable[UploadResult]]

POLL_SECONDS = 0.5  # seconds; another process may release the item without a notification
MAX_WRITE_WAIT_SECONDS = 1.5  # seconds that a caller waits for the result to be written


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolveRequest:
    """Request for the file id of a media item.

    `deadline`: on the monotonic clock. `upload`: gets the id by sending bytes.
    """

    session: BotSession
    media_id: MediaId
    on_cold: OnCold
    deadline: float
    upload: Upload


class FileIdResolver:
    """Resolves file ids that the cache does not hold."""

    def __init__(self, *, pool: Pool, lease: ProcessLease, file_ids: FileIdCache) -> None:
        self._pool = pool
        self._lease = lease
        self._file_ids = file_ids
        # Set when the search is over. A caller that may upload does not wait behind one that may only wait.
        self._in_flight: dict[tuple[MediaId, OnCold], asyncio.Event] = {}

    async def get(self, request: ResolveRequest) -> CachedFileId | UploadResult:
        """Return a file id, whoever gets it first, or the result of the upload when this call made it.

        Raises MediaNotReady when it takes too long or may not take any time, MediaError, NotFound, and what `upload`
        raises.
        """
        if request.on_cold is OnCold.FAIL:
            return await self._resolve_now(request)
        key = (request.media_id, request.on_cold)
        while (flight := self._in_flight.get(key)) is not None:
            with mark_idle():
                is_done = await clock.wait(flight, request.deadline - clock.monotonic())
            if not is_done:
                raise _timed_out(request)
            warm = self._file_ids.get(request.media_id)
            if warm is not None and warm.bot_id == request.session.bot.id:
                return warm
        flight = self._in_flight[key] = asyncio.Event()
        try:
            return await self._resolve(request)
        finally:
            del self._in_flight[key]
            flight.set()

    async def _resolve_now(self, request: ResolveRequest) -> CachedFileId:
        if (warm := await self._read(request)) is not None:
            return warm
        await self._check_can_wait(request)
        raise MediaNotReady(
            f"media item {request.media_id} has no file id yet; ask again shortly, or send with on_cold=upload",
            retry_after=1.0,
        )

    async def _resolve(self, request: ResolveRequest) -> CachedFileId | UploadResult:
        prioritised = False
        while True:
            change = self._file_ids.change_event(request.media_id)
            if (warm := await self._read(request)) is not None:
                return warm
            if request.on_cold is OnCold.UPLOAD and (result := await self._upload(request)) is not None:
                return result
            await self._check_can_wait(request)
            if not prioritised:
                prioritised = True
                await self._raise_priority(request)
            left = request.deadline - clock.monotonic()
            with mark_idle():
                changed = await clock.wait(change, min(left, POLL_SECONDS))
            if not changed and left <= POLL_SECONDS:
                raise _timed_out(request)

    async def _read(self, request: ResolveRequest) -> CachedFileId | None:
        for warm in await media.file_ids(self._pool, bot_id=request.session.bot.id, media_ids=[request.media_id]):
            self._file_ids.put(warm)
            return warm
        return None

    async def _check_can_wait(self, request: ResolveRequest) -> None:
        """Check that waiting makes sense. Raises NotFound for a deleted item, MediaError for one in error."""
        item = await media.get(self._pool, request.media_id)
        if item.bot_id != request.session.bot.id:
            raise not_in_library(request.session, request.media_id)
        if item.state is MediaState.ERROR and request.on_cold is not OnCold.UPLOAD:
            raise MediaError(item.last_error or f"media item {request.media_id} is in error")

    async def _raise_priority(self, request: ResolveRequest) -> None:
        """Raise the priority of the item's warm-up, because a caller waits for it."""
        async with self._pool.acquire() as connection, connection.transaction():
            if await warmups.raise_priority(connection, request.media_id):
                await enqueue_lane(connection, request.session.bot)

    async def _upload(self, request: ResolveRequest) -> UploadResult | None:
        """Claim the item and upload it; None when another process has claimed it."""
        session, media_id = request.session, request.media_id
        lease, lease_id = self._lease, self._lease.id
        with lease.media.claiming():
            item = await warmups.claim_one(self._pool, bot_id=session.bot.id, media_id=media_id, lease_id=lease_id)
            if item is None:
                return None
            lease.media.add([media_id])
        try:
            result = await request.upload(item)
        except BaseException:  # the caller gets the upload's error, whatever the release does
            release = partial(self._release, session, media_id, lease_id)
            await _wait_briefly(lease.write_until_done(release, [media_id], name="release media"))
            raise
        self._file_ids.put(to_cached_file_id(result, session))
        record = partial(self._record, session, result, lease_id)
        await _wait_briefly(lease.write_until_done(record, [media_id], name="record file id"))
        return result

    async def _release(self, session: BotSession, media_id: MediaId, lease_id: UUID) -> None:
        """Release the item, and enqueue the lane, which will take it first."""
        async with self._pool.acquire() as connection, connection.transaction():
            await warmups.release(connection, lease_id, [media_id])
            await enqueue_lane(connection, session.bot)

    async def _record(self, session: BotSession, result: UploadResult, lease_id: UUID) -> None:
        """Record the file id. The message is sent: nothing may fail or cancel that any more."""
        try:
            await warmups.record_ready(self._pool, [result], lease_id=lease_id, telegram_id=session.bot.telegram_id)
        except Exception as error:
            if is_transient(error):
                raise
            log.exception("media_record_failed", media_id=result.media_id)
            await warmups.record_failed(self._pool, lease_id, [warmups.unstorable_failure(result.media_id, error)])


async def _wait_briefly(writing: asyncio.Task[None]) -> None:
    """Wait for a write, but not for as long as the database may be unavailable."""
    await asyncio.wait([writing], timeout=MAX_WRITE_WAIT_SECONDS)


def to_cached_file_id(result: UploadResult, session: BotSession) -> CachedFileId:
    """Convert the result of an upload."""
    return CachedFileId(media_id=result.media_id, bot_id=session.bot.id, file_id=result.file_id, kind=result.kind)


def not_in_library(session: BotSession, media_id: MediaId) -> NotFound:
    """Create the error for an item that another bot owns."""
    return NotFound(f"media item {media_id} is not in the library of bot {session.bot.slug!r}")


def _timed_out(request: ResolveRequest) -> MediaNotReady:
    return MediaNotReady(f"media item {request.media_id} did not become warm in time", retry_after=1.0)
