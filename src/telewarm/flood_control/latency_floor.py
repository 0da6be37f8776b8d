"""Minimum latency of a call to Telegram, from the fastest of the recent calls. Pure."""

from __future__ import annotations

import math

SAMPLE_CALLS = 64  # the minimum is taken over the last 64 to 128 calls
INITIAL_FLOOR_SECONDS, MAX_FLOOR_SECONDS = (
    0.02,
    0.6,
)  # seconds; the minimum before any call was measured, and its maximum


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
