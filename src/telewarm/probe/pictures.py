"""Picture headers and trailers: sides, animation, completeness. Without decoding."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Final

MAX_JPEG_SEGMENTS: Final = 4096  # a file with more before its frame header is hostile
JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers that hold the sides
JPEG_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length
MAX_STRAY_BYTES: Final = 1 << 16  # between segments that are skipped, as in libjpeg
TRAILER_BYTES: Final = 1 << 16  # of a file that are searched for the end of its picture
EXIF: Final = b"Exif\0\0"
ORIENTATION: Final = 0x0112
ROTATED_ORIENTATIONS: Final = frozenset({5, 6, 7, 8})  # EXIF orientations that swap the sides
MAX_CHUNKS: Final = 8192  # of a PNG or WEBP; a longer one counts as complete
MAX_SIDE_PIXELS: Final = (1 << 31) - 1  # pixels


class DamagedHeader(Exception):
    """A header that contradicts its format."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureInfo:
    """Facts of a picture. Sides as seen, in pixels. `is_animated`: several frames. `is_complete`: its end is there."""

    width: int
    height: int
    is_animated: bool = False
    is_complete: bool = True


def measure(mime: str, head: bytes, file: BinaryIO, size: int) -> PictureInfo:
    """Read the facts of a picture of a type in `MEASURES`. Blocks, with small reads. Raises DamagedHeader."""
    try:
        found = MEASURES[mime](head, file, size)
    except (struct.error, IndexError):
        raise DamagedHeader from None
    if not (0 < found.width <= MAX_SIDE_PIXELS and 0 < found.height <= MAX_SIDE_PIXELS):
        raise DamagedHeader
    return found


def _jpeg(_head: bytes, file: BinaryIO, size: int) -> PictureInfo:
    file.seek(2)
    turned, sides = False, (0, 0)
    for _ in range(MAX_JPEG_SEGMENTS):
        try:
            marker = _marker(file)
            if marker in JPEG_ALONE:
                continue
            length = _length(file, marker)
        except (struct.error, IndexError, DamagedHeader):
            if not all(sides):
                raise
            return _seen(sides, turned=turned, whole=False)
        if marker == 0xDA:
            break
        if marker in JPEG_FRAMES and not all(sides):
            height, width = struct.unpack(">xHH", file.read(5))
            sides = (width, height)
            file.seek(length - 7, 1)
        elif marker == 0xE1:
            segment = file.read(length - 2)
            turned = turned or (segment.startswith(EXIF) and is_turned(segment[len(EXIF) :]))
        else:
            file.seek(length - 2, 1)
    if not all(sides):
        raise DamagedHeader
    begin = max(file.tell(), size - TRAILER_BYTES)
    file.seek(begin)
    return _seen(sides, turned=turned, whole=b"\xff\xd9" in file.read(TRAILER_BYTES))


def _length(file: BinaryIO, marker: int) -> int:
    """Read the length of a segment, after its marker."""
    (length,) = struct.unpack(">H", file.read(2))
    if length < 2 or marker == 0xD9:
        raise DamagedHeader
    return int(length)


def _marker(file: BinaryIO) -> int:
    """Return the code of the next marker. Stray and fill bytes may stand before it."""
    byte = file.read(1)
    if byte != b"\xff":
        stray = file.read(MAX_STRAY_BYTES)
        at = stray.find(b"\xff")
        if at < 0:
            raise DamagedHeader
        file.seek(at + 1 - len(stray), 1)
    code = file.read(1)
    while code == b"\xff":
        code = file.read(1)
    return code[0]


def is_turned(tiff: bytes) -> bool:
    """Return whether EXIF says that the sides are swapped. Damaged EXIF says nothing."""
    order = "<" if tiff.startswith(b"II") else ">"
    try:
        (start,) = struct.unpack_from(f"{order}L", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for index in range(min(count, 512)):
            tag, _type, _count, value = struct.unpack_from(f"{order}HHLH", tiff, start + 2 + 12 * index)
            if tag == ORIENTATION:
                return value in ROTATED_ORIENTATIONS
    except struct.error:
        return False
    return False


def _png(head: bytes, file: BinaryIO, size: int) -> PictureInfo:
    if head[12:16] != b"IHDR":
        raise DamagedHeader
    sides = struct.unpack_from(">LL", head, 16)
    turned = moves = drawn = False
    at = 8
    for _ in range(MAX_CHUNKS):
        file.seek(at)
        begin = file.read(12)
        if len(begin) < 8:
            return _seen(sides, turned=turned, moves=moves, whole=False)
        length, name = int.from_bytes(begin[:4]), begin[4:8]
        at += 12 + length
        if name == b"IEND":
            return _seen(sides, turned=turned, moves=moves, whole=drawn)
        if at > size:
            return _seen(sides, turned=turned, moves=moves, whole=False)
        if name == b"acTL" and not drawn:
            moves = int.from_bytes(begin[8:12]) > 1
        elif name == b"eXIf":
            file.seek(at - 4 - length)
            turned = is_turned(file.read(min(length, MAX_STRAY_BYTES)))
        drawn = drawn or name == b"IDAT"
    file.seek(max(0, size - TRAILER_BYTES))
    return _seen(sides, turned=turned, moves=moves, whole=b"IEND" in file.read(TRAILER_BYTES))


def _webp(head: bytes, file: BinaryIO, size: int) -> PictureInfo:
    whole = 8 + int.from_bytes(head[4:8], "little") <= size + 1  # the padding byte is often missing
    match head[12:16]:
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", head, 26)
            return PictureInfo(width=width & 0x3FFF, height=height & 0x3FFF, is_complete=whole)
        case b"VP8L":
            (bits,) = struct.unpack_from("<L", head, 21)
            return PictureInfo(width=(bits & 0x3FFF) + 1, height=(bits >> 14 & 0x3FFF) + 1, is_complete=whole)
        case b"VP8X":
            width, height = struct.unpack("<LL", head[24:27] + b"\0" + head[27:30] + b"\0")
            turned, frames = _webp_chunks(file, size) if head[20] & 0x0A else (False, 0)
            return _seen((width + 1, height + 1), turned=turned, moves=frames > 1, whole=whole)
        case _:
            raise DamagedHeader


def _webp_chunks(file: BinaryIO, size: int) -> tuple[bool, int]:
    """Return whether EXIF swaps the sides, and the number of frames."""
    turned, frames, at = False, 0, 12
    for _ in range(MAX_CHUNKS):
        if at + 8 > size:
            break
        file.seek(at)
        begin = file.read(8)
        length = int.from_bytes(begin[4:8], "little")
        frames += begin[:4] == b"ANMF"
        if begin[:4] == b"EXIF":
            turned = is_turned(file.read(min(length, MAX_STRAY_BYTES)).removeprefix(EXIF))
        at += 8 + length + length % 2
    return turned, frames


def _bmp(head: bytes, _file: BinaryIO, size: int) -> PictureInfo:
    if int.from_bytes(head[14:18], "little") == 12:
        width, height, _planes, depth = struct.unpack_from("<HHHH", head, 18)
        packed = 0
    else:
        width, height, _planes, depth = struct.unpack_from("<llHH", head, 18)
        packed = int.from_bytes(head[30:34], "little")
    width, height = abs(width), abs(height)
    needed = int.from_bytes(head[2:6], "little")
    if packed in {0, 3, 6}:  # uncompressed: rows of 4-byte multiples
        needed = int.from_bytes(head[10:14], "little") + ((width * depth + 31) // 32 * 4) * height
    return PictureInfo(width=width, height=height, is_complete=needed <= size)


def _seen(sides: tuple[int, int], *, turned: bool, whole: bool, moves: bool = False) -> PictureInfo:
    width, height = reversed(sides) if turned else sides
    return PictureInfo(width=width, height=height, is_animated=moves, is_complete=whole)


MEASURES: Final[dict[str, Callable[[bytes, BinaryIO, int], PictureInfo]]] = {
    "image/jpeg": _jpeg,
    "image/png": _png,
    "image/webp": _webp,
    "image/bmp": _bmp,
}
