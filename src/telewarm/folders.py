"""Private files and folders of the data folder, and disk errors in words.

Modes are given at creation: a library must not change the umask of its process.
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
OPEN_MODE_BITS = 0o067  # of a folder that is not closed; its group may traverse it, which shows no names
FULL_DISK_BYTES = 1 << 20  # free bytes below which a disk counts as full
FULL_DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
FORBIDDEN_ERRNOS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def make_private(folder: Path) -> None:
    """Create a folder for the owner alone. Missing parents get default permissions; an existing folder is unchanged."""
    with suppress(FileExistsError):
        folder.mkdir(mode=PRIVATE_FOLDER, parents=True)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def make_private_below(root: Path, folder: Path) -> None:
    """Create a folder inside `root`, with private parents."""
    for path in (*reversed([up for up in folder.parents if up.is_relative_to(root)]), folder):
        make_private(path)


def restrict_permissions(folder: Path, *, skip: frozenset[str] = frozenset()) -> bool:
    """Remove the permissions of others from a folder and everything in it. Returns whether there were any.

    `skip`: names in it to leave unchanged. A closed folder costs a single check. Unchanged as well: another user's
    folder, a home folder, `/`, and folders for everybody (`/tmp`); new files in them are private in any case. Links are
    not followed.
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
    folder.chmod(PRIVATE_FOLDER)  # last, so that an interrupted run is repeated at the next start
    return True


def create_private(path: Path) -> int:
    """Create a file for the owner alone. Returns a descriptor for writing. Raises FileExistsError."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)


def write_private(path: Path, data: bytes) -> None:
    """Create a file for the owner alone with this content."""
    with os.fdopen(create_private(path), "wb") as file:
        file.write(data)


def describe_os_error(error: OSError, folder: Path, *, cure: str = "choose another folder with TELEWARM_DATA") -> str:
    """Describe a disk error below `folder`, with the remedy, in one sentence."""
    if error.errno in FULL_DISK_ERRNOS:
        return full_disk_message(folder)
    if error.errno in FORBIDDEN_ERRNOS:
        return f"Cannot write to {folder} ({os.strerror(error.errno or 0)}): fix its permissions, or {cure}."
    return f"Cannot use {folder} ({error.strerror or error}): {cure}."


def full_disk_message(folder: Path) -> str:
    """Describe a full disk, with its free bytes."""
    how = "full"
    with suppress(OSError):
        free = shutil.disk_usage(nearest_existing(folder)).free
        how = f"{'full' if free < FULL_DISK_BYTES else 'too small'} ({free:,} bytes free)"
    return f"The disk of {folder} is {how}: free some space, about 100 MB, and run this again."


def nearest_existing(folder: Path) -> Path:
    """Return the folder, or the closest parent that exists."""
    return next(step for step in (folder, *folder.parents) if step.exists())


def _is_shared(folder: Path, status: os.stat_result) -> bool:
    if status.st_mode & stat.S_ISVTX or folder == Path(folder.anchor):
        return True
    with suppress(RuntimeError):  # no user of that name
        return folder == Path.home()
    return False


def _close(path: Path, *, keep: int) -> None:
    with suppress(OSError):  # deleted meanwhile, or another user's
        status = path.lstat()
        if not stat.S_ISLNK(status.st_mode) and status.st_uid == os.geteuid() and status.st_mode & OTHERS_MODE_BITS:
            path.chmod(stat.S_IMODE(status.st_mode) & (keep | stat.S_IXUSR))
