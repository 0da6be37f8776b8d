"""Animated stickers: a Lottie animation as JSON, packed by gzip. Unpacked within bounds; nothing of it is drawn."""

from __future__ import annotations

import zlib
from typing import BinaryIO, Final

import msgspec

PACKED: Final = 1 << 20  # bytes read; Telegram takes 64 KiB
UNPACKED: Final = 8 << 20
LONGEST: Final = 86_400.0  # seconds


class Lottie(msgspec.Struct):
    """What matters of it: sides in pixels, frames a second, the first frame and the one after the last."""

    w: int
    h: int
    fr: float
    ip: float = 0
    op: float = 0

    @property
    def seconds(self) -> float | None:
        """None for a length that makes no sense."""
        seconds = (self.op - self.ip) / self.fr if self.fr > 0 else 0.0
        return seconds if 0 < seconds < LONGEST else None


def read_lottie(file: BinaryIO) -> Lottie | str:
    """Or what is wrong with it."""
    unpacker = zlib.decompressobj(wbits=31)
    file.seek(0)
    try:
        text = unpacker.decompress(file.read(PACKED), UNPACKED)
    except zlib.error:
        return "its packed data is damaged"
    if not unpacker.eof:
        return "it is cut off: its packed data does not end"
    try:
        return msgspec.json.decode(text, type=Lottie)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return "what is packed in it is no Lottie animation"
