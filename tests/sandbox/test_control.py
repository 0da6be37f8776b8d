"""The control and statistics endpoints."""

from __future__ import annotations

import asyncio

from telewarm.sandbox import Config, Limit, Network, Sandbox
from tests.fixtures.media import jpeg
from tests.fixtures.sandbox import FIRST_BOT, SandboxWith
from tests.sandbox.client import CHANNEL, USER, call, control, file_id, warm


async def test_statistics_count_calls_uploads_and_messages_for_each_bot_and_chat(sandbox: Sandbox) -> None:
    picture = jpeg(1)
    warmed = await warm(sandbox, picture)
    for chat in (USER, USER, USER + 1):
        await call(sandbox, "sendPhoto", chat_id=chat, photo=file_id(warmed))
    await call(sandbox, "forwardMessage", bot=1, chat_id=USER, from_chat_id=CHANNEL, message_id=1)
    await call(sandbox, "sendPhoto", bot=1, chat_id=USER, photo=file_id(warmed))
    stats = await control(sandbox, "stats", chats="true")
    assert stats["calls"] == {"sendPhoto": 5, "forwardMessage": 1}
    assert (stats["uploads"], stats["upload_bytes"]) == (1, len(picture))
    assert (stats["messages"], stats["by_kind"], stats["forwards"]) == (5, {"photo": 5}, 1)
    assert stats["chats"] == {str(CHANNEL): 1, str(USER): 3, str(USER + 1): 1}
    assert (stats["chats_reached"], stats["most_in_one_chat"]) == (3, 3)
    assert stats["errors"] == {"400": 1}
    assert stats["bots"][str(FIRST_BOT + 1)]["messages"] == 1
    assert stats["files"] == 1


async def test_floods_are_counted_also_inside_an_album(sandbox: Sandbox) -> None:
    own = file_id(await warm(sandbox, jpeg(1)))
    await control(sandbox, "config", {"floods": {"private": {"count": 1, "seconds": 3600}, "album_429_in_400": True}})
    media = [{"type": "photo", "media": own}] * 2
    answer = await call(sandbox, "sendMediaGroup", chat_id=USER, media=media)
    status, description = answer.error
    inner = '"Too Many Requests: retry after 3'
    assert status == 400
    assert description.startswith(f"Bad Request: failed to send message #2 with the error message {inner}")
    assert "parameters" not in answer.body
    stats = await control(sandbox, "stats", chats="1")
    assert stats["floods"] == 1
    assert stats["chats"][str(USER)] == 1  # the part before the flood is in the chat


async def test_the_most_calls_at_once_are_known(sandbox_with: SandboxWith) -> None:
    slow = await sandbox_with(Config(network=Network(latency=0.1)))
    await asyncio.gather(*(call(slow, "getMe") for _ in range(4)))
    assert (await control(slow, "stats"))["max_active"] == 4


async def test_a_reset_forgets_everything_or_only_the_counts(sandbox: Sandbox) -> None:
    own = file_id(await warm(sandbox, jpeg(1)))
    await control(sandbox, "reset", {"what": "stats"})
    assert (await control(sandbox, "stats"))["messages"] == 0
    assert (await call(sandbox, "sendPhoto", chat_id=USER, photo=own)).status == 200
    await control(sandbox, "reset", {})
    wrong = (400, "Bad Request: wrong file identifier/HTTP URL specified")
    assert (await call(sandbox, "sendPhoto", chat_id=USER, photo=own)).error == wrong


async def test_the_configuration_changes_while_it_runs(sandbox: Sandbox) -> None:
    shown = await control(sandbox, "config", {"floods": "telegram", "latency": 0.001, "bandwidth": 1e9})
    assert shown["config"]["floods"]["group"] == {"count": 20, "seconds": 60}
    assert sandbox.state.config.network == Network(latency=0.001, bandwidth=1e9)
    assert sandbox.state.gate.floods.bot == Limit(count=30, seconds=1)
    assert (await control(sandbox, "config", {"floods": "off"}))["config"]["floods"]["group"] is None


async def test_a_message_and_a_file_can_be_looked_at(sandbox: Sandbox) -> None:
    warmed = await warm(sandbox, jpeg(1, width=640, height=480))
    seen = await control(sandbox, "message", chat_id=str(CHANNEL), message_id="1", bot=str(FIRST_BOT))
    assert (seen["message"]["kind"], seen["message"]["sender"]) == ("photo", FIRST_BOT)
    assert (await control(sandbox, "message", chat_id=str(CHANNEL), message_id="2"))["message"] is None
    file = await control(sandbox, "files", file_id=file_id(warmed))
    assert (file["kind"], file["bytes"]) == ("photo", len(jpeg(1, width=640, height=480)))


async def test_two_sandboxes_with_one_seed_make_the_same_files(sandbox_with: SandboxWith) -> None:
    one, two = await sandbox_with(Config(seed=7)), await sandbox_with(Config(seed=7))
    unique = [(await warm(each, jpeg(1)))["photo"][-1]["file_unique_id"] for each in (one, two)]
    assert unique[0] == unique[1]
