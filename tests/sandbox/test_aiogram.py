"""aiogram, a client that we did not write, finds the sandbox to be Telegram."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiogram import Bot
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.exceptions import (
    TelegramBadRequest,
    TelegramEntityTooLarge,
    TelegramForbiddenError,
    TelegramMigrateToChat,
    TelegramNetworkError,
    TelegramNotFound,
    TelegramRetryAfter,
    TelegramServerError,
    TelegramUnauthorizedError,
)
from aiogram.types import BufferedInputFile, FSInputFile, InputMediaPhoto, InputMediaVideo

from telewarm.demo.media import DemoFile
from telewarm.sandbox import Floods, Limit, Rule, Sandbox
from tests.fixtures.media import jpeg
from tests.fixtures.sandbox import FIRST_BOT, token
from tests.sandbox.client import CHANNEL, GROUP, USER


@pytest.fixture
async def bots(sandbox: Sandbox) -> AsyncIterator[list[Bot]]:
    server = TelegramAPIServer.from_base(sandbox.url)
    made = [Bot(token(number), session=AiohttpSession(api=server)) for number in range(2)]
    yield made
    for bot in made:
        await bot.session.close()


@pytest.fixture
def bot(bots: list[Bot]) -> Bot:
    return bots[0]


def picture(seed: int = 0) -> BufferedInputFile:
    return BufferedInputFile(jpeg(seed, width=640, height=480), "a.jpg")


def media(files: dict[str, DemoFile], name: str) -> FSInputFile:
    return FSInputFile(files[name].path)


async def test_a_bot_and_a_chat_introduce_themselves(bot: Bot) -> None:
    me = await bot.get_me()
    assert (me.id, me.is_bot) == (FIRST_BOT, True)
    assert (await bot.get_chat(USER)).type == "private"
    assert (await bot.get_chat(CHANNEL)).type == "channel"
    assert (await bot.get_chat(GROUP)).type == "group"
    assert (await bot.get_chat_member(CHANNEL, bot.id)).status == "administrator"
    assert (await bot.get_chat_member(GROUP, bot.id)).status == "administrator"


async def test_each_kind_is_uploaded_and_then_sent_by_its_file_id(bot: Bot, demo_files: dict[str, DemoFile]) -> None:
    video = (await bot.send_video(USER, media(demo_files, "film.mp4"), thumbnail=picture())).video
    audio = (await bot.send_audio(USER, media(demo_files, "song.mp3"), title="Song", performer="Band")).audio
    voice = (await bot.send_voice(USER, media(demo_files, "note.ogg"), duration=3)).voice
    animation = await bot.send_animation(USER, media(demo_files, "dance.gif"))
    document = (await bot.send_document(USER, media(demo_files, "leaflet.pdf"))).document
    assert video is not None
    assert audio is not None
    assert voice is not None
    assert animation.animation is not None
    assert animation.document is not None
    assert animation.animation.file_id == animation.document.file_id
    assert document is not None
    assert (audio.title, audio.performer, voice.duration) == ("Song", "Band", 3)
    again = (
        (await bot.send_video(USER, video.file_id)).video,
        (await bot.send_audio(USER, audio.file_id)).audio,
        (await bot.send_voice(USER, voice.file_id)).voice,
        (await bot.send_animation(USER, animation.animation.file_id)).animation,
        (await bot.send_document(USER, document.file_id)).document,
    )
    unique = [part.file_unique_id for part in (video, audio, voice, animation.animation, document)]
    ids = [part.file_id for part in (video, audio, voice, animation.animation, document)]
    assert [part.file_unique_id for part in again if part is not None] == unique
    assert not {part.file_id for part in again if part is not None} & set(ids)


async def test_an_album_comes_back_in_order_under_one_group_id(bot: Bot, demo_files: dict[str, DemoFile]) -> None:
    sent = await bot.send_media_group(
        CHANNEL,
        [
            InputMediaPhoto(media=picture(1), caption="<i>one</i>", parse_mode="HTML"),
            InputMediaVideo(media=media(demo_files, "film.mp4"), width=320, height=240),
            InputMediaPhoto(media=picture(2)),
        ],
    )
    assert [message.content_type for message in sent] == ["photo", "video", "photo"]
    assert len({message.media_group_id for message in sent}) == 1
    assert len(sent[0].media_group_id or "") == 17
    assert sent[0].caption == "one"


async def test_a_forward_gives_the_other_bot_its_own_file_id(bots: list[Bot]) -> None:
    first, second = bots
    warmed = await first.send_photo(CHANNEL, picture())
    forwarded = await second.forward_message(USER, CHANNEL, warmed.message_id)
    assert warmed.photo is not None
    assert forwarded.photo is not None
    assert forwarded.photo[-1].file_unique_id == warmed.photo[-1].file_unique_id
    assert (await second.send_photo(USER, forwarded.photo[-1].file_id)).photo
    with pytest.raises(TelegramBadRequest, match="wrong file identifier/HTTP URL specified"):
        await second.send_photo(USER, warmed.photo[-1].file_id)


async def test_messages_are_copied_forwarded_and_deleted_in_bulk(bot: Bot) -> None:
    ids = [(await bot.send_message(CHANNEL, f"text {number}")).message_id for number in range(3)]
    assert len(await bot.forward_messages(USER, CHANNEL, ids)) == 3
    assert len(await bot.copy_messages(USER, CHANNEL, [*ids, 99])) == 3
    assert (await bot.copy_message(USER, CHANNEL, ids[0])).message_id == 7
    assert await bot.delete_message(CHANNEL, ids[0])
    assert await bot.delete_messages(CHANNEL, ids)
    with pytest.raises(TelegramBadRequest, match="message to copy not found"):
        await bot.copy_message(USER, CHANNEL, ids[1])


async def test_a_small_file_is_downloaded_again(bot: Bot, tmp_path: Path) -> None:
    data = jpeg(5, width=640, height=480)
    sent = await bot.send_document(USER, BufferedInputFile(data, "a.jpg"), disable_content_type_detection=True)
    assert sent.document is not None
    await bot.download(sent.document, tmp_path / "back.jpg")
    assert (tmp_path / "back.jpg").read_bytes() == data


async def test_a_flood_is_a_retry_after(bot: Bot, sandbox: Sandbox) -> None:
    sandbox.state.configure(floods=Floods(group=Limit(count=1, seconds=60)))
    await bot.send_message(CHANNEL, "one")
    with pytest.raises(TelegramRetryAfter) as caught:
        await bot.send_message(CHANNEL, "two")
    assert 40 <= caught.value.retry_after <= 60


async def test_each_refusal_is_the_error_that_aiogram_knows_it_by(bot: Bot, sandbox: Sandbox) -> None:
    chats = sandbox.state.chats
    chats.declare(1, blocked=True)
    chats.declare(2, deactivated=True)
    chats.declare(GROUP, migrated_to=CHANNEL)
    chats.declare(3, exists=False)
    with pytest.raises(TelegramForbiddenError, match="bot was blocked by the user"):
        await bot.send_photo(1, picture())
    with pytest.raises(TelegramForbiddenError, match="user is deactivated"):
        await bot.send_message(2, "x")
    with pytest.raises(TelegramMigrateToChat) as migrated:
        await bot.send_message(GROUP, "x")
    assert migrated.value.migrate_to_chat_id == CHANNEL
    with pytest.raises(TelegramBadRequest, match="chat not found"):
        await bot.send_message(3, "x")
    sandbox.state.bots.open(FIRST_BOT).revoked = True
    with pytest.raises(TelegramUnauthorizedError):
        await bot.get_me()


async def test_each_fault_is_the_error_that_aiogram_knows_it_by(bot: Bot, sandbox: Sandbox) -> None:
    for rule in (
        Rule(action="error", code=502),
        Rule(action="error", code=404, description="Not Found"),
        Rule(action="reset"),
    ):
        sandbox.state.faults.add(rule)
    with pytest.raises(TelegramServerError, match="Bad Gateway"):
        await bot.send_message(USER, "x")
    with pytest.raises(TelegramNotFound):
        await bot.send_message(USER, "x")
    with pytest.raises(TelegramNetworkError):
        await bot.send_message(USER, "x")
    assert sandbox.state.stats.total.messages == 0


async def test_a_file_past_the_limit_is_an_entity_too_large(sandbox: Sandbox, bot: Bot) -> None:
    sandbox.state.configure(upload_limit=1 << 20)
    with pytest.raises(TelegramEntityTooLarge):
        await bot.send_document(USER, BufferedInputFile(bytes(3 << 20), "a.bin"))
