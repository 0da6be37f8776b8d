"""Whatever else a process waits for, its lease and its lanes' heartbeats go on."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from telewarm import clock
from telewarm.database.pool import open_pool
from telewarm.database.transient import is_transient
from tests.fixtures.app import LOOK_AGAIN, Opener, add_bot, add_photos, until_ready


@pytest.mark.timeout(60)
async def test_a_locked_table_and_a_burst_of_reads_cost_no_lease(telewarm_with: Opener) -> None:
    telewarm = await telewarm_with(TELEWARM_DATABASE_POOL="4")
    session = await add_bot(telewarm)
    await until_ready(telewarm, *await add_photos(telewarm, session, 1))
    outside = await asyncpg.connect(telewarm_with.database_url)
    try:
        async with outside.transaction():
            await outside.execute("LOCK TABLE media IN ACCESS EXCLUSIVE MODE")
            reads = [asyncio.create_task(telewarm.library.page(session.bot, limit=1)) for _ in range(20)]
            seen: set[object] = set()
            async with asyncio.timeout(15):
                while len(seen) < 4:  # each renewal is a quarter of the lease's time after the one before
                    seen.add(await outside.fetchval("SELECT expires_at FROM lease"))
                    await clock.sleep(LOOK_AGAIN)
            assert not any(read.done() for read in reads)
            assert telewarm.pool.get_idle_size() == 0
        await asyncio.gather(*reads)
    finally:
        await outside.close()


async def test_nobody_waits_for_ever_for_a_connection(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telewarm.database.pool.ACQUIRE_TIMEOUT_SECONDS", 0.2)
    pool = await open_pool(database_url, max_size=2, application_name="test")
    try:
        async with pool.acquire(), pool.acquire():
            began = clock.monotonic()
            with pytest.raises(TimeoutError) as late:
                await pool.fetchval("SELECT 1")
            assert clock.monotonic() - began < 5
            assert is_transient(late.value)
        assert await pool.fetchval("SELECT 1") == 1
    finally:
        await pool.close()
