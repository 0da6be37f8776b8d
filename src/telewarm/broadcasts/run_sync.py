"""Exchange of one run with the database: its progress is written, and the state of the broadcast comes back."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from telewarm import clock
from telewarm.broadcasts.admission import POLL_SECONDS
from telewarm.broadcasts.run_state import RunState
from telewarm.broadcasts.run_store import RunStore
from telewarm.database.retry import RETRY_SECONDS, log_transient
from telewarm.models import BroadcastState

log = structlog.get_logger(__name__)

MIN_UPDATE_INTERVAL_SECONDS = 0.004  # at full speed; with more, slots stand empty (measured)


class RunSync:
    """`on_state`: called with the state of the broadcast whenever it was read; None: the lease of the run is lost."""

    def __init__(self, store: RunStore, run: RunState, *, on_state: Callable[[BroadcastState | None], None]) -> None:
        self._store = store
        self._run = run
        self._on_state = on_state
        self._synced_at = 0.0  # monotonic
        self._notified_at = 0.0  # monotonic

    def mark_stale(self) -> None:
        """The state may have changed: the next `poll` reads it."""
        self._synced_at = 0.0

    async def let_batch_grow(self) -> None:
        """Wait a moment at full speed, so that the next update writes more at once."""
        early = self._synced_at + MIN_UPDATE_INTERVAL_SECONDS - clock.monotonic()
        if early > 0:
            await clock.sleep(early)

    async def write(self) -> bool:
        """Write one update. False when the database is away: then everything in it is still to be written."""
        update = self._run.take_update()
        now = clock.monotonic()
        notify = now - self._notified_at >= POLL_SECONDS
        fields = {"broadcast_id": self._store.broadcast_id, "outcomes": len(update.outcomes)}
        with log_transient("broadcast_progress_write_retried", **fields):
            state = await self._store.save(update, notify=notify)
            self._synced_at = now
            if notify:
                self._notified_at = now
            if state is None:
                self._run.restore(update)
            self._on_state(state)
            return True
        self._run.restore(update)
        await clock.sleep(RETRY_SECONDS)
        return False

    async def poll(self) -> None:
        """Read the state unless it was read a moment ago."""
        now = clock.monotonic()
        if now - self._synced_at < POLL_SECONDS:
            return
        self._synced_at = now
        with log_transient("broadcast_poll_failed", broadcast_id=self._store.broadcast_id):
            self._on_state(await self._store.state())
            return
        await clock.sleep(RETRY_SECONDS)
