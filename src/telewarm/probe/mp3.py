"""MP3 and Ogg checks that FFmpeg lacks: completeness, and the duration of an MP3 without an index.

Reads frame headers, decodes nothing.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import BinaryIO, Final

from telewarm.probe.signatures import SAMPLE_RATES, frame_length

FIRST_FRAME_SEARCH_BYTES: Final = 1 << 16  # searched for the first frame
RATE_SAMPLES: Final = 24  # positions at which the rate is compared with the first frame's
MAX_MISSING_BYTES: Final = 1024  # that may be missing of an announced length: tags come and go
MIN_JOINED_BYTES: Final = 8192  # behind the sound that may be another file
OGG_TAIL_BYTES: Final = 1 << 17  # of an Ogg file's end, which hold the last page; it has at most 65,307
OGG_PAGE_HEADER_BYTES: Final = 27
MIN_CONSECUTIVE_FRAMES: Final = 4  # before the last frame
MAX_MISSING_PADDING_BYTES: Final = 4  # that old encoders left out
TAG: Final = b"TAG"  # of ID3v1, and part of the names of APE and Lyrics3


@dataclass(frozen=True, kw_only=True, slots=True)
class Mp3:
    """Facts of an MP3. `missing_bytes`: behind the end. `seconds`: None where the container's duration is right."""

    missing_bytes: int = 0
    seconds: float | None = None


def read(descriptor: int) -> Mp3:
    """Read the frame headers."""
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as data:
        first = _first_frame(data)
        if first is None:
            return Mp3()
        promised = _announced_bytes(data, first)
        if promised is None:
            if lost := _missing_frame_bytes(data, first):
                return Mp3(missing_bytes=lost)
            return Mp3(seconds=_count(data, first) if _has_variable_rate(data, first) else None)
        lost = promised - len(data)  # some encoders count the tags before the sound, too
        if lost > max(MAX_MISSING_BYTES, promised // 100):
            return Mp3(missing_bytes=lost)
        if lost + first > 0 and _missing_frame_bytes(data, first):
            return Mp3(missing_bytes=lost + first)
        more = len(data) - first - promised  # the index of the first of several joined files
        joined = more > max(MIN_JOINED_BYTES, promised // 50) and _frame_from(data, first + promised, first) is not None
        return Mp3(seconds=_count(data, first) if joined else None)


def missing_ogg_bytes(file: BinaryIO) -> int:
    """Return the missing bytes of the last page."""
    size = file.seek(0, 2)
    file.seek(max(0, size - OGG_TAIL_BYTES))
    tail = file.read()
    at = tail.rfind(b"OggS\0")
    if at < 0:
        return 0
    head = tail[at : at + OGG_PAGE_HEADER_BYTES]
    if len(head) < OGG_PAGE_HEADER_BYTES:
        return OGG_PAGE_HEADER_BYTES - len(head)
    segments = tail[at + OGG_PAGE_HEADER_BYTES : at + OGG_PAGE_HEADER_BYTES + head[26]]
    length = OGG_PAGE_HEADER_BYTES + head[26] + sum(segments)
    return max(0, at + length - len(tail), head[26] - len(segments))


def _first_frame(data: mmap.mmap) -> int | None:
    at = 0
    while data[at : at + 3] == b"ID3" and at + 10 <= len(data):
        size = data[at + 6 : at + 10]
        at += 10 + ((size[0] & 0x7F) << 21 | (size[1] & 0x7F) << 14 | (size[2] & 0x7F) << 7 | size[3] & 0x7F)
    for start in range(at, min(at + FIRST_FRAME_SEARCH_BYTES, len(data) - 4)):
        if data[start] == 0xFF and (length := frame_length(data, start)):
            after = start + length
            if after >= len(data) or frame_length(data, after):
                return start
    return None


def _announced_bytes(data: mmap.mmap, first: int) -> int | None:
    """Return the announced length of the sound, from the index in its first frame; None without one."""
    frame = data[first : first + max(frame_length(data, first), 64)]
    for name in (b"Xing", b"Info"):
        at = frame.find(name, 4, 64)
        if at > 0:
            flags = frame[at + 7]
            number = at + 8 + (4 if flags & 1 else 0)
            return int.from_bytes(frame[number : number + 4]) if flags & 2 else None
    if frame[36:40] == b"VBRI":
        return int.from_bytes(frame[46:50])
    return None


def _missing_frame_bytes(data: mmap.mmap, first: int) -> int:
    """Return the missing bytes of the last frame, if the frames before it are consecutive and no tag follows."""
    at = max(first, len(data) - FIRST_FRAME_SEARCH_BYTES)
    found = first if at == first else _frame_from(data, at, first)
    if found is None:
        return 0
    at, passed = found, 0
    while (length := frame_length(data, at)) and (data[at + 2] ^ data[first + 2]) & 0x0C == 0:
        if at + length > len(data):
            lost = at + length - len(data)
            sure = passed >= MIN_CONSECUTIVE_FRAMES and lost > MAX_MISSING_PADDING_BYTES and TAG not in data[at:]
            return lost if sure else 0
        at, passed = at + length, passed + 1
    return 0


def _has_variable_rate(data: mmap.mmap, first: int) -> bool:
    """Return whether frames at several positions have another rate than the first."""
    step = (len(data) - first) // (RATE_SAMPLES + 1)
    for number in range(1, RATE_SAMPLES + 1):
        at = _frame_from(data, first + number * step, first)
        if at is not None and (data[at + 2] ^ data[first + 2]) & 0xFC:
            return True
    return False


def _frame_from(data: mmap.mmap, at: int, first: int) -> int | None:
    """Return the next frame of the first one's kind that another frame follows."""
    end = min(len(data) - 4, at + FIRST_FRAME_SEARCH_BYTES)
    while (at := data.find(b"\xff", at, end)) >= 0:
        length = frame_length(data, at)
        if length and data[at + 1] & 0xFE == data[first + 1] & 0xFE and frame_length(data, at + length):
            return at
        at += 1
    return None


def _count(data: mmap.mmap, first: int) -> float:
    """Return the duration of all frames; other bytes are skipped."""
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
    version, rate = version_byte >> 3 & 3, SAMPLE_RATES[rate_byte >> 2 & 3]
    if version == 3:
        return 1152 / rate
    return 576 / (rate >> (1 if version == 2 else 2))
