"""Dead file ids: forgotten once, and copied meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from telewarm import clock
from telewarm.database import media
from telewarm.errors import BadRequest, ChatUnreachable, FloodWait
from telewarm.models import ChatId, Kind, MediaState, MessageId
from telewarm.sandbox import Sandbox
from telewarm.telegram.values import SendOptions
from tests.fixtures.app import READER, WARMUP_CHAT, Opener, add_bot, add_photos, readers, until_ready
from tests.sender.invalid_ids import invalid_ids, photos

GROUP = ChatId(-1001000004001)


async def test_a_dead_id_is_forgotten_and_the_recipient_gets_a_copy_without_an_upload(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    """A defect of the Node system: dead file ids were served for ever."""
    sick = await invalid_ids(telewarm_with, sandbox)

    message_id = await sick.heal(caption="<b>hello</b>", options=SendOptions(parse_mode="HTML", protect_content=True))

    content = sick.content(message_id)
    assert content.file is not None
    assert (content.file.kind, content.text, content.protected) == ("photo", "hello", True)
    assert await sick.states() == [MediaState.WARMING]
    await sick.telewarm.worker.start()
    [fresh] = await until_ready(sick.telewarm, sick.items[0].id)
    assert fresh.file_id != sick.items[0].file_id
    assert sandbox.state.stats.total.uploads == 1


async def test_a_send_without_a_caption_does_not_show_the_warm_up_messages_own(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    sick = await invalid_ids(telewarm_with, sandbox)
    captioned = await sick.session.api.copy_message(WARMUP_CHAT, WARMUP_CHAT, MessageId(1), caption="warm-up no. 1")
    await sick.telewarm.pool.execute("UPDATE media SET warmup_message_id = $1", captioned)

    assert sick.content(await sick.heal()).text == ""


async def test_many_sends_of_a_dead_id_at_once_forget_it_once_and_all_get_their_copy(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    sick = await invalid_ids(telewarm_with, sandbox)

    copies = await asyncio.gather(*(sick.heal(chat_id=chat_id) for chat_id in readers(30)))

    assert all(copies)
    assert sandbox.state.stats.chats == {WARMUP_CHAT: 1} | dict.fromkeys(readers(30), 1)
    assert sandbox.state.stats.total.uploads == 1
    assert sick.calls("getMe") == 1  # of when the bot was created: one item is no reason for a look


async def test_an_id_that_was_replaced_already_stays_and_nothing_is_copied(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    sick = await invalid_ids(telewarm_with, sandbox)
    await sick.telewarm.pool.execute("UPDATE media SET file_id = 'a-fresher-one'")

    assert await sick.heal() is None

    assert (await media.get(sick.telewarm.pool, sick.items[0].id)).file_id == "a-fresher-one"
    assert sick.messages == 0


async def test_an_item_that_is_gone_is_nobodys_to_copy(telewarm_with: Opener, sandbox: Sandbox) -> None:
    sick = await invalid_ids(telewarm_with, sandbox)
    await sick.telewarm.pool.execute("DELETE FROM media")

    assert await sick.heal() is None


async def test_an_item_without_a_warm_up_message_needs_its_bytes(telewarm_with: Opener, sandbox: Sandbox) -> None:
    sick = await invalid_ids(telewarm_with, sandbox)
    await sick.telewarm.pool.execute("UPDATE media SET warmup_chat = NULL, warmup_message_id = NULL")

    assert await sick.heal() is None
    assert await sick.states() == [MediaState.WARMING]


async def test_an_id_that_came_by_forward_loses_its_message_but_not_before_it_is_copied(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    sick = await invalid_ids(telewarm_with, sandbox)
    await sick.telewarm.pool.execute("UPDATE media SET way = 'forward'")

    assert await sick.heal() is not None
    assert await sick.telewarm.pool.fetchval("SELECT warmup_message_id FROM media") is None


async def test_a_warm_up_message_that_was_deleted_gives_way_to_the_bytes(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    sick = await invalid_ids(telewarm_with, sandbox)
    await sick.session.api.delete_message(WARMUP_CHAT, MessageId(1))

    assert await sick.heal() is None
    assert await sick.states() == [MediaState.WARMING]


async def test_a_bot_that_was_thrown_out_of_its_warm_up_chat_tries_one_copy(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    sick = await invalid_ids(telewarm_with, sandbox, 2)
    sandbox.state.chats.declare(WARMUP_CHAT, others="kicked")

    assert [await sick.heal(number) for number in range(2)] == [None, None]

    assert sick.calls("copyMessage") == 1
    assert await sick.states() == [MediaState.WARMING, MediaState.WARMING]


async def test_a_spoiler_is_never_given_away_by_a_copy(telewarm_with: Opener, sandbox: Sandbox) -> None:
    sick = await invalid_ids(telewarm_with, sandbox)

    assert await sick.heal(options=SendOptions(has_spoiler=True)) is None
    assert sick.messages == 0


@pytest.mark.parametrize("change", [{"blocked": True}, {"deactivated": True}])
async def test_a_recipient_who_cannot_be_reached_is_told_of(
    telewarm_with: Opener, sandbox: Sandbox, change: dict[str, bool]
) -> None:
    sick = await invalid_ids(telewarm_with, sandbox)
    sandbox.state.chats.declare(READER, **change)

    with pytest.raises(ChatUnreachable) as caught:
        await sick.heal()

    assert caught.value.reason == next(iter(change))


async def test_a_chat_that_is_not_found_may_be_either_and_closes_no_way(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    sick = await invalid_ids(telewarm_with, sandbox, 2)
    sandbox.state.chats.declare(READER, exists=False)
    sandbox.state.chats.declare(GROUP, type="supergroup", others="kicked")

    assert await sick.heal() is None
    assert await sick.heal(chat_id=GROUP) is None
    assert await sick.heal(1, chat_id=readers(2)[1]) is not None


async def test_a_mistake_of_the_callers_is_the_callers(telewarm_with: Opener, sandbox: Sandbox) -> None:
    sick = await invalid_ids(telewarm_with, sandbox)

    with pytest.raises(BadRequest, match="can't parse entities"):
        await sick.heal(caption="<b>", options=SendOptions(parse_mode="HTML"))


async def test_a_copy_waits_for_the_limits_no_longer_than_the_caller(telewarm_with: Opener, sandbox: Sandbox) -> None:
    sick = await invalid_ids(telewarm_with, sandbox)
    sick.session.limiter.pause_chat(READER, clock.monotonic() + 600)

    with pytest.raises(FloodWait) as caught:
        await sick.heal(patience=5)

    assert caught.value.retry_after > 500
    assert await sick.states() == [MediaState.WARMING]


async def test_a_foreign_id_is_as_good_as_dead(telewarm_with: Opener, sandbox: Sandbox) -> None:
    sick = await invalid_ids(telewarm_with, sandbox)
    other = await add_bot(sick.telewarm, 1)
    await sick.telewarm.worker.start()
    [foreign] = await until_ready(sick.telewarm, *await add_photos(sick.telewarm, other, 1, first=5))
    await sick.telewarm.worker.stop()
    await sick.telewarm.pool.execute("UPDATE media SET file_id = $1 WHERE id = $2", foreign.file_id, sick.items[0].id)

    async with sick.sender() as sender:
        [result] = await sender.send(sick.session, READER, photos(sick.items[0]))

    assert (result.error, result.cache_hit, result.kind) == (None, False, Kind.PHOTO)
    assert sick.calls("copyMessage") == 1
    assert sandbox.state.stats.total.uploads == 2  # the two warm-ups


async def test_an_id_of_another_kind_is_as_good_as_dead(telewarm_with: Opener, sandbox: Sandbox) -> None:
    sick = await invalid_ids(telewarm_with, sandbox)
    sandbox.state.files.killed.clear()
    await sick.telewarm.pool.execute("UPDATE media SET sent_kind = 'video'")

    async with sick.sender() as sender:
        [result] = await sender.send(sick.session, READER, photos(sick.items[0]))

    content = sick.content(result.message_id)
    assert content.file is not None
    assert (result.error, content.file.kind) == (None, "photo")
    assert (sick.calls("sendVideo"), sandbox.state.stats.total.uploads) == (1, 1)


async def test_who_gives_up_does_not_keep_the_others_from_being_healed(telewarm_with: Opener, sandbox: Sandbox) -> None:
    sick = await invalid_ids(telewarm_with, sandbox)
    first = asyncio.create_task(sick.heal())
    second = asyncio.create_task(sick.heal(chat_id=readers(2)[1]))
    while not sick.healing._dropping:
        await asyncio.wait([first], timeout=0)
    first.cancel()

    outcomes = await asyncio.gather(first, second, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError, int]
