"""The blocks of a GIF: how many frames it has, how long they last, and whether its end is there. Decodes nothing."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Final

MOST: Final = 256 << 20  # bytes walked through
QUICK, USUAL = 2, 10  # hundredths of a second: players show frames with less than QUICK for USUAL


class _CutOff(Exception):
    """The file ends within a block."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gif:
    width: int
    height: int
    frames: int
    seconds: float


def read(descriptor: int) -> Gif | str:
    """Or what is wrong with it."""
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as data:
        try:
            return _walk(data) if len(data) <= MOST else _Walked(data).gif(2)
        except (_CutOff, IndexError):
            return "it is cut off"


class _Walked:
    def __init__(self, data: mmap.mmap) -> None:
        self.width = int.from_bytes(data[6:8], "little")
        self.height = int.from_bytes(data[8:10], "little")

    def gif(self, frames: int, hundredths: int = 0) -> Gif:
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
            hundredths += USUAL if delay < QUICK else delay
            at = _skip(data, at + 11 + _table(data[at + 9]))
        elif frames:
            break  # rubbish behind the last frame
        else:
            at += 1
    if not frames or not walked.width or not walked.height:
        return "there is no picture in it"
    return walked.gif(frames, hundredths)


def _table(flags: int) -> int:
    """Bytes of the colour table that these flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _skip(data: mmap.mmap, at: int) -> int:
    """Past a chain of sub-blocks. Where the file ends with one of them, only marks are missing."""
    while at < len(data):
        length = data[at]
        at += 1 + length
        if not length:
            return at
    if at > len(data):
        raise _CutOff
    return at
