"""Routes: re-warm media, and share them between bots."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from telewarm.api.dependencies import BotDep, LimitedBodyRoute, StateDep, resolve_bot
from telewarm.api.error_responses import HttpError
from telewarm.api.openapi import responses_of
from telewarm.api.routes.edits import MediaIds
from telewarm.api.routes.media import ItemDep, describe
from telewarm.api.schemas.bodies import RequestBody
from telewarm.api.schemas.media_and_bots import DueResponse, RewarmResponse
from telewarm.api.schemas.types import RowIdParam
from telewarm.database import bots
from telewarm.database.media import RewarmScope
from telewarm.errors import NotFound
from telewarm.models import MediaId, MediaState

router = APIRouter(tags=["media"], route_class=LimitedBodyRoute)


class RewarmAll(RequestBody):
    """What to rewarm."""

    which: Annotated[RewarmScope, Field(description="What is in error, or everything", examples=["failed"])]


class RewarmSelected(RequestBody):
    """What to rewarm, or which media."""

    which: Annotated[RewarmScope | None, Field(description="What is in error, or everything", examples=["failed"])] = (
        None
    )
    media_ids: Annotated[MediaIds | None, Field(description="Or these, before others", examples=[[4711, 4712]])] = None


class ShareMedia(RequestBody):
    """Media to share."""

    source: Annotated[str, Field(description="The slug of the bot that has them", examples=["shop"])]
    media_ids: Annotated[
        list[RowIdParam] | None,
        Field(max_length=10_000, description="Which of its media; all if not given", examples=[[4711, 4712]]),
    ] = None


@router.post("/bots/{slug}/media/rewarm", **responses_of(DueResponse, "NOT_FOUND", description="They are due"))
async def rewarm_library(body: RewarmSelected, session: BotDep, serving: StateDep) -> dict[str, object]:
    """Warm media again: those in error, all, or some. `count`: items that are due by it.

    Those with a file id are sent by it meanwhile. Named items are uploaded before others; of the rest, those with a
    file id come after those without.
    """
    if (body.which is None) == (body.media_ids is None):
        raise HttpError(422, "BAD_REQUEST", "give `which` (failed or all), or `media_ids`")
    if body.media_ids is None:
        assert body.which is not None  # noqa: S101 - one of the two
        return {"ok": True, "count": await serving.library.rewarm_all([session.bot], body.which)}
    media_ids = [MediaId(media_id) for media_id in body.media_ids]
    count, found = await serving.library.rewarm_selected(session.bot, media_ids)
    return {"ok": True, "count": count, "not_found": sorted(set(media_ids) - set(found))}


@router.post("/media/rewarm", **responses_of(DueResponse, description="They are due"))
async def rewarm_all(body: RewarmAll, serving: StateDep) -> dict[str, object]:
    """Warm media again in the libraries of all bots: those in error, or all."""
    every = []
    for slug in await bots.slugs(serving.pool):
        with suppress(NotFound):  # deleted meanwhile
            every.append((await serving.bots.by_slug(slug)).bot)
    return {"ok": True, "count": await serving.library.rewarm_all(every, body.which)}


@router.post(
    "/bots/{slug}/media/share",
    **responses_of(DueResponse, "NOT_FOUND", description="They are in the other library too"),
)
async def share_media(body: ShareMedia, session: BotDep, serving: StateDep) -> dict[str, object]:
    """Add media of another bot to this one's library, without uploading them again. `count`: new items."""
    source = await resolve_bot(body.source, serving)
    media_ids = None if body.media_ids is None else [MediaId(media_id) for media_id in body.media_ids]
    return {"ok": True, "count": await serving.library.share(source.bot, session.bot, media_ids)}


@router.post(
    "/media/{media_id}/rewarm", **responses_of(RewarmResponse, "NOT_FOUND", description="It is due, before others")
)
async def rewarm_media(found: ItemDep, serving: StateDep) -> dict[str, object]:
    """Upload one item again, before others. Its present file id is used meanwhile."""
    before, session = found
    item = await serving.library.rewarm(session.bot, before.id)
    doing = "is queued to be uploaded again" if item.state is MediaState.WARMING else f"is {item.state}"
    meanwhile = "; it is sent by its file id meanwhile" if item.file_id is not None else ""
    message = f"media item {item.id} {doing}{meanwhile}"
    return {"ok": True, "media_id": item.id, "message": message, "media": describe(item, serving)}
