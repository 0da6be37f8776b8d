"""Brings a database up to date: our tables with Alembic, the engine's with PgQueuer's own tools.

Alembic writes the SQL and asyncpg executes it in one transaction, so that no second driver is needed. One lock a
database makes processes that start at once take turns; the later ones find nothing left to do.
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
from telewarm.database import pgqueuer_maintenance
from telewarm.database.connection import Executor, Pool
from telewarm.database.pool import ROUND_TRIP_SECONDS, connect
from telewarm.database.rights import migration_forbidden_message
from telewarm.errors import Cure, DatabaseError, DatabaseForbidden, NotMigrated

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
    """Bring the database to this version's schema; returns what was done, nothing when it was there already.

    Idempotent, and safe when several processes do it at once. Everybody who asks for a table queues behind a migration
    that waits for its lock, so it never waits long: it gives way and tries again. Raises DatabaseUnavailable, or
    DatabaseError when the database belongs to a newer Telewarm; a migration that fails leaves nothing half done.
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
    """Raises NotMigrated when `migrate` would find something to do."""
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
    """Whether nobody has set it up yet, or somebody is just doing it."""
    if await revision(connection) is None:
        return True
    return not await _queries(connection).schema_is_installed()


def _queries(db: Pool | PlainConnection) -> Queries:
    return Queries.from_asyncpg_pool(db) if isinstance(db, asyncpg.Pool) else Queries.from_asyncpg_connection(db)


async def _retry_on_lock(step: Callable[[], Awaitable[list[str]]]) -> list[str]:
    """A step that is undone as a whole when it cannot have a lock, and tried again."""
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
    """The newest revision, read off the file names: importing Alembic takes longer than all the rest of a start."""
    return revisions()[-1]


def revisions() -> list[str]:
    """Every revision, oldest first."""
    return sorted(path.name[1:5] for path in (MIGRATIONS_FOLDER / "versions").glob("r[0-9]*.py"))


@asynccontextmanager
async def _migration_lock(connection: asyncpg.Connection[asyncpg.Record]) -> AsyncIterator[None]:
    """Asks again and again: a statement that waited in the server would hold up CREATE INDEX CONCURRENTLY.

    When the work fails or is cancelled, the end of the connection gives the lock back.
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
    """The SQL from revision `current` (None: an empty database) to another, as one transaction."""
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
    """The schema's; None: there are no tables of ours."""
    if await db.fetchval("SELECT to_regclass('alembic_version')") is None:
        return None
    found = await db.fetchval("SELECT version_num FROM alembic_version")
    return None if found is None else str(found)


def refuse_newer(current: str | None) -> None:
    if current is not None and current not in revisions():
        raise DatabaseError(
            f"The database is at revision {current}, which this Telewarm does not know (its newest is "
            f"{newest_revision()}): "
            f"upgrade Telewarm, or point DATABASE_URL at another database"
        )
