"""What crosses between the probe and its workers: frames of a 4-byte length and msgpack; with each job a descriptor."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from io import BufferedReader
from typing import Final

import msgspec

from telewarm.models import MediaMetadata
from telewarm.probe.descriptors import reader

LENGTH_BYTES: Final = 4
LONGEST_FRAME: Final = 1 << 20  # a thumbnail has less than 200 kB


class DecodeTask(StrEnum):
    FACTS = "facts"
    THUMBNAIL = "thumbnail"


class Doubt(StrEnum):
    """What headers left open. `late_clock`: the times of a film in fragments may begin late."""

    CUT_OFF = "cut_off"
    LATE_CLOCK = "late_clock"


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One file. `demuxer` is FFmpeg's name for the container that the first bytes announce; None for a picture.

    `encrypted`: which of its tracks (video, audio) are.
    """

    task: DecodeTask
    path: str  # absolute; of no use to a worker, which can open none
    facts: MediaMetadata  # as far as the first bytes tell
    demuxer: str | None
    doubt: Doubt | None = None
    encrypted: frozenset[str] = frozenset()
    seconds: float = 0  # the wall limit, set by the pool
    descriptor: int = -1  # of the file, in the worker

    def file(self) -> BufferedReader:
        """The file from its beginning, for a decoder."""
        return reader(self.descriptor)


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeResult:
    """`problem`: why the file cannot be read. `failure`: an exception that no file should cause, which is our bug.
    `last`: this worker wants to be replaced."""

    facts: MediaMetadata | None = None
    thumbnail: bytes | None = None
    problem: str | None = None
    failure: str | None = None
    last: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """The first frame of a worker: which layers of isolation hold."""

    isolation: tuple[str, ...]


def frame(message: Job | DecodeResult | Ready) -> bytes:
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(LENGTH_BYTES) + body


def read_job(body: bytes) -> Job:
    return msgspec.msgpack.decode(body, type=Job)


def read_ready(body: bytes) -> Ready:
    """Raises msgspec.DecodeError."""
    return msgspec.msgpack.decode(body, type=Ready)


def read_answer(body: bytes) -> DecodeResult:
    """Raises msgspec.DecodeError: a worker that was taken over may write anything."""
    return msgspec.msgpack.decode(body, type=DecodeResult)
