"""The hot queries' plans, pinned: their cost must not grow with what lies around."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from telewarm.database import media, migrations
from telewarm.database.connection import Connection, Pool, query
from telewarm.database.media import RewarmScope

FILL = """
INSERT INTO bot (slug, telegram_id, token_sealed, warmup_chats)
SELECT 'bot-' || n, n, '', ARRAY[-1, -100 - n] FROM generate_series(1, 20) AS n;

INSERT INTO blob (sha256, bytes, mime, ext, storage_key)
SELECT lpad(to_hex(n), 64, '0'), 1000, 'image/jpeg', 'jpg', 'key-' || n FROM generate_series(1, 20000) AS n;

INSERT INTO media (bot_id, sha256, kind, state, priority, file_id, sent_kind, next_attempt_at, lease_id)
SELECT 1 + n % 10, lpad(to_hex(n), 64, '0'), 'photo',
       CASE WHEN n % 3 = 0 THEN 'warming' WHEN n % 500 = 1 THEN 'error' ELSE 'ready' END, 100 + n % 7,
       CASE WHEN n % 3 <> 0 THEN 'file-' || n END, 'photo',
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
        await connection.execute(query("merge_count_deltas"))
        for table in ("media", "bot", "blob", "lease", "media_count", "media_count_delta"):
            await connection.execute(f"VACUUM (ANALYZE) {table}")
        await connection.execute(f"SET plan_cache_mode = {request.param}")
        yield connection
        await connection.execute("DEALLOCATE ALL")


async def plan(connection: Connection, sql: str, types: str, values: str) -> str:
    await connection.execute(f"PREPARE pinned ({types}) AS {sql}")
    rows = await connection.fetch(f"EXPLAIN EXECUTE pinned ({values})")
    await connection.execute("DEALLOCATE pinned")
    return "\n".join(row[0] for row in rows)


async def test_the_lookup_of_file_ids_finds_the_items_by_their_ids(full: Connection) -> None:
    shown = await plan(full, media.SELECT_FILE_IDS, "bigint, bigint[]", "1, '{10,20,30}'")

    assert re.search(r"Scan (using|on) media_(pkey|library)", shown), shown
    assert "Seq Scan" not in shown, shown


@pytest.mark.parametrize("sharers", ["{}", "{2,3}"], ids=["alone", "sharing a chat"])
async def test_the_claim_takes_the_first_due_items_from_their_index_in_order(full: Connection, sharers: str) -> None:
    shown = await plan(
        full,
        query("claim_media"),
        "bigint, bigint, uuid, bigint[], bigint[]",
        f"1, 10, {LEASE}, '{sharers}', '{{-1}}'",
    )

    assert re.search(r"Index Scan using media_due on media m", shown), shown
    assert re.search(r"using media_waiting on media later", shown), shown
    assert not re.search(r"Seq Scan on (media|blob)", shown), shown
    assert "Sort" not in shown, shown


async def test_the_promotion_of_waiting_items_reads_their_index(full: Connection) -> None:
    shown = await plan(full, query("release_expired_backoffs"), "bigint", "1")

    assert "media_waiting" in shown, shown
    assert "Seq Scan" not in shown, shown


@pytest.mark.parametrize("only", ["NULL", "'{1,15}'"], ids=["all bots", "some bots"])
async def test_looking_for_bots_with_due_work_asks_the_index_once_a_bot(full: Connection, only: str) -> None:
    shown = await plan(full, query("bots_with_due_work"), "bigint[]", only)

    assert "media_due" in shown, shown
    assert "media_waiting" in shown, shown
    assert "Seq Scan on media" not in shown, shown
    assert "hashed" not in shown, shown


ONE_ROW = {
    "claim_media_item": ("bigint, bigint, uuid", f"30, 1, {LEASE}"),
    "raise_priority": ("bigint, bigint", "30, 0"),
    "drop_file_id": ("bigint, text, bigint", "31, 'file-31', 0"),
    "rewarm": ("bigint[], bigint[]", "'{30,31}', '{0,0}'"),
    "share_media": ("bigint, bigint[], bigint[]", "2, '{30,31}', '{0,0}'"),
    "record_failed": (
        "uuid, bigint[], float8[], boolean[], text[], text[]",
        f"{LEASE}, '{{30}}', '{{1}}', '{{t}}', '{{C}}', '{{m}}'",
    ),
    "record_ready": (
        "bigint[], text[], text[], text[], text[], bigint[], bigint[], uuid, bigint, text[]",
        f"'{{30}}', '{{F}}', '{{U}}', '{{photo}}', '{{upload}}', '{{-1}}', '{{7}}', {LEASE}, 1, '{{n}}'",
    ),
}


async def test_what_is_written_of_items_finds_them_by_their_ids_or_among_those_in_hand(full: Connection) -> None:
    for name, (types, values) in ONE_ROW.items():
        shown = await plan(full, query(name), types, values)

        assert re.search(r"using media_(pkey|library|leased) on media", shown), shown
        assert not re.search(r"Seq Scan on (media|blob)", shown), shown


async def test_adding_finds_the_item_that_is_there_by_the_index_that_makes_it_unique(full: Connection) -> None:
    types = (
        "text, bigint, text, text, integer, integer, float8, text, text, text, text, text, text, bigint, text, text,"
        " bigint, integer, boolean"
    )
    values = "repeat('0', 64), 1, '', '', 1, 1, 1, '', '', '', '', 'k', '', 1, 'photo', 'n', 0, 0, true"

    shown = await plan(full, query("insert_media"), types, values)

    assert "Conflict Arbiter Indexes: media_sha256_kind_bot_id_key" in shown, shown
    assert "Scan" not in shown.replace("CTE Scan", "").replace("Index Scan using blob_tombstone_pkey", ""), shown


@pytest.mark.parametrize(
    ("name", "types", "values"),
    [("media_counts", "bigint", "1"), ("queue_depths", "bigint", "100"), ("queue_head", "bigint", "20")],
)
async def test_counting_reads_what_was_counted_and_not_the_items(
    full: Connection, name: str, types: str, values: str
) -> None:
    shown = await plan(full, query(name), types, values)

    assert "Seq Scan on media " not in f"{shown} ", shown
    assert len(re.findall(r"on media_count\b", shown)) == 1, shown
    if name != "media_counts":
        assert "media_due" in shown, shown
        assert "hashed" not in shown, shown
    assert ("media_waiting" in shown) is (name == "queue_depths"), shown


@pytest.mark.parametrize(("which", "index"), [(RewarmScope.FAILED, "media_failed"), (RewarmScope.ALL, "media_library")])
async def test_warming_a_library_anew_goes_through_it_in_order(
    full: Connection, which: RewarmScope, index: str
) -> None:
    shown = await plan(full, media.SELECT_TO_REWARM[which], "bigint, bigint, bigint", "1, 100, 50")

    assert re.search(rf"Scan (using|on) ({index}|media_pkey)", shown), shown
    assert "Seq Scan on media" not in shown, shown


async def test_voiding_and_mending_read_the_bots_own_items_in_pieces(full: Connection) -> None:
    voiding = await plan(full, query("invalidate_file_ids"), "bigint, bigint, bigint", "1, 100, 50")
    ending = await plan(full, query("end_backoffs"), "bigint, bigint", "1, 50")

    assert "Seq Scan on media" not in voiding + ending
    assert "media_waiting" in ending, ending


async def test_a_sweep_of_leases_reads_only_what_is_in_hand(full: Connection) -> None:
    shown = await plan(full, query("sweep_leases"), "int", "0")

    assert "media_leased" in shown, shown
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
