"""A bot with a backlog against a server that counts literally, in virtual time: no clock, no network, no sleep."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from telewarm.flood_control.limiter import BotRateLimiter, Permit
from telewarm.flood_control.limits import BotLimits
from telewarm.models import ChatId
from telewarm.sandbox.config import Floods
from telewarm.sandbox.config import Limit as ServerLimit
from telewarm.sandbox.errors import ApiError, too_many_requests
from telewarm.sandbox.floods import Gate
from telewarm.worker.next_job import pick_next_job
from telewarm.worker.work import Job

BOT = 1
GROUPS = tuple(ChatId(-1001 - number) for number in range(64))
PEOPLE = tuple(ChatId(11 + number) for number in range(64))


Charge = Callable[[int, int, float, int], None]  # of a bot, to a chat, at a time, so many; raises the 429


@dataclass(kw_only=True, slots=True)
class Outcome:
    """When messages passed and when calls were refused, in virtual seconds."""

    passed: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    learned: dict[str, float] = field(default_factory=dict)

    def share_of(self, ceiling: float, *, since: float, until: float) -> float:
        """Messages of a time beside a ceiling in messages a second."""
        return sum(since <= at < until for at in self.passed) / (ceiling * (until - since))

    def refusals(self, *, since: float = 0.0) -> float:
        """The share of the calls that were answered 429."""
        refused, passed = (sum(at >= since for at in times) for times in (self.refused, self.passed))
        return refused / max(1, refused + passed)


def scaled(floods: Floods, by: float) -> Floods:
    """The same windows with so many times the messages."""

    def one(limit: ServerLimit | None) -> ServerLimit | None:
        return limit and replace(limit, count=max(1, int(limit.count * by)))

    return replace(
        floods,
        bot=one(floods.bot),
        private=one(floods.private),
        group=one(floods.group),
        group_second=one(floods.group_second),
    )


@dataclass(kw_only=True, slots=True)
class Simulation:
    """`latency`: seconds from sending to effect, and again as much as `jitter` more; the answer takes `back`.

    `messages`: how many there are; the run ends when all have passed. `charge`: another server than the sandbox's.
    """

    chats: Sequence[ChatId]
    floods: Floods
    seed: int = 0
    messages: float = math.inf
    charge: Charge | None = None
    in_flight: int = 5
    latency: float = 0.08
    jitter: float = 0.02
    back: float = 0.005
    sizes: Sequence[int] = (50_000,)
    limits: BotLimits = field(default_factory=BotLimits)
    learned: dict[str, float] = field(default_factory=dict)
    unknown_objects: dict[float, float] = field(
        default_factory=dict
    )  # at or after which a call is refused for no reason: seconds

    def run(self, seconds: float) -> Outcome:
        dice = random.Random(self.seed)  # noqa: S311 - repeatable on purpose
        order, outcome = itertools.count(), Outcome()
        limiter = BotRateLimiter(self.limits, now=0, learned=self.learned)
        charge = self.charge or Gate(self.floods).charge
        jobs = [Job(item=0, chats=tuple(self.chats), size=size) for size in self.sizes]
        effects: list[tuple[float, int, Permit]] = []
        answers: list[tuple[float, int, Permit, float | None]] = []
        unknown_objects, running, now = dict(self.unknown_objects), 0, 0.0
        while now < seconds and len(outcome.passed) < self.messages:
            opens = float("inf")
            while running < self.in_flight and len(outcome.passed) + running < self.messages:
                turn = pick_next_job(jobs, limiter, now=now)
                opens = turn.opens_at
                if opens > now:
                    break
                permit = limiter.acquire(turn.chat_id, size=jobs[turn.index].size, now=now)
                effect = now + self.latency + dice.random() * self.jitter
                heapq.heappush(effects, (effect, next(order), permit))
                running += 1
            now = min([opens, *(queue[0][0] for queue in (effects, answers) if queue)])
            while effects and effects[0][0] <= now:
                at, number, permit = heapq.heappop(effects)
                wait = next((unknown_objects.pop(time) for time in list(unknown_objects) if at >= time), None) or said(
                    charge, permit, at
                )
                (outcome.passed if wait is None else outcome.refused).append(at)
                heapq.heappush(answers, (at + self.back, number, permit, wait))
            while answers and answers[0][0] <= now:
                at, _, permit, wait = heapq.heappop(answers)
                limiter.confirm(permit, now=at, retry_after=wait)
                running -= 1
        outcome.learned = limiter.learned
        return outcome


def said(charge: Charge, permit: Permit, now: float) -> float | None:
    try:
        charge(BOT, permit.chat_id, now, permit.count)
    except ApiError as error:
        return float(str(error.parameters["retry_after"]))
    return None


class Buckets:
    """A server that gives each chat a bucket for its second and counts its minute: the other reading of the rule."""

    def __init__(self, *, rate: float, burst: int, minute: int = 20) -> None:
        self._rate, self._burst = rate, burst
        self._tokens: dict[int, tuple[float, float]] = {}
        self._minutes = Gate(Floods(group=ServerLimit(count=minute, seconds=60)))

    def charge(self, bot: int, chat: int, now: float, count: int) -> None:
        tokens, since = self._tokens.get(chat, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        self._tokens[chat] = (tokens, now)
        if tokens < 1 - 1e-9:
            raise too_many_requests(max(1, math.ceil((1 - tokens) / self._rate - 1e-9)))
        self._minutes.charge(bot, chat, now, count)
        self._tokens[chat] = (tokens - count, now)
