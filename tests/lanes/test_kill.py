"""Kill -9 in the middle of warming: everything becomes ready all the same, and nearly nothing is uploaded twice."""

from __future__ import annotations

from telewarm.database import media
from telewarm.models import MediaState
from telewarm.sandbox import Sandbox
from telewarm.sandbox.config import Network
from tests.fixtures.app import Opener, add_bot, add_photos, until
from tests.fixtures.processes import worker_process

MEDIA = 200
IN_FLIGHT = 5
SETTINGS = {"MEDIA_PREWARM_CONCURRENCY": str(IN_FLIGHT), "MEDIA_PREWARM_INTERVAL_MS": "500"}


async def test_kill_9_in_the_middle_of_warming_200_media_loses_none_of_them(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    telewarm = await telewarm_with(worker=False)
    session = await add_bot(telewarm)
    await add_photos(telewarm, session, MEDIA)
    sandbox.state.configure(network=Network(latency=0.03))

    async def ready(count: int) -> bool:
        return (await media.count_by_state_of_bot(telewarm.pool, session.bot.id)).get(MediaState.READY, 0) >= count

    async with worker_process(telewarm_with, **SETTINGS) as first:
        await until(telewarm, lambda: ready(60))
        first.kill()
        await first.wait()
    assert not await ready(MEDIA)

    async with worker_process(telewarm_with, **SETTINGS):
        await until(telewarm, lambda: ready(MEDIA))

    assert await media.count_by_state_of_bot(telewarm.pool, session.bot.id) == {MediaState.READY: MEDIA}
    uploads = sandbox.state.stats.total.uploads
    recording = IN_FLIGHT  # done, and on their way to the database when the process died
    assert MEDIA <= uploads <= MEDIA + IN_FLIGHT + recording
