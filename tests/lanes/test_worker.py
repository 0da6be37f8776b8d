"""Workers: one lane a bot wherever it runs, a bounded memory, and an end that leaves nothing in hand."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

import asyncpg

from telewarm import clock
from telewarm.database import bots, media
from telewarm.models import MediaId, MediaState
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from telewarm.sandbox.config import Network
from telewarm.sandbox.faults import Rule
from telewarm.worker.worker import Worker, WorkerLimits
from tests.fixtures.app import NO_SWEEP, OTHER_CHAT, WARMUP_CHAT, Opener, add_bot, add_photos, until, until_ready


async def test_a_worker_that_may_hold_one_item_still_warms_for_many_bots(telewarm_with: Opener) -> None:
    """A regression: a lane that found the memory used up by others stopped the whole process."""
    telewarm = await telewarm_with(MEDIA_PREWARM_MAX_QUEUE="1")
    ids: list[MediaId] = []
    for number in range(3):
        ids += await add_photos(telewarm, await add_bot(telewarm, number), 4)

    await until_ready(telewarm, *ids)


async def test_a_bot_has_one_lane_however_many_workers_there_are(telewarm_with: Opener, sandbox: Sandbox) -> None:
    idle = await telewarm_with(worker=False)
    session = await add_bot(idle)
    ids = await add_photos(idle, session, 60)
    sandbox.state.configure(network=Network(latency=0.02))

    for _ in range(3):
        await telewarm_with(MEDIA_PREWARM_CONCURRENCY="4")
    await until_ready(idle, *ids)

    assert sandbox.state.stats.max_active <= 4
    assert sandbox.state.stats.total.uploads == 60


async def test_a_cancelled_worker_cuts_short_what_hangs_and_puts_it_back(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    """A regression: the engine waited for its lanes, which waited for Telegram."""
    telewarm = await telewarm_with(worker=False)
    session = await add_bot(telewarm)
    hang = sandbox.state.faults.add(Rule(action="hang", seconds=0, count=None))
    ids = await add_photos(telewarm, session, 3)
    worker = telewarm.worker.make_worker()
    running = asyncio.create_task(worker.run())

    async def struck() -> bool:
        return hang.hit == 3

    await until(telewarm, struck)
    worker.stop()
    ended, _ = await asyncio.wait([running], timeout=0.1)
    assert not ended
    running.cancel()
    ended, _ = await asyncio.wait([running], timeout=5)

    assert ended
    assert await telewarm.pool.fetchval("SELECT count(*) FROM media WHERE lease_id IS NOT NULL") == 0
    items = [await media.get(telewarm.pool, media_id) for media_id in ids]
    assert {(item.state, item.attempts) for item in items} == {(MediaState.WARMING, 0)}


async def test_a_paused_bot_waits_and_the_others_do_not(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with()
    paused, other = await add_bot(telewarm, 0), await add_bot(telewarm, 1)
    await bots.pause(telewarm.pool, paused.bot.id, None, 1.5)
    started = clock.monotonic()

    waiting = await add_photos(telewarm, paused, 1)
    await until_ready(telewarm, *await add_photos(telewarm, other, 1))
    assert (
        paused.bot.telegram_id not in sandbox.state.stats.bots
        or not sandbox.state.stats.bots[paused.bot.telegram_id].uploads
    )

    await until_ready(telewarm, *waiting)
    assert clock.monotonic() - started >= 1.4


async def test_a_worker_goes_on_after_all_its_connections_broke(telewarm_with: Opener) -> None:
    telewarm = await telewarm_with()
    session = await add_bot(telewarm)
    await until_ready(telewarm, *await add_photos(telewarm, session, 1))
    breaker = await asyncpg.connect(telewarm_with.database_url)
    await breaker.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await breaker.close()

    for _ in range(telewarm.pool.get_size()):  # each dead connection of the pool fails once
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            await telewarm.pool.fetchval("SELECT true")
    await until_ready(telewarm, *await add_photos(telewarm, session, 2, first=5))


async def test_a_second_worker_takes_over_when_the_first_stops(telewarm_with: Opener, sandbox: Sandbox) -> None:
    idle = await telewarm_with(NO_SWEEP, worker=False)
    session = await add_bot(idle)
    sandbox.state.configure(network=Network(latency=0.02))
    ids = await add_photos(idle, session, 60)

    async def begun() -> bool:
        return sandbox.state.stats.total.uploads >= 5

    async with idle.worker.running():
        await until(idle, begun)
    assert (await media.count_by_state_of_bot(idle.pool, session.bot.id)).get(MediaState.WARMING)

    async with idle.worker.running():
        await until_ready(idle, *ids)
    assert sandbox.state.stats.total.uploads == 60


async def test_a_flood_wait_of_the_whole_bot_is_told_to_every_process(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with(worker=False)
    session = await add_bot(telewarm, 0, WARMUP_CHAT, OTHER_CHAT)
    sandbox.state.faults.add(Rule(action="error", code=429, retry_after=600, count=None))
    ids = await add_photos(telewarm, session, 3)

    async def paused() -> bool:
        return await bots.pause_seconds(telewarm.pool, session.bot.id) > 500

    async with telewarm.worker.running():
        await until(telewarm, paused)

    items = [await media.get(telewarm.pool, media_id) for media_id in ids]
    assert [(item.state, item.attempts) for item in items] == [(MediaState.WARMING, 0)] * 3


@dataclass(kw_only=True, slots=True)
class Busy:
    """Work that never looks for more by itself."""

    stop: asyncio.Event
    nudged: asyncio.Event = field(default_factory=asyncio.Event)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    in_flight: int = 0
    held: int = 0

    def nudge(self) -> None:
        self.nudged.set()

    def abort(self) -> None:
        self.stop.set()

    async def run(self) -> float | None:
        self.started.set()
        await self.stop.wait()
        return None


async def test_a_lane_that_is_busy_is_told_of_what_becomes_due_meanwhile(idle_telewarm: Telewarm) -> None:
    session, busy = await add_bot(idle_telewarm), Busy(stop=asyncio.Event())
    [media_id] = await add_photos(idle_telewarm, session, 1)
    limits = WorkerLimits(interval=0.1, held=10, concurrency=1)
    worker = Worker(pool=idle_telewarm.pool, registry=idle_telewarm.bots, make_lane=lambda _: busy, limits=limits)
    running = asyncio.create_task(worker.run())
    await busy.started.wait()
    await idle_telewarm.pool.execute("UPDATE media SET next_attempt_at = now() + interval '1 hour'")
    busy.nudged.clear()

    await idle_telewarm.pool.execute("UPDATE media SET next_attempt_at = now() WHERE id = $1", media_id)
    await busy.nudged.wait()

    worker.stop()
    busy.stop.set()
    await running
