"""A bot's chat ledger: whom it could not reach, and groups that became supergroups."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from telewarm.api.services import OfBot, Serving
from telewarm.database import chats
from telewarm.model import ChatId, ChatRecord, ChatState

router = APIRouter(tags=["chats"])

MOST = 1000
LEAST_ID, MOST_ID = -(2**63), 2**63 - 1

OneChat = Annotated[int, Path(ge=LEAST_ID, le=MOST_ID)]
After = Annotated[int | None, Query(ge=LEAST_ID, le=MOST_ID, description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=MOST)]


@router.get("/bots/{slug}/chats")
async def page(
    live: OfBot, serving: Serving, state: ChatState | None = None, after: After = None, limit: Limit = 100
) -> dict[str, object]:
    """By chat id. `counts` are of the whole ledger, `next` is null on the last page."""
    behind = None if after is None else ChatId(after)
    records = await chats.page(serving.pool, live.bot.id, state=state, after=behind, limit=limit + 1)
    shown = records[:limit]
    return {
        "ok": True,
        "chats": [describe(record) for record in shown],
        "counts": await chats.counts(serving.pool, live.bot.id),
        "next": shown[-1].chat_id if len(records) > limit else None,
    }


@router.delete("/bots/{slug}/chats")
async def clear(live: OfBot, serving: Serving, state: ChatState | None = None) -> dict[str, object]:
    """Forget all chats, or all in a state: broadcasts try them again."""
    return {"ok": True, "cleared": await chats.clear(serving.pool, live.bot.id, None, state=state)}


@router.delete("/bots/{slug}/chats/{chat_id}")
async def clear_one(live: OfBot, serving: Serving, chat_id: OneChat) -> dict[str, object]:
    """Forget one chat. `cleared` is 0 when the ledger does not hold it."""
    return {"ok": True, "cleared": await chats.clear(serving.pool, live.bot.id, [ChatId(chat_id)])}


def describe(record: ChatRecord) -> dict[str, object]:
    return {
        "chat_id": record.chat_id,
        "state": record.state,
        "reason": record.reason,
        "migrated_to": record.migrated_to,
        "since": record.since.isoformat(),
    }
