"""Leases: a dead holder's rows come back, a living one's do not."""

from __future__ import annotations

from telewarm.database import leases
from telewarm.database.connection import Pool
from telewarm.database.leases import Lease
from tests.fixtures.rows import claim, lease_of, make_bot, make_item, make_lease


async def test_a_sweep_frees_the_rows_of_a_dead_holder_and_of_nobody_else(pool: Pool) -> None:
    bot, dead, alive = await make_bot(pool), await make_lease(pool, seconds=-1), await make_lease(pool)
    [first] = [await make_item(pool, bot, 0)]
    await claim(pool, bot, dead)
    second = await make_item(pool, bot, 1)
    await claim(pool, bot, alive)

    assert await leases.sweep(pool) == 1

    assert (await lease_of(pool, first), await lease_of(pool, second)) == (None, alive)
    assert [row["id"] for row in await pool.fetch("SELECT id FROM lease")] == [alive]


async def test_a_sweep_frees_rows_whose_lease_is_gone_altogether(pool: Pool) -> None:
    """A claim that was under way while its lease was swept."""
    bot = await make_bot(pool)
    media_id = await make_item(pool, bot)
    await pool.execute("UPDATE media SET lease_id = gen_random_uuid()")

    assert await leases.sweep(pool) == 1
    assert await lease_of(pool, media_id) is None


async def test_a_lease_ends_with_its_holder_and_frees_what_it_still_holds(pool: Pool) -> None:
    bot = await make_bot(pool)
    media_id = await make_item(pool, bot)

    async with Lease.held(pool) as lease:
        await claim(pool, bot, lease.id)
        assert await lease_of(pool, media_id) == lease.id

    assert await lease_of(pool, media_id) is None
    assert await pool.fetchval("SELECT count(*) FROM lease") == 0


async def test_a_lease_is_renewed_before_it_runs_out(pool: Pool) -> None:
    async with Lease.held(pool, ttl=0.4) as lease:
        expiry = "SELECT expires_at FROM lease WHERE id = $1"
        first = await pool.fetchval(expiry, lease.id)
        while (later := await pool.fetchval(expiry, lease.id)) == first:
            pass

        assert later > first
        assert await leases.sweep(pool) == 0


async def test_a_holder_whose_lease_was_swept_away_takes_a_new_one(pool: Pool) -> None:
    async with Lease.held(pool, ttl=0.2) as lease:
        swept = lease.id
        await pool.execute("DELETE FROM lease")
        while lease.id == swept:
            await pool.fetchval("SELECT 1")

        assert [row["id"] for row in await pool.fetch("SELECT id FROM lease")] == [lease.id]
