"""Flood limits as the server sees them (facts 3.1 to 3.3). The time is an argument; nothing here waits."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from telewarm.sandbox.config import Floods, Limit
from telewarm.sandbox.errors import too_many_requests

OVERLOAD = 60  # retry_after of an overloaded bot
SAME_SIZE_FROM = 100_000  # bytes; smaller requests are not spaced
BACKLOG = 5.0  # seconds of spacing that may queue up
ROUNDING = 1e-6  # seconds; whoever waited as told is not too early by a float's last digit
SHORT = 10.0  # seconds of a window that calls are asked for, whatever they bring
MANY_SCOPES = 10_000  # from here on, scopes that are empty again are dropped


class Window:
    """At most `count` messages in any `seconds`; a refusal closes it for the seconds it names."""

    __slots__ = ("_closed_until", "_times", "limit")

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._times: deque[float] = deque()
        self._closed_until = -math.inf

    def wait(self, now: float) -> int:
        """Whole seconds until one more may go; 0: now."""
        self._forget(now)
        if now >= self._closed_until - ROUNDING:
            if len(self._times) < self.limit.count:
                return 0
            left = self._times[0] + self.limit.seconds - now
            self._closed_until = now + max(1, math.ceil(left))
        return max(1, math.ceil(self._closed_until - now))

    def spend(self, now: float) -> None:
        self._times.append(now)

    def idle(self, now: float) -> bool:
        self._forget(now)
        return not self._times and now >= self._closed_until - ROUNDING

    def _forget(self, now: float) -> None:
        while self._times and self._times[0] <= now - self.limit.seconds + ROUNDING:
            self._times.popleft()


@dataclass(slots=True)
class Load:
    """What one bot has going on."""

    requests: int = 0
    uploads: int = 0
    upload_bytes: int = 0


@dataclass(slots=True)
class Gate:
    """All scopes of all bots."""

    floods: Floods
    _windows: dict[tuple[int, ...], Window] = field(default_factory=dict)  # (bot, chat), (bot, 0), (0, new bots)
    _sizes: dict[tuple[int, int], float] = field(default_factory=dict)  # (bot, byte total): when the next may go
    _loads: dict[int, Load] = field(default_factory=dict)
    _unsent: dict[tuple[int, int], int] = field(default_factory=dict)

    def charge(self, bot: int, chat: int, now: float, count: int = 1, *, follows: bool = False) -> None:
        """Count `count` messages of a bot to a chat, or raise the 429 of the scope that waits longest.

        `follows`: the same call has brought a message before. About one a second is asked of calls: an album is one.
        """
        for number in range(count):
            always, once = self._scopes(bot, chat)
            asked = always if follows or number else [*always, *once]
            wait = max((window.wait(now) for window in asked), default=0)
            if wait:
                raise too_many_requests(wait)
            for window in (*always, *once):
                window.spend(now)

    def admit(self, now: float) -> None:
        """Count a token that was not seen before, or raise the 429."""
        windows = [self._window((0, number), limit) for number, limit in enumerate(self.floods.new_bots)]
        wait = max((window.wait(now) for window in windows), default=0)
        if wait:
            raise too_many_requests(wait)
        for window in windows:
            window.spend(now)

    def _scopes(self, bot: int, chat: int) -> tuple[list[Window], list[Window]]:
        """Those that every message needs room in, and those that only the first of a call does."""
        floods = self.floods
        always: list[Window] = []
        once: list[Window] = []
        if floods.bot is not None:
            always.append(self._window((bot, 0), floods.bot))
        if chat < 0 and floods.group is not None:
            always.append(self._window((bot, chat), floods.group))
        limit = floods.private if chat > 0 else floods.group_second
        if limit is not None:
            asked = once if limit.seconds <= SHORT else always
            asked.append(self._window((bot, chat, 1), limit))
        return always, once

    def _window(self, key: tuple[int, ...], limit: Limit) -> Window:
        window = self._windows.get(key)
        if window is None or window.limit != limit:
            window = self._windows[key] = Window(limit)
        return window

    def space(self, bot: int, total: int, now: float) -> float:
        """Seconds to hold back a request with `total` bytes of files; raises the 429 past the backlog."""
        if not self.floods.same_size or total <= SAME_SIZE_FROM:
            return 0.0
        key = (bot, total)
        due = self._sizes.get(key, -math.inf)
        if due > now + BACKLOG:
            raise too_many_requests(OVERLOAD)
        due = max(due, now - 1) + min(max(total * 1e-7, 0.2), 0.9)
        self._sizes[key] = due
        return max(0.0, due - now)

    @contextmanager
    def active(self, bot: int, upload_bytes: int, files: int) -> Iterator[bool]:
        """Count a request while it lasts; yields whether the bot is overloaded by it."""
        load = self._loads.setdefault(bot, Load())
        overloaded = self._overloaded(load, files)
        load.requests += 1
        load.uploads += files > 0
        load.upload_bytes += upload_bytes
        try:
            yield overloaded
        finally:
            load.requests -= 1
            load.uploads -= files > 0
            load.upload_bytes -= upload_bytes
            if load.requests == 0:
                self._loads.pop(bot, None)

    def _overloaded(self, load: Load, files: int) -> bool:
        floods = self.floods
        if floods.active_requests and load.requests > floods.active_requests:
            return True
        if not files:
            return False
        too_many = bool(floods.active_uploads) and load.uploads > floods.active_uploads
        return too_many or (bool(floods.active_upload_bytes) and load.upload_bytes > floods.active_upload_bytes)

    @contextmanager
    def unsent(self, bot: int, chat: int, count: int) -> Iterator[None]:
        """Count messages on their way to a chat; raises the 429 when too many are."""
        key = (bot, chat)
        now = self._unsent.get(key, 0)
        if self.floods.unsent_per_chat and now + count > self.floods.unsent_per_chat:
            raise too_many_requests(OVERLOAD)
        self._unsent[key] = now + count
        try:
            yield
        finally:
            left = self._unsent.get(key, 0) - count
            if left > 0:
                self._unsent[key] = left
            else:
                self._unsent.pop(key, None)

    def prune(self, now: float) -> None:
        """Drop idle scopes once there are many."""
        if len(self._windows) > MANY_SCOPES:
            self._windows = {key: window for key, window in self._windows.items() if not window.idle(now)}
        if len(self._sizes) > MANY_SCOPES:
            self._sizes = {key: due for key, due in self._sizes.items() if due > now - 1}

    def clear(self) -> None:
        self._windows.clear()
        self._sizes.clear()
