"""How fast does one bot's lane warm, and how soon is a single item ready? Beside a bare upload loop of the same run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from telewarm import clock
from telewarm.demo.sandbox import SandboxProcess
from telewarm.errors import TelewarmError
from telewarm.models import Bot
from telewarm.runtime import Telewarm
from telewarm_benchmarks import stage
from telewarm_benchmarks.figures import Figure
from telewarm_benchmarks.stage import Rate, Report

PHOTO_BYTES = 200_000
SINGLES = 50  # photos added one by one in each round
POLL_SECONDS = 0.002  # seconds between looks whether one item is ready
NODE = "the Node system: 2.5/s, 28 ms"  # on the same work


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What one level measures: `rounds` times `photos` photos, with `concurrency` in flight."""

    photos: int
    rounds: int
    concurrency: int


async def measure(
    *, photos: int = 500, rounds: int = 7, levels: Sequence[int] = (5, 20), report: Report
) -> list[Figure]:
    """The sandbox runs in a process of its own, without delay and without floods. About 10 s a round and level."""
    figures: list[Figure] = []
    async with SandboxProcess.running() as sandbox:
        for concurrency in levels:
            plan = Plan(photos=photos, rounds=rounds, concurrency=concurrency)
            figures += await _level(sandbox, plan, report)
    return figures


async def _level(sandbox: SandboxProcess, plan: Plan, report: Report) -> list[Figure]:
    bare: list[Rate] = []
    lane: list[Rate] = []
    waits: list[float] = []
    concurrency = str(plan.concurrency)
    for number in range(plan.rounds):
        report(f"{plan.concurrency} in flight: round {number + 1} of {plan.rounds}")
        files = list(stage.photos(plan.photos, bytes=PHOTO_BYTES))
        bare.append(await stage.bare_loop(sandbox.url, files, concurrency=plan.concurrency))
        async with stage.open_telewarm(sandbox.url, worker=False, MEDIA_PREWARM_CONCURRENCY=concurrency) as app:
            bot = await stage.add_bot(app)
            for data in stage.photos(plan.photos, bytes=PHOTO_BYTES):
                await stage.add(app, bot, data)
            await stage.set_aside(app)
            async with app.worker.running():
                waits += await _one_by_one(app, bot)
                lane.append(await _drain(sandbox, app, bot, plan.photos))
    return _figures(plan.concurrency, bare, lane, waits)


async def _one_by_one(app: Telewarm, bot: Bot) -> list[float]:
    """Milliseconds from accepted to ready, each item added when the one before is ready."""
    waits = []
    for data in stage.photos(SINGLES, bytes=PHOTO_BYTES):
        item = await stage.until_ready(app, await stage.add(app, bot, data), look=POLL_SECONDS)
        waits.append(stage.ready_ms(item))
    return waits


async def _drain(sandbox: SandboxProcess, app: Telewarm, bot: Bot, count: int) -> Rate:
    """Ask for the library that was set aside, with a worker that stands by; time it to the last file id."""
    before = (await sandbox.stats())["uploads"]
    started, cpu = clock.monotonic(), time.process_time()
    await stage.ask_for_all(app, bot)
    await stage.until_none_warming(app, bot)
    rate = stage.rate(count, started, cpu)
    uploads = (await sandbox.stats())["uploads"] - before
    if uploads != count:
        raise TelewarmError(f"{count} photos were uploaded {uploads} times: the figure is void")
    return rate


def _figures(concurrency: int, bare: Sequence[Rate], lane: Sequence[Rate], waits: Sequence[float]) -> list[Figure]:
    """Medians over the rounds."""
    mine, plain = median(one.per_second for one in lane), median(one.per_second for one in bare)
    mine_cpu, plain_cpu = median(one.cpu_ms for one in lane), median(one.cpu_ms for one in bare)
    ratio = median(one.per_second / other.per_second for one, other in zip(lane, bare, strict=True))
    cuts = quantiles(waits, n=20)
    level = f"{concurrency} in flight"
    return [
        Figure(name=f"{level}: media a second beside the bare loop", value=ratio, least=0.5),
        Figure(name=f"{level}: media a second", value=mine, unit="/s", beside=f"bare loop: {plain:,.0f}/s"),
        Figure(
            name=f"{level}: CPU an item", value=mine_cpu, unit="ms", beside=f"bare loop: {plain_cpu:.2f} ms; {NODE}"
        ),
        Figure(name=f"{level}: accepted to ready, p50", value=cuts[9], unit="ms", beside="one item at a time"),
        Figure(name=f"{level}: accepted to ready, p95", value=cuts[18], unit="ms", beside="one item at a time"),
    ]
