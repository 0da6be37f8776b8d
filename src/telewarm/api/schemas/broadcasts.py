"""Schemas of broadcasts: their message and their progress."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from telewarm import clock
from telewarm.api.openapi import EXAMPLE_TIME, Ok, TimeText
from telewarm.bots.sessions import BotSession
from telewarm.broadcasts.progress import progress
from telewarm.models import Broadcast, BroadcastState, Cause, DeliveryStatus, MessageSet, Part


class ProgressOut(BaseModel):
    """How far a broadcast has come."""

    counts: Annotated[dict[str, int], Field(description="Recipients by outcome", examples=[{"sent": 4000}])]
    done: Annotated[int, Field(description="Recipients with an outcome", examples=[4001])]
    left: Annotated[int, Field(description="Recipients that are still to come", examples=[95_999])]
    in_flight: Annotated[int, Field(description="Recipients who are being sent to now", examples=[25])]
    not_undone: Annotated[int, Field(description="Messages that an undo could not delete", examples=[0])]
    percent: Annotated[float, Field(description="Done, of 100", examples=[4.0])]
    rate: Annotated[float | None, Field(description="Recipients a second; null: unknown", examples=[27.5])]
    eta_seconds: Annotated[float | None, Field(description="Until it is done; null: unknown", examples=[3490.0])]


class FailureCauseOut(BaseModel):
    """Why some of the recipients did not get it, or may not have got it."""

    outcome: Annotated[DeliveryStatus, Field(description="Theirs", examples=["unreachable"])]
    count: Annotated[int, Field(description="How many they are", examples=[37])]
    chat_id: Annotated[int, Field(description="One of them", examples=[500000001])]
    error: Annotated[str, Field(description="Code and words for that one", examples=["CHAT_UNREACHABLE: …"])]


class BroadcastOut(BaseModel):
    """A broadcast."""

    id: Annotated[int, Field(description="What it is found by", examples=[1])]
    bot: Annotated[str, Field(description="The bot's slug", examples=["shop"])]
    group_id: Annotated[
        int | None, Field(description="The first of those that were made together, for several bots", examples=[None])
    ]
    name: Annotated[str | None, Field(description="For people", examples=["May sale"])]
    state: Annotated[BroadcastState, Field(description="Where it stands", examples=["running"])]
    reason: Annotated[
        str | None, Field(description="Why it is paused, when no person did it, or what it waits for", examples=[None])
    ]
    message: Annotated[
        dict[str, Any],
        Field(description="As it was given, without what is not said", examples=[{"media": [17], "text": "So."}]),
    ]
    gate: Annotated[bool, Field(description="It waits until all its media have file ids", examples=[True])]
    per_second: Annotated[float | None, Field(description="Messages a second at most; null: any", examples=[20.0])]
    recipients: Annotated[int, Field(description="Chats that are to get it", examples=[100_000])]
    duplicates: Annotated[int, Field(description="Chat ids that were given more than once", examples=[900])]
    rejected: Annotated[int, Field(description="Lines of its lists without a chat id", examples=[100])]
    guess: Annotated[
        str | None,
        Field(description="Why its recipients want a look before it is started with `confirm`", examples=[None]),
    ]
    progress: Annotated[ProgressOut, Field(description="How far it has come")]
    errors: Annotated[
        list[FailureCauseOut],
        Field(description="By cause, the five most frequent first, among the first 100,000", examples=[[]]),
    ]
    starts_at: Annotated[TimeText | None, Field(description="Not before this; null: at once", examples=[EXAMPLE_TIME])]
    created_at: Annotated[TimeText, Field(description="When the draft was made", examples=[EXAMPLE_TIME])]
    started_at: Annotated[
        TimeText | None, Field(description="When it was started; null: not yet", examples=[EXAMPLE_TIME])
    ]
    ended_at: Annotated[
        TimeText | None, Field(description="When it was done or cancelled; null: not yet", examples=[None])
    ]


class BroadcastResponse(BaseModel):
    """One broadcast."""

    ok: Ok
    broadcast: Annotated[BroadcastOut, Field(description="As it is now")]


class DraftsOut(BaseModel):
    """The drafts."""

    ok: Ok
    broadcasts: Annotated[list[BroadcastOut], Field(description="One for each bot, in their order")]


class BroadcastPage(BaseModel):
    """A page of broadcasts."""

    ok: Ok
    broadcasts: Annotated[list[BroadcastOut], Field(description="Newest first")]
    next: Annotated[int | None, Field(description="`before` of the next page; null on the last one", examples=[12])]


class UndoOut(BaseModel):
    """Result of an undo."""

    ok: Ok


def describe_broadcast(broadcast: Broadcast, session: BotSession, causes: Sequence[Cause] = ()) -> dict[str, object]:
    """Return a broadcast as JSON."""
    return {
        "id": broadcast.id,
        "bot": session.bot.slug,
        "group_id": broadcast.group_id,
        "name": broadcast.name,
        "state": broadcast.state,
        "reason": broadcast.reason,
        "message": describe_message(broadcast.message),
        "gate": broadcast.gate,
        "per_second": broadcast.per_second,
        "recipients": broadcast.recipients,
        "duplicates": broadcast.duplicates,
        "rejected": broadcast.rejected,
        "guess": broadcast.guess,
        "progress": describe_progress(broadcast),
        "errors": [_describe_cause(cause) for cause in causes],
        "starts_at": _iso(broadcast.starts_at),
        "created_at": _iso(broadcast.created_at),
        "started_at": _iso(broadcast.started_at),
        "ended_at": _iso(broadcast.ended_at),
    }


def describe_progress(broadcast: Broadcast) -> dict[str, object]:
    """Return the progress as JSON."""
    now = progress(broadcast, clock.now())
    return {
        "counts": dict(broadcast.counts),
        "done": now.done,
        "left": now.left,
        "in_flight": broadcast.in_flight,
        "not_undone": broadcast.not_undone,
        "percent": now.percent,
        "rate": now.per_second,
        "eta_seconds": now.eta_seconds,
    }


def _describe_cause(cause: Cause) -> dict[str, object]:
    return {"outcome": cause.outcome, "count": cause.count, "chat_id": cause.chat_id, "error": cause.error}


def describe_message(message: MessageSet) -> dict[str, object]:
    """Return a message set as JSON, without defaults."""
    said = {
        "media": [_describe_part(part) for part in message.media],
        "text": message.text,
        "parse_mode": message.parse_mode,
        "entities": message.entities,
        "album": message.album,
        "reply_markup": message.reply_markup,
        "reply_parameters": message.reply_parameters,
        "message_thread_id": message.message_thread_id,
        "silent": message.disable_notification,
        "protect_content": message.protect_content,
        "show_caption_above_media": message.show_caption_above_media,
    }
    return {name: value for name, value in said.items() if value}


def _describe_part(part: Part) -> object:
    said = {
        "caption": part.caption,
        "parse_mode": part.parse_mode,
        "entities": part.entities,
        "has_spoiler": part.has_spoiler,
    }
    own = {name: value for name, value in said.items() if value}
    return {"id": part.media_id} | own if own else part.media_id


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
