"""`telewarm bot …`: from a bot's coming to its going."""

from __future__ import annotations

import json

import pytest

from telewarm.api.schemas.media_and_bots import BotCheckResponse, BotDetail, BotListItem
from telewarm.sandbox import Sandbox
from tests.cli.conftest import Commands
from tests.fixtures.app import OTHER_CHAT, WARMUP_CHAT
from tests.fixtures.sandbox import FIRST_BOT, token

CHAT = ("--chat", str(WARMUP_CHAT))

pytestmark = pytest.mark.timeout(60)


async def add(command: Commands, slug: str = "shop", number: int = 0) -> None:
    await command.ok("bot", "add", slug, *CHAT, given=f"{token(number)}\n")


async def test_a_bot_is_added_with_a_token_that_nobody_sees_again_and_checked(command: Commands) -> None:
    added = await command.ok("bot", "add", "shop", *CHAT, *CHAT, given=f"{token(0)}\n")
    listed = await command.ok("bot", "list", "--json")
    shown = await command.ok("bot", "show", "shop", "--json")

    assert "Added shop" in added.said
    assert added.out.count(" ok ") == 2  # the token, and the chat
    [bot] = json.loads(listed.out)
    BotListItem.model_validate(bot)
    BotDetail.model_validate(json.loads(shown.out))
    assert (bot["slug"], bot["warmup_chats"]) == ("shop", [WARMUP_CHAT])
    assert not [ended for ended in (added, listed, shown) if token(0) in ended.out + ended.said]


@pytest.mark.parametrize(
    ("slug", "chat", "given", "words"),
    [
        ("shop", WARMUP_CHAT, token(1), "CONFLICT"),
        ("news", WARMUP_CHAT, token(0), "CONFLICT"),
        ("news", WARMUP_CHAT, "no token", "@BotFather"),
        ("news", WARMUP_CHAT, "", "@BotFather"),
        ("-news", WARMUP_CHAT, token(1), "--help"),
        ("the shop", WARMUP_CHAT, token(1), "is not a valid name"),
        ("news", 2**63, token(1), "too large for an id"),
    ],
)
async def test_what_cannot_be_added_is_told_with_the_cure(
    command: Commands, slug: str, chat: int, given: str, words: str
) -> None:
    await add(command)

    ended = await command("bot", "add", slug, "--chat", str(chat), given=given)

    assert ended.code != 0
    assert words in ended.said
    assert [bot["slug"] for bot in json.loads((await command.ok("bot", "list", "--json")).out)] == ["shop"]


async def test_a_token_that_telegram_does_not_take_is_told_with_the_cure(command: Commands, sandbox: Sandbox) -> None:
    sandbox.state.bots.open(FIRST_BOT).revoked = True
    ended = await command("bot", "add", "shop", *CHAT, given=token(0))
    assert ended.code == 1
    assert "TOKEN_REFUSED" in ended.said
    assert "from @BotFather, or create" in ended.said


async def test_a_check_finds_what_is_wrong_and_ends_with_1_until_it_is_mended(
    command: Commands, sandbox: Sandbox
) -> None:
    assert "No bots yet" in (await command.ok("bot", "check")).said
    await add(command)
    await add(command, "news", 1)
    sandbox.state.bots.open(FIRST_BOT).revoked = True

    every = await command("bot", "check")
    programs = await command("bot", "check", "shop", "--json")

    assert every.code == 1
    assert "@BotFather" in every.out
    assert programs.code == 1
    [(slug, checked)] = json.loads(programs.out).items()
    BotCheckResponse.model_validate({"ok": True, **checked})
    assert (slug, checked["healthy"], checked["token"]["error"]) == ("shop", False, "TOKEN_REFUSED")
    assert "telewarm bot token" in checked["token"]["message"]
    await command.ok("bot", "check", "news")
    await command.ok("bot", "token", "shop", given=token(2))
    assert f"chat {OTHER_CHAT}" in (await command.ok("bot", "chats", "shop", "--chat", str(OTHER_CHAT))).out
    await command.ok("bot", "check")


async def test_a_bot_rests_until_it_is_told_to_go_on(command: Commands) -> None:
    await add(command)
    await command.ok("bot", "pause", "shop")
    assert "paused" in (await command.ok("bot", "list")).out
    assert "paused" in (await command.ok("bot", "show", "shop")).out
    await command.ok("bot", "resume", "shop")
    assert "paused" not in (await command.ok("bot", "list")).out


async def test_a_deleted_bot_comes_back_with_its_media_or_goes_for_good(command: Commands) -> None:
    await add(command)
    await command.ok("media", "add", "shop", "0.jpg")
    in_use = await command("bot", "delete", "shop", "--forever", "--yes")

    deleted = await command.ok("bot", "delete", "shop")
    assert "telewarm bot undelete shop" in deleted.said
    assert json.loads((await command.ok("bot", "list", "--json")).out) == []
    assert "shop" in (await command.ok("bot", "list", "--deleted")).out
    assert "telewarm bot undelete shop" in (await command("media", "list", "shop")).said
    assert "Restored shop" in (await command.ok("bot", "undelete", "shop")).said
    assert "is not deleted" in (await command.ok("bot", "undelete", "shop")).said
    assert "0.jpg" in (await command.ok("media", "list", "shop")).out

    await command.ok("bot", "delete", "shop")
    assert (
        "with 1 media item and 0 broadcasts" in (await command.ok("bot", "delete", "shop", "--forever", "--yes")).said
    )
    gone = await command("bot", "undelete", "shop")
    assert (in_use.code, gone.code) == (1, 1)
    assert ("delete it first" in in_use.said, "NOT_FOUND" in gone.said) == (True, True)


async def test_for_good_takes_a_yes_from_a_person_or_from_a_script(command: Commands) -> None:
    await add(command)
    await command.ok("bot", "delete", "shop")

    script = await command("bot", "delete", "shop", "--forever")
    refused = await command.answered("n", "bot", "delete", "shop", "--forever")

    assert (script.code, refused.code) == (1, 1)
    assert "--yes" in script.said
    assert "Delete shop for good, with 0 media items?" in refused.said
    assert "shop" in (await command.ok("bot", "list", "--deleted")).out
    assert "Deleted shop for good" in (await command.answered("y", "bot", "delete", "shop", "--forever")).said
    assert "No deleted bots" in (await command.ok("bot", "list", "--deleted")).said
