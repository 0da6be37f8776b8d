"""Store of one broadcast's run. Necessary writes are retried until the database is reachable."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar
from uuid import UUID

import structlog
from msgspec import structs

from telewarm.database import broadcast_runs, broadcasts
from telewarm.database.broadcast_runs import RunUpdate
from telewarm.database.connection import Pool
from telewarm.database.retry import retry_transient
from telewarm.database.transient import is_transient
from telewarm.models import Broadcast, BroadcastId, BroadcastState, ChatId, Delivery

log = structlog.get_logger(__name__)
T = TypeVar("T")


class RunStore:
    """`lease_id`: of this process at the claim. Once that lease is lost, nothing is written any more."""

    def __init__(self, pool: Pool, broadcast_id: BroadcastId, lease_id: UUID) -> None:
        self.broadcast_id = broadcast_id
        self.lease_id = lease_id
        self._pool = pool

    async def state(self) -> BroadcastState | None:
        """Return the broadcast's state, as `save` does. Raises on a lost database."""
        return await broadcast_runs.get_state(self._pool, self.broadcast_id, self.lease_id)

    async def is_recipient(self, chat_id: ChatId) -> bool:
        """Return whether the chat is a recipient. Raises on a lost database."""
        return await broadcast_runs.is_recipient(self._pool, self.broadcast_id, chat_id)

    async def save(self, update: RunUpdate, *, notify: bool) -> BroadcastState | None:
        """Write an update.

        Returns the broadcast's state; None: the lease is lost. Raises on a lost database, unwritten.
        """
        try:
            return await self._save(update, notify=notify)
        except Exception as error:
            if is_transient(error) or not update.outcomes:
                raise
            log.exception("broadcast_outcomes_refused", broadcast_id=self.broadcast_id, outcomes=len(update.outcomes))
        state: BroadcastState | None = None
        for single in _one_by_one(update):
            state = await self._save_one(single, notify=notify)
            if state is None:
                break
        return state

    async def _save_one(self, update: RunUpdate, *, notify: bool) -> BroadcastState | None:
        try:
            return await self._save(update, notify=notify)
        except Exception as error:
            if is_transient(error):
                raise
            (outcome,) = update.outcomes
            log.exception("broadcast_outcome_refused", broadcast_id=self.broadcast_id, chat_id=outcome.chat_id)
            without_text = replace(update, outcomes=[_without_error_text(outcome, error)])
        return await self._save(without_text, notify=notify)

    async def _save(self, update: RunUpdate, *, notify: bool) -> BroadcastState | None:
        return await broadcast_runs.save_progress(self._pool, self.broadcast_id, self.lease_id, update, notify=notify)

    async def pause(self, reason: str, *, refusal: str | None) -> None:
        """Pause the broadcast.

        `refusal`: Telegram's description of the refused message, to recognise it after a resume.
        """
        running = [BroadcastState.RUNNING]
        await self.retry(
            partial(
                broadcasts.set_state,
                self._pool,
                self.broadcast_id,
                BroadcastState.PAUSED,
                only_from=running,
                reason=reason,
                refusal=refusal,
            )
        )

    async def release(self) -> None:
        """Release the run: any process may claim it."""
        await self.retry(partial(broadcast_runs.release, self._pool, self.broadcast_id, self.lease_id))

    async def finish(self, state: BroadcastState) -> bool:
        """Finish the broadcast. Returns whether the lease still held."""
        return await self.retry(partial(broadcast_runs.finish, self._pool, self.broadcast_id, self.lease_id, state))

    async def resolve_unknown(self, outcomes: Sequence[Delivery]) -> None:
        """Replace `unknown` by outcomes that arrived after the lease was lost."""
        await self.retry(partial(broadcast_runs.resolve_unknown, self._pool, self.broadcast_id, outcomes))

    async def broadcast(self) -> Broadcast:
        """Read the broadcast."""
        return await self.retry(partial(broadcasts.get, self._pool, self.broadcast_id))

    async def retry(self, work: Callable[[], Awaitable[T]]) -> T:
        """Repeat `work` until the database is reachable. Cancel it to stop."""
        return await retry_transient(work, event="broadcast_write_retried", broadcast_id=self.broadcast_id)


def _one_by_one(update: RunUpdate) -> Sequence[RunUpdate]:
    """Split an update into one for each outcome. Recipients with later outcomes stay in flight until then."""
    left = [one.chat_id for one in update.outcomes]
    return [
        replace(update, outcomes=[one], in_flight=[*update.in_flight, *left[at + 1 :]])
        for at, one in enumerate(update.outcomes)
    ]


def _without_error_text(outcome: Delivery, error: Exception) -> Delivery:
    return structs.replace(outcome, error=f"INTERNAL: the reason cannot be stored ({type(error).__name__})")
