"""Previews of media items: the file, or a thumbnail."""

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
from telewarm.media.content_policy import PreviewContent, preview_type
from telewarm.models import MediaItem, Sha256
from telewarm.probe import Probe, filename_for
from telewarm.storage.blob_reader import BlobReader, BlobSource
from telewarm.storage.disk_cache import BlobCache
from telewarm.storage.object_store import BlobStore

log = structlog.get_logger(__name__)

MAX_OWN_THUMBNAIL_BYTES: Final = (
    64 << 10
)  # bytes of a picture that serves as its own thumbnail: drawing one would cost more than it saves
MAX_DRAWN_BYTES: Final = 20 << 20  # bytes of a file, which is read as a whole for its thumbnail
MAX_CACHED_THUMBNAILS: Final = 500  # cached thumbnails, of about 20 kB each; None: the file cannot be drawn


class PreviewService:
    """Provides previews."""

    def __init__(self, *, pool: Pool, store: BlobStore, disk_cache: BlobCache, probe: Probe) -> None:
        self._pool = pool
        self._disk_cache = disk_cache
        self._probe = probe
        self._reader = BlobReader(store=store, disk_cache=disk_cache)
        self._stored_thumbnails = ThumbnailCache(store)
        self._drawn_thumbnails: OrderedDict[Sha256, bytes | None] = OrderedDict()
        self._draw_lock = asyncio.Lock()

    def file(self, item: MediaItem) -> PreviewContent:
        """Return the file itself."""
        mime, inline = preview_type(item.facts.mime)
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
        """Return a thumbnail; a small picture is its own.

        Raises NotFound when nothing can be shown; ObjectMissing, StoreUnavailable.
        """
        if (
            item.facts.mime.startswith("image/")
            and item.facts.bytes <= MAX_OWN_THUMBNAIL_BYTES
            and preview_type(item.facts.mime)[1]
        ):
            return self.file(item)
        blob = await blobs.get(self._pool, item.sha256)
        picture = await self._stored_thumbnails.get(blob) if blob is not None else None
        if picture is None:
            picture = await self._get_or_draw(item)
        return PreviewContent(
            mime="image/jpeg",
            inline=True,
            name=f"thumbnail-{item.id}.jpg",
            bytes=len(picture),
            tag=f"{item.sha256}-thumbnail",
            read=partial(_read_range, picture),
        )

    async def _get_or_draw(self, item: MediaItem) -> bytes:
        if item.facts.mime.partition("/")[0] not in {"image", "video"} or item.facts.bytes > MAX_DRAWN_BYTES:
            raise _no_thumbnail(item)
        if item.sha256 not in self._drawn_thumbnails:
            async with self._disk_cache.open(item.sha256, item.storage_key) as path, self._draw_lock:
                if item.sha256 not in self._drawn_thumbnails:  # one at a time: the ingest needs the probe, too
                    self._keep(item.sha256, await self._draw(path, item))
        self._drawn_thumbnails.move_to_end(item.sha256)
        if (picture := self._drawn_thumbnails[item.sha256]) is None:
            raise _no_thumbnail(item)
        return picture

    async def _draw(self, path: Path, item: MediaItem) -> bytes | None:
        try:
            return await self._probe.thumbnail(path, item.facts)
        except (UnreadableMedia, DecoderFailed) as error:
            log.info("thumbnail_failed", media_id=item.id, error=error.message)
            return None

    def _keep(self, sha256: Sha256, picture: bytes | None) -> None:
        self._drawn_thumbnails[sha256] = picture
        if len(self._drawn_thumbnails) > MAX_CACHED_THUMBNAILS:
            self._drawn_thumbnails.popitem(last=False)


async def _read_range(data: bytes, begin: int, end: int) -> AsyncGenerator[bytes, None]:
    yield data[begin:end]


def _no_thumbnail(item: MediaItem) -> NotFound:
    return NotFound(f"media item {item.id} has no thumbnail: look at the file itself, without thumbnail=1")
