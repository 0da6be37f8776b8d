"""What was asked is what happens: no field is passed over, Telegram's names are taken, options arrive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from telewarm.sandbox import Sandbox
from telewarm.sandbox.mail import Content
from tests.api.conftest import BOT, MEDIA, SEND, Api
from tests.fixtures.app import READER
from tests.fixtures.media import jpeg, video
from tests.fixtures.sandbox import FIRST_BOT

BROADCASTS = "/api/admin/broadcasts"
PREVIEW = {"is_disabled": True}


def contents(sandbox: Sandbox, answer: Any, chat: int = READER) -> list[Content]:  # noqa: ANN401 - httpx's response
    assert answer.status_code == 200, answer.text
    bot = sandbox.state.bots.open(FIRST_BOT)
    box = sandbox.state.mail.box(sandbox.state.find_chat(bot, str(chat)), bot.id)
    messages = [box.get(chat, one["message_id"]) for one in answer.json()["results"]]
    return [message.content for message in messages if message is not None]


@pytest.mark.parametrize(
    ("path", "body", "field", "meant"),
    [
        (SEND, {"chat_id": READER, "text": "so", "protectcontent": True}, "protectcontent", "protect_content"),
        (SEND, {"chat_id": READER, "text": "so", "nonsense": 1}, "nonsense", "there is"),
        (SEND, {"chat_id": READER, "media": [{"id": 1, "captoin": "x"}]}, "captoin", "caption"),
        (BROADCASTS, {"bot": "shop", "message": {"text": "so"}, "start_on": "2031-01-01"}, "start_on", "start_at"),
        (BROADCASTS, {"bot": "shop", "message": {"text": "so", "silnt": True}}, "silnt", "silent"),
        (f"{BROADCASTS}/1/start", {"startsat": "2031-05-01T09:00:00Z"}, "startsat", "starts_at"),
        (f"{BROADCASTS}/1/test", {"chat_id": 1, "x": 1}, "x", "chat_id"),
        ("/api/admin/bots", {**BOT, "chats": [1]}, "chats", "warmup_chats"),
        ("/api/admin/bots/shop/media/rewarm", {"which": "all", "media_id": [1]}, "media_id", "media_ids"),
        ("/api/admin/bots/shop/media/delete", {"media_ids": [1], "force": True}, "force", "media_ids"),
        ("/api/admin/tokens", {"name": "a", "role": "read", "roles": 1}, "roles", "role"),
        (MEDIA, {"data_base64": "YQ==", "nam": "a"}, "nam", "name"),
    ],
)
async def test_an_unknown_field_is_refused_with_what_may_have_been_meant(
    api: Api, path: str, body: dict[str, Any], field: str, meant: str
) -> None:
    answer = await api.client.post(path, json=body)
    assert answer.status_code == 422, answer.text
    assert repr(field) in answer.json()["message"]
    assert meant in answer.json()["message"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("photo", "photo is the file itself; give a media item in `media`"),
        ("animation", "animation is the file itself"),
        ("disable_web_page_preview", "disable_web_page_preview is said by `link_preview`"),
        ("thumbnail", "thumbnail is said by the warm-up"),
    ],
)
async def test_a_parameter_of_telegram_that_is_ours_is_told_where_it_is_said(api: Api, name: str, words: str) -> None:
    answer = await api.client.post(SEND, json={"chat_id": READER, "text": "so", name: "x"})
    assert answer.status_code == 422, answer.text
    assert words in answer.json()["message"]
    assert "`extra`" not in answer.json()["message"]


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        (SEND, f'{{"chat_id": {READER}, "text": "so", "chat_id": {READER + 1}}}', "chat_id"),
        (SEND, f'{{"chat_id": {READER}, "media": [{{"id": 1, "caption": "a", "caption": "b"}}]}}', "caption"),
        (SEND, f'{{"chat_id": {READER}, "text": "so", "extra": {{"a": 1, "a": 2}}}}', "a"),
        (BROADCASTS, '{"bot": "shop", "bot": "news", "message": {"text": "so"}}', "bot"),
        ("/api/admin/tokens", '{"name": "a", "role": "read", "role": "admin"}', "role"),
    ],
)
async def test_a_field_that_is_there_twice_is_refused(
    api: Api, sandbox: Sandbox, path: str, body: str, name: str
) -> None:
    answer = await api.client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["message"].startswith(f"{name}: it is there more than once")
    assert sandbox.state.stats.total.messages == 0


async def test_an_unknown_field_of_a_preview_url_is_refused(api: Api) -> None:
    answer = await api.client.post(f"/api/admin/media/{await api.add_photo()}/preview-url", json={"second": 60})
    assert answer.status_code == 422, answer.text
    assert "did you mean 'seconds'" in answer.json()["message"]


@pytest.mark.parametrize("said", [0, 1, "yes", None])
async def test_a_flag_is_true_or_false(api: Api, said: object) -> None:
    answer = await api.client.patch(f"/api/admin/media/{await api.add_photo()}", json={"name": "a.jpg", "rewarm": said})
    assert answer.status_code == 422, answer.text
    assert "rewarm" in answer.json()["message"]


async def test_an_unknown_form_field_is_refused(api: Api) -> None:
    files = {"file": ("a.jpg", jpeg(1))}
    answer = await api.client.post(MEDIA, files=files, data={"knd": "photo"})
    assert answer.status_code == 422
    assert "did you mean 'kind'" in answer.json()["message"]
    batch = await api.client.post(f"{MEDIA}/batch", files=files, data={"caption": "so"})
    assert batch.status_code == 422
    assert await api.is_empty()


@pytest.mark.parametrize(
    ("method", "path", "meant"),
    [
        ("GET", f"{MEDIA}?limt=3", "limit"),
        ("GET", f"{MEDIA}?state=ready&sort=name", "there is no query parameter 'sort'"),
        ("GET", f"{BROADCASTS}?bots=shop", "bot"),
        ("GET", "/api/admin/bots/shop?x=1", "there is none"),
        ("POST", f"{SEND}?silent=true", "there is none"),
        ("DELETE", "/api/admin/bots/shop?for_ever=true", "forever"),
    ],
)
async def test_an_unknown_query_parameter_is_refused(api: Api, method: str, path: str, meant: str) -> None:
    body = {"chat_id": READER, "text": "so"} if method == "POST" else None
    answer = await api.client.request(method, path, json=body)
    assert answer.status_code == 422, answer.text
    assert meant in answer.json()["message"]


@pytest.mark.parametrize("path", [f"{MEDIA}?limit=3&limit=4", f"{BROADCASTS}?bot=shop&bot=news"])
async def test_a_query_parameter_that_is_there_twice_is_refused(api: Api, path: str) -> None:
    answer = await api.client.get(path)
    assert answer.status_code == 422, answer.text
    assert "more than once" in answer.json()["message"]


async def test_a_list_in_a_query_may_be_repeated(api: Api) -> None:
    answer = await api.client.get("/api/admin/events.json?types=media&types=bot")
    assert answer.status_code == 200, answer.text


async def test_a_form_field_that_is_there_twice_is_refused(api: Api) -> None:
    files = [("file", ("a.jpg", jpeg(1))), ("kind", (None, b"photo")), ("kind", (None, b"document"))]
    answer = await api.client.post(MEDIA, files=files)
    assert answer.status_code == 422
    assert "kind: the form has it twice" in answer.json()["message"]
    assert await api.is_empty()


async def test_a_parameter_of_telegram_without_a_field_is_told_where_it_goes(api: Api) -> None:
    body = {"chat_id": READER, "text": "so", "business_connection_id": "b1"}
    answer = await api.client.post(SEND, json=body)
    assert answer.status_code == 422
    assert "goes into `extra`" in answer.json()["message"]


async def test_a_reply_to_a_message_that_is_gone(api: Api) -> None:
    """Refused in Telegram's words, unless it may go without."""
    body = {"chat_id": READER, "text": "so"}
    first = (await api.client.post(SEND, json=body)).json()["results"][0]["message_id"]
    there = await api.client.post(SEND, json={**body, "reply_to": first})
    assert there.status_code == 200, there.text
    gone = {**body, "reply_to": 999}
    refused = await api.client.post(SEND, json=gone)
    assert (refused.status_code, "message to be replied not found" in refused.json()["message"]) == (422, True)
    assert (await api.client.post(SEND, json={**gone, "allow_sending_without_reply": True})).status_code == 200


async def test_telegrams_own_names_are_taken(api: Api, sandbox: Sandbox) -> None:
    body = {
        "chat_id": READER,
        "text": "https://example.org",
        "disable_notification": True,
        "link_preview_options": PREVIEW,
        "message_effect_id": "5046509860389126442",
        "protect_content": True,
        "reply_parameters": {"message_id": 1},
        "allow_sending_without_reply": True,
        "reply_markup": {"inline_keyboard": [[{"text": "Open", "url": "https://example.org"}]]},
    }
    [content] = contents(sandbox, await api.client.post(SEND, json=body))
    shown = dict(content.extras)
    assert shown["link_preview_options"] == PREVIEW
    assert shown["effect_id"] == "5046509860389126442"
    assert {"reply_markup", "has_protected_content"} <= shown.keys()


async def test_both_names_of_one_field_are_refused(api: Api) -> None:
    body = {"chat_id": READER, "text": "so", "silent": True, "disable_notification": False}
    answer = await api.client.post(SEND, json=body)
    assert answer.status_code == 422
    assert "another name of silent" in answer.json()["message"]


@pytest.mark.parametrize("name", ["start_at", "starts_at"])
async def test_a_start_time_by_either_name_is_a_start_time(api: Api, name: str) -> None:
    made = await api.client.post(BROADCASTS, json={"bot": "shop", "message": {"text": "so"}, "rate": 5})
    [broadcast] = made.json()["broadcasts"]
    assert broadcast["per_second"] == 5
    await api.client.post(f"{BROADCASTS}/{broadcast['id']}/recipients", content=b"chat_id\n500000001\n")
    answer = await api.client.post(f"{BROADCASTS}/{broadcast['id']}/start", json={name: "2031-05-01T09:00:00Z"})
    assert answer.json()["broadcast"]["starts_at"].startswith("2031-05-01")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("off", {"is_disabled": True}),
        (False, {"is_disabled": True}),
        ("above,large", {"show_above_text": True, "prefer_large_media": True}),
        ({"small": True, "url": "https://example.org"}, {"prefer_small_media": True, "url": "https://example.org"}),
    ],
)
async def test_a_link_preview_is_as_it_was_asked_for(api: Api, sandbox: Sandbox, said: object, shown: object) -> None:
    [content] = contents(
        sandbox, await api.client.post(SEND, json={"chat_id": 7, "text": "so", "link_preview": said}), 7
    )
    assert dict(content.extras)["link_preview_options"] == shown


async def test_a_parse_mode_of_the_set_formats_the_captions_that_have_none(api: Api, sandbox: Sandbox) -> None:
    ids = [await api.add_photo(seed) for seed in range(3)]
    media = [
        {"id": ids[0], "caption": "<b>New</b>"},
        {"id": ids[1], "caption": "<b>New</b>", "parse_mode": "none"},
        {"id": ids[2], "caption": "*New*", "parse_mode": "MarkdownV2"},
    ]
    for album in (False, True):
        body = {"chat_id": READER, "media": media, "parse_mode": "HTML", "album": album}
        shown = contents(sandbox, await api.client.post(SEND, json=body))
        assert [content.text for content in shown] == ["New", "<b>New</b>", "New"]


async def test_the_order_given_is_kept_when_asked_for(api: Api, tmp_path: Path) -> None:
    photo, other = await api.add_photo(1), await api.add_photo(2)
    film = (await api.client.post(MEDIA, content=video(tmp_path / "a.mp4").read_bytes())).json()["media_id"]
    for album in (False, True):
        body = {"chat_id": READER, "media": [photo, film, other], "order": "as_given", "album": album}
        answer = await api.client.post(SEND, json=body)
        assert [one["media_id"] for one in answer.json()["results"]] == [photo, film, other]


async def test_other_parameters_of_the_bot_api_are_passed_on(api: Api, sandbox: Sandbox) -> None:
    photo = await api.add_photo(1)
    body = {
        "chat_id": READER,
        "media": [{"id": photo, "extra": {"start_timestamp": 5}}],
        "text": "so",
        "extra": {"business_connection_id": "b1", "suggested_post_parameters": {"price": {"amount": 5}}},
    }
    for _ in range(2):  # with the bytes, and by file id
        shown = [dict(content.extras) for content in contents(sandbox, await api.client.post(SEND, json=body))]
        assert [one["business_connection_id"] for one in shown] == ["b1", "b1"]
        assert [one["suggested_post_info"] for one in shown] == [{"price": {"amount": 5}}] * 2
        assert [one.get("start_timestamp") for one in shown] == ["5", None]


@pytest.mark.parametrize(
    "extra",
    [{"chat_id": 5}, {"photo": "x"}, {"reply_markup": {}}, {"cover": "attach://x"}, {"disable_notification": True}],
)
async def test_parameters_that_are_ours_are_refused_in_extra(api: Api, sandbox: Sandbox, extra: dict[str, Any]) -> None:
    answer = await api.client.post(SEND, json={"chat_id": READER, "text": "so", "extra": extra})
    assert answer.status_code == 400
    assert next(iter(extra)) in answer.json()["message"]
    assert sandbox.state.stats.total.messages == 0


async def test_a_photo_goes_as_a_file_when_asked_for(api: Api, sandbox: Sandbox) -> None:
    photo = await api.add_photo(1)
    body = {"chat_id": READER, "media": [photo], "as_file": True}
    [content] = contents(sandbox, await api.client.post(SEND, json=body))
    assert content.file is not None
    assert content.file.kind == "document"
    again = await api.client.post(SEND, json=body | {"media": [{"id": photo, "as_file": True}], "as_file": False})
    assert (again.json()["results"][0]["kind"], again.json()["results"][0]["cache_hit"]) == ("document", True)


async def test_all_options_of_a_broadcast_survive_and_arrive(api: Api, sandbox: Sandbox) -> None:
    photo = await api.add_photo(1)
    message = {
        "media": [{"id": photo, "extra": {"start_timestamp": 5}}],
        "text": "so",
        "link_preview": "off",
        "effect": "1",
        "has_spoiler": True,
        "extra": {"business_connection_id": "b1"},
    }
    made = await api.client.post(BROADCASTS, json={"bot": "shop", "message": message})
    answer = await api.client.post(f"{BROADCASTS}/{made.json()['broadcasts'][0]['id']}/test", json={"chat_id": READER})
    picture, text = (dict(content.extras) for content in contents(sandbox, answer))
    assert picture == {
        "start_timestamp": "5",
        "effect_id": "1",
        "has_media_spoiler": True,
        "business_connection_id": "b1",
    }
    assert text == {"link_preview_options": PREVIEW, "business_connection_id": "b1"}


@pytest.mark.parametrize("parse_mode", [None, "HTML"])
async def test_a_caption_that_is_too_long_uploads_nothing(api: Api, sandbox: Sandbox, parse_mode: str | None) -> None:
    added = await api.client.post(MEDIA, content=bytes(3 << 20), params={"kind": "document"})
    body = {"chat_id": READER, "media": [added.json()["media_id"]], "caption": "x" * 1025, "parse_mode": parse_mode}
    answer = await api.client.post(SEND, json=body)
    assert answer.status_code == 422
    assert "at most 1024 characters, and this has 1025" in answer.json()["message"]
    assert sandbox.state.stats.total.upload_bytes == 0
