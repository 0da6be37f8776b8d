"""Messages between the probe and its workers: frames of a 4-byte length and msgpack; a job comes with a descriptor."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from io import BufferedReader
from typing import Final

import msgspec

from telewarm.models import MediaMetadata
from telewarm.probe.descriptors import reader

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
