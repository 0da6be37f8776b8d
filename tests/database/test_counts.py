"""How many items there are, without counting them: exact at every moment, folded or not."""

from __future__ import annotations

import asyncio

from telewarm.database import media, warmups
from telewarm.database.connection import Executor, Pool
from telewarm.database.warmups import QueueDepth
from telewarm.models import Bot, FileId, Kind, MediaId, MediaState
from tests.fixtures.rows import claim, make_bot, make_item, make_lease, uploaded

TRUTH = "SELECT state, count(*) AS items FROM media WHERE bot_id = $1 GROUP BY state"


async def truth(db: Executor, bot: Bot) -> dict[MediaState, int]:
    return {MediaState(row["state"]): row["items"] for row in await db.fetch(TRUTH, bot.id)}


async def test_counts_follow_an_item_through_its_states_and_out_of_the_library(pool: Pool) -> None:
    bot = await make_bot(pool)
    media_id = await make_item(pool, bot)
    steps = [
        warmups.record_ready(pool, [uploaded(media_id, "A")]),
        media.drop_file_id(pool, media_id=media_id, file_id=FileId("A")),
        pool.execute("UPDATE media SET kind = 'document', state = 'error'"),
        pool.execute("DELETE FROM media"),
    ]
    for step, expected in zip(steps, [MediaState.READY, MediaState.WARMING, MediaState.ERROR, None], strict=True):
        await step
        assert await media.count_by_state_of_bot(pool, bot.id) == ({expected: 1} if expected else {})
        await warmups.merge_count_deltas(pool)
        assert await media.count_by_state_of_bot(pool, bot.id) == ({expected: 1} if expected else {})


async def test_folding_leaves_no_changes_and_the_same_counts(pool: Pool) -> None:
    bots = [await make_bot(pool, number) for number in range(2)]
    for bot in bots:
        for seed in range(5):
            await make_item(pool, bot, seed, kind=Kind.PHOTO if seed % 2 else Kind.VIDEO)
    before = [await media.count_by_state_of_bot(pool, bot.id) for bot in bots]

    await warmups.merge_count_deltas(pool)

    assert [await media.count_by_state_of_bot(pool, bot.id) for bot in bots] == before == [{MediaState.WARMING: 5}] * 2
    assert await pool.fetchval("SELECT count(*) FROM media_count_delta") == 0
    _, count = await media.page(pool, bot_id=bots[0].id, kind=Kind.PHOTO, state=MediaState.WARMING, limit=1, offset=0)
    assert count == 2


async def test_only_one_process_folds_at_a_time_and_nothing_is_lost(pool: Pool) -> None:
    bot = await make_bot(pool)
    await make_item(pool, bot)
    async with pool.acquire() as other, other.transaction():
        await warmups.merge_count_deltas(other)
        await make_item(pool, bot, 1)

        await warmups.merge_count_deltas(pool)

        assert await media.count_by_state_of_bot(pool, bot.id) == {MediaState.WARMING: 2}
    assert await media.count_by_state_of_bot(pool, bot.id) == {MediaState.WARMING: 2}


async def come(pool: Pool, bot: Bot, seeds: range) -> None:
    for seed in seeds:
        await make_item(pool, bot, seed)


async def work(pool: Pool, bot: Bot, rounds: int) -> None:
    lease = await make_lease(pool)
    for number in range(rounds):
        claimed = await claim(pool, bot, lease, limit=3)
        ready = [uploaded(item.media_id, f"F{number}-{item.media_id}") for item in claimed]
        await warmups.record_ready(pool, ready, lease_id=lease)
        for one in ready[:1]:
            await media.drop_file_id(pool, media_id=one.media_id, file_id=one.file_id)


async def go(pool: Pool, rounds: int) -> None:
    for _ in range(rounds):
        await pool.execute("DELETE FROM media WHERE id IN (SELECT id FROM media ORDER BY random() LIMIT 1)")


async def fold(pool: Pool, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await warmups.merge_count_deltas(pool)


async def look(pool: Pool, bot: Bot, stop: asyncio.Event) -> int:
    """Compare the rows and the counts, both as they were at one moment, over and over; how often."""
    looks = 0
    while not stop.is_set():
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            assert await media.count_by_state_of_bot(connection, bot.id) == await truth(connection, bot)
        looks += 1
    return looks


async def test_counts_are_exact_at_every_moment_while_items_come_go_and_change_and_two_processes_fold(
    pool: Pool,
) -> None:
    bot, stop = await make_bot(pool), asyncio.Event()
    looking = asyncio.create_task(look(pool, bot, stop))
    folding = [asyncio.create_task(fold(pool, stop)) for _ in range(2)]

    await asyncio.gather(
        come(pool, bot, range(30)), come(pool, bot, range(1000, 1030)), work(pool, bot, 25), go(pool, 15)
    )
    stop.set()
    await asyncio.gather(*folding)

    assert await looking
    assert await media.count_by_state_of_bot(pool, bot.id) == await truth(pool, bot)


async def test_the_depth_of_a_queue_is_what_is_warming_what_waits_and_the_age_of_what_goes_next(pool: Pool) -> None:
    busy, waiting, _idle = [await make_bot(pool, number) for number in range(3)]
    ids = [await make_item(pool, busy, seed) for seed in range(4)]
    await claim(pool, busy, await make_lease(pool), limit=1)
    await warmups.record_ready(pool, [uploaded(ids[3], "A")])
    await make_item(pool, waiting)
    await pool.execute("UPDATE media SET next_attempt_at = now() + interval '1 hour' WHERE bot_id = $1", waiting.id)
    await pool.execute("UPDATE media SET queued_at = now() - interval '90 seconds' WHERE id = $1", ids[1])

    first, second = await warmups.queue_depths(pool)

    assert first.head_age is not None
    assert (first.slug, first.due, first.waiting, 90 <= first.head_age < 100) == ("bot-0", 3, 0, True)
    assert second == QueueDepth(slug="bot-1", due=1, waiting=1, head_age=None)


async def test_many_that_wait_are_counted_to_a_hundred(pool: Pool) -> None:
    bot = await make_bot(pool)
    for seed in range(105):
        await make_item(pool, bot, seed)
    await pool.execute("UPDATE media SET next_attempt_at = now() + interval '1 hour'")

    assert await warmups.queue_depths(pool) == [QueueDepth(slug="bot-0", due=105, waiting=100, head_age=None)]


async def test_an_item_that_is_not_there_changes_no_count(pool: Pool) -> None:
    bot = await make_bot(pool)

    assert not await media.drop_file_id(pool, media_id=MediaId(1), file_id=FileId("A"))
    assert await media.count_by_state_of_bot(pool, bot.id) == {}
