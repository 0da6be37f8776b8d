"""Readers of a file by its descriptor, for decoder processes, which cannot open files."""

from __future__ import annotations

import io
import os
from typing import Final

BUFFER_BYTES: Final = 1 << 16  # read at once


class _Raw(io.RawIOBase):
    """Raw reader with its own position, so that several readers of one descriptor are independent."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence)
        at = offset + (os.fstat(self._descriptor).st_size if start is None else start)
        if at < 0:
            raise ValueError("there is nothing before the beginning of a file")
        self._at = at
        return at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's Buffer has no length
        """Read from the position."""
        data = os.pread(self._descriptor, len(buffer), self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def reader(descriptor: int) -> io.BufferedReader:
    """Return a reader from the beginning. The descriptor is neither moved nor closed."""
    return io.BufferedReader(_Raw(descriptor), BUFFER_BYTES)
