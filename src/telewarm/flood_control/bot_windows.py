"""The windows that count a bot's messages: the bot's, each chat's, each group's last second, each size's. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Generic, TypeVar

from telewarm.flood_control.limits import BotLimits
from telewarm.flood_control.sliding_window import LearnedLimit, SlidingWindow
from telewarm.models import ChatId

K = TypeVar("K")
SWEEP = 256  # windows kept before the first look for idle ones


class WindowTable(Generic[K]):
    """Windows by what they count. Idle ones are dropped: a million chats need no more memory than the busy few."""

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
        """When there are twice as many as were left the last time: amortised O(1)."""
        if len(self._scopes) < self._sweep_at:
            return
        self._scopes = {key: scope for key, scope in self._scopes.items() if not scope.idle(now)}
        self._sweep_at = max(SWEEP, 2 * len(self._scopes))


class BotWindows:
    """All windows of one bot. `learned`: limits that were learned before; a value that makes no sense is ignored.

    `bursts`: of groups and channels, the last second beside the minute that `chats` counts.
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
        self._unlimited = SlidingWindow(None, now=now)  # any chat of which there is nothing to count

    def __len__(self) -> int:
        """Windows held in memory."""
        return 1 + len(self.chats) + len(self.bursts) + len(self.sizes)

    @property
    def learned(self) -> dict[str, float]:
        """Messages a window, of the kinds of window that were put to the test."""
        return {kind: float(one.size) for kind, one in self._limits.items() if one.tested}

    def of(self, chat_id: ChatId, *, now: float) -> tuple[SlidingWindow, ...]:
        """The bot's, the chat's, and for a group or channel that of its last second."""
        if chat_id > 0 or self._burst is None:
            return self.bot, self._chat(chat_id, now)
        return self.bot, self._chat(chat_id, now), self.bursts.get(chat_id, self._burst, now=now)

    def known(self, chat_id: ChatId) -> list[SlidingWindow]:
        """The same, as far as they exist already."""
        found = (self.bot, self.chats.find(chat_id), self.bursts.find(chat_id))
        return [window for window in found if window is not None]

    def limit_of(self, chat_id: ChatId) -> LearnedLimit | None:
        return self._private if chat_id > 0 else self._group

    def counts(self, chat_id: ChatId) -> bool:
        """Whether messages to this chat are counted, be it for the bot alone."""
        return (
            self.bot.capacity is not None
            or self.limit_of(chat_id) is not None
            or (chat_id < 0 and self._burst is not None)
        )

    def spaces(self, size: int) -> bool:
        """Whether uploads of this size are kept apart."""
        return self.spacing is not None and size > self.spacing.above

    def size_opens_at(self, size: int, now: float) -> float:
        window = self.sizes.find(size) if self.spaces(size) else None
        return now if window is None else window.opens_at(now)

    def space(self, size: int, *, now: float) -> None:
        """An upload of this size begins."""
        if self.spacing is not None and self.spaces(size):
            self.sizes.get(size, None, now=now).close_until(now + self.spacing.seconds(size))

    def _chat(self, chat_id: ChatId, now: float) -> SlidingWindow:
        """Kept when there is something to count."""
        if (limit := self.limit_of(chat_id)) is not None:
            return self.chats.get(chat_id, limit, now=now)
        return self.chats.find(chat_id) or self._unlimited


def _plausible(learned: object) -> float | None:
    """A limit that somebody wrote down; None when it is none."""
    if isinstance(learned, bool) or not isinstance(learned, int | float) or not 0 < learned < math.inf:
        return None
    return float(learned)
