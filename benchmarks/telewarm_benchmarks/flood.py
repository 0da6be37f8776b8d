"""Flood control: how much of what Telegram allows is used, and how often is a call answered 429?

Against the limits that the settings assume, and against half and double of them, which have to be learned; and at the
start, when chats have had nothing yet.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from telewarm import clock
from telewarm.demo.sandbox import SandboxProcess
from telewarm.errors import TelewarmError
from telewarm.models import Bot, MediaState
from telewarm.runtime import Telewarm
from telewarm.sandbox import Floods
from telewarm.sandbox.config import Limit
from telewarm_benchmarks import stage
from telewarm_benchmarks.figures import Figure
from telewarm_benchmarks.fresh_chats import measure_start
from telewarm_benchmarks.stage import Report

PHOTO_BYTES = 21_000
LATENCY_MS = 80.0
SPARE = 20  # photos more than can go
TELEGRAM = Floods.telegram()
NAMES = {1.0: "real limits", 0.5: "half the limits", 2.0: "double the limits"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """What the sandbox has seen of one bot."""

    messages: int
    refused: int

    def since(self, before: Count) -> Count:
        return Count(messages=self.messages - before.messages, refused=self.refused - before.refused)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """A sandbox with `times` the limits, a Telewarm on it, and bots by how many warm-up chats each has."""

    times: float
    sandbox: SandboxProcess
    app: Telewarm
    bots: Mapping[int, Bot]

    def ceiling(self, chats: int) -> float:
        """Messages a second."""
        return self.times * min(per_second(TELEGRAM.bot), chats * per_second(TELEGRAM.group))

    async def counts(self) -> dict[int, Count]:
        seen: Mapping[str, Any] = (await self.sandbox.stats())["bots"]
        return {
            chats: Count(messages=of["messages"], refused=of["floods"])
            for chats, bot in self.bots.items()
            for of in [seen[str(bot.telegram_id)]]
        }


async def measure(
    *,
    minutes: float = 6,
    learning: float = 60,
    chats: Sequence[int] = (1, 4, 16),
    times: Sequence[float] = tuple(NAMES),
    fresh: int = 320,
    report: Report,
) -> list[Figure]:
    """A bot for each number of warm-up `chats`, with more small photos due than can go, on sandboxes with so many
    `times` the limits; a call takes 80 ms. The figures of limits that are not the settings' begin after `learning`
    seconds, the others with the run. Before them `fresh` photos go to chats that have had nothing; 0: none do."""
    figures = await measure_start(fresh, report=report) if fresh else []
    async with AsyncExitStack() as stack:
        scenes = []
        for number, one in enumerate(times):
            report(f"filling the libraries: {NAMES[one]}")
            scenes.append(await stack.enter_async_context(_scene(one, chats, number, minutes)))
        start = [await scene.counts() for scene in scenes]
        for scene in scenes:
            await stack.enter_async_context(scene.app.worker.running())
            await stage.ask_for_all(scene.app, *scene.bots.values())
        await _pass(learning, report, of=60 * minutes)
        learned = [await scene.counts() for scene in scenes]
        await _pass(60 * minutes - learning, report, of=60 * minutes, before=learning)
        end = [await scene.counts() for scene in scenes]
        for scene in scenes:
            await _check_all_had_work(scene)
    for scene, first, middle, last in zip(scenes, start, learned, end, strict=True):
        known = scene.times == 1
        begin, seconds = (first, 60 * minutes) if known else (middle, 60 * minutes - learning)
        for number in chats:
            figures += _figures(scene, number, last[number].since(begin[number]), seconds)
    return figures


@asynccontextmanager
async def _scene(times: float, chats: Sequence[int], number: int, minutes: float) -> AsyncIterator[Scene]:
    floods = replace(TELEGRAM, bot=scaled(TELEGRAM.bot, times), private=None, group=scaled(TELEGRAM.group, times))
    async with (
        SandboxProcess.running("--latency-ms", str(LATENCY_MS)) as sandbox,
        stage.open_telewarm(sandbox.url, worker=False, floods=True) as app,
    ):
        await sandbox.tell("config", floods=asdict(floods))
        places = map(stage.warmup_chat, itertools.count())
        bots = {
            count: await stage.add_bot(app, 10 * number + place, chats=list(itertools.islice(places, count)))
            for place, count in enumerate(chats)
        }
        scene = Scene(times=times, sandbox=sandbox, app=app, bots=bots)
        await asyncio.gather(*(_fill(scene, count, minutes) for count in chats))
        await stage.set_aside(app)
        yield scene


async def _fill(scene: Scene, chats: int, minutes: float) -> None:
    """More than can go: the run begins with a full window, and each minute empties it once."""
    windows = math.floor(minutes) + 1
    enough = math.ceil(60 * scene.ceiling(chats) * windows) + SPARE
    for data in stage.photos(enough, bytes=PHOTO_BYTES):
        await stage.add(scene.app, scene.bots[chats], data)


async def _pass(seconds: float, report: Report, *, of: float, before: float = 0.0) -> None:
    """Let time go by."""
    until = clock.monotonic() + seconds
    while (left := until - clock.monotonic()) > 0:
        report(f"sending: {before + seconds - left:.0f} s of {of:.0f}")
        await clock.sleep(min(left, 5))


async def _check_all_had_work(scene: Scene) -> None:
    for chats, bot in scene.bots.items():
        left = await scene.app.pool.fetchval(
            "SELECT count(*) FROM media WHERE bot_id = $1 AND state = $2", bot.id, MediaState.WARMING
        )
        if not left:
            raise TelewarmError(f"the bot with {chats} warm-up chats ran out of work: the figure is void")


def _figures(scene: Scene, chats: int, seen: Count, seconds: float) -> Iterator[Figure]:
    known = scene.times == 1
    name = f"{NAMES[scene.times]}, {chats} warm-up chat{'s' if chats > 1 else ''}"
    when = "the whole run" if known else "once learned"
    ceiling = scene.ceiling(chats)
    yield Figure(
        name=f"{name}: share of the ceiling",
        value=seen.messages / (ceiling * seconds),
        least=0.95 if known else 0.9,
        beside=f"{60 * ceiling:.0f} a minute; {when}",
    )
    yield Figure(
        name=f"{name}: calls answered 429",
        value=seen.refused / max(1, seen.messages + seen.refused),
        most=0.01 if known else 0.03,
        beside=f"{seen.refused} of {seen.messages + seen.refused}",
    )


def scaled(limit: Limit | None, times: float) -> Limit | None:
    """The same window with so many times the messages."""
    return limit and replace(limit, count=int(limit.count * times))


def per_second(limit: Limit | None) -> float:
    return math.inf if limit is None else limit.count / limit.seconds
