"""Marker of the host that runs the embedded PostgreSQL, the second protection of its folder.

The first is a lock, which the kernel and most network file systems keep; some keep it for each host alone. So the host
that starts the server leaves its name in the folder, and the processes that use it touch that file again and again: a
process that finds another host's name watches it for a while before it starts a server.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from pathlib import Path

import structlog

from telewarm import clock
from telewarm.errors import EmbeddedPostgresFailed
from telewarm.folders import PRIVATE_FILE

log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS = 2.0  # between two touches at least
OTHER_HOST_TIMEOUT_SECONDS = 7.0  # without one, after which the other host counts as dead
BOOT_ID_PATH = Path("/proc/sys/kernel/random/boot_id")  # of the kernel: containers of one machine share it, and locks


class HostMarker:
    """The file with the host's name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._heartbeat_at = -HEARTBEAT_SECONDS

    async def claim(self) -> None:
        """Claim the folder for this host. Raises EmbeddedPostgresFailed when another host uses it."""
        found = self._read()
        if found.get("boot") not in {None, _boot_id()}:
            await self._check_other_host(found)
        new = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"host": socket.gethostname(), "boot": _boot_id()}, file)
        new.replace(self._path)

    def heartbeat(self) -> None:
        """Touch the file, if it is ours."""
        if clock.monotonic() - self._heartbeat_at < HEARTBEAT_SECONDS:
            return
        self._heartbeat_at = clock.monotonic()
        if self._read().get("boot") == _boot_id():
            with suppress(OSError):
                os.utime(self._path)

    def release(self) -> None:
        """Remove the file, if it is ours."""
        self._path.unlink(missing_ok=True)

    def in_use_message(self, folder: Path) -> str:
        """Return the error message for a folder in use."""
        host = self._read().get("host")
        where = f" ({host})" if host and host != socket.gethostname() else ""
        return (
            f"The embedded database in {folder} is in use in another container or on another host{where}: one data "
            "folder is for one host. Stop the other one, or give both the DATABASE_URL of one PostgreSQL"
        )

    async def _check_other_host(self, marker: dict[str, str]) -> None:
        """Check for changes by another host. Its clock may differ, so only a change counts."""
        log.info("embedded_postgres_checks_other_host", host=marker.get("host"), seconds=OTHER_HOST_TIMEOUT_SECONDS)
        before = self._modified_at()
        deadline = clock.monotonic() + OTHER_HOST_TIMEOUT_SECONDS
        while clock.monotonic() < deadline:
            await clock.sleep(0.25)
            if self._modified_at() != before:
                raise EmbeddedPostgresFailed(self.in_use_message(self._path.parent))

    def _modified_at(self) -> int:
        with suppress(OSError):
            return self._path.stat().st_mtime_ns
        return 0

    def _read(self) -> dict[str, str]:
        with suppress(OSError, ValueError):
            found = json.loads(self._path.read_text())
            if isinstance(found, dict):
                return {str(key): str(value) for key, value in found.items()}
        return {}


def _boot_id() -> str:
    with suppress(OSError):
        return BOOT_ID_PATH.read_text().strip()
    return socket.gethostname()
