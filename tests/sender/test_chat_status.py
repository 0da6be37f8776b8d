"""Chat statuses as sends record them: in batches, in order, bounded; and where groups are that migrated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from telewarm import clock
from telewarm.database import chats
from telewarm.database.connection import Pool
from telewarm.database.leases import ProcessLease
from telewarm.errors import ChatUnreachable
from telewarm.models import Bot, BotId, ChatId, ChatState, MessageSet
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from telewarm.sending import chat_status as ledgers
from telewarm.sending.chat_status import MAX_ROWS, ChatStatusWriter
from telewarm.sending.file_id_cache import FileIdCache
from telewarm.sending.file_id_recovery import FileIdRecovery
from telewarm.sending.send_context import SendLimits
from telewarm.sending.sender import Sender
from tests.fixtures.app import add_bot
from tests.fixtures.outages import writes_fail
from tests.fixtures.rows import make_bot

GROUP, SUPERGROUP = ChatId(-4001), ChatId(-1001000004001)
CHAT = ChatId(500_000_001)


def unreachable(reason: str = "blocked", words: str = "Forbidden: bot was blocked by the user") -> ChatUnreachable:
    return ChatUnreachable(method="sendPhoto", chat_id=CHAT, status=403, description=words, reason=reason)


def unwritten() -> ChatStatusWriter:
    return ChatStatusWriter(None)  # type: ignore[arg-type]  # there is no database


async def states(pool: Pool, bot: Bot) -> dict[int, str]:
    return {
        record.chat_id: record.state.value
        for record in await chats.page(pool, bot.id, state=None, after=None, limit=100)
    }


@asynccontextmanager
async def sending(telewarm: Telewarm) -> AsyncIterator[Sender]:
    """A sender with a chat status writer of its own, which has been written when this ends."""
    pool, uploader, file_ids = telewarm.pool, telewarm.sender._uploader, FileIdCache()
    healing = FileIdRecovery(pool=pool, bots=telewarm.bots, uploader=uploader, file_ids=file_ids)
    async with ProcessLease.open(pool) as lease, (statuses := ChatStatusWriter(pool)).running():
        yield Sender(
            pool=pool,
            lease=lease,
            uploader=uploader,
            file_ids=file_ids,
            chat_status=statuses,
            recovery=healing,
            limits=SendLimits(),
        )


async def soon(condition: Callable[[], bool]) -> None:
    """The test's own time limit bounds it."""
    while not condition():
        await clock.wait(asyncio.Event(), 0.02)


async def test_blocked_users_are_remembered_as_such_and_a_success_revives_them(pool: Pool) -> None:
    """A defect of the Node system: blocked users counted as failures, for ever."""
    bot = await make_bot(pool)
    async with (statuses := ChatStatusWriter(pool)).running():
        statuses.note_failure(bot.id, CHAT, unreachable())
    [record] = await chats.page(pool, bot.id, state=None, after=None, limit=100)
    assert (record.state, record.reason) == (ChatState.BLOCKED, "Forbidden: bot was blocked by the user")

    async with statuses.running():
        statuses.note_reached(bot.id, CHAT)
    assert await states(pool, bot) == {CHAT: "reachable"}


@pytest.mark.parametrize(
    ("chat_id", "change", "state"),
    [
        (CHAT, {"blocked": True}, "blocked"),
        (CHAT, {"deactivated": True}, "deactivated"),
        (CHAT, {"exists": False}, "not_found"),
        (CHAT, {"never_started": True}, "not_found"),
        (SUPERGROUP, {"type": "supergroup", "others": "kicked"}, "kicked"),
        (SUPERGROUP, {"type": "supergroup", "others": "left"}, "not_member"),
        (GROUP, {"deleted": True}, "deleted"),
        (GROUP, {"migrated_to": SUPERGROUP}, "migrated"),
    ],
)
async def test_every_send_feeds_the_ledger_and_a_success_revives(
    idle_telewarm: Telewarm, sandbox: Sandbox, chat_id: ChatId, change: dict[str, object], state: str
) -> None:
    pool, session = idle_telewarm.pool, await add_bot(idle_telewarm)
    lost = sandbox.state.chats.declare(chat_id, **change)
    async with sending(idle_telewarm) as sender:
        [result] = await sender.send(session, chat_id, MessageSet(text="hello"))
    assert await states(pool, session.bot) == {chat_id: state}
    assert (result.error is None, result.moved_to) == ((True, SUPERGROUP) if state == "migrated" else (False, None))

    lost.migrated_to = None
    lost.blocked = lost.deactivated = lost.never_started = lost.deleted = False
    lost.exists, lost.others = True, "member"
    async with sending(idle_telewarm) as sender:
        [result] = await sender.send(session, chat_id, MessageSet(text="hello"))
    assert result.error is None
    assert await states(pool, session.bot) == {chat_id: "migrated" if state == "migrated" else "reachable"}


@pytest.mark.parametrize("reason", ["blocked", "deactivated", "kicked", "not_member", "not_found", "deleted"])
async def test_every_reason_has_its_state(pool: Pool, reason: str) -> None:
    bot = await make_bot(pool)
    async with (statuses := ChatStatusWriter(pool)).running():
        statuses.note_failure(bot.id, CHAT, unreachable(reason))
    assert await states(pool, bot) == {CHAT: reason}


async def test_missing_rights_say_nothing_of_the_chat_and_a_reached_chat_needs_no_line(pool: Pool) -> None:
    bot = await make_bot(pool)
    async with (statuses := ChatStatusWriter(pool)).running():
        statuses.note_failure(bot.id, CHAT, unreachable("no_rights"))
        statuses.note_reached(bot.id, ChatId(CHAT + 1))
    assert await states(pool, bot) == {}


async def test_what_comes_last_counts_also_within_one_batch(pool: Pool) -> None:
    bot = await make_bot(pool)
    one, other = CHAT, ChatId(CHAT + 1)
    async with (statuses := ChatStatusWriter(pool)).running():
        statuses.note_failure(bot.id, one, unreachable())
        statuses.note_failure(bot.id, other, unreachable())
    async with statuses.running():
        statuses.note_failure(bot.id, one, unreachable("deactivated"))
        statuses.note_reached(bot.id, one)
        statuses.note_reached(bot.id, other)
        statuses.note_failure(bot.id, other, unreachable("deactivated"))
    assert await states(pool, bot) == {one: "reachable", other: "deactivated"}


async def test_news_is_written_by_itself_while_it_runs(pool: Pool) -> None:
    bot = await make_bot(pool)
    async with (statuses := ChatStatusWriter(pool)).running():
        statuses.note_failure(bot.id, CHAT, unreachable())
        while not await states(pool, bot):
            await clock.wait(asyncio.Event(), 0.02)


async def test_a_full_ledger_is_written_early(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "FLUSH_INTERVAL_SECONDS", 3600.0)
    bot = await make_bot(pool)
    async with (statuses := ChatStatusWriter(pool)).running():
        statuses.note_failure(bot.id, CHAT, unreachable())
        for number in range(ledgers.FLUSH_AT_ROWS):
            statuses.note_reached(bot.id, ChatId(number + 1))
        while not (written := await states(pool, bot)):
            await clock.wait(asyncio.Event(), 0.02)
    assert written == {CHAT: "blocked"}


async def test_while_the_database_is_away_news_is_kept_and_written_later(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "FLUSH_INTERVAL_SECONDS", 0.05)
    bot = await make_bot(pool)
    async with (statuses := ChatStatusWriter(pool)).running(), writes_fail(pool, "chat"):
        statuses.note_failure(bot.id, CHAT, unreachable())
        statuses.note_failure(bot.id, ChatId(CHAT + 1), unreachable())
        await soon(lambda: not statuses._unreachable)  # it tries
        statuses.note_reached(bot.id, ChatId(CHAT + 1))
        await soon(lambda: len(statuses._unreachable) == 1)  # it failed, and what came meanwhile is newer
    assert await states(pool, bot) == {CHAT: "blocked"}


async def test_the_end_does_not_wait_for_a_database_that_is_away(pool: Pool) -> None:
    bot = await make_bot(pool)
    async with writes_fail(pool, "chat"), (statuses := ChatStatusWriter(pool)).running():
        statuses.note_failure(bot.id, CHAT, unreachable())


async def test_a_row_that_cannot_be_stored_is_dropped_and_told_and_the_others_are_kept(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "FLUSH_INTERVAL_SECONDS", 0.05)
    bot = await make_bot(pool)
    await pool.execute(f"ALTER TABLE chat ADD CHECK (chat_id <> {CHAT})")
    with capture_logs() as logged:
        async with (statuses := ChatStatusWriter(pool)).running():
            statuses.note_failure(bot.id, CHAT, unreachable())
            statuses.note_failure(bot.id, ChatId(CHAT + 1), unreachable())
            await soon(lambda: not statuses._unreachable)
    assert await states(pool, bot) == {CHAT + 1: "blocked"}
    assert [line["row"] for line in logged if line["event"] == "row_write_refused"] == [(bot.id, CHAT)]


@pytest.mark.slow
async def test_a_million_successes_that_nobody_writes_down_do_not_grow_without_bound() -> None:
    statuses = unwritten()
    for number in range(1_000_000):
        statuses.note_reached(BotId(1), ChatId(number + 1))
    assert len(statuses._reached) <= MAX_ROWS
    assert (BotId(1), ChatId(1_000_000)) in statuses._reached
    for number in range(2 * MAX_ROWS):
        statuses.note_failure(BotId(1), ChatId(number + 1), unreachable())
    assert len(statuses._unreachable) <= MAX_ROWS
    assert (BotId(1), ChatId(2 * MAX_ROWS)) in statuses._unreachable


async def test_words_and_ids_that_the_database_cannot_hold_do_not_keep_the_rest_from_being_written(pool: Pool) -> None:
    bot = await make_bot(pool)
    async with (statuses := ChatStatusWriter(pool)).running():
        statuses.note_failure(bot.id, CHAT, unreachable(words="Forbidden:\0 bot was blocked" + "!" * 10_000))
        statuses.note_failure(bot.id, ChatId(2**63), unreachable("not_found"))
        statuses.note_failure(bot.id, ChatId(CHAT + 1), unreachable())
    assert await states(pool, bot) == {CHAT: "blocked", CHAT + 1: "blocked"}


async def test_a_migrated_group_is_followed_at_once_and_after_a_restart(pool: Pool) -> None:
    bot = await make_bot(pool)
    async with (statuses := ChatStatusWriter(pool)).running():
        statuses.note_migration(bot.id, GROUP, SUPERGROUP)
        assert statuses.moved_to(bot.id, GROUP) == SUPERGROUP
        assert statuses.moved_to(bot.id, CHAT) == CHAT
        assert statuses.moved_to(BotId(bot.id + 1), GROUP) == GROUP

    async with (again := ChatStatusWriter(pool)).running():
        assert again.moved_to(bot.id, GROUP) == SUPERGROUP
    [record] = await chats.page(pool, bot.id, state=ChatState.MIGRATED, after=None, limit=1)
    assert record.migrated_to == SUPERGROUP


async def test_a_migration_outlasts_what_the_old_id_meets_in_the_same_batch(pool: Pool) -> None:
    bot = await make_bot(pool)
    async with (statuses := ChatStatusWriter(pool)).running():
        statuses.note_migration(bot.id, GROUP, SUPERGROUP)
        statuses.note_reached(bot.id, GROUP)
        statuses.note_failure(bot.id, GROUP, unreachable("not_found"))
    assert await states(pool, bot) == {GROUP: "migrated"}


async def test_another_process_hears_of_a_migration_and_of_its_end(pool: Pool) -> None:
    bot = await make_bot(pool)
    one, other = ChatStatusWriter(pool), ChatStatusWriter(pool)
    async with one.running(), other.running():
        one.note_migration(bot.id, GROUP, SUPERGROUP)
        await soon(lambda: other.moved_to(bot.id, GROUP) == SUPERGROUP)

        await chats.clear(pool, bot.id, [GROUP])
        await soon(lambda: {statuses.moved_to(bot.id, GROUP) for statuses in (one, other)} == {GROUP})


async def test_migrations_that_were_told_while_the_connection_was_lost_are_read(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "FLUSH_INTERVAL_SECONDS", 0.05)
    bot = await make_bot(pool)
    async with (statuses := ChatStatusWriter(pool)).running():
        await pool.execute(  # nobody is told
            "INSERT INTO chat (bot_id, chat_id, state, reason, migrated_to) VALUES ($1, $2, 'migrated', '', $3)",
            bot.id,
            GROUP,
            SUPERGROUP,
        )
        assert statuses.moved_to(bot.id, GROUP) == GROUP
        await pool.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        )
        await soon(lambda: statuses.moved_to(bot.id, GROUP) == SUPERGROUP)


async def test_a_migration_that_is_told_while_all_are_read_is_not_overwritten(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "FLUSH_INTERVAL_SECONDS", 0.05)
    async with (statuses := ChatStatusWriter(pool)).running():
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE chat")
            statuses._mark_migrations_stale()
            await soon(lambda: statuses._notified_during_read is not None)
            await pool.execute("SELECT pg_notify($1, $2)", chats.CHANNEL, f"1 {GROUP} {SUPERGROUP}")
            await soon(lambda: statuses.moved_to(BotId(1), GROUP) == SUPERGROUP)
        await soon(lambda: statuses._notified_during_read is None)
        assert statuses.moved_to(BotId(1), GROUP) == SUPERGROUP


@given(st.lists(st.tuples(st.integers(-9, -1), st.integers(-9, -1)), max_size=20))
def test_chains_are_followed_to_their_end_and_circles_never_hang(moves: list[tuple[int, int]]) -> None:
    statuses, moved = unwritten(), {}
    for old, new in moves:
        statuses.note_migration(BotId(1), ChatId(old), ChatId(new))
        if old != new:
            moved[old] = new
    for start in range(-9, 0):
        path = [start]
        while path[-1] in moved and len(path) <= 10:
            path.append(moved[path[-1]])
        expected = start if len(path) > 10 else path[-1]
        assert statuses.moved_to(BotId(1), ChatId(start)) == expected


def test_a_long_chain_is_followed() -> None:
    statuses = unwritten()
    for old, new in pairwise(range(1, 2000)):
        statuses.note_migration(BotId(1), ChatId(-old), ChatId(-new))
    assert statuses.moved_to(BotId(1), ChatId(-1)) == -1999
