"""Send now, over HTTP."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from telewarm.api.routes.send import STATUS_BY_CODE, SendResponse
from telewarm.api.schemas.messages import MessageIn, message_of
from telewarm.errors import UsageError
from telewarm.models import MediaId, MessageSet, Part
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


async def test_a_whole_number_may_be_written_as_a_fraction(api: Api) -> None:
    media_id = await api.add_photo()
    answer = await api.client.post(SEND, json={"chat_id": float(READER), "media": [float(media_id)]})
    assert answer.json()["results"][0]["media_id"] == media_id


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


async def test_a_media_item_that_fails_has_no_kind_and_the_answer_is_as_documented(api: Api, sandbox: Sandbox) -> None:
    sandbox.state.faults.add(Rule(action="error", method="sendPhoto", code=400, description="Bad Request: so not"))
    body = {"chat_id": READER, "media": [await api.add_photo()], "text": "so"}
    photo, text = SendResponse.model_validate((await api.client.post(SEND, json=body)).json()).results
    assert (photo.kind, photo.error, text.kind) == (None, "TELEGRAM_BAD_REQUEST", "text")


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
        ({"chat_id": "channel"}, "chat_id"),
        ({"media": [0]}, "media.0"),
        ({"media": [2**63]}, "media.0"),
        ({"media": [True]}, "media.0"),
        ({"media": [{"id": "x"}]}, "media.0.id"),
        ({"media": [{"id": 0}]}, "media.0.id"),
        ({"media": [{"id": True}]}, "media.0.id"),
        ({"media": [1, {"id": 2, "caption": "x" * 1025}]}, "media.1.caption"),
        ({"media": [1] * 11}, "media"),
        ({"media": "1"}, "media"),
        ({"text": "x" * 4097}, "text"),
        ({"text": "x" * 16_385, "parse_mode": "HTML"}, "text"),
        ({"text": {"so": 1}}, "text"),
        ({"caption": "x" * 1025, "media": [1]}, "caption"),
        ({"entities": {}}, "entities"),
        ({"reply_markup": []}, "reply_markup"),
        ({"reply_to_message_id": 0}, "reply_to_message_id"),
        ({"message_thread_id": "x"}, "message_thread_id"),
        ({"reply_to_message_id": True}, "reply_to_message_id"),
        ({"patience_ms": -1}, "patience_ms"),
        ({"patience_ms": True}, "patience_ms"),
        ({"on_cold": "freeze"}, "on_cold"),
        ({"silent": 0}, "silent"),
        ({"media": [17.5]}, "media.0"),
    ],
)
async def test_a_field_that_does_not_fit_is_named(api: Api, changed: dict[str, object], field: str) -> None:
    answer = await api.client.post(SEND, json={"chat_id": READER, "text": "so", **changed})
    assert refusal(answer, 422, "BAD_REQUEST").startswith(f"{field}: ")


HALF, NUL = r'"\ud800"', r'"\u0000"'
HOSTILE = {
    "half a character in buttons": f'"reply_markup": {{"inline_keyboard": [[{{"text": {HALF}, "url": "https://e.org"}}]]}}',
    "half a character as a key": f'"reply_markup": {{"inline_keyboard": [[{{"text": "x", {HALF}: 1}}]]}}',
    "half a character in entities": f'"entities": [{{"type": {HALF}, "offset": 0, "length": 1}}]',
    "half a character in a reply": f'"reply_parameters": {{"message_id": 1, "quote": {HALF}}}',
    "half a character in what is extra": f'"extra": {{"business_connection_id": {HALF}}}',
    "half a character in a text": f'"text": {HALF}',
    "a NUL in a text": f'"text": {NUL}',
    "a NUL in buttons": f'"reply_markup": {{"inline_keyboard": [[{{"text": {NUL}, "url": "https://e.org"}}]]}}',
    "a NUL in entities": f'"entities": [{{"type": {NUL}, "offset": 0, "length": 1}}]',
}


@pytest.mark.parametrize("said", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("key", [None, "order-1"])
async def test_what_is_no_text_is_refused_wherever_it_stands_and_nothing_went(
    api: Api, sandbox: Sandbox, said: str, key: str | None
) -> None:
    text = "" if '"text": "' in said[:9] else '"text": "x", '
    headers = {"Content-Type": "application/json", **({"Idempotency-Key": key} if key else {})}
    for path, body in (
        (SEND, f'{{"chat_id": {READER}, {text}{said}}}'),
        ("/api/admin/broadcasts", f'{{"bot": "shop", "message": {{{text}{said}}}}}'),
    ):
        with capture_logs() as logs:
            answer = await api.client.post(path, content=body.encode(), headers=headers)
        assert (answer.status_code, answer.json()["error"]) in {(400, "BAD_REQUEST"), (422, "BAD_REQUEST")}, answer.text
        assert not [entry for entry in logs if entry["log_level"] == "error"]
    assert not sandbox.state.stats.total.calls["sendMessage"]


@pytest.mark.parametrize("text", ["\ud800", "a\x00b"])
async def test_the_library_refuses_the_same(api: Api, text: str) -> None:
    buttons = {"inline_keyboard": [[{"text": text, "url": "https://e.org"}]]}
    for message in (MessageSet(text=text), MessageSet(text="x", reply_markup=buttons)):
        with pytest.raises(UsageError):
            await api.telewarm.send("shop", READER, message)
        with pytest.raises(UsageError):
            await api.telewarm.broadcast("shop", message)


async def test_a_text_may_speak_of_what_it_may_not_hold(api: Api) -> None:
    said = r"\u0000 and \\u0000 are ways to write it, 👨‍👩‍👧 and می‌خواهم are not"
    answer = await api.client.post(SEND, json={"chat_id": READER, "text": said})
    assert answer.status_code == 200, answer.text


BUTTONS = {"inline_keyboard": [[{"text": "Open", "url": "https://example.org"}]]}
BOLD = [{"type": "bold", "offset": 0, "length": 3}]


async def test_a_whole_set_goes_as_it_was_asked_for(api: Api, sandbox: Sandbox) -> None:
    first, second = await api.add_photo(1), await api.add_photo(2)
    body = {
        "chat_id": READER,
        "media": [first, {"id": second, "caption": "<b>two</b>", "parse_mode": "HTML", "has_spoiler": True}],
        "caption": "*one*",
        "text": "*so*",
        "parse_mode": "MarkdownV2",
        "reply_markup": BUTTONS,
        "protect_content": True,
    }
    answer = await api.client.post(SEND, json=body)
    assert answer.status_code == 200
    assert (answer.json()["replayed"], answer.json()["moved_to"]) == (False, None)
    assert [result.get("media_id") for result in answer.json()["results"]] == [first, second, None]

    bot = sandbox.state.bots.open(FIRST_BOT)
    box = sandbox.state.mail.box(sandbox.state.find_chat(bot, str(READER)), bot.id)
    shown = []
    for result in answer.json()["results"]:
        message = box.get(READER, result["message_id"])
        assert message is not None
        shown.append(message.content)
    assert [(one.text, len(one.entities), one.protected) for one in shown] == [
        ("one", 1, True),
        ("two", 1, True),
        ("so", 1, True),
    ]
    extras = [{name for name, _ in one.extras} - {"has_protected_content"} for one in shown]
    assert extras == [set(), {"has_media_spoiler"}, {"reply_markup"}]


async def test_media_that_may_go_as_an_album_do_when_asked(api: Api, sandbox: Sandbox) -> None:
    body = {"chat_id": READER, "media": [await api.add_photo(seed) for seed in range(3)], "album": True}
    await api.client.post(SEND, json=body)
    answer = await api.client.post(SEND, json=body)
    assert [result["cache_hit"] for result in answer.json()["results"]] == [True] * 3
    assert sandbox.state.stats.total.calls["sendMediaGroup"] >= 1
    assert sandbox.state.stats.total.uploads == 3


def test_each_field_becomes_the_message_sets() -> None:
    body = {
        "media": [1, {"id": 2, "caption": "two", "entities": BOLD, "has_spoiler": True}],
        "caption": "one",
        "caption_entities": BOLD,
        "text": "so",
        "parse_mode": "HTML",
        "album": True,
        "reply_markup": BUTTONS,
        "reply_to_message_id": 42,
        "message_thread_id": 7,
        "silent": True,
        "protect_content": True,
        "show_caption_above_media": True,
    }
    assert message_of(MessageIn.model_validate(body)) == MessageSet(
        media=(
            Part(media_id=MediaId(1), caption="one", entities=BOLD),
            Part(media_id=MediaId(2), caption="two", entities=BOLD, has_spoiler=True),
        ),
        text="so",
        parse_mode="HTML",
        album=True,
        reply_markup=BUTTONS,
        reply_parameters={"message_id": 42},
        message_thread_id=7,
        disable_notification=True,
        protect_content=True,
        show_caption_above_media=True,
    )
    quoting = {"message_id": 42, "quote": "when?"}
    assert message_of(
        MessageIn.model_validate({"text": "so", "entities": BOLD, "reply_parameters": quoting})
    ) == MessageSet(text="so", entities=BOLD, reply_parameters=quoting)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"caption": "of nothing", "text": "so"}, "give media"),
        ({"media": [{"id": 1, "caption": "own"}], "caption": "and this"}, "one of its own"),
        ({"text": "so", "reply_to_message_id": 1, "reply_parameters": {}}, "give one of the two"),
        ({"text": "so", "parse_mode": "LaTeX"}, "LaTeX"),
        ({"text": "so", "idempotency_key": "x" * 201}, "1 to 200"),
        ({"text": "so", "idempotency_key": ""}, "1 to 200"),
    ],
)
async def test_fields_that_do_not_go_together_are_refused(api: Api, body: dict[str, object], words: str) -> None:
    answer = await api.client.post(SEND, json={"chat_id": READER, **body})
    assert words in refusal(answer, 400, "BAD_REQUEST")


async def test_who_has_no_patience_is_told_at_once_when_to_come_back(telewarm_with: Opener) -> None:
    telewarm = await telewarm_with(
        worker=False,
        ADMIN_API_TOKEN=ADMIN,
        TELEWARM_FLOOD_PRIVATE_PER_SECOND="0.1",
        TELEWARM_FLOOD_PRIVATE_BURST="1",
    )
    async with client_of(telewarm.api(), **BEARER) as client:
        await Api(client, telewarm).add_bot()
        first, second = [
            await client.post(SEND, json={"chat_id": READER, "text": "so", "patience_ms": 100}) for _ in range(2)
        ]
    assert first.status_code == 200
    refusal(second, 429, "FLOOD_WAIT")
    assert 8 <= int(second.headers["retry-after"]) <= 11
    assert 8 < second.json()["results"][0]["retry_after"] <= 10.1


async def test_a_group_that_migrated_is_followed_and_its_new_id_is_told(api: Api, sandbox: Sandbox) -> None:
    sandbox.state.chats.declare(-500, migrated_to=-1009)
    first, second = [await api.client.post(SEND, json={"chat_id": -500, "text": "so"}) for _ in range(2)]
    assert [answer.json()["moved_to"] for answer in (first, second)] == [-1009, -1009]
    assert first.json()["results"][0]["moved_to"] == -1009


@pytest.mark.parametrize("as_header", [True, False])
async def test_a_repeated_call_with_a_key_returns_the_first_answer(
    api: Api, sandbox: Sandbox, *, as_header: bool
) -> None:
    body: dict[str, object] = {"chat_id": READER, "text": "so", "reply_markup": BUTTONS}
    headers = {"Idempotency-Key": "order-1"} if as_header else {}
    body |= {} if as_header else {"idempotency_key": "order-1"}

    first = await api.client.post(SEND, json=body, headers=headers)
    second = await api.client.post(SEND, json=body | {"patience_ms": 1000}, headers=headers)

    assert (first.status_code, second.status_code) == (200, 200)
    assert [answer.json()["replayed"] for answer in (first, second)] == [False, True]
    assert first.json()["results"] == second.json()["results"]
    assert sandbox.state.stats.chats == {READER: 1}


async def test_a_failure_is_repeated_too_with_its_status(api: Api, sandbox: Sandbox) -> None:
    sandbox.state.chats.declare(READER, blocked=True)
    body = {"chat_id": READER, "text": "so", "idempotency_key": "k"}
    first, second = [await api.client.post(SEND, json=body) for _ in range(2)]
    for answer in (first, second):
        refusal(answer, 403, "CHAT_UNREACHABLE")
    assert (second.json()["replayed"], second.json()["results"]) == (True, first.json()["results"])


async def test_a_flood_wait_uses_no_key_up(api: Api, sandbox: Sandbox) -> None:
    body = {"chat_id": READER, "text": "so", "idempotency_key": "k", "patience_ms": 100}
    sandbox.state.faults.add(Rule(action="error", code=429, retry_after=1))
    refusal(await api.client.post(SEND, json=body), 429, "FLOOD_WAIT")
    answer = await api.client.post(SEND, json=body | {"patience_ms": 10_000})
    assert (answer.status_code, answer.json()["replayed"]) == (200, False)


@pytest.mark.parametrize("changed", [{"text": "other"}, {"chat_id": READER + 1}, {"silent": True}])
async def test_a_key_stands_for_one_message(api: Api, changed: dict[str, object]) -> None:
    body: dict[str, object] = {"chat_id": READER, "text": "so", "idempotency_key": "k"}
    assert (await api.client.post(SEND, json=body)).status_code == 200
    assert "new key" in refusal(await api.client.post(SEND, json=body | changed), 409, "CONFLICT")


async def test_a_key_in_the_header_and_another_in_the_body_are_refused(api: Api) -> None:
    body = {"chat_id": READER, "text": "so", "idempotency_key": "k"}
    answer = await api.client.post(SEND, json=body, headers={"Idempotency-Key": "l"})
    assert "give one" in refusal(answer, 400, "BAD_REQUEST")


async def test_every_field_of_a_send_is_explained_with_an_example(api: Api) -> None:
    schema = (await api.client.get("/openapi.json")).json()
    route = schema["paths"]["/api/admin/bots/{slug}/send"]["post"]
    assert {"200", "403", "409", "422", "429"} <= route["responses"].keys()
    for name in ("SendRequest", "MediaPartIn", "MessageResultOut", "SendResponse", "SendFailure"):
        for field, shape in schema["components"]["schemas"][name]["properties"].items():
            assert field == "ok" or shape.get("description"), (name, field)
            assert field == "results" or shape.get("examples"), (name, field)


def test_each_error_has_the_status_that_it_has_when_it_is_raised() -> None:
    assert (STATUS_BY_CODE["FLOOD_WAIT"], STATUS_BY_CODE["TELEGRAM_FAULT"], STATUS_BY_CODE["OBJECT_CORRUPT"]) == (
        429,
        502,
        503,
    )
    assert (STATUS_BY_CODE["CHAT_UNREACHABLE"], STATUS_BY_CODE["NOT_FOUND"], STATUS_BY_CODE["CONFLICT"]) == (
        403,
        404,
        409,
    )
