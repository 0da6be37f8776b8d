"""Routes: liveness and readiness, which are public and say little, and health, which needs a token."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

import telewarm
from telewarm import clock, metrics
from telewarm.api.dependencies import StateDep
from telewarm.api.error_responses import error_response
from telewarm.api.health_checks import CheckResult
from telewarm.api.openapi import ErrorBody, TimeText, error_responses, responses_of
from telewarm.api.routes.metrics import queue_samples
from telewarm.api.routes.worker import WorkerOut
from telewarm.api.routes.worker import describe as describe_worker
from telewarm.database import bots
from telewarm.database.connection import Pool
from telewarm.database.transient import as_unavailable_error

probe_router = APIRouter(tags=["health"])
router = APIRouter(tags=["health"])

MAX_LISTED_BOTS = 100  # that are named
DATABASE_TIMEOUT_SECONDS = 3.0  # seconds that the database has
NO_STORE_HEADERS = {"Cache-Control": "no-store"}


class LivenessOut(BaseModel):
    """Liveness."""

    ok: Annotated[bool, Field(description="Always true", examples=[True])]


class ReadinessOut(BaseModel):
    """Readiness."""

    ok: Annotated[bool, Field(description="All of them are there", examples=[True])]
    checks: Annotated[
        dict[str, bool],
        Field(
            description="By name, whether it is there: database, migrations, store, spool (the disk), and worker while "
            "this process runs one; and `work`, false, while work is due that no worker takes",
            examples=[{"database": True, "migrations": True, "store": True, "spool": True, "worker": True}],
        ),
    ]


class NotReadyOut(ErrorBody):
    """Missing readiness."""

    checks: Annotated[
        dict[str, bool] | None, Field(description="As in the answer of a ready one", examples=[{"database": False}])
    ] = None


class CheckOut(BaseModel):
    """Result of one check."""

    status: Annotated[Literal["ok", "failed"], Field(description="Whether it is there", examples=["ok"])]
    latency_ms: Annotated[float, Field(description="Milliseconds that the look took", examples=[0.8])]
    message: Annotated[str | None, Field(description="What is wrong, and the cure", examples=[None])]
    facts: Annotated[
        dict[str, Any],
        Field(description="More of it, such as versions and bytes; other words may be added", examples=[{"free": 1}]),
    ]


class ProcessOut(BaseModel):
    """Resources of this process."""

    pid: Annotated[int, Field(description="Its number on its machine", examples=[4711])]
    python: Annotated[str, Field(description="Version of Python", examples=["3.12.8"])]
    memory_bytes: Annotated[int | None, Field(description="Resident; null if unknown", examples=[93_000_000])]
    cpu_seconds: Annotated[float | None, Field(description="Used since it started", examples=[12.5])]
    open_files: Annotated[int | None, Field(description="Files and sockets", examples=[31])]
    decoder_isolation: Annotated[
        list[str] | None,
        Field(
            description="Which layers shut in the processes that decode media: nobody (where it is root), "
            "no_new_privs, landlock, seccomp, rlimits; null: none has started yet",
            examples=[["landlock", "no_new_privs", "rlimits", "seccomp"]],
        ),
    ]


class QueueOut(BaseModel):
    """Warm-up queue of a bot."""

    due: Annotated[int, Field(description="Media that are to be warmed, in hand or not", examples=[120])]
    waiting: Annotated[int, Field(description="Of them for a back-off to end; at most 100 a bot", examples=[3])]
    oldest_seconds: Annotated[
        float | None, Field(description="How long the one that goes next has waited; null: none waits", examples=[2.5])
    ]


class PausedBotOut(BaseModel):
    """A bot that is held back."""

    slug: Annotated[str, Field(description="Your name for the bot", examples=["shop"])]
    paused: Annotated[bool, Field(description="By a person", examples=[False])]
    flood_wait_seconds: Annotated[float, Field(description="That Telegram asked the bot to wait", examples=[12.0])]
    chats_waiting: Annotated[int, Field(description="Chats with a flood wait of their own", examples=[1])]
    longest_chat_wait_seconds: Annotated[float, Field(description="The longest of those", examples=[30.0])]


class PausedBotsOut(BaseModel):
    """Bots that are held back."""

    count: Annotated[int, Field(description="Of all bots", examples=[12])]
    held: Annotated[list[PausedBotOut], Field(description="Paused or in a flood wait; 100 at most")]


class HealthOut(BaseModel):
    """Health."""

    ok: Annotated[bool, Field(description="False: something that is needed is not there", examples=[True])]
    status: Annotated[
        Literal["ok", "degraded", "down"],
        Field(
            description="`degraded`: the Bot API server does not answer, or due work is not taken. "
            "`down`: `ok` is false",
            examples=["ok"],
        ),
    ]
    timestamp: Annotated[TimeText, Field(description="Now, in UTC", examples=["2031-05-01T12:00:00+00:00"])]
    uptime: Annotated[float, Field(description="Seconds since this process opened Telewarm", examples=[86_400.5])]
    version: Annotated[str, Field(description="Of Telewarm", examples=["0.1.0"])]
    checks: Annotated[
        dict[str, CheckOut],
        Field(
            description="As in /readyz, and `telegram`: whether the Bot API server answers at all, without a token; "
            "and `work`, failed, while work is due that no worker takes"
        ),
    ]
    process: Annotated[ProcessOut, Field(description="This process")]
    worker: Annotated[WorkerOut, Field(description="As in /api/admin/media/prewarm/status")]
    queue: Annotated[QueueOut | None, Field(description="Of all bots; null: the database does not tell")]
    bots: Annotated[PausedBotsOut | None, Field(description="Null: the database does not tell")]


class UnhealthyOut(ErrorBody):
    """Missing health, with all fields of a healthy response unless the checks themselves failed."""

    model_config = ConfigDict(extra="allow")


@probe_router.head("/healthz", include_in_schema=False)
@probe_router.get("/healthz", **responses_of(LivenessOut, description="It lives"))
async def healthz() -> dict[str, bool]:
    """Return whether this process responds. Nothing else is checked: restart it when this fails."""
    return {"ok": True}


@probe_router.head("/readyz", include_in_schema=False)
@probe_router.get(
    "/readyz",
    **responses_of(
        ReadinessOut, description="All are there", other_responses=error_responses("NOT_READY", model=NotReadyOut)
    ),
)
async def readyz(serving: StateDep) -> JSONResponse:
    """Return whether all required services are available: send requests. Results are cached for a second."""
    needed, untaken = await asyncio.gather(
        serving.health_checks.run_required(), serving.health_checks.check_untaken_work()
    )
    return _health_response(needed, {"checks": {name: found.ok for name, found in {**needed, **untaken}.items()}})


@router.head("/health", include_in_schema=False)
@router.get(
    "/health",
    **responses_of(
        HealthOut,
        description="Nothing that is needed is missing",
        other_responses=error_responses("NOT_READY", model=UnhealthyOut),
    ),
)
async def health(serving: StateDep) -> Response:
    """Show the health for people and monitors: each dependency with its latency, memory, disk, queue, flood waits."""
    (needed, telegram), untaken, standing = await asyncio.gather(
        serving.health_checks.run_all(), serving.health_checks.check_untaken_work(), _queue_and_bots(serving.pool)
    )
    down = not all(found.ok for found in needed.values())
    shown = {
        "status": "down" if down else "ok" if telegram.ok and not untaken else "degraded",
        "timestamp": clock.now().isoformat(),
        "uptime": round(clock.monotonic() - serving.health_checks.started_at, 1),
        "version": telewarm.__version__,
        "checks": {name: _describe_check(found) for name, found in {**needed, "telegram": telegram, **untaken}.items()},
        "process": {**_describe_process(), "decoder_isolation": _sorted_layers(serving.library.probe.isolation)},
        "worker": describe_worker(serving.worker.status()),
        **standing,
    }
    return _health_response(needed, shown)


def _health_response(required: Mapping[str, CheckResult], shown: dict[str, Any]) -> JSONResponse:
    missing = [name for name, found in required.items() if not found.ok]
    if missing:
        return error_response(503, "NOT_READY", f"not there: {', '.join(missing)}", headers=NO_STORE_HEADERS, **shown)
    return JSONResponse({"ok": True, **shown}, headers=NO_STORE_HEADERS)


def _describe_check(result: CheckResult) -> dict[str, object]:
    return {
        "status": "ok" if result.ok else "failed",
        "latency_ms": round(1000 * result.seconds, 2),
        "message": result.error,
        "facts": dict(result.details),
    }


def _describe_process() -> dict[str, object]:
    used = metrics.process()
    return {
        "pid": os.getpid(),
        "python": platform.python_version(),
        "memory_bytes": used.memory_bytes,
        "cpu_seconds": used.cpu_seconds,
        "open_files": used.open_files,
    }


def _sorted_layers(layers: frozenset[str] | None) -> list[str] | None:
    return None if layers is None else sorted(layers)


async def _queue_and_bots(pool: Pool) -> dict[str, object]:
    queue, held = await asyncio.gather(queue_samples(pool), _paused_bots(pool))
    return {"queue": None if queue is None else _sum_samples(queue), "bots": held}


def _sum_samples(samples: list[metrics.QueueSample]) -> dict[str, object]:
    return {
        "due": sum(one.due for one in samples),
        "waiting": sum(one.waiting for one in samples),
        "oldest_seconds": max((one.head_age for one in samples if one.head_age is not None), default=None),
    }


async def _paused_bots(pool: Pool) -> dict[str, object] | None:
    try:
        async with asyncio.timeout(DATABASE_TIMEOUT_SECONDS):
            count, held = await bots.count(pool), await bots.paused_bots(pool, limit=MAX_LISTED_BOTS)
    except Exception as error:
        if as_unavailable_error(error) is None:
            raise
        return None
    return {"count": count, "held": [_describe_paused_bot(one) for one in held]}


def _describe_paused_bot(one: bots.PausedBot) -> dict[str, object]:
    return {
        "slug": one.slug,
        "paused": one.paused,
        "flood_wait_seconds": round(one.flood_wait, 1),
        "chats_waiting": one.chats_waiting,
        "longest_chat_wait_seconds": round(one.longest_chat_wait, 1),
    }
