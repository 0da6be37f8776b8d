"""Two Telewarms that speak for one bot hear what the other sends, and leave each other room."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest

from telewarm import clock
from telewarm.app import Telewarm
from telewarm.database.connection import Pool
from telewarm.database.listening import listening
from telewarm.lanes import LiveBot
from telewarm.lanes.share import CHANNEL, MOST, Neighbours
from telewarm.model import BotId, ChatId
from telewarm.sandbox import Sandbox
from telewarm.sandbox.config import Floods
from telewarm.sandbox.config import Limit as ServerLimit
from telewarm.sender.turn import Turn, in_turn
from telewarm.telegram import Limit, Limits, Rank, Traffic
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
        self.news = asyncio.Event()

    def __call__(self, payload: str) -> None:
        self.heard.append(payload)
        self.news.set()


def traffic() -> Traffic:
    return Traffic(Limits(bot=Limit(rate=30, burst=30), private_chat=None), now=clock.monotonic())


def send(one: Traffic, count: int = 1) -> None:
    one.spend(ChatId(1), count=count, now=clock.monotonic(), rank=Rank.DELIVERY)


async def test_what_one_process_sends_counts_in_the_other(pool: Pool) -> None:
    here, there, ear = traffic(), traffic(), Ear()
    await make_lease(pool)
    await make_lease(pool)
    ours, theirs = Neighbours(pool, {BOT: here}), Neighbours(pool, {BOT: there})

    def hear(payload: str) -> None:
        for heard in (ours.heard, theirs.heard, ear):
            heard(payload)

    async with listening(pool, {CHANNEL: hear}, on_lost=lambda: None):
        telling = asyncio.create_task(ours.run())
        send(here, 10)
        await ear.news.wait()
        ours.stop()
        await telling

    assert there.room(clock.monotonic(), Rank.INTERACTIVE) == 20
    assert here.room(clock.monotonic(), Rank.INTERACTIVE) == 20  # its own words are no news


async def test_nothing_is_told_when_nobody_else_is_there(pool: Pool) -> None:
    one, ear = traffic(), Ear()
    await make_lease(pool)
    await make_lease(pool, seconds=-1)  # of one that died
    neighbours = Neighbours(pool, {BOT: one})
    async with listening(pool, {CHANNEL: ear}, on_lost=lambda: None):
        telling = asyncio.create_task(neighbours.run())
        send(one)
        neighbours.hurry()
        await asyncio.wait([telling], timeout=0.3)
        neighbours.stop()
        await telling

        await pool.execute("SELECT pg_notify($1, 'the end')", CHANNEL)
        await ear.news.wait()
    assert ear.heard == ["the end"]


async def test_many_bots_fit_into_the_notifications(pool: Pool) -> None:
    bots, ear = {BotId(10**9 + number): traffic() for number in range(MOST + 1)}, Ear()
    await make_lease(pool)
    await make_lease(pool)
    neighbours = Neighbours(pool, bots)
    for one in bots.values():
        send(one)
    async with listening(pool, {CHANNEL: ear}, on_lost=lambda: None):
        neighbours.hurry()
        telling = asyncio.create_task(neighbours.run())
        while len(ear.heard) < 2:
            ear.news.clear()
            await ear.news.wait()
        neighbours.stop()
        await telling

    assert sorted(payload.count(":") for payload in ear.heard) == [1, MOST]


async def test_while_the_database_is_away_nothing_is_told_and_nothing_breaks(pool: Pool) -> None:
    one = traffic()
    await make_lease(pool)
    await make_lease(pool)
    neighbours = Neighbours(pool, {BOT: one})
    telling = asyncio.create_task(neighbours.run())
    await pool.execute("ALTER TABLE lease RENAME TO gone")
    send(one)
    await asyncio.wait([telling], timeout=0.4)
    assert not telling.done()

    await pool.execute("ALTER TABLE gone RENAME TO lease")
    neighbours.stop()
    await telling


async def speak(live: LiveBot, chat_id: ChatId, rank: Rank) -> float:
    """Seconds until it was sent."""
    started = clock.monotonic()
    turn = Turn(live=live, chat_id=chat_id, until=started + 60, rank=rank)
    await in_turn(turn, lambda: live.api.send_message(chat_id, "hello"))
    return clock.monotonic() - started


async def deliver(live: LiveBot, until: float, chats: itertools.count[int]) -> None:
    while clock.monotonic() < until:
        await speak(live, ChatId(next(chats)), Rank.DELIVERY)


async def talk(live: LiveBot, until: float, chats: itertools.count[int], per_second: float) -> list[float]:
    tasks = []
    while clock.monotonic() < until:
        tasks.append(asyncio.create_task(speak(live, ChatId(next(chats)), Rank.INTERACTIVE)))
        await clock.sleep(1 / per_second)
    return await asyncio.gather(*tasks)


async def opened(telewarm_with: Callable[..., Awaitable[Telewarm]], count: int) -> list[LiveBot]:
    telewarms = [await telewarm_with(THIRTY, worker=False) for _ in range(count)]
    first = await add_bot(telewarms[0])
    return [first, *[await telewarm.bots.get(first.bot.id) for telewarm in telewarms[1:]]]


@pytest.mark.parametrize("processes", [1, 2])
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
