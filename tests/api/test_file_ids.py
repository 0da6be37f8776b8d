"""A media item's file id over HTTP, for bots with a framework of their own; and chats by name."""

from __future__ import annotations

from telewarm.sandbox import Sandbox
from tests.api.conftest import SEND, Api
from tests.fixtures.app import READER

CHANNEL = -1_001_000_000_321


async def test_a_file_id_is_waited_for_and_handed_out(warming_api: Api) -> None:
    media_id = await warming_api.add_photo(1)
    answer = await warming_api.client.get(f"/api/admin/media/{media_id}/file-id", params={"wait": 20, "bot": "shop"})
    assert answer.status_code == 200
    reported = answer.json()
    assert (reported["media_id"], reported["bot"], reported["kind"], reported["method"]) == (
        media_id,
        "shop",
        "photo",
        "sendPhoto",
    )
    seen = (await warming_api.client.get(f"/api/admin/media/{media_id}")).json()["media"]["cache"]["file_id"]
    assert reported["file_id"] == seen


async def test_one_that_is_not_there_yet_is_a_409_with_retry_after(api: Api) -> None:
    media_id = await api.add_photo(1)
    for wait in ("0", "0.1"):
        answer = await api.client.get(f"/api/admin/media/{media_id}/file-id?wait={wait}")
        assert (answer.status_code, answer.json()["error"]) == (409, "MEDIA_NOT_READY")
        assert int(answer.headers["Retry-After"]) >= 1


async def test_one_of_another_bot_or_of_none_is_not_found(api: Api) -> None:
    media_id = await api.add_photo(1)
    for path in (f"{media_id}/file-id?bot=other", "999/file-id"):
        assert (await api.client.get(f"/api/admin/media/{path}")).status_code == 404
    assert (await api.client.get(f"/api/admin/media/{media_id}/file-id?wait=61")).status_code == 422


async def test_chats_go_by_name(api: Api, sandbox: Sandbox) -> None:
    sandbox.state.chats.declare(CHANNEL, username="shop_news")
    answer = await api.client.post(SEND, json={"chat_id": "@shop_news", "text": "so"})
    assert answer.status_code == 200, answer.text
    changed = await api.client.put("/api/admin/bots/shop/warmup-chats", json={"warmup_chats": ["@shop_news", READER]})
    assert changed.json()["bot"]["warmup_chats"] == [CHANNEL, READER]
    assert sandbox.state.stats.chats == {CHANNEL: 1}
    unknown = await api.client.post(SEND, json={"chat_id": "@nobody_here", "text": "so"})
    assert (unknown.status_code, "numeric id" in unknown.json()["message"]) == (400, True)
    wrong = await api.client.post(SEND, json={"chat_id": "nobody", "text": "so"})
    assert (wrong.status_code, "chat_id: must be a chat id" in wrong.json()["message"]) == (422, True)
