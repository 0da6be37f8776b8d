"""Calls to Telegram that wait for the rate limiter, up to a deadline."""

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

MIN_RECHECK_SECONDS = 0.02  # seconds before a limit that should be open and is not is checked again
MAX_SLEEP_SECONDS = 3600.0  # seconds of one sleep; longer waits are split


class SendSlot(msgspec.Struct, frozen=True, kw_only=True):
    """Session, chat and priority of one message, and how long it may wait. `deadline`: on the monotonic clock."""

    session: BotSession
    chat_id: ChatId
    deadline: float
    priority: Priority = Priority.INTERACTIVE


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingCall:
    """A call that waits for the rate limiter. `size`: file bytes to upload; `count`: 1, or the items of an album."""

    slot: SendSlot
    size: int
    count: int

    def next_send_at(self, now: float) -> float:
        """Return when the limits allow the call, probes included."""
        slot = self.slot
        return slot.session.limiter.next_send_at(
            slot.chat_id, size=self.size, count=self.count, now=now, priority=slot.priority
        )

    def chat_opens_at(self, now: float, *, behind: int = 0) -> float:
        """Return when the chat's limits allow the call, after `behind` others."""
        slot = self.slot
        return slot.session.limiter.chat_opens_at(
            slot.chat_id, size=self.size, count=self.count, behind=behind * self.count, now=now
        )

    def bot_opens_at(self, now: float, *, behind: int = 0) -> float:
        """Return when the bot's limits allow the call, after `behind` others."""
        slot = self.slot
        return slot.session.limiter.bot_opens_at(now, priority=slot.priority, count=self.count, behind=behind)

    def acquire(self, now: float) -> Permit:
        """Count the call and return its permit."""
        slot = self.slot
        return slot.session.limiter.acquire(
            slot.chat_id, size=self.size, count=self.count, now=now, priority=slot.priority
        )

    def raise_if_late(self, opens_at: float, now: float) -> None:
        """Raise FloodWait when the limits open only after the deadline."""
        if max(opens_at, now) <= self.slot.deadline:
            return
        retry_after = math.ceil(10 * max(opens_at - now, 0.1)) / 10
        raise FloodWait(
            method="send",
            chat_id=self.slot.chat_id,
            status=429,
            description=f"the bot's limits are used up; try again in {retry_after} s",
            retry_after=retry_after,
        )


async def with_rate_limit(slot: SendSlot, call: Callable[[], Awaitable[T]], *, size: int = 0, count: int = 1) -> T:
    """Wait for the rate limiter and run `call`. Flood waits that end before the deadline are waited out.

    Raises FloodWait, with the seconds to wait, as soon as the deadline cannot be met, and BotDeleted when the bot was
    deleted meanwhile; then nothing was sent.
    """
    limiter = slot.session.limiter
    while True:
        permit = _try_acquire(slot, size, count)
        if permit is None:
            with mark_idle():
                permit = await _acquire(PendingCall(slot=slot, size=size, count=count))
        try:
            if permit.hold:
                slot.session.on_held()
                with mark_idle():
                    await clock.sleep(permit.hold)
            raise_if_deleted(slot.session)
            answer = await call()
        except FloodWait as wait:
            apply_flood_wait(limiter, permit, wait, now=clock.monotonic(), on_pause=slot.session.on_pause)
        except TelegramClientError:
            limiter.confirm(permit, now=clock.monotonic(), retry_after=None)
            raise
        except BaseException:
            limiter.abandon_permit(permit, now=clock.monotonic())
            raise
        else:
            limiter.confirm(permit, now=clock.monotonic(), retry_after=None)
            return answer


def raise_if_deleted(session: BotSession) -> None:
    """Raise BotDeleted for a deleted bot."""
    if session.bot.deleted_at is not None:
        raise BotDeleted(session.bot.slug)


def _try_acquire(slot: SendSlot, size: int, count: int) -> Permit | None:
    """Return a permit when nobody waits and all limits are open."""
    session, now = slot.session, clock.monotonic()
    if session.wait_queues.busy(slot.chat_id, slot.priority):
        return None
    free = session.limiter.is_free(slot.chat_id, size=size, now=now, priority=slot.priority)
    if (
        not free
        and session.limiter.next_send_at(slot.chat_id, size=size, count=count, now=now, priority=slot.priority) > now
    ):
        return None
    return session.limiter.acquire(slot.chat_id, size=size, count=count, now=now, priority=slot.priority)


async def _acquire(message: PendingCall) -> Permit:
    """Wait for the chat first and for the bot second, so that waiting for a chat blocks no other chat."""
    slot = message.slot
    with slot.session.wait_queues.chat(slot.chat_id, slot.priority) as place:
        now = clock.monotonic()
        if (goes_at := message.next_send_at(now)) > slot.deadline:
            behind = len(slot.session.wait_queues.bot[slot.priority])
            message.raise_if_late(max(goes_at, message.bot_opens_at(now, behind=behind)), now)
        await _wait_for_head(message, place, lambda now: message.chat_opens_at(now, behind=place.position))
        while True:
            now = clock.monotonic()
            if message.chat_opens_at(now) <= now:
                if (permit := await _acquire_for_bot(message)) is not None:
                    return permit
                continue
            goes_at = message.next_send_at(now)  # before the chat opens, when a probe is allowed
            if goes_at <= now and not slot.session.wait_queues.bot[slot.priority]:
                return message.acquire(now)
            await _sleep_until(message, min(message.chat_opens_at(now), max(goes_at, now + MIN_RECHECK_SECONDS)), now)


async def _acquire_for_bot(message: PendingCall) -> Permit | None:
    """Wait for the bot's limit; None when the chat has closed meanwhile."""
    slot = message.slot
    with slot.session.wait_queues.bot[slot.priority].joined() as place, slot.session.limiter.waiting(slot.priority):
        await _wait_for_head(message, place, lambda now: message.bot_opens_at(now, behind=place.position))
        while True:
            now = clock.monotonic()
            goes_at = message.next_send_at(now)
            if goes_at <= now:
                return message.acquire(now)
            if message.chat_opens_at(now) > now:
                return None
            await _sleep_until(message, goes_at, now)


async def _wait_for_head(message: PendingCall, ticket: QueueTicket, opens_at: Callable[[float], float]) -> None:
    """Wait until the ticket is at the head of its queue. `opens_at`: the expected time of opening."""
    while not ticket.at_head.is_set():
        now = clock.monotonic()
        message.raise_if_late(opens_at(now), now)
        await clock.wait(ticket.at_head, min(message.slot.deadline - now, MAX_SLEEP_SECONDS))


async def _sleep_until(message: PendingCall, opens_at: float, now: float) -> None:
    message.raise_if_late(opens_at, now)
    await clock.sleep(min(opens_at - now, MAX_SLEEP_SECONDS))
