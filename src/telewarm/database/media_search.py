"""Search of a bot's library, page by page, newest first. The cost of a page is bounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from telewarm.database import media
from telewarm.database.connection import Executor, query
from telewarm.models import BotId, Kind, MediaId, MediaItem, MediaState, Sha256

MAX_SCANNED_ITEMS = 100_000  # items that one page of a search looks at: 80 ms, measured in a library of 1,000,000
CLOCK_SLACK = timedelta(hours=1)  # ids follow time, give or take what a transaction lasts
AFTER_LAST_ID = MediaId(2**63 - 1)
SELECT_OF_BOT = "SELECT * FROM media WHERE (bot_id, id) < ($1, $2) AND (bot_id, id) >= ($1, $3)"
SELECT_FAILED = f"{SELECT_OF_BOT} AND state = 'error'"
SELECT_OF_BLOB = (
    "SELECT * FROM (SELECT * FROM media WHERE sha256 = $8 OFFSET 0) AS of_blob"
    + SELECT_OF_BOT.removeprefix("SELECT * FROM media")
)
PAGE_QUERIES = {
    source: query("media_page").format(columns=media.COLUMNS, source=source)
    for source in (SELECT_OF_BOT, SELECT_FAILED, SELECT_OF_BLOB)
}
LAST_SCANNED_QUERIES = {
    source: f"{source.replace('*', 'id')} ORDER BY bot_id DESC, id DESC OFFSET $4::bigint - 1 LIMIT 1"
    for source in (SELECT_OF_BOT, SELECT_FAILED)
}


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaFilters:
    """Filters of a bot's media. `since` is included, `until` is not. `text`: part of the name, ignoring case."""

    kind: Kind | None = None
    state: MediaState | None = None
    error_code: str | None = None
    sha256: Sha256 | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None

    @property
    def has_known_count(self) -> bool:
        """Whether the number of matching items is known without reading them."""
        return not (self.error_code or self.sha256 or self.since or self.until or self.text)


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaPage:
    """A page. `next`: continue before this id; None: the last page. `count`: all matching items; None: unknown."""

    items: Sequence[MediaItem]
    next: MediaId | None
    count: int | None


async def page(db: Executor, bot_id: BotId, filters: MediaFilters, *, before: MediaId | None, limit: int) -> MediaPage:
    """Return at most `limit` matching items with ids below `before`.

    A text search examines at most `MAX_SCANNED_ITEMS` items: then its page may hold fewer, or none, although there is a
    next one.
    """
    count = await _count(db, bot_id, filters)
    if count == 0:
        return MediaPage(items=[], next=None, count=0)
    above, low = await _bounds(db, bot_id, filters, before)
    looks = None if filters.has_known_count or filters.sha256 else MAX_SCANNED_ITEMS
    source = SELECT_OF_BLOB if filters.sha256 else SELECT_FAILED if filters.state is MediaState.ERROR else SELECT_OF_BOT
    rows = await db.fetch(
        PAGE_QUERIES[source],
        bot_id,
        above,
        low,
        looks,
        filters.kind,
        filters.state,
        filters.error_code,
        filters.sha256,
        filters.since,
        filters.until,
        filters.text,
        limit + 1,
    )
    items = [media.item_of(row) for row in rows[:limit]]
    following: int | None = None
    if len(rows) > limit:
        following = items[-1].id
    elif looks is not None:
        following = await db.fetchval(LAST_SCANNED_QUERIES[source], bot_id, above, low, looks)
    return MediaPage(items=items, next=None if following is None else MediaId(following), count=count)


async def _count(db: Executor, bot_id: BotId, filters: MediaFilters) -> int | None:
    if not filters.has_known_count:
        return None
    rows = await db.fetch(query("media_counts"), bot_id)
    return sum(
        int(row["items"])
        for row in rows
        if filters.kind in {None, row["kind"]} and filters.state in {None, row["state"]}
    )


async def _bounds(db: Executor, bot_id: BotId, filters: MediaFilters, before: MediaId | None) -> tuple[int, int]:
    """Return bounds of ids, upper one excluded, so that no newer or older items are read."""
    above, low = AFTER_LAST_ID if before is None else before, 0
    if filters.until is not None:
        found = await db.fetchval(query("first_id_since"), bot_id, filters.until + CLOCK_SLACK)
        above = min(above, AFTER_LAST_ID if found is None else found)
    if filters.since is not None:
        low = await db.fetchval(query("first_id_since"), bot_id, filters.since - CLOCK_SLACK) or 0
    return above, low
