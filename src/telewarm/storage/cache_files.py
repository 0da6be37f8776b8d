"""A folder of files that several processes use, hold open and evict. Everything here blocks, mostly for microseconds.

A file in use has a shared lock, which the kernel lets go of when its process dies; evicting takes the exclusive one.
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
    """Hold a file: a descriptor to close when done, or None if there is no such file. Counts as its last use."""
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
    """Used now. The modification time stays, for a library in a folder may share the file."""
    with suppress(FileNotFoundError, PermissionError):  # evicted, or another user's
        os.utime(path, ns=(int(clock.now().timestamp() * 1e9), path.stat().st_mtime_ns))


def sizes(folder: Path) -> dict[str, int]:
    """Bytes by name."""
    return {name: size for _, name, size in _by_last_use(folder)}


def evict(folder: Path, *, max_bytes: int) -> dict[str, int]:
    """Delete the files used longest ago, but none that is held, down to `max_bytes` bytes; what is left, as `sizes`."""
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
    """A folder inside `folder` that is this process's until it closes the descriptor; those of dead ones go away."""
    folders.make_private(folder)
    gate = os.open(folder, os.O_RDONLY)
    try:
        flock(gate, LOCK_EX)  # one start at a time, or a folder just made would look like a dead one's
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
            with suppress(FileNotFoundError):  # another process evicted it
                facts = entry.stat()
                found.append((facts.st_atime_ns, entry.name, facts.st_size))
    return sorted(found)


def remove_if_unused(path: Path) -> bool:
    """Delete a file unless somebody holds it. Whether it is gone."""
    with _lock_exclusive(path) as idle:
        if idle:
            path.unlink(missing_ok=True)
        return idle


def _lock_shared(handle: int, path: Path) -> bool:
    """Lock it for use; False when it is being evicted or was replaced meanwhile."""
    try:
        flock(handle, LOCK_SH | LOCK_NB)
        return path.stat().st_ino == os.fstat(handle).st_ino
    except (BlockingIOError, FileNotFoundError):
        return False


@contextmanager
def _lock_exclusive(path: Path) -> Iterator[bool]:
    """Whether nobody holds it; if so, nobody can as long as this lasts."""
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
