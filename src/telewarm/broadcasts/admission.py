"""Admission of recipients: how many the circuit breaker, the rate cap and the share of the bot's limit allow now."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from telewarm.broadcasts.policy import RateCap
from telewarm.broadcasts.run_state import RunState
from telewarm.database.broadcast_runs import Recipient
from telewarm.flood_control.circuit_breaker import CircuitBreaker
from telewarm.flood_control.fair_share import FairShareAllocator, Participant

POLL_SECONDS = 1.0  # between checks when no earlier time is known


@dataclass(frozen=True, kw_only=True, slots=True)
class Admission:
    """`weight`: messages of one recipient. `concurrency`: maximum of recipients in flight."""

    breaker: CircuitBreaker
    rate_cap: RateCap
    shares: FairShareAllocator
    participant: Participant
    weight: int
    concurrency: int

    def admit(self, state: RunState, ready: deque[Recipient], *, now: float) -> float:
        """Make those recipients pending that may be called now. Returns when to ask again, on the monotonic clock."""
        state.skip_unreachable(ready)
        slots = self.breaker.allowed(self.concurrency - len(state.in_flight), now=now)
        waiting = state.admissible(len(ready), now=now)
        opens_at = self.rate_cap.opens_at()
        wanted = self.rate_cap.room(now, most=min(slots, waiting), weight=self.weight)
        count, share_opens_at = self.shares.allow(self.participant, wanted, now)
        if count and (admitted := state.admit(count, ready, now=now)):
            self.breaker.on_admitted([*admitted])
            self.rate_cap.spend(len(admitted), now=now, weight=self.weight)
            self.shares.admitted(self.participant, len(admitted))
        times = [now + POLL_SECONDS, state.retries.due_at]
        if wanted > count:
            times.append(share_opens_at)
        elif waiting and slots:
            times.append(max(opens_at, self.rate_cap.opens_at()))
        if self.breaker.is_open:
            times.append(self.breaker.next_probe_at)
        return min(at for at in times if at > now)
