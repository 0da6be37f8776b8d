"""Priorities of a bot's messages, and the number of waiters of each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum


class Priority(IntEnum):
    """Priority of a message; lower values go first."""

    INTERACTIVE = 0
    WARMUP = 1
    DELIVERY = 2


class WaiterCounts:
    """Number of callers of each priority that wait for the bot's limit, not for that of a chat or a size."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting = [0] * len(Priority)

    def of(self, priority: Priority) -> int:
        """Return the number of waiters of this priority."""
        return self._waiting[priority]

    def before(self, priority: Priority) -> int:
        """Return the number of waiters that go before this priority."""
        return sum(self._waiting[:priority]) if priority else 0

    def join(self, priority: Priority) -> None:
        """Count a waiter."""
        self._waiting[priority] += 1

    def leave(self, priority: Priority) -> None:
        """Remove a waiter."""
        self._waiting[priority] -= 1

    @contextmanager
    def __call__(self, priority: Priority) -> Iterator[None]:
        """Count a waiter while the block runs."""
        self.join(priority)
        try:
            yield
        finally:
            self.leave(priority)
