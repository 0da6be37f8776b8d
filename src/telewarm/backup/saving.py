"""Backup of the database and the media during operation."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgspec

import telewarm
from telewarm import clock, folders
from telewarm.backup.archive import KEY_NAME, MANIFEST_NAME, TABLE_MEMBER_BYTES, ArchiveWriter, Manifest, OnBytes
from telewarm.backup.scratch import temporary_file_beside
from telewarm.database import copies
from telewarm.database.transient import DISK_ERRNOS, is_disk_error
from telewarm.errors import BackupError
from telewarm.storage.object_store import BlobStore


@dataclass(kw_only=True, slots=True)
class BackupResult:
    """`missing`: keys of objects that the store does not have."""

    tables: int = 0
    objects: int = 0
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class BackupService:
    """Backups of the database at `url`. `key`: returns the key that encrypts tokens."""

    url: str = field(repr=False)  # with the password
    store: BlobStore
    key: Callable[[], bytes]

    async def save(
        self,
        file: Path | None,
        *,
        media: bool = False,
        key: bool = True,
        force: bool = False,
        on_bytes: OnBytes = lambda _: None,
    ) -> BackupResult:
        """Write a new file, or to standard output. `force`: replace an existing file. Raises BackupError."""
        if file is not None and not force and await asyncio.to_thread(file.exists):
            raise BackupError(f"{file} exists already: choose another name, or replace it with --force")
        sealing = self.key() if key else None
        return await save(self.url, file, key=sealing, store=self.store if media else None, on_bytes=on_bytes)


async def save(
    url: str, target: Path | None, *, key: bytes | None, store: BlobStore | None, on_bytes: OnBytes
) -> BackupResult:
    """Write an archive for its owner alone, atomically.

    `target` None: to standard output. `store`: of the media, which are left out without it. Raises BackupError,
    DatabaseError, StoreError.
    """
    with _open_target(target) as file:
        async with copies.snapshot(url) as connection:
            writer, saved = ArchiveWriter(file, on_bytes), BackupResult()
            manifest = Manifest(
                telewarm=telewarm.__version__,
                revision=await copies.revision_to_save(connection),
                created_at=clock.now().isoformat(timespec="seconds"),
                tables=await copies.columns(connection),
                identities=await copies.last_identities(connection),
                key=key is not None,
                media=store is not None,
            )
            await writer.add(MANIFEST_NAME, msgspec.json.encode(manifest))
            if key is not None:
                await writer.add(KEY_NAME, key.hex().encode())
            for table, columns in manifest.tables.items():
                await _save_table(connection, writer, table, columns)
                saved.tables += 1
            if store is not None:
                await _save_objects(connection, writer, store, saved)
            await writer.finish(saved.missing)
    return saved


async def _save_table(connection: copies.Connection, writer: ArchiveWriter, table: str, columns: list[str]) -> None:
    waiting, number = bytearray(), 0

    async def take(chunk: bytes) -> None:
        nonlocal number
        waiting.extend(chunk)
        if len(waiting) >= TABLE_MEMBER_BYTES:
            number += 1
            await writer.add(f"tables/{table}/{number:06}", bytes(waiting))
            waiting.clear()

    await copies.copy_out(connection, table, columns, take)
    if waiting:
        await writer.add(f"tables/{table}/{number + 1:06}", bytes(waiting))


async def _save_objects(
    connection: copies.Connection, writer: ArchiveWriter, store: BlobStore, result: BackupResult
) -> None:
    """Save the objects of the snapshot; deleted ones are listed as missing."""
    async for _, *keys in copies.object_keys(connection):
        for key in filter(None, keys):
            size = await store.size(key)
            if size is None:
                result.missing.append(key)
                continue
            writer.begin(f"media/{key}", size)
            async with aclosing(store.stream(key)) as chunks:
                async for chunk in chunks:
                    await writer.write(chunk)
            writer.end()
            result.objects += 1


@contextmanager
def _open_target(target: Path | None) -> Iterator[IO[bytes]]:
    try:
        if target is None:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
            return
        with temporary_file_beside(target) as (file, fresh):
            yield file
            file.flush()
            os.fsync(file.fileno())
            fresh.replace(target)
    except OSError as error:
        if target is None and error.errno in {errno.EPIPE, *DISK_ERRNOS}:
            _discard_stdout_buffer()
            raise BackupError(f"Standard output took only a part of the backup ({error.strerror})") from error
        if target is None or not is_disk_error(error):
            raise  # a connection's, or a store's
        raise BackupError(folders.describe_os_error(error, target.parent, cure="write it elsewhere")) from error


def _discard_stdout_buffer() -> None:
    """Discard buffered output that nobody can read: the interpreter would report it at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
