"""Boxes of an MP4, MOV, HEIF or AVIF file, their order, and whether the file is complete.

A decoder accepts a file whose index comes first and whose picture is cut off: it never reads that far.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from telewarm.probe.pictures import MAX_SIDE_PIXELS

HEADER_BYTES: Final = 8  # bytes: length and type
LONG_LENGTH_BYTES: Final = 8  # additional bytes of a 64-bit length
MAX_BOXES: Final = 10_000  # enough for three hours of a recording in fragments of a second
REQUIRED_BOXES: Final = frozenset({b"mdat", b"moov", b"moof", b"meta"})  # others may be cut off
MAX_INDEX_BYTES: Final = 4 << 20  # bytes of a `moov` that are searched for signs of encryption
MAX_META_BYTES: Final = 1 << 20  # bytes of a `meta` that are searched for a picture's sides
ENCRYPTED_ENTRIES: Final = {b"encv": "video", b"enca": "audio"}  # sample entries of encrypted tracks


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A box. `begin` and `end`: bytes in the file, the header included; the end may lie beyond the file's."""

    name: bytes
    begin: int
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Layout of the file.

    `missing_bytes`: of the picture, the sound or their index. `is_picture`: a `meta` box comes before any index of a
    film. `streamable`: the index comes before the data. `encrypted`: kinds of the encrypted tracks.
    """

    missing_bytes: int = 0
    lost_of_index: bool = False
    is_picture: bool = False
    is_film: bool = False
    has_index: bool = False
    in_fragments: bool = False
    streamable: bool = False
    encrypted: frozenset[str] = frozenset()
    sides: tuple[int, int] | None = None  # of a picture, as seen


def boxes(file: BinaryIO, size: int) -> Iterator[Box]:
    """Yield the outermost boxes, with a small read for each. Ends where a length is impossible."""
    begin = 0
    for _ in range(MAX_BOXES):
        if begin + HEADER_BYTES > size:
            return
        file.seek(begin)
        head = file.read(HEADER_BYTES + LONG_LENGTH_BYTES)
        length = int.from_bytes(head[:4])
        if length == 1 and len(head) == HEADER_BYTES + LONG_LENGTH_BYTES:
            length = int.from_bytes(head[HEADER_BYTES:])
        if length == 0:  # to the end of the file
            yield Box(name=head[4:HEADER_BYTES], begin=begin, end=size)
            return
        if length < HEADER_BYTES:  # damage, which the decoder reports
            return
        yield Box(name=head[4:HEADER_BYTES], begin=begin, end=begin + length)
        begin += length


def read_layout(file: BinaryIO, size: int) -> Layout:
    """Read the layout. Blocks."""
    first: dict[bytes, Box] = {}
    lost, lost_of_index = 0, False
    for box in boxes(file, size):
        first.setdefault(box.name, box)
        if box.end > size:
            lost = box.end - size if box.name in REQUIRED_BOXES else 0
            lost_of_index = box.name != b"mdat"
    index, meta, data = first.get(b"moov"), first.get(b"meta"), first.get(b"mdat")
    is_picture = meta is not None and (index is None or meta.begin < index.begin)
    return Layout(
        missing_bytes=lost,
        lost_of_index=lost_of_index,
        is_picture=is_picture,
        is_film=bool(first.keys() & {b"moov", b"moof", b"mdat"}),
        has_index=index is not None,
        in_fragments=b"moof" in first,
        streamable=index is not None and (data is None or index.begin < data.begin),
        encrypted=frozenset() if index is None else _encrypted(_content(file, index, MAX_INDEX_BYTES)),
        sides=_sides(_content(file, meta, MAX_META_BYTES)) if is_picture and meta is not None else None,
    )


def missing_bytes(file: BinaryIO, size: int) -> int:
    """Return the missing bytes of the picture, the sound or their index."""
    return read_layout(file, size).missing_bytes


def _content(file: BinaryIO, box: Box, largest: int) -> bytes:
    file.seek(box.begin + HEADER_BYTES)
    return file.read(min(box.end - box.begin - HEADER_BYTES, largest))


def _encrypted(index: bytes) -> frozenset[str]:
    return frozenset(kind for name, kind in ENCRYPTED_ENTRIES.items() if name in index)


def _sides(meta: bytes) -> tuple[int, int] | None:
    """Return the largest sides in the properties, rotated by the first rotation: tiles and previews are smaller."""
    found = []
    at = meta.find(b"ispe")
    while at >= 0 and at + 16 <= len(meta):
        sides = struct.unpack_from(">LL", meta, at + 8)
        if min(sides) > 0 and max(sides) <= MAX_SIDE_PIXELS:
            found.append(sides)
        at = meta.find(b"ispe", at + 4)
    if not found:
        return None
    width, height = max(found, key=lambda sides: int(sides[0]) * int(sides[1]))
    at = meta.find(b"\0\0\0\x09irot")
    turned = at >= 0 and at + 8 < len(meta) and meta[at + 8] & 1 == 1
    return (height, width) if turned else (width, height)
