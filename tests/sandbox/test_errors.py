"""Telegram's words and their order (facts 4.3 to 4.5)."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from telewarm.sandbox import Config, Floods, Limit, Sandbox
from telewarm.sandbox.errors import ApiError
from tests.fixtures.media import jpeg
from tests.fixtures.sandbox import FIRST_BOT, SandboxWith, token
from tests.sandbox.client import CHANNEL, GROUP, USER, call, file_id, warm

UNCLOSED = "can't parse entities: Can't find end tag corresponding to start tag \"b\""
PDF = {"document": ("a.pdf", b"%PDF-1.7 and more")}
UNIQUE = "AgADAQADpqkxG1r0iEY"


async def get(sandbox: Sandbox, path: str) -> tuple[int, object]:
    async with aiohttp.ClientSession() as session, session.get(sandbox.url + path) as response:
        return response.status, await response.json()


def refused(code: int, description: str) -> tuple[int, object]:
    return code, {"ok": False, "error_code": code, "description": description}


@pytest.mark.parametrize(
    ("path", "code", "description"),
    [
        ("/", 404, "Not Found"),
        ("/bot", 404, "Not Found"),
        ("/bot123/getMe", 404, "Not Found"),
        ("/bot0123:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/getMe", 404, "Not Found"),
        (f"/bot{1 << 54}:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/getMe", 404, "Not Found"),
        ("/bot123:short/getMe", 401, "Unauthorized"),
        (f"/bot{token(0)}/getNothing", 404, "Not Found: method not found"),
        (f"/file/bot{token(0)}/photos/file_1.jpg", 404, "Not Found"),
    ],
)
async def test_a_wrong_path_is_refused_as_the_hosted_server_does(
    sandbox: Sandbox, path: str, code: int, description: str
) -> None:
    assert await get(sandbox, path) == refused(code, description)


async def test_a_local_server_words_bad_tokens_otherwise(sandbox_with: SandboxWith) -> None:
    local = await sandbox_with(Config(local=True))
    assert await get(local, "/bot123/getMe") == refused(401, "Unauthorized: invalid token specified")
    assert await get(local, "/botabc:d/getMe") == refused(421, "Misdirected Request: unallowed token specified")


async def test_a_second_secret_for_a_known_bot_is_unauthorized(sandbox: Sandbox) -> None:
    assert (await call(sandbox, "getMe")).status == 200
    assert await get(sandbox, f"/bot{FIRST_BOT}:{'B' * 35}/getMe") == refused(401, "Unauthorized")
    sandbox.state.bots.renew(FIRST_BOT)
    assert (await get(sandbox, f"/bot{FIRST_BOT}:{'B' * 35}/getMe"))[0] == 200


async def test_only_declared_bots_count_if_asked(sandbox_with: SandboxWith) -> None:
    strict = await sandbox_with(Config(declared_bots_only=True))
    assert (await call(strict, "getMe")).error == (401, "Unauthorized")
    strict.state.bots.open(FIRST_BOT).declared = True
    assert (await call(strict, "getMe")).status == 200


async def test_a_bot_that_logged_out_is_told_so(sandbox: Sandbox) -> None:
    assert (await call(sandbox, "logOut")).result is True
    assert (await call(sandbox, "getMe")).error == (400, "Logged out")


async def test_a_young_server_is_not_closed(sandbox: Sandbox) -> None:
    young = await call(sandbox, "close")
    assert 590 < young.body["parameters"]["retry_after"] <= 600
    sandbox.state.started -= 600
    assert (await call(sandbox, "close")).result is True


async def test_new_bots_are_counted_once_each(sandbox: Sandbox) -> None:
    sandbox.state.configure(floods=Floods(new_bots=(Limit(count=2, seconds=60),)))
    statuses = [(await call(sandbox, "getMe", bot=bot)).status for bot in (0, 1, 0, 1, 2)]
    assert statuses == [200, 200, 200, 200, 429]


async def test_method_names_come_in_any_case_or_as_a_parameter(sandbox: Sandbox) -> None:
    assert (await call(sandbox, "GETME")).status == 200
    assert (await get(sandbox, f"/bot{token(0)}/?method=getMe"))[0] == 200


async def test_a_send_that_is_wrong_in_every_way_is_refused_in_telegrams_order(sandbox: Sandbox) -> None:
    """Each step removes the fault that was named before, so the next one shows."""
    sandbox.state.chats.declare(USER, restricted={"video"}, blocked=True)
    own = file_id(await warm(sandbox, jpeg(1)))
    wrong: dict[str, Any] = {"chat_id": 5, "parse_mode": "XML", "caption": "c"}
    sandbox.state.chats.declare(5, exists=False)
    steps = [
        (wrong, "there is no video in the request"),
        ({"video": own}, "unsupported parse_mode"),
        (
            {"parse_mode": "HTML", "caption": "<b>c"},
            UNCLOSED,
        ),
        ({"caption": "c" * 1025}, "chat not found"),
        ({"chat_id": USER}, "can't use file of type Photo as Video"),
        ({"video": "a.b:0"}, "invalid file HTTP URL specified: Wrong port number specified in the URL"),
        ({"video": "http://nowhere.test/a.mp4"}, "message caption is too long"),
        ({"caption": "c"}, "not enough rights to send videos to the chat"),
    ]
    params: dict[str, Any] = {}
    for change, description in steps:
        params |= change
        assert (await call(sandbox, "sendVideo", **params)).error == (400, f"Bad Request: {description}")
    sandbox.state.chats.declare(USER, restricted=set())
    answer = await call(sandbox, "sendVideo", **params)
    assert answer.error == (400, "Bad Request: failed to get HTTP URL content")
    params["video"] = (await call(sandbox, "sendDocument", chat_id=CHANNEL, files={"document": ("a", b"x")})).result[
        "document"
    ]["file_id"]
    assert (await call(sandbox, "sendVideo", **params)).error == (403, "Forbidden: bot was blocked by the user")


@pytest.mark.parametrize(
    ("changes", "code", "description"),
    [
        ({"exists": False}, 400, "Bad Request: chat not found"),
        ({"others": "kicked"}, 403, "Forbidden: bot was kicked from the group chat"),
        ({"others": "left"}, 403, "Forbidden: bot is not a member of the group chat"),
        ({"others": "left", "type": "supergroup"}, 403, "Forbidden: bot is not a member of the supergroup chat"),
        ({"deleted": True}, 403, "Forbidden: the group chat was deleted"),
        ({"can_post": False, "type": "channel"}, 400, "Bad Request: need administrator rights in the channel chat"),
        ({"write_access": False}, 400, "Bad Request: have no write access to the chat"),
        ({"restricted": {"text"}}, 400, "Bad Request: not enough rights to send text messages to the chat"),
    ],
)
async def test_a_group_refuses_in_telegrams_words(
    sandbox: Sandbox, changes: dict[str, object], code: int, description: str
) -> None:
    sandbox.state.chats.declare(GROUP, **changes)
    assert (await call(sandbox, "sendMessage", chat_id=GROUP, text="x")).error == (code, description)


@pytest.mark.parametrize(
    ("changes", "description"),
    [
        ({"deactivated": True}, "Forbidden: user is deactivated"),
        ({"blocked_bots": {FIRST_BOT}}, "Forbidden: bot was blocked by the user"),
        ({"never_started": True}, "Forbidden: bot can't initiate conversation with a user"),
    ],
)
async def test_a_user_refuses_in_telegrams_words(
    sandbox: Sandbox, changes: dict[str, object], description: str
) -> None:
    sandbox.state.chats.declare(USER, **changes)
    assert (await call(sandbox, "sendMessage", chat_id=USER, text="x")).error == (403, description)
    assert sandbox.state.stats.total.messages == 0


async def test_a_bot_cannot_write_to_a_bot(sandbox: Sandbox) -> None:
    await call(sandbox, "getMe", bot=1)
    answer = await call(sandbox, "sendMessage", chat_id=FIRST_BOT + 1, text="x")
    assert answer.error == (403, "Forbidden: the bot can't send messages to the bot")


async def test_an_upgraded_group_names_its_successor(sandbox: Sandbox) -> None:
    sandbox.state.chats.declare(GROUP, migrated_to=CHANNEL)
    answer = await call(sandbox, "sendMessage", chat_id=GROUP, text="x")
    assert answer.error == (400, "Bad Request: group chat was upgraded to a supergroup chat")
    assert answer.body["parameters"] == {"migrate_to_chat_id": CHANNEL}


async def test_a_declared_name_is_a_chat_id_and_any_other_is_not(sandbox: Sandbox) -> None:
    sandbox.state.chats.declare(CHANNEL, username="Storage")
    assert (await call(sandbox, "sendMessage", chat_id="@storage", text="x")).result["chat"]["id"] == CHANNEL
    for chat in ("@nobody", "nonsense"):
        answer = await call(sandbox, "sendMessage", chat_id=chat, text="x")
        assert answer.error == (400, "Bad Request: chat not found")


async def test_a_sick_file_id_is_refused_according_to_what_is_wrong_with_it(sandbox: Sandbox) -> None:
    own = file_id(await warm(sandbox, jpeg(1)))
    foreign = file_id(await warm(sandbox, jpeg(2), bot=1))
    sandbox.state.files.killed.add(own)
    wrong = "Bad Request: wrong file identifier/HTTP URL specified"
    for text, description in (
        (own, wrong),
        (foreign, wrong),
        (UNIQUE, "Bad Request: wrong remote file identifier specified: can't unserialize it. Wrong last symbol"),
        ("!!", "Bad Request: wrong remote file identifier specified: Wrong character in the string"),
        ("ftp://a.b/c", "Bad Request: invalid file HTTP URL specified: Unsupported URL protocol"),
        ("file:///etc/hosts.txt", "Bad Request: invalid file HTTP URL specified: Unsupported URL protocol"),
    ):
        assert (await call(sandbox, "sendPhoto", chat_id=USER, photo=text)).error == (400, description)
    assert (await call(sandbox, "getFile", file_id="!!")).error == (400, "Bad Request: invalid file_id")
    assert (await call(sandbox, "getFile")).error == (400, "Bad Request: file_id not specified")
    gone = "Bad Request: wrong file_id or the file is temporarily unavailable"
    assert (await call(sandbox, "getFile", file_id=own)).error == (400, gone)


async def test_a_thumbnail_cannot_be_sent_again(sandbox: Sandbox) -> None:
    files = {"document": ("a.pdf", b"%PDF-1.7 and more"), "thumbnail": ("t.jpg", jpeg(1, width=100, height=90))}
    message = (await call(sandbox, "sendDocument", chat_id=USER, files=files)).result
    thumbnail = message["document"]["thumbnail"]
    assert message["document"]["thumb"] == thumbnail
    answer = await call(sandbox, "sendPhoto", chat_id=USER, photo=thumbnail["file_id"])
    assert answer.error == (400, "Bad Request: can't use file of type Thumbnail as Photo")


async def test_a_document_kind_sent_as_another_keeps_its_own_unless_the_server_is_old(sandbox: Sandbox) -> None:
    message = (await call(sandbox, "sendDocument", chat_id=USER, files=PDF)).result
    own = message["document"]["file_id"]
    assert "document" in (await call(sandbox, "sendVideo", chat_id=USER, video=own)).result
    sandbox.state.configure(strict_kinds=True)
    answer = await call(sandbox, "sendVideo", chat_id=USER, video=own)
    assert answer.error == (400, "Bad Request: type of file mismatch")


@pytest.mark.parametrize(
    ("method", "field", "name", "size", "description"),
    [
        ("sendDocument", "document", "a.bin", 0, "file must be non-empty"),
        (
            "sendPhoto",
            "photo",
            "a.jpg",
            (10 << 20) + 1,
            "file of size 10485761 bytes is too big for a photo; the maximum size is 10485760 bytes",
        ),
        (
            "sendVideoNote",
            "video_note",
            "a.mp4",
            (12 << 20) + 1,
            "file of size 12582913 bytes is too big for a video note; the maximum size is 12582912 bytes",
        ),
        ("sendPhoto", "photo", "a.jpg", 500, "IMAGE_PROCESS_FAILED"),
        (
            "sendPhoto",
            "photo",
            "a.txt",
            500,
            "photo has unsupported extension. Use one of .jpg, .jpeg, .gif, .png, .tif or .bmp",
        ),
    ],
)
async def test_an_upload_that_breaks_a_rule_is_refused(  # noqa: PLR0917  (one row a case)
    sandbox: Sandbox, method: str, field: str, name: str, size: int, description: str
) -> None:
    answer = await call(sandbox, method, chat_id=USER, files={field: (name, bytes(size))})
    assert answer.error == (400, f"Bad Request: {description}")


@pytest.mark.parametrize(("width", "height"), [(9000, 1001), (2100, 100)])
async def test_a_photo_of_bad_proportions_is_refused(sandbox: Sandbox, width: int, height: int) -> None:
    picture = jpeg(1, width=width, height=height)
    answer = await call(sandbox, "sendPhoto", chat_id=USER, files={"photo": ("a.jpg", picture)})
    assert answer.error == (400, "Bad Request: PHOTO_INVALID_DIMENSIONS")


async def test_a_thumbnail_past_its_size_is_refused(sandbox: Sandbox) -> None:
    files = {"document": ("a.pdf", b"%PDF-1.7 and more"), "thumbnail": ("t.jpg", bytes(204_800))}
    answer = await call(sandbox, "sendDocument", chat_id=USER, files=files)
    words = "file of size 204800 bytes is too big for a thumbnail; the maximum size is 204799 bytes"
    assert answer.error == (400, f"Bad Request: {words}")


@pytest.mark.parametrize(
    ("media", "description"),
    [
        ("", 'parameter "media" is required'),
        ("{", "can't parse media JSON object"),
        ({}, "expected an Array of InputMedia"),
        ([], "there are no messages to send"),
        ([1], "can't parse InputMedia: expected an Object"),
        ([{"type": "photo"}], "can't parse InputMedia: media not found"),
        ([{"type": "photo", "media": "attach://x"}], "can't parse InputMedia: media not found"),
        ([{"type": "voice", "media": "x"}], "can't parse InputMedia: type \"voice\" can't be used in sendMediaGroup"),
        ([{"type": "poem", "media": "x"}], 'can\'t parse InputMedia: type "poem" is unsupported'),
        ([{"type": "photo", "media": "x"}] * 11, "too many messages to send as an album"),
        (
            [{"type": "photo", "media": "x"}, {"type": "document", "media": "x"}],
            "document can't be mixed with other media types",
        ),
        (
            [{"type": "photo", "media": "x", "show_caption_above_media": True}, {"type": "photo", "media": "x"}],
            "parameter show_caption_above_media must be the same for all messages",
        ),
    ],
)
async def test_an_album_that_breaks_a_rule_is_refused(sandbox: Sandbox, media: object, description: str) -> None:
    answer = await call(sandbox, "sendMediaGroup", chat_id=USER, media=media)
    assert answer.error == (400, f"Bad Request: {description}")


async def test_an_album_names_the_item_that_failed_and_sends_none(sandbox: Sandbox) -> None:
    own, foreign = file_id(await warm(sandbox, jpeg(1))), file_id(await warm(sandbox, jpeg(2), bot=1))
    media = [{"type": "photo", "media": own}, {"type": "photo", "media": foreign}]
    answer = await call(sandbox, "sendMediaGroup", chat_id=USER, media=json.dumps(media))
    inner = '"Wrong file identifier/HTTP URL specified"'
    assert answer.error == (400, f"Bad Request: failed to send message #2 with the error message {inner}")
    assert sandbox.state.stats.chats[USER] == 0


@pytest.mark.parametrize(
    ("method", "params", "description"),
    [
        ("sendMessage", {"text": "x"}, "chat_id is empty"),
        ("sendMessage", {"chat_id": 5}, "message text is empty"),
        ("sendMessage", {"chat_id": 5, "text": "x" * 4097}, "message is too long"),
        ("sendMessage", {"chat_id": 5, "text": "é" * 16385}, "text is too long"),
        (
            "sendMessage",
            {"chat_id": 5, "text": "x", "reply_markup": "1"},
            "object expected as reply markup",
        ),
        ("forwardMessage", {"chat_id": 5, "message_id": 1}, 'parameter "from_chat_id" is required'),
        ("forwardMessage", {"chat_id": 5, "from_chat_id": 6, "message_id": 1}, "message to forward not found"),
        ("copyMessage", {"chat_id": 5, "from_chat_id": 6, "message_id": 1}, "message to copy not found"),
        ("forwardMessages", {"chat_id": 5, "from_chat_id": 6, "message_ids": [1]}, "messages can't be forwarded"),
        (
            "copyMessages",
            {"chat_id": 5, "from_chat_id": 6, "message_ids": [2, 2]},
            "message identifiers must be in a strictly increasing order",
        ),
        (
            "copyMessages",
            {"chat_id": 5, "from_chat_id": 6, "message_ids": list(range(101))},
            "too many message identifiers specified",
        ),
        ("deleteMessages", {"chat_id": 5}, "message identifiers are not specified"),
        ("deleteMessage", {}, "chat identifier is not specified"),
        ("deleteMessage", {"chat_id": 5}, "message identifier is not specified"),
        ("deleteMessage", {"chat_id": 5, "message_id": 1}, "message to delete not found"),
        ("sendVideoNote", {"chat_id": 5, "video_note": "x", "length": 641}, "wrong video note length"),
        ("sendVideoNote", {"chat_id": 5}, "there is no video note in the request"),
        ("getChat", {}, "chat_id is empty"),
        ("getChatMember", {"chat_id": 5}, "invalid user_id specified"),
        ("getChatMember", {"chat_id": -5, "user_id": 7}, "member not found"),
    ],
)
async def test_parameters_are_refused_in_telegrams_words(
    sandbox: Sandbox, method: str, params: dict[str, Any], description: str
) -> None:
    assert (await call(sandbox, method, **params)).error == (400, f"Bad Request: {description}")


def test_capitals_at_the_start_stay_only_in_names_of_errors() -> None:
    assert ApiError(400, "Wrong padding").description == "Bad Request: wrong padding"
    assert ApiError(400, "PHOTO_INVALID_DIMENSIONS").description == "Bad Request: PHOTO_INVALID_DIMENSIONS"
    assert ApiError(502, "").description == "Bad Gateway"
