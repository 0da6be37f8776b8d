"""Wait queues of a bot's limits, first in, first out: only the head of a queue sleeps until the limit opens."""

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
    """Position in a queue. `at_head`: set when nobody is before it."""

    position: int
    at_head: asyncio.Event


class FifoQueue:
    """FIFO queue in which leaving from any position costs the same; the new head is notified."""

    __slots__ = ("_tickets",)

    def __init__(self) -> None:
        self._tickets: OrderedDict[int, QueueTicket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tickets)

    @contextmanager
    def joined(self) -> Iterator[QueueTicket]:
        """Wait in the queue while the block runs."""
        place = QueueTicket(position=len(self._tickets), at_head=asyncio.Event())
        self._tickets[id(place)] = place
        if place.position == 0:
            place.at_head.set()
        try:
            yield place
        finally:
            del self._tickets[id(place)]
            if self._tickets:
                next(iter(self._tickets.values())).at_head.set()


class WaitQueues:
    """One queue for each priority of the bot's limit, and one for each chat with waiters."""

    __slots__ = ("_chats", "bot")

    def __init__(self) -> None:
        self.bot = tuple(FifoQueue() for _ in Priority)
        self._chats: dict[tuple[ChatId, Priority], FifoQueue] = {}

    def busy(self, chat_id: ChatId, priority: Priority) -> bool:
        """Return whether a caller of this priority waits already, for the bot or for this chat."""
        return bool(self.bot[priority]) or bool(self._chats and (chat_id, priority) in self._chats)

    @contextmanager
    def chat(self, chat_id: ChatId, priority: Priority) -> Iterator[QueueTicket]:
        """Wait in the queue of a chat while the block runs."""
        line = self._chats.setdefault((chat_id, priority), FifoQueue())
        try:
            with line.joined() as place:
                yield place
        finally:
            if not line:
                del self._chats[chat_id, priority]
