"""Restore of a backup into a database: all of it, or nothing."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import IO

from telewarm import folders
from telewarm.backup.archive import (
    CHECKSUMS_NAME,
    FORMAT,
    KEY_NAME,
    MANIFEST_NAME,
    VERSION,
    ArchiveReader,
    Manifest,
    OnBytes,
)
from telewarm.backup.scratch import temporary_folder
from telewarm.database import copies
from telewarm.database.migrate import migrate, revisions
from telewarm.database.restored import mark_restored
from telewarm.database.token_encryption import TokenCipher, find_cipher, reencrypt
from telewarm.errors import BackupError, Conflict
from telewarm.models import Sha256
from telewarm.storage.object_store import BlobStore

MAX_IN_MEMORY_BYTES = 1 << 20  # bytes of an object that is put from memory


@dataclass(kw_only=True, slots=True)
class RestoreResult:
    """`paused`: broadcasts that were active, and wait for a person to check them."""

    manifest: Manifest
    paused: int = 0
    objects: int = 0
    missing: int = 0
    key_written: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RestoreTarget:
    """Target of a restore.

    `key`: the present one, if there is one; else the archive's is written to `key_file`. `store`: for the media.
    `data_folder`: for temporary files.
    """

    url: str
    key: bytes | None
    key_file: Path
    store: BlobStore
    data_folder: Path


async def restore(
    file: IO[bytes], target: RestoreTarget, *, force: bool, on_bytes: OnBytes, mark: bool = True
) -> RestoreResult:
    """Replace the database's contents by the archive, in one transaction that ends after its verification.

    Media are put into the store before that; existing objects stay. `force`: even into a database with data. `mark`:
    pause active and scheduled broadcasts, because what was sent since the backup is not known; without it they
    continue, as after a move. Raises BackupError, Conflict, DatabaseError, SettingsError, StoreError.
    """
    reader = ArchiveReader(file, on_bytes)
    manifest = await _read_manifest(reader)
    written: list[Path] = []
    try:
        with copies.refusals_as_errors():
            async with copies.connect_without_timeouts(target.url, "telewarm restore") as connection:
                await _check_not_in_use(connection, force=force)
                async with connection.transaction():
                    restored = await _restore(connection, reader, manifest, target, written)
                    if mark:
                        restored.paused = await mark_restored(connection)
                    else:
                        await copies.clear_server_identity(connection)
    except BaseException:
        _remove_written(written)
        raise
    await migrate(target.url)
    return restored


async def _read_manifest(reader: ArchiveReader) -> Manifest:
    manifest: Manifest = await reader.read_metadata(Manifest, name=MANIFEST_NAME)
    if manifest.format != FORMAT:
        raise BackupError("this is no backup of Telewarm's")
    if manifest.version > VERSION or manifest.revision not in revisions():
        raise BackupError(
            f"this backup was made by a newer Telewarm ({manifest.telewarm}, schema {manifest.revision}): "
            "upgrade Telewarm, then restore it"
        )
    copies.check_table_names(manifest.tables, manifest.identities)
    return manifest


async def _check_not_in_use(connection: copies.Connection, *, force: bool) -> None:
    if users := await copies.active_processes(connection):
        raise Conflict(
            f"Telewarm runs on this database ({', '.join(users)}): stop it, then restore. One that was killed is "
            "forgotten within a minute"
        )
    if not force and await copies.has_data(connection):
        raise Conflict(
            "There is a library in this database already, which the backup would replace. Back it up first "
            "(telewarm backup FILE), and restore with --force, or set DATABASE_URL or TELEWARM_DATA to an empty one"
        )


async def _restore(
    connection: copies.Connection, reader: ArchiveReader, manifest: Manifest, target: RestoreTarget, written: list[Path]
) -> RestoreResult:
    restored, name = RestoreResult(manifest=manifest), await reader.next()
    archived = None
    if name == KEY_NAME:
        archived = _parse_key(await reader.read_all())
        await reader.next()
    await copies.reset_tables(connection, manifest.revision)
    await copies.set_triggers_enabled(connection, enabled=False)
    for table, columns in manifest.tables.items():
        async with aclosing(_table_chunks(reader, table)) as rows:
            await copies.copy_in(connection, table, columns, rows)
    await copies.restart_identities(connection, manifest.identities)
    await copies.set_triggers_enabled(connection, enabled=True)
    await copies.upgrade(connection, manifest.revision)
    if (key := await copies.find_foreign_key(connection)) is not None:
        raise BackupError(f"the archive keeps an object under {key[:100]!r}, which Telewarm never does")
    with temporary_folder(target.data_folder) as folder:
        await _restore_objects(connection, reader, target.store, folder, restored)
    restored.missing = len((await reader.finish()).missing)
    await _restore_key(connection, archived, target, written)
    restored.key_written = bool(written)
    return restored


async def _table_chunks(reader: ArchiveReader, table: str) -> AsyncGenerator[bytes, None]:
    """Yield the pieces of one table, which are consecutive."""
    while reader.name is not None and reader.name.startswith(f"tables/{table}/"):
        async for chunk in reader.read():
            yield chunk
        await reader.next()


async def _restore_objects(
    connection: copies.Connection, reader: ArchiveReader, store: BlobStore, folder: Path, restored: RestoreResult
) -> None:
    keys = [one async for one in copies.object_keys(connection)]
    known = {key: Sha256(sha256) for sha256, key, _ in keys}
    thumbnails = {thumbnail for _, _, thumbnail in keys}
    while reader.name is not None and reader.name != CHECKSUMS_NAME:
        key = reader.name.removeprefix("media/")
        if key in known:
            await _put_blob(reader, store, folder, key, known[key])
        elif key in thumbnails:
            await store.put_bytes(key, await reader.read_all())
        else:
            raise BackupError(f"the archive holds {reader.name}, which its database does not know: it is damaged")
        restored.objects += 1
        await reader.next()


async def _put_blob(reader: ArchiveReader, store: BlobStore, folder: Path, key: str, sha256: Sha256) -> None:
    if reader.size <= MAX_IN_MEMORY_BYTES:
        data = await reader.read_all()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise BackupError(f"{key} in the archive is not what it is named by: it is damaged")
        await store.put_bytes(key, data)
        return
    path = folder / token_hex(8)
    try:
        size = reader.size
        with os.fdopen(folders.create_private(path), "wb") as file:
            async for chunk in reader.read():
                await asyncio.to_thread(file.write, chunk)
        await store.put_file(key, path, sha256=sha256, bytes=size)
    except OSError as error:
        raise BackupError(folders.describe_os_error(error, folder)) from error
    finally:
        path.unlink(missing_ok=True)


async def _restore_key(
    connection: copies.Connection, archived: bytes | None, target: RestoreTarget, written: list[Path]
) -> None:
    """Keep the present key and encrypt the archive's tokens with it, or write the archive's key."""
    if archived is None:
        opens = target.key is not None and await find_cipher(connection, TokenCipher(target.key)) is not None
        if not opens and await connection.fetchval("SELECT EXISTS (SELECT FROM bot)"):
            raise BackupError(
                "The archive holds no key, and the one that is here does not open its bots' tokens: set "
                f"ENCRYPTION_KEY, or put the key into {target.key_file}, and restore again"
            )
        return
    if target.key is not None:
        if target.key != archived:
            await reencrypt(connection, TokenCipher(archived), TokenCipher(target.key))
        return
    try:
        folders.make_private(target.key_file.parent)
        with os.fdopen(folders.create_private(target.key_file), "wb") as file:
            written.append(target.key_file)
            file.write(archived.hex().encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise BackupError(folders.describe_os_error(error, target.key_file.parent)) from error


def _parse_key(text: bytes) -> bytes:
    if not re.fullmatch(rb"[0-9a-f]{64}", text):
        raise BackupError("the archive's key is damaged")
    return bytes.fromhex(text.decode())


def _remove_written(written: list[Path]) -> None:
    for path in written:
        with suppress(OSError):
            path.unlink()
