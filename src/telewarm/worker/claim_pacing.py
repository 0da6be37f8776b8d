"""When a lane claims jobs, and how many. Pure: the time is an argument."""

from __future__ import annotations

import math

CLAIM_AHEAD_SECONDS = 0.5  # of work that is claimed ahead
MAX_CLAIMED_AHEAD = 256  # jobs
MIN_CLAIM_INTERVAL_SECONDS = 0.5  # between two claims of a lane that can do nothing with them


class ClaimPacing:
    """Claims about as many jobs as are done in half a second. `may_have_work`: something may be due and unclaimed."""

    def __init__(self, *, concurrency: int, now: float) -> None:
        self.may_have_work = True
        self.not_before = -math.inf
        self._least = 2 * concurrency
        self._ahead = self._least
        self._claimed_at = now
        self._was_full = False
        self._postponed_at = -math.inf

    def nudge(self) -> None:
        """There is new work: a claim that was postponed is made soon."""
        self.may_have_work = True
        self.not_before = min(self.not_before, self._postponed_at + MIN_CLAIM_INTERVAL_SECONDS)

    def wanted(self, held: int, *, now: float) -> int:
        """How many jobs to claim now, beside the `held` ones; 0 for none. Adapts to how fast the last ones went."""
        if not self.may_have_work or now < self.not_before or held > self._ahead // 2:
            return 0
        since = now - self._claimed_at
        if self._was_full and since < CLAIM_AHEAD_SECONDS:
            self._ahead = min(2 * self._ahead, MAX_CLAIMED_AHEAD)
        elif since > 2 * CLAIM_AHEAD_SECONDS:
            self._ahead = max(self._ahead // 2, self._least)
        return self._ahead - held

    def begin(self, *, now: float) -> None:
        """A claim is made. What is nudged from now on is for the next one."""
        self.may_have_work = False
        self._claimed_at = now

    def end(self, claimed: int, *, limit: int) -> None:
        """The claim brought so many of at most `limit`; fewer means that no more are due."""
        self._was_full = claimed == limit
        self.may_have_work = self.may_have_work or self._was_full

    def postpone(self, until: float, *, now: float) -> None:
        """Claims are of no use before."""
        self.not_before, self._postponed_at, self.may_have_work = until, now, True

    def resume(self) -> None:
        """They may be of use again."""
        self.not_before = -math.inf
