"""Temporary files of a backup; those of a killed process are deleted by the next one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from secrets import token_hex
from shutil import rmtree
from typing import IO

from telewarm import folders
from telewarm.errors import BackupError
from telewarm.storage import cache_files

RANDOM_SUFFIX_BYTES = 4  # bytes of the random end of a name


@contextmanager
def temporary_folder(data_folder: Path) -> Iterator[Path]:
    """Yield a folder for this process alone. Raises BackupError."""
    try:
        own, lock = cache_files.open_private_folder(data_folder / "restoring")
    except OSError as error:
        raise BackupError(folders.describe_os_error(error, data_folder)) from error
    try:
        yield own
    finally:
        rmtree(own, ignore_errors=True)
        os.close(lock)


@contextmanager
def temporary_file_beside(target: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """Yield a new private file in the folder of `target`, deleted at the end unless it was renamed. Raises OSError."""
    _remove_stale(target)
    path = target.with_name(f".{target.name}.{token_hex(RANDOM_SUFFIX_BYTES)}")
    try:
        with os.fdopen(folders.create_private(path), "wb") as file:
            with suppress(OSError):  # a filesystem without locks
                flock(file, LOCK_EX | LOCK_NB)
            yield file, path
    finally:
        path.unlink(missing_ok=True)


def _remove_stale(target: Path) -> None:
    """Delete the files of killed processes: a file in use is locked."""
    for name in (one.name for one in os.scandir(target.parent) if _is_temporary_of(one.name, target.name)):
        with suppress(OSError), target.with_name(name).open("rb") as file:
            flock(file, LOCK_EX | LOCK_NB)
            target.with_name(name).unlink()


def _is_temporary_of(name: str, target: str) -> bool:
    begin, end = name[: -2 * RANDOM_SUFFIX_BYTES], name[-2 * RANDOM_SUFFIX_BYTES :]
    return begin == f".{target}." and all(digit in "0123456789abcdef" for digit in end)
