"""A bot's token is replaced: by a new one of the same Telegram bot, or by another Telegram bot's."""

from __future__ import annotations

import pytest

from telewarm.database import media
from telewarm.errors import Conflict, InvalidBotToken
from telewarm.models import ChatId, MediaState, UploadMethod
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
)
from tests.fixtures.sandbox import FIRST_BOT, token

FRESH = f"{FIRST_BOT}:AAE{'fresh' * 6}99"


async def test_a_new_token_of_the_same_bot_is_used_at_once_everywhere_and_its_ids_stay(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    telewarm, other = await telewarm_with(NO_SWEEP), await telewarm_with(worker=False)
    session = await add_bot(telewarm)
    [item] = await until_ready(telewarm, *await add_photos(telewarm, session, 1))
    await other.bots.by_slug("bot-0")

    sandbox.state.bots.renew(FIRST_BOT)
    bot = await telewarm.bots.replace_token("bot-0", FRESH)

    async def known() -> bool:
        return (await other.bots.by_slug("bot-0")).bot.token == FRESH

    await until(telewarm, known)
    assert (bot.id, bot.token, bot.telegram_id) == (session.bot.id, FRESH, FIRST_BOT)
    [sent] = await other.sender.send(
        await other.bots.by_slug("bot-0"), READER, message_of(item.id), on_cold=OnCold.FAIL
    )
    assert (sent.error, sandbox.state.stats.total.uploads) == (None, 1)


async def test_what_waited_for_a_good_token_goes_at_once_when_it_comes(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with(NO_SWEEP)
    session = await add_bot(telewarm)
    sandbox.state.bots.open(FIRST_BOT).revoked = True
    ids = await add_photos(telewarm, session, 3)

    async def all_wait() -> bool:
        waiting = await telewarm.pool.fetchval("SELECT count(*) FROM media WHERE next_attempt_at > now() + '1 minute'")
        return bool(waiting == 3)

    await until(telewarm, all_wait)
    sandbox.state.bots.renew(FIRST_BOT)
    await telewarm.bots.replace_token("bot-0", FRESH)

    await until_ready(telewarm, *ids)


async def test_the_token_of_another_bot_voids_all_file_ids_and_everything_is_warmed_by_that_bot(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    telewarm, other = await telewarm_with(NO_SWEEP), await telewarm_with(worker=False)
    session = await add_bot(telewarm)
    items = await until_ready(telewarm, *await add_photos(telewarm, session, 3))
    theirs = await other.bots.by_slug("bot-0")
    await other.sender.send(theirs, READER, message_of(items[0].id))

    bot = await telewarm.bots.replace_token("bot-0", token(7))

    assert (bot.id, bot.telegram_id) == (session.bot.id, FIRST_BOT + 7)
    fresh = await until_ready(telewarm, *(item.id for item in items))
    assert not {item.file_id for item in fresh} & {item.file_id for item in items}
    assert {item.way for item in fresh} <= {UploadMethod.FORWARD, UploadMethod.UPLOAD}

    async def known() -> bool:
        return (await other.bots.by_slug("bot-0")).bot.telegram_id == FIRST_BOT + 7

    await until(telewarm, known)
    sandbox.state.stats.clear()
    [sent] = await other.sender.send(await other.bots.by_slug("bot-0"), READER, message_of(items[0].id))
    assert sent.error is None
    assert sandbox.state.stats.total.errors == {}  # nobody tried an id of the bot that was


async def test_uploads_in_flight_of_the_bot_that_was_are_worth_nothing_and_made_again(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    telewarm = await telewarm_with(NO_SWEEP)
    session = await add_bot(telewarm)
    hang = sandbox.state.faults.add(Rule(action="hang", seconds=0.6, count=3, method="sendPhoto"))
    ids = await add_photos(telewarm, session, 3)

    async def struck() -> bool:
        return hang.hit == 3

    await until(telewarm, struck)
    await telewarm.bots.replace_token("bot-0", token(7))

    await until_ready(telewarm, *ids)
    await telewarm.sender.send(await telewarm.bots.by_slug("bot-0"), READER, message_of(*ids))
    assert sandbox.state.stats.total.errors == {}
    assert await telewarm.pool.fetchval("SELECT count(*) FROM media WHERE lease_id IS NOT NULL") == 0


async def test_a_token_that_telegram_refuses_or_that_is_here_already_changes_nothing(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    telewarm = await telewarm_with()
    session = await add_bot(telewarm)
    await add_bot(telewarm, 1)
    [item] = await until_ready(telewarm, *await add_photos(telewarm, session, 1))
    sandbox.state.bots.open(FIRST_BOT + 8).revoked = True

    with pytest.raises(InvalidBotToken):
        await telewarm.bots.replace_token("bot-0", token(8))
    with pytest.raises(Conflict, match="another slug"):
        await telewarm.bots.replace_token("bot-0", token(1))

    assert (await media.get(telewarm.pool, item.id)).state is MediaState.READY
    assert (await telewarm.bots.by_slug("bot-0")).bot.token == token(0)


async def test_new_warm_up_chats_are_used_at_once_and_end_the_back_off_for_the_old_one(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    telewarm = await telewarm_with(NO_SWEEP)
    session = await add_bot(telewarm, 0, ChatId(-1009999))
    sandbox.state.bots.open(FIRST_BOT)
    sandbox.state.chats.declare(-1009999, exists=False)
    ids = await add_photos(telewarm, session, 2)

    async def both_wait() -> bool:
        return bool(await telewarm.pool.fetchval("SELECT count(*) FROM media WHERE next_attempt_at IS NOT NULL") == 2)

    await until(telewarm, both_wait)
    await telewarm.bots.replace_chats("bot-0", [WARMUP_CHAT])

    await until_ready(telewarm, *ids)
    assert sandbox.state.stats.chats == {WARMUP_CHAT: 2}
