"""Every method against the sandbox, which shares no code with the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from PIL import Image

from telewarm.demo.media import DemoFile
from telewarm.errors import (
    BadRequest,
    ChatMigrated,
    ChatUnreachable,
    FloodWait,
    InvalidBotToken,
    InvalidFileId,
    MessageNotFound,
    TelegramServerError,
    TelegramUnreachable,
)
from telewarm.models import ChatId, FileId, Kind, MediaMetadata, MessageId
from telewarm.sandbox import Config, Floods, Limit, Rule, Sandbox, fileids
from telewarm.sandbox.files import File
from telewarm.telegram.client import BotApi
from telewarm.telegram.files import FileIdRef, FileUpload, LocalPathRef, UrlRef
from telewarm.telegram.transport import Transport
from telewarm.telegram.values import GroupItem, SendOptions
from tests.fixtures.media import audio, jpeg, video
from tests.fixtures.sandbox import SandboxWith, token
from tests.telegram.servers import Connection, serving

ANNA = ChatId(11)
CHANNEL = ChatId(-1_001_234_567_890)
GROUP = ChatId(-500)
MIMES = {".jpg": "image/jpeg", ".mp4": "video/mp4", ".gif": "image/gif", ".mp3": "audio/mpeg", ".ogg": "audio/ogg"}


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    async with Transport.open() as transport:
        yield transport


@pytest.fixture
def bot(transport: Transport, sandbox: Sandbox) -> BotApi:
    return BotApi(transport, token(0), root=sandbox.url)


@pytest.fixture
def other(transport: Transport, sandbox: Sandbox) -> BotApi:
    return BotApi(transport, token(1), root=sandbox.url)


@pytest.fixture
def photo(photo_file: Callable[..., Path]) -> FileUpload:
    return upload(photo_file(1, width=640, height=480))


def upload(path: Path, *, thumbnail: bytes | None = None) -> FileUpload:
    mime = MIMES.get(path.suffix, "application/octet-stream")
    return FileUpload(path=path, filename=path.name, mime=mime, bytes=path.stat().st_size, thumbnail=thumbnail)


def stored(sandbox: Sandbox, file_id: FileId | None) -> File:
    assert file_id
    file = sandbox.state.files.by_id(fileids.decode(file_id).id)
    assert file is not None
    return file


async def test_a_bot_knows_itself(bot: BotApi) -> None:
    profile = await bot.get_me()
    assert profile.telegram_id == bot.telegram_id == 1_000_000_001
    assert profile.username
    assert profile.first_name


async def test_a_chat_tells_its_type_and_name(bot: BotApi, sandbox: Sandbox) -> None:
    sandbox.state.chats.declare(CHANNEL, title="Warm-up", type="channel")
    chat = await bot.get_chat(CHANNEL)
    assert (chat.chat_id, chat.type, chat.name, chat.protected) == (CHANNEL, "channel", "Warm-up", False)
    assert (await bot.get_chat(ANNA)).type == "private"


async def test_a_text_arrives_formatted(bot: BotApi, sandbox: Sandbox) -> None:
    sent = await bot.send_message(ANNA, "<b>grüß</b> Gott", options=SendOptions(parse_mode="HTML"))
    assert (sent.chat_id, sent.kind, sent.file_id) == (ANNA, None, None)
    assert sandbox.state.stats.chats[ANNA] == 1


@pytest.mark.parametrize(
    "name", ["sunset.jpg", "waves.png", "film.mp4", "dance.gif", "song.mp3", "note.ogg", "leaflet.pdf"]
)
async def test_a_demo_file_goes_up_once_and_then_by_its_id(
    bot: BotApi, sandbox: Sandbox, demo_files: dict[str, DemoFile], name: str
) -> None:
    file = demo_files[name]
    first = await bot.send_media(file.kind, CHANNEL, upload(file.path))
    assert first.kind is file.kind
    assert first.file_id
    assert first.file_unique_id
    again = await bot.send_media(first.kind, ANNA, FileIdRef(file_id=first.file_id))
    assert (again.kind, again.file_unique_id) == (first.kind, first.file_unique_id)
    assert sandbox.state.stats.total.uploads == 1
    assert sandbox.state.stats.total.upload_bytes == file.path.stat().st_size


async def test_a_video_note_goes_up_with_its_side(bot: BotApi, tmp_path: Path) -> None:
    path = video(tmp_path / "note.mp4", width=240, height=240, sound="aac")
    facts = MediaMetadata(bytes=path.stat().st_size, mime="video/mp4", ext="mp4", width=240, height=240, duration=1)
    sent = await bot.send_media(Kind.VIDEO_NOTE, ANNA, upload(path), facts=facts)
    assert sent.kind is Kind.VIDEO_NOTE


async def test_a_webp_goes_up_as_a_sticker(bot: BotApi, tmp_path: Path) -> None:
    path = tmp_path / "sticker.webp"
    Image.new("RGBA", (512, 512)).save(path)
    assert (await bot.send_media(Kind.STICKER, ANNA, upload(path))).kind is Kind.STICKER


async def test_the_returned_kind_counts_and_not_the_asked_one(bot: BotApi, demo_files: dict[str, DemoFile]) -> None:
    sent = await bot.send_media(Kind.ANIMATION, CHANNEL, upload(demo_files["film.mp4"].path))  # it has sound
    assert sent.kind is Kind.VIDEO


async def test_an_upload_carries_facts_thumbnail_and_name(bot: BotApi, sandbox: Sandbox, tmp_path: Path) -> None:
    path = video(tmp_path / "фильм.mp4", sound="aac")
    facts = MediaMetadata(bytes=path.stat().st_size, mime="video/mp4", ext="mp4", width=1280, height=720, duration=61.7)
    sent = await bot.send_media(Kind.VIDEO, CHANNEL, upload(path, thumbnail=jpeg(width=320, height=180)), facts=facts)
    file = stored(sandbox, sent.file_id)
    assert (file.width, file.height, file.duration) == (1280, 720, 62)
    assert file.name == "фильм.mp4"
    assert file.thumbnail is not None


async def test_an_audio_carries_performer_and_title(bot: BotApi, sandbox: Sandbox, tmp_path: Path) -> None:
    path = audio(tmp_path / "song.mp3", codec="libmp3lame")
    facts = MediaMetadata(
        bytes=path.stat().st_size, mime="audio/mpeg", ext="mp3", duration=200, title="Ode", performer="Beethoven"
    )
    sent = await bot.send_media(Kind.AUDIO, CHANNEL, upload(path), facts=facts)
    file = stored(sandbox, sent.file_id)
    assert (file.duration, file.title, file.performer) == (200, "Ode", "Beethoven")


async def test_a_stream_goes_up_like_a_file(bot: BotApi, sandbox: Sandbox) -> None:
    content = jpeg(3) + bytes(3_000_000)

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 100_000):
            yield content[start : start + 100_000]

    stream = FileUpload.stream(chunks, filename="a.jpg", mime="image/jpeg", bytes=len(content))
    for _ in range(2):
        assert (await bot.send_media(Kind.DOCUMENT, ANNA, stream)).kind is Kind.DOCUMENT
    assert sandbox.state.stats.total.upload_bytes == 2 * len(content)


async def test_telegram_fetches_a_url(bot: BotApi, sandbox: Sandbox) -> None:
    async def picture(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        connection.answer(jpeg(4), headers="Content-Type: image/jpeg\r\nConnection: close\r\n")

    async with serving(picture) as server:
        sent = await bot.send_media(Kind.PHOTO, CHANNEL, UrlRef(url=f"{server.root}/a.jpg"))
    assert sent.kind is Kind.PHOTO
    assert sandbox.state.stats.total.uploads == 0


async def test_a_local_server_reads_a_path(transport: Transport, sandbox_with: SandboxWith, tmp_path: Path) -> None:
    local = await sandbox_with(Config(local=True))
    path = tmp_path / "a picture.jpg"
    path.write_bytes(jpeg(5))
    sent = await BotApi(transport, token(0), root=local.url).send_media(Kind.PHOTO, CHANNEL, LocalPathRef(path=path))
    assert sent.kind is Kind.PHOTO


async def test_a_group_of_media_mixes_uploads_and_ids(bot: BotApi, photo: FileUpload, tmp_path: Path) -> None:
    known = await bot.send_media(Kind.PHOTO, ANNA, photo)
    assert known.file_id
    film = upload(video(tmp_path / "film.mp4", sound="aac"), thumbnail=jpeg(6))
    items = [
        GroupItem(kind=Kind.PHOTO, file=FileIdRef(file_id=known.file_id), caption="one"),
        GroupItem(kind=Kind.VIDEO, file=film),
        GroupItem(kind=Kind.PHOTO, file=photo, has_spoiler=True),
    ]
    sent = await bot.send_media_group(ANNA, items, options=SendOptions(disable_notification=True))
    assert [one.kind for one in sent] == [Kind.PHOTO, Kind.VIDEO, Kind.PHOTO]
    assert len({one.message_id for one in sent}) == 3


async def test_a_group_of_known_media_needs_no_form(bot: BotApi, sandbox: Sandbox, photo: FileUpload) -> None:
    known = await bot.send_media(Kind.PHOTO, ANNA, photo)
    assert known.file_id
    item = GroupItem(kind=Kind.PHOTO, file=FileIdRef(file_id=known.file_id))
    assert len(await bot.send_media_group(ANNA, [item, item])) == 2
    assert sandbox.state.stats.total.uploads == 1


async def test_another_bot_forwards_and_gets_its_own_id(bot: BotApi, other: BotApi, photo: FileUpload) -> None:
    first = await bot.send_media(Kind.PHOTO, CHANNEL, photo)
    own = await other.forward_message(CHANNEL, CHANNEL, first.message_id)
    assert own.kind is Kind.PHOTO
    assert own.file_unique_id == first.file_unique_id
    assert first.file_id
    assert own.file_id
    assert (await other.send_media(Kind.PHOTO, ANNA, FileIdRef(file_id=own.file_id))).kind is Kind.PHOTO
    with pytest.raises(InvalidFileId):
        await other.send_media(Kind.PHOTO, ANNA, FileIdRef(file_id=first.file_id))


async def test_a_copy_has_its_own_number(bot: BotApi, photo: FileUpload) -> None:
    first = await bot.send_media(Kind.PHOTO, CHANNEL, photo)
    copied = await bot.copy_message(ANNA, CHANNEL, first.message_id, caption="again")
    assert isinstance(copied, int)
    await bot.delete_message(ANNA, copied)


async def test_deleted_messages_are_gone(bot: BotApi) -> None:
    numbers = [(await bot.send_message(CHANNEL, "x")).message_id for _ in range(3)]
    await bot.delete_message(CHANNEL, numbers[0])
    with pytest.raises(MessageNotFound):
        await bot.delete_message(CHANNEL, numbers[0])
    await bot.delete_messages(CHANNEL, numbers)
    with pytest.raises(MessageNotFound):
        await bot.copy_message(ANNA, CHANNEL, numbers[2])


async def test_a_file_can_be_found_by_its_id(bot: BotApi, photo: FileUpload) -> None:
    sent = await bot.send_media(Kind.PHOTO, CHANNEL, photo)
    assert sent.file_id
    found = await bot.get_file(sent.file_id)
    assert found.file_unique_id == sent.file_unique_id
    assert found.path
    with pytest.raises(InvalidFileId):
        await bot.get_file(FileId("nonsense"))


async def test_a_token_that_was_revoked_is_refused(bot: BotApi, sandbox: Sandbox) -> None:
    await bot.get_me()
    sandbox.state.bots.open(bot.telegram_id).revoked = True
    with pytest.raises(InvalidBotToken):
        await bot.get_me()


async def test_a_malformed_token_is_refused(transport: Transport, sandbox: Sandbox) -> None:
    with pytest.raises(InvalidBotToken):
        await BotApi(transport, "123:short", root=sandbox.url).get_me()


async def test_a_blocked_bot_learns_it(bot: BotApi, sandbox: Sandbox) -> None:
    sandbox.state.chats.declare(ANNA, blocked=True)
    with pytest.raises(ChatUnreachable) as caught:
        await bot.send_message(ANNA, "hello")
    assert (caught.value.reason, caught.value.chat_id) == ("blocked", ANNA)


async def test_a_group_that_moved_tells_where_to(bot: BotApi, sandbox: Sandbox) -> None:
    sandbox.state.chats.declare(GROUP, migrated_to=CHANNEL)
    with pytest.raises(ChatMigrated) as caught:
        await bot.send_message(GROUP, "hello")
    assert caught.value.migrate_to_chat_id == CHANNEL


async def test_a_message_that_is_not_there_cannot_be_forwarded(bot: BotApi) -> None:
    with pytest.raises(MessageNotFound):
        await bot.forward_message(ANNA, CHANNEL, MessageId(999))


async def test_a_bad_caption_is_a_bad_request(bot: BotApi, photo: FileUpload) -> None:
    with pytest.raises(BadRequest, match="can't parse entities"):
        await bot.send_media(Kind.PHOTO, ANNA, photo, caption="<b>", options=SendOptions(parse_mode="HTML"))


async def test_a_flood_says_how_long_to_wait(transport: Transport, sandbox_with: SandboxWith) -> None:
    strict = await sandbox_with(Config(floods=Floods(group=Limit(count=1, seconds=60))))
    bot = BotApi(transport, token(0), root=strict.url)
    await bot.send_message(CHANNEL, "one")
    with pytest.raises(FloodWait) as caught:
        await bot.send_message(CHANNEL, "two")
    assert 50 < caught.value.retry_after <= 60


async def test_a_flood_inside_a_group_of_media_is_a_flood(
    transport: Transport, sandbox_with: SandboxWith, photo: FileUpload
) -> None:
    strict = await sandbox_with(Config(floods=Floods(group=Limit(count=1, seconds=60), album_429_in_400=True)))
    bot = BotApi(transport, token(0), root=strict.url)
    with pytest.raises(FloodWait) as caught:
        await bot.send_media_group(CHANNEL, [GroupItem(kind=Kind.PHOTO, file=photo)] * 2)
    assert caught.value.status == 400
    assert 50 < caught.value.retry_after <= 60


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        (Rule(action="html", code=502), TelegramServerError),
        (Rule(action="error", code=500, description="Internal Server Error: restart"), TelegramServerError),
        (Rule(action="reset", when="after"), TelegramUnreachable),
        (Rule(action="hang", when="after"), TelegramUnreachable),
    ],
)
async def test_a_fault_is_typed_and_the_next_call_goes_through(
    bot: BotApi, sandbox: Sandbox, photo: FileUpload, rule: Rule, error: type[Exception]
) -> None:
    sandbox.state.faults.add(rule)
    with pytest.raises(error):
        await bot.send_media(Kind.PHOTO, ANNA, photo, timeout=0.5)
    assert (await bot.send_media(Kind.PHOTO, ANNA, photo)).kind is Kind.PHOTO


async def test_an_answer_lost_after_the_effect_is_admitted(bot: BotApi, sandbox: Sandbox) -> None:
    sandbox.state.faults.add(Rule(action="reset", when="after"))
    with pytest.raises(TelegramUnreachable) as caught:
        await bot.send_message(ANNA, "hello")
    assert caught.value.effect_possible
    assert sandbox.state.stats.chats[ANNA] == 1


async def test_a_cancelled_upload_sends_nothing_and_the_next_call_goes_through(bot: BotApi, sandbox: Sandbox) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield jpeg(7)
        begun.set()
        await asyncio.Event().wait()

    stream = FileUpload.stream(endless, filename="a.jpg", mime="image/jpeg", bytes=5_000_000)
    call = asyncio.create_task(bot.send_media(Kind.PHOTO, ANNA, stream))
    await begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await bot.send_message(ANNA, "next")
    assert sandbox.state.stats.chats[ANNA] == 1


async def test_many_bots_at_once_each_get_their_own_answers(
    transport: Transport, sandbox: Sandbox, photo_file: Callable[..., Path]
) -> None:
    async def work(n: int) -> None:
        bot = BotApi(transport, token(n), root=sandbox.url)
        sent = await bot.send_media(Kind.PHOTO, ChatId(1000 + n), upload(photo_file(n)))
        assert sent.chat_id == 1000 + n
        assert sent.file_id
        assert (await bot.send_media(Kind.PHOTO, ChatId(1000 + n), FileIdRef(file_id=sent.file_id))).file_id

    await asyncio.gather(*(work(n) for n in range(40)))
    assert sandbox.state.stats.total.messages == 80
