"""One structured event a step of a warm-up, with all that is known by then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from telewarm.models import MediaState, UploadMethod
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from tests.fixtures.app import NO_SWEEP, WARMUP_CHAT, Opener, add_bot, add_photos, until_ready, until_state

FAST = {"TELEWARM_RETRY_BASE_MS": "1", "TELEWARM_RETRY_MAX_MS": "1", "MEDIA_PREWARM_INTERVAL_MS": "100"}
STEP = "warmup_"
ALWAYS = {"event", "log_level", "bot", "media_id", "kind", "bytes", "attempts"}
BEGUN = ALWAYS | {"queue_wait_ms"}

Event = Mapping[str, Any]


def steps(logged: list[Any], media_id: int) -> list[Event]:
    """The item's events in order, their names cut down to the step."""
    mine = [one for one in logged if one.get("media_id") == media_id and one["event"].startswith(STEP)]
    return [{**one, "event": one["event"].removeprefix(STEP)} for one in mine]


def names(events: list[Event]) -> list[str]:
    return [event["event"] for event in events]


@pytest.fixture
def logged() -> Iterator[Any]:
    with capture_logs() as caught:
        yield caught


async def test_a_warm_up_tells_when_it_is_queued_started_and_done(
    telewarm_with: Opener, logged: list[Any], sandbox: Sandbox
) -> None:
    telewarm = await telewarm_with(NO_SWEEP)
    session = await add_bot(telewarm)
    [item] = await until_ready(telewarm, *await add_photos(telewarm, session, 1))

    queued, started, done = steps(logged, item.id)

    assert names([queued, started, done]) == ["queued", "started", "done"]
    assert queued.keys() == ALWAYS
    assert started.keys() == BEGUN | {"chat_id"}
    assert done.keys() == BEGUN | {"way", "sent_kind", "download_ms", "send_ms", "total_ms"}
    assert (done["bot"], done["kind"], done["bytes"], done["way"]) == (
        "bot-0",
        "photo",
        item.facts.bytes,
        UploadMethod.UPLOAD,
    )
    assert done["total_ms"] >= done["send_ms"]
    assert 0 <= started["queue_wait_ms"] == done["queue_wait_ms"] < 5000
    assert sandbox.state.stats.total.uploads == 1


async def test_the_wait_in_the_queue_is_told_from_when_the_item_was_asked_for(
    telewarm_with: Opener, logged: list[Any]
) -> None:
    telewarm = await telewarm_with(worker=False)
    session = await add_bot(telewarm)
    [media_id] = await add_photos(telewarm, session, 1)
    await telewarm.pool.execute("UPDATE media SET queued_at = queued_at - interval '90 seconds'")

    await until_ready(await telewarm_with(), media_id)

    assert 90_000 <= steps(logged, media_id)[-1]["queue_wait_ms"] < 100_000


async def test_a_retry_and_an_error_say_why_and_how_often(
    telewarm_with: Opener, logged: list[Any], sandbox: Sandbox
) -> None:
    telewarm = await telewarm_with(FAST, TELEWARM_RETRY_LIMIT="2")
    session = await add_bot(telewarm)
    sandbox.state.faults.add(Rule(action="error", code=502, method="sendPhoto", count=None))
    [item] = await until_state(telewarm, MediaState.ERROR, *await add_photos(telewarm, session, 1))

    events = steps(logged, item.id)

    assert names(events) == ["queued", "started", "retry", "started", "error"]
    retry, error = events[2], events[4]
    assert retry.keys() == error.keys() == BEGUN | {"code", "error", "retry_in_s", "total_ms"}
    assert (retry["attempts"], error["attempts"]) == (1, 2)
    assert (retry["code"], error["code"]) == ("TELEGRAM_FAULT", "TELEGRAM_FAULT")
    assert retry["retry_in_s"] is not None
    assert error["retry_in_s"] is None


async def test_a_flood_wait_says_which_item_met_it_and_how_long_it_is(
    telewarm_with: Opener, logged: list[Any], sandbox: Sandbox
) -> None:
    telewarm = await telewarm_with(NO_SWEEP)
    session = await add_bot(telewarm)
    sandbox.state.faults.add(Rule(action="error", code=429, retry_after=1, method="sendPhoto"))
    [item] = await until_ready(telewarm, *await add_photos(telewarm, session, 1))

    events = steps(logged, item.id)

    assert names(events) == ["queued", "started", "flood_wait", "started", "done"]
    flood = events[2]
    assert flood.keys() == BEGUN | {"chat_id", "retry_after_s", "total_ms"}
    assert (flood["chat_id"], flood["retry_after_s"], flood["attempts"]) == (WARMUP_CHAT, 1, 0)
    assert events[3]["queue_wait_ms"] >= 1000


async def test_no_event_shows_a_token(telewarm_with: Opener, logged: list[Any], sandbox: Sandbox) -> None:
    telewarm = await telewarm_with(FAST, TELEWARM_RETRY_LIMIT="1")
    session = await add_bot(telewarm)
    sandbox.state.faults.add(Rule(action="reset", method="sendPhoto"))

    await until_state(telewarm, MediaState.ERROR, *await add_photos(telewarm, session, 1))

    assert session.bot.token.partition(":")[2] not in repr(logged)
