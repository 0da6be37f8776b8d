"""When a lane claims jobs, and how many. Pure: the time is an argument."""

from __future__ import annotations

import math

CLAIM_AHEAD_SECONDS = 0.5  # seconds of work that is claimed in advance
MAX_CLAIMED_AHEAD = 256  # jobs
MIN_CLAIM_INTERVAL_SECONDS = 0.5  # seconds between two claims of a lane that can start nothing


class ClaimPacing:
    """Decides when to claim, so that about half a second of work is held.

    `may_have_work`: due, unclaimed jobs may exist.
    """

    def __init__(self, *, concurrency: int, now: float) -> None:
        self.may_have_work = True
        self.not_before = -math.inf
        self._least = 2 * concurrency
        self._ahead = self._least
        self._claimed_at = now
        self._was_full = False
        self._postponed_at = -math.inf

    def nudge(self) -> None:
        """Note that there is new work: a postponed claim is made soon."""
        self.may_have_work = True
        self.not_before = min(self.not_before, self._postponed_at + MIN_CLAIM_INTERVAL_SECONDS)

    def wanted(self, held: int, *, now: float) -> int:
        """Return how many jobs to claim now, beside the `held` ones; 0 for none. Adapts to the recent throughput."""
        if not self.may_have_work or now < self.not_before or held > self._ahead // 2:
            return 0
        since = now - self._claimed_at
        if self._was_full and since < CLAIM_AHEAD_SECONDS:
            self._ahead = min(2 * self._ahead, MAX_CLAIMED_AHEAD)
        elif since > 2 * CLAIM_AHEAD_SECONDS:
            self._ahead = max(self._ahead // 2, self._least)
        return self._ahead - held

    def begin(self, *, now: float) -> None:
        """Note the start of a claim. A later nudge is for the next claim."""
        self.may_have_work = False
        self._claimed_at = now

    def end(self, claimed: int, *, limit: int) -> None:
        """Note the end of a claim. Fewer jobs than `limit` mean that no more are due."""
        self._was_full = claimed == limit
        self.may_have_work = self.may_have_work or self._was_full

    def postpone(self, until: float, *, now: float) -> None:
        """Postpone claims until a time at which they may be of use."""
        self.not_before, self._postponed_at, self.may_have_work = until, now, True

    def resume(self) -> None:
        """End the postponement."""
        self.not_before = -math.inf
