"""Table `audit`: changes made through the API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from telewarm.database.connection import Executor, Pool

RETENTION_DAYS = 90
ROWS_PER_DELETE = 10_000  # rows of one statement that trims
COLUMNS = ("at", "actor", "role", "action", "target", "status", "request_id", "address")
TRIM_SQL = (
    "DELETE FROM audit WHERE id IN (SELECT id FROM audit ORDER BY id LIMIT $2)"
    " AND at < now() - make_interval(days => $1) AND (SELECT at FROM audit ORDER BY id LIMIT 1)"
    " < now() - make_interval(days => $1)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditEntry:
    """Entry of the audit log.

    `actor` None: a burst of wrong tokens from `address`. `action`: method and route. `target`: path.
    """

    at: datetime
    actor: str | None
    role: str | None
    action: str
    target: str
    status: int
    request_id: str | None
    address: str | None
    id: int = 0  # 0 before it is written


async def insert(pool: Pool, entries: Sequence[AuditEntry]) -> None:
    """Insert entries, whose texts may not hold a NUL."""
    rows = [tuple(getattr(change, column) for column in COLUMNS) for change in entries]
    async with pool.acquire() as connection:
        await connection.copy_records_to_table("audit", records=rows, columns=COLUMNS)


async def page(db: Executor, *, before: int | None = None, limit: int) -> list[AuditEntry]:
    """Return entries, newest first; `before`: only those with a lower id."""
    rows = await db.fetch(
        f"SELECT id, {', '.join(COLUMNS)} FROM audit WHERE $1::bigint IS NULL OR id < $1 ORDER BY id DESC LIMIT $2",
        before,
        limit,
    )
    return [AuditEntry(**row) for row in rows]


async def trim(pool: Pool, *, days: int = RETENTION_DAYS) -> int:
    """Delete old entries. Returns their number. Reads a single row when there are none."""
    deleted = 0
    while True:
        status = await pool.execute(TRIM_SQL, days, ROWS_PER_DELETE)
        count = int(status.rpartition(" ")[2])
        deleted += count
        if count < ROWS_PER_DELETE:
            return deleted
