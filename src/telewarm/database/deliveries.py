"""The table `delivery`, as people read it, and who has none yet. The flights write it."""

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
    """The next ones after a chat, in the order of their chats."""
    if outcome is None:
        rows = await db.fetch(SELECT_RESULTS, broadcast_id, after, limit)
    else:
        rows = await db.fetch(SELECT_RESULTS_BY_OUTCOME, broadcast_id, after, limit, outcome)
    return [_delivery(row) for row in rows]


async def pending_recipients(
    db: Executor, broadcast_id: BroadcastId, *, after: ChatId, limit: int = PAGE_SIZE
) -> list[ChatId]:
    """The next recipients after a chat that have no outcome yet, those in flight included."""
    rows = await db.fetch(query("pending_recipients"), broadcast_id, after, limit)
    return [ChatId(row["chat_id"]) for row in rows]


async def has_undoable(db: Executor, broadcast_id: BroadcastId, *, max_age_seconds: float) -> bool:
    """Whether any message of it is younger than this many seconds."""
    return bool(await db.fetchval(SELECT_HAS_UNDOABLE, broadcast_id, max_age_seconds))


async def retry(db: Executor, broadcast_id: BroadcastId, outcomes: Collection[DeliveryStatus]) -> int | None:
    """Those with one of these outcomes, `unknown` or `failed`, are to be sent to again: how many. With `unknown` also
    those that a dead holder of the run left.

    None when a living holder has the run: nothing changed.
    """
    moved: int | None = await db.fetchval(query("retry_deliveries"), broadcast_id, list(outcomes))
    return moved


async def failure_causes(db: Executor, ids: Sequence[BroadcastId], *, limit: int) -> dict[BroadcastId, list[Cause]]:
    """Why deliveries of these broadcasts did not go, by cause, the most frequent first, `limit` of each broadcast. Of
    one that has very many errors only the first ones are counted, so that an answer never takes long.
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
    """Rows deleted of the broadcast's deliveries, recipients and rejected lines; 0 when there are no more."""
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
