"""JSON list parser: an array, a document with the list inside, concatenated values, NDJSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import NoReturn

import ijson
import msgspec

from telewarm.broadcasts import json_tables
from telewarm.broadcasts.columns import (
    SAMPLE_ROWS,
    ColumnChoice,
    ColumnUnclear,
    are_row_numbers,
    best_name,
    choose_column,
    name_score,
    same_name,
)
from telewarm.broadcasts.json_tables import flatten, is_values, shown_path
from telewarm.broadcasts.json_walk import ID_KEY, KEYS_PATH, MAX_LIST_DEPTH, RELOAD_CURE, Element, Walk
from telewarm.broadcasts.rows import (
    BOT_COLUMN,
    MAX_CELL_CHARACTERS,
    MAX_REDACTED_CHARACTERS,
    RowBuffer,
    holds_id,
    printable,
)
from telewarm.broadcasts.text_decoder import LineSplitter
from telewarm.errors import UsageError

KEY_DEPTH = 4  # levels of objects in which an element's chat id is searched
MAX_ELEMENT_CHARACTERS = 1 << 20  # characters of one element
TOO_LONG = f"longer than {MAX_CELL_CHARACTERS >> 10} KiB"


@dataclass(slots=True)
class RecipientLocator:
    """Finds the chat ids: holds the first elements until it is clear where in them the ids are."""

    rows: RowBuffer
    wanted: str | None
    choice: ColumnChoice | None = None
    _held: list[Element] = field(default_factory=list)
    _seen: Counter[str | None] = field(default_factory=Counter)  # elements by path
    _cells: int = 0  # cells among them
    _path: str | None = None  # path of the chosen list
    _key: str | None = None  # key of the chat id in all objects; None: the best name of each object
    _usual: str = ""  # key of the chat id in most objects, unless it is nested
    _best: dict[tuple[str, ...], str | None] = field(default_factory=dict)

    def add(self, element: Element) -> None:
        """Add an element. Raises UsageError for a list that does not show where its chat ids are."""
        if self.choice is not None:
            self._take(element)
            return
        self._seen[element.path] += 1
        if not json_tables.is_cell(element):
            self._held.append(element)
            if self._seen.total() - self._cells >= SAMPLE_ROWS:
                self.decide()
            return
        self._cells += 1
        if self._seen[element.path] <= SAMPLE_ROWS:
            self._held.append(element)
        if self._seen[element.path] == SAMPLE_ROWS and json_tables.is_wanted(self._held, element, self.wanted):
            self.decide()

    def decide(self) -> None:
        """Decide by the elements held. Raises UsageError."""
        if self.choice is None:
            if (column := json_tables.column_of(self._held, self.wanted)) is not None:
                self._decide_column(*column)
                return
            self._path = _chosen_path(self._held, self.wanted)
            mine = [one for one in self._held if one.path == self._path]
            keys = [one.key for one in mine]
            self.choice, self._key = _chosen_key([one.value for one in mine], self._path, self.wanted, keys)
            prefix = f"{shown_path(self._path)}." if shown_path(self._path) else ""
            self._usual = self._key or (self.choice.name or "").removeprefix(prefix)
            self._take_held()

    def _decide_column(self, path: str, choice: ColumnChoice) -> None:
        """Decide on the columns of a table by columns: objects of cells by row. Raises ColumnUnclear."""
        if self._seen[path] > SAMPLE_ROWS:
            self._held.clear()
            name = shown_path(path)
            raise ColumnUnclear(
                f"column {name!r} may hold the chat ids, but it came before the others had been seen;"
                f" say it: --column {name or '*'}, column={name or '*'}"
            )
        self._path, self.choice = path, choice
        self._take_held()

    def _take_held(self) -> None:
        held, self._held = self._held, []
        for element in held:
            self._take(element)

    def _take(self, element: Element) -> None:
        if element.path != self._path:
            return
        value = element.value
        if isinstance(value, dict):
            if (found := value.get(self._usual, NOTHING)) is not NOTHING and not isinstance(found, (dict, list)):
                self.rows.add(element.number, found, excerpt=value, bot=value.get(BOT_COLUMN))
                return
            flat = flatten(value)
            key = self._key if self._key is not None else self._best_of(flat)
            if key is None or key not in flat:
                wanted = self._key or "chat_id, telegram_id, user_id or id"
                self.rows.reject(element.number, f"the object has no {wanted}", value)
            else:
                self.rows.add(element.number, flat[key], excerpt=value, bot=value.get(BOT_COLUMN))
        elif isinstance(value, list) and self._key is not None:
            at = int(self._key)
            self.rows.add(element.number, value[at] if at < len(value) else None, excerpt=value)
        else:
            self.rows.add(element.number, value, excerpt=str(value) if isinstance(value, Decimal) else value)

    def _best_of(self, flat: Mapping[str, object]) -> str | None:
        """Return the best key of an object, remembered: objects of one list are much alike."""
        shape = tuple(flat)
        if shape not in self._best:
            if len(self._best) >= 1000:
                self._best.clear()
            at = best_name(shape)
            self._best[shape] = None if at is None else shape[at]
        return self._best[shape]


class JsonList:
    """Incremental JSON parser. The document is never held whole. Raises UsageError where it cannot go on."""

    def __init__(self, rows: RowBuffer, column: str | None) -> None:
        self.lists = RecipientLocator(rows, column)
        self._walk = Walk()
        self._events = ijson.sendable_list()
        self._parser = ijson.basic_parse_coro(self._events, multiple_values=True)

    @property
    def choice(self) -> ColumnChoice | None:
        """The chosen column."""
        return self.lists.choice

    def feed(self, text: str) -> None:
        """Parse a piece."""
        try:
            self._parser.send(text.encode("utf-8", "replace"))
        except ijson.JSONError:
            self._drain(len(text))
            self._broken()
        self._drain(len(text))

    def cut_off(self) -> None:
        """End after a broken upload: the last, incomplete element is ignored. Raises UsageError."""
        self.lists.decide()

    def end(self) -> None:
        """End the document."""
        try:
            self._parser.close()
        except ijson.JSONError:
            self._broken()
        self._drain(0)
        self.lists.decide()

    def _drain(self, size: int) -> None:
        before = self._walk.taken
        for element in self._walk.elements(self._events):
            self.lists.add(element)
        self._events.clear()
        self._walk.size = 0 if self._walk.taken > before else self._walk.size + size
        if self._walk.size > MAX_ELEMENT_CHARACTERS:
            raise UsageError(
                f"element {self._walk.number + 1} is longer than {MAX_ELEMENT_CHARACTERS >> 20} MiB; {RELOAD_CURE}"
            )

    def _broken(self) -> NoReturn:
        number = self._walk.number
        self.lists.decide()
        raise UsageError(f"the JSON is cut off or broken: it cannot be read beyond element {number}; {RELOAD_CURE}")


class NdjsonList:
    """Parser of one JSON value a line. A malformed line costs only itself."""

    def __init__(self, rows: RowBuffer, column: str | None) -> None:
        self.lists = RecipientLocator(rows, column)
        self._rows = rows
        self._lines = LineSplitter()
        self._number = 0
        self._decoder = msgspec.json.Decoder(float_hook=str)

    @property
    def choice(self) -> ColumnChoice | None:
        """The chosen column."""
        return self.lists.choice

    def feed(self, text: str) -> None:
        """Parse a piece."""
        for line in self._lines.more(text):
            self._line(line)

    def cut_off(self) -> None:
        """End after a broken upload: the last, incomplete line is ignored. Raises UsageError."""
        self.lists.decide()

    def end(self) -> None:
        """End the list."""
        for line in self._lines.end():
            self._line(line)
        self.lists.decide()

    def _line(self, line: str) -> None:
        self._number += 1
        text = line.strip().removesuffix(",")
        if len(line) > MAX_CELL_CHARACTERS + 1:
            self._rows.reject(self._number, TOO_LONG, line[:MAX_REDACTED_CHARACTERS])
        elif text:
            for path, value in _elements(self._value(text)):
                self.lists.add(Element(self._number, path, value))

    def _value(self, text: str) -> object:
        try:
            return self._decoder.decode(text)
        except (msgspec.DecodeError, RecursionError):
            if text[:1] in '{["':
                self._rows.reject(self._number, "not JSON", text[:MAX_REDACTED_CHARACTERS])
                return NOTHING
            return text  # not JSON, such as a bare word or 007: judged by the rules of chat ids


NOTHING: dict[str, object] = {}


def _elements(value: object, path: str = "", depth: int = 0) -> Iterator[tuple[str | None, object]]:
    """Yield the elements of one line."""
    if value is NOTHING:
        return
    if isinstance(value, dict) and depth < MAX_LIST_DEPTH:
        for key, inner in value.items():
            if isinstance(inner, list):
                yield from ((f"{path}{key}", element) for element in inner)
            elif isinstance(inner, dict):
                yield from _elements(inner, f"{path}{key}.", depth + 1)
            if ID_KEY.fullmatch(key):
                yield KEYS_PATH, key
    if depth == 0:
        yield None, value


def _readable(values: Sequence[object]) -> bool:
    """Return whether at least half of the values are or contain chat ids."""
    return 2 * sum(map(_has_id, values)) >= len(values) > 0


def _has_id(value: object) -> bool:
    if isinstance(value, dict):
        return any(holds_id(inner) for name, inner in flatten(value).items() if name_score(name) is not None)
    if isinstance(value, list):
        return any(map(holds_id, value))
    return holds_id(value)


def _chosen_path(held: Sequence[Element], wanted: str | None) -> str | None:
    """Return the path of the list with the recipients; None: top-level values. Raises ColumnUnclear."""
    by_path: dict[str | None, list[object]] = {}
    for element in held:
        by_path.setdefault(element.path, []).append(element.value)
    records = json_tables.records(held)
    by_path = {path: values for path, values in by_path.items() if not is_values(path) or path in records}
    if wanted is not None:
        for path in by_path:
            if path and (same_name(shown_path(path), wanted) or wanted.startswith(f"{shown_path(path)}.")):
                return path
    if len(records) == 1 and KEYS_PATH not in by_path:
        return next(iter(records))
    alone = by_path.get(None, [])
    if not records and any(isinstance(value, dict) and _surely_named(value) for value in alone):
        return None
    return _list_among(by_path)


def _list_among(by_path: Mapping[str | None, Sequence[object]]) -> str | None:
    """Return the one of these lists that holds the recipients. Raises ColumnUnclear."""
    if set(by_path) <= {""}:
        return ""
    lists = [path for path, values in by_path.items() if path is not None and _readable(values)]
    lists = [path for path in lists if not are_row_numbers(by_path[path])] or lists
    surest = [path for path in lists if path == KEYS_PATH or name_score(path) is not None]
    if len(lists) > 1 and len(surest) != 1:
        names = [printable(shown_path(path)) for path in lists[:10]]
        listed = ", ".join(map(repr, names))
        raise ColumnUnclear(
            f"the JSON holds several lists: {listed}; say which one: --column {names[0]}, column={names[0]}"
        )
    if lists:
        return surest[0] if len(surest) == 1 else lists[0]
    if "" in by_path or None not in by_path:
        return "" if "" in by_path else next(iter(by_path), None)
    return None


def _surely_named(value: Mapping[str, object]) -> bool:
    """Return whether an object is a recipient itself, whatever lists it contains."""
    names = [name for name, inner in flatten(value).items() if holds_id(inner)]
    return any((rank := name_score(name)) is not None and rank < 6 for name in names)


def _chosen_key(
    values: Sequence[object], path: str | None, wanted: str | None, keys: Sequence[str]
) -> tuple[ColumnChoice, str | None]:
    """Return the choice, and the key of the chat id if it is the same in all elements. Raises UsageError."""
    within = shown_path(path)
    prefix = f"{within}." if within else ""
    if wanted is not None and not (within and same_name(within, wanted)):
        return ColumnChoice(column=None, name=wanted), _said_key(values, wanted.removeprefix(prefix))
    objects = [flatten(value) for value in values if isinstance(value, dict)]
    if objects and 2 * len(objects) >= len(values):
        choice, key = _of_objects(objects, prefix)
        if is_values(path) and choice.guess is None and (guess := json_tables.guess_of(keys)) is not None:
            choice = replace(choice, guess=guess)
        return choice, key
    arrays = [value for value in values if isinstance(value, list)]
    if arrays and 2 * len(arrays) >= len(values):
        found = choose_column(None, arrays)
        place = "0" if found.column is None else str(found.column)
        return ColumnChoice(column=found.column, name=str(int(place) + 1), guess=found.guess), place
    found = choose_column(None, [[value] for value in values if not isinstance(value, (dict, list))])
    named = within or None
    if wanted is None and path not in {None, "", KEYS_PATH} and name_score(path or "") is None:
        return ColumnChoice(column=0, name=named, guess=f"the list {path!r} inside the JSON was taken"), None
    if path == KEYS_PATH and wanted is None:
        return ColumnChoice(column=0, name="keys", guess="the keys of the JSON object were taken for chat ids"), None
    return ColumnChoice(column=0, name=named, guess=found.guess), None


def _of_objects(objects: Sequence[Mapping[str, object]], prefix: str) -> tuple[ColumnChoice, str | None]:
    names = list(dict.fromkeys(name for one in objects for name in one))
    rows = [[one.get(name) for name in names] for one in objects]
    if best_name(names) is None and not any(holds_id(value) for row in rows for value in row):
        return ColumnChoice(column=0, name=None), None  # each element is rejected by itself
    found = choose_column(names, rows)
    key = names[found.column or 0]
    fixed = None if name_score(key) is not None and key == names[best_name(names) or 0] else key
    return ColumnChoice(column=found.column, name=f"{prefix}{key}", guess=found.guess), fixed


def _said_key(values: Sequence[object], wanted: str) -> str | None:
    """Return the key of that name. Raises UsageError."""
    names = list(dict.fromkeys(name for value in values if isinstance(value, dict) for name in flatten(value)))
    for name in names:
        if same_name(name, wanted):
            return name
    if wanted.isdecimal() and any(isinstance(value, list) for value in values):
        return str(int(wanted) - 1)
    if not names:
        return None
    there = ", ".join(repr(printable(name)) for name in names[:20])
    raise UsageError(f"the list has no column {wanted!r}; there are {there}")
