"""Bots listed, checked, deleted, brought back, deleted for good."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from telewarm import clock
from telewarm.api.schemas.media_and_bots import BotCheckResponse, BotPage, BotResponse
from telewarm.database import deletions
from telewarm.errors import BotDeleted
from telewarm.models import BroadcastState, ChatId, DeliveryStatus, MessageSet
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from tests.api.conftest import ADMIN, BEARER, BOT, MEDIA, SEND, Api, client_of, refusal
from tests.fixtures.app import NO_SWEEP, READER, WARMUP_CHAT, Opener, add_photos, readers, until_ready
from tests.fixtures.sandbox import FIRST_BOT, token

BOTS = "/api/admin/bots"
NONE = {"cold": 0, "warming": 0, "ready": 0, "error": 0}


async def add_bots(api: Api, *slugs: str) -> None:
    for number, slug in enumerate(slugs, start=1):
        answer = await api.client.post(BOTS, json={**BOT, "slug": slug, "token": token(number)})
        assert answer.status_code == 201


async def slugs(api: Api, **params: object) -> list[str]:
    page = (await api.client.get(BOTS, params={name: str(value) for name, value in params.items()})).json()
    BotPage.model_validate(page)
    return [bot["slug"] for bot in page["bots"]]


async def test_bots_are_listed_by_slug_page_by_page_with_what_they_have(api: Api) -> None:
    await add_bots(api, "news", "art", "zoo")
    await api.add_photo()
    await api.client.post(f"{BOTS}/news/pause")

    first = (await api.client.get(BOTS, params={"limit": 3})).json()
    rest = (await api.client.get(BOTS, params={"limit": 3, "after": first["next"]})).json()

    assert [bot["slug"] for bot in first["bots"]] == ["art", "news", "shop"]
    assert ([bot["slug"] for bot in rest["bots"]], rest["next"]) == (["zoo"], None)
    assert [bot["media"] for bot in first["bots"]] == [NONE, NONE, NONE | {"warming": 1}]
    assert [bot["paused"] for bot in first["bots"]] == [False, True, False]
    assert token(0).partition(":")[2] not in str(first)
    refusal(await api.client.get(BOTS, params={"after": "a\0"}), 400, "BAD_REQUEST")


async def test_one_bot_tells_how_long_it_waits_and_what_it_learned(api: Api) -> None:
    pool = api.telewarm.pool
    await pool.execute("UPDATE bot SET paused_until = now() + interval '1 hour', learned = '{\"group\": 12.5}'")
    await pool.execute("INSERT INTO flood_wait SELECT id, -8, now() + interval '1 minute' FROM bot")

    answer = (await api.client.get(f"{BOTS}/shop")).json()

    BotResponse.model_validate(answer)
    bot = answer["bot"]
    assert 3500 < bot["flood_wait_s"] <= 3600
    assert 50 < bot["closed_chats"]["-8"] <= 60
    assert (bot["learned"], bot["deleted_at"]) == ({"group": 12.5}, None)
    refusal(await api.client.get(f"{BOTS}/nobody"), 404, "NOT_FOUND")


async def test_a_check_looks_at_the_token_and_at_each_chat_and_posts_nothing(api: Api, sandbox: Sandbox) -> None:
    chats = sandbox.state.chats
    chats.declare(-1001, can_post=False)
    chats.declare(-1002, others="kicked")
    chats.declare(-1003, type="supergroup", restricted={"video", "sticker"})
    chats.declare(-1004, type="supergroup", others="member", protected=True)
    chats.declare(-1000000000005, others="left")
    chats.declare(-1006, exists=False)
    sandbox.state.bots.open(FIRST_BOT).username = "renamed_bot"
    listed = [WARMUP_CHAT, -1001, -1002, -1003, -1004, -1000000000005, -1006, int(READER)]
    await api.client.put(f"{BOTS}/shop/warmup-chats", json={"warmup_chats": listed})
    sandbox.state.stats.clear()

    answer = (await api.client.post(f"{BOTS}/shop/check")).json()

    BotCheckResponse.model_validate(answer)
    assert (answer["ok"], answer["healthy"]) == (True, False)
    assert answer["token"] == {"ok": True, "error": None, "message": None, "username": "renamed_bot"}
    found = answer["chats"]
    assert [chat["chat_id"] for chat in found] == listed
    assert [chat["ok"] for chat in found] == [True, False, False, False, True, False, False, True]
    words = "|no write access|kicked|video, animation, sticker|forwarded|not a member|not found|private chat"
    for chat, word in zip(found, words.split("|"), strict=True):
        assert word in (chat["message"] or ""), chat
    assert found[3]["refused_kinds"] == ["video", "animation", "sticker"]
    assert (found[0]["status"], found[0]["message"], found[4]["protected"]) == ("administrator", None, True)
    assert set(sandbox.state.stats.total.calls) == {"getMe", "getChat", "getChatMember", "sendChatAction"}
    assert (await api.client.get(f"{BOTS}/shop")).json()["bot"]["username"] == "renamed_bot"


async def test_a_check_that_telegram_does_not_answer_says_so_and_blames_nobody(api: Api, sandbox: Sandbox) -> None:
    sandbox.state.faults.add(Rule(action="error", method="getChat", code=429, retry_after=17))
    waits = (await api.client.post(f"{BOTS}/shop/check")).json()
    assert (waits["healthy"], waits["token"]["ok"], waits["chats"][0]["ok"]) == (False, True, None)
    assert (waits["chats"][0]["error"], "later" in waits["chats"][0]["message"]) == ("FLOOD_WAIT", True)
    sandbox.state.bots.open(FIRST_BOT).revoked = True
    refused = (await api.client.post(f"{BOTS}/shop/check")).json()
    assert (refused["token"]["ok"], refused["token"]["error"]) == (False, "TOKEN_REFUSED")
    assert "@BotFather" in refused["token"]["message"]
    assert refused["chats"][0]["ok"] is None
    assert token(0) not in str(refused)


async def test_a_deleted_bot_is_found_nowhere_and_comes_back_with_all_it_had(api: Api) -> None:
    media_id = await api.add_photo()
    await add_bots(api, "news")
    made = (await api.client.post("/api/admin/broadcasts", json={"bot": "shop", "message": {"text": "x"}})).json()
    broadcast = f"/api/admin/broadcasts/{made['broadcasts'][0]['id']}"

    assert (await api.client.delete(f"{BOTS}/shop")).json() == {"ok": True, "slug": "shop", "forever": False}

    for method, path in (
        ("GET", f"{BOTS}/shop"),
        ("GET", MEDIA),
        ("GET", f"/api/admin/media/{media_id}"),
        ("POST", f"/api/admin/media/{media_id}/rewarm"),
        ("DELETE", f"/api/admin/media/{media_id}"),
        ("GET", f"{BOTS}/shop/chats"),
        ("POST", f"{BOTS}/shop/pause"),
        ("POST", f"{BOTS}/shop/check"),
        ("GET", broadcast),
        ("POST", f"{broadcast}/start"),
        ("DELETE", f"{BOTS}/shop"),
    ):
        assert "/undelete" in refusal(await api.client.request(method, path), 404, "NOT_FOUND"), (method, path)
    assert "/undelete" in refusal(await api.client.post(SEND, json={"chat_id": 1, "text": "x"}), 404, "NOT_FOUND")
    assert (await slugs(api), await slugs(api, deleted=True)) == (["news"], ["shop"])
    assert (await api.client.get("/api/admin/broadcasts")).json()["broadcasts"] == []
    assert "shop" not in (await api.client.get("/metrics")).text
    assert (await api.client.post("/api/admin/media/rewarm", json={"which": "all"})).json()["count"] == 0

    back = (await api.client.post(f"{BOTS}/shop/undelete")).json()
    again = (await api.client.post(f"{BOTS}/shop/undelete")).json()

    assert (back["changed"], again["changed"], back["bot"]["media"]["warming"]) == (True, False, 1)
    assert (await api.client.get(f"/api/admin/media/{media_id}")).status_code == 200
    assert (await api.client.get(broadcast)).status_code == 200
    refusal(await api.client.post(f"{BOTS}/nobody/undelete"), 404, "NOT_FOUND")
    refusal(await api.client.delete(f"{BOTS}/a%00b"), 404, "NOT_FOUND")


async def test_what_a_deleted_bot_has_taken_is_told_with_the_way_to_it(api: Api) -> None:
    await add_bots(api, "news")
    await api.client.delete(f"{BOTS}/shop")
    for body in ({**BOT, "token": token(5)}, {**BOT, "slug": "again"}):
        message = refusal(await api.client.post(BOTS, json=body), 409, "CONFLICT")
        assert "bots/shop/undelete" in message
        assert "forever=true" in message
    taken = await api.client.put(f"{BOTS}/news/token", json={"token": token(0)})
    assert "bots/shop/undelete" in refusal(taken, 409, "CONFLICT")
    assert token(0) not in taken.text


async def test_deleting_for_good_takes_all_of_a_bot_and_nothing_of_others(api: Api) -> None:
    pool = api.telewarm.pool
    await add_bots(api, "news")
    shared, own = await api.add_photo(1), await api.add_photo(2)
    await api.client.post(f"{BOTS}/news/media/share", json={"source": "shop", "media_ids": [shared]})
    session = await api.telewarm.bots.by_slug("shop")
    [made] = await api.telewarm.broadcasts.create([session], MessageSet(text="x"))
    await api.telewarm.broadcasts.add(made.id, readers(5))
    chat = "INSERT INTO chat (bot_id, chat_id, state, reason) VALUES ($1, 7, 'blocked', 'x')"
    await pool.execute(chat, session.bot.id)
    await pool.execute("INSERT INTO idempotency_key (bot_id, key, fingerprint) VALUES ($1, 'k', '')", session.bot.id)
    assert "delete it first" in refusal(await api.client.delete(f"{BOTS}/shop?forever=true"), 409, "CONFLICT")
    await api.client.delete(f"{BOTS}/shop")

    gone = (await api.client.delete(f"{BOTS}/shop?forever=true")).json()

    assert (gone["forever"], gone["media"], gone["broadcasts"], gone["blobs"]) == (True, 2, 1, 1)
    assert gone["bytes"] > 100
    for table in ("broadcast", "broadcast_run", "recipient", "delivery", "chat", "idempotency_key"):
        assert await pool.fetchval(f"SELECT count(*) FROM {table}") == 0, table  # noqa: S608 - the names above
    assert await pool.fetchval("SELECT count(*) FROM media_count WHERE bot_id = $1", session.bot.id) == 0
    assert await pool.fetchval("SELECT string_agg(slug, ' ') FROM bot") == "news"
    refusal(await api.client.post(f"{BOTS}/shop/undelete"), 404, "NOT_FOUND")
    refusal(await api.client.delete(f"{BOTS}/shop?forever=true"), 404, "NOT_FOUND")
    await api.add_bot()  # slug and token are free
    assert (await slugs(api), (await api.client.get(MEDIA)).json()["count"]) == (["news", "shop"], 0)
    assert own != shared


async def test_what_was_given_up_cannot_be_brought_back_and_is_gone_on_with(api: Api) -> None:
    await api.add_photo()
    await api.client.delete(f"{BOTS}/shop")
    bot_id = await deletions.mark_bot_unrecoverable(api.telewarm.pool, "shop")  # whoever did it was killed then
    assert "for good" in refusal(await api.client.post(f"{BOTS}/shop/undelete"), 409, "CONFLICT")
    assert await deletions.unfinished_purges(api.telewarm.pool) == [bot_id]
    assert (await api.client.delete(f"{BOTS}/shop?forever=true")).json()["media"] == 1


async def test_the_one_warm_up_chat_of_the_node_systems_clients_is_a_number_or_a_text(api: Api) -> None:
    url = f"{BOTS}/shop/warmup-chat"
    for given in (-1005, "-1005"):
        answer = await api.client.put(url, json={"warmup_chat_id": given})
        assert answer.json() == {"ok": True, "slug": "shop", "warmup_chat_id": -1005}
    assert (await api.client.get(f"{BOTS}/shop")).json()["bot"]["warmup_chats"] == [-1005]
    wrong: object
    for wrong in ("x", None, 1.5, [], 2**63, True):
        refusal(await api.client.put(url, json={"warmup_chat_id": wrong}), 422, "BAD_REQUEST")


async def test_a_deletion_stops_all_work_of_a_bot_in_every_process_and_its_return_sets_it_going(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    """One process works, another has the API: a broadcast on its way, a send that waits for its turn, a warm-up."""
    slow = {**NO_SWEEP, "TELEWARM_FLOOD_PRIVATE_PER_SECOND": "1", "TELEWARM_FLOOD_PRIVATE_BURST": "1"}
    working = await telewarm_with(slow)
    asking = await telewarm_with(slow, worker=False, ADMIN_API_TOKEN=ADMIN)
    await working.add_bot("shop", token(0), warmup_chats=[WARMUP_CHAT])
    session = await working.bots.by_slug("shop")
    [made] = await working.broadcasts.create([session], MessageSet(text="x"), per_second=20)
    await working.broadcasts.add(made.id, readers(500))
    await working.broadcasts.start(made.id)
    total, person = sandbox.state.stats.total, ChatId(READER + 1000)
    await working.send("shop", person, "first")
    waiting = asyncio.create_task(working.send("shop", person, "second", patience=60))
    await until(lambda: total.messages >= 5)

    async with client_of(asking.api(), **BEARER) as client:
        assert (await client.delete(f"{BOTS}/shop")).status_code == 200
        await until(lambda: not working.worker.status().lanes)
        [media_id] = await add_photos(working, session, 1)  # an upload that had begun before
        before = total.messages
        [second] = await waiting
        assert isinstance(second.error, BotDeleted)
        assert (total.messages, total.uploads) == (before, 0)
        with pytest.raises(BotDeleted):
            await working.send("shop", person, "third")
        assert (await working.broadcasts.get(made.id)).state is BroadcastState.RUNNING

        assert (await client.post(f"{BOTS}/shop/undelete")).json()["changed"] is True
        await until_ready(working, media_id)
        await until(lambda: total.messages > before + 3)
    results = [one async for page in working.broadcasts.results(made.id) for one in page]
    assert {one.outcome for one in results} == {DeliveryStatus.SENT}


async def until(condition: Callable[[], bool]) -> None:
    """Look again and again; the test's own time limit bounds it."""
    while not condition():
        await clock.sleep(0.01)
