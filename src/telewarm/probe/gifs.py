"""GIF blocks: number of frames, duration, and whether the end is there. Without decoding."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Final

MAX_BYTES: Final = 256 << 20  # that are read
MIN_FRAME_HUNDREDTHS, DEFAULT_FRAME_HUNDREDTHS = 2, 10  # players show shorter frames for the default


class _CutOff(Exception):
    """The file ends within a block."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gif:
    """Frames and duration of a GIF."""

    width: int
    height: int
    frames: int
    seconds: float


def read(descriptor: int) -> Gif | str:
    """Return what the blocks say, or the reason why the file is unreadable."""
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as data:
        try:
            return _walk(data) if len(data) <= MAX_BYTES else _Walked(data).gif(2)
        except (_CutOff, IndexError):
            return "it is cut off"


class _Walked:
    def __init__(self, data: mmap.mmap) -> None:
        self.width = int.from_bytes(data[6:8], "little")
        self.height = int.from_bytes(data[8:10], "little")

    def gif(self, frames: int, hundredths: int = 0) -> Gif:
        """Build a GIF of blocks."""
        return Gif(width=self.width, height=self.height, frames=frames, seconds=hundredths / 100)


def _walk(data: mmap.mmap) -> Gif | str:
    walked, at = _Walked(data), 13 + _table(data[10])
    frames = hundredths = delay = 0
    while at < len(data) and data[at] != 0x3B:
        if data[at] == 0x21:
            if data[at + 1] == 0xF9:
                delay = int.from_bytes(data[at + 4 : at + 6], "little")
            at = _skip(data, at + 2)
        elif data[at] == 0x2C:
            if not (walked.width and walked.height):
                walked.width = int.from_bytes(data[at + 5 : at + 7], "little")
                walked.height = int.from_bytes(data[at + 7 : at + 9], "little")
            frames += 1
            hundredths += DEFAULT_FRAME_HUNDREDTHS if delay < MIN_FRAME_HUNDREDTHS else delay
            at = _skip(data, at + 11 + _table(data[at + 9]))
        elif frames:
            break  # ignore junk behind the last frame
        else:
            at += 1
    if not frames or not walked.width or not walked.height:
        return "there is no picture in it"
    return walked.gif(frames, hundredths)


def _table(flags: int) -> int:
    """Return the size of the colour table that the flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _skip(data: mmap.mmap, at: int) -> int:
    """Skip a chain of sub-blocks. A file that ends after one of them lacks only end markers."""
    while at < len(data):
        length = data[at]
        at += 1 + length
        if not length:
            return at
    if at > len(data):
        raise _CutOff
    return at
