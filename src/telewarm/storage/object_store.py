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
    from obstore import GetResult  # exists for type checkers only

SLOWEST = 100_000  # bytes a second that an upload is given
CHECK_TTL_SECONDS = "check/look"
CHUNK = 1 << 18  # bytes at least in a chunk of a stream, but for the last
LIST = 1000  # objects of one page
CONNECTION_RETURN_SECONDS = (
    0.05  # seconds after its last answer in which a thread of obstore's still holds the interpreter
)
PANICKED = (
    "The object storage client failed on the settings of the store: look for characters in S3_* or R2_* that do not "
    "belong there."
)
NO_RANGES = "non-partial response"  # obstore's words


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object, and when it was written."""

    key: str
    at: datetime


def is_panic(error: BaseException) -> bool:
    """Whether obstore's Rust gave up, which Python sees as an exception that is no Exception."""
    return type(error).__name__ in {"PanicException", "RustPanic"}


class Backend(Protocol):
    """What differs between kinds of library."""

    objects: ObjectStore

    async def put(self, key: str, content: PutSource) -> bool: ...
    def presigned_get(self, key: str, *, expires: int, now: datetime) -> str | None: ...
    def public_url(self, key: str) -> str | None: ...
    def explain(self, error: Exception, key: str) -> StoreError: ...


class BlobStore:
    """A library's objects. Every method but the URLs may raise StoreUnavailable, with its cure."""

    def __init__(self, backend: Backend, *, answer: float) -> None:
        self._backend = backend
        self._answer = answer
        self._objects = backend.objects
        self._seen = False
        self._answered_at = -inf  # monotonic

    @classmethod
    def open(cls, config: FolderConfig | S3Config, *, answer: float = 30.0) -> BlobStore:
        """Makes a folder when there is none; a bucket is not spoken to before the first call (see `check`).

        `answer`: seconds for a request without a body, and for the next chunk of a stream.
        """
        match config:
            case FolderConfig():
                return cls(FilesystemBackend(config), answer=answer)
            case S3Config():
                try:
                    return cls(S3Backend(config), answer=answer)
                except (BaseError, ValueError, TypeError) as error:
                    raise StoreUnavailable(f"{PANICKED} It says: {type(error).__name__}.") from None
            case _:
                assert_never(config)

    async def close(self) -> None:
        """Let obstore's threads hand back the interpreter: one that still holds it when the process ends aborts it."""
        if (left := self._answered_at + CONNECTION_RETURN_SECONDS - clock.monotonic()) > 0:
            await clock.sleep(left)

    async def put_file(
        self,
        key: str,
        path: Path,
        *,
        sha256: Sha256,
        bytes: int,  # noqa: A002 - our word
        seal: FileFingerprint | None = None,
    ) -> bool:
        """Store a file, streamed. Whether it was written: False if the key held the same bytes already.

        When it returns, the object is there, durable, with this size and hash: the file is hashed again, unless its
        `seal` is whole, and what the server holds is proven by its ETag (each request also carries the SHA-256 of its
        body), or by reading it back where the ETag is no MD5. Other bytes under the key are replaced. ObjectCorrupt:
        the file is not what it was said to be. A folder links the file instead of copying it where it can, so it must
        not be written to afterwards.
        """
        return await self._put(key, PutSource(source=path, sha256=sha256, size=bytes, seal=seal))

    async def put_bytes(self, key: str, data: bytes) -> bool:
        """Store a small value, proven like `put_file`. Whether it was written."""
        return await self._put(key, PutSource.of(data))

    async def stream(self, key: str) -> AsyncGenerator[bytes, None]:
        """An object's bytes in chunks of about 256 KiB, as fast as they are taken. ObjectMissing."""
        async with self._as_store_error(key):
            result = await obstore.get_async(self._objects, key)
        async with aclosing(self._chunks(key, result)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def part(self, key: str, *, begin: int, end: int) -> AsyncGenerator[bytes, None]:
        """As `stream`, only the bytes from `begin` to before `end`, which are asked for as a range.

        Of a server whose ranges are broken all is read up to there (those built on gofakes3, `rclone serve s3` among
        them, call a part the whole).
        """
        try:
            async with self._as_store_error(key):
                result = await obstore.get_async(self._objects, key, options={"range": (begin, end)})
        except StoreError as error:
            if NO_RANGES not in str(error.__cause__):
                raise
            chunks = _cut(self.stream(key), begin, end)
        else:
            chunks = self._chunks(key, result)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def _chunks(self, key: str, result: GetResult) -> AsyncGenerator[bytes, None]:
        async with self._as_store_error(key):
            first, last = result.range
            small = bytes(await result.bytes_async()) if last - first <= CHUNK else None
        if small is not None:  # a folder is read 8 KiB at a time otherwise: at half the speed
            yield small
            return
        chunks = aiter(result.stream(min_chunk_size=CHUNK))
        while True:
            async with self._as_store_error(key):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            yield bytes(chunk)

    async def size(self, key: str) -> int | None:
        """Bytes; None when there is no such object."""
        with suppress(ObjectMissing):
            async with self._as_store_error(key):
                return (await obstore.head_async(self._objects, key))["size"]
        return None

    async def delete(self, key: str) -> None:
        """Deleting what is not there is fine."""
        with suppress(ObjectMissing):
            async with self._as_store_error(key):
                await obstore.delete_async(self._objects, key)

    async def listed(self, prefix: str) -> AsyncGenerator[list[ObjectInfo], None]:
        """What is under keys that begin with a folder's name, some thousand at a time."""
        pages = aiter(obstore.list(self._objects, prefix, chunk_size=LIST))
        while True:
            async with self._as_store_error(prefix):
                page = await anext(pages, None)
            if page is None:
                return
            yield [ObjectInfo(key=meta["path"], at=meta["last_modified"]) for meta in page]

    def presigned_get(self, key: str, *, expires: int, now: datetime) -> str | None:
        """A URL that anyone may GET for `expires` seconds from `now`; None for a folder. Keep it out of logs."""
        return self._backend.presigned_get(key, expires=expires, now=now)

    def public_url(self, key: str) -> str | None:
        """The object's address for everyone and ever, where the library has a public base URL."""
        return self._backend.public_url(key)

    async def check(self) -> None:
        """Read, write and delete a probe, within one `answer`; StoreUnavailable says what is wrong and the cure."""
        key = f"check/{uuid4().hex}"
        async with self._as_store_error(key):
            with suppress(ObjectMissing):  # a GET first: unlike a HEAD, its answer says what is wrong
                async for _ in self.stream(key):
                    pass
            await self.put_bytes(key, b"telewarm")
            await self.delete(key)

    async def look(self) -> None:
        """Read a small object that is kept for this, so that asking often is cheap, unlike `check`. StoreUnavailable
        says what is wrong and the cure."""
        async with self._as_store_error(CHECK_TTL_SECONDS):
            if not self._seen or not await self._is_there(CHECK_TTL_SECONDS):
                await self.put_bytes(
                    CHECK_TTL_SECONDS, b"telewarm"
                )  # read before it is there it may look like a forbidden one
            self._seen = True

    async def _is_there(self, key: str) -> bool:
        try:
            async for _ in self.stream(key):
                pass
        except ObjectMissing:
            return False
        return True

    async def _put(self, key: str, content: PutSource) -> bool:
        async with self._as_store_error(key, seconds=self._answer + content.size / SLOWEST):
            return await self._backend.put(key, content)

    @asynccontextmanager
    async def _as_store_error(self, key: str, *, seconds: float | None = None) -> AsyncIterator[None]:
        """No foreign error passes, and nothing takes longer than `seconds` (or an answer)."""
        try:
            async with asyncio.timeout(seconds or self._answer):
                yield
        except (BaseError, OSError) as error:
            raise self._backend.explain(error, key) from error
        except BaseException as error:
            if is_panic(error):
                raise StoreUnavailable(PANICKED) from None
            raise
        finally:
            self._answered_at = clock.monotonic()


async def _cut(whole: AsyncGenerator[bytes, None], begin: int, end: int) -> AsyncGenerator[bytes, None]:
    at = 0
    async with aclosing(whole):
        async for chunk in whole:
            wanted = chunk[max(0, begin - at) : max(0, end - at)]
            at += len(chunk)
            if wanted:
                yield wanted
            if at >= end:
                return
