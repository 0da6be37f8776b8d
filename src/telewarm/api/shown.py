"""A broadcast as JSON: its message in the words of a request, and how far it has come."""

from __future__ import annotations

from datetime import datetime

from telewarm import clock
from telewarm.broadcast.progress import progress
from telewarm.lanes import LiveBot
from telewarm.model import Broadcast, MessageSet, Part


def of_broadcast(broadcast: Broadcast, live: LiveBot) -> dict[str, object]:
    return {
        "id": broadcast.id,
        "bot": live.bot.slug,
        "group_id": broadcast.group_id,
        "name": broadcast.name,
        "state": broadcast.state,
        "reason": broadcast.reason,
        "message": of_message(broadcast.message),
        "gate": broadcast.gate,
        "per_second": broadcast.per_second,
        "recipients": broadcast.recipients,
        "duplicates": broadcast.duplicates,
        "rejected": broadcast.rejected,
        "progress": of_progress(broadcast),
        "starts_at": _iso(broadcast.starts_at),
        "created_at": _iso(broadcast.created_at),
        "started_at": _iso(broadcast.started_at),
        "ended_at": _iso(broadcast.ended_at),
    }


def of_progress(broadcast: Broadcast) -> dict[str, object]:
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


def of_message(message: MessageSet) -> dict[str, object]:
    """Without what is not said."""
    said = {
        "media": [_of_part(part) for part in message.media],
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


def _of_part(part: Part) -> object:
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
