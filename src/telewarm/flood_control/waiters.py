"""Wait queues of a bot's limits, first in, first out: only the head of a queue sleeps until it opens."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from telewarm.flood_control.priority import Priority
from telewarm.models import ChatId


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class QueueTicket:
    """In a line, behind so many when it was taken. `first`: now nobody is before it."""

    behind: int
    first: asyncio.Event


class FifoQueue:
    """Whoever leaves, wherever it stands, costs the same; the one that is then first is told."""

    __slots__ = ("_places",)

    def __init__(self) -> None:
        self._places: OrderedDict[int, QueueTicket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._places)

    @contextmanager
    def joined(self) -> Iterator[QueueTicket]:
        place = QueueTicket(behind=len(self._places), first=asyncio.Event())
        self._places[id(place)] = place
        if place.behind == 0:
            place.first.set()
        try:
            yield place
        finally:
            del self._places[id(place)]
            if self._places:
                next(iter(self._places.values())).first.set()


class WaitQueues:
    """A line of each rank for the bot itself, and one for each chat that somebody waits for."""

    __slots__ = ("_chats", "bot")

    def __init__(self) -> None:
        self.bot = tuple(FifoQueue() for _ in Priority)
        self._chats: dict[tuple[ChatId, Priority], FifoQueue] = {}

    def busy(self, chat_id: ChatId, rank: Priority) -> bool:
        """Whether somebody of the rank waits already, for the bot or for this chat."""
        return bool(self.bot[rank]) or bool(self._chats and (chat_id, rank) in self._chats)

    @contextmanager
    def chat(self, chat_id: ChatId, rank: Priority) -> Iterator[QueueTicket]:
        line = self._chats.setdefault((chat_id, rank), FifoQueue())
        try:
            with line.joined() as place:
                yield place
        finally:
            if not line:
                del self._chats[chat_id, rank]
