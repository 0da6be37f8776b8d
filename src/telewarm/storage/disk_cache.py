"""Disk cache of blobs: a new upload is warmed without reading the store, and a popular blob is read only once.

The folder (`blobs/<sha256>`) is the index: it survives restarts, and any number of processes may share it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from secrets import token_hex
from shutil import disk_usage, rmtree

from telewarm import folders, metrics
from telewarm.errors import ObjectCorrupt, StoreUnavailable
from telewarm.models import Sha256
from telewarm.single_flight import SingleFlight
from telewarm.storage import cache_files
from telewarm.storage.incoming_file import IncomingFile
from telewarm.storage.object_store import BlobStore
from telewarm.storage.put_source import sha256_of
from telewarm.storage.thread_batcher import ThreadBatcher, in_thread, run_inline_or_in_thread

GIB = 1 << 30


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskUsage:
    """Disk space in bytes: of the file system, and of the cache, used and allowed."""

    free: int
    total: int
    cached: int
    max_bytes: int


class BlobCache:
    """LRU cache of `max_bytes`, plus pinned blobs; several processes may each exceed it by a tenth."""

    def __init__(self, folder: Path, *, max_bytes: int = GIB, store: BlobStore) -> None:
        """Use the blobs in the folder, and delete the unfinished files of dead processes."""
        self._blobs = folder.absolute() / "blobs"
        _make_folders(self._blobs)
        self._max_bytes = max_bytes
        self._store = store
        self._fetches: SingleFlight[Sha256, None] = SingleFlight("fetch blob")
        self._verified: set[str] = set()  # hashed by this process; others are hashed when they are first opened
        self._bytes = sum(cache_files.sizes(self._blobs).values())
        self._evict_above = max_bytes
        self._evicting = False
        self._running_check: asyncio.Future[DiskUsage] | None = None
        self._create_files = ThreadBatcher(
            _create_empty_files, name="spool-files"
        )  # creating a file waits for the disk's journal
        self._receiving, self._receiving_lock = cache_files.open_private_folder(folder.absolute() / "incoming")

    def close(self) -> None:
        """Delete unfinished files. Blobs stay for the next start."""
        rmtree(self._receiving, ignore_errors=True)
        os.close(self._receiving_lock)

    async def check(self) -> DiskUsage:
        """Check that files can be received, by creating and deleting one.

        Raises OSError; TimeoutError at once while an earlier check still waits for an unresponsive disk.
        """
        if self._running_check is not None and not self._running_check.done():
            raise TimeoutError("the disk has not answered the look before this one")
        self._running_check = looking = asyncio.ensure_future(asyncio.to_thread(self._check))
        looking.add_done_callback(lambda _: looking.cancelled() or looking.exception())
        return await asyncio.shield(looking)  # the thread may hang on the disk

    def _check(self) -> DiskUsage:
        path = self._receiving / token_hex(8)
        try:
            folders.write_private(path, b"telewarm")
        finally:
            path.unlink(missing_ok=True)
        usage = disk_usage(self._receiving)
        return DiskUsage(free=usage.free, total=usage.total, cached=self._bytes, max_bytes=self._max_bytes)

    @asynccontextmanager
    async def receive(self) -> AsyncIterator[IncomingFile]:
        """Receive a file. It is deleted at the end unless it was inserted or `keep()` was called."""
        path = self._receiving / token_hex(8)
        try:
            await self._create_files(path)
            incoming = IncomingFile(path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        try:
            yield incoming
        finally:
            incoming.close()
            if not incoming.kept:
                incoming.path.unlink(missing_ok=True)

    async def insert(self, file: IncomingFile | Path, sha256: Sha256) -> None:
        """Move a received file into the cache as this blob. Store it first: from now on it may be evicted.

        A path is that of a received and kept file. Raises ObjectCorrupt when the bytes have another hash.
        """
        if isinstance(file, IncomingFile):
            self._write_to_cache(file, expected=sha256)
        else:
            self._move_into_cache(file, await in_thread(lambda: sha256_of(file)), expected=sha256)
            cache_files.touch(self._blobs / sha256)
        await self._evict()

    @asynccontextmanager
    async def open(self, sha256: Sha256, key: str) -> AsyncIterator[Path]:
        """Yield the blob as a local file, pinned while the block runs. Concurrent openers share one read of the store.

        The store's errors and ObjectCorrupt reach all of them; the next opener tries again.
        """
        pin = await self._pin(sha256, key)
        try:
            await self._evict()
            yield self._blobs / sha256
        finally:
            os.close(pin)

    async def discard(self, sha256: Sha256) -> None:
        """Remove an unneeded blob; a pinned one is left for eviction."""
        path = self._blobs / sha256
        freed = await in_thread(lambda: _size(path) if _size(path) and cache_files.remove_if_unused(path) else 0)
        self._bytes -= freed
        if freed:
            self._verified.discard(sha256)

    @contextmanager
    def pin_if_cached(self, sha256: Sha256) -> Iterator[int | None]:
        """Yield the blob as an open descriptor, if it is cached and verified; nothing is fetched."""
        pin = cache_files.pin(self._blobs / sha256) if sha256 in self._verified else None
        try:
            yield pin
        finally:
            if pin is not None:
                os.close(pin)

    @contextmanager
    def named(self, path: Path, name: str) -> Iterator[Path]:
        """Link an opened blob under a file name, for readers that publish the name."""
        folder = self._receiving / token_hex(8)
        folder.mkdir(mode=folders.PRIVATE_FOLDER)
        try:
            shown = folder / name
            with suppress(OSError):  # without links the blob's own name has to do
                shown.hardlink_to(path)
            yield shown if shown.exists() else path
        finally:
            rmtree(folder, ignore_errors=True)

    async def _pin(self, sha256: Sha256, key: str) -> int:
        path, hit = self._blobs / sha256, True
        while (pin := cache_files.pin(path)) is None or not await self._verify(pin, path):
            hit = False
            await self._fetches.run(sha256, partial(self._fetch, sha256, key))
        metrics.disk_cache_read(hit=hit)
        return pin

    async def _verify(self, pin: int, path: Path) -> bool:
        """Verify the hash of a file that this process did not receive; closes the pin of a corrupt one."""
        if path.name in self._verified:
            return True
        sound = False
        try:
            sound = await run_inline_or_in_thread(os.fstat(pin).st_size, lambda: _matches_name(path))
        finally:
            if not sound:
                os.close(pin)
        if sound:
            self._verified.add(path.name)
        return sound

    async def _fetch(self, sha256: Sha256, key: str) -> None:
        async with self.receive() as incoming, aclosing(self._store.stream(key)) as chunks:
            async for chunk in chunks:
                await incoming.write(chunk)
            self._write_to_cache(incoming, expected=sha256)

    def _write_to_cache(self, incoming: IncomingFile, *, expected: Sha256) -> None:
        self._move_into_cache(incoming.path, incoming.sha256, expected=expected)
        incoming.keep()

    def _move_into_cache(self, path: Path, found: Sha256, *, expected: Sha256) -> None:
        if found != expected:
            raise ObjectCorrupt(
                f"The bytes that came for {expected} have SHA-256 {found}: they are damaged. Add the file again."
            )
        target = self._blobs / expected
        size, known = path.stat().st_size, target.exists()
        path.replace(target)
        if known:
            path.unlink(missing_ok=True)  # replace() keeps both names of one file
            cache_files.touch(target)
        self._verified.add(expected)
        self._bytes += 0 if known else size

    async def _evict(self) -> None:
        """Evict down to nine tenths, so that the folder is listed once for every tenth that is added."""
        if self._evicting or self._bytes <= self._evict_above:
            return
        self._evicting, before = True, self._bytes
        try:
            left = await in_thread(lambda: cache_files.evict(self._blobs, max_bytes=self._max_bytes * 9 // 10))
        finally:
            self._evicting = False
        total = sum(left.values())
        self._bytes += total - before
        self._evict_above = max(self._max_bytes, total + self._max_bytes // 10)
        self._verified &= left.keys()


def _make_folders(blobs: Path) -> None:
    try:
        folders.make_private_below(blobs.parent, blobs)
    except OSError as error:
        raise StoreUnavailable(folders.describe_os_error(error, blobs.parent)) from error


def _matches_name(path: Path) -> bool:
    """Return whether a blob has the hash in its name; a corrupt one is deleted."""
    with suppress(FileNotFoundError):  # evicted
        if sha256_of(path) == path.name:
            return True
        path.unlink()
    return False


def _create_empty_files(paths: Sequence[Path]) -> Sequence[Exception | None]:
    """Create empty files. Returns the errors, by file."""
    return [_create_or_error(path) for path in paths]


def _create_or_error(path: Path) -> Exception | None:
    try:
        path.touch(mode=folders.PRIVATE_FILE, exist_ok=False)
    except OSError as error:
        return error
    return None


def _size(path: Path) -> int:
    """Return the size in bytes; 0 for a missing file."""
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0
