"""Media in, and a look at them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BeforeValidator, Field

from telewarm.api import uploads
from telewarm.api.services import OfBot, Serving
from telewarm.database import media
from telewarm.library import Added
from telewarm.model import Kind, MediaId, MediaItem, State

router = APIRouter(tags=["media"])

LARGEST_ID = 2**63 - 1
PAGE = 100  # media items, when the caller does not say
KINDS = [kind.value for kind in Kind]
BODIES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "kind": {"type": "string", "enum": KINDS},
                        "name": {"type": "string"},
                    },
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["data_base64"],
                    "properties": {
                        "kind": {"type": "string", "enum": KINDS},
                        "data_base64": {"type": "string", "format": "byte"},
                        "name": {"type": "string"},
                        "mime": {"type": "string", "description": "Ignored: the bytes say what they are"},
                        "ext": {"type": "string", "description": "Ignored: the bytes say what they are"},
                    },
                }
            },
        },
    }
}


Id = Annotated[int, Path(ge=1, le=LARGEST_ID)]
Limit = Annotated[int, Field(ge=1, le=1000)]
Offset = Annotated[int, Field(ge=0, le=10_000_000)]
NotBlank = BeforeValidator(lambda text: None if text == "" else text)  # `?kind=&state=`: clients leave them blank


@router.post("/bots/{slug}/media", status_code=201, openapi_extra=BODIES)
async def add_media(
    request: Request,
    live: OfBot,
    serving: Serving,
    kind: Annotated[Kind | None, NotBlank, Query(description="With a raw body; else what the bytes are")] = None,
    name: Annotated[str | None, Query(description="With a raw body: the file name to show")] = None,
) -> JSONResponse:
    """Keep a file and have it warmed: 201 and durable, or 200 when the bot has it already.

    Three bodies: `multipart/form-data`, any other type as raw bytes, or JSON with `data_base64`.
    """
    async with serving.library.receive() as incoming:
        asked = await uploads.read(request, incoming, largest=serving.largest, patience=serving.patience)
        shown = uploads.name_of(asked.name) or uploads.name_of(name)
        added = await serving.library.add(live.bot, incoming, kind=asked.kind or kind, name=shown)
    return JSONResponse(_added(added), 201 if added.created else 200)


@router.get("/bots/{slug}/media")
async def list_media(
    *,
    live: OfBot,
    serving: Serving,
    kind: Annotated[Kind | None, NotBlank] = None,
    state: Annotated[State | None, NotBlank] = None,
    limit: Annotated[Limit | None, NotBlank, Query(description=f"How many; {PAGE} if not given")] = None,
    offset: Annotated[Offset | None, NotBlank, Query(description="How many to pass over")] = None,
) -> dict[str, object]:
    """A bot's library, newest first; `count` is how many there are in all."""
    items, count = await media.page(
        serving.pool,
        bot_id=live.bot.id,
        kind=kind,
        state=state,
        limit=PAGE if limit is None else limit,
        offset=offset or 0,
    )
    return {"ok": True, "media": [describe(item) for item in items], "count": count}


@router.get("/media/{media_id}")
async def get_media(media_id: Id, serving: Serving) -> dict[str, object]:
    """One media item, with what is known of its file id under `cache`."""
    return {"ok": True, "media": describe(await media.get(serving.pool, MediaId(media_id)))}


def describe(item: MediaItem) -> dict[str, object]:
    facts = item.facts
    return {
        "media_id": item.id,
        "sha256": item.sha256,
        "kind": item.kind,
        "name": item.name,
        "state": item.state,
        "bytes": facts.bytes,
        "mime": facts.mime,
        "ext": facts.ext,
        "width": facts.width,
        "height": facts.height,
        "duration": facts.duration,
        "title": facts.title,
        "performer": facts.performer,
        "storage_key": item.storage_key,
        "created_at": item.created_at.isoformat(),
        "cache": {
            "status": item.state,
            "file_id": item.file_id,
            "file_unique_id": item.file_unique_id,
            "sent_kind": item.sent_kind,
            "warmed_at": item.warmed_at and item.warmed_at.isoformat(),
            "way": item.way,
            "attempts": item.attempts,
            "last_error": item.last_error,
        },
    }


def _added(added: Added) -> dict[str, object]:
    item = added.item
    return {
        "ok": True,
        "media_id": item.id,
        "sha256": item.sha256,
        "bytes": item.facts.bytes,
        "kind": item.kind,
        "state": item.state,
        "warming": item.state is State.WARMING,
        "storage_key": item.storage_key,
    }
