"""`telewarm migrate`: brings the database up to date."""

from __future__ import annotations

import asyncio

from rich.console import Console

from telewarm.cli.env import read_settings
from telewarm.cli.run import run
from telewarm.database.embedded.server import database_url_for
from telewarm.database.migrate import migrate as migrate_database
from telewarm.database.migrate import newest_revision
from telewarm.database.pool import describe_url
from telewarm.database.ready import prepare_data_folder
from telewarm.settings import Settings


def migrate() -> None:
    """Bring the database up to date: Telewarm's tables and the engine's. Safe to run any time, even concurrently."""
    settings = read_settings()
    console = Console()
    for done in run(_migrate(settings)):
        console.print(f"Done: {done}", markup=False)
    database = describe_url(url) if (url := _migrate_url(settings)) else "the embedded database"
    console.print(f"Up to date (revision {newest_revision()}): {database}", markup=False)


async def _migrate(settings: Settings) -> list[str]:
    await asyncio.to_thread(prepare_data_folder, settings.telewarm_data)
    async with database_url_for(_migrate_url(settings), settings.telewarm_data) as database:
        return await migrate_database(database)


def _migrate_url(settings: Settings) -> str | None:
    return settings.database_url.get_secret_value() if settings.database_url else None
