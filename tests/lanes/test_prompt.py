"""New work is acted on at once, whatever else of its bot waits: in one process, in several, and after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytest

from telewarm import clock
from telewarm.bots.sessions import BotSession
from telewarm.database import bots
from telewarm.database.lane_queue import enqueue_lane
from telewarm.models import BroadcastId, BroadcastState, ChatId, MediaId, MediaState, MessageSet
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from telewarm.settings import Settings
from tests.fixtures.app import (
    NO_SWEEP,
    OTHER_CHAT,
    READER,
    WARMUP_CHAT,
    Opener,
    add_bot,
    add_photos,
    message_of,
    until,
    until_ready,
)

SOON = 4.0  # seconds: a second on an idle machine, and what a busy one adds
LATER = timedelta(days=2000)
SLOW_CHAT = ChatId(READER + 900)


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """`idle` has no worker: what is asked of it is done elsewhere."""

    idle: Telewarm
    session: BotSession
    sandbox: Sandbox

    async def start(self, chat_id: ChatId, *, starts_in: timedelta | None = None) -> BroadcastId:
        [made] = await self.idle.broadcasts.create([self.session], MessageSet(text="hello"))
        await self.idle.broadcasts.add(made.id, [chat_id])
        await self.idle.broadcasts.start(made.id, starts_at=None if starts_in is None else clock.now() + starts_in)
        return made.id

    async def until_state(self, broadcast_id: BroadcastId, state: BroadcastState) -> None:
        async def reached() -> bool:
            return (await self.idle.broadcasts.get(broadcast_id)).state is state

        await until(self.idle, reached)

    async def until_asleep(self) -> None:
        """The bot's lane waits in the queue for a later time."""

        async def asleep() -> bool:
            return bool(
                await self.idle.pool.fetchval(
                    "SELECT true FROM pgqueuer WHERE status = 'queued' AND execute_after > now() + interval '20 s'"
                )
            )

        await until(self.idle, asleep)


async def a_broadcast_is_scheduled_for_years_ahead(place: Place) -> None:
    await place.start(READER, starts_in=LATER)
    await place.until_asleep()


async def the_warm_up_chat_is_closed(place: Place) -> None:
    place.sandbox.state.faults.add(Rule(action="error", code=429, retry_after=600, count=1, chat=WARMUP_CHAT))
    [media_id] = await add_photos(place.idle, place.session, 1, first=50)
    await place.until_asleep()

    async def in_no_hand() -> bool:
        return await place.idle.pool.fetchval("SELECT lease_id IS NULL FROM media WHERE id = $1", media_id) is True

    await until(place.idle, in_no_hand)


async def other_broadcasts_wait_for_their_pace(place: Place) -> None:
    """As many as go at once, and one more: each has sent one message, and sends the next in minutes."""
    for number in range(0, 10, 2):
        [made] = await place.idle.broadcasts.create([place.session], MessageSet(text="hello"), per_second=0.005)
        await place.idle.broadcasts.add(made.id, [ChatId(SLOW_CHAT + number), ChatId(SLOW_CHAT + number + 1)])
        await place.idle.broadcasts.start(made.id)

        async def one_went(broadcast_id: BroadcastId = made.id) -> bool:
            return (await place.idle.broadcasts.get(broadcast_id)).done == 1

        await until(place.idle, one_went)


async def new_media_become_warm(place: Place) -> None:
    await until_ready(place.idle, *await add_photos(place.idle, place.session, 2))


async def a_broadcast_that_starts_now_is_sent(place: Place) -> None:
    await place.until_state(await place.start(ChatId(READER + 5)), BroadcastState.DONE)


async def a_broadcast_that_starts_in_a_moment_is_sent(place: Place) -> None:
    broadcast_id = await place.start(ChatId(READER + 6), starts_in=timedelta(seconds=0.5))
    await place.until_state(broadcast_id, BroadcastState.DONE)


async def a_cold_item_is_sent(place: Place) -> None:
    for media_id in await place.idle.pool.fetch("SELECT id FROM media WHERE state = 'warming'"):
        [result] = await place.idle.send("bot-0", ChatId(READER + 7), message_of(MediaId(media_id["id"])))
        assert result.error is None


async def a_resumed_bot_goes_on(place: Place) -> None:
    await bots.set_paused(place.idle.pool, place.session.bot.id, paused=True)
    ids = await add_photos(place.idle, place.session, 2, first=20)
    async with place.idle.pool.acquire() as connection, connection.transaction():
        await bots.set_paused(connection, place.session.bot.id, paused=False)
        await enqueue_lane(connection, place.session.bot)
    await until_ready(place.idle, *ids)


async def another_warm_up_chat_is_used(place: Place) -> None:
    ids = await add_photos(place.idle, place.session, 2, first=30)
    await place.idle.bots.replace_chats("bot-0", [WARMUP_CHAT, OTHER_CHAT])
    await until_ready(place.idle, *ids)


Wait = Callable[[Place], Awaitable[None]]
SCHEDULED, CLOSED, OTHERS = (
    a_broadcast_is_scheduled_for_years_ahead,
    the_warm_up_chat_is_closed,
    other_broadcasts_wait_for_their_pace,
)
CASES: list[tuple[Wait, Wait]] = [
    (SCHEDULED, new_media_become_warm),
    (SCHEDULED, a_broadcast_that_starts_now_is_sent),
    (SCHEDULED, a_broadcast_that_starts_in_a_moment_is_sent),
    (SCHEDULED, a_resumed_bot_goes_on),
    (CLOSED, a_broadcast_that_starts_now_is_sent),
    (CLOSED, a_broadcast_that_starts_in_a_moment_is_sent),
    (CLOSED, a_cold_item_is_sent),
    (CLOSED, another_warm_up_chat_is_used),
    (OTHERS, new_media_become_warm),
    (OTHERS, a_broadcast_that_starts_now_is_sent),
]


@asynccontextmanager
async def workers(opener: Opener, count: int) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for _ in range(count):
            settings = Settings.from_environ(opener.environ(**NO_SWEEP), None)
            await stack.enter_async_context(Telewarm.open(settings))
        yield


@pytest.fixture
async def place(telewarm_with: Opener, sandbox: Sandbox) -> Place:
    idle = await telewarm_with(NO_SWEEP, worker=False)
    return Place(idle=idle, session=await add_bot(idle), sandbox=sandbox)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(("waits", "acts"), CASES)
async def test_work_is_acted_on_at_once_while_something_else_of_the_bot_waits(
    place: Place, telewarm_with: Opener, processes: int, waits: Wait, acts: Wait
) -> None:
    async with workers(telewarm_with, processes):
        await waits(place)
        async with asyncio.timeout(SOON):
            await acts(place)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("waits", "acts"), [CASES[0], CASES[1], CASES[4], CASES[6]])
async def test_so_it_is_after_a_restart(place: Place, telewarm_with: Opener, waits: Wait, acts: Wait) -> None:
    async with workers(telewarm_with, 1):
        await waits(place)
    async with workers(telewarm_with, 1), asyncio.timeout(SOON):
        await acts(place)


@pytest.mark.timeout(60)
async def test_what_became_due_while_no_worker_ran_is_done_by_the_next_one(place: Place, telewarm_with: Opener) -> None:
    async with workers(telewarm_with, 1):
        await a_broadcast_is_scheduled_for_years_ahead(place)
    ids = await add_photos(place.idle, place.session, 2)
    broadcast_id = await place.start(ChatId(READER + 8))
    async with workers(telewarm_with, 1), asyncio.timeout(SOON):
        await until_ready(place.idle, *ids)
        await place.until_state(broadcast_id, BroadcastState.DONE)


async def pause_of_the_bot(place: Place) -> float:
    return await bots.pause_seconds(place.idle.pool, place.session.bot.id)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("processes", [1, 2])
async def test_a_429_of_an_hour_for_the_whole_bot_holds_no_cancel_and_no_broadcast_without_a_call(
    place: Place, telewarm_with: Opener, sandbox: Sandbox, processes: int
) -> None:
    async with workers(telewarm_with, processes):
        await place.idle.bots.replace_chats("bot-0", [WARMUP_CHAT, OTHER_CHAT])
        sandbox.state.faults.add(Rule(action="error", code=429, retry_after=3600, count=None))
        await add_photos(place.idle, place.session, 3)

        async def paused() -> bool:
            return await pause_of_the_bot(place) > 3000

        await until(place.idle, paused)
        sent = await place.start(ChatId(READER + 1))
        blocked = ChatId(READER + 2)
        await place.idle.pool.execute(
            "INSERT INTO chat (bot_id, chat_id, state, reason) VALUES ($1, $2, 'blocked', 'Forbidden: so')",
            place.session.bot.id,
            blocked,
        )
        async with asyncio.timeout(SOON):
            await place.until_state(await place.start(blocked), BroadcastState.DONE)
            await place.idle.broadcasts.cancel(sent)
            await place.until_state(sent, BroadcastState.CANCELLED)

        async def let_go() -> bool:
            return not await place.idle.pool.fetchval("SELECT count(*) FROM broadcast_run WHERE lease_id IS NOT NULL")

        async with asyncio.timeout(SOON):
            await until(place.idle, let_go)


@pytest.mark.timeout(60)
async def test_a_back_off_that_ends_while_the_lane_waits_for_something_else_is_seen_by_the_sweep(
    place: Place, telewarm_with: Opener, sandbox: Sandbox
) -> None:
    sandbox.state.faults.add(Rule(action="error", code=502, count=1, method="sendPhoto"))
    settings = {"TELEWARM_RETRY_BASE_MS": "2000", "MEDIA_PREWARM_INTERVAL_MS": "200"}
    await place.start(READER, starts_in=LATER)
    await telewarm_with(settings)
    [media_id] = await add_photos(place.idle, place.session, 1)

    async with asyncio.timeout(2 + SOON):
        [item] = await until_ready(place.idle, media_id)
    assert item.state is MediaState.READY


async def test_a_lane_that_waits_for_a_limit_is_not_asked_at_every_sweep(place: Place, telewarm_with: Opener) -> None:
    await telewarm_with(MEDIA_PREWARM_INTERVAL_MS="100")
    await the_warm_up_chat_is_closed(place)
    runs = "SELECT attempts FROM pgqueuer"
    before = await place.idle.pool.fetchval(runs)
    await clock.wait(asyncio.Event(), 1.0)
    assert await place.idle.pool.fetchval(runs) - before <= 1
