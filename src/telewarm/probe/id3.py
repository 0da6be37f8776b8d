"""ID3v2 title and performer, where FFmpeg reads too little: UTF-16 without a byte order mark, several performers."""

from __future__ import annotations

import codecs
from typing import BinaryIO, Final

MAX_TAG_BYTES: Final = 1 << 20  # of a tag that are read; covers come last
FRAME_NAMES: Final = {b"TIT2": "title", b"TPE1": "artist", b"TT2": "title", b"TP1": "artist"}
ENCODINGS: Final = {0: "latin-1", 3: "utf-8"}

for encoding in ("utf-16-le", "utf-16-be"):
    codecs.lookup(encoding)  # at import: a decoder process cannot load modules later


def read_tags(file: BinaryIO) -> dict[str, str]:
    """Return the tags by FFmpeg's names; empty without an ID3v2 tag. Damage ends the reading."""
    head = file.read(10)
    if not head.startswith(b"ID3") or len(head) < 10 or max(head[6:10]) > 0x7F:
        return {}
    version, flags = head[3], head[5]
    if not 2 <= version <= 4 or flags & 0xC0:  # unsynchronised or extended tags: FFmpeg's reading suffices
        return {}
    body = file.read(min(_syncsafe(head[6:10]), MAX_TAG_BYTES))
    found: dict[str, str] = {}
    wide, at = (6, 0) if version == 2 else (10, 0)
    while at + wide <= len(body) and body[at]:
        name = body[at : at + wide // 2 - (version > 2)]
        size = body[at + len(name) : at + 2 * len(name)]
        length = _syncsafe(size) if version == 4 else int.from_bytes(size)
        if (key := FRAME_NAMES.get(name)) is not None and (text := _text(body[at + wide : at + wide + length])):
            found.setdefault(key, text)
        at += wide + length
    return found


def _syncsafe(data: bytes) -> int:
    number = 0
    for byte in data:
        number = number << 7 | byte & 0x7F
    return number


def _text(value: bytes) -> str:
    """Join several values with commas."""
    if not value:
        return ""
    encoding = ENCODINGS.get(value[0]) or _utf_16(value[1:])
    texts = value[1:].decode(encoding, errors="replace").split("\0")
    return ", ".join(text.strip().lstrip("\ufeff") for text in texts if text.strip("\0\ufeff "))


def _utf_16(data: bytes) -> str:
    """Decode UTF-16 by its mark or, without one, by the position of the zeros of Latin letters and spaces."""
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return "utf-16-le" if data[0] == 0xFF else "utf-16-be"
    high_first, low_first = data[0::2], data[1::2]
    return "utf-16-be" if len(set(high_first)) < len(set(low_first)) else "utf-16-le"
