"""Table `chat`: unreachable chats, and groups that became supergroups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from telewarm.database.connection import Executor, query
from telewarm.models import BotId, ChatId, ChatRecord, ChatState

CHANNEL = "telewarm_chat"  # NOTIFY: `bot old new`, a group that moved; `bot chat chat`: it is where it was after all
ROWS_PER_DELETE = 10_000  # lines that one statement deletes
BEFORE_FIRST_CHAT = -(2**63)  # below any chat id


@dataclass(frozen=True, kw_only=True, slots=True)
class UnreachableChat:
    """An unreachable chat. `age_seconds`: since it was found out. `migrated_to`: of a migrated one."""

    bot_id: BotId
    chat_id: ChatId
    state: ChatState
    reason: str
    migrated_to: ChatId | None = None
    age_seconds: float = 0.0


class ReachableChat(NamedTuple):
    """A chat that was reached `age_seconds` seconds ago. Kept small: there are many."""

    bot_id: BotId
    chat_id: ChatId
    age_seconds: float = 0.0


async def record_unreachable(db: Executor, rows: Sequence[UnreachableChat]) -> None:
    """Record unreachable chats, each once; newer knowledge wins. Notifies all processes of migrations."""
    await db.fetchval(
        query("record_unreachable_chats"),
        [row.bot_id for row in rows],
        [row.chat_id for row in rows],
        [row.state for row in rows],
        [row.reason for row in rows],
        [row.migrated_to for row in rows],
        [row.age_seconds for row in rows],
    )


async def record_reachable(db: Executor, rows: Sequence[ReachableChat]) -> None:
    """Record successes: the chats are reachable again. A chat without a status gets none."""
    await db.execute(
        query("record_reachable_chats"),
        [row.bot_id for row in rows],
        [row.chat_id for row in rows],
        [row.age_seconds for row in rows],
    )


async def page(
    db: Executor, bot_id: BotId, *, state: ChatState | None, after: ChatId | None, limit: int
) -> list[ChatRecord]:
    """Return statuses by chat id, after `after`."""
    rows = await db.fetch(
        "SELECT chat_id, state, reason, migrated_to, since FROM chat"
        " WHERE bot_id = $1 AND chat_id > $2 AND ($3::text IS NULL OR state = $3) ORDER BY chat_id LIMIT $4",
        bot_id,
        BEFORE_FIRST_CHAT if after is None else after,
        state,
        limit,
    )
    return [
        ChatRecord(
            chat_id=ChatId(row["chat_id"]),
            state=ChatState(row["state"]),
            reason=row["reason"],
            migrated_to=row["migrated_to"],
            since=row["since"],
        )
        for row in rows
    ]


async def clear(
    db: Executor, bot_id: BotId, chat_ids: Sequence[ChatId] | None, *, state: ChatState | None = None
) -> int:
    """Forget chats (None: all of the bot, or all in a state). Returns their number.

    Some thousands a statement: an interrupted call has forgotten a part, and can be repeated.
    """
    total = 0
    while cleared := int(await db.fetchval(query("clear_chats"), bot_id, chat_ids, state, ROWS_PER_DELETE)):
        total += cleared
    return total


async def counts(db: Executor, bot_id: BotId) -> dict[ChatState, int]:
    """Return the number of chats in each state."""
    rows = await db.fetch("SELECT state, count(*) AS chats FROM chat WHERE bot_id = $1 GROUP BY state", bot_id)
    return {ChatState(row["state"]): row["chats"] for row in rows}


async def migrations(db: Executor) -> list[tuple[BotId, ChatId, ChatId]]:
    """Return (bot, old chat, new chat) of all groups that became supergroups."""
    rows = await db.fetch("SELECT bot_id, chat_id, migrated_to FROM chat WHERE migrated_to IS NOT NULL")
    return [(BotId(row["bot_id"]), ChatId(row["chat_id"]), ChatId(row["migrated_to"])) for row in rows]
