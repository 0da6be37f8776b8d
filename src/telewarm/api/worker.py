"""The worker of this process: start, stop, status. And the background work of one bot: pause, resume."""

from __future__ import annotations

from fastapi import APIRouter

from telewarm.api.services import OfBot, Serving
from telewarm.database import bots
from telewarm.lanes import Status, wake

router = APIRouter(tags=["worker"])


@router.post("/media/prewarm/start")
async def start(serving: Serving) -> dict[str, object]:
    """Start this process's worker. `changed` is false when it runs already."""
    changed = await serving.worker.start()
    return {"ok": True, "changed": changed, "worker": describe(serving.worker.status())}


@router.post("/media/prewarm/stop")
async def stop(serving: Serving) -> dict[str, object]:
    """Drain this process's worker: uploads in flight end, the rest goes back to the queue; then it answers."""
    changed = await serving.worker.stop()
    return {"ok": True, "changed": changed, "worker": describe(serving.worker.status())}


@router.get("/media/prewarm/status")
async def status(serving: Serving) -> dict[str, object]:
    """What this process's worker does now."""
    return {"ok": True, "worker": describe(serving.worker.status())}


@router.post("/bots/{slug}/pause")
async def pause(live: OfBot, serving: Serving) -> dict[str, object]:
    """Stop the bot's warm-ups in every process; what is in flight ends. Sends go on."""
    return {"ok": True, "changed": await bots.set_paused(serving.pool, live.bot.id, paused=True)}


@router.post("/bots/{slug}/resume")
async def resume(live: OfBot, serving: Serving) -> dict[str, object]:
    """Let the bot's warm-ups go on."""
    async with serving.pool.acquire() as connection, connection.transaction():
        changed = await bots.set_paused(connection, live.bot.id, paused=False)
        await wake(connection, live.bot)
    return {"ok": True, "changed": changed}


def describe(status: Status) -> dict[str, object]:
    return {
        "running": status.running,
        "draining": status.draining,
        "since": status.since and status.since.isoformat(),
        "interval_ms": round(1000 * status.limits.interval),
        "concurrency": status.limits.concurrency,
        "max_queue_size": status.limits.held,
        "max_lanes": status.limits.lanes,
        "in_flight": status.in_flight,
        "held": status.held,
        "lanes": [{"bot_id": lane.bot_id, "in_flight": lane.in_flight, "held": lane.held} for lane in status.lanes],
    }
