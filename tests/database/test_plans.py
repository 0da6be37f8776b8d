"""The hot queries' plans, pinned: their cost must not grow with what lies around."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from telewarm.database import media, migrations
from telewarm.database.connection import Connection, Pool, query

FILL = """
INSERT INTO bot (slug, telegram_id, token_sealed, warmup_chats)
SELECT 'bot-' || n, n, '', ARRAY[-1, -100 - n] FROM generate_series(1, 20) AS n;

INSERT INTO blob (sha256, bytes, mime, ext, storage_key)
SELECT lpad(to_hex(n), 64, '0'), 1000, 'image/jpeg', 'jpg', 'key-' || n FROM generate_series(1, 20000) AS n;

INSERT INTO media (bot_id, sha256, kind, state, priority, file_id, sent_kind, next_attempt_at, lease_id)
SELECT 1 + n % 10, lpad(to_hex(n), 64, '0'), 'photo',
       CASE WHEN n % 3 = 0 THEN 'warming' ELSE 'ready' END, 100 + n % 7, 'file-' || n, 'photo',
       CASE WHEN n % 30 = 0 THEN now() + interval '1 hour' END,
       CASE WHEN n % 300 = 3 THEN gen_random_uuid() END
FROM generate_series(1, 20000) AS n;
"""
LEASE = "'00000000-0000-0000-0000-000000000001'"


@pytest.fixture(params=["force_custom_plan", "force_generic_plan"])
async def full(pool: Pool, request: pytest.FixtureRequest) -> AsyncIterator[Connection]:
    """A library of 20,000 items, looked at with each way Postgres may plan a prepared statement."""
    async with pool.acquire() as connection:
        await connection.execute(FILL)
        await connection.execute("VACUUM (ANALYZE) media")
        await connection.execute("VACUUM (ANALYZE) bot")
        await connection.execute("VACUUM (ANALYZE) blob")
        await connection.execute(f"SET plan_cache_mode = {request.param}")
        yield connection
        await connection.execute("DEALLOCATE ALL")


async def plan(connection: Connection, sql: str, types: str, values: str) -> str:
    await connection.execute(f"PREPARE pinned ({types}) AS {sql}")
    rows = await connection.fetch(f"EXPLAIN EXECUTE pinned ({values})")
    return "\n".join(row[0] for row in rows)


async def test_the_lookup_of_ready_media_is_answered_by_the_index_alone(full: Connection) -> None:
    shown = await plan(full, media.WARM, "bigint, bigint[]", "1, '{10,20,30}'")

    assert re.search(r"Index Only Scan using media_warm", shown), shown
    assert "Seq Scan" not in shown, shown


@pytest.mark.parametrize("sharers", ["{}", "{2,3}"], ids=["alone", "sharing a chat"])
async def test_the_claim_takes_the_first_due_items_from_their_index_in_order(full: Connection, sharers: str) -> None:
    shown = await plan(
        full,
        query("claim"),
        "bigint, bigint, uuid, bigint[], bigint[]",
        f"1, 10, {LEASE}, '{sharers}', '{{-1}}'",
    )

    assert re.search(r"Index Scan using media_due on media m", shown), shown
    assert not re.search(r"Seq Scan on (media|blob)", shown), shown
    assert "Sort" not in shown, shown


async def test_the_promotion_of_waiting_items_reads_their_index(full: Connection) -> None:
    shown = await plan(full, query("promote"), "bigint", "1")

    assert "media_waiting" in shown, shown
    assert "Seq Scan" not in shown, shown


@pytest.mark.parametrize("only", ["NULL", "'{1,15}'"], ids=["all bots", "some bots"])
async def test_looking_for_bots_with_due_work_asks_the_index_once_a_bot(full: Connection, only: str) -> None:
    shown = await plan(full, query("bots_with_due_work"), "bigint[]", only)

    assert "media_due" in shown, shown
    assert "media_waiting" in shown, shown
    assert "Seq Scan on media" not in shown, shown
    assert "hashed" not in shown, shown


async def test_a_sweep_of_leases_reads_only_what_is_in_hand(full: Connection) -> None:
    shown = await plan(full, query("sweep_leases"), "int", "0")

    assert "media_in_hand" in shown, shown
    assert "Seq Scan on media" not in shown, shown


def test_no_migration_creates_an_index_concurrently_inside_its_transaction() -> None:
    """A defect of the Node system: CREATE INDEX CONCURRENTLY cannot run in a transaction."""
    folder = Path(migrations.__file__).parent / "versions"
    scripts = {path.name: path.read_text() for path in folder.iterdir() if path.suffix in {".sql", ".py"}}

    assert any(name.endswith(".sql") for name in scripts)
    for name, script in scripts.items():
        assert not re.search(r"\bCONCURRENTLY\b|\b(COMMIT|BEGIN)\s*;", script, re.IGNORECASE), name


async def test_every_migration_runs_as_one_transaction(pool: Pool) -> None:
    folder = Path(migrations.__file__).parent / "versions"
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("CREATE SCHEMA again; SET LOCAL search_path = again")
        for script in sorted(folder.glob("*.sql")):
            await connection.execute(script.read_text())
        await transaction.rollback()
    with pytest.raises(asyncpg.UndefinedTableError):
        await pool.execute("SELECT FROM again.media")
