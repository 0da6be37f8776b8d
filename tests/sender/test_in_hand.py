"""A cold item that a send has in hand: what became of it is written down in the end, however the database fails."""

from __future__ import annotations

from telewarm import clock
from telewarm.bots.sessions import BotSession
from telewarm.database import media
from telewarm.errors import TelegramServerError
from telewarm.models import MediaId, MediaState
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from telewarm.sending.file_id_resolver import MAX_WRITE_WAIT_SECONDS
from tests.fixtures.app import READER, add_bot, add_photos, message_of, until, until_ready, until_state

NO_UPDATE = """
CREATE FUNCTION no_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'it fails' USING ERRCODE = '%s';
END $$;
CREATE TRIGGER no_update BEFORE UPDATE ON media FOR EACH ROW
    WHEN (OLD.lease_id IS NOT NULL AND NEW.lease_id IS NULL) EXECUTE FUNCTION no_update();
"""
AWAY, CANNOT_BE_STORED = "57P01", "22021"


async def cold_item(telewarm: Telewarm) -> tuple[BotSession, MediaId]:
    session = await add_bot(telewarm)
    [media_id] = await add_photos(telewarm, session, 1)
    return session, media_id


async def repair(telewarm: Telewarm) -> None:
    await telewarm.pool.execute("DROP TRIGGER no_update ON media")


async def test_a_file_id_that_cannot_be_written_at_once_is_written_later(idle_telewarm: Telewarm) -> None:
    session, media_id = await cold_item(idle_telewarm)
    await idle_telewarm.pool.execute(NO_UPDATE % AWAY)
    began = clock.monotonic()

    [result] = await idle_telewarm.sender.send(session, READER, message_of(media_id))

    assert result.error is None
    assert clock.monotonic() - began < MAX_WRITE_WAIT_SECONDS + 5
    assert (await media.get(idle_telewarm.pool, media_id)).state is MediaState.WARMING
    await repair(idle_telewarm)
    await until_ready(idle_telewarm, media_id)


async def test_a_failed_send_is_told_as_it_failed_and_its_item_is_freed_later(
    idle_telewarm: Telewarm, sandbox: Sandbox
) -> None:
    session, media_id = await cold_item(idle_telewarm)
    await idle_telewarm.pool.execute(NO_UPDATE % AWAY)
    sandbox.state.faults.add(Rule(action="error", when="after", chat=READER, code=500))

    [result] = await idle_telewarm.sender.send(session, READER, message_of(media_id))

    assert isinstance(result.error, TelegramServerError)
    await repair(idle_telewarm)

    async def freed() -> bool:
        found = await idle_telewarm.pool.fetchval("SELECT lease_id IS NULL FROM media WHERE id = $1", media_id)
        return found is True

    await until(idle_telewarm, freed)
    [again] = await idle_telewarm.sender.send(session, READER, message_of(media_id))
    assert again.error is None


async def test_a_release_that_fails_for_good_is_made_up_for_by_the_look_for_forgotten_rows(
    idle_telewarm: Telewarm, sandbox: Sandbox
) -> None:
    session, media_id = await cold_item(idle_telewarm)
    await idle_telewarm.pool.execute(NO_UPDATE % CANNOT_BE_STORED)
    sandbox.state.faults.add(Rule(action="error", when="after", chat=READER, code=500))
    await idle_telewarm.sender.send(session, READER, message_of(media_id))
    await repair(idle_telewarm)

    lease = idle_telewarm.sender._resolver._lease
    assert [await lease.free_forgotten() for _ in range(2)] == [0, 1]


async def test_a_file_id_that_cannot_be_stored_ends_the_item_in_error_and_not_the_send(idle_telewarm: Telewarm) -> None:
    session, media_id = await cold_item(idle_telewarm)
    await idle_telewarm.pool.execute(f"ALTER TABLE media ADD CHECK (id <> {media_id} OR file_id IS NULL)")

    [result] = await idle_telewarm.sender.send(session, READER, message_of(media_id))

    assert result.error is None
    [item] = await until_state(idle_telewarm, MediaState.ERROR, media_id)
    assert item.last_error_code == "UNSTORABLE"
