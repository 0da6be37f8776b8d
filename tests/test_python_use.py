"""The library as programs use it: their own types go in, errors name the argument, ids come out."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiogram.types import InlineKeyboardButton as AiogramButton
from aiogram.types import InlineKeyboardMarkup as AiogramKeyboard
from aiogram.types import LinkPreviewOptions

from telegram import InlineKeyboardButton, InlineKeyboardMarkup
from telewarm import (
    BadRequest,
    ChatUnreachable,
    Kind,
    MediaError,
    MediaItem,
    MediaNotReady,
    MediaState,
    MessageSet,
    NotFound,
    Part,
    SendResult,
    Settings,
    Telewarm,
    UsageError,
    escape_markdown_code,
    escape_markdown_url,
    html,
)
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from tests.fixtures.app import READER, Opener, add_bot, add_photos, until_ready
from tests.fixtures.media import jpeg
from tests.fixtures.sandbox import FIRST_BOT, token

CHANNEL = -1_001_000_000_321


async def chunks() -> AsyncIterator[bytes]:
    photo = jpeg(5)
    yield photo[:100]
    yield photo[100:]


class Stream:
    """Something with a coroutine `read`, as aiofiles has."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    async def read(self, size: int, /) -> bytes:
        return self._file.read(size)


async def test_files_come_as_paths_bytes_and_streams(idle_telewarm: Telewarm, tmp_path: Path) -> None:
    await add_bot(idle_telewarm)
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg(1))
    with path.open("rb") as file:
        items = [
            await idle_telewarm.add("bot-0", given)
            for given in (str(path), path, jpeg(1), bytearray(jpeg(1)), memoryview(jpeg(1)), file, Stream(jpeg(1)))
        ]
    assert len({item.id for item in items}) == 1
    assert items[0].name == "photo.jpg"
    other = await idle_telewarm.add("bot-0", chunks(), kind=Kind.DOCUMENT, name="so.jpg")
    assert (other.kind, other.name) == (Kind.DOCUMENT, "so.jpg")


@pytest.mark.parametrize("given", [5, None, object(), io.StringIO("text"), b""])
async def test_what_is_no_file_is_refused_by_name(idle_telewarm: Telewarm, given: object) -> None:
    await add_bot(idle_telewarm)
    with pytest.raises(UsageError, match=r"^file "):
        await idle_telewarm.add("bot-0", given)  # type: ignore[arg-type]  # that is the test


async def test_media_are_numbers_items_or_parts(idle_telewarm: Telewarm) -> None:
    session = await add_bot(idle_telewarm)
    [media_id] = await add_photos(idle_telewarm, session, 1)
    item: MediaItem = await idle_telewarm.get(media_id)
    mixed = MessageSet(media=[int(media_id), item, Part(media_id=item), Part(media_id=7)])
    assert [part.media_id for part in mixed.media] == [media_id, media_id, media_id, 7]
    for message in (item, [item], [int(media_id)], Part(media_id=int(media_id)), MessageSet(media=[item])):
        [sent] = await idle_telewarm.send("bot-0", READER, message)
        assert sent.error is None
    assert (await idle_telewarm.delete("bot-0", [item])).media_ids == [media_id]


WRONG: list[tuple[dict[str, object], str]] = [
    ({"media": ["x"]}, r"media\[0\] must be the id"),
    ({"media": [True]}, r"media\[0\] must be a whole number"),
    ({"media": [0]}, r"media\[0\]"),
    ({"media": 5}, "media must be a list"),
    ({"media": "33"}, "media must be a list"),
    ({"text": 5}, "text must be text"),
    ({"text": "so", "reply_markup": "buttons"}, "reply_markup must be a mapping"),
    ({"text": "so", "reply_markup": object()}, "reply_markup must be a mapping or an object with model_dump"),
    ({"text": "so", "entities": {"type": "bold"}}, "entities must be a list"),
    ({"text": "so", "extra": [1]}, "extra must be a mapping"),
]


@pytest.mark.parametrize(("given", "words"), WRONG)
def test_wrong_arguments_are_usage_errors_that_name_the_argument(given: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        MessageSet(**given)  # type: ignore[arg-type]  # that is the test


@pytest.mark.parametrize("chat", ["durov", "@ab", None, 5.5, True, 0, 2**63, b"42"])
async def test_what_is_no_chat_is_refused_and_nothing_goes(
    idle_telewarm: Telewarm, sandbox: Sandbox, chat: object
) -> None:
    await add_bot(idle_telewarm)
    with pytest.raises(UsageError, match="chat_id"):
        await idle_telewarm.send("bot-0", chat, "so")  # type: ignore[arg-type]  # that is the test
    assert sandbox.state.stats.total.messages == 0


async def test_public_chats_go_by_name_asked_for_once(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with()
    sandbox.state.chats.declare(CHANNEL, username="Shop_News")
    await telewarm.add_bot("shop", token(0), warmup_chats=["@shop_news", CHANNEL])
    assert (await telewarm.bots.by_slug("shop")).bot.warmup_chats == (CHANNEL,)

    for chat in ("@shop_news", "@SHOP_NEWS", str(CHANNEL)):
        [sent] = await telewarm.send("shop", chat, "so")
        assert sent.error is None
    assert sandbox.state.stats.chats == {CHANNEL: 3}
    assert sandbox.state.stats.total.calls["getchat"] + sandbox.state.stats.total.calls["getChat"] == 2

    with pytest.raises(UsageError, match="people have to be given by their numeric id"):
        await telewarm.send("shop", "@somebody", "so")


async def test_keyboards_of_frameworks_are_taken(idle_telewarm: Telewarm, sandbox: Sandbox) -> None:
    await add_bot(idle_telewarm)
    theirs = AiogramKeyboard(inline_keyboard=[[AiogramButton(text="Open", url="https://example.org")]])
    others = InlineKeyboardMarkup([[InlineKeyboardButton("Open", url="https://example.org")]])
    preview = LinkPreviewOptions(is_disabled=True)
    for keyboard in (theirs, others):
        message = MessageSet(text="so", reply_markup=keyboard, link_preview=preview)
        [sent] = await idle_telewarm.send("bot-0", READER, message)
        assert sent.message_id is not None
        box = sandbox.state.mail.box(
            sandbox.state.find_chat(sandbox.state.bots.open(FIRST_BOT), str(READER)), FIRST_BOT
        )
        shown = box.get(READER, sent.message_id)
        assert shown is not None
        assert dict(shown.content.extras) == {
            "reply_markup": {"inline_keyboard": [[{"text": "Open", "url": "https://example.org"}]]},
            "link_preview_options": {"is_disabled": True},
        }


async def test_texts_that_were_made_safe_are_sent_and_kept_as_texts(idle_telewarm: Telewarm, sandbox: Sandbox) -> None:
    session = await add_bot(idle_telewarm)
    [media_id] = await add_photos(idle_telewarm, session, 1)
    bold = html("<b>{}</b>", "<Ann>")
    message = MessageSet(media=[Part(media_id=media_id, caption=bold)], text=bold, parse_mode="HTML")
    assert (type(message.text), type(message.media[0].caption)) == (str, str)
    await idle_telewarm.send("bot-0", READER, message, raise_on_error=True)
    [broadcast] = await idle_telewarm.broadcast("bot-0", message)
    assert broadcast.message.text == message.text
    assert sandbox.state.stats.chats == {READER: 2}


async def test_an_error_of_a_message_is_raised_when_asked_for(idle_telewarm: Telewarm, sandbox: Sandbox) -> None:
    await add_bot(idle_telewarm)
    sandbox.state.chats.declare(READER, blocked=True)
    results = await idle_telewarm.send("bot-0", READER, "so")
    assert isinstance(results[0], SendResult)
    with pytest.raises(ChatUnreachable):
        results[0].raise_for_error()
    with pytest.raises(ChatUnreachable):
        results.raise_for_error()
    with pytest.raises(ChatUnreachable):
        await idle_telewarm.send("bot-0", READER, "so", raise_on_error=True)
    good = await idle_telewarm.send("bot-0", READER + 1, "so", raise_on_error=True)
    assert good.raise_for_error() is good


async def test_a_file_id_is_handed_out_with_the_method_that_sends_it(telewarm: Telewarm, sandbox: Sandbox) -> None:
    session = await add_bot(telewarm)
    item = await telewarm.add("bot-0", jpeg(1))

    found = await telewarm.file_id("bot-0", item, wait=20)

    assert isinstance(found, str)
    assert (found.file_id, found.kind, found.method) == (str(found), Kind.PHOTO, "sendPhoto")
    assert (await telewarm.get(item)).file_id == found.file_id
    assert (await telewarm.ready(item.id)).state is MediaState.READY
    assert session.bot.slug == "bot-0"
    assert sandbox.state.stats.total.uploads == 1


async def test_a_file_id_that_is_not_there_or_anothers_is_told(telewarm_with: Opener, sandbox: Sandbox) -> None:
    telewarm = await telewarm_with(worker=False)
    session, _ = await add_bot(telewarm), await add_bot(telewarm, 1)
    [media_id] = await add_photos(telewarm, session, 1)
    with pytest.raises(MediaNotReady):
        await telewarm.file_id("bot-0", media_id, wait=0)
    with pytest.raises(MediaNotReady):
        await telewarm.ready(media_id, timeout=0.05)
    with pytest.raises(NotFound):
        await telewarm.file_id("bot-1", media_id)
    with pytest.raises(NotFound):
        await telewarm.get(999)
    with pytest.raises(UsageError, match="item must be"):
        await telewarm.file_id("bot-0", "1")  # type: ignore[arg-type]  # that is the test

    sandbox.state.faults.add(Rule(action="error", code=400, description="Bad Request: IMAGE_PROCESS_FAILED"))
    await telewarm.worker.start()
    with pytest.raises((MediaError, BadRequest)):
        await telewarm.ready(media_id)


async def test_it_starts_and_closes_in_hooks_which_are_tasks_of_their_own(telewarm_with: Opener) -> None:
    settings = Settings.from_environ(telewarm_with.environ(), None)
    telewarm = await asyncio.create_task(Telewarm.start(settings))
    session = await add_bot(telewarm)
    await until_ready(telewarm, *await add_photos(telewarm, session, 1))
    await asyncio.create_task(telewarm.close())
    await telewarm.close()
    assert telewarm.pool.is_closing()


def test_texts_of_others_are_escaped_for_code_and_urls() -> None:
    assert escape_markdown_code("a`b\\") == "a\\`b\\\\"
    assert escape_markdown_url("https://example.org/(a)") == "https://example.org/(a\\)"


@pytest.mark.process
def test_all_that_is_exported_is_there_and_fastapi_is_not_imported_for_it() -> None:
    code = (
        "import sys, telewarm; [getattr(telewarm, name) for name in telewarm.__all__];"
        "print([name for name in ('fastapi', 'uvicorn', 'alembic', 'sqlalchemy', 'typer') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
