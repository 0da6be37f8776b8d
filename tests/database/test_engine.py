"""The engine's log: trimmed, and no sooner than it should be."""

from __future__ import annotations

from telewarm.database import engine
from telewarm.database.connection import Pool
from tests.fixtures.app import Opener, add_bot, add_photos, until

LINES = (
    "INSERT INTO pgqueuer_log (job_id, status, priority, entrypoint, created)"
    " SELECT n, 'successful', 0, 'lane', now() - make_interval(secs => $2) FROM generate_series(1, $1) AS n"
)


async def test_old_lines_of_the_log_go_and_young_ones_stay(pool: Pool) -> None:
    await pool.execute(LINES, 2 * engine.BATCH + 7, engine.KEPT + 1)
    await pool.execute(LINES, 5, engine.KEPT - 5)

    assert await engine.trim_log(pool) == 2 * engine.BATCH + 7
    assert await engine.trim_log(pool) == 0
    assert await pool.fetchval("SELECT count(*) FROM pgqueuer_log") == 5


async def test_a_log_that_grew_for_long_goes_bit_by_bit(pool: Pool) -> None:
    await pool.execute(LINES, 1000, 60)
    batches = engine.MOST * engine.BATCH
    await pool.execute(LINES, batches, 60)

    assert await engine.trim_log(pool, kept=1) == batches
    assert await engine.trim_log(pool, kept=1) == 1000


async def test_a_worker_keeps_the_log_short_and_the_counts_folded(telewarm_with: Opener) -> None:
    telewarm = await telewarm_with(MEDIA_PREWARM_INTERVAL_MS="100")
    await add_photos(telewarm, await add_bot(telewarm), 1)
    await telewarm.pool.execute(LINES, 3, engine.KEPT + 60)

    async def tidy() -> bool:
        old = await telewarm.pool.fetchval("SELECT count(*) FROM pgqueuer_log WHERE created < now() - interval '600 s'")
        return not old and not await telewarm.pool.fetchval("SELECT count(*) FROM media_change")

    await until(telewarm, tidy)


async def test_looking_for_old_lines_reads_the_index_and_no_more(pool: Pool) -> None:
    await pool.execute(LINES, 20_000, 5)
    async with pool.acquire() as connection:
        await connection.execute("ANALYZE pgqueuer_log")
        await connection.execute(f"PREPARE trim (float8, bigint) AS {engine.TRIM}")
        rows = await connection.fetch("EXPLAIN EXECUTE trim (600, 5000)")
        await connection.execute("DEALLOCATE trim")

    shown = "\n".join(row[0] for row in rows)
    assert "Index Scan using pgqueuer_log_created" in shown, shown
    assert "Seq Scan" not in shown, shown


async def churn(pool: Pool, lines: int = 20_000) -> None:
    """Lines that came and went: the indexes keep their pages."""
    await pool.execute(LINES, lines, 60)
    await pool.execute("DELETE FROM pgqueuer_log")
    await pool.execute("VACUUM pgqueuer_log")


async def largest(pool: Pool) -> int:
    sizes = "SELECT max(pg_relation_size(indexrelid)) FROM pg_index WHERE indrelid = 'pgqueuer_log'::regclass"
    return int(await pool.fetchval(sizes))


async def test_bloated_indexes_are_written_anew_one_after_the_other_and_then_no_more(pool: Pool) -> None:
    await churn(pool)
    assert await largest(pool) > engine.ROOM

    written = []
    while names := await engine.compact(pool):
        written += names

    assert len(set(written)) == len(written) >= 2
    assert await largest(pool) <= engine.ROOM


async def test_an_index_that_is_as_large_as_its_rows_need_is_left_alone_though_the_server_does_not_know_them(
    pool: Pool,
) -> None:
    await pool.execute("ALTER TABLE pgqueuer_log SET (autovacuum_enabled = off)")
    await pool.execute(LINES, 20_000, 60)

    assert await largest(pool) > engine.ROOM
    assert await engine.compact(pool) == []


async def test_an_index_whose_table_is_being_written_waits_its_turn_and_nobody_waits_for_it(pool: Pool) -> None:
    await churn(pool)
    async with pool.acquire() as writer:
        writing = writer.transaction()
        await writing.start()
        await writer.execute(LINES, 1, 60)
        assert await engine.compact(pool) == []
        await writing.rollback()

    assert await engine.compact(pool)
