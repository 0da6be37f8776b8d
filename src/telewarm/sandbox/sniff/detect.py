"""Detection of the format by the first bytes."""

from __future__ import annotations

from collections.abc import Callable

from telewarm.sandbox.sniff import images, mp4, sound
from telewarm.sandbox.sniff.facts import Facts
from telewarm.sandbox.sniff.stream import Driver, Parser, Reader

HEAD = 12  # bytes; a shorter file is of no known format

PARSERS: dict[str, Callable[[Facts, Reader], Parser]] = {
    "jpeg": images.jpeg,
    "png": images.png,
    "gif": images.gif,
    "bmp": images.bmp,
    "webp": images.webp,
    "mp4": mp4.mp4,
    "ogg": sound.ogg,
    "mp3": sound.mp3,
    "flac": sound.flac,
    "wav": sound.wav,
}

_MAGIC = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"\x1a\x45\xdf\xa3", "webm"),
    (b"OggS", "ogg"),
    (b"ID3", "mp3"),
    (b"fLaC", "flac"),
    (b"%PDF", "pdf"),
    (b"PK\x03\x04", "zip"),
    (b"\x1f\x8b", "gzip"),
)
_RIFF = {b"WEBP": "webp", b"WAVE": "wav", b"AVI ": "avi"}


def format_of(head: bytes) -> str:
    """Return the format, empty if unknown."""
    if head[4:8] in {b"ftyp", b"moov", b"mdat", b"wide", b"free"}:
        return "mp4"
    if head.startswith(b"RIFF"):
        return _RIFF.get(head[8:12], "")
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    # an MP3 without a tag starts with a frame: 11 set bits, layer III
    return "mp3" if head[0] == 0xFF and head[1] & 0xE6 == 0xE2 else ""


class Sniffer:
    """Sniffs a streamed file; `facts` after `close`."""

    def __init__(self) -> None:
        self.facts = Facts()
        self._driver = Driver(self._parse(Reader()))

    def feed(self, data: bytes) -> None:
        """Receive a piece."""
        self._driver.feed(data)

    def close(self, size: int) -> Facts:
        """End the file. `size`: its bytes."""
        self._driver.close()
        if self.facts.byte_rate and not self.facts.duration:
            self.facts.duration = size / self.facts.byte_rate
        return self.facts

    def _parse(self, reader: Reader) -> Parser:
        head = yield from reader.peek(HEAD)
        self.facts.format = format_of(head)
        parser = PARSERS.get(self.facts.format)
        if parser is not None:
            yield from parser(self.facts, reader)
        elif self.facts.format in {"webm", "avi"}:
            self.facts.video = True
