"""The embedded database's files of another major version: set aside while a new cluster is filled, and put back if that
fails.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from telewarm import clock
from telewarm.database.host import WHEEL
from telewarm.database.locks import FileLock
from telewarm.errors import Conflict


def written_by(data_folder: Path) -> str | None:
    """The major version that wrote the embedded database; None: there is none yet."""
    try:
        return (data_folder / "postgres" / "cluster" / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        return None


def ours() -> str:
    """The major version that this Telewarm brings along."""
    return version(WHEEL).partition(".")[0]


@asynccontextmanager
async def set_aside(data_folder: Path) -> AsyncIterator[Path]:
    """The old cluster under another name; there again under its own when the work inside fails."""
    folder = data_folder / "postgres"
    users = FileLock(folder / "users.lock")
    try:
        if not users.take():
            raise Conflict("Telewarm runs on this data folder: stop it first")
    finally:
        users.close()
    cluster = folder / "cluster"
    aside = folder / f"cluster-{written_by(data_folder)}-{clock.now():%Y%m%d-%H%M%S}"
    cluster.rename(aside)
    try:
        yield aside
    except BaseException:
        shutil.rmtree(cluster, ignore_errors=True)
        aside.rename(cluster)
        raise
