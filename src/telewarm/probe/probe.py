"""Probe: metadata and thumbnails of files, with limits, outside of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from telewarm.errors import DecoderFailed, UnreadableMedia
from telewarm.models import Kind, MediaMetadata
from telewarm.probe.headers import HeaderInfo, read_head
from telewarm.probe.ipc import DecodeTask, Job
from telewarm.probe.pool import DecoderPool
from telewarm.probe.words import unreadable

MAX_WORKERS = 2
MAX_FILE_SECONDS = 15.0  # limit of one file
INLINE_BYTES = 1 << 18  # a smaller file is read faster than a thread is reached


class Look(NamedTuple):
    """Metadata of a file, and why it can only be a document."""

    facts: MediaMetadata
    error: UnreadableMedia | DecoderFailed | None


class Probe:
    """Reads media files. Decoders run in worker processes, started with the first file that needs one."""

    def __init__(self, *, workers: int = MAX_WORKERS, seconds: float = MAX_FILE_SECONDS) -> None:
        self._pool = DecoderPool(size=workers, seconds=seconds)

    @classmethod
    @asynccontextmanager
    async def open(cls, *, workers: int = MAX_WORKERS, seconds: float = MAX_FILE_SECONDS) -> AsyncIterator[Probe]:
        """Open a probe with at most `workers` decoders, each file for at most `seconds`."""
        probe = cls(workers=workers, seconds=seconds)
        try:
            yield probe
        finally:
            await probe.close()

    async def close(self) -> None:
        """Stop the workers. Files being read fail with UsageError."""
        await self._pool.close()

    @property
    def isolation(self) -> frozenset[str] | None:
        """Isolation layers of the decoders in force; None: none has started yet."""
        return self._pool.isolation

    async def facts(self, path: Path, *, kind: Kind | None = None) -> MediaMetadata:
        """Return the metadata of a file by its bytes, whatever its name.

        Raises UnreadableMedia for an empty, damaged, blocking or hostile file; as a document (`kind`) such a file is
        only bytes, and its size and type are returned, unless it is empty or cannot be opened. Raises DecoderFailed
        when a decoder failed for another reason than the file.
        """
        facts, error = await self.look(path)
        if error is not None and kind is not Kind.DOCUMENT:
            raise error
        return facts

    async def look(self, path: Path) -> Look:
        """Return the metadata, and the problem of an unreadable file, of which only size and type are known.

        Raises UnreadableMedia for a file that is empty or cannot be opened.
        """
        head = await _head(path)
        if head.problem is not None:
            return Look(head.facts, unreadable(head.facts, head.problem))
        if not head.needs_decoder:
            return Look(head.facts, None)
        bare = MediaMetadata(bytes=head.facts.bytes, mime=head.facts.mime, ext=head.facts.ext)
        try:
            return Look((await self._pool.ask(_job(DecodeTask.FACTS, head))).facts or head.facts, None)
        except (UnreadableMedia, DecoderFailed) as error:
            return Look(bare, error)

    async def thumbnail(self, path: Path, facts: MediaMetadata) -> bytes | None:
        """Return a JPEG within 320 × 320 pixels and 200 kB, of the picture, an early frame, or the cover; else None.

        Raises UnreadableMedia, DecoderFailed.
        """
        if facts.mime.partition("/")[0] not in {"image", "video", "audio"}:
            return None
        head = await _head(path)
        return (await self._pool.ask(_job(DecodeTask.THUMBNAIL, head))).thumbnail


def _job(task: DecodeTask, head: HeaderInfo) -> Job:
    return Job(
        task=task,
        path=head.path,
        facts=head.facts,
        demuxer=head.demuxer,
        doubt=head.doubt,
        encrypted=head.encrypted,
    )


async def _head(path: Path) -> HeaderInfo:
    """Read the head. Small files are mostly in the page cache, having just been written."""
    return read_head(path) if _is_small(path) else await asyncio.to_thread(read_head, path)


def _is_small(path: Path) -> bool:
    try:
        return path.stat().st_size <= INLINE_BYTES
    except OSError:
        return True  # `read_head` reports the problem
