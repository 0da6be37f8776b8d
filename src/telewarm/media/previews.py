"""Previews of media items."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from telewarm.database import blobs
from telewarm.database.connection import Pool
from telewarm.errors import DecoderFailed, NotFound, UnreadableMedia
from telewarm.file_ids.thumbnail_cache import ThumbnailCache
from telewarm.media.content_policy import PreviewContent, shown_as
from telewarm.models import MediaItem, Sha256
from telewarm.probe import Probe, filename_for
from telewarm.storage.blob_reader import BlobReader, BlobSource
from telewarm.storage.disk_cache import BlobCache
from telewarm.storage.object_store import BlobStore

log = structlog.get_logger(__name__)

SMALL: Final = 64 << 10  # bytes of a picture that is its own thumbnail: to make one would cost more than it saves
LARGE: Final = 20 << 20  # bytes of a file that no thumbnail is made of: it would be read as a whole
KEPT: Final = 500  # thumbnails made here and kept in memory, of about 20 kB; None: it cannot be drawn


class PreviewService:
    def __init__(self, *, pool: Pool, store: BlobStore, spool: BlobCache, probe: Probe) -> None:
        self._pool = pool
        self._spool = spool
        self._probe = probe
        self._reader = BlobReader(store=store, spool=spool)
        self._stored = ThumbnailCache(store)
        self._made: OrderedDict[Sha256, bytes | None] = OrderedDict()
        self._turn = asyncio.Lock()

    def file(self, item: MediaItem) -> PreviewContent:
        """The file itself."""
        mime, inline = shown_as(item.facts.mime)
        source = BlobSource(sha256=item.sha256, key=item.storage_key, bytes=item.facts.bytes)
        return PreviewContent(
            mime=mime,
            inline=inline,
            name=filename_for(item.name, item.facts, item.kind),
            bytes=item.facts.bytes,
            tag=item.sha256,
            read=partial(self._reader.read, source),
        )

    async def thumbnail(self, item: MediaItem) -> PreviewContent:
        """A small picture of it; a picture that is small already is its own.

        Raises NotFound when there is nothing to see in it; ObjectMissing, StoreUnavailable.
        """
        if item.facts.mime.startswith("image/") and item.facts.bytes <= SMALL and shown_as(item.facts.mime)[1]:
            return self.file(item)
        blob = await blobs.get(self._pool, item.sha256)
        picture = await self._stored.of(blob) if blob is not None else None
        if picture is None:
            picture = await self._drawn(item)
        return PreviewContent(
            mime="image/jpeg",
            inline=True,
            name=f"thumbnail-{item.id}.jpg",
            bytes=len(picture),
            tag=f"{item.sha256}-thumbnail",
            read=partial(_part_of, picture),
        )

    async def _drawn(self, item: MediaItem) -> bytes:
        if item.facts.mime.partition("/")[0] not in {"image", "video"} or item.facts.bytes > LARGE:
            raise _nothing_to_see(item)
        if item.sha256 not in self._made:
            async with self._spool.open(item.sha256, item.storage_key) as path, self._turn:
                if item.sha256 not in self._made:  # one at a time: files that come in need the probe too
                    self._keep(item.sha256, await self._draw(path, item))
        self._made.move_to_end(item.sha256)
        if (picture := self._made[item.sha256]) is None:
            raise _nothing_to_see(item)
        return picture

    async def _draw(self, path: Path, item: MediaItem) -> bytes | None:
        try:
            return await self._probe.thumbnail(path, item.facts)
        except (UnreadableMedia, DecoderFailed) as error:
            log.info("thumbnail_failed", media_id=item.id, error=error.message)
            return None

    def _keep(self, sha256: Sha256, picture: bytes | None) -> None:
        self._made[sha256] = picture
        if len(self._made) > KEPT:
            self._made.popitem(last=False)


async def _part_of(data: bytes, begin: int, end: int) -> AsyncGenerator[bytes, None]:
    yield data[begin:end]


def _nothing_to_see(item: MediaItem) -> NotFound:
    return NotFound(f"media item {item.id} has no thumbnail: look at the file itself, without thumbnail=1")
