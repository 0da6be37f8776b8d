"""Broadcasts as people handle them, without the lanes that send them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import pytest

from telewarm import clock
from telewarm.bots.sessions import BotSession
from telewarm.broadcasts.service import BroadcastService
from telewarm.database import broadcasts as table
from telewarm.database import deletions, media
from telewarm.database.notifications import subscribe
from telewarm.errors import Conflict, NotFound, UsageError
from telewarm.models import (
    Broadcast,
    BroadcastId,
    BroadcastState,
    ChatId,
    DeliveryStatus,
    Kind,
    MediaId,
    MediaState,
    MessageSet,
    Part,
)
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from tests.broadcast.stage import TEXT, broadcasts_of, deliver, draft, land, stream
from tests.fixtures.app import READER, add_bot, add_photos, message_of
from tests.fixtures.postgres import lock_waiters
from tests.fixtures.rows import make_lease

DRAFT, SCHEDULED = BroadcastState.DRAFT, BroadcastState.SCHEDULED
RUNNING, PAUSED = BroadcastState.RUNNING, BroadcastState.PAUSED
DONE, CANCELLED = BroadcastState.DONE, BroadcastState.CANCELLED
UNDOING, UNDONE = BroadcastState.UNDOING, BroadcastState.UNDONE


@pytest.fixture
def broadcasts(idle_telewarm: Telewarm) -> BroadcastService:
    return broadcasts_of(idle_telewarm)


@pytest.fixture
async def session(idle_telewarm: Telewarm) -> BotSession:
    return await add_bot(idle_telewarm)


async def queued(telewarm: Telewarm) -> int:
    """Lanes that were woken."""
    count: int = await telewarm.pool.fetchval("SELECT count(*) FROM pgqueuer WHERE entrypoint = 'lane'")
    return count


async def test_a_broadcast_is_a_draft_until_it_is_started(
    idle_telewarm: Telewarm, broadcasts: BroadcastService, session: BotSession
) -> None:
    [made] = await broadcasts.create([session], TEXT, name="news", gate=False, per_second=5)

    assert (made.state, made.name, made.gate, made.per_second) == (DRAFT, "news", False, 5)
    assert made.group_id is None
    assert await broadcasts.page(limit=5) == [made]
    assert await queued(idle_telewarm) == 0


async def test_a_broadcast_whose_media_are_deleted_while_it_is_made_is_not_made(
    idle_telewarm: Telewarm, broadcasts: BroadcastService, session: BotSession
) -> None:
    pool, [media_id] = idle_telewarm.pool, await add_photos(idle_telewarm, session, 1)
    async with pool.acquire() as deleting, deleting.transaction():
        await deletions.delete_media(deleting, session.bot.id, [media_id])
        making = asyncio.create_task(broadcasts.create([session], message_of(media_id)))
        while not making.done() and not await lock_waiters(pool):
            pass
    with pytest.raises(NotFound, match="deleted just now"):
        await making
    assert await broadcasts.page() == []


async def test_several_bots_get_a_broadcast_each_with_media_of_their_own(
    idle_telewarm: Telewarm, broadcasts: BroadcastService, session: BotSession
) -> None:
    others = [await add_bot(idle_telewarm, 1), await add_bot(idle_telewarm, 2)]
    first, second = await add_photos(idle_telewarm, session, 2)
    [theirs] = await add_photos(idle_telewarm, others[0], 1)
    message = MessageSet(media=(Part(media_id=second, caption="b"), Part(media_id=first)), text="c")

    made = await broadcasts.create([session, *others], message)

    assert [one.bot_id for one in made] == [session.bot.id, *(other.bot.id for other in others)]
    assert {one.group_id for one in made} == {made[0].id}
    assert made[0].message == message
    for one, other in zip(made[1:], others, strict=True):
        parts = one.message.media
        assert [part.caption for part in parts] == ["b", None]
        items = [await media.get(idle_telewarm.pool, part.media_id) for part in parts]
        assert {item.bot_id for item in items} == {other.bot.id}
        originals = [await media.get(idle_telewarm.pool, media_id) for media_id in (second, first)]
        assert [item.sha256 for item in items] == [item.sha256 for item in originals]
        assert {item.state for item in items} == {MediaState.WARMING}
    assert made[1].message.media[1].media_id == theirs


async def test_what_cannot_be_sent_is_no_broadcast(
    idle_telewarm: Telewarm, broadcasts: BroadcastService, session: BotSession
) -> None:
    other = await add_bot(idle_telewarm, 1)
    [theirs] = await add_photos(idle_telewarm, other, 1)
    naive = datetime(2031, 1, 1)  # noqa: DTZ001 - what is refused

    with pytest.raises(UsageError, match="nothing to send"):
        await broadcasts.create([session], MessageSet())
    with pytest.raises(NotFound, match=rf"'bot-0' has no media item {theirs}, 99"):
        await broadcasts.create([session], MessageSet(media=(Part(media_id=MediaId(99)), Part(media_id=theirs))))
    with pytest.raises(UsageError, match="needs a bot"):
        await broadcasts.create([], TEXT)
    with pytest.raises(UsageError, match="named twice"):
        await broadcasts.create([session, session], TEXT)
    for per_second in (0, -1, float("inf"), float("nan")):
        with pytest.raises(UsageError, match="above 0"):
            await broadcasts.create([session], TEXT, per_second=per_second)
    with pytest.raises(UsageError, match="time zone"):
        await broadcasts.create([session], TEXT, starts_at=naive)
    with pytest.raises(UsageError, match="time zone"):
        await broadcasts.start(BroadcastId(1), starts_at=naive)
    assert await broadcasts.page(limit=5) == []


async def test_a_message_that_telegram_could_never_take_is_refused_before_anybody_gets_it(
    idle_telewarm: Telewarm, broadcasts: BroadcastService, session: BotSession
) -> None:
    [media_id] = await add_photos(idle_telewarm, session, 1)
    await idle_telewarm.pool.execute("UPDATE media SET kind = $1", Kind.STICKER)

    with pytest.raises(UsageError, match="no caption"):
        await broadcasts.create([session], MessageSet(media=(Part(media_id=media_id, caption="look"),)))


async def test_a_step_changes_the_state_wakes_the_lane_and_tells_every_process(
    idle_telewarm: Telewarm, broadcasts: BroadcastService, session: BotSession
) -> None:
    made = await draft(broadcasts, session, "5", "6")
    reported: asyncio.Queue[str] = asyncio.Queue()
    async with subscribe(idle_telewarm.pool, {table.CHANNEL: reported.put_nowait}, on_lost=lambda: None):
        for step, state in (
            (broadcasts.start, RUNNING),
            (broadcasts.pause, PAUSED),
            (broadcasts.resume, RUNNING),
            (broadcasts.cancel, CANCELLED),
        ):
            await idle_telewarm.pool.execute("DELETE FROM pgqueuer")
            assert (await step(made.id)).state is state
            assert await reported.get() == str(made.id)
            assert await queued(idle_telewarm) == 1
            await idle_telewarm.pool.execute("DELETE FROM pgqueuer")
            assert (await step(made.id)).state is state  # asked again: nothing changes
            assert await queued(idle_telewarm) == 0
        assert reported.empty()


async def test_nothing_is_started_without_recipients(broadcasts: BroadcastService, session: BotSession) -> None:
    [made] = await broadcasts.create([session], TEXT)

    with pytest.raises(Conflict, match="load a list"):
        await broadcasts.start(made.id)


FORBIDDEN = {
    "start": (PAUSED, DONE, CANCELLED, UNDOING, UNDONE),
    "pause": (DRAFT, DONE, CANCELLED, UNDOING, UNDONE),
    "resume": (DRAFT, DONE, CANCELLED, UNDOING, UNDONE),
    "cancel": (DONE, UNDOING, UNDONE),
    "undo": (DRAFT, SCHEDULED, RUNNING, PAUSED),
    "retry_unknown": (DRAFT, SCHEDULED, RUNNING, CANCELLED, UNDOING, UNDONE),
    "delete": (RUNNING, PAUSED, UNDOING),
}


@pytest.mark.parametrize("name", FORBIDDEN)
async def test_a_state_that_forbids_a_step_is_a_conflict_that_says_what_to_do(
    idle_telewarm: Telewarm, broadcasts: BroadcastService, session: BotSession, name: str
) -> None:
    made = await draft(broadcasts, session, "5")
    step: Callable[[BroadcastId], Awaitable[Broadcast | None]] = getattr(broadcasts, name)
    for state in FORBIDDEN[name]:
        await idle_telewarm.pool.execute("UPDATE broadcast SET state = $1", state)
        with pytest.raises(Conflict, match=rf"broadcast {made.id} is {state}[:;] \w+"):
            await step(made.id)
        assert (await broadcasts.get(made.id)).state is state


async def test_a_broadcast_that_is_not_there_is_not_found(broadcasts: BroadcastService) -> None:
    unknown = BroadcastId(99)
    for step in (broadcasts.get, broadcasts.start, broadcasts.undo, broadcasts.retry_unknown, broadcasts.delete):
        with pytest.raises(NotFound, match=r"tw\.broadcasts\.page"):
            await step(unknown)
    with pytest.raises(NotFound):
        [page async for page in broadcasts.results(unknown)]
    with pytest.raises(NotFound):
        [line async for line in broadcasts.rejected(unknown)]
    with pytest.raises(NotFound):
        await broadcasts.test(unknown, READER)


async def test_a_start_may_be_put_off_and_moved_until_it_has_come(
    broadcasts: BroadcastService, session: BotSession
) -> None:
    made = await draft(broadcasts, session, "5")
    soon, later = clock.now() + timedelta(hours=1), clock.now() + timedelta(hours=2)

    started = await broadcasts.start(made.id, starts_at=later)
    assert (started.state, started.starts_at, started.started_at) == (SCHEDULED, later, None)
    assert (await broadcasts.start(made.id)).starts_at == later
    assert (await broadcasts.start(made.id, starts_at=soon)).starts_at == soon
    at_once = await broadcasts.start(made.id, starts_at=clock.now())

    assert at_once.state is RUNNING
    with pytest.raises(Conflict, match="on its way already"):
        await broadcasts.start(made.id, starts_at=later)


async def test_a_start_time_that_has_passed_is_refused(broadcasts: BroadcastService, session: BotSession) -> None:
    passed = clock.now() - timedelta(hours=1)
    made = await draft(broadcasts, session, "5")

    for refused in (broadcasts.create([session], TEXT, starts_at=passed), broadcasts.start(made.id, starts_at=passed)):
        with pytest.raises(UsageError, match="has passed; give a time in the future"):
            await refused

    assert (await broadcasts.get(made.id)).state is DRAFT
    assert len(await broadcasts.page()) == 1


async def test_a_scheduled_broadcast_can_be_paused_resumed_and_cancelled(
    broadcasts: BroadcastService, session: BotSession
) -> None:
    made = await draft(broadcasts, session, "5")
    await broadcasts.start(made.id, starts_at=clock.now() + timedelta(hours=1))

    with pytest.raises(Conflict, match="it has not begun"):
        await broadcasts.undo(made.id)
    assert (await broadcasts.pause(made.id)).state is PAUSED
    assert (await broadcasts.resume(made.id)).state is SCHEDULED
    assert (await broadcasts.cancel(made.id)).state is CANCELLED


async def test_what_was_sent_is_undone_within_two_days(
    idle_telewarm: Telewarm, broadcasts: BroadcastService, session: BotSession
) -> None:
    made = await draft(broadcasts, session, "5", "6", "7")
    await deliver(idle_telewarm.pool, made.id, DeliveryStatus.SENT, 5, age=49)
    await deliver(idle_telewarm.pool, made.id, DeliveryStatus.FAILED, 6)
    await land(idle_telewarm.pool, made.id)

    with pytest.raises(Conflict, match="48 hours"):
        await broadcasts.undo(made.id)
    await deliver(idle_telewarm.pool, made.id, DeliveryStatus.SENT, 7, age=47)
    assert (await broadcasts.undo(made.id)).state is UNDOING
    assert (await broadcasts.undo(made.id)).state is UNDOING


async def test_what_is_unknown_is_sent_again_only_when_asked(
    idle_telewarm: Telewarm, broadcasts: BroadcastService, session: BotSession
) -> None:
    made = await draft(broadcasts, session, "5", "6", "7")
    await broadcasts.start(made.id)
    await land(idle_telewarm.pool, made.id)
    assert (await broadcasts.retry_unknown(made.id)).state is DONE  # nothing is unknown
    await deliver(idle_telewarm.pool, made.id, DeliveryStatus.SENT, 5)
    await deliver(idle_telewarm.pool, made.id, DeliveryStatus.UNKNOWN, 6, 7)

    again = await broadcasts.retry(made.id, [DeliveryStatus.UNKNOWN])

    assert (again.state, again.ended_at) == (RUNNING, None)
    assert (again.counts[DeliveryStatus.UNKNOWN], again.done) == (0, 1)
    assert await chats(broadcasts, made.id, "pending") == [6, 7]


async def test_what_is_unknown_stays_so_while_the_flight_is_in_a_living_hand(
    idle_telewarm: Telewarm, broadcasts: BroadcastService, session: BotSession
) -> None:
    made = await draft(broadcasts, session, "5")
    await deliver(idle_telewarm.pool, made.id, DeliveryStatus.UNKNOWN, 5)
    await land(idle_telewarm.pool, made.id)
    await idle_telewarm.pool.execute("UPDATE broadcast_run SET lease_id = $1", await make_lease(idle_telewarm.pool))

    with pytest.raises(Conflict, match="try again in a few seconds"):
        await broadcasts.retry_unknown(made.id)

    after = await broadcasts.get(made.id)
    assert (after.state, after.counts[DeliveryStatus.UNKNOWN]) == (DONE, 1)


async def test_a_test_send_goes_to_one_chat_and_counts_nowhere(
    idle_telewarm: Telewarm, sandbox: Sandbox, broadcasts: BroadcastService, session: BotSession
) -> None:
    [media_id] = await add_photos(idle_telewarm, session, 1)
    [made] = await broadcasts.create([session], MessageSet(media=(Part(media_id=media_id, caption="a"),), text="b"))

    results = await broadcasts.test(made.id, READER)

    assert [(one.kind, one.error) for one in results] == [(Kind.PHOTO, None), (None, None)]
    assert sandbox.state.stats.chats[READER] == 2
    assert await broadcasts.get(made.id) == made


async def chats(
    broadcasts: BroadcastService, broadcast_id: BroadcastId, outcome: DeliveryStatus | str | None
) -> list[ChatId]:
    pages = broadcasts.results(broadcast_id, outcome=outcome)  # type: ignore[arg-type] # "pending" as text
    return [one.chat_id async for page in pages for one in page]


async def test_results_are_told_by_outcome(
    idle_telewarm: Telewarm, broadcasts: BroadcastService, session: BotSession
) -> None:
    everybody = list(range(5, 12_005))
    made = await draft(broadcasts, session, *map(str, everybody))
    await deliver(idle_telewarm.pool, made.id, DeliveryStatus.SENT, *everybody[:6000])
    await deliver(idle_telewarm.pool, made.id, DeliveryStatus.UNREACHABLE, *everybody[6000:6002])

    assert await chats(broadcasts, made.id, None) == everybody[:6002]
    assert await chats(broadcasts, made.id, DeliveryStatus.SENT) == everybody[:6000]
    assert await chats(broadcasts, made.id, DeliveryStatus.UNREACHABLE) == everybody[6000:6002]
    assert await chats(broadcasts, made.id, DeliveryStatus.FAILED) == []
    assert await chats(broadcasts, made.id, "pending") == everybody[6002:]
    progress = await broadcasts.get(made.id)
    assert (progress.done, progress.counts[DeliveryStatus.SENT]) == (6002, 6000)


async def test_a_broadcast_is_deleted_with_everything_of_it(
    idle_telewarm: Telewarm, broadcasts: BroadcastService, session: BotSession
) -> None:
    kept = await draft(broadcasts, session, "5", "@x")
    made = await draft(broadcasts, session, *map(str, range(5, 45_005)), "@y")
    for broadcast in (kept, made):
        await deliver(idle_telewarm.pool, broadcast.id, DeliveryStatus.SENT, 5)
        await land(idle_telewarm.pool, broadcast.id)

    await broadcasts.delete(made.id)

    with pytest.raises(NotFound):
        await broadcasts.get(made.id)
    for name in ("recipient", "delivery", "rejected", "broadcast_run"):
        left = await idle_telewarm.pool.fetch(f"SELECT broadcast_id FROM {name}")  # noqa: S608 - our own tables
        assert [row["broadcast_id"] for row in left] == [kept.id], name


async def test_a_draft_that_is_being_deleted_takes_no_recipients_and_never_starts(
    idle_telewarm: Telewarm, broadcasts: BroadcastService, session: BotSession
) -> None:
    made = await draft(broadcasts, session, "5")
    async with idle_telewarm.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM recipient FOR UPDATE")  # so that its rows wait, in the middle
        deleting = asyncio.create_task(broadcasts.delete(made.id))
        while (await broadcasts.get(made.id)).state is DRAFT:
            await clock.sleep(0.01)
        with pytest.raises(Conflict):
            await broadcasts.load(made.id, stream(b"6"))
        with pytest.raises(Conflict):
            await broadcasts.start(made.id)
    await deleting
    assert await broadcasts.page(limit=5) == []
