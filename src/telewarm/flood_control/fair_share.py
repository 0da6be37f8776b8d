"""Fair shares of a bot's limit for its broadcasts. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from telewarm.flood_control.limiter import BotRateLimiter
from telewarm.flood_control.priority import Priority

LEAD_SECONDS = (
    0.15  # seconds before its turn at which a recipient is written down: then its call is ready when the turn comes
)
MAX_WAITING_MESSAGES = 16  # messages that wait for their turn like this, at most
UNBOUNDED = 1_000_000  # recipients; no fear of others
MAX_LEAD_MESSAGES = 4  # messages that one flight may be ahead of the others that want to send
YIELD_SECONDS = 0.05  # seconds before looking again while sends or warm-ups wait for the bot


@dataclass(kw_only=True, slots=True, eq=False)
class Participant:
    """A flight. `weight`: messages a recipient. `unspent`: messages of those it has taken that no limit knows of yet.

    `served`: messages taken, as far as that matters for whose turn it is. `hungry`: it wants more than it may take.
    """

    weight: int
    uncounted: Callable[[], int]
    wake: Callable[[], None]
    served: float = 0.0
    starved: bool = False


class FairShareAllocator:
    """Takes no more than the limits let go in a moment: who is taken and not sent is unknown after a crash."""

    def __init__(self, limiter: BotRateLimiter) -> None:
        self._limiter = limiter
        self._participants: list[Participant] = []

    @contextmanager
    def joined(self, *, weight: int, unspent: Callable[[], int], wake: Callable[[], None]) -> Iterator[Participant]:
        member = Participant(weight=weight, uncounted=unspent, wake=wake)
        self._participants.append(member)
        try:
            yield member
        finally:
            self._participants.remove(member)
            self._wake_others(member)

    def allow(self, participant: Participant, wanted: int, now: float) -> tuple[int, float]:
        """How many of the recipients that it wants a flight may take, and when to ask again if these are not all."""
        if wanted <= 0:
            self._satisfied(participant)
            return 0, now
        unspent = sum(one.uncounted() for one in self._participants)
        room = self._limiter.available(now, Priority.DELIVERY) - unspent
        if room >= len(self._participants) * wanted * participant.weight:  # enough for all, so it is nobody's turn
            self._satisfied(participant)
            return wanted, now
        self._add_starved(participant)
        count, again_at = self._within_limits(participant, room, unspent, now)
        count = min(count, wanted, self._round_robin(participant))
        if count == wanted:
            self._satisfied(participant)
        return count, again_at

    def admitted(self, participant: Participant, count: int) -> None:
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
        """How many it may take before it is too far ahead of the others."""
        others = [one.served for one in self._participants if one.starved and one is not participant]
        if not others:
            return UNBOUNDED
        return max(
            0, int(min(others) + MAX_LEAD_MESSAGES + participant.weight - participant.served) // participant.weight
        )

    def _add_starved(self, participant: Participant) -> None:
        """Whoever wanted nothing for a while has saved up nothing."""
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
