"""Failure counter of a lane: detects that Telegram or the store is unavailable.

Pure: time and random number are arguments.

During an outage every job fails at once. Without the counter a lane would run through a whole library within seconds
and use up the attempts of every item.
"""

from __future__ import annotations

from telewarm.errors import StoreUnavailable, TelegramServerError, TelegramUnreachable, TelewarmError

OUTAGE_ERRORS = (TelegramUnreachable, TelegramServerError, StoreUnavailable)  # of a service, not of a job
PROBE_MIN_SECONDS, PROBE_MAX_SECONDS = (
    0.25,
    4.0,
)  # seconds between two probes: doubling, half of it fixed, half of it random


class FailureCounter:
    """Consecutive failures, of whatever jobs; more than `tolerance` are an outage."""

    def __init__(self, *, tolerance: int) -> None:
        self._tolerance = tolerance
        self._failures = 0
        self._probes = 0
        self.retry_at = 0.0  # nothing starts before this time, and then one job at a time

    @property
    def is_open(self) -> bool:
        """Whether a service is considered unavailable."""
        return self._failures > self._tolerance

    def succeeded(self) -> None:
        """Note a success or any answer: the outage is over."""
        self._failures = self._probes = 0
        self.retry_at = 0.0

    def failed(self, error: TelewarmError, *, now: float, dice: float) -> bool:
        """Count a failure. Returns whether the outage is to blame, and not the job. `dice`: in [0, 1)."""
        if not isinstance(error, OUTAGE_ERRORS):
            self.succeeded()
            return False
        self._failures += 1
        if self.is_open and now >= self.retry_at:  # the others were in flight when the outage began
            self.retry_at = now + min(PROBE_MAX_SECONDS, PROBE_MIN_SECONDS * 2**self._probes) * (1 + dice) / 2
            self._probes = min(self._probes + 1, 16)
        return self.is_open
