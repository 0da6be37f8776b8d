"""Is what a lane's work needs away altogether? Pure: the time and the dice are arguments.

When Telegram or the store does not answer, every job fails at once. Without this a lane would burn through a whole
library in seconds, and each item's attempts with it.
"""

from __future__ import annotations

from telewarm.errors import StoreUnavailable, TelegramServerError, TelegramUnreachable, TelewarmError

OUTAGE_ERRORS = (TelegramUnreachable, TelegramServerError, StoreUnavailable)  # of a service, not of a job
PROBE_MIN_SECONDS, PROBE_MAX_SECONDS = (
    0.25,
    4.0,
)  # seconds between two probes: doubling, at least half of it, the rest at random


class FailureCounter:
    """Failures in a row, whatever the job, are an outage from the one after `tolerance` on."""

    def __init__(self, *, tolerance: int) -> None:
        self._tolerance = tolerance
        self._failures = 0
        self._probes = 0
        self.retry_at = 0.0  # nothing starts before this time, and then one job at a time

    @property
    def is_open(self) -> bool:
        return self._failures > self._tolerance

    def succeeded(self) -> None:
        """Something worked, or was answered: whatever failed before, it is over."""
        self._failures = self._probes = 0
        self.retry_at = 0.0

    def failed(self, error: TelewarmError, *, now: float, dice: float) -> bool:
        """Count a failure; whether it is the outage's and not the job's. `dice` is in [0, 1)."""
        if not isinstance(error, OUTAGE_ERRORS):
            self.succeeded()
            return False
        self._failures += 1
        if self.is_open and now >= self.retry_at:  # the others were on their way when it began
            self.retry_at = now + min(PROBE_MAX_SECONDS, PROBE_MIN_SECONDS * 2**self._probes) * (1 + dice) / 2
            self._probes = min(self._probes + 1, 16)
        return self.is_open
