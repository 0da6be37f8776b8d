"""Choice of the next held job and of its chat. Pure: the time is an argument."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from telewarm.flood_control.limiter import BotRateLimiter
from telewarm.flood_control.priority import Priority
from telewarm.models import ChatId
from telewarm.worker.work import Item, Job

MAX_CANDIDATES = 16  # held jobs that are examined


@dataclass(frozen=True, kw_only=True, slots=True)
class NextSlot:
    """The held job at `index` may be sent to `chat_id` at that time."""

    index: int
    chat_id: ChatId
    opens_at: float


def pick_next_job(held: Sequence[Job[Item]], limiter: BotRateLimiter, *, now: float) -> NextSlot:
    """Return a job that may start now, through the least used chat; else a probe; else the job that may start soonest.

    Examines the first held jobs, of which there is at least one. Jobs of one size share their limits.
    """
    soonest: NextSlot | None = None
    seen: set[int] = set()
    chats: tuple[ChatId, ...] = ()
    for place, job in enumerate(itertools.islice(held, MAX_CANDIDATES)):
        if job.size in seen:
            continue
        seen.add(job.size)
        if job.chats != chats:
            chats, chat_id = job.chats, _least_loaded_chat(job.chats, limiter, now)
        opens_at = limiter.next_send_at(chat_id, size=job.size, now=now, priority=Priority.WARMUP)
        if soonest is None or opens_at < soonest.opens_at:
            soonest = NextSlot(index=place, chat_id=chat_id, opens_at=opens_at)
        if opens_at <= now:
            break
    assert soonest is not None  # noqa: S101 - there is a job
    return soonest


def _least_loaded_chat(chats: Sequence[ChatId], limiter: BotRateLimiter, now: float) -> ChatId:
    """Return the open chat with the fewest recent messages; else the first to open or to be probed."""
    if free := [chat_id for chat_id in chats if limiter.opens_at(chat_id, now=now, priority=Priority.WARMUP) <= now]:
        return min(free, key=lambda chat_id: limiter.fill(chat_id, now=now))
    return min(chats, key=lambda chat_id: limiter.next_send_at(chat_id, now=now, priority=Priority.WARMUP))
