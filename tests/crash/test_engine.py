"""The engine under the lanes: what it loses, it takes up again, while lanes are busy."""

from __future__ import annotations

import asyncpg

from telewarm.database import media
from telewarm.models import MediaState
from telewarm.sandbox import Sandbox
from telewarm.sandbox.config import Network
from tests.fixtures.app import Opener, add_bot, add_photos, until, until_ready


async def test_a_worker_that_lost_the_database_takes_on_other_bots_before_its_busy_lane_is_done(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    """A regression: the engine waited for every lane that ran before it looked for others."""
    telewarm = await telewarm_with(MEDIA_PREWARM_CONCURRENCY="1")
    busy, other = await add_bot(telewarm, 0), await add_bot(telewarm, 1)
    sandbox.state.configure(network=Network(latency=0.2))
    await add_photos(telewarm, busy, 80)

    async def begun() -> bool:
        return sandbox.state.stats.total.uploads >= 2

    await until(telewarm, begun)
    breaker = await asyncpg.connect(telewarm_with.database_url)
    await breaker.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await breaker.close()
    await until_ready(
        await telewarm_with(worker=False), *await add_photos(await telewarm_with(worker=False), other, 1, first=100)
    )

    assert (await media.count_by_state_of_bot(telewarm.pool, busy.bot.id)).get(MediaState.WARMING)
