"""Recipients in: lists of chat ids as CSV, NDJSON or JSON, read as they stream in."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum
from typing import Protocol

from telewarm.broadcast.arrays import JsonArray
from telewarm.broadcast.lines import Csv, Lines, Ndjson
from telewarm.broadcast.rows import Rows
from telewarm.errors import UsageError
from telewarm.model import ChatId

BOM = b"\xef\xbb\xbf"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # how such texts begin
PIECE = 32 << 10  # bytes read in one go: the event loop waits for no more


class Format(StrEnum):
    """`csv`: with or without a header; a plain list of one id a line is CSV too."""

    CSV = "csv"
    NDJSON = "ndjson"
    JSON = "json"


class Reading(Protocol):
    """One format. Raises UsageError for a list that is none of it."""

    def feed(self, data: bytes) -> None: ...

    def end(self) -> None: ...


class Reader:
    """Takes a list in pieces of any size; what it found is in `rows`. `format` None: what the first bytes say."""

    def __init__(self, format: Format | None, *, bots: Collection[str] = ()) -> None:  # noqa: A002 - as callers say it
        self.rows = Rows(bots)
        self._format = format
        self._begin = b""
        self._reading: Reading | None = None

    def feed(self, data: bytes) -> Iterator[None]:
        """Read the piece, a little at each step. Raises UsageError."""
        for at in range(0, len(data), PIECE):
            self._feed(data[at : at + PIECE])
            yield

    def end(self) -> None:
        """The list is whole. Raises UsageError."""
        if self._reading is None:
            self._open(self._begin)
        if self._reading is not None:
            self._reading.end()

    def _feed(self, data: bytes) -> None:
        if self._reading is not None:
            self._reading.feed(data)
            return
        self._begin += data
        told = len(self._begin) > len(BOM) and self._begin.removeprefix(BOM).strip()
        if told or len(self._begin) > PIECE:
            self._open(self._begin)

    def _open(self, begin: bytes) -> None:
        if begin.startswith(UTF_16):
            raise UsageError("the list is in UTF-16; save it as UTF-8 and load it again")
        begin = begin.removeprefix(BOM)
        self._reading = _reading(self._format or sniff(begin), self.rows)
        self._begin = b""
        if begin:
            self._reading.feed(begin)


def sniff(begin: bytes) -> Format:
    """The format of a list by its first bytes."""
    first = begin.lstrip()[:1]
    return {b"[": Format.JSON, b"{": Format.NDJSON}.get(first, Format.CSV)


def rows_of(chat_ids: Iterable[ChatId], rows: Rows, *, at_once: int) -> Iterator[None]:
    """Put chat ids that the program has into `rows`, so many at each step; the number is their place, from 1."""
    for number, value in enumerate(chat_ids, 1):
        rows.take(number, value, excerpt=repr(value))
        if number % at_once == 0:
            yield


def _reading(format: Format, rows: Rows) -> Reading:  # noqa: A002 - as callers say it
    match format:
        case Format.CSV:
            return Lines(Csv(rows))
        case Format.NDJSON:
            return Lines(Ndjson(rows))
        case Format.JSON:
            return JsonArray(rows)
