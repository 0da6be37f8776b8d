"""Tables `event_outbox` and `event`: events numbered without gaps in commit order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import msgspec

from telewarm.database.connection import Executor
from telewarm.models import Event, EventType

CHANNEL = "telewarm_event"  # NOTIFY: something happened
RETENTION_SECONDS = 3600.0  # seconds
MAX_KEPT_EVENTS = 200_000  # events that are kept
ROWS_PER_DELETE = 1000  # rows that one statement deletes
PAGE_SIZE = 2000  # events of one read; not less than a row has, which is 400 at most

SELECT_EVENTS = (
    "SELECT number, at, type, bot, size, facts FROM event WHERE number > $1 AND number <= $1 + $2 ORDER BY number"
)
# From the lower end, and all that comes before: numbers are kept without gaps. The newest row stays, for the next
# number follows from it.
TRIM_SQL = """
WITH oldest AS (
    SELECT number, at FROM event ORDER BY number LIMIT $3
), newest AS (
    SELECT number - size AS first FROM event ORDER BY number DESC LIMIT 1
)
DELETE FROM event USING newest
WHERE number <= (
    SELECT max(oldest.number) FROM oldest, newest
    WHERE oldest.number <= newest.first
      AND (oldest.at < now() - make_interval(secs => $1) OR oldest.number <= newest.first - $2)
)
"""
TYPE_BY_NAME = {str(one): one for one in EventType}
_facts = msgspec.json.Decoder(list[dict[str, Any]])


@dataclass(frozen=True, kw_only=True, slots=True)
class EventsAfter:
    """Events after another, up to and including number `last_id`.

    `is_gap`: some are no longer stored, or the number is not of this database; then there are no events, and `last_id`
    is the newest.
    """

    events: Sequence[Event]
    last_id: int
    is_gap: bool = False


async def assign_sequence(db: Executor) -> int:
    """Number all committed events. Returns the newest number, 0 for none."""
    return int(await db.fetchval("SELECT sequence_events()"))


async def read_after(db: Executor, last_id: int, *, limit: int = PAGE_SIZE) -> EventsAfter:
    """Return the next events, at least one if there is any, about `limit` (400 or more).

    Nothing that was committed before the call is left out.
    """
    newest = await assign_sequence(db)
    rows = await db.fetch(SELECT_EVENTS, last_id, limit) if last_id < newest else []
    if last_id > newest or (last_id < newest and (not rows or rows[0]["number"] - rows[0]["size"] > last_id)):
        return EventsAfter(events=(), last_id=newest, is_gap=True)
    events: list[Event] = []
    for row in rows:
        events += _events(row)
    upto = rows[-1]["number"] if rows else last_id
    return EventsAfter(events=[event for event in events if event.id > last_id], last_id=upto)


async def trim(db: Executor, *, max_age_seconds: float = RETENTION_SECONDS, max_events: int = MAX_KEPT_EVENTS) -> int:
    """Delete events older than `max_age_seconds` or beyond the newest `max_events`. Returns their number."""
    total = 0
    while deleted := int(
        (await db.execute(TRIM_SQL, max_age_seconds, max_events, ROWS_PER_DELETE)).removeprefix("DELETE ")
    ):
        total += deleted
    return total


def _events(row: asyncpg.Record) -> list[Event]:
    """Convert a row, without events of types that only a newer Telewarm knows."""
    if row["type"] not in TYPE_BY_NAME:
        return []
    first = row["number"] - row["size"] + 1
    return [
        Event(id=number, type=TYPE_BY_NAME[row["type"]], at=row["at"], bot=row["bot"], facts=facts)
        for number, facts in enumerate(_facts.decode(row["facts"]), start=first)
    ]
