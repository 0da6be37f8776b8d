"""The rate limiter of one bot: Telegram's flood limits as pure decisions, with the time as an argument.

A message counts in several windows (the bot's, the chat's, that of its upload size) and waits for the last of them.
Whoever sends takes a *permit* (`acquire`) and says what became of it (`confirm`, `refund`), so that a 429 teaches what
the limits really are, whatever the settings say.

Times are seconds of one monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from telewarm.flood_control.attribution import LimitScope, ScopeEvidence, attribute_429
from telewarm.flood_control.bot_windows import BotWindows
from telewarm.flood_control.latency_floor import LatencyFloor
from telewarm.flood_control.limits import BotLimits
from telewarm.flood_control.priority import Priority, WaiterCounts
from telewarm.flood_control.sliding_window import HOLD_SECONDS, PACED_SECONDS, ProcessQuota, SlidingWindow
from telewarm.models import ChatId

YIELD = 0.02  # seconds after which to look again when those that go first may go now, but have not yet


class Permit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One message (or `count` of a group) on its way since `at`, with `size` file bytes.

    `hold`: seconds to wait before the call: so long other processes, once told, need to make room for it.
    `probes`: it goes beyond what is known to pass, of the bot, of the chat, and of the chat's last second. `told`:
    because the server said when. Both are empty where nothing is counted.
    """

    chat_id: ChatId
    size: int
    count: int
    at: float
    probes: tuple[bool, ...]
    told: tuple[bool, ...]
    hold: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class FloodPause:
    """What a 429 closed: a chat, or (None) the whole bot, for some seconds."""

    chat_id: ChatId | None
    seconds: float


class BotRateLimiter:
    """When one bot may send. `learned`: what `learned` said in another process or before a restart.

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
        """Windows held in memory."""
        return len(self._windows)

    @property
    def learned(self) -> dict[str, float]:
        """Messages a window, of the kinds of window that were put to the test."""
        return self._windows.learned

    def available(self, now: float, priority: Priority) -> int:
        """Messages that the bot may send right now, whatever the chat; those of the rank that wait already go first."""
        if self.waiting.before(priority):
            return 0
        room = self._bot.room(now) - (self._bot.unreported_remote(now) if priority else 0)
        return max(room - self.waiting.of(priority), 1 if self.bot_opens_at(now, priority=priority) <= now else 0, 0)

    def add_remote(self, count: int, *, now: float) -> None:
        """Another process sent so many messages for this bot: they count."""
        self._bot.add_remote(now, count=count)

    def bot_opens_at(
        self, now: float, *, priority: Priority = Priority.INTERACTIVE, count: int = 1, behind: int | None = None
    ) -> float:
        """Before this nothing of the rank goes, whatever the chat. `behind`: of so many of its rank; None: of all."""
        before, equal = self.waiting.before(priority), self.waiting.of(priority) if behind is None else behind
        shared = now < self._bot.shared_until
        unheard = self._bot.unreported_remote(now) if shared and priority else 0
        opens = self._bot.opens_at(now, count=count, behind=before + equal + unheard)
        if priority:
            opens = max(opens, self._bot.next_paced_at(now, count=count))
        if before:
            return max(opens, now + YIELD)
        if shared and not priority and opens > now and self._share is not None:
            return min(opens, max(now, self._bot.closed_until, self._share.opens_at(count=count, behind=equal)))
        return opens

    def chat_opens_at(self, chat_id: ChatId, *, size: int = 0, count: int = 1, behind: int = 0, now: float) -> float:
        """Before this nothing goes to the chat, nor uploads of this size, whatever else the bot does."""
        opens = now
        if (chat := self._windows.chats.find(chat_id)) is not None:
            opens = chat.opens_at(now, count=count, behind=behind)
        if (burst := self._windows.bursts.find(chat_id)) is not None:
            opens = max(opens, burst.opens_at(now, count=count, behind=behind))
        return max(opens, self._windows.size_opens_at(size, now)) if size else opens

    def opens_at(
        self, chat_id: ChatId, *, size: int = 0, count: int = 1, now: float, priority: Priority = Priority.INTERACTIVE
    ) -> float:
        """The first time, `now` or later, for a message to this chat. Answers that come may change it.

        `size`: file bytes that it uploads in all. `count`: 1, or the items of a group of media.
        """
        chat_opens = self.chat_opens_at(chat_id, size=size, count=count, now=now)
        return max(self.bot_opens_at(now, priority=priority, count=count, behind=0), chat_opens)

    def next_send_at(self, chat_id: ChatId, *, size: int = 0, count: int = 1, now: float, priority: Priority) -> float:
        """When it opens, or when a probe may go if that is sooner.

        Warm-ups find out what is beyond the settings; the others only whether what the settings say is true again.
        """
        opens = self.opens_at(chat_id, size=size, count=count, now=now, priority=priority)
        if opens <= now or self.waiting.before(priority):
            return opens
        beyond = priority is Priority.WARMUP
        return min(opens, self.probes_at(chat_id, size=size, count=count, now=now, beyond_settings=beyond))

    def is_free(self, chat_id: ChatId, *, size: int, now: float, priority: Priority) -> bool:
        """Whether nothing counts messages, and nothing is in the way: then `next_send_at` need not be asked."""
        return (
            not self._windows.counts(chat_id)
            and now >= self._bot.closed_until
            and (not priority or not self.waiting.before(priority))
            and not self._windows.chats
            and not self._windows.spaces(size)
        )

    def probes_at(
        self, chat_id: ChatId, *, size: int = 0, count: int = 1, now: float, beyond_settings: bool = True
    ) -> float:
        """When a message may try to go although the bot or the chat (never both) has had what is known to pass.

        Infinite when no such probe is in sight. Not `beyond_settings`: only to find out whether what the settings say
        is true again.
        """
        best, spaced = math.inf, self._windows.size_opens_at(size, now)
        scopes = self._windows.known(chat_id)
        for scope in scopes:
            if not (beyond_settings or scope.below_setting):
                continue
            others = (other.opens_at(now, count=count) for other in scopes if other is not scope)
            at = max(spaced, scope.closed_until, now, *others)
            if at < best and scope.may_probe(at, count=count, latency=self._latency.least):
                best = at
        return best

    def fill(self, chat_id: ChatId, *, now: float) -> float:
        """How full the chat's window is, 0 to 1."""
        chat = self._windows.chats.find(chat_id)
        return 0.0 if chat is None else min(1.0, chat.fill(now))

    def acquire(
        self, chat_id: ChatId, *, size: int = 0, count: int = 1, now: float, priority: Priority | None = None
    ) -> Permit:
        """Count a message as it goes. Its permit is to be confirmed or refunded, whatever happens."""
        hold = 0.0
        if not self._windows.counts(chat_id) and not self._windows.spaces(size):
            self.sent += count
            return Permit(chat_id=chat_id, size=size, count=count, at=now, probes=(), told=(), hold=0.0)
        if priority is Priority.INTERACTIVE:
            self._bot.paced_until = now + PACED_SECONDS
            hold = _hold_seconds(self._bot, now) if now < self._bot.shared_until else 0.0
        scopes = self._windows.of(chat_id, now=now)
        told = tuple(scope.reported for scope in scopes)
        probes = tuple(scope.spend(now, count=count) for scope in scopes)
        self.sent += count
        if self._share is not None:
            self._share.spend(now, count=count)
        self._windows.space(size, now=now)
        return Permit(chat_id=chat_id, size=size, count=count, at=now, probes=probes, told=told, hold=hold)

    def confirm(self, permit: Permit, *, now: float, retry_after: float | None) -> FloodPause | None:
        """The answer is here: None for any that is no 429, else the seconds that the 429 asks for.

        What the 429 closed, for other processes to obey. A size that it closed concerns this one alone.
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
        """No answer came: the message may have counted, as late as now. It proves nothing."""
        for scope in self._windows.of(permit.chat_id, now=permit.at):
            scope.outcome_unknown(permit.at, count=permit.count, now=now)
        self._probes_over(permit)

    def pause_chat(self, chat_id: ChatId, until: float) -> None:
        """Pause one chat, as another process met its flood. No blame."""
        self._windows.chats.get(chat_id, self._windows.limit_of(chat_id), now=-math.inf).close_until(until)

    def pause_bot(self, until: float) -> None:
        """Pause the whole bot, as another process or a person asked. No blame."""
        self._bot.close_until(until)

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
        told = permit.told or (False,) * len(scopes)
        match about:
            case LimitScope.SIZE:
                self._windows.sizes.get(permit.size, None, now=now).refused(
                    now, retry_after, sent_at=permit.at, reported=False
                )
                return None
            case LimitScope.BOT:
                bot.refused(now, retry_after, sent_at=permit.at, reported=told[0])
                return FloodPause(chat_id=None, seconds=retry_after)
            case LimitScope.CHAT:
                chat = self._windows.chats.get(permit.chat_id, chat.capacity, now=now)
                chat.refused(now, retry_after, sent_at=permit.at, reported=told[1])
            case LimitScope.BURST:
                self._windows.chats.get(permit.chat_id, chat.capacity, now=now).flood_until(now + retry_after)
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
    """Nothing while the window has room for it, and for what the others may have sent."""
    return 0.0 if bot.room(now) > bot.unreported_remote(now) else HOLD_SECONDS


def _evidence(scope: SlidingWindow, now: float) -> ScopeEvidence:
    return ScopeEvidence(fill=scope.fill(now), frees_in=scope.frees_in(now))
