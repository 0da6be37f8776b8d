"""Media in: checked before anything is kept, kept for good when it returns, and only once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from telewarm.bots.sessions import BotSession
from telewarm.database import media
from telewarm.demo.media import DemoFile
from telewarm.errors import (
    DecoderFailed,
    MediaError,
    MediaRuleViolation,
    ObjectMissing,
    StoreUnavailable,
    UnreadableMedia,
)
from telewarm.media.ingest import IngestResult
from telewarm.models import Kind, MediaState
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from tests.fixtures.app import Opener, add_bot, until_ready
from tests.fixtures.decoders import broken_open
from tests.fixtures.media import jpeg
from tests.fixtures.media import video as encode_video


@pytest.fixture
async def session(idle_telewarm: Telewarm) -> BotSession:
    return await add_bot(idle_telewarm)


async def add(
    telewarm: Telewarm, session: BotSession, data: bytes, *, kind: Kind | None = None, name: str | None = None
) -> IngestResult:
    async with telewarm.library.receive() as incoming:
        await incoming.write(data)
        return await telewarm.library.add(session.bot, incoming, kind=kind, name=name)


def kept(telewarm: Telewarm) -> list[Path]:
    """Every file in the store and in the disk cache."""
    folders = (telewarm.settings.store_folder, telewarm.settings.telewarm_data / "spool")
    return [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


async def rows(telewarm: Telewarm) -> int:
    count: int = await telewarm.pool.fetchval("SELECT (SELECT count(*) FROM media) + (SELECT count(*) FROM blob)")
    return count


async def test_what_was_added_is_in_the_store_and_in_the_database(idle_telewarm: Telewarm, session: BotSession) -> None:
    data = jpeg(1, width=80, height=60)

    added = await add(idle_telewarm, session, data, name="holiday.jpg")

    assert added.created
    item = await media.get(idle_telewarm.pool, added.item.id)
    assert (item.kind, item.name, item.state) == (Kind.PHOTO, "holiday.jpg", MediaState.WARMING)
    assert (item.facts.width, item.facts.height, item.facts.bytes) == (80, 60, len(data))
    assert (idle_telewarm.settings.store_folder / item.storage_key).read_bytes() == data


async def test_what_was_added_survives_the_process_and_its_spool(
    telewarm_with: Opener, sandbox: Sandbox, tmp_path: Path
) -> None:
    first = Opener(database_url=telewarm_with.database_url, data=telewarm_with.data, sandbox=sandbox)
    async with first.stack:
        telewarm = await first(worker=False)
        added = await add(telewarm, await add_bot(telewarm), jpeg(1))
    key = {"ENCRYPTION_KEY": (telewarm_with.data / "encryption.key").read_text()}
    elsewhere = {
        "TELEWARM_DATA": str(tmp_path / "elsewhere"),
        "TELEWARM_STORE_FOLDER": str(telewarm_with.data / "media"),
    }

    telewarm = await telewarm_with({**key, **elsewhere})

    [item] = await until_ready(telewarm, added.item.id)
    assert item.file_id is not None


async def test_the_same_bytes_and_kind_again_are_the_same_item(idle_telewarm: Telewarm, session: BotSession) -> None:
    first, second = [await add(idle_telewarm, session, jpeg(1)) for _ in range(2)]

    assert (first.created, second.created) == (True, False)
    assert second.item == first.item


async def test_adding_a_ready_item_again_uploads_nothing(telewarm_with: Opener, sandbox: Sandbox) -> None:
    """A defect of the Node system: it became cold, and was uploaded again."""
    telewarm = await telewarm_with()
    session = await add_bot(telewarm)
    added = await add(telewarm, session, jpeg(1))
    [ready] = await until_ready(telewarm, added.item.id)

    for kind in (None, Kind.PHOTO):
        again = await add(telewarm, session, jpeg(1), kind=kind)
        assert (again.created, again.item) == (False, ready)
    assert sandbox.state.stats.total.uploads == 1


async def test_the_same_bytes_as_photo_and_as_document_are_two_items(
    idle_telewarm: Telewarm, session: BotSession
) -> None:
    photo = await add(idle_telewarm, session, jpeg(1))
    document = await add(idle_telewarm, session, jpeg(1), kind=Kind.DOCUMENT)

    assert photo.item.id != document.item.id
    assert document.created
    assert photo.item.storage_key == document.item.storage_key


async def test_adding_the_same_bytes_at_the_same_time_makes_one_item(
    idle_telewarm: Telewarm, session: BotSession
) -> None:
    outcomes = await asyncio.gather(*(add(idle_telewarm, session, jpeg(1)) for _ in range(10)))

    assert len({added.item.id for added in outcomes}) == 1
    assert sum(added.created for added in outcomes) == 1
    assert await rows(idle_telewarm) == 2


async def test_two_bots_with_the_same_bytes_store_them_once(idle_telewarm: Telewarm, session: BotSession) -> None:
    other = await add_bot(idle_telewarm, 1)

    one, two = await asyncio.gather(
        add(idle_telewarm, session, jpeg(1), name="a.jpg"), add(idle_telewarm, other, jpeg(1), name="b.jpg")
    )

    assert one.item.id != two.item.id
    assert (one.created, two.created) == (True, True)
    assert len(list(idle_telewarm.settings.store_folder.rglob("*.jpg"))) == 1
    assert await rows(idle_telewarm) == 3


async def test_a_truncated_file_leaves_nothing_behind(
    idle_telewarm: Telewarm, session: BotSession, tmp_path: Path
) -> None:
    whole = await asyncio.to_thread(lambda: encode_video(tmp_path / "film.mp4").read_bytes())

    with pytest.raises(MediaError):
        await add(idle_telewarm, session, whole[: len(whole) // 2], kind=Kind.VIDEO)

    assert kept(idle_telewarm) == []
    assert await rows(idle_telewarm) == 0


async def test_an_empty_file_leaves_nothing_behind(idle_telewarm: Telewarm, session: BotSession) -> None:
    with pytest.raises(UnreadableMedia):
        await add(idle_telewarm, session, b"", kind=Kind.DOCUMENT)

    assert kept(idle_telewarm) == []
    assert await rows(idle_telewarm) == 0


async def test_a_file_that_is_too_large_leaves_nothing_behind(telewarm_with: Opener) -> None:
    telewarm = await telewarm_with(worker=False, TELEWARM_MAX_UPLOAD_BYTES="5000")
    session = await add_bot(telewarm)

    with pytest.raises(MediaRuleViolation, match="at most 5000 bytes here") as caught:
        await add(telewarm, session, bytes(5001), kind=Kind.DOCUMENT)

    assert "TELEWARM_MAX_UPLOAD_BYTES" in caught.value.cure
    assert kept(telewarm) == []
    assert await rows(telewarm) == 0


async def test_a_photo_that_breaks_a_rule_leaves_nothing_behind_but_goes_as_a_document(
    idle_telewarm: Telewarm, session: BotSession
) -> None:
    strip = jpeg(1, width=2100, height=100)

    with pytest.raises(MediaRuleViolation, match="document"):
        await add(idle_telewarm, session, strip, kind=Kind.PHOTO)
    assert kept(idle_telewarm) == []
    assert await rows(idle_telewarm) == 0

    assert (await add(idle_telewarm, session, strip, kind=Kind.DOCUMENT)).created


async def test_bytes_known_from_one_kind_are_checked_again_for_another(
    idle_telewarm: Telewarm, session: BotSession
) -> None:
    await add(idle_telewarm, session, jpeg(1), kind=Kind.DOCUMENT)

    with pytest.raises(MediaError):
        await add(idle_telewarm, session, jpeg(1), kind=Kind.VOICE)

    assert await rows(idle_telewarm) == 2


async def test_an_upload_that_breaks_off_leaves_nothing_behind(idle_telewarm: Telewarm) -> None:
    async def upload() -> None:
        async with idle_telewarm.library.receive() as incoming:
            await incoming.write(jpeg(1)[:100])
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await upload()

    assert kept(idle_telewarm) == []
    assert await rows(idle_telewarm) == 0


async def test_a_file_whose_thumbnail_cannot_be_made_is_taken_all_the_same(
    idle_telewarm: Telewarm, session: BotSession, tmp_path: Path
) -> None:
    whole = await asyncio.to_thread(
        lambda: encode_video(tmp_path / "film.mp4", width=640, height=480, seconds=2).read_bytes()
    )
    start, end = whole.index(b"mdat") + 1000, whole.index(b"moov") - 4  # the headers before, no picture in between
    assert end > start
    broken = whole[:start] + bytes(end - start) + whole[end:]

    added = await add(idle_telewarm, session, broken, kind=Kind.VIDEO)

    assert added.created
    assert await idle_telewarm.pool.fetchval("SELECT thumbnail_key FROM blob") is None
    assert (added.item.facts.width, added.item.facts.height) == (640, 480)


async def test_a_thumbnail_is_stored_beside_its_blob(
    idle_telewarm: Telewarm, session: BotSession, demo_files: dict[str, DemoFile]
) -> None:
    await idle_telewarm.library.add_file(session.bot, demo_files["film.mp4"].path, kind=Kind.VIDEO)

    key = await idle_telewarm.pool.fetchval("SELECT thumbnail_key FROM blob")
    assert (idle_telewarm.settings.store_folder / key).read_bytes().startswith(b"\xff\xd8")


async def test_a_store_that_is_away_leaves_nothing_in_the_database(
    idle_telewarm: Telewarm, session: BotSession
) -> None:
    folder = idle_telewarm.settings.store_folder
    folder.rmdir()
    folder.write_text("in the way")

    with pytest.raises(StoreUnavailable):
        await add(idle_telewarm, session, jpeg(1))

    assert await rows(idle_telewarm) == 0


async def test_adding_a_file_again_puts_back_what_has_gone_from_the_store(
    idle_telewarm: Telewarm, session: BotSession
) -> None:
    """A regression: `Add the file again` is the cure for a missing object, but the store stayed without it."""
    added = await add(idle_telewarm, session, jpeg(1))
    stored = idle_telewarm.settings.store_folder / added.item.storage_key
    stored.unlink()
    await idle_telewarm.pool.execute("UPDATE media SET state = 'error', last_error_code = $1", ObjectMissing("x").code)

    again = await add(idle_telewarm, session, jpeg(1))

    assert (again.created, again.item.id, again.item.state) == (False, added.item.id, MediaState.WARMING)
    assert stored.read_bytes() == jpeg(1)


async def test_a_file_on_disk_is_shown_under_its_own_name(
    idle_telewarm: Telewarm, session: BotSession, demo_files: dict[str, DemoFile]
) -> None:
    path = demo_files["leaflet.pdf"].path

    own = await idle_telewarm.library.add_file(session.bot, path)

    assert (own.item.name, own.item.kind) == ("leaflet.pdf", Kind.DOCUMENT)
    with pytest.raises(OSError, match="no-such-file"):
        await idle_telewarm.library.add_file(session.bot, path.with_name("no-such-file"))


async def test_a_decoder_that_fails_keeps_no_file_out_unless_a_kind_was_asked_for(
    idle_telewarm: Telewarm, session: BotSession, demo_files: dict[str, DemoFile], tmp_path: Path
) -> None:
    film, song = demo_files["film.mp4"].path.read_bytes(), demo_files["song.mp3"].path.read_bytes()
    with broken_open(tmp_path, "raise TypeError('no such argument')"):
        with pytest.raises(DecoderFailed, match="TypeError"):
            await add(idle_telewarm, session, film, kind=Kind.VIDEO)
        assert (kept(idle_telewarm), await rows(idle_telewarm)) == ([], 0)
        assert (await add(idle_telewarm, session, film)).item.kind is Kind.DOCUMENT
        assert (await add(idle_telewarm, session, song, kind=Kind.DOCUMENT)).item.kind is Kind.DOCUMENT
