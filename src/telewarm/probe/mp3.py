"""What FFmpeg does not look at in sounds: whether all of an MP3 or Ogg is there, and how long an MP3 without an index
of its own lasts. Reads frame headers, decodes nothing.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import BinaryIO, Final

from telewarm.probe.signatures import RATES, frame_length

START: Final = 1 << 16  # bytes in which the first frame is looked for
SAMPLES: Final = 24  # places at which the rate is compared with the first frame's
SLACK: Final = 1024  # bytes that may be missing of what an index promises: tags come and go
JOINED: Final = 8192  # bytes behind the sound that may be another one
PAGE: Final = 1 << 17  # bytes of an Ogg's end that hold its last page; one has at most 65,307
PAGE_HEAD: Final = 27
IN_A_ROW: Final = 4  # frames before the last one
PADDING: Final = 4  # bytes that encoders of old forgot of it
TAG: Final = b"TAG"  # of ID3v1, and in the names of APE's and Lyrics3's


@dataclass(frozen=True, kw_only=True, slots=True)
class Mp3:
    """`lost`: bytes that are not there. `seconds`: None where the container's own reckoning is right."""

    lost: int = 0
    seconds: float | None = None


def read(descriptor: int) -> Mp3:
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as data:
        first = _first_frame(data)
        if first is None:
            return Mp3()
        promised = _promised(data, first)
        if promised is None:
            if lost := _lost_of_frame(data, first):
                return Mp3(lost=lost)
            return Mp3(seconds=_count(data, first) if _varies(data, first) else None)
        lost = promised - len(data)  # some count the tags before the sound, too
        if lost > max(SLACK, promised // 100):
            return Mp3(lost=lost)
        if lost + first > 0 and _lost_of_frame(data, first):
            return Mp3(lost=lost + first)
        more = len(data) - first - promised  # the index of one file, and another joined to it
        joined = more > max(JOINED, promised // 50) and _frame_from(data, first + promised, first) is not None
        return Mp3(seconds=_count(data, first) if joined else None)


def lost_of_ogg(file: BinaryIO) -> int:
    """Bytes that the last page lacks."""
    size = file.seek(0, 2)
    file.seek(max(0, size - PAGE))
    tail = file.read()
    at = tail.rfind(b"OggS\0")
    if at < 0:
        return 0
    head = tail[at : at + PAGE_HEAD]
    if len(head) < PAGE_HEAD:
        return PAGE_HEAD - len(head)
    segments = tail[at + PAGE_HEAD : at + PAGE_HEAD + head[26]]
    length = PAGE_HEAD + head[26] + sum(segments)
    return max(0, at + length - len(tail), head[26] - len(segments))


def _first_frame(data: mmap.mmap) -> int | None:
    at = 0
    while data[at : at + 3] == b"ID3" and at + 10 <= len(data):
        size = data[at + 6 : at + 10]
        at += 10 + ((size[0] & 0x7F) << 21 | (size[1] & 0x7F) << 14 | (size[2] & 0x7F) << 7 | size[3] & 0x7F)
    for start in range(at, min(at + START, len(data) - 4)):
        if data[start] == 0xFF and (length := frame_length(data, start)):
            after = start + length
            if after >= len(data) or frame_length(data, after):
                return start
    return None


def _promised(data: mmap.mmap, first: int) -> int | None:
    """Bytes of the sound by the index in its first frame; None without one that says it."""
    frame = data[first : first + max(frame_length(data, first), 64)]
    for name in (b"Xing", b"Info"):
        at = frame.find(name, 4, 64)
        if at > 0:
            flags = frame[at + 7]
            place = at + 8 + (4 if flags & 1 else 0)
            return int.from_bytes(frame[place : place + 4]) if flags & 2 else None
    if frame[36:40] == b"VBRI":
        return int.from_bytes(frame[46:50])
    return None


def _lost_of_frame(data: mmap.mmap, first: int) -> int:
    """Bytes that the very last frame lacks, where the frames before it follow each other and no tag stands behind."""
    at = max(first, len(data) - START)
    found = first if at == first else _frame_from(data, at, first)
    if found is None:
        return 0
    at, passed = found, 0
    while (length := frame_length(data, at)) and (data[at + 2] ^ data[first + 2]) & 0x0C == 0:
        if at + length > len(data):
            lost = at + length - len(data)
            sure = passed >= IN_A_ROW and lost > PADDING and TAG not in data[at:]
            return lost if sure else 0
        at, passed = at + length, passed + 1
    return 0


def _varies(data: mmap.mmap, first: int) -> bool:
    """Whether frames here and there have another rate than the first."""
    step = (len(data) - first) // (SAMPLES + 1)
    for number in range(1, SAMPLES + 1):
        at = _frame_from(data, first + number * step, first)
        if at is not None and (data[at + 2] ^ data[first + 2]) & 0xFC:
            return True
    return False


def _frame_from(data: mmap.mmap, at: int, first: int) -> int | None:
    """The next frame of the same kind as the first, that another follows."""
    end = min(len(data) - 4, at + START)
    while (at := data.find(b"\xff", at, end)) >= 0:
        length = frame_length(data, at)
        if length and data[at + 1] & 0xFE == data[first + 1] & 0xFE and frame_length(data, at + length):
            return at
        at += 1
    return None


def _count(data: mmap.mmap, first: int) -> float:
    """Seconds of all frames together; what is no frame is passed over."""
    seconds, at, end = 0.0, first, len(data) - 4
    while at < end:
        length = frame_length(data, at)
        if not length:
            at = data.find(b"\xff", at + 1, end)
            if at < 0:
                break
            continue
        seconds += _seconds(data[at + 1], data[at + 2])
        at += length
    return seconds


def _seconds(version_byte: int, rate_byte: int) -> float:
    version, rate = version_byte >> 3 & 3, RATES[rate_byte >> 2 & 3]
    if version == 3:
        return 1152 / rate
    return 576 / (rate >> (1 if version == 2 else 2))
