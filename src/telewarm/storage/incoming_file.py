"""A file on its way in, hashed while it is written."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from telewarm.errors import StoreUnavailable
from telewarm.models import Sha256
from telewarm.storage.put_source import FileFingerprint
from telewarm.storage.thread_batcher import in_thread, run_inline_or_in_thread

DIRECT_WRITE_BYTES = 8 << 20  # bytes of a file that are written from the event loop; the rest may outrun the page cache


class IncomingFile:
    """`path`, empty at first, holds all that was written at any time. One writer; the spool makes and closes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        self.kept = False
        self._hash = hashlib.sha256()
        self._file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    @property
    def sha256(self) -> Sha256:
        """Of what was written so far."""
        return Sha256(self._hash.hexdigest())

    @property
    def fingerprint(self) -> FileFingerprint:
        """Of what was written so far: whoever stores it need not hash it again while nobody writes to it."""
        return FileFingerprint.from_stat(os.fstat(self._file))

    async def write(self, chunk: bytes) -> None:
        """StoreUnavailable when the disk is full."""
        self.bytes += len(chunk)
        try:
            if self.bytes > DIRECT_WRITE_BYTES:
                await in_thread(lambda: self._write(chunk))
            else:
                await run_inline_or_in_thread(len(chunk), lambda: self._write(chunk))
        except OSError as error:
            raise StoreUnavailable(
                f"The spool cannot take a file in at {self.path.parent}: {error.strerror}."
                " Free some disk space, or move the data folder."
            ) from error

    def keep(self) -> None:
        """Leave the file when `receive` ends; its owner is the caller from now on."""
        self.kept = True

    def close(self) -> None:
        """Nothing happens the second time."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        left = memoryview(chunk)
        while left:
            left = left[os.write(self._file, left) :]
