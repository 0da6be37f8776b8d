"""Routes: the warm-up queue as the Node system showed it, and a little more."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from telewarm.api.dependencies import AppState, StateDep
from telewarm.api.openapi import responses_of
from telewarm.api.schemas.media_and_bots import PrewarmStatsOut, QueueStats
from telewarm.database import queue_snapshot
from telewarm.database.queue_snapshot import QueueItem, QueueSnapshot

router = APIRouter(tags=["worker"])


@router.get("/media/queue/metrics", **responses_of(QueueStats, description="As it is now"))
async def queue_metrics(serving: StateDep) -> dict[str, object]:
    """How much waits to be warmed, and how busy this process's worker is. Costs the same however much waits."""
    return {"ok": True, **_warmup_stats(serving, await queue_snapshot.take_snapshot(serving.pool))}


@router.get("/media/prewarm/metrics", **responses_of(PrewarmStatsOut, description="As it is now"))
async def prewarm_metrics(serving: StateDep) -> dict[str, object]:
    """How much waits to be warmed, with what goes next and the depth of each bot's queue."""
    found, following = await asyncio.gather(
        queue_snapshot.take_snapshot(serving.pool), queue_snapshot.next_items(serving.pool)
    )
    bots = [
        {"bot_slug": one.slug, "due": one.due, "waiting": one.waiting, "head_age_s": one.head_age}
        for one in found.depths
    ]
    figures = {
        **_warmup_stats(serving, found),
        "worker_running": serving.worker.status().running,
        "queue_items": [_describe_item(one) for one in following],
        "bots": bots,
    }
    return {"ok": True, "metrics": figures}


def _warmup_stats(serving: AppState, found: QueueSnapshot) -> dict[str, object]:
    status = serving.worker.status()
    places = status.limits.concurrency * max(1, len(status.lanes))
    return {
        "queue_size": found.waiting,
        "processing_count": found.claimed,
        "active_workers": status.in_flight,
        "max_concurrency": places,
        "utilization_pct": round(100 * status.in_flight / places, 1),
    }


def _describe_item(one: QueueItem) -> dict[str, object]:
    return {
        "bot_slug": one.slug,
        "media_id": one.id,
        "kind": one.kind,
        "sha256": f"{one.sha256[:16]}…",
        "enqueued_at": one.queued_at and round(1000 * one.queued_at.timestamp()),
        "waiting_ms": one.waiting_ms,
    }
