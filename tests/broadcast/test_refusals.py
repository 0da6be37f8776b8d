"""A message that Telegram refuses pauses its broadcast, with Telegram's words, before everybody has failed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from telewarm.broadcasts import refusals
from telewarm.broadcasts.refusals import MAX_IN_A_ROW, MAX_IN_A_ROW_AFTER_SUCCESS, RefusalCounter
from telewarm.errors import BadRequest, Conflict, InvalidFileId, UsageError
from telewarm.models import BroadcastState, DeliveryStatus, MessageSet
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from tests.broadcast.running import Process, broadcast_process
from tests.fixtures.app import add_bot, add_photos, message_of, readers

DONE, PAUSED = BroadcastState.DONE, BroadcastState.PAUSED
BROKEN = "Bad Request: can't parse entities: Unclosed start tag at byte offset 5"
OF_THE_MESSAGE = (
    "Bad Request: can't parse entities: Can't find end tag corresponding to start tag \"b\"",
    "Bad Request: message caption is too long",
    "Bad Request: MEDIA_CAPTION_TOO_LONG",
    "Bad Request: message is too long",
    "Bad Request: message text is empty",
    "Bad Request: BUTTON_URL_INVALID",
    "Bad Request: BUTTON_DATA_INVALID",
    "Bad Request: can't parse reply keyboard markup JSON object",
    "Bad Request: inline keyboard expected",
    "Bad Request: REPLY_MARKUP_TOO_LONG",
    "Bad Request: PHOTO_INVALID_DIMENSIONS",
    "Bad Request: file must be non-empty",
    "Bad Request: VIDEO_CONTENT_TYPE_INVALID",
    "Bad Request: WEBDOCUMENT_URL_INVALID",
    "Bad Request: ENTITY_BOUNDS_INVALID",
    "Bad Request: text buttons are unallowed in the inline keyboard",
)


@pytest.fixture
async def port(idle_telewarm: Telewarm) -> AsyncIterator[Process]:
    async with broadcast_process(idle_telewarm, await add_bot(idle_telewarm)) as opened:
        yield opened


def refused(words: str) -> BadRequest:
    return BadRequest(method="sendMessage", status=400, description=words)


@pytest.mark.parametrize("words", OF_THE_MESSAGE)
def test_what_telegram_says_of_the_message_stops_it_at_once_unless_somebody_has_got_it(words: str) -> None:
    assert RefusalCounter(known=None, reached=False).refused(refused(words))
    assert not RefusalCounter(known=None, reached=True).refused(refused(words))


def test_a_file_that_telegram_takes_no_more_stops_it() -> None:
    dead = InvalidFileId(method="sendPhoto", status=400, description="Bad Request: wrong file identifier")
    assert RefusalCounter(known=None, reached=False).refused(dead)


def test_any_other_words_stop_it_when_they_come_often_enough_in_a_row() -> None:
    counting = RefusalCounter(known=None, reached=False)
    answers = [counting.refused(refused(f"Bad Request: no such thing at {number}")) for number in range(MAX_IN_A_ROW)]
    assert answers == [False] * (MAX_IN_A_ROW - 1) + [True]

    mixed = RefusalCounter(known=None, reached=False)
    assert not any(mixed.refused(refused(f"Bad Request: {'ab'[at % 2]}")) for at in range(100))

    later = RefusalCounter(known=None, reached=True)
    assert [later.refused(refused("Bad Request: no")) for _ in range(MAX_IN_A_ROW_AFTER_SUCCESS)].count(True) == 1


def test_what_its_owner_has_seen_stops_it_no_more() -> None:
    words = "Bad Request: can't parse entities: at byte offset 9"
    seen = RefusalCounter(known=refusals.cause_of(words), reached=False)
    assert not any(seen.refused(refused(words)) for _ in range(1000))


async def test_markup_that_cannot_be_parsed_pauses_it_after_a_few_calls_and_nobody_has_failed(
    port: Process, sandbox: Sandbox
) -> None:
    sandbox.state.faults.add(Rule(action="error", code=400, description=BROKEN, count=None))
    broadcast_id = await port.started(readers(3000))

    await port.fly(concurrency=20)

    found = await port.get(broadcast_id)
    assert found.state is PAUSED
    assert "can't parse entities" in (found.reason or "").lower()
    assert sandbox.state.stats.total.calls["sendMessage"] <= 20
    assert (found.done, found.in_flight) == (0, 0)


async def test_who_goes_on_all_the_same_has_them_counted_as_failed_and_can_retry(
    port: Process, sandbox: Sandbox
) -> None:
    chats = readers(30)
    words = "Bad Request: BUTTON_TYPE_INVALID"
    sandbox.state.faults.add(Rule(action="error", code=400, description=words, count=20))
    broadcast_id = await port.started(chats)
    await port.fly(concurrency=1)
    assert (await port.get(broadcast_id)).state is PAUSED

    await port.broadcasts.resume(broadcast_id)
    await port.fly(concurrency=1)

    found = await port.get(broadcast_id)
    assert (found.state, found.counts[DeliveryStatus.FAILED], found.counts[DeliveryStatus.SENT]) == (DONE, 19, 11)
    [cause] = (await port.broadcasts.causes([broadcast_id]))[broadcast_id]
    assert (cause.outcome, cause.count) == (DeliveryStatus.FAILED, 19)
    assert words in cause.error
    assert str(cause.chat_id) in cause.error

    await port.broadcasts.retry(broadcast_id, [DeliveryStatus.FAILED])
    await port.fly()
    assert (await port.get(broadcast_id)).counts[DeliveryStatus.SENT] == 30
    assert dict(sandbox.state.stats.chats) == dict.fromkeys(chats, 1)


async def test_words_that_nobody_knows_pause_it_after_some_in_a_row(port: Process, sandbox: Sandbox) -> None:
    sandbox.state.faults.add(Rule(action="error", code=400, description="Bad Request: QUOTE_NEW", count=None))
    broadcast_id = await port.started(readers(300))

    await port.fly(concurrency=5)

    found = await port.get(broadcast_id)
    assert (found.state, found.counts[DeliveryStatus.FAILED]) == (PAUSED, MAX_IN_A_ROW - 1)
    assert "QUOTE_NEW" in (found.reason or "")


async def test_a_set_of_which_one_message_is_refused_pauses_it_too(port: Process, sandbox: Sandbox) -> None:
    [media_id] = await add_photos(port.app, port.session, 1)
    sandbox.state.faults.add(Rule(action="error", method="sendMessage", code=400, description=BROKEN, count=None))
    message = MessageSet(media=message_of(media_id).media, text="Sale")
    broadcast_id = await port.started(readers(300), message, gate=False)

    await port.fly(concurrency=4)

    found = await port.get(broadcast_id)
    assert found.state is PAUSED
    assert 1 <= found.counts[DeliveryStatus.PARTIAL] == found.done <= 4
    assert sandbox.state.stats.total.calls["sendMessage"] <= 4


async def test_a_refusal_that_only_one_chat_gets_stops_nobody(port: Process, sandbox: Sandbox) -> None:
    chats = readers(50)
    words = "Bad Request: BUTTON_TYPE_INVALID"
    sandbox.state.faults.add(Rule(action="error", code=400, description=words, chat=chats[30], count=None))
    broadcast_id = await port.started(chats)

    await port.fly(concurrency=1)

    found = await port.get(broadcast_id)
    assert (found.state, found.counts[DeliveryStatus.FAILED], found.counts[DeliveryStatus.SENT]) == (DONE, 1, 49)


async def test_only_what_failed_or_is_unknown_can_be_retried(port: Process) -> None:
    broadcast_id = await port.draft(readers(1))
    with pytest.raises(UsageError, match="only failed and unknown"):
        await port.broadcasts.retry(broadcast_id, [DeliveryStatus.SENT])
    with pytest.raises(Conflict, match="never started"):
        await port.broadcasts.retry(broadcast_id, [DeliveryStatus.FAILED])
