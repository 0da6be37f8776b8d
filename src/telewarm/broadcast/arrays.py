"""Lists that are one JSON array, read element by element: it is never held whole."""

from __future__ import annotations

import codecs
import json
import re
from typing import NoReturn

from telewarm.broadcast.lines import TOO_LONG, chat_ids_in
from telewarm.broadcast.rows import LONGEST, LOOKED_AT, Rows
from telewarm.errors import UsageError

BLANK = re.compile(r"[ \t\r\n]*")
PLAIN = r'[ \t\r\n]*+(?:-?[0-9]{1,16}|"-?[0-9]{1,16}")[ \t\r\n]*+'
RUN = re.compile(rf"(?:{PLAIN},)++")  # ids, each with its comma
ONE = re.compile(rf"{PLAIN}(?=[,\]])")
HELD = 1 << 20  # characters of an element that are kept at most, to find its end
LINE = re.compile(rb"(?:[^\n]++\n)*+")
MARK = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{},"]', re.DOTALL)  # a whole string, or what opens, closes and parts
AGAIN = "what came before is loaded; mend the list and load it again, which adds nothing twice"


class JsonArray:
    """Elements: numbers, numeric strings, objects. Raises UsageError where nothing that follows can be trusted."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._scan = json.JSONDecoder().raw_decode
        self._text = ""
        self._number = 0  # of the element before `_text`
        self._begun = self._ended = False

    def feed(self, data: bytes) -> None:
        self._text += self._decode(data)
        self._read(final=False)

    def end(self) -> None:
        self._text += self._decode(b"", final=True)
        self._read(final=True)
        if not self._ended:
            self._refuse_rest()

    def _read(self, *, final: bool) -> None:
        at = 0
        while (after := self._step(at, final=final)) is not None:
            at = after
        self._text = self._text[at:]

    def _step(self, at: int, *, final: bool) -> int | None:
        """Read on from there; where to go on, or None when more has to come first."""
        begin = _past(BLANK, self._text, at)
        if begin == len(self._text):
            return None
        if self._ended:
            raise UsageError(f"something follows the JSON array's end: {AGAIN}")
        if not self._begun:
            return self._open(begin)
        if self._text[begin] == "]":
            self._ended = True
            return begin + 1
        return self._run(at) or self._element(begin, final=final)

    def _open(self, begin: int) -> int:
        if self._text[begin] != "[":
            raise UsageError("the list is no JSON array: it has to begin with [; or say which format it has")
        self._begun = True
        return begin + 1

    def _run(self, at: int) -> int | None:
        """A run of plain ids at once; None: there is none here."""
        run = RUN.match(self._text, at)
        if run is None:
            return None
        cells = run.group()[:-1].split(",")
        found = chat_ids_in("\n".join(map(str.strip, cells)).encode() + b"\n", LINE)
        if found is not None:
            self._rows.extend(found)
        else:
            for number, cell in enumerate(cells, self._number + 1):
                self._rows.take(number, cell.strip(' \t\r\n"'), excerpt=cell.strip())
        self._number += len(cells)
        return run.end()

    def _element(self, begin: int, *, final: bool) -> int | None:
        text = self._text
        end, value = self._value(begin)
        parted = len(text) if end is None else _past(BLANK, text, end)
        if end is not None and end - begin <= LONGEST and text[parted : parted + 1] in {",", "]"}:
            self._number += 1
            self._rows.take_json(self._number, value, excerpt=text[begin : min(end, begin + LOOKED_AT)])
            return _after(text, parted)
        stop = _end_of_element(text, begin)
        if stop is not None:
            reason = TOO_LONG if stop - begin > LONGEST else "not JSON"
            self._number += 1
            self._rows.reject(self._number, reason, text[begin : min(stop, begin + LOOKED_AT)])
            return _after(text, stop)
        if final or len(text) - begin > HELD:
            self._refuse_rest()
        return None

    def _value(self, begin: int) -> tuple[int | None, object]:
        if plain := ONE.match(self._text, begin):
            return plain.end(), plain.group().strip(' \t\r\n"')
        try:
            value, end = self._scan(self._text, begin)
        except (ValueError, RecursionError):
            return None, None
        return end, value

    def _refuse_rest(self) -> NoReturn:
        raise UsageError(
            f"the JSON array is cut off or broken: it cannot be read beyond element {self._number}; {AGAIN}"
        )


def _past(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return at if found is None else found.end()


def _after(text: str, stop: int) -> int:
    return stop + 1 if text[stop] == "," else stop


def _end_of_element(text: str, begin: int) -> int | None:
    """Where the comma or bracket after it is."""
    depth = 0
    for mark in MARK.finditer(text, begin, begin + HELD):
        sign = mark.group()
        if sign == '"':
            return None  # a string that has not ended
        if depth == 0 and sign in ",]":
            return mark.start()
        if sign in "[{":
            depth += 1
        elif sign in "]}":
            depth -= depth > 0
    return None
