"""Routes: start, stop and status of the worker of this process; pause and resume of a bot."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from telewarm.api.dependencies import BotDep, StateDep
from telewarm.api.openapi import EXAMPLE_TIME, Ok, TimeText, responses_of
from telewarm.worker.supervisor import WorkerStatus as Standing

router = APIRouter(tags=["worker"])


class LaneOut(BaseModel):
    """One bot's background work in this process."""

    bot_id: Annotated[int, Field(description="Our id of the bot", examples=[1])]
    in_flight: Annotated[int, Field(description="Calls to Telegram under way", examples=[5])]
    held: Annotated[int, Field(description="Claimed jobs that wait for their turn", examples=[12])]


class WorkerOut(BaseModel):
    """The worker of the process that answers."""

    running: Annotated[bool, Field(description="It was started and not stopped", examples=[True])]
    draining: Annotated[bool, Field(description="Told to stop, it ends what is in flight", examples=[False])]
    since: Annotated[
        TimeText | None, Field(description="When it was started, in UTC; null: not running", examples=[EXAMPLE_TIME])
    ]
    interval_ms: Annotated[
        int, Field(description="Milliseconds between sweeps (MEDIA_PREWARM_INTERVAL_MS)", examples=[2000])
    ]
    concurrency: Annotated[
        int, Field(description="Warm-ups in flight of one bot (MEDIA_PREWARM_CONCURRENCY)", examples=[5])
    ]
    max_queue_size: Annotated[
        int, Field(description="Claimed media in memory, at most (MEDIA_PREWARM_MAX_QUEUE)", examples=[500])
    ]
    max_lanes: Annotated[int, Field(description="Bots at once, at most", examples=[100])]
    in_flight: Annotated[int, Field(description="Of all lanes", examples=[5])]
    held: Annotated[int, Field(description="Of all lanes", examples=[12])]
    lanes: Annotated[list[LaneOut], Field(description="Those that run here")]


class WorkerStatusOut(BaseModel):
    """Status of the worker."""

    ok: Ok
    worker: Annotated[WorkerOut, Field(description="As it is now")]


class ChangedOut(BaseModel):
    """Whether the state changed."""

    ok: Ok
    changed: Annotated[bool, Field(description="False: it was so already", examples=[True])]


class WorkerControlOut(ChangedOut):
    """Whether the state changed, and the worker's status."""

    worker: Annotated[WorkerOut, Field(description="As it is now")]


@router.post("/media/prewarm/start", **responses_of(WorkerControlOut, description="It runs"))
async def start_worker(serving: StateDep) -> dict[str, object]:
    """Start this process's worker. `changed` is false when it runs already."""
    changed = await serving.worker.start()
    return {"ok": True, "changed": changed, "worker": describe(serving.worker.status())}


@router.post("/media/prewarm/stop", **responses_of(WorkerControlOut, description="It has ended"))
async def stop_worker(serving: StateDep) -> dict[str, object]:
    """Drain this process's worker: uploads in flight end, the rest goes back to the queue; then it answers."""
    changed = await serving.worker.stop()
    return {"ok": True, "changed": changed, "worker": describe(serving.worker.status())}


@router.get("/media/prewarm/status", **responses_of(WorkerStatusOut, description="As it is now"))
async def get_worker_status(serving: StateDep) -> dict[str, object]:
    """Look at what this process's worker does now."""
    return {"ok": True, "worker": describe(serving.worker.status())}


@router.post("/bots/{slug}/pause", **responses_of(ChangedOut, "NOT_FOUND", description="It is paused"))
async def pause_bot(session: BotDep, serving: StateDep) -> dict[str, object]:
    """Stop the bot's warm-ups and broadcasts in every process; what is in flight finishes. Sends go on."""
    return {"ok": True, "changed": await serving.bots.pause(session.bot.slug)}


@router.post("/bots/{slug}/resume", **responses_of(ChangedOut, "NOT_FOUND", description="It goes on"))
async def resume_bot(session: BotDep, serving: StateDep) -> dict[str, object]:
    """Let the bot's warm-ups and broadcasts go on."""
    return {"ok": True, "changed": await serving.bots.resume(session.bot.slug)}


def describe(status: Standing) -> dict[str, object]:
    """Return the worker's status as JSON."""
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
