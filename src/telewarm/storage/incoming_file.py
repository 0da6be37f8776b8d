"""Received file, hashed while it is written."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from telewarm.errors import StoreUnavailable
from telewarm.models import Sha256
from telewarm.storage.put_source import FileFingerprint
from telewarm.storage.thread_batcher import in_thread, run_inline_or_in_thread

DIRECT_WRITE_BYTES = 8 << 20  # of a file are written in the event loop; later ones may outrun the page cache


class IncomingFile:
    """A file being received at `path`, always with all written bytes.

    For one writer; made and closed by the disk cache.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        self.kept = False
        self._hash = hashlib.sha256()
        self._file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    @property
    def sha256(self) -> Sha256:
        """Hash of the written bytes."""
        return Sha256(self._hash.hexdigest())

    @property
    def fingerprint(self) -> FileFingerprint:
        """Fingerprint after the last write: storing the unchanged file needs no second hash."""
        return FileFingerprint.from_stat(os.fstat(self._file))

    async def write(self, chunk: bytes) -> None:
        """Write bytes. Raises StoreUnavailable on a full disk."""
        self.bytes += len(chunk)
        try:
            if self.bytes > DIRECT_WRITE_BYTES:
                await in_thread(lambda: self._write(chunk))
            else:
                await run_inline_or_in_thread(len(chunk), lambda: self._write(chunk))
        except OSError as error:
            raise StoreUnavailable(
                f"The disk cache cannot store a file in {self.path.parent}: {error.strerror}."
                " Free some disk space, or move the data folder."
            ) from error

    def keep(self) -> None:
        """Keep the file after `receive`; the caller owns it from now on."""
        self.kept = True

    def close(self) -> None:
        """Close the file; may be repeated."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        left = memoryview(chunk)
        while left:
            left = left[os.write(self._file, left) :]
