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

    def __init__(self, traffic: BotRateLimiter) -> None:
        self._traffic = traffic
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

    def allow(self, member: Participant, wanted: int, now: float) -> tuple[int, float]:
        """How many of the recipients that it wants a flight may take, and when to ask again if these are not all."""
        if wanted <= 0:
            self._satisfied(member)
            return 0, now
        unspent = sum(one.uncounted() for one in self._participants)
        room = self._traffic.available(now, Priority.DELIVERY) - unspent
        if room >= len(self._participants) * wanted * member.weight:  # enough for all, so it is nobody's turn
            self._satisfied(member)
            return wanted, now
        self._add_starved(member)
        count, again_at = self._within_limits(member, room, unspent, now)
        count = min(count, wanted, self._round_robin(member))
        if count == wanted:
            self._satisfied(member)
        return count, again_at

    def admitted(self, member: Participant, count: int) -> None:
        member.served += count * member.weight
        if count:
            self._wake_others(member)

    def _within_limits(self, member: Participant, room: int, unspent: int, now: float) -> tuple[int, float]:
        if room >= member.weight:
            return room // member.weight, now
        line = self._traffic.waiting.of(Priority.DELIVERY) + unspent
        if self._traffic.waiting.before(Priority.DELIVERY):
            return int(line == 0), now + YIELD_SECONDS
        opens_at = self._traffic.bot_opens_at(now, rank=Priority.DELIVERY, behind=line)
        return int(opens_at <= now + LEAD_SECONDS and line < MAX_WAITING_MESSAGES), max(
            opens_at - LEAD_SECONDS, now + LEAD_SECONDS / 10
        )

    def _round_robin(self, member: Participant) -> int:
        """How many it may take before it is too far ahead of the others."""
        others = [one.served for one in self._participants if one.starved and one is not member]
        if not others:
            return UNBOUNDED
        return max(0, int(min(others) + MAX_LEAD_MESSAGES + member.weight - member.served) // member.weight)

    def _add_starved(self, member: Participant) -> None:
        """Whoever wanted nothing for a while has saved up nothing."""
        if not member.starved:
            member.starved = True
            others = [one.served for one in self._participants if one.starved and one is not member]
            member.served = max(member.served, min(others, default=0.0))

    def _satisfied(self, member: Participant) -> None:
        if member.starved:
            member.starved = False
            self._wake_others(member)

    def _wake_others(self, member: Participant) -> None:
        for one in self._participants:
            if one.starved and one is not member:
                one.wake()
