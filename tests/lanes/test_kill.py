"""Kill -9 in the middle of warming: everything becomes ready all the same, and nearly nothing is uploaded twice."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from telewarm.database import media
from telewarm.model import State
from telewarm.sandbox import Sandbox
from telewarm.sandbox.config import Network
from tests.fixtures.app import Opener, add_bot, add_photos, until

MEDIA = 200
IN_FLIGHT = 5


@asynccontextmanager
async def process(opener: Opener) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker of its own, killed with -9 at the end at the latest."""
    environ = opener.environ(MEDIA_PREWARM_CONCURRENCY=str(IN_FLIGHT), MEDIA_PREWARM_INTERVAL_MS="500")
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.lanes.warm_until_killed", json.dumps(environ)),
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def test_kill_9_in_the_middle_of_warming_200_media_loses_none_of_them(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    telewarm = await telewarm_with(worker=False)
    live = await add_bot(telewarm)
    await add_photos(telewarm, live, MEDIA)
    sandbox.state.configure(network=Network(latency=0.03))

    async def ready(count: int) -> bool:
        return (await media.counts(telewarm.pool, live.bot.id)).get(State.READY, 0) >= count

    async with process(telewarm_with) as first:
        await until(telewarm, lambda: ready(60))
        first.kill()
        await first.wait()
    assert not await ready(MEDIA)

    async with process(telewarm_with):
        await until(telewarm, lambda: ready(MEDIA))

    assert await media.counts(telewarm.pool, live.bot.id) == {State.READY: MEDIA}
    uploads = sandbox.state.stats.total.uploads
    recording = IN_FLIGHT  # done, and on their way to the database when the process died
    assert MEDIA <= uploads <= MEDIA + IN_FLIGHT + recording
