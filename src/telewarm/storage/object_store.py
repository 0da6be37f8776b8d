"""Object store: one interface for a folder and for a bucket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, assert_never
from uuid import uuid4

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from telewarm import clock
from telewarm.errors import ObjectMissing, StoreError, StoreUnavailable
from telewarm.models import Sha256
from telewarm.storage.config import FolderConfig, S3Config
from telewarm.storage.filesystem import FilesystemBackend
from telewarm.storage.put_source import FileFingerprint, PutSource
from telewarm.storage.s3 import S3Backend

if TYPE_CHECKING:
    from obstore import GetResult  # for type checkers only

MIN_UPLOAD_BYTES_PER_SECOND = 100_000  # bytes a second; slower uploads time out
PROBE_KEY = "check/look"
MIN_CHUNK_BYTES = 1 << 18  # minimum size of a stream's chunk, except for the last
LIST_PAGE_SIZE = 1000  # objects of one page
CONNECTION_RETURN_SECONDS = 0.05  # seconds for which an obstore thread may hold the interpreter after its last answer
PANIC_MESSAGE = (
    "The object storage client failed on the settings of the store: look for characters in S3_* or R2_* that do not "
    "belong there."
)
NO_RANGES_TEXT = "non-partial response"  # obstore's text


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object and the time of its last write."""

    key: str
    modified_at: datetime


def is_panic(error: BaseException) -> bool:
    """Return whether obstore's Rust code panicked, an exception that is not an Exception."""
    return type(error).__name__ in {"PanicException", "RustPanic"}


class Backend(Protocol):
    """Interface of a kind of store."""

    objects: ObjectStore

    async def put(self, key: str, content: PutSource) -> bool:
        """Write verified bytes. Returns whether they were written: False if the key held them already."""
        ...

    def presigned_get(self, key: str, *, expires: int, now: datetime) -> str | None:
        """Return a presigned URL; None if the store has none."""
        ...

    def public_url(self, key: str) -> str | None:
        """Return the public URL; None if the store has none."""
        ...

    def explain(self, error: Exception, key: str) -> StoreError:
        """Convert a foreign error."""
        ...


class BlobStore:
    """Object store of a library. All methods except the URLs raise StoreUnavailable with the remedy."""

    def __init__(self, backend: Backend, *, timeout_seconds: float) -> None:
        self._backend = backend
        self._timeout_seconds = timeout_seconds
        self._objects = backend.objects
        self._probe_written = False
        self._last_used_at = -inf  # monotonic

    @classmethod
    def open(cls, config: FolderConfig | S3Config, *, timeout_seconds: float = 30.0) -> BlobStore:
        """Open a store. Creates a folder if needed; a bucket is contacted by the first call (see `check_writable`).

        `timeout_seconds`: for a request without a body, and for the next chunk of a stream.
        """
        match config:
            case FolderConfig():
                return cls(FilesystemBackend(config), timeout_seconds=timeout_seconds)
            case S3Config():
                try:
                    return cls(S3Backend(config), timeout_seconds=timeout_seconds)
                except (BaseError, ValueError, TypeError) as error:
                    raise StoreUnavailable(f"{PANIC_MESSAGE} It says: {type(error).__name__}.") from None
            case _:
                assert_never(config)

    async def close(self) -> None:
        """Wait until obstore's threads have released the interpreter: one that holds it at exit aborts the process."""
        if (left := self._last_used_at + CONNECTION_RETURN_SECONDS - clock.monotonic()) > 0:
            await clock.sleep(left)

    async def put_file(
        self,
        key: str,
        path: Path,
        *,
        sha256: Sha256,
        bytes: int,  # noqa: A002 - our word
        fingerprint: FileFingerprint | None = None,
    ) -> bool:
        """Store a file, streamed. Returns whether it was written: False if the key held the same bytes already.

        On return the object is durable, with this size and hash: the file is hashed again unless its `fingerprint`
        holds, and the ETag proves what the server stores (each request carries the SHA-256 of its body), or reading it
        back where the ETag is not an MD5. Other bytes under the key are replaced. Raises ObjectCorrupt when the file
        has another size or hash. A folder links the file where it can, so it must not be written afterwards.
        """
        return await self._put(key, PutSource(source=path, sha256=sha256, size=bytes, fingerprint=fingerprint))

    async def put_bytes(self, key: str, data: bytes) -> bool:
        """Store a small value, verified like `put_file`. Returns whether it was written."""
        return await self._put(key, PutSource.from_bytes(data))

    async def stream(self, key: str) -> AsyncGenerator[bytes, None]:
        """Yield an object in chunks of about 256 KiB, at the reader's pace. Raises ObjectMissing."""
        async with self._as_store_error(key):
            result = await obstore.get_async(self._objects, key)
        async with aclosing(self._chunks(key, result)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def stream_range(self, key: str, *, begin: int, end: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from `begin` to before `end`, requested as a range.

        Servers with broken ranges are read from the beginning (those based on gofakes3, such as `rclone serve s3`, call
        a part the whole).
        """
        try:
            async with self._as_store_error(key):
                result = await obstore.get_async(self._objects, key, options={"range": (begin, end)})
        except StoreError as error:
            if NO_RANGES_TEXT not in str(error.__cause__):
                raise
            chunks = _slice_stream(self.stream(key), begin, end)
        else:
            chunks = self._chunks(key, result)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def _chunks(self, key: str, result: GetResult) -> AsyncGenerator[bytes, None]:
        async with self._as_store_error(key):
            first, last = result.range
            small = bytes(await result.bytes_async()) if last - first <= MIN_CHUNK_BYTES else None
        if small is not None:  # otherwise a folder is read 8 KiB at a time, at half the speed
            yield small
            return
        chunks = aiter(result.stream(min_chunk_size=MIN_CHUNK_BYTES))
        while True:
            async with self._as_store_error(key):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            yield bytes(chunk)

    async def size(self, key: str) -> int | None:
        """Return the size in bytes; None for a missing object."""
        with suppress(ObjectMissing):
            async with self._as_store_error(key):
                return (await obstore.head_async(self._objects, key))["size"]
        return None

    async def delete(self, key: str) -> None:
        """Delete an object; a missing one is no error."""
        with suppress(ObjectMissing):
            async with self._as_store_error(key):
                await obstore.delete_async(self._objects, key)

    async def list_objects(self, prefix: str) -> AsyncGenerator[list[ObjectInfo], None]:
        """Yield the objects below a prefix, in pages."""
        pages = aiter(obstore.list(self._objects, prefix, chunk_size=LIST_PAGE_SIZE))
        while True:
            async with self._as_store_error(prefix):
                page = await anext(pages, None)
            if page is None:
                return
            yield [ObjectInfo(key=meta["path"], modified_at=meta["last_modified"]) for meta in page]

    def presigned_get(self, key: str, *, expires: int, now: datetime) -> str | None:
        """Return a URL for GET, valid `expires` seconds from `now`; None for a folder. Keep it out of logs."""
        return self._backend.presigned_get(key, expires=expires, now=now)

    def public_url(self, key: str) -> str | None:
        """Return the object's permanent public URL, if the library has a public base URL."""
        return self._backend.public_url(key)

    async def check_writable(self) -> None:
        """Check the store by reading, writing and deleting a probe, within `timeout_seconds`.

        Raises StoreUnavailable with the problem and the remedy.
        """
        key = f"check/{uuid4().hex}"
        async with self._as_store_error(key):
            with suppress(ObjectMissing):  # GET first: unlike a HEAD, its response names the problem
                async for _ in self.stream(key):
                    pass
            await self.put_bytes(key, b"telewarm")
            await self.delete(key)

    async def check_readable(self) -> None:
        """Check the store by reading a small, permanent object: cheap enough for frequent checks.

        Raises StoreUnavailable with the problem and the remedy.
        """
        async with self._as_store_error(PROBE_KEY):
            if not self._probe_written or not await self._exists(PROBE_KEY):
                await self.put_bytes(PROBE_KEY, b"telewarm")  # before the first write, reading it may look forbidden
            self._probe_written = True

    async def _exists(self, key: str) -> bool:
        try:
            async for _ in self.stream(key):
                pass
        except ObjectMissing:
            return False
        return True

    async def _put(self, key: str, content: PutSource) -> bool:
        async with self._as_store_error(
            key, seconds=self._timeout_seconds + content.size / MIN_UPLOAD_BYTES_PER_SECOND
        ):
            return await self._backend.put(key, content)

    @asynccontextmanager
    async def _as_store_error(self, key: str, *, seconds: float | None = None) -> AsyncIterator[None]:
        """Convert foreign errors, and limit the time to `seconds`."""
        try:
            async with asyncio.timeout(seconds or self._timeout_seconds):
                yield
        except (BaseError, OSError) as error:
            raise self._backend.explain(error, key) from error
        except BaseException as error:
            if is_panic(error):
                raise StoreUnavailable(PANIC_MESSAGE) from None
            raise
        finally:
            self._last_used_at = clock.monotonic()


async def _slice_stream(stream: AsyncGenerator[bytes, None], begin: int, end: int) -> AsyncGenerator[bytes, None]:
    at = 0
    async with aclosing(stream):
        async for chunk in stream:
            wanted = chunk[max(0, begin - at) : max(0, end - at)]
            at += len(chunk)
            if wanted:
                yield wanted
            if at >= end:
                return
