"""Store of one broadcast's run. Necessary writes are retried until the database is reachable."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from uuid import UUID

from telewarm.broadcasts.retry import retry_until_available
from telewarm.broadcasts.run_updates import save_update
from telewarm.database import broadcast_runs, broadcasts
from telewarm.database.broadcast_runs import RunUpdate
from telewarm.database.connection import Pool
from telewarm.models import Broadcast, BroadcastId, BroadcastState, ChatId, Delivery


class RunStore:
    """`lease_id`: of this process at the claim. Once that lease is lost, nothing is written any more."""

    def __init__(self, pool: Pool, broadcast_id: BroadcastId, lease_id: UUID) -> None:
        self.broadcast_id = broadcast_id
        self.lease_id = lease_id
        self._pool = pool

    async def save(self, update: RunUpdate, *, notify: bool) -> BroadcastState | None:
        """Write an update.

        Returns the broadcast's state; None: the lease is lost. Raises on a lost database, unwritten.
        """
        return await save_update(self._pool, self.broadcast_id, self.lease_id, update, notify=notify)

    async def state(self) -> BroadcastState | None:
        """Return the broadcast's state, as `save` does. Raises on a lost database."""
        return await broadcast_runs.get_state(self._pool, self.broadcast_id, self.lease_id)

    async def is_recipient(self, chat_id: ChatId) -> bool:
        """Return whether the chat is a recipient. Raises on a lost database."""
        return await broadcast_runs.is_recipient(self._pool, self.broadcast_id, chat_id)

    async def pause(self, reason: str, *, refusal: str | None) -> None:
        """Pause the broadcast.

        `refusal`: Telegram's description of the refused message, to recognise it after a resume.
        """
        await retry_until_available(
            self.broadcast_id,
            partial(
                broadcasts.set_state,
                self._pool,
                self.broadcast_id,
                BroadcastState.PAUSED,
                only_from=[BroadcastState.RUNNING],
                reason=reason,
                refusal=refusal,
            ),
        )

    async def release(self) -> None:
        """Release the run: any process may claim it."""
        await retry_until_available(
            self.broadcast_id, partial(broadcast_runs.release, self._pool, self.broadcast_id, self.lease_id)
        )

    async def finish(self, state: BroadcastState) -> bool:
        """Finish the broadcast. Returns whether the lease still held."""
        return await retry_until_available(
            self.broadcast_id, partial(broadcast_runs.finish, self._pool, self.broadcast_id, self.lease_id, state)
        )

    async def resolve_unknown(self, outcomes: Sequence[Delivery]) -> None:
        """Replace `unknown` by outcomes that arrived after the lease was lost."""
        await retry_until_available(
            self.broadcast_id, partial(broadcast_runs.resolve_unknown, self._pool, self.broadcast_id, outcomes)
        )

    async def broadcast(self) -> Broadcast:
        """Read the broadcast."""
        return await retry_until_available(self.broadcast_id, partial(broadcasts.get, self._pool, self.broadcast_id))
