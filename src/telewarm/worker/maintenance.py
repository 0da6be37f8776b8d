"""Maintenance of the tables, in isolated steps: a failing step does not stop the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import structlog

from telewarm import background, clock
from telewarm.database import audit, bots, events, idempotency, leases, pgqueuer_maintenance, submissions, warmups
from telewarm.database.connection import Pool
from telewarm.database.transient import is_transient

log = structlog.get_logger(__name__)

MAINTENANCE_INTERVAL_SECONDS = (
    30.0  # between two rounds in a process without a worker; a worker runs a round with each sweep
)

Step = Callable[[Pool], Awaitable[object]]

STEPS: Mapping[str, Step] = {
    "sweep_leases": leases.sweep,
    "sweep_counts": warmups.merge_count_deltas,
    "sweep_abandoned_drafts": submissions.delete_abandoned,
    "forget_past_waits": bots.delete_expired_flood_waits,
    "sweep_idempotency_keys": idempotency.sweep,
    "trim_audit_log": audit.trim,
    "sequence_events": events.assign_sequence,
    "trim_events": events.trim,
    "trim_queue_log": pgqueuer_maintenance.trim_log,
    "compact_queue": pgqueuer_maintenance.reindex_bloated,
}


async def maintain(pool: Pool, steps: Mapping[str, Step] = STEPS) -> None:
    """Run one round. Concurrent processes share the work."""
    for name, step in steps.items():
        await run_step(name, lambda step=step: step(pool))  # type: ignore[misc]  # bound in the loop


async def run_step(name: str, work: Callable[[], Awaitable[object]]) -> bool:
    """Run a step and log its failure, with a traceback unless it is an outage. Returns whether it succeeded."""
    try:
        await work()
    except Exception as error:
        log.warning(
            "maintenance_step_failed",
            step=name,
            error=type(error).__name__,
            detail=str(error),
            exc_info=not is_transient(error),
        )
        return False
    return True


@asynccontextmanager
async def run_periodically(pool: Pool) -> AsyncIterator[None]:
    """Run rounds in the background, for a process that may have no worker."""
    stop = asyncio.Event()
    task = background.start(_repeat(pool, stop), name="maintenance")
    try:
        yield
    finally:
        stop.set()
        task.cancel()
        await asyncio.wait([task])


async def _repeat(pool: Pool, stop: asyncio.Event) -> None:
    while not await clock.wait(stop, MAINTENANCE_INTERVAL_SECONDS):
        await maintain(pool)
