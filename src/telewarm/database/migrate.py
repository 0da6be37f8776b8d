"""Brings a database up to date: our tables with Alembic, the engine's with PgQueuer's own tools.

Alembic writes the SQL and asyncpg executes it in one transaction, so that no second driver is needed. One lock a
database makes processes that start at once take turns; the later ones find nothing left to do.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from pgqueuer.queries import Queries

from telewarm import clock
from telewarm.database import engine
from telewarm.database.connection import Executor, Pool
from telewarm.database.pool import ROUND_TRIP, connect
from telewarm.errors import DatabaseError, NotMigrated

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 7_316_582_394_107_541  # any number, as long as nothing else in the database locks it
TURN_SECONDS = 600.0  # for another process's migration to end
LOOK_AGAIN = 0.1  # seconds


async def migrate(url: str) -> list[str]:
    """Bring the database to this version's schema; returns what was done, nothing when it was there already.

    Idempotent, and safe when several processes do it at once. Raises DatabaseUnavailable, or DatabaseError when the
    database belongs to a newer Telewarm; a migration that fails leaves nothing half done.
    """
    connection = await connect(url, application_name="telewarm migrate", statement_timeout=0)
    try:
        async with _turn(connection):
            return [*await _migrate_tables(connection), *await _migrate_engine(connection)]
    finally:
        await connection.close(timeout=ROUND_TRIP)


async def check_migrated(pool: Pool) -> None:
    """Raises NotMigrated when `migrate` would find something to do."""
    current = await _revision(pool)
    if current != head():
        _refuse_newer(current)
        raise NotMigrated(f"The database is at revision {current or 'none'}, not {head()}: run `telewarm migrate`")
    if (await Queries.from_asyncpg_pool(pool).plan_upgrade()).statements or await engine.untuned(pool):
        raise NotMigrated("PgQueuer's tables are not this version's: run `telewarm migrate`")


def head() -> str:
    """The newest revision, read off the file names: importing Alembic takes longer than all the rest of a start."""
    return revisions()[-1]


def revisions() -> list[str]:
    """Every revision, oldest first."""
    return sorted(path.name[1:5] for path in (MIGRATIONS / "versions").glob("r[0-9]*.py"))


@asynccontextmanager
async def _turn(connection: asyncpg.Connection[asyncpg.Record]) -> AsyncIterator[None]:
    """Asks again and again: a statement that waited in the server would hold up CREATE INDEX CONCURRENTLY."""
    deadline = clock.monotonic() + TURN_SECONDS
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
        if clock.monotonic() > deadline:
            raise DatabaseError(
                f"Another process has been migrating this database for {TURN_SECONDS / 60:.0f} minutes: "
                f"see what it waits for in pg_stat_activity (application_name = 'telewarm migrate')"
            )
        await clock.sleep(LOOK_AGAIN)
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)


async def _migrate_tables(connection: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    current = await _revision(connection)
    if current == head():
        return []
    _refuse_newer(current)
    try:
        await connection.execute(upgrade_script(current))
    except asyncpg.PostgresError as error:
        if connection.is_in_transaction():
            await connection.execute("ROLLBACK")
        raise DatabaseError(f"Migrating from revision {current or 'none'} to {head()} failed: {error}") from error
    return [f"revision {revision}" for revision in revisions() if current is None or revision > current]


def upgrade_script(current: str | None) -> str:
    """The SQL from revision `current` (None: an empty database) to the newest, as one transaction."""
    from alembic import command  # noqa: PLC0415 (it takes half a second, which a migrated database never pays)
    from alembic.config import Config  # noqa: PLC0415

    script = io.StringIO()
    config = Config(output_buffer=script)
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    command.upgrade(config, f"{current}:head" if current else "head", sql=True)
    return script.getvalue()


async def _migrate_engine(connection: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    queries = Queries.from_asyncpg_connection(connection)
    try:
        if not await queries.schema_is_installed():
            await queries.install()
            await engine.tune(connection)
            return ["PgQueuer's tables"]
        plan = await queries.apply_upgrade()
        tuned = await engine.tune(connection)
    except asyncpg.PostgresError as error:
        raise DatabaseError(f"PgQueuer's tables could not be brought up to date: {error}") from error
    return ["PgQueuer's tables upgraded"] if plan.statements or tuned else []


async def _revision(db: Executor) -> str | None:
    if await db.fetchval("SELECT to_regclass('alembic_version')") is None:
        return None
    revision = await db.fetchval("SELECT version_num FROM alembic_version")
    return None if revision is None else str(revision)


def _refuse_newer(current: str | None) -> None:
    if current is not None and current not in revisions():
        raise DatabaseError(
            f"The database is at revision {current}, which this Telewarm does not know (its newest is {head()}): "
            f"upgrade Telewarm, or point DATABASE_URL at another database"
        )
