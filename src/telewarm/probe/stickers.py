"""Animated stickers: a gzipped Lottie animation in JSON. Unpacked within limits, not drawn."""

from __future__ import annotations

import zlib
from typing import BinaryIO, Final

import msgspec

MAX_PACKED_BYTES: Final = 1 << 20  # read; Telegram accepts 64 KiB
MAX_UNPACKED_BYTES: Final = 8 << 20
MAX_SECONDS: Final = 86_400.0  # seconds


class Lottie(msgspec.Struct):
    """Facts of an animation: sides in pixels, frames a second, the first frame and the one after the last."""

    w: int
    h: int
    fr: float
    ip: float = 0
    op: float = 0

    @property
    def seconds(self) -> float | None:
        """Duration; None for an impossible one."""
        seconds = (self.op - self.ip) / self.fr if self.fr > 0 else 0.0
        return seconds if 0 < seconds < MAX_SECONDS else None


def read_lottie(file: BinaryIO) -> Lottie | str:
    """Return the facts, or the reason why the file is unreadable."""
    unpacker = zlib.decompressobj(wbits=31)
    file.seek(0)
    try:
        text = unpacker.decompress(file.read(MAX_PACKED_BYTES), MAX_UNPACKED_BYTES)
    except zlib.error:
        return "its packed data is damaged"
    if not unpacker.eof:
        return "it is cut off: its packed data does not end"
    try:
        return msgspec.json.decode(text, type=Lottie)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return "what is packed in it is no Lottie animation"
