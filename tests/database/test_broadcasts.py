"""Broadcasts, their recipients and results as rows; what is read often costs the same however many there are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from telewarm import clock
from telewarm.database import broadcasts, deliveries, recipients
from telewarm.database.broadcasts import DraftOptions
from telewarm.database.connection import Connection, Pool, query
from telewarm.database.recipients import RejectedRow
from telewarm.database.warmups import bots_with_due_work
from telewarm.errors import NotFound
from telewarm.models import (
    Bot,
    Broadcast,
    BroadcastId,
    BroadcastState,
    ChatId,
    Delivery,
    DeliveryStatus,
    MediaId,
    MessageId,
    MessageSet,
    Part,
)
from telewarm.sending.escape import html
from tests.broadcast.stage import deliver
from tests.database.test_plans import plan
from tests.fixtures.rows import make_bot, make_lease

DRAFT, SCHEDULED = BroadcastState.DRAFT, BroadcastState.SCHEDULED
RUNNING, PAUSED = BroadcastState.RUNNING, BroadcastState.PAUSED
MESSAGE = MessageSet(text="hello")
BEFORE_ALL = ChatId(-(2**62))


async def make_broadcast(pool: Pool, bot: Bot, *chats: int) -> Broadcast:
    made = await broadcasts.insert(pool, bot_id=bot.id, message=MESSAGE)
    if chats:
        async with pool.acquire() as connection:
            await recipients.add(connection, made.id, [ChatId(chat) for chat in chats])
    return await broadcasts.get(pool, made.id)


async def test_a_draft_is_what_was_asked_for(pool: Pool) -> None:
    bot = await make_bot(pool)
    message = MessageSet(
        media=(Part(media_id=MediaId(3), caption="*a*", parse_mode="MarkdownV2"), Part(media_id=MediaId(1))),
        text="b",
        entities=[{"type": "bold", "offset": 0, "length": 1}],
        reply_markup={"inline_keyboard": [[{"text": "go", "url": "https://example.org"}]]},
        album=True,
    )
    at = clock.now() + timedelta(days=1)

    made = await broadcasts.insert(
        pool,
        bot_id=bot.id,
        message=message,
        options=DraftOptions(name="news", gate=False, per_second=2.5, starts_at=at),
    )

    assert await broadcasts.get(pool, made.id) == made
    assert (made.message, made.name, made.gate, made.per_second, made.starts_at) == (message, "news", False, 2.5, at)
    assert (made.state, made.recipients, made.done, made.in_flight) == (DRAFT, 0, 0, 0)
    assert set(made.counts) == set(DeliveryStatus)
    assert await pool.fetchval("SELECT media FROM broadcast") == [3, 1]


async def test_a_broadcast_that_is_not_there_is_not_found(pool: Pool) -> None:
    with pytest.raises(NotFound, match=r"tw\.broadcasts\.page"):
        await broadcasts.get(pool, BroadcastId(9))
    with pytest.raises(NotFound):
        await broadcasts.lock(pool, BroadcastId(9))


async def test_pages_are_newest_first(pool: Pool) -> None:
    ours, other = await make_bot(pool, 0), await make_bot(pool, 1)
    first, second, third = [await make_broadcast(pool, bot) for bot in (ours, other, ours)]

    assert await broadcasts.page(pool, limit=2) == [third, second]
    assert await broadcasts.page(pool, limit=2, before=second.id) == [first]
    assert await broadcasts.page(pool, bot_id=ours.id, limit=5) == [third, first]
    assert await broadcasts.page(pool, bot_id=ours.id, limit=5, before=third.id) == [first]
    assert await broadcasts.get_many(pool, [third.id, BroadcastId(99), first.id]) == [first, third]


async def test_a_state_is_only_left_as_the_caller_expects(pool: Pool) -> None:
    made = await make_broadcast(pool, await make_bot(pool))

    assert not await broadcasts.set_state(pool, made.id, PAUSED, only_from=[RUNNING])
    assert (await broadcasts.get(pool, made.id)).state is DRAFT
    assert await broadcasts.set_state(pool, made.id, RUNNING, only_from=[DRAFT])
    running = await broadcasts.get(pool, made.id)
    assert await broadcasts.set_state(pool, made.id, PAUSED, only_from=[RUNNING], reason="the token is refused")
    paused = await broadcasts.get(pool, made.id)
    assert await broadcasts.set_state(pool, made.id, RUNNING, only_from=[PAUSED])
    again = await broadcasts.get(pool, made.id)

    assert running.started_at is not None
    assert (paused.state, paused.reason, paused.started_at) == (PAUSED, "the token is refused", running.started_at)
    assert (again.reason, again.started_at) == (None, running.started_at)


async def test_the_end_is_taken_back_when_it_goes_on(pool: Pool) -> None:
    made = await make_broadcast(pool, await make_bot(pool))

    await broadcasts.set_state(pool, made.id, BroadcastState.DONE, only_from=[DRAFT])
    done = await broadcasts.get(pool, made.id)
    await broadcasts.set_state(pool, made.id, RUNNING, only_from=[BroadcastState.DONE])

    assert done.ended_at is not None
    assert (await broadcasts.get(pool, made.id)).ended_at is None


async def test_one_that_is_scheduled_starts_at_its_time(pool: Pool) -> None:
    at = clock.now() + timedelta(hours=2)
    made = await broadcasts.insert(
        pool, bot_id=(await make_bot(pool)).id, message=MESSAGE, options=DraftOptions(starts_at=at)
    )

    await broadcasts.set_state(pool, made.id, RUNNING, only_from=[DRAFT])
    waits = await broadcasts.get(pool, made.id)
    assert (waits.state, waits.started_at) == (SCHEDULED, None)
    await broadcasts.schedule(pool, made.id, clock.now())

    begun = await broadcasts.get(pool, made.id)
    assert begun.state is RUNNING
    assert begun.started_at is not None


async def test_every_chat_is_a_recipient_once_and_the_rest_are_counted(pool: Pool) -> None:
    made = await make_broadcast(pool, await make_bot(pool), 5, -3, 5, 9)
    async with pool.acquire() as connection:
        assert await recipients.add(connection, made.id, [ChatId(9), ChatId(11)]) == 1

    after = await broadcasts.get(pool, made.id)
    assert (after.recipients, after.duplicates) == (4, 2)
    ahead = await pool.fetch(recipients.SELECT_NEXT, made.id, -3, 2)
    assert [row["chat_id"] for row in ahead] == [5, 9]


async def test_rejected_lines_are_kept_in_the_order_in_which_they_came(pool: Pool) -> None:
    made = await make_broadcast(pool, await make_bot(pool))
    lines = [RejectedRow(line=number, reason="why", excerpt=f"x\t\\{number}") for number in (7, 3, 12)]
    async with pool.acquire() as connection:
        await recipients.add_rejected(connection, made.id, lines)

    first, after = await recipients.rejected_page(pool, made.id, after=0, limit=2)
    rest, end = await recipients.rejected_page(pool, made.id, after=after, limit=2)

    assert [*first, *rest] == lines
    assert await recipients.rejected_page(pool, made.id, after=end) == ([], end)
    assert (await broadcasts.get(pool, made.id)).rejected == 3


async def test_results_are_read_page_by_page(pool: Pool) -> None:
    made = await make_broadcast(pool, await make_bot(pool), 1, 2, 3)
    await deliver(pool, made.id, DeliveryStatus.SENT, 1, 3)
    await deliver(pool, made.id, DeliveryStatus.FAILED, 2)

    first = await deliveries.page(pool, made.id, after=BEFORE_ALL, limit=2)
    assert [(one.chat_id, one.outcome) for one in first] == [(1, DeliveryStatus.SENT), (2, DeliveryStatus.FAILED)]
    sent = Delivery(chat_id=ChatId(3), outcome=DeliveryStatus.SENT, message_ids=(MessageId(7),))
    assert await deliveries.page(pool, made.id, after=ChatId(2), limit=2) == [sent]
    assert await deliveries.page(pool, made.id, after=ChatId(1), outcome=DeliveryStatus.SENT) == [sent]


async def test_pending_are_those_in_flight_for_later_and_not_yet_reached(pool: Pool) -> None:
    made = await make_broadcast(pool, await make_bot(pool), *range(1, 9))
    everybody = await deliveries.pending_recipients(pool, made.id, after=BEFORE_ALL)
    await deliver(pool, made.id, DeliveryStatus.SENT, 1, 3, 5)
    await pool.execute("UPDATE broadcast_run SET in_flight = '{4}', retry_chat_ids = '{2}'")

    assert everybody == list(range(1, 9))
    assert await deliveries.pending_recipients(pool, made.id, after=BEFORE_ALL) == [2, 4, 6, 7, 8]
    assert await deliveries.pending_recipients(pool, made.id, after=ChatId(2), limit=2) == [4, 6]
    assert await deliveries.pending_recipients(pool, made.id, after=ChatId(7)) == [8]


async def test_what_is_unknown_is_sent_again_when_nobody_holds_the_flight(pool: Pool) -> None:
    made = await make_broadcast(pool, await make_bot(pool), *range(1, 6))
    await deliver(pool, made.id, DeliveryStatus.UNKNOWN, 1, 2)
    await pool.execute("UPDATE broadcast_run SET in_flight = '{3}', cursor = 3, lease_id = $1", await make_lease(pool))

    assert await deliveries.retry(pool, made.id, [DeliveryStatus.UNKNOWN]) is None
    assert (await broadcasts.get(pool, made.id)).counts[DeliveryStatus.UNKNOWN] == 2
    await pool.execute("UPDATE lease SET expires_at = now() - interval '1 second'")
    assert await deliveries.retry(pool, made.id, [DeliveryStatus.UNKNOWN]) == 3

    after = await broadcasts.get(pool, made.id)
    assert (after.counts[DeliveryStatus.UNKNOWN], after.in_flight, after.done) == (0, 0, 0)
    assert await deliveries.pending_recipients(pool, made.id, after=BEFORE_ALL) == [1, 2, 3, 4, 5]
    assert await deliveries.retry(pool, made.id, [DeliveryStatus.UNKNOWN]) == 0


async def test_a_bot_has_due_work_when_a_broadcast_could_go_on_now(pool: Pool) -> None:
    bot = await make_bot(pool)
    made = await make_broadcast(pool, bot, 1)
    due = (bot.id, bot.slug)

    assert await bots_with_due_work(pool) == []
    await broadcasts.set_state(pool, made.id, RUNNING, only_from=[DRAFT])
    assert await bots_with_due_work(pool) == [due]
    await pool.execute("UPDATE broadcast SET state = 'scheduled', starts_at = now() + interval '1 hour'")
    assert await bots_with_due_work(pool) == []
    await pool.execute("UPDATE broadcast SET starts_at = now()")
    assert await bots_with_due_work(pool) == [due]
    await broadcasts.set_state(pool, made.id, BroadcastState.UNDOING, only_from=[SCHEDULED])
    assert await bots_with_due_work(pool) == [due]
    await broadcasts.set_state(pool, made.id, BroadcastState.UNDONE, only_from=[BroadcastState.UNDOING])
    assert await bots_with_due_work(pool) == []


FILL = """
INSERT INTO bot (slug, telegram_id, token_sealed, warmup_chats)
SELECT 'bot-' || n, n, '', ARRAY[-1] FROM generate_series(1, 20) AS n;

INSERT INTO broadcast (bot_id, message, media, state)
SELECT 1 + n % 20, '{}', '{}', CASE WHEN n % 100 = 0 THEN 'running' ELSE 'done' END FROM generate_series(1, 5000) AS n;

INSERT INTO broadcast_run (broadcast_id, cursor, retry_chat_ids) SELECT id, 1000, '{5}' FROM broadcast;

INSERT INTO recipient SELECT b, n FROM generate_series(1, 5) AS b, generate_series(1, 8000) AS n;

INSERT INTO delivery (broadcast_id, chat_id, outcome)
SELECT b, n, CASE WHEN n % 100 = 0 THEN 'unknown' ELSE 'sent' END
FROM generate_series(1, 5) AS b, generate_series(1, 8000) AS n;

INSERT INTO rejected (broadcast_id, line, reason, excerpt)
SELECT b, n, '', '' FROM generate_series(1, 5) AS b, generate_series(1, 3000) AS n;
"""


@pytest.fixture(params=["force_custom_plan", "force_generic_plan"])
async def full(pool: Pool, request: pytest.FixtureRequest) -> AsyncIterator[Connection]:
    """5,000 broadcasts, looked at with each way Postgres may plan a prepared statement."""
    async with pool.acquire() as connection:
        await connection.execute(FILL)
        for table in ("bot", "broadcast", "broadcast_run", "recipient", "delivery", "rejected"):
            await connection.execute(f"VACUUM (ANALYZE) {table}")
        await connection.execute(f"SET plan_cache_mode = {request.param}")
        yield connection
        await connection.execute("DEALLOCATE ALL")


KEYSET = {
    "recipients ahead": (recipients.SELECT_NEXT, "bigint, bigint, bigint", "2, 100, 50"),
    "results": (deliveries.SELECT_RESULTS, "bigint, bigint, bigint", "2, 100, 50"),
    "results with an outcome": (
        deliveries.SELECT_RESULTS_BY_OUTCOME,
        "bigint, bigint, bigint, text",
        "2, 100, 50, 'sent'",
    ),
    "rejected lines": (recipients.SELECT_REJECTED, "bigint, bigint, bigint", "2, 100, 50"),
}


@pytest.mark.parametrize("name", KEYSET)
async def test_a_page_is_read_from_its_index_and_nothing_is_sorted(full: Connection, name: str) -> None:
    shown = await plan(full, *KEYSET[name])

    assert "using" in shown, shown
    assert "Seq Scan" not in shown, shown
    assert "Sort" not in shown, shown


async def test_the_next_recipients_come_from_the_index_alone(full: Connection) -> None:
    shown = await plan(full, *KEYSET["recipients ahead"])

    assert "Index Only Scan using recipient_pkey" in shown, shown


OTHERS = {
    "failure_causes": ("bigint[], bigint, bigint", "'{2,3}', 5, 1000"),
    "pending_recipients": ("bigint, bigint, bigint", "2, 100, 50"),
    "retry_deliveries": ("bigint, text[]", "2, ARRAY['unknown']"),
    "delete_deliveries": ("bigint, bigint", "2, 100"),
    "add_recipients": ("bigint, bigint[]", "2, '{5,6}'"),
}


@pytest.mark.parametrize("name", OTHERS)
async def test_what_is_done_to_one_broadcast_reads_its_own_rows(full: Connection, name: str) -> None:
    shown = await plan(full, query(name), *OTHERS[name])

    for table in ("recipient", "delivery", "rejected", "broadcast_run"):
        assert f"Seq Scan on {table}" not in shown, shown


@pytest.mark.parametrize(
    ("sql", "types", "values"),
    [
        (broadcasts.SELECT_ONE, "bigint", "2"),
        (broadcasts.SELECT_MANY, "bigint[]", "'{2,3}'"),
        (broadcasts.SELECT_PAGE, "bigint, bigint", "NULL, 50"),
        (broadcasts.SELECT_PAGE_OF_BOT, "bigint, bigint, bigint", "900, 50, 2"),
    ],
)
async def test_broadcasts_are_found_by_their_index(full: Connection, sql: str, types: str, values: str) -> None:
    shown = await plan(full, sql, types, values)

    assert "Seq Scan" not in shown.replace("Seq Scan on bot", ""), shown  # of which there are few


async def test_active_broadcasts_are_found_by_their_own_index(full: Connection) -> None:
    shown = await plan(full, query("bots_with_due_work"), "bigint[]", "NULL")

    assert "using broadcast_active on broadcast" in shown, shown


async def test_a_broadcast_has_one_of_the_known_states(pool: Pool) -> None:
    made = await make_broadcast(pool, await make_bot(pool))
    for state in BroadcastState:
        await pool.execute("UPDATE broadcast SET state = $2 WHERE id = $1", made.id, state)
    with pytest.raises(asyncpg.CheckViolationError):
        await pool.execute("UPDATE broadcast SET state = 'lost' WHERE id = $1", made.id)


async def test_an_escaped_text_is_kept_as_the_text_that_it_is(pool: Pool) -> None:
    message = MessageSet(text=html("<b>{}</b>", "a < b"), parse_mode="HTML")

    made = await broadcasts.insert(pool, bot_id=(await make_bot(pool)).id, message=message)

    assert made.message == MessageSet(text="<b>a &lt; b</b>", parse_mode="HTML")
