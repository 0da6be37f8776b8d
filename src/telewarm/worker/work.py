"""Protocols of a lane's work, and the budget of claimed jobs."""

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
    """One job: possible through any of `chats`, with `size` bytes to upload in all (0 for none)."""

    item: Item
    chats: tuple[ChatId, ...]
    size: int


class Work(Protocol[Item, Done]):
    """Background work of one bot, as its lane sees it."""

    async def claim(self, limit: int) -> Sequence[Job[Item]]:
        """Claim at most `limit` due jobs, best first. Fewer mean that no more are due."""
        ...

    async def do(self, item: Item, chat_id: ChatId) -> Done:
        """Do one job. The lane handles a FloodWait itself and gives any other TelewarmError to `failed`."""
        ...

    def failed(self, item: Item, error: TelewarmError) -> Done:
        """Return the outcome of a failed item."""
        ...

    async def record(self, done: Sequence[Done]) -> None:
        """Write outcomes to the database."""
        ...

    def unstorable(self, done: Done, error: Exception) -> Done | None:
        """Return a replacement for an outcome that the database refused; None for one that is a replacement already."""
        ...

    async def release(self, items: Sequence[Item]) -> None:
        """Return items untried."""
        ...

    def end(self) -> None:
        """Forget all claims: the lane has ended."""
        ...


class Runner(Protocol):
    """One bot's work, as the worker that runs it sees it."""

    @property
    def in_flight(self) -> int:
        """Number of jobs in flight."""
        ...

    @property
    def held(self) -> int:
        """Number of claimed jobs that are not started."""
        ...

    def nudge(self) -> None:
        """Wake the runner: there is new work, `stop` is set, or other lanes wait."""
        ...

    def abort(self) -> None:
        """Cancel what is in flight, after a `stop` that takes too long."""
        ...

    async def run(self) -> float | None:
        """Run once. Returns the seconds after which to run again, None when nothing is left."""
        ...


class ClaimBudget:
    """Number of claimed jobs that one worker's lanes may hold in memory together, shared fairly."""

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit
        self._shares: set[BudgetShare] = set()
        self._waiters: set[Callable[[], None]] = set()

    def share(self, *, least: int) -> BudgetShare:
        """Return a lane's share: an equal part, but at least `least` jobs, whatever the number of lanes."""
        return BudgetShare(self, least=least)

    def take(self, wanted: int) -> int:
        """Take up to `wanted` jobs of the budget; the caller returns them with `give_back`."""
        granted = max(0, min(wanted, self._left))
        self._left -= granted
        return granted

    def give_back(self, count: int) -> None:
        """Return jobs to the budget."""
        self._left += count
        if count > 0:
            self._notify_waiters()

    def _notify_waiters(self) -> None:
        waiters, self._waiters = self._waiters, set()
        for call in waiters:
            call()

    def call_when_freed(self, call: Callable[[], None]) -> None:
        """Call back once when budget was returned."""
        self._waiters.add(call)

    def join(self, share: BudgetShare) -> None:
        """Add a lane to those that share the budget."""
        self._shares.add(share)

    def leave(self, share: BudgetShare) -> None:
        """Remove a lane that holds nothing any more; the others may hold more."""
        self._shares.discard(share)
        self._notify_waiters()

    def capacity_for(self, share: BudgetShare) -> int:
        """Return how many jobs a share may still take. One job is reserved for each lane that waits with none."""
        fair = max(share.least, self._limit // max(1, len(self._shares))) - share.held
        waiting = sum(other.starved and other is not share for other in self._shares) if share.held else 0
        return max(0, min(fair, self._left - waiting))


class BudgetShare:
    """One lane's share of the budget."""

    def __init__(self, budget: ClaimBudget, *, least: int) -> None:
        self.least = least
        self.held = 0
        self.starved = False
        self._budget = budget

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Take part in the sharing while the lane runs."""
        self._budget.join(self)
        try:
            yield
        finally:
            self._budget.leave(self)

    def take(self, wanted: int) -> int:
        """Take up to `wanted` jobs that are free now. With 0 and none held, the next one returned is for this lane."""
        granted = self._budget.take(min(wanted, self._budget.capacity_for(self)))
        self.held += granted
        self.starved = self.held == 0
        return granted

    def give_back(self, count: int) -> None:
        """Return jobs to the budget."""
        self.held -= count
        self._budget.give_back(count)

    def call_when_freed(self, call: Callable[[], None]) -> None:
        """Call back once when there may be more to take."""
        self._budget.call_when_freed(call)
