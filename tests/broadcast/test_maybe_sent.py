"""Deliveries of which nobody can prove that they did not go: unknown, and never sent again by themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from telewarm import clock
from telewarm.models import DeliveryStatus
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from tests.broadcast.running import Process, broadcast_process
from tests.fixtures.app import add_bot, add_photos, message_of, readers
from tests.sender.test_maybe_sent import cannot_release

NO_OUTCOME = """
CREATE FUNCTION no_outcome() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.outcome = 'sent' THEN
        RAISE EXCEPTION 'the server goes down' USING ERRCODE = '57P01';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER no_outcome BEFORE INSERT ON delivery FOR EACH ROW EXECUTE FUNCTION no_outcome();
"""


@pytest.fixture
async def port(idle_telewarm: Telewarm) -> AsyncIterator[Process]:
    async with broadcast_process(idle_telewarm, await add_bot(idle_telewarm)) as opened:
        yield opened


@pytest.mark.parametrize("words", ["restart", "Request aborted"])
async def test_a_5xx_after_delivery_is_unknown_and_sent_once(port: Process, sandbox: Sandbox, words: str) -> None:
    chats = readers(5)
    said = f"Internal Server Error: {words}"
    sandbox.state.faults.add(Rule(action="error", when="after", code=500, description=said, chat=chats[2]))
    broadcast_id = await port.started(chats)

    await port.fly()

    assert (await port.results(broadcast_id))[chats[2]].outcome is DeliveryStatus.UNKNOWN
    assert dict(sandbox.state.stats.chats) == dict.fromkeys(chats, 1)


async def test_a_message_that_a_group_deletes_at_once_is_sent_and_no_outage(port: Process, sandbox: Sandbox) -> None:
    chats = readers(20)
    said = "Internal Server Error: sent message was immediately deleted and can't be returned"
    sandbox.state.faults.add(Rule(action="error", when="after", code=500, description=said, count=None))
    broadcast_id = await port.started(chats)

    await port.fly()

    results = await port.results(broadcast_id)
    assert {one.outcome for one in results.values()} == {DeliveryStatus.SENT}
    assert "immediately deleted" in (results[chats[0]].error or "")
    assert dict(sandbox.state.stats.chats) == dict.fromkeys(chats, 1)
    assert sandbox.state.stats.total.calls["getMe"] == 1  # when the bot was added: no outage was looked into


async def test_a_cold_delivery_whose_answer_is_lost_with_the_database_is_unknown_and_sent_once(
    port: Process, sandbox: Sandbox
) -> None:
    [media_id] = await add_photos(port.app, port.session, 1)
    [chat] = readers(1)
    sandbox.state.faults.add(Rule(action="reset", when="after", method="sendPhoto", chat=chat))
    broadcast_id = await port.started([chat], message_of(media_id), gate=False)
    await cannot_release(port.pool)

    await port.fly()

    assert (await port.results(broadcast_id))[chat].outcome is DeliveryStatus.UNKNOWN
    assert sandbox.state.stats.chats[chat] == 1


async def test_an_outcome_that_cannot_be_written_is_unknown_after_a_restart(port: Process, sandbox: Sandbox) -> None:
    chats = readers(3)
    broadcast_id = await port.started(chats)
    await port.pool.execute(NO_OUTCOME)

    async with port.running() as under_way:
        while len(sandbox.state.stats.chats) < len(chats):
            await clock.sleep(0.02)
        under_way.abort()
    await port.pool.execute("DROP TRIGGER no_outcome ON delivery")
    await port.fly()

    assert {one.outcome for one in (await port.results(broadcast_id)).values()} == {DeliveryStatus.UNKNOWN}
    assert dict(sandbox.state.stats.chats) == dict.fromkeys(chats, 1)
