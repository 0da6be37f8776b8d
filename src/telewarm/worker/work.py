"""Protocols of the work that a lane carries, and the budget of claimed jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from telewarm.errors import TelewarmError
from telewarm.models import ChatId

Item = TypeVar("Item")
Done = TypeVar("Done")


@dataclass(frozen=True, kw_only=True, slots=True)
class Job(Generic[Item]):
    """One thing to do: through any of `chats`, with `size` bytes to upload in all (0 for none)."""

    item: Item
    chats: tuple[ChatId, ...]
    size: int


class Work(Protocol[Item, Done]):
    """Background work of one bot. The lane knows no more of it than this."""

    async def claim(self, limit: int) -> Sequence[Job[Item]]:
        """Take at most `limit` due jobs in hand, best first; fewer means that no more are due."""
        ...

    async def do(self, item: Item, chat_id: ChatId) -> Done:
        """Do one. A FloodWait comes back to the lane, any other TelewarmError goes to `failed`."""
        ...

    def failed(self, item: Item, error: TelewarmError) -> Done:
        """What to write down for an item that did not work."""
        ...

    async def record(self, done: Sequence[Done]) -> None:
        """Write outcomes down for good."""
        ...

    def unstorable(self, done: Done, error: Exception) -> Done | None:
        """What to write down instead of an outcome that the database refused; None for one that is a replacement."""
        ...

    async def release(self, items: Sequence[Item]) -> None:
        """Put items back untried."""
        ...

    def end(self) -> None:
        """The lane has ended: whatever it claimed is in nobody's hand any more."""
        ...


class Runner(Protocol):
    """One bot's work as whoever gives it a place sees it."""

    @property
    def in_flight(self) -> int: ...

    @property
    def held(self) -> int:
        """What is claimed and waits for its turn."""
        ...

    def nudge(self) -> None:
        """There is new work, or a reason to look up: it was told to stop, or the place is crowded."""
        ...

    def abort(self) -> None:
        """Cut short what is in flight: it was told to stop, and takes too long."""
        ...

    async def run(self) -> float | None:
        """Once. Seconds after which to run again, None when nothing is left."""
        ...


class ClaimBudget:
    """How many claimed jobs one worker's lanes may hold in memory together. Each has its fair share of them."""

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit
        self._shares: set[BudgetShare] = set()
        self._waiters: set[Callable[[], None]] = set()

    def share(self, *, least: int) -> BudgetShare:
        """One lane's part, once it has joined: an equal one, but `least` jobs, however many lanes there are."""
        return BudgetShare(self, least=least)

    def take(self, wanted: int) -> int:
        """As many of `wanted` as are left; the taker gives them back."""
        granted = max(0, min(wanted, self._left))
        self._left -= granted
        return granted

    def give_back(self, count: int) -> None:
        self._left += count
        if count > 0:
            self._notify_waiters()

    def _notify_waiters(self) -> None:
        told, self._waiters = self._waiters, set()
        for call in told:
            call()

    def call_when_freed(self, call: Callable[[], None]) -> None:
        """Call back once when some of the budget has come back."""
        self._waiters.add(call)

    def join(self, share: BudgetShare) -> None:
        self._shares.add(share)

    def leave(self, share: BudgetShare) -> None:
        """Nothing is held for it any more: the others may have more."""
        self._shares.discard(share)
        self._notify_waiters()

    def capacity_for(self, share: BudgetShare) -> int:
        """How many jobs a share may still take. One for each lane that waits with empty hands is not for others."""
        fair = max(share.least, self._limit // max(1, len(self._shares))) - share.held
        hungry = sum(other.starved and other is not share for other in self._shares) if share.held else 0
        return max(0, min(fair, self._left - hungry))


class BudgetShare:
    """One lane's part of the budget."""

    def __init__(self, budget: ClaimBudget, *, least: int) -> None:
        self.least = least
        self.held = 0
        self.starved = False
        self._budget = budget

    @contextmanager
    def joined(self) -> Iterator[None]:
        self._budget.join(self)
        try:
            yield
        finally:
            self._budget.leave(self)

    def take(self, wanted: int) -> int:
        """As many of `wanted` as may be had now; 0 with empty hands: the next that comes back is for this lane."""
        granted = self._budget.take(min(wanted, self._budget.capacity_for(self)))
        self.held += granted
        self.starved = self.held == 0
        return granted

    def give_back(self, count: int) -> None:
        self.held -= count
        self._budget.give_back(count)

    def call_when_freed(self, call: Callable[[], None]) -> None:
        """Call back once when there may be more to take."""
        self._budget.call_when_freed(call)
