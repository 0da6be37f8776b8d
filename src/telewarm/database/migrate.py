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
from telewarm.database.pool import ROUND_TRIP, connect
from telewarm.database.rights import forbidden
from telewarm.errors import Cure, DatabaseError, DatabaseForbidden, NotMigrated

Session: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

log = structlog.get_logger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 7_316_582_394_107_541  # any number, as long as nothing else in the database locks it
TURN_SECONDS = 600.0  # for another process's migration to end
LOOK_AGAIN = 0.1  # seconds
LOCK_SECONDS = 3.0  # that a migration waits for one lock
LOCK_ATTEMPTS = 20
COMMANDS = "run `telewarm migrate`, or start `telewarm serve` or `telewarm worker`, which do it too"
MIGRATE = Cure(library="open it with migrate=True, or run `telewarm migrate`", cli=COMMANDS, api=COMMANDS)


async def migrate(url: str) -> list[str]:
    """Bring the database to this version's schema; returns what was done, nothing when it was there already.

    Idempotent, and safe when several processes do it at once. Everybody who asks for a table queues behind a migration
    that waits for its lock, so it never waits long: it gives way and tries again. Raises DatabaseUnavailable, or
    DatabaseError when the database belongs to a newer Telewarm; a migration that fails leaves nothing half done.
    """
    connection = await connect(url, application_name="telewarm migrate", statement_timeout=0)
    try:
        async with _turn(connection):
            await connection.execute(f"SET lock_timeout = '{LOCK_SECONDS:.0f}s'")
            return [
                *await _patiently(lambda: _migrate_tables(connection)),
                *await _patiently(lambda: _migrate_engine(connection)),
            ]
    except asyncpg.InsufficientPrivilegeError as error:
        raise DatabaseForbidden(await forbidden(connection, error)) from error
    finally:
        await connection.close(timeout=ROUND_TRIP)


async def check_migrated(db: Pool | Session) -> None:
    """Raises NotMigrated when `migrate` would find something to do."""
    current = await revision(db)
    if current is None:
        raise NotMigrated("The database has no Telewarm tables yet", by_face=MIGRATE)
    if current != head():
        refuse_newer(current)
        raise NotMigrated(f"The database is at revision {current}, and this Telewarm needs {head()}", by_face=MIGRATE)
    if (await _queries(db).plan_upgrade()).statements or await pgqueuer_maintenance.untuned(db):
        raise NotMigrated("PgQueuer's tables are not this version's", by_face=MIGRATE)


async def is_new(connection: Session) -> bool:
    """Whether nobody has set it up yet, or somebody is just doing it."""
    if await revision(connection) is None:
        return True
    return not await _queries(connection).schema_is_installed()


def _queries(db: Pool | Session) -> Queries:
    return Queries.from_asyncpg_pool(db) if isinstance(db, asyncpg.Pool) else Queries.from_asyncpg_connection(db)


async def _patiently(step: Callable[[], Awaitable[list[str]]]) -> list[str]:
    """A step that is undone as a whole when it cannot have a lock, and tried again."""
    for attempt in range(1, LOCK_ATTEMPTS):
        with suppress(asyncpg.LockNotAvailableError):
            return await step()
        log.warning("migration_waits_for_lock", attempt=attempt, of=LOCK_ATTEMPTS)
        await clock.sleep(min(attempt, LOCK_SECONDS))
    try:
        return await step()
    except asyncpg.LockNotAvailableError as error:
        raise DatabaseError(
            f"The migration could not lock its tables in {LOCK_ATTEMPTS} attempts, and changed nothing: another "
            "session holds them (see pg_stat_activity, pg_blocking_pids). Let it end, and run `telewarm migrate` again"
        ) from error


def head() -> str:
    """The newest revision, read off the file names: importing Alembic takes longer than all the rest of a start."""
    return revisions()[-1]


def revisions() -> list[str]:
    """Every revision, oldest first."""
    return sorted(path.name[1:5] for path in (MIGRATIONS / "versions").glob("r[0-9]*.py"))


@asynccontextmanager
async def _turn(connection: asyncpg.Connection[asyncpg.Record]) -> AsyncIterator[None]:
    """Asks again and again: a statement that waited in the server would hold up CREATE INDEX CONCURRENTLY.

    When the work fails or is cancelled, the end of the connection gives the lock back.
    """
    deadline = clock.monotonic() + TURN_SECONDS
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
        if clock.monotonic() > deadline:
            raise DatabaseError(
                f"Another process has been migrating this database for {TURN_SECONDS / 60:.0f} minutes: "
                f"see what it waits for in pg_stat_activity (application_name = 'telewarm migrate')"
            )
        await clock.sleep(LOOK_AGAIN)
    yield
    await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)


async def _migrate_tables(connection: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    current = await revision(connection)
    if current == head():
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
            raise DatabaseForbidden(await forbidden(connection, error)) from error
        raise DatabaseError(f"Migrating from revision {current or 'none'} to {head()} failed: {error}") from error
    return [f"revision {revision}" for revision in revisions() if current is None or revision > current]


def upgrade_script(current: str | None, to: str = "head") -> str:
    """The SQL from revision `current` (None: an empty database) to another, as one transaction."""
    from alembic import command  # noqa: PLC0415 (it takes half a second, which a migrated database never pays)
    from alembic.config import Config  # noqa: PLC0415

    script = io.StringIO()
    config = Config(output_buffer=script)
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    command.upgrade(config, f"{current}:{to}" if current else to, sql=True)
    return script.getvalue()


async def _migrate_engine(connection: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    queries = Queries.from_asyncpg_connection(connection)
    try:
        if not await queries.schema_is_installed():
            await queries.install()
            await pgqueuer_maintenance.tune(connection)
            return ["PgQueuer's tables"]
        plan = await queries.apply_upgrade()
        tuned = await pgqueuer_maintenance.tune(connection)
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
            f"The database is at revision {current}, which this Telewarm does not know (its newest is {head()}): "
            f"upgrade Telewarm, or point DATABASE_URL at another database"
        )
