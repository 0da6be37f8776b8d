"""`telewarm worker` as a process: it warms, shows its metrics, and drains when told."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from telewarm.database import media
from telewarm.models import MediaState
from telewarm.sandbox import Sandbox
from telewarm.sandbox.config import Network
from tests.fixtures.app import Opener, add_bot, add_photos, until, until_ready

ADMIN = "the-admin-token-of-the-tests"
READY = '{"ok":true,"checks":{"database":true,"migrations":true,"store":true,"spool":true,"worker":true}}'
SAYS = re.compile(r"Worker running .*? Metrics: port (\d+),")


@asynccontextmanager
async def working(opener: Opener, folder: Path, *options: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """The process and the port of its metrics."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "telewarm", "worker", "--port", "0", *options,
        cwd=folder, env=opener.environ(ADMIN_API_TOKEN=ADMIN), stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        said = ""
        while not (found := SAYS.search(said)):
            line = await process.stderr.readline()
            assert line, said
            said += line.decode()
        yield process, int(found[1])
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def read(session: aiohttp.ClientSession, path: str, **headers: str) -> tuple[int, str]:
    """Status and body."""
    async with session.get(path, headers=headers) as answer:
        return answer.status, await answer.text()


async def test_it_warms_shows_its_metrics_and_drains_when_told(
    telewarm_with: Opener, sandbox: Sandbox, tmp_path: Path
) -> None:
    idle = await telewarm_with(worker=False)
    session = await add_bot(idle)
    ids = await add_photos(idle, session, 10)

    async def begun() -> bool:
        return sandbox.state.stats.max_active >= 5

    async with working(telewarm_with, tmp_path) as (process, port):
        await until_ready(idle, *ids)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            assert (await read(client, "/metrics"))[0] == 401
            assert await read(client, "/readyz") == (200, READY)
            assert (await read(client, "/health", Authorization=f"Bearer {ADMIN}"))[0] == 200
            _, shown = await read(client, "/metrics", Authorization=f"Bearer {ADMIN}")
            assert (await read(client, "/api/admin/media/1", Authorization=f"Bearer {ADMIN}"))[0] == 404
        assert 'telewarm_warmups_total{kind="photo",method="upload",outcome="ok"} 10.0' in shown

        sandbox.state.configure(network=Network(latency=0.5))
        await add_photos(idle, session, 20, first=10)
        await until(idle, begun)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0

    counts = await media.count_by_state_of_bot(idle.pool, session.bot.id)
    assert counts[MediaState.READY] == sandbox.state.stats.total.uploads >= 15
    assert counts[MediaState.READY] + counts[MediaState.WARMING] == 30
    assert await idle.pool.fetchval("SELECT count(*) FROM media WHERE lease_id IS NOT NULL") == 0


async def test_any_number_of_workers_share_the_work(telewarm_with: Opener, sandbox: Sandbox, tmp_path: Path) -> None:
    idle = await telewarm_with(worker=False)
    sandbox.state.configure(network=Network(latency=0.05))
    async with working(telewarm_with, tmp_path), working(telewarm_with, tmp_path):
        ids = [media_id for number in range(4) for media_id in await add_photos(idle, await add_bot(idle, number), 5)]
        await until_ready(idle, *ids)

    assert sandbox.state.stats.total.uploads == 20
