"""Cache of thumbnails in memory: each is read from the store once, however many bots upload it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from weakref import WeakValueDictionary

import structlog

from telewarm.errors import ObjectMissing
from telewarm.models import Blob
from telewarm.storage.object_store import BlobStore
from telewarm.telegram.files import Thumbnail

log = structlog.get_logger(__name__)

MOST = 8 << 20  # bytes kept


class ThumbnailCache:
    def __init__(self, store: BlobStore, *, most: int = MOST) -> None:
        self._store = store
        self._most = most
        self._bytes = 0
        self._kept: OrderedDict[str, Thumbnail] = OrderedDict()
        self._reading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def of(self, blob: Blob) -> Thumbnail | None:
        """None when there is none, or it is gone: a file goes up without, too. Raises StoreUnavailable."""
        return None if blob.thumbnail_key is None else await self._get(blob.thumbnail_key)

    async def _get(self, key: str) -> Thumbnail | None:
        lock = self._reading.setdefault(key, asyncio.Lock())
        async with lock:
            thumbnail = self._kept.get(key)
            if thumbnail is not None:
                self._kept.move_to_end(key)
                return thumbnail
            try:
                thumbnail = b"".join([chunk async for chunk in self._store.stream(key)])
            except ObjectMissing:
                log.warning("thumbnail_missing", key=key)
                return None
            self._keep(key, thumbnail)
            return thumbnail

    def _keep(self, key: str, thumbnail: Thumbnail) -> None:
        self._kept[key] = thumbnail
        self._bytes += len(thumbnail)
        while self._bytes > self._most:
            self._bytes -= len(self._kept.popitem(last=False)[1])
