"""Rate limiter of one bot: Telegram's flood limits as pure decisions, with the time as an argument.

A message counts in several windows (of the bot, the chat, the upload size) and waits for the last of them. The sender
acquires a *permit* and reports its outcome (`confirm`, `abandon_permit`), so that a 429 teaches what the limits really
are, whatever the settings say.

Times are seconds of one monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from telewarm.flood_control.bot_windows import BotWindows, LatencyFloor, LimitScope, ScopeEvidence, attribute_429
from telewarm.flood_control.limits import BotLimits
from telewarm.flood_control.priority import Priority, WaiterCounts
from telewarm.flood_control.sliding_window import HOLD_SECONDS, PACED_SECONDS, ProcessQuota, SlidingWindow
from telewarm.models import ChatId

YIELD_SECONDS = 0.02  # seconds until the next check while callers with precedence may send but have not yet


class Permit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Permit for one message (or `count` of an album) sent at `at`, with `size` file bytes.

    `hold`: seconds to wait before the call, so that other processes can be notified and make room. `probes`: windows of
    which it exceeds the known capacity: of the bot, the chat, the chat's last second. `at_reported_time`: windows that
    open at a time that the server named. Both are empty where nothing is counted.
    """

    chat_id: ChatId
    size: int
    count: int
    at: float
    probes: tuple[bool, ...]
    at_reported_time: tuple[bool, ...]
    hold: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class FloodPause:
    """The pause that a 429 caused: of a chat or (None) of the whole bot, in seconds."""

    chat_id: ChatId | None
    seconds: float


class BotRateLimiter:
    """Decides when one bot may send. `learned`: what `learned` returned in another process or before a restart.

    `waiting`: callers that wait for the bot's limit; nothing of a lower priority goes meanwhile. `sent`: messages since
    the start.
    """

    def __init__(self, limits: BotLimits, *, now: float, learned: Mapping[str, float] | None = None) -> None:
        self._windows = BotWindows(limits, now=now, learned=learned)
        self._bot = self._windows.bot
        self._latency = LatencyFloor()
        self._share = None if self._bot.capacity is None else ProcessQuota(self._bot.capacity)
        self.waiting = WaiterCounts()
        self.sent = 0

    def __len__(self) -> int:
        """Return the number of windows in memory."""
        return len(self._windows)

    @property
    def learned(self) -> dict[str, float]:
        """Messages in a window, for each kind of window that was tested by probes."""
        return self._windows.learned

    def available(self, now: float, priority: Priority) -> int:
        """Return how many messages the bot may send now, after waiters of this or a higher priority."""
        if self.waiting.before(priority):
            return 0
        room = self._bot.room(now) - (self._bot.unreported_remote(now) if priority else 0)
        return max(room - self.waiting.of(priority), 1 if self.bot_opens_at(now, priority=priority) <= now else 0, 0)

    def add_remote(self, count: int, *, now: float) -> None:
        """Count messages that another process sent for this bot."""
        self._bot.add_remote(now, count=count)

    def bot_opens_at(
        self, now: float, *, priority: Priority = Priority.INTERACTIVE, count: int = 1, behind: int | None = None
    ) -> float:
        """Return when the bot's limit opens for the priority.

        `behind`: waiters of the same priority to go first; None: all.
        """
        before, equal = self.waiting.before(priority), self.waiting.of(priority) if behind is None else behind
        shared = now < self._bot.shared_until
        unheard = self._bot.unreported_remote(now) if shared and priority else 0
        opens = self._bot.opens_at(now, count=count, behind=before + equal + unheard)
        if priority:
            opens = max(opens, self._bot.next_paced_at(now, count=count))
        if before:
            return max(opens, now + YIELD_SECONDS)
        if shared and not priority and opens > now and self._share is not None:
            return min(opens, max(now, self._bot.paused_until, self._share.opens_at(count=count, behind=equal)))
        return opens

    def chat_opens_at(self, chat_id: ChatId, *, size: int = 0, count: int = 1, behind: int = 0, now: float) -> float:
        """Return when the chat and this upload size open, whatever else the bot does."""
        opens = now
        if (chat := self._windows.chats.find(chat_id)) is not None:
            opens = chat.opens_at(now, count=count, behind=behind)
        if (burst := self._windows.bursts.find(chat_id)) is not None:
            opens = max(opens, burst.opens_at(now, count=count, behind=behind))
        return max(opens, self._windows.size_opens_at(size, now)) if size else opens

    def opens_at(
        self, chat_id: ChatId, *, size: int = 0, count: int = 1, now: float, priority: Priority = Priority.INTERACTIVE
    ) -> float:
        """Return the first time, `now` or later, for a message to this chat. Later answers may change it.

        `size`: file bytes to upload in all. `count`: 1, or the items of an album.
        """
        chat_opens = self.chat_opens_at(chat_id, size=size, count=count, now=now)
        return max(self.bot_opens_at(now, priority=priority, count=count, behind=0), chat_opens)

    def next_send_at(self, chat_id: ChatId, *, size: int = 0, count: int = 1, now: float, priority: Priority) -> float:
        """Return when the limits open, or when a probe may go if that is sooner.

        Warm-ups probe beyond the settings; other messages only whether the limit of the settings holds again.
        """
        opens = self.opens_at(chat_id, size=size, count=count, now=now, priority=priority)
        if opens <= now or self.waiting.before(priority):
            return opens
        beyond = priority is Priority.WARMUP
        return min(opens, self.probes_at(chat_id, size=size, count=count, now=now, beyond_settings=beyond))

    def is_free(self, chat_id: ChatId, *, size: int, now: float, priority: Priority) -> bool:
        """Return whether nothing is counted and nothing is paused, so that `next_send_at` need not be called."""
        return (
            not self._windows.counts(chat_id)
            and now >= self._bot.paused_until
            and (not priority or not self.waiting.before(priority))
            and not self._windows.chats
            and not self._windows.spaces(size)
        )

    def probes_at(
        self, chat_id: ChatId, *, size: int = 0, count: int = 1, now: float, beyond_settings: bool = True
    ) -> float:
        """Return when a probe may exceed the known capacity of the bot or of the chat, never of both.

        Infinite when no probe is possible. Without `beyond_settings`: only up to what the settings say.
        """
        best, spaced = math.inf, self._windows.size_opens_at(size, now)
        scopes = self._windows.known(chat_id)
        for scope in scopes:
            if not (beyond_settings or (scope.capacity is not None and scope.capacity.below_setting)):
                continue
            others = (other.opens_at(now, count=count) for other in scopes if other is not scope)
            at = max(spaced, scope.paused_until, now, *others)
            if at < best and scope.may_probe(at, count=count, latency=self._latency.least):
                best = at
        return best

    def fill(self, chat_id: ChatId, *, now: float) -> float:
        """Return the fill of the chat's window, 0 to 1."""
        chat = self._windows.chats.find(chat_id)
        return 0.0 if chat is None else min(1.0, chat.fill(now))

    def acquire(
        self, chat_id: ChatId, *, size: int = 0, count: int = 1, now: float, priority: Priority | None = None
    ) -> Permit:
        """Count a message as it is sent, and return its permit, which must be confirmed or abandoned in any case."""
        hold = 0.0
        if not self._windows.counts(chat_id) and not self._windows.spaces(size):
            self.sent += count
            return Permit(chat_id=chat_id, size=size, count=count, at=now, probes=(), at_reported_time=(), hold=0.0)
        if priority is Priority.INTERACTIVE:
            self._bot.paced_until = now + PACED_SECONDS
            hold = _hold_seconds(self._bot, now) if now < self._bot.shared_until else 0.0
        scopes = self._windows.of(chat_id, now=now)
        reported = tuple(scope.reported for scope in scopes)
        probes = tuple(scope.spend(now, count=count) for scope in scopes)
        self.sent += count
        if self._share is not None:
            self._share.spend(now, count=count)
        self._windows.space(size, now=now)
        return Permit(
            chat_id=chat_id, size=size, count=count, at=now, probes=probes, at_reported_time=reported, hold=hold
        )

    def confirm(self, permit: Permit, *, now: float, retry_after: float | None) -> FloodPause | None:
        """Report the answer: `retry_after` is None unless it is a 429.

        Returns the pause for other processes to obey. The pause of an upload size concerns this process alone.
        """
        self._latency.add(now - permit.at)
        if retry_after is not None:
            return self._refused(permit, retry_after, now)
        if not self._windows.counts(permit.chat_id):
            return None
        counted_at = max(permit.at, now - self._latency.least)
        for scope in self._windows.of(permit.chat_id, now=permit.at):
            if scope.capacity is not None:
                scope.succeeded(permit.at, counted_at, count=permit.count, now=now)
        self._probes_over(permit)
        return None

    def abandon_permit(self, permit: Permit, *, now: float) -> None:
        """Report that no answer came: the message may have counted, as late as now. It confirms nothing."""
        for scope in self._windows.of(permit.chat_id, now=permit.at):
            scope.outcome_unknown(permit.at, count=permit.count, now=now)
        self._probes_over(permit)

    def pause_chat(self, chat_id: ChatId, until: float) -> None:
        """Pause one chat, because another process got a 429. The learned limits stay."""
        self._windows.chats.get(chat_id, self._windows.limit_of(chat_id), now=-math.inf).pause_until(until)

    def pause_bot(self, until: float) -> None:
        """Pause the whole bot, on a 429 of another process or on request. The learned limits stay."""
        self._bot.pause_until(until)

    def _refused(self, permit: Permit, retry_after: float, now: float) -> FloodPause | None:
        bot, chat, *bursts = scopes = self._windows.of(permit.chat_id, now=permit.at)
        busy = [burst for burst in bursts if burst.inside(now) > permit.count]
        about = attribute_429(
            retry_after,
            bot=_evidence(bot, now),
            chat=_evidence(chat, now),
            burst=_evidence(busy[0], now) if busy else None,
            spaced=self._windows.spaces(permit.size),
            others_flooded=self._windows.chats.others_flooded(permit.chat_id, now),
        )
        for scope in scopes:
            scope.refund(permit.at, count=permit.count)
        self._probes_over(permit)
        self.sent -= permit.count
        reported = permit.at_reported_time or (False,) * len(scopes)
        match about:
            case LimitScope.SIZE:
                self._windows.sizes.get(permit.size, None, now=now).refused(
                    now, retry_after, sent_at=permit.at, reported=False
                )
                return None
            case LimitScope.BOT:
                bot.refused(now, retry_after, sent_at=permit.at, reported=reported[0])
                return FloodPause(chat_id=None, seconds=retry_after)
            case LimitScope.CHAT:
                chat = self._windows.chats.get(permit.chat_id, chat.capacity, now=now)
                chat.refused(now, retry_after, sent_at=permit.at, reported=reported[1])
            case LimitScope.BURST:
                self._windows.chats.get(permit.chat_id, chat.capacity, now=now).pause_until(
                    now + retry_after, flooded=True
                )
                probed = any(permit.probes[2:])
                busy[0].refused(now, retry_after, sent_at=permit.at, reported=True, probed=probed)
        return FloodPause(chat_id=permit.chat_id, seconds=retry_after)

    def _probes_over(self, permit: Permit) -> None:
        if not any(permit.probes):
            return
        for scope, probing in zip(self._windows.of(permit.chat_id, now=permit.at), permit.probes, strict=True):
            if probing and scope.capacity is not None:
                scope.capacity.probe_over()


def _hold_seconds(bot: SlidingWindow, now: float) -> float:
    """Return the wait for other processes; 0 while the window has room for what they may have sent."""
    return 0.0 if bot.room(now) > bot.unreported_remote(now) else HOLD_SECONDS


def _evidence(scope: SlidingWindow, now: float) -> ScopeEvidence:
    return ScopeEvidence(fill=scope.fill(now), frees_in=scope.frees_in(now))
