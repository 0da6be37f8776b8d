"""Warm-ups end to end: a library, a worker, a sandbox in Telegram's place."""

from __future__ import annotations

import asyncio

import pytest

from telewarm import clock
from telewarm.database import media
from telewarm.database.warmups import bots_with_due_work
from telewarm.demo.media import DemoFile
from telewarm.models import ChatId, Kind, MediaItem, MediaState, UploadMethod
from telewarm.sandbox import Sandbox, fileids
from telewarm.sandbox.faults import Rule
from telewarm.sandbox.files import File
from tests.fixtures.app import (
    NO_SWEEP,
    OTHER_CHAT,
    WARMUP_CHAT,
    Opener,
    add_bot,
    add_photos,
    until,
    until_ready,
    until_state,
)
from tests.fixtures.sandbox import FIRST_BOT

FAST = {"TELEWARM_RETRY_BASE_MS": "20", "TELEWARM_RETRY_MAX_MS": "50", "MEDIA_PREWARM_INTERVAL_MS": "100"}


def stored(sandbox: Sandbox, item: MediaItem) -> File:
    """What the sandbox keeps under the item's file id."""
    assert item.file_id is not None
    file = sandbox.state.files.by_id(fileids.decode(item.file_id).id)
    assert file is not None
    return file


async def test_what_is_added_becomes_warm_without_any_sweep(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with(NO_SWEEP)
    session = await add_bot(telewarm)

    [item] = await until_ready(telewarm, *await add_photos(telewarm, session, 1))

    assert (item.way, item.sent_kind, item.attempts) == (UploadMethod.UPLOAD, Kind.PHOTO, 0)
    assert sandbox.state.stats.total.uploads == 1
    assert sandbox.state.stats.chats == {WARMUP_CHAT: 1}


async def test_no_wake_is_lost_while_a_lane_is_just_ending(telewarm_with: Opener) -> None:
    """The sweep is an hour away: each item can only come through its own wake-up."""
    telewarm = await telewarm_with(NO_SWEEP)
    session = await add_bot(telewarm)

    for number, pause in enumerate((0, 0.45, 0.5, 0.52, 0.55, 0.6, 0.65, 0.7)):  # lanes linger for half a second
        await clock.wait(asyncio.Event(), pause)
        await until_ready(telewarm, *await add_photos(telewarm, session, 1, first=number))


async def test_a_fault_is_tried_again_until_it_works(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with(FAST)
    session = await add_bot(telewarm)
    sandbox.state.faults.add(Rule(action="error", code=502, count=2, method="sendPhoto"))
    sandbox.state.faults.add(Rule(action="reset", count=1, method="sendPhoto"))

    [item] = await until_ready(telewarm, *await add_photos(telewarm, session, 1))

    assert (item.attempts, item.last_error) == (0, None)
    assert sandbox.state.stats.faults == 3


async def test_faults_without_end_make_an_error_after_the_limit(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with(FAST, TELEWARM_RETRY_LIMIT="3")
    session = await add_bot(telewarm)
    sandbox.state.faults.add(Rule(action="error", code=500, count=None, method="sendPhoto"))

    [item] = await until_state(telewarm, MediaState.ERROR, *await add_photos(telewarm, session, 1))

    assert item.attempts == 3
    assert item.last_error_code == "TELEGRAM_FAULT"
    assert sandbox.state.stats.faults == 3


async def test_a_refusal_is_an_error_at_once_with_telegrams_words_and_the_cure(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    telewarm = await telewarm_with(FAST)
    session = await add_bot(telewarm)
    words = "Bad Request: PHOTO_INVALID_DIMENSIONS"
    sandbox.state.faults.add(Rule(action="error", code=400, description=words, count=None, method="sendPhoto"))

    [item] = await until_state(telewarm, MediaState.ERROR, *await add_photos(telewarm, session, 1))

    assert item.last_error is not None
    assert words in item.last_error
    assert "add it as a document" in item.last_error
    assert (item.attempts, item.last_error_code) == (1, "TELEGRAM_BAD_REQUEST")
    assert sandbox.state.stats.total.calls["sendPhoto"] == 1


async def test_a_429_costs_no_attempt(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with(NO_SWEEP, TELEWARM_RETRY_LIMIT="1")
    session = await add_bot(telewarm)
    sandbox.state.faults.add(Rule(action="error", code=429, retry_after=1, count=1, method="sendPhoto"))

    items = await until_ready(telewarm, *await add_photos(telewarm, session, 3))

    assert {item.attempts for item in items} == {0}
    assert sandbox.state.stats.total.errors == {429: 1}


async def test_a_refused_token_burns_no_item(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with(FAST, TELEWARM_RETRY_LIMIT="2")
    session = await add_bot(telewarm)
    rule = sandbox.state.faults.add(Rule(action="error", code=401, description="Unauthorized", count=None))
    ids = await add_photos(telewarm, session, 3)

    async def refused_often() -> bool:
        return rule.hit >= 9

    await until(telewarm, refused_often)
    items = [await media.get(telewarm.pool, media_id) for media_id in ids]
    assert {(item.state, item.attempts) for item in items} == {(MediaState.WARMING, 0)}
    assert "current token" in str(items[0].last_error)

    sandbox.state.faults.clear()
    await until_ready(telewarm, *ids)


async def test_two_workers_on_one_database_never_upload_the_same_item_twice(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    first, second = await telewarm_with(), await telewarm_with()
    sandbox.state.configure(network=sandbox.state.config.network)
    lives = [await add_bot(first, number) for number in range(3)]

    ids = [await add_photos(first if number % 2 else second, session, 20) for number, session in enumerate(lives)]
    await until_ready(first, *[media_id for some in ids for media_id in some])

    assert sandbox.state.stats.total.uploads == 60
    assert await bots_with_due_work(first.pool) == []


async def test_bots_that_share_a_warmup_chat_upload_the_same_bytes_once(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    telewarm = await telewarm_with()
    lives = [await add_bot(telewarm, number, WARMUP_CHAT) for number in range(4)]

    ids = [media_id for session in lives for media_id in await add_photos(telewarm, session, 5)]
    items = await until_ready(telewarm, *ids)

    stats = sandbox.state.stats.total
    assert (stats.uploads, stats.forwards) == (5, 15)
    assert sorted(item.way or "" for item in items) == [UploadMethod.FORWARD] * 15 + [UploadMethod.UPLOAD] * 5
    assert len({item.file_id for item in items}) == 20
    assert len({item.file_unique_id for item in items}) == 5


async def test_when_the_message_to_forward_is_gone_the_bytes_go_up_instead(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    telewarm = await telewarm_with()
    first, second = await add_bot(telewarm, 0, WARMUP_CHAT), await add_bot(telewarm, 1, WARMUP_CHAT)
    await until_ready(telewarm, *await add_photos(telewarm, first, 1))
    gone = "Bad Request: message to forward not found"
    sandbox.state.faults.add(Rule(action="error", code=400, description=gone, method="forwardMessage"))

    [item] = await until_ready(telewarm, *await add_photos(telewarm, second, 1))

    assert item.way is UploadMethod.UPLOAD
    assert item.attempts == 0


async def test_a_flooded_warmup_chat_gives_way_to_the_bots_other_one(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with(NO_SWEEP)
    session = await add_bot(telewarm, 0, WARMUP_CHAT, OTHER_CHAT)
    sandbox.state.faults.add(Rule(action="error", code=429, retry_after=600, chat=WARMUP_CHAT, count=None))

    await until_ready(telewarm, *await add_photos(telewarm, session, 8))

    assert sandbox.state.stats.chats == {OTHER_CHAT: 8}


async def test_audio_is_warmed_as_audio_with_title_performer_and_file_name(
    telewarm_with: Opener, sandbox: Sandbox, demo_files: dict[str, DemoFile]
) -> None:
    """A defect of the Node system: audio was warmed as a nameless document."""
    telewarm = await telewarm_with()
    session = await add_bot(telewarm)

    added = await telewarm.library.add_file(session.bot, demo_files["song.mp3"].path)
    [item] = await until_ready(telewarm, added.item.id)

    file = stored(sandbox, item)
    assert (item.kind, item.sent_kind, file.kind) == (Kind.AUDIO, Kind.AUDIO, "audio")
    assert (file.title, file.performer) == (item.facts.title, item.facts.performer)
    assert file.title
    assert file.performer
    assert file.name == "song.mp3"
    assert file.duration == round(item.facts.duration or 0)


async def test_a_file_id_freezes_what_the_probe_found(
    telewarm_with: Opener, sandbox: Sandbox, demo_files: dict[str, DemoFile]
) -> None:
    telewarm = await telewarm_with()
    session = await add_bot(telewarm)

    added = await telewarm.library.add_file(session.bot, demo_files["film.mp4"].path, kind=Kind.VIDEO)
    [item] = await until_ready(telewarm, added.item.id)

    file = stored(sandbox, item)
    assert (file.kind, file.width, file.height) == ("video", item.facts.width, item.facts.height)
    assert file.thumbnail is not None
    assert file.sha256.hex() == item.sha256


@pytest.mark.parametrize(
    "name", ["sunset.jpg", "waves.png", "film.mp4", "dance.gif", "song.mp3", "note.ogg", "leaflet.pdf"]
)
async def test_each_kind_of_media_becomes_warm_as_what_it_is(
    telewarm_with: Opener, demo_files: dict[str, DemoFile], name: str
) -> None:
    telewarm = await telewarm_with(NO_SWEEP)
    session = await add_bot(telewarm)
    file = demo_files[name]

    added = await telewarm.library.add_file(session.bot, file.path, kind=file.kind)
    [item] = await until_ready(telewarm, added.item.id)

    assert item.kind is file.kind
    assert item.file_id


async def test_a_stop_in_the_middle_loses_nothing_and_leaves_nothing_in_hand(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    idle = await telewarm_with(worker=False)
    session = await add_bot(idle)
    ids = await add_photos(idle, session, 40)
    hang = sandbox.state.faults.add(Rule(action="hang", seconds=0.2, count=None))

    other = Opener(database_url=telewarm_with.database_url, data=telewarm_with.data, sandbox=sandbox)
    async with other.stack:
        await other()
        await until(idle, lambda: _struck(hang))

    assert await idle.pool.fetchval("SELECT count(*) FROM media WHERE lease_id IS NOT NULL") == 0
    sandbox.state.faults.clear()
    await telewarm_with()
    await until_ready(idle, *ids)
    assert sandbox.state.stats.total.uploads == 40


async def _struck(rule: Rule) -> bool:
    return rule.hit > 0


async def test_a_chat_that_the_bot_lost_is_named_with_the_cure_and_burns_no_item(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    telewarm = await telewarm_with(FAST, TELEWARM_RETRY_LIMIT="1")
    session = await add_bot(telewarm, 0, ChatId(-1009999))
    sandbox.state.bots.open(FIRST_BOT)
    sandbox.state.chats.declare(-1009999, exists=False)
    [media_id] = await add_photos(telewarm, session, 1)

    async def reported() -> bool:
        return (await media.get(telewarm.pool, media_id)).last_error is not None

    await until(telewarm, reported)
    item = await media.get(telewarm.pool, media_id)
    assert (item.state, item.last_error_code, item.attempts) == (MediaState.WARMING, "CHAT_UNREACHABLE", 0)
    assert "administrator" in str(item.last_error)
