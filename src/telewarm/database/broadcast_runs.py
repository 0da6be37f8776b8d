"""Table `broadcast_run`: runs of broadcasts. Only the holder of a run's lease writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from telewarm.database.broadcasts import CHANNEL
from telewarm.database.connection import Executor, query
from telewarm.models import BotId, BroadcastId, BroadcastState, ChatId, Delivery, MessageId

BEFORE_FIRST_CHAT = ChatId(-(2**63))  # below every chat id


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimedRun:
    """A claimed run. `unknown`: recipients whose outcome a dead holder left unknown."""

    cursor: ChatId
    retry_chat_ids: tuple[ChatId, ...]
    undo_cursor: ChatId
    unknown: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RunUpdate:
    """Changes to write at once: recipients in flight and in the retry queue, and outcomes."""

    in_flight: Sequence[ChatId]
    retry_chat_ids: Sequence[ChatId]
    cursor: ChatId
    outcomes: Sequence[Delivery]


@dataclass(frozen=True, kw_only=True, slots=True)
class ActiveRun:
    """An active broadcast. `starts_in`: seconds until its start; 0: due."""

    id: BroadcastId
    state: BroadcastState
    starts_in: float


class Recipient(NamedTuple):
    """A recipient. `error`: why it must not be called, by its chat status. Kept small: there are many."""

    chat_id: ChatId
    error: str | None
    moved_to: ChatId | None


class UndoableDelivery(NamedTuple):
    """The messages of one delivery, in their present chat."""

    chat_id: ChatId
    sent_to: ChatId
    message_ids: Sequence[MessageId]
    deletable: bool


async def active_runs(db: Executor, bot_id: BotId) -> list[ActiveRun]:
    """Return what the bot has to send or to undo, by start time."""
    rows = await db.fetch(query("run_active"), bot_id)
    return [
        ActiveRun(id=BroadcastId(row["id"]), state=BroadcastState(row["state"]), starts_in=row["starts_in"] or 0.0)
        for row in rows
    ]


async def claim(db: Executor, broadcast_id: BroadcastId, lease_id: UUID) -> ClaimedRun | None:
    """Claim a run; None when a living process holds it. Recipients in flight become unknown."""
    row = await db.fetchrow(query("run_claim"), broadcast_id, lease_id)
    if row is None:
        return None
    return ClaimedRun(
        cursor=BEFORE_FIRST_CHAT if row["cursor"] is None else ChatId(row["cursor"]),
        retry_chat_ids=tuple(map(ChatId, row["retry_chat_ids"])),
        undo_cursor=BEFORE_FIRST_CHAT if row["undo_cursor"] is None else ChatId(row["undo_cursor"]),
        unknown=row["lost"],
    )


async def save_progress(
    db: Executor, broadcast_id: BroadcastId, lease_id: UUID, update: RunUpdate, *, notify: bool
) -> BroadcastState | None:
    """Write an update. Returns the broadcast's state; None when another process holds the run and nothing was written.

    Repeating an update that may have been written changes nothing. `notify`: send a NOTIFY of the progress.
    """
    row = await db.fetchrow(
        query("run_save_progress"),
        broadcast_id,
        lease_id,
        update.in_flight,
        update.retry_chat_ids,
        None if update.cursor == BEFORE_FIRST_CHAT else update.cursor,
        *_columns(update.outcomes),
        CHANNEL if notify else None,
    )
    return None if row is None else BroadcastState(row["state"])


async def get_state(db: Executor, broadcast_id: BroadcastId, lease_id: UUID) -> BroadcastState | None:
    """Return the state as `save_progress` does, without an update."""
    state = await db.fetchval(
        "SELECT state FROM broadcast JOIN broadcast_run ON broadcast_run.broadcast_id = broadcast.id"
        " WHERE broadcast.id = $1 AND broadcast_run.lease_id = $2",
        broadcast_id,
        lease_id,
    )
    return None if state is None else BroadcastState(state)


async def next_recipients(
    db: Executor, broadcast_id: BroadcastId, *, bot_id: BotId, after: ChatId, limit: int
) -> list[Recipient]:
    """Return the next recipients, in key order."""
    rows = await db.fetch(query("run_next_recipients"), broadcast_id, bot_id, after, limit)
    return [Recipient(*row) for row in rows]


async def is_recipient(db: Executor, broadcast_id: BroadcastId, chat_id: ChatId) -> bool:
    """Return whether a chat is a recipient."""
    found = "SELECT EXISTS (SELECT FROM recipient WHERE broadcast_id = $1 AND chat_id = $2)"
    return bool(await db.fetchval(found, broadcast_id, chat_id))


async def release(db: Executor, broadcast_id: BroadcastId, lease_id: UUID) -> None:
    """Release a run, with a NOTIFY of its progress."""
    await db.execute(
        "UPDATE broadcast_run SET lease_id = NULL, notified_at = now() WHERE broadcast_id = $1 AND lease_id = $2",
        broadcast_id,
        lease_id,
    )


async def finish(db: Executor, broadcast_id: BroadcastId, lease_id: UUID, state: BroadcastState) -> bool:
    """Finish a run, sent or undone. Returns whether its state allowed that and this lease still held it."""
    before = BroadcastState.UNDOING if state is BroadcastState.UNDONE else BroadcastState.RUNNING
    return bool(await db.fetchval(query("run_finish"), broadcast_id, lease_id, before, state, CHANNEL))


async def resolve_unknown(db: Executor, broadcast_id: BroadcastId, outcomes: Sequence[Delivery]) -> int:
    """Replace `unknown` by outcomes that a former holder of the run knows. Returns their number."""
    return int(await db.fetchval(query("run_resolve_unknown"), broadcast_id, *_columns(outcomes), CHANNEL) or 0)


async def next_undoable(
    db: Executor, broadcast_id: BroadcastId, *, after: ChatId, max_age_seconds: float, limit: int
) -> list[UndoableDelivery]:
    """Return the next deliveries with messages; those younger than `max_age_seconds` may be deleted."""
    rows = await db.fetch(query("run_next_undoable"), broadcast_id, after, limit, max_age_seconds)
    return [UndoableDelivery(*row) for row in rows]


async def save_undo_progress(
    db: Executor,
    broadcast_id: BroadcastId,
    lease_id: UUID,
    undone: Sequence[ChatId],
    *,
    not_undone: int,
    cursor: ChatId,
    notify: bool,
) -> bool:
    """Record the deletions in these chats, and the number of failed ones. False: another process holds the run."""
    row = await db.fetchrow(
        query("run_save_undo_progress"), broadcast_id, lease_id, undone, not_undone, cursor, CHANNEL if notify else None
    )
    return row is not None


def _columns(outcomes: Sequence[Delivery]) -> tuple[Sequence[object], ...]:
    """Return one array for each column."""
    return (
        [one.chat_id for one in outcomes],
        [one.outcome for one in outcomes],
        [_array_literal(one.message_ids) for one in outcomes],
        [one.error for one in outcomes],
        [one.moved_to for one in outcomes],
    )


def _array_literal(message_ids: Sequence[MessageId]) -> str:
    return f"{{{','.join(map(str, message_ids))}}}"
