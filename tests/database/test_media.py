"""A bot's library: what adding, finding and forgetting do to a media item."""

from __future__ import annotations

import asyncio

import pytest

from telewarm.database import media, warmups
from telewarm.database.connection import Pool
from telewarm.database.media import InsertResult
from telewarm.errors import NotFound
from telewarm.models import Bot, FileId, Kind, MediaId, MediaState
from tests.fixtures.rows import blob, claim, lease_of, make_bot, make_item, make_lease, uploaded


@pytest.fixture
async def bot(pool: Pool) -> Bot:
    return await make_bot(pool)


async def add(pool: Pool, bot: Bot, seed: int = 0, *, kind: Kind = Kind.PHOTO) -> InsertResult | None:
    return await media.insert(pool, bot_id=bot.id, blob=blob(seed), kind=kind, name="n", priority_offset=0)


async def test_a_new_item_is_warming_and_the_same_again_is_the_one_that_is_there(pool: Pool, bot: Bot) -> None:
    inserted = await add(pool, bot)
    assert inserted is not None
    item, created, orphaned = inserted

    assert (created, orphaned, item.state) == (True, False, MediaState.WARMING)
    assert await add(pool, bot) is None
    assert await media.find(pool, bot_id=bot.id, sha256=blob(0).sha256, kind=Kind.PHOTO) == item


async def test_a_ready_media_item_is_not_made_cold_by_uploading_it_again(pool: Pool, bot: Bot) -> None:
    """A defect of the Node system."""
    media_id = await make_item(pool, bot)
    await warmups.record_ready(pool, [uploaded(media_id, "A")])

    assert await add(pool, bot) is None

    item = await media.get(pool, media_id)
    assert (item.state, item.file_id) == (MediaState.READY, "A")


async def test_adding_an_item_that_is_in_hand_leaves_it_there(pool: Pool, bot: Bot) -> None:
    media_id, lease = await make_item(pool, bot), await make_lease(pool)
    await claim(pool, bot, lease)

    assert await add(pool, bot) is None
    assert await lease_of(pool, media_id) == lease


@pytest.mark.parametrize("state", [MediaState.COLD, MediaState.ERROR])
async def test_an_item_that_was_cold_or_in_error_is_asked_for_again(pool: Pool, bot: Bot, state: MediaState) -> None:
    media_id = await make_item(pool, bot)
    await pool.execute("UPDATE media SET state = $1, attempts = 8, last_error = 'x', last_error_code = 'X'", state)

    inserted = await add(pool, bot)
    item = await media.get(pool, media_id)

    assert inserted == (item, False, False)
    assert (item.state, item.attempts, item.last_error, item.last_error_code) == (MediaState.WARMING, 0, None, None)
    assert [one.media_id for one in await claim(pool, bot, await make_lease(pool))] == [media_id]


async def test_the_same_bytes_as_photo_and_as_document_are_two_items_of_one_blob(pool: Pool, bot: Bot) -> None:
    photo, document = await make_item(pool, bot), await make_item(pool, bot, kind=Kind.DOCUMENT)

    assert photo != document
    assert await pool.fetchval("SELECT count(*) FROM blob") == 1


async def test_two_bots_with_the_same_bytes_share_the_blob(pool: Pool, bot: Bot) -> None:
    other = await make_bot(pool, 1)

    assert await make_item(pool, bot) != await make_item(pool, other)
    assert await pool.fetchval("SELECT count(*) FROM blob") == 1


async def test_adding_the_same_at_the_same_time_makes_one_item(pool: Pool, bot: Bot) -> None:
    outcomes = await asyncio.gather(*(add(pool, bot) for _ in range(8)))

    assert sum(outcome is not None and outcome.created for outcome in outcomes) == 1
    assert await pool.fetchval("SELECT count(*) FROM media") == 1


async def test_forget_makes_the_item_due_again(pool: Pool, bot: Bot) -> None:
    media_id = await make_item(pool, bot)
    await warmups.record_ready(pool, [uploaded(media_id, "DEAD")])

    assert await media.drop_file_id(pool, media_id=media_id, file_id=FileId("DEAD"))

    item = await media.get(pool, media_id)
    assert (item.state, item.file_id, item.sent_kind) == (MediaState.WARMING, None, None)
    assert [one.media_id for one in await claim(pool, bot, await make_lease(pool))] == [media_id]


async def test_forget_spares_an_id_that_has_been_replaced_already(pool: Pool, bot: Bot) -> None:
    media_id = await make_item(pool, bot)
    await warmups.record_ready(pool, [uploaded(media_id, "DEAD")])
    await media.drop_file_id(pool, media_id=media_id, file_id=FileId("DEAD"))
    await warmups.record_ready(pool, [uploaded(media_id, "FRESH")])

    assert not await media.drop_file_id(pool, media_id=media_id, file_id=FileId("DEAD"))
    assert (await media.get(pool, media_id)).file_id == "FRESH"


async def test_only_ready_items_of_the_bot_itself_are_warm(pool: Pool, bot: Bot) -> None:
    other = await make_bot(pool, 1)
    ready, cold, theirs = await make_item(pool, bot, 0), await make_item(pool, bot, 1), await make_item(pool, other, 0)
    await warmups.record_ready(pool, [uploaded(ready, "A"), uploaded(theirs, "B")])

    warm = await media.file_ids(pool, bot_id=bot.id, media_ids=[ready, cold, theirs])

    assert [(one.media_id, one.bot_id, one.file_id, one.kind) for one in warm] == [(ready, bot.id, "A", Kind.PHOTO)]


async def test_a_page_is_newest_first_filtered_and_counts_all(pool: Pool, bot: Bot) -> None:
    items = [await make_item(pool, bot, seed, kind=Kind.VIDEO if seed == 2 else Kind.PHOTO) for seed in range(5)]
    await warmups.record_ready(pool, [uploaded(items[0], "A")])

    page, count = await media.page(pool, bot_id=bot.id, kind=Kind.PHOTO, state=None, limit=2, offset=1)
    ready, ready_count = await media.page(pool, bot_id=bot.id, kind=None, state=MediaState.READY, limit=9, offset=0)

    assert ([item.id for item in page], count) == ([items[3], items[1]], 4)
    assert ([item.id for item in ready], ready_count) == ([items[0]], 1)


async def test_counts_are_by_state(pool: Pool, bot: Bot) -> None:
    items = [await make_item(pool, bot, seed) for seed in range(3)]
    await warmups.record_ready(pool, [uploaded(items[0], "A")])

    assert await media.count_by_state_of_bot(pool, bot.id) == {MediaState.READY: 1, MediaState.WARMING: 2}


async def test_an_item_that_is_not_there_is_not_found(pool: Pool) -> None:
    with pytest.raises(NotFound, match="there is no media item 1"):
        await media.get(pool, MediaId(1))
