"""What whoever listens is told of a broadcast: its states, and now and then how far it has come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import pytest

from telewarm.api.schemas.broadcasts import describe_progress
from telewarm.database import events
from telewarm.models import BroadcastState, Event, EventType
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from tests.broadcast.running import Process, broadcast_process
from tests.fixtures.app import add_bot, readers


@pytest.fixture
async def port(idle_telewarm: Telewarm) -> AsyncIterator[Process]:
    async with broadcast_process(idle_telewarm, await add_bot(idle_telewarm)) as port:
        yield port


async def reported(port: Process) -> Sequence[Event]:
    found = (await events.read_after(port.pool, 0)).events
    return [one for one in found if one.type.startswith("broadcast.")]


def states(found: Sequence[Event]) -> list[str]:
    return [one.facts["state"] for one in found if one.type is EventType.BROADCAST_CHANGED]


async def test_its_states_are_told_and_once_a_second_how_far_it_is(port: Process, sandbox: Sandbox) -> None:
    sandbox.state.faults.add(
        Rule(action="error", code=403, description="Forbidden: bot was blocked", chat=readers(1)[0])
    )
    broadcast_id = await port.started(readers(45), per_second=20)
    await port.fly()
    found = await reported(port)
    await port.broadcasts.delete(broadcast_id)

    assert states(await reported(port)) == ["draft", "running", "done", "deleted"]
    progress = [one for one in found if one.type is EventType.BROADCAST_PROGRESS]
    assert len(progress) >= 2
    assert min((later.at - earlier.at).total_seconds() for earlier, later in pairwise(progress)) > 0.9
    assert {(one.bot, one.facts["broadcast_id"], one.facts["recipients"]) for one in found[1:]} == {
        ("bot-0", broadcast_id, 45)
    }
    done = [one.facts["done"] for one in progress]
    assert done == sorted(done)
    half = progress[-1].facts
    assert (half["left"], half["state"]) == (45 - half["done"], "running")
    assert half["eta_seconds"] == pytest.approx(half["left"] / half["rate"], rel=0.1, abs=0.1)


async def test_how_it_stands_is_told_in_the_words_of_the_api(port: Process) -> None:
    broadcast_id = await port.started(readers(30))
    await port.fly()
    [*_, done] = await reported(port)
    now = await port.get(broadcast_id)
    assert done.facts["state"] == now.state == BroadcastState.DONE
    shown = describe_progress(now)
    assert {key: done.facts[key] for key in shown if key != "rate"} == {
        key: value for key, value in shown.items() if key != "rate"
    }
    assert done.facts["rate"] == pytest.approx(shown["rate"], rel=0.01)


async def test_what_was_in_flight_at_a_pause_and_what_is_undone_is_told_too(port: Process) -> None:
    broadcast_id = await port.started(readers(40), per_second=20)
    async with port.running():
        await port.until(broadcast_id, lambda found: found.done > 5)
        await port.broadcasts.pause(broadcast_id)
    [*_, last] = await reported(port)
    assert (last.type, last.facts["state"]) == (EventType.BROADCAST_PROGRESS, "paused")
    assert last.facts["done"] == (await port.get(broadcast_id)).done
    assert last.facts["eta_seconds"] is None

    await port.broadcasts.cancel(broadcast_id)
    await port.broadcasts.undo(broadcast_id)
    await port.fly()
    found = await reported(port)
    assert states(found)[-3:] == ["cancelled", "undoing", "undone"]
    assert found[-1].facts["counts"]["undone"] == last.facts["counts"]["sent"]
