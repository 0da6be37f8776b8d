"""Streaming multipart/form-data parser, which holds no more than a boundary's length."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from enum import Enum, auto
from typing import Protocol

MAX_PART_HEADERS = 16 * 1024

# what common clients send; anything else takes the standard library's slower way
_USUAL = re.compile(
    rb'content-disposition: *form-data; *name="([^"\\\r\n]*)"(?:; *filename="([^"\\\r\n]*)")?'
    rb"(?:\r\ncontent-type: *([^\r\n]+))?",
    re.IGNORECASE,
)


class Malformed(Exception):
    """The body does not follow the format."""


class Sink(Protocol):
    """Receives the bytes of one part."""

    def write(self, data: bytes) -> None:
        """Receive a piece."""
        ...

    def close(self) -> None:
        """End the part."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Headers of a part."""

    name: str
    filename: str | None  # None: a parameter, not a file
    content_type: str


class _State(Enum):
    PREAMBLE = auto()
    AFTER_BOUNDARY = auto()
    HEADERS = auto()
    BODY = auto()
    END = auto()


class Multipart:
    """Parser; opens a sink for each part."""

    def __init__(self, boundary: bytes, open_part: Callable[[Part], Sink]) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._open_part = open_part
        self._buffer = b"\r\n"  # the first boundary may open the body
        self._state = _State.PREAMBLE
        self._sink: Sink | None = None

    @property
    def complete(self) -> bool:
        """Whether the last boundary was read."""
        return self._state is _State.END

    def feed(self, data: bytes) -> None:
        """Parse a piece."""
        self._buffer = self._buffer + data if self._buffer else data
        while self._advance():
            pass

    def _advance(self) -> bool:
        """Take one step. Returns False when more bytes are needed."""
        match self._state:
            case _State.PREAMBLE | _State.BODY:
                return self._until_boundary()
            case _State.AFTER_BOUNDARY:
                return self._after_boundary()
            case _State.HEADERS:
                return self._headers()
            case _State.END:
                self._buffer = b""
                return False

    def _until_boundary(self) -> bool:
        found = self._buffer.find(self._delimiter)
        if found < 0:
            keep = min(len(self._buffer), len(self._delimiter) - 1)
            self._emit(len(self._buffer) - keep)
            return False
        self._emit(found)
        self._buffer = self._buffer[len(self._delimiter) :]
        if self._sink is not None:
            self._sink.close()
            self._sink = None
        self._state = _State.AFTER_BOUNDARY
        return True

    def _emit(self, size: int) -> None:
        if size and self._sink is not None:
            self._sink.write(self._buffer[:size])
        self._buffer = self._buffer[size:]

    def _after_boundary(self) -> bool:
        if len(self._buffer) < 2:
            return False
        if self._buffer.startswith(b"--"):
            self._state = _State.END
            return True
        end = self._buffer.find(b"\r\n")
        if end < 0:
            self._bound_headers()
            return False
        if self._buffer[:end].strip(b" \t"):
            raise Malformed("text after a boundary")
        # the line end stays: it is the empty line of a part without headers
        self._buffer = self._buffer[end:]
        self._state = _State.HEADERS
        return True

    def _headers(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            self._bound_headers()
            return False
        block, self._buffer = self._buffer[2:end], self._buffer[end + 4 :]
        self._sink = self._open_part(part_of(block))
        self._state = _State.BODY
        return True

    def _bound_headers(self) -> None:
        if len(self._buffer) > MAX_PART_HEADERS:
            raise Malformed("part headers too long")


def part_of(block: bytes) -> Part:
    """Parse a part's header block."""
    usual = _USUAL.fullmatch(block)
    if usual is not None:
        name, filename, content_type = (
            None if text is None else text.decode("utf-8", "replace") for text in usual.groups()
        )
        return Part(name=name or "", filename=filename, content_type=content_type or "text/plain")
    return _unusual_part(block)


def _unusual_part(block: bytes) -> Part:
    headers = Message()
    for line in block.decode("utf-8", "replace").split("\r\n"):
        header, colon, value = line.partition(":")
        if colon:
            headers[header.strip()] = value.strip()
    name = headers.get_param("name", header="content-disposition")
    if not isinstance(name, str):
        raise Malformed("a part without a name")
    return Part(name=name, filename=headers.get_filename(), content_type=headers.get_content_type())


def boundary_of(content_type: str) -> bytes:
    """Return the boundary parameter of a Content-Type header, at most 70 characters."""
    headers = Message()
    headers["content-type"] = content_type
    boundary = headers.get_boundary("")
    if not 1 <= len(boundary) <= 70:
        raise Malformed("no usable boundary")
    return boundary.encode()
