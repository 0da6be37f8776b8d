"""Broadcasts that wait: for their media, for their time, for the database; and whom they pass over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from telewarm import clock
from telewarm.database import media, warmups
from telewarm.database.warmups import WarmupFailure
from telewarm.models import BroadcastState, ChatId, DeliveryStatus, Kind, MediaState, MessageSet, Part
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from telewarm.sandbox.config import Network
from telewarm.sandbox.faults import Rule
from tests.broadcast.running import Process, broadcast_process
from tests.fixtures.app import Opener, add_bot, add_photos, message_of, readers
from tests.sender.test_sender import out_of_reach

DONE, PAUSED, RUNNING = BroadcastState.DONE, BroadcastState.PAUSED, BroadcastState.RUNNING
GROUP, SUPERGROUP = ChatId(-4_000_001), ChatId(-1_009_999_999_999)


@pytest.fixture
async def port(idle_telewarm: Telewarm) -> AsyncIterator[Process]:
    async with broadcast_process(idle_telewarm, await add_bot(idle_telewarm)) as opened:
        yield opened


async def lose(port: Process, chat_id: ChatId, state: str, moved_to: ChatId | None = None) -> None:
    """The chat's status says that it is unreachable."""
    await port.pool.execute(
        "INSERT INTO chat (bot_id, chat_id, state, reason, migrated_to) VALUES ($1, $2, $3, 'Forbidden: so', $4)",
        port.session.bot.id,
        chat_id,
        state,
        moved_to,
    )


async def test_whom_the_ledger_knows_to_be_lost_is_not_called(port: Process, sandbox: Sandbox) -> None:
    chats = readers(10)
    await lose(port, chats[2], "blocked")
    await lose(port, chats[3], "reachable")
    broadcast_id = await port.started(chats)

    await port.fly()

    results = await port.results(broadcast_id)
    assert results[chats[2]].outcome is DeliveryStatus.SKIPPED
    assert results[chats[2]].error == "BLOCKED: Forbidden: so"
    assert sandbox.state.stats.chats[chats[2]] == 0
    found = await port.get(broadcast_id)
    assert (found.counts[DeliveryStatus.SKIPPED], found.counts[DeliveryStatus.SENT]) == (1, 9)


async def test_a_group_that_moved_gets_it_where_it_is_now(port: Process, sandbox: Sandbox) -> None:
    sandbox.state.chats.declare(GROUP, migrated_to=SUPERGROUP)
    await lose(port, GROUP, "migrated", SUPERGROUP)
    broadcast_id = await port.started([GROUP])

    await port.fly()

    result = (await port.results(broadcast_id))[GROUP]
    assert (result.outcome, result.moved_to) == (DeliveryStatus.SENT, SUPERGROUP)
    assert sandbox.state.stats.chats[SUPERGROUP] == 1


async def test_a_group_whose_new_self_is_a_recipient_too_gets_it_once(port: Process, sandbox: Sandbox) -> None:
    sandbox.state.chats.declare(GROUP, migrated_to=SUPERGROUP)
    await lose(port, GROUP, "migrated", SUPERGROUP)
    broadcast_id = await port.started([GROUP, SUPERGROUP])

    await port.fly()

    results = await port.results(broadcast_id)
    assert (results[GROUP].outcome, results[GROUP].moved_to) == (DeliveryStatus.SKIPPED, SUPERGROUP)
    assert results[SUPERGROUP].outcome is DeliveryStatus.SENT
    assert sandbox.state.stats.chats[SUPERGROUP] == 1


async def test_a_group_that_moves_while_it_is_sent_gets_it_where_it_is_now(port: Process, sandbox: Sandbox) -> None:
    sandbox.state.chats.declare(GROUP, migrated_to=SUPERGROUP)
    broadcast_id = await port.started([GROUP])

    await port.fly()

    result = (await port.results(broadcast_id))[GROUP]
    assert (result.outcome, result.moved_to) == (DeliveryStatus.SENT, SUPERGROUP)
    assert sandbox.state.stats.chats[SUPERGROUP] == 1


async def test_a_group_that_moves_while_it_is_sent_into_another_recipient_gets_it_once(
    port: Process, sandbox: Sandbox
) -> None:
    sandbox.state.chats.declare(GROUP, migrated_to=SUPERGROUP)
    broadcast_id = await port.started([GROUP, SUPERGROUP])

    await port.fly()

    results = await port.results(broadcast_id)
    assert (results[GROUP].outcome, results[GROUP].moved_to) == (DeliveryStatus.SKIPPED, SUPERGROUP)
    assert results[SUPERGROUP].outcome is DeliveryStatus.SENT
    assert sandbox.state.stats.chats[SUPERGROUP] == 1


async def test_a_list_of_lost_chats_alone_ends_without_a_call(port: Process, sandbox: Sandbox) -> None:
    chats = readers(5)
    for chat_id in chats:
        await lose(port, chat_id, "deactivated")
    broadcast_id = await port.started(chats)

    await port.fly()

    assert (await port.get(broadcast_id)).counts[DeliveryStatus.SKIPPED] == 5
    assert sandbox.state.stats.total.messages == 0


async def test_it_goes_when_its_media_are_warm_and_asks_for_them(telewarm_with: Opener, sandbox: Sandbox) -> None:
    idle = await telewarm_with(worker=False)
    session = await add_bot(idle)
    [photo] = await add_photos(idle, session, 1)
    before = await idle.pool.fetchval("SELECT priority FROM media WHERE id = $1", photo)
    async with broadcast_process(idle, session) as port:
        broadcast_id = await port.started(readers(5), MessageSet(media=(Part(media_id=photo),)))

        async with port.running():
            while await idle.pool.fetchval("SELECT priority FROM media WHERE id = $1", photo) == before:
                await clock.sleep(0.02)
            assert sandbox.state.stats.total.messages == 0
            await telewarm_with()  # one with a worker
            await port.until_state(broadcast_id, DONE)

    assert sandbox.state.stats.total.uploads == 1
    assert (await port.get(broadcast_id)).counts[DeliveryStatus.SENT] == 5


async def test_media_that_cannot_be_warmed_pause_it(port: Process, sandbox: Sandbox) -> None:
    [photo] = await add_photos(port.app, port.session, 1)
    item = await warmups.claim_one(port.pool, bot_id=port.session.bot.id, media_id=photo, lease_id=port.lease.id)
    assert item is not None
    failed = WarmupFailure(media_id=photo, retry_delay=None, code="BAD_MEDIA", message="no photo")
    await warmups.record_failed(port.pool, port.lease.id, [failed])
    assert (await media.get(port.pool, photo)).state is MediaState.ERROR
    broadcast_id = await port.started(readers(5), MessageSet(media=(Part(media_id=photo),)))

    assert await port.fly() is None

    paused = await port.get(broadcast_id)
    assert paused.state is PAUSED
    assert "no photo" in (paused.reason or "")
    assert "rewarm it and resume" in (paused.reason or "")
    assert sandbox.state.stats.total.messages == 0


async def test_media_that_are_gone_pause_it(port: Process, sandbox: Sandbox) -> None:
    [photo] = await add_photos(port.app, port.session, 1)
    broadcast_id = await port.started(readers(5), MessageSet(media=(Part(media_id=photo),)), gate=False)
    await port.pool.execute("DELETE FROM media WHERE id = $1", photo)

    assert await port.fly() is None

    assert (await port.get(broadcast_id)).state is PAUSED
    assert sandbox.state.stats.total.messages == 0


async def test_without_a_gate_the_first_recipient_gets_the_upload(port: Process, sandbox: Sandbox) -> None:
    [photo] = await add_photos(port.app, port.session, 1)
    broadcast_id = await port.started(readers(20), MessageSet(media=(Part(media_id=photo),)), gate=False)

    await port.fly()

    assert (await port.get(broadcast_id)).counts[DeliveryStatus.SENT] == 20
    assert sandbox.state.stats.total.uploads == 1
    assert (await media.get(port.pool, photo)).sent_kind is Kind.PHOTO


async def test_one_of_tomorrow_goes_tomorrow(port: Process, sandbox: Sandbox) -> None:
    broadcast_id = await port.draft(readers(5))
    await port.broadcasts.start(broadcast_id, starts_at=clock.now() + timedelta(days=1))

    again_in = await port.fly()

    assert again_in is not None
    assert 200 < again_in <= 300  # it looks now and then: clocks are set, schedules changed
    assert sandbox.state.stats.total.messages == 0


async def test_one_of_in_a_moment_goes_in_a_moment(port: Process) -> None:
    broadcast_id = await port.draft(readers(5))
    began = clock.monotonic()
    await port.broadcasts.start(broadcast_id, starts_at=clock.now() + timedelta(seconds=0.8))

    assert await port.fly() is None

    assert clock.monotonic() - began >= 0.8
    assert (await port.get(broadcast_id)).state is DONE


async def test_while_the_database_is_away_nobody_new_is_called_and_nothing_is_forgotten(
    telewarm_with: Opener, sandbox: Sandbox, postgres_server: str
) -> None:
    telewarm = await telewarm_with(worker=False)
    sandbox.state.configure(network=Network(latency=0.02))
    async with broadcast_process(telewarm, await add_bot(telewarm)) as port:
        chats = readers(400)
        broadcast_id = await port.started(chats)

        async with port.running(concurrency=10):
            await port.until(broadcast_id, lambda found: found.done >= 50)
            async with out_of_reach(postgres_server, telewarm_with.database_url):
                await clock.sleep(0.3)  # longer than a call takes
                called = sandbox.state.stats.total.messages
                await clock.sleep(0.5)
                assert sandbox.state.stats.total.messages == called < 400
            await port.until_state(broadcast_id, DONE)

        assert (await port.get(broadcast_id)).counts[DeliveryStatus.SENT] == 400
    assert dict(sandbox.state.stats.chats) == dict.fromkeys(chats, 1)


async def test_a_gate_whose_warm_up_chat_refuses_the_bot_says_so_and_opens_when_it_is_cured(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    telewarm = await telewarm_with()
    session = await add_bot(telewarm)
    sandbox.state.faults.add(
        Rule(
            action="error",
            code=403,
            description="Forbidden: bot was kicked",
            chat=session.bot.warmup_chats[0],
            count=None,
        )
    )
    [media_id] = await add_photos(telewarm, session, 1)
    [made] = (await telewarm.submit(session.bot.slug, message_of(media_id), readers(2))).broadcasts
    async with broadcast_process(telewarm, session) as port:
        found = await port.until(made.id, lambda found: found.reason is not None)
        assert found.state is RUNNING
        assert "bot was kicked" in (found.reason or "")

        sandbox.state.faults.clear()
        await telewarm.bots.replace_chats(session.bot.slug, [ChatId(-1001000000009)])
        done = await port.until_state(made.id, DONE)
    assert (done.reason, done.counts[DeliveryStatus.SENT]) == (None, 2)
