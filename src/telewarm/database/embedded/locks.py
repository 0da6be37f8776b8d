"""Advisory locks between processes, which end with the process, however it ends."""

from __future__ import annotations

import fcntl
import os
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from telewarm import clock
from telewarm.errors import EmbeddedPostgresFailed

POLL_SECONDS = 0.02  # seconds between two tries for a lock that another process holds


class FileLock:
    """An flock on a file, created when missing. Two instances exclude each other within a process, too.

    The descriptor is closed on exec, and on fork by `_close_inherited_locks`: a child never keeps its parent's lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        _open_locks.add(self)

    def acquire(self, *, shared: bool = False) -> bool:
        """Acquire the lock, or convert the held one, if possible at once."""
        try:
            fcntl.flock(self._descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Release the lock and keep the file open. A child that inherited the descriptor loses it, too."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    @property
    def descriptor(self) -> int:
        """Return the descriptor for a child that is to hold the lock, until its last copy is closed."""
        return self._descriptor

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._descriptor < 0

    def close(self) -> None:
        """Release the lock and close the file. May be repeated."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


_open_locks: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _close_inherited_locks() -> None:
    for lock in list(_open_locks):
        lock.close()


os.register_at_fork(after_in_child=_close_inherited_locks)


@asynccontextmanager
async def exclusive_lock(path: Path, *, timeout_seconds: float) -> AsyncIterator[None]:
    """Hold the lock exclusively; wait at most `timeout_seconds` for it."""
    lock = FileLock(path)
    deadline = clock.monotonic() + timeout_seconds
    try:
        while not lock.acquire():
            if clock.monotonic() > deadline:
                raise EmbeddedPostgresFailed(
                    f"Another process has been starting or stopping the embedded database for {timeout_seconds:.0f} s: "
                    f"end the process that holds {path} and try again"
                )
            await clock.sleep(POLL_SECONDS)
        yield
    finally:
        lock.close()
