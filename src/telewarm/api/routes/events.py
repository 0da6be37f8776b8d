"""Routes: events as a stream, or page by page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, cast

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from telewarm.api.dependencies import AppState, StateDep, resolve_bot
from telewarm.api.openapi import EXAMPLE_TIME, Ok, error_responses, responses_of
from telewarm.api.schemas.types import MAX_BIGINT
from telewarm.api.sse import EventSourceResponse, SseRegistry
from telewarm.errors import UsageError
from telewarm.events.batches import to_json_object
from telewarm.events.filter import EventFilter, wanted_types
from telewarm.models import EventType

router = APIRouter(tags=["events"])

STREAM_EXAMPLE = (
    'id: 4711\nevent: media.ready\ndata: {"id":4711,"type":"media.ready","at":"2031-05-01T09:00:00.25Z","bot":"shop",'
    '"media_id":7,"kind":"photo","state":"ready","way":"upload","error":null}\n\n'
)
STREAM_RESPONSE = {
    "description": "A stream that goes on",
    "content": {"text/event-stream": {"example": STREAM_EXAMPLE}},
}
FILTER_ERRORS = ("NOT_FOUND", (400, "BAD_REQUEST"))

NonEmptyText = Annotated[str, StringConstraints(min_length=1)]
BotsQuery = Annotated[
    list[NonEmptyText] | None,
    Query(description="Only these bots' events, by slug; commas or repeated", examples=[["shop"]]),
]
TypesQuery = Annotated[
    list[NonEmptyText] | None,
    Query(description="Only these types, such as `media.ready`, or groups, such as `media`", examples=[["media"]]),
]


@router.get(
    "/events",
    response_class=Response,
    responses={200: STREAM_RESPONSE, **error_responses(*FILTER_ERRORS, "TOO_MANY_LISTENERS", "STOPPING")},
)
async def stream_events(
    *,
    request: Request,
    serving: StateDep,
    bot: BotsQuery = None,
    types: TypesQuery = None,
    last_event_id: Annotated[str | None, Query(description="Go on after this event", examples=["4711"])] = None,
    from_header: Annotated[
        str | None,
        Header(alias="Last-Event-ID", description="The same; it counts when both are given", examples=["4711"]),
    ] = None,
) -> Response:
    """Stream the events of all processes from now on, as Server-Sent Events.

    Each event has an `id`, its type in `event`, and one JSON object in `data`. A stream begins with an event
    `position`, whose id says where you are; it comes again when only events happened that you did not ask for. A
    comment every 15 to 20 s is the heartbeat. Reconnect with the last id, to any process, and you miss nothing of the
    last hour, of the newest 200,000 events at most; when something is missing, an event `reset` comes first: read the
    present state again.
    """
    after = _parse_event_id(from_header or last_event_id or None)
    chunks = serving.events.follow(await _event_filter(serving, bot, types), after=after)
    return EventSourceResponse(
        chunks, registry=cast(SseRegistry, request.app.state.streams), is_token_valid=request.state.admitted
    )


class EventOut(BaseModel):
    """What happened. More fields come with it, by type: see docs/how-events-work.md."""

    model_config = ConfigDict(extra="allow")

    id: Annotated[int, Field(description="Higher is later; a place to go on from", examples=[4711])]
    type: Annotated[str, Field(description="What happened", examples=["media.ready"])]
    at: Annotated[datetime, Field(description="When, in UTC", examples=[EXAMPLE_TIME])]
    bot: Annotated[str | None, Field(description="Whose it is, by slug; null: nobody's", examples=["shop"])] = None


class EventPage(BaseModel):
    """A page of events."""

    ok: Ok
    events: Annotated[list[EventOut], Field(description="In their order")]
    next: Annotated[int, Field(description="`after` of the next page", examples=[4711])]
    reset: Annotated[bool, Field(description="Some are no longer kept: read again what you show", examples=[False])]


@router.get("/events.json", **responses_of(EventPage, *FILTER_ERRORS, description="What happened since"))
async def list_events(
    serving: StateDep,
    bot: BotsQuery = None,
    types: TypesQuery = None,
    after: Annotated[
        int | None, Query(ge=0, le=MAX_BIGINT, description="`next` of the page before", examples=[4711])
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many", examples=[100])] = 100,
) -> dict[str, object]:
    """List the events after an event, for programs that poll.

    Without `after`: no events, and in `next` where to begin. `reset` true: some events are no longer stored, so read
    the present state again, and continue with `next`.
    """
    chunk = await serving.events.page(await _event_filter(serving, bot, types), after=after, limit=limit)
    found = [event for event in chunk.events if event.type is not EventType.RESET]
    reset = len(found) < len(chunk.events)
    return {"ok": True, "events": [to_json_object(event) for event in found], "next": chunk.upto, "reset": reset}


async def _event_filter(app_state: AppState, bots: Sequence[str] | None, types: Sequence[str] | None) -> EventFilter:
    """Return the filter. Raises NotFound, UsageError."""
    slugs = [(await resolve_bot(slug, app_state)).bot.slug for slug in _list_values("bot", bots)]
    return EventFilter(bots=frozenset(slugs) or None, types=wanted_types(_list_values("types", types)))


def _list_values(parameter: str, values: Sequence[str] | None) -> list[str]:
    """Return the words of a list parameter. Raises UsageError for one without any."""
    words = [word.strip() for one in values or () for word in one.split(",") if word.strip()]
    if values and not words:
        raise UsageError(f"{parameter} is empty: leave it out for all events, or name what is wanted")
    return words


def _parse_event_id(given: str | None) -> int | None:
    """Parse an event id. Raises UsageError."""
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal()) or int(given[:20]) > MAX_BIGINT:
        raise UsageError("Last-Event-ID is no id of an event: send the last one that you got, or none")
    return int(given)
