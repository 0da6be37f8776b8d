"""Header half of the probe: type and, for pictures, sides, without a decoder."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

from telewarm.errors import UnreadableMedia
from telewarm.models import MediaMetadata
from telewarm.probe.boxes import Layout, read_layout
from telewarm.probe.ipc import Doubt
from telewarm.probe.pictures import MAX_SIDE_PIXELS, MEASURES, DamagedHeader, measure
from telewarm.probe.signatures import (
    AVIF,
    HEAD_BYTES,
    HEIF,
    MP3,
    MP4,
    QUICKTIME,
    TGS,
    UNKNOWN,
    Signature,
    recognise,
    sound_behind_junk,
)
from telewarm.probe.stickers import read_lottie

MAX_TAGS: Final = 16  # ID3 tags before the sound that are skipped
MAX_JUNK_BYTES: Final = 1 << 16  # junk before a sound that is searched
MAX_MISSING_FILM_BYTES: Final = 4096  # that a film's boxes may announce beyond the end, if its last frames are there
MAX_MISSING_SOUND_BYTES: Final = 4096  # that a sound may lack: recorders round up


@dataclass(frozen=True, kw_only=True, slots=True)
class HeaderInfo:
    """Metadata as far as headers tell.

    `demuxer`: set if a decoder must complete it. `problem`: set if the file is unreadable. `doubt`: what a decoder has
    to check besides. A picture without a demuxer is decoded if there is a doubt.
    """

    path: str  # absolute
    facts: MediaMetadata
    demuxer: str | None = None
    problem: str | None = None
    doubt: Doubt | None = None
    encrypted: frozenset[str] = frozenset()

    @property
    def needs_decoder(self) -> bool:
        """Whether a decoder has to complete or check the metadata."""
        return self.demuxer is not None or self.doubt is not None


def read_head(path: Path) -> HeaderInfo:
    """Read the head of a file, in a few small reads. Blocks. Raises UnreadableMedia for an empty or irregular file."""
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
    except ValueError:
        raise UnreadableMedia("The path holds characters that no path can have. Give the path of a file.") from None


def _read(file: BinaryIO, *, path: str, size: int) -> HeaderInfo:
    head = file.read(HEAD_BYTES)
    signature = recognise(head)
    if signature is MP3 and head.startswith(b"ID3"):
        signature = _behind_tags(file, head)
    elif signature is UNKNOWN and size > HEAD_BYTES:
        signature = sound_behind_junk(head + file.read(MAX_JUNK_BYTES - HEAD_BYTES)) or UNKNOWN
    if signature.mime in MEASURES:
        return _picture(file, signature, head, path=path, size=size)
    if signature.demuxer == "mov" or signature in {AVIF, HEIF}:
        return _boxed(file, signature, head, path=path, size=size)
    facts = MediaMetadata(bytes=size, mime=signature.mime, ext=signature.ext)
    if signature is TGS:
        return _sticker(file, facts, path)
    measure_lost = MISSING_BYTES.get(signature.mime)
    lost = 0 if measure_lost is None else measure_lost(file, head, size)
    problem = cut_off(lost) if lost > min(MAX_MISSING_SOUND_BYTES, size // 100) else None
    return HeaderInfo(path=path, facts=facts, demuxer=signature.demuxer, problem=problem)


def cut_off(lost: int) -> str:
    """Return the problem of a truncated file."""
    return f"it is cut off, its last {lost:,} bytes are missing"


def _behind_tags(file: BinaryIO, head: bytes) -> Signature:
    """Return the signature behind ID3 tags, which players accept before FLAC, AAC and others; MP3 if unknown."""
    at = 0
    for _ in range(MAX_TAGS):
        if not head.startswith(b"ID3") or len(head) < 10 or max(head[6:10]) > 0x7F:
            break
        length = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        at += 20 + length if head[5] & 0x10 else 10 + length
        file.seek(at)
        head = file.read(HEAD_BYTES)
    found = recognise(head.lstrip(b"\0"))
    return found if found.mime.startswith("audio/") else MP3


def _picture(file: BinaryIO, signature: Signature, head: bytes, *, path: str, size: int) -> HeaderInfo:
    facts = MediaMetadata(bytes=size, mime=signature.mime, ext=signature.ext)
    try:
        found = measure(signature.mime, head, file, size)
    except DamagedHeader:
        return HeaderInfo(path=path, facts=facts, problem="its header is damaged or cut off")
    if found.is_animated and not found.is_complete:  # a decoder would accept the first frame
        return HeaderInfo(path=path, facts=facts, problem="it is cut off")
    codec = signature.ext if found.is_animated else None
    facts = replace(facts, width=found.width, height=found.height, video_codec=codec)
    return HeaderInfo(path=path, facts=facts, doubt=None if found.is_complete else Doubt.CUT_OFF)


def _boxed(file: BinaryIO, signature: Signature, head: bytes, *, path: str, size: int) -> HeaderInfo:
    """Return the metadata of a box file, whose brands tell little: a `meta` box before any index is a picture's."""
    layout = read_layout(file, size)
    signature = _by_boxes(signature, head, layout)
    facts = MediaMetadata(bytes=size, mime=signature.mime, ext=signature.ext)
    if signature.demuxer is None:
        width, height = layout.sides or (None, None)
        problem = cut_off(layout.missing_bytes) if layout.missing_bytes and signature is not UNKNOWN else None
        if problem is None and width is not None and height is not None:
            facts = replace(facts, width=width, height=height)
        return HeaderInfo(path=path, facts=facts, problem=problem)
    if layout.missing_bytes > MAX_MISSING_FILM_BYTES or (
        layout.missing_bytes and (layout.lost_of_index or not layout.has_index)
    ):
        return HeaderInfo(path=path, facts=facts, demuxer=signature.demuxer, problem=cut_off(layout.missing_bytes))
    doubt = Doubt.CUT_OFF if layout.missing_bytes else Doubt.LATE_CLOCK if layout.in_fragments else None
    streamable = layout.streamable or layout.in_fragments
    return HeaderInfo(
        path=path,
        facts=replace(facts, streamable=streamable),
        demuxer=signature.demuxer,
        doubt=doubt,
        encrypted=layout.encrypted,
    )


def _by_boxes(signature: Signature, head: bytes, layout: Layout) -> Signature:
    if signature in {AVIF, HEIF}:
        return signature
    if layout.is_picture and signature is MP4:
        return AVIF if b"av01" in head[:HEAD_BYTES] else HEIF
    if signature is MP4 and not layout.is_film:
        return UNKNOWN
    if signature is QUICKTIME and head[4:8] != b"ftyp" and not layout.has_index and head[:2] != b"\0\0":
        return UNKNOWN  # another format whose beginning looks like a box
    return signature


def _sticker(file: BinaryIO, facts: MediaMetadata, path: str) -> HeaderInfo:
    found = read_lottie(file)
    if isinstance(found, str):
        return HeaderInfo(path=path, facts=facts, problem=found)
    if not (0 < found.w <= MAX_SIDE_PIXELS and 0 < found.h <= MAX_SIDE_PIXELS):
        return HeaderInfo(path=path, facts=facts, problem="its sides make no sense")
    return HeaderInfo(path=path, facts=replace(facts, width=found.w, height=found.h, duration=found.seconds))


def _missing_wav_bytes(file: BinaryIO, head: bytes, size: int) -> int:
    """Return the missing bytes of the sound. A length of 0 or all ones comes from a recorder that was cut off."""
    long = int.from_bytes(head[28:36], "little") if head[12:16] == b"ds64" else 0  # of RF64: 64 bits
    at = 12
    while at + 8 <= size:
        file.seek(at)
        begin = file.read(8)
        length = int.from_bytes(begin[4:8], "little")
        if begin[:4] == b"data":
            if length == 0xFFFFFFFF and long:
                return at + 8 + long - size
            return 0 if length == 0 or length >= 0x7FFFF000 else at + 8 + length - size
        at += 8 + length + length % 2
    return 0


def _lost_of_aiff(_file: BinaryIO, head: bytes, size: int) -> int:
    return 8 + int.from_bytes(head[4:8]) - size


def _missing_matroska_bytes(_file: BinaryIO, head: bytes, size: int) -> int:
    """Return the missing bytes by the length of the segment, where the recorder knew it."""
    at = head.find(b"\x18\x53\x80\x67", 0, 256)
    if at < 0 or len(head) < at + 12:
        return 0
    width = 9 - head[at + 4].bit_length()  # size of the length: its first byte has so many leading zeros, and a one
    said = int.from_bytes(head[at + 4 : at + 4 + width]) & (1 << 7 * width) - 1
    return 0 if said == (1 << 7 * width) - 1 or width > 8 else at + 4 + width + said - size


MISSING_BYTES: Final[dict[str, Callable[[BinaryIO, bytes, int], int]]] = {
    "audio/wav": _missing_wav_bytes,
    "audio/aiff": _lost_of_aiff,
    "video/webm": _missing_matroska_bytes,
    "video/x-matroska": _missing_matroska_bytes,
}
