"""What cannot be stored fails its own item, with the reason, and the bot's other items go on."""

from __future__ import annotations

from structlog.testing import capture_logs

from telewarm.broadcasts.policy import error_text
from telewarm.errors import BadRequest
from telewarm.models import MediaState
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from tests.fixtures.app import Opener, add_bot, add_photos, until_ready, until_state

FAST = {"TELEWARM_RETRY_BASE_MS": "20", "TELEWARM_RETRY_MAX_MS": "50", "MEDIA_PREWARM_INTERVAL_MS": "100"}


async def test_words_of_telegram_that_no_text_can_hold_are_kept_without_what_cannot(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    telewarm = await telewarm_with(FAST)
    session = await add_bot(telewarm)
    sandbox.state.faults.add(
        Rule(action="error", code=400, description="Bad Request: \0 x", count=1, method="sendPhoto")
    )

    [item] = await until_state(telewarm, MediaState.ERROR, *await add_photos(telewarm, session, 1))

    assert item.last_error is not None
    assert "Bad Request: \N{REPLACEMENT CHARACTER} x" in item.last_error
    await until_ready(telewarm, *await add_photos(telewarm, session, 3, first=1))


async def test_an_outcome_that_the_database_refuses_ends_its_item_in_error_and_no_other(telewarm_with: Opener) -> None:
    """A rule of the database that no outcome of ours should break: here one that was put there."""
    telewarm = await telewarm_with(FAST, worker=False)
    session = await add_bot(telewarm)
    ids = await add_photos(telewarm, session, 6)
    await telewarm.pool.execute(f"ALTER TABLE media ADD CHECK (id <> {ids[2]} OR file_id IS NULL)")

    with capture_logs() as logged:
        async with telewarm.worker.running():
            [item] = await until_state(telewarm, MediaState.ERROR, ids[2])
            await until_ready(telewarm, *ids[:2], *ids[3:])

    assert item.last_error_code == "UNSTORABLE"
    assert item.last_error is not None
    assert "CheckViolationError" in item.last_error
    bugs = [line for line in logged if line["event"] in {"batch_write_refused", "row_write_refused"}]
    assert bugs
    assert all(line["exc_info"] for line in bugs)


def test_words_of_an_error_can_be_stored() -> None:
    error = BadRequest(method="sendPhoto", status=400, description="\0 \ud800")
    assert "\0" not in error_text(error)
    error_text(error).encode()
