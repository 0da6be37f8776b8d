"""The cheap half of the probe: the type and, for pictures, the sides, from headers alone. No decoder runs."""

from __future__ import annotations

import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

from telewarm.errors import UnreadableMedia
from telewarm.model import Facts
from telewarm.probe.boxes import missing
from telewarm.probe.signatures import HEAD_BYTES, recognise

JPEG_SEGMENTS: Final = 4096  # a file with more before its frame header is hostile
JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the markers that hold the sides
JPEG_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})  # the markers without a length
EXIF: Final = b"Exif\0\0"
ORIENTATION: Final = 0x0112
TURNED: Final = frozenset({5, 6, 7, 8})  # EXIF orientations that swap the sides

Sides = tuple[int, int]


class _Damaged(Exception):
    """A header that contradicts its format."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """Facts as far as headers tell; `demuxer` if a decoder must tell the rest; `problem` if the header is damaged."""

    path: str  # absolute
    facts: Facts
    demuxer: str | None = None
    problem: str | None = None


def read_head(path: Path) -> Head:
    """Blocking, a few small reads. Raises UnreadableMedia for a file that is empty, irregular or cannot be opened."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableMedia("This is not a regular file. Give the path of a file.")
        if not status.st_size:
            raise UnreadableMedia("The file is empty, and Telegram refuses empty files. Send a file with content.")
        with path.open("rb") as file:
            return _read(file, path=str(path.absolute()), size=status.st_size)
    except OSError as exc:
        reason = exc.strerror or "an I/O error"
        raise UnreadableMedia(f"The file cannot be opened: {reason}. Check that it exists and may be read.") from exc


def _read(file: BinaryIO, *, path: str, size: int) -> Head:
    head = file.read(HEAD_BYTES)
    signature = recognise(head)
    facts = Facts(bytes=size, mime=signature.mime, ext=signature.ext)
    measure = MEASURES.get(signature.mime)
    if measure is None:
        lost = missing(file, size) if signature.demuxer == "mov" else 0
        problem = f"The file is cut off: its last {lost:,} bytes are missing. Upload it again." if lost else None
        return Head(path=path, facts=facts, demuxer=signature.demuxer, problem=problem)
    try:
        width, height = measure(head, file)
        if not width or not height:
            raise _Damaged
    except (_Damaged, struct.error, IndexError):
        name = signature.ext.upper()
        return Head(path=path, facts=facts, problem=f"The {name} header is damaged or cut off. Upload the file again.")
    return Head(path=path, facts=replace(facts, width=width, height=height))


def _jpeg(_head: bytes, file: BinaryIO) -> Sides:
    file.seek(2)
    turned = False
    for _ in range(JPEG_SEGMENTS):
        marker = _jpeg_marker(file)
        if marker in JPEG_ALONE:
            continue
        (length,) = struct.unpack(">H", file.read(2))
        if marker in JPEG_FRAMES:
            height, width = struct.unpack(">xHH", file.read(5))
            return (height, width) if turned else (width, height)
        if length < 2 or marker in {0xD9, 0xDA}:
            raise _Damaged
        if marker == 0xE1:
            turned = turned or _is_turned(file.read(length - 2))
        else:
            file.seek(length - 2, 1)
    raise _Damaged


def _jpeg_marker(file: BinaryIO) -> int:
    """The code of the next marker; any number of fill bytes may stand before it."""
    if file.read(1) != b"\xff":
        raise _Damaged
    code = file.read(1)
    while code == b"\xff":
        code = file.read(1)
    return code[0]


def _is_turned(app1: bytes) -> bool:
    """Whether EXIF says that the picture lies on its side. Damaged EXIF says nothing."""
    if not app1.startswith(EXIF):
        return False
    tiff = app1[len(EXIF) :]
    order = "<" if tiff.startswith(b"II") else ">"
    try:
        (start,) = struct.unpack_from(f"{order}L", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for index in range(min(count, 512)):
            tag, _type, _count, value = struct.unpack_from(f"{order}HHLH", tiff, start + 2 + 12 * index)
            if tag == ORIENTATION:
                return value in TURNED
    except struct.error:
        return False
    return False


def _png(head: bytes, _file: BinaryIO) -> Sides:
    if head[12:16] != b"IHDR":
        raise _Damaged
    width, height = struct.unpack_from(">LL", head, 16)
    return width, height


def _webp(head: bytes, _file: BinaryIO) -> Sides:
    match head[12:16]:
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", head, 26)
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            (bits,) = struct.unpack_from("<L", head, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            width, height = struct.unpack("<LL", head[24:27] + b"\0" + head[27:30] + b"\0")
            return width + 1, height + 1
        case _:
            raise _Damaged


def _bmp(head: bytes, _file: BinaryIO) -> Sides:
    width, height = struct.unpack_from("<ll", head, 18)
    return abs(width), abs(height)


MEASURES: Final[dict[str, Callable[[bytes, BinaryIO], Sides]]] = {
    "image/jpeg": _jpeg,
    "image/png": _png,
    "image/webp": _webp,
    "image/bmp": _bmp,
}
