"""A bot with a backlog against a server that counts literally, in virtual time: no clock, no network, no sleep."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from telewarm.lanes import Job
from telewarm.lanes.choosing import choose
from telewarm.model import ChatId
from telewarm.sandbox.config import Floods
from telewarm.sandbox.config import Limit as ServerLimit
from telewarm.sandbox.errors import ApiError
from telewarm.sandbox.floods import Gate
from telewarm.telegram import Limits, Passage, Traffic

BOT = 1
GROUPS = tuple(ChatId(-1001 - number) for number in range(64))
PEOPLE = tuple(ChatId(11 + number) for number in range(64))


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

    return replace(floods, bot=one(floods.bot), private=one(floods.private), group=one(floods.group))


@dataclass(kw_only=True, slots=True)
class Simulation:
    """`latency`: seconds from sending to effect, and again as much as `jitter` more; the answer takes `back`."""

    chats: Sequence[ChatId]
    floods: Floods
    seed: int = 0
    in_flight: int = 5
    latency: float = 0.08
    jitter: float = 0.02
    back: float = 0.005
    sizes: Sequence[int] = (50_000,)
    limits: Limits = field(default_factory=Limits)
    learned: dict[str, float] = field(default_factory=dict)
    strays: dict[float, float] = field(
        default_factory=dict
    )  # at or after which a call is refused for no reason: seconds

    def run(self, seconds: float) -> Outcome:
        dice = random.Random(self.seed)  # noqa: S311 - repeatable on purpose
        order, outcome = itertools.count(), Outcome()
        traffic, gate = Traffic(self.limits, now=0, learned=self.learned), Gate(self.floods)
        jobs = [Job(item=0, chats=tuple(self.chats), size=size) for size in self.sizes]
        effects: list[tuple[float, int, Passage]] = []
        answers: list[tuple[float, int, Passage, float | None]] = []
        strays, running, now = dict(self.strays), 0, 0.0
        while now < seconds:
            opens = float("inf")
            while running < self.in_flight:
                turn = choose(jobs, traffic, now=now)
                opens = turn.opens_at
                if opens > now:
                    break
                passage = traffic.spend(turn.chat_id, size=jobs[turn.place].size, now=now)
                effect = now + self.latency + dice.random() * self.jitter
                heapq.heappush(effects, (effect, next(order), passage))
                running += 1
            now = min([opens, *(queue[0][0] for queue in (effects, answers) if queue)])
            while effects and effects[0][0] <= now:
                at, number, passage = heapq.heappop(effects)
                wait = next((strays.pop(time) for time in list(strays) if at >= time), None) or said(gate, passage, at)
                (outcome.passed if wait is None else outcome.refused).append(at)
                heapq.heappush(answers, (at + self.back, number, passage, wait))
            while answers and answers[0][0] <= now:
                at, _, passage, wait = heapq.heappop(answers)
                traffic.settle(passage, now=at, retry_after=wait)
                running -= 1
        outcome.learned = traffic.learned
        return outcome


def said(gate: Gate, passage: Passage, now: float) -> float | None:
    try:
        gate.charge(BOT, passage.chat_id, now, passage.count)
    except ApiError as error:
        return float(str(error.parameters["retry_after"]))
    return None
