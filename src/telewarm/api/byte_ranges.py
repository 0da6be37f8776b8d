"""Byte ranges of a request (RFC 9110, sections 13 and 14). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

SINGLE_RANGE_PATTERN = re.compile(r"bytes=[ \t]*(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))[ \t]*", re.IGNORECASE)


class RangeNotSatisfiable(Exception):
    """Nothing of the range is in the file."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from `begin` to before `end`."""

    begin: int
    end: int


def parse_range(headers: Mapping[str, str], *, size: int, etag: str) -> ByteRange | None:
    """None: the whole file. A range of a file that has changed since (If-Range) is of no use; several at once, and
    what cannot be read, are answered with the whole, as they may be. Raises Unsatisfiable. `etag`: with its quotes.
    """
    asked = SINGLE_RANGE_PATTERN.fullmatch(headers.get("range", ""))
    if asked is None or headers.get("if-range", etag) != etag:
        return None
    first, last, suffix = asked.groups()
    begin = max(0, size - int(suffix)) if suffix else int(first)
    end = min(size, int(last) + 1) if last else size
    if last and int(last) < int(first):
        return None
    if begin >= size:
        raise RangeNotSatisfiable
    return ByteRange(begin, end)


def matches_etag(headers: Mapping[str, str], etag: str) -> bool:
    """Whether the caller has these bytes already (If-None-Match)."""
    known = [one.strip().removeprefix("W/") for one in headers.get("if-none-match", "").split(",")]
    return etag in known or known == ["*"]
