"""The archive: a tar file that is written and read once, from its beginning to its end.

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
PIECE = 4 << 20  # bytes of a table in one member
CHUNK = 1 << 20  # bytes read at once
MANIFEST, KEY, CHECKSUMS = "manifest.json", "encryption.key", "checksums.json"
LARGEST_FACT = 64 << 20  # bytes of a member that is read as a whole
LARGEST_SUMS = 4 << 30  # of the checksums, which have some 150 bytes for each member
SHOWN = 100  # characters of a name
PADDING = bytes(tarfile.BLOCKSIZE)
DAMAGED = "the archive is damaged or was cut off"

Report = Callable[[int], None]  # bytes that were read or written just now


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
    """`missing`: objects of the store that the database knows and that were not there."""

    sha256: dict[str, str]
    missing: list[str] = []


class Writer:
    """Appends members to an open file."""

    def __init__(self, file: IO[bytes], report: Report) -> None:
        self._file = file
        self._report = report
        self._sums: dict[str, str] = {}
        self._hash = hashlib.sha256()
        self._left = 0
        self._name = ""
        self._size = 0

    async def add(self, name: str, data: bytes) -> None:
        self.begin(name, len(data))
        await self.write(data)
        self.end()

    def begin(self, name: str, size: int) -> None:
        """A member of as many bytes: `write` them, then `end` it."""
        header = tarfile.TarInfo(name)
        header.size, header.mode, header.mtime = size, PRIVATE_FILE, int(clock.now().timestamp())
        self._file.write(header.tobuf(tarfile.GNU_FORMAT))
        self._name, self._size, self._left, self._hash = name, size, size, hashlib.sha256()

    async def write(self, data: bytes) -> None:
        if len(data) > self._left:
            raise BackupError(f"{self._name} grew while it was read: run the backup again")
        self._left -= len(data)
        await in_thread(lambda: self._write(data))
        self._report(len(data))

    def end(self) -> None:
        if self._left:
            raise BackupError(f"{self._name} was shorter than it was said to be: its object is damaged")
        self._file.write(bytes(-self._size % tarfile.BLOCKSIZE))
        self._sums[self._name] = self._hash.hexdigest()

    async def finish(self, missing: list[str]) -> None:
        await self.add(CHECKSUMS, msgspec.json.encode(Checksums(sha256=dict(self._sums), missing=missing)))
        self._file.write(bytes(2 * tarfile.BLOCKSIZE))

    def _write(self, data: bytes) -> None:
        self._hash.update(data)
        self._file.write(data)


class Reader:
    """Goes through the members of an open file; `name` is the present one's, None behind the last.

    It reads what `Writer` writes and no other sort of tar: no links, no sparse files, no headers of any length.
    """

    def __init__(self, file: IO[bytes], report: Report) -> None:
        self._file = file
        self._report = report
        self._sums: dict[str, str] = {}
        self.name: str | None = None
        self.size = 0

    async def next(self) -> str | None:
        """On to the next member, whatever was read of this one; its name."""
        if self.name is not None and self.name not in self._sums:
            async for _ in self.read():
                pass
        found = await in_thread(self._next)
        self.name = None if found is None else found.name
        self.size = 0 if found is None else found.size
        return self.name

    async def read(self) -> AsyncGenerator[bytes, None]:
        """The bytes of the present member, once."""
        name, digest = self.name, hashlib.sha256()
        if name is None or name in self._sums:
            raise BackupError(DAMAGED)
        left = self.size
        while left:
            chunk = await in_thread(partial(self._file.read, min(left, CHUNK)))
            if not chunk:
                raise BackupError(f"{DAMAGED}: {name} ends too early")
            digest.update(chunk)
            left -= len(chunk)
            self._report(len(chunk))
            yield chunk
        await in_thread(partial(self._file.read, -self.size % tarfile.BLOCKSIZE))
        self._sums[name] = digest.hexdigest()

    async def whole(self, *, most: int = LARGEST_FACT) -> bytes:
        """All bytes of the present member, which is a small one."""
        if self.size > most:
            raise BackupError(f"{DAMAGED}: {self.name} is far too large")
        return b"".join([chunk async for chunk in self.read()])

    async def fact(self, kind: type[Any], *, named: str) -> Any:  # noqa: ANN401 - of that kind
        """The next member, as what it is."""
        if await self.next() != named:
            raise BackupError(f"{DAMAGED}: {named} is not where it must be")
        try:
            return msgspec.json.decode(await self.whole(), type=kind)
        except msgspec.DecodeError as error:
            raise BackupError(f"{DAMAGED}: {named} cannot be read") from error

    async def finish(self) -> Checksums:
        """The present member is the last one: compare everything that was read with it."""
        if self.name != CHECKSUMS:
            raise BackupError(f"{DAMAGED}: {CHECKSUMS} is missing at its end")
        read = dict(self._sums)
        try:
            promised = msgspec.json.decode(await self.whole(most=LARGEST_SUMS), type=Checksums)
        except msgspec.DecodeError as error:
            raise BackupError(f"{DAMAGED}: {CHECKSUMS} cannot be read") from error
        if read != promised.sha256:
            wrong = min({*read.items()} ^ {*promised.sha256.items()})[0]
            raise BackupError(f"{DAMAGED}: {wrong} is not what was saved")
        return promised

    def _next(self) -> tarfile.TarInfo | None:
        header = self._file.read(tarfile.BLOCKSIZE)
        if header == PADDING:
            return None
        try:
            found = tarfile.TarInfo.frombuf(header, tarfile.ENCODING, "surrogateescape")
        except tarfile.TarError as error:
            if not self._sums:
                raise BackupError(f"this is no backup of Telewarm's, or {DAMAGED} ({error})") from error
            raise BackupError(f"{DAMAGED} ({error})") from error
        if found.type != tarfile.REGTYPE or found.name in self._sums or found.size < 0:
            raise BackupError(f"{DAMAGED}: Telewarm writes no such member as {found.name[:SHOWN]!r}")
        return found
