"""Byte ranges of a request (RFC 9110, sections 13 and 14). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

SINGLE_RANGE_PATTERN = re.compile(r"bytes=[ \t]*(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))[ \t]*", re.IGNORECASE)


class RangeNotSatisfiable(Exception):
    """The file has no byte of the range."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from `begin` to before `end`."""

    begin: int
    end: int


def parse_range(headers: Mapping[str, str], *, size: int, etag: str) -> ByteRange | None:
    """Parse the Range header. None: the whole file.

    A range of a file that has changed since (If-Range), several ranges and unreadable ones get the whole file, as the
    RFC allows. Raises RangeNotSatisfiable. `etag`: with its quotes.
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
    """Return whether the caller has these bytes already (If-None-Match)."""
    known = [one.strip().removeprefix("W/") for one in headers.get("if-none-match", "").split(",")]
    return etag in known or known == ["*"]
