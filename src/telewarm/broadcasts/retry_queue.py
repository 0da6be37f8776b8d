"""Retry queue of recipients to whom surely nothing was sent. Pure: the time is an argument."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass

from telewarm.models import ChatId

MAX_WAITING = 1000  # recipients; when it is full, no new ones are called


@dataclass(kw_only=True, slots=True)
class Attempt:
    """Attempts of one recipient. `first`: time of the first attempt, on the monotonic clock."""

    first: float
    failures: int = 0


class RetryQueue:
    """Recipients by due time. Attempts are remembered until the recipient has an outcome."""

    def __init__(self, chat_ids: Iterable[ChatId]) -> None:
        self._due = [(-math.inf, chat_id) for chat_id in chat_ids]
        self._attempts: dict[ChatId, Attempt] = {}

    def __len__(self) -> int:
        return len(self._due)

    @property
    def is_full(self) -> bool:
        """Whether new recipients have to wait."""
        return len(self._due) >= MAX_WAITING

    @property
    def due_at(self) -> float:
        """Time at which the first is due; infinite for an empty queue."""
        return self._due[0][0] if self._due else math.inf

    def chat_ids(self) -> list[ChatId]:
        """Return all queued recipients."""
        return [chat_id for _, chat_id in self._due]

    def attempt_of(self, chat_id: ChatId, *, now: float) -> Attempt:
        """Return the attempts of a recipient, starting now for a new one."""
        return self._attempts.setdefault(chat_id, Attempt(first=now))

    def add(self, chat_id: ChatId, *, due_at: float) -> None:
        """Add a recipient."""
        heapq.heappush(self._due, (due_at, chat_id))

    def take(self, most: int, *, now: float) -> list[ChatId]:
        """Remove and return due recipients, at most `most`."""
        taken: list[ChatId] = []
        while len(taken) < most and self.due_at <= now:
            taken.append(heapq.heappop(self._due)[1])
        return taken

    def forget(self, chat_id: ChatId) -> None:
        """Forget the attempts of a recipient with an outcome."""
        if self._attempts:
            self._attempts.pop(chat_id, None)
