"""The tables `event_news` and `event`: what happened, numbered without gaps in the order in which it was committed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import msgspec

from telewarm.database.connection import Executor
from telewarm.models import Event, EventType

CHANNEL = "telewarm_event"  # NOTIFY: something happened
KEPT = 3600.0  # seconds
MOST = 200_000  # events that are kept
CHUNK = 1000  # rows that one statement deletes
PAGE = 2000  # events of one read; not less than a row has, which is 400 at most

READ = "SELECT number, at, type, bot, size, facts FROM event WHERE number > $1 AND number <= $1 + $2 ORDER BY number"
# From the lower end, and all that comes before: numbers are kept without gaps. The newest row stays, for the next
# number follows from it.
TRIM = """
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
TYPES = {str(one): one for one in EventType}
_facts = msgspec.json.Decoder(list[dict[str, Any]])


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What follows an event, up to and with number `upto`. `lost`: some of it is no longer kept, or the number is none
    of this database's; then there are no events, and `upto` is the newest.
    """

    events: Sequence[Event]
    upto: int
    lost: bool = False


async def number(db: Executor) -> int:
    """Number what was committed up to now; the number of the newest event, 0 before there is any."""
    return int(await db.fetchval("SELECT number_events()"))


async def after(db: Executor, seen: int, *, most: int = PAGE) -> Page:
    """The next events, at `most` so many (400 or more), at least one if there is any. What was committed before the
    call is never left out.
    """
    newest = await number(db)
    rows = await db.fetch(READ, seen, most) if seen < newest else []
    if seen > newest or (seen < newest and (not rows or rows[0]["number"] - rows[0]["size"] > seen)):
        return Page(events=(), upto=newest, lost=True)
    events: list[Event] = []
    for row in rows:
        events += _events(row)
    upto = rows[-1]["number"] if rows else seen
    return Page(events=[event for event in events if event.id > seen], upto=upto)


async def trim(db: Executor, *, kept: float = KEPT, most: int = MOST) -> int:
    """Delete what is older than `kept` seconds, and what is beyond the newest `most`; how many rows."""
    total = 0
    while deleted := int((await db.execute(TRIM, kept, most, CHUNK)).removeprefix("DELETE ")):
        total += deleted
    return total


def _events(row: asyncpg.Record) -> list[Event]:
    """None of a type that only a newer Telewarm knows."""
    if row["type"] not in TYPES:
        return []
    first = row["number"] - row["size"] + 1
    return [
        Event(id=number, type=TYPES[row["type"]], at=row["at"], bot=row["bot"], facts=facts)
        for number, facts in enumerate(_facts.decode(row["facts"]), start=first)
    ]
