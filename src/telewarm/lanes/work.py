"""What a lane asks of the work that it carries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from telewarm.errors import TelewarmError
from telewarm.model import ChatId

Item = TypeVar("Item")
Done = TypeVar("Done")


@dataclass(frozen=True, kw_only=True, slots=True)
class Job(Generic[Item]):
    """One thing to do: through any of `chats`, with `size` bytes to upload (0 for none)."""

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

    async def release(self, items: Sequence[Item]) -> None:
        """Put items back untried."""
        ...


class Budget:
    """How many claimed jobs one worker's lanes may hold in memory together."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._told: set[Callable[[], None]] = set()

    def take(self, wanted: int) -> int:
        """As many of `wanted` as are left; the taker gives them back."""
        granted = max(0, min(wanted, self._left))
        self._left -= granted
        return granted

    def give(self, count: int) -> None:
        self._left += count
        if count > 0:
            told, self._told = self._told, set()
            for call in told:
                call()

    def tell(self, call: Callable[[], None]) -> None:
        """Call back once when some of the budget has come back."""
        self._told.add(call)
