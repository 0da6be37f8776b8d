"""Routes: list, show, check, delete and restore bots."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from telewarm.api.dependencies import AppState, BotDep, SlugParam, StateDep, check_slug
from telewarm.api.openapi import responses_of
from telewarm.api.schemas.media_and_bots import BotCheckResponse, BotDeletedOut, BotPage, BotResponse, BotRestored
from telewarm.bots.chat_names import SLUG_PATTERN
from telewarm.bots.health_check import BotCheck, ChatCheck, CheckStatus
from telewarm.database.bot_summaries import BotSummary
from telewarm.errors import UsageError
from telewarm.models import Bot

router = APIRouter(tags=["bots"])

OPTIONAL_SLUG_SCHEMA = {"pattern": f"^({SLUG_PATTERN.pattern})?$"}


@router.get("/bots", **responses_of(BotPage, (400, "BAD_REQUEST"), description="A page of them"))
async def list_bots(
    serving: StateDep,
    *,
    deleted: Annotated[
        bool, Query(description="Those that were deleted and can be brought back", examples=[True])
    ] = False,
    after: Annotated[
        str, Query(description="`next` of the page before", examples=["shop"], json_schema_extra=OPTIONAL_SLUG_SCHEMA)
    ] = "",
    limit: Annotated[int, Query(ge=1, le=500, description="How many", examples=[100])] = 100,
) -> dict[str, object]:
    """List the bots by slug, with the number of media in each state. Never a token."""
    if after and SLUG_PATTERN.fullmatch(after) is None:
        raise UsageError("after is no slug; give `next` of the page before")
    found = await serving.bots.page(deleted=deleted, after=after, limit=limit + 1)
    shown = found[:limit]
    return {
        "ok": True,
        "bots": [describe_listed(one) for one in shown],
        "next": shown[-1].slug if len(found) > limit else None,
    }


@router.get("/bots/{slug}", **responses_of(BotResponse, "NOT_FOUND", description="As it is now"))
async def get_bot(session: BotDep, serving: StateDep) -> dict[str, object]:
    """Show one bot, with the flood waits of its chats and its learned limits. Never its token."""
    return {"ok": True, "bot": await get_bot_detail(serving, session.bot)}


@router.post("/bots/{slug}/check", **responses_of(BotCheckResponse, "NOT_FOUND", description="What Telegram says"))
async def check_bot(session: BotDep, serving: StateDep) -> dict[str, object]:
    """Check with Telegram that the token is valid and the bot may post to each of its warm-up chats.

    Nothing is posted. Each problem comes with its remedy. A changed username is stored.
    """
    return {"ok": True, **describe_check(await serving.bots.check(session.bot.slug))}


@router.delete("/bots/{slug}", **responses_of(BotDeletedOut, "NOT_FOUND", "CONFLICT", description="It is gone"))
async def delete_bot(
    slug: SlugParam,
    serving: StateDep,
    *,
    forever: Annotated[
        bool,
        Query(description="Of a deleted bot: all it has goes, for good; its slug and token are free", examples=[True]),
    ] = False,
) -> dict[str, object]:
    """Delete a bot: its warm-ups, sends and broadcasts stop in every process at once.

    Nothing is lost: `undelete` restores it with all its data. `forever=true`, on a deleted bot, deletes its library,
    chat statuses, broadcasts and the files that no other bot uses; an interrupted call can be repeated.
    """
    slug = check_slug(slug)
    if not forever:
        await serving.bots.delete(slug)
        return {"ok": True, "slug": slug, "forever": False}
    purged = await serving.bots.delete_for_good(slug)
    counts = {"media": purged.media, "broadcasts": purged.broadcasts, "blobs": purged.blobs, "bytes": purged.bytes}
    return {"ok": True, "slug": slug, "forever": True, **counts}


@router.post("/bots/{slug}/undelete", **responses_of(BotRestored, "NOT_FOUND", "CONFLICT", description="It is back"))
async def undelete_bot(slug: SlugParam, serving: StateDep) -> dict[str, object]:
    """Restore a deleted bot with all its data; pending work continues. `changed` is false when it was not deleted."""
    session, changed = await serving.bots.undelete(check_slug(slug))
    return {"ok": True, "changed": changed, "bot": await get_bot_detail(serving, session.bot)}


def describe_listed(one: BotSummary) -> dict[str, object]:
    """Return a bot of the list as JSON."""
    return {
        "id": one.id,
        "slug": one.slug,
        "telegram_id": one.telegram_id,
        "username": one.username,
        "warmup_chats": list(one.warmup_chats),
        "paused": one.paused_at is not None,
        "paused_at": one.paused_at and one.paused_at.isoformat(),
        "flood_wait_s": round(one.flood_wait_seconds, 3),
        "media": dict(one.media_counts),
        "created_at": one.created_at.isoformat(),
        "deleted_at": one.deleted_at and one.deleted_at.isoformat(),
    }


async def get_bot_detail(serving: AppState, bot: Bot) -> dict[str, object]:
    """Return a bot with details as JSON."""
    return describe_detail(*await serving.bots.read_current(bot.id))


def describe_detail(fresh: Bot, summary: BotSummary) -> dict[str, object]:
    """Return a bot with details as JSON."""
    return {
        **describe_listed(summary),
        "closed_chats": {str(chat_id): round(seconds, 3) for chat_id, seconds in fresh.chat_pauses.items()},
        "learned": dict(fresh.learned_limits),
    }


def describe_check(check: BotCheck) -> dict[str, object]:
    """Return a health check as JSON."""
    username = None if check.profile is None else check.profile.username
    return {
        "healthy": check.ok,
        "token": {**_describe_status(check.token), "username": username},
        "chats": [_describe_chat_check(chat) for chat in check.chats],
    }


def _describe_chat_check(chat: ChatCheck) -> dict[str, object]:
    return {
        "chat_id": chat.chat_id,
        **_describe_status(chat.result),
        "type": chat.type,
        "title": chat.title,
        "status": chat.status,
        "protected": chat.protected,
        "refused_kinds": list(chat.refused),
    }


def _describe_status(judgement: CheckStatus) -> dict[str, object]:
    return {"ok": judgement.ok, "error": judgement.code, "message": judgement.message}
