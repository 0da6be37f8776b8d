"""Chat statuses as rows: the newest knowledge wins, migrations stay, and every process hears of them."""

from __future__ import annotations

import asyncio

import pytest

from telewarm.database import chats
from telewarm.database.chats import ReachableChat, UnreachableChat
from telewarm.database.connection import Pool
from telewarm.database.notifications import subscribe
from telewarm.models import BotId, ChatId, ChatRecord, ChatState
from tests.fixtures.rows import make_bot

GROUP, SUPERGROUP = ChatId(-4001), ChatId(-1001000004001)


def lost(bot_id: BotId, chat_id: int, state: ChatState = ChatState.BLOCKED, *, age: float = 0.0) -> UnreachableChat:
    moved = SUPERGROUP if state is ChatState.MIGRATED else None
    return UnreachableChat(
        bot_id=bot_id, chat_id=ChatId(chat_id), state=state, reason=f"it is {state}", migrated_to=moved, age_seconds=age
    )


async def statuses_of(pool: Pool, bot_id: BotId) -> list[ChatRecord]:
    return await chats.page(pool, bot_id, state=None, after=None, limit=100)


async def states(pool: Pool, bot_id: BotId) -> dict[int, ChatState]:
    return {record.chat_id: record.state for record in await statuses_of(pool, bot_id)}


async def test_a_lost_chat_is_kept_with_telegrams_words_and_since_when(pool: Pool) -> None:
    bot = await make_bot(pool)
    await chats.record_unreachable(pool, [lost(bot.id, 5, age=60), lost(bot.id, GROUP, ChatState.MIGRATED)])

    group, chat = await statuses_of(pool, bot.id)

    assert (chat.chat_id, chat.state, chat.reason, chat.migrated_to) == (5, ChatState.BLOCKED, "it is blocked", None)
    assert (group.chat_id, group.state, group.migrated_to) == (GROUP, ChatState.MIGRATED, SUPERGROUP)
    assert 59 < (group.since - chat.since).total_seconds() < 61


async def test_a_state_that_lasts_keeps_its_beginning_and_another_has_its_own(pool: Pool) -> None:
    bot = await make_bot(pool)
    await chats.record_unreachable(pool, [lost(bot.id, 5, age=60), lost(bot.id, 6, age=60)])
    first, second = await statuses_of(pool, bot.id)

    await chats.record_unreachable(pool, [lost(bot.id, 5), lost(bot.id, 6, ChatState.DEACTIVATED)])

    blocked, deactivated = await statuses_of(pool, bot.id)
    assert blocked.since == first.since
    assert deactivated.since > second.since


async def test_news_that_changes_nothing_writes_nothing(pool: Pool) -> None:
    bot = await make_bot(pool)
    await chats.record_unreachable(pool, [lost(bot.id, 5)])
    row = await pool.fetchval("SELECT ctid FROM chat")

    await chats.record_unreachable(pool, [lost(bot.id, 5)])
    await chats.record_reachable(pool, [ReachableChat(bot.id, ChatId(6))])

    assert await pool.fetchval("SELECT ctid FROM chat") == row
    assert await states(pool, bot.id) == {5: ChatState.BLOCKED}


async def test_a_success_makes_a_chat_reachable_again_for_that_bot_alone(pool: Pool) -> None:
    one, other = await make_bot(pool), await make_bot(pool, 1)
    await chats.record_unreachable(pool, [lost(bot.id, chat) for bot in (one, other) for chat in (5, 6)])

    await chats.record_reachable(pool, [ReachableChat(one.id, ChatId(5)), ReachableChat(one.id, ChatId(99))])

    assert await states(pool, one.id) == {5: ChatState.REACHABLE, 6: ChatState.BLOCKED}
    assert await states(pool, other.id) == {5: ChatState.BLOCKED, 6: ChatState.BLOCKED}
    record = (await statuses_of(pool, one.id))[0]
    assert (record.reason, record.migrated_to) == ("", None)


async def test_news_that_comes_late_does_not_undo_what_is_newer(pool: Pool) -> None:
    bot = await make_bot(pool)
    await chats.record_unreachable(pool, [lost(bot.id, 5, age=30)])

    await chats.record_reachable(pool, [ReachableChat(bot.id, ChatId(5), 60)])
    assert await states(pool, bot.id) == {5: ChatState.BLOCKED}

    await chats.record_reachable(pool, [ReachableChat(bot.id, ChatId(5), 10)])
    await chats.record_unreachable(pool, [lost(bot.id, 5, ChatState.DEACTIVATED, age=20)])
    assert await states(pool, bot.id) == {5: ChatState.REACHABLE}


async def test_a_group_that_migrated_stays_migrated_whatever_its_old_id_meets(pool: Pool) -> None:
    bot = await make_bot(pool)
    await chats.record_unreachable(pool, [lost(bot.id, GROUP, ChatState.MIGRATED)])

    await chats.record_reachable(pool, [ReachableChat(bot.id, GROUP)])
    await chats.record_unreachable(pool, [lost(bot.id, GROUP, ChatState.NOT_FOUND)])

    assert await states(pool, bot.id) == {GROUP: ChatState.MIGRATED}
    assert await chats.migrations(pool) == [(bot.id, GROUP, SUPERGROUP)]


async def test_a_bot_that_is_gone_does_not_keep_the_others_news_from_being_written(pool: Pool) -> None:
    bot = await make_bot(pool)

    await chats.record_unreachable(pool, [lost(BotId(999), 5), lost(bot.id, 5)])

    assert await pool.fetchval("SELECT array_agg(bot_id) FROM chat") == [bot.id]


async def test_every_process_hears_of_migrations_and_of_their_end_and_of_nothing_else(pool: Pool) -> None:
    bot = await make_bot(pool)
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with subscribe(pool, {chats.CHANNEL: heard.put_nowait}, on_lost=lambda: None):
        await chats.record_unreachable(pool, [lost(bot.id, 5), lost(bot.id, GROUP, ChatState.MIGRATED)])
        await chats.record_unreachable(pool, [lost(bot.id, GROUP, ChatState.MIGRATED)])
        assert await heard.get() == f"{bot.id} {GROUP} {SUPERGROUP}"

        assert await chats.clear(pool, bot.id, None) == 2
        assert await heard.get() == f"{bot.id} {GROUP} {GROUP}"
    assert heard.empty()


async def test_the_ledger_comes_in_pages_by_chat_id_and_by_state(pool: Pool) -> None:
    bot = await make_bot(pool)
    ids = [-(2**62), -7, 3, 2**52]
    await chats.record_unreachable(pool, [lost(bot.id, chat_id) for chat_id in ids])
    await chats.record_unreachable(pool, [lost(bot.id, 4, ChatState.KICKED)])

    seen: list[int] = []
    after = None
    while page := await chats.page(pool, bot.id, state=ChatState.BLOCKED, after=after, limit=3):
        seen += [record.chat_id for record in page]
        after = page[-1].chat_id

    assert seen == ids
    assert await chats.counts(pool, bot.id) == {ChatState.BLOCKED: 4, ChatState.KICKED: 1}


async def test_many_are_cleared_in_statements_that_are_short(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chats, "ROWS_PER_DELETE", 3)
    bot = await make_bot(pool)
    await chats.record_unreachable(pool, [lost(bot.id, chat) for chat in range(1, 12)])
    async with pool.acquire() as connection:
        asked: list[str] = []
        connection.add_query_logger(lambda record: asked.append(record.query))
        assert await chats.clear(connection, bot.id, None) == 11
    assert sum("DELETE FROM chat" in one for one in asked) == 5  # the last one finds none
    assert await statuses_of(pool, bot.id) == []


async def test_what_is_cleared_is_forgotten_and_nothing_else(pool: Pool) -> None:
    bot, other = await make_bot(pool), await make_bot(pool, 1)
    await chats.record_unreachable(pool, [lost(one.id, chat) for one in (bot, other) for chat in (4, 5, 6)])
    await chats.record_unreachable(pool, [lost(bot.id, 7, ChatState.KICKED)])

    assert await chats.clear(pool, bot.id, [ChatId(4), ChatId(99)]) == 1
    assert await chats.clear(pool, bot.id, None, state=ChatState.KICKED) == 1
    assert await states(pool, bot.id) == {5: ChatState.BLOCKED, 6: ChatState.BLOCKED}
    assert await chats.clear(pool, bot.id, None) == 2
    assert len(await statuses_of(pool, other.id)) == 3


async def test_two_processes_that_write_the_same_chats_never_wait_for_each_other_in_a_circle(pool: Pool) -> None:
    bot = await make_bot(pool)
    some = [lost(bot.id, chat) for chat in range(300)]
    found = [ReachableChat(bot.id, ChatId(chat)) for chat in range(300)]

    for _ in range(5):
        await asyncio.gather(
            chats.record_unreachable(pool, some),
            chats.record_unreachable(pool, some[::-1]),
            chats.record_reachable(pool, found),
            chats.record_reachable(pool, found[::-1]),
        )

    assert len(await states(pool, bot.id)) == 100
