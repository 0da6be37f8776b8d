"""Lists of one row a line: CSV and NDJSON. Whole blocks of plain lines are read at once, odd ones line by line."""

from __future__ import annotations

import csv
import re
from collections import deque
from typing import Protocol

import msgspec

from telewarm.broadcast.rows import BOT, LARGEST, LONGEST, Rows, column_of
from telewarm.model import ChatId

FULL = re.compile(rb'(?:(?:-?[0-9]{1,16}|"-?[0-9]{1,16}")\r?\n)*+')  # an id on each line
LOOSE = re.compile(rb'(?:(?:-?[0-9]{1,16}|"-?[0-9]{1,16}")?\r?\n)*+')  # and blank lines between
TOO_LONG = f"longer than {LONGEST >> 10} KiB"
OPEN = "unexpected end of data"  # csv's words for a quoted cell that has no end
NEVER_CLOSED = "a quote is opened and not closed as CSV wants it"


class Block(Protocol):
    """Reads lines that are whole. `first`: the number of the first one."""

    def block(self, data: bytes, first: int) -> None: ...

    def too_long(self, line: bytes, number: int) -> None: ...

    def end(self) -> None: ...


class Lines:
    """Cuts a stream into lines, wherever its pieces end."""

    def __init__(self, into: Block) -> None:
        self._into = into
        self._rest = b""
        self._number = 1  # of the line that begins with `_rest`
        self._skipping = False  # to the end of a line that is too long

    def feed(self, data: bytes) -> None:
        """A piece far smaller than LONGEST: a block that is longer than that has a line that may be."""
        if self._skipping:
            _, found, data = data.partition(b"\n")
            if not found:
                return
            self._skipping = False
            self._number += 1
        data = self._rest + data
        cut = data.rfind(b"\n") + 1
        self._rest = data[cut:]
        if cut:
            self._whole(data[:cut])
        if len(self._rest) > LONGEST:
            self._into.too_long(self._rest, self._number)
            self._rest, self._skipping = b"", True

    def end(self) -> None:
        """The last line may lack its line end."""
        if self._rest:
            self._whole(self._rest + b"\n")
            self._rest = b""
        self._into.end()

    def _whole(self, data: bytes) -> None:
        if len(data) <= LONGEST:
            self._block(data)
            return
        for line in data.split(b"\n")[:-1]:
            if len(line) > LONGEST:
                self._into.too_long(line, self._number)
                self._number += 1
            else:
                self._block(line + b"\n")

    def _block(self, data: bytes) -> None:
        self._into.block(data, self._number)
        self._number += data.count(b"\n")


class Csv:
    """With or without a header; commas, semicolons or tabs; a quoted cell may hold line ends."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._delimiter: str | None = None  # None: the first line is to come
        self._column = 0
        self._bot: int | None = None
        self._open: list[tuple[int, bytes]] = []  # lines of a row that has not ended, with their numbers
        self._open_bytes = 0

    def block(self, data: bytes, first: int) -> None:
        lines = data.split(b"\n")[:-1]
        if self._delimiter is not None and not self._open and (found := self._plain(data, lines)) is not None:
            self._rows.extend(found)
        else:
            self._read(deque(enumerate(lines, first)))

    def too_long(self, line: bytes, number: int) -> None:
        self._give_up_open()
        self._rows.reject(number, TOO_LONG, _text(line[:400]))

    def end(self) -> None:
        self._give_up_open()

    def _give_up_open(self) -> None:
        while self._open:
            self._read(self._without_first())

    def _plain(self, data: bytes, lines: list[bytes]) -> list[ChatId] | None:
        """The ids of a block in which every row has one; None: read it line by line."""
        if not self._delimiter:
            return chat_ids_in(data, LOOSE)
        if self._bot is not None:
            return None
        try:
            cells = self._quoted_cells(lines) if b'"' in data else self._bare_cells(lines)
        except (IndexError, csv.Error):
            return None
        return chat_ids_in(b"\n".join(cells) + b"\n", FULL)

    def _bare_cells(self, lines: list[bytes]) -> list[bytes]:
        delimiter, column = (self._delimiter or ",").encode(), self._column
        return [line.split(delimiter, column + 1)[column] for line in lines]

    def _quoted_cells(self, lines: list[bytes]) -> list[bytes]:
        texts = [_text(line.rstrip(b"\r")) + "\n" for line in lines]
        rows = list(csv.reader(texts, delimiter=self._delimiter or ",", strict=True))
        return [row[self._column].encode() for row in rows]

    def _read(self, lines: deque[tuple[int, bytes]]) -> None:
        while lines:
            number, line = lines.popleft()
            if self._open:
                lines.extendleft(reversed(self._continue(number, line)))
            elif line.strip():
                self._begin(number, line)

    def _begin(self, number: int, line: bytes) -> None:
        if b'"' not in line:
            text = _text(line.rstrip(b"\r"))
            self._row(number, text.split(self._split_by(text)), text)
            return
        try:
            self._row(number, self._cells([line]), _text(line))
        except csv.Error as error:
            if str(error) == OPEN:
                self._open, self._open_bytes = [(number, line)], len(line)
            else:
                self._rows.reject(number, NEVER_CLOSED, _text(line))

    def _continue(self, number: int, line: bytes) -> deque[tuple[int, bytes]]:
        """One more line of an open row; the lines to read anew when it turns out that it was none."""
        self._open.append((number, line))
        self._open_bytes += len(line) + 1
        if self._open_bytes > LONGEST:
            return self._without_first()
        if line.count(b'"') % 2 == 0:  # whatever it closes it opens again
            return deque()
        try:
            cells = self._cells([line for _, line in self._open])
        except csv.Error as error:
            return deque() if str(error) == OPEN else self._without_first()
        first, begin = self._open[0]
        self._open = []
        self._row(first, cells, _text(begin))
        return deque()

    def _without_first(self) -> deque[tuple[int, bytes]]:
        (number, line), *others = self._open
        self._open = []
        self._rows.reject(number, NEVER_CLOSED, _text(line))
        return deque(others)

    def _cells(self, lines: list[bytes]) -> list[str]:
        """Of one row. Raises csv.Error."""
        texts = [_text(line.rstrip(b"\r")) + "\n" for line in lines]
        rows = list(csv.reader(texts, delimiter=self._split_by(texts[0]), strict=True))
        if len(rows) != 1:
            raise csv.Error(NEVER_CLOSED)
        return rows[0]

    def _split_by(self, text: str) -> str:
        """The delimiter; that of the first line, whose text this may be, is the first that is in no quotes."""
        if self._delimiter is None:
            found = re.search(r"[,;\t]", re.sub(r'"[^"]*"?', "", text))
            return found.group() if found else ","
        return self._delimiter or ","

    def _row(self, number: int, cells: list[str], text: str) -> None:
        if self._delimiter is None:
            self._delimiter = self._split_by(text) if len(cells) > 1 else ""
            if self._is_header(cells):
                return
        if self._column >= len(cells):
            self._rows.reject(number, f"the row has no column {self._column + 1}", text)
            return
        bot = cells[self._bot].strip() if self._bot is not None and self._bot < len(cells) else None
        self._rows.take(number, cells[self._column], excerpt=text, bot=bot)

    def _is_header(self, cells: list[str]) -> bool:
        name, self._column = column_of(cells)
        if name is not None:
            named = [cell.strip().lower() for cell in cells]
            self._bot = named.index(BOT) if BOT in named else None
        return name is not None


class Ndjson:
    """A number, a numeric string or an object on each line."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._decoder = msgspec.json.Decoder()

    def block(self, data: bytes, first: int) -> None:
        found = chat_ids_in(data, LOOSE)
        if found is not None:
            self._rows.extend(found)
            return
        for number, line in enumerate(data.split(b"\n")[:-1], first):
            if line.strip():
                self._line(number, line.strip())

    def too_long(self, line: bytes, number: int) -> None:
        self._rows.reject(number, TOO_LONG, _text(line[:400]))

    def end(self) -> None:
        pass

    def _line(self, number: int, line: bytes) -> None:
        try:
            value = self._decoder.decode(line)
        except (msgspec.DecodeError, RecursionError):
            value = _text(line)  # a bare word, or 007: what a chat id's own rules say of it
            if value[:1] in '{["':
                self._rows.reject(number, "not JSON", value)
                return
        self._rows.take_json(number, value, excerpt=_text(line[:400]))


def chat_ids_in(data: bytes, shape: re.Pattern[bytes]) -> list[ChatId] | None:
    """All ids of a block of lines of that shape, or None if any line is another."""
    if not shape.fullmatch(data):
        return None
    found = list(map(int, data.translate(None, b'"').split()))
    if found and (max(found) > LARGEST or min(found) < -LARGEST or 0 in found):
        return None
    return found  # type: ignore[return-value] # a million calls of ChatId would double the time


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")
