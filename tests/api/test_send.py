"""Send now, over HTTP."""

from __future__ import annotations

import pytest

from telewarm.model import MediaId
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from tests.api.conftest import ADMIN, BEARER, SEND, Api, client_of, refusal
from tests.fixtures.app import READER, Opener, until_ready
from tests.fixtures.sandbox import FIRST_BOT, token


async def test_a_warm_item_goes_by_its_file_id(warming_api: Api, sandbox: Sandbox) -> None:
    media_id = await warming_api.add_photo()
    await until_ready(warming_api.telewarm, MediaId(media_id))
    await warming_api.client.post(SEND, json={"chat_id": READER, "media": [media_id]})
    answer = await warming_api.client.post(SEND, json={"chat_id": READER, "media": [media_id], "caption": "a cat"})
    assert answer.status_code == 200
    assert answer.json()["ok"] is True
    [result] = answer.json()["results"]
    assert (result["kind"], result["cache_hit"]) == ("photo", True)
    assert result["message_id"] > 0
    assert 0 <= result["lat_ms"] < 20_000
    assert sandbox.state.stats.total.uploads == 1


async def test_a_cold_item_goes_with_its_bytes_and_is_warm_from_then_on(api: Api, sandbox: Sandbox) -> None:
    media_id = await api.add_photo()
    first, second = [await api.client.post(SEND, json={"chat_id": READER, "media": [media_id]}) for _ in range(2)]
    assert [one.json()["results"][0]["cache_hit"] for one in (first, second)] == [False, True]
    assert sandbox.state.stats.total.uploads == 1
    assert sandbox.state.stats.chats[READER] == 2


@pytest.mark.parametrize("media", [{}, {"media": None}, {"media": []}])
async def test_text_alone_is_a_send(api: Api, media: dict[str, object]) -> None:
    answer = await api.client.post(SEND, json={"chat_id": READER, "text": "привет 🐈", **media})
    [result] = answer.json()["results"]
    assert (answer.status_code, result["kind"], result["cache_hit"]) == (200, "text", False)


async def test_text_comes_after_the_media(api: Api) -> None:
    answer = await api.client.post(SEND, json={"chat_id": READER, "media": [await api.add_photo()], "text": "so"})
    assert [result["kind"] for result in answer.json()["results"]] == ["photo", "text"]


async def test_an_item_that_is_not_warm_is_a_409_when_the_caller_does_not_wait(api: Api) -> None:
    body = {"chat_id": READER, "media": [await api.add_photo()], "on_cold": "fail"}
    answer = await api.client.post(SEND, json=body)
    refusal(answer, 409, "MEDIA_NOT_READY")
    assert int(answer.headers["retry-after"]) >= 1


async def test_limits_that_are_used_up_are_a_429_that_says_when_to_come_back(telewarm_with: Opener) -> None:
    telewarm = await telewarm_with(
        worker=False,
        ADMIN_API_TOKEN=ADMIN,
        TELEWARM_FLOOD_PRIVATE_PER_SECOND="0.001",
        TELEWARM_FLOOD_PRIVATE_BURST="1",
    )
    async with client_of(telewarm.api(), **BEARER) as client:
        api = Api(client, telewarm)
        await api.add_bot()
        first, second = [await client.post(SEND, json={"chat_id": READER, "text": "so"}) for _ in range(2)]
    assert first.status_code == 200
    refusal(second, 429, "FLOOD_WAIT")
    assert 900 <= int(second.headers["retry-after"]) <= 1001


async def test_a_part_that_fails_is_told_beside_those_that_went(api: Api, sandbox: Sandbox) -> None:
    sandbox.state.faults.add(Rule(action="error", method="sendMessage", code=400, description="Bad Request: so not"))
    answer = await api.client.post(SEND, json={"chat_id": READER, "media": [await api.add_photo()], "text": "so"})
    assert (answer.status_code, answer.json()["ok"]) == (200, True)
    photo, text = answer.json()["results"]
    assert "error" not in photo
    assert (text["error"], text["message_id"]) == ("TELEGRAM_BAD_REQUEST", None)
    assert "so not" in text["message"]


async def test_a_send_of_which_nothing_went_has_the_status_of_its_first_error(api: Api, sandbox: Sandbox) -> None:
    sandbox.state.chats.declare(READER, blocked=True)
    answer = await api.client.post(SEND, json={"chat_id": READER, "text": "so"})
    refusal(answer, 403, "CHAT_UNREACHABLE")
    assert answer.json()["results"][0]["error"] == "CHAT_UNREACHABLE"


async def test_a_token_revoked_meanwhile_is_told_without_the_token(api: Api, sandbox: Sandbox) -> None:
    sandbox.state.bots.open(FIRST_BOT).revoked = True
    answer = await api.client.post(SEND, json={"chat_id": READER, "text": "so"})
    refusal(answer, 422, "TOKEN_REFUSED")
    assert token(0).partition(":")[2] not in answer.text


async def test_media_of_another_bot_are_a_404(api: Api) -> None:
    other = {"slug": "news", "token": token(1), "warmup_chats": [-1007]}
    await api.client.post("/api/admin/bots", json=other)
    body = {"chat_id": READER, "media": [await api.add_photo()]}
    refusal(await api.client.post("/api/admin/bots/news/send", json=body), 404, "NOT_FOUND")


@pytest.mark.parametrize("body", [{}, {"text": ""}, {"media": []}, {"text": None}, {"caption": "of nothing"}])
async def test_a_send_of_nothing_is_refused(api: Api, body: dict[str, object]) -> None:
    answer = await api.client.post(SEND, json={"chat_id": READER, **body})
    assert "give media" in refusal(answer, 400, "BAD_REQUEST")


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"chat_id": None}, "chat_id"),
        ({"chat_id": 2**63}, "chat_id"),
        ({"chat_id": "@channel"}, "chat_id"),
        ({"media": [0]}, "media.0"),
        ({"media": [2**63]}, "media.0"),
        ({"media": [1] * 11}, "media"),
        ({"media": "1"}, "media"),
        ({"text": "x" * 4097}, "text"),
        ({"text": {"so": 1}}, "text"),
        ({"caption": "x" * 4097}, "caption"),
        ({"on_cold": "freeze"}, "on_cold"),
    ],
)
async def test_a_field_that_does_not_fit_is_named(api: Api, changed: dict[str, object], field: str) -> None:
    answer = await api.client.post(SEND, json={"chat_id": READER, "text": "so", **changed})
    assert refusal(answer, 422, "BAD_REQUEST").startswith(f"{field}: ")
