"""What people miss most, on the command line: options of messages, chats by name, file ids."""

from __future__ import annotations

import json

from telewarm.sandbox import Sandbox
from tests.cli.conftest import Commands
from tests.fixtures.app import READER, WARMUP_CHAT
from tests.fixtures.sandbox import FIRST_BOT, token

CHANNEL = -1_001_000_000_321
OPTIONS = (
    "--link-preview",
    "off",
    "--effect",
    "1",
    "--spoiler",
    "--caption-above",
    "--extra",
    "business_connection_id=b1",
)


def extras(sandbox: Sandbox, chat: int = READER) -> list[dict[str, object]]:
    bot = sandbox.state.bots.open(FIRST_BOT)
    box = sandbox.state.mail.box(sandbox.state.find_chat(bot, str(chat)), bot.id)
    found = (box.get(chat, number) for number in range(1, 20))
    return [dict(message.content.extras) for message in found if message is not None]


async def test_send_has_what_people_miss(command: Commands, sandbox: Sandbox) -> None:
    sandbox.state.chats.declare(CHANNEL, username="shop_news")
    await command.ok("bot", "add", "shop", "--chat", "@shop_news", given=token(0))
    photo = str(command.folder / "0.jpg")
    buttons = '{"inline_keyboard": [[{"text": "Open", "url": "https://example.org"}]]}'
    await command.ok("send", "shop", str(READER), photo, "--text", "so", "--buttons", buttons, *OPTIONS)
    picture, text = extras(sandbox)
    assert picture == {
        "effect_id": "1",
        "has_media_spoiler": True,
        "show_caption_above_media": True,
        "business_connection_id": "b1",
    }
    assert text["link_preview_options"] == {"is_disabled": True}
    assert "reply_markup" in text

    await command.ok("send", "shop", "@shop_news", "--text", "so")
    assert sandbox.state.stats.chats[CHANNEL] == 1
    ended = await command("send", "shop", "somebody", "--text", "so")
    assert (ended.code, "not a chat id" in ended.said) == (2, True)
    ended = await command("send", "shop", str(READER), "--text", "so", "--extra", "chat_id=5")
    assert (ended.code, "chat_id" in ended.said) == (1, True)


async def test_a_photo_goes_as_a_file_and_its_file_id_is_printed(command: Commands, sandbox: Sandbox) -> None:
    await command.ok("bot", "add", "shop", "--chat", str(WARMUP_CHAT), given=token(0))
    photo = str(command.folder / "0.jpg")
    ended = await command.ok("send", "shop", str(READER), photo, "--as-file")
    assert "document" in ended.out
    assert sandbox.state.stats.total.by_kind["document"] == 1

    reported = json.loads((await command.ok("media", "file-id", "shop", "2", "--json")).out)
    assert (reported["media_id"], reported["kind"], reported["method"]) == (2, "document", "sendDocument")
    assert (await command.ok("media", "file-id", "shop", "2")).out.strip() == reported["file_id"]
    ended = await command("media", "file-id", "shop", "1")
    assert (ended.code, "MEDIA_NOT_READY" in ended.said) == (1, True)
