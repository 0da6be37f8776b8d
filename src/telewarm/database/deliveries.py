"""Table `delivery`, for readers. Runs write it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import asyncpg

from telewarm.database.connection import Executor, query
from telewarm.models import BroadcastId, Cause, ChatId, Delivery, DeliveryStatus, MessageId

PAGE_SIZE = 5_000  # rows read in one statement
ROWS_PER_DELETE = 20_000  # rows deleted in one statement
MAX_COUNTED_ERRORS, MIN_COUNTED_ERRORS = (
    100_000,
    2_000,
)  # errors that are counted by cause: of all that is asked for, and of each broadcast
COLUMNS = "chat_id, outcome, message_ids, error, moved_to"
SELECT_RESULTS = f"SELECT {COLUMNS} FROM delivery WHERE broadcast_id = $1 AND chat_id > $2 ORDER BY chat_id LIMIT $3"
SELECT_RESULTS_BY_OUTCOME = (
    f"SELECT {COLUMNS} FROM delivery WHERE broadcast_id = $1 AND chat_id > $2 AND outcome = $4"
    " ORDER BY chat_id LIMIT $3"
)
SELECT_HAS_UNDOABLE = (
    "SELECT true FROM delivery WHERE broadcast_id = $1 AND outcome IN ('sent', 'partial')"
    " AND at > now() - make_interval(secs => $2) LIMIT 1"
)


async def page(
    db: Executor,
    broadcast_id: BroadcastId,
    *,
    after: ChatId,
    outcome: DeliveryStatus | None = None,
    limit: int = PAGE_SIZE,
) -> list[Delivery]:
    """Return the next deliveries after a chat, by chat."""
    if outcome is None:
        rows = await db.fetch(SELECT_RESULTS, broadcast_id, after, limit)
    else:
        rows = await db.fetch(SELECT_RESULTS_BY_OUTCOME, broadcast_id, after, limit, outcome)
    return [_delivery(row) for row in rows]


async def pending_recipients(
    db: Executor, broadcast_id: BroadcastId, *, after: ChatId, limit: int = PAGE_SIZE
) -> list[ChatId]:
    """Return the next recipients after a chat without an outcome, including those in flight."""
    rows = await db.fetch(query("pending_recipients"), broadcast_id, after, limit)
    return [ChatId(row["chat_id"]) for row in rows]


async def has_undoable(db: Executor, broadcast_id: BroadcastId, *, max_age_seconds: float) -> bool:
    """Return whether any message is younger than this."""
    return bool(await db.fetchval(SELECT_HAS_UNDOABLE, broadcast_id, max_age_seconds))


async def retry(db: Executor, broadcast_id: BroadcastId, outcomes: Collection[DeliveryStatus]) -> int | None:
    """Reset recipients with one of these outcomes, `unknown` or `failed`. Returns their number.

    With `unknown`, also those that a dead holder of the run left. None when a living process holds the run: nothing
    changed.
    """
    moved: int | None = await db.fetchval(query("retry_deliveries"), broadcast_id, list(outcomes))
    return moved


async def failure_causes(db: Executor, ids: Sequence[BroadcastId], *, limit: int) -> dict[BroadcastId, list[Cause]]:
    """Return why deliveries failed, by cause, most frequent first, `limit` for each broadcast.

    Of a broadcast with very many errors only the first ones are counted, so that the time is bounded.
    """
    found: dict[BroadcastId, list[Cause]] = {one: [] for one in ids}
    for row in await db.fetch(
        query("failure_causes"), ids, limit, max(MAX_COUNTED_ERRORS // max(len(ids), 1), MIN_COUNTED_ERRORS)
    ):
        cause = Cause(
            outcome=DeliveryStatus(row["outcome"]),
            count=row["chats"],
            chat_id=ChatId(row["chat_id"]),
            error=row["error"],
        )
        found[BroadcastId(row["broadcast_id"])].append(cause)
    return found


async def delete_some(db: Executor, broadcast_id: BroadcastId, *, limit: int = ROWS_PER_DELETE) -> int:
    """Delete some of a broadcast's deliveries, recipients and rejected rows. Returns their number; 0: none left."""
    deleted: int = await db.fetchval(query("delete_deliveries"), broadcast_id, limit)
    return deleted


def _delivery(row: asyncpg.Record) -> Delivery:
    return Delivery(
        chat_id=ChatId(row["chat_id"]),
        outcome=DeliveryStatus(row["outcome"]),
        message_ids=_message_ids(row["message_ids"]),
        error=row["error"],
        moved_to=row["moved_to"],
    )


def _message_ids(found: Sequence[int]) -> tuple[MessageId, ...]:
    return tuple(MessageId(message_id) for message_id in found)
