"""What becomes of a set: chats that are gone or moved, answers that never come, waits that are too long."""

from __future__ import annotations

import asyncio

from telewarm import clock
from telewarm.bots.sessions import BotSession
from telewarm.database import chats, media
from telewarm.demo.media import DemoFile
from telewarm.errors import (
    ChatMigrated,
    ChatUnreachable,
    FloodWait,
    InvalidBotToken,
    MediaNotReady,
    NotFound,
    TelegramUnreachable,
)
from telewarm.models import ChatId, ChatState, Kind, MediaId, MediaState, MessageSet, Part
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from telewarm.sending.send_context import OnCold
from tests.fixtures.app import READER, Opener, add_bot, add_photos, readers, until, until_ready

GROUP = ChatId(-4_001)
SUPERGROUP = ChatId(-1_002_000_000_001)


def of(*media_ids: MediaId, text: str | None = None) -> MessageSet:
    return MessageSet(media=[Part(media_id=media_id) for media_id in media_ids], text=text)


async def until_known(
    telewarm: Telewarm, session: BotSession, chat_id: ChatId, state: ChatState, migrated_to: ChatId | None = None
) -> None:
    """Chat statuses are written in the background."""

    async def written() -> bool:
        await telewarm.sender._chat_status._write()
        rows = await chats.page(telewarm.pool, session.bot.id, state=None, after=ChatId(-(2**62)), limit=100)
        said = {row.chat_id: (row.state, row.migrated_to) for row in rows}
        return said.get(chat_id, (ChatState.REACHABLE, None)) == (state, migrated_to)

    await until(telewarm, written)


async def test_who_blocked_the_bot_gets_one_call_and_stands_in_the_ledger_until_a_success(
    idle_telewarm: Telewarm, sandbox: Sandbox
) -> None:
    session = await add_bot(idle_telewarm)
    media_ids = await add_photos(idle_telewarm, session, 2)
    sandbox.state.chats.declare(READER, blocked=True)

    results = await idle_telewarm.sender.send(session, READER, of(*media_ids, text="bye"))

    assert [type(result.error) for result in results] == [ChatUnreachable] * 3
    assert len({id(result.error) for result in results}) == 1
    assert sandbox.state.stats.total.calls["sendPhoto"] == 1
    assert "sendMessage" not in sandbox.state.stats.total.calls
    await until_known(idle_telewarm, session, READER, ChatState.BLOCKED)

    sandbox.state.chats.declare(READER, blocked=False)
    [result] = await idle_telewarm.sender.send(session, READER, of(text="hello"))

    assert result.error is None
    await until_known(idle_telewarm, session, READER, ChatState.REACHABLE)


async def test_a_chat_that_takes_no_photos_still_gets_the_text(idle_telewarm: Telewarm, sandbox: Sandbox) -> None:
    session = await add_bot(idle_telewarm)
    media_ids = await add_photos(idle_telewarm, session, 1)
    sandbox.state.chats.declare(GROUP, restricted={"photo"})

    photo, text = await idle_telewarm.sender.send(session, GROUP, of(*media_ids, text="bye"))

    assert isinstance(photo.error, ChatUnreachable)
    assert text.error is None


async def test_a_group_that_became_a_supergroup_is_followed_and_remembered(
    idle_telewarm: Telewarm, sandbox: Sandbox
) -> None:
    session = await add_bot(idle_telewarm)
    media_ids = await add_photos(idle_telewarm, session, 2)
    sandbox.state.chats.declare(GROUP, migrated_to=SUPERGROUP)

    results = await idle_telewarm.sender.send(session, GROUP, of(*media_ids, text="hello"))

    assert [(result.error, result.moved_to) for result in results] == [(None, SUPERGROUP)] * 3
    assert sandbox.state.stats.chats == {SUPERGROUP: 3}
    refused = sandbox.state.stats.total.errors[400]
    [again] = await idle_telewarm.sender.send(session, GROUP, of(text="again"))
    assert (again.error, again.moved_to) == (None, SUPERGROUP)
    assert sandbox.state.stats.total.errors[400] == refused == 1
    await until_known(idle_telewarm, session, GROUP, ChatState.MIGRATED, SUPERGROUP)


async def test_a_group_that_keeps_moving_is_followed_once_a_set(idle_telewarm: Telewarm, sandbox: Sandbox) -> None:
    session = await add_bot(idle_telewarm)
    sandbox.state.chats.declare(GROUP, migrated_to=SUPERGROUP)
    sandbox.state.chats.declare(SUPERGROUP, migrated_to=GROUP)

    [result] = await idle_telewarm.sender.send(session, GROUP, of(text="hello"))

    assert isinstance(result.error, ChatMigrated)
    assert sandbox.state.stats.total.calls["sendMessage"] == 2


async def test_a_message_that_may_have_gone_is_not_sent_again(idle_telewarm: Telewarm, sandbox: Sandbox) -> None:
    session = await add_bot(idle_telewarm)
    [media_id] = await add_photos(idle_telewarm, session, 1)
    await idle_telewarm.sender.send(session, READER, of(media_id))
    sandbox.state.faults.add(Rule(action="reset", when="after", chat=READER))

    photo, text = await idle_telewarm.sender.send(session, READER, of(media_id, text="bye"))

    assert isinstance(photo.error, TelegramUnreachable)
    assert photo.error.effect_possible
    assert text.error is None
    assert sandbox.state.stats.chats[READER] == 3  # the first, the one without an answer, the text


async def test_what_is_left_when_no_answer_took_all_the_time_is_not_begun(
    idle_telewarm: Telewarm, sandbox: Sandbox
) -> None:
    session = await add_bot(idle_telewarm)
    [media_id] = await add_photos(idle_telewarm, session, 1)
    await idle_telewarm.sender.send(session, READER, of(media_id))
    sandbox.state.faults.add(Rule(action="reset", when="before", chat=READER))

    photo, text = await idle_telewarm.sender.send(session, READER, of(media_id, text="bye"), patience=0)

    assert isinstance(photo.error, TelegramUnreachable)
    assert isinstance(text.error, TelegramUnreachable)
    assert not text.error.effect_possible
    assert "sendMessage" not in sandbox.state.stats.total.calls


async def test_no_patience_is_enough_for_what_need_not_wait(idle_telewarm: Telewarm, sandbox: Sandbox) -> None:
    session = await add_bot(idle_telewarm)
    media_ids = await add_photos(idle_telewarm, session, 2)

    results = await idle_telewarm.sender.send(session, READER, of(*media_ids, text="bye"), patience=0)

    assert [result.error for result in results] == [None] * 3
    assert sandbox.state.stats.chats[READER] == 3


async def test_the_callers_own_patience_ends_a_wait_for_the_limits_at_once(
    idle_telewarm: Telewarm, sandbox: Sandbox
) -> None:
    session = await add_bot(idle_telewarm)
    session.limiter.pause_chat(READER, clock.monotonic() + 30)

    [result] = await idle_telewarm.sender.send(session, READER, of(text="so"), patience=5)

    assert isinstance(result.error, FloodWait)
    assert 25 < result.error.retry_after <= 30
    assert result.lat_ms < 5000
    assert sandbox.state.stats.total.messages == 0


async def test_the_impatient_do_not_wait_for_another_sends_upload(idle_telewarm: Telewarm, sandbox: Sandbox) -> None:
    session = await add_bot(idle_telewarm)
    [media_id] = await add_photos(idle_telewarm, session, 1)
    hang = sandbox.state.faults.add(Rule(action="hang", seconds=0))
    uploading = asyncio.create_task(idle_telewarm.sender.send(session, READER, of(media_id)))

    async def struck() -> bool:
        return hang.hit == 1

    await until(idle_telewarm, struck)
    [result] = await idle_telewarm.sender.send(session, ChatId(READER + 1), of(media_id), patience=0.1)
    uploading.cancel()
    await asyncio.wait([uploading])

    assert isinstance(result.error, MediaNotReady)


async def test_who_may_upload_does_not_wait_behind_who_may_only_wait(idle_telewarm: Telewarm, sandbox: Sandbox) -> None:
    session = await add_bot(idle_telewarm)
    [media_id] = await add_photos(idle_telewarm, session, 1)
    waiting = asyncio.create_task(idle_telewarm.sender.send(session, READER, of(media_id), on_cold=OnCold.WAIT))

    async def hastened() -> bool:
        said = await idle_telewarm.pool.fetchval(
            "SELECT priority < 1000 * extract(epoch FROM now()) - 80000000 FROM media"
        )
        return bool(said)

    await until(idle_telewarm, hastened)
    [uploaded] = await idle_telewarm.sender.send(session, ChatId(READER + 1), of(media_id), patience=5)

    [waited] = await waiting
    assert (uploaded.error, waited.error) == (None, None)
    assert sandbox.state.stats.total.uploads == 1


async def test_a_dead_id_is_healed_also_when_cold_media_are_not_to_be_uploaded(
    idle_telewarm: Telewarm, sandbox: Sandbox
) -> None:
    """Without a warm-up message there is nothing to copy: the bytes go."""
    session = await add_bot(idle_telewarm)
    [media_id] = await add_photos(idle_telewarm, session, 1)
    await idle_telewarm.sender.send(session, READER, of(media_id))
    sandbox.state.files.killed.add((await media.get(idle_telewarm.pool, media_id)).file_id or "")

    [result] = await idle_telewarm.sender.send(session, READER, of(media_id), on_cold=OnCold.FAIL)

    assert (result.error, result.cache_hit) == (None, False)
    assert sandbox.state.stats.total.uploads == 2
    assert (await media.get(idle_telewarm.pool, media_id)).state is MediaState.READY


async def test_a_file_that_telegram_shows_as_another_kind_has_been_sent(
    telewarm_with: Opener, sandbox: Sandbox, demo_files: dict[str, DemoFile]
) -> None:
    telewarm = await telewarm_with()
    session = await add_bot(telewarm)
    added = await telewarm.library.add_file(session.bot, demo_files["film.mp4"].path, kind=Kind.VIDEO)
    await until_ready(telewarm, added.item.id)
    await telewarm.pool.execute("UPDATE media SET kind = 'animation'")  # as one that was asked for is kept

    [result] = await telewarm.sender.send(session, READER, of(added.item.id))

    assert (result.error, result.kind) == (None, Kind.VIDEO)
    assert sandbox.state.stats.chats[READER] == 1


async def test_a_refused_token_stops_the_set(idle_telewarm: Telewarm, sandbox: Sandbox) -> None:
    session = await add_bot(idle_telewarm)
    media_ids = await add_photos(idle_telewarm, session, 2)
    sandbox.state.faults.add(Rule(action="error", code=401, description="Unauthorized", count=None))

    results = await idle_telewarm.sender.send(session, READER, of(*media_ids, text="bye"))

    assert [type(result.error) for result in results] == [InvalidBotToken] * 3
    assert sandbox.state.stats.total.calls["sendPhoto"] == 1


async def test_a_plan_goes_to_many(idle_telewarm: Telewarm, sandbox: Sandbox) -> None:
    session = await add_bot(idle_telewarm)
    media_ids = await add_photos(idle_telewarm, session, 2)
    steps = await idle_telewarm.sender.planned(session, of(*media_ids, text="bye"))

    results = await asyncio.gather(*(idle_telewarm.sender.send_plan(session, chat, steps) for chat in readers(20)))

    assert all(result.error is None for some in results for result in some)
    assert sandbox.state.stats.chats == dict.fromkeys(readers(20), 3)
    assert sandbox.state.stats.total.uploads == 2


async def test_an_item_that_was_deleted_after_the_plan_is_told_at_once(idle_telewarm: Telewarm) -> None:
    session = await add_bot(idle_telewarm)
    [media_id] = await add_photos(idle_telewarm, session, 1)
    steps = await idle_telewarm.sender.planned(session, of(media_id))
    await idle_telewarm.pool.execute("DELETE FROM media")

    [result] = await idle_telewarm.sender.send_plan(session, READER, steps)

    assert isinstance(result.error, NotFound)
