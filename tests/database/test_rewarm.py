"""Warming again: what is asked for, what stays, and whose file id is kept."""

from __future__ import annotations

import asyncio
from uuid import UUID

import asyncpg
import pytest

from telewarm import clock
from telewarm.database import bots, media, queue_priority, warmups
from telewarm.database.connection import Pool
from telewarm.database.media import RewarmScope
from telewarm.database.notifications import subscribe
from telewarm.database.warmups import WarmupFailure
from telewarm.models import Bot, ChatId, FileId, Kind, MediaId, MediaState, MessageId, MessageRef
from tests.fixtures.postgres import lock_waiters
from tests.fixtures.rows import CHAT, SEAL, claim, lease_of, make_bot, make_item, make_lease, uploaded
from tests.fixtures.sandbox import FIRST_BOT, token


@pytest.fixture
async def bot(pool: Pool) -> Bot:
    return await make_bot(pool)


@pytest.fixture
async def lease(pool: Pool) -> UUID:
    return await make_lease(pool)


async def make_ready(pool: Pool, bot: Bot, seed: int = 0, *, file_id: str = "OLD") -> MediaId:
    media_id = await make_item(pool, bot, seed)
    await warmups.record_ready(pool, [uploaded(media_id, file_id)])
    return media_id


async def ids_of(pool: Pool, bot: Bot, *media_ids: MediaId) -> list[str]:
    return [one.file_id for one in await media.file_ids(pool, bot_id=bot.id, media_ids=media_ids)]


def failure(media_id: MediaId, *, delay: float | None) -> WarmupFailure:
    return WarmupFailure(media_id=media_id, retry_delay=delay, code="TELEGRAM_BAD_REQUEST", message="It broke.")


async def test_a_ready_item_that_is_warmed_anew_is_sent_by_its_old_id_until_it_has_a_new_one(
    pool: Pool, bot: Bot, lease: UUID
) -> None:
    """The Node system made a ready media item cold by uploading it again: no moment here is without an id."""
    media_id = await make_ready(pool, bot)

    assert await media.rewarm(pool, {media_id: queue_priority.EXPLICIT_OFFSET_MS}) == 1
    assert (await media.get(pool, media_id)).state is MediaState.WARMING
    assert await ids_of(pool, bot, media_id) == ["OLD"]

    [item] = await claim(pool, bot, lease)
    assert await ids_of(pool, bot, media_id) == ["OLD"]
    assert item.origin is None  # it is uploaded, not forwarded

    assert await warmups.record_ready(pool, [uploaded(media_id, "NEW")], lease_id=lease) == [media_id]
    assert await ids_of(pool, bot, media_id) == ["NEW"]
    assert (await media.get(pool, media_id)).state is MediaState.READY


async def test_adding_an_item_that_is_warmed_anew_changes_nothing(pool: Pool, bot: Bot) -> None:
    media_id = await make_ready(pool, bot, 3)
    await media.rewarm(pool, {media_id: queue_priority.EXPLICIT_OFFSET_MS})

    with pytest.raises(AssertionError):
        await make_item(pool, bot, 3)  # it is here, and being warmed
    assert await ids_of(pool, bot, media_id) == ["OLD"]


async def test_a_late_writer_replaces_no_id_that_is_fresher(pool: Pool, bot: Bot, lease: UUID) -> None:
    """Its lease ran out; the item was warmed by another, and somebody asked to warm it again."""
    media_id = await make_item(pool, bot)
    late = await make_lease(pool)
    await claim(pool, bot, late)
    await pool.execute("UPDATE media SET lease_id = NULL")
    await claim(pool, bot, lease)
    await warmups.record_ready(pool, [uploaded(media_id, "FRESH")], lease_id=lease)

    for step in (None, media.rewarm(pool, {media_id: 0}), claim(pool, bot, lease)):
        if step is not None:
            await step
        assert await warmups.record_ready(pool, [uploaded(media_id, "LATE")], lease_id=late) == []
        assert await ids_of(pool, bot, media_id) == ["FRESH"]


async def test_a_late_writers_id_is_kept_where_there_is_none(pool: Pool, bot: Bot) -> None:
    media_id = await make_item(pool, bot)

    assert await warmups.record_ready(pool, [uploaded(media_id, "LATE")], lease_id=await make_lease(pool)) == [media_id]


async def test_warming_anew_that_fails_for_good_leaves_the_item_ready_with_its_old_id_and_the_error(
    pool: Pool, bot: Bot, lease: UUID
) -> None:
    media_id = await make_ready(pool, bot)
    await media.rewarm(pool, {media_id: 0})
    await claim(pool, bot, lease)
    await warmups.record_failed(pool, lease, [failure(media_id, delay=60)])
    assert (await media.get(pool, media_id)).state is MediaState.WARMING
    await pool.execute("UPDATE media SET next_attempt_at = NULL")
    await claim(pool, bot, lease)

    await warmups.record_failed(pool, lease, [failure(media_id, delay=None)])

    item = await media.get(pool, media_id)
    assert (item.state, item.file_id, item.last_error) == (MediaState.READY, "OLD", "It broke.")
    assert await lease_of(pool, media_id) is None


async def test_a_sender_never_takes_an_item_out_of_its_turn_that_has_an_id(pool: Pool, bot: Bot, lease: UUID) -> None:
    media_id = await make_ready(pool, bot)
    await media.rewarm(pool, {media_id: 0})

    assert await warmups.claim_one(pool, bot_id=bot.id, media_id=media_id, lease_id=lease) is None


async def test_an_item_in_hand_is_left_in_hand(pool: Pool, bot: Bot, lease: UUID) -> None:
    media_id = await make_item(pool, bot)
    await claim(pool, bot, lease)

    assert await media.rewarm(pool, {media_id: queue_priority.EXPLICIT_OFFSET_MS}) == 0
    assert await lease_of(pool, media_id) == lease


async def test_an_item_in_error_or_back_off_is_due_at_once_with_all_its_attempts(
    pool: Pool, bot: Bot, lease: UUID
) -> None:
    failed, waiting = [await make_item(pool, bot, seed) for seed in range(2)]
    await claim(pool, bot, lease)
    await warmups.record_failed(pool, lease, [failure(failed, delay=None), failure(waiting, delay=600)])

    assert await media.rewarm(pool, {failed: 0, waiting: 0}) == 2

    claimed = await claim(pool, bot, lease)
    assert {(item.media_id, item.attempts) for item in claimed} == {(failed, 0), (waiting, 0)}


async def test_one_asked_for_by_name_goes_before_what_waits_already(pool: Pool, bot: Bot, lease: UUID) -> None:
    first, second = [await make_item(pool, bot, seed) for seed in range(2)]

    assert await media.rewarm(pool, {second: queue_priority.EXPLICIT_OFFSET_MS}) == 1
    assert await media.rewarm(pool, {second: queue_priority.EXPLICIT_OFFSET_MS}) == 0

    assert [item.media_id for item in await claim(pool, bot, lease)] == [second, first]


async def rewarm_all(pool: Pool, bot: Bot, which: RewarmScope, *, limit: int = 2) -> int:
    total, after = 0, MediaId(0)
    while True:
        changed, last = await media.rewarm_next(pool, bot_id=bot.id, scope=which, after=after, limit=limit)
        total += changed
        if last is None:
            return total
        after = last


async def test_all_of_a_bot_or_all_that_failed_are_warmed_anew_and_no_other_bots(
    pool: Pool, bot: Bot, lease: UUID
) -> None:
    other = await make_bot(pool, 1)
    ready = [await make_ready(pool, bot, seed, file_id=f"F{seed}") for seed in range(3)]
    theirs = await make_ready(pool, other, 0)
    failed = [await make_item(pool, bot, seed) for seed in range(3, 6)]
    await pool.execute("UPDATE media SET state = 'error' WHERE id = ANY ($1)", failed)

    assert await rewarm_all(pool, bot, RewarmScope.FAILED) == 3
    assert {item.media_id for item in await claim(pool, bot, lease)} == set(failed)
    assert await rewarm_all(pool, bot, RewarmScope.ALL) == 3
    assert [item.media_id for item in await claim(pool, bot, lease)] == ready
    assert (await media.get(pool, theirs)).state is MediaState.READY


async def test_what_is_new_goes_before_a_library_that_is_warmed_anew(pool: Pool, bot: Bot, lease: UUID) -> None:
    for seed in range(3):
        await make_ready(pool, bot, seed, file_id=f"F{seed}")
    await rewarm_all(pool, bot, RewarmScope.ALL)
    new = await make_item(pool, bot, 9, handicap=queue_priority.priority_offset(50_000_000))

    assert (await claim(pool, bot, lease))[0].media_id == new


async def test_a_dead_id_is_made_good_by_forwarding_the_items_own_warm_up_message(
    pool: Pool, bot: Bot, lease: UUID
) -> None:
    media_id = await make_item(pool, bot)
    await warmups.record_ready(pool, [uploaded(media_id, "DEAD", message_id=41)])
    await media.drop_file_id(pool, media_id=media_id, file_id=FileId("DEAD"))

    [item] = await claim(pool, bot, lease)

    assert item.origin == MessageRef(chat_id=CHAT, message_id=MessageId(41))


async def test_an_own_message_in_a_chat_that_is_no_warm_up_chat_any_more_is_no_origin(
    pool: Pool, bot: Bot, lease: UUID
) -> None:
    media_id = await make_ready(pool, bot)
    await media.drop_file_id(pool, media_id=media_id, file_id=FileId("OLD"))
    moved = await bots.replace_warmup_chats(pool, SEAL, bot.id, [ChatId(-4)])

    assert moved.warmup_chats == (ChatId(-4),)
    assert [item.origin for item in await claim(pool, moved, lease)] == [None]


async def test_who_waits_in_a_send_raises_the_item_once_and_never_lowers_it(pool: Pool, bot: Bot, lease: UUID) -> None:
    first, waited_for, cold = [await make_item(pool, bot, seed) for seed in range(3)]
    await pool.execute("UPDATE media SET state = 'cold' WHERE id = $1", cold)

    assert await warmups.raise_priority(pool, waited_for)
    assert not await warmups.raise_priority(pool, waited_for)
    assert await warmups.raise_priority(pool, cold)
    ready = await make_ready(pool, bot, 7)
    assert not await warmups.raise_priority(pool, ready)

    assert [item.media_id for item in await claim(pool, bot, lease)] == [waited_for, cold, first]


@pytest.mark.parametrize("rest", ["SET paused_at = now()", "SET deleted_at = now()"])
async def test_a_bot_that_a_person_paused_or_deleted_has_no_due_work(
    pool: Pool, bot: Bot, lease: UUID, rest: str
) -> None:
    await make_item(pool, bot)
    await pool.execute(f"UPDATE bot {rest}")

    assert await warmups.bots_with_due_work(pool) == []
    assert await claim(pool, bot, lease) == []

    await pool.execute("UPDATE bot SET paused_at = NULL, deleted_at = NULL")
    assert len(await claim(pool, bot, lease)) == 1


async def test_a_claim_tells_how_long_the_item_has_waited_by_the_databases_clock(
    pool: Pool, bot: Bot, lease: UUID
) -> None:
    await make_item(pool, bot)
    await pool.execute("UPDATE media SET queued_at = now() - interval '75 seconds'")

    [item] = await claim(pool, bot, lease)

    assert 75 <= item.waited < 80


async def test_another_telegram_bot_voids_every_id_and_frees_what_is_in_hand(pool: Pool, bot: Bot, lease: UUID) -> None:
    ready, in_hand, waiting, failed = [await make_item(pool, bot, seed) for seed in range(4)]
    await warmups.record_ready(pool, [uploaded(ready, "A")])
    await claim(pool, bot, lease, limit=1)
    await pool.execute("UPDATE media SET next_attempt_at = now() + interval '1 hour' WHERE id = $1", waiting)
    await pool.execute("UPDATE media SET state = 'error' WHERE id = $1", failed)
    heard: list[str] = []
    async with subscribe(pool, {"telewarm_media": heard.append}, on_lost=lambda: None):
        async with pool.acquire() as connection, connection.transaction():
            now, another = await bots.replace_token(
                connection, SEAL, bot.id, token=token(5), telegram_id=FIRST_BOT + 5, username="five"
            )
            await media.invalidate_file_ids(connection, bot_id=bot.id)
        while not heard:
            await pool.fetchval("SELECT 1")

    assert (another, now.telegram_id, now.username, now.token) == (True, FIRST_BOT + 5, "five", token(5))
    assert heard == [f"bot {bot.id}"]
    assert await ids_of(pool, bot, ready) == []
    claimed = await claim(pool, bot, await make_lease(pool))
    assert {item.media_id for item in claimed} == {ready, in_hand, waiting}
    assert [item.origin is not None for item in claimed if item.media_id == ready] == [True]
    assert (await media.get(pool, failed)).state is MediaState.ERROR


async def test_an_id_got_by_the_bot_that_was_is_dropped_and_its_item_put_back(
    pool: Pool, bot: Bot, lease: UUID
) -> None:
    media_id = await make_item(pool, bot)
    await claim(pool, bot, lease)
    await pool.execute("UPDATE bot SET telegram_id = telegram_id + 5")

    late = await warmups.record_ready(pool, [uploaded(media_id, "A")], lease_id=lease, telegram_id=bot.telegram_id)

    assert late == []
    assert [item.media_id for item in await claim(pool, bot, lease)] == [media_id]
    assert await warmups.record_ready(
        pool, [uploaded(media_id, "B")], lease_id=lease, telegram_id=bot.telegram_id + 5
    ) == [media_id]


async def test_a_new_token_of_the_same_bot_keeps_its_ids_and_ends_the_back_offs(pool: Pool, bot: Bot) -> None:
    ready = await make_ready(pool, bot)
    waiting = await make_item(pool, bot, 1)
    await pool.execute("UPDATE media SET next_attempt_at = now() + interval '1 hour' WHERE id = $1", waiting)
    fresh = f"{token(0)[:-2]}99"

    kept, another = await bots.replace_token(pool, SEAL, bot.id, token=fresh, telegram_id=bot.telegram_id, username="b")
    await warmups.end_backoffs(pool, bot.id)

    assert (another, kept.token) == (False, fresh)
    assert await ids_of(pool, bot, ready) == ["OLD"]
    assert [item.media_id for item in await claim(pool, bot, await make_lease(pool))] == [waiting]


async def test_ending_back_offs_waits_for_an_item_that_is_being_written_and_passes_none_over(
    pool: Pool, bot: Bot
) -> None:
    """A broadcast that waits for an item changes its place in the queue, just when its bot gets another chat."""
    waiting = await make_item(pool, bot, 1)
    await pool.execute("UPDATE media SET next_attempt_at = now() + interval '1 hour' WHERE id = $1", waiting)

    async with pool.acquire() as connection, connection.transaction():
        assert await warmups.raise_priority(connection, waiting)
        ending = asyncio.create_task(warmups.end_backoffs(pool, bot.id))
        while not ending.done() and not await lock_waiters(connection):
            await clock.sleep(0.01)
    await ending

    assert [item.media_id for item in await claim(pool, bot, await make_lease(pool))] == [waiting]


async def test_a_library_is_shared_without_its_bytes_and_what_is_there_stays(pool: Pool, bot: Bot) -> None:
    other = await make_bot(pool, 1)
    items = [await make_ready(pool, bot, seed, file_id=f"F{seed}") for seed in range(4)]
    theirs = await make_ready(pool, other, 0)

    first, after = await media.share_next(pool, source=bot.id, target=other.id, after=MediaId(0), limit=3)
    assert after is not None
    rest, end = await media.share_next(pool, source=bot.id, target=other.id, after=after, limit=3)

    assert (first, rest, end) == (2, 1, None)
    assert (await media.get(pool, theirs)).state is MediaState.READY
    assert await media.count_by_state_of_bot(pool, other.id) == {MediaState.READY: 1, MediaState.WARMING: 3}
    assert await pool.fetchval("SELECT count(*) FROM blob") == 4
    third = await make_bot(pool, 2)
    named = await media.share_next(pool, source=bot.id, target=third.id, after=MediaId(0), media_ids=items[1:3])
    assert named == (2, None)
    copies, _ = await media.page(pool, bot_id=third.id, kind=Kind.PHOTO, state=None, limit=9, offset=0)
    assert [copy.name for copy in copies] == ["2.jpg", "1.jpg"]


async def test_ten_thousand_media_are_asked_for_in_a_handful_of_statements(pool: Pool, bot: Bot) -> None:
    other = await make_bot(pool, 1)
    await pool.execute(
        "INSERT INTO blob (sha256, bytes, mime, ext, storage_key)"
        " SELECT lpad(to_hex(n), 64, '0'), 1000 * n, 'image/jpeg', 'jpg', 'k' FROM generate_series(1, 10000) AS n"
    )
    await pool.execute(
        "INSERT INTO media (bot_id, sha256, kind, state) SELECT $1, sha256, 'photo', 'error' FROM blob", bot.id
    )
    statements: list[str] = []

    def count(record: asyncpg.connection.LoggedQuery) -> None:
        statements.append(record.query)

    async with pool.acquire() as connection:
        connection.add_query_logger(count)
        shared = await media.share_next(connection, source=bot.id, target=other.id, after=MediaId(0), limit=10_001)
        again = await media.rewarm_next(
            connection, bot_id=bot.id, scope=RewarmScope.FAILED, after=MediaId(0), limit=10_001
        )
        await bots.replace_token(connection, SEAL, bot.id, token=token(5), telegram_id=FIRST_BOT + 5, username="five")
        await media.invalidate_file_ids(connection, bot_id=bot.id)
        connection.remove_query_logger(count)

    assert (shared, again) == ((10_000, None), (10_000, None))
    assert len(statements) <= 2 + 2 + 4 + 4, statements
