"""A library page by page: what fits, in order, all of it and once, at a bounded cost."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from telewarm.database import media_search
from telewarm.database.connection import Connection, Pool, query
from telewarm.database.media_search import (
    LAST_SCANNED_QUERIES,
    PAGE_QUERIES,
    SELECT_FAILED,
    SELECT_OF_BLOB,
    SELECT_OF_BOT,
    MediaFilters,
    MediaPage,
)
from telewarm.models import Bot, BotId, Kind, MediaId, MediaState, Sha256
from tests.database.test_plans import plan
from tests.fixtures.rows import blob, make_bot, make_item

START = datetime(2031, 5, 1, tzinfo=UTC)


@pytest.fixture
async def bot(pool: Pool) -> Bot:
    """With six items, an hour apart, of which the fourth is a video in error."""
    bot, other = await make_bot(pool), await make_bot(pool, 1)
    for seed in range(6):
        await make_item(pool, bot, seed, kind=Kind.VIDEO if seed == 3 else Kind.PHOTO)
        await make_item(pool, other, seed)
    await pool.execute("UPDATE media SET state = 'error', last_error_code = 'OBJECT_MISSING' WHERE kind = 'video'")
    await pool.execute(
        "UPDATE media SET created_at = $1::timestamptz + make_interval(hours => split_part(name, '.', 1)::integer)",
        START,
    )
    await pool.execute("UPDATE media SET name = 'Holiday in ÉVORA 100%.jpg' WHERE name IN ('1.jpg', '4.jpg')")
    return bot


async def read(pool: Pool, bot: Bot, filters: MediaFilters, *, limit: int = 2) -> list[int]:
    """All pages: the seeds of the items."""
    seeds, before = list[int](), None
    hashes = {blob(seed).sha256: seed for seed in range(6)}
    while True:
        page = await media_search.page(pool, bot.id, filters, before=before, limit=limit)
        assert len(page.items) <= limit
        seeds += [hashes[item.sha256] for item in page.items]
        if page.next is None:
            return seeds
        before = page.next


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (MediaFilters(), [5, 4, 3, 2, 1, 0]),
        (MediaFilters(kind=Kind.PHOTO), [5, 4, 2, 1, 0]),
        (MediaFilters(state=MediaState.ERROR), [3]),
        (MediaFilters(state=MediaState.READY), []),
        (MediaFilters(state=MediaState.ERROR, kind=Kind.PHOTO), []),
        (MediaFilters(error_code="OBJECT_MISSING"), [3]),
        (MediaFilters(error_code="OBJECT_MISSING", state=MediaState.ERROR), [3]),
        (MediaFilters(sha256=blob(2).sha256), [2]),
        (MediaFilters(sha256=blob(2).sha256, kind=Kind.VIDEO), []),
        (MediaFilters(sha256=Sha256("f" * 64)), []),
        (MediaFilters(since=START + timedelta(hours=2)), [5, 4, 3, 2]),
        (MediaFilters(until=START + timedelta(hours=2)), [1, 0]),
        (MediaFilters(since=START + timedelta(hours=1, seconds=1), until=START + timedelta(hours=4)), [3, 2]),
        (MediaFilters(until=START), []),
        (MediaFilters(since=START + timedelta(days=9)), []),
        (MediaFilters(text="évora"), [4, 1]),
        (MediaFilters(text="0%"), [4, 1]),
        (MediaFilters(text="_"), []),
        (MediaFilters(text="HOLIDAY", kind=Kind.VIDEO), []),
        (MediaFilters(text=".jpg", since=START + timedelta(hours=3)), [5, 4, 3]),
    ],
)
async def test_what_fits_is_found_newest_first_whatever_the_size_of_the_pages(
    pool: Pool, bot: Bot, filters: MediaFilters, found: list[int]
) -> None:
    assert await read(pool, bot, filters) == await read(pool, bot, filters, limit=100) == found


async def test_how_many_fit_is_told_where_it_is_known(pool: Pool, bot: Bot) -> None:
    async def count(filters: MediaFilters) -> int | None:
        return (await media_search.page(pool, bot.id, filters, before=None, limit=1)).count

    assert await count(MediaFilters()) == 6
    assert await count(MediaFilters(kind=Kind.VIDEO, state=MediaState.ERROR)) == 1
    assert await count(MediaFilters(text="x")) is None


async def test_a_search_looks_at_so_many_items_a_page_and_goes_on_from_there(
    pool: Pool, bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_search, "MAX_SCANNED_ITEMS", 2)

    async def page(before: MediaId | None) -> MediaPage:
        return await media_search.page(pool, bot.id, MediaFilters(text="évora"), before=before, limit=10)

    first = await page(None)
    assert (len(first.items), first.next is not None) == (1, True)
    empty = await page(first.next)
    assert (len(empty.items), empty.next is not None) == (0, True)
    assert await read(pool, bot, MediaFilters(text="évora")) == [4, 1]
    assert await read(pool, bot, MediaFilters(error_code="OBJECT_MISSING", state=MediaState.ERROR)) == [3]


@pytest.fixture(params=["force_custom_plan", "force_generic_plan"])
async def large(pool: Pool, request: pytest.FixtureRequest) -> AsyncIterator[Connection]:
    """50,000 items of the first bot, of which few failed, looked at with each way a prepared statement is planned."""
    async with pool.acquire() as connection:
        for number in range(2):
            await make_bot(connection, number)
        await connection.execute(
            "INSERT INTO blob (sha256, bytes, mime, ext, storage_key)"
            " SELECT lpad(to_hex(n), 64, '0'), 1000, 'image/jpeg', 'jpg', 'k' FROM generate_series(1, 50000) AS n;"
            "INSERT INTO media (bot_id, sha256, kind, state, name, created_at)"
            " SELECT min(bot.id), lpad(to_hex(n), 64, '0'), 'photo',"
            " CASE WHEN n % 1000 = 0 THEN 'error' ELSE 'cold' END, 'picture ' || n,"
            " '2031-01-01'::timestamptz + make_interval(secs => n)"
            " FROM bot, generate_series(1, 50000) AS n GROUP BY n ORDER BY n;"
        )
        await connection.execute(query("merge_count_deltas"))
        for table in ("media", "blob"):
            await connection.execute(f"VACUUM (ANALYZE) {table}")
        await connection.execute(f"SET plan_cache_mode = {request.param}")
        yield connection
        await connection.execute("DEALLOCATE ALL")


TYPES = "bigint, bigint, bigint, bigint, text, text, text, text, timestamptz, timestamptz, text, bigint"


@pytest.mark.parametrize(
    ("source", "index", "values"),
    [
        (SELECT_OF_BOT, "media_library", "1, 40000, 0, 1000, NULL, NULL, NULL, NULL, NULL, NULL, 'x', 101"),
        (SELECT_OF_BOT, "media_library", "1, 40000, 0, NULL, 'photo', NULL, NULL, NULL, NULL, NULL, NULL, 101"),
        (SELECT_FAILED, "media_failed", "1, 40000, 0, NULL, NULL, 'error', NULL, NULL, NULL, NULL, NULL, 101"),
        (
            SELECT_OF_BLOB,
            "media_sha256_kind_bot_id_key",
            "1, 40000, 0, NULL, NULL, NULL, NULL, '0', NULL, NULL, NULL, 101",
        ),
    ],
)
async def test_a_page_follows_its_index_and_sorts_nothing_large(
    large: Connection, source: str, index: str, values: str
) -> None:
    shown = await plan(large, PAGE_QUERIES[source], TYPES, values)
    assert index in shown, shown
    assert "Seq Scan" not in shown, shown
    if source is SELECT_OF_BOT:
        assert re.search(rf"Index Scan Backward using {index}", shown), shown
        assert "Sort" not in shown, shown
        assert "Hash" not in shown, shown
    for name in (SELECT_OF_BOT, SELECT_FAILED):
        assert "Seq Scan" not in await plan(
            large, LAST_SCANNED_QUERIES[name], "bigint, bigint, bigint, bigint", "1, 9, 0, 5"
        )


async def test_times_are_found_among_ids_by_halving(large: Connection) -> None:
    start, first = datetime(2031, 1, 1, tzinfo=UTC), await large.fetchval("SELECT min(id) FROM media")
    for seconds, expected in ((0, 1), (1, 1), (2, 2), (777.5, 778), (50_000, 50_000), (60_000, 50_001)):
        found = await large.fetchval(query("first_id_since"), 1, start + timedelta(seconds=seconds))
        assert found == first + expected - 1
    assert await large.fetchval(query("first_id_since"), 2, start) is None
    filters = MediaFilters(since=start + timedelta(seconds=7), until=start + timedelta(seconds=9))
    page = await media_search.page(large, BotId(1), filters, before=None, limit=10)
    assert [item.name for item in page.items] == ["picture 8", "picture 7"]
