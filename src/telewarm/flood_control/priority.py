"""Priorities of what a bot sends, and who waits with which."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum


class Priority(IntEnum):
    """The lower goes first."""

    INTERACTIVE = 0
    WARMUP = 1
    DELIVERY = 2


class WaiterCounts:
    """How many of each rank wait for the bot's limit; those that wait for a chat's or a size's are not counted."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting = [0] * len(Priority)

    def of(self, priority: Priority) -> int:
        return self._waiting[priority]

    def before(self, priority: Priority) -> int:
        """How many wait of those that go before this rank."""
        return sum(self._waiting[:priority]) if priority else 0

    def join(self, priority: Priority) -> None:
        self._waiting[priority] += 1

    def leave(self, priority: Priority) -> None:
        self._waiting[priority] -= 1

    @contextmanager
    def __call__(self, rank: Priority) -> Iterator[None]:
        """Somebody of this rank waits."""
        self.join(rank)
        try:
            yield
        finally:
            self.leave(rank)
