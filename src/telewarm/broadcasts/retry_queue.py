"""Retry queue of recipients to whom nothing went, for sure. Pure: the time is an argument."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass

from telewarm.models import ChatId

MAX_WAITING = 1000  # above it nobody new is called


@dataclass(kw_only=True, slots=True)
class Attempt:
    """`first`: when it was first tried, of the monotonic clock."""

    first: float
    failures: int = 0


class RetryQueue:
    """Who waits, in the order in which they are due. What was tried before is remembered until an outcome is there."""

    def __init__(self, chat_ids: Iterable[ChatId]) -> None:
        self._due = [(-math.inf, chat_id) for chat_id in chat_ids]
        self._attempts: dict[ChatId, Attempt] = {}

    def __len__(self) -> int:
        return len(self._due)

    @property
    def is_full(self) -> bool:
        return len(self._due) >= MAX_WAITING

    @property
    def due_at(self) -> float:
        """When the first is due; infinite when nobody waits."""
        return self._due[0][0] if self._due else math.inf

    def chat_ids(self) -> list[ChatId]:
        return [chat_id for _, chat_id in self._due]

    def attempt_of(self, chat_id: ChatId, *, now: float) -> Attempt:
        return self._attempts.setdefault(chat_id, Attempt(first=now))

    def add(self, chat_id: ChatId, *, due_at: float) -> None:
        heapq.heappush(self._due, (due_at, chat_id))

    def take(self, most: int, *, now: float) -> list[ChatId]:
        """Those that are due."""
        taken: list[ChatId] = []
        while len(taken) < most and self.due_at <= now:
            taken.append(heapq.heappop(self._due)[1])
        return taken

    def forget(self, chat_id: ChatId) -> None:
        if self._attempts:
            self._attempts.pop(chat_id, None)
