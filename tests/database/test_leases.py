"""Leases: a dead holder's rows come back, a living one's do not."""

from __future__ import annotations

from telewarm.database import leases
from telewarm.database.connection import Pool
from telewarm.database.held import HeldRows
from telewarm.database.leases import ProcessLease
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

    async with ProcessLease.open(pool) as lease:
        await claim(pool, bot, lease.id)
        assert await lease_of(pool, media_id) == lease.id

    assert await lease_of(pool, media_id) is None
    assert await pool.fetchval("SELECT count(*) FROM lease") == 0


async def test_a_lease_is_renewed_before_it_runs_out(pool: Pool) -> None:
    async with ProcessLease.open(pool, ttl_seconds=0.4) as lease:
        expiry = "SELECT expires_at FROM lease WHERE id = $1"
        first = await pool.fetchval(expiry, lease.id)
        while (later := await pool.fetchval(expiry, lease.id)) == first:
            pass

        assert later > first
        assert await leases.sweep(pool) == 0


async def test_a_holder_whose_lease_was_swept_away_takes_a_new_one(pool: Pool) -> None:
    async with ProcessLease.open(pool, ttl_seconds=0.2) as lease:
        swept = lease.id
        await pool.execute("DELETE FROM lease")
        while lease.id == swept:
            await pool.fetchval("SELECT 1")

        assert [row["id"] for row in await pool.fetch("SELECT id FROM lease")] == [lease.id]


async def test_rows_that_nobody_holds_are_freed_at_the_second_look_and_held_ones_stay(pool: Pool) -> None:
    """As when a claim was committed and its answer lost."""
    bot = await make_bot(pool)
    forgotten, held = [await make_item(pool, bot, seed) for seed in range(2)]
    async with ProcessLease.open(pool) as lease:
        await claim(pool, bot, lease.id)
        lease.media.add([held])

        assert await lease.free_forgotten() == 0
        assert await lease.free_forgotten() == 1

        assert (await lease_of(pool, forgotten), await lease_of(pool, held)) == (None, lease.id)
        lease.media.discard([held])
        assert [await lease.free_forgotten() for _ in range(3)] == [0, 1, 0]


async def test_rows_of_others_are_not_touched(pool: Pool) -> None:
    bot, other = await make_bot(pool), await make_lease(pool)
    media_id = await make_item(pool, bot)
    await claim(pool, bot, other)
    async with ProcessLease.open(pool) as lease:
        assert [await lease.free_forgotten() for _ in range(3)] == [0, 0, 0]
    assert await lease_of(pool, media_id) == other


def test_a_row_that_a_claim_under_way_may_bring_is_left_alone() -> None:
    held = HeldRows()
    with held.claiming():
        assert held.find_forgotten([7], held_before=held.ids, now=1e12) == []
        assert held.find_forgotten([7], held_before=held.ids, now=1e12 + 1) == []
    assert held.find_forgotten([7], held_before=held.ids, now=1e12 + 2) == [7]


def test_a_row_that_was_in_hand_at_one_of_the_looks_begins_anew() -> None:
    held = HeldRows()
    assert held.find_forgotten([7], held_before=held.ids, now=1.0) == []
    held.add([7])
    assert held.find_forgotten([7], held_before=held.ids, now=2.0) == []
    held.discard([7])
    assert held.find_forgotten([7], held_before=held.ids, now=3.0) == []
    assert held.find_forgotten([7], held_before=frozenset({7}), now=4.0) == []
    assert held.find_forgotten([7], held_before=held.ids, now=5.0) == []
    assert held.find_forgotten([7], held_before=held.ids, now=6.0) == [7]


async def test_what_has_to_be_written_is_tried_until_it_succeeds_and_is_in_hand_until_then(pool: Pool) -> None:
    failures = [ConnectionResetError(), TimeoutError()]
    async with ProcessLease.open(pool) as lease:
        lease.media.add([7])

        async def write() -> None:
            assert 7 in lease.media.ids
            if failures:
                raise failures.pop()

        await lease.write_until_done(write, [7], name="write")
        assert not failures
        assert 7 not in lease.media.ids


async def test_what_cannot_be_written_ends_with_the_lease(pool: Pool) -> None:
    async def write() -> None:
        raise ConnectionResetError

    async with ProcessLease.open(pool) as lease:
        writing = lease.write_until_done(write, [7], name="write")
    assert writing.done()
    assert await pool.fetchval("SELECT count(*) FROM lease") == 0
