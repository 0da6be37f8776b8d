"""Broadcasts on their way: who gets it, who does not, and what is written down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from telewarm import clock
from telewarm.database import broadcast_runs
from telewarm.models import BroadcastState, ChatId, Delivery, DeliveryStatus, MessageId, MessageSet, Part
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from telewarm.sandbox.config import Network
from telewarm.sandbox.faults import Rule
from tests.broadcast.running import Process, broadcast_process
from tests.fixtures.app import READER, add_bot, add_photos, readers
from tests.fixtures.rows import make_lease

DONE, PAUSED, RUNNING, CANCELLED = (
    BroadcastState.DONE,
    BroadcastState.PAUSED,
    BroadcastState.RUNNING,
    BroadcastState.CANCELLED,
)


@pytest.fixture
async def port(idle_telewarm: Telewarm) -> AsyncIterator[Process]:
    async with broadcast_process(idle_telewarm, await add_bot(idle_telewarm)) as opened:
        yield opened


async def test_everybody_gets_it_once(port: Process, sandbox: Sandbox) -> None:
    chats = readers(500)
    broadcast_id = await port.started(chats)

    assert await port.fly() is None

    found = await port.get(broadcast_id)
    assert found.state is DONE
    assert found.ended_at is not None
    assert found.counts[DeliveryStatus.SENT] == found.done == 500
    assert dict(sandbox.state.stats.chats) == dict.fromkeys(chats, 1)
    results = await port.results(broadcast_id)
    assert {one.outcome for one in results.values()} == {DeliveryStatus.SENT}
    assert all(len(one.message_ids) == 1 for one in results.values())


async def test_each_recipient_has_the_outcome_that_its_answer_means(port: Process, sandbox: Sandbox) -> None:
    chats = readers(30)
    sandbox.state.chats.declare(chats[3], blocked=True)
    sandbox.state.chats.declare(chats[4], exists=False)
    sandbox.state.faults.add(Rule(action="error", code=400, description="Bad Request: no", chat=chats[5]))
    sandbox.state.faults.add(Rule(action="reset", when="after", chat=chats[6]))
    sandbox.state.faults.add(Rule(action="html", code=502, when="after", chat=chats[7]))
    sandbox.state.faults.add(Rule(action="error", code=500, chat=chats[8]))
    broadcast_id = await port.started(chats)

    await port.fly()

    results = await port.results(broadcast_id)
    outcomes = {number: results[chats[number]].outcome for number in range(3, 10)}
    assert outcomes == {
        3: DeliveryStatus.UNREACHABLE,
        4: DeliveryStatus.UNREACHABLE,
        5: DeliveryStatus.FAILED,
        6: DeliveryStatus.UNKNOWN,
        7: DeliveryStatus.UNKNOWN,
        8: DeliveryStatus.UNKNOWN,  # no 5xx proves that nothing went
        9: DeliveryStatus.SENT,
    }
    assert (results[chats[3]].error or "").startswith("CHAT_UNREACHABLE: ")
    found = await port.get(broadcast_id)
    expected = {
        DeliveryStatus.SENT: 24,
        DeliveryStatus.UNREACHABLE: 2,
        DeliveryStatus.FAILED: 1,
        DeliveryStatus.UNKNOWN: 3,
    }
    assert {outcome: count for outcome, count in found.counts.items() if count} == expected
    assert sandbox.state.stats.chats[chats[6]] == sandbox.state.stats.chats[chats[7]] == 1


async def test_of_a_set_that_went_in_part_the_rest_is_not_sent_again(port: Process, sandbox: Sandbox) -> None:
    [photo] = await add_photos(port.app, port.session, 1)
    sandbox.state.faults.add(
        Rule(action="error", code=400, description="Bad Request: no", method="sendMessage", chat=READER)
    )
    broadcast_id = await port.started(
        readers(2), MessageSet(media=(Part(media_id=photo),), text="and this"), gate=False
    )

    await port.fly()

    results = await port.results(broadcast_id)
    assert results[READER].outcome is DeliveryStatus.PARTIAL
    assert len(results[READER].message_ids) == 1
    assert len(results[ChatId(READER + 1)].message_ids) == 2
    assert sandbox.state.stats.chats[READER] == 1


async def test_whoever_is_called_is_written_down_before(port: Process, sandbox: Sandbox) -> None:
    chats = readers(10)
    for chat_id in chats[2:4]:
        sandbox.state.faults.add(Rule(action="hang", chat=chat_id, seconds=1))
    broadcast_id = await port.started(chats)

    async with port.running(concurrency=3):
        await port.until(broadcast_id, lambda found: found.counts[DeliveryStatus.SENT] == 8)
        assert sorted(await port.in_flight(broadcast_id)) == chats[2:4]

    assert (await port.get(broadcast_id)).counts[DeliveryStatus.SENT] == 10


async def test_a_pause_calls_nobody_else_and_resumed_it_goes_on(port: Process, sandbox: Sandbox) -> None:
    chats = readers(400)
    sandbox.state.configure(network=Network(latency=0.02))
    broadcast_id = await port.started(chats)

    async with port.running(concurrency=10) as under_way:
        await port.until(broadcast_id, lambda found: found.done >= 50)
        await port.broadcasts.pause(broadcast_id)
        under_way.nudge()
        await port.until(broadcast_id, lambda found: found.in_flight == 0)
        paused = await port.get(broadcast_id)
        assert paused.state is PAUSED
        assert paused.done < 400
        assert sandbox.state.stats.total.messages == paused.done
    await port.broadcasts.resume(broadcast_id)
    await port.fly()

    assert dict(sandbox.state.stats.chats) == dict.fromkeys(chats, 1)


async def test_what_is_cancelled_stays_pending(port: Process, sandbox: Sandbox) -> None:
    sandbox.state.configure(network=Network(latency=0.02))
    broadcast_id = await port.started(readers(400))

    async with port.running(concurrency=10):
        await port.until(broadcast_id, lambda found: found.done >= 50)
        await port.broadcasts.cancel(broadcast_id)
        found = await port.until(broadcast_id, lambda found: found.in_flight == 0)

    assert found.state is CANCELLED
    pending = [one async for page in port.broadcasts.results(broadcast_id, outcome="pending") for one in page]
    assert len(pending) == 400 - found.done == 400 - sandbox.state.stats.total.messages


async def test_told_to_stop_it_ends_what_is_in_flight_and_another_goes_on(port: Process, sandbox: Sandbox) -> None:
    chats = readers(300)
    sandbox.state.configure(network=Network(latency=0.02))
    broadcast_id = await port.started(chats)

    async with port.running(concurrency=10):
        await port.until(broadcast_id, lambda found: found.done >= 50)
    left = await port.get(broadcast_id)
    assert (left.state, left.in_flight, left.counts[DeliveryStatus.UNKNOWN]) == (RUNNING, 0, 0)
    assert left.done == sandbox.state.stats.total.messages < 300

    async with broadcast_process(port.app, port.session) as other:
        assert await other.fly() is None

    assert dict(sandbox.state.stats.chats) == dict.fromkeys(chats, 1)
    assert (await port.get(broadcast_id)).counts[DeliveryStatus.SENT] == 300


async def test_cut_short_those_in_flight_are_unknown_and_not_called_again(port: Process, sandbox: Sandbox) -> None:
    chats = readers(60)
    broadcast_id = await port.started(chats)
    sandbox.state.faults.add(Rule(action="hang", when="after", count=5, skip=20))

    async with port.running(concurrency=5) as under_way:
        await port.until(broadcast_id, lambda found: found.done == 20 and found.in_flight == 5)
        under_way.abort()
    assert (await port.get(broadcast_id)).counts[DeliveryStatus.UNKNOWN] == 5

    async with broadcast_process(port.app, port.session) as other:
        await other.fly()

    found = await port.get(broadcast_id)
    assert (found.counts[DeliveryStatus.SENT], found.counts[DeliveryStatus.UNKNOWN]) == (55, 5)
    assert dict(sandbox.state.stats.chats) == dict.fromkeys(chats, 1)


async def test_who_lost_its_flight_calls_nobody_else_and_tells_what_it_knows(port: Process, sandbox: Sandbox) -> None:
    chats = readers(400)
    sandbox.state.configure(network=Network(latency=0.2))
    broadcast_id = await port.started(chats)
    thief = await make_lease(port.pool)

    async with port.running(concurrency=10):
        await port.until(broadcast_id, lambda found: found.done >= 20)
        await port.pool.execute("UPDATE broadcast_run SET lease_id = NULL WHERE broadcast_id = $1", broadcast_id)
        taken = await broadcast_runs.claim(port.pool, broadcast_id, thief)
        assert taken is not None
        assert taken.unknown > 0
        found = await port.until(broadcast_id, lambda found: found.counts[DeliveryStatus.UNKNOWN] == 0)
        messages = sandbox.state.stats.total.messages
        assert messages == found.counts[DeliveryStatus.SENT]
        await clock.sleep(0.5)  # longer than a call takes: nobody is called in it
        assert sandbox.state.stats.total.messages == messages

    assert (await port.get(broadcast_id)).done == messages < 400


async def test_a_living_holders_flight_is_left_alone(port: Process, sandbox: Sandbox) -> None:
    broadcast_id = await port.started(readers(5))
    other = await make_lease(port.pool)
    assert await broadcast_runs.claim(port.pool, broadcast_id, other) is not None

    async with port.running():
        await clock.sleep(0.3)  # it looks, and looks again
        assert sandbox.state.stats.total.messages == 0
        await broadcast_runs.release(port.pool, broadcast_id, other)
        await port.until_state(broadcast_id, DONE)


async def test_two_of_one_process_do_not_fly_the_same_broadcast(port: Process, sandbox: Sandbox) -> None:
    chats = readers(200)
    sandbox.state.configure(network=Network(latency=0.01))
    broadcast_id = await port.started(chats)

    async with port.running(), port.running():
        await port.until_state(broadcast_id, DONE)

    assert dict(sandbox.state.stats.chats) == dict.fromkeys(chats, 1)


async def test_outcomes_that_come_after_all_replace_unknown_ones_alone(port: Process) -> None:
    chats = readers(3)
    broadcast_id = await port.draft(chats)
    lease = await make_lease(port.pool)
    await broadcast_runs.claim(port.pool, broadcast_id, lease)
    known = [
        Delivery(chat_id=chats[0], outcome=DeliveryStatus.UNKNOWN),
        Delivery(chat_id=chats[1], outcome=DeliveryStatus.FAILED),
    ]
    written = broadcast_runs.RunUpdate(in_flight=[], retry_chat_ids=[], cursor=chats[1], outcomes=known)
    for _ in range(2):  # the second time changes nothing
        await broadcast_runs.save_progress(port.pool, broadcast_id, lease, written, notify=False)

    sent = [Delivery(chat_id=chat_id, outcome=DeliveryStatus.SENT, message_ids=(MessageId(7),)) for chat_id in chats]
    assert await broadcast_runs.resolve_unknown(port.pool, broadcast_id, sent) == 1

    results = await port.results(broadcast_id)
    assert [one.outcome for one in results.values()] == [DeliveryStatus.SENT, DeliveryStatus.FAILED]
    found = await port.get(broadcast_id)
    assert {outcome for outcome, count in found.counts.items() if count == 1} == {
        DeliveryStatus.SENT,
        DeliveryStatus.FAILED,
    }
    assert found.done == 2


async def test_a_chat_that_is_flooded_holds_up_nobody_else(port: Process, sandbox: Sandbox) -> None:
    chats = readers(100)
    sandbox.state.faults.add(Rule(action="error", code=429, retry_after=6, chat=chats[0]))
    broadcast_id = await port.started(chats)

    async with port.running(concurrency=2):
        began = clock.monotonic()
        await port.until(broadcast_id, lambda found: found.counts[DeliveryStatus.SENT] == 99)
        assert clock.monotonic() - began < 5
        await port.until_state(broadcast_id, DONE)

    assert dict(sandbox.state.stats.chats) == dict.fromkeys(chats, 1)


async def test_while_telegram_is_away_hardly_anybody_is_called(port: Process, sandbox: Sandbox) -> None:
    chats = readers(300)
    sandbox.state.faults.add(Rule(action="reset", count=None))
    broadcast_id = await port.started(chats)

    async with port.running(concurrency=10):
        while sandbox.state.stats.total.calls["getMe"] < 3:
            await clock.sleep(0.05)
        assert sandbox.state.stats.total.calls["sendMessage"] < 30
        sandbox.state.faults.clear()
        found = await port.until_state(broadcast_id, DONE)

    assert found.counts[DeliveryStatus.SENT] + found.counts[DeliveryStatus.UNKNOWN] == 300
    assert found.counts[DeliveryStatus.UNKNOWN] < 30
    assert dict(sandbox.state.stats.chats) == dict.fromkeys(
        [one.chat_id for one in (await port.results(broadcast_id)).values() if one.outcome is DeliveryStatus.SENT], 1
    )


async def test_a_refused_token_pauses_it_and_loses_nobody(port: Process, sandbox: Sandbox) -> None:
    chats = readers(50)
    sandbox.state.faults.add(Rule(action="error", code=401, description="Unauthorized", skip=20, count=None))
    broadcast_id = await port.started(chats)

    await port.fly(concurrency=5)

    paused = await port.get(broadcast_id)
    assert paused.state is PAUSED
    assert "Give the bot its current token" in (paused.reason or "")
    assert paused.counts[DeliveryStatus.SENT] == paused.done == 20
    sandbox.state.faults.clear()
    await port.broadcasts.resume(broadcast_id)
    await port.fly()
    assert dict(sandbox.state.stats.chats) == dict.fromkeys(chats, 1)


async def test_a_bug_in_one_call_is_nobody_elses(port: Process, sandbox: Sandbox) -> None:
    """An id that no chat has is as near as a list can come to one."""
    chats = [*readers(20), ChatId(2**63 - 1), ChatId(-(2**63) + 1)]
    broadcast_id = await port.started(chats)

    await asyncio.wait_for(port.fly(), 15)

    assert (await port.get(broadcast_id)).done == len(await port.results(broadcast_id))
    assert sandbox.state.stats.total.messages >= 20
