"""python-telegram-bot, a client that we did not write, finds the sandbox to be Telegram."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from telegram.error import BadRequest, ChatMigrated, Forbidden, InvalidToken, NetworkError, RetryAfter

from telegram import Bot, InputMediaAudio, InputMediaDocument
from telewarm.demo.media import DemoFile
from telewarm.sandbox import Floods, Limit, Rule, Sandbox
from tests.fixtures.media import jpeg
from tests.fixtures.sandbox import FIRST_BOT, token
from tests.sandbox.client import CHANNEL, GROUP, USER


@pytest.fixture
async def bot(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bot]:
    monkeypatch.setenv("PTB_TIMEDELTA", "1")  # the library warns of its old way otherwise
    made = Bot(token(0), base_url=f"{sandbox.url}/bot", base_file_url=f"{sandbox.url}/file/bot")
    async with made:
        yield made


async def test_each_kind_is_uploaded_and_then_sent_by_its_file_id(bot: Bot, demo_files: dict[str, DemoFile]) -> None:
    photo = await bot.send_photo(USER, demo_files["sunset.jpg"].path, caption="*bold*", parse_mode="MarkdownV2")
    video = await bot.send_video(USER, demo_files["film.mp4"].path, width=320, height=240, duration=2)
    audio = await bot.send_audio(USER, demo_files["song.mp3"].path)
    voice = await bot.send_voice(USER, demo_files["note.ogg"].path)
    document = await bot.send_document(USER, demo_files["leaflet.pdf"].path, thumbnail=jpeg(width=300, height=200))
    assert photo.caption == "bold"
    assert video.video is not None
    assert (video.video.width, video.video.height) == (320, 240)
    assert audio.audio is not None
    assert audio.audio.title
    assert voice.voice is not None
    assert document.document is not None
    assert document.document.thumbnail is not None
    assert document.document.thumbnail.width == 300
    assert (await bot.send_photo(USER, photo.photo[0].file_id)).photo[-1] == photo.photo[-1]
    assert (await bot.send_audio(USER, audio.audio.file_id)).audio == audio.audio


async def test_albums_of_audio_and_of_documents_are_sent(bot: Bot, demo_files: dict[str, DemoFile]) -> None:
    song = demo_files["song.mp3"].path.read_bytes()
    audio = await bot.send_media_group(CHANNEL, [InputMediaAudio(song), InputMediaAudio(song, title="Second")])
    assert [message.audio is not None for message in audio] == [True, True]
    files = await bot.send_media_group(CHANNEL, [InputMediaDocument(song), InputMediaDocument(jpeg(1))])
    assert [message.document is not None for message in files] == [True, True]
    with pytest.raises(BadRequest, match="Audio can't be mixed with other media types"):
        await bot.send_media_group(CHANNEL, [InputMediaAudio(song), InputMediaDocument(song)])


async def test_messages_are_forwarded_copied_and_deleted(bot: Bot) -> None:
    sent = await bot.send_photo(CHANNEL, jpeg(1))
    assert (await bot.forward_message(USER, CHANNEL, sent.message_id)).photo[-1] == sent.photo[-1]
    assert (await bot.copy_message(USER, CHANNEL, sent.message_id)).message_id == 2
    assert await bot.delete_message(CHANNEL, sent.message_id)
    with pytest.raises(BadRequest, match="Message to delete not found"):
        await bot.delete_message(CHANNEL, sent.message_id)


async def test_a_small_file_is_downloaded_again(bot: Bot) -> None:
    data = jpeg(7)
    sent = await bot.send_document(USER, data, filename="a.jpg", disable_content_type_detection=True)
    assert sent.document is not None
    assert bytes(await (await sent.document.get_file()).download_as_bytearray()) == data


async def test_each_refusal_is_the_error_that_the_library_knows_it_by(bot: Bot, sandbox: Sandbox) -> None:
    sandbox.state.configure(floods=Floods(private=Limit(count=1, seconds=30)))
    sandbox.state.chats.declare(1, blocked=True)
    sandbox.state.chats.declare(GROUP, migrated_to=CHANNEL)
    with pytest.raises(Forbidden, match="bot was blocked by the user"):
        await bot.send_message(1, "x")
    with pytest.raises(ChatMigrated) as migrated:
        await bot.send_message(GROUP, "x")
    assert migrated.value.new_chat_id == CHANNEL
    await bot.send_message(USER, "one")
    with pytest.raises(RetryAfter, match=r"Retry in 0:00:(30|2\d)"):
        await bot.send_message(USER, "two")
    sandbox.state.bots.open(FIRST_BOT).revoked = True
    with pytest.raises(InvalidToken):
        await bot.get_me()


async def test_each_fault_is_the_error_that_the_library_knows_it_by(bot: Bot, sandbox: Sandbox) -> None:
    sandbox.state.faults.add(Rule(action="html", code=502))
    sandbox.state.faults.add(Rule(action="reset", when="after"))
    for _ in range(2):
        with pytest.raises(NetworkError):
            await bot.send_message(USER, "x")
    assert sandbox.state.stats.total.messages == 1
