"""The windows that count one bot's messages, and which of them a 429 is about. Pure.

One window is of the bot; others are of its chats, of its groups' last second, and of its upload sizes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

from telewarm.flood_control.limits import BotLimits
from telewarm.flood_control.sliding_window import LearnedLimit, SlidingWindow
from telewarm.models import ChatId

OVERLOAD_RETRY_AFTER_SECONDS = 60.0  # seconds; the `retry_after` with which a Bot API server names its own backlog
WINDOW_TOLERANCE_SECONDS = -0.25  # seconds by which our estimate of the server's window may be wrong
MIN_BOT_FILL = 0.5  # minimum fill of the bot's window for blaming the bot when the chat explains the 429 as well
SAMPLE_CALLS = 64  # the minimum is taken over the last 64 to 128 calls
INITIAL_FLOOR_SECONDS = 0.02  # the minimum before any call was measured
MAX_FLOOR_SECONDS = 0.6
K = TypeVar("K")
MIN_WINDOWS_BEFORE_SWEEP = 256  # windows held before the first removal of idle ones


class WindowTable(Generic[K]):
    """Windows by key. Removes idle ones: a million chats need no more memory than the few busy ones."""

    def __init__(self) -> None:
        self._scopes: dict[K, SlidingWindow] = {}
        self._sweep_at = MIN_WINDOWS_BEFORE_SWEEP

    def __len__(self) -> int:
        return len(self._scopes)

    def find(self, key: K) -> SlidingWindow | None:
        """Return a window, if there is one."""
        return self._scopes.get(key)

    def get(self, key: K, capacity: LearnedLimit | None, *, now: float) -> SlidingWindow:
        """Return a window; create it if there is none."""
        scope = self._scopes.get(key)
        if scope is None:
            self._forget_idle(now)
            scope = self._scopes[key] = SlidingWindow(capacity, now=now)
        return scope

    def others_flooded(self, key: K, now: float) -> bool:
        """Whether a window other than that of `key` is flooded."""
        return any(scope.flooded_until > now for other, scope in self._scopes.items() if other != key)

    def _forget_idle(self, now: float) -> None:
        """Remove idle windows whenever the table has doubled since the last time: amortised O(1)."""
        if len(self._scopes) < self._sweep_at:
            return
        self._scopes = {key: scope for key, scope in self._scopes.items() if not scope.idle(now)}
        self._sweep_at = max(MIN_WINDOWS_BEFORE_SWEEP, 2 * len(self._scopes))


class BotWindows:
    """All windows of one bot. `learned`: limits from earlier runs; implausible values are ignored.

    `bursts`: the last second of groups and channels, beside the minute that `chats` counts.
    """

    def __init__(self, limits: BotLimits, *, now: float, learned: Mapping[str, float] | None = None) -> None:
        self.spacing = limits.same_size
        self._limits: dict[str, LearnedLimit] = {}
        for kind, limit in limits.by_kind.items():
            within = self._limits.get("group") if kind == "group_second" else None
            self._limits[kind] = LearnedLimit(limit, _plausible((learned or {}).get(kind)), within=within)
        self._private, self._group = self._limits.get("private"), self._limits.get("group")
        self._burst = self._limits.get("group_second")
        self.bot = SlidingWindow(self._limits.get("bot"), now=now)
        self.chats: WindowTable[ChatId] = WindowTable()
        self.bursts: WindowTable[ChatId] = WindowTable()
        self.sizes: WindowTable[int] = WindowTable()
        self._unlimited = SlidingWindow(None, now=now)  # for chats without anything to count

    def __len__(self) -> int:
        """Return the number of windows in memory."""
        return 1 + len(self.chats) + len(self.bursts) + len(self.sizes)

    @property
    def learned(self) -> dict[str, float]:
        """Messages in a window, for each kind of window that was tested by probes."""
        return {kind: float(one.size) for kind, one in self._limits.items() if one.tested}

    def of(self, chat_id: ChatId, *, now: float) -> tuple[SlidingWindow, ...]:
        """Return the windows of the bot and of the chat, and the burst window of a group or channel."""
        if chat_id > 0 or self._burst is None:
            return self.bot, self._chat(chat_id, now)
        return self.bot, self._chat(chat_id, now), self.bursts.get(chat_id, self._burst, now=now)

    def known(self, chat_id: ChatId) -> list[SlidingWindow]:
        """Return those windows that exist already."""
        found = (self.bot, self.chats.find(chat_id), self.bursts.find(chat_id))
        return [window for window in found if window is not None]

    def limit_of(self, chat_id: ChatId) -> LearnedLimit | None:
        """Return the limit that applies to the chat; None: none."""
        return self._private if chat_id > 0 else self._group

    def counts(self, chat_id: ChatId) -> bool:
        """Return whether messages to this chat are counted, even if for the bot alone."""
        return (
            self.bot.capacity is not None
            or self.limit_of(chat_id) is not None
            or (chat_id < 0 and self._burst is not None)
        )

    def spaces(self, size: int) -> bool:
        """Return whether uploads of this size are spaced."""
        return self.spacing is not None and size > self.spacing.above_bytes

    def size_opens_at(self, size: int, now: float) -> float:
        """Return when an upload of this size may start."""
        window = self.sizes.find(size) if self.spaces(size) else None
        return now if window is None else window.opens_at(now)

    def space(self, size: int, *, now: float) -> None:
        """Note the start of an upload of this size."""
        if self.spacing is not None and self.spaces(size):
            self.sizes.get(size, None, now=now).pause_until(now + self.spacing.seconds(size))

    def _chat(self, chat_id: ChatId, now: float) -> SlidingWindow:
        """Return the chat's window, created if there is something to count."""
        if (limit := self.limit_of(chat_id)) is not None:
            return self.chats.get(chat_id, limit, now=now)
        return self.chats.find(chat_id) or self._unlimited


def _plausible(learned: object) -> float | None:
    """Return a stored limit; None for an implausible one."""
    if isinstance(learned, bool) or not isinstance(learned, int | float) or not 0 < learned < math.inf:
        return None
    return float(learned)


class LatencyFloor:
    """The minimum latency: a message counts on the server no later than that long before its answer arrives."""

    __slots__ = ("_before", "_calls", "_now", "least")

    def __init__(self) -> None:
        self.least = self._before = INITIAL_FLOOR_SECONDS
        self._now = math.inf
        self._calls = 0

    def add(self, seconds: float) -> None:
        """Add the latency of a call."""
        self._now = min(self._now, seconds)
        self._calls += 1
        self.least = min(self._before, self._now, MAX_FLOOR_SECONDS)
        if self._calls == SAMPLE_CALLS:
            self._before, self._now, self._calls = self._now, math.inf, 0


class LimitScope(Enum):
    """The scope whose limit a 429 enforces."""

    BOT = auto()
    CHAT = auto()
    BURST = auto()  # the chat, by its messages of about the last second
    SIZE = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class ScopeEvidence:
    """State of one scope when a 429 arrives. `fill`: messages in its window, the refused one included, by its capacity.

    `frees_in`: seconds until the server's window loses its oldest message.
    """

    fill: float
    frees_in: float

    def explains(self, retry_after: float) -> bool:
        """Return whether a full window explains `retry_after`: the whole seconds until its oldest message leaves."""
        return WINDOW_TOLERANCE_SECONDS <= retry_after - self.frees_in <= 1 - WINDOW_TOLERANCE_SECONDS

    def allows(self, retry_after: float) -> bool:
        """Return whether the scope may be a token bucket, whose next token comes sooner than a window opens."""
        return retry_after - self.frees_in <= 1 - WINDOW_TOLERANCE_SECONDS


def attribute_429(
    retry_after: float,
    *,
    bot: ScopeEvidence,
    chat: ScopeEvidence,
    burst: ScopeEvidence | None = None,
    spaced: bool,
    others_flooded: bool,
) -> LimitScope:
    """Return the scope that a 429 is about.

    `burst`: the chat's messages of the last second, when there are others than the refused one. `spaced`: the call
    uploads a size that is spaced. `others_flooded`: other chats are flooded, too.
    """
    if spaced and retry_after == OVERLOAD_RETRY_AFTER_SECONDS and not chat.explains(retry_after):
        return LimitScope.SIZE
    if burst is not None and _is_burst(retry_after, burst, bot=bot, chat=chat):
        return LimitScope.BURST
    if bot.explains(retry_after) and (bot.fill > chat.fill or not chat.explains(retry_after)):
        return LimitScope.BOT
    return LimitScope.BOT if others_flooded and chat.fill < 0.5 else LimitScope.CHAT


def _is_burst(retry_after: float, burst: ScopeEvidence, *, bot: ScopeEvidence, chat: ScopeEvidence) -> bool:
    if not burst.allows(retry_after) or (chat.explains(retry_after) and chat.fill >= burst.fill):
        return False
    if not bot.explains(retry_after):
        return True
    return bot.fill <= burst.fill if burst.explains(retry_after) else bot.fill < MIN_BOT_FILL
