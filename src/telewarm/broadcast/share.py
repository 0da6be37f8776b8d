"""How several flights of one bot share its limits. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from telewarm.telegram import Rank, Traffic

LEAD = 0.15  # seconds before its turn at which a recipient is written down: then its call is ready when the turn comes
LINE = 16  # messages that wait for their turn like this, at most
ANY = 1_000_000  # recipients; no fear of others
HEAD_START = 4  # messages that one flight may be ahead of the others that want to send
YIELD = 0.05  # seconds before looking again while sends or warm-ups wait for the bot


@dataclass(kw_only=True, slots=True, eq=False)
class Member:
    """A flight. `weight`: messages a recipient. `unspent`: messages of those it has taken that no limit knows of yet.

    `served`: messages taken, as far as that matters for whose turn it is. `hungry`: it wants more than it may take.
    """

    weight: int
    unspent: Callable[[], int]
    wake: Callable[[], None]
    served: float = 0.0
    hungry: bool = False


class Shares:
    """Takes no more than the limits let go in a moment: who is taken and not sent is unknown after a crash."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._members: list[Member] = []

    @contextmanager
    def joined(self, *, weight: int, unspent: Callable[[], int], wake: Callable[[], None]) -> Iterator[Member]:
        member = Member(weight=weight, unspent=unspent, wake=wake)
        self._members.append(member)
        try:
            yield member
        finally:
            self._members.remove(member)
            self._wake_others(member)

    def allow(self, member: Member, wanted: int, now: float) -> tuple[int, float]:
        """How many of the recipients that it wants a flight may take, and when to ask again if these are not all."""
        if wanted <= 0:
            self._content(member)
            return 0, now
        unspent = sum(one.unspent() for one in self._members)
        room = self._traffic.room(now, Rank.DELIVERY) - unspent
        if room >= len(self._members) * wanted * member.weight:  # enough for all, so it is nobody's turn
            self._content(member)
            return wanted, now
        self._join_the_hungry(member)
        count, again_at = self._within_limits(member, room, unspent, now)
        count = min(count, wanted, self._in_turn(member))
        if count == wanted:
            self._content(member)
        return count, again_at

    def took(self, member: Member, count: int) -> None:
        member.served += count * member.weight
        if count:
            self._wake_others(member)

    def _within_limits(self, member: Member, room: int, unspent: int, now: float) -> tuple[int, float]:
        if room >= member.weight:
            return room // member.weight, now
        line = self._traffic.waiting.of(Rank.DELIVERY) + unspent
        if self._traffic.waiting.before(Rank.DELIVERY):
            return int(line == 0), now + YIELD
        opens_at = self._traffic.bot_opens_at(now, rank=Rank.DELIVERY, behind=line)
        return int(opens_at <= now + LEAD and line < LINE), max(opens_at - LEAD, now + LEAD / 10)

    def _in_turn(self, member: Member) -> int:
        """How many it may take before it is too far ahead of the others."""
        others = [one.served for one in self._members if one.hungry and one is not member]
        if not others:
            return ANY
        return max(0, int(min(others) + HEAD_START + member.weight - member.served) // member.weight)

    def _join_the_hungry(self, member: Member) -> None:
        """Whoever wanted nothing for a while has saved up nothing."""
        if not member.hungry:
            member.hungry = True
            others = [one.served for one in self._members if one.hungry and one is not member]
            member.served = max(member.served, min(others, default=0.0))

    def _content(self, member: Member) -> None:
        if member.hungry:
            member.hungry = False
            self._wake_others(member)

    def _wake_others(self, member: Member) -> None:
        for one in self._members:
            if one.hungry and one is not member:
                one.wake()
