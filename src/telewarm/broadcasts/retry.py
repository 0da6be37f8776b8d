"""Retry of a write until the database is reachable. No deadline: cancel to stop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from telewarm import clock
from telewarm.database.transient import is_transient
from telewarm.models import BroadcastId

log = structlog.get_logger(__name__)
T = TypeVar("T")

RETRY_SECONDS = 0.5  # seconds between two attempts


async def retry_until_available(broadcast_id: BroadcastId, work: Callable[[], Awaitable[T]]) -> T:
    """Run `work` until it does not fail with a transient database error."""
    while True:
        try:
            return await work()
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("broadcast_write_retried", broadcast_id=broadcast_id, error=type(error).__name__)
            await clock.sleep(RETRY_SECONDS)
