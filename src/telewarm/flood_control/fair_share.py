"""Fair shares of a bot's limit for its concurrent broadcasts. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from telewarm.flood_control.limiter import BotRateLimiter
from telewarm.flood_control.priority import Priority

LEAD_SECONDS = 0.15  # seconds before its turn at which a recipient is recorded, so that its call is ready in time
MAX_WAITING_MESSAGES = 16  # maximum of messages recorded before their turn
UNBOUNDED = 1_000_000  # recipients; there is no other broadcast to share with
MAX_LEAD_MESSAGES = 4  # messages that one broadcast may be ahead of the others that want to send
YIELD_SECONDS = 0.05  # seconds until the next check while sends or warm-ups wait for the bot


@dataclass(kw_only=True, slots=True, eq=False)
class Participant:
    """One broadcast.

    `weight`: messages a recipient. `uncounted`: messages of admitted recipients not yet in the limiter.

    `served`: messages admitted, as far as they matter for the order. `starved`: wants more than it may have.
    """

    weight: int
    uncounted: Callable[[], int]
    wake: Callable[[], None]
    served: float = 0.0
    starved: bool = False


class FairShareAllocator:
    """Admits only what the limits allow right now: recipients admitted and not sent are unknown after a crash."""

    def __init__(self, limiter: BotRateLimiter) -> None:
        self._limiter = limiter
        self._participants: list[Participant] = []

    @contextmanager
    def joined(self, *, weight: int, unspent: Callable[[], int], wake: Callable[[], None]) -> Iterator[Participant]:
        """Let a broadcast take part."""
        member = Participant(weight=weight, uncounted=unspent, wake=wake)
        self._participants.append(member)
        try:
            yield member
        finally:
            self._participants.remove(member)
            self._wake_others(member)

    def allow(self, participant: Participant, wanted: int, now: float) -> tuple[int, float]:
        """Return how many of `wanted` recipients the broadcast may admit, and when to ask again if that is not all."""
        if wanted <= 0:
            self._satisfied(participant)
            return 0, now
        unspent = sum(one.uncounted() for one in self._participants)
        room = self._limiter.available(now, Priority.DELIVERY) - unspent
        if room >= len(self._participants) * wanted * participant.weight:  # enough for all, whatever the order
            self._satisfied(participant)
            return wanted, now
        self._add_starved(participant)
        count, again_at = self._within_limits(participant, room, unspent, now)
        count = min(count, wanted, self._round_robin(participant))
        if count == wanted:
            self._satisfied(participant)
        return count, again_at

    def admitted(self, participant: Participant, count: int) -> None:
        """Note admitted recipients, and wake the others."""
        participant.served += count * participant.weight
        if count:
            self._wake_others(participant)

    def _within_limits(self, participant: Participant, available: int, uncounted: int, now: float) -> tuple[int, float]:
        if available >= participant.weight:
            return available // participant.weight, now
        line = self._limiter.waiting.of(Priority.DELIVERY) + uncounted
        if self._limiter.waiting.before(Priority.DELIVERY):
            return int(line == 0), now + YIELD_SECONDS
        opens_at = self._limiter.bot_opens_at(now, priority=Priority.DELIVERY, behind=line)
        return int(opens_at <= now + LEAD_SECONDS and line < MAX_WAITING_MESSAGES), max(
            opens_at - LEAD_SECONDS, now + LEAD_SECONDS / 10
        )

    def _round_robin(self, participant: Participant) -> int:
        """Return how many recipients it may admit before it is too far ahead of the others."""
        others = [one.served for one in self._participants if one.starved and one is not participant]
        if not others:
            return UNBOUNDED
        return max(
            0, int(min(others) + MAX_LEAD_MESSAGES + participant.weight - participant.served) // participant.weight
        )

    def _add_starved(self, participant: Participant) -> None:
        """Mark as starved. A broadcast that wanted nothing for a while has no claim from that time."""
        if not participant.starved:
            participant.starved = True
            others = [one.served for one in self._participants if one.starved and one is not participant]
            participant.served = max(participant.served, min(others, default=0.0))

    def _satisfied(self, participant: Participant) -> None:
        if participant.starved:
            participant.starved = False
            self._wake_others(participant)

    def _wake_others(self, participant: Participant) -> None:
        for one in self._participants:
            if one.starved and one is not participant:
                one.wake()
