"""A client of the Node system, as it was: the old routes, the old fields, nothing changed for it."""

from __future__ import annotations

import base64
import hashlib

from telewarm.models import MediaId
from tests.api.conftest import Api
from tests.fixtures.app import WARMUP_CHAT, until_ready
from tests.fixtures.media import jpeg

ADMIN = "/api/admin"


async def test_a_client_of_the_node_system_goes_all_its_ways(warming_api: Api) -> None:
    client, photo = warming_api.client, jpeg(7)
    chat = await client.put(f"{ADMIN}/bots/shop/warmup-chat", json={"warmup_chat_id": str(WARMUP_CHAT)})
    assert chat.json() == {"ok": True, "slug": "shop", "warmup_chat_id": WARMUP_CHAT}

    body = {
        "kind": "photo",
        "data_base64": base64.b64encode(photo).decode(),
        "mime": "image/jpeg",
        "ext": "jpg",
        "width": 64,
        "height": 48,
        "duration": 0,
    }
    added = (await client.post(f"{ADMIN}/bots/shop/media", json=body)).json()
    assert (added["ok"], added["kind"], added["bytes"]) == (True, "photo", len(photo))
    assert (added["sha256"], added["warming"]) == (hashlib.sha256(photo).hexdigest(), True)
    assert added["r2_key"].endswith(f"{added['sha256']}.jpg")
    media_id = added["media_id"]
    await until_ready(warming_api.telewarm, MediaId(media_id))

    listed = (await client.get(f"{ADMIN}/bots/shop/media?kind=photo&limit=100&offset=0")).json()
    assert [listed[name] for name in ("ok", "count", "limit", "offset")] == [True, 1, 100, 0]
    assert listed["media"][0]["media_id"] == media_id
    one = (await client.get(f"{ADMIN}/media/{media_id}")).json()
    assert one["media"]["cache"]["status"] == "ready"
    assert one["media"]["cache"]["file_id"]
    assert one["media"]["cache"]["file_unique_id"]

    again = (await client.post(f"{ADMIN}/media/{media_id}/rewarm")).json()
    assert (again["ok"], again["media_id"], str(media_id) in again["message"]) == (True, media_id, True)

    queue = (await client.get(f"{ADMIN}/media/queue/metrics")).json()
    names = {"queue_size", "processing_count", "active_workers", "max_concurrency", "utilization_pct"}
    assert names | {"ok"} <= queue.keys()
    metrics = (await client.get(f"{ADMIN}/media/prewarm/metrics")).json()["metrics"]
    assert names | {"worker_running", "queue_items"} <= metrics.keys()
    assert metrics["worker_running"] is True

    await until_ready(warming_api.telewarm, MediaId(media_id))  # or it would be in the queue still
    assert (await client.post(f"{ADMIN}/media/prewarm/stop")).json()["ok"] is True
    assert (await client.get(f"{ADMIN}/media/prewarm/status")).json()["ok"] is True
    waiting = (await client.post(f"{ADMIN}/bots/shop/media", json={**body, "kind": "document"})).json()
    [item] = (await client.get(f"{ADMIN}/media/prewarm/metrics")).json()["metrics"]["queue_items"]
    assert (item["bot_slug"], item["kind"], item["sha256"]) == ("shop", "document", f"{waiting['sha256'][:16]}…")
    assert item["waiting_ms"] >= 0
    assert item["enqueued_at"] > 1_700_000_000_000
    assert (await client.post(f"{ADMIN}/media/prewarm/start")).json()["ok"] is True
    await until_ready(warming_api.telewarm, MediaId(waiting["media_id"]))
    refused = await client.post(f"{ADMIN}/bots/shop/media", json={"kind": "photo", "data_base64": "!"})
    assert (refused.status_code, refused.json()["ok"]) == (400, False)
