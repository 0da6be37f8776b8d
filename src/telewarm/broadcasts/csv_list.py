"""CSV list parser: any common dialect with or without a header, one id a line, ids on one line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from telewarm.broadcasts.columns import (
    EVERY_COLUMN,
    SAMPLE_ROWS,
    ColumnChoice,
    ColumnUnclear,
    choose_column,
    doubt_of_ids,
    name_score,
    same_name,
)
from telewarm.broadcasts.csv_rows import TOO_LONG, Row, RowReader
from telewarm.broadcasts.rows import (
    BOT_COLUMN,
    GROUPED,
    MAX_CELL_CHARACTERS,
    NO_FRACTION,
    THOUSANDS,
    RowBuffer,
    clean,
    holds_id,
    printable,
)
from telewarm.broadcasts.text_decoder import LineSplitter
from telewarm.errors import UsageError

DELIMITERS = (",", ";", "\t", "|")
ID_SEPARATOR_PATTERN = re.compile(r"[\s,;|]+")  # separators between ids on one line
SEP_LINE_PATTERN = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # Excel's delimiter line before the header
MAX_NUMBER_CHARACTERS = 30  # characters of a line that may be a single number
MAX_TITLE_ROWS = 20  # maximum of title rows above the header


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """The dialect of a list. `first`: number of the first line with data. `bot`: the column with the bots' slugs."""

    delimiter: str
    first: int
    choice: ColumnChoice
    bot: int | None = None
    width: int | None = None  # number of columns of the header


class CsvList:
    """Reads the first lines, detects the layout of the list, and parses accordingly. `choice`: None before that."""

    def __init__(self, rows: RowBuffer, column: str | None) -> None:
        self._rows = rows
        self._wanted = column
        self._lines = LineSplitter()
        self._held: list[str] = []
        self._held_chars = 0
        self._reading: Table | Tokens | None = None
        self.choice: ColumnChoice | None = None

    def feed(self, text: str) -> None:
        """Parse a piece. Raises UsageError for a list that does not show where its chat ids are."""
        if isinstance(self._reading, Tokens):
            self._reading.feed(text)
            return
        lines = list(self._lines.more(text))
        if self._reading is not None:
            self._reading.feed(lines)
            return
        self._held += lines
        self._held_chars += len(text)
        if len(self._held) >= SAMPLE_ROWS or self._held_chars > MAX_CELL_CHARACTERS // 2:
            self._decide(self._lines.rest, ended=False)

    def cut_off(self) -> None:
        """End after a broken upload: the last, incomplete row is ignored. Raises UsageError."""
        if self._reading is None:
            self._decide("", ended=False)

    def end(self) -> None:
        """End the list. Raises UsageError."""
        if self._reading is None:
            self._held += self._lines.end()
            self._decide("", ended=True)
        elif isinstance(self._reading, Table):
            self._reading.feed(list(self._lines.end()))
        if self._reading is not None:
            self._reading.end()

    def _decide(self, rest: str, *, ended: bool) -> None:
        """Detect the layout. `rest`: a line that has not ended."""
        held, self._held = self._held, []
        sample = held[:SAMPLE_ROWS]
        ended = ended and len(sample) == len(held)
        begin = sample if len(sample) < len(held) else [*held, rest]
        if self._wanted in {None, EVERY_COLUMN} and are_ids_in_lines(begin, ended=ended):
            self._reading = Tokens(self._rows)
            self.choice = ColumnChoice(
                column=None, name=None, guess=doubt_of_ids(ID_SEPARATOR_PATTERN.split("\n".join(begin)))
            )
            self._reading.feed("".join(held) + rest)
            return
        layout = layout_of(sample, self._wanted, ended=ended)
        self.choice = layout.choice
        self._reading = Table(self._rows, layout)
        self._reading.feed(held)


class Table:
    """Rows with the chat ids in one column, or in every cell."""

    def __init__(self, rows: RowBuffer, layout: Layout) -> None:
        self._rows = rows
        self._layout = layout
        self._reader = RowReader(layout.delimiter)

    def feed(self, lines: Sequence[str]) -> None:
        """Parse lines."""
        self._reader.add(lines)
        for row in self._reader.rows():
            if row.number >= self._layout.first:
                self._take(row)

    def end(self) -> None:
        """Parse what is left."""
        self._reader.end()
        self.feed([])

    def _take(self, row: Row) -> None:
        cells, choice = row.cells, self._layout.choice
        text = row.text.rstrip("\n")
        if cells is None:
            self._rows.reject(row.number, row.reason, text)
        elif self._is_split(cells) or (choice.column is None and THOUSANDS.fullmatch(clean(text))):
            self._rows.reject(row.number, GROUPED, text)
        elif choice.column is None:
            self._take_every(row.number, cells, text)
        elif choice.name is None and len(cells) > 1:  # until now there was only one column
            self._take_every(row.number, [cell for cell in cells if holds_id(cell)] or cells[:1], text)
        elif choice.column >= len(cells):
            self._rows.reject(row.number, f"the row has no column {choice.column + 1}", text)
        else:
            at = self._layout.bot
            bot = cells[at].strip() if at is not None and at < len(cells) else None
            self._rows.add(row.number, cells[choice.column], excerpt=text, bot=bot)

    def _is_split(self, cells: Sequence[str]) -> bool:
        """Return whether thousands separators have split a number into cells: 500,000,001 under one name."""
        at, width = self._layout.choice.column, self._layout.width
        if at is None or width is None or not width < len(cells) or self._layout.delimiter != ",":
            return False
        pair = [clean(cell) for cell in cells[at : at + 2]]
        return len(pair) > 1 and len(pair[0].lstrip("-")) <= 3 and re.fullmatch(r"\d{3}", pair[1]) is not None

    def _take_every(self, number: int, cells: Sequence[str], text: str) -> None:
        for cell in [cell for cell in cells if clean(cell)] or [""]:
            self._rows.add(number, cell, excerpt=text)


class Tokens:
    """Ids with any separators, on lines of any length."""

    def __init__(self, rows: RowBuffer) -> None:
        self._rows = rows
        self._rest = ""
        self._number = 1  # current line number

    def feed(self, text: str) -> None:
        """Parse a piece."""
        text = self._rest + text
        near_end = max(0, len(text) - 200)
        cut = max((found.end() for found in ID_SEPARATOR_PATTERN.finditer(text, near_end)), default=0)
        cut = cut or max((found.end() for found in ID_SEPARATOR_PATTERN.finditer(text)), default=0)
        if cut == 0 and len(text) > MAX_CELL_CHARACTERS:
            self._rows.reject(self._number, TOO_LONG, text)
            cut = len(text)
        self._rest = text[cut:]
        self._take(text[:cut])

    def end(self) -> None:
        """Parse the last line."""
        self._take(self._rest)
        self._rest = ""

    def _take(self, text: str) -> None:
        for number, line in enumerate(text.split("\n"), self._number):
            if len(line) < MAX_NUMBER_CHARACTERS and THOUSANDS.fullmatch(clean(line)):
                self._rows.reject(number, GROUPED, line)
                continue
            for token in ID_SEPARATOR_PATTERN.split(line):
                if token and (holds_id(token) or clean(token).strip("[](){}")):
                    self._rows.add(number, token, excerpt=token)
        self._number += text.count("\n")


def are_ids_in_lines(lines: Sequence[str], *, ended: bool) -> bool:
    """Return whether the lines hold only chat ids, several on some line, and not in columns."""
    found = [[token for token in ID_SEPARATOR_PATTERN.split(line) if clean(token).strip("[](){}")] for line in lines]
    found = [tokens for tokens in found if tokens]
    if not ended and lines and lines[-1] and found:
        found[-1].pop()  # may be incomplete
    counts = [len(tokens) for tokens in found]
    if max(counts, default=0) < 2 or any(map(_is_thousands, lines)):
        return False
    if len(counts) > 1 and len(set(counts[:-1])) == 1 and counts[-1] == counts[0]:
        return False  # this is a table
    return all(holds_id(token) for tokens in found for token in tokens)


def layout_of(lines: Sequence[str], wanted: str | None, *, ended: bool) -> Layout:
    """Return the dialect in which the chat id column is found with most certainty. Raises UsageError."""
    first = next((at for at, line in enumerate(lines) if line.strip()), 0)
    said = SEP_LINE_PATTERN.fullmatch(lines[first]) if lines else None
    if said is not None:
        return _rated(lines, said[1], wanted, skip=first + 1, ended=ended)[1]()
    numbers = bool(lines) and all(_is_thousands(line) for line in lines if line.strip())
    rated = [
        _rated(lines, delimiter, wanted, ended=ended) for delimiter in DELIMITERS if delimiter != "," or not numbers
    ]
    return min(rated, key=lambda one: one[0])[1]()


def _is_thousands(line: str) -> bool:
    """Return whether the whole line is one number with thousands separators."""
    text = clean(line) if len(line) < MAX_NUMBER_CHARACTERS else ""
    return THOUSANDS.fullmatch(text) is not None or NO_FRACTION.fullmatch(text) is not None


class _Found:
    """A layout, or the reason why there is none."""

    def __init__(self, layout: Layout | UsageError) -> None:
        self._layout = layout

    def __call__(self) -> Layout:
        if isinstance(self._layout, UsageError):
            raise self._layout
        return self._layout


def _rated(
    lines: Sequence[str], delimiter: str, wanted: str | None, *, ended: bool, skip: int = 0
) -> tuple[tuple[int, int], _Found]:
    """Return the score of a dialect, lower is better (of equal ones more columns), and its layout."""
    rows = _sample(lines, delimiter, skip=skip, ended=ended)
    width = max((len(row.cells or ()) for row in rows), default=0)
    header = _header(rows, wanted)
    names = None if header is None else rows[header].cells
    data = [row.cells or [] for row in rows[0 if header is None else header + 1 :]]
    try:
        choice = choose_column(names, data) if wanted is None else said_column(names, wanted, width)
    except UsageError as error:
        return (3 if isinstance(error, ColumnUnclear) else 5, -width), _Found(error)
    choice = _widened(names, data, choice)
    first = skip + 1 if header is None else rows[header].number + 1
    bot = next((at for at, name in enumerate(names or ()) if name.strip().lower() == BOT_COLUMN), None)
    rank = _rank(names, choice, data)
    return (rank, -width), _Found(
        Layout(delimiter=delimiter, first=first, choice=choice, bot=bot, width=len(names) if names else None)
    )


def _rank(names: Sequence[str] | None, choice: ColumnChoice, data: Sequence[Sequence[str]]) -> int:
    at = choice.column or 0
    values = [row[at] for row in data if at < len(row) and clean(row[at])]
    if 2 * sum(map(holds_id, values)) < len(values):
        return 4
    named = names is not None and at < len(names) and name_score(names[at]) is not None
    return (0 if choice.guess is None else 1) if named else 2


def _sample(lines: Sequence[str], delimiter: str, *, skip: int, ended: bool) -> list[Row]:
    reader = RowReader(delimiter)
    reader.add(lines)
    if ended:
        reader.end()
    return [row for row in reader.rows() if row.cells is not None and row.number > skip]


def _header(rows: Sequence[Row], wanted: str | None) -> int | None:
    """Return the index of the header row: below titles, above the first id."""
    first_id = next((at for at, row in enumerate(rows) if any(map(holds_id, row.cells or ()))), len(rows))
    named: list[tuple[int, int]] = []
    for at, row in enumerate(rows[: min(first_id, MAX_TITLE_ROWS)]):
        if wanted and any(same_name(cell, wanted) for cell in row.cells or ()):
            return at
        scores = [rank for cell in row.cells or () if (rank := name_score(cell)) is not None]
        if scores:
            named.append((min(scores), -at))
    if named:
        return -min(named)[1]
    above = first_id - 1
    if (
        0 <= above < MAX_TITLE_ROWS
        and first_id < len(rows)
        and _holds_several_ids(rows[above])
        and _holds_several_ids(rows[first_id])
    ):
        return above
    return None


def _holds_several_ids(row: Row) -> bool:
    return sum(1 for cell in row.cells or () if clean(cell)) > 1


def said_column(names: Sequence[str] | None, wanted: str, width: int) -> ColumnChoice:
    """Return the column that the caller names, by its header or its number. Raises UsageError."""
    if wanted == EVERY_COLUMN:
        return ColumnChoice(column=None, name=EVERY_COLUMN)
    for at, name in enumerate(names or ()):
        if same_name(name, wanted):
            return ColumnChoice(column=at, name=printable(clean(name)))
    if wanted.isdecimal() and 1 <= int(wanted) <= max(width, 1):
        return ColumnChoice(column=int(wanted) - 1, name=wanted)
    there = ", ".join(repr(printable(clean(name))) for name in list(names or ())[:20]) or f"1 to {max(width, 1)}"
    raise UsageError(f"the list has no column {wanted!r}; there are {there}")


def _widened(names: Sequence[str] | None, data: Sequence[Sequence[str]], choice: ColumnChoice) -> ColumnChoice:
    """Choose all columns when a header of one name stands above rows of several ids."""
    if names is None or sum(1 for name in names if clean(name)) > 1:
        return choice
    cells = [[cell for cell in row if clean(cell)] for row in data]
    wide = any(len(row) > 1 for row in cells) and all(holds_id(cell) for row in cells for cell in row)
    return ColumnChoice(column=None, name=choice.name, guess=choice.guess) if wide else choice
