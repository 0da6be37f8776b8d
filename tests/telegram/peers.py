"""Two processes that speak for one bot, in virtual time: one with a backlog, one whose people wait for an answer."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from telewarm.flood_control.limiter import BotRateLimiter, Permit
from telewarm.flood_control.limits import BotLimits
from telewarm.flood_control.priority import Priority
from telewarm.models import ChatId
from telewarm.sandbox.config import Floods
from telewarm.sandbox.config import Limit as ServerLimit
from telewarm.sandbox.floods import Gate
from tests.telegram.simulation import said

TELEGRAM = Floods(bot=ServerLimit(count=30, seconds=1), private=ServerLimit(count=3, seconds=3))
HEARD = 0.01  # seconds that a notification takes
LOOK = 0.005  # seconds after which a process looks again at what waits


@dataclass(kw_only=True, slots=True)
class Process:
    """`asked`: when each message that waits was asked for; None: there is always one more. `waits`: when each that
    passed was asked for, and the seconds until it did.
    """

    limiter: BotRateLimiter
    rank: Priority
    asked: list[float] | None = None
    reported: int = 0
    waits: list[tuple[float, float]] = field(default_factory=list)
    refused: int = 0

    def next_asked(self, now: float) -> float:
        return now if self.asked is None else self.asked[0] if self.asked else math.inf


@dataclass(kw_only=True)
class Peers:
    """`per_second`: what people ask for; the other process has work without end. `every`: seconds between tellings."""

    per_second: float
    seed: int = 0
    every: float = 0.2
    latency: float = 0.03
    jitter: float = 0.02
    passed: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)  # noqa: S311 - repeatable on purpose
        self._gate = Gate(TELEGRAM)
        self._chats, self._order = itertools.count(1), itertools.count()
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self.backlog = Process(limiter=BotRateLimiter(BotLimits(), now=0), rank=Priority.DELIVERY)
        self.people = Process(limiter=BotRateLimiter(BotLimits(), now=0), rank=Priority.INTERACTIVE, asked=[])
        self._pairs = ((self.backlog, self.people), (self.people, self.backlog))

    def run(self, seconds: float) -> None:
        assert self.people.asked is not None
        at = 0.0
        while (at := at + self._dice.expovariate(self.per_second)) < seconds:
            self.people.asked.append(at)
        self._at(0.0, self._look)
        self._at(self.every / 4, self._tell_now_and_then)
        while self._events[0][0] < seconds:
            now, _, event = heapq.heappop(self._events)
            event(now)

    @property
    def refusals(self) -> float:
        """The share of the calls that were answered 429."""
        refused = self.backlog.refused + self.people.refused
        return refused / (refused + len(self.passed))

    def _at(self, when: float, event: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), event))

    def _look(self, now: float) -> None:
        for process, other in self._pairs:
            while (asked := process.next_asked(now)) <= now:
                chat_id = ChatId(next(self._chats))
                if process.limiter.next_send_at(chat_id, now=now, priority=process.rank) > now:
                    break
                if process.asked is not None:
                    process.asked.pop(0)
                permit = process.limiter.acquire(chat_id, now=now, priority=process.rank)
                if permit.hold:
                    self._tell(now)
                effect = now + permit.hold + self.latency + self._dice.random() * self.jitter
                self._at(effect, partial(self._reaches, process, other, permit, asked))
        self._at(now + LOOK, self._look)

    def _reaches(self, process: Process, other: Process, permit: Permit, asked: float, now: float) -> None:
        """The message takes effect, or is refused: then it is asked for again."""
        wait = said(self._gate.charge, permit, now)
        closed = process.limiter.confirm(permit, now=now, retry_after=wait)
        if wait is None:
            self.passed.append(now)
            process.waits.append((asked, now - asked))
            return
        process.refused += 1
        if process.asked is not None:
            process.asked.insert(0, asked)
        if closed is not None and closed.chat_id is None:
            self._at(now + HEARD, lambda at: other.limiter.pause_bot(at + closed.seconds))

    def _tell_now_and_then(self, now: float) -> None:
        self._tell(now)
        self._at(now + self.every, self._tell_now_and_then)

    def _tell(self, now: float) -> None:
        for process, other in self._pairs:
            if (count := process.limiter.sent - process.reported) > 0:
                process.reported = process.limiter.sent
                self._at(now + HEARD, lambda at, count=count, to=other: to.limiter.add_remote(count, now=at))  # type: ignore[misc]
