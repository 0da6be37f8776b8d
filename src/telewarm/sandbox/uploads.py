"""Received files: hashed, counted and sniffed while they stream, not held."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from telewarm.sandbox.errors import ApiError
from telewarm.sandbox.multipart import Sink
from telewarm.sandbox.sniff import Facts, Sniffer

MAX_PARAMETERS = 1 << 20  # bytes of all parameters of a request
MAX_FILES = 50


def too_large() -> ApiError:
    """Create a 413."""
    return ApiError(413, "Request Entity Too Large")


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """A received file. `kept`: its bytes, if it is small enough for a download."""

    name: str
    mime: str
    size: int
    sha256: bytes
    facts: Facts
    kept: bytes | None


class FileSink:
    """Receives a file's bytes; keeps them up to `keep`."""

    def __init__(self, name: str, mime: str, *, keep: int) -> None:
        self._name = name
        self._mime = mime
        self._keep = keep
        self._size = 0
        self._hash = hashlib.sha256()
        self._sniffer = Sniffer()
        self._kept: bytearray | None = bytearray()

    def write(self, data: bytes) -> None:
        """Receive a piece."""
        self._size += len(data)
        self._hash.update(data)
        self._sniffer.feed(data)
        if self._size > self._keep:
            self._kept = None
        elif self._kept is not None:
            self._kept += data

    def close(self) -> None:
        """Do nothing: `finish` reads the sink."""

    def finish(self) -> Upload:
        """Return the file."""
        return Upload(
            name=self._name,
            mime=self._mime,
            size=self._size,
            sha256=self._hash.digest(),
            facts=self._sniffer.close(self._size),
            kept=None if self._kept is None else bytes(self._kept),
        )


class TextSink:
    """Receives a parameter's bytes, within the rest of the request's limit."""

    def __init__(self, allowance: int) -> None:
        self._allowance = allowance
        self._data = bytearray()

    def write(self, data: bytes) -> None:
        """Receive a piece."""
        self._data += data
        if len(self._data) > self._allowance:
            raise too_large()

    def close(self) -> None:
        """Do nothing: `text` reads the sink."""

    @property
    def size(self) -> int:
        """Number of bytes."""
        return len(self._data)

    def text(self) -> str:
        """Return the text."""
        return self._data.decode("utf-8", "replace")


class Form:
    """Parameters and files of one request; the first of a name counts."""

    def __init__(self, params: dict[str, str], *, keep: int) -> None:
        self.params = params
        self.raw = b""  # a JSON body as it came
        self._keep = keep
        self._texts: list[tuple[str, TextSink]] = []
        self._files: list[tuple[str, FileSink]] = []

    def text(self, name: str) -> Sink:
        """Return the sink of a parameter."""
        used = sum(sink.size for _, sink in self._texts)
        sink = TextSink(MAX_PARAMETERS - used)
        self._texts.append((name, sink))
        return sink

    def file(self, name: str, filename: str, mime: str) -> Sink:
        """Return the sink of a file."""
        if len(self._files) >= MAX_FILES:
            raise too_large()
        sink = FileSink(filename, mime, keep=self._keep)
        self._files.append((name, sink))
        return sink

    def finish(self) -> dict[str, Upload]:
        """Finish the parameters. Returns the files."""
        for name, text in self._texts:
            self.params.setdefault(name, text.text())
        files: dict[str, Upload] = {}
        for name, file in self._files:
            files.setdefault(name, file.finish())
        return files
