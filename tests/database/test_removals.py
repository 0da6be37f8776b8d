"""Media items that go: together or not at all, told to every cache, and not back by a late writer."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from telewarm.database import blob_tombstones, broadcasts, deletions, media, warmups
from telewarm.database.broadcasts import DraftOptions
from telewarm.database.connection import Pool
from telewarm.database.deletions import DeletionResult
from telewarm.database.notifications import subscribe
from telewarm.errors import Conflict, NotFound
from telewarm.models import Bot, BroadcastState, MediaId, MessageSet, Part
from tests.fixtures.postgres import lock_waiters
from tests.fixtures.rows import claim, make_bot, make_item, make_lease, uploaded


@pytest.fixture
async def bot(pool: Pool) -> Bot:
    return await make_bot(pool)


async def remove(pool: Pool, bot: Bot, *media_ids: MediaId) -> DeletionResult:
    async with pool.acquire() as connection, connection.transaction():
        return await deletions.delete_media(connection, bot.id, media_ids)


async def test_items_go_and_caches_hear_of_each(pool: Pool, bot: Bot) -> None:
    other = await make_bot(pool, 1)
    first, second, third = [await make_item(pool, bot, seed) for seed in range(3)]
    theirs = await make_item(pool, other, 0)
    heard: list[str] = []
    async with subscribe(pool, {"telewarm_media": heard.append}, on_lost=lambda: None):
        removed = await remove(pool, bot, first, second, theirs, MediaId(4711))
        while not heard:
            await pool.fetchval("SELECT 1")

    assert (removed.media_ids, removed.blobs, removed.bytes) == ([first, second], 1, 1000)
    assert sorted(heard[0].split(",")) == [f"{first}:!", f"{second}:!"]
    assert [row["id"] for row in await pool.fetch("SELECT id FROM media ORDER BY id")] == [third, theirs]
    assert await media.count_by_state_of_bot(pool, bot.id) == {"warming": 1}


async def test_an_item_that_is_being_warmed_does_not_come_back(pool: Pool, bot: Bot) -> None:
    media_id, lease = await make_item(pool, bot), await make_lease(pool)
    await claim(pool, bot, lease)

    await remove(pool, bot, media_id)

    assert await warmups.record_ready(pool, [uploaded(media_id, "LATE")], lease_id=lease) == []
    await warmups.release(pool, lease, [media_id])
    with pytest.raises(NotFound):
        await media.get(pool, media_id)
    again = await make_item(pool, bot)
    assert again != media_id


@pytest.mark.parametrize("state", BroadcastState)
async def test_an_item_that_a_broadcast_needs_stays_with_all_that_was_to_go(
    pool: Pool, bot: Bot, state: BroadcastState
) -> None:
    needed, free = [await make_item(pool, bot, seed) for seed in range(2)]
    made = await broadcasts.insert(
        pool, bot_id=bot.id, message=MessageSet(media=[Part(media_id=needed)]), options=DraftOptions(name="May sale")
    )
    await pool.execute("UPDATE broadcast SET state = $1", state)

    if state in {BroadcastState.DRAFT, BroadcastState.SCHEDULED, BroadcastState.RUNNING, BroadcastState.PAUSED}:
        with pytest.raises(Conflict, match=rf"nothing was deleted.* broadcast {made.id} \({state}, 'May sale'\)"):
            await remove(pool, bot, free, needed)
        assert await pool.fetchval("SELECT count(*) FROM media") == 2
    else:
        assert (await remove(pool, bot, free, needed)).media_ids == [needed, free]


async def test_a_broadcast_that_is_made_at_the_same_time_and_a_deletion_exclude_each_other(
    pool: Pool, bot: Bot
) -> None:
    media_id = await make_item(pool, bot)
    async with pool.acquire() as making, making.transaction():
        await deletions.lock_media(making, bot.id, [media_id])
        deleting = asyncio.create_task(remove(pool, bot, media_id))
        while not await lock_waiters(pool):
            pass
        await broadcasts.insert(making, bot_id=bot.id, message=MessageSet(media=[Part(media_id=media_id)]))
    with pytest.raises(Conflict):
        await deleting

    await pool.execute("DELETE FROM broadcast")
    await remove(pool, bot, media_id)
    async with pool.acquire() as making, making.transaction():
        with pytest.raises(NotFound, match="deleted just now"):
            await deletions.lock_media(making, bot.id, [media_id])


async def test_ten_thousand_items_go_in_a_handful_of_statements(pool: Pool, bot: Bot) -> None:
    await pool.execute(
        "INSERT INTO blob (sha256, bytes, mime, ext, storage_key)"
        " SELECT lpad(to_hex(n), 64, '0'), 1000, 'image/jpeg', 'jpg', 'k' FROM generate_series(1, 10000) AS n"
    )
    await pool.execute(
        "INSERT INTO media (bot_id, sha256, kind, state) SELECT $1, sha256, 'photo', 'error' FROM blob", bot.id
    )
    ids = [MediaId(row["id"]) for row in await pool.fetch("SELECT id FROM media")]
    statements: list[str] = []

    def count(record: asyncpg.connection.LoggedQuery) -> None:
        statements.append(record.query)

    async with pool.acquire() as connection:
        connection.add_query_logger(count)
        removed = await deletions.delete_media(connection, bot.id, ids)
        connection.remove_query_logger(count)

    assert (len(removed.media_ids), removed.blobs) == (10_000, 10_000)
    assert len(statements) == 3, statements
    assert await pool.fetchval("SELECT count(*) FROM blob_tombstone") == 10_000


async def test_a_blob_that_somebody_has_is_no_orphan_in_the_end(pool: Pool, bot: Bot) -> None:
    other = await make_bot(pool, 1)
    shared, own = await make_item(pool, bot, 0), await make_item(pool, bot, 1)
    await make_item(pool, other, 0)
    await remove(pool, bot, shared, own)

    async with pool.acquire() as connection, connection.transaction():
        assert await blob_tombstones.delete_unused_blobs(connection, min_age_seconds=900, limit=10) == 0  # too young
        assert await blob_tombstones.delete_unused_blobs(connection, min_age_seconds=0, limit=10) == 2
        assert len(await blob_tombstones.lock_collectable(connection, min_age_seconds=0, limit=10)) == 1

    assert await pool.fetchval("SELECT count(*) FROM blob") == 1
    assert await pool.fetchval("SELECT count(*) FROM blob_tombstone") == 1


async def test_a_blob_whose_item_is_being_written_is_waited_for_and_stays(pool: Pool, bot: Bot) -> None:
    """The collector looks again once it has the blob's lock: what was uncommitted before is seen then."""
    other = await make_bot(pool, 1)
    await remove(pool, bot, await make_item(pool, bot))

    async def drop() -> int:
        async with pool.acquire() as connection, connection.transaction():
            return await blob_tombstones.delete_unused_blobs(connection, min_age_seconds=0, limit=10)

    async with pool.acquire() as adding, adding.transaction():
        # As `share` does: the tombstone is not touched.
        await adding.execute(
            "INSERT INTO media (bot_id, sha256, kind, state) SELECT $1, sha256, 'photo', 'cold' FROM blob", other.id
        )
        dropping = asyncio.create_task(drop())
        while not await lock_waiters(pool):
            pass
    assert await dropping == 1

    assert await pool.fetchval("SELECT count(*) FROM blob") == 1
    assert await pool.fetchval("SELECT count(*) FROM blob_tombstone") == 0
