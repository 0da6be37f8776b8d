"""Bots as rows: unique, sealed, paused, and who shares a warm-up chat with whom."""

from __future__ import annotations

import asyncio

import pytest

from telewarm.database import bots
from telewarm.database.connection import Pool
from telewarm.database.notifications import subscribe
from telewarm.errors import Conflict, NotFound
from telewarm.models import BotId, ChatId
from tests.fixtures.rows import CHAT, SEAL, make_bot
from tests.fixtures.sandbox import token


async def test_a_bot_comes_back_with_its_token_which_the_row_does_not_show(pool: Pool) -> None:
    bot = await make_bot(pool)

    assert await bots.by_slug(pool, SEAL, "bot-0") == bot == await bots.by_id(pool, SEAL, bot.id)
    assert bot.token == token(0)
    assert token(0).encode() not in await pool.fetchval("SELECT token_sealed FROM bot")
    assert token(0) not in repr(bot)


@pytest.mark.parametrize(
    ("slug", "telegram_id", "taken"), [("bot-0", 5, "slug 'bot-0'"), ("other", 1_000_000_001, "Telegram bot")]
)
async def test_a_slug_or_a_telegram_bot_that_is_here_already_is_a_conflict(
    pool: Pool, slug: str, telegram_id: int, taken: str
) -> None:
    await make_bot(pool)

    with pytest.raises(Conflict, match=taken):
        await bots.insert(pool, SEAL, slug=slug, token=token(0), telegram_id=telegram_id, username=None, chats=[CHAT])


async def test_bots_that_are_not_there_are_not_found(pool: Pool) -> None:
    with pytest.raises(NotFound, match="no bot has the slug 'nobody'"):
        await bots.by_slug(pool, SEAL, "nobody")
    with pytest.raises(NotFound, match="bot 7 is gone"):
        await bots.by_id(pool, SEAL, BotId(7))


async def test_sharers_are_the_other_bots_with_a_chat_in_common(pool: Pool) -> None:
    ours = await make_bot(pool, 0, chats=(CHAT, ChatId(-2)))
    one, two = await make_bot(pool, 1, chats=(CHAT,)), await make_bot(pool, 2, chats=(ChatId(-3), ChatId(-2)))
    await make_bot(pool, 3, chats=(ChatId(-3),))

    assert sorted(await bots.bots_sharing_warmup_chats(pool, ours.id)) == [one.id, two.id]


async def test_a_pause_only_ever_grows(pool: Pool) -> None:
    bot = await make_bot(pool)
    assert await bots.pause_seconds(pool, bot.id) == 0

    await bots.pause(pool, bot.id, None, 60)
    await bots.pause(pool, bot.id, None, 1)

    assert 58 < await bots.pause_seconds(pool, bot.id) <= 60


async def test_a_pause_that_is_over_is_none(pool: Pool) -> None:
    bot = await make_bot(pool)
    await bots.pause(pool, bot.id, None, -1)

    assert await bots.pause_seconds(pool, bot.id) == 0


async def test_flood_waits_are_kept_chat_by_chat_and_forgotten_when_they_are_over(pool: Pool) -> None:
    bot = await make_bot(pool)

    await bots.pause(pool, bot.id, CHAT, 60)
    await bots.pause(pool, bot.id, CHAT, 1)
    await bots.pause(pool, bot.id, ChatId(-2), -1)

    closed = (await bots.by_id(pool, SEAL, bot.id)).chat_pauses
    assert list(closed) == [CHAT]
    assert 58 < closed[CHAT] <= 60
    await bots.delete_expired_flood_waits(pool)
    assert await pool.fetchval("SELECT count(*) FROM flood_wait") == 1


async def test_every_process_is_told_of_flood_waits_and_pauses(pool: Pool) -> None:
    bot = await make_bot(pool)
    heard: list[str] = []
    done = asyncio.Event()

    def hear(payload: str) -> None:
        heard.append(payload)
        if len(heard) == 4:
            done.set()

    async with subscribe(pool, {bots.CHANNEL: hear, bots.FLOOD_CHANNEL: hear}, on_lost=heard.clear):
        heard.clear()
        await bots.pause(pool, bot.id, CHAT, 1)
        await bots.pause(pool, bot.id, None, 1)
        assert await bots.set_paused(pool, bot.id, paused=True)
        assert not await bots.set_paused(pool, bot.id, paused=True)
        assert await bots.set_paused(pool, bot.id, paused=False)
        await asyncio.wait_for(done.wait(), 5)

    assert heard == [f"{bot.id}:{CHAT}:1", f"{bot.id}::1", str(bot.id), str(bot.id)]


async def test_what_was_learned_comes_back_with_the_bot(pool: Pool) -> None:
    bot = await make_bot(pool)
    assert bot.learned_limits == {}

    await bots.save_learned_limits(pool, bot.id, {"group": 12.5})

    assert (await bots.by_id(pool, SEAL, bot.id)).learned_limits == {"group": 12.5}
