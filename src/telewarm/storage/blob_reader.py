"""Reader of blobs, whole or in part: from the disk cache if present, else from the store."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from telewarm.errors import ObjectCorrupt
from telewarm.models import Sha256
from telewarm.storage.disk_cache import BlobCache
from telewarm.storage.object_store import MIN_CHUNK_BYTES, BlobStore
from telewarm.storage.thread_batcher import in_thread


@dataclass(frozen=True, kw_only=True, slots=True)
class BlobSource:
    """A blob to read: its hash, object key and size."""

    sha256: Sha256
    key: str
    bytes: int


class BlobReader:
    """Reads without filling the disk cache, so that no blob needed for warm-ups is evicted."""

    def __init__(self, *, store: BlobStore, disk_cache: BlobCache) -> None:
        self._store = store
        self._disk_cache = disk_cache

    async def read(self, blob: BlobSource, begin: int, end: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from `begin` to before `end`, in chunks of about 256 KiB.

        Raises ObjectMissing, StoreUnavailable; ObjectCorrupt when the object is shorter.
        """
        left = end - begin
        with self._disk_cache.pin_if_cached(blob.sha256) as file:
            chunks = self._from_store(blob, begin, end) if file is None else _file_chunks(file, begin, end)
            async with aclosing(chunks):
                async for chunk in chunks:
                    left -= len(chunk)
                    yield chunk
        if left:
            raise ObjectCorrupt(f"{blob.key} is {left} bytes too short: it is damaged. Add the file again.")

    def _from_store(self, blob: BlobSource, begin: int, end: int) -> AsyncGenerator[bytes, None]:
        if (begin, end) == (0, blob.bytes):
            return self._store.stream(blob.key)
        return self._store.stream_range(blob.key, begin=begin, end=end)


async def _file_chunks(file: int, begin: int, end: int) -> AsyncGenerator[bytes, None]:
    while chunk := await _read_chunk(file, begin, end):
        begin += len(chunk)
        yield chunk


async def _read_chunk(file: int, begin: int, end: int) -> bytes:
    return await in_thread(lambda: os.pread(file, min(MIN_CHUNK_BYTES, end - begin), begin))
