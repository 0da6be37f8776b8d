"""The embedded database's files of another major version: set aside while a new cluster is filled, and put back if that
fails.
"""

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
    """The major version that wrote the embedded database; None: there is none yet."""
    try:
        return (data_folder / "postgres" / "cluster" / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        return None


def bundled_version() -> str:
    """The major version that this Telewarm brings along."""
    return version(WHEEL_NAME).partition(".")[0]


@asynccontextmanager
async def set_aside(data_folder: Path) -> AsyncIterator[Path]:
    """The old cluster under another name. It has its own again when the work inside fails, or at the next start when it
    was killed: a marker names it until all is done.
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
    """Whether an upgrade was killed here. At the end the old cluster is in its place again: stop the server before.

    `folder`: `<data folder>/postgres`, whose server nobody starts meanwhile.
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
    """It may be killed itself, and is done again then."""
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
