"""Several API processes and workers behind one database give the same answers."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.cluster.site import BEARER, Answer, Cluster, heard, item, two_of_each, until
from tests.fixtures.app import READER, WARMUP_CHAT, Opener
from tests.fixtures.sandbox import token

SEND = "/api/admin/bots/{}/send"


@pytest.mark.timeout(60)
async def test_two_api_processes_and_two_workers_are_one_telewarm(telewarm_with: Opener, tmp_path: Path) -> None:
    async with two_of_each(telewarm_with, tmp_path) as cluster:
        async with heard(cluster.first) as here, heard(cluster.second) as there:
            await a_bot_that_one_makes_is_known_to_the_other(cluster)
            photo = await what_comes_in_at_one_goes_out_at_the_other_by_its_file_id(cluster)
            await a_key_sends_once_whichever_is_asked(cluster, photo)
            await a_cold_item_goes_up_once_for_both(cluster)
            await an_id_that_one_found_dead_is_dead_for_the_other(cluster, photo)
            await a_token_that_one_made_opens_the_other_until_it_is_revoked(cluster)
            await a_pause_at_one_is_seen_by_the_other_and_by_both_workers(cluster)
            await a_bot_that_one_deleted_is_gone_for_the_other(cluster)
            await both_tell_the_same_in_the_same_order(here, there)
        for worker in cluster.workers:
            assert worker.complaints() == []


async def a_bot_that_one_makes_is_known_to_the_other(cluster: Cluster) -> None:
    assert (await cluster.second.get("/api/admin/bots/shop/media")).status_code == 404
    made = {"slug": "shop", "token": token(0), "warmup_chats": [WARMUP_CHAT]}
    assert (await cluster.first.post("/api/admin/bots", json=made)).status_code == 201
    answers = [await client.get("/api/admin/bots/shop/media") for client in cluster.both]
    assert [answer.json()["count"] for answer in answers] == [0, 0]
    assert (await cluster.second.post("/api/admin/bots", json=made)).status_code == 409


async def what_comes_in_at_one_goes_out_at_the_other_by_its_file_id(cluster: Cluster) -> int:
    photo = await cluster.add_photo(cluster.first, "shop", 1)
    await cluster.until_ready(cluster.second, photo)
    for client in cluster.both:
        [result] = await send(client, {"media": [photo]})
        assert result["cache_hit"], result
    assert cluster.sandbox.state.stats.total.uploads == 1
    return photo


async def a_key_sends_once_whichever_is_asked(cluster: Cluster, photo: int) -> None:
    before = cluster.sandbox.state.stats.chats[READER]
    asked = {"chat_id": READER, "media": [photo]}
    answers = await asyncio.gather(
        *(
            client.post(SEND.format("shop"), json=asked, headers={"Idempotency-Key": "order-4711"})
            for client in 10 * cluster.both
        )
    )
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["results"][0]["message_id"] for answer in answers}) == 1
    assert Counter(answer.json()["replayed"] for answer in answers) == {False: 1, True: 19}
    assert cluster.sandbox.state.stats.chats[READER] == before + 1


async def a_cold_item_goes_up_once_for_both(cluster: Cluster) -> None:
    """Paused, so that no worker warms it first."""
    assert (await cluster.first.post("/api/admin/bots/shop/pause")).status_code == 200
    photo = await cluster.add_photo(cluster.first, "shop", 2)
    uploads, before = cluster.sandbox.state.stats.total.uploads, dict(cluster.sandbox.state.stats.chats)
    readers = [READER + 1 + number for number in range(60)]
    sent = await asyncio.gather(
        *(
            send(cluster.both[number % 2], {"media": [photo], "chat_id": reader})
            for number, reader in enumerate(readers)
        )
    )
    assert all(result["message_id"] for [result] in sent)
    assert cluster.sandbox.state.stats.total.uploads == uploads + 1
    assert [cluster.sandbox.state.stats.chats[reader] - before.get(reader, 0) for reader in readers] == 60 * [1]
    assert (await cluster.second.post("/api/admin/bots/shop/resume")).status_code == 200


async def an_id_that_one_found_dead_is_dead_for_the_other(cluster: Cluster, photo: int) -> None:
    dead = (await item(cluster.first, photo))["cache"]["file_id"]
    cluster.sandbox.state.files.killed.add(dead)
    [healed] = await send(cluster.first, {"media": [photo]})
    assert healed["message_id"]
    fresh = await until(
        lambda: item(cluster.second, photo),
        lambda found: found["state"] == "ready" and found["cache"]["file_id"] != dead,
    )
    for client in cluster.both:
        [result] = await send(client, {"media": [photo]})
        assert result["cache_hit"], result
    assert fresh["cache"]["file_id"] == (await item(cluster.first, photo))["cache"]["file_id"]


async def a_token_that_one_made_opens_the_other_until_it_is_revoked(cluster: Cluster) -> None:
    made = await cluster.first.post("/api/admin/tokens", json={"name": "grafana", "role": "read"})
    headers = {"Authorization": f"Bearer {made.json()['token']}"}
    for client in cluster.both:
        assert (await client.get("/api/admin/bots/shop/media", headers=headers)).status_code == 200
        assert (await client.post("/api/admin/bots/shop/pause", headers=headers)).status_code == 403
    assert (await cluster.second.delete("/api/admin/tokens/grafana")).status_code == 200
    for client in cluster.both:
        await until(lambda: status_of(client, headers), lambda seen: seen["status"] == 401)  # noqa: B023 - at once


async def a_pause_at_one_is_seen_by_the_other_and_by_both_workers(cluster: Cluster) -> None:
    assert (await cluster.first.post("/api/admin/bots/shop/pause")).json()["changed"]
    assert not (await cluster.second.post("/api/admin/bots/shop/pause")).json()["changed"]
    photo = await cluster.add_photo(cluster.second, "shop", 3)
    assert (await item(cluster.first, photo))["state"] == "warming"
    assert (await cluster.second.post("/api/admin/bots/shop/resume")).json()["changed"]
    await cluster.until_ready(cluster.first, photo)


async def a_bot_that_one_deleted_is_gone_for_the_other(cluster: Cluster) -> None:
    assert (await cluster.second.delete("/api/admin/bots/shop")).status_code == 200
    await until(lambda: status_of(cluster.first, {}), lambda seen: seen["status"] == 404)
    asked = {"chat_id": READER, "text": "Hello"}
    assert (await cluster.first.post(SEND.format("shop"), json=asked)).status_code == 404


async def both_tell_the_same_in_the_same_order(here: list[Answer], there: list[Answer]) -> None:
    for events in (here, there):
        await until(lambda: last_of(events), lambda seen: seen.get("change") == "deleted")  # noqa: B023 - at once
    assert here == there
    ids = [event["id"] for event in here]
    assert ids == sorted(set(ids))
    assert {"bot.changed", "media.added", "media.ready"} <= {event["type"] for event in here}


async def last_of(events: list[Answer]) -> Answer:
    return events[-1] if events else {}


async def send(client: httpx.AsyncClient, asked: dict[str, object]) -> list[dict[str, object]]:
    answer = await client.post(SEND.format("shop"), json={"chat_id": READER, **asked})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, object]] = answer.json()["results"]
    return results


async def status_of(client: httpx.AsyncClient, headers: dict[str, str]) -> dict[str, object]:
    return {"status": (await client.get("/api/admin/bots/shop/media", headers=BEARER | headers)).status_code}
