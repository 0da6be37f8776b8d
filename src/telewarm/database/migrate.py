"""Migrations: our tables by Alembic, the engine's by PgQueuer's own tools.

Alembic writes the SQL and asyncpg executes it in one transaction, so that no second driver is needed. A lock serialises
concurrent processes; the later ones find nothing to do.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import asyncpg
import structlog
from pgqueuer import Queries

from telewarm import clock
from telewarm.cures import Cure
from telewarm.database import pgqueuer_maintenance
from telewarm.database.connection import Executor, Pool
from telewarm.database.pool import ROUND_TRIP_SECONDS, connect
from telewarm.database.rights import migration_forbidden_message
from telewarm.errors import DatabaseError, DatabaseForbidden, NotMigrated

PlainConnection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

log = structlog.get_logger(__name__)

MIGRATIONS_FOLDER = Path(__file__).parent / "migrations"
ADVISORY_LOCK_KEY = 7_316_582_394_107_541  # any number, as long as nothing else in the database locks it
MIGRATION_LOCK_SECONDS = 600.0  # for another process's migration to end
POLL_SECONDS = 0.1  # seconds
TABLE_LOCK_SECONDS = 3.0  # that a migration waits for one lock
MAX_LOCK_ATTEMPTS = 20
MIGRATE_COMMANDS = "run `telewarm migrate`, or start `telewarm serve` or `telewarm worker`, which do it too"
MIGRATE_CURE = Cure(
    library="open it with migrate=True, or run `telewarm migrate`", cli=MIGRATE_COMMANDS, api=MIGRATE_COMMANDS
)


async def migrate(url: str) -> list[str]:
    """Migrate the database to this version's schema. Returns the steps, none for a current schema.

    Idempotent, and safe for concurrent processes. A migration that waits for a lock blocks all users of a table, so it
    gives up after a short time and tries again. Raises DatabaseUnavailable, or DatabaseError when the database belongs
    to a newer Telewarm; a failed migration is rolled back.
    """
    connection = await connect(url, application_name="telewarm migrate", statement_timeout=0)
    try:
        async with _migration_lock(connection):
            await connection.execute(f"SET lock_timeout = '{TABLE_LOCK_SECONDS:.0f}s'")
            return [
                *await _retry_on_lock(lambda: _migrate_tables(connection)),
                *await _retry_on_lock(lambda: _migrate_pgqueuer(connection)),
            ]
    except asyncpg.InsufficientPrivilegeError as error:
        raise DatabaseForbidden(await migration_forbidden_message(connection, error)) from error
    finally:
        await connection.close(timeout=ROUND_TRIP_SECONDS)


async def check_migrated(db: Pool | PlainConnection) -> None:
    """Raise NotMigrated when `migrate` would find something to do."""
    current = await revision(db)
    if current is None:
        raise NotMigrated("The database has no Telewarm tables yet", by_face=MIGRATE_CURE)
    if current != newest_revision():
        refuse_newer(current)
        raise NotMigrated(
            f"The database is at revision {current}, and this Telewarm needs {newest_revision()}", by_face=MIGRATE_CURE
        )
    if (await _queries(db).plan_upgrade()).statements or await pgqueuer_maintenance.untuned_tables(db):
        raise NotMigrated("PgQueuer's tables are not this version's", by_face=MIGRATE_CURE)


async def is_new(connection: PlainConnection) -> bool:
    """Return whether the database has not been set up, or is just being set up."""
    if await revision(connection) is None:
        return True
    return not await _queries(connection).schema_is_installed()


def _queries(db: Pool | PlainConnection) -> Queries:
    return Queries.from_asyncpg_pool(db) if isinstance(db, asyncpg.Pool) else Queries.from_asyncpg_connection(db)


async def _retry_on_lock(step: Callable[[], Awaitable[list[str]]]) -> list[str]:
    """Run a step, and repeat it when it cannot get a lock, which rolls it back."""
    for attempt in range(1, MAX_LOCK_ATTEMPTS):
        with suppress(asyncpg.LockNotAvailableError):
            return await step()
        log.warning("migration_waits_for_lock", attempt=attempt, of=MAX_LOCK_ATTEMPTS)
        await clock.sleep(min(attempt, TABLE_LOCK_SECONDS))
    try:
        return await step()
    except asyncpg.LockNotAvailableError as error:
        raise DatabaseError(
            f"The migration could not lock its tables in {MAX_LOCK_ATTEMPTS} attempts, and changed nothing: another "
            "session holds them (see pg_stat_activity, pg_blocking_pids). Let it end, and run `telewarm migrate` again"
        ) from error


def newest_revision() -> str:
    """Return the newest revision by the file names: importing Alembic takes longer than the rest of a start."""
    return revisions()[-1]


def revisions() -> list[str]:
    """Return all revisions, oldest first."""
    return sorted(path.name[1:5] for path in (MIGRATIONS_FOLDER / "versions").glob("r[0-9]*.py"))


@asynccontextmanager
async def _migration_lock(connection: asyncpg.Connection[asyncpg.Record]) -> AsyncIterator[None]:
    """Hold the migration lock, by polling: a statement that waits in the server would block CREATE INDEX CONCURRENTLY.

    The end of the connection releases the lock.
    """
    deadline = clock.monotonic() + MIGRATION_LOCK_SECONDS
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", ADVISORY_LOCK_KEY):
        if clock.monotonic() > deadline:
            raise DatabaseError(
                f"Another process has been migrating this database for {MIGRATION_LOCK_SECONDS / 60:.0f} minutes: "
                f"see what it waits for in pg_stat_activity (application_name = 'telewarm migrate')"
            )
        await clock.sleep(POLL_SECONDS)
    yield
    await connection.execute("SELECT pg_advisory_unlock($1)", ADVISORY_LOCK_KEY)


async def _migrate_tables(connection: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    current = await revision(connection)
    if current == newest_revision():
        return []
    refuse_newer(current)
    try:
        await connection.execute(upgrade_script(current))
    except asyncpg.PostgresError as error:
        if connection.is_in_transaction():
            await connection.execute("ROLLBACK")
        if isinstance(error, asyncpg.LockNotAvailableError):
            raise
        if isinstance(error, asyncpg.InsufficientPrivilegeError):
            raise DatabaseForbidden(await migration_forbidden_message(connection, error)) from error
        raise DatabaseError(
            f"Migrating from revision {current or 'none'} to {newest_revision()} failed: {error}"
        ) from error
    return [f"revision {revision}" for revision in revisions() if current is None or revision > current]


def upgrade_script(current: str | None, target: str = "head") -> str:
    """Return the SQL from revision `current` (None: an empty database) to another, as one transaction."""
    from alembic import command  # noqa: PLC0415 (it takes half a second, which a migrated database never pays)
    from alembic.config import Config  # noqa: PLC0415

    script = io.StringIO()
    config = Config(output_buffer=script)
    config.set_main_option("script_location", str(MIGRATIONS_FOLDER).replace("%", "%%"))
    command.upgrade(config, f"{current}:{target}" if current else target, sql=True)
    return script.getvalue()


async def _migrate_pgqueuer(connection: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    queries = Queries.from_asyncpg_connection(connection)
    try:
        if not await queries.schema_is_installed():
            await queries.install()
            await pgqueuer_maintenance.set_storage_parameters(connection)
            return ["PgQueuer's tables"]
        plan = await queries.apply_upgrade()
        tuned = await pgqueuer_maintenance.set_storage_parameters(connection)
    except asyncpg.LockNotAvailableError:
        raise
    except asyncpg.PostgresError as error:
        raise DatabaseError(f"PgQueuer's tables could not be brought up to date: {error}") from error
    return ["PgQueuer's tables upgraded"] if plan.statements or tuned else []


async def revision(db: Executor) -> str | None:
    """Return the schema's revision; None: no tables."""
    if await db.fetchval("SELECT to_regclass('alembic_version')") is None:
        return None
    found = await db.fetchval("SELECT version_num FROM alembic_version")
    return None if found is None else str(found)


def refuse_newer(current: str | None) -> None:
    """Raise DatabaseError for a schema of a newer Telewarm."""
    if current is not None and current not in revisions():
        raise DatabaseError(
            f"The database is at revision {current}, which this Telewarm does not know (its newest is "
            f"{newest_revision()}): "
            f"upgrade Telewarm, or point DATABASE_URL at another database"
        )
