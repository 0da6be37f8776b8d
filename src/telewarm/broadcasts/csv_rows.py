"""Rows of a CSV list whose lines arrive in pieces, unreadable ones among them."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from telewarm.broadcasts.rows import MAX_CELL_CHARACTERS

TOO_LONG = f"longer than {MAX_CELL_CHARACTERS >> 10} KiB"
UNCLOSED_QUOTE = "a quote is opened and not closed as CSV wants it"


class Row(NamedTuple):
    """A row of the list. `cells` None: unreadable, for the `reason`. `text`: its beginning."""

    number: int
    cells: list[str] | None
    text: str
    reason: str = ""


class NeedMore(Exception):
    """The row continues in a line that is not available yet."""


class TooLong(Exception):
    """The row exceeds the maximum length."""


class RowReader:
    """csv.reader for lines that arrive in pieces.

    Of a malformed row only the first line is lost: the others are reread.
    """

    def __init__(self, delimiter: str) -> None:
        self._lines: deque[str] = deque()
        self._taken: list[str] = []  # lines of the current row
        self._chars = 0  # characters in these lines
        self._next = 1  # number of the row's first line
        self._ended = False
        self._reader = csv.reader(self, delimiter=delimiter, strict=True, skipinitialspace=delimiter != "\t")

    def add(self, lines: Sequence[str]) -> None:
        """Add lines."""
        self._lines += lines

    def end(self) -> None:
        """Mark the end of the list."""
        self._ended = True

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._chars > MAX_CELL_CHARACTERS:
            raise TooLong
        if not self._lines:
            raise StopIteration if self._ended else NeedMore
        line = self._lines.popleft()
        self._taken.append(line)
        self._chars += len(line)
        if len(line) > MAX_CELL_CHARACTERS + 1:
            raise TooLong
        return line

    def rows(self) -> Iterator[Row]:
        """Yield every complete row."""
        while True:
            number, self._taken, self._chars = self._next, [], 0
            try:
                cells = next(self._reader)
            except NeedMore:
                self._put_back(0)
                return
            except StopIteration:
                return
            except (csv.Error, TooLong):
                long = len(self._taken[0]) > MAX_CELL_CHARACTERS
                self._put_back(1)
                yield Row(number, None, self._taken[0], TOO_LONG if long else UNCLOSED_QUOTE)
            else:
                self._next += len(self._taken)
                if cells and any(cells):
                    yield Row(number, cells, self._taken[0])

    def _put_back(self, kept: int) -> None:
        self._lines.extendleft(reversed(self._taken[kept:]))
        self._next += kept
