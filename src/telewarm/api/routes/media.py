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
from telewarm.api.openapi import EXAMPLE_TIME, responses_of
from telewarm.api.schemas.media_and_bots import EXAMPLE_SHA256, AddedMedia, MediaPage, MediaResponse
from telewarm.api.schemas.types import MAX_BIGINT
from telewarm.api.signed_urls import stable_url
from telewarm.bots.sessions import BotSession
from telewarm.database import media
from telewarm.database.media_search import MediaFilters
from telewarm.errors import UsageError
from telewarm.media.ingest import IngestResult
from telewarm.media.names import name_of
from telewarm.models import Kind, MediaId, MediaItem, MediaState, Sha256

router = APIRouter(tags=["media"])

DEFAULT_PAGE_SIZE = 100  # media items, when the caller does not say
KIND_VALUES = [kind.value for kind in Kind]
KIND_SCHEMA = {
    "type": "string",
    "enum": [*KIND_VALUES, ""],
    "description": "What to send it as; blank: what it is",
    "example": "photo",
}
NAME_SCHEMA = {"type": "string", "description": "The file name to show", "example": "cat.jpg"}
NULLABLE_TEXT_SCHEMA = {"type": ["string", "null"]}
IGNORED_SCHEMA = {"description": "Ignored: the bytes say what they are", "example": "image/jpeg"}
FILE_SCHEMA = {"type": "string", "format": "binary", "minLength": 1}
FORM_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["file"],
    "properties": {
        "file": {**FILE_SCHEMA, "description": "The bytes", "example": "(bytes)"},
        "kind": KIND_SCHEMA,
        "name": NAME_SCHEMA,
    },
}
URL_SCHEMA = {
    "type": "string",
    "description": "Instead of the bytes: a public http(s) address that the file is fetched from, once and now; at "
    "most 5 redirects; ports 80, 443 and TELEWARM_FETCH_PORTS; never a private address (TELEWARM_FETCH_PRIVATE). It is "
    "neither kept nor logged",
    "example": "https://example.org/film.mp4",
}
JSON_UPLOAD_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "oneOf": [{"required": ["data_base64"]}, {"required": ["url"]}],
    "properties": {
        "url": URL_SCHEMA,
        "data_base64": {
            "type": "string",
            "format": "byte",
            "minLength": 4,
            "description": "The bytes",
            "example": "/9j/4AAQSkZJRg==",
        },
        "kind": {**KIND_SCHEMA, **NULLABLE_TEXT_SCHEMA, "enum": [*KIND_VALUES, "", None]},
        "name": {**NAME_SCHEMA, **NULLABLE_TEXT_SCHEMA},
        "mime": IGNORED_SCHEMA,
        "ext": {**IGNORED_SCHEMA, "example": "jpg"},
        "width": {**IGNORED_SCHEMA, "example": 1280},
        "height": {**IGNORED_SCHEMA, "example": 720},
        "duration": {**IGNORED_SCHEMA, "example": 12.5},
    },
}
REQUEST_BODIES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": FORM_SCHEMA},
            "application/octet-stream": {"schema": FILE_SCHEMA, "example": "(bytes)"},
            "application/json": {"schema": JSON_UPLOAD_SCHEMA},
        },
    }
}
ADD_RESPONSES = responses_of(
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
    description="New, and being warmed",
    other_responses={200: {"model": AddedMedia, "description": "The bot has it already"}},
)
RAW_BODY_DESCRIPTION = "With a raw body; else what the bytes are"
ALLOWED_YEARS = range(2000, 2200)


def _check_year(at: datetime) -> datetime:
    if at.year not in ALLOWED_YEARS:
        raise ValueError(f"must be in the years {ALLOWED_YEARS.start} to {ALLOWED_YEARS.stop - 1}")
    return at


def _check_no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must be plain text, without U+0000")
    return text


MediaIdPath = Annotated[int, Path(ge=1, le=MAX_BIGINT, description="Of a media item", examples=[4711])]
PageLimit = Annotated[int, Field(ge=1, le=1000)]
PageOffset = Annotated[int, Field(ge=0, le=10_000_000)]
BeforeId = Annotated[int, Field(ge=1, le=MAX_BIGINT)]
Sha256Text = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ErrorCodeText = Annotated[str, Field(pattern=r"^[A-Z_]{1,64}$")]
PlausibleTime = Annotated[AwareDatetime, AfterValidator(_check_year)]
SearchText = Annotated[str, Field(max_length=255), AfterValidator(_check_no_nul)]


def blank_as_none(value_type: Any) -> BeforeValidator:  # noqa: ANN401 - any type
    """Return a validator for `?kind=&state=`: clients leave unused parameters blank."""
    return BeforeValidator(
        lambda text: None if text == "" else text,
        json_schema_input_type=value_type | Literal[""] | None,
    )


@router.post("/bots/{slug}/media", openapi_extra=REQUEST_BODIES, **ADD_RESPONSES)
async def add_media(
    request: Request,
    session: BotDep,
    serving: StateDep,
    kind: Annotated[
        Kind | None, blank_as_none(Kind), Query(description=RAW_BODY_DESCRIPTION, examples=["photo"])
    ] = None,
    name: Annotated[str | None, Query(description="With a raw body: its file name", examples=["cat.jpg"])] = None,
) -> JSONResponse:
    """Add a file and have it warmed: 201 and durable, or 200 when the bot has it already.

    Three bodies: `multipart/form-data`, any other type as raw bytes, or JSON with `data_base64`, or with the `url` of
    the file to fetch.
    """
    async with serving.library.receive() as incoming:
        asked = await uploads.read_upload(
            request,
            incoming,
            max_bytes=serving.max_upload_bytes,
            stall_seconds=serving.body_stall_seconds,
            receive_file=serving.library.receive,
        )
        shown = name_of(asked.name) or name_of(name)
        if asked.url is None:
            added = await serving.library.add(session.bot, incoming, kind=asked.kind or kind, name=shown)
        else:
            added = await serving.library.add_url(session.bot, asked.url, kind=asked.kind or kind, name=shown)
    return JSONResponse({"ok": True, **describe_added(added)}, 201 if added.created else 200)


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaQuery:
    """Filters and page of a bot's media."""

    filters: MediaFilters
    limit: int
    offset: int
    before: MediaId | None


KindQuery = Annotated[Kind | None, blank_as_none(Kind), Query(description="Only of this kind", examples=["photo"])]
StateQuery = Annotated[
    MediaState | None, blank_as_none(MediaState), Query(description="Only in this state", examples=["error"])
]
ErrorQuery = Annotated[
    ErrorCodeText | None,
    blank_as_none(ErrorCodeText),
    Query(description="Whose last error has this code", examples=["OBJECT_MISSING"]),
]
Sha256Query = Annotated[
    Sha256Text | None,
    blank_as_none(Sha256Text),
    Query(description="With these bytes: 64 hex digits", examples=[EXAMPLE_SHA256]),
]
SinceQuery = Annotated[
    PlausibleTime | None,
    blank_as_none(PlausibleTime),
    Query(description="Added then or later; with a time zone", examples=[EXAMPLE_TIME]),
]
UntilQuery = Annotated[
    PlausibleTime | None,
    blank_as_none(PlausibleTime),
    Query(description="Added before then", examples=[EXAMPLE_TIME]),
]
SearchQuery = Annotated[
    SearchText | None,
    blank_as_none(SearchText),
    Query(description="Somewhere in the name, in upper or lower case", examples=["cat"]),
]
LimitQuery = Annotated[
    PageLimit | None,
    blank_as_none(PageLimit),
    Query(description=f"How many; {DEFAULT_PAGE_SIZE} if not given", examples=[DEFAULT_PAGE_SIZE]),
]
OffsetQuery = Annotated[
    PageOffset | None,
    blank_as_none(PageOffset),
    Query(description="How many to pass over; `before` costs less", examples=[200]),
]
BeforeQuery = Annotated[
    BeforeId | None, blank_as_none(BeforeId), Query(description="`next` of the page before", examples=[4000])
]


async def media_query(  # noqa: PLR0913 - each is a parameter of the URL
    *,
    kind: KindQuery = None,
    state: StateQuery = None,
    error: ErrorQuery = None,
    sha256: Sha256Query = None,
    since: SinceQuery = None,
    until: UntilQuery = None,
    q: SearchQuery = None,
    limit: LimitQuery = None,
    offset: OffsetQuery = None,
    before: BeforeQuery = None,
) -> MediaQuery:
    """Return the filters. Raises UsageError."""
    filters = MediaFilters(
        kind=kind,
        state=state,
        error_code=error,
        sha256=None if sha256 is None else Sha256(sha256),
        since=since,
        until=until,
        text=q,
    )
    if offset and (before is not None or not filters.has_known_count):
        raise UsageError("offset goes with kind and state alone: page with `before`, by the `next` of the page before")
    page = DEFAULT_PAGE_SIZE if limit is None else limit
    return MediaQuery(
        filters=filters, limit=page, offset=offset or 0, before=None if before is None else MediaId(before)
    )


@router.get(
    "/bots/{slug}/media", **responses_of(MediaPage, "NOT_FOUND", (400, "BAD_REQUEST"), description="A page of them")
)
async def list_media(
    session: BotDep, serving: StateDep, asked: Annotated[MediaQuery, Depends(media_query)]
) -> dict[str, object]:
    """List a bot's library, newest first, page by page: pass `next` as `before` until it is null.

    A search by anything but kind and state examines 100,000 items a page at most: such a page may hold fewer than
    `limit`, or none, and yet have a next one.
    """
    if asked.offset:
        page = await serving.library.page_at(session.bot, asked.filters, offset=asked.offset, limit=asked.limit)
    else:
        page = await serving.library.page(session.bot, asked.filters, before=asked.before, limit=asked.limit)
    return {
        "ok": True,
        "media": [describe(item, serving) for item in page.items],
        "count": page.count,
        "limit": asked.limit,
        "offset": asked.offset,
        "next": page.next,
    }


@router.get("/media/{media_id}", **responses_of(MediaResponse, "NOT_FOUND", description="As it is now"))
async def get_media(media_id: MediaIdPath, serving: StateDep) -> dict[str, object]:
    """Show one media item, with its file id under `cache`."""
    item, _ = await resolve_item(media_id, serving)
    return {"ok": True, "media": describe(item, serving)}


async def resolve_item(media_id: MediaIdPath, serving: StateDep) -> tuple[MediaItem, BotSession]:
    """Return the item and its bot. Raises NotFound."""
    item = await media.get(serving.pool, MediaId(media_id))
    return item, await serving.bots.get(item.bot_id)


ItemDep = Annotated[tuple[MediaItem, BotSession], Depends(resolve_item)]


def describe(item: MediaItem, serving: AppState) -> dict[str, object]:
    """Return an item as JSON."""
    return {**metadata_out(item), "preview_url": stable_url(serving.preview_signer, item.id)}


def metadata_out(item: MediaItem) -> dict[str, object]:
    """Return the item as JSON, without what needs a server."""
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
    """Return the result of an ingest as JSON."""
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
