"""Routes: add, list and show media."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field

from telewarm.api import uploads
from telewarm.api.dependencies import AppState, BotDep, StateDep
from telewarm.api.openapi import AT, responses_of
from telewarm.api.schemas.media_and_bots import SHA256, AddedMedia, MediaPage, MediaResponse
from telewarm.api.schemas.types import LARGEST
from telewarm.api.signed_urls import steady_url
from telewarm.bots.sessions import BotSession
from telewarm.database import media
from telewarm.database.media_search import MediaFilters
from telewarm.errors import UsageError
from telewarm.media.ingest import IngestResult
from telewarm.media.names import name_of
from telewarm.models import Kind, MediaId, MediaItem, MediaState, Sha256

router = APIRouter(tags=["media"])

PAGE = 100  # media items, when the caller does not say
KINDS = [kind.value for kind in Kind]
KIND = {
    "type": "string",
    "enum": [*KINDS, ""],
    "description": "What to send it as; blank: what it is",
    "example": "photo",
}
NAME = {"type": "string", "description": "The file name to show", "example": "cat.jpg"}
OR_NULL = {"type": ["string", "null"]}
IGNORED = {"description": "Ignored: the bytes say what they are", "example": "image/jpeg"}
FILE = {"type": "string", "format": "binary", "minLength": 1}
FORM = {
    "type": "object",
    "additionalProperties": False,
    "required": ["file"],
    "properties": {
        "file": {**FILE, "description": "The bytes", "example": "(bytes)"},
        "kind": KIND,
        "name": NAME,
    },
}
URL = {
    "type": "string",
    "description": "Instead of the bytes: a public http(s) address that the file is fetched from, once and now; at "
    "most 5 redirects; ports 80, 443 and TELEWARM_FETCH_PORTS; never a private address (TELEWARM_FETCH_PRIVATE). It is "
    "neither kept nor logged",
    "example": "https://example.org/film.mp4",
}
BASE64 = {
    "type": "object",
    "additionalProperties": False,
    "oneOf": [{"required": ["data_base64"]}, {"required": ["url"]}],
    "properties": {
        "url": URL,
        "data_base64": {
            "type": "string",
            "format": "byte",
            "minLength": 4,
            "description": "The bytes",
            "example": "/9j/4AAQSkZJRg==",
        },
        "kind": {**KIND, **OR_NULL, "enum": [*KINDS, "", None]},
        "name": {**NAME, **OR_NULL},
        "mime": IGNORED,
        "ext": {**IGNORED, "example": "jpg"},
        "width": {**IGNORED, "example": 1280},
        "height": {**IGNORED, "example": 720},
        "duration": {**IGNORED, "example": 12.5},
    },
}
BODIES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": FORM},
            "application/octet-stream": {"schema": FILE, "example": "(bytes)"},
            "application/json": {"schema": BASE64},
        },
    }
}
ADDED = responses_of(
    AddedMedia,
    "NOT_FOUND",
    "CONFLICT",
    "UNREADABLE_MEDIA",
    "DECODER_FAILED",
    "MEDIA_RULE_BROKEN",
    "STORE_UNAVAILABLE",
    "URL_REFUSED",
    "URL_UNREACHABLE",
    "URL_WITHOUT_FILE",
    status=201,
    words="New, and being warmed",
    also={200: {"model": AddedMedia, "description": "The bot has it already"}},
)
OF_RAW = "With a raw body; else what the bytes are"
YEARS = range(2000, 2200)


def _sensible(at: datetime) -> datetime:
    if at.year not in YEARS:
        raise ValueError(f"must be in the years {YEARS.start} to {YEARS.stop - 1}")
    return at


def _plain(text: str) -> str:
    if "\0" in text:
        raise ValueError("must be plain text, without U+0000")
    return text


Id = Annotated[int, Path(ge=1, le=LARGEST, description="Of a media item", examples=[4711])]
Limit = Annotated[int, Field(ge=1, le=1000)]
Offset = Annotated[int, Field(ge=0, le=10_000_000)]
Before = Annotated[int, Field(ge=1, le=LARGEST)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Code = Annotated[str, Field(pattern=r"^[A-Z_]{1,64}$")]
Moment = Annotated[AwareDatetime, AfterValidator(_sensible)]
Text = Annotated[str, Field(max_length=255), AfterValidator(_plain)]


def not_blank(said: Any) -> BeforeValidator:  # noqa: ANN401 - any type
    """`?kind=&state=`: clients leave blank what they do not want. `said`: the type of what is not blank."""
    return BeforeValidator(
        lambda text: None if text == "" else text,
        json_schema_input_type=said | Literal[""] | None,
    )


@router.post("/bots/{slug}/media", openapi_extra=BODIES, **ADDED)
async def add_media(
    request: Request,
    live: BotDep,
    serving: StateDep,
    kind: Annotated[Kind | None, not_blank(Kind), Query(description=OF_RAW, examples=["photo"])] = None,
    name: Annotated[str | None, Query(description="With a raw body: its file name", examples=["cat.jpg"])] = None,
) -> JSONResponse:
    """Keep a file and have it warmed: 201 and durable, or 200 when the bot has it already.

    Three bodies: `multipart/form-data`, any other type as raw bytes, or JSON with `data_base64`, or with the `url` that
    the file is to be fetched from.
    """
    async with serving.library.receive() as incoming:
        asked = await uploads.read(
            request,
            incoming,
            largest=serving.largest,
            patience=serving.patience,
            receive=serving.library.receive,
        )
        shown = name_of(asked.name) or name_of(name)
        if asked.url is None:
            added = await serving.library.add(live.bot, incoming, kind=asked.kind or kind, name=shown)
        else:
            added = await serving.library.add_url(live.bot, asked.url, kind=asked.kind or kind, name=shown)
    return JSONResponse({"ok": True, **describe_added(added)}, 201 if added.created else 200)


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaQuery:
    """Which of a bot's media, and how many."""

    filters: MediaFilters
    limit: int
    offset: int
    before: MediaId | None


async def media_query(
    *,
    kind: Annotated[Kind | None, not_blank(Kind), Query(description="Only of this kind", examples=["photo"])] = None,
    state: Annotated[
        MediaState | None, not_blank(MediaState), Query(description="Only in this state", examples=["error"])
    ] = None,
    error: Annotated[
        Code | None, not_blank(Code), Query(description="Whose last error has this code", examples=["OBJECT_MISSING"])
    ] = None,
    sha256: Annotated[
        Hash | None, not_blank(Hash), Query(description="With these bytes: 64 hex digits", examples=[SHA256])
    ] = None,
    since: Annotated[
        Moment | None, not_blank(Moment), Query(description="Added then or later; with a time zone", examples=[AT])
    ] = None,
    until: Annotated[Moment | None, not_blank(Moment), Query(description="Added before then", examples=[AT])] = None,
    q: Annotated[
        Text | None,
        not_blank(Text),
        Query(description="Somewhere in the name, in upper or lower case", examples=["cat"]),
    ] = None,
    limit: Annotated[
        Limit | None, not_blank(Limit), Query(description=f"How many; {PAGE} if not given", examples=[PAGE])
    ] = None,
    offset: Annotated[
        Offset | None,
        not_blank(Offset),
        Query(description="How many to pass over; `before` costs less", examples=[200]),
    ] = None,
    before: Annotated[
        Before | None, not_blank(Before), Query(description="`next` of the page before", examples=[4000])
    ] = None,
) -> MediaQuery:
    """Raises UsageError."""
    filters = MediaFilters(
        kind=kind,
        state=state,
        error_code=error,
        sha256=None if sha256 is None else Sha256(sha256),
        since=since,
        until=until,
        text=q,
    )
    if offset and (before is not None or not filters.counted):
        raise UsageError("offset goes with kind and state alone: page with `before`, by the `next` of the page before")
    page = PAGE if limit is None else limit
    return MediaQuery(
        filters=filters, limit=page, offset=offset or 0, before=None if before is None else MediaId(before)
    )


@router.get("/bots/{slug}/media", **responses_of(MediaPage, "NOT_FOUND", (400, "BAD_REQUEST"), words="A page of them"))
async def list_media(
    live: BotDep, serving: StateDep, asked: Annotated[MediaQuery, Depends(media_query)]
) -> dict[str, object]:
    """Look at a bot's library, newest first, page by page: give `next` as `before` until it is null.

    A search by anything but kind and state looks at 100,000 items a page at most: such a page may hold fewer than
    `limit`, or none, and yet have a next one.
    """
    if asked.offset:
        page = await serving.library.page_at(live.bot, asked.filters, offset=asked.offset, limit=asked.limit)
    else:
        page = await serving.library.page(live.bot, asked.filters, before=asked.before, limit=asked.limit)
    return {
        "ok": True,
        "media": [describe(item, serving) for item in page.items],
        "count": page.count,
        "limit": asked.limit,
        "offset": asked.offset,
        "next": page.next,
    }


@router.get("/media/{media_id}", **responses_of(MediaResponse, "NOT_FOUND", words="As it is now"))
async def get_media(media_id: Id, serving: StateDep) -> dict[str, object]:
    """Look at one media item, with what is known of its file id under `cache`."""
    item, _ = await item_of_path(media_id, serving)
    return {"ok": True, "media": describe(item, serving)}


async def item_of_path(media_id: Id, serving: StateDep) -> tuple[MediaItem, BotSession]:
    """And its bot. Raises NotFound."""
    item = await media.get(serving.pool, MediaId(media_id))
    return item, await serving.bots.get(item.bot_id)


OfItem = Annotated[tuple[MediaItem, BotSession], Depends(item_of_path)]


def describe(item: MediaItem, serving: AppState) -> dict[str, object]:
    return {**metadata_out(item), "preview_url": steady_url(serving.signer, item.id)}


def metadata_out(item: MediaItem) -> dict[str, object]:
    """All but what takes a server."""
    facts = item.facts
    return {
        "media_id": item.id,
        "sha256": item.sha256,
        "kind": item.kind,
        "name": item.name,
        "sent_name": item.sent_name,
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
            "last_error_code": item.last_error_code,
        },
    }


def describe_added(added: IngestResult) -> dict[str, object]:
    item = added.item
    return {
        "media_id": item.id,
        "sha256": item.sha256,
        "bytes": item.facts.bytes,
        "kind": item.kind,
        "state": item.state,
        "warming": item.state is MediaState.WARMING,
        "storage_key": item.storage_key,
        "r2_key": item.storage_key,
        "note": added.note,
    }
