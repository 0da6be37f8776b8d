"""How fast does one bot's lane warm, and how soon is a single item ready? Beside a bare upload loop of the same run."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import TextIO

import aiohttp
import msgspec
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import telewarm
from telewarm import clock, logs
from telewarm.app import Telewarm
from telewarm.database import media
from telewarm.demo.media import photo
from telewarm.demo.sandbox import SandboxProcess
from telewarm.errors import TelewarmError
from telewarm.lanes import wake
from telewarm.model import Bot, BotId, ChatId, Kind, MediaItem, State
from telewarm.settings import Settings

PHOTO_BYTES = 200_000
TOKEN = "1000000001:AAEbenchbenchbenchbenchbenchbenchben"  # noqa: S105 - the sandbox takes any
SINGLES = 50  # photos added one by one in each round
CHAT = ChatId(-1001000000001)
UNLIMITED = (
    "TELEWARM_FLOOD_BOT_PER_SECOND",
    "TELEWARM_FLOOD_BOT_BURST",
    "TELEWARM_FLOOD_GROUP_PER_MINUTE",
    "TELEWARM_FLOOD_GROUP_BURST",
)
PATIENCE = 120.0  # seconds
LOOK = 0.002  # seconds between looks whether the last item is ready
NODE_RATE, NODE_CPU_MS = 2.5, 28.0  # the Node system on the same work


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """`cpu_ms`: of this process, for each item."""

    per_second: float
    cpu_ms: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """Medians over the rounds at one concurrency. `p50_ms`, `p95_ms`: from accepted to ready, one item at a time."""

    concurrency: int
    bare: Rate
    lane: Rate
    ratio: float
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What one level measures: `rounds` times `photos` photos, with `concurrency` in flight."""

    photos: int
    rounds: int
    concurrency: int


async def bench(*, photos: int, rounds: int, levels: Sequence[int], save: TextIO | None) -> None:
    """Measure each level of concurrency, print the table, and keep the figures as JSON when asked to."""
    console = Console()
    logs.configure(level="ERROR")
    seeds = iter(range(10**9))
    results: list[Level] = []
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("warm-up", total=len(levels) * rounds)
        async with SandboxProcess.running() as sandbox:
            for concurrency in levels:
                plan = Plan(photos=photos, rounds=rounds, concurrency=concurrency)
                level = await _level(sandbox, plan, seeds, done=lambda: progress.advance(bar))
                results += [level]
    console.print(_table(results, photos=photos, rounds=rounds))
    if save is not None:
        figures = {"machine": machine(), "photos": photos, "rounds": rounds, "levels": [asdict(one) for one in results]}
        json.dump(figures, save, indent=2)
        save.write("\n")


async def _level(sandbox: SandboxProcess, plan: Plan, seeds: Iterator[int], *, done: Callable[[], None]) -> Level:
    bare, lane, ready_ms = [], [], []
    for _ in range(plan.rounds):
        bare.append(await _bare_loop(sandbox.url, _photos(seeds, plan.photos), plan.concurrency))
        async with _library(sandbox.url, plan.concurrency) as (app, bot):
            for data in _photos(seeds, plan.photos):
                await _add(app, bot, data)
            await app.pool.execute("UPDATE media SET state = 'cold'")
            async with app.working():
                ready_ms += await _one_by_one(app, bot, _photos(seeds, SINGLES))
                lane.append(await _drain(sandbox, app, bot, plan.photos))
        done()
    cuts = quantiles(ready_ms, n=20)
    return Level(
        concurrency=plan.concurrency,
        bare=_median(bare),
        lane=_median(lane),
        ratio=median(mine.per_second / plain.per_second for mine, plain in zip(lane, bare, strict=True)),
        p50_ms=cuts[9],
        p95_ms=cuts[18],
    )


def _photos(seeds: Iterator[int], count: int) -> list[bytes]:
    return [photo(next(seeds), bytes=PHOTO_BYTES) for _ in range(count)]


@asynccontextmanager
async def _library(root: str, concurrency: int) -> AsyncIterator[tuple[Telewarm, Bot]]:
    """A fresh library of one bot, with no flood limits: the sandbox has none. No worker runs yet."""
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="telewarm-bench-"))
    try:
        unlimited = dict.fromkeys(UNLIMITED, "100000")
        settings = Settings.from_environ(
            {
                "TELEWARM_DATA": str(folder),
                "TELEGRAM_API_ROOT": root,
                "TELEWARM_FLOOD_SPACING": "false",
                "MEDIA_PREWARM_CONCURRENCY": str(concurrency),
                **unlimited,
            },
            None,
        )
        async with Telewarm.open(settings, worker=False) as app:
            yield app, await app.bots.create(slug="bench", token=TOKEN, warmup_chats=[CHAT])
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _drain(sandbox: SandboxProcess, app: Telewarm, bot: Bot, count: int) -> Rate:
    """Ask for the cold library at once, with a worker that stands by; time it to the last file id written down."""
    before = (await sandbox.stats())["uploads"]
    started, cpu = clock.monotonic(), time.process_time()
    async with app.pool.acquire() as connection, connection.transaction():
        await connection.execute("UPDATE media SET state = 'warming', queued_at = now() WHERE state = 'cold'")
        await wake(connection, bot)
    await _none_warming(app, bot.id)
    rate = _rate(count, started, cpu)
    uploads = (await sandbox.stats())["uploads"] - before
    if uploads != count:
        raise TelewarmError(f"{count} photos were uploaded {uploads} times: the figure is void")
    return rate


async def _one_by_one(app: Telewarm, bot: Bot, files: Sequence[bytes]) -> list[float]:
    """Milliseconds from accepted to ready, each item added when the one before is ready."""
    waits = []
    for data in files:
        item = await _add(app, bot, data)
        while item.state is not State.READY:
            await clock.sleep(LOOK)
            item = await media.get(app.pool, item.id)
        waits.append(_ready_ms(item))
    return waits


async def _add(app: Telewarm, bot: Bot, data: bytes) -> MediaItem:
    async with app.library.receive() as incoming:
        await incoming.write(data)
        return (await app.library.add(bot, incoming, kind=Kind.PHOTO)).item


async def _none_warming(app: Telewarm, bot_id: BotId) -> None:
    deadline = clock.monotonic() + PATIENCE
    while await app.pool.fetchval("SELECT EXISTS (SELECT FROM media WHERE bot_id = $1 AND state = 'warming')", bot_id):
        if clock.monotonic() > deadline:
            raise TelewarmError(f"the photos were not warm within {PATIENCE:.0f} s")
        await clock.sleep(5 * LOOK)
    left = (await media.counts(app.pool, bot_id)).get(State.ERROR, 0)
    if left:
        raise TelewarmError(f"{left} photos could not be warmed: the figure is void")


async def _bare_loop(root: str, files: Sequence[bytes], concurrency: int) -> Rate:
    """What aiohttp alone does: `concurrency` loops, each posting a form and reading the file id of the answer."""
    url = f"{root}/bot{TOKEN}/sendPhoto"
    left = iter(files)

    async def loop(session: aiohttp.ClientSession) -> None:
        for data in left:
            form = aiohttp.FormData({"chat_id": str(CHAT)})
            form.add_field("photo", data, filename="photo.jpg", content_type="image/jpeg")
            async with session.post(url, data=form) as answer:
                body = msgspec.json.decode(await answer.read())
                body["result"]["photo"][-1]["file_id"]

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:
        started, cpu = clock.monotonic(), time.process_time()
        await asyncio.gather(*(loop(session) for _ in range(concurrency)))
        return _rate(len(files), started, cpu)


def _rate(count: int, started: float, cpu: float) -> Rate:
    return Rate(per_second=count / (clock.monotonic() - started), cpu_ms=1000 * (time.process_time() - cpu) / count)


def _median(rates: Sequence[Rate]) -> Rate:
    return Rate(per_second=median(rate.per_second for rate in rates), cpu_ms=median(rate.cpu_ms for rate in rates))


def _ready_ms(item: MediaItem) -> float:
    if item.warmed_at is None or item.queued_at is None:
        raise TelewarmError(f"media item {item.id} is ready but has no times")
    return 1000 * (item.warmed_at - item.queued_at).total_seconds()


def machine() -> dict[str, object]:
    """What a figure depends on."""
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "telewarm": telewarm.__version__,
    }


def _table(results: Sequence[Level], *, photos: int, rounds: int) -> Table:
    table = Table(title=f"{photos} photos of {PHOTO_BYTES // 1000} kB, one bot, {rounds} rounds (medians)")
    for name in ("in flight", "media/s", "bare loop/s", "ratio", "CPU ms/item", "bare", "ready p50 ms", "p95 ms"):
        table.add_column(name, justify="right")
    for one in results:
        table.add_row(
            str(one.concurrency),
            f"{one.lane.per_second:,.0f}",
            f"{one.bare.per_second:,.0f}",
            f"{one.ratio:.2f}",
            f"{one.lane.cpu_ms:.2f}",
            f"{one.bare.cpu_ms:.2f}",
            f"{one.p50_ms:.1f}",
            f"{one.p95_ms:.1f}",
        )
    table.caption = f"The Node system did {NODE_RATE} media/s with {NODE_CPU_MS:.0f} ms of CPU an item."
    return table
