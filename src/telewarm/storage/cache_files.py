"""Files of a cache folder that several processes share. Everything here blocks, mostly for microseconds.

A file in use has a shared lock, which the kernel releases when its process dies; evicting takes the exclusive one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from secrets import token_hex
from shutil import rmtree

from telewarm import clock, folders


def pin(path: Path) -> int | None:
    """Pin a file: returns a descriptor to close when done, None for a missing file. Counts as its last use."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    if _lock_shared(handle, path):
        touch(path)
        return handle
    os.close(handle)
    return None


def touch(path: Path) -> None:
    """Set the time of the last use. The modification time stays, because a folder store may share the file."""
    with suppress(FileNotFoundError, PermissionError):  # evicted, or of another user
        os.utime(path, ns=(int(clock.now().timestamp() * 1e9), path.stat().st_mtime_ns))


def sizes(folder: Path) -> dict[str, int]:
    """Return the sizes in bytes by file name."""
    return {name: size for _, name, size in _by_last_use(folder)}


def evict(folder: Path, *, max_bytes: int) -> dict[str, int]:
    """Delete the least recently used, unpinned files down to `max_bytes` bytes. Returns the rest, as `sizes`."""
    files = _by_last_use(folder)
    left = {name: size for _, name, size in files}
    total = sum(left.values())
    for _, name, size in files:
        if total <= max_bytes:
            break
        if remove_if_unused(folder / name):
            total -= size
            del left[name]
    return left


def open_private_folder(folder: Path) -> tuple[Path, int]:
    """Create a folder for this process inside `folder`, and delete those of dead processes.

    The folder belongs to the process until it closes the descriptor.
    """
    folders.make_private(folder)
    gate = os.open(folder, os.O_RDONLY)
    try:
        flock(gate, LOCK_EX)  # one start at a time: a new folder without a lock looks like that of a dead process
        for other in folder.iterdir():
            with _lock_exclusive(other) as idle:
                if idle:
                    rmtree(other)
        own = folder / token_hex(8)
        own.mkdir(mode=folders.PRIVATE_FOLDER)
        handle = os.open(own, os.O_RDONLY)
        flock(handle, LOCK_EX)
        return own, handle
    finally:
        os.close(gate)


def _by_last_use(folder: Path) -> list[tuple[int, str, int]]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # evicted by another process
                facts = entry.stat()
                found.append((facts.st_atime_ns, entry.name, facts.st_size))
    return sorted(found)


def remove_if_unused(path: Path) -> bool:
    """Delete a file unless it is pinned. Returns whether it is gone."""
    with _lock_exclusive(path) as idle:
        if idle:
            path.unlink(missing_ok=True)
        return idle


def _lock_shared(handle: int, path: Path) -> bool:
    """Lock a file for use. Returns False when it is being evicted or was replaced."""
    try:
        flock(handle, LOCK_SH | LOCK_NB)
        return path.stat().st_ino == os.fstat(handle).st_ino
    except (BlockingIOError, FileNotFoundError):
        return False


@contextmanager
def _lock_exclusive(path: Path) -> Iterator[bool]:
    """Try to lock a file against use while the block runs. Yields whether nobody has pinned it."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield True
        return
    try:
        with suppress(BlockingIOError):
            flock(handle, LOCK_EX | LOCK_NB)
            yield True
            return
        yield False
    finally:
        os.close(handle)
