"""Broadcasts over HTTP: made, loaded, looked at, steered. What sends them is tested with the broadcasts themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import httpx
import pytest

from telewarm.models import BroadcastId, ChatId, Delivery, DeliveryStatus, MessageId
from telewarm.sandbox import Sandbox
from tests.api.conftest import ADMIN, BEARER, Api, client_of, refusal, serving
from tests.fixtures.app import READER, Opener, until
from tests.fixtures.sandbox import token

ALL = "/api/admin/broadcasts"
HELLO = {"bot": "shop", "message": {"text": "Hello"}}
LIST = f"chat_id\n{READER}\n{READER + 1}\n{READER}\nnobody\n"


async def make(api: Api, body: dict[str, Any] | None = None) -> str:
    """The path of a new broadcast."""
    answer = await api.client.post(ALL, json=body or HELLO)
    assert answer.status_code == 201, answer.text
    [made] = answer.json()["broadcasts"]
    return f"{ALL}/{made['id']}"


async def load(api: Api, path: str, body: str = LIST, **headers: str) -> dict[str, Any]:
    answer = await api.client.post(f"{path}/recipients", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    loaded: dict[str, Any] = answer.json()
    return loaded


async def look(api: Api, path: str) -> dict[str, Any]:
    answer = await api.client.get(path)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["broadcast"]
    return found


async def do(api: Api, path: str, action: str, **body: object) -> httpx.Response:
    return await api.client.post(f"{path}/{action}", json=body or None)


def number_of(path: str) -> BroadcastId:
    return BroadcastId(int(path.rsplit("/", 1)[1]))


async def put_deliveries(api: Api, path: str, *rows: Delivery) -> None:
    """As if they had been sent: the counts too."""
    pool, number = api.telewarm.pool, number_of(path)
    for row in rows:
        await pool.execute(
            "INSERT INTO delivery (broadcast_id, chat_id, outcome, message_ids, error, moved_to)"
            " VALUES ($1, $2, $3, $4, $5, $6)",
            number, row.chat_id, row.outcome, list(row.message_ids), row.error, row.moved_to,
        )  # fmt: skip
        assert row.outcome is not None
        column = row.outcome.value
        counted = f"UPDATE broadcast_run SET {column} = {column} + 1, cursor = $2 WHERE broadcast_id = $1"  # noqa: S608
        await pool.execute(counted, number, row.chat_id)


async def test_a_broadcast_is_made_loaded_and_started(api: Api) -> None:
    body = {**HELLO, "name": "May", "per_second": 20, "gate": False}
    body["message"] = {
        "media": [{"id": await api.add_photo(), "caption": "<b>a</b>", "parse_mode": "HTML"}],
        "silent": True,
    }
    path = await make(api, body)
    assert await load(api, path) | {"first_rejected": []} == {
        "ok": True, "added": 2, "duplicates": 1, "rejected": 1, "first_rejected": [],
        "format": "csv", "column": "chat_id", "samples": [READER, READER + 1], "guessed": False, "guess": None,
    }  # fmt: skip
    assert (await do(api, path, "start")).json()["broadcast"]["state"] == "running"

    found = await look(api, path)
    assert found["message"] == body["message"]
    assert (found["bot"], found["name"], found["per_second"], found["gate"]) == ("shop", "May", 20, False)
    assert (found["recipients"], found["duplicates"], found["rejected"]) == (2, 1, 1)
    assert found["started_at"] is not None


async def test_progress_counts_what_is_done_and_says_how_long_the_rest_takes(api: Api) -> None:
    path = await make(api)
    await load(api, path, "\n".join(str(READER + number) for number in range(10)))
    before = (await look(api, path))["progress"]
    assert (before["done"], before["left"], before["percent"], before["rate"], before["eta_seconds"]) == (
        0, 10, 0, None, None,
    )  # fmt: skip
    await do(api, path, "start")
    await put_deliveries(
        api, path, *[Delivery(chat_id=ChatId(READER + number), outcome=DeliveryStatus.SENT) for number in range(4)]
    )
    await api.telewarm.pool.execute("UPDATE broadcast SET started_at = now() - interval '8 seconds'")
    now = (await look(api, path))["progress"]
    assert (now["counts"]["sent"], now["done"], now["left"], now["percent"]) == (4, 4, 6, 40)
    assert 0.3 < now["rate"] <= 0.5
    assert 11.9 < now["eta_seconds"] < 20


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (f"chat_id;name\n{READER};Ann\n", "text/csv"),
        (f'{{"chat_id": {READER}}}\n', "application/x-ndjson"),
        (f"[{READER}]", "application/json"),
        (f"{READER}\n", "application/x-www-form-urlencoded"),
    ],
)
async def test_a_list_comes_as_csv_ndjson_or_json(api: Api, body: str, content_type: str) -> None:
    loaded = await load(api, await make(api), body, **{"Content-Type": content_type})
    assert (loaded["added"], loaded["rejected"]) == (1, 0)


async def test_the_format_may_be_said_beside_the_list(api: Api) -> None:
    path = await make(api)
    answer = await api.client.post(f"{path}/recipients?format=ndjson", content=f"{READER}\n")
    assert answer.json()["added"] == 1
    refusal(await api.client.post(f"{path}/recipients?format=xml", content="1"), 422, "BAD_REQUEST")


async def test_a_form_or_a_compressed_list_is_refused_with_the_cure(api: Api) -> None:
    path = await make(api)
    form = await api.client.post(f"{path}/recipients", files={"file": b"1\n"})
    assert "the list itself" in refusal(form, 415, "BAD_REQUEST")
    zipped = await api.client.post(f"{path}/recipients", content=b"1\n", headers={"Content-Encoding": "gzip"})
    refusal(zipped, 415, "BAD_REQUEST")


async def test_a_list_may_be_larger_than_any_other_body(api: Api) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for first in range(0, 150_000, 1000):
            yield "".join(f"{READER + first + number}\n" for number in range(1000)).encode()

    answer = await api.client.post(f"{await make(api)}/recipients", content=chunks())
    assert (answer.status_code, answer.json()["added"]) == (200, 150_000)


async def test_of_a_list_that_is_cut_off_the_whole_lines_stay(api: Api) -> None:
    path = await make(api)
    lines = "".join(f"{READER + number}\n" for number in range(120_000))

    async def some_came() -> bool:
        return bool((await look(api, path))["recipients"])

    async with serving(api.telewarm.api()) as url:
        host, port = url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        head = f"POST {path}/recipients HTTP/1.1\r\nHost: {host}\r\nAuthorization: {BEARER['Authorization']}\r\n"
        writer.write(f"{head}Content-Length: 9000000\r\n\r\n{lines}50000".encode())
        await until(api.telewarm, some_came)
        writer.close()
        await writer.wait_closed()
    came = (await look(api, path))["recipients"]
    again = await load(api, path, lines)
    assert came >= 50_000
    assert (again["added"], again["duplicates"], again["rejected"]) == (120_000 - came, came, 0)


async def test_the_lines_without_a_chat_id_are_told_by_number(api: Api) -> None:
    path = await make(api)
    loaded = await load(api, path, f"{READER}\n@ann\n=cmd()\n-7x\n")
    assert [one["line"] for one in loaded["first_rejected"]] == [2, 3, 4]
    answer = await api.client.get(f"{path}/rejected.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    header, *lines = answer.text.splitlines()
    assert header == "line,reason,excerpt"
    assert [line.rsplit(",", 1)[1] for line in lines] == ["'@ann", "'=cmd()", "'-7x"]


async def test_results_are_a_csv_that_no_spreadsheet_runs(api: Api) -> None:
    path = await make(api)
    await load(api, path, f"-5\n{READER}\n{READER + 1}\n{READER + 2}\n")
    await put_deliveries(
        api,
        path,
        Delivery(chat_id=ChatId(-5), outcome=DeliveryStatus.SENT, message_ids=[MessageId(7)], moved_to=ChatId(-1005)),
        Delivery(chat_id=ChatId(READER), outcome=DeliveryStatus.PARTIAL, message_ids=[MessageId(8), MessageId(9)]),
        Delivery(chat_id=ChatId(READER + 1), outcome=DeliveryStatus.FAILED, error='=HYPERLINK("x"), gone'),
    )
    answer = await api.client.get(f"{path}/results.csv")
    assert answer.text.splitlines() == [
        "chat_id,outcome,message_ids,error,moved_to",
        "-5,sent,7,,-1005",
        f"{READER},partial,8 9,,",
        f'{READER + 1},failed,,"\'=HYPERLINK(""x""), gone",',
    ]
    pending = await api.client.get(f"{path}/results.csv?outcome=pending")
    assert pending.text.splitlines()[1:] == [f"{READER + 2},pending,,,"]
    failed = await api.client.get(f"{path}/results.csv?outcome=failed")
    assert [line.split(",")[0] for line in failed.text.splitlines()[1:]] == [str(READER + 1)]
    refusal(await api.client.get(f"{path}/results.csv?outcome=gone"), 422, "BAD_REQUEST")


async def test_it_is_paused_resumed_cancelled_and_deleted(api: Api) -> None:
    path = await make(api)
    assert "recipients" in refusal(await do(api, path, "start"), 409, "CONFLICT")
    await load(api, path)
    for action, state in [
        ("start", "running"), ("pause", "paused"), ("pause", "paused"), ("resume", "running"), ("cancel", "cancelled"),
    ]:  # fmt: skip
        answer = await do(api, path, action)
        assert (answer.status_code, answer.json()["broadcast"]["state"]) == (200, state), action
    refusal(await do(api, path, "resume"), 409, "CONFLICT")
    refusal(await do(api, path, "undo"), 409, "CONFLICT")
    refusal(await do(api, path, "retry-unknown"), 409, "CONFLICT")
    assert (await api.client.delete(path)).json() == {"ok": True}
    refusal(await api.client.get(path), 404, "NOT_FOUND")


async def test_what_was_sent_can_be_undone_and_what_is_unknown_sent_again(api: Api) -> None:
    paths = [await make(api) for _ in range(2)]
    for path, outcome in zip(paths, (DeliveryStatus.SENT, DeliveryStatus.UNKNOWN), strict=True):
        await load(api, path)
        await do(api, path, "start")
        await put_deliveries(api, path, Delivery(chat_id=ChatId(READER), outcome=outcome, message_ids=[MessageId(7)]))
    await do(api, paths[0], "cancel")
    assert (await do(api, paths[0], "undo")).json()["broadcast"]["state"] == "undoing"
    await do(api, paths[1], "pause")
    again = (await do(api, paths[1], "retry-unknown")).json()["broadcast"]
    assert (again["state"], again["progress"]["counts"]["unknown"]) == ("running", 0)


async def test_it_waits_for_its_time(api: Api) -> None:
    path = await make(api, {**HELLO, "starts_at": "2031-05-01T09:00:00-03:00"})
    await load(api, path)
    assert (await look(api, path))["starts_at"] == "2031-05-01T12:00:00+00:00"
    later = (await do(api, path, "start", starts_at="2031-05-02T12:00:00Z")).json()["broadcast"]
    assert (later["state"], later["starts_at"]) == ("scheduled", "2031-05-02T12:00:00+00:00")


async def test_a_test_send_goes_to_one_chat_and_counts_nowhere(api: Api, sandbox: Sandbox) -> None:
    path = await make(api)
    answer = await do(api, path, "test", chat_id=READER)
    assert answer.json()["ok"] is True
    assert [result["kind"] for result in answer.json()["results"]] == ["text"]
    assert sandbox.state.stats.chats[READER] == 1
    assert (await look(api, path))["progress"]["done"] == 0

    sandbox.state.chats.declare(READER + 9, blocked=True)
    refusal(await do(api, path, "test", chat_id=READER + 9), 403, "CHAT_UNREACHABLE")


async def test_several_bots_make_a_group_and_rows_name_theirs(api: Api) -> None:
    await api.client.post("/api/admin/bots", json={"slug": "news", "token": token(1), "warmup_chats": [-1007]})
    media_id = await api.add_photo()
    answer = await api.client.post(ALL, json={"bots": ["shop", "news"], "message": {"media": [media_id]}})
    first, second = answer.json()["broadcasts"]
    assert (first["bot"], second["bot"]) == ("shop", "news")
    assert first["group_id"] == second["group_id"] == first["id"]
    assert second["message"]["media"] != [media_id]

    await load(api, f"{ALL}/{first['id']}", f"chat_id,bot\n{READER},shop\n{READER + 1},news\n{READER + 2},news\n")
    counts = [(await look(api, f"{ALL}/{one['id']}"))["recipients"] for one in (first, second)]
    assert counts == [1, 2]


async def test_they_are_listed_newest_first_page_by_page(api: Api) -> None:
    numbers = [number_of(await make(api)) for _ in range(3)]
    first = (await api.client.get(f"{ALL}?limit=2&bot=shop")).json()
    assert [one["id"] for one in first["broadcasts"]] == [numbers[2], numbers[1]]
    second = (await api.client.get(f"{ALL}?limit=2&before={first['next']}")).json()
    assert ([one["id"] for one in second["broadcasts"]], second["next"]) == ([numbers[0]], None)
    refusal(await api.client.get(f"{ALL}?bot=nobody"), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("change", "status", "word"),
    [
        ({"message": {}}, 400, "nothing to send"),
        ({"message": {"text": "x", "capton": "y"}}, 422, "capton"),
        ({"message": {"text": "a\x00b"}}, 400, "U+0000"),
        ({"message": {"text": "x", "reply_markup": {"a": "\x00"}}}, 400, "U+0000"),
        ({"message": {"media": [999]}}, 404, "999"),
        ({"bot": None}, 400, "`bots`"),
        ({"bots": ["shop"]}, 400, "`bots`"),
        ({"bot": "nobody"}, 404, "nobody"),
        ({"per_second": 0}, 422, "per_second"),
        ({"per_second": True}, 422, "per_second"),
        ({"gate": 1}, 422, "gate"),
        ({"starts_at": "2031-05-01T09:00:00"}, 422, "starts_at"),
        ({"starts_at": "0001-01-01T00:00:00+14:00"}, 422, "starts_at"),
        ({"name": "a\nb"}, 422, "name"),
    ],
)
async def test_what_cannot_be_is_refused_before_anything_is_made(
    api: Api, change: dict[str, object], status: int, word: str
) -> None:
    answer = await api.client.post(ALL, json={**HELLO, **change})
    assert answer.status_code == status, answer.text
    assert word in answer.json()["message"]
    assert (await api.client.get(ALL)).json()["broadcasts"] == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""), ("DELETE", ""), ("GET", "/results.csv"), ("GET", "/rejected.csv"), ("POST", "/recipients"),
        ("POST", "/start"), ("POST", "/pause"), ("POST", "/resume"), ("POST", "/cancel"), ("POST", "/undo"),
        ("POST", "/retry-unknown"),
    ],
)  # fmt: skip
async def test_a_broadcast_that_is_not_there_is_not_found(api: Api, method: str, path: str) -> None:
    answer = await api.client.request(method, f"{ALL}/77{path}")
    assert "77" in refusal(answer, 404, "NOT_FOUND")


async def test_a_started_broadcast_takes_no_more_recipients(api: Api) -> None:
    path = await make(api)
    await load(api, path)
    await do(api, path, "start")
    late = await api.client.post(f"{path}/recipients", content=f"{READER + 5}\n")
    assert "create another" in refusal(late, 409, "CONFLICT")


async def test_a_list_that_stands_still_is_given_up(telewarm_with: Opener) -> None:
    telewarm = await telewarm_with(worker=False, ADMIN_API_TOKEN=ADMIN)
    app = telewarm.api()
    object.__setattr__(app.state.services, "body_stall_seconds", 0.2)
    async with client_of(app, **BEARER) as client:
        api = Api(client, telewarm)
        await api.add_bot()
        path = await make(api)

        async def still() -> AsyncIterator[bytes]:
            yield f"{READER}\n".encode()
            await asyncio.Event().wait()

        async with (
            serving(app) as url,
            aiohttp.ClientSession(headers=BEARER) as session,
            session.post(f"{url}{path}/recipients", data=still()) as answer,
        ):
            assert (answer.status, (await answer.json())["error"]) == (408, "TOO_SLOW")
        assert (await look(api, path))["recipients"] == 1


async def test_every_field_of_a_broadcast_is_described(api: Api) -> None:
    found = (await api.client.get("/openapi.json")).json()
    for name in ("BroadcastCreate", "BroadcastStart", "TestSend"):
        for field, said in found["components"]["schemas"][name]["properties"].items():
            assert said.get("description"), f"{name}.{field}"
    for path, methods in found["paths"].items():
        if "/broadcasts" in path:
            assert all(said["description"] for said in methods.values()), path


async def test_a_guessed_column_is_told_and_wants_a_confirmation_or_its_name(api: Api) -> None:
    path, named = await make(api), await make(api)
    listed = f"No,Name,Ref\n1,Ann,{READER}\n2,Bob,{READER + 1}\n"

    loaded = (await api.client.post(f"{path}/recipients", content=listed)).json()
    refused = await do(api, path, "start")
    said = (await api.client.post(f"{named}/recipients", params={"column": "ref"}, content=listed)).json()

    assert (loaded["added"], loaded["column"], loaded["guessed"], loaded["samples"]) == (
        2,
        "Ref",
        True,
        [READER, READER + 1],
    )
    assert (await look(api, path))["guess"] == loaded["guess"]
    assert (refused.status_code, refused.json()["error"]) == (409, "CONFLICT")
    assert "confirm" in refused.json()["message"]
    assert (await api.client.post(f"{path}/start", json={"confirm": True})).json()["broadcast"]["state"] == "running"
    assert (said["column"], said["guessed"], said["guess"]) == ("Ref", False, None)
    assert (await do(api, named, "start")).json()["broadcast"]["state"] == "running"


async def test_a_list_that_does_not_say_where_its_chats_are_is_refused_with_the_cure(api: Api) -> None:
    path = await make(api)

    answer = await api.client.post(f"{path}/recipients", content="No,Name\n1,Ann\n2,Bob\n")

    assert answer.status_code == 400
    assert "column=No" in answer.json()["message"]
    assert (await look(api, path))["recipients"] == 0
