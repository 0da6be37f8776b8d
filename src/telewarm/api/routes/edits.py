"""Routes: rename and delete media, collect orphaned objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from telewarm.api.dependencies import AppState, BotDep, LimitedBodyRoute, StateDep
from telewarm.api.openapi import responses_of
from telewarm.api.routes.media import ItemDep, describe
from telewarm.api.schemas.bodies import RequestBody
from telewarm.api.schemas.media_and_bots import CollectResponse, DeletedMedia, RenamedMedia
from telewarm.api.schemas.types import RowIdParam, StrictBool
from telewarm.bots.sessions import BotSession
from telewarm.errors import UsageError
from telewarm.media.library import MAX_NAMED_ITEMS
from telewarm.media.names import name_of
from telewarm.models import MediaId

router = APIRouter(tags=["media"], route_class=LimitedBodyRoute)

MediaIds = Annotated[
    list[RowIdParam],
    Field(min_length=1, max_length=MAX_NAMED_ITEMS, description="Of this bot's media", examples=[[4711, 4712]]),
]


class MediaUpdate(RequestBody):
    """A new name."""

    name: Annotated[
        str | None,
        Field(description="One line; what it has beyond 255 characters is cut off. null: none", examples=["cat.jpg"]),
    ]
    rewarm: Annotated[
        StrictBool, Field(description="Upload it again, so that recipients see the new name", examples=[False])
    ] = False


class MediaIdsIn(RequestBody):
    """Media of a bot."""

    media_ids: MediaIds


@router.patch("/media/{media_id}", **responses_of(RenamedMedia, "NOT_FOUND", description="With its new name"))
async def rename(body: MediaUpdate, found: ItemDep, serving: StateDep) -> dict[str, object]:
    """Rename a media item.

    A file id keeps the name of the upload, so recipients see the new name once the item is rewarmed: `rewarm` queues
    that at once. `note` says what they see until then.
    """
    name = name_of(body.name)
    if body.name is not None and name is None:
        raise UsageError("the name has no character that can be shown; give another, or null for none")
    item, session = found
    renamed = await serving.library.rename(item.id, name, rewarm=session.bot if body.rewarm else None)
    return {"ok": True, "media": describe(renamed, serving), "note": renamed.note}


@router.delete("/media/{media_id}", **responses_of(DeletedMedia, "NOT_FOUND", "CONFLICT", description="It is gone"))
async def delete(found: ItemDep, serving: StateDep) -> dict[str, object]:
    """Delete one media item.

    Its file is deleted within the hour unless another item uses it. A warm-up in progress does not restore the item;
    sent messages stay.
    """
    item, session = found
    return await _delete_media(serving, session, [item.id])


@router.post(
    "/bots/{slug}/media/delete", **responses_of(DeletedMedia, "NOT_FOUND", "CONFLICT", description="They are gone")
)
async def delete_selected(body: MediaIdsIn, session: BotDep, serving: StateDep) -> dict[str, object]:
    """Delete up to 10,000 of a bot's media: all of them, or none when a broadcast needs one.

    Ids that the bot does not have are listed in `not_found`.
    """
    return await _delete_media(serving, session, [MediaId(media_id) for media_id in body.media_ids])


@router.post(
    "/media/collect", **responses_of(CollectResponse, "STORE_UNAVAILABLE", description="The store was looked through")
)
async def collect(serving: StateDep) -> dict[str, object]:
    """Find objects in the store that no media item uses, and delete those found long enough ago.

    A process that is killed while it adds a file may leave one behind. Files of deleted media are removed
    automatically; this is for the rest, now and then. It takes as long as the store takes to list its objects.
    """
    strays = await serving.garbage_collector.find_orphaned_objects()
    return {"ok": True, "blobs": await serving.garbage_collector.collect(), "strays": strays}


async def _delete_media(serving: AppState, session: BotSession, media_ids: Sequence[MediaId]) -> dict[str, object]:
    removed = await serving.library.delete(session.bot, media_ids)
    return {
        "ok": True,
        "deleted": len(removed.media_ids),
        "not_found": sorted(set(media_ids) - set(removed.media_ids)),
        "blobs": removed.blobs,
        "bytes": removed.bytes,
    }
