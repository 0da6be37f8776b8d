"""MP4 and QuickTime sniffer: walks the boxes, skips media data, reads only `moov`."""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator

from telewarm.sandbox.sniff.facts import Facts
from telewarm.sandbox.sniff.stream import Parser, Reader

MAX_MOOV = 16 << 20  # bytes; a larger index is not read
_QUARTER_TURN = 0x00010000


def mp4(facts: Facts, reader: Reader) -> Parser:
    """Sniff an MP4."""
    while True:
        size, name = yield from _box_header(reader)
        if size < 0:
            return  # this box runs to the end of the file
        if name == b"moov" and size <= MAX_MOOV:
            movie(facts, (yield from reader.take(size)))
            return
        yield from reader.skip(size)


def _box_header(reader: Reader) -> Generator[int, bytes, tuple[int, bytes]]:
    """Return the size of the content, negative for "to the end", and the name."""
    size, name = struct.unpack(">I4s", (yield from reader.take(8)))
    if size == 1:
        (size,) = struct.unpack(">Q", (yield from reader.take(8)))
        return size - 16, name
    return size - 8, name


def movie(facts: Facts, data: bytes) -> None:
    """Read a movie box."""
    for name, content in boxes(data):
        if name == b"mvhd":
            facts.duration = duration_of(content)
        elif name == b"trak":
            track(facts, content)


def track(facts: Facts, data: bytes) -> None:
    """Read a track box."""
    sides = (0, 0)
    for name, content in boxes(data):
        if name == b"tkhd":
            sides = sides_of(content)
        elif name == b"mdia":
            handler = next((inner[8:12] for label, inner in boxes(content) if label == b"hdlr"), b"")
            if handler == b"vide":
                facts.video = True
                facts.width, facts.height = sides
            elif handler == b"soun":
                facts.audio = True


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the boxes inside a box, up to the first that does not fit."""
    at = 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if size < 8 or at + size > len(data):
            return
        yield name, data[at + 8 : at + size]
        at += size


def duration_of(header: bytes) -> float:
    """Return the duration of a header."""
    layout, at = (">IQ", 20) if header[:1] == b"\x01" else (">II", 12)
    if len(header) < at + struct.calcsize(layout):
        return 0.0
    scale, length = struct.unpack_from(layout, header, at)
    return float(length / scale) if scale else 0.0


def sides_of(header: bytes) -> tuple[int, int]:
    """Return width and height as seen: a matrix that rotates by 90 degrees swaps them."""
    at = 52 if header[:1] == b"\x01" else 40
    if len(header) < at + 44:
        return 0, 0
    turned = abs(struct.unpack_from(">i", header, at + 4)[0]) == _QUARTER_TURN
    width, height = (side >> 16 for side in struct.unpack_from(">II", header, at + 36))
    return (height, width) if turned else (width, height)
