"""Routes: chats that a bot could not reach, and groups that became supergroups."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from telewarm.api.dependencies import BotDep, StateDep
from telewarm.api.openapi import EXAMPLE_TIME, Ok, TimeText, responses_of
from telewarm.api.schemas.types import MAX_BIGINT
from telewarm.database import chats
from telewarm.models import ChatId, ChatRecord, ChatState

router = APIRouter(tags=["chats"])

MAX_PAGE_SIZE = 1000

ChatIdPath = Annotated[
    int, Path(ge=-MAX_BIGINT, le=MAX_BIGINT, description="Telegram's id of the chat", examples=[500000001])
]
StateQuery = Annotated[ChatState | None, Query(description="Only chats in this state", examples=["blocked"])]
AfterQuery = Annotated[
    int | None, Query(ge=-MAX_BIGINT, le=MAX_BIGINT, description="`next` of the page before", examples=[500000001])
]
LimitQuery = Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE, description="How many", examples=[100])]


class ChatRecordOut(BaseModel):
    """Status of one chat."""

    chat_id: Annotated[int, Field(description="Telegram's id of it; a group's is below zero", examples=[500000001])]
    state: Annotated[ChatState, Field(description="What became of it", examples=["blocked"])]
    reason: Annotated[str, Field(description="Telegram's words", examples=["Forbidden: bot was blocked by the user"])]
    migrated_to: Annotated[int | None, Field(description="The supergroup that it is now", examples=[-1001000000007])]
    since: Annotated[TimeText, Field(description="When the state was first seen, in UTC", examples=[EXAMPLE_TIME])]


class ChatPage(BaseModel):
    """A page of chat statuses."""

    ok: Ok
    chats: Annotated[list[ChatRecordOut], Field(description="By chat id")]
    counts: Annotated[dict[str, int], Field(description="Number of chats by state", examples=[{"blocked": 12}])]
    next: Annotated[
        int | None, Field(description="`after` of the next page; null on the last one", examples=[500000001])
    ]


class ClearChatsResult(BaseModel):
    """Number of forgotten chats."""

    ok: Ok
    cleared: Annotated[int, Field(description="Chats that were forgotten", examples=[12])]


@router.get("/bots/{slug}/chats", **responses_of(ChatPage, "NOT_FOUND", description="A page of chats"))
async def list_chats(
    session: BotDep, serving: StateDep, state: StateQuery = None, after: AfterQuery = None, limit: LimitQuery = 100
) -> dict[str, object]:
    """List chat statuses: chats that the bot cannot reach, and migrated groups. By chat id."""
    behind = None if after is None else ChatId(after)
    records = await chats.page(serving.pool, session.bot.id, state=state, after=behind, limit=limit + 1)
    shown = records[:limit]
    return {
        "ok": True,
        "chats": [describe(record) for record in shown],
        "counts": await chats.counts(serving.pool, session.bot.id),
        "next": shown[-1].chat_id if len(records) > limit else None,
    }


@router.delete("/bots/{slug}/chats", **responses_of(ClearChatsResult, "NOT_FOUND", description="Forgotten"))
async def clear_chats(session: BotDep, serving: StateDep, state: StateQuery = None) -> dict[str, object]:
    """Forget all chats, or all in a state: broadcasts try them again."""
    return {"ok": True, "cleared": await chats.clear(serving.pool, session.bot.id, None, state=state)}


@router.delete("/bots/{slug}/chats/{chat_id}", **responses_of(ClearChatsResult, "NOT_FOUND", description="Forgotten"))
async def clear_chat(session: BotDep, serving: StateDep, chat_id: ChatIdPath) -> dict[str, object]:
    """Forget one chat. `cleared` is 0 when the chat has no status."""
    return {"ok": True, "cleared": await chats.clear(serving.pool, session.bot.id, [ChatId(chat_id)])}


def describe(record: ChatRecord) -> dict[str, object]:
    """Return a chat status as JSON."""
    return {
        "chat_id": record.chat_id,
        "state": record.state,
        "reason": record.reason,
        "migrated_to": record.migrated_to,
        "since": record.since.isoformat(),
    }
