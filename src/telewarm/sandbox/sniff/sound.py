"""Audio sniffers: codec, duration and names by headers."""

from __future__ import annotations

import struct
from collections.abc import Generator

from telewarm.sandbox.sniff.facts import Facts
from telewarm.sandbox.sniff.stream import Parser, Reader

MAX_TAG = 1 << 20  # bytes; a larger ID3 tag (a cover picture) is skipped
_RATES = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)  # kbit/s, MPEG 1 layer III
_RATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)  # MPEG 2 and 2.5
_ENCODINGS = ("latin-1", "utf-16", "utf-16-be", "utf-8")


def ogg(facts: Facts, reader: Reader) -> Parser:
    """Sniff an Ogg: walk every page, since only the last one knows the duration."""
    facts.audio = True
    rate, preskip = 0, 0
    while True:
        head = yield from reader.take(27)
        if head[:4] != b"OggS":
            return
        segments = yield from reader.take(head[26])
        size = sum(segments)
        (granule,) = struct.unpack_from("<q", head, 6)
        if rate == 0:
            first = yield from reader.take(size)
            facts.opus = first.startswith(b"OpusHead")
            facts.video = first.startswith(b"\x80theora")
            rate, preskip = _ogg_rate(first)
            if rate == 0:
                return
            continue
        if granule > 0:
            facts.duration = max(0, granule - preskip) / rate
        yield from reader.skip(size)


def _ogg_rate(first: bytes) -> tuple[int, int]:
    if first.startswith(b"OpusHead") and len(first) >= 12:
        return 48_000, int.from_bytes(first[10:12], "little")
    if first.startswith(b"\x01vorbis") and len(first) >= 16:
        return int.from_bytes(first[12:16], "little"), 0
    return 0, 0


def mp3(facts: Facts, reader: Reader) -> Parser:
    """Sniff an MP3."""
    facts.audio = True
    head = yield from reader.peek(10)
    if head.startswith(b"ID3"):
        yield from reader.skip(10)
        yield from _id3(facts, reader, head)
    header = yield from reader.take(4)
    second = header[1] >> 3 & 3 != 3
    facts.byte_rate = (_RATES_2 if second else _RATES)[header[2] >> 4] * 125


def _id3(facts: Facts, reader: Reader, head: bytes) -> Generator[int, bytes, None]:
    size = syncsafe(head[6:10])
    if size > MAX_TAG:
        yield from reader.skip(size)
    else:
        names(facts, (yield from reader.take(size)), version=head[3])


def names(facts: Facts, tag: bytes, *, version: int) -> None:
    """Read title and performer of an ID3v2.3 or 2.4 tag."""
    at = 0
    while at + 10 <= len(tag) and tag[at]:
        label = tag[at : at + 4]
        size = syncsafe(tag[at + 4 : at + 8]) if version >= 4 else int.from_bytes(tag[at + 4 : at + 8])
        value = tag[at + 10 : at + 10 + size]
        if label == b"TIT2":
            facts.title = text(value)
        elif label == b"TPE1":
            facts.performer = text(value)
        at += 10 + size


def text(value: bytes) -> str:
    """Decode a text frame."""
    if not value or value[0] >= len(_ENCODINGS):
        return ""
    return value[1:].decode(_ENCODINGS[value[0]], "replace").rstrip("\0")


def syncsafe(data: bytes) -> int:
    """Decode a syncsafe integer."""
    size = 0
    for byte in data:
        size = size << 7 | byte & 0x7F
    return size


def flac(facts: Facts, reader: Reader) -> Parser:
    """Sniff a FLAC."""
    facts.audio = True
    head = yield from reader.take(26)
    packed = int.from_bytes(head[18:26])
    rate, samples = packed >> 44, packed & 0xFFFFFFFFF
    facts.duration = samples / rate if rate else 0.0


def wav(facts: Facts, reader: Reader) -> Parser:
    """Sniff a WAV."""
    facts.audio = True
    head = yield from reader.take(32)
    facts.byte_rate = int.from_bytes(head[28:32], "little")
