"""An answer that does not prove that nothing went: it is told, its key is kept, and nobody gets it twice."""

from __future__ import annotations

import pytest

from telewarm.bots.sessions import BotSession
from telewarm.cli.send import result_line
from telewarm.database.connection import Pool
from telewarm.errors import TelegramServerError
from telewarm.models import MediaId, MessageSet, Part
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from telewarm.sending.idempotency import Results, describe
from telewarm.sending.send_context import SendResult
from tests.fixtures.app import READER, Opener, add_bot, add_photos

WORDS = (
    "Internal Server Error: restart",
    "Internal Server Error: Request aborted",
    "Internal Server Error: sent message was immediately deleted and can't be returned",
)
NO_RELEASE = """
CREATE FUNCTION no_release() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.lease_id IS NULL AND OLD.lease_id IS NOT NULL THEN
        RAISE EXCEPTION 'the server goes down' USING ERRCODE = '57P01';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER no_release BEFORE UPDATE ON media FOR EACH ROW EXECUTE FUNCTION no_release();
"""


async def send_once(telewarm: Telewarm, session: BotSession, message: MessageSet) -> tuple[Results, bool]:
    async def sending() -> Results:
        return [describe(one) for one in await telewarm.sender.send(session, READER, message)]

    return await telewarm.idempotency.run(session.bot.id, "order-1", b"x", sending, patience=30)


async def cannot_release(pool: Pool) -> None:
    """From now on no item that somebody has in hand can be freed, as if the database were away just then."""
    await pool.execute(NO_RELEASE)


@pytest.mark.parametrize("words", WORDS)
async def test_a_5xx_after_delivery_is_told_as_maybe_sent_and_never_repeated(
    idle_telewarm: Telewarm, sandbox: Sandbox, words: str
) -> None:
    session = await add_bot(idle_telewarm)
    sandbox.state.faults.add(Rule(action="error", when="after", chat=READER, code=500, description=words))

    [first], replayed = await send_once(idle_telewarm, session, MessageSet(text="hello"))

    assert (first["error"], first["maybe_sent"], replayed) == ("TELEGRAM_FAULT", True, False)
    assert await send_once(idle_telewarm, session, MessageSet(text="hello")) == ([first], True)
    assert sandbox.state.stats.chats[READER] == 1


@pytest.mark.parametrize("words", WORDS)
async def test_the_bytes_of_a_cold_item_are_not_sent_another_way_after_a_5xx(
    idle_telewarm: Telewarm, sandbox: Sandbox, words: str
) -> None:
    session = await add_bot(idle_telewarm)
    [media_id] = await add_photos(idle_telewarm, session, 1)
    sandbox.state.faults.add(Rule(action="error", when="after", chat=READER, code=500, description=words))

    [result] = await idle_telewarm.sender.send(session, READER, MessageSet(media=[Part(media_id=media_id)]))

    assert isinstance(result.error, TelegramServerError)
    assert result.maybe_sent
    assert "maybe sent" in result_line(result)
    assert sandbox.state.stats.chats[READER] == 1


async def test_an_answer_that_is_lost_while_the_database_is_away_keeps_its_key_through_a_restart(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    telewarm = await telewarm_with(worker=False)
    session = await add_bot(telewarm)
    [media_id] = await add_photos(telewarm, session, 1)
    photo = MessageSet(media=[Part(media_id=media_id)])
    sandbox.state.faults.add(Rule(action="reset", when="after", method="sendPhoto", chat=READER))
    await cannot_release(telewarm.pool)

    [first], _ = await send_once(telewarm, session, photo)

    assert (first["error"], first["maybe_sent"]) == ("TELEGRAM_UNREACHABLE", True)
    restarted = await telewarm_with(worker=False)
    again = await send_once(restarted, await restarted.bots.get(session.bot.id), photo)
    assert again == ([first], True)
    assert sandbox.state.stats.chats[READER] == 1


def test_a_message_that_surely_did_not_go_is_not_told_as_maybe_sent() -> None:
    refused = TelegramServerError(method="getMe", status=500, description="Internal Server Error")
    result = SendResult(media_id=MediaId(1), kind=None, message_id=None, cache_hit=False, lat_ms=0.1, error=refused)
    assert not result.maybe_sent
    assert "maybe" not in result_line(result)
