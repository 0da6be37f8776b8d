"""The least time that a call to Telegram takes, from the fastest of the last calls. Pure."""

from __future__ import annotations

import math

CALLS = 64  # the fastest of the last so many calls, and at most twice as many, is the least that a call takes
QUICK, SLOW = 0.02, 0.6  # seconds; what a call takes at least before that is known, and at most however slow all are


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
