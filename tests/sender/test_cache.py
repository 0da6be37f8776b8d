"""File ids in memory: right or not there, and never too many."""

from __future__ import annotations

import asyncio
import gc

from telewarm.model import BotId, FileId, Kind, MediaId, Warm
from telewarm.sender import FileIds


def warm(media_id: int, file_id: str = "A", *, bot_id: int = 1) -> Warm:
    return Warm(media_id=MediaId(media_id), bot_id=BotId(bot_id), file_id=FileId(file_id), kind=Kind.PHOTO)


def test_the_cache_keeps_the_items_used_last_and_no_more() -> None:
    ids = FileIds(most=3)
    for number in (1, 2, 3):
        ids.keep(warm(number))
    assert ids.get(MediaId(1)) is not None
    ids.keep(warm(4))

    assert len(ids) == 3
    assert ids.get(MediaId(2)) is None
    assert ids.get(MediaId(1)) == warm(1)


def test_a_change_drops_just_the_items_it_names() -> None:
    ids = FileIds()
    for number in range(5):
        ids.keep(warm(number))

    ids.changed("1,3,99")

    assert [number for number in range(5) if ids.get(MediaId(number))] == [0, 2, 4]


async def test_who_waits_for_an_item_is_told_of_its_change_alone() -> None:
    ids = FileIds()
    one, other = ids.change_of(MediaId(1)), ids.change_of(MediaId(2))

    ids.changed("1")

    await asyncio.wait_for(one.wait(), 1)
    assert not other.is_set()
    assert not ids.change_of(MediaId(1)).is_set()


async def test_a_lost_connection_forgets_all_ids_and_wakes_all_who_wait() -> None:
    ids = FileIds()
    ids.keep(warm(1))
    waiting = [ids.change_of(MediaId(number)) for number in range(3)]

    ids.lost()

    assert len(ids) == 0
    assert all(event.is_set() for event in waiting)


def test_nothing_is_remembered_of_waits_that_are_over() -> None:
    """A regression: an event stayed for each item that was ever asked for and never became warm."""
    ids = FileIds()
    for number in range(100):
        ids.change_of(MediaId(number))
    gc.collect()

    assert len(ids._waiting) == 0


def test_when_all_ids_of_a_bot_are_void_just_those_are_dropped() -> None:
    ids = FileIds()
    for number in range(4):
        ids.keep(warm(number, bot_id=1 + number % 2))

    ids.changed("bot 2")

    assert [number for number in range(4) if ids.get(MediaId(number))] == [0, 2]
