"""The warm-up queues as people look at them. The cost grows with the number of bots, not with what is due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from telewarm.database import warmups
from telewarm.database.connection import Executor, query
from telewarm.database.warmups import Depth
from telewarm.model import Kind, MediaId, Sha256

SHOWN = 20  # items that go next
IN_HAND = (
    "SELECT count(*) FROM media JOIN bot ON bot.id = media.bot_id"
    " WHERE lease_id IS NOT NULL AND state = 'warming' AND bot.deleted_at IS NULL"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Next:
    """An item that goes soon. `waiting_ms`: since it was asked for, where that is known."""

    slug: str
    id: MediaId
    kind: Kind
    sha256: Sha256
    queued_at: datetime | None
    waiting_ms: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Queues:
    """`in_hand`: items that some process has claimed. `depths`: of each bot that has any, by slug."""

    in_hand: int
    depths: Sequence[Depth]

    @property
    def waiting(self) -> int:
        """Items that are warming and in nobody's hand."""
        return max(0, sum(one.due for one in self.depths) - self.in_hand)


async def look(db: Executor) -> Queues:
    return Queues(in_hand=await db.fetchval(IN_HAND), depths=await warmups.depths(db))


async def head(db: Executor, *, limit: int = SHOWN) -> list[Next]:
    """What goes next, of all bots together."""
    rows = await db.fetch(query("queue_head"), limit)
    return [Next(**dict(row) | {"kind": Kind(row["kind"])}) for row in rows]
