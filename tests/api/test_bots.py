"""Bots in, and changed: the token is checked, sealed, and never seen again."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from tests.api.conftest import BOT, Api, refusal
from tests.fixtures.sandbox import FIRST_BOT, token

BOTS = "/api/admin/bots"


async def test_a_bot_is_made_once_its_token_is_checked_with_telegram(api: Api, sandbox: Sandbox) -> None:
    sandbox.state.stats.clear()
    answer = await api.client.post(BOTS, json={"slug": "news", "token": token(1), "warmup_chats": [-1007, -1007, -8]})
    assert answer.status_code == 201
    assert answer.json()["ok"] is True
    bot = answer.json()["bot"]
    assert (bot["slug"], bot["telegram_id"], bot["warmup_chats"]) == ("news", FIRST_BOT + 1, [-1007, -8])
    assert sandbox.state.stats.total.calls == {"getMe": 1}


async def test_the_token_is_in_no_answer_no_log_and_not_in_the_database(api: Api) -> None:
    secret = token(1).partition(":")[2]
    with capture_logs() as logged:
        made = await api.client.post(BOTS, json={**BOT, "slug": "news", "token": token(1)})
        again = await api.client.post(BOTS, json={**BOT, "slug": "news", "token": token(1)})
        lost = await api.client.get(f"/bot{token(1)}/getMe")
        unknown = await api.client.get(f"/api/admin/bots/{token(1)}/media")
    for answer in (made, again, lost, unknown):
        assert secret not in answer.text
    assert secret not in str(logged)
    rows = await api.telewarm.pool.fetch("SELECT bot::text, encode(token_sealed, 'escape') AS sealed FROM bot")
    assert rows
    assert secret not in str(rows)


async def test_a_second_bot_with_the_slug_is_a_conflict(api: Api) -> None:
    answer = await api.client.post(BOTS, json={**BOT, "token": token(1)})
    assert "shop" in refusal(answer, 409, "CONFLICT")


async def test_a_second_slug_for_the_telegram_bot_is_a_conflict(api: Api) -> None:
    answer = await api.client.post(BOTS, json={**BOT, "slug": "again"})
    assert str(FIRST_BOT) in refusal(answer, 409, "CONFLICT")


@pytest.mark.parametrize("text", ["", "876543", "x" * 100, "987654321:", f"bot{token(1)}", token(1) + "\n\x00", "é:é"])
async def test_what_cannot_be_a_token_is_refused_without_repeating_it(api: Api, text: str, sandbox: Sandbox) -> None:
    sandbox.state.stats.clear()
    answer = await api.client.post(BOTS, json={**BOT, "slug": "news", "token": text})
    assert "@BotFather" in refusal(answer, 400, "BAD_REQUEST")
    assert not text or text not in answer.text
    assert not sandbox.state.stats.total.calls


async def test_a_token_that_telegram_refuses_is_told_with_the_cure(api: Api, sandbox: Sandbox) -> None:
    sandbox.state.bots.open(FIRST_BOT + 1).revoked = True
    answer = await api.client.post(BOTS, json={**BOT, "slug": "news", "token": token(1)})
    assert "@BotFather" in refusal(answer, 422, "TOKEN_REFUSED")
    assert token(1) not in answer.text
    assert await api.telewarm.pool.fetchval("SELECT count(*) FROM bot") == 1


async def test_a_flood_wait_is_a_429_that_says_when_to_come_back(api: Api, sandbox: Sandbox) -> None:
    sandbox.state.faults.add(Rule(action="error", method="getMe", code=429, retry_after=17))
    answer = await api.client.post(BOTS, json={**BOT, "slug": "news", "token": token(1)})
    refusal(answer, 429, "FLOOD_WAIT")
    assert answer.headers["retry-after"] == "17"


@pytest.mark.parametrize(("action", "code"), [("reset", "TELEGRAM_UNREACHABLE"), ("html", "TELEGRAM_FAULT")])
async def test_a_telegram_that_fails_is_a_502(api: Api, sandbox: Sandbox, action: Any, code: str) -> None:  # noqa: ANN401 - a literal of the sandbox's
    sandbox.state.faults.add(Rule(action=action, method="getMe", code=502, count=None))
    answer = await api.client.post(BOTS, json={**BOT, "slug": "news", "token": token(1)})
    refusal(answer, 502, code)
    assert token(1) not in answer.text


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"slug": ""}, "slug"),
        ({"slug": "-shop"}, "slug"),
        ({"slug": "a b"}, "slug"),
        ({"slug": "shop\n"}, "slug"),
        ({"slug": "shop\x00"}, "slug"),
        ({"slug": "мой"}, "slug"),
        ({"slug": "x" * 64}, "slug"),
        ({"slug": None}, "slug"),
        ({"token": 17}, "token"),
        ({"token": {"token": "hunter2"}}, "token"),
        ({"warmup_chats": []}, "warmup_chats"),
        ({"warmup_chats": "all"}, "warmup_chats"),
        ({"warmup_chats": [2**63]}, "warmup_chats.0"),
        ({"warmup_chats": [-(2**80)]}, "warmup_chats.0"),
        ({"warmup_chats": [1.5]}, "warmup_chats.0"),
        ({"warmup_chats": [True]}, "warmup_chats.0"),
        ({"warmup_chats": ["hunter2"]}, "warmup_chats.0"),
    ],
)
async def test_a_field_that_does_not_fit_is_named_and_not_repeated(
    api: Api, changed: dict[str, object], field: str
) -> None:
    answer = await api.client.post(BOTS, json={**BOT, "token": token(1), **changed})
    message = refusal(answer, 422, "BAD_REQUEST")
    assert message.startswith(f"{field}: ")
    assert "hunter2" not in message
    assert token(1) not in message


async def test_a_missing_field_is_named(api: Api) -> None:
    answer = await api.client.post(BOTS, json={"slug": "news", "token": token(1)})
    assert refusal(answer, 422, "BAD_REQUEST") == "warmup_chats is missing: give it"


async def test_a_token_is_replaced_once_it_is_checked_and_never_shown(api: Api, sandbox: Sandbox) -> None:
    sandbox.state.bots.renew(FIRST_BOT)
    fresh = f"{FIRST_BOT}:AAE{'fresh' * 6}99"
    with capture_logs() as logged:
        answer = await api.client.put(f"{BOTS}/shop/token", json={"token": f" {fresh}\n"})
    assert (answer.status_code, answer.json()["ok"], answer.json()["bot"]["slug"]) == (200, True, "shop")
    assert fresh not in answer.text + str(logged)
    assert (await api.telewarm.bots.by_slug("shop")).bot.token == fresh


async def test_the_token_of_another_telegram_bot_takes_its_place(api: Api) -> None:
    answer = await api.client.put(f"{BOTS}/shop/token", json={"token": token(3)})
    assert answer.json()["bot"]["telegram_id"] == FIRST_BOT + 3


async def test_a_token_that_cannot_be_used_is_refused_and_the_old_one_stays(api: Api, sandbox: Sandbox) -> None:
    await api.client.post(BOTS, json={**BOT, "slug": "news", "token": token(1)})
    sandbox.state.bots.open(FIRST_BOT + 2).revoked = True
    url = f"{BOTS}/shop/token"
    assert "news" not in refusal(await api.client.put(url, json={"token": token(1)}), 409, "CONFLICT")
    assert "@BotFather" in refusal(await api.client.put(url, json={"token": token(2)}), 422, "TOKEN_REFUSED")
    assert "@BotFather" in refusal(await api.client.put(url, json={"token": "no token"}), 400, "BAD_REQUEST")
    refusal(await api.client.put(url, json={}), 422, "BAD_REQUEST")
    refusal(await api.client.put(f"{BOTS}/nobody/token", json={"token": token(1)}), 404, "NOT_FOUND")
    assert (await api.telewarm.bots.by_slug("shop")).bot.token == token(0)


async def test_warm_up_chats_are_replaced(api: Api) -> None:
    url = f"{BOTS}/shop/warmup-chats"
    answer = await api.client.put(url, json={"warmup_chats": [-1005, -7, -1005]})
    assert (answer.status_code, answer.json()["bot"]["warmup_chats"]) == (200, [-1005, -7])
    assert (await api.telewarm.bots.by_slug("shop")).bot.warmup_chats == (-1005, -7)
    refusal(await api.client.put(url, json={"warmup_chats": []}), 422, "BAD_REQUEST")
