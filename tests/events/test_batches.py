"""Events are encoded once, and filtered once for all subscribers with the same filter."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from telewarm.errors import UsageError
from telewarm.events.batches import MAX_BATCH_EVENTS, MAX_CACHED_SLICES, batched
from telewarm.events.filter import EventFilter, wanted_types
from telewarm.models import Event, EventType

AT = datetime(2031, 5, 1, 12, tzinfo=UTC)
ALL = EventFilter()


def event(number: int, bot: str | None = "shop", kind: EventType = EventType.MEDIA_READY) -> Event:
    return Event(id=number, type=kind, at=AT, bot=bot, facts={"media_id": number})


def test_many_events_are_split_and_each_batch_says_up_to_where_it_goes() -> None:
    events = [event(number) for number in range(1, MAX_BATCH_EVENTS + 11)]
    first, second = batched(events, after=0, upto=MAX_BATCH_EVENTS + 20)
    assert (len(first), first.after, first.upto) == (MAX_BATCH_EVENTS, 0, MAX_BATCH_EVENTS)
    assert (len(second), second.after, second.upto) == (10, MAX_BATCH_EVENTS, MAX_BATCH_EVENTS + 20)


def test_numbers_without_events_make_an_empty_batch_and_no_numbers_none() -> None:
    assert [len(batch) for batch in batched([], after=3, upto=5)] == [0]
    assert list(batched([], after=5, upto=5)) == []


def test_an_event_is_one_flat_object_in_its_stream() -> None:
    [batch] = batched([event(7)], after=6, upto=7)
    lines = batch.select(ALL, seen=6).sse.decode().splitlines()
    assert lines[:2] == ["id: 7", "event: media.ready"]
    received = json.loads(lines[2].removeprefix("data: "))
    assert received == {"id": 7, "type": "media.ready", "at": "2031-05-01T12:00:00Z", "bot": "shop", "media_id": 7}


def test_a_filter_selects_by_bot_and_type_and_never_drops_a_reset() -> None:
    events = [event(1), event(2, "news"), event(3, None, EventType.RESET), event(4, kind=EventType.MEDIA_ERROR)]
    [batch] = batched(events, after=0, upto=4)
    shop = EventFilter(bots=frozenset({"shop"}), types=wanted_types(["media.ready"]))
    assert [one.id for one in batch.select(shop, seen=0).events] == [1, 3]
    assert [one.id for one in batch.select(ALL, seen=2).events] == [3, 4]
    assert (ALL.everything, shop.everything) == (True, False)


def test_a_batch_keeps_the_selections_of_some_filters() -> None:
    [batch] = batched([event(1)], after=0, upto=1)
    filters = [EventFilter(bots=frozenset({str(number)})) for number in range(MAX_CACHED_SLICES + 1)]
    kept = [batch.select(one, seen=0) is batch.select(one, seen=0) for one in filters]
    assert kept == [True] * MAX_CACHED_SLICES + [False]


def test_types_are_named_one_by_one_or_as_groups() -> None:
    assert wanted_types(["media"]) == frozenset(one for one in EventType if one.startswith("media."))
    assert wanted_types([]) is None
    with pytest.raises(UsageError, match=r"media\.ready"):
        wanted_types(["medium"])
