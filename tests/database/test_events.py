"""What happens is written down with it, and numbered without gaps in the order in which it was committed."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from telewarm.database import bots, chats, events, leases, media, warmups
from telewarm.database.chats import ReachableChat, UnreachableChat
from telewarm.database.connection import Connection, Executor, Pool
from telewarm.database.warmups import WarmupFailure
from telewarm.models import ChatId, ChatState, Event, EventType, FileId
from tests.database.test_plans import plan
from tests.fixtures.rows import CHAT, SEAL, claim, make_bot, make_item, make_lease, uploaded
from tests.fixtures.sandbox import FIRST_BOT, token

SAY = (
    "INSERT INTO event_outbox (type, size, facts)"
    " SELECT 'worker.status', $1, json_agg(json_build_object('said', $2::bigint)) FROM generate_series(1, $1)"
)


async def say(db: Executor, said: int, *, times: int = 1) -> None:
    await db.execute(SAY, times, said)


async def reported(db: Executor, seen: int = 0) -> list[Event]:
    """All after an event, page by page."""
    found: list[Event] = []
    while (page := await events.read_after(db, seen)).last_id != seen:
        assert not page.is_gap
        found += page.events
        seen = page.last_id
    return found


def short(found: list[Event], *keys: str) -> list[tuple[object, ...]]:
    return [(one.type.value, one.bot, *(one.facts[key] for key in keys)) for one in found]


async def test_each_change_of_a_media_item_is_an_event_and_a_claim_is_none(pool: Pool) -> None:
    bot, lease = await make_bot(pool), await make_lease(pool)
    media_id = await make_item(pool, bot)
    await claim(pool, bot, lease)
    await warmups.record_ready(pool, [uploaded(media_id, "A-SECRET-ID")], lease_id=lease)
    await media.drop_file_id(pool, media_id=media_id, file_id=FileId("A-SECRET-ID"))
    for delay in (0.0, None):
        await claim(pool, bot, lease)
        failure = WarmupFailure(
            media_id=media_id, retry_delay=delay, code="TELEGRAM_FAULT", message="words of 1:A-SECRET-TOKEN"
        )
        await warmups.record_failed(pool, lease, [failure])
    await pool.execute("UPDATE media SET name = 'other.jpg'")
    await pool.execute("DELETE FROM media")

    happened = await reported(pool)

    assert short(happened[1:], "state", "way", "error") == [
        ("media.added", "bot-0", "warming", None, None),
        ("media.ready", "bot-0", "ready", "upload", None),
        ("media.warming", "bot-0", "warming", None, None),
        ("media.error", "bot-0", "error", None, "TELEGRAM_FAULT"),
        ("media.renamed", "bot-0", "error", None, "TELEGRAM_FAULT"),
        ("media.removed", "bot-0", None, None, None),
    ]
    assert {(one.facts["media_id"], one.facts["kind"]) for one in happened[1:]} == {(media_id, "photo")}
    assert [one.id for one in happened] == list(range(1, 8))
    assert "SECRET" not in str([dict(row) for row in await pool.fetch("SELECT * FROM event")])


async def test_each_change_of_a_bot_is_an_event_and_of_a_deleted_one_nothing_else_is(pool: Pool) -> None:
    bot = await make_bot(pool)
    async with pool.acquire() as connection:
        for telegram_id in (FIRST_BOT, FIRST_BOT + 9):
            await bots.replace_token(
                connection, SEAL, bot.id, token=token(9), telegram_id=telegram_id, username=bot.username
            )
    await bots.replace_warmup_chats(pool, SEAL, bot.id, [ChatId(-7)])
    await bots.replace_warmup_chats(pool, SEAL, bot.id, [ChatId(-7)])
    for paused in (True, True, False):
        await bots.set_paused(pool, bot.id, paused=paused)
    await bots.pause(pool, bot.id, None, 60)
    await bots.pause(pool, bot.id, None, 5)  # it is closed for longer already
    await bots.pause(pool, bot.id, CHAT, 60)
    await bots.save_learned_limits(pool, bot.id, {"bot": 20.0})
    await pool.execute("UPDATE bot SET token_sealed = '\\x00'")  # as when they are sealed with another key
    first = await reported(pool)
    await make_item(pool, bot)
    await pool.execute("UPDATE bot SET deleted_at = now()")
    await make_item(pool, bot, 1)
    first += await reported(pool, first[-1].id)
    await pool.execute("UPDATE bot SET deleted_at = NULL")
    await make_item(pool, bot, 2)

    changes = [(one.facts["change"], one.facts["chat_id"]) for one in first]
    assert changes == [
        *(("created", None), ("token", None), ("token", None), ("chats", None), ("paused", None), ("resumed", None)),
        *(("flood_wait", None), ("flood_wait", CHAT), ("deleted", None)),
    ]
    assert {one.bot for one in first} == {"bot-0"}
    assert [one.facts["paused"] for one in first[4:6]] == [True, False]
    assert first[6].facts["flood_until"] is not None
    assert [one.type for one in await reported(pool, first[-1].id)] == [EventType.BOT_CHANGED, EventType.MEDIA_ADDED]


async def test_changes_of_the_chat_ledger_are_events_and_news_of_the_same_are_none(pool: Pool) -> None:
    bot = await make_bot(pool)
    lost = [
        UnreachableChat(bot_id=bot.id, chat_id=ChatId(1), state=ChatState.BLOCKED, reason="Forbidden"),
        UnreachableChat(
            bot_id=bot.id, chat_id=ChatId(-2), state=ChatState.MIGRATED, reason="upgraded", migrated_to=ChatId(-3)
        ),
    ]
    await chats.record_unreachable(pool, lost)
    await chats.record_unreachable(pool, lost)
    await chats.record_reachable(pool, [ReachableChat(bot.id, ChatId(1)), ReachableChat(bot.id, ChatId(5))])
    await chats.clear(pool, bot.id, None)

    found = (await reported(pool))[1:]
    assert sorted(short(found[:2], "chat_id", "state", "migrated_to"), key=str) == [
        ("chat.changed", "bot-0", -2, "migrated", -3),
        ("chat.changed", "bot-0", 1, "blocked", None),
    ]
    assert short(found[2:3], "chat_id", "state") == [("chat.changed", "bot-0", 1, "reachable")]
    assert {(one.facts["chat_id"], one.facts["state"]) for one in found[3:]} == {(1, None), (-2, None)}


async def test_a_worker_whose_lease_ran_out_is_gone_and_one_that_ended_has_stopped(pool: Pool) -> None:
    for state, ttl in (("running", -1.0), ("stopped", -1.0), ("draining", 60.0)):
        await pool.execute(
            "INSERT INTO lease (id, holder, expires_at, worker) VALUES (gen_random_uuid(), $1::text,"
            " now() + make_interval(secs => $2), jsonb_build_object('state', $1::text))",
            state,
            ttl,
        )
    await make_lease(pool, seconds=-1)  # of a process without a worker
    seen = await events.assign_sequence(pool)
    await leases.sweep(pool)
    await pool.execute("DELETE FROM lease")
    assert short(await reported(pool, seen), "process", "state", "in_flight") == [
        ("worker.status", None, "running", "gone", 0),
        ("worker.status", None, "draining", "stopped", 0),
    ]


async def test_what_was_committed_late_is_numbered_late_and_not_missed(pool: Pool) -> None:
    async with pool.acquire() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await say(slow, 1)
        await say(pool, 2)
        assert [one.facts["said"] for one in await reported(pool)] == [2]
        await transaction.commit()
    assert [(one.id, one.facts["said"]) for one in await reported(pool)] == [(1, 2), (2, 1)]


async def test_what_was_taken_back_never_happened_and_leaves_no_gap(pool: Pool) -> None:
    await say(pool, 1)
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await say(connection, 2)
        await events.assign_sequence(connection)
        await transaction.rollback()
    await say(pool, 3)
    assert [(one.id, one.facts["said"]) for one in await reported(pool)] == [(1, 1), (2, 3)]


BUMP = "UPDATE chat SET migrated_to = migrated_to + 1"  # each of these waits for the one before to be committed


async def write(pool: Pool, writer: int, rounds: int) -> None:
    """Its transaction is older than many that commit before it."""
    async with pool.acquire() as connection:
        for number in range(rounds):
            async with connection.transaction():
                await say(connection, 1000 * writer + number)
                if number % 3 == 0:
                    await connection.execute(BUMP)


async def read(pool: Pool, ended: asyncio.Event) -> list[Event]:
    found: list[Event] = []
    while True:
        last = ended.is_set()
        found += await reported(pool, found[-1].id if found else 0)
        if last:
            return found


async def test_writers_and_readers_at_once_lose_nothing_and_see_the_same_order(pool: Pool) -> None:
    writers, rounds = 5, 40
    bot = await make_bot(pool)
    await chats.record_unreachable(
        pool, [UnreachableChat(bot_id=bot.id, chat_id=CHAT, state=ChatState.MIGRATED, reason="", migrated_to=ChatId(0))]
    )
    ended = asyncio.Event()
    readers = [asyncio.create_task(read(pool, ended)) for _ in range(3)]
    await asyncio.gather(*(write(pool, writer, rounds) for writer in range(writers)))
    ended.set()
    first, *others = await asyncio.gather(*readers)

    assert all([(one.id, one.facts) for one in other] == [(one.id, one.facts) for one in first] for other in others)
    assert [one.id for one in first] == list(range(1, len(first) + 1))
    said = [one.facts["said"] for one in first if "said" in one.facts]
    assert Counter(said) == Counter(1000 * writer + number for writer in range(writers) for number in range(rounds))
    for writer in range(writers):
        assert [one % 1000 for one in said if one // 1000 == writer] == list(range(rounds))
    bumps = [one.facts["migrated_to"] for one in first if one.type is EventType.CHAT_CHANGED]
    assert bumps == list(range(len(bumps)))


async def test_one_statement_of_many_items_is_as_many_events(pool: Pool) -> None:
    bot = await make_bot(pool)
    for seed in range(3):
        await make_item(pool, bot, seed)
    await pool.execute(
        "INSERT INTO blob (sha256, bytes, mime, ext, storage_key)"
        " SELECT lpad(to_hex(n), 64, '0'), 1, 'image/jpeg', 'jpg', 'k' FROM generate_series(1, 2500) AS n"
    )
    await pool.execute(
        "INSERT INTO media (bot_id, sha256, kind, state)"
        " SELECT $1, sha256, 'photo', 'warming' FROM blob WHERE bytes = 1",
        bot.id,
    )
    found = await reported(pool)
    assert [one.id for one in found] == list(range(1, 2505))
    assert len({one.facts["media_id"] for one in found[4:]}) == 2500
    assert await pool.fetchval("SELECT max(size) FROM event") == 400
    for seen in (100, 399, 400, 2503):
        assert [one.id for one in (await events.read_after(pool, seen, limit=400)).events][:1] == [seen + 1]


@pytest.mark.parametrize(("kept", "most", "left"), [(3600.0, 10**6, 30), (0.0, 10**6, 1), (3600.0, 12, 13)])
async def test_what_is_old_or_too_much_is_trimmed_and_the_newest_stays(
    pool: Pool, kept: float, most: int, left: int
) -> None:
    for number in range(30):
        await say(pool, number)
        await events.assign_sequence(pool)
    await events.trim(pool, max_age_seconds=kept, max_events=most)
    assert await pool.fetchval("SELECT count(*) FROM event") == left
    assert await events.trim(pool, max_age_seconds=kept, max_events=most) == 0
    await say(pool, 30)

    assert await events.assign_sequence(pool) == 31
    assert left == 30 or (await events.read_after(pool, 30 - left - 1)).is_gap
    assert [one.id for one in (await events.read_after(pool, 30 - left)).events] == list(range(31 - left, 32))


async def test_a_number_that_never_was_is_told_as_lost(pool: Pool) -> None:
    assert not (await events.read_after(pool, 0)).is_gap
    assert (await events.read_after(pool, 1)).is_gap
    await say(pool, 1)
    page = await events.read_after(pool, 2)
    assert (page.is_gap, page.last_id, len(page.events)) == (True, 1, 0)


async def test_a_type_that_only_a_newer_version_knows_is_passed_over(pool: Pool) -> None:
    await say(pool, 1)
    await pool.execute("INSERT INTO event_outbox (type, size, facts) VALUES ('tea.ready', 2, '[{}, {}]')")
    await say(pool, 2)
    page = await events.read_after(pool, 0)
    assert ([one.id for one in page.events], page.last_id) == ([1, 4], 4)


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_reading_and_trimming_look_rows_up_by_their_number(pool: Pool, mode: str) -> None:
    async with pool.acquire() as connection:
        await _fill(connection)
        await connection.execute(f"SET plan_cache_mode = {mode}")
        reading = await plan(connection, events.SELECT_EVENTS, "bigint, bigint", "19000, 400")
        trimming = await plan(connection, events.TRIM_SQL, "float8, bigint, bigint", "3600, 200000, 1000")
    assert "Index Scan using event_pkey" in reading, reading
    assert "Sort" not in reading, reading
    assert "Seq Scan" not in reading + trimming, reading + trimming


async def _fill(connection: Connection) -> None:
    await connection.execute(
        "INSERT INTO event SELECT n, now(), 'media.ready', 'shop', 1, '[{}]' FROM generate_series(1, 20000) AS n"
    )
    await connection.execute("ANALYZE event")
