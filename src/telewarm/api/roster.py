"""Bots looked at, checked, deleted and brought back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from telewarm.api.services import SLUG, OfBot, Services, Serving, slug_of_path
from telewarm.api.shapes import BotBack, BotGone, BotPage, Checked, OneBot, answers
from telewarm.database.roster import Listed
from telewarm.errors import UsageError
from telewarm.lanes.checking import BotCheck, ChatCheck, Judgement
from telewarm.model import Bot

router = APIRouter(tags=["bots"])

NO_BOT = "No such bot, or a deleted one: the message says which"


@router.get("/bots", response_model=None, responses=answers(BotPage, s400="`after` is no slug"))
async def list_bots(
    serving: Serving,
    *,
    deleted: Annotated[bool, Query(description="Those that were deleted and can be brought back")] = False,
    after: Annotated[str, Query(description="`next` of the page before", examples=["shop"])] = "",
    limit: Annotated[int, Query(ge=1, le=500, description="How many")] = 100,
) -> dict[str, object]:
    """The bots by slug, with how many media they have in each state. Never a token."""
    if after and SLUG.fullmatch(after) is None:
        raise UsageError("after is no slug; give `next` of the page before")
    found = await serving.bots.page(deleted=deleted, after=after, limit=limit + 1)
    shown = found[:limit]
    return {
        "ok": True,
        "bots": [describe_listed(one) for one in shown],
        "next": shown[-1].slug if len(found) > limit else None,
    }


@router.get("/bots/{slug}", response_model=None, responses=answers(OneBot, s404=NO_BOT))
async def get_bot(live: OfBot, serving: Serving) -> dict[str, object]:
    """One bot, with the flood waits of its chats and what was learned of its limits. Never its token."""
    return {"ok": True, "bot": await detail(serving, live.bot)}


@router.post("/bots/{slug}/check", response_model=None, responses=answers(Checked, s404=NO_BOT))
async def check_bot(live: OfBot, serving: Serving) -> dict[str, object]:
    """Ask Telegram whether the token is good and the bot may post to each of its warm-up chats. Nothing is posted to
    anybody; what is wrong comes with its cure. A new username is kept."""
    return {"ok": True, **_checked(await serving.bots.check(live.bot.slug))}


@router.delete(
    "/bots/{slug}",
    response_model=None,
    responses=answers(BotGone, s404=NO_BOT, s409="`forever` is for bots that were deleted before"),
)
async def delete_bot(
    slug: str,
    serving: Serving,
    *,
    forever: Annotated[
        bool, Query(description="Of a deleted bot: all it has goes, for good, and its slug and token are free")
    ] = False,
) -> dict[str, object]:
    """Delete a bot: its warm-ups, sends and broadcasts stop in every process at once, and it is found nowhere any more.
    Nothing is lost: `undelete` brings it back with all it had. `forever=true`, on a deleted bot, deletes its library,
    chat ledger, broadcasts and the files that nobody else has; broken off, the same call goes on with it.
    """
    slug = slug_of_path(slug)
    if not forever:
        await serving.bots.delete(slug)
        return {"ok": True, "slug": slug, "forever": False}
    purged = await serving.bots.delete_for_good(slug)
    counts = {"media": purged.media, "broadcasts": purged.broadcasts, "blobs": purged.blobs, "bytes": purged.bytes}
    return {"ok": True, "slug": slug, "forever": True, **counts}


@router.post(
    "/bots/{slug}/undelete",
    response_model=None,
    responses=answers(BotBack, s404="No bot has or had this slug", s409="It is being deleted for good"),
)
async def undelete_bot(slug: str, serving: Serving) -> dict[str, object]:
    """Bring a deleted bot back with all it had; what was due goes on. `changed` is false when it was not deleted."""
    live, changed = await serving.bots.undelete(slug_of_path(slug))
    return {"ok": True, "changed": changed, "bot": await detail(serving, live.bot)}


def describe_listed(one: Listed) -> dict[str, object]:
    return {
        "id": one.id,
        "slug": one.slug,
        "telegram_id": one.telegram_id,
        "username": one.username,
        "warmup_chats": list(one.warmup_chats),
        "paused": one.paused_at is not None,
        "paused_at": one.paused_at and one.paused_at.isoformat(),
        "flood_wait_s": round(one.flood_wait, 3),
        "media": dict(one.media),
        "created_at": one.created_at.isoformat(),
        "deleted_at": one.deleted_at and one.deleted_at.isoformat(),
    }


async def detail(serving: Services, bot: Bot) -> dict[str, object]:
    fresh, listed = await serving.bots.look(bot.id)
    return {
        **describe_listed(listed),
        "closed_chats": {str(chat_id): round(seconds, 3) for chat_id, seconds in fresh.closed_chats.items()},
        "learned": dict(fresh.learned),
    }


def _checked(found: BotCheck) -> dict[str, object]:
    username = None if found.profile is None else found.profile.username
    return {
        "healthy": found.ok,
        "token": {**_judged(found.token), "username": username},
        "chats": [_of_chat(chat) for chat in found.chats],
    }


def _of_chat(chat: ChatCheck) -> dict[str, object]:
    return {
        "chat_id": chat.chat_id,
        **_judged(chat.judgement),
        "type": chat.type,
        "title": chat.title,
        "status": chat.status,
        "protected": chat.protected,
        "refused_kinds": list(chat.refused),
    }


def _judged(judgement: Judgement) -> dict[str, object]:
    return {"ok": judgement.ok, "error": judgement.code, "message": judgement.message}
