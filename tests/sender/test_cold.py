"""Cold sends: the bytes to the recipient, a wait, or a refusal; one upload, and nobody gets anything twice."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from telewarm.database import media, warmups
from telewarm.errors import (
    ChatUnreachable,
    MediaError,
    MediaNotReady,
)
from telewarm.models import BotId, ChatId, MediaId, MediaState, MessageSet, Part
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from telewarm.sending.send_context import OnCold
from tests.fixtures.app import READER, WARMUP_CHAT, Opener, add_bot, add_photos, readers, until
from tests.fixtures.rows import make_lease


def of(*media_ids: MediaId) -> MessageSet:
    return MessageSet(media=tuple(Part(media_id=media_id) for media_id in media_ids))


@pytest.fixture
async def idle_telewarm_with_photo(telewarm_with: Opener) -> tuple[Opener, MediaId]:
    """A photo that nobody warms."""
    telewarm = await telewarm_with(worker=False)
    [media_id] = await add_photos(telewarm, await add_bot(telewarm), 1)
    return telewarm_with, media_id


async def test_a_cold_item_goes_to_its_recipient_as_bytes_and_its_id_is_kept(
    idle_telewarm_with_photo: tuple[Opener, MediaId], sandbox: Sandbox
) -> None:
    opener, media_id = idle_telewarm_with_photo
    telewarm = await opener(worker=False)
    session = await telewarm.bots.by_slug("bot-0")

    results = [(await telewarm.sender.send(session, chat_id, of(media_id)))[0] for chat_id in readers(2)]

    assert [(result.cache_hit, result.error) for result in results] == [(False, None), (True, None)]
    assert (await media.get(telewarm.pool, media_id)).state is MediaState.READY
    assert sandbox.state.stats.total.uploads == 1
    assert WARMUP_CHAT not in sandbox.state.stats.chats


@asynccontextmanager
async def sender(opener: Opener, bot_id: BotId, media_id: MediaId, chats: list[ChatId]) -> AsyncIterator[Process]:
    """A process that is about to send the item to all the chats at once."""
    reported = {"environ": opener.environ(), "bot_id": bot_id, "media_id": media_id, "chats": chats}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.sender.send_at_once", json.dumps(reported)),
        cwd=Path(__file__).parents[2], stdin=PIPE, stdout=PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_thousand_cold_sends_at_once_from_two_processes_upload_once_and_reach_everybody_once(
    idle_telewarm_with_photo: tuple[Opener, MediaId], sandbox: Sandbox
) -> None:
    opener, media_id = idle_telewarm_with_photo
    telewarm = await opener(worker=False)
    bot_id = (await telewarm.bots.by_slug("bot-0")).bot.id
    chats = readers(1000)
    async with (
        sender(opener, bot_id, media_id, chats[:500]) as one,
        sender(opener, bot_id, media_id, chats[500:]) as two,
    ):
        said = await asyncio.gather(*(process.communicate(b"go\n") for process in (one, two)))

    results = [result for out, _ in said for result in json.loads(out)]
    assert [result for result in results if result["error"]] == []
    assert sandbox.state.stats.total.uploads == 1
    assert sandbox.state.stats.chats == dict.fromkeys(chats, 1)
    assert len({result["message_id"] for result in results}) == len(results) == 1000


async def test_the_id_that_a_process_got_itself_stays_in_its_memory(
    idle_telewarm_with_photo: tuple[Opener, MediaId],
) -> None:
    """A regression: its own notification dropped it, and the next send asked the database."""
    opener, media_id = idle_telewarm_with_photo
    telewarm = await opener(worker=False)
    session = await telewarm.bots.by_slug("bot-0")
    reported = telewarm.sender._file_ids.change_event(media_id)
    await telewarm.sender.send(session, READER, of(media_id))
    await reported.wait()

    assert telewarm.sender._file_ids.get(media_id) is not None


async def test_a_send_that_waits_gets_the_id_of_the_warm_up(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with()
    session = await add_bot(telewarm)
    sandbox.state.faults.add(Rule(action="hang", seconds=0.3))
    [media_id] = await add_photos(telewarm, session, 1)

    [result] = await telewarm.sender.send(session, READER, of(media_id), on_cold=OnCold.WAIT)

    assert (result.error, result.cache_hit) == (None, False)
    assert sandbox.state.stats.chats == {WARMUP_CHAT: 1, READER: 1}
    assert sandbox.state.stats.total.uploads == 1


async def test_a_cold_send_while_the_lane_uploads_waits_for_it(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with()
    session = await add_bot(telewarm)
    hang = sandbox.state.faults.add(Rule(action="hang", seconds=0.3))
    [media_id] = await add_photos(telewarm, session, 1)

    async def struck() -> bool:
        return hang.hit == 1

    await until(telewarm, struck)
    [result] = await telewarm.sender.send(session, READER, of(media_id))

    assert result.error is None
    assert sandbox.state.stats.total.uploads == 1


async def test_a_waiting_send_takes_an_item_that_its_holder_puts_back_untold(
    idle_telewarm_with_photo: tuple[Opener, MediaId],
) -> None:
    """A regression: it waited for a notification that never came."""
    opener, media_id = idle_telewarm_with_photo
    telewarm = await opener(worker=False)
    session = await telewarm.bots.by_slug("bot-0")
    lease = await make_lease(telewarm.pool)
    await warmups.claim_one(telewarm.pool, bot_id=session.bot.id, media_id=media_id, lease_id=lease)
    sending = asyncio.create_task(telewarm.sender.send(session, READER, of(media_id)))

    await warmups.release(telewarm.pool, lease, [media_id])

    [result] = await sending
    assert result.error is None


async def test_a_send_that_may_not_wait_fails_with_when_to_ask_again(
    idle_telewarm_with_photo: tuple[Opener, MediaId], sandbox: Sandbox
) -> None:
    opener, media_id = idle_telewarm_with_photo
    telewarm = await opener(worker=False)
    session = await telewarm.bots.by_slug("bot-0")

    [result] = await telewarm.sender.send(session, READER, of(media_id), on_cold=OnCold.FAIL)

    assert isinstance(result.error, MediaNotReady)
    assert result.error.retry_after == 1.0
    assert result.message_id is None
    assert sandbox.state.stats.total.messages == 0


async def test_who_waits_for_an_item_in_error_is_told_why(idle_telewarm_with_photo: tuple[Opener, MediaId]) -> None:
    opener, media_id = idle_telewarm_with_photo
    telewarm = await opener(worker=False)
    session = await telewarm.bots.by_slug("bot-0")
    await telewarm.pool.execute("UPDATE media SET state = 'error', last_error = 'It cannot be.'")

    [result] = await telewarm.sender.send(session, READER, of(media_id), on_cold=OnCold.WAIT)

    assert isinstance(result.error, MediaError)
    assert str(result.error) == "It cannot be."


async def test_a_recipient_who_blocked_the_bot_costs_the_item_nothing(
    idle_telewarm_with_photo: tuple[Opener, MediaId], sandbox: Sandbox
) -> None:
    opener, media_id = idle_telewarm_with_photo
    telewarm = await opener(worker=False)
    session = await telewarm.bots.by_slug("bot-0")
    sandbox.state.chats.declare(READER, blocked=True)

    [result] = await telewarm.sender.send(session, READER, of(media_id))

    assert isinstance(result.error, ChatUnreachable)
    item = await media.get(telewarm.pool, media_id)
    assert (item.state, item.attempts, item.last_error) == (MediaState.WARMING, 0, None)
    assert await telewarm.pool.fetchval("SELECT count(*) FROM media WHERE lease_id IS NOT NULL") == 0


async def test_a_cancelled_cold_send_leaves_nothing_in_hand(
    idle_telewarm_with_photo: tuple[Opener, MediaId], sandbox: Sandbox
) -> None:
    opener, media_id = idle_telewarm_with_photo
    telewarm = await opener(worker=False)
    session = await telewarm.bots.by_slug("bot-0")
    hang = sandbox.state.faults.add(Rule(action="hang", seconds=0))
    sending = asyncio.create_task(telewarm.sender.send(session, READER, of(media_id)))

    async def struck() -> bool:
        return hang.hit == 1

    await until(telewarm, struck)
    sending.cancel()
    await asyncio.wait([sending])

    assert await telewarm.pool.fetchval("SELECT count(*) FROM media WHERE lease_id IS NOT NULL") == 0
