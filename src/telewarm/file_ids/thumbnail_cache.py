"""Memory cache of thumbnails: each is read from the store once, however many bots upload it."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import structlog

from telewarm.errors import ObjectMissing
from telewarm.models import Blob
from telewarm.single_flight import SingleFlight
from telewarm.storage.object_store import BlobStore
from telewarm.telegram.files import Thumbnail

log = structlog.get_logger(__name__)

MAX_BYTES = 8 << 20  # size of the cache


class ThumbnailCache:
    """LRU cache of thumbnails."""

    def __init__(self, store: BlobStore, *, max_bytes: int = MAX_BYTES) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._bytes = 0
        self._cached: OrderedDict[str, Thumbnail] = OrderedDict()
        self._reads: SingleFlight[str, Thumbnail | None] = SingleFlight("read thumbnail")

    async def get(self, blob: Blob) -> Thumbnail | None:
        """Return a blob's thumbnail; None when it has none or it is missing: a file can be sent without.

        Raises StoreUnavailable.
        """
        key = blob.thumbnail_key
        if key is None:
            return None
        if (thumbnail := self._cached.get(key)) is not None:
            self._cached.move_to_end(key)
            return thumbnail
        return await self._reads.run(key, partial(self._read, key))

    async def _read(self, key: str) -> Thumbnail | None:
        try:
            thumbnail = b"".join([chunk async for chunk in self._store.stream(key)])
        except ObjectMissing:
            log.warning("thumbnail_missing", key=key)
            return None
        self._keep(key, thumbnail)
        return thumbnail

    def _keep(self, key: str, thumbnail: Thumbnail) -> None:
        self._cached[key] = thumbnail
        self._bytes += len(thumbnail)
        while self._bytes > self._max_bytes:
            self._bytes -= len(self._cached.popitem(last=False)[1])
