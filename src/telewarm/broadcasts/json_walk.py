"""Walk through the events of a JSON parser that yields values which may be recipients."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from telewarm.errors import UsageError

MAX_NESTING = 64  # levels of nesting
MAX_LIST_DEPTH = 4  # levels at which an array or object may be a list
MAX_HELD_KEYS = 1_000  # keys of an object in memory
START_EVENTS = frozenset({"start_map", "start_array"})
END_EVENTS = frozenset({"end_map", "end_array"})
KEYS_PATH = "*keys*"  # path of a list that is the keys of an object
VALUES_PATH = "*"  # last part of the path of a list that is the values of an object
MIN_ID_KEY_DIGITS = 5  # digits of a key that may be a chat id
ID_KEY = re.compile(rf"-?\d{{{MIN_ID_KEY_DIGITS},16}}")
ROW_KEY = re.compile(r"\d{1,16}")
RELOAD_CURE = "what came before is loaded; fix the list and load it again, which adds nothing twice"


class Element(NamedTuple):
    """A value that may be a recipient.

    `path`: of the array or object around it, with dots; None: top level. `key`: of a value of an object.
    """

    number: int
    path: str | None
    value: object
    key: str = ""


@dataclass(slots=True)
class Frame:
    """An open container.

    `path` of a list whose elements are yielded one by one; None for others. `values`: number of an object's values that
    were yielded.
    """

    value: dict[str, object] | list[object]
    path: str | None = None
    key: str = ""
    count: int = 0
    values: int = 0
    rows: bool = False  # its keys are row numbers


class Walk:
    """Builds values from parser events.

    Yields elements of outermost arrays, values of objects that may be lists by row or by name, and top-level values.
    """

    def __init__(self) -> None:
        self.number = 0  # number of the last element
        self.taken = 0  # number of elements
        self.size = 0  # characters of the current element
        self._top = 0  # number of top-level values
        self._frames: list[Frame] = []

    def elements(self, events: Iterable[tuple[str, object]]) -> Iterator[Element]:
        """Yield the elements that the events complete. Raises UsageError."""
        frames = self._frames
        for event, value in events:
            if event == "map_key":
                frames[-1].key = str(value)
                continue
            if event in START_EVENTS:
                self._open(event)
                continue
            if event in END_EVENTS:
                frame = frames.pop()
                if frame.path is not None:
                    continue
                value = frame.value
            if not frames:
                yield self._at_the_top(value)
            elif frames[-1].path is not None:
                yield self._element(frames[-1], frames[-1].path, value)
            else:
                yield from self._put(frames[-1], value)

    def _open(self, event: str) -> None:
        if len(self._frames) >= MAX_NESTING:
            raise UsageError(f"element {self.number + 1} is nested deeper than {MAX_NESTING} levels; {RELOAD_CURE}")
        if event == "start_map":
            self._frames.append(Frame(value={}))
            return
        listed = len(self._keys()) == len(self._frames) < MAX_LIST_DEPTH
        self._frames.append(Frame(value=[], path=".".join(self._keys()) if listed else None))

    def _keys(self) -> list[str]:
        return [frame.key for frame in self._frames if isinstance(frame.value, dict)]

    def _put(self, frame: Frame, value: object) -> Sequence[Element]:
        """Put a value into its container.

        Returns the elements to yield: the value or its key, if it may be a recipient.
        """
        holds = frame.value
        if isinstance(holds, list):
            holds.append(value)
            return ()
        found = self._of_object(frame, value) if len(self._keys()) == len(self._frames) <= MAX_LIST_DEPTH else []
        if found and ID_KEY.fullmatch(frame.key):
            return found
        if len(holds) < MAX_HELD_KEYS:
            holds[frame.key] = value
        elif frame.values < len(holds):
            raise UsageError(f"an object has more than {MAX_HELD_KEYS:,} keys: this is no list of chats")
        return found

    def _of_object(self, frame: Frame, value: object) -> list[Element]:
        """Return the elements that one key of an object may stand for.

        That is the key, when it looks like a chat id, and a value beside a row number or one that is itself an object.
        """
        found = []
        frame.rows = frame.rows or (not frame.count and len(frame.key) < MIN_ID_KEY_DIGITS and frame.key.isdecimal())
        if not frame.rows and ID_KEY.fullmatch(frame.key):
            found.append(self._element(frame, KEYS_PATH, frame.key))
        if isinstance(value, dict) or (not isinstance(value, list) and ROW_KEY.fullmatch(frame.key)):
            frame.values += 1
            path = ".".join([*self._keys()[:-1], VALUES_PATH])
            found.append(self._element(frame, path, value, key=frame.key, number=frame.values))
        return found

    def _element(self, frame: Frame, path: str, value: object, *, key: str = "", number: int = 0) -> Element:
        if not number:
            number = frame.count = frame.count + 1
        self.number = number
        self.taken += 1
        return Element(number, path, value, key)

    def _at_the_top(self, value: object) -> Element:
        self._top += 1
        self.number = self._top
        self.taken += 1
        return Element(self._top, None, value)
