"""Migrating: from nothing to the declared schema, twice, at once, half done, too new."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from pgqueuer.queries import Queries

from telewarm.database import pgqueuer_maintenance
from telewarm.database.connection import Pool, created_names
from telewarm.database.migrate import (
    MIGRATIONS_FOLDER,
    check_migrated,
    migrate,
    newest_revision,
    revisions,
    upgrade_script,
)
from telewarm.database.pool import open_pool
from telewarm.errors import DatabaseError, NotMigrated
from tests.fixtures.postgres import dumped, fresh_database, lock_waiters

MIGRATOR = """
import asyncio, sys
from telewarm.database.migrate import migrate
print("ready", flush=True)
sys.stdin.readline()
print(asyncio.run(migrate(sys.argv[1])))
"""


async def schema_of(url: str) -> str:
    """What the wheel's pg_dump says of a database, without Alembic's own table and the dump's random marks."""
    out = await dumped(url, "--schema-only", "--no-owner", "--exclude-table=alembic_version")
    return re.sub(r"^\\(un)?restrict .*$", "", out, flags=re.MULTILINE)


async def test_the_tables_made_by_migrating_are_those_of_the_scripts_and_of_pgqueuer(
    postgres_server: str, empty_database_url: str
) -> None:
    await migrate(empty_database_url)
    async with fresh_database(postgres_server) as scripted:
        connection = await asyncpg.connect(scripted)
        for path in sorted((MIGRATIONS_FOLDER / "versions").glob("r[0-9]*.sql")):
            await connection.execute(path.read_text())
        await Queries.from_asyncpg_connection(connection).install()
        await pgqueuer_maintenance.set_storage_parameters(connection)
        await connection.close()
        schema = await schema_of(scripted)
        assert await schema_of(empty_database_url) == schema
    for table in (*created_names("TABLE"), "pgqueuer"):
        assert f"CREATE TABLE public.{table} (" in schema


async def test_migrating_says_what_it_did_and_the_second_time_there_is_nothing_to_do(empty_database_url: str) -> None:
    assert await migrate(empty_database_url) == [*(f"revision {one}" for one in revisions()), "PgQueuer's tables"]
    assert await migrate(empty_database_url) == []


@asynccontextmanager
async def migrator(url: str) -> AsyncIterator[Process]:
    """A process that migrates as soon as it reads a line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MIGRATOR, url, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_two_processes_that_migrate_at_once_share_the_work(empty_database_url: str) -> None:
    async with migrator(empty_database_url) as first, migrator(empty_database_url) as second:
        answers = await asyncio.gather(first.communicate(b"go\n"), second.communicate(b"go\n"))
        assert [first.returncode, second.returncode] == [0, 0], answers
    done = sorted(out.decode().strip() for out, _ in answers)
    assert done == sorted(["[]", str([*(f"revision {one}" for one in revisions()), "PgQueuer's tables"])])


async def test_a_process_killed_while_it_migrates_blocks_nobody(empty_database_url: str) -> None:
    blocker = await asyncpg.connect(empty_database_url)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("CREATE TABLE bot (in_the_way integer)")
    async with migrator(empty_database_url) as process:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        async with asyncio.timeout(10):
            while not await lock_waiters(blocker):
                pass
        process.kill()
    await transaction.rollback()
    await blocker.close()
    await migrate(empty_database_url)  # the killed one's server process may have done its part in the end
    assert await migrate(empty_database_url) == []


async def test_a_migration_that_fails_leaves_nothing_behind_and_names_the_reason(empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("CREATE TABLE lease (foreign_one integer)")
    with pytest.raises(
        DatabaseError, match=f'from revision none to {newest_revision()} failed: relation "lease" already exists'
    ):
        await migrate(empty_database_url)
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert [table["tablename"] for table in tables] == ["lease"]
    await connection.execute("DROP TABLE lease")
    await connection.close()
    assert await migrate(empty_database_url) == [*(f"revision {one}" for one in revisions()), "PgQueuer's tables"]


async def test_an_unmigrated_database_is_refused_with_the_command_to_run(empty_database_url: str) -> None:
    pool = await open_pool(empty_database_url, max_size=2, application_name="test")
    with pytest.raises(NotMigrated, match=r"no Telewarm tables yet; .* `telewarm migrate`"):
        await check_migrated(pool)
    await migrate(empty_database_url)
    await check_migrated(pool)
    await pool.close()


async def test_an_engine_of_another_version_is_refused_and_migrating_mends_it(database_url: str, pool: Pool) -> None:
    await pool.execute("ALTER TABLE pgqueuer DROP COLUMN headers")
    with pytest.raises(NotMigrated, match=r"PgQueuer's tables .* run `telewarm migrate`"):
        await check_migrated(pool)
    assert await migrate(database_url) == ["PgQueuer's tables upgraded"]
    await check_migrated(pool)


async def test_an_engine_whose_log_is_never_vacuumed_is_refused_and_migrating_mends_it(
    database_url: str, pool: Pool
) -> None:
    """PgQueuer's own advice lets a million dead rows lie in its log."""
    await Queries.from_asyncpg_pool(pool).optimize_autovacuum()
    with pytest.raises(NotMigrated, match=r"PgQueuer's tables .* run `telewarm migrate`"):
        await check_migrated(pool)
    assert await migrate(database_url) == ["PgQueuer's tables upgraded"]
    await check_migrated(pool)
    assert await migrate(database_url) == []


async def test_a_newer_telewarms_database_is_refused_and_left_alone(database_url: str, pool: Pool) -> None:
    await pool.execute("UPDATE alembic_version SET version_num = '9999'")
    for refused in (migrate(database_url), check_migrated(pool)):
        with pytest.raises(DatabaseError, match=r"revision 9999, .* upgrade Telewarm"):
            await refused
    assert await pool.fetchval("SELECT version_num FROM alembic_version") == "9999"


def test_the_file_names_tell_the_same_revisions_as_alembic() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS_FOLDER))
    scripts = ScriptDirectory.from_config(config)
    reported = [script.revision for script in scripts.walk_revisions()]
    assert revisions() == sorted(reported)
    assert newest_revision() == scripts.get_current_head()


def test_every_revision_runs_its_own_sql_file_as_it_stands() -> None:
    script = upgrade_script(None)
    for path in sorted((MIGRATIONS_FOLDER / "versions").glob("r[0-9]*.py")):
        assert path.with_suffix(".sql").read_text() in script


@pytest.mark.process
def test_a_database_that_is_up_to_date_never_imports_alembic() -> None:
    code = "import sys, telewarm.database.migrate as m; m.newest_revision(); sys.exit('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=15).returncode == 0
