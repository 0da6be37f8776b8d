"""Broadcasts that are taken back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from telewarm.database import broadcast_runs
from telewarm.models import BroadcastId, BroadcastState, ChatId, DeliveryStatus, MessageSet, Part
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from telewarm.sandbox.config import Network
from telewarm.sandbox.faults import Rule
from tests.broadcast.running import Process, broadcast_process
from tests.fixtures.app import READER, add_bot, add_photos, readers

DONE, UNDOING, UNDONE = BroadcastState.DONE, BroadcastState.UNDOING, BroadcastState.UNDONE


@pytest.fixture
async def port(idle_telewarm: Telewarm) -> AsyncIterator[Process]:
    async with broadcast_process(idle_telewarm, await add_bot(idle_telewarm)) as opened:
        yield opened


async def sent(port: Process, chats: list[ChatId], message: MessageSet | None = None) -> BroadcastId:
    broadcast_id = await port.started(chats, message or MessageSet(text="wrong"), gate=False)
    await port.fly()
    return broadcast_id


def is_there(sandbox: Sandbox, port: Process, chat_id: ChatId, message_id: int) -> bool:
    bot = sandbox.state.bots.open(port.session.bot.telegram_id)
    chat = sandbox.state.find_chat(bot, str(chat_id))
    return sandbox.state.mail.box(chat, bot.id).get(chat.id, message_id) is not None


async def test_all_messages_are_deleted(port: Process, sandbox: Sandbox) -> None:
    chats = readers(60)
    [photo] = await add_photos(port.app, port.session, 1)
    broadcast_id = await sent(port, chats, MessageSet(media=(Part(media_id=photo),), text="wrong"))
    results = await port.results(broadcast_id)
    assert is_there(sandbox, port, chats[0], results[chats[0]].message_ids[0])

    await port.broadcasts.undo(broadcast_id)
    assert await port.fly(concurrency=25) is None

    found = await port.get(broadcast_id)
    assert (found.state, found.counts[DeliveryStatus.UNDONE], found.counts[DeliveryStatus.SENT]) == (UNDONE, 60, 0)
    assert found.not_undone == 0
    assert sandbox.state.stats.total.calls["deleteMessages"] == 60
    for chat_id, one in results.items():
        assert not any(is_there(sandbox, port, chat_id, message_id) for message_id in one.message_ids)


async def test_what_is_too_old_or_refused_is_counted_and_kept(port: Process, sandbox: Sandbox) -> None:
    chats = readers(10)
    broadcast_id = await sent(port, chats)
    await port.pool.execute("UPDATE delivery SET at = now() - interval '49 h' WHERE chat_id = $1", chats[2])
    refusal = "Bad Request: message can't be deleted for everyone"
    sandbox.state.faults.add(
        Rule(action="error", code=400, description=refusal, chat=chats[3], method="deleteMessages")
    )
    sandbox.state.faults.add(Rule(action="error", code=500, chat=chats[4], method="deleteMessages"))

    await port.broadcasts.undo(broadcast_id)
    await port.fly()

    found = await port.get(broadcast_id)
    assert (found.state, found.counts[DeliveryStatus.UNDONE], found.not_undone) == (UNDONE, 8, 2)
    results = await port.results(broadcast_id)
    assert {chat_id for chat_id, one in results.items() if one.outcome is DeliveryStatus.SENT} == set(chats[2:4])
    assert sandbox.state.stats.total.calls["deleteMessages"] == 10  # one twice, one never


async def test_told_to_stop_it_leaves_the_rest_to_another(port: Process, sandbox: Sandbox) -> None:
    broadcast_id = await sent(port, readers(200))
    await port.broadcasts.undo(broadcast_id)
    sandbox.state.configure(network=Network(latency=0.05))

    async with port.running(concurrency=10):
        await port.until(broadcast_id, lambda found: found.counts[DeliveryStatus.UNDONE] >= 20)
    left = await port.get(broadcast_id)
    assert left.state is UNDOING
    assert left.done == 200

    async with broadcast_process(port.app, port.session) as other:
        await other.fly()
    found = await port.get(broadcast_id)
    assert (found.state, found.counts[DeliveryStatus.UNDONE], found.not_undone) == (UNDONE, 200, 0)


async def test_messages_of_a_group_that_moved_are_deleted_where_they_are(port: Process, sandbox: Sandbox) -> None:
    group, supergroup = ChatId(-4_000_001), ChatId(-1_009_999_999_999)
    sandbox.state.chats.declare(group, migrated_to=supergroup)
    broadcast_id = await sent(port, [group])
    [message_id] = (await port.results(broadcast_id))[group].message_ids
    assert is_there(sandbox, port, supergroup, message_id)

    await port.broadcasts.undo(broadcast_id)
    await port.fly()

    assert (await port.get(broadcast_id)).counts[DeliveryStatus.UNDONE] == 1
    assert not is_there(sandbox, port, supergroup, message_id)


async def test_a_refused_token_is_waited_for(port: Process, sandbox: Sandbox) -> None:
    broadcast_id = await sent(port, [READER])
    await port.broadcasts.undo(broadcast_id)
    sandbox.state.faults.add(Rule(action="error", code=401, description="Unauthorized", method="deleteMessages"))

    again_in = await port.fly()

    assert again_in is not None
    assert again_in > 10
    found = await port.get(broadcast_id)
    assert (found.state, found.counts[DeliveryStatus.SENT], found.not_undone) == (UNDOING, 1, 0)
    assert await port.fly() is None
    assert (await port.get(broadcast_id)).state is UNDONE


@pytest.mark.parametrize("state", [UNDOING, UNDONE])
async def test_what_is_told_late_by_a_former_holder_is_taken_back_too(
    port: Process, sandbox: Sandbox, state: BroadcastState
) -> None:
    chats = readers(4)
    broadcast_id = await sent(port, chats)
    late = (await port.results(broadcast_id))[chats[0]]
    await port.pool.execute(
        "UPDATE delivery SET outcome = 'unknown', message_ids = '{}' WHERE chat_id = $1", late.chat_id
    )
    await port.pool.execute("UPDATE broadcast_run SET sent = 3, unknown = 1")
    await port.broadcasts.undo(broadcast_id)
    if state is UNDONE:
        await port.fly()

    assert await broadcast_runs.resolve_unknown(port.pool, broadcast_id, [late]) == 1
    assert (await port.get(broadcast_id)).state is UNDOING
    await port.fly()

    found = await port.get(broadcast_id)
    assert (found.state, found.counts[DeliveryStatus.UNDONE], found.not_undone) == (UNDONE, 4, 0)
    assert not is_there(sandbox, port, late.chat_id, late.message_ids[0])
