"""Control: start, drain, pause and resume, status."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from telewarm.database import bots, media
from telewarm.database.lane_queue import enqueue_lane
from telewarm.models import MediaState
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from telewarm.sandbox.config import Network
from tests.fixtures.app import NO_SWEEP, Opener, add_bot, add_photos, until, until_ready

START_LINE = "[MEDIA][PREWARM][WORKER][START] { interval_ms: 2000, concurrency: 5, max_queue_size: 500 }"


async def test_a_worker_starts_with_the_line_that_operators_know(idle_telewarm: Telewarm) -> None:
    with capture_logs() as logged:
        await idle_telewarm.worker.start()
    assert [line["event"] for line in logged].count(START_LINE) == 1


async def test_starting_and_stopping_twice_changes_nothing(telewarm_with: Opener) -> None:
    telewarm = await telewarm_with(worker=False)
    assert not telewarm.worker.status().running

    assert [await telewarm.worker.start(), await telewarm.worker.start()] == [True, False]
    assert telewarm.worker.status().running
    assert [await telewarm.worker.stop(), await telewarm.worker.stop()] == [True, False]
    assert not telewarm.worker.status().running


async def test_a_stop_lets_uploads_in_flight_end_and_a_start_goes_on(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with(NO_SWEEP, worker=False)
    session = await add_bot(telewarm)
    ids = await add_photos(telewarm, session, 20)
    sandbox.state.configure(network=Network(latency=0.2))

    async def in_flight() -> bool:
        return telewarm.worker.status().in_flight == 5

    await telewarm.worker.start()
    await until(telewarm, in_flight)
    status = telewarm.worker.status()
    assert [(lane.bot_id, lane.in_flight) for lane in status.lanes] == [(session.bot.id, 5)]
    await telewarm.worker.stop()
    counts = await media.count_by_state_of_bot(telewarm.pool, session.bot.id)
    assert counts[MediaState.READY] >= 5
    assert counts[MediaState.READY] + counts[MediaState.WARMING] == 20
    assert await telewarm.pool.fetchval("SELECT count(*) FROM media WHERE lease_id IS NOT NULL") == 0
    sandbox.state.configure(network=Network())
    await telewarm.worker.start()
    await until_ready(telewarm, *ids)
    assert sandbox.state.stats.total.uploads == 20


async def test_a_paused_bot_does_no_background_work_anywhere_until_it_is_resumed(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    first, second = await telewarm_with(NO_SWEEP), await telewarm_with(NO_SWEEP)
    session = await add_bot(first)
    sandbox.state.configure(network=Network(latency=0.8))
    ids = await add_photos(first, session, 20)

    async def begun() -> bool:
        return sandbox.state.stats.total.uploads >= 3

    async def nobody_works() -> bool:
        return not first.worker.status().lanes and not second.worker.status().lanes

    await until(first, begun)
    await bots.set_paused(second.pool, session.bot.id, paused=True)
    await until(first, nobody_works)
    uploads = sandbox.state.stats.total.uploads
    assert uploads < 20
    more = await add_photos(first, session, 1, first=50)
    await until(first, nobody_works)
    assert sandbox.state.stats.total.uploads == uploads

    async with second.pool.acquire() as connection, connection.transaction():
        await bots.set_paused(connection, session.bot.id, paused=False)
        await enqueue_lane(connection, session.bot)
    sandbox.state.configure(network=Network())
    await until_ready(first, *ids, *more)
    assert sandbox.state.stats.total.uploads == 21


async def test_a_worker_that_dies_of_a_bug_is_told_and_replaced(telewarm_with: Opener) -> None:
    telewarm = await telewarm_with(worker=False)
    session = await add_bot(telewarm)
    made = telewarm.worker.make_worker

    def broken_once() -> object:
        telewarm.worker.make_worker = made
        raise RuntimeError("a bug")

    telewarm.worker.make_worker = broken_once  # type: ignore[assignment]
    with capture_logs() as logged:
        await telewarm.worker.start()
        await until_ready(telewarm, *await add_photos(telewarm, session, 1))
    assert [line["again_in_s"] for line in logged if line["event"] == "worker_crashed"] == [1.0]
    await asyncio.wait_for(telewarm.worker.stop(), 5)
