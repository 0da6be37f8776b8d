"""Source of a put, verified against its hash."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from telewarm.errors import ObjectCorrupt, ObjectMissing
from telewarm.models import Sha256


class FileFingerprint(NamedTuple):
    """Fingerprint of a file after it was hashed: while it is equal, nobody has written to the file."""

    device: int
    inode: int
    bytes: int
    written_ns: int

    @classmethod
    def from_stat(cls, found: os.stat_result) -> FileFingerprint:
        """Return the fingerprint of a stat result."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


@dataclass(frozen=True, kw_only=True, slots=True)
class PutSource:
    """Bytes to store: a file, or a small value in memory. Its methods block; a missing file is ObjectMissing.

    `fingerprint`: of the file when it was hashed.
    """

    source: Path | bytes
    sha256: Sha256
    size: int  # bytes
    fingerprint: FileFingerprint | None = None

    @classmethod
    def from_bytes(cls, data: bytes) -> PutSource:
        """Create a source from a small value."""
        return cls(source=data, sha256=Sha256(hashlib.sha256(data).hexdigest()), size=len(data))

    def matches(self, path: Path) -> bool:
        """Return whether a file holds exactly these bytes."""
        try:
            return path.stat().st_size == self.size and sha256_of(path) == self.sha256
        except FileNotFoundError as error:
            raise ObjectMissing(f"{path.name} vanished before it was stored. Send it again.") from error

    def verify(self) -> Path | bytes:
        """Return the source.

        Raises ObjectCorrupt for another size or hash. Reads a file once unless its fingerprint holds.
        """
        if isinstance(self.source, Path) and not self._has_fingerprint(self.source) and not self.matches(self.source):
            raise self._corrupt_error()
        return self.source

    def read(self) -> bytes:
        """Return all bytes, verified as by `verify`."""
        if not isinstance(self.source, Path):
            return self.source
        try:
            data = self.source.read_bytes()
        except FileNotFoundError as error:
            raise ObjectMissing(f"{self.source.name} vanished before it was stored. Send it again.") from error
        if hashlib.sha256(data).hexdigest() != self.sha256 or len(data) != self.size:
            raise self._corrupt_error()
        return data

    def _has_fingerprint(self, path: Path) -> bool:
        if self.fingerprint is None or self.fingerprint.bytes != self.size:
            return False
        with suppress(FileNotFoundError):
            return FileFingerprint.from_stat(path.stat()) == self.fingerprint
        return False

    def _corrupt_error(self) -> ObjectCorrupt:
        return ObjectCorrupt(
            f"The file to store is not the {self.size} bytes with SHA-256 {self.sha256} that it was said to be;"
            " it was changed after it was received. Nothing was stored: send it again."
        )


def sha256_of(path: Path) -> Sha256:
    """Return the hash of a file. Blocks."""
    with path.open("rb", buffering=0) as file:
        return Sha256(hashlib.file_digest(file, "sha256").hexdigest())


def etags_of(source: Path | bytes, *, part_bytes: int) -> frozenset[str]:
    """Return the ETags that S3 servers compute: the MD5, or the MD5 of the parts' MD5s with the number of parts.

    Blocks. Servers that encrypt with their own keys (SSE-KMS) have others.
    """
    if isinstance(source, bytes):
        return frozenset({hashlib.md5(source, usedforsecurity=False).hexdigest()})
    whole = hashlib.md5(usedforsecurity=False)
    parts: list[bytes] = []
    with source.open("rb", buffering=0) as file:
        while data := file.read(part_bytes):
            whole.update(data)
            parts.append(hashlib.md5(data, usedforsecurity=False).digest())
    of_parts = hashlib.md5(b"".join(parts), usedforsecurity=False)
    return frozenset({whole.hexdigest(), f"{of_parts.hexdigest()}-{len(parts)}"})
