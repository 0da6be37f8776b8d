"""Albums: one call, cold items through the warm-up chat, and one by one when Telegram will not have them together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from telewarm.bots.sessions import BotSession
from telewarm.database import media
from telewarm.demo.media import DemoFile
from telewarm.errors import BadRequest, ChatUnreachable, FloodWait, MediaNotReady, TelegramUnreachable, UsageError
from telewarm.models import ChatId, Kind, MediaId, MediaState, MessageSet, Part
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from telewarm.sandbox.mail import Content
from telewarm.sending.send_context import OnCold, SendResult
from tests.fixtures.app import (
    OTHER_CHAT,
    READER,
    WARMUP_CHAT,
    Opener,
    add_bot,
    add_photos,
    until_ready,
)

FLOODED = 'Bad Request: failed to send message #2 with the error message "Too Many Requests: retry after 30"'


def album(*media_ids: MediaId, text: str | None = None) -> MessageSet:
    """With the captions c1, c2..."""
    parts = [Part(media_id=media_id, caption=f"c{place}") for place, media_id in enumerate(media_ids, 1)]
    return MessageSet(media=parts, album=True, text=text)


def calls(sandbox: Sandbox) -> dict[str, int]:
    """Of the methods that send to people."""
    return {method: count for method, count in sandbox.state.stats.total.calls.items() if method != "getMe"}


def contents(sandbox: Sandbox, session: BotSession, chat_id: ChatId, results: Sequence[SendResult]) -> list[Content]:
    chat = sandbox.state.find_chat(sandbox.state.bots.open(session.bot.telegram_id), str(chat_id))
    box = sandbox.state.mail.box(chat, session.bot.telegram_id)
    messages = [box.get(chat_id, result.message_id or 0) for result in results]
    return [message.content for message in messages if message is not None]


async def warm_photos(telewarm: Telewarm, session: BotSession, count: int) -> list[MediaId]:
    """Ready by a send each to somebody else."""
    media_ids = await add_photos(telewarm, session, count)
    for media_id in media_ids:
        await telewarm.sender.send(session, ChatId(READER + 99), MessageSet(media=[Part(media_id=media_id)]))
    return media_ids


async def test_an_album_is_one_call_with_a_caption_for_each(idle_telewarm: Telewarm, sandbox: Sandbox) -> None:
    session = await add_bot(idle_telewarm)
    media_ids = await warm_photos(idle_telewarm, session, 3)
    before = calls(sandbox)["sendPhoto"]

    results = await idle_telewarm.sender.send(session, READER, album(*media_ids, text="bye"))

    assert [(result.media_id, result.error, result.cache_hit) for result in results] == [
        *((media_id, None, True) for media_id in media_ids),
        (None, None, False),
    ]
    assert [content.text for content in contents(sandbox, session, READER, results)] == ["c1", "c2", "c3", "bye"]
    assert calls(sandbox) == {"sendPhoto": before, "sendMediaGroup": 1, "sendMessage": 1}


async def test_kinds_that_do_not_mix_are_albums_of_their_own(
    telewarm: Telewarm, sandbox: Sandbox, demo_files: dict[str, DemoFile]
) -> None:
    session = await add_bot(telewarm)
    names = ["leaflet.pdf", "sunset.jpg", "dance.gif", "film.mp4", "song.mp3"]
    items = [
        (await telewarm.library.add_file(session.bot, demo_files[name].path, kind=demo_files[name].kind)).item
        for name in names
    ]
    await until_ready(telewarm, *(item.id for item in items))

    results = await telewarm.sender.send(session, READER, album(*(item.id for item in items)))

    assert [(result.kind, result.error) for result in results] == [
        (kind, None) for kind in (Kind.AUDIO, Kind.VIDEO, Kind.PHOTO, Kind.DOCUMENT, Kind.ANIMATION)
    ]
    assert sandbox.state.stats.total.calls["sendMediaGroup"] == 1
    assert [content.text for content in contents(sandbox, session, READER, results)] == ["c5", "c4", "c2", "c1", "c3"]


async def test_cold_items_of_an_album_get_their_ids_through_the_warm_up_chat(
    idle_telewarm: Telewarm, sandbox: Sandbox
) -> None:
    session = await add_bot(idle_telewarm, 0, WARMUP_CHAT, OTHER_CHAT)
    media_ids = await add_photos(idle_telewarm, session, 3)

    results = await idle_telewarm.sender.send(session, READER, album(*media_ids))

    assert [(result.error, result.cache_hit) for result in results] == [(None, False)] * 3
    assert sandbox.state.stats.chats[READER] == 3
    assert sandbox.state.stats.total.uploads == 3
    assert calls(sandbox) == {"sendPhoto": 3, "sendMediaGroup": 1}
    for media_id in media_ids:
        item = await media.get(idle_telewarm.pool, media_id)
        assert item.state is MediaState.READY
    assert await idle_telewarm.pool.fetchval("SELECT count(*) FROM media WHERE warmup_message_id IS NULL") == 0


async def test_cold_items_are_got_at_once_and_not_one_after_the_other(
    idle_telewarm: Telewarm, sandbox: Sandbox
) -> None:
    session = await add_bot(idle_telewarm)
    media_ids = await add_photos(idle_telewarm, session, 4)
    sandbox.state.faults.add(Rule(action="hang", method="sendPhoto", seconds=0.3, count=4))

    await idle_telewarm.sender.send(session, READER, album(*media_ids))

    assert sandbox.state.stats.max_active == 4


async def test_two_albums_of_one_cold_item_upload_it_once(idle_telewarm: Telewarm, sandbox: Sandbox) -> None:
    session = await add_bot(idle_telewarm)
    media_ids = await add_photos(idle_telewarm, session, 2)
    chats = [ChatId(READER + number) for number in range(20)]

    results = await asyncio.gather(*(idle_telewarm.sender.send(session, chat, album(*media_ids)) for chat in chats))

    assert all(result.error is None for some in results for result in some)
    assert sandbox.state.stats.total.uploads == 2
    assert [sandbox.state.stats.chats[chat] for chat in chats] == [2] * 20


async def test_an_album_with_a_dead_id_goes_one_by_one_and_heals(telewarm: Telewarm, sandbox: Sandbox) -> None:
    session = await add_bot(telewarm)
    items = await until_ready(telewarm, *await add_photos(telewarm, session, 3))
    assert items[1].file_id is not None
    sandbox.state.files.killed.add(items[1].file_id)

    results = await telewarm.sender.send(session, READER, album(*(item.id for item in items)))

    assert [(result.media_id, result.error) for result in results] == [(item.id, None) for item in items]
    assert [content.text for content in contents(sandbox, session, READER, results)] == ["c1", "c2", "c3"]
    assert sandbox.state.stats.chats[READER] == 3
    await until_ready(telewarm, items[1].id)
    assert (await media.get(telewarm.pool, items[1].id)).file_id != items[1].file_id


async def test_an_album_that_is_refused_for_one_item_goes_one_by_one(idle_telewarm: Telewarm, sandbox: Sandbox) -> None:
    session = await add_bot(idle_telewarm)
    media_ids = await warm_photos(idle_telewarm, session, 3)
    words = "Bad Request: can't parse entities: something that only Telegram knows"
    for method in ("sendMediaGroup", "sendPhoto"):  # the whole album, then the first of its items
        sandbox.state.faults.add(Rule(action="error", method=method, code=400, description=words))

    results = await idle_telewarm.sender.send(session, READER, album(*media_ids))

    assert [type(result.error) for result in results] == [BadRequest, type(None), type(None)]
    assert sandbox.state.stats.chats[READER] == 2


async def test_one_item_that_cannot_become_warm_does_not_stop_the_album(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    telewarm = await telewarm_with(worker=False)
    session = await add_bot(telewarm)
    media_ids = await warm_photos(telewarm, session, 3)
    [cold] = await add_photos(telewarm, session, 1, first=10)

    results = await telewarm.sender.send(
        session, READER, album(media_ids[0], cold, *media_ids[1:]), on_cold=OnCold.FAIL
    )

    assert [type(result.error) for result in results] == [type(None), MediaNotReady, type(None), type(None)]
    assert sandbox.state.stats.total.calls["sendMediaGroup"] == 1
    assert sandbox.state.stats.chats[READER] == 3


async def test_an_album_of_which_one_item_is_left_is_a_single_message(
    idle_telewarm: Telewarm, sandbox: Sandbox
) -> None:
    session = await add_bot(idle_telewarm)
    [warm] = await warm_photos(idle_telewarm, session, 1)
    [cold] = await add_photos(idle_telewarm, session, 1, first=10)

    results = await idle_telewarm.sender.send(session, READER, album(cold, warm), on_cold=OnCold.FAIL)

    assert [type(result.error) for result in results] == [MediaNotReady, type(None)]
    assert "sendMediaGroup" not in sandbox.state.stats.total.calls
    assert [content.text for content in contents(sandbox, session, READER, results)] == ["c2"]


async def test_a_warm_up_chat_that_is_gone_is_not_the_recipients_fault(
    idle_telewarm: Telewarm, sandbox: Sandbox
) -> None:
    """The items go one by one as bytes, and nobody takes the recipient for unreachable."""
    session = await add_bot(idle_telewarm)
    media_ids = await add_photos(idle_telewarm, session, 2)
    sandbox.state.chats.declare(WARMUP_CHAT, others="kicked")

    results = await idle_telewarm.sender.send(session, READER, album(*media_ids, text="bye"))

    assert [result.error for result in results] == [None, None, None]
    assert sandbox.state.stats.chats == {READER: 3}
    assert idle_telewarm.sender._chat_status._unreachable == {}


async def test_a_flood_in_the_middle_of_an_album_is_never_repeated(idle_telewarm: Telewarm, sandbox: Sandbox) -> None:
    """A part of it may be in the chat."""
    session = await add_bot(idle_telewarm)
    media_ids = await warm_photos(idle_telewarm, session, 2)
    sandbox.state.faults.add(Rule(action="error", code=400, description=FLOODED, method="sendMediaGroup", when="after"))

    results = await idle_telewarm.sender.send(session, READER, album(*media_ids, text="bye"), patience=5)

    first, second, text = results
    assert isinstance(first.error, TelegramUnreachable)
    assert first.error.effect_possible
    assert first.error is second.error
    assert isinstance(text.error, FloodWait)
    assert 25 < text.error.retry_after <= 30
    assert sandbox.state.stats.total.calls["sendMediaGroup"] == 1


async def test_a_blocked_reader_of_an_album_is_told_for_each_item(idle_telewarm: Telewarm, sandbox: Sandbox) -> None:
    session = await add_bot(idle_telewarm)
    media_ids = await warm_photos(idle_telewarm, session, 2)
    sandbox.state.chats.declare(READER, blocked=True)

    results = await idle_telewarm.sender.send(session, READER, album(*media_ids, text="bye"))

    assert [type(result.error) for result in results] == [ChatUnreachable] * 3
    assert sandbox.state.stats.total.calls["sendMediaGroup"] == 1
    assert "sendMessage" not in sandbox.state.stats.total.calls


async def test_an_album_counts_each_of_its_items_against_the_limits(idle_telewarm: Telewarm) -> None:
    session = await add_bot(idle_telewarm)
    media_ids = await warm_photos(idle_telewarm, session, 2)
    sent = session.limiter.sent

    await idle_telewarm.sender.send(session, READER, album(*media_ids))

    assert session.limiter.sent == sent + 2


async def test_buttons_on_an_album_are_refused_before_anything_goes(idle_telewarm: Telewarm, sandbox: Sandbox) -> None:
    session = await add_bot(idle_telewarm)
    media_ids = await add_photos(idle_telewarm, session, 2)
    parts = [Part(media_id=media_id) for media_id in media_ids]

    with pytest.raises(UsageError, match="add a text"):
        await idle_telewarm.sender.send(
            session, READER, MessageSet(media=parts, album=True, reply_markup={"inline_keyboard": []})
        )

    assert sandbox.state.stats.total.messages == 0
