"""Messages between the probe and its workers: frames of a 4-byte length and msgpack; a job comes with a descriptor.

Decoder processes cannot open files: they read by the descriptor.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from enum import StrEnum
from io import BufferedReader
from typing import Final

import msgspec

from telewarm.models import MediaMetadata

BUFFER_BYTES: Final = 1 << 16  # read at once
LENGTH_BYTES: Final = 4
MAX_FRAME_BYTES: Final = 1 << 20  # a thumbnail has less than 200 kB


class DecodeTask(StrEnum):
    """Task of a worker."""

    FACTS = "facts"
    THUMBNAIL = "thumbnail"


class Doubt(StrEnum):
    """Doubts that headers leave. `late_clock`: the times of a fragmented film may begin late."""

    CUT_OFF = "cut_off"
    LATE_CLOCK = "late_clock"


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """Job for one file.

    `demuxer`: FFmpeg's name for the container that the first bytes announce; None for a picture. `encrypted`: its
    encrypted tracks (video, audio).
    """

    task: DecodeTask
    path: str  # absolute; a worker cannot open it
    facts: MediaMetadata  # as far as headers tell
    demuxer: str | None
    doubt: Doubt | None = None
    encrypted: frozenset[str] = frozenset()
    seconds: float = 0  # time limit, set by the pool
    descriptor: int = -1  # of the file, in the worker

    def file(self) -> BufferedReader:
        """Return a reader from the beginning of the file."""
        return reader(self.descriptor)


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeResult:
    """Result of a job.

    `problem`: why the file is unreadable. `failure`: an unexpected exception, which is a bug. `last`: the worker asks
    to be replaced.
    """

    facts: MediaMetadata | None = None
    thumbnail: bytes | None = None
    problem: str | None = None
    failure: str | None = None
    last: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """First frame of a worker: the isolation layers in force."""

    isolation: tuple[str, ...]


def frame(message: Job | DecodeResult | Ready) -> bytes:
    """Encode a frame."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(LENGTH_BYTES) + body


def read_job(body: bytes) -> Job:
    """Decode a job."""
    return msgspec.msgpack.decode(body, type=Job)


def read_ready(body: bytes) -> Ready:
    """Decode the first frame. Raises msgspec.DecodeError."""
    return msgspec.msgpack.decode(body, type=Ready)


def read_answer(body: bytes) -> DecodeResult:
    """Decode a result. Raises msgspec.DecodeError: a compromised worker may write anything."""
    return msgspec.msgpack.decode(body, type=DecodeResult)


class _Raw(io.RawIOBase):
    """Raw reader with its own position, so that several readers of one descriptor are independent."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence)
        at = offset + (os.fstat(self._descriptor).st_size if start is None else start)
        if at < 0:
            raise ValueError("there is nothing before the beginning of a file")
        self._at = at
        return at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's Buffer has no length
        """Read from the position."""
        data = os.pread(self._descriptor, len(buffer), self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def reader(descriptor: int) -> io.BufferedReader:
    """Return a reader from the beginning. The descriptor is neither moved nor closed."""
    return io.BufferedReader(_Raw(descriptor), BUFFER_BYTES)
