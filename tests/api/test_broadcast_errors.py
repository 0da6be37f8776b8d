"""Broadcasts over HTTP: repeated calls, errors by cause, retries; what a spreadsheet makes of the tables."""

from __future__ import annotations

import csv
import io

import pytest

from telewarm.broadcasts import csv_export
from telewarm.database import recipients as rejections
from telewarm.database.recipients import RejectedRow
from telewarm.models import ChatId, Delivery, DeliveryStatus
from tests.api.conftest import Api, refusal
from tests.api.test_broadcasts import ALL, HELLO, do, load, look, make, number_of, put_deliveries
from tests.fixtures.app import READER


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Ana;=1+1", "Ana;'=1+1"),
        ("Ana; =1+1", "Ana; '=1+1"),
        ("Ana\t@SUM(1)", "Ana\t'@SUM(1)"),
        ("Ana\n+1", "Ana\n'+1"),
        ("a\r-1", "a\n'-1"),
        ('Ana;"=1+1"', 'Ana;"\'=1+1"'),
        ("=1", "'=1"),
        ("＝1", "'＝1"),
        ("Ana, born -3", "Ana, born -3"),
        ("-7", "-7"),
    ],
)
def test_no_cell_becomes_a_formula_wherever_a_spreadsheet_splits_the_line(text: str, shown: str) -> None:
    assert next(csv.reader(io.StringIO(csv_export._lines([(text,)]), newline=""))) == [shown]


async def test_a_reason_is_kept_short(api: Api) -> None:
    number = number_of(await make(api))
    async with api.telewarm.pool.acquire() as connection:
        await rejections.add_rejected(
            connection, number, [RejectedRow(line=1, reason="x" * 10_000, excerpt="y" * 10_000)]
        )
    [kept] = [one async for one in api.telewarm.broadcasts.rejected(number)]
    assert (len(kept.reason), len(kept.excerpt)) == (rejections.MAX_TEXT_CHARACTERS, rejections.MAX_TEXT_CHARACTERS)


async def test_creating_it_again_with_its_key_makes_nothing_new(api: Api) -> None:
    headers = {"Idempotency-Key": "may-sale"}
    first = await api.client.post(ALL, json=HELLO, headers=headers)
    path = f"{ALL}/{first.json()['broadcasts'][0]['id']}"
    await load(api, path)
    await do(api, path, "start")

    again = await api.client.post(ALL, json=HELLO, headers=headers)
    assert again.status_code == 201
    assert again.json()["broadcasts"][0]["state"] == "running"
    assert len((await api.client.get(ALL)).json()["broadcasts"]) == 1
    other = await api.client.post(ALL, json=HELLO | {"name": "June"}, headers=headers)
    refusal(other, 409, "CONFLICT")


async def test_errors_are_told_by_cause_and_failed_ones_can_be_retried(api: Api) -> None:
    path = await make(api)
    await load(api, path, "\n".join(str(READER + number) for number in range(9)))
    words = "TELEGRAM_BAD_REQUEST: Telegram refused sendMessage to chat {}: Bad Request: no"
    rows = [
        Delivery(chat_id=ChatId(READER + at), outcome=DeliveryStatus.FAILED, error=words.format(READER + at))
        for at in (2, 1)
    ]
    blocked = Delivery(
        chat_id=ChatId(READER + 3), outcome=DeliveryStatus.UNREACHABLE, error="CHAT_UNREACHABLE: blocked"
    )
    await put_deliveries(api, path, *rows, blocked)
    await api.telewarm.pool.execute("UPDATE broadcast SET state = 'done'")

    errors = (await look(api, path))["errors"]
    assert errors == (await api.client.get(ALL)).json()["broadcasts"][0]["errors"]
    assert [(one["outcome"], one["count"], one["chat_id"]) for one in errors] == [
        ("failed", 2, READER + 1),
        ("unreachable", 1, READER + 3),
    ]
    assert errors[0]["error"] == words.format(READER + 1)

    assert (await do(api, path, "retry", outcomes=["sent"])).status_code in {400, 422}
    retried = (await do(api, path, "retry", outcomes=["failed"])).json()["broadcast"]
    assert (retried["state"], retried["progress"]["counts"]["failed"]) == ("running", 0)


async def test_a_start_in_the_past_is_refused(api: Api) -> None:
    path = await make(api)
    await load(api, path)
    for answer in (
        await do(api, path, "start", starts_at="2020-01-01T09:00:00Z"),
        await api.client.post(ALL, json=HELLO | {"starts_at": "2020-01-01T09:00:00Z"}),
    ):
        refusal(answer, 400, "BAD_REQUEST")
        assert "has passed" in answer.json()["message"]
    assert (await look(api, path))["state"] == "draft"
