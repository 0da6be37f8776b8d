"""Sides of images by their headers."""

from __future__ import annotations

import struct
from collections.abc import Generator

from telewarm.sandbox.sniff.facts import Facts
from telewarm.sandbox.sniff.stream import Parser, Reader

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_SCAN = 0xDA  # the image itself begins
_SIDEWAYS = range(5, 9)  # EXIF orientations that swap the sides


def jpeg(facts: Facts, reader: Reader) -> Parser:
    """Sniff a JPEG."""
    yield from reader.skip(2)
    sideways = False
    while True:
        mark = yield from _marker(reader)
        if mark in _ALONE:
            continue
        length = int.from_bytes((yield from reader.take(2))) - 2
        if mark == _SCAN or length < 0:
            return
        if mark in _FRAMES and length >= 5:
            _, height, width = struct.unpack(">BHH", (yield from reader.take(5)))
            facts.width, facts.height = (height, width) if sideways else (width, height)
            return
        if mark == 0xE1:
            segment = yield from reader.take(length)
            sideways = sideways or orientation(segment) in _SIDEWAYS
        else:
            yield from reader.skip(length)


def _marker(reader: Reader) -> Generator[int, bytes, int]:
    """Return the code of the next marker. Like libjpeg, it skips stray and fill bytes."""
    while (yield from reader.take(1)) != b"\xff":
        pass
    code = yield from reader.take(1)
    while code == b"\xff":
        code = yield from reader.take(1)
    return code[0]


def orientation(segment: bytes) -> int:
    """Return the orientation of an EXIF segment; 1 (upright) by default."""
    if not segment.startswith(b"Exif\0\0") or len(segment) < 14:
        return 1
    tiff = segment[6:]
    order = ">" if tiff.startswith(b"MM") else "<"
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, entry)
            if tag == 0x0112:
                return int(value)
    except struct.error:
        pass
    return 1


def png(facts: Facts, reader: Reader) -> Parser:
    """Sniff a PNG."""
    head = yield from reader.take(24)
    facts.width, facts.height = struct.unpack(">II", head[16:24])


def gif(facts: Facts, reader: Reader) -> Parser:
    """Sniff a GIF."""
    head = yield from reader.take(10)
    facts.width, facts.height = struct.unpack("<HH", head[6:10])
    facts.video = True


def bmp(facts: Facts, reader: Reader) -> Parser:
    """Sniff a BMP."""
    head = yield from reader.take(26)
    width, height = struct.unpack("<ii", head[18:26])
    facts.width, facts.height = abs(width), abs(height)


def webp(facts: Facts, reader: Reader) -> Parser:
    """Sniff a WEBP."""
    head = yield from reader.take(30)
    match head[12:16]:
        case b"VP8 ":
            width, height = struct.unpack("<HH", head[26:30])
            facts.width, facts.height = width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            facts.width, facts.height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            facts.width = int.from_bytes(head[24:27], "little") + 1
            facts.height = int.from_bytes(head[27:30], "little") + 1
        case _:
            return
