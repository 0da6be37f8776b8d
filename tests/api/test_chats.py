"""Chat statuses over HTTP."""

from __future__ import annotations

import pytest

from telewarm.database import chats
from telewarm.database.chats import UnreachableChat
from telewarm.models import ChatId, ChatState
from tests.api.conftest import Api, refusal

CHATS = "/api/admin/bots/shop/chats"
STATES = {-4001: ChatState.MIGRATED, 5: ChatState.BLOCKED, 6: ChatState.BLOCKED, 7: ChatState.KICKED}


@pytest.fixture
async def statuses(api: Api) -> Api:
    """Four chats of the bot."""
    bot = (await api.telewarm.bots.by_slug("shop")).bot
    rows = [
        UnreachableChat(
            bot_id=bot.id,
            chat_id=ChatId(chat_id),
            state=state,
            reason=f"Forbidden: {state}",
            migrated_to=ChatId(-1001) if state is ChatState.MIGRATED else None,
        )
        for chat_id, state in STATES.items()
    ]
    await chats.record_unreachable(api.telewarm.pool, rows)
    return api


async def test_the_ledger_is_listed_page_by_page_with_its_counts(statuses: Api) -> None:
    first = (await statuses.client.get(CHATS, params={"limit": 3})).json()
    last = (await statuses.client.get(CHATS, params={"limit": 3, "after": first["next"]})).json()

    assert [chat["chat_id"] for chat in first["chats"] + last["chats"]] == list(STATES)
    assert (first["ok"], first["next"], last["next"]) == (True, 6, None)
    assert first["counts"] == last["counts"] == {"migrated": 1, "blocked": 2, "kicked": 1}
    group = first["chats"][0]
    assert (group["state"], group["migrated_to"], group["reason"]) == ("migrated", -1001, "Forbidden: migrated")
    assert group["since"].endswith("+00:00")


async def test_the_ledger_is_listed_by_state(statuses: Api) -> None:
    body = (await statuses.client.get(CHATS, params={"state": "blocked"})).json()
    assert ([chat["chat_id"] for chat in body["chats"]], body["next"]) == ([5, 6], None)


@pytest.mark.parametrize(
    ("path", "cleared", "left"),
    [
        ("", 4, []),
        ("?state=blocked", 2, [-4001, 7]),
        ("/5", 1, [-4001, 6, 7]),
        ("/-4001", 1, [5, 6, 7]),
        ("/99", 0, [*STATES]),
    ],
)
async def test_the_ledger_forgets_all_or_a_state_or_a_chat(
    statuses: Api, path: str, cleared: int, left: list[int]
) -> None:
    assert (await statuses.client.delete(CHATS + path)).json() == {"ok": True, "cleared": cleared}
    assert [chat["chat_id"] for chat in (await statuses.client.get(CHATS)).json()["chats"]] == left


@pytest.mark.parametrize("query", ["state=angry", "limit=0", "limit=1001", "after=9223372036854775808", "after=x"])
async def test_a_question_that_does_not_fit_is_refused(statuses: Api, query: str) -> None:
    refusal(await statuses.client.get(f"{CHATS}?{query}"), 422, "BAD_REQUEST")


@pytest.mark.parametrize("chat_id", ["x", "9223372036854775808"])
async def test_an_id_that_no_chat_has_is_refused_and_clears_nothing(statuses: Api, chat_id: str) -> None:
    refusal(await statuses.client.delete(f"{CHATS}/{chat_id}"), 422, "BAD_REQUEST")


async def test_the_statuses_of_an_unknown_bot_is_not_found(api: Api) -> None:
    refusal(await api.client.get("/api/admin/bots/nobody/chats"), 404, "NOT_FOUND")
    refusal(await api.client.delete("/api/admin/bots/nobody/chats"), 404, "NOT_FOUND")
