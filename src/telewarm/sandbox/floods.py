"""Flood limits as the server applies them (facts 3.1 to 3.3). The time is an argument; nothing waits here."""

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
    """At most `count` messages in any `seconds`; a refusal closes the window for the seconds it names."""

    __slots__ = ("_closed_until", "_times", "limit")

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._times: deque[float] = deque()
        self._closed_until = -math.inf

    def wait(self, now: float) -> int:
        """Return the whole seconds until one more message; 0: now."""
        self._forget(now)
        if now >= self._closed_until - ROUNDING:
            if len(self._times) < self.limit.count:
                return 0
            left = self._times[0] + self.limit.seconds - now
            self._closed_until = now + max(1, math.ceil(left))
        return max(1, math.ceil(self._closed_until - now))

    def spend(self, now: float) -> None:
        """Count a message."""
        self._times.append(now)

    def idle(self, now: float) -> bool:
        """Return whether the window is empty."""
        self._forget(now)
        return not self._times and now >= self._closed_until - ROUNDING

    def _forget(self, now: float) -> None:
        while self._times and self._times[0] <= now - self.limit.seconds + ROUNDING:
            self._times.popleft()


@dataclass(slots=True)
class Load:
    """Requests of one bot in progress."""

    requests: int = 0
    uploads: int = 0
    upload_bytes: int = 0


@dataclass(slots=True)
class Gate:
    """Flood limits of all bots."""

    floods: Floods
    _windows: dict[tuple[int, ...], Window] = field(default_factory=dict)  # (bot, chat), (bot, 0), (0, new bots)
    _sizes: dict[tuple[int, int], float] = field(default_factory=dict)  # (bot, byte total): when the next may go
    _loads: dict[int, Load] = field(default_factory=dict)
    _unsent: dict[tuple[int, int], int] = field(default_factory=dict)

    def charge(self, bot: int, chat: int, now: float, count: int = 1, *, follows: bool = False) -> None:
        """Count `count` messages of a bot to a chat, or raise the longest 429.

        `follows`: the same call has brought a message before. The limit of about one a second is for calls: an album is
        one.
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
        """Count a new token, or raise the 429."""
        windows = [self._window((0, number), limit) for number, limit in enumerate(self.floods.new_bots)]
        wait = max((window.wait(now) for window in windows), default=0)
        if wait:
            raise too_many_requests(wait)
        for window in windows:
            window.spend(now)

    def _scopes(self, bot: int, chat: int) -> tuple[list[Window], list[Window]]:
        """Return the windows for every message, and those for the first message of a call."""
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
        """Return the seconds to delay a request with `total` bytes of files. Raises the 429 beyond the backlog."""
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
        """Count a request while the block runs; yields whether the bot is overloaded by it."""
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
        """Count messages in flight to a chat. Raises the 429 for too many."""
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
        """Drop empty windows once there are many."""
        if len(self._windows) > MANY_SCOPES:
            self._windows = {key: window for key, window in self._windows.items() if not window.idle(now)}
        if len(self._sizes) > MANY_SCOPES:
            self._sizes = {key: due for key, due in self._sizes.items() if due > now - 1}

    def clear(self) -> None:
        """Forget everything."""
        self._windows.clear()
        self._sizes.clear()
