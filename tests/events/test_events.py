"""Listening: in order, nothing lost and nothing twice, wherever one left off and however slow one is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import pytest

from telewarm.database import events as table
from telewarm.database.connection import Pool
from telewarm.database.pool import open_pool
from telewarm.errors import DatabaseUnavailable, NotFound, UsageError
from telewarm.events import tail
from telewarm.events.batches import EventSlice
from telewarm.events.bus import ALL_EVENTS, EventBus
from telewarm.events.filter import EventFilter, wanted_types
from telewarm.models import Event, EventType
from telewarm.runtime import Telewarm
from tests.database.test_events import say
from tests.fixtures.app import Opener, add_bot, add_photos, until_ready
from tests.fixtures.rows import make_bot, make_item

LISTENERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND query LIKE 'LISTEN%' AND pid <> pg_backend_pid()"
)


@asynccontextmanager
async def process(database_url: str) -> AsyncIterator[EventBus]:
    """Events as another process hears them."""
    pool = await open_pool(database_url, max_size=4, application_name="test")
    events = EventBus(pool)
    async with events.running():
        yield events
    await asyncio.wait_for(pool.close(), 5)


@pytest.fixture
async def events(database_url: str) -> AsyncIterator[EventBus]:
    async with process(database_url) as events:
        yield events


class Listener:
    """Collects what it is told. `began`: the id that it was told first."""

    def __init__(self, chunks: AsyncGenerator[EventSlice, None]) -> None:
        self.chunks = chunks
        self.began = -1
        self.heard: list[Event] = []

    async def take(self, count: int) -> list[Event]:
        """Listen until it has heard so many in all."""
        async with asyncio.timeout(10):
            while len(self.heard) < count:
                self.heard += (await anext(self.chunks)).events
        return self.heard

    @property
    def said(self) -> list[object]:
        return [one.facts.get("said") for one in self.heard]


@asynccontextmanager
async def listener(
    events: EventBus, wanted: EventFilter = ALL_EVENTS, *, after: int | None = None
) -> AsyncIterator[Listener]:
    """It listens when this is entered."""
    async with aclosing(events.follow(wanted, after=after)) as chunks:
        listening = Listener(chunks)
        listening.began = (await anext(chunks)).upto
        yield listening


async def test_two_processes_hear_what_others_do_once_and_in_the_same_order(
    pool: Pool, database_url: str, events: EventBus
) -> None:
    await say(pool, 0)
    async with process(database_url) as other, listener(events) as here, listener(other) as there:
        for number in range(1, 200):
            await say(pool, number)
        await asyncio.gather(here.take(199), there.take(199))
    assert here.said == there.said == list(range(1, 200))
    assert [one.id for one in here.heard] == [one.id for one in there.heard] == list(range(2, 201))
    assert here.began == 1


async def test_whoever_left_off_goes_on_in_another_process_without_a_gap(
    pool: Pool, database_url: str, events: EventBus
) -> None:
    async with listener(events) as first:
        await say(pool, 0, times=150)
        await first.take(1)
    for number in range(3):
        await say(pool, number, times=300)
    async with process(database_url) as other, listener(other, after=77) as second:
        await say(pool, 2)
        await second.take(974)
    assert [one.id for one in second.heard] == list(range(78, 1052))


async def test_one_that_is_ahead_of_this_process_waits_for_what_comes_next(pool: Pool, events: EventBus) -> None:
    """It heard it in a process that was quicker."""
    async with listener(events) as here:
        pause = asyncio.create_task(here.take(2))
        await say(pool, 0)
        seen = await table.assign_sequence(pool)
        async with listener(events, after=seen) as quick:
            await say(pool, 1)
            await quick.take(1)
        await pause
    assert (quick.said, here.said) == ([1], [0, 1])


async def test_a_lost_connection_loses_no_event(pool: Pool, events: EventBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "POLL_SECONDS", 3600.0)
    async with listener(events) as here:
        for number in range(3):
            await pool.execute(LISTENERS)
            await say(pool, number)
            await here.take(number + 1)
    assert here.said == [0, 1, 2]


@pytest.mark.parametrize("after", [3, 6, 2**60])
async def test_whoever_is_too_far_behind_is_told_to_begin_anew(pool: Pool, events: EventBus, after: int) -> None:
    for number in range(10):
        await say(pool, number)
        await table.assign_sequence(pool)
    await table.trim(pool, max_events=2)
    async with listener(events, after=after) as late, listener(events, after=7) as early:
        assert [(one.type, one.id) for one in await late.take(1)] == [(EventType.RESET, 10)]
        await say(pool, 10)
        await asyncio.gather(late.take(2), early.take(4))
    assert [one.id for one in late.heard] == [10, 11]
    assert [one.id for one in early.heard] == [8, 9, 10, 11]


async def test_one_that_is_slow_misses_nothing_and_holds_up_nobody(
    pool: Pool, events: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "MAX_BUFFERED_EVENTS", 1000)
    async with listener(events) as slow, listener(events) as quick:
        for number in range(5):
            await say(pool, number, times=400)
            await quick.take(400 * (number + 1))
        running = events._tail
        assert running is not None
        assert running._buffered <= 1000
        await slow.take(2000)
    assert [one.id for one in slow.heard] == [one.id for one in quick.heard] == list(range(1, 2001))


async def test_one_that_slept_for_too_long_is_told_so(
    pool: Pool, events: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "MAX_BUFFERED_EVENTS", 10)
    monkeypatch.setattr(tail, "READ_PAUSE_SECONDS", 0.0)
    async with listener(events) as slow, listener(events) as quick:
        for number in range(30):
            await say(pool, number)
            await quick.take(number + 1)
        await table.trim(pool, max_events=5)
        assert [one.type for one in await slow.take(1)] == [EventType.RESET]
        await say(pool, 30)
        await slow.take(2)
    assert [one.id for one in slow.heard] == [30, 31]


async def test_many_who_listen_cost_one_connection_one_read_and_one_writing(
    pool: Pool, events: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    after = table.read_after

    async def counted(*given: object, **more: object) -> table.EventsAfter:
        nonlocal reads
        reads += 1
        return await after(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(table, "read_after", counted)
    async with AsyncExitStack() as stack:
        many = [await stack.enter_async_context(listener(events)) for _ in range(60)]
        listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        assert await pool.fetchval(listening) == 1
        await say(pool, 1, times=5)
        chunks = [await anext(one.chunks) for one in many]
    assert [len(chunk.events) for chunk in chunks] == [5] * 60
    assert len({id(chunk.sse) for chunk in chunks}) == 1
    assert reads <= 3


async def test_one_hears_only_what_it_asked_for(pool: Pool, events: EventBus) -> None:
    shop, changes = await make_bot(pool), await make_bot(pool, 1)
    wishes = {
        EventFilter(bots=frozenset({"bot-1"})): ["bot.changed bot-1", "media.added bot-1"],
        EventFilter(types=wanted_types(["media"])): ["media.added bot-0", "media.added bot-1"],
        EventFilter(types=wanted_types(["media.ready", "worker"])): ["worker.status None"],
        EventFilter(bots=frozenset({"bot-0"}), types=wanted_types(["media.added"])): ["media.added bot-0"],
    }
    async with AsyncExitStack() as stack:
        heard = [
            (await stack.enter_async_context(listener(events, wanted, after=0)), expected)
            for wanted, expected in wishes.items()
        ]
        await make_item(pool, shop)
        await say(pool, 1)
        await make_item(pool, changes, 1)
        for one, expected in heard:
            await one.take(len(expected))
            assert [f"{event.type} {event.bot}" for event in one.heard] == expected


async def test_a_sign_of_life_moves_on_past_what_was_not_asked_for(
    pool: Pool, events: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "HEARTBEAT_SECONDS", 0.05)
    async with listener(events, EventFilter(types=wanted_types(["media"]))) as here:
        await say(pool, 1, times=7)
        async with asyncio.timeout(5):
            while (chunk := await anext(here.chunks)).upto != 7:
                assert not chunk.events


async def test_a_page_goes_on_where_the_last_one_ended(pool: Pool, events: EventBus) -> None:
    begin = await events.page(limit=10)
    assert (begin.events, begin.upto) == ([], 0)
    for number in range(3):
        await say(pool, number, times=300)
    media = EventFilter(types=wanted_types(["media"]))
    assert (await events.page(media, after=0, limit=10)).upto == 900
    seen: list[int] = []
    while (page := await events.page(after=seen[-1] if seen else 0, limit=250)).events:
        seen += [one.id for one in page.events]
        assert page.upto == seen[-1]
    assert seen == list(range(1, 901))
    await table.trim(pool, max_events=2)
    assert [one.type for one in (await events.page(after=5, limit=10)).events] == [EventType.RESET]


async def test_the_last_one_takes_the_connection_along_and_another_begins_anew(pool: Pool, events: EventBus) -> None:
    before = asyncio.all_tasks()
    for number in range(2):
        async with listener(events) as here:
            await say(pool, number)
            await here.take(1)
        await asyncio.wait(asyncio.all_tasks() - before, timeout=5) if asyncio.all_tasks() - before else None
        assert asyncio.all_tasks() == before


async def test_without_a_database_nobody_can_listen(database_url: str) -> None:
    async with process(database_url) as events:
        await events._pool.close()
        with pytest.raises(DatabaseUnavailable, match="cannot be listened to now"):
            async with listener(events):
                pass


async def test_a_program_hears_what_another_process_does(telewarm_with: Opener) -> None:
    telewarm, other = await telewarm_with(), await telewarm_with(worker=False)
    session = await add_bot(other)
    heard: list[Event] = []

    async def listen(began: asyncio.Event) -> None:
        async with aclosing(
            telewarm.events("bot-0", types=["media"], after=await table.assign_sequence(other.pool))
        ) as stream:
            began.set()
            async for event in stream:
                heard.append(event)
                if event.type is EventType.MEDIA_READY:
                    return

    began = asyncio.Event()
    listening = asyncio.create_task(listen(began))
    await began.wait()
    await until_ready(other, *await add_photos(other, session, 1))
    await asyncio.wait_for(listening, 10)
    assert [one.type.value for one in heard] == ["media.added", "media.ready"]


async def test_it_ends_when_the_telewarm_closes(telewarm_with: Opener) -> None:
    telewarm = await telewarm_with(worker=False)

    async def listen() -> str:
        async for _ in telewarm.events():
            began.set()
        return "ended"

    began = asyncio.Event()
    listening = asyncio.create_task(listen())
    async with asyncio.timeout(5):
        while not began.is_set():
            await say(telewarm.pool, 1)
            await asyncio.wait([listening], timeout=0.01)
    await telewarm_with.stack.aclose()
    assert await asyncio.wait_for(listening, 5) == "ended"


async def test_a_slip_in_a_slug_or_a_type_is_told(idle_telewarm: Telewarm) -> None:
    with pytest.raises(NotFound):
        await anext(idle_telewarm.events("nobody"))
    with pytest.raises(UsageError, match=r"there are media.added, .* and groups such as media"):
        await anext(idle_telewarm.events(types=["media.redy"]))


@pytest.mark.parametrize(
    ("names", "types"),
    [
        ((), None),
        (("media.ready",), {EventType.MEDIA_READY}),
        (("broadcast", "reset"), {EventType.BROADCAST_CHANGED, EventType.BROADCAST_PROGRESS, EventType.RESET}),
    ],
)
def test_types_are_named_one_by_one_or_in_groups(names: tuple[str, ...], types: set[EventType] | None) -> None:
    assert wanted_types(names) == types
