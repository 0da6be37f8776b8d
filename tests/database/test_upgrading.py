"""An upgrade of the embedded database that is killed leaves the old data where they were."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from telewarm.database.embedded.server import database_url_for
from telewarm.database.embedded.upgrading import set_aside
from telewarm.errors import Conflict
from tests.database.test_embedded import ask

UPGRADING = """
import asyncio, sys
from pathlib import Path
from telewarm.database.embedded.server import database_url_for
from telewarm.database.embedded.upgrading import set_aside
data = Path(sys.argv[1])
async def main():
    async with set_aside(data), database_url_for(None, data):
        print("filled", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def kept(data: Path) -> None:
    async with database_url_for(None, data) as url:
        await ask(url, "CREATE TABLE kept AS SELECT 7 AS number")


async def test_a_killed_upgrade_is_undone_at_the_next_start(data_folder: Path) -> None:
    data = data_folder / "data"
    await kept(data)
    upgrade = await asyncio.create_subprocess_exec(sys.executable, "-c", UPGRADING, str(data), stdout=PIPE)
    assert upgrade.stdout is not None
    assert await upgrade.stdout.readline() == b"filled\n"
    with pytest.raises(Conflict, match="stop it first"):
        async with set_aside(data):
            pass
    upgrade.kill()
    await upgrade.wait()

    for _ in range(2):
        async with database_url_for(None, data) as url:
            assert await ask(url, "SELECT number FROM kept") == 7
    assert [one.name for one in (data / "postgres").glob("cluster*")] == ["cluster"]


@pytest.mark.parametrize("moved", [True, False])
async def test_one_that_is_killed_before_a_new_server_is_there_is_undone_too(data_folder: Path, *, moved: bool) -> None:
    data = data_folder / "data"
    await kept(data)
    folder = data / "postgres"
    (folder / "upgrade-under-way").write_text("cluster-17")
    if moved:
        (folder / "cluster").rename(folder / "cluster-17")
    async with database_url_for(None, data) as url:
        assert await ask(url, "SELECT number FROM kept") == 7


async def test_one_that_fails_is_undone_at_once_and_one_that_ends_keeps_both(data_folder: Path) -> None:
    data = data_folder / "data"
    await kept(data)
    with pytest.raises(RuntimeError):
        async with set_aside(data), database_url_for(None, data):
            raise RuntimeError
    async with database_url_for(None, data) as url:
        assert await ask(url, "SELECT number FROM kept") == 7

    async with set_aside(data) as old, database_url_for(None, data) as url:
        await ask(url, "CREATE TABLE fresh AS SELECT 8 AS number")
    assert (old / "PG_VERSION").exists()
    async with database_url_for(None, data) as url:
        assert await ask(url, "SELECT number FROM fresh") == 8
