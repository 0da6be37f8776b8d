"""Writing of a run's update, even when one of its outcomes cannot be stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import structlog
from msgspec import structs

from telewarm.database import broadcast_runs
from telewarm.database.broadcast_runs import RunUpdate
from telewarm.database.connection import Pool
from telewarm.database.transient import is_transient
from telewarm.models import BroadcastId, BroadcastState, Delivery

log = structlog.get_logger(__name__)


async def save_update(
    pool: Pool, broadcast_id: BroadcastId, lease_id: UUID, written: RunUpdate, *, notify: bool
) -> BroadcastState | None:
    """Write an update by `broadcast_runs.advance`.

    When the database refuses the update, its outcomes are written one by one, and one that is refused alone is stored
    without its error text. Raises on a lost database; nothing is forgotten then.
    """
    try:
        return await broadcast_runs.save_progress(pool, broadcast_id, lease_id, written, notify=notify)
    except Exception as error:
        if is_transient(error) or not written.outcomes:
            raise
        log.exception("broadcast_outcomes_refused", broadcast_id=broadcast_id, outcomes=len(written.outcomes))
    state: BroadcastState | None = None
    for step in _one_by_one(written):
        state = await _save_one(pool, broadcast_id, lease_id, step, notify=notify)
        if state is None:
            break
    return state


def _one_by_one(written: RunUpdate) -> Sequence[RunUpdate]:
    """Split an update into one for each outcome. Recipients with later outcomes stay in flight until then."""
    left = [one.chat_id for one in written.outcomes]
    return [
        replace(written, outcomes=[one], in_flight=[*written.in_flight, *left[at + 1 :]])
        for at, one in enumerate(written.outcomes)
    ]


async def _save_one(
    pool: Pool, broadcast_id: BroadcastId, lease_id: UUID, written: RunUpdate, *, notify: bool
) -> BroadcastState | None:
    try:
        return await broadcast_runs.save_progress(pool, broadcast_id, lease_id, written, notify=notify)
    except Exception as error:
        if is_transient(error):
            raise
        (outcome,) = written.outcomes
        log.exception("broadcast_outcome_refused", broadcast_id=broadcast_id, chat_id=outcome.chat_id)
        wordless = replace(written, outcomes=[_without_error_text(outcome, error)])
    return await broadcast_runs.save_progress(pool, broadcast_id, lease_id, wordless, notify=notify)


def _without_error_text(outcome: Delivery, error: Exception) -> Delivery:
    return structs.replace(outcome, error=f"INTERNAL: the reason cannot be stored ({type(error).__name__})")
