"""Send now."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from telewarm.api.answers import error_body, failure
from telewarm.api.services import OfBot, Serving, SmallBody
from telewarm.model import ChatId, MediaId
from telewarm.sender import OnCold, SendResult

router = APIRouter(tags=["send"], route_class=SmallBody)

Id = Annotated[int, Field(ge=1, le=2**63 - 1)]


class NewSend(BaseModel):
    chat_id: Annotated[int, Field(ge=-(2**63), le=2**63 - 1, description="The recipient")]
    media: Annotated[list[Id] | None, Field(max_length=10, description="Ids of the bot's media items")] = None
    text: Annotated[str | None, Field(max_length=4096, description="A message of its own, after the media")] = None
    caption: Annotated[str | None, Field(max_length=4096, description="Goes with the first media item")] = None
    on_cold: Annotated[OnCold | None, Field(description="For media without a file id yet; default: upload")] = None


@router.post("/bots/{slug}/send")
async def send(live: OfBot, body: NewSend, serving: Serving) -> JSONResponse:
    """Send a message set to one chat: audio, video, photo, the rest, then text.

    200 when at least one message went, with an `error` in the results that did not; else the status of the first error.
    """
    results = await serving.sender.send(
        live,
        ChatId(body.chat_id),
        media_ids=[MediaId(media_id) for media_id in body.media or []],
        text=body.text,
        caption=body.caption,
        on_cold=body.on_cold,
    )
    shown = [_describe(result) for result in results]
    first_error = results[0].error
    if first_error is not None and all(result.error is not None for result in results):
        return failure(first_error, results=shown)
    return JSONResponse({"ok": True, "results": shown})


def _describe(result: SendResult) -> dict[str, object]:
    shown: dict[str, object] = {
        "message_id": result.message_id,
        "kind": "text" if result.media_id is None else result.kind,
        "cache_hit": result.cache_hit,
        "lat_ms": result.lat_ms,
    }
    if result.media_id is not None:
        shown["media_id"] = result.media_id
    if result.error is not None:
        shown |= error_body(result.error)
    return shown
