"""What opening asks of a database and of its folder, and what it says when it does not get that."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from structlog.testing import capture_logs

from telewarm.database import migrate as migrations
from telewarm.database.embedded.server import database_url_for
from telewarm.database.migrate import migrate, revision
from telewarm.database.ready import open_database_url
from telewarm.errors import DatabaseError, DatabaseForbidden, DatabaseUnavailable, NotMigrated, StoreUnavailable
from telewarm.runtime import Telewarm
from telewarm.settings import Settings
from tests.fixtures.app import Opener, add_bot, add_photos, until_ready


async def tables(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return [row["tablename"] for row in rows]
    finally:
        await connection.close()


async def run(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def opening(url: str | None, data: Path, *, upgrade: bool = False) -> None:
    async with open_database_url(url, data, upgrade=upgrade):
        pass


@asynccontextmanager
async def role(url: str, *grants: str) -> AsyncIterator[str]:
    """The URL of the same database for a role that may do no more than this."""
    name = f"role_{os.getpid()}_{urlsplit(url).path.strip('/')}"
    await run(url, f"CREATE ROLE {name} LOGIN", *(grant.format(name) for grant in grants))
    try:
        yield urlsplit(url)._replace(netloc=f"{name}@").geturl()
    finally:
        await run(url, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


async def test_an_empty_database_of_ones_own_stays_empty_until_somebody_migrates(
    empty_database_url: str, tmp_path: Path
) -> None:
    with pytest.raises(
        NotMigrated, match="no Telewarm tables yet; open it with migrate=True, or run `telewarm migrate`"
    ):
        await opening(empty_database_url, tmp_path / "data")
    assert await tables(empty_database_url) == []
    await opening(empty_database_url, tmp_path / "data", upgrade=True)
    await opening(empty_database_url, tmp_path / "data")


async def test_a_new_embedded_database_is_set_up_by_whoever_comes_first(data_folder: Path) -> None:
    await asyncio.gather(*(opening(None, data_folder / "data") for _ in range(3)))


async def test_an_older_schema_is_refused_and_left_alone_the_embedded_one_too(
    database_url: str, data_folder: Path, next_version: str
) -> None:
    with pytest.raises(
        NotMigrated,
        match=rf"and this Telewarm needs {next_version}; open it with migrate=True, or run `telewarm migrate`",
    ):
        await opening(database_url, data_folder)
    await opening(None, data_folder)
    async with database_url_for(None, data_folder) as url:
        await run(url, f"UPDATE alembic_version SET version_num = '{migrations.revisions()[-2]}'")  # noqa: S608
    with pytest.raises(NotMigrated, match="run `telewarm migrate`"):
        await opening(None, data_folder)


async def test_the_library_migrates_when_it_is_told_to(telewarm_with: Opener, empty_database_url: str) -> None:
    telewarm_with.database_url = empty_database_url
    settings = Settings.from_environ(telewarm_with.environ(), None)
    with pytest.raises(NotMigrated):
        async with Telewarm.open(settings, worker=False):
            pass
    async with Telewarm.open(settings, worker=False, migrate=True) as telewarm:
        assert await telewarm.slugs() == []


async def test_a_migration_gives_way_to_whoever_holds_a_table_and_ends_once_it_is_free(
    database_url: str, next_version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "TABLE_LOCK_SECONDS", 1.0)
    reader = await asyncpg.connect(database_url)
    transaction = reader.transaction()
    await transaction.start()
    await reader.fetch("SELECT * FROM bot")
    with capture_logs() as logs:
        migrating = asyncio.create_task(migrate(database_url))
        while not any(line["event"] == "migration_waits_for_lock" for line in logs):
            await run(database_url, "SELECT * FROM bot")  # nobody queues behind it for long
        await transaction.rollback()
        await reader.close()
        assert await migrating == [f"revision {next_version}"]


async def test_a_migration_that_never_gets_its_lock_changes_nothing_and_says_so(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "TABLE_LOCK_SECONDS", 1.0)
    monkeypatch.setattr(migrations, "MAX_LOCK_ATTEMPTS", 2)
    blocker = await asyncpg.connect(empty_database_url)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("CREATE TABLE bot (in_the_way integer)")
    with pytest.raises(DatabaseError, match=r"could not lock its tables in 2 attempts, and changed nothing"):
        await migrate(empty_database_url)
    await transaction.rollback()
    assert await revision(blocker) is None
    await blocker.close()


async def test_a_role_that_may_only_read_is_told_what_to_grant(database_url: str, tmp_path: Path) -> None:
    read = ("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}", "GRANT USAGE ON SCHEMA public TO {}")
    async with role(database_url, *read) as url:
        with pytest.raises(DatabaseForbidden, match=r"may not INSERT \w+ at .*: as the owner .* run GRANT SELECT, INS"):
            await opening(url, tmp_path / "data")
    async with role(database_url) as url:
        with pytest.raises(DatabaseForbidden, match=r"may not \w+ "):
            await opening(url, tmp_path / "data")


async def test_the_documented_grants_are_enough_to_work(telewarm_with: Opener, database_url: str) -> None:
    grants = (
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {}",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {}",
    )
    async with role(database_url, *grants) as url:
        telewarm_with.database_url = url
        async with telewarm_with.stack:
            telewarm = await telewarm_with()
            session = await add_bot(telewarm)
            await until_ready(telewarm, *await add_photos(telewarm, session, 2))
            await telewarm.backup(telewarm_with.data / "backup.tar", media=True)


async def test_a_read_only_database_is_named_as_such(database_url: str, tmp_path: Path) -> None:
    name = urlsplit(database_url).path.strip("/")
    await run(database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(DatabaseUnavailable, match=r"is read-only, .*: point DATABASE_URL at the primary"):
        await opening(database_url, tmp_path / "data")


def open_to_others(folder: Path) -> list[str]:
    """What others might read in it, by name."""
    found = [folder, *folder.rglob("*")]
    return [str(path) for path in found if path.lstat().st_mode & 0o077 and not path.is_symlink()]


async def test_everything_in_the_data_folder_is_its_owners_alone_whatever_the_umask(telewarm_with: Opener) -> None:
    before = os.umask(0o022)
    try:
        async with telewarm_with.stack:
            telewarm = await telewarm_with()
            session = await add_bot(telewarm)
            await until_ready(telewarm, *await add_photos(telewarm, session, 2))
            assert (telewarm_with.data / "media").is_dir()
            assert await asyncio.to_thread(open_to_others, telewarm_with.data) == []
    finally:
        os.umask(before)


async def test_a_folder_of_an_earlier_version_is_closed_when_it_is_opened(database_url: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "media" / "ab").mkdir(parents=True, mode=0o755)
    (data / "media" / "ab" / "blob").write_bytes(b"x")
    outside = tmp_path / "outside"
    outside.write_bytes(b"x")
    (data / "link").symlink_to(outside)
    for path, mode in ((data, 0o755), (data / "media" / "ab" / "blob", 0o644), (outside, 0o644)):
        path.chmod(mode)
    await opening(database_url, data)
    assert await asyncio.to_thread(open_to_others, data) == []
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644


async def test_a_folder_for_everybody_is_not_closed_to_them(database_url: str, tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o1777)  # noqa: PTH101, S103
    await opening(database_url, tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o1777  # noqa: ASYNC240


async def test_a_data_folder_that_cannot_be_made_is_one_sentence(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreUnavailable, match=r"Cannot use .*file.*: choose another folder with TELEWARM_DATA"):
            await opening(database_url, folder)
