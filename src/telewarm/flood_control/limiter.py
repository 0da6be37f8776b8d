"""When may a bot speak next? Telegram's flood limits as pure decisions: the time is always an argument.

A *scope* is what a limit counts: a bot, one chat, uploads of one size. A message belongs to several scopes and waits
for the last. Whoever sends takes a *passage* (`spend`) and says what became of it (`settle`, `abandon`): so a 429
teaches what the limits really are, whatever the settings say.

Times are seconds of one monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from telewarm.flood_control.attribution import LimitScope, ScopeEvidence, attribute_429
from telewarm.flood_control.limits import BotLimits
from telewarm.flood_control.priority import Priority, WaiterCounts
from telewarm.flood_control.sliding_window import HOLD, PACED, LearnedLimit, ProcessQuota, SlidingWindow
from telewarm.models import ChatId

K = TypeVar("K")
SWEEP = 256  # scopes kept before the first look for idle ones
CALLS = 64  # the fastest of the last so many calls, and at most twice as many, is the least that a call takes
YIELD = 0.02  # seconds after which to look again when those that go first may go now, but have not yet
QUICK, SLOW = 0.02, 0.6  # seconds; what a call takes at least before that is known, and at most however slow all are


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


class WindowTable(Generic[K]):
    """Scopes by what they count. The idle ones are forgotten: a million chats need no more than the busy few."""

    def __init__(self) -> None:
        self._scopes: dict[K, SlidingWindow] = {}
        self._sweep_at = SWEEP

    def __len__(self) -> int:
        return len(self._scopes)

    def find(self, key: K) -> SlidingWindow | None:
        return self._scopes.get(key)

    def get(self, key: K, capacity: LearnedLimit | None, *, now: float) -> SlidingWindow:
        scope = self._scopes.get(key)
        if scope is None:
            self._forget_idle(now)
            scope = self._scopes[key] = SlidingWindow(capacity, now=now)
        return scope

    def others_flooded(self, key: K, now: float) -> bool:
        return any(scope.flooded_until > now for other, scope in self._scopes.items() if other != key)

    def _forget_idle(self, now: float) -> None:
        """When there are twice as many as the last look left: a constant price for each."""
        if len(self._scopes) < self._sweep_at:
            return
        self._scopes = {key: scope for key, scope in self._scopes.items() if not scope.idle(now)}
        self._sweep_at = max(SWEEP, 2 * len(self._scopes))


class LatencyFloor:
    """What a call takes at least: a message counts no later than so much before its answer is here."""

    __slots__ = ("_before", "_calls", "_now", "least")

    def __init__(self) -> None:
        self.least = self._before = QUICK
        self._now = math.inf
        self._calls = 0

    def add(self, seconds: float) -> None:
        self._now = min(self._now, seconds)
        self._calls += 1
        self.least = min(self._before, self._now, SLOW)
        if self._calls == CALLS:
            self._before, self._now, self._calls = self._now, math.inf, 0


class BotRateLimiter:
    """All scopes of one bot. `learned`: what `learned` said in another life; what makes no sense is ignored.

    `waiting`: who waits for the bot's limit; a higher rank does not go meanwhile. `sent`: messages since the start.
    """

    def __init__(self, limits: BotLimits, *, now: float, learned: Mapping[str, float] | None = None) -> None:
        self._spacing = limits.same_size
        given = learned or {}
        self._capacities: dict[str, LearnedLimit] = {}
        for kind, limit in limits.by_kind.items():
            within = self._capacities.get("group") if kind == "group_second" else None
            self._capacities[kind] = LearnedLimit(limit, _plausible(given.get(kind)), within=within)
        self._bot = SlidingWindow(self._capacities.get("bot"), now=now)
        self._private, self._group = self._capacities.get("private"), self._capacities.get("group")
        self._burst = self._capacities.get("group_second")
        self._chats: WindowTable[ChatId] = WindowTable()
        self._bursts: WindowTable[ChatId] = (
            WindowTable()
        )  # of groups and channels, beside the minute that `_chats` counts
        self._unlimited = SlidingWindow(None, now=now)  # any chat of which there is nothing to count
        self._sizes: WindowTable[int] = WindowTable()
        self._latency = LatencyFloor()
        self._share = None if self._bot.capacity is None else ProcessQuota(self._bot.capacity)
        self.waiting = WaiterCounts()
        self.sent = 0

    def __len__(self) -> int:
        """Scopes held in memory."""
        return 1 + len(self._chats) + len(self._bursts) + len(self._sizes)

    @property
    def learned(self) -> dict[str, float]:
        """Messages a window, of the kinds of scope that were put to the test."""
        return {kind: float(one.size) for kind, one in self._capacities.items() if one.tested}

    def available(self, now: float, rank: Priority) -> int:
        """Messages that the bot may send right now, whatever the chat; those of the rank that wait already go first."""
        if self.waiting.before(rank):
            return 0
        room = self._bot.room(now) - (self._bot.expire_remote(now) if rank else 0)
        return max(room - self.waiting.of(rank), 1 if self.bot_opens_at(now, rank=rank) <= now else 0, 0)

    def add_remote(self, count: int, *, now: float) -> None:
        """Another process sent so many messages for this bot: they count."""
        self._bot.add_remote(now, count=count)

    def bot_opens_at(
        self, now: float, *, rank: Priority = Priority.INTERACTIVE, count: int = 1, behind: int | None = None
    ) -> float:
        """Before this nothing of the rank goes, whatever the chat. `behind`: of so many of its rank; None: of all."""
        before, equal = self.waiting.before(rank), self.waiting.of(rank) if behind is None else behind
        shared = now < self._bot.shared_until
        unheard = self._bot.expire_remote(now) if shared and rank else 0
        opens = self._bot.opens_at(now, count=count, behind=before + equal + unheard)
        if rank:
            opens = max(opens, self._bot.next_paced_at(now, count=count))
        if before:
            return max(opens, now + YIELD)
        if shared and not rank and opens > now and self._share is not None:
            return min(opens, max(now, self._bot.closed_until, self._share.opens_at(count=count, behind=equal)))
        return opens

    def chat_opens_at(self, chat_id: ChatId, *, size: int = 0, count: int = 1, behind: int = 0, now: float) -> float:
        """Before this nothing goes to the chat, nor uploads of this size, whatever else the bot does."""
        opens = now
        if (chat := self._chats.find(chat_id)) is not None:
            opens = chat.opens_at(now, count=count, behind=behind)
        if (burst := self._bursts.find(chat_id)) is not None:
            opens = max(opens, burst.opens_at(now, count=count, behind=behind))
        return max(opens, self._size_opens_at(size, now)) if size else opens

    def opens_at(
        self, chat_id: ChatId, *, size: int = 0, count: int = 1, now: float, rank: Priority = Priority.INTERACTIVE
    ) -> float:
        """The first time, `now` or later, for a message to this chat. Answers that come may change it.

        `size`: file bytes that it uploads in all. `count`: 1, or the items of a group of media.
        """
        chat_opens = self.chat_opens_at(chat_id, size=size, count=count, now=now)
        return max(self.bot_opens_at(now, rank=rank, count=count, behind=0), chat_opens)

    def next_send_at(self, chat_id: ChatId, *, size: int = 0, count: int = 1, now: float, rank: Priority) -> float:
        """When it opens, or when a probe may go if that is sooner.

        Warm-ups find out what is beyond the settings; the others only whether what the settings say is true again.
        """
        opens = self.opens_at(chat_id, size=size, count=count, now=now, rank=rank)
        if opens <= now or self.waiting.before(rank):
            return opens
        beyond = rank is Priority.WARMUP
        return min(opens, self.probes_at(chat_id, size=size, count=count, now=now, beyond_settings=beyond))

    def is_free(self, chat_id: ChatId, *, size: int, now: float, rank: Priority) -> bool:
        """Whether nothing counts messages, and nothing is in the way: then `goes_at` need not be asked."""
        bot = self._bot
        return (
            bot.capacity is None
            and not self._is_counted(chat_id)
            and now >= bot.closed_until
            and (not rank or not self.waiting.before(rank))
            and not self._chats
            and not self._spaced(size)
        )

    def may_probe(
        self, chat_id: ChatId, *, size: int = 0, count: int = 1, now: float, beyond_settings: bool = True
    ) -> bool:
        """Whether a message may try to go although the bot or the chat has had what is known to pass.

        Not `beyond_settings`: only to find out whether what the settings say is true again.
        """
        return self.probes_at(chat_id, size=size, count=count, now=now, beyond_settings=beyond_settings) <= now

    def probes_at(
        self, chat_id: ChatId, *, size: int = 0, count: int = 1, now: float, beyond_settings: bool = True
    ) -> float:
        """The first time for such a probe, of the bot or the chat but never of both; infinite when none is in sight."""
        best, spaced = math.inf, self._size_opens_at(size, now)
        known = (self._bot, self._chats.find(chat_id), self._bursts.find(chat_id))
        scopes = [scope for scope in known if scope is not None]
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
        chat = self._chats.find(chat_id)
        return 0.0 if chat is None else min(1.0, chat.fill(now))

    def acquire(
        self, chat_id: ChatId, *, size: int = 0, count: int = 1, now: float, rank: Priority | None = None
    ) -> Permit:
        """Count a message as it goes. Its passage is to be settled or abandoned, whatever happens."""
        hold = 0.0
        if self._bot.capacity is None and not self._is_counted(chat_id) and not self._spaced(size):
            self.sent += count
            return Permit(chat_id=chat_id, size=size, count=count, at=now, probes=(), told=(), hold=0.0)
        if rank is Priority.INTERACTIVE:
            self._bot.paced_until = now + PACED
            hold = self._hold(now) if now < self._bot.shared_until else 0.0
        scopes = self._scopes(chat_id, now)
        told = tuple(scope.reported for scope in scopes)
        probes = tuple(scope.spend(now, count=count) for scope in scopes)
        self.sent += count
        if self._share is not None:
            self._share.spend(now, count=count)
        if self._spaced(size) and self._spacing is not None:
            self._sizes.get(size, None, now=now).close_until(now + self._spacing.seconds(size))
        return Permit(chat_id=chat_id, size=size, count=count, at=now, probes=probes, told=told, hold=hold)

    def confirm(self, passage: Permit, *, now: float, retry_after: float | None) -> FloodPause | None:
        """The answer is here: None for any that is no 429, else the seconds that the 429 asks for.

        What the 429 closed, for other processes to obey. A size that it closed concerns this one alone.
        """
        self._latency.add(now - passage.at)
        if retry_after is not None:
            return self._refused(passage, retry_after, now)
        if self._bot.capacity is None and not self._is_counted(passage.chat_id):
            return None
        counted_at = max(passage.at, now - self._latency.least)
        for scope in self._scopes(passage.chat_id, passage.at):
            if scope.capacity is not None:
                scope.succeeded(passage.at, counted_at, count=passage.count, now=now)
        self._probes_over(passage)
        return None

    def refund(self, passage: Permit, *, now: float) -> None:
        """No answer came: the message may have counted, as late as now. It proves nothing."""
        for scope in self._scopes(passage.chat_id, passage.at):
            scope.outcome_unknown(passage.at, count=passage.count, now=now)
        self._probes_over(passage)

    def pause_chat(self, chat_id: ChatId, until: float) -> None:
        """Pause one chat, as another process met its flood. No blame."""
        self._chats.get(chat_id, self._capacity(chat_id), now=-math.inf).close_until(until)

    def pause_bot(self, until: float) -> None:
        """Pause the whole bot, as another process or a person asked. No blame."""
        self._bot.close_until(until)

    def _hold(self, now: float) -> float:
        """Nothing while the window has room for it, and for what the others may have sent."""
        return 0.0 if self._bot.room(now) > self._bot.expire_remote(now) else HOLD

    def _refused(self, passage: Permit, retry_after: float, now: float) -> FloodPause | None:
        bot, chat, *bursts = scopes = self._scopes(passage.chat_id, passage.at)
        busy = [burst for burst in bursts if burst.inside(now) > passage.count]
        about = attribute_429(
            retry_after,
            bot=_evidence(bot, now),
            chat=_evidence(chat, now),
            burst=_evidence(busy[0], now) if busy else None,
            spaced=self._spaced(passage.size),
            others_flooded=self._chats.others_flooded(passage.chat_id, now),
        )
        for scope in scopes:
            scope.refund(passage.at, count=passage.count)
        self._probes_over(passage)
        self.sent -= passage.count
        told = passage.told or (False,) * len(scopes)
        match about:
            case LimitScope.SIZE:
                self._sizes.get(passage.size, None, now=now).refused(now, retry_after, sent_at=passage.at, told=False)
                return None
            case LimitScope.BOT:
                bot.refused(now, retry_after, sent_at=passage.at, told=told[0])
                return FloodPause(chat_id=None, seconds=retry_after)
            case LimitScope.CHAT:
                chat = self._chats.get(passage.chat_id, chat.capacity, now=now)
                chat.refused(now, retry_after, sent_at=passage.at, told=told[1])
            case LimitScope.BURST:
                self._chats.get(passage.chat_id, chat.capacity, now=now).flood_until(now + retry_after)
                probed = any(passage.probes[2:])
                busy[0].refused(now, retry_after, sent_at=passage.at, told=True, probed=probed)
        return FloodPause(chat_id=passage.chat_id, seconds=retry_after)

    def _probes_over(self, passage: Permit) -> None:
        if not any(passage.probes):
            return
        for scope, probing in zip(self._scopes(passage.chat_id, passage.at), passage.probes, strict=True):
            if probing and scope.capacity is not None:
                scope.capacity.probe_over()

    def _scopes(self, chat_id: ChatId, now: float) -> tuple[SlidingWindow, ...]:
        """The bot, the chat, and for a group or channel its last second."""
        if chat_id > 0 or self._burst is None:
            return self._bot, self._chat(chat_id, now)
        return self._bot, self._chat(chat_id, now), self._bursts.get(chat_id, self._burst, now=now)

    def _chat(self, chat_id: ChatId, now: float) -> SlidingWindow:
        """Kept when there is something to count."""
        if (capacity := self._capacity(chat_id)) is not None:
            return self._chats.get(chat_id, capacity, now=now)
        return self._chats.find(chat_id) or self._unlimited

    def _is_counted(self, chat_id: ChatId) -> bool:
        return self._capacity(chat_id) is not None or (chat_id < 0 and self._burst is not None)

    def _capacity(self, chat_id: ChatId) -> LearnedLimit | None:
        return self._private if chat_id > 0 else self._group

    def _size_opens_at(self, size: int, now: float) -> float:
        scope = self._sizes.find(size) if self._spaced(size) else None
        return now if scope is None else scope.opens_at(now)

    def _spaced(self, size: int) -> bool:
        return self._spacing is not None and size > self._spacing.above


def _evidence(scope: SlidingWindow, now: float) -> ScopeEvidence:
    return ScopeEvidence(fill=scope.fill(now), frees_in=scope.frees_in(now))


def _plausible(learned: object) -> float | None:
    """A capacity that somebody wrote down; None when it is none."""
    if isinstance(learned, bool) or not isinstance(learned, int | float) or not 0 < learned < math.inf:
        return None
    return float(learned)
