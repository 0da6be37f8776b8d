"""Private folders and files of the data folder, and what a disk refuses, in words.

Modes are given when something is created: the umask of a process is not ours to change in a library.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

PRIVATE_FOLDER = 0o700
PRIVATE_FILE = 0o600
OTHERS_MODE_BITS = 0o077  # permission bits of everybody but the owner
OPEN_MODE_BITS = 0o067  # of a folder that is not closed; its group may be allowed to pass through, which shows no names
FULL_DISK_BYTES = 1 << 20  # free ones below which a disk is called full
FULL_DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
FORBIDDEN_ERRNOS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def make_private(folder: Path) -> None:
    """Create a folder for the owner alone; those above it that are missing are made as anybody makes them. One that is
    there stays as it is.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=PRIVATE_FOLDER, parents=True)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def make_private_below(root: Path, folder: Path) -> None:
    """As `make_private`, for a folder inside `root`: those on the way are private too."""
    for path in (*reversed([up for up in folder.parents if up.is_relative_to(root)]), folder):
        make_private(path)


def restrict_permissions(folder: Path, *, skip: frozenset[str] = frozenset()) -> bool:
    """Close a folder that others may look into, and everything in it; whether there was something to do.

    `skip`: names in it that are left alone.

    A folder that is closed already costs one look. Left alone: another user's folder, a home, `/`, and folders for
    everybody (`/tmp`); what we create inside them is private by itself. Links are not followed.
    """
    status = folder.stat()
    if not status.st_mode & OPEN_MODE_BITS or status.st_uid != os.geteuid() or _is_shared(folder, status):
        return False
    for path, folders, files in os.walk(folder):
        if Path(path) == folder:
            folders[:] = [name for name in folders if name not in skip]
        for name in folders:
            _close(Path(path, name), keep=PRIVATE_FOLDER)
        for name in files:
            _close(Path(path, name), keep=PRIVATE_FILE)
    folder.chmod(PRIVATE_FOLDER)  # last: when this is interrupted, the next start does it again
    return True


def create_private(path: Path) -> int:
    """Create a file for the owner alone: its descriptor, for writing. FileExistsError when there is one."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)


def write_private(path: Path, data: bytes) -> None:
    """Create a file for the owner alone, with this in it."""
    with os.fdopen(create_private(path), "wb") as file:
        file.write(data)


def describe_os_error(error: OSError, folder: Path, *, cure: str = "choose another folder with TELEWARM_DATA") -> str:
    """What the disk refused below `folder`, and the cure: one sentence."""
    if error.errno in FULL_DISK_ERRNOS:
        return full_disk_message(folder)
    if error.errno in FORBIDDEN_ERRNOS:
        return f"Cannot write to {folder} ({os.strerror(error.errno or 0)}): fix its permissions, or {cure}."
    return f"Cannot use {folder} ({error.strerror or error}): {cure}."


def full_disk_message(folder: Path) -> str:
    """That there is no room, with what is left."""
    how = "full"
    with suppress(OSError):
        free = shutil.disk_usage(nearest_existing(folder)).free
        how = f"{'full' if free < FULL_DISK_BYTES else 'too small'} ({free:,} bytes free)"
    return f"The disk of {folder} is {how}: free some space, about 100 MB, and run this again."


def nearest_existing(folder: Path) -> Path:
    """The folder, or the first above it that exists."""
    return next(step for step in (folder, *folder.parents) if step.exists())


def _is_shared(folder: Path, status: os.stat_result) -> bool:
    if status.st_mode & stat.S_ISVTX or folder == Path(folder.anchor):
        return True
    with suppress(RuntimeError):  # nobody knows whose home it would be
        return folder == Path.home()
    return False


def _close(path: Path, *, keep: int) -> None:
    with suppress(OSError):  # gone meanwhile, or another user's
        status = path.lstat()
        if not stat.S_ISLNK(status.st_mode) and status.st_uid == os.geteuid() and status.st_mode & OTHERS_MODE_BITS:
            path.chmod(stat.S_IMODE(status.st_mode) & (keep | stat.S_IXUSR))
