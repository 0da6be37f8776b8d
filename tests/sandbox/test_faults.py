"""Faults on purpose: before the effect nothing happens, after it everything has."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.sandbox import Rule, Sandbox
from telewarm.sandbox.faults import Faults, dice
from tests.fixtures.media import jpeg
from tests.fixtures.sandbox import FIRST_BOT, token
from tests.sandbox.client import CHANNEL, USER, call, control, warm


@pytest.mark.parametrize(("when", "messages"), [("before", 0), ("after", 1)])
async def test_a_reset_comes_before_or_after_the_effect(sandbox: Sandbox, when: str, messages: int) -> None:
    await control(sandbox, "faults", {"action": "reset", "when": when, "method": "sendMessage"})
    with pytest.raises(aiohttp.ClientConnectionError):
        await call(sandbox, "sendMessage", chat_id=USER, text="x")
    assert sandbox.state.stats.chats[USER] == messages
    assert (await call(sandbox, "sendMessage", chat_id=USER, text="x")).status == 200


@pytest.mark.parametrize(("when", "messages"), [("before", 0), ("after", 1)])
async def test_a_hang_leaves_the_client_to_its_timeout(sandbox: Sandbox, when: str, messages: int) -> None:
    await control(sandbox, "faults", {"action": "hang", "when": when})
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call(sandbox, "sendMessage", chat_id=USER, text="x"), 0.1)
    assert sandbox.state.stats.chats[USER] == messages


async def test_a_hang_with_an_end_answers_late(sandbox: Sandbox) -> None:
    sandbox.state.faults.add(Rule(action="hang", seconds=0.05))
    assert (await call(sandbox, "getMe")).status == 200
    assert sandbox.state.stats.faults == 1


async def test_a_connection_breaks_in_the_middle_of_an_upload(sandbox: Sandbox) -> None:
    sandbox.state.faults.add(Rule(action="reset", method="sendDocument", during_upload=1_000_000))
    files = {"document": ("a.bin", bytes(3_000_000))}
    with pytest.raises(aiohttp.ClientConnectionError):
        await call(sandbox, "sendDocument", chat_id=USER, files=files)
    assert sandbox.state.stats.total.uploads == 0
    assert (await call(sandbox, "sendDocument", chat_id=USER, files=files)).status == 200


async def test_a_proxys_page_is_html(sandbox: Sandbox) -> None:
    sandbox.state.faults.add(Rule(action="html", code=502))
    async with aiohttp.ClientSession() as session, session.get(f"{sandbox.url}/bot{token(0)}/getMe") as response:
        assert (response.status, response.content_type) == (502, "text/html")
        assert "502 Bad Gateway" in await response.text()


async def test_errors_are_worded_as_told_or_as_usual(sandbox: Sandbox) -> None:
    for rule in (
        {"action": "error", "code": 500},
        {"action": "error", "code": 502},
        {"action": "error", "code": 400, "description": "Bad Request: FILE_REFERENCE_EXPIRED"},
        {"action": "error", "code": 429, "retry_after": 5},
    ):
        await control(sandbox, "faults", rule)
    assert (await call(sandbox, "getMe")).error == (500, "Internal Server Error")
    assert (await call(sandbox, "getMe")).error == (502, "Bad Gateway")
    assert (await call(sandbox, "getMe")).error == (400, "Bad Request: FILE_REFERENCE_EXPIRED")
    flood = await call(sandbox, "getMe")
    assert flood.error == (429, "Too Many Requests: retry after 5")
    assert flood.headers["Retry-After"] == "5"


def test_a_rule_falls_only_on_the_calls_it_names() -> None:
    faults = Faults()
    rule = faults.add(Rule(action="reset", method="sendPhoto", bot=1, chat=USER, skip=1, count=2))
    others = [("sendvideo", 1, USER), ("sendphoto", 2, USER), ("sendphoto", 1, 5)]
    assert [faults.strike(*other) for other in others] == [None] * 3
    struck = [faults.strike("sendphoto", 1, USER) for _ in range(5)]
    assert struck == [None, rule, rule, None, None]


@given(st.integers(min_value=0, max_value=1000))
def test_chance_is_the_same_for_the_same_seed(seed: int) -> None:
    rules = [Rule(action="reset", count=None, probability=0.3, seed=seed) for _ in range(2)]
    first, second = ([rule.strikes() for _ in range(400)] for rule in rules)
    assert first == second
    assert 60 <= sum(first) <= 180


@given(st.integers(min_value=0, max_value=2**31), st.integers(min_value=0, max_value=2**31))
def test_dice_fall_between_0_and_1(seed: int, throw: int) -> None:
    assert 0 <= dice(seed, throw) < 1


async def test_killed_ids_die_singly_or_with_all_of_their_file(sandbox: Sandbox) -> None:
    first = await warm(sandbox, jpeg(1))
    small, large = first["photo"][0]["file_id"], first["photo"][-1]["file_id"]
    again = (await call(sandbox, "sendPhoto", chat_id=USER, photo=large)).result["photo"][-1]["file_id"]
    await control(sandbox, "files", {"kill": [large]})
    wrong = (400, "Bad Request: wrong file identifier/HTTP URL specified")
    assert (await call(sandbox, "sendPhoto", chat_id=USER, photo=large)).error == wrong
    assert (await call(sandbox, "sendPhoto", chat_id=USER, photo=again)).status == 200
    await control(sandbox, "files", {"kill_files": [again]})
    assert (await call(sandbox, "sendPhoto", chat_id=USER, photo=small)).error == wrong
    await control(sandbox, "files", {"revive": True})
    assert (await call(sandbox, "sendPhoto", chat_id=USER, photo=large)).status == 200


async def test_a_dead_photo_is_healed_by_uploading_it_again(sandbox: Sandbox) -> None:
    first = (await warm(sandbox, jpeg(1)))["photo"][-1]["file_id"]
    await control(sandbox, "files", {"kill_files": [first]})
    again = (await warm(sandbox, jpeg(1)))["photo"][-1]["file_id"]
    assert (await call(sandbox, "sendPhoto", chat_id=USER, photo=again)).status == 200


async def test_control_revokes_tokens_blocks_users_and_removes_bots(sandbox: Sandbox) -> None:
    await control(sandbox, "bots", {"id": FIRST_BOT, "revoked": True})
    assert (await call(sandbox, "getMe")).error == (401, "Unauthorized")
    await control(sandbox, "bots", {"id": FIRST_BOT, "revoked": False})
    await control(sandbox, "chats", {"id": USER, "blocked_bots": [FIRST_BOT]})
    blocked = await call(sandbox, "sendMessage", chat_id=USER, text="x")
    assert blocked.error == (403, "Forbidden: bot was blocked by the user")
    assert (await call(sandbox, "sendMessage", bot=1, chat_id=USER, text="x")).status == 200
    await control(sandbox, "chats", {"id": CHANNEL, "members": {str(FIRST_BOT): "kicked"}})
    kicked = await call(sandbox, "getChat", chat_id=CHANNEL)
    assert kicked.error == (403, "Forbidden: bot was kicked from the channel chat")
    assert (await call(sandbox, "getChat", bot=1, chat_id=CHANNEL)).status == 200


async def test_a_control_request_that_does_not_fit_says_so(sandbox: Sandbox) -> None:
    assert (await control(sandbox, "chats", {"id": USER, "colour": "red"}))["ok"] is False
    assert "colour" in (await control(sandbox, "chats", {"id": USER, "colour": "red"}))["description"]
    assert (await control(sandbox, "weather"))["error_code"] == 404
    assert (await control(sandbox, "config", {"floods": "some"}))["error_code"] == 400
