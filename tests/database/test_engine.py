"""The engine's log: trimmed, and no sooner than it should be."""

from __future__ import annotations

import asyncio

from pgqueuer import AsyncpgPoolDriver, Queries
from pgqueuer.models import AnyEvent
from pgqueuer.types import QueueEntrypoint

from telewarm.database import pgqueuer_maintenance, warmups
from telewarm.database.connection import Pool
from telewarm.database.notifications import subscribe
from telewarm.runtime import Telewarm
from tests.fixtures.app import Opener, add_bot, add_photos, until

LINES = (
    "INSERT INTO pgqueuer_log (job_id, status, priority, entrypoint, created)"
    " SELECT n, 'successful', 0, 'lane', now() - make_interval(secs => $2) FROM generate_series(1, $1) AS n"
)


async def test_old_lines_of_the_log_go_and_young_ones_stay(pool: Pool) -> None:
    await pool.execute(
        LINES, 2 * pgqueuer_maintenance.ROWS_PER_DELETE + 7, pgqueuer_maintenance.LOG_RETENTION_SECONDS + 1
    )
    await pool.execute(LINES, 5, pgqueuer_maintenance.LOG_RETENTION_SECONDS - 5)

    assert await pgqueuer_maintenance.trim_log(pool) == 2 * pgqueuer_maintenance.ROWS_PER_DELETE + 7
    assert await pgqueuer_maintenance.trim_log(pool) == 0
    assert await pool.fetchval("SELECT count(*) FROM pgqueuer_log") == 5


async def test_a_log_that_grew_for_long_goes_bit_by_bit(pool: Pool) -> None:
    await pool.execute(LINES, 1000, 60)
    batches = pgqueuer_maintenance.MAX_DELETES_PER_TRIM * pgqueuer_maintenance.ROWS_PER_DELETE
    await pool.execute(LINES, batches, 60)

    assert await pgqueuer_maintenance.trim_log(pool, max_age_seconds=1) == batches
    assert await pgqueuer_maintenance.trim_log(pool, max_age_seconds=1) == 1000


async def test_a_worker_keeps_the_log_short_and_the_counts_folded(telewarm_with: Opener) -> None:
    telewarm = await telewarm_with(MEDIA_PREWARM_INTERVAL_MS="100")
    await add_photos(telewarm, await add_bot(telewarm), 1)
    await telewarm.pool.execute(LINES, 3, pgqueuer_maintenance.LOG_RETENTION_SECONDS + 60)

    async def tidy() -> bool:
        old = await telewarm.pool.fetchval("SELECT count(*) FROM pgqueuer_log WHERE created < now() - interval '600 s'")
        return not old and not await telewarm.pool.fetchval("SELECT count(*) FROM media_count_delta")

    await until(telewarm, tidy)


async def test_looking_for_old_lines_reads_the_index_and_no_more(pool: Pool) -> None:
    await pool.execute(LINES, 20_000, 5)
    async with pool.acquire() as connection:
        await connection.execute("ANALYZE pgqueuer_log")
        await connection.execute(f"PREPARE trim (float8, bigint) AS {pgqueuer_maintenance.TRIM_SQL}")
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
    assert await largest(pool) > pgqueuer_maintenance.MIN_BLOATED_INDEX_BYTES

    written = []
    while names := await pgqueuer_maintenance.reindex_bloated(pool):
        written += names

    assert len(set(written)) == len(written) >= 2
    assert await largest(pool) <= pgqueuer_maintenance.MIN_BLOATED_INDEX_BYTES


async def test_an_index_that_is_as_large_as_its_rows_need_is_left_alone_though_the_server_does_not_know_them(
    pool: Pool,
) -> None:
    await pool.execute("ALTER TABLE pgqueuer_log SET (autovacuum_enabled = off)")
    await pool.execute(LINES, 20_000, 60)

    assert await largest(pool) > pgqueuer_maintenance.MIN_BLOATED_INDEX_BYTES
    assert await pgqueuer_maintenance.reindex_bloated(pool) == []


async def test_an_index_whose_table_is_being_written_waits_its_turn_and_nobody_waits_for_it(pool: Pool) -> None:
    await churn(pool)
    async with pool.acquire() as writer:
        writing = writer.transaction()
        await writing.start()
        await writer.execute(LINES, 1, 60)
        assert await pgqueuer_maintenance.reindex_bloated(pool) == []
        await writing.rollback()

    assert await pgqueuer_maintenance.reindex_bloated(pool)


async def job(telewarm: Telewarm) -> str:
    """The key of a lane that waits for an hour."""
    await add_photos(telewarm, await add_bot(telewarm), 1)
    await telewarm.pool.execute("UPDATE pgqueuer SET execute_after = now() + interval '1 hour'")
    key: str = await telewarm.pool.fetchval("SELECT dedupe_key FROM pgqueuer")
    return key


async def test_a_job_that_waits_is_brought_forward_and_the_workers_are_told_on_pgqueuers_own_channel(
    idle_telewarm: Telewarm,
) -> None:
    """What we take for granted of PgQueuer's table, its trigger and its query: a contract, for its next release."""
    pool, key = idle_telewarm.pool, await job(idle_telewarm)
    queries = Queries(AsyncpgPoolDriver(pool))
    assert await queries.eligible_queued_work([QueueEntrypoint("lane")]) == 0
    reported, heard = asyncio.Event(), list[str]()

    def hear(payload: str) -> None:
        heard.append(payload)
        reported.set()

    async with subscribe(pool, {str(queries.qbe.settings.channel): hear}, on_lost=reported.set):
        await pgqueuer_maintenance.run_queued_now(pool, [key, "lane:nobody"])
        async with asyncio.timeout(5):
            await reported.wait()
    event = AnyEvent.model_validate_json(heard[0]).root
    assert event.type == "table_changed_event"
    assert await queries.eligible_queued_work([QueueEntrypoint("lane")]) == 1
    assert await pgqueuer_maintenance.running_keys(pool, [key]) == set()


async def test_a_job_that_runs_or_may_run_already_stays_as_it_is(idle_telewarm: Telewarm) -> None:
    pool, key = idle_telewarm.pool, await job(idle_telewarm)
    row = "SELECT status, execute_after, updated FROM pgqueuer"
    for change in ("status = 'picked'", "status = 'queued', execute_after = now() - interval '1 second'"):
        await pool.execute(f"UPDATE pgqueuer SET {change}")  # noqa: S608 - of this test
        before = await pool.fetchrow(row)
        await pgqueuer_maintenance.run_queued_now(pool, [key])
        assert await pool.fetchrow(row) == before
        assert await pgqueuer_maintenance.running_keys(pool, [key]) == ({key} if "picked" in change else set())


async def test_a_lane_that_was_put_back_is_brought_forward_when_more_has_become_due_by_the_clock(
    idle_telewarm: Telewarm,
) -> None:
    pool = idle_telewarm.pool
    await job(idle_telewarm)
    bot_id = await pool.fetchval("SELECT id FROM bot")
    waits = "SELECT execute_after > now() FROM pgqueuer"

    await warmups.run_due_lanes_now(pool, [bot_id], min_wait_seconds=30.0)
    assert await pool.fetchval(waits) is True
    await pool.execute("UPDATE pgqueuer SET updated = now() - interval '5 s'")
    await pool.execute("UPDATE media SET next_attempt_at = now() - interval '1 s'")
    await warmups.run_due_lanes_now(pool, [bot_id], min_wait_seconds=30.0)
    assert await pool.fetchval(waits) is False

    await pool.execute("UPDATE pgqueuer SET execute_after = now() + interval '1 hour', updated = now()")
    await warmups.run_due_lanes_now(pool, [bot_id], min_wait_seconds=30.0)  # it was due before the lane was put back
    assert await pool.fetchval(waits) is True
    await pool.execute("UPDATE pgqueuer SET updated = now() - interval '31 s'")
    await warmups.run_due_lanes_now(pool, [bot_id], min_wait_seconds=30.0)
    assert await pool.fetchval(waits) is False
