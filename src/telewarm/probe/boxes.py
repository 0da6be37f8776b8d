"""The boxes that an MP4, MOV, HEIF or AVIF file is made of: what stands where, and whether all that they announce is
there.

A decoder is content with a file whose index comes first and whose picture ends in the middle: it never looks that far.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from telewarm.probe.pictures import LONGEST_SIDE

HEAD: Final = 8  # bytes: the length, and what it is
LONG: Final = 8  # more bytes, of a length that does not fit into four
MOST: Final = 10_000  # boxes looked at; a recording in pieces of a second has three hours then
NEEDED: Final = frozenset({b"mdat", b"moov", b"moof", b"meta"})  # what follows of other boxes may be missing
INDEX_LARGEST: Final = 4 << 20  # bytes of a `moov` that are searched for signs of encryption
META_LARGEST: Final = 1 << 20  # bytes of a `meta` that are searched for a picture's sides
ENCRYPTED: Final = {b"encv": "video", b"enca": "audio"}  # sample entries of the tracks that are


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """`begin` and `end` in bytes of the file, its head included; the end may lie beyond the file's."""

    name: bytes
    begin: int
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """`lost`: bytes of the picture, the sound or their index that are not there. `is_picture`: a `meta` box comes
    before any index of a film. `streamable`: the index comes before what it tells of. `encrypted`: kinds of its tracks.
    """

    lost: int = 0
    lost_of_index: bool = False
    is_picture: bool = False
    is_film: bool = False
    has_index: bool = False
    in_fragments: bool = False
    streamable: bool = False
    encrypted: frozenset[str] = frozenset()
    sides: tuple[int, int] | None = None  # of a picture, as seen


def boxes(file: BinaryIO, size: int) -> Iterator[Box]:
    """The outermost boxes. A small read for each; ends where the lengths make no sense."""
    begin = 0
    for _ in range(MOST):
        if begin + HEAD > size:
            return
        file.seek(begin)
        head = file.read(HEAD + LONG)
        length = int.from_bytes(head[:4])
        if length == 1 and len(head) == HEAD + LONG:
            length = int.from_bytes(head[HEAD:])
        if length == 0:  # to the end of the file
            yield Box(name=head[4:HEAD], begin=begin, end=size)
            return
        if length < HEAD:  # damage, which the decoder judges
            return
        yield Box(name=head[4:HEAD], begin=begin, end=begin + length)
        begin += length


def lay_out(file: BinaryIO, size: int) -> Layout:
    """Blocking."""
    first: dict[bytes, Box] = {}
    lost, lost_of_index = 0, False
    for box in boxes(file, size):
        first.setdefault(box.name, box)
        if box.end > size:
            lost = box.end - size if box.name in NEEDED else 0
            lost_of_index = box.name != b"mdat"
    index, meta, data = first.get(b"moov"), first.get(b"meta"), first.get(b"mdat")
    is_picture = meta is not None and (index is None or meta.begin < index.begin)
    return Layout(
        lost=lost,
        lost_of_index=lost_of_index,
        is_picture=is_picture,
        is_film=bool(first.keys() & {b"moov", b"moof", b"mdat"}),
        has_index=index is not None,
        in_fragments=b"moof" in first,
        streamable=index is not None and (data is None or index.begin < data.begin),
        encrypted=frozenset() if index is None else _encrypted(_content(file, index, INDEX_LARGEST)),
        sides=_sides(_content(file, meta, META_LARGEST)) if is_picture and meta is not None else None,
    )


def missing(file: BinaryIO, size: int) -> int:
    """How many bytes of the picture, the sound or their index are not there."""
    return lay_out(file, size).lost


def _content(file: BinaryIO, box: Box, largest: int) -> bytes:
    file.seek(box.begin + HEAD)
    return file.read(min(box.end - box.begin - HEAD, largest))


def _encrypted(index: bytes) -> frozenset[str]:
    return frozenset(kind for name, kind in ENCRYPTED.items() if name in index)


def _sides(meta: bytes) -> tuple[int, int] | None:
    """The largest picture that the properties speak of: tiles and previews are smaller. Turned as the first says."""
    found = []
    at = meta.find(b"ispe")
    while at >= 0 and at + 16 <= len(meta):
        sides = struct.unpack_from(">LL", meta, at + 8)
        if min(sides) > 0 and max(sides) <= LONGEST_SIDE:
            found.append(sides)
        at = meta.find(b"ispe", at + 4)
    if not found:
        return None
    width, height = max(found, key=lambda sides: int(sides[0]) * int(sides[1]))
    at = meta.find(b"\0\0\0\x09irot")
    turned = at >= 0 and at + 8 < len(meta) and meta[at + 8] & 1 == 1
    return (height, width) if turned else (width, height)
