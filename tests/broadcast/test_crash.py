"""Kill -9 in the middle of a broadcast: nobody gets it twice, nobody is forgotten, and the few unknown are told."""

from __future__ import annotations

import pytest

from telewarm.database.connection import Pool
from telewarm.models import BroadcastState, DeliveryStatus
from telewarm.sandbox import Sandbox
from telewarm.sandbox.config import Network
from tests.broadcast.running import broadcast_process
from tests.fixtures.app import Opener, add_bot, readers
from tests.fixtures.processes import worker_process

RECIPIENTS = 3000
CONCURRENCY = 30
KILLS = 3
SETTINGS = {"TELEWARM_BROADCAST_CONCURRENCY": str(CONCURRENCY), "MEDIA_PREWARM_INTERVAL_MS": "200"}


async def bury(pool: Pool) -> None:
    """The seconds after which a silent process counts as dead are over. Those who live renew theirs."""
    await pool.execute("UPDATE lease SET expires_at = now() - interval '1 s'")
    await pool.execute("UPDATE pgqueuer SET heartbeat = now() - interval '1 min'")


@pytest.mark.timeout(60)  # four processes start; mostly it takes ten seconds
async def test_kill_9_three_times_sends_to_nobody_twice_and_forgets_nobody(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    telewarm = await telewarm_with(worker=False)
    session = await add_bot(telewarm)
    sandbox.state.configure(network=Network(latency=0.03))
    chats = readers(RECIPIENTS)
    async with broadcast_process(telewarm, session) as port:
        broadcast_id = await port.started(chats)
        for number in range(KILLS):
            async with worker_process(telewarm_with, **SETTINGS) as running:
                reached = 700 * (number + 1)
                found = await port.until(broadcast_id, lambda found, reached=reached: found.done >= reached)  # type: ignore[misc]
                assert found.state is BroadcastState.RUNNING
                running.kill()
                await running.wait()
            await bury(telewarm.pool)
        async with worker_process(telewarm_with, **SETTINGS):
            done = await port.until_state(broadcast_id, BroadcastState.DONE)

        results = await port.results(broadcast_id)

    assert set(results) == set(chats)
    assert done.counts[DeliveryStatus.SENT] + done.counts[DeliveryStatus.UNKNOWN] == RECIPIENTS
    assert 0 < done.counts[DeliveryStatus.UNKNOWN] <= CONCURRENCY * KILLS
    assert max(sandbox.state.stats.chats.values()) == 1
    sent = {chat_id for chat_id, one in results.items() if one.outcome is DeliveryStatus.SENT}
    assert sent <= set(sandbox.state.stats.chats)
