"""Routes: recipient lists in, results and rejected rows out. All stream, whatever their length."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from python_multipart.multipart import parse_options_header

from telewarm.api.dependencies import StateDep
from telewarm.api.error_responses import HttpError
from telewarm.api.openapi import Ok, error_responses, responses_of
from telewarm.api.schemas.types import MAX_BIGINT
from telewarm.api.uploads import body_chunks as chunks_of
from telewarm.broadcasts import csv_export
from telewarm.broadcasts.recipient_import import ImportResult
from telewarm.broadcasts.recipients import ListFormat
from telewarm.database.recipients import RejectedRow
from telewarm.models import BroadcastId, DeliveryStatus

router = APIRouter(tags=["broadcasts"])

FORMAT_BY_MEDIA_TYPE = {
    b"text/csv": ListFormat.CSV,
    b"application/x-ndjson": ListFormat.NDJSON,
    b"application/ndjson": ListFormat.NDJSON,
    b"application/jsonl": ListFormat.NDJSON,
    b"application/json": ListFormat.JSON,
}
REQUEST_BODIES: dict[str, Any] = {
    "requestBody": {
        "required": False,  # no bytes are a list of nobody
        "content": {
            "text/csv": {"schema": {"type": "string"}, "example": "chat_id\n500000001\n500000002\n"},
            "application/x-ndjson": {"schema": {"type": "string"}, "example": '500000001\n{"chat_id": 500000002}\n'},
            "application/json": {"schema": {"type": "array", "items": {}}, "example": [500000001, {"id": 500000002}]},
        },
    }
}


class RejectedRowOut(BaseModel):
    """A line of the list that holds no chat id."""

    line: Annotated[int, Field(description="Its number, from 1; of an array, the element's", examples=[3])]
    reason: Annotated[str, Field(description="What is wrong with it", examples=["not a whole number"])]
    excerpt: Annotated[str, Field(description="Its beginning, without secrets", examples=["Ana Maria"])]


class ImportResultOut(BaseModel):
    """What became of a list."""

    ok: Ok
    added: Annotated[int, Field(description="Chats that are new", examples=[99_000])]
    duplicates: Annotated[int, Field(description="Chats that were there already, or twice", examples=[900])]
    rejected: Annotated[int, Field(description="Lines without a chat id", examples=[100])]
    first_rejected: Annotated[list[RejectedRowOut], Field(description="Some of them; rejected.csv has all")]
    format: Annotated[ListFormat | None, Field(description="What the list was read as", examples=["csv"])]
    column: Annotated[
        str | None,
        Field(description="Where the chat ids were; null for a list of nothing else", examples=["chat_id"]),
    ]
    samples: Annotated[list[int], Field(description="The first chat ids, at most 3", examples=[[500000001]])]
    guessed: Annotated[
        bool,
        Field(
            description="Whether the column was guessed: look at it, then start with `confirm`, or say `column`",
            examples=[False],
        ),
    ]
    guess: Annotated[str | None, Field(description="Why it is a guess", examples=[None])]


def csv_response(example: str, description: str) -> dict[str, Any]:
    """Return the documentation of a CSV response."""
    return {
        "response_class": StreamingResponse,
        "response_description": description,
        "responses": {
            200: {"content": {"text/csv": {"schema": {"type": "string"}, "example": example}}},
            **error_responses("NOT_FOUND"),
        },
    }


BroadcastIdPath = Annotated[int, Path(ge=1, le=MAX_BIGINT, description="The broadcast's id", examples=[1])]
OutcomeQuery = Annotated[
    DeliveryStatus | Literal["pending"] | None,
    Query(description="Only recipients with this outcome; `pending`: with none yet", examples=["failed"]),
]
FormatParam = Annotated[
    ListFormat | None,
    Query(description="What the list is; else its Content-Type or its first bytes say", examples=["csv"]),
]

ColumnQuery = Annotated[
    str | None,
    Query(
        max_length=200,
        description="The column or key with the chat ids, by its name or its number from 1; `*` for every cell."
        " Without it the names and the values tell",
        examples=["chat_id"],
    ),
]


@router.post(
    "/broadcasts/{broadcast_id}/recipients",
    openapi_extra=REQUEST_BODIES,
    **responses_of(
        ImportResultOut, "NOT_FOUND", "CONFLICT", (415, "BAD_REQUEST"), description="What was read of the list"
    ),
)
async def load_recipients(
    broadcast_id: BroadcastIdPath,
    request: Request,
    serving: StateDep,
    format: FormatParam = None,  # noqa: A002 - the word that callers look for
    column: ColumnQuery = None,
) -> dict[str, object]:
    """Add chat ids to a draft: the body is the list itself, with any number of them.

    CSV with or without a header, ids on one line, NDJSON, or JSON; numbers or objects with `chat_id`. A list that does
    not show where its chat ids are is refused: name the `column`. When the body is cut off, complete rows stay; send
    the whole list again then, since chats that are there already are only counted.
    """
    _check_body(request)
    chunks = chunks_of(request, serving.body_stall_seconds)
    said = format or _format_of(request)
    loaded = await serving.broadcasts.load(BroadcastId(broadcast_id), chunks, format=said, column=column)
    return {"ok": True, **describe(loaded)}


@router.get(
    "/broadcasts/{broadcast_id}/rejected.csv",
    **csv_response("line,reason,excerpt\n3,not a whole number,Ana Maria\n", "A table with a header"),
)
async def get_rejected(broadcast_id: BroadcastIdPath, serving: StateDep) -> StreamingResponse:
    """Download the rows of its lists without a chat id: `line,reason,excerpt`."""
    chosen = BroadcastId(broadcast_id)
    await serving.broadcasts.get(chosen)
    found = serving.broadcasts.rejected(chosen)
    return _csv_stream(csv_export.rejected_csv(found), f"broadcast-{broadcast_id}-rejected.csv")


@router.get(
    "/broadcasts/{broadcast_id}/results.csv",
    **csv_response("chat_id,outcome,message_ids,error,moved_to\n500000001,sent,17 18,,\n", "A table with a header"),
)
async def get_results(
    broadcast_id: BroadcastIdPath, serving: StateDep, outcome: OutcomeQuery = None
) -> StreamingResponse:
    """Download the outcome of each recipient, by chat id: `chat_id,outcome,message_ids,error,moved_to`."""
    chosen = BroadcastId(broadcast_id)
    await serving.broadcasts.get(chosen)
    pages = serving.broadcasts.results(chosen, outcome=outcome)
    return _csv_stream(csv_export.results_csv(pages), f"broadcast-{broadcast_id}-{outcome or 'results'}.csv")


def describe(result: ImportResult) -> dict[str, object]:
    """Return the result of an import as JSON."""
    return {
        "added": result.added,
        "duplicates": result.duplicates,
        "rejected": result.rejected,
        "first_rejected": [_describe_rejected_row(one) for one in result.first_rejected],
        "format": result.format,
        "column": result.column,
        "samples": list(result.samples),
        "guessed": result.guess is not None,
        "guess": result.guess,
    }


def _describe_rejected_row(one: RejectedRow) -> dict[str, object]:
    return {"line": one.line, "reason": one.reason, "excerpt": one.excerpt}


def _csv_stream(pieces: AsyncIterator[str], name: str) -> StreamingResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(pieces, media_type="text/csv", headers=headers)


def _check_body(request: Request) -> None:
    """Raise HttpError 415 for a body that cannot be a list."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HttpError(415, "BAD_REQUEST", "the body is compressed; send the list as it is")
    if _content_type(request).startswith(b"multipart/"):
        raise HttpError(415, "BAD_REQUEST", "the body is a form; send the list itself, as with curl -T list.csv")


def _format_of(request: Request) -> ListFormat | None:
    return FORMAT_BY_MEDIA_TYPE.get(_content_type(request))


def _content_type(request: Request) -> bytes:
    return parse_options_header(request.headers.get("content-type", ""))[0]
