"""Opening of a usable database: reachable, with this version's schema and the needed rights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from telewarm import folders
from telewarm.database.embedded.server import database_url_for
from telewarm.database.migrate import check_migrated, is_new, migrate
from telewarm.database.pool import ROUND_TRIP_SECONDS, connect, describe_url
from telewarm.database.rights import check_rights
from telewarm.errors import StoreUnavailable

POSTGRES_FOLDER = "postgres"  # the folder of the embedded server: its rights are its own matter


@asynccontextmanager
async def open_database_url(database_url: str | None, data_folder: Path, *, upgrade: bool) -> AsyncIterator[str]:
    """Yield the URL of the database, usable while the block runs.

    `upgrade`: migrate an older or empty database to this version. Without it only a new embedded database is set up: a
    program that merely uses a database does not change its schema. Raises NotMigrated, DatabaseForbidden,
    DatabaseUnavailable, EmbeddedPostgresFailed, StoreUnavailable.
    """
    await asyncio.to_thread(prepare_data_folder, data_folder)
    async with database_url_for(database_url, data_folder) as url:
        await _prepare(url, upgrade=upgrade, embedded=database_url is None)
        yield url


async def _prepare(url: str, *, upgrade: bool, embedded: bool) -> None:
    connection = await connect(url, application_name="telewarm")
    try:
        at = "the embedded database" if embedded else describe_url(url)
        await check_rights(connection, at)
        if upgrade or (embedded and await is_new(connection)):
            await migrate(url)
        else:
            await check_migrated(connection)
    finally:
        await connection.close(timeout=ROUND_TRIP_SECONDS)


def prepare_data_folder(data_folder: Path) -> None:
    """Create the data folder for its owner alone, or close one of an earlier version."""
    try:
        folders.make_private(data_folder)
        folders.restrict_permissions(data_folder, skip=frozenset({POSTGRES_FOLDER}))
    except OSError as error:
        raise StoreUnavailable(folders.describe_os_error(error, data_folder)) from error
