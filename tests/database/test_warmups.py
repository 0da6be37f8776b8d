"""The warm-up queue: who gets which item when, and that outcomes are kept once and for good."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from telewarm.database import media, queue_priority, warmups
from telewarm.database.connection import Executor, Pool
from telewarm.database.notifications import subscribe
from telewarm.database.warmups import WarmupFailure
from telewarm.models import Bot, ChatId, FileId, Kind, MediaId, MediaState, MessageRef
from tests.fixtures.rows import CHAT, claim, lease_of, make_bot, make_item, make_lease, uploaded


@pytest.fixture
async def bot(pool: Pool) -> Bot:
    return await make_bot(pool)


@pytest.fixture
async def lease(pool: Pool) -> UUID:
    return await make_lease(pool)


def failure(media_id: MediaId, *, delay: float | None, counted: bool = True) -> WarmupFailure:
    return WarmupFailure(
        media_id=media_id, retry_delay=delay, counts_as_attempt=counted, code="TELEGRAM_FAULT", message="It broke."
    )


async def waiting(db: Executor, media_id: MediaId, seconds: float) -> None:
    """Put an item off; below zero: its time has come."""
    await db.execute(
        "UPDATE media SET next_attempt_at = now() + make_interval(secs => $2) WHERE id = $1", media_id, seconds
    )


async def test_items_are_claimed_by_handicap_and_then_in_the_order_they_came(pool: Pool, bot: Bot, lease: UUID) -> None:
    late, small, first = [
        await make_item(pool, bot, seed, handicap=handicap)
        for seed, handicap in enumerate(
            (
                queue_priority.priority_offset(10**8),
                queue_priority.priority_offset(1),
                queue_priority.EXPLICIT_OFFSET_MS,
            )
        )
    ]
    second = await make_item(pool, bot, 9, handicap=queue_priority.EXPLICIT_OFFSET_MS)

    claimed = await claim(pool, bot, lease, limit=3)

    assert [item.media_id for item in claimed] == [first, second, small]
    assert [item.media_id for item in await claim(pool, bot, lease)] == [late]


async def test_a_claimed_item_carries_all_that_its_warm_up_needs(pool: Pool, bot: Bot, lease: UUID) -> None:
    media_id = await make_item(pool, bot, 5)

    [item] = await claim(pool, bot, lease)

    assert (item.media_id, item.name, item.attempts, item.origin) == (media_id, "5.jpg", 0, None)
    assert (item.blob.facts.width, item.blob.facts.bytes) == (64, 1000)


async def test_leased_waiting_ready_and_foreign_items_are_not_claimed(pool: Pool, bot: Bot, lease: UUID) -> None:
    leased, later, ready = [await make_item(pool, bot, seed) for seed in range(3)]
    await make_item(pool, await make_bot(pool, 1, chats=(ChatId(-100),)), 4)
    await warmups.claim_one(pool, bot_id=bot.id, media_id=leased, lease_id=lease)
    await waiting(pool, later, 60)
    await warmups.record_ready(pool, [uploaded(ready, "A")])

    assert await claim(pool, bot, lease) == []


async def test_a_waiting_item_whose_time_has_come_is_claimed(pool: Pool, bot: Bot, lease: UUID) -> None:
    media_id = await make_item(pool, bot)
    await waiting(pool, media_id, -0.001)

    assert [item.media_id for item in await claim(pool, bot, lease)] == [media_id]


async def test_claims_at_the_same_time_never_share_an_item(pool: Pool, bot: Bot) -> None:
    items = {await make_item(pool, bot, seed) for seed in range(60)}
    leases = [await make_lease(pool) for _ in range(6)]

    hands = await asyncio.gather(*(claim(pool, bot, lease, limit=10) for lease in leases for _ in range(2)))

    claimed = [item.media_id for hand in hands for item in hand]
    assert len(claimed) == len(set(claimed))
    rest = [item.media_id for item in await claim(pool, bot, leases[0], limit=60)]
    assert {*claimed, *rest} == items


async def test_nothing_is_claimed_under_a_lease_that_was_swept_away(pool: Pool, bot: Bot, lease: UUID) -> None:
    """Such rows would belong to nobody and never be freed."""
    media_id = await make_item(pool, bot)
    await pool.execute("DELETE FROM lease")

    assert await claim(pool, bot, lease) == []
    assert await warmups.claim_one(pool, bot_id=bot.id, media_id=media_id, lease_id=lease) is None
    assert await lease_of(pool, media_id) is None


async def test_released_items_are_due_at_once_and_lost_no_attempt(pool: Pool, bot: Bot, lease: UUID) -> None:
    media_id = await make_item(pool, bot)
    await claim(pool, bot, lease)

    await warmups.release(pool, lease, [media_id])

    [again] = await claim(pool, bot, lease)
    assert (again.media_id, again.attempts) == (media_id, 0)


async def test_release_leaves_items_alone_that_somebody_else_has_in_hand(pool: Pool, bot: Bot, lease: UUID) -> None:
    media_id = await make_item(pool, bot)
    await claim(pool, bot, lease)

    await warmups.release(pool, await make_lease(pool), [media_id])

    assert await lease_of(pool, media_id) == lease


async def test_an_item_that_a_sibling_holds_stays_due_and_becomes_a_forward_once_theirs_is_ready(pool: Pool) -> None:
    ours, theirs = await make_bot(pool, 0), await make_bot(pool, 1)
    lease, other_lease = await make_lease(pool), await make_lease(pool)
    mine, their_item = await make_item(pool, ours), await make_item(pool, theirs)
    await claim(pool, theirs, other_lease, sharers=(ours,))

    assert await claim(pool, ours, lease, sharers=(theirs,)) == []

    await warmups.record_ready(pool, [uploaded(their_item, "T", message_id=42)])
    [item] = await claim(pool, ours, lease, sharers=(theirs,))
    assert item.media_id == mine
    assert item.origin == MessageRef(
        chat_id=CHAT, message_id=uploaded(their_item, "T", message_id=42).message.message_id
    )


@pytest.mark.parametrize(
    ("kind", "sent_name", "name", "forwarded"),
    [
        (Kind.DOCUMENT, "draft.pdf", "draft.pdf", True),
        (Kind.DOCUMENT, "draft.pdf", "Price list.pdf", False),
        (Kind.DOCUMENT, None, "Price list.pdf", False),
        (Kind.DOCUMENT, "draft.pdf", "", False),
        (Kind.VIDEO, "a.mp4", "b.mp4", False),
        (Kind.AUDIO, "a.mp3", "b.mp3", False),
        (Kind.ANIMATION, "a.gif", "b.gif", False),
        (Kind.PHOTO, "a.jpg", "b.jpg", True),
        (Kind.VOICE, "a.ogg", "b.ogg", True),
        (Kind.VIDEO_NOTE, "a.mp4", "b.mp4", True),
        (Kind.STICKER, "a.webp", "b.webp", True),
    ],
)
async def test_only_a_message_with_the_items_own_name_is_forwarded(
    pool: Pool, kind: Kind, sent_name: str | None, name: str, *, forwarded: bool
) -> None:
    one, two = await make_bot(pool, 0), await make_bot(pool, 1)
    theirs = await make_item(pool, one, kind=kind, name="as it is called by now")
    await warmups.record_ready(pool, [uploaded(theirs, "a", kind=kind, name=sent_name)])
    await make_item(pool, two, kind=kind, name=name)

    [claimed] = await claim(pool, two, await make_lease(pool), sharers=(one,))

    assert (claimed.origin is not None) is forwarded


async def test_a_bot_does_not_wait_for_an_upload_under_another_name(pool: Pool) -> None:
    one, two = await make_bot(pool, 0), await make_bot(pool, 1)
    await make_item(pool, one, kind=Kind.DOCUMENT, name="draft.pdf")
    assert len(await claim(pool, one, await make_lease(pool))) == 1
    await make_item(pool, two, kind=Kind.DOCUMENT, name="Price list.pdf")

    [claimed] = await claim(pool, two, await make_lease(pool), sharers=(one,))

    assert claimed.origin is None


async def test_a_document_that_telegram_made_something_else_of_is_not_forwarded_as_one(pool: Pool) -> None:
    one, two = await make_bot(pool, 0), await make_bot(pool, 1)
    theirs = await make_item(pool, one, kind=Kind.DOCUMENT, name="a.mp4")
    await warmups.record_ready(pool, [uploaded(theirs, "a", kind=Kind.VIDEO, name="a.mp4")])
    await make_item(pool, two, kind=Kind.DOCUMENT, name="a.mp4")

    [claimed] = await claim(pool, two, await make_lease(pool), sharers=(one,))

    assert claimed.origin is None


async def test_an_item_that_was_renamed_does_not_get_its_old_name_back_from_its_own_message(pool: Pool) -> None:
    bot = await make_bot(pool)
    media_id = await make_item(pool, bot, kind=Kind.DOCUMENT, name="a.pdf")
    await warmups.record_ready(pool, [uploaded(media_id, "a", kind=Kind.DOCUMENT, name="a.pdf")])
    for name, from_own in (("a.pdf", True), ("b.pdf", False)):
        await media.rename(pool, media_id, name)
        await media.drop_file_id(pool, media_id=media_id, file_id=FileId("a"))

        [claimed] = await claim(pool, bot, await make_lease(pool))

        assert (claimed.origin is not None) is from_own
        await pool.execute("UPDATE media SET lease_id = NULL, file_id = 'a', sent_kind = 'document', way = 'upload'")


async def test_an_item_that_is_renamed_while_it_goes_up_is_warmed_again_under_its_new_name(
    pool: Pool, bot: Bot, lease: UUID
) -> None:
    media_id = await make_item(pool, bot, kind=Kind.DOCUMENT, name="a.pdf")
    [claimed] = await claim(pool, bot, lease)
    await media.rename(pool, media_id, "b.pdf")

    sent = uploaded(media_id, "OLD", kind=Kind.DOCUMENT, name=claimed.name)
    await warmups.record_ready(pool, [sent], lease_id=lease)

    item = await media.get(pool, media_id)
    assert (item.state, item.file_id, item.sent_name) == (MediaState.WARMING, "OLD", "a.pdf")
    [again] = await claim(pool, bot, lease)
    assert (again.name, again.origin) == ("b.pdf", None)
    sent = uploaded(media_id, "NEW", kind=Kind.DOCUMENT, name=again.name)
    await warmups.record_ready(pool, [sent], lease_id=lease)
    item = await media.get(pool, media_id)
    assert (item.state, item.file_id, item.sent_name) == (MediaState.READY, "NEW", "b.pdf")


async def test_a_photo_that_is_renamed_while_it_goes_up_is_warm(pool: Pool, bot: Bot, lease: UUID) -> None:
    media_id = await make_item(pool, bot, kind=Kind.PHOTO, name="a.jpg")
    [claimed] = await claim(pool, bot, lease)
    await media.rename(pool, media_id, "b.jpg")
    await warmups.record_ready(pool, [uploaded(media_id, "A", name=claimed.name)], lease_id=lease)
    assert (await media.get(pool, media_id)).state is MediaState.READY


async def test_a_document_that_telegram_made_a_film_of_is_not_forwarded_from_its_own_message(pool: Pool) -> None:
    bot = await make_bot(pool)
    media_id = await make_item(pool, bot, kind=Kind.DOCUMENT, name="a.mp4")
    await warmups.record_ready(pool, [uploaded(media_id, "a", kind=Kind.VIDEO, name="a.mp4")])
    await media.drop_file_id(pool, media_id=media_id, file_id=FileId("a"))
    [claimed] = await claim(pool, bot, await make_lease(pool))
    assert claimed.origin is None


async def test_a_message_that_the_bot_cannot_read_is_no_origin(pool: Pool) -> None:
    """Sent to a recipient, or to a warm-up chat of the sibling's alone."""
    ours, theirs = await make_bot(pool, 0, chats=(ChatId(-5),)), await make_bot(pool, 1, chats=(ChatId(-5), CHAT))
    lease = await make_lease(pool)
    for seed in range(2):
        await make_item(pool, ours, seed)
        sent = uploaded(await make_item(pool, theirs, seed), f"T{seed}", in_warmup_chat=bool(seed))
        await warmups.record_ready(pool, [sent])

    assert [item.origin for item in await claim(pool, ours, lease, sharers=(theirs,))] == [None, None]


async def test_bots_that_share_a_chat_and_claim_at_once_never_both_get_the_same_bytes(pool: Pool) -> None:
    siblings = [await make_bot(pool, number) for number in range(4)]
    for bot in siblings:
        for seed in range(10):
            await make_item(pool, bot, seed)
    leases = [await make_lease(pool) for _ in siblings]

    hands = await asyncio.gather(
        *(
            claim(pool, bot, lease, limit=4, sharers=tuple(other for other in siblings if other is not bot))
            for bot, lease in zip(siblings, leases, strict=True)
        )
    )

    taken = [item.blob.sha256 for hand in hands for item in hand]
    assert len(taken) == len(set(taken))


async def test_a_sender_takes_an_item_out_of_its_turn_unless_somebody_has_it_or_it_is_ready(
    pool: Pool, bot: Bot, lease: UUID
) -> None:
    later, leased, ready = [await make_item(pool, bot, seed) for seed in range(3)]
    await waiting(pool, later, 60)
    await warmups.claim_one(pool, bot_id=bot.id, media_id=leased, lease_id=await make_lease(pool))
    await warmups.record_ready(pool, [uploaded(ready, "A")])

    taken = [
        await warmups.claim_one(pool, bot_id=bot.id, media_id=one, lease_id=lease) for one in (later, leased, ready)
    ]

    assert [item and item.media_id for item in taken] == [later, None, None]


async def test_an_item_of_another_bot_cannot_be_taken(pool: Pool, bot: Bot, lease: UUID) -> None:
    theirs = await make_item(pool, await make_bot(pool, 1))

    assert await warmups.claim_one(pool, bot_id=bot.id, media_id=theirs, lease_id=lease) is None


async def test_a_late_writer_never_overwrites_a_fresher_file_id(pool: Pool, bot: Bot) -> None:
    media_id = await make_item(pool, bot)

    assert await warmups.record_ready(pool, [uploaded(media_id, "FIRST")]) == [media_id]
    assert await warmups.record_ready(pool, [uploaded(media_id, "LATE")]) == []

    item = await media.get(pool, media_id)
    assert (item.state, item.file_id, item.file_unique_id) == (MediaState.READY, "FIRST", "unique-FIRST")


async def test_a_late_failure_leaves_a_ready_item_alone(pool: Pool, bot: Bot, lease: UUID) -> None:
    media_id = await make_item(pool, bot)
    await warmups.record_ready(pool, [uploaded(media_id, "A")])

    await warmups.record_failed(pool, lease, [failure(media_id, delay=None)])

    assert (await media.get(pool, media_id)).state is MediaState.READY


async def test_a_late_failure_does_not_take_an_item_out_of_somebody_elses_hand(
    pool: Pool, bot: Bot, lease: UUID
) -> None:
    media_id = await make_item(pool, bot)
    other = await make_lease(pool)
    await claim(pool, bot, other)

    await warmups.record_failed(pool, lease, [failure(media_id, delay=0)])

    assert await lease_of(pool, media_id) == other
    assert (await media.get(pool, media_id)).attempts == 0


async def test_a_failure_with_a_delay_waits_and_counts_an_attempt(pool: Pool, bot: Bot, lease: UUID) -> None:
    media_id = await make_item(pool, bot)
    await claim(pool, bot, lease)

    await warmups.record_failed(pool, lease, [failure(media_id, delay=60)])

    item = await media.get(pool, media_id)
    assert (item.state, item.attempts, item.last_error) == (MediaState.WARMING, 1, "It broke.")
    assert await claim(pool, bot, lease) == []
    assert 58 < await pool.fetchval("SELECT extract(epoch FROM next_attempt_at - now()) FROM media") <= 60


async def test_a_failure_that_is_not_counted_costs_no_attempt(pool: Pool, bot: Bot, lease: UUID) -> None:
    media_id = await make_item(pool, bot)
    await claim(pool, bot, lease)

    await warmups.record_failed(pool, lease, [failure(media_id, delay=60, counted=False)])

    assert (await media.get(pool, media_id)).attempts == 0


async def test_a_failure_without_a_delay_is_an_error_with_its_words(pool: Pool, bot: Bot, lease: UUID) -> None:
    media_id = await make_item(pool, bot)
    await claim(pool, bot, lease)

    await warmups.record_failed(pool, lease, [failure(media_id, delay=None)])

    item = await media.get(pool, media_id)
    assert (item.state, item.last_error_code, item.last_error) == (MediaState.ERROR, "TELEGRAM_FAULT", "It broke.")
    assert await lease_of(pool, media_id) is None


async def test_becoming_warm_wipes_the_failures_before_it(pool: Pool, bot: Bot, lease: UUID) -> None:
    media_id = await make_item(pool, bot)
    await claim(pool, bot, lease)
    await warmups.record_failed(pool, lease, [failure(media_id, delay=60)])

    await warmups.record_ready(pool, [uploaded(media_id, "A")])

    item = await media.get(pool, media_id)
    assert (item.attempts, item.last_error, item.last_error_code) == (0, None, None)


async def test_who_listens_hears_of_ready_failed_and_forgotten_items_but_not_of_retries(
    pool: Pool, bot: Bot, lease: UUID
) -> None:
    first, second, retried, broken = [await make_item(pool, bot, seed) for seed in range(4)]
    await claim(pool, bot, lease)
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with subscribe(pool, {"telewarm_media": heard.put_nowait}, on_lost=lambda: None):
        await warmups.record_ready(pool, [uploaded(second, "B"), uploaded(first, "A")])
        await warmups.record_ready(pool, [uploaded(first, "LATE")])
        await warmups.record_failed(pool, lease, [failure(retried, delay=1), failure(broken, delay=None)])
        await media.drop_file_id(pool, media_id=first, file_id=FileId("A"))

        reported = [{int(item.partition(":")[0]) for item in (await heard.get()).split(",")} for _ in range(3)]

    assert reported == [{first, second}, {broken}, {first}]
    assert heard.empty()


async def test_bots_with_due_work_are_those_for_which_a_lane_would_find_something(pool: Pool, lease: UUID) -> None:
    due, promoted, later, leased, paused, _idle = [await make_bot(pool, number) for number in range(6)]
    items = {bot.id: await make_item(pool, bot) for bot in (due, promoted, later, leased, paused)}
    await waiting(pool, items[promoted.id], -1)
    await waiting(pool, items[later.id], 60)
    await claim(pool, leased, lease)
    await pool.execute("UPDATE bot SET paused_until = now() + interval '1 minute' WHERE id = $1", paused.id)

    everyone = await warmups.bots_with_due_work(pool)

    assert sorted(everyone) == [(due.id, "bot-0"), (promoted.id, "bot-1")]
    assert await warmups.bots_with_due_work(pool, [promoted.id, later.id]) == [(promoted.id, "bot-1")]
