"""Snapshot of the warm-up queues for people. Its cost grows with the number of bots, not of due items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from telewarm.database import leases, warmups
from telewarm.database.connection import Executor, query
from telewarm.database.warmups import QueueDepth
from telewarm.models import Kind, MediaId, Sha256

UNTAKEN_AFTER_SECONDS = 10.0  # that a lane may take to begin; one of a worker that was killed is found after some six
MAX_SHOWN_ITEMS = 20  # items that go next
COUNT_CLAIMED = (
    "SELECT count(*) FROM media JOIN bot ON bot.id = media.bot_id"
    " WHERE lease_id IS NOT NULL AND state = 'warming' AND bot.deleted_at IS NULL"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueItem:
    """An item near the front. `waiting_ms`: since its request, where that is known."""

    slug: str
    id: MediaId
    kind: Kind
    sha256: Sha256
    queued_at: datetime | None
    waiting_ms: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueSnapshot:
    """`claimed`: items that processes have claimed. `depths`: of each bot with a queue, by slug."""

    claimed: int
    depths: Sequence[QueueDepth]

    @property
    def waiting(self) -> int:
        """Number of warming items that are not claimed."""
        return max(0, sum(one.due for one in self.depths) - self.claimed)


@dataclass(frozen=True, kw_only=True, slots=True)
class UntakenWork:
    """Due work that no lane takes.

    `bots`: slugs, latest first. `oldest_seconds`: since a lane should have taken it. `is_worker_running`: whether any
    worker runs.
    """

    bots: Sequence[str]
    oldest_seconds: float
    is_worker_running: bool

    @property
    def message(self) -> str:
        """The problem, with the remedy."""
        who = f"{self.bots[0]!r}" if len(self.bots) == 1 else f"{len(self.bots)} bots ({self.bots[0]!r} and others)"
        said = f"work of {who} has been due for {self.oldest_seconds:.0f} s and nobody takes it"
        if self.is_worker_running:
            return f"{said}, although a worker runs: look at its log, and restart it if this lasts"
        return f"{said}, since no worker is running: start telewarm serve or telewarm worker"


async def find_untaken_work(db: Executor, *, min_age_seconds: float = UNTAKEN_AFTER_SECONDS) -> UntakenWork | None:
    """Return untaken work; None: all due work is taken, or waits for its turn or for a limit of Telegram."""
    due = await warmups.bots_with_due_work(db)
    if not due:
        return None
    rows = await db.fetch(query("untaken_work"), [bot_id for bot_id, _ in due], min_age_seconds)
    if not rows:
        return None
    return UntakenWork(
        bots=[row["slug"] for row in rows],
        oldest_seconds=rows[0]["seconds"],
        is_worker_running=await leases.is_any_worker_running(db),
    )


async def take_snapshot(db: Executor) -> QueueSnapshot:
    """Return the snapshot."""
    return QueueSnapshot(claimed=await db.fetchval(COUNT_CLAIMED), depths=await warmups.queue_depths(db))


async def next_items(db: Executor, *, limit: int = MAX_SHOWN_ITEMS) -> list[QueueItem]:
    """Return the next items of all bots."""
    rows = await db.fetch(query("queue_head"), limit)
    return [QueueItem(**dict(row) | {"kind": Kind(row["kind"])}) for row in rows]
