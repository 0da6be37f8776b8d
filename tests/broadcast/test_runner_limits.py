"""Broadcasts within the bot's limits: as fast as they let go, fair to each other, after whoever waits for a send."""

from __future__ import annotations

import asyncio

import pytest

from telewarm import clock
from telewarm.broadcasts.scheduler import MAX_ACTIVE_BROADCASTS
from telewarm.models import BroadcastState, ChatId, DeliveryStatus, MessageSet
from telewarm.sandbox import Sandbox
from telewarm.sandbox.config import Floods, Limit, Network
from tests.broadcast.running import broadcast_process
from tests.fixtures.app import READER, Opener, add_bot, readers

TWENTY = {"TELEWARM_FLOOD_BOT_PER_SECOND": "20", "TELEWARM_FLOOD_BOT_BURST": "20"}


def others(count: int, *, first: int) -> list[ChatId]:
    return [ChatId(READER + 10_000 * first + number) for number in range(count)]


async def messages_to(sandbox: Sandbox, chats: list[ChatId]) -> int:
    return sum(sandbox.state.stats.chats[chat_id] for chat_id in chats)


async def test_it_goes_as_fast_as_the_bot_may_speak_and_meets_no_flood(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with(TWENTY, worker=False)
    sandbox.state.configure(floods=Floods(bot=Limit(count=20, seconds=1)), network=Network(latency=0.05))
    async with broadcast_process(telewarm, await add_bot(telewarm)) as port:
        broadcast_id = await port.started(readers(100))
        began = clock.monotonic()

        async with port.running(concurrency=50):
            halfway = await port.until(broadcast_id, lambda found: found.done >= 40)
            await port.until_state(broadcast_id, BroadcastState.DONE)

    assert 3.9 < clock.monotonic() - began < 5.5  # five bursts of twenty, a second apart
    assert halfway.in_flight <= 25  # nobody is taken long before its turn
    assert sandbox.state.stats.total.floods == 0


async def test_two_broadcasts_of_a_bot_share_its_limit(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with(TWENTY, worker=False)
    async with broadcast_process(telewarm, await add_bot(telewarm)) as port:
        first, second = others(200, first=1), others(200, first=2)
        large = await port.started(first)

        async with port.running() as under_way:
            await port.until(large, lambda found: found.done >= 20)
            before = await messages_to(sandbox, first)
            late = await port.started(second)
            under_way.nudge()
            await port.until(late, lambda found: found.done >= 30)
            ours, theirs = await messages_to(sandbox, first) - before, await messages_to(sandbox, second)

    assert theirs >= 30
    assert abs(ours - theirs) <= 15


async def test_whoever_waits_for_an_answer_goes_first(telewarm_with: Opener) -> None:
    telewarm = await telewarm_with(TWENTY, worker=False)
    session = await add_bot(telewarm)
    async with broadcast_process(telewarm, session) as port:
        broadcast_id = await port.started(readers(300))

        async with port.running():
            await port.until(broadcast_id, lambda found: found.done >= 20)
            began = clock.monotonic()
            [result] = await telewarm.sender.send(session, ChatId(READER + 99_999), MessageSet(text="now"))

    assert result.error is None
    assert clock.monotonic() - began < 1.5  # in the next burst, before those of the broadcast


async def test_a_cap_of_its_own_is_kept(telewarm_with: Opener) -> None:
    telewarm = await telewarm_with(worker=False)
    async with broadcast_process(telewarm, await add_bot(telewarm)) as port:
        broadcast_id = await port.started(readers(60), per_second=20)
        began = clock.monotonic()

        await port.fly()

        assert (await port.get(broadcast_id)).counts[DeliveryStatus.SENT] == 60
        assert 2.5 < clock.monotonic() - began < 5


async def test_some_fly_at_once_and_the_rest_after_them(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with(worker=False)
    sandbox.state.configure(network=Network(latency=0.02))
    async with broadcast_process(telewarm, await add_bot(telewarm)) as port:
        made = [await port.started(others(30, first=number)) for number in range(MAX_ACTIVE_BROADCASTS + 2)]

        async with port.running(concurrency=2):
            first = await port.until(made[0], lambda found: found.done >= 10)
            assert first.state is BroadcastState.RUNNING
            assert (await port.get(made[-1])).done == 0
            await asyncio.gather(*(port.until_state(one, BroadcastState.DONE) for one in made))

    assert sandbox.state.stats.total.messages == 30 * (MAX_ACTIVE_BROADCASTS + 2)


@pytest.mark.heavy
async def test_when_others_wait_for_its_place_it_leaves_in_time(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with(worker=False)
    async with broadcast_process(telewarm, await add_bot(telewarm)) as port:
        broadcast_id = await port.started(readers(1000), per_second=20)
        port.crowded = True
        began = clock.monotonic()

        assert await port.fly() == 0.0

        assert 10 < clock.monotonic() - began < 13
        left = await port.get(broadcast_id)
        assert (left.state, left.in_flight) == (BroadcastState.RUNNING, 0)
        assert left.done == sandbox.state.stats.total.messages
