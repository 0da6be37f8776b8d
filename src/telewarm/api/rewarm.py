"""What is in the libraries already: warmed anew, or shared between bots."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from telewarm.api.media import LARGEST_ID, Id, describe
from telewarm.api.services import OfBot, Serving, SmallBody, bot_of_path
from telewarm.database import bots, media
from telewarm.database.media import Which
from telewarm.model import MediaId

router = APIRouter(tags=["media"], route_class=SmallBody)


class Rewarm(BaseModel):
    which: Which


class Share(BaseModel):
    source: Annotated[str, Field(description="The slug of the bot that has them")]
    media_ids: Annotated[
        list[Annotated[int, Field(ge=1, le=LARGEST_ID)]] | None,
        Field(max_length=10_000, description="Which of its media; all if not given"),
    ] = None


@router.post("/bots/{slug}/media/rewarm")
async def rewarm_library(body: Rewarm, live: OfBot, serving: Serving) -> dict[str, object]:
    """Warm anew what is in error, or everything: `count` is how many items are due by it.

    Those that have a file id are sent by it meanwhile, and go after what has none.
    """
    return {"ok": True, "count": await serving.library.rewarm_many([live.bot], body.which)}


@router.post("/media/rewarm")
async def rewarm_all(body: Rewarm, serving: Serving) -> dict[str, object]:
    """The same for the libraries of all bots."""
    every = [(await serving.bots.by_slug(slug)).bot for slug in await bots.slugs(serving.pool)]
    return {"ok": True, "count": await serving.library.rewarm_many(every, body.which)}


@router.post("/bots/{slug}/media/share")
async def share_media(body: Share, live: OfBot, serving: Serving) -> dict[str, object]:
    """Put media of another bot's library into this one's too, without uploading them again: `count` is how many were
    new here."""
    source = await bot_of_path(body.source, serving)
    media_ids = None if body.media_ids is None else [MediaId(media_id) for media_id in body.media_ids]
    return {"ok": True, "count": await serving.library.share(source.bot, live.bot, media_ids)}


@router.post("/media/{media_id}/rewarm")
async def rewarm_media(media_id: Id, serving: Serving) -> dict[str, object]:
    """Upload one item anew, before others. If it has a file id, it is sent by that meanwhile."""
    item = await media.get(serving.pool, MediaId(media_id))
    live = await serving.bots.get(item.bot_id)
    return {"ok": True, "media": describe(await serving.library.rewarm(live.bot, item.id))}
