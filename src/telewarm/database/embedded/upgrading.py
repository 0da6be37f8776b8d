"""Upgrade of the embedded database's files: set aside while a new cluster is filled, and restored on failure."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import structlog

from telewarm import clock
from telewarm.database.embedded.host import WHEEL_NAME
from telewarm.database.embedded.locks import FileLock
from telewarm.errors import Conflict

log = structlog.get_logger(__name__)

MARKER_NAME = "upgrade-under-way"  # holds the name of the old cluster
LOCK_NAME = "upgrade.lock"  # held while the upgrade runs


def cluster_version(data_folder: Path) -> str | None:
    """Return the major version that wrote the embedded database; None: there is none."""
    try:
        return (data_folder / "postgres" / "cluster" / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        return None


def bundled_version() -> str:
    """Return the bundled major version."""
    return version(WHEEL_NAME).partition(".")[0]


@asynccontextmanager
async def set_aside(data_folder: Path) -> AsyncIterator[Path]:
    """Rename the old cluster while the block runs.

    It is restored when the block fails, or at the next start after a kill: a marker names it until the end.
    """
    folder = data_folder / "postgres"
    users = FileLock(folder / "users.lock")
    try:
        if not users.acquire():
            raise Conflict("Telewarm runs on this data folder: stop it first")
    finally:
        users.close()
    aside = folder / f"cluster-{cluster_version(data_folder)}-{clock.now():%Y%m%d-%H%M%S}"
    upgrading = FileLock(folder / LOCK_NAME)
    try:
        if not upgrading.acquire():
            raise Conflict("Another upgrade of this data folder is under way: wait for its end")
        _write_durably(folder / MARKER_NAME, aside.name)
        (folder / "cluster").rename(aside)
        yield aside
        (folder / MARKER_NAME).unlink()
    except BaseException:
        _restore_old_cluster(folder)
        raise
    finally:
        upgrading.close()


@asynccontextmanager
async def undo_interrupted_upgrade(folder: Path) -> AsyncIterator[bool]:
    """Yield whether an upgrade was interrupted; restore the old cluster at the end: stop the server before.

    `folder`: `<data folder>/postgres`, whose server must not be started meanwhile.
    """
    if not (folder / MARKER_NAME).exists():
        yield False
        return
    upgrading = FileLock(folder / LOCK_NAME)
    try:
        found = upgrading.acquire()
        yield found
        if found:
            await asyncio.to_thread(_restore_old_cluster, folder)
    finally:
        upgrading.close()


def _restore_old_cluster(folder: Path) -> None:
    """Restore the old cluster. Can be interrupted and repeated."""
    with suppress(FileNotFoundError):
        aside = folder / (folder / MARKER_NAME).read_text()
        if aside.exists():
            shutil.rmtree(folder / "cluster", ignore_errors=True)
            aside.rename(folder / "cluster")
        (folder / MARKER_NAME).unlink()
        log.warning("database_upgrade_undone", cluster=str(folder / "cluster"))


def _write_durably(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
