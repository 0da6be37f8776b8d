"""Routes: create, start, pause, resume, cancel, undo, retry and test broadcasts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, ClassVar, Literal

from fastapi import APIRouter, Header, Query, Response
from pydantic import AfterValidator, AwareDatetime, Field

from telewarm.api.dependencies import AppState, LimitedBodyRoute, StateDep, resolve_bot
from telewarm.api.openapi import responses_of
from telewarm.api.routes import recipients
from telewarm.api.routes.recipients import BroadcastIdPath
from telewarm.api.routes.send import IDEMPOTENCY_KEY_SCHEMA, SEND_RESPONSES, send_response
from telewarm.api.schemas import broadcasts
from telewarm.api.schemas.bodies import RequestBody
from telewarm.api.schemas.broadcasts import BroadcastPage, BroadcastResponse, DraftsOut, UndoOut
from telewarm.api.schemas.messages import MessageIn, message_of
from telewarm.api.schemas.types import MAX_BIGINT, ChatOrName, RejectBool, StrictBool
from telewarm.bots.chat_names import resolve_chat
from telewarm.errors import UsageError
from telewarm.models import Broadcast, BroadcastId, DeliveryStatus
from telewarm.sending.idempotency import describe

router = APIRouter(tags=["broadcasts"], route_class=LimitedBodyRoute)
router.include_router(recipients.router)  # not LimitedBodyRoute: a list may have any length

ALLOWED_YEARS = range(2000, 2200)
MAX_BOTS = 100


def _check_year(at: datetime) -> datetime:
    if at.year not in ALLOWED_YEARS:
        raise ValueError(f"must be in the years {ALLOWED_YEARS.start} to {ALLOWED_YEARS.stop - 1}")
    return at


def _check_name(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be one line of plain text")
    return text


STATE_CHANGE_RESPONSES = responses_of(BroadcastResponse, "NOT_FOUND", "CONFLICT", description="As it is now")
PlausibleTime = Annotated[AwareDatetime, AfterValidator(_check_year)]
StartsAt = Annotated[
    PlausibleTime | None, Field(description="Not before this; with a time zone", examples=["2031-05-01T09:00:00-03:00"])
]
Slug = Annotated[str, Field(examples=["shop"])]
BroadcastName = Annotated[str, AfterValidator(_check_name)]


class BroadcastCreate(RequestBody):
    """A new broadcast."""

    aliases: ClassVar[Mapping[str, str]] = {"start_at": "starts_at", "rate": "per_second"}

    bot: Annotated[Slug | None, Field(description="The bot that sends it", examples=["shop"])] = None
    bots: Annotated[
        list[Slug] | None,
        Field(
            min_length=1,
            max_length=MAX_BOTS,
            description="Several bots: a broadcast for each of them",
            examples=[["shop", "news"]],
        ),
    ] = None
    message: Annotated[MessageIn, Field(description="What everybody gets; its media are the first bot's")]
    name: Annotated[
        BroadcastName | None, Field(max_length=200, description="For people; need not be unique", examples=["May sale"])
    ] = None
    gate: Annotated[StrictBool, Field(description="Wait until all its media have file ids", examples=[True])] = True
    per_second: Annotated[
        float | None,
        Field(gt=0, le=10_000, allow_inf_nan=False, description="Messages a second at most", examples=[20]),
        RejectBool,
    ] = None
    starts_at: StartsAt = None

    def slugs(self) -> list[str]:
        """Slugs of the bots. Raises UsageError."""
        if (self.bot is None) == (self.bots is None):
            raise UsageError("give the bot's slug in `bot`, or several in `bots`")
        return [self.bot] if self.bot is not None else self.bots or []


class BroadcastStart(RequestBody):
    """When to start."""

    aliases: ClassVar[Mapping[str, str]] = {"start_at": "starts_at"}

    starts_at: StartsAt = None
    confirm: Annotated[
        StrictBool, Field(description="Somebody has looked at recipients whose column was guessed", examples=[False])
    ] = False


class BroadcastRetry(RequestBody):
    """Outcomes to retry."""

    outcomes: Annotated[
        list[Literal[DeliveryStatus.FAILED, DeliveryStatus.UNKNOWN]],
        Field(min_length=1, max_length=2, description="Whom to send to again", examples=[["failed"]]),
    ]


class TestSend(RequestBody):
    """The recipient of a test."""

    chat_id: Annotated[ChatOrName, Field(description="Who gets it, counted nowhere", examples=[500000001])]


IdempotencyKeyHeader = Annotated[
    str | None,
    Header(
        description="A call repeated with the same key makes nothing new: it returns what the first one made, as it is "
        "now, for as long as that is kept",
        examples=["may-sale"],
        json_schema_extra=IDEMPOTENCY_KEY_SCHEMA,
    ),
]


@router.post(
    "/broadcasts",
    **responses_of(DraftsOut, "NOT_FOUND", "CONFLICT", status=201, description="Drafts: nobody gets anything yet"),
)
async def create(
    body: BroadcastCreate, serving: StateDep, idempotency_key: IdempotencyKeyHeader = None
) -> dict[str, object]:
    """Create a draft for each bot. Then load its recipients, test it, and start it.

    With an `Idempotency-Key` all of this may be repeated after a crash: recipients that are loaded already are only
    counted, and a broadcast that was started already says so in its `state`.
    """
    bots = [await resolve_bot(slug, serving) for slug in body.slugs()]
    made = await serving.broadcasts.create(
        bots,
        message_of(body.message),
        name=body.name,
        gate=body.gate,
        per_second=body.per_second,
        starts_at=body.starts_at,
        key=idempotency_key,
    )
    return {
        "ok": True,
        "broadcasts": [broadcasts.describe_broadcast(one, session) for one, session in zip(made, bots, strict=True)],
    }


@router.get("/broadcasts", **responses_of(BroadcastPage, "NOT_FOUND", description="A page of them"))
async def list_broadcasts(
    serving: StateDep,
    bot: Annotated[str | None, Query(description="Only this bot's", examples=["shop"])] = None,
    before: Annotated[
        int | None, Query(ge=1, le=MAX_BIGINT, description="`next` of the page before", examples=[12])
    ] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="How many", examples=[50])] = 50,
) -> dict[str, object]:
    """List broadcasts, newest first."""
    bot_id = None if bot is None else (await resolve_bot(bot, serving)).bot.id
    behind = None if before is None else BroadcastId(before)
    found = await serving.broadcasts.page(bot_id=bot_id, limit=limit + 1, before=behind)
    causes = await serving.broadcasts.causes([one.id for one in found[:limit]])
    page = [
        broadcasts.describe_broadcast(one, await serving.bots.get(one.bot_id), causes[one.id]) for one in found[:limit]
    ]
    return {"ok": True, "broadcasts": page, "next": found[limit - 1].id if len(found) > limit else None}


@router.get("/broadcasts/{broadcast_id}", **responses_of(BroadcastResponse, "NOT_FOUND", description="As it is now"))
async def get(broadcast_id: BroadcastIdPath, serving: StateDep) -> dict[str, object]:
    """Show one broadcast with its progress: counts by outcome, recipients left, rate, remaining time."""
    return await _broadcast_response(serving, await serving.broadcasts.get(BroadcastId(broadcast_id)))


@router.delete("/broadcasts/{broadcast_id}", **responses_of(UndoOut, "NOT_FOUND", "CONFLICT", description="Forgotten"))
async def delete(broadcast_id: BroadcastIdPath, serving: StateDep) -> dict[str, object]:
    """Delete the broadcast with its recipients and results. Sent messages stay: to remove those, undo it first."""
    await serving.broadcasts.delete(BroadcastId(broadcast_id))
    return {"ok": True}


@router.post("/broadcasts/{broadcast_id}/start", **STATE_CHANGE_RESPONSES)
async def start(
    broadcast_id: BroadcastIdPath, serving: StateDep, body: BroadcastStart | None = None
) -> dict[str, object]:
    """Start the broadcast, now or at `starts_at`. The time of a scheduled one can be changed."""
    said = body or BroadcastStart()
    started = await serving.broadcasts.start(BroadcastId(broadcast_id), starts_at=said.starts_at, confirm=said.confirm)
    return await _broadcast_response(serving, started)


@router.post("/broadcasts/{broadcast_id}/pause", **STATE_CHANGE_RESPONSES)
async def pause(broadcast_id: BroadcastIdPath, serving: StateDep) -> dict[str, object]:
    """Pause: finish messages in progress, start no more."""
    return await _broadcast_response(serving, await serving.broadcasts.pause(BroadcastId(broadcast_id)))


@router.post("/broadcasts/{broadcast_id}/resume", **STATE_CHANGE_RESPONSES)
async def resume(broadcast_id: BroadcastIdPath, serving: StateDep) -> dict[str, object]:
    """Resume a paused broadcast."""
    return await _broadcast_response(serving, await serving.broadcasts.resume(BroadcastId(broadcast_id)))


@router.post("/broadcasts/{broadcast_id}/cancel", **STATE_CHANGE_RESPONSES)
async def cancel(broadcast_id: BroadcastIdPath, serving: StateDep) -> dict[str, object]:
    """Cancel for good: finish messages in progress, start no more."""
    return await _broadcast_response(serving, await serving.broadcasts.cancel(BroadcastId(broadcast_id)))


@router.post("/broadcasts/{broadcast_id}/undo", **STATE_CHANGE_RESPONSES)
async def undo(broadcast_id: BroadcastIdPath, serving: StateDep) -> dict[str, object]:
    """Delete the sent messages where Telegram allows it: within 48 hours."""
    return await _broadcast_response(serving, await serving.broadcasts.undo(BroadcastId(broadcast_id)))


@router.post("/broadcasts/{broadcast_id}/retry-unknown", **STATE_CHANGE_RESPONSES)
async def retry_unknown(broadcast_id: BroadcastIdPath, serving: StateDep) -> dict[str, object]:
    """Send again to recipients with an unknown outcome: some may get it twice."""
    return await _broadcast_response(serving, await serving.broadcasts.retry_unknown(BroadcastId(broadcast_id)))


@router.post("/broadcasts/{broadcast_id}/retry", **STATE_CHANGE_RESPONSES)
async def retry(broadcast_id: BroadcastIdPath, body: BroadcastRetry, serving: StateDep) -> dict[str, object]:
    """Send again to recipients with these outcomes: failed ones surely have not got it, unknown ones perhaps have."""
    return await _broadcast_response(serving, await serving.broadcasts.retry(BroadcastId(broadcast_id), body.outcomes))


@router.post("/broadcasts/{broadcast_id}/test", **SEND_RESPONSES)
async def test(broadcast_id: BroadcastIdPath, body: TestSend, serving: StateDep) -> Response:
    """Send the message to one chat now, whatever the broadcast's state."""
    broadcast = await serving.broadcasts.get(BroadcastId(broadcast_id))
    session = await serving.bots.get(broadcast.bot_id)
    chat_id = await resolve_chat(session.api, session.chat_names, body.chat_id)
    results = await serving.broadcasts.test(broadcast.id, chat_id)
    return send_response([describe(result) for result in results], replayed=False)


async def _broadcast_response(serving: AppState, broadcast: Broadcast) -> dict[str, object]:
    session = await serving.bots.get(broadcast.bot_id)
    causes = await serving.broadcasts.causes([broadcast.id])
    return {"ok": True, "broadcast": broadcasts.describe_broadcast(broadcast, session, causes[broadcast.id])}
