"""What a warm-up chat refuses is that chat's fault: its items wait or go elsewhere, and none is blamed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from telewarm.database import chats, media
from telewarm.database.leases import ProcessLease
from telewarm.errors import ChatUnreachable
from telewarm.models import ChatId, ChatState, MediaId, MediaState
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from telewarm.warmup.policy import RetryLimits
from telewarm.warmup.work import WarmupWork
from tests.fixtures.app import NO_SWEEP, OTHER_CHAT, WARMUP_CHAT, Opener, add_bot, add_photos, until, until_ready
from tests.fixtures.sandbox import token

GROUP, SUPERGROUP = ChatId(-4_000_001), ChatId(-1_001_000_000_777)
OF_THE_CHAT = [
    "TOPIC_CLOSED",
    "message thread not found",
    "CHAT_RESTRICTED",
    "USER_BANNED_IN_CHANNEL",
    "ALLOW_PAYMENT_REQUIRED_5",
    "CHAT_WRITE_FORBIDDEN",
    "CHAT_GUEST_SEND_FORBIDDEN",
    "CHAT_SOMETHING_NEW_FORBIDDEN",
    "need administrator rights in the channel chat",
    "not enough rights to send photos to the chat",
    "have no rights to send a message",
]


async def until_tried(telewarm: Telewarm, media_id: MediaId) -> None:
    async def tried() -> bool:
        return (await media.get(telewarm.pool, media_id)).last_error is not None

    await until(telewarm, tried)


@pytest.mark.parametrize("words", OF_THE_CHAT)
async def test_an_item_waits_for_its_only_warm_up_chat_and_says_that_the_chat_is_at_fault(
    telewarm_with: Opener, sandbox: Sandbox, words: str
) -> None:
    telewarm = await telewarm_with(NO_SWEEP)
    session = await add_bot(telewarm)
    sandbox.state.chats.declare(WARMUP_CHAT, refuses=words)
    [media_id] = await add_photos(telewarm, session, 1)

    await until_tried(telewarm, media_id)

    item = await media.get(telewarm.pool, media_id)
    assert (item.state, item.attempts, item.last_error_code) == (MediaState.WARMING, 0, "CHAT_UNREACHABLE")
    assert item.last_error is not None
    assert words in item.last_error
    assert str(WARMUP_CHAT) in item.last_error
    assert "not the file" in item.last_error


@pytest.mark.parametrize("words", ["TOPIC_CLOSED", "not enough rights to send photos to the chat"])
async def test_another_warm_up_chat_is_used_at_once_where_there_is_one(
    telewarm_with: Opener, sandbox: Sandbox, words: str
) -> None:
    telewarm = await telewarm_with(NO_SWEEP)
    session = await add_bot(telewarm, 0, WARMUP_CHAT, OTHER_CHAT)
    sandbox.state.chats.declare(WARMUP_CHAT, refuses=words)

    await until_ready(telewarm, *await add_photos(telewarm, session, 12))

    assert sandbox.state.stats.chats == {OTHER_CHAT: 12}
    assert sandbox.state.stats.total.errors[400] < 12  # the chat is passed over once it has refused


async def test_a_slow_mode_is_a_wait_of_that_chat_and_of_nothing_else(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with(NO_SWEEP)
    session = await add_bot(telewarm, 0, WARMUP_CHAT, OTHER_CHAT)
    sandbox.state.chats.declare(WARMUP_CHAT, refuses="SLOWMODE_WAIT_3000")

    await until_ready(telewarm, *await add_photos(telewarm, session, 6))

    assert sandbox.state.stats.chats == {OTHER_CHAT: 6}
    reported = await telewarm.pool.fetch("SELECT chat_id FROM flood_wait WHERE until > now() + '40 minutes'")
    assert [row["chat_id"] for row in reported] == [WARMUP_CHAT]


async def test_a_warm_up_group_that_became_a_supergroup_is_followed_in_every_process(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    telewarm, other = await telewarm_with(NO_SWEEP), await telewarm_with(worker=False)
    session = await add_bot(telewarm, 0, GROUP)
    await other.bots.by_slug("bot-0")
    sandbox.state.chats.declare(GROUP, migrated_to=SUPERGROUP)
    sandbox.state.chats.declare(SUPERGROUP, type="supergroup")

    await until_ready(telewarm, *await add_photos(telewarm, session, 7))

    assert sandbox.state.stats.chats == {SUPERGROUP: 7}
    assert (await telewarm.bots.by_slug("bot-0")).bot.warmup_chats == (SUPERGROUP,)
    [line] = await chats.page(telewarm.pool, session.bot.id, state=None, after=None, limit=10)
    assert (line.chat_id, line.state, line.migrated_to) == (GROUP, ChatState.MIGRATED, SUPERGROUP)

    async def known() -> bool:
        return (await other.bots.by_slug("bot-0")).bot.warmup_chats == (SUPERGROUP,)

    await until(telewarm, known)


async def test_the_supergroup_is_not_named_twice_when_it_is_a_warm_up_chat_already(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    telewarm = await telewarm_with(NO_SWEEP)
    session = await add_bot(telewarm, 0, GROUP, SUPERGROUP, OTHER_CHAT)
    sandbox.state.chats.declare(GROUP, migrated_to=SUPERGROUP)

    await until_ready(telewarm, *await add_photos(telewarm, session, 9))

    assert (await telewarm.bots.by_slug("bot-0")).bot.warmup_chats == (SUPERGROUP, OTHER_CHAT)


async def test_a_check_of_the_bot_finds_the_upgraded_group_and_follows_it(
    idle_telewarm: Telewarm, sandbox: Sandbox
) -> None:
    session = await add_bot(idle_telewarm, 0, GROUP)
    sandbox.state.chats.declare(GROUP, migrated_to=SUPERGROUP)
    sandbox.state.chats.declare(SUPERGROUP, type="supergroup")

    found = await idle_telewarm.bots.check("bot-0")

    assert found.chats[0].migrated_to == SUPERGROUP
    assert str(SUPERGROUP) in (found.chats[0].result.message or "")
    assert session.bot.warmup_chats == (SUPERGROUP,)
    assert sandbox.state.stats.total.messages == 0


async def test_a_bot_that_is_logged_out_is_told_so_and_not_that_its_token_is_bad(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    telewarm = await telewarm_with(NO_SWEEP)
    session = await add_bot(telewarm)
    sandbox.state.bots.open(session.bot.telegram_id).logged_out = True
    [media_id] = await add_photos(telewarm, session, 1)

    await until_tried(telewarm, media_id)
    found = await telewarm.bots.check("bot-0")

    for said in ((await media.get(telewarm.pool, media_id)).last_error, found.token.message):
        assert said is not None
        assert "TELEGRAM_API_ROOT" in said
        assert "10 minutes" in said
        assert "current token" not in said


async def it_is_checked(telewarm: Telewarm) -> None:
    assert (await telewarm.bots.check("bot-0")).ok


async def the_same_chats_are_given_again(telewarm: Telewarm) -> None:
    await telewarm.bots.replace_chats("bot-0", [WARMUP_CHAT])


async def the_same_token_is_given_again(telewarm: Telewarm) -> None:
    await telewarm.bots.replace_token("bot-0", token(0))


@pytest.mark.parametrize("cure", [it_is_checked, the_same_chats_are_given_again, the_same_token_is_given_again])
async def test_what_waits_for_a_chat_that_was_cured_goes_when_its_bot_is_checked_or_given_what_it_has(
    telewarm_with: Opener, sandbox: Sandbox, cure: Callable[[Telewarm], Awaitable[None]]
) -> None:
    telewarm, other = await telewarm_with(NO_SWEEP), await telewarm_with(worker=False)
    session = await add_bot(telewarm)
    rule = Rule(action="error", code=403, description="Forbidden: bot was kicked", chat=WARMUP_CHAT, count=None)
    sandbox.state.faults.add(rule)
    ids = await add_photos(telewarm, session, 2)
    for media_id in ids:
        await until_tried(telewarm, media_id)

    sandbox.state.faults.clear()
    await cure(other)

    await until_ready(telewarm, *ids)


async def test_an_item_whose_failure_is_written_after_its_bot_got_another_chat_goes_at_once(
    idle_telewarm: Telewarm,
) -> None:
    telewarm = idle_telewarm
    session = await add_bot(telewarm)
    [media_id] = await add_photos(telewarm, session, 1)
    retries = RetryLimits(limit=3, base_seconds=1.0, max_seconds=300.0)
    async with ProcessLease.open(telewarm.pool) as lease:
        work = WarmupWork(
            pool=telewarm.pool, lease=lease, session=session, uploader=telewarm.sender._uploader, retries=retries
        )
        [job] = await work.claim(1)
        refused = ChatUnreachable(
            method="sendPhoto", chat_id=WARMUP_CHAT, status=403, description="Forbidden: kicked", reason="kicked"
        )
        failed = work.failed(job.item, refused)
        assert failed.retry_delay == retries.max_seconds

        await telewarm.bots.replace_chats("bot-0", [OTHER_CHAT])
        await work.record([failed])

        waits = "SELECT next_attempt_at IS NOT NULL FROM media WHERE id = $1"
        assert await telewarm.pool.fetchval(waits, media_id) is False
