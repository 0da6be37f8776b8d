"""Which of the held jobs starts next, and through which chat. Pure: the time is an argument."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from telewarm.flood_control.limiter import BotRateLimiter
from telewarm.flood_control.priority import Priority
from telewarm.models import ChatId
from telewarm.worker.work import Item, Job

MAX_CANDIDATES = 16  # held jobs looked at for one that may go now


@dataclass(frozen=True, kw_only=True, slots=True)
class NextSlot:
    """The held job at `index` may go to the chat at that time."""

    index: int
    chat_id: ChatId
    opens_at: float


def pick_next_job(held: Sequence[Job[Item]], limiter: BotRateLimiter, *, now: float) -> NextSlot:
    """One that may go now, through the chat that has had the least; else a probe; else what may go soonest.

    Of the first held jobs, of which there is one at least: those of one size wait for the same.
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
    """The least full of those that are open; else the first to open or to be probed."""
    if free := [chat_id for chat_id in chats if limiter.opens_at(chat_id, now=now, priority=Priority.WARMUP) <= now]:
        return min(free, key=lambda chat_id: limiter.fill(chat_id, now=now))
    return min(chats, key=lambda chat_id: limiter.next_send_at(chat_id, now=now, priority=Priority.WARMUP))
