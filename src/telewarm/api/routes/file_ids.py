"""Route: the file id of a media item, for bots that send with a framework of their own."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from telewarm.api.dependencies import StateDep
from telewarm.api.openapi import Ok, responses_of
from telewarm.api.routes.media import ItemDep
from telewarm.api.schemas.media_and_bots import MediaIdOut
from telewarm.errors import NotFound
from telewarm.models import Kind
from telewarm.telegram.parameters import SEND_METHODS

router = APIRouter(tags=["media"])

MAX_WAIT_SECONDS = 60  # seconds


class FileIdOut(BaseModel):
    """A file id."""

    ok: Ok
    media_id: MediaIdOut
    bot: Annotated[str, Field(description="The bot that the file id belongs to, and no other", examples=["shop"])]
    file_id: Annotated[str, Field(description="Send it with `method`", examples=["AgACAgIAAxkDAAIB…"])]
    kind: Annotated[Kind, Field(description="What Telegram made of the file", examples=["photo"])]
    method: Annotated[str, Field(description="The Bot API's method that sends this kind", examples=["sendPhoto"])]


@router.get(
    "/media/{media_id}/file-id",
    **responses_of(FileIdOut, "NOT_FOUND", "MEDIA_NOT_READY", "BAD_MEDIA", description="The item is warm"),
)
async def get_file_id(
    found: ItemDep,
    serving: StateDep,
    wait: Annotated[
        float,
        Query(
            ge=0,
            le=MAX_WAIT_SECONDS,
            description="Seconds to wait for its warm-up, which goes before others then",
            examples=[5],
        ),
    ] = 0.0,
    bot: Annotated[str | None, Query(description="404 when the item is another bot's", examples=["shop"])] = None,
) -> dict[str, object]:
    """Return a media item's file id, for sending it by other means than Telewarm.

    409 MEDIA_NOT_READY with Retry-After while there is none. Ids change: ask again when Telegram refuses one.
    """
    item, session = found
    if bot is not None and bot != session.bot.slug:
        raise NotFound(f"media item {item.id} is not in the library of bot {bot!r}")
    warm = await serving.sender.file_id(session, item.id, wait=wait)
    return {
        "ok": True,
        "media_id": item.id,
        "bot": session.bot.slug,
        "file_id": warm.file_id,
        "kind": warm.kind,
        "method": SEND_METHODS[warm.kind],
    }
