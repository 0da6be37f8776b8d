"""Warming again, end to end: by hand, and because somebody waits."""

from __future__ import annotations

import asyncio

from telewarm.bots.sessions import BotSession
from telewarm.database import media, queue_priority, warmups
from telewarm.database.media import RewarmScope
from telewarm.models import MediaId, MediaItem, MediaState, UploadMethod
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from telewarm.sending.send_context import OnCold
from tests.fixtures.app import (
    NO_SWEEP,
    READER,
    WARMUP_CHAT,
    Opener,
    add_bot,
    add_photos,
    message_of,
    until,
    until_ready,
    until_state,
)


async def until_other_id(telewarm: Telewarm, *items: MediaItem) -> list[MediaItem]:
    """The items, once each is ready with another file id than it had."""

    async def reached() -> bool:
        fresh = [await media.get(telewarm.pool, item.id) for item in items]
        return all(
            one.state is MediaState.READY and one.file_id != item.file_id
            for one, item in zip(fresh, items, strict=True)
        )

    await until(telewarm, reached)
    return [await media.get(telewarm.pool, item.id) for item in items]


async def test_an_item_asked_for_by_name_is_uploaded_anew_and_sent_by_its_old_id_meanwhile(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    telewarm = await telewarm_with(NO_SWEEP)
    session = await add_bot(telewarm)
    [item] = await until_ready(telewarm, *await add_photos(telewarm, session, 1))
    hang = sandbox.state.faults.add(Rule(action="hang", seconds=0.5, method="sendPhoto", chat=WARMUP_CHAT))

    asked = await telewarm.library.rewarm(session.bot, item.id)

    async def struck() -> bool:
        return hang.hit == 1

    await until(telewarm, struck)
    [sent] = await telewarm.sender.send(session, READER, message_of(item.id), on_cold=OnCold.FAIL)
    assert (asked.state, asked.file_id, sent.error) == (MediaState.WARMING, item.file_id, None)
    [fresh] = await until_other_id(telewarm, item)
    assert (fresh.way, sandbox.state.stats.total.uploads) == (UploadMethod.UPLOAD, 2)


async def test_all_that_failed_is_tried_again_and_what_is_ready_is_left_alone(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    telewarm = await telewarm_with(NO_SWEEP)
    session = await add_bot(telewarm)
    [ready] = await until_ready(telewarm, *await add_photos(telewarm, session, 1, first=9))
    words = "Bad Request: PHOTO_INVALID_DIMENSIONS"
    sandbox.state.faults.add(Rule(action="error", code=400, description=words, count=None, method="sendPhoto"))
    failed = await until_state(telewarm, MediaState.ERROR, *await add_photos(telewarm, session, 3))
    sandbox.state.faults.clear()

    assert await telewarm.library.rewarm_all([session.bot], RewarmScope.FAILED) == 3

    again = await until_ready(telewarm, *(item.id for item in failed))
    assert {(item.attempts, item.last_error) for item in again} == {(0, None)}
    assert (await media.get(telewarm.pool, ready.id)).file_id == ready.file_id


async def test_whole_libraries_of_many_bots_are_uploaded_anew(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with(NO_SWEEP)
    lives = [await add_bot(telewarm, number) for number in range(2)]
    ids = [media_id for session in lives for media_id in await add_photos(telewarm, session, 4)]
    items = await until_ready(telewarm, *ids)
    sandbox.state.stats.clear()

    assert await telewarm.library.rewarm_all([session.bot for session in lives], RewarmScope.ALL) == 8

    await until_other_id(telewarm, *items)
    assert sandbox.state.stats.total.uploads == 8


async def test_warming_anew_that_telegram_refuses_leaves_the_item_ready_with_its_old_id(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    telewarm = await telewarm_with(NO_SWEEP)
    session = await add_bot(telewarm)
    [item] = await until_ready(telewarm, *await add_photos(telewarm, session, 1))
    words = "Bad Request: IMAGE_PROCESS_FAILED"
    sandbox.state.faults.add(Rule(action="error", code=400, description=words, count=None, method="sendPhoto"))

    await telewarm.library.rewarm(session.bot, item.id)

    async def reported() -> bool:
        return (await media.get(telewarm.pool, item.id)).last_error is not None

    await until(telewarm, reported)
    kept = await media.get(telewarm.pool, item.id)
    assert (kept.state, kept.file_id) == (MediaState.READY, item.file_id)
    assert words in str(kept.last_error)


async def test_a_dead_id_is_made_good_by_forwarding_the_message_it_came_in(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    telewarm = await telewarm_with(NO_SWEEP)
    session = await add_bot(telewarm)
    [item] = await until_ready(telewarm, *await add_photos(telewarm, session, 1))
    dead = "Bad Request: wrong file identifier/HTTP URL specified"
    sandbox.state.faults.add(Rule(action="error", code=400, description=dead, chat=READER))

    [sent] = await telewarm.sender.send(session, READER, message_of(item.id), on_cold=OnCold.WAIT)

    assert sent.error is None
    [fresh] = await until_other_id(telewarm, item)
    assert (fresh.way, sandbox.state.stats.total.uploads) == (UploadMethod.FORWARD, 1)


async def test_a_send_that_waits_raises_its_item_above_all_that_was_queued_before(telewarm_with: Opener) -> None:
    telewarm = await telewarm_with(worker=False)
    session = await add_bot(telewarm)
    ids = await add_photos(telewarm, session, 5)
    sending = asyncio.create_task(
        telewarm.sender.send(session, READER, message_of(ids[3]), on_cold=OnCold.WAIT), name="send"
    )

    async def raised() -> bool:
        first = await telewarm.pool.fetchval("SELECT id FROM media ORDER BY priority, id LIMIT 1")
        return bool(first == ids[3])

    await until(telewarm, raised)
    async with telewarm.worker.running():
        [result] = await sending

    assert result.error is None


async def test_a_send_whose_item_another_holds_raises_it_too(telewarm_with: Opener) -> None:
    telewarm = await telewarm_with(worker=False)
    session = await add_bot(telewarm)
    first, held = await add_photos(telewarm, session, 2)
    await hold(telewarm, session, held)
    sending = asyncio.create_task(telewarm.sender.send(session, READER, message_of(held)), name="send")

    async def raised() -> bool:
        return bool(
            await telewarm.pool.fetchval("SELECT priority FROM media WHERE id = $1", held)
            < now_ms - queue_priority.DAY_MS
        )

    now_ms = await telewarm.pool.fetchval("SELECT priority FROM media WHERE id = $1", first)
    await until(telewarm, raised)
    await telewarm.pool.execute("UPDATE media SET lease_id = NULL")

    [result] = await sending
    assert result.error is None


async def hold(telewarm: Telewarm, session: BotSession, media_id: MediaId) -> None:
    lease = await telewarm.pool.fetchval(
        "INSERT INTO lease (id, holder, expires_at) VALUES (gen_random_uuid(), 'test', now() + interval '1 hour')"
        " RETURNING id"
    )
    assert await warmups.claim_one(telewarm.pool, bot_id=session.bot.id, media_id=media_id, lease_id=lease)
