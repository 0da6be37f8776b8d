"""File ids in memory: right or not there, and never too many."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc

import pytest

from telewarm.database import media, warmups
from telewarm.database.connection import Pool
from telewarm.database.notifications import subscribe
from telewarm.models import BotId, CachedFileId, FileId, Kind, MediaId
from telewarm.sending.file_id_cache import CHANNEL, MAX_IDS, MAX_REMOVED_REMEMBERED, FileIdCache, tag_of
from tests.fixtures.rows import make_bot, make_item, uploaded


def warm(media_id: int, file_id: str = "A", *, bot_id: int = 1) -> CachedFileId:
    return CachedFileId(media_id=MediaId(media_id), bot_id=BotId(bot_id), file_id=FileId(file_id), kind=Kind.PHOTO)


def test_the_cache_keeps_the_items_used_last_and_no_more() -> None:
    ids = FileIdCache(max_ids=3)
    for number in (1, 2, 3):
        ids.put(warm(number))
    assert ids.get(MediaId(1)) is not None
    ids.put(warm(4))

    assert len(ids) == 3
    assert ids.get(MediaId(2)) is None
    assert ids.get(MediaId(1)) == warm(1)


def test_a_change_drops_just_the_items_it_names() -> None:
    ids = FileIdCache()
    for number in range(5):
        ids.put(warm(number))

    ids.on_notification("1:-,3:00000000,99:-")

    assert [number for number in range(5) if ids.get(MediaId(number))] == [0, 2, 4]


async def test_who_waits_for_an_item_is_told_of_its_change_alone() -> None:
    ids = FileIdCache()
    one, other = ids.change_event(MediaId(1)), ids.change_event(MediaId(2))

    ids.on_notification("1:-")

    await asyncio.wait_for(one.wait(), 1)
    assert not other.is_set()
    assert not ids.change_event(MediaId(1)).is_set()


async def test_a_lost_connection_forgets_all_ids_and_wakes_all_who_wait() -> None:
    ids = FileIdCache()
    ids.put(warm(1))
    waiting = [ids.change_event(MediaId(number)) for number in range(3)]

    ids.clear()

    assert len(ids) == 0
    assert all(event.is_set() for event in waiting)


def test_nothing_is_remembered_of_waits_that_are_over() -> None:
    """A regression: an event stayed for each item that was ever asked for and never became warm."""
    ids = FileIdCache()
    for number in range(100):
        ids.change_event(MediaId(number))
    gc.collect()

    assert len(ids._waiters) == 0


def test_when_all_ids_of_a_bot_are_void_just_those_are_dropped() -> None:
    ids = FileIdCache()
    for number in range(4):
        ids.put(warm(number, bot_id=1 + number % 2))

    ids.on_notification("bot 2")

    assert [number for number in range(4) if ids.get(MediaId(number))] == [0, 2]


def test_an_id_that_is_the_new_one_already_stays_and_who_waits_is_told() -> None:
    ids = FileIdCache()
    ids.put(warm(1, "A"))
    ids.put(warm(2, "B"))
    waiting = ids.change_event(MediaId(1))

    ids.on_notification(f"1:{tag_of(FileId('A'))},2:{tag_of(FileId('C'))}")

    assert ids.get(MediaId(1)) == warm(1, "A")
    assert ids.get(MediaId(2)) is None
    assert waiting.is_set()


def test_a_change_told_without_a_tag_drops_the_item() -> None:
    """As a process of an older version tells it."""
    ids = FileIdCache()
    ids.put(warm(1))

    ids.on_notification("1")

    assert len(ids) == 0


async def test_what_the_database_tells_keeps_the_id_just_got_and_drops_all_others(pool: Pool) -> None:
    bot = await make_bot(pool)
    items = [await make_item(pool, bot, seed) for seed in range(500)]
    own, other = FileIdCache(), FileIdCache()
    heard = asyncio.Event()

    def hear(payload: str) -> None:
        own.on_notification(payload)
        other.on_notification(payload)
        if payload == f"{items[0]}:-":
            heard.set()

    for media_id in items:
        own.put(warm(media_id, f"new {media_id}", bot_id=bot.id))
        other.put(warm(media_id, f"old {media_id}", bot_id=bot.id))
    async with subscribe(pool, {CHANNEL: hear}, on_lost=lambda: None):
        await warmups.record_ready(pool, [uploaded(media_id, f"new {media_id}") for media_id in items])
        await media.drop_file_id(pool, media_id=items[0], file_id=FileId(f"new {items[0]}"))
        await asyncio.wait_for(heard.wait(), 10)

    assert len(other) == 0
    assert [media_id for media_id in items if own.get(media_id) is None] == [items[0]]


@pytest.mark.slow
def test_a_full_cache_grows_no_more() -> None:
    """Memory is flat: 100,000 further ids add nothing."""
    ids = FileIdCache()
    tracemalloc.start()
    try:
        for number in range(MAX_IDS):
            ids.put(warm(number, f"AgACAgIAAxkDAAIBcmX{number:060d}"))
        full = tracemalloc.get_traced_memory()[0]
        for number in range(MAX_IDS, MAX_IDS + 100_000):
            ids.put(warm(number, f"AgACAgIAAxkDAAIBcmX{number:060d}"))
        fuller = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert len(ids) == MAX_IDS
    assert fuller - full < 1_000_000
    assert full / MAX_IDS < 600


def test_an_item_that_was_deleted_does_not_come_back_by_a_reader_who_was_late() -> None:
    ids = FileIdCache()
    ids.put(warm(1))
    ids.put(warm(2))

    ids.on_notification("1:!,3:-")
    ids.put(warm(1))
    ids.put(warm(3))

    assert [number for number in range(5) if ids.get(MediaId(number))] == [2, 3]


def test_what_was_deleted_is_not_remembered_for_ever() -> None:
    ids = FileIdCache()
    for start in range(0, 3 * MAX_REMOVED_REMEMBERED, 100):
        ids.on_notification(",".join(f"{number}:!" for number in range(start, start + 100)))
    assert len(ids._removed) == MAX_REMOVED_REMEMBERED
