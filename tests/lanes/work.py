"""A small real piece of work for lanes, whose jobs end when the test says so."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from telewarm import clock
from telewarm.errors import FloodWait, TelewarmError
from telewarm.flood_control.limiter import BotRateLimiter, FloodPause
from telewarm.flood_control.limits import BotLimits
from telewarm.models import ChatId
from telewarm.worker.lane import Lane, LaneLimits
from telewarm.worker.work import ClaimBudget, Job

CHAT = ChatId(-1)
OTHER = ChatId(-2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    item: int
    error: TelewarmError | None = None


@dataclass(kw_only=True, slots=True)
class Numbers:
    """Jobs 0 … due-1. `gates`: what a job waits for; the others end at once. `trouble`: what a job raises."""

    due: int
    chats: tuple[ChatId, ...] = (CHAT,)
    gates: dict[int, asyncio.Event] = field(default_factory=dict)
    trouble: dict[int, list[Exception]] = field(default_factory=dict)
    record_gate: asyncio.Event | None = None
    unstorable_items: frozenset[int] = frozenset()
    waiting: list[int] = field(default_factory=list)
    running: set[int] = field(default_factory=set)
    most_running: int = 0
    tried: Counter[int] = field(default_factory=Counter)
    chats_used: list[ChatId] = field(default_factory=list)
    batches: list[list[Outcome]] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.waiting = list(range(self.due))

    @property
    def recorded(self) -> list[int]:
        return [outcome.item for batch in self.batches for outcome in batch]

    async def claim(self, limit: int) -> Sequence[Job[int]]:
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return [Job(item=item, chats=self.chats, size=0) for item in taken]

    async def do(self, item: int, chat_id: ChatId) -> Outcome:
        self.tried[item] += 1
        self.chats_used.append(chat_id)
        self.running.add(item)
        self.most_running = max(self.most_running, len(self.running))
        self.changed.set()
        try:
            if item in self.gates:
                await self.gates[item].wait()
            if self.trouble.get(item):
                raise self.trouble[item].pop(0)
            return Outcome(item=item)
        finally:
            self.running.discard(item)

    def failed(self, item: int, error: TelewarmError) -> Outcome:
        return Outcome(item=item, error=error)

    async def record(self, done: Sequence[Outcome]) -> None:
        if self.record_gate is not None:
            await self.record_gate.wait()
        if any(one.item in self.unstorable_items and one.error is None for one in done):
            raise ValueError("a value that cannot be stored")
        self.batches.append(list(done))
        self.changed.set()

    def unstorable(self, done: Outcome, error: Exception) -> Outcome | None:
        return Outcome(item=done.item, error=TelewarmError(str(error))) if done.error is None else None

    async def release(self, items: Sequence[int]) -> None:
        self.released.extend(items)

    def end(self) -> None:
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()


@dataclass(kw_only=True, slots=True)
class Bench:
    """What a lane needs besides its work."""

    linger: float = 0.01
    budget: ClaimBudget = field(default_factory=lambda: ClaimBudget(1000))
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    limiter: BotRateLimiter = field(default_factory=lambda: BotRateLimiter(BotLimits.none(), now=clock.monotonic()))
    on_pause: Callable[[FloodPause], None] = lambda _: None

    def lane(
        self, work: Numbers, *, concurrency: int = 3, after: float = 10, crowded: Callable[[], bool] = lambda: False
    ) -> Lane[int, Outcome]:
        limits = LaneLimits(concurrency=concurrency, slice=after, linger=self.linger)
        return Lane(
            work,
            self.limiter,
            limits=limits,
            budget=self.budget,
            stop=self.stop,
            has_waiting_lanes=crowded,
            on_pause=self.on_pause,
        )


def flood_wait(seconds: float) -> FloodWait:
    return FloodWait(method="sendPhoto", status=429, description="Too Many Requests", retry_after=seconds)


def everything_came_back(budget: ClaimBudget, most: int = 1000) -> bool:
    return budget.take(10**9) == most
