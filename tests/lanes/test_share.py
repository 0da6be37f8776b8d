"""Two Telewarms that speak for one bot hear what the other sends, and leave each other room."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest

from telewarm import clock
from telewarm.bots.sessions import BotSession
from telewarm.database.connection import Pool
from telewarm.database.notifications import subscribe
from telewarm.flood_control.cluster_sync import CHANNEL, MAX_COUNTS_PER_MESSAGE, ClusterRateSync
from telewarm.flood_control.limiter import BotRateLimiter
from telewarm.flood_control.limits import BotLimits, RateLimit
from telewarm.flood_control.priority import Priority
from telewarm.models import BotId, ChatId
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from telewarm.sandbox.config import Floods
from telewarm.sandbox.config import Limit as ServerLimit
from telewarm.sending.rate_limited_call import SendSlot, with_rate_limit
from tests.fixtures.app import Opener, add_bot
from tests.fixtures.rows import make_lease

THIRTY = {"TELEWARM_FLOOD_BOT_PER_SECOND": "30", "TELEWARM_FLOOD_BOT_BURST": "30"}
BOT = BotId(7)
SECONDS = 7.0
WARM_UP = 2.0  # seconds until both have heard of each other


class Ear:
    """Every notification about traffic."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.counts = asyncio.Event()

    def __call__(self, payload: str) -> None:
        self.heard.append(payload)
        self.counts.set()


def limiter() -> BotRateLimiter:
    return BotRateLimiter(BotLimits(bot=RateLimit(rate=30, burst=30), private_chat=None), now=clock.monotonic())


def send(one: BotRateLimiter, count: int = 1) -> None:
    one.acquire(ChatId(1), count=count, now=clock.monotonic(), priority=Priority.DELIVERY)


async def test_what_one_process_sends_counts_in_the_other(pool: Pool) -> None:
    here, there, ear = limiter(), limiter(), Ear()
    await make_lease(pool)
    await make_lease(pool)
    ours, theirs = ClusterRateSync(pool, {BOT: here}), ClusterRateSync(pool, {BOT: there})

    def hear(payload: str) -> None:
        for heard in (ours.on_message, theirs.on_message, ear):
            heard(payload)

    async with subscribe(pool, {CHANNEL: hear}, on_lost=lambda: None):
        telling = asyncio.create_task(ours.run())
        send(here, 10)
        await ear.counts.wait()
        ours.stop()
        await telling

    assert there.available(clock.monotonic(), Priority.INTERACTIVE) == 20
    assert here.available(clock.monotonic(), Priority.INTERACTIVE) == 20  # its own words are no news


async def test_nothing_is_told_when_nobody_else_is_there(pool: Pool) -> None:
    one, ear = limiter(), Ear()
    await make_lease(pool)
    await make_lease(pool, seconds=-1)  # of one that died
    peers = ClusterRateSync(pool, {BOT: one})
    async with subscribe(pool, {CHANNEL: ear}, on_lost=lambda: None):
        telling = asyncio.create_task(peers.run())
        send(one)
        peers.flush()
        await asyncio.wait([telling], timeout=0.3)
        peers.stop()
        await telling

        await pool.execute("SELECT pg_notify($1, 'the end')", CHANNEL)
        await ear.counts.wait()
    assert ear.heard == ["the end"]


async def test_many_bots_fit_into_the_notifications(pool: Pool) -> None:
    bots, ear = {BotId(10**9 + number): limiter() for number in range(MAX_COUNTS_PER_MESSAGE + 1)}, Ear()
    await make_lease(pool)
    await make_lease(pool)
    peers = ClusterRateSync(pool, bots)
    for one in bots.values():
        send(one)
    async with subscribe(pool, {CHANNEL: ear}, on_lost=lambda: None):
        peers.flush()
        telling = asyncio.create_task(peers.run())
        while len(ear.heard) < 2:
            ear.counts.clear()
            await ear.counts.wait()
        peers.stop()
        await telling

    assert sorted(payload.count(":") for payload in ear.heard) == [1, MAX_COUNTS_PER_MESSAGE]


async def test_while_the_database_is_away_nothing_is_told_and_nothing_breaks(pool: Pool) -> None:
    one = limiter()
    await make_lease(pool)
    await make_lease(pool)
    peers = ClusterRateSync(pool, {BOT: one})
    telling = asyncio.create_task(peers.run())
    await pool.execute("ALTER TABLE lease RENAME TO gone")
    send(one)
    await asyncio.wait([telling], timeout=0.4)
    assert not telling.done()

    await pool.execute("ALTER TABLE gone RENAME TO lease")
    peers.stop()
    await telling


async def speak(session: BotSession, chat_id: ChatId, rank: Priority) -> float:
    """Seconds until it was sent."""
    started = clock.monotonic()
    turn = SendSlot(session=session, chat_id=chat_id, deadline=started + 60, priority=rank)
    await with_rate_limit(turn, lambda: session.api.send_message(chat_id, "hello"))
    return clock.monotonic() - started


async def deliver(session: BotSession, until: float, chats: itertools.count[int]) -> None:
    while clock.monotonic() < until:
        await speak(session, ChatId(next(chats)), Priority.DELIVERY)


async def talk(session: BotSession, until: float, chats: itertools.count[int], per_second: float) -> list[float]:
    tasks = []
    while clock.monotonic() < until:
        tasks.append(asyncio.create_task(speak(session, ChatId(next(chats)), Priority.INTERACTIVE)))
        await clock.sleep(1 / per_second)
    return await asyncio.gather(*tasks)


async def opened(telewarm_with: Callable[..., Awaitable[Telewarm]], count: int) -> list[BotSession]:
    telewarms = [await telewarm_with(THIRTY, worker=False) for _ in range(count)]
    first = await add_bot(telewarms[0])
    return [first, *[await telewarm.bots.get(first.bot.id) for telewarm in telewarms[1:]]]


@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.heavy), 2])
async def test_people_are_answered_at_once_beside_deliveries_wherever_those_go(
    telewarm_with: Opener, sandbox: Sandbox, processes: int
) -> None:
    sandbox.state.configure(floods=Floods(bot=ServerLimit(count=30, seconds=1)))
    bots = await opened(telewarm_with, processes)
    chats, started = itertools.count(1), clock.monotonic()

    until = started + WARM_UP + SECONDS
    deliveries = [asyncio.create_task(deliver(bots[0], until, chats)) for _ in range(10)]
    talking = asyncio.create_task(talk(bots[-1], until, chats, 3))
    await asyncio.wait([talking], timeout=WARM_UP)
    sandbox.state.stats.clear()
    await asyncio.wait([talking, *deliveries])

    seconds = clock.monotonic() - started - WARM_UP
    waits, total = sorted(talking.result()), sandbox.state.stats.total
    assert waits[int(0.95 * len(waits))] < 1.2
    assert total.floods <= 0.03 * total.messages
    assert total.messages >= 0.85 * 30 * seconds
