"""A call to Telegram once the rate limiter lets it go, within the patience of its caller."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from telewarm import clock
from telewarm.bots.sessions import BotSession
from telewarm.errors import BotDeleted, FloodWait, TelegramClientError
from telewarm.flood_control.flood_wait import apply_flood_wait
from telewarm.flood_control.limiter import Permit
from telewarm.flood_control.priority import Priority
from telewarm.flood_control.waiters import QueueTicket
from telewarm.idle_tracking import mark_idle
from telewarm.models import ChatId

T = TypeVar("T")

MIN_RECHECK_SECONDS = 0.02  # seconds before looking again at a limit that should be open and is not
MAX_SLEEP_SECONDS = 3600.0  # seconds of one sleep: whoever waits without end looks up now and then


class SendSlot(msgspec.Struct, frozen=True, kw_only=True):
    """Who speaks to which chat, and how long it may wait: `until` is a time of the monotonic clock."""

    live: BotSession
    chat_id: ChatId
    until: float
    rank: Priority = Priority.INTERACTIVE


@dataclass(frozen=True, kw_only=True, slots=True)
class _Message:
    """What wants to go. `size`: file bytes that it uploads; `count`: 1, or the items of a group of media."""

    turn: SendSlot
    size: int
    count: int

    def goes_at(self, now: float) -> float:
        turn = self.turn
        return turn.live.limiter.next_send_at(turn.chat_id, size=self.size, count=self.count, now=now, rank=turn.rank)

    def chat_opens_at(self, now: float, *, behind: int = 0) -> float:
        turn = self.turn
        return turn.live.limiter.chat_opens_at(
            turn.chat_id, size=self.size, count=self.count, behind=behind * self.count, now=now
        )

    def bot_opens_at(self, now: float, *, behind: int = 0) -> float:
        turn = self.turn
        return turn.live.limiter.bot_opens_at(now, rank=turn.rank, count=self.count, behind=behind)

    def spend(self, now: float) -> Permit:
        turn = self.turn
        return turn.live.limiter.acquire(turn.chat_id, size=self.size, count=self.count, now=now, rank=turn.rank)

    def refuse_late(self, opens_at: float, now: float) -> None:
        """Raises FloodWait when it could not go before its sender has left."""
        if max(opens_at, now) <= self.turn.until:
            return
        retry_after = math.ceil(10 * max(opens_at - now, 0.1)) / 10
        raise FloodWait(
            method="send",
            chat_id=self.turn.chat_id,
            status=429,
            description=f"the bot's limits are used up; try again in {retry_after} s",
            retry_after=retry_after,
        )


async def with_rate_limit(turn: SendSlot, call: Callable[[], Awaitable[T]], *, size: int = 0, count: int = 1) -> T:
    """The call's answer. A flood wait is waited out, not failed, as long as it ends before `until`.

    Raises FloodWait, with the seconds to wait, as soon as it is clear that it would not, and BotDeleted when the bot
    was deleted meanwhile; then nothing was sent.
    """
    traffic = turn.live.limiter
    while True:
        passage = _at_once(turn, size, count)
        if passage is None:
            with mark_idle():
                passage = await _acquire(_Message(turn=turn, size=size, count=count))
        try:
            if passage.hold:
                turn.live.on_held()
                with mark_idle():
                    await clock.sleep(passage.hold)
            refuse_deleted(turn.live)
            answer = await call()
        except FloodWait as wait:
            apply_flood_wait(traffic, passage, wait, now=clock.monotonic(), on_pause=turn.live.on_pause)
        except TelegramClientError:
            traffic.confirm(passage, now=clock.monotonic(), retry_after=None)
            raise
        except BaseException:
            traffic.refund(passage, now=clock.monotonic())
            raise
        else:
            traffic.confirm(passage, now=clock.monotonic(), retry_after=None)
            return answer


def refuse_deleted(live: BotSession) -> None:
    """Raises BotDeleted."""
    if live.bot.deleted_at is not None:
        raise BotDeleted(live.bot.slug)


def _at_once(turn: SendSlot, size: int, count: int) -> Permit | None:
    """When nobody waits and all is open."""
    live, now = turn.live, clock.monotonic()
    if live.wait_queues.busy(turn.chat_id, turn.rank):
        return None
    free = live.limiter.is_free(turn.chat_id, size=size, now=now, rank=turn.rank)
    if not free and live.limiter.next_send_at(turn.chat_id, size=size, count=count, now=now, rank=turn.rank) > now:
        return None
    return live.limiter.acquire(turn.chat_id, size=size, count=count, now=now, rank=turn.rank)


async def _acquire(message: _Message) -> Permit:
    """Wait for the chat and then for the bot: whoever waits for a chat holds up nobody else."""
    turn = message.turn
    with turn.live.wait_queues.chat(turn.chat_id, turn.rank) as place:
        now = clock.monotonic()
        if (goes_at := message.goes_at(now)) > turn.until:
            behind = len(turn.live.wait_queues.bot[turn.rank])
            message.refuse_late(max(goes_at, message.bot_opens_at(now, behind=behind)), now)
        await _until_first(message, place, lambda now: message.chat_opens_at(now, behind=place.behind))
        while True:
            now = clock.monotonic()
            if message.chat_opens_at(now) <= now:
                if (passage := await _for_the_bot(message)) is not None:
                    return passage
                continue
            goes_at = message.goes_at(now)  # before the chat opens, when a probe may go
            if goes_at <= now and not turn.live.wait_queues.bot[turn.rank]:
                return message.spend(now)
            await _sleep_until(message, min(message.chat_opens_at(now), max(goes_at, now + MIN_RECHECK_SECONDS)), now)


async def _for_the_bot(message: _Message) -> Permit | None:
    """Wait for the bot alone; None when the chat has closed in the meantime."""
    turn = message.turn
    with turn.live.wait_queues.bot[turn.rank].joined() as place, turn.live.limiter.waiting(turn.rank):
        await _until_first(message, place, lambda now: message.bot_opens_at(now, behind=place.behind))
        while True:
            now = clock.monotonic()
            goes_at = message.goes_at(now)
            if goes_at <= now:
                return message.spend(now)
            if message.chat_opens_at(now) > now:
                return None
            await _sleep_until(message, goes_at, now)


async def _until_first(message: _Message, place: QueueTicket, opens_at: Callable[[float], float]) -> None:
    """Wait for those before it in a line. `opens_at`: when it will go, as far as is known at a time."""
    while not place.first.is_set():
        now = clock.monotonic()
        message.refuse_late(opens_at(now), now)
        await clock.wait(place.first, min(message.turn.until - now, MAX_SLEEP_SECONDS))


async def _sleep_until(message: _Message, opens_at: float, now: float) -> None:
    message.refuse_late(opens_at, now)
    await clock.sleep(min(opens_at - now, MAX_SLEEP_SECONDS))
