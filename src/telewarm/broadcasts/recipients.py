"""Reader of streamed recipient lists: CSV, NDJSON or JSON."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import msgspec

from telewarm.broadcasts.columns import ColumnChoice
from telewarm.broadcasts.csv_list import CsvList
from telewarm.broadcasts.json_list import JsonList, NdjsonList
from telewarm.broadcasts.rows import RowBuffer
from telewarm.broadcasts.text_decoder import HEAD_BYTES, TextDecoder
from telewarm.models import ChatId

PIECE_BYTES = 32 << 10  # bytes parsed at once, so that the event loop is not blocked
JSON_ARRAY_PATTERN = re.compile(r'\[\s*(?:[\[{"\d\]-]|true|false|null|$)')  # not ['5'], which is Python


class ListFormat(StrEnum):
    """Format of a list. `csv`: with or without a header, also one id a line, or ids on one line."""

    CSV = "csv"
    NDJSON = "ndjson"
    JSON = "json"


@dataclass(frozen=True, kw_only=True, slots=True)
class ListFacts:
    """Facts about a read list.

    `column`: where the chat ids were, None for a list of nothing else. `guess`: why a person should check it before
    sending; None when there is no doubt.
    """

    format: ListFormat
    column: str | None
    guess: str | None


class RecipientParser(Protocol):
    """Parser of one format. Raises UsageError for input of another format."""

    @property
    def choice(self) -> ColumnChoice | None:
        """The column with the chat ids; None before it is known."""
        ...

    def feed(self, text: str) -> None:
        """Parse a piece."""
        ...

    def cut_off(self) -> None:
        """End after a broken upload: an incomplete last row is ignored."""
        ...

    def end(self) -> None:
        """End the list."""
        ...


class RecipientReader:
    """Reads a list in pieces of any size into `rows`. `format` None: detected by the first bytes.

    `column`: the name or the number, from 1, of the column with the chat ids; `*` for every cell.
    """

    def __init__(
        self,
        format: ListFormat | None,  # noqa: A002 - as callers say it
        *,
        bots: Collection[str] = (),
        column: str | None = None,
    ) -> None:
        self.rows = RowBuffer(bots)
        self._format = format
        self._column = (column or "").strip() or None
        self._head = b""
        self._text: TextDecoder | None = None
        self._begin = ""  # the beginning, for detecting the format
        self._parser: RecipientParser | None = None

    def feed(self, data: bytes) -> Iterator[None]:
        """Parse a piece, in small steps. Raises UsageError."""
        for at in range(0, len(data), PIECE_BYTES):
            self._feed(data[at : at + PIECE_BYTES])
            yield

    def end(self) -> None:
        """End the list. Raises UsageError."""
        if self._text is None:
            self._open()
        if self._text is not None:
            self._read(self._text.end(), final=True)
        if self._parser is not None:
            self._parser.end()

    def cut_off(self) -> None:
        """End after a broken upload: complete rows count. Raises UsageError."""
        if self._text is None and self._head:
            self._open()
        if self._parser is None and self._begin:
            self._read("", final=True)
        if self._parser is not None:
            self._parser.cut_off()

    @property
    def facts(self) -> ListFacts:
        """Return what was found, after the end."""
        choice = None if self._parser is None else self._parser.choice
        return ListFacts(
            format=self._format or ListFormat.CSV,
            column=None if choice is None else choice.name,
            guess=None if choice is None else choice.guess,
        )

    def _feed(self, data: bytes) -> None:
        if self._text is not None:
            self._read(self._text.more(data), final=False)
            return
        self._head += data
        if len(self._head) >= HEAD_BYTES:
            self._open()

    def _open(self) -> None:
        self._text = TextDecoder(self._head[:HEAD_BYTES])
        head, self._head = self._head, b""
        self._read(self._text.more(head), final=False)

    def _read(self, text: str, *, final: bool) -> None:
        if self._parser is not None:
            if text:
                self._parser.feed(text)
            return
        self._begin += text
        begin = self._begin.lstrip()
        if not final and len(self._begin) < PIECE_BYTES and not _is_enough_to_sniff(begin):
            return
        self._format = self._format or sniff(begin)
        self._parser = _parser(self._format, self.rows, self._column)
        begun, self._begin = self._begin, ""
        if begun:
            self._parser.feed(begun)


def _parser(format: ListFormat, rows: RowBuffer, column: str | None) -> RecipientParser:  # noqa: A002 - as callers say it
    match format:
        case ListFormat.CSV:
            return CsvList(rows, column)
        case ListFormat.NDJSON:
            return NdjsonList(rows, column)
        case ListFormat.JSON:
            return JsonList(rows, column)


def _is_enough_to_sniff(begin: str) -> bool:
    """Return whether the beginning suffices to detect the format: JSON takes a line and the start of the next."""
    return bool(begin) and (begin[0] not in "[{" or bool(begin.partition("\n")[2].strip()))


def sniff(begin: str) -> ListFormat:
    """Detect the format of a list by its beginning, at least a line."""
    if begin.startswith("["):
        return ListFormat.JSON if JSON_ARRAY_PATTERN.match(begin) else ListFormat.CSV
    if not begin.startswith("{"):
        return ListFormat.CSV
    if not re.match(r'\{\s*(?:"|\}|$)', begin):
        return ListFormat.CSV  # a Python set
    first, line_end, more = begin.partition("\n")
    if not line_end:
        return ListFormat.JSON
    whole = not more.strip()
    first = first.rstrip().removesuffix(",")
    try:
        msgspec.json.decode(first)
    except (msgspec.DecodeError, RecursionError):
        return ListFormat.NDJSON if first.rstrip().endswith("}") else ListFormat.JSON
    return ListFormat.JSON if whole else ListFormat.NDJSON


def rows_of(chat_ids: Iterable[ChatId], rows: RowBuffer, *, at_once: int) -> Iterator[None]:
    """Put chat ids into `rows`, so many a step, numbered from 1."""
    for number, value in enumerate(chat_ids, 1):
        rows.add(number, value, excerpt=repr(value))
        if number % at_once == 0:
            yield
