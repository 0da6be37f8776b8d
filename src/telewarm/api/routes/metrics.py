"""Route: metrics for Prometheus."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from fastapi import APIRouter, Response

from telewarm import metrics
from telewarm.api.dependencies import StateDep
from telewarm.database import warmups
from telewarm.database.connection import Pool
from telewarm.database.transient import as_unavailable_error

log = structlog.get_logger(__name__)
router = APIRouter(tags=["metrics"])

TEXT_RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}, "example": "telewarm_database_up 1.0\n"}}}
}
DATABASE_TIMEOUT_SECONDS = (
    5.0  # seconds that the database has: Prometheus gives up after ten, and then has nothing at all
)


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", response_class=Response, response_description="Everything", responses=TEXT_RESPONSE)
async def get_metrics(serving: StateDep) -> Response:
    """Return this process's counters and the depths of the queues in Prometheus's text format."""
    status = serving.worker.status()
    now = metrics.MetricsSnapshot(
        in_flight=status.in_flight,
        slots=status.limits.concurrency * len(status.lanes),
        queues=await queue_samples(serving.pool),
    )
    return Response(metrics.render(now), media_type=metrics.CONTENT_TYPE)


async def queue_samples(pool: Pool) -> list[metrics.QueueSample] | None:
    """Return the samples of the queues; None while the database is unavailable, when other metrics matter most."""
    try:
        async with asyncio.timeout(DATABASE_TIMEOUT_SECONDS):
            depths = await warmups.queue_depths(pool)
    except Exception as error:
        if as_unavailable_error(error) is None:
            raise
        log.warning("queue_metrics_unavailable", error=type(error).__name__)
        return None
    return [
        metrics.QueueSample(slug=one.slug, due=one.due, waiting=one.waiting, head_age=one.head_age) for one in depths
    ]
