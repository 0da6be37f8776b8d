"""What a file becomes when nobody says as what, and the name that recipients see."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from telewarm.bots.sessions import BotSession
from telewarm.demo.media import DemoFile
from telewarm.errors import MediaRuleViolation, NotFound, UnreadableMedia
from telewarm.media.ingest import IngestResult
from telewarm.models import Kind, MediaState
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox, fileids
from tests.fixtures import odd_media
from tests.fixtures.app import WARMUP_CHAT, Opener, add_bot, until_ready
from tests.fixtures.media import jpeg


@pytest.fixture
async def session(idle_telewarm: Telewarm) -> BotSession:
    return await add_bot(idle_telewarm)


async def add(
    telewarm: Telewarm, session: BotSession, data: bytes, *, kind: Kind | None = None, name: str | None = None
) -> IngestResult:
    async with telewarm.library.receive() as incoming:
        await incoming.write(data)
        return await telewarm.library.add(session.bot, incoming, kind=kind, name=name)


CUT_JPEG = odd_media.saved(odd_media.noise(400, 300), "JPEG")[:3000]
ODD = {
    "cut.jpg": (CUT_JPEG, "cut off"),
    "huge.png": (odd_media.png(1 << 31, 10), "header is damaged"),
    "huge.bmp": (odd_media.bmp(-(2**31), 1), "header is damaged"),
    "fake.jpg": (b"no picture at all", "not a picture"),
    "moving.webp": (odd_media.moving("WEBP"), "does not move"),
    "strip.png": (odd_media.saved(odd_media.noise(10, 300), "PNG"), "20 times"),
    "raw.cr3": (odd_media.ftyp(b"crx ", b"isom") + odd_media.box(b"moov", b""), "image/x-canon-cr3"),
    "tagged.mp3": (odd_media.id3((b"TIT2", b"\3x")), "damaged"),
}


@pytest.mark.parametrize("name", ODD)
async def test_without_a_kind_nothing_is_refused_that_a_document_could_carry(
    idle_telewarm: Telewarm, session: BotSession, name: str
) -> None:
    data, why = ODD[name]

    added = await add(idle_telewarm, session, data, name=name)

    assert (added.item.kind, added.item.name, added.created) == (Kind.DOCUMENT, name, True)
    assert added.note is not None
    assert added.note.startswith("taken as a document: ")
    assert why in added.note
    again = await add(idle_telewarm, session, data, name=name)
    assert (again.item.id, again.created, again.note) == (added.item.id, False, added.note)


async def test_a_plain_document_needs_no_word(idle_telewarm: Telewarm, session: BotSession) -> None:
    assert (await add(idle_telewarm, session, b"%PDF-1.4\n", name="a.pdf")).note is None
    assert (await add(idle_telewarm, session, b"some words", name="a.txt")).note is None


async def test_what_was_taken_as_a_document_is_refused_as_what_it_is_not_and_says_the_way_out(
    idle_telewarm: Telewarm, session: BotSession
) -> None:
    await add(idle_telewarm, session, CUT_JPEG, kind=Kind.DOCUMENT)
    with pytest.raises(UnreadableMedia, match="--kind document"):
        await add(idle_telewarm, session, CUT_JPEG, kind=Kind.PHOTO)


async def test_the_same_bytes_under_a_second_name_say_which_name_holds(
    idle_telewarm: Telewarm, session: BotSession
) -> None:
    for kind in (None, Kind.DOCUMENT):
        await add(idle_telewarm, session, b"%PDF-1.4\n", name="a.pdf", kind=kind)
        again = await add(idle_telewarm, session, b"%PDF-1.4\n", name="b.pdf", kind=kind)
        assert (again.item.name, again.note) == ("a.pdf", 'already there as "a.pdf"')


@pytest.mark.parametrize("name", ["a\0b.txt", "caf\udce9.txt", "\ud800", "line\nbreak.txt", "x" * 1000])
async def test_a_name_that_cannot_be_kept_is_cleaned_and_loses_no_file(
    idle_telewarm: Telewarm, session: BotSession, name: str
) -> None:
    added = await add(idle_telewarm, session, b"some words", name=name)
    kept = added.item.name or ""
    assert kept.isprintable()
    assert len(kept) <= 255
    renamed = await idle_telewarm.library.rename(added.item.id, name)
    assert (renamed.name or "") == kept


async def test_a_file_whose_path_is_no_utf_8_is_added(
    idle_telewarm: Telewarm, session: BotSession, tmp_path: Path
) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.txt")
    path.write_text("some words")
    assert (await idle_telewarm.library.add_file(session.bot, path)).item.name == "caf.txt"


async def test_a_file_that_is_too_large_is_refused_before_it_is_read(
    idle_telewarm: Telewarm, session: BotSession, tmp_path: Path
) -> None:
    path = tmp_path / "huge.bin"
    with path.open("wb") as file:
        file.truncate(3 << 30)
    read: list[int] = []

    with pytest.raises(MediaRuleViolation, match="at most 50 MB from bots") as caught:
        await idle_telewarm.library.add_file(session.bot, path, on_read=read.append)

    assert read == []
    assert "3072.00 MB" in caught.value.measured
    assert "TELEWARM_MAX_UPLOAD_BYTES" not in caught.value.message


async def test_a_renamed_item_says_what_recipients_see_until_it_is_rewarmed(telewarm_with: Opener) -> None:
    telewarm = await telewarm_with()
    session = await add_bot(telewarm)
    added = await add(telewarm, session, b"%PDF-1.4\n", name="a.pdf")
    [ready] = await until_ready(telewarm, added.item.id)
    assert ready.sent_name == "a.pdf"

    renamed = await telewarm.rename(session.bot.slug, ready.id, "b.pdf")
    assert (renamed.name, renamed.sent_name, renamed.state) == ("b.pdf", "a.pdf", MediaState.READY)
    assert 'recipients still see "a.pdf"' in (renamed.note or "")
    again = await telewarm.rename(session.bot.slug, ready.id, "c.pdf", rewarm=True)
    assert (again.state, again.note is not None) == (MediaState.WARMING, True)
    [ready] = await until_ready(telewarm, ready.id)
    assert (ready.name, ready.sent_name) == ("c.pdf", "c.pdf")
    assert (await telewarm.rename(session.bot.slug, ready.id, "c.pdf")).note is None


async def test_the_name_of_a_photo_is_seen_by_nobody(telewarm_with: Opener) -> None:
    telewarm = await telewarm_with()
    session = await add_bot(telewarm)
    added = await add(telewarm, session, jpeg(1), name="a.jpg")
    await until_ready(telewarm, added.item.id)
    assert (await telewarm.rename(session.bot.slug, added.item.id, "b.jpg")).note is None


@pytest.mark.parametrize("name", ["dance.gif", "film.mp4", "song.mp3", "sunset.jpg"])
async def test_a_document_is_left_alone_whatever_it_holds(
    telewarm_with: Opener, sandbox: Sandbox, demo_files: dict[str, DemoFile], name: str
) -> None:
    telewarm = await telewarm_with()
    session = await add_bot(telewarm)
    added = await add(telewarm, session, demo_files[name].path.read_bytes(), kind=Kind.DOCUMENT, name=f"the {name}.bak")
    [ready] = await until_ready(telewarm, added.item.id)

    file = sandbox.state.files.resolve(session.api.telegram_id, str(ready.file_id), fileids.decode(str(ready.file_id)))
    assert (ready.sent_kind, file.kind, file.name) == (Kind.DOCUMENT, "document", f"the {name}.bak")


async def test_bots_that_share_a_chat_show_their_own_names(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with()
    bots = [await add_bot(telewarm, number, WARMUP_CHAT) for number in range(3)]
    names = ["internal draft.pdf", "Price list.pdf", "internal draft.pdf"]
    for session, name in zip(bots, names, strict=True):
        added = await add(telewarm, session, b"%PDF-1.4\n", name=name)
        [ready] = await until_ready(telewarm, added.item.id)
        file_id = str(ready.file_id)
        file = sandbox.state.files.resolve(session.api.telegram_id, file_id, fileids.decode(file_id))
        assert file.name == name
    assert sandbox.state.stats.total.uploads == 2


async def test_the_library_says_why_a_file_became_a_document_however_it_came(
    idle_telewarm: Telewarm, session: BotSession, tmp_path: Path
) -> None:
    path = tmp_path / "fake.jpg"
    path.write_bytes(b"no picture")
    for file in (path, b"no picture either"):
        item = await idle_telewarm.add(session.bot.slug, file, name="fake.jpg")
        assert "not a picture" in (item.note or "")


async def test_a_stream_that_is_too_large_is_broken_off(telewarm_with: Opener) -> None:
    telewarm = await telewarm_with(worker=False, TELEWARM_MAX_UPLOAD_BYTES="5000")
    session = await add_bot(telewarm)
    read: list[int] = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            read.append(1000)
            yield bytes(1000)

    with pytest.raises(MediaRuleViolation, match="at most 5000 bytes"):
        await telewarm.add(session.bot.slug, endless())
    assert sum(read) == 6000


async def test_an_item_of_another_bot_is_not_renamed(idle_telewarm: Telewarm, session: BotSession) -> None:
    other = await add_bot(idle_telewarm, 1)
    added = await add(idle_telewarm, session, b"some words", name="a.txt")
    with pytest.raises(NotFound):
        await idle_telewarm.rename(other.bot.slug, added.item.id, "b.txt")
