"""Table `idempotency_key`: sends with an idempotency key.

A row without a result is a send in progress, or one whose process ended before it could write the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec

from telewarm.database.connection import Executor
from telewarm.models import BotId

RETENTION_SECONDS = 24 * 3600.0  # seconds
ROWS_PER_DELETE = 10_000  # rows of one statement

CLAIM_SQL = (
    "INSERT INTO idempotency_key (bot_id, key, fingerprint, lease_id) VALUES ($1, $2, $3, $4)"
    " ON CONFLICT DO NOTHING RETURNING true"
)
SELECT_RECORD = (
    "SELECT fingerprint, result, lease.id AS holder"
    " FROM idempotency_key LEFT JOIN lease ON lease.id = idempotency_key.lease_id AND lease.expires_at >= now()"
    " WHERE bot_id = $1 AND key = $2"
)
WHERE_HELD = "WHERE bot_id = $1 AND key = $2 AND lease_id = $3"
SWEEP_SQL = (
    "DELETE FROM idempotency_key WHERE (bot_id, key) IN (SELECT bot_id, key FROM idempotency_key"
    " WHERE created_at < now() - make_interval(secs => $1) ORDER BY created_at LIMIT $2)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class IdempotencyRecord:
    """First send of a key.

    `holder`: the living lease that runs it. Neither result nor holder: the outcome is unknown.
    """

    fingerprint: bytes
    result: list[dict[str, object]] | None
    holder: UUID | None


async def claim(db: Executor, bot_id: BotId, key: str, *, fingerprint: bytes, lease_id: UUID) -> bool:
    """Claim a key. Returns whether this send is the first: then no other sends under it."""
    return await db.fetchval(CLAIM_SQL, bot_id, key, fingerprint, lease_id) is not None


async def get(db: Executor, bot_id: BotId, key: str) -> IdempotencyRecord | None:
    """Return the record of a key."""
    row = await db.fetchrow(SELECT_RECORD, bot_id, key)
    if row is None:
        return None
    result = None if row["result"] is None else msgspec.json.decode(row["result"], type=list[dict[str, object]])
    return IdempotencyRecord(fingerprint=row["fingerprint"], result=result, holder=row["holder"])


async def finish(db: Executor, bot_id: BotId, key: str, *, lease_id: UUID, result: Sequence[dict[str, object]]) -> None:
    """Write the results, under the lease that claimed the key."""
    text = msgspec.json.encode(result).decode().replace(r"\u0000", r"\ufffd")  # jsonb takes no NUL
    await db.execute(
        f"UPDATE idempotency_key SET result = $4, lease_id = NULL {WHERE_HELD}", bot_id, key, lease_id, text
    )


async def mark_unknown(db: Executor, bot_id: BotId, key: str, *, lease_id: UUID) -> None:
    """Record that the outcome is unknown for good."""
    await db.execute(f"UPDATE idempotency_key SET lease_id = NULL {WHERE_HELD}", bot_id, key, lease_id)


async def release(db: Executor, bot_id: BotId, key: str, *, lease_id: UUID) -> None:
    """Release a key after nothing was sent: the next call is the first."""
    await db.execute(f"DELETE FROM idempotency_key {WHERE_HELD}", bot_id, key, lease_id)


async def sweep(db: Executor, *, min_age_seconds: float = RETENTION_SECONDS) -> int:
    """Delete keys of that age. Returns their number."""
    swept = 0
    while True:
        done = int((await db.execute(SWEEP_SQL, min_age_seconds, ROWS_PER_DELETE)).rpartition(" ")[2])
        swept += done
        if done < ROWS_PER_DELETE:
            return swept
