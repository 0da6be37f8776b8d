"""Lists in JSON: an array, a document with the list somewhere inside, values one after another, NDJSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple, NoReturn

import ijson
import msgspec

from telewarm.broadcast.columns import SAMPLE, Choice, Unclear, best_name, choose, same_name, score
from telewarm.broadcast.rows import BOT, LONGEST, LOOKED_AT, Rows, holds_id, printable
from telewarm.broadcast.text_input import Lines
from telewarm.errors import UsageError

DEEPEST = 64  # levels of nesting
LIST_DEPTH = 4  # levels at which an array counts as a list
KEY_DEPTH = 4  # levels of objects within an element in which its chat id is looked for
MOST_KEYS = 1_000  # of an object
HELD = 1 << 20  # characters of one element
OPENS = frozenset({"start_map", "start_array"})
CLOSES = frozenset({"end_map", "end_array"})
KEYS = "*keys*"  # the list that is the keys of an object
ID_KEY = re.compile(r"-?\d{5,16}")
AGAIN = "what came before is loaded; fix the list and load it again, which adds nothing twice"
TOO_LONG = f"longer than {LONGEST >> 10} KiB"


class Element(NamedTuple):
    """A value that may be a recipient. `path`: of the array that it is in, with dots; None: it stands by itself."""

    number: int
    path: str | None
    value: object


@dataclass(slots=True)
class Frame:
    """A container that has not ended. `path` of a list whose elements are handed on one by one; None of others."""

    holds: dict[str, object] | list[object]
    path: str | None = None
    key: str = ""
    count: int = 0


@dataclass(slots=True)
class Lists:
    """Elements on their way to chat ids: the first ones are held until it is clear where the ids are."""

    rows: Rows
    wanted: str | None
    choice: Choice | None = None
    _held: list[Element] = field(default_factory=list)
    _path: str | None = None  # of the list that was chosen
    _key: str | None = None  # in which the objects have their chat id; None: each by its own best name
    _usual: str = ""  # the key in which most objects have it, when it is in no object within them
    _best: dict[tuple[str, ...], str | None] = field(default_factory=dict)

    def add(self, element: Element) -> None:
        """Raises UsageError for a list that does not say where its chat ids are."""
        if self.choice is not None:
            self._take(element)
            return
        self._held.append(element)
        if len(self._held) >= SAMPLE:
            self.decide()

    def decide(self) -> None:
        """With what there is. Raises UsageError."""
        if self.choice is None:
            self._path = _chosen_path(self._held, self.wanted)
            mine = [one.value for one in self._held if one.path == self._path]
            self.choice, self._key = _chosen_key(mine, self._path, self.wanted)
            prefix = f"{self._path}." if self._path else ""
            self._usual = self._key or (self.choice.name or "").removeprefix(prefix)
            held, self._held = self._held, []
            for element in held:
                self._take(element)

    def _take(self, element: Element) -> None:
        if element.path != self._path:
            return
        value = element.value
        if isinstance(value, dict):
            if (found := value.get(self._usual, NOTHING)) is not NOTHING and not isinstance(found, (dict, list)):
                self.rows.take(element.number, found, excerpt=value, bot=value.get(BOT))
                return
            flat = flatten(value)
            key = self._key if self._key is not None else self._best_of(flat)
            if key is None or key not in flat:
                wanted = self._key or "chat_id, telegram_id, user_id or id"
                self.rows.reject(element.number, f"the object has no {wanted}", value)
            else:
                self.rows.take(element.number, flat[key], excerpt=value, bot=value.get(BOT))
        elif isinstance(value, list) and self._key is not None:
            at = int(self._key)
            self.rows.take(element.number, value[at] if at < len(value) else None, excerpt=value)
        else:
            self.rows.take(element.number, value, excerpt=str(value) if isinstance(value, Decimal) else value)

    def _best_of(self, flat: Mapping[str, object]) -> str | None:
        """Objects of one list are much alike: found once, remembered."""
        shape = tuple(flat)
        if shape not in self._best:
            if len(self._best) >= 1000:
                self._best.clear()
            at = best_name(shape)
            self._best[shape] = None if at is None else shape[at]
        return self._best[shape]


class JsonList:
    """JSON that comes in pieces; it is never held whole. Raises UsageError where nothing that follows can be read."""

    def __init__(self, rows: Rows, column: str | None) -> None:
        self.lists = Lists(rows, column)
        self._walk = Walk()
        self._events = ijson.sendable_list()
        self._parser = ijson.basic_parse_coro(self._events, multiple_values=True)

    @property
    def choice(self) -> Choice | None:
        return self.lists.choice

    def feed(self, text: str) -> None:
        try:
            self._parser.send(text.encode("utf-8", "replace"))
        except ijson.JSONError:
            self._drain(len(text))
            self._broken()
        self._drain(len(text))

    def cut_off(self) -> None:
        """No more comes; the element that has not ended counts for nothing. Raises UsageError."""
        self.lists.decide()

    def end(self) -> None:
        try:
            self._parser.close()
        except ijson.JSONError:
            self._broken()
        self._drain(0)
        self.lists.decide()

    def _drain(self, size: int) -> None:
        before = self._walk.number
        for element in self._walk.elements(self._events):
            self.lists.add(element)
        self._events.clear()
        self._walk.size = 0 if self._walk.number > before else self._walk.size + size
        if self._walk.size > HELD:
            raise UsageError(f"element {self._walk.number + 1} is longer than {HELD >> 20} MiB; {AGAIN}")

    def _broken(self) -> NoReturn:
        number = self._walk.number
        self.lists.decide()
        raise UsageError(f"the JSON is cut off or broken: it cannot be read beyond element {number}; {AGAIN}")


class Walk:
    """Builds values of parser events. Elements of arrays that no array is around, and values at the top, come out."""

    def __init__(self) -> None:
        self.number = 0  # of the last element
        self.size = 0  # characters since
        self._top = 0  # values at the top
        self._frames: list[Frame] = []

    def elements(self, events: Iterable[tuple[str, object]]) -> Iterator[Element]:
        """Raises UsageError."""
        frames = self._frames
        for event, value in events:
            if event == "map_key":
                frames[-1].key = str(value)
                continue
            if event in OPENS:
                self._open(event)
                continue
            if event in CLOSES:
                frame = frames.pop()
                if frame.path is not None:
                    continue
                value = frame.holds
            found = self._put(frames[-1], value) if frames else self._at_the_top(value)
            if found is not None:
                yield found

    def _open(self, event: str) -> None:
        if len(self._frames) >= DEEPEST:
            raise UsageError(f"element {self.number + 1} is nested deeper than {DEEPEST} levels; {AGAIN}")
        if event == "start_map":
            self._frames.append(Frame(holds={}))
            return
        keys = [frame.key for frame in self._frames if isinstance(frame.holds, dict)]
        listed = len(keys) == len(self._frames) < LIST_DEPTH
        self._frames.append(Frame(holds=[], path=".".join(keys) if listed else None))

    def _put(self, frame: Frame, value: object) -> Element | None:
        """Into the container around it; or out, as an element of its own."""
        holds = frame.holds
        if frame.path is not None:
            return self._element(frame, frame.path, value)
        if isinstance(holds, list):
            holds.append(value)
        elif ID_KEY.fullmatch(frame.key) and self._within_objects():
            return self._element(frame, KEYS, frame.key)
        elif len(holds) >= MOST_KEYS:
            raise UsageError(f"an object has more than {MOST_KEYS} keys: this is no list of chats")
        else:
            holds[frame.key] = value
        return None

    def _within_objects(self) -> bool:
        return len(self._frames) < LIST_DEPTH and all(isinstance(frame.holds, dict) for frame in self._frames)

    def _element(self, frame: Frame, path: str, value: object) -> Element:
        self.number = frame.count = frame.count + 1
        return Element(frame.count, path, value)

    def _at_the_top(self, value: object) -> Element:
        self._top += 1
        self.number = self._top
        return Element(self._top, None, value)


class NdjsonList:
    """A value on each line; a line that is broken costs itself alone."""

    def __init__(self, rows: Rows, column: str | None) -> None:
        self.lists = Lists(rows, column)
        self._rows = rows
        self._lines = Lines()
        self._number = 0
        self._decoder = msgspec.json.Decoder(float_hook=str)

    @property
    def choice(self) -> Choice | None:
        return self.lists.choice

    def feed(self, text: str) -> None:
        for line in self._lines.more(text):
            self._line(line)

    def cut_off(self) -> None:
        """No more comes; the line that has not ended counts for nothing. Raises UsageError."""
        self.lists.decide()

    def end(self) -> None:
        for line in self._lines.end():
            self._line(line)
        self.lists.decide()

    def _line(self, line: str) -> None:
        self._number += 1
        text = line.strip().removesuffix(",")
        if len(line) > LONGEST + 1:
            self._rows.reject(self._number, TOO_LONG, line[:LOOKED_AT])
        elif text:
            for path, value in _elements(self._value(text)):
                self.lists.add(Element(self._number, path, value))

    def _value(self, text: str) -> object:
        try:
            return self._decoder.decode(text)
        except (msgspec.DecodeError, RecursionError):
            if text[:1] in '{["':
                self._rows.reject(self._number, "not JSON", text[:LOOKED_AT])
                return NOTHING
            return text  # a bare word, or 007: what a chat id's own rules say of it


NOTHING: dict[str, object] = {}


def _elements(value: object, path: str = "", depth: int = 0) -> Iterator[tuple[str | None, object]]:
    """Those of one line."""
    if value is NOTHING:
        return
    if isinstance(value, dict) and depth < LIST_DEPTH:
        for key, inner in value.items():
            if isinstance(inner, list):
                yield from ((f"{path}{key}", element) for element in inner)
            elif isinstance(inner, dict):
                yield from _elements(inner, f"{path}{key}.", depth + 1)
            if ID_KEY.fullmatch(key):
                yield KEYS, key
    if depth == 0:
        yield None, value


def flatten(value: Mapping[str, object], path: str = "", depth: int = 1) -> dict[str, object]:
    """The values within an object by their paths, without arrays; MongoDB's `$numberLong` and its kin are numbers."""
    flat: dict[str, object] = {}
    for key, inner in value.items():
        name = f"{path}{key}"
        if not isinstance(inner, dict):
            if not isinstance(inner, list):
                flat[name] = inner
        elif len(inner) == 1 and next(iter(inner)).startswith("$number"):
            flat[name] = next(iter(inner.values()))
        elif depth < KEY_DEPTH:
            flat |= flatten(inner, f"{name}.", depth + 1)
    return flat


def _readable(values: Sequence[object]) -> bool:
    """Whether half of them are or have chat ids."""
    return 2 * sum(map(_has_id, values)) >= len(values) > 0


def _has_id(value: object) -> bool:
    if isinstance(value, dict):
        return any(holds_id(inner) for name, inner in flatten(value).items() if score(name) is not None)
    if isinstance(value, list):
        return any(map(holds_id, value))
    return holds_id(value)


def _chosen_path(held: Sequence[Element], wanted: str | None) -> str | None:
    """The list that the elements are of; None: they stand by themselves. Raises Unclear."""
    by_path: dict[str | None, list[object]] = {}
    for element in held:
        by_path.setdefault(element.path, []).append(element.value)
    if wanted is not None:
        for path in by_path:
            if path and (same_name(path, wanted) or wanted.startswith(f"{path}.")):
                return path
    if set(by_path) <= {""}:
        return ""
    alone = by_path.get(None, [])
    if any(isinstance(value, dict) and _surely_named(value) for value in alone):
        return None
    lists = [path for path, values in by_path.items() if path is not None and _readable(values)]
    surest = [path for path in lists if path == KEYS or score(path) is not None]
    if len(lists) > 1 and len(surest) != 1:
        listed = ", ".join(repr(printable(path)) for path in lists[:10])
        raise Unclear(f"the JSON holds several lists: {listed}; say which one: --column {lists[0]}, column={lists[0]}")
    if lists:
        return surest[0] if len(surest) == 1 else lists[0]
    if "" in by_path or not alone:
        return next(iter(by_path)) if "" not in by_path else ""
    return None


def _surely_named(value: Mapping[str, object]) -> bool:
    """Whether an object is a recipient itself, whatever lists it has."""
    names = [name for name, inner in flatten(value).items() if holds_id(inner)]
    return any((rank := score(name)) is not None and rank < 6 for name in names)


def _chosen_key(values: Sequence[object], path: str | None, wanted: str | None) -> tuple[Choice, str | None]:
    """And the key in which each element has its chat id, if it is one for all. Raises UsageError."""
    prefix = f"{path}." if path else ""
    if wanted is not None and not (path and same_name(path, wanted)):
        key = wanted.removeprefix(prefix)
        return Choice(column=None, name=wanted), _said_key(values, key)
    objects = [flatten(value) for value in values if isinstance(value, dict)]
    if objects and 2 * len(objects) >= len(values):
        return _of_objects(objects, prefix)
    arrays = [value for value in values if isinstance(value, list)]
    if arrays and 2 * len(arrays) >= len(values):
        found = choose(None, arrays)
        place = "0" if found.column is None else str(found.column)
        return Choice(column=found.column, name=str(int(place) + 1), guess=found.guess), place
    found = choose(None, [[value] for value in values if not isinstance(value, (dict, list))])
    named = path or None
    if wanted is None and path not in {None, "", KEYS} and score(path or "") is None:
        return Choice(column=0, name=named, guess=f"the list {path!r} inside the JSON was taken"), None
    if path == KEYS and wanted is None:
        return Choice(column=0, name="keys", guess="the keys of the JSON object were taken for chat ids"), None
    return Choice(column=0, name=named, guess=found.guess), None


def _of_objects(objects: Sequence[Mapping[str, object]], prefix: str) -> tuple[Choice, str | None]:
    names = list(dict.fromkeys(name for one in objects for name in one))
    rows = [[one.get(name) for name in names] for one in objects]
    if best_name(names) is None and not any(holds_id(value) for row in rows for value in row):
        return Choice(column=0, name=None), None  # each is rejected by itself
    found = choose(names, rows)
    key = names[found.column or 0]
    fixed = None if score(key) is not None and key == names[best_name(names) or 0] else key
    return Choice(column=found.column, name=f"{prefix}{key}", guess=found.guess), fixed


def _said_key(values: Sequence[object], wanted: str) -> str | None:
    """The key of that name. Raises UsageError."""
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
