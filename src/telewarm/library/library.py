"""Media in: stream, hash, probe, store, and into a bot's library in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from telewarm.database import blobs, media, order
from telewarm.database.connection import Pool
from telewarm.database.media import Which
from telewarm.errors import RuleBroken, UnreadableMedia
from telewarm.lanes import wake
from telewarm.model import Blob, Bot, Kind, MediaId, MediaItem, Sha256, State
from telewarm.probe import Probe, check, natural_kind, wants_thumbnail
from telewarm.store import Incoming, Spool, Store, blob_key, thumbnail_key

log = structlog.get_logger(__name__)

CHUNK = 1 << 20  # bytes read from a file at once


@dataclass(frozen=True, kw_only=True, slots=True)
class Added:
    """`created`: False when the bot had these bytes as this kind already; nothing was uploaded then."""

    item: MediaItem
    created: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class LibraryLimits:
    """`largest`: bytes that a file may have here. `local_server`: Telegram's rules for a local Bot API server apply."""

    largest: int
    local_server: bool


class Library:
    def __init__(self, *, pool: Pool, store: Store, spool: Spool, probe: Probe, limits: LibraryLimits) -> None:
        self._pool = pool
        self._store = store
        self._spool = spool
        self._probe = probe
        self._limits = limits

    @asynccontextmanager
    async def receive(self) -> AsyncIterator[Incoming]:
        """A place for bytes that stream in. Leaving without `add` forgets them."""
        async with self._spool.receive() as incoming:
            yield incoming

    async def add(self, bot: Bot, incoming: Incoming, *, kind: Kind | None = None, name: str | None = None) -> Added:
        """Keep what was received and have it warmed. Durable when it returns.

        `kind` None: what the bytes are by nature. Raises UnreadableMedia, RuleBroken, StoreError; nothing is kept then.
        """
        if incoming.bytes > self._limits.largest:
            raise RuleBroken(
                rule=f"a file has at most {self._limits.largest} bytes here",
                measured=f"more than {self._limits.largest} bytes",
                cure="Send a smaller file, or raise TELEWARM_MAX_UPLOAD_BYTES.",
            )
        sha256 = incoming.sha256
        here = kind and await media.find(self._pool, bot_id=bot.id, sha256=sha256, kind=kind)
        if here and here.state in {State.READY, State.WARMING}:
            return Added(item=here, created=False)
        blob = await blobs.get(self._pool, sha256)
        facts = blob.facts if blob is not None else await self._probe.facts(incoming.path, kind=kind)
        kind = kind or natural_kind(facts)
        check(facts, kind, local_server=self._limits.local_server)
        if blob is None:
            blob = Blob(sha256=sha256, storage_key=blob_key(sha256, facts.ext), thumbnail_key=None, facts=facts)
            await self._put(blob, incoming)
        elif await self._store.size(blob.storage_key) is None:  # gone from the store: adding it again is the cure
            await self._put(blob, incoming)
        if blob.thumbnail_key is None and wants_thumbnail(kind, facts):
            blob = await self._with_thumbnail(blob, incoming)
        await self._spool.adopt(incoming, sha256)
        return await self._insert(bot, blob, kind, name)

    async def add_file(self, bot: Bot, path: Path, *, kind: Kind | None = None, name: str | None = None) -> Added:
        """`add` for a file on disk; its own name is shown unless `name` says another. Raises OSError too."""
        with await asyncio.to_thread(path.open, "rb") as file:
            async with self.receive() as incoming:
                while chunk := await asyncio.to_thread(file.read, CHUNK):
                    await incoming.write(chunk)
                return await self.add(bot, incoming, kind=kind, name=name or path.name)

    async def rewarm(self, bot: Bot, media_id: MediaId) -> MediaItem:
        """Warm one item anew, by upload and before others. If it has a file id, it is sent by that meanwhile."""
        async with self._pool.acquire() as connection, connection.transaction():
            due = await media.rewarm(connection, {media_id: order.EXPLICIT})
            if due:
                await wake(connection, bot)
        item = await media.get(self._pool, media_id)
        if due:
            _tell_queued(bot, item)
        return item

    async def rewarm_many(self, bots: Sequence[Bot], which: Which) -> int:
        """Warm anew what is in error, or all; how many items of these bots are due by it. A few statements for ten
        thousand, which are on their way as soon as they are written: broken off, what was done stays done."""
        total = 0
        for bot in bots:
            after: MediaId | None = MediaId(0)
            while after is not None:
                async with self._pool.acquire() as connection, connection.transaction():
                    due, after = await media.rewarm_some(connection, bot_id=bot.id, which=which, after=after)
                    if due:
                        await wake(connection, bot)
                total += due
        log.info("[MEDIA][REWARM]", bots=len(bots), which=which, items=total)
        return total

    async def share(self, source: Bot, target: Bot, media_ids: Sequence[MediaId] | None = None) -> int:
        """Put media of one bot, all by default, into another's library too: the bytes stay where they are.

        How many were new there; they are due. In statements as `rewarm_many`.
        """
        total, after = 0, MediaId(0) if media_ids is None or media_ids else None
        while after is not None:
            async with self._pool.acquire() as connection, connection.transaction():
                new, after = await media.share_some(
                    connection, source=source.id, target=target.id, after=after, media_ids=media_ids
                )
                if new:
                    await wake(connection, target)
            total += new
        log.info("[MEDIA][SHARED]", bot=target.slug, source=source.slug, items=total)
        return total

    async def _put(self, blob: Blob, incoming: Incoming) -> None:
        await self._store.put_file(blob.storage_key, incoming.path, sha256=blob.sha256, bytes=incoming.bytes)

    async def _with_thumbnail(self, blob: Blob, incoming: Incoming) -> Blob:
        """A thumbnail is nice to have: a file without one is taken all the same."""
        try:
            thumbnail = await self._probe.thumbnail(incoming.path, blob.facts)
        except UnreadableMedia as error:
            log.info("[MEDIA][THUMBNAIL][NONE]", sha256=blob.sha256, error=error.message)
            return blob
        if thumbnail is None:
            return blob
        key = thumbnail_key(blob.sha256)
        await self._store.put_bytes(key, thumbnail)
        return replace(blob, thumbnail_key=key, thumbnail_bytes=len(thumbnail))

    async def _insert(self, bot: Bot, blob: Blob, kind: Kind, name: str | None) -> Added:
        async with self._pool.acquire() as connection, connection.transaction():
            inserted = await media.insert(
                connection, bot_id=bot.id, blob=blob, kind=kind, name=name, handicap=order.handicap(blob.facts.bytes)
            )
            if inserted is not None:
                await wake(connection, bot)
        item = await self._item(bot, blob.sha256, kind)
        if inserted is not None:
            _tell_queued(bot, item)
        return Added(item=item, created=inserted is not None and inserted[1])

    async def _item(self, bot: Bot, sha256: Sha256, kind: Kind) -> MediaItem:
        item = await media.find(self._pool, bot_id=bot.id, sha256=sha256, kind=kind)
        assert item is not None  # noqa: S101 - inserted or found a moment ago
        return item


def _tell_queued(bot: Bot, item: MediaItem) -> None:
    facts = {"media_id": item.id, "kind": item.kind, "bytes": item.facts.bytes, "attempts": item.attempts}
    log.info("[MEDIA][PREWARM][QUEUED]", bot=bot.slug, **facts)
