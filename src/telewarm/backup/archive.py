"""Archive of a backup: a tar file that is written and read once, from beginning to end.

manifest.json            what it holds, and the revision of the schema
encryption.key           unless it was left out
tables/<name>/<number>   COPY text of a table, in pieces
media/<key>              objects of the store
checksums.json           last: the SHA-256 of every member before it, so that a cut-off archive is known as one
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import IO, Any

import msgspec

from telewarm import clock
from telewarm.errors import BackupError
from telewarm.folders import PRIVATE_FILE
from telewarm.storage.thread_batcher import in_thread

FORMAT = "telewarm-backup"
VERSION = 1
TABLE_MEMBER_BYTES = 4 << 20  # bytes of a table in one member
READ_BYTES = 1 << 20  # bytes read at once
MANIFEST_NAME, KEY_NAME, CHECKSUMS_NAME = "manifest.json", "encryption.key", "checksums.json"
MAX_METADATA_BYTES = 64 << 20  # bytes of a member that is read as a whole
MAX_CHECKSUMS_BYTES = 4 << 30  # of the checksums, which have some 150 bytes for each member
MAX_NAME_CHARACTERS = 100  # characters of a name
PADDING = bytes(tarfile.BLOCKSIZE)
DAMAGED_MESSAGE = "the archive is damaged or was cut off"

OnBytes = Callable[[int], None]  # bytes that were read or written just now


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`tables`: their columns, in the order in which they are filled. `identities`: by table.column, the last id."""

    format: str = FORMAT
    version: int = VERSION
    telewarm: str
    revision: str
    created_at: str
    tables: dict[str, list[str]]
    identities: dict[str, int]
    key: bool
    media: bool


class Checksums(msgspec.Struct, frozen=True, kw_only=True):
    """`missing`: objects that the database refers to and that the store does not have."""

    sha256: dict[str, str]
    missing: list[str] = []


class ArchiveWriter:
    """Appends members to an open file."""

    def __init__(self, file: IO[bytes], on_bytes: OnBytes) -> None:
        self._file = file
        self._on_bytes = on_bytes
        self._checksums: dict[str, str] = {}
        self._hash = hashlib.sha256()
        self._bytes_left = 0
        self._name = ""
        self._size = 0

    async def add(self, name: str, data: bytes) -> None:
        """Append a small member."""
        self.begin(name, len(data))
        await self.write(data)
        self.end()

    def begin(self, name: str, size: int) -> None:
        """Begin a member of that size: `write` its bytes, then `end` it."""
        header = tarfile.TarInfo(name)
        header.size, header.mode, header.mtime = size, PRIVATE_FILE, int(clock.now().timestamp())
        self._file.write(header.tobuf(tarfile.GNU_FORMAT))
        self._name, self._size, self._bytes_left, self._hash = name, size, size, hashlib.sha256()

    async def write(self, data: bytes) -> None:
        """Write bytes of the present member."""
        if len(data) > self._bytes_left:
            raise BackupError(f"{self._name} grew while it was read: run the backup again")
        self._bytes_left -= len(data)
        await in_thread(lambda: self._write(data))
        self._on_bytes(len(data))

    def end(self) -> None:
        """End the present member."""
        if self._bytes_left:
            raise BackupError(f"{self._name} was shorter than it was said to be: its object is damaged")
        self._file.write(bytes(-self._size % tarfile.BLOCKSIZE))
        self._checksums[self._name] = self._hash.hexdigest()

    async def finish(self, missing: list[str]) -> None:
        """Append the checksums."""
        await self.add(CHECKSUMS_NAME, msgspec.json.encode(Checksums(sha256=dict(self._checksums), missing=missing)))
        self._file.write(bytes(2 * tarfile.BLOCKSIZE))

    def _write(self, data: bytes) -> None:
        self._hash.update(data)
        self._file.write(data)


class ArchiveReader:
    """Reads the members of an open file; `name` is the present one's, None after the last.

    Accepts what `ArchiveWriter` writes and no other kind of tar: no links, no sparse files, no headers of any length.
    """

    def __init__(self, file: IO[bytes], on_bytes: OnBytes) -> None:
        self._file = file
        self._on_bytes = on_bytes
        self._checksums: dict[str, str] = {}
        self.name: str | None = None
        self.size = 0

    async def next(self) -> str | None:
        """Go to the next member, whatever was read of the present one. Returns its name."""
        if self.name is not None and self.name not in self._checksums:
            async for _ in self.read():
                pass
        found = await in_thread(self._next)
        self.name = None if found is None else found.name
        self.size = 0 if found is None else found.size
        return self.name

    async def read(self) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of the present member, once."""
        name, digest = self.name, hashlib.sha256()
        if name is None or name in self._checksums:
            raise BackupError(DAMAGED_MESSAGE)
        left = self.size
        while left:
            chunk = await in_thread(partial(self._file.read, min(left, READ_BYTES)))
            if not chunk:
                raise BackupError(f"{DAMAGED_MESSAGE}: {name} ends too early")
            digest.update(chunk)
            left -= len(chunk)
            self._on_bytes(len(chunk))
            yield chunk
        await in_thread(partial(self._file.read, -self.size % tarfile.BLOCKSIZE))
        self._checksums[name] = digest.hexdigest()

    async def read_all(self, *, max_bytes: int = MAX_METADATA_BYTES) -> bytes:
        """Return all bytes of the present, small member."""
        if self.size > max_bytes:
            raise BackupError(f"{DAMAGED_MESSAGE}: {self.name} is far too large")
        return b"".join([chunk async for chunk in self.read()])

    async def read_metadata(self, kind: type[Any], *, name: str) -> Any:  # noqa: ANN401 - of that kind
        """Decode the next member."""
        if await self.next() != name:
            raise BackupError(f"{DAMAGED_MESSAGE}: {name} is not where it must be")
        try:
            return msgspec.json.decode(await self.read_all(), type=kind)
        except msgspec.DecodeError as error:
            raise BackupError(f"{DAMAGED_MESSAGE}: {name} cannot be read") from error

    async def finish(self) -> Checksums:
        """Compare everything read with the present member, the checksums."""
        if self.name != CHECKSUMS_NAME:
            raise BackupError(f"{DAMAGED_MESSAGE}: {CHECKSUMS_NAME} is missing at its end")
        read = dict(self._checksums)
        try:
            promised = msgspec.json.decode(await self.read_all(max_bytes=MAX_CHECKSUMS_BYTES), type=Checksums)
        except msgspec.DecodeError as error:
            raise BackupError(f"{DAMAGED_MESSAGE}: {CHECKSUMS_NAME} cannot be read") from error
        if read != promised.sha256:
            wrong = min({*read.items()} ^ {*promised.sha256.items()})[0]
            raise BackupError(f"{DAMAGED_MESSAGE}: {wrong} is not what was saved")
        return promised

    def _next(self) -> tarfile.TarInfo | None:
        header = self._file.read(tarfile.BLOCKSIZE)
        if header == PADDING:
            return None
        try:
            found = tarfile.TarInfo.frombuf(header, tarfile.ENCODING, "surrogateescape")
        except tarfile.TarError as error:
            if not self._checksums:
                raise BackupError(f"this is no backup of Telewarm's, or {DAMAGED_MESSAGE} ({error})") from error
            raise BackupError(f"{DAMAGED_MESSAGE} ({error})") from error
        if found.type != tarfile.REGTYPE or found.name in self._checksums or found.size < 0:
            raise BackupError(
                f"{DAMAGED_MESSAGE}: Telewarm writes no such member as {found.name[:MAX_NAME_CHARACTERS]!r}"
            )
        return found
