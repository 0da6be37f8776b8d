"""The face of the probe: facts and thumbnails of files, bounded, off the event loop."""

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

WORKERS = 2
SECONDS = 15.0  # the longest that one file may take
NEAR = 1 << 18  # bytes of a file below which its few reads cost less than a hop to a thread and back


class Look(NamedTuple):
    """What a file's bytes say, and why they are no more than a document."""

    facts: MediaMetadata
    error: UnreadableMedia | DecoderFailed | None


class Probe:
    """Reads media files. Decoders run in worker processes, which start with the first file that needs one."""

    def __init__(self, *, workers: int = WORKERS, seconds: float = SECONDS) -> None:
        self._pool = DecoderPool(size=workers, seconds=seconds)

    @classmethod
    @asynccontextmanager
    async def open(cls, *, workers: int = WORKERS, seconds: float = SECONDS) -> AsyncIterator[Probe]:
        """At most `workers` decoders at once, each file for at most `seconds`."""
        probe = cls(workers=workers, seconds=seconds)
        try:
            yield probe
        finally:
            await probe.close()

    async def close(self) -> None:
        """End the workers. Files still being read fail with UsageError."""
        await self._pool.close()

    @property
    def isolation(self) -> frozenset[str] | None:
        """The layers that shut the decoders in; None: none has started yet."""
        return self._pool.isolation

    async def facts(self, path: Path, *, kind: Kind | None = None) -> MediaMetadata:
        """What the bytes of a file say, whatever its name.

        Raises UnreadableMedia for an empty, damaged, hanging or hostile file; as a document (`kind`) such a file is
        only bytes, so its size and type are answered instead, unless it is empty or cannot be opened. Raises
        DecoderFailed when a decoder failed for another reason than the file.
        """
        facts, error = await self.look(path)
        if error is not None and kind is not Kind.DOCUMENT:
            raise error
        return facts

    async def look(self, path: Path) -> Look:
        """`facts`, and what is wrong with the bytes: then they are no more than a document, whose size and type it
        answers. Raises UnreadableMedia for a file that is empty or cannot be opened.
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
        """A JPEG within 320 × 320 pixels and 200 kB: the picture, an early frame, or the cover; None without any.

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
    """Small files have mostly just been written: they are in memory."""
    return read_head(path) if _is_small(path) else await asyncio.to_thread(read_head, path)


def _is_small(path: Path) -> bool:
    try:
        return path.stat().st_size <= NEAR
    except OSError:
        return True  # `read_head` says what is wrong
