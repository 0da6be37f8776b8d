"""Sending, forwarding, copying and deleting (facts 2, 5 and 6)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from telewarm.sandbox import Config, Floods, Sandbox
from telewarm.sandbox.chats import default_chat
from telewarm.sandbox.files import File
from telewarm.sandbox.mail import Content, Mail
from tests.fixtures.media import jpeg
from tests.fixtures.sandbox import FIRST_BOT, SandboxWith
from tests.sandbox.client import CHANNEL, GROUP, OTHER_CHANNEL, USER, call, control, file_id, warm

TWO_DAYS = 48 * 3600


async def test_a_channel_shows_itself_as_the_sender_and_a_private_chat_the_bot(sandbox: Sandbox) -> None:
    in_channel = await warm(sandbox, jpeg(1))
    assert in_channel["sender_chat"] == in_channel["chat"]
    assert "from" not in in_channel
    in_private = await warm(sandbox, jpeg(1), chat=USER)
    assert (in_private["from"]["id"], in_private["chat"]["type"]) == (FIRST_BOT, "private")
    assert list(in_private) == ["message_id", "from", "chat", "date", "photo"]


async def test_the_same_photo_by_the_same_bot_is_used_again_and_by_another_bot_is_new(sandbox: Sandbox) -> None:
    unique = [(await warm(sandbox, jpeg(1), bot=bot))["photo"][-1]["file_unique_id"] for bot in (0, 0, 1)]
    assert unique[0] == unique[1] != unique[2]


async def test_any_size_of_a_photo_sends_all_sizes(sandbox: Sandbox) -> None:
    message = await warm(sandbox, jpeg(1, width=640, height=480))
    again = (await call(sandbox, "sendPhoto", chat_id=USER, photo=message["photo"][0]["file_id"])).result
    assert [size["width"] for size in again["photo"]] == [90, 320, 640]


async def test_every_message_has_its_own_file_id_of_the_same_file(sandbox: Sandbox) -> None:
    own = file_id(await warm(sandbox, jpeg(1)))
    sent = [(await call(sandbox, "sendPhoto", chat_id=USER, photo=own)).result["photo"][-1] for _ in range(3)]
    assert len({own, *(size["file_id"] for size in sent)}) == 4
    assert len({size["file_unique_id"] for size in sent}) == 1


async def test_a_forward_crosses_bots_only_through_a_chat_that_both_see(sandbox: Sandbox) -> None:
    for chat in (CHANNEL, GROUP, USER):
        await warm(sandbox, jpeg(1), chat=chat)
    forward: dict[str, Any] = {"bot": 1, "chat_id": USER, "message_id": 1}
    answer = await call(sandbox, "forwardMessage", from_chat_id=CHANNEL, **forward)
    assert answer.result["forward_origin"]["type"] == "channel"
    assert answer.result["forward_from_message_id"] == 1
    for unseen in (GROUP, 999):  # each bot numbers the messages of basic groups and private chats for itself
        gone = await call(sandbox, "forwardMessage", from_chat_id=unseen, **forward)
        assert gone.error == (400, "Bad Request: message to forward not found")
    sandbox.state.chats.declare(CHANNEL, members={FIRST_BOT + 1: "left"})
    left = await call(sandbox, "forwardMessage", from_chat_id=CHANNEL, **forward)
    assert left.error == (403, "Forbidden: bot is not a member of the channel chat")


async def test_protected_content_is_not_forwarded_but_copied(sandbox: Sandbox) -> None:
    own = file_id(await warm(sandbox, jpeg(1)))
    await call(sandbox, "sendPhoto", chat_id=CHANNEL, photo=own, protect_content=True)
    source: dict[str, Any] = {"chat_id": USER, "from_chat_id": CHANNEL, "message_id": 2}
    refused = await call(sandbox, "forwardMessage", **source)
    assert refused.error == (400, "Bad Request: message has protected content and can't be forwarded")
    assert (await call(sandbox, "copyMessage", **source)).result == {"message_id": 1}


async def test_a_copy_may_have_another_caption_and_no_file_id(sandbox: Sandbox) -> None:
    await warm(sandbox, jpeg(1))
    source: dict[str, Any] = {"from_chat_id": CHANNEL, "message_id": 1}
    copied = (await call(sandbox, "copyMessage", bot=1, chat_id=OTHER_CHANNEL, caption="new", **source)).result
    assert copied == {"message_id": 1}
    shown = await call(sandbox, "forwardMessage", chat_id=USER, from_chat_id=OTHER_CHANNEL, message_id=1)
    assert shown.result["caption"] == "new"


async def test_bulk_calls_skip_what_is_gone(sandbox: Sandbox) -> None:
    own = file_id(await warm(sandbox, jpeg(1)))
    for _ in range(2):
        await call(sandbox, "sendPhoto", chat_id=CHANNEL, photo=own, caption="c")
    await call(sandbox, "deleteMessage", chat_id=CHANNEL, message_id=2)
    source: dict[str, Any] = {"chat_id": USER, "from_chat_id": CHANNEL, "message_ids": [1, 2, 3, 9]}
    assert (await call(sandbox, "copyMessages", remove_caption=True, **source)).result == [
        {"message_id": 1},
        {"message_id": 2},
    ]
    assert len((await call(sandbox, "forwardMessages", **source)).result) == 2
    seen = await call(sandbox, "forwardMessage", chat_id=USER, from_chat_id=USER, message_id=2)
    assert "caption" not in seen.result


async def test_nothing_is_deleted_after_two_days(sandbox: Sandbox) -> None:
    for chat in (CHANNEL, USER):
        await call(sandbox, "sendMessage", chat_id=chat, text="x")
    sandbox.state.configure(clock_offset=TWO_DAYS + 10)
    old = await call(sandbox, "deleteMessage", chat_id=CHANNEL, message_id=1)
    assert old.error == (400, "Bad Request: message can't be deleted")
    private = await call(sandbox, "deleteMessages", chat_id=USER, message_ids=[1])
    assert private.error == (400, "Bad Request: message can't be deleted for everyone")
    sandbox.state.configure(clock_offset=TWO_DAYS - 60)
    assert (await call(sandbox, "deleteMessage", chat_id=CHANNEL, message_id=1)).result is True


async def test_anothers_message_is_deleted_only_with_the_right_to(sandbox: Sandbox) -> None:
    await call(sandbox, "sendMessage", chat_id=CHANNEL, text="x")
    sandbox.state.chats.declare(CHANNEL, can_delete=False)
    refused = await call(sandbox, "deleteMessage", bot=1, chat_id=CHANNEL, message_id=1)
    assert refused.error == (400, "Bad Request: message can't be deleted")
    assert (await call(sandbox, "deleteMessage", chat_id=CHANNEL, message_id=1)).result is True


async def test_a_flood_is_a_429_that_sends_nothing(sandbox: Sandbox) -> None:
    own = file_id(await warm(sandbox, jpeg(1)))
    sandbox.state.configure(floods=replace(Floods.telegram(), group_second=None))
    answers = [await call(sandbox, "sendPhoto", chat_id=CHANNEL, photo=own) for _ in range(21)]
    assert [answer.status for answer in answers] == [200] * 20 + [429]
    wait = answers[-1].body["parameters"]["retry_after"]
    assert 50 <= wait <= 60
    assert answers[-1].body["description"] == f"Too Many Requests: retry after {wait}"
    assert answers[-1].headers["Retry-After"] == str(wait)
    assert sandbox.state.stats.chats[CHANNEL] == 21


async def test_a_channel_also_takes_about_one_message_a_second_and_an_album_is_one_call(sandbox: Sandbox) -> None:
    own = file_id(await warm(sandbox, jpeg(1)))
    await control(sandbox, "config", {"floods": {"group_second": {"count": 1, "seconds": 5}}})
    media = [{"type": "photo", "media": own}] * 5
    assert len((await call(sandbox, "sendMediaGroup", chat_id=CHANNEL, media=media)).result) == 5
    refused = await call(sandbox, "sendPhoto", chat_id=CHANNEL, photo=own)
    assert (refused.status, refused.body["parameters"]["retry_after"]) == (429, 5)
    assert (await call(sandbox, "sendPhoto", chat_id=USER, photo=own)).status == 200


async def test_uploads_of_one_size_are_held_back(sandbox_with: SandboxWith) -> None:
    spaced = await sandbox_with(Config(floods=Floods(same_size=True)))
    spaced.state.gate._sizes[FIRST_BOT, 200_000] = 1e12
    files = {"document": ("a.bin", bytes(200_000))}
    answer = await call(spaced, "sendDocument", chat_id=USER, files=files)
    assert answer.error == (429, "Too Many Requests: retry after 60")
    spaced.state.configure(local=True)
    assert (await call(spaced, "sendDocument", chat_id=USER, files=files)).status == 200


async def test_an_overloaded_bot_is_answered_after_the_hold(sandbox_with: SandboxWith) -> None:
    busy = await sandbox_with(Config(floods=Floods(active_uploads=1, hold=0.01)))
    with busy.state.gate.active(FIRST_BOT, 1, 1), busy.state.gate.active(FIRST_BOT, 1, 1):
        files = {"document": ("a.bin", b"some bytes")}
        answer = await call(busy, "sendDocument", chat_id=USER, files=files)
        assert answer.error == (429, "Too Many Requests: retry after 60")
        assert (await call(busy, "sendMessage", chat_id=USER, text="x")).status == 200


async def test_an_album_of_one_is_an_ordinary_message(sandbox: Sandbox) -> None:
    own = file_id(await warm(sandbox, jpeg(1)))
    media = json.dumps([{"type": "photo", "media": own}])
    (message,) = (await call(sandbox, "sendMediaGroup", chat_id=USER, media=media)).result
    assert "media_group_id" not in message


@pytest.mark.parametrize(("keep_media", "left"), [(None, [1, 2, 3, 4, 5]), (2, [4, 5])])
def test_media_are_kept_for_ever_unless_a_limit_says_otherwise(keep_media: int | None, left: list[int]) -> None:
    mail, chat = Mail(keep_texts=0, keep_media=keep_media), default_chat(USER)
    file = File(id=1, kind="video", size=1, sha256=b"")
    for _ in range(5):
        mail.post(chat, 0, Content(1, file, "caption"))
    assert [number for number in range(1, 6) if mail.box(chat, 1).get(USER, number)] == left


def test_old_texts_are_forgotten() -> None:
    mail, chat = Mail(keep_texts=3, keep_media=None), default_chat(USER)
    for _ in range(10):
        mail.post(chat, 0, Content(1, None, "text"))
    assert [number for number in range(1, 11) if mail.box(chat, 1).get(USER, number)] == [8, 9, 10]


@pytest.mark.parametrize("wrong", [0, -1, 2, 1 << 40])
def test_a_message_is_found_only_under_its_own_chat_and_number(wrong: int) -> None:
    mail, chat = Mail(keep_texts=10, keep_media=None), default_chat(USER)
    message = mail.post(chat, 5, Content(1, None, "text"))
    box = mail.box(chat, 1)
    assert box.get(USER, message.id) == message
    assert box.get(USER, wrong) is None
    assert box.get(USER + 1, message.id) is None
    assert mail.box(chat, 2).get(USER, message.id) is None
