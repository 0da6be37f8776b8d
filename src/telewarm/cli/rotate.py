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
from telewarm.component_config import encryption_key, refuse_lost_key
from telewarm.database.connection import Connection
from telewarm.database.pool import ROUND_TRIP, connect
from telewarm.database.ready import ready
from telewarm.database.token_encryption import TokenCipher, reencrypt, sealed_with
from telewarm.database.transient import is_transient
from telewarm.errors import Conflict, DatabaseError, SettingsError, TelewarmError, UsageError
from telewarm.folders import make_private
from telewarm.settings import Settings, checks

LOCK = 7_316_582_394_107_543  # any number, as long as nothing else in the database locks it
FOLLOWED = "Running processes on this data folder use it from now on"
RESTART = (
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


async def _rotate(settings: Settings, given: bytes | None) -> str:
    """What was done, for people. `given` None: make the key."""
    database = settings.database_url.get_secret_value() if settings.database_url else None
    async with ready(database, settings.telewarm_data, upgrade=False) as url:
        connection = await connect(url, application_name="telewarm rotate-key")
        try:
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
                raise Conflict("another `telewarm rotate-key` is at work on this database: let it end")
            files = KeyFiles(settings.telewarm_data)
            if settings.encryption_key is None:
                await files.settle(connection)
                await refuse_lost_key(settings, connection)
                return await _replace_file(connection, files, encryption_key(settings), given)
            return await _replace_variable(connection, files, encryption_key(settings), given)
        finally:
            if not connection.is_closed():
                await connection.close(timeout=ROUND_TRIP)


def _reencrypted(count: int) -> str:
    return "1 token was re-encrypted" if count == 1 else f"{count} tokens were re-encrypted"


async def _replace_file(connection: Connection, files: KeyFiles, old: bytes, given: bytes | None) -> str:
    new = secrets.token_bytes(32) if given is None else given
    _refuse_same(old, new)
    try:
        with files.replaced(new):
            async with connection.transaction():
                count = await reencrypt(connection, TokenCipher(old), TokenCipher(new))
    except TelewarmError:
        raise
    except Exception as error:
        if not connection.is_closed():
            await files.settle(connection)
            raise DatabaseError(f"the database refused, and the old key holds: {error}") from error
        raise DatabaseError(
            f"the database was lost on the way ({type(error).__name__}): run `telewarm rotate-key` again, which finds "
            f"out what holds; until then keep {files.key} and {files.old}"
        ) from error
    return f"{_reencrypted(count)} with the new key, which is in {files.key}. {FOLLOWED}"


async def _replace_variable(connection: Connection, files: KeyFiles, old: bytes, given: bytes | None) -> str:
    new = files.waiting(old) if given is None else given
    _refuse_same(old, new)
    async with connection.transaction():
        count = await reencrypt(connection, TokenCipher(old), TokenCipher(new))
    where = f"what is in {files.new}, and delete that file" if given is None else "the new key"
    return f"{_reencrypted(count)} with the new key. Set ENCRYPTION_KEY to {where}. {RESTART}"


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """The key of the data folder, and what lies beside it while it is replaced."""

    folder: Path

    @property
    def key(self) -> Path:
        return self.folder / "encryption.key"

    @property
    def old(self) -> Path:
        return self.folder / "encryption.key.old"

    @property
    def new(self) -> Path:
        return self.folder / "encryption.key.new"

    @contextmanager
    def replaced(self, new: bytes) -> Iterator[None]:
        """The new key is in its place before the database follows; the old one stays until it has.

        When the database is lost on the way, nobody knows whether it has: then both stay, for `settle`.
        """
        _write(self.old, self.key.read_text(encoding="ascii").strip())
        _write(self.key, new.hex())
        try:
            yield
        except BaseException as error:
            if not is_transient(error):
                self._put_back()
            raise
        self.old.unlink()

    async def settle(self, connection: Connection) -> None:
        """Ends a rotation that was interrupted, whichever way the database went."""
        if not self.old.exists():
            return
        new, old = TokenCipher(_read_key(self.key)), TokenCipher(_read_key(self.old))
        found = await sealed_with(connection, new, old)
        if found is new:
            self.old.unlink()
        elif found is old:
            self._put_back()
        else:
            raise SettingsError(
                f"neither {self.key} nor {self.old} opens every bot's token: put the key that does into {self.key}, "
                f"and remove {self.old}"
            )

    def waiting(self, old: bytes) -> bytes:
        """A key that waits to be taken over, written down before anything is sealed with it."""
        if not self.new.exists() or _read_key(self.new) == old:
            make_private(self.folder)
            _write(self.new, secrets.token_hex(32))
        return _read_key(self.new)

    def _put_back(self) -> None:
        self.old.replace(self.key)
        _sync(self.folder)


def _read_key(path: Path) -> bytes:
    """Raises SettingsError, which does not repeat what the file holds."""
    try:
        return bytes.fromhex(checks.encryption_key(path.read_text(encoding="ascii").strip()))
    except (OSError, ValueError):
        raise SettingsError(
            f"{path} must be a readable file with exactly 64 hex digits, and not the documentation's: make them with "
            "`openssl rand -hex 32`"
        ) from None


def _write(path: Path, text: str) -> None:
    """Whole or not at all, for our eyes only."""
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_same(old: bytes, new: bytes) -> None:
    if secrets.compare_digest(old, new):
        raise UsageError("the new key is the one in use: nothing is to be done; make another with --generate")
