"""Tables `recipient` and `rejected`: recipients of a broadcast, and rows without a chat id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from telewarm.database import broadcasts
from telewarm.database.connection import Connection, Executor, query
from telewarm.models import BroadcastId, ChatId

PAGE_SIZE = 5_000  # rows read in one statement
MAX_TEXT_CHARACTERS = 300  # characters of a reason, or of a line, that are kept
SELECT_NEXT = "SELECT chat_id FROM recipient WHERE broadcast_id = $1 AND chat_id > $2 ORDER BY chat_id LIMIT $3"
SELECT_REJECTED = (
    "SELECT id, line, reason, excerpt FROM rejected WHERE broadcast_id = $1 AND id > $2 ORDER BY id LIMIT $3"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RejectedRow:
    """A row of a list without a chat id, numbered from 1; of a JSON array the element's number.

    `excerpt`: its beginning.
    """

    line: int
    reason: str
    excerpt: str


async def add(connection: Connection, broadcast_id: BroadcastId, chat_ids: Sequence[ChatId]) -> int:
    """Add recipients. Returns how many were new; the others count as duplicates.

    In the caller's transaction, which holds the broadcast's lock.
    """
    added: int = await connection.fetchval(query("add_recipients"), broadcast_id, chat_ids)
    await broadcasts.add_import_counts(connection, broadcast_id, added=added, duplicates=len(chat_ids) - added)
    return added


async def add_rejected(connection: Connection, broadcast_id: BroadcastId, rows: Sequence[RejectedRow]) -> None:
    """Store rejected rows. In the caller's transaction."""
    await connection.copy_records_to_table(
        "rejected",
        records=[
            (broadcast_id, bad.line, bad.reason[:MAX_TEXT_CHARACTERS], bad.excerpt[:MAX_TEXT_CHARACTERS])
            for bad in rows
        ],
        columns=["broadcast_id", "line", "reason", "excerpt"],
    )
    await broadcasts.add_import_counts(connection, broadcast_id, rejected=len(rows))


async def rejected_page(
    db: Executor, broadcast_id: BroadcastId, *, after: int, limit: int = PAGE_SIZE
) -> tuple[list[RejectedRow], int]:
    """Return the next rejected rows, and the number to continue after."""
    rows = await db.fetch(SELECT_REJECTED, broadcast_id, after, limit)
    found = [RejectedRow(line=row["line"], reason=row["reason"], excerpt=row["excerpt"]) for row in rows]
    return found, rows[-1]["id"] if rows else after


async def analyze(db: Executor) -> None:
    """Analyse the table after a large import, for the planner."""
    await db.execute("ANALYZE recipient")
