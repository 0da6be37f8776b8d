"""Recipients of a flight that did not get it, for sure, and are tried again. Pure: the time is an argument."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass

from telewarm.model import ChatId

MOST = 1000  # above it nobody new is called


@dataclass(kw_only=True, slots=True)
class Tried:
    """`first`: when it was first tried, of the monotonic clock."""

    first: float
    failures: int = 0


class Later:
    """Who waits, in the order in which they are due. What was tried before is remembered until an outcome is there."""

    def __init__(self, chat_ids: Iterable[ChatId]) -> None:
        self._due = [(-math.inf, chat_id) for chat_id in chat_ids]
        self._tried: dict[ChatId, Tried] = {}

    def __len__(self) -> int:
        return len(self._due)

    @property
    def full(self) -> bool:
        return len(self._due) >= MOST

    @property
    def due_at(self) -> float:
        """When the first is due; infinite when nobody waits."""
        return self._due[0][0] if self._due else math.inf

    def chat_ids(self) -> list[ChatId]:
        return [chat_id for _, chat_id in self._due]

    def tried(self, chat_id: ChatId, *, now: float) -> Tried:
        return self._tried.setdefault(chat_id, Tried(first=now))

    def add(self, chat_id: ChatId, *, due_at: float) -> None:
        heapq.heappush(self._due, (due_at, chat_id))

    def take(self, most: int, *, now: float) -> list[ChatId]:
        """Those that are due."""
        taken: list[ChatId] = []
        while len(taken) < most and self.due_at <= now:
            taken.append(heapq.heappop(self._due)[1])
        return taken

    def settled(self, chat_id: ChatId) -> None:
        if self._tried:
            self._tried.pop(chat_id, None)
