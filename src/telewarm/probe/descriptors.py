"""Files that are read by their descriptor: a decoder process gets those, and can open none by itself."""

from __future__ import annotations

import io
import os
from typing import Final

BUFFER: Final = 1 << 16  # bytes read at once


class _Raw(io.RawIOBase):
    """Reads at a place of its own, so that several readers of one descriptor do not move each other."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence)
        at = offset + (os.fstat(self._descriptor).st_size if start is None else start)
        if at < 0:
            raise ValueError("there is nothing before the beginning of a file")
        self._at = at
        return at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's Buffer has no length
        data = os.pread(self._descriptor, len(buffer), self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def reader(descriptor: int) -> io.BufferedReader:
    """From its beginning. The descriptor is neither moved nor closed."""
    return io.BufferedReader(_Raw(descriptor), BUFFER)
