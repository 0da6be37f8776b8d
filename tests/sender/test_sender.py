"""Sends by file id: without the database, in order, inside the limits, and never with an id that is not right."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from urllib.parse import urlsplit

import asyncpg
import pytest

from telewarm import clock
from telewarm.database import bots, media, warmups
from telewarm.demo.media import DemoFile
from telewarm.errors import (
    BadRequest,
    DatabaseUnavailable,
    FloodWait,
    NotFound,
    UsageError,
)
from telewarm.models import Kind, MediaId, MessageSet, Part
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from tests.fixtures.app import READER, WARMUP_CHAT, Opener, add_bot, add_photos, readers, until, until_ready


def of(*media_ids: MediaId, text: str | None = None) -> MessageSet:
    return MessageSet(media=[Part(media_id=media_id) for media_id in media_ids], text=text)


async def test_a_cached_send_needs_no_database(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with(worker=False, TELEWARM_DATABASE_POOL="4")
    session = await add_bot(telewarm)
    [media_id] = await add_photos(telewarm, session, 1)
    await telewarm.sender.send(session, READER, of(media_id))
    async with AsyncExitStack() as stack:
        with suppress(TimeoutError):  # after that nobody can ask the database anything
            while True:
                await stack.enter_async_context(telewarm.pool.acquire(timeout=0.2))

        [result] = await telewarm.sender.send(session, READER, of(media_id))

    assert (result.error, result.cache_hit) == (None, True)
    assert sandbox.state.stats.chats[READER] == 2


async def test_a_cache_hit_queues_no_new_upload(telewarm_with: Opener, sandbox: Sandbox) -> None:
    """A defect of the Node system."""
    telewarm = await telewarm_with()
    session = await add_bot(telewarm)
    [item] = await until_ready(telewarm, *await add_photos(telewarm, session, 1))

    for chat_id in readers(5):
        [result] = await telewarm.sender.send(session, chat_id, of(item.id))
        assert (result.error, result.cache_hit, result.kind) == (None, True, Kind.PHOTO)

    assert await warmups.bots_with_due_work(telewarm.pool) == []
    assert await media.get(telewarm.pool, item.id) == item
    assert sandbox.state.stats.total.uploads == 1


@pytest.mark.parametrize("worker", [True, False])
async def test_a_dead_file_id_is_replaced_and_the_caller_only_sees_a_slower_send(
    telewarm_with: Opener,
    sandbox: Sandbox,
    worker: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A defect of the Node system: dead file ids were served for ever."""
    telewarm = await telewarm_with()
    session = await add_bot(telewarm)
    [item] = await until_ready(telewarm, *await add_photos(telewarm, session, 1))
    assert item.file_id is not None
    sandbox.state.files.killed.add(item.file_id)
    sending = telewarm if worker else await telewarm_with(worker=False)

    [result] = await sending.sender.send(session, READER, of(item.id))
    [fresh] = await until_ready(telewarm, item.id)
    [again] = await sending.sender.send(session, READER, of(item.id))

    assert [(sent.error, sent.kind, sent.cache_hit) for sent in (result, again)] == [
        (None, Kind.PHOTO, False),
        (None, Kind.PHOTO, True),
    ]
    assert sandbox.state.stats.chats[READER] == 2
    assert fresh.file_id != item.file_id


async def test_many_sends_of_a_dead_id_replace_it_once(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with(worker=False)
    session = await add_bot(telewarm)
    [media_id] = await add_photos(telewarm, session, 1)
    await telewarm.sender.send(session, READER, of(media_id))
    item = await media.get(telewarm.pool, media_id)
    assert item.file_id is not None
    sandbox.state.files.killed.add(item.file_id)

    results = await asyncio.gather(
        *(telewarm.sender.send(session, chat_id, of(media_id)) for chat_id in readers(50)[1:])
    )

    assert all(result.error is None for [result] in results)
    assert sandbox.state.stats.total.uploads == 2
    assert sandbox.state.stats.chats == dict.fromkeys(readers(50), 1)


async def test_a_set_goes_as_audio_video_photo_the_rest_and_then_text(
    telewarm_with: Opener, sandbox: Sandbox, demo_files: dict[str, DemoFile]
) -> None:
    house = await telewarm_with()
    session = await add_bot(house)
    names = ["leaflet.pdf", "sunset.jpg", "film.mp4", "song.mp3"]
    added = [
        (await house.library.add_file(session.bot, demo_files[name].path, kind=demo_files[name].kind)).item.id
        for name in names
    ]

    results = await house.sender.send(
        session, READER, MessageSet(media=[Part(media_id=added[3], caption="hello"), *of(*added[:3]).media], text="bye")
    )

    kinds = [Kind.AUDIO, Kind.VIDEO, Kind.PHOTO, Kind.DOCUMENT, None]
    assert [(result.kind, result.error) for result in results] == [(kind, None) for kind in kinds]
    numbers = [result.message_id for result in results]
    assert numbers == sorted(numbers, key=lambda number: number or 0)
    box = sandbox.state.mail.box(
        sandbox.state.find_chat(sandbox.state.bots.open(session.bot.telegram_id), str(READER)), session.bot.telegram_id
    )
    texts = [box.get(READER, number or 0) for number in numbers]
    assert [message and message.content.text for message in texts] == ["hello", "", "", "", "bye"]


async def test_one_item_that_fails_does_not_stop_the_rest(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with()
    session = await add_bot(telewarm)
    items = await until_ready(telewarm, *await add_photos(telewarm, session, 3))
    words = "Bad Request: something is wrong"
    sandbox.state.faults.add(Rule(action="error", code=400, description=words, chat=READER, skip=1))

    results = await telewarm.sender.send(session, READER, of(*(item.id for item in items), text="and text"))

    assert [type(result.error) for result in results] == [type(None), BadRequest, type(None), type(None)]
    assert sandbox.state.stats.chats[READER] == 3


async def test_a_database_that_goes_away_within_a_set_fails_the_cold_item_and_not_what_went(
    telewarm_with: Opener, sandbox: Sandbox, postgres_server: str
) -> None:
    telewarm = await telewarm_with(worker=False)
    session = await add_bot(telewarm)
    warm, cold = await add_photos(telewarm, session, 2)
    await telewarm.sender.send(session, READER, of(warm))
    hang = sandbox.state.faults.add(Rule(action="hang", seconds=0.5))
    sending = asyncio.create_task(telewarm.sender.send(session, READER, of(warm, cold)))

    async def struck() -> bool:
        return hang.hit == 1

    await until(telewarm, struck)
    async with out_of_reach(postgres_server, telewarm_with.database_url):
        first, second = await sending

    assert first.error is None
    assert isinstance(second.error, DatabaseUnavailable)


@asynccontextmanager
async def out_of_reach(server: str, database_url: str) -> AsyncIterator[None]:
    """The database takes no connections and drops those it has."""
    name = urlsplit(database_url).path.removeprefix("/")
    admin = await asyncpg.connect(server)
    try:
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        yield
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    finally:
        await admin.close()


async def test_a_pause_that_another_process_met_is_obeyed(telewarm_with: Opener, sandbox: Sandbox) -> None:
    first = await telewarm_with(worker=False)
    session = await add_bot(first)
    await bots.pause(first.pool, session.bot.id, None, 600)
    second = await telewarm_with(worker=False)

    [result] = await second.sender.send(await second.bots.by_slug(session.bot.slug), READER, of(text="so"))

    assert isinstance(result.error, FloodWait)
    assert 500 < result.error.retry_after <= 600
    assert sandbox.state.stats.chats[READER] == 0


async def test_a_flood_wait_is_waited_out(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with()
    session = await add_bot(telewarm)
    [item] = await until_ready(telewarm, *await add_photos(telewarm, session, 1))
    sandbox.state.faults.add(Rule(action="error", code=429, retry_after=1, chat=READER))

    [result] = await telewarm.sender.send(session, READER, of(item.id))

    assert result.error is None
    assert result.lat_ms >= 1000
    assert sandbox.state.stats.chats[READER] == 1


async def test_a_flood_wait_beyond_our_patience_is_told_at_once(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with()
    session = await add_bot(telewarm)
    [item] = await until_ready(telewarm, *await add_photos(telewarm, session, 1))
    sandbox.state.faults.add(Rule(action="error", code=429, retry_after=600, chat=READER))

    [result] = await telewarm.sender.send(session, READER, of(item.id))

    assert isinstance(result.error, FloodWait)
    assert 590 < result.error.retry_after <= 600


async def test_an_item_of_another_bot_is_not_found_even_when_its_id_is_in_memory(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    """A regression: the other bot's cached id was tried, found dead and dropped from its owner."""
    telewarm = await telewarm_with()
    ours, theirs = await add_bot(telewarm, 0), await add_bot(telewarm, 1)
    [item] = await until_ready(telewarm, *await add_photos(telewarm, theirs, 1))
    await telewarm.sender.send(theirs, READER, of(item.id))

    for _ in range(2):
        with pytest.raises(NotFound, match="not in the library of bot 'bot-0'"):
            await telewarm.sender.send(ours, READER, of(item.id, text="x"))

    assert await media.get(telewarm.pool, item.id) == item
    assert sandbox.state.stats.bots[ours.bot.telegram_id].messages == 0


async def test_an_id_that_another_process_replaced_is_replaced_here(telewarm_with: Opener, sandbox: Sandbox) -> None:
    first, second = await telewarm_with(worker=False), await telewarm_with(worker=False)
    session = await add_bot(first)
    other = await second.bots.by_slug("bot-0")
    [media_id] = await add_photos(first, session, 1)
    for telewarm, bot in ((first, session), (second, other)):
        await telewarm.sender.send(bot, READER, of(media_id))
    old = (await media.get(first.pool, media_id)).file_id
    assert old is not None
    sandbox.state.files.killed.add(old)

    await first.sender.send(session, READER, of(media_id))

    async def reported() -> bool:
        warm = second.sender._file_ids.get(media_id)
        return warm is None or warm.file_id != old

    await until(second, reported)
    errors = sandbox.state.stats.total.errors[400]
    [result] = await second.sender.send(other, READER, of(media_id))
    assert result.error is None
    assert sandbox.state.stats.total.errors[400] == errors


async def test_nothing_and_too_much_are_refused_before_anything_goes(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with(worker=False)
    session = await add_bot(telewarm)

    with pytest.raises(UsageError, match="nothing to send"):
        await telewarm.sender.send(session, READER, of())
    with pytest.raises(UsageError, match="at most 10"):
        await telewarm.sender.send(session, READER, of(*[MediaId(1)] * 11))
    with pytest.raises(NotFound):
        await telewarm.sender.send(session, READER, of(MediaId(1), text="x"))

    assert sandbox.state.stats.total.messages == 0


async def test_a_429_of_one_chat_is_obeyed_by_every_process_at_once_and_closes_no_other(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    first, second = await telewarm_with(worker=False), await telewarm_with(worker=False)
    session = await add_bot(first)
    there = await second.bots.get(session.bot.id)
    sandbox.state.faults.add(Rule(action="error", code=429, retry_after=600, chat=READER))

    [result] = await first.sender.send(session, READER, of(text="so"))
    assert isinstance(result.error, FloodWait)

    async def reported() -> bool:
        now = clock.monotonic()
        return there.limiter.opens_at(READER, now=now) - now > 500

    await until(first, reported)
    now = clock.monotonic()
    assert there.limiter.opens_at(WARMUP_CHAT, now=now) <= now
