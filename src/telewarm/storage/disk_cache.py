"""Hot blobs on local disk, so that a fresh upload is warmed without reading the store, and a hot one is read once.

The folder is the index (`blobs/<sha256>`), so it survives restarts and any number of processes may share it.
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
    """Bytes of the disk that the spool is on, and of the spool: what is in it, and what may be."""

    free: int
    total: int
    cached: int
    max_bytes: int


class BlobCache:
    """Keeps `max_bytes` of the blobs used last, plus what is open; several processes may each add a tenth to that."""

    def __init__(self, folder: Path, *, max_bytes: int = GIB, store: BlobStore) -> None:
        """Takes over what is in the folder, and deletes what dead processes were still receiving."""
        self._blobs = folder.absolute() / "blobs"
        _make_folders(self._blobs)
        self._max_bytes = max_bytes
        self._store = store
        self._fetches: SingleFlight[Sha256, None] = SingleFlight("fetch blob")
        self._verified: set[str] = set()  # hashed by this process; what it found here is hashed when it is first opened
        self._bytes = sum(cache_files.sizes(self._blobs).values())
        self._evict_above = max_bytes
        self._evicting = False
        self._running_check: asyncio.Future[DiskUsage] | None = None
        self._create_files = ThreadBatcher(
            _create_empty_files, name="spool-files"
        )  # a new file waits while the disk's journal is written
        self._receiving, self._receiving_lock = cache_files.open_private_folder(folder.absolute() / "incoming")

    def close(self) -> None:
        """Drop what was not adopted. Blobs stay for the next start."""
        rmtree(self._receiving, ignore_errors=True)
        os.close(self._receiving_lock)

    async def check(self) -> DiskUsage:
        """Whether files can be received here: one is made and deleted. Raises OSError; TimeoutError at once while an
        earlier look still waits for a disk that does not answer."""
        if self._running_check is not None and not self._running_check.done():
            raise TimeoutError("the disk has not answered the look before this one")
        self._running_check = looking = asyncio.ensure_future(asyncio.to_thread(self._check))
        looking.add_done_callback(lambda _: looking.cancelled() or looking.exception())
        return await asyncio.shield(looking)  # nobody waits for a thread that hangs on a disk

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
        """Take a file in. Unless it is adopted or told to `keep()`, it is gone afterwards."""
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
        """Move a received file in as this blob. Store it first: from now on it may be evicted.

        A path is that of a file received here and kept. ObjectCorrupt when what came in has another hash.
        """
        if isinstance(file, IncomingFile):
            self._write_to_cache(file, expected=sha256)
        else:
            self._move_into_cache(file, await in_thread(lambda: sha256_of(file)), expected=sha256)
            cache_files.touch(self._blobs / sha256)
        await self._evict()

    @asynccontextmanager
    async def open(self, sha256: Sha256, key: str) -> AsyncIterator[Path]:
        """The blob as a local file, which stays as long as this is open. Read from the store at most once at a time.

        What the store raises, and ObjectCorrupt, reach all who wait for the same fetch; the next opener tries again.
        """
        pin = await self._pin(sha256, key)
        try:
            await self._evict()
            yield self._blobs / sha256
        finally:
            os.close(pin)

    async def discard(self, sha256: Sha256) -> None:
        """Drop a blob that nobody needs any more, unless somebody holds it open: then it is evicted in its time."""
        path = self._blobs / sha256
        freed = await in_thread(lambda: _size(path) if _size(path) and cache_files.remove_if_unused(path) else 0)
        self._bytes -= freed
        if freed:
            self._verified.discard(sha256)

    @contextmanager
    def pin_if_cached(self, sha256: Sha256) -> Iterator[int | None]:
        """The blob as an open descriptor, when it is here and this process knows it to be sound; nothing is fetched."""
        pin = cache_files.pin(self._blobs / sha256) if sha256 in self._verified else None
        try:
            yield pin
        finally:
            if pin is not None:
                os.close(pin)

    @contextmanager
    def named(self, path: Path, name: str) -> Iterator[Path]:
        """An opened blob under a file name of its own, for whoever tells people the name of what it reads."""
        folder = self._receiving / token_hex(8)
        folder.mkdir(mode=folders.PRIVATE_FOLDER)
        try:
            shown = folder / name
            with suppress(OSError):  # a filesystem without links: then the blob's own name must do
                shown.hardlink_to(path)
            yield shown if shown.exists() else path
        finally:
            rmtree(folder, ignore_errors=True)

    async def _pin(self, sha256: Sha256, key: str) -> int:
        path, hit = self._blobs / sha256, True
        while (pin := cache_files.pin(path)) is None or not await self._verify(pin, path):
            hit = False
            await self._fetches.run(sha256, partial(self._fetch, sha256, key))
        metrics.spool_read(hit=hit)
        return pin

    async def _verify(self, pin: int, path: Path) -> bool:
        """Hash a file that this process did not bring in itself; the pin of a damaged one is closed."""
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
            path.unlink(missing_ok=True)  # replace() leaves two names of one file alone
            cache_files.touch(target)
        self._verified.add(expected)
        self._bytes += 0 if known else size

    async def _evict(self) -> None:
        """Evict down to nine tenths, so that the folder is read once for every tenth that comes in."""
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
    """Whether a blob is the one it is named by; if not, it is deleted."""
    with suppress(FileNotFoundError):  # evicted
        if sha256_of(path) == path.name:
            return True
        path.unlink()
    return False


def _create_empty_files(paths: Sequence[Path]) -> Sequence[Exception | None]:
    """Empty files."""
    return [_create_or_error(path) for path in paths]


def _create_or_error(path: Path) -> Exception | None:
    try:
        path.touch(mode=folders.PRIVATE_FILE, exist_ok=False)
    except OSError as error:
        return error
    return None


def _size(path: Path) -> int:
    """Bytes; 0 when there is no such file."""
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0
