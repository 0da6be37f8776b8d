"""Upkeep: a step that fails is told with its cause and stops no other; it also runs where there is no worker."""

from __future__ import annotations

import asyncpg
import pytest
from structlog.testing import capture_logs

from telewarm import clock
from telewarm.database.connection import Pool
from telewarm.worker import maintenance
from telewarm.worker.maintenance import STEPS, maintain, run_periodically
from tests.fixtures.app import LOOK_AGAIN, Opener, add_bot, add_photos, until


async def test_every_step_runs_although_each_other_one_fails(pool: Pool) -> None:
    ran: list[str] = []

    async def work(_: Pool) -> None:
        ran.append("work")

    async def outage(_: Pool) -> None:
        raise ConnectionResetError("gone")

    async def bug(pool: Pool) -> None:
        await pool.fetch("SELECT no_such_column FROM media")

    with capture_logs() as logged:
        await maintain(pool, {"first": work, "outage": outage, "bug": bug, "last": work})

    assert ran == ["work", "work"]
    failed = {line["step"]: line for line in logged}
    assert failed["outage"]["error"] == "ConnectionResetError"
    assert "no_such_column" in str(failed["bug"]["detail"])


async def test_a_table_that_is_broken_stops_no_other_step(pool: Pool) -> None:
    await pool.execute("ALTER TABLE audit RENAME TO audit_elsewhere")
    await pool.execute(
        "INSERT INTO pgqueuer_log (job_id, status, priority, entrypoint, created)"
        " VALUES (1, 'successful', 0, 'lane', now() - interval '1 day')"
    )

    with capture_logs() as logged:
        await maintain(pool)

    assert await pool.fetchval("SELECT count(*) FROM pgqueuer_log") == 0
    assert [(line["event"], line["step"]) for line in logged] == [("maintenance_step_failed", "trim_audit_log")]
    assert list(STEPS).index("trim_audit_log") < list(STEPS).index("trim_queue_log")


async def test_a_process_without_a_worker_does_the_upkeep_too(
    telewarm_with: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "MAINTENANCE_INTERVAL_SECONDS", LOOK_AGAIN)
    telewarm = await telewarm_with(worker=False)
    await add_photos(telewarm, await add_bot(telewarm), 1)

    async def folded() -> bool:
        return not await telewarm.pool.fetchval("SELECT count(*) FROM media_count_delta")

    await until(telewarm, folded)


async def test_the_upkeep_goes_on_after_a_round_that_failed(
    pool: Pool, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "MAINTENANCE_INTERVAL_SECONDS", LOOK_AGAIN)
    breaker = await asyncpg.connect(database_url)
    async with run_periodically(pool):
        await breaker.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await breaker.execute(
            "INSERT INTO pgqueuer_log (job_id, status, priority, entrypoint, created)"
            " VALUES (1, 'successful', 0, 'lane', now() - interval '1 day')"
        )
        while await breaker.fetchval("SELECT count(*) FROM pgqueuer_log"):
            await clock.sleep(LOOK_AGAIN)
    await breaker.close()
