"""`telewarm rotate-key`: seals every bot's token with another key."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from telewarm.cli.console import echo_err
from telewarm.cli.env import read_settings
from telewarm.cli.run import run
from telewarm.component_config import encryption_key, require_known_key
from telewarm.database.connection import Connection
from telewarm.database.pool import ROUND_TRIP_SECONDS, connect
from telewarm.database.ready import open_database_url
from telewarm.database.token_encryption import TokenCipher, find_cipher, lock_rotation, reencrypt
from telewarm.database.transient import is_transient
from telewarm.errors import Conflict, DatabaseError, SettingsError, TelewarmError, UsageError
from telewarm.folders import make_private
from telewarm.settings import Settings, checks

KEY_RELOADED_MESSAGE = "Running processes on this data folder use it from now on"
RESTART_MESSAGE = (
    "Then restart every Telewarm process: until then those that run go on with the tokens they know, and cannot use "
    "bots that are new to them"
)


def rotate_key(
    *,
    new_key_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A file with the new key: 64 hex digits.")
    ] = None,
    generate: Annotated[bool, typer.Option("--generate", help="Make the new key.")] = False,
) -> None:
    """Seal every bot's token with a new key, in one transaction, and put the key where the old one was.

    When ENCRYPTION_KEY is set, it is yours to change: a key made with --generate is left in a file of the data folder.
    Otherwise the data folder's key file is replaced. When it was interrupted, run it again: it finishes or takes back.
    """
    if (new_key_file is None) != generate:
        raise UsageError("say where the new key comes from: either --generate, or --new-key-file FILE")
    settings = read_settings()
    given = None if new_key_file is None else _read_key(new_key_file)
    echo_err(run(_rotate(settings, given)))


async def _rotate(settings: Settings, new_key: bytes | None) -> str:
    """Rotate the key. Returns what was done, for people. `new_key` None: generate it."""
    database = settings.database_url.get_secret_value() if settings.database_url else None
    async with open_database_url(database, settings.telewarm_data, upgrade=False) as url:
        connection = await connect(url, application_name="telewarm rotate-key")
        try:
            if not await lock_rotation(connection):
                raise Conflict("another `telewarm rotate-key` is at work on this database: let it end")
            files = KeyFiles(settings.telewarm_data)
            if settings.encryption_key is None:
                await files.finish_interrupted(connection)
                await require_known_key(settings, connection)
                return await _replace_file(connection, files, encryption_key(settings), new_key)
            return await _replace_variable(connection, files, encryption_key(settings), new_key)
        finally:
            if not connection.is_closed():
                await connection.close(timeout=ROUND_TRIP_SECONDS)


def _count_text(count: int) -> str:
    return "1 token was re-encrypted" if count == 1 else f"{count} tokens were re-encrypted"


async def _replace_file(connection: Connection, files: KeyFiles, old: bytes, new_key: bytes | None) -> str:
    new = secrets.token_bytes(32) if new_key is None else new_key
    _check_different(old, new)
    try:
        with files.replacing(new):
            async with connection.transaction():
                count = await reencrypt(connection, TokenCipher(old), TokenCipher(new))
    except TelewarmError:
        raise
    except Exception as error:
        if not connection.is_closed():
            await files.finish_interrupted(connection)
            raise DatabaseError(f"the database refused, and the old key holds: {error}") from error
        raise DatabaseError(
            f"the database was lost on the way ({type(error).__name__}): run `telewarm rotate-key` again, which finds "
            f"out what holds; until then keep {files.current} and {files.old}"
        ) from error
    return f"{_count_text(count)} with the new key, which is in {files.current}. {KEY_RELOADED_MESSAGE}"


async def _replace_variable(connection: Connection, files: KeyFiles, old: bytes, new_key: bytes | None) -> str:
    new = files.prepare_new_key(old) if new_key is None else new_key
    _check_different(old, new)
    async with connection.transaction():
        count = await reencrypt(connection, TokenCipher(old), TokenCipher(new))
    where = f"what is in {files.new}, and delete that file" if new_key is None else "the new key"
    return f"{_count_text(count)} with the new key. Set ENCRYPTION_KEY to {where}. {RESTART_MESSAGE}"


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """Key file of the data folder, and the files beside it during a rotation."""

    folder: Path

    @property
    def current(self) -> Path:
        """The present key."""
        return self.folder / "encryption.key"

    @property
    def old(self) -> Path:
        """The previous key."""
        return self.folder / "encryption.key.old"

    @property
    def new(self) -> Path:
        """The new key."""
        return self.folder / "encryption.key.new"

    @contextmanager
    def replacing(self, new: bytes) -> Iterator[None]:
        """Put the new key in place before the database follows; the old one stays until it has.

        When the database is lost meanwhile, its state is unknown: then both stay, for `finish_interrupted`.
        """
        _write_atomically(self.old, self.current.read_text(encoding="ascii").strip())
        _write_atomically(self.current, new.hex())
        try:
            yield
        except BaseException as error:
            if not is_transient(error):
                self._restore_old_key()
            raise
        self.old.unlink()

    async def finish_interrupted(self, connection: Connection) -> None:
        """Finish an interrupted rotation, whichever key the database has."""
        if not self.old.exists():
            return
        new, old = TokenCipher(_read_key(self.current)), TokenCipher(_read_key(self.old))
        found = await find_cipher(connection, new, old)
        if found is new:
            self.old.unlink()
        elif found is old:
            self._restore_old_key()
        else:
            raise SettingsError(
                f"neither {self.current} nor {self.old} opens every bot's token: put the key that does into "
                f"{self.current}, "
                f"and remove {self.old}"
            )

    def prepare_new_key(self, old: bytes) -> bytes:
        """Return the new key, written to a file before anything is encrypted with it."""
        if not self.new.exists() or _read_key(self.new) == old:
            make_private(self.folder)
            _write_atomically(self.new, secrets.token_hex(32))
        return _read_key(self.new)

    def _restore_old_key(self) -> None:
        self.old.replace(self.current)
        _fsync_folder(self.folder)


def _read_key(path: Path) -> bytes:
    """Read a key. Raises SettingsError, which does not repeat the file's content."""
    try:
        return bytes.fromhex(checks.encryption_key(path.read_text(encoding="ascii").strip()))
    except (OSError, ValueError):
        raise SettingsError(
            f"{path} must be a readable file with exactly 64 hex digits, and not the documentation's: make them with "
            "`openssl rand -hex 32`"
        ) from None


def _write_atomically(path: Path, text: str) -> None:
    """Write a private file atomically."""
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    _fsync_folder(path.parent)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_different(old: bytes, new: bytes) -> None:
    if secrets.compare_digest(old, new):
        raise UsageError("the new key is the one in use: nothing is to be done; make another with --generate")
