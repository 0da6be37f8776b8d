"""Media library of a bot: add, list, re-warm, share, rename, delete, and find or create an item's document twin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import structlog
from msgspec import structs

from telewarm.database import blobs, deletions, media, media_search, queue_priority
from telewarm.database.connection import Pool
from telewarm.database.deletions import DeletionResult
from telewarm.database.lane_queue import enqueue_lane
from telewarm.database.media import RewarmScope
from telewarm.database.media_search import MediaFilters, MediaPage
from telewarm.errors import NotFound, UsageError
from telewarm.fetch import Fetcher
from telewarm.media.ingest import IngestResult, LibraryLimits, MediaIngest, log_queued
from telewarm.media.names import name_of, old_name_note, shows_old_name
from telewarm.models import Bot, Kind, MediaId, MediaItem, MessageSet, Part
from telewarm.probe import Probe, check_size
from telewarm.storage.disk_cache import BlobCache
from telewarm.storage.incoming_file import IncomingFile
from telewarm.storage.object_store import BlobStore

log = structlog.get_logger(__name__)

CHUNK_BYTES = 1 << 20  # bytes read from a file at once
MAX_NAMED_ITEMS = 10_000  # media items in one call


class MediaLibrary:
    """Media of all bots."""

    def __init__(
        self,
        *,
        pool: Pool,
        store: BlobStore,
        disk_cache: BlobCache,
        probe: Probe,
        fetcher: Fetcher,
        limits: LibraryLimits,
    ) -> None:
        self._pool = pool
        self._disk_cache = disk_cache
        self.probe = probe
        self._ingest = MediaIngest(pool=pool, store=store, disk_cache=disk_cache, probe=probe, limits=limits)
        self._fetcher = fetcher
        self._max_bytes = limits.max_bytes

    @asynccontextmanager
    async def receive(self) -> AsyncIterator[IncomingFile]:
        """Receive a stream of bytes. A file that is not added is deleted at the end."""
        async with self._disk_cache.receive() as incoming:
            yield incoming

    async def write(self, incoming: IncomingFile, chunk: bytes) -> None:
        """Write received bytes. Raises MediaRuleViolation when the file becomes too large."""
        check_size(incoming.bytes + len(chunk), largest=self._max_bytes)
        await incoming.write(chunk)

    async def add(
        self, bot: Bot, incoming: IncomingFile, *, kind: Kind | None = None, name: str | None = None
    ) -> IngestResult:
        """Store a received file and have it warmed. Durable on return.

        `kind` None: the natural kind of the bytes, or a document; `note` has the reason. Raises UnreadableMedia,
        MediaRuleViolation, StoreError, and for a requested kind DecoderFailed; nothing is stored then.
        """
        return await self._ingest.add(bot, incoming, kind=kind, name=name)

    async def add_file(
        self,
        bot: Bot,
        path: Path,
        *,
        kind: Kind | None = None,
        name: str | None = None,
        on_read: Callable[[int], None] = lambda _: None,
    ) -> IngestResult:
        """Add a file from disk; its own name is shown unless `name` replaces it.

        `on_read`: called with the number of bytes read. Raises OSError too. A file that is too large is refused unread.
        """
        try:
            status = await asyncio.to_thread(path.stat)
        except ValueError:
            raise UsageError("the path holds a character that no path can have: give the path of a file") from None
        check_size(status.st_size, largest=self._max_bytes)
        with await asyncio.to_thread(path.open, "rb") as file:
            async with self.receive() as incoming:
                while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    await self.write(incoming, chunk)
                    on_read(len(chunk))
                return await self.add(bot, incoming, kind=kind, name=name or path.name)

    async def add_url(self, bot: Bot, url: str, *, kind: Kind | None = None, name: str | None = None) -> IngestResult:
        """Add a file from the web, which is fetched once. Of its URL only the file name is stored.

        Raises FetchError too: UrlNotAllowed for an address that is not public http(s), FileTooLarge before the end.
        """
        async with self.receive() as incoming:
            async with self._fetcher.get(url, max_bytes=self._max_bytes) as download:
                async for chunk in download.chunks:
                    await incoming.write(chunk)
            log.info("media_fetched", bot=bot.slug, host=download.host, bytes=incoming.bytes)
            return await self.add(bot, incoming, kind=kind, name=name or download.name)

    async def as_files(self, bot: Bot, message: MessageSet) -> MessageSet:
        """Return the message set with documents for the parts that are to be sent as files. Raises NotFound."""
        return await with_documents(self._pool, bot, message)

    async def page(
        self, bot: Bot, filters: MediaFilters | None = None, *, before: MediaId | None = None, limit: int = 100
    ) -> MediaPage:
        """Return a bot's newest matching media, older than `before`. Continue with the page's `next` until it is None.

        A text search examines a bounded number of items, so a page may hold fewer than `limit`, or none.
        """
        return await media_search.page(self._pool, bot.id, filters or MediaFilters(), before=before, limit=limit)

    async def page_at(self, bot: Bot, filters: MediaFilters, *, offset: int, limit: int = 100) -> MediaPage:
        """Return a page by offset, for filters by kind and state alone. The cost grows with the offset."""
        items, count = await media.page(
            self._pool, bot_id=bot.id, kind=filters.kind, state=filters.state, limit=limit + 1, offset=offset
        )
        shown = items[:limit]
        return MediaPage(items=shown, next=shown[-1].id if len(items) > limit else None, count=count)

    async def rename(self, media_id: MediaId, name: str | None, *, rewarm: Bot | None = None) -> MediaItem:
        """Rename an item in the library.

        A file id keeps the name of its upload (`sent_name`), so recipients see the new one after a rewarm. `rewarm`:
        the item's bot, to request that where it has an effect. `note` says what recipients see. Raises NotFound.
        """
        item = await media.rename(self._pool, media_id, name_of(name))
        if not shows_old_name(item):
            return item
        if rewarm is not None:
            item = await self.rewarm(rewarm, media_id)
        return replace(item, note=old_name_note(item))

    async def delete(self, bot: Bot, media_ids: Sequence[MediaId]) -> DeletionResult:
        """Delete media; those that the bot does not have are skipped. Warm-ups in flight do not restore them.

        Raises Conflict, with nothing deleted, when an unfinished broadcast needs one of them; UsageError for more than
        10,000. Unreferenced blobs are collected within the hour.
        """
        _check_count(media_ids)
        async with self._pool.acquire() as connection, connection.transaction():
            removed = await deletions.delete_media(connection, bot.id, sorted(set(media_ids)))
        log.info("media_deleted", bot=bot.slug, items=len(removed.media_ids), blobs=removed.blobs)
        return removed

    async def rewarm(self, bot: Bot, media_id: MediaId) -> MediaItem:
        """Warm one item again, by upload and before others. Its present file id is used meanwhile."""
        async with self._pool.acquire() as connection, connection.transaction():
            due = await media.rewarm(connection, {media_id: queue_priority.EXPLICIT_OFFSET_MS})
            if due:
                await enqueue_lane(connection, bot)
        item = await media.get(self._pool, media_id)
        if due:
            log_queued(bot, item)
        return item

    async def rewarm_selected(self, bot: Bot, media_ids: Sequence[MediaId]) -> tuple[int, Sequence[MediaId]]:
        """Warm several of a bot's media again, in two statements.

        Returns how many are due by it, and which of them exist. Raises UsageError for more than 10,000.
        """
        _check_count(media_ids)
        async with self._pool.acquire() as connection, connection.transaction():
            found = await media.owned(connection, bot.id, media_ids)
            due = (
                await media.rewarm(connection, dict.fromkeys(found, queue_priority.EXPLICIT_OFFSET_MS)) if found else 0
            )
            if due:
                await enqueue_lane(connection, bot)
        log.info("media_rewarm_queued", bots=1, which="named", items=due)
        return due, found

    async def rewarm_all(self, bots: Sequence[Bot], which: RewarmScope) -> int:
        """Warm media again: those in error, or all. Returns how many items of these bots are due by it.

        A few statements for ten thousand, effective as they are written: an interrupted call has done a part.
        """
        total = 0
        for bot in bots:
            after: MediaId | None = MediaId(0)
            while after is not None:
                async with self._pool.acquire() as connection, connection.transaction():
                    due, after = await media.rewarm_next(connection, bot_id=bot.id, scope=which, after=after)
                    if due:
                        await enqueue_lane(connection, bot)
                total += due
        log.info("media_rewarm_queued", bots=len(bots), which=which, items=total)
        return total

    async def share(self, source: Bot, target: Bot, media_ids: Sequence[MediaId] | None = None) -> int:
        """Add media of one bot, all by default, to another's library; the bytes are not copied.

        Returns how many were new there; these are due. In statements as `rewarm_selected`.
        """
        total, after = 0, MediaId(0) if media_ids is None or media_ids else None
        while after is not None:
            async with self._pool.acquire() as connection, connection.transaction():
                new, after = await media.share_next(
                    connection, source=source.id, target=target.id, after=after, media_ids=media_ids
                )
                if new:
                    await enqueue_lane(connection, target)
            total += new
        log.info("media_shared", bot=target.slug, source=source.slug, items=total)
        return total


def _check_count(media_ids: Sequence[MediaId]) -> None:
    if len(media_ids) > MAX_NAMED_ITEMS:
        raise UsageError(f"{len(media_ids)} media items are named; name at most {MAX_NAMED_ITEMS} at once")


async def with_documents(pool: Pool, bot: Bot, message: MessageSet) -> MessageSet:
    """Return the message set with documents for the parts that ask for files; missing document items are created.

    Raises NotFound for an item that the bot does not have.
    """
    if not message.as_file and not any(part.as_file for part in message.media):
        return message
    parts = [
        structs.replace(part, media_id=await _document(pool, bot, part), as_file=False)
        if message.as_file or part.as_file
        else part
        for part in message.media
    ]
    return structs.replace(message, media=tuple(parts), as_file=False)


async def _document(pool: Pool, bot: Bot, part: Part) -> MediaId:
    item = await media.get(pool, part.media_id)
    if item.bot_id != bot.id:
        raise NotFound(f"media item {part.media_id} is not in the library of bot {bot.slug!r}")
    if item.kind is Kind.DOCUMENT:
        return item.id
    blob = await blobs.get(pool, item.sha256)
    if blob is not None:
        async with pool.acquire() as connection, connection.transaction():
            handicap = queue_priority.priority_offset(blob.facts.bytes)
            inserted = await media.insert(
                connection, bot_id=bot.id, blob=blob, kind=Kind.DOCUMENT, name=item.name, priority_offset=handicap
            )
            if inserted is not None:
                await enqueue_lane(connection, bot)
                return inserted.item.id
    document = await media.find(pool, bot_id=bot.id, sha256=item.sha256, kind=Kind.DOCUMENT)
    if document is None:
        raise NotFound(f"media item {part.media_id} was deleted in this moment: add its file again")
    return document.id
