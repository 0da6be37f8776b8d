"""The warm-up queue in the Node system's shape: how much waits, who is busy, what goes next."""

from __future__ import annotations

from telewarm import clock
from telewarm.api.schemas.media_and_bots import PrewarmStatsOut, QueueStats
from tests.api.conftest import BOT, Api
from tests.fixtures.rows import make_lease
from tests.fixtures.sandbox import token

QUEUE = "/api/admin/media/queue/metrics"
PREWARM = "/api/admin/media/prewarm/metrics"
FILL = """
INSERT INTO blob (sha256, bytes, mime, ext, storage_key)
SELECT lpad(to_hex(n), 64, '0'), 1000, 'image/jpeg', 'jpg', 'k' FROM generate_series(1, 60) AS n;

INSERT INTO media (bot_id, sha256, kind, state, priority, queued_at, next_attempt_at)
SELECT bot.id, lpad(to_hex(n), 64, '0'), 'photo', 'warming', 2 * n + (slug = 'news')::int, now() - interval '90 s',
       CASE WHEN n > 55 THEN now() + interval '1 hour' END
FROM generate_series(1, 60) AS n, bot;
"""


async def test_an_empty_queue_says_so(api: Api) -> None:
    answer = (await api.client.get(QUEUE)).json()
    assert answer == {
        "ok": True,
        "queue_size": 0,
        "processing_count": 0,
        "active_workers": 0,
        "max_concurrency": 5,
        "utilization_pct": 0,
    }
    QueueStats.model_validate(answer)


async def test_what_waits_and_what_goes_next_is_told_of_all_bots_but_those_that_rest(api: Api) -> None:
    pool = api.telewarm.pool
    for number, slug in enumerate(("news", "away", "resting"), start=1):
        await api.client.post("/api/admin/bots", json={**BOT, "slug": slug, "token": token(number)})
    await pool.execute(FILL)
    await pool.execute("UPDATE media SET lease_id = $1 WHERE priority < 4", await make_lease(pool))
    await api.client.delete("/api/admin/bots/away")
    await api.client.post("/api/admin/bots/resting/pause")

    answer = (await api.client.get(PREWARM)).json()

    PrewarmStatsOut.model_validate(answer)
    metrics = answer["metrics"]
    assert (metrics["queue_size"], metrics["processing_count"], metrics["worker_running"]) == (177, 3, False)
    assert [(bot["bot_slug"], bot["due"], bot["waiting"]) for bot in metrics["bots"]] == [
        ("news", 60, 5),
        ("resting", 60, 5),
        ("shop", 60, 5),
    ]
    items = metrics["queue_items"]
    assert [item["bot_slug"] for item in items] == ["shop", "news"] * 10
    assert (items[0]["sha256"], items[0]["kind"]) == ("0000000000000000…", "photo")
    for item in items:
        assert 90_000 <= item["waiting_ms"] < 150_000
        assert abs(item["enqueued_at"] + item["waiting_ms"] - 1000 * clock.now().timestamp()) < 60_000
    assert (await api.client.get(QUEUE)).json()["queue_size"] == 177
