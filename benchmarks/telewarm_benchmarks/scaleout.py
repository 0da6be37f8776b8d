"""How much sooner are two workers done than one? Where the network is the limit and not this machine's processors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import median

from telewarm import clock
from telewarm.errors import TelewarmError
from telewarm.models import Bot
from telewarm.runtime import Telewarm
from telewarm.settings import Settings
from telewarm_benchmarks import stage
from telewarm_benchmarks.figures import Figure
from telewarm_benchmarks.processes import ONE_KEY, Database, SandboxServer, Worker, made

HALF = 0.6  # of one worker's time; the target
WORKER_START_SECONDS = 0.5  # seconds that idle workers get before the clock starts: their lanes have ended by then


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """`held`: media that a worker may have in hand, and with it how many bots it can serve at once."""

    bots: int = 40
    photos: int = 25  # of each bot
    photo_bytes: int = 25_000
    latency_ms: float = 600
    concurrency: int = 5
    held: int = 100
    rounds: int = 3


async def measure(*, plan: Plan = Plan(), report: Callable[[str], None]) -> list[Figure]:
    """The same library, warmed by one worker and by two, in turn."""
    times: dict[int, list[float]] = {1: [], 2: []}
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(stage.fresh_folder())
        database = await stack.enter_async_context(Database.running(folder / "postgres"))
        sandbox = await stack.enter_async_context(
            SandboxServer.running(made(folder, "sandbox"), "--latency-ms", str(plan.latency_ms))
        )
        environ = stage.environment(sandbox.url, folder / "data") | {
            "DATABASE_URL": database.url,
            **ONE_KEY,
            "MEDIA_PREWARM_CONCURRENCY": str(plan.concurrency),
            "MEDIA_PREWARM_MAX_QUEUE": str(plan.held),
        }
        settings = Settings.from_environ(environ, None)
        app = await stack.enter_async_context(Telewarm.open(settings, worker=False, migrate=True))
        report(f"filling the libraries of {plan.bots} bots")
        bots = await _filled(app, plan)
        for number in range(2 * plan.rounds):
            workers = 1 + number % 2
            report(f"round {1 + number // 2} of {plan.rounds}: workers: {workers}")
            async with AsyncExitStack() as running:
                for one in range(workers):
                    home = made(folder, f"worker-{number}-{one}")
                    await running.enter_async_context(Worker.running(environ, home))
                times[workers].append(await _warmed(app, bots, sandbox))
    return _figures(plan, times)


async def _filled(app: Telewarm, plan: Plan) -> list[Bot]:
    bots = [await stage.add_bot(app, number) for number in range(plan.bots)]
    for bot in bots:
        for data in stage.photos(plan.photos, bytes=plan.photo_bytes):
            await stage.add(app, bot, data)
    await stage.set_aside(app)
    return bots


async def _warmed(app: Telewarm, bots: Sequence[Bot], sandbox: SandboxServer) -> float:
    """Seconds from asking for everything at once to the last file id written down."""
    await clock.sleep(WORKER_START_SECONDS)
    before = sum((await sandbox.uploads()).values())
    started = clock.monotonic()
    await stage.ask_for_all(app, *bots)
    await stage.until_none_warming(app)
    seconds = clock.monotonic() - started
    items = await app.pool.fetchval("SELECT count(*) FROM media WHERE state = 'ready'")
    uploads = sum((await sandbox.uploads()).values()) - before
    if uploads != items:
        raise TelewarmError(f"{items} photos were uploaded {uploads} times: the figure is void")
    await app.pool.execute("UPDATE media SET state = 'cold', file_id = NULL, warmup_chat = NULL")
    return seconds


def _figures(plan: Plan, times: dict[int, list[float]]) -> list[Figure]:
    one, two = median(times[1]), median(times[2])
    per_round = ", ".join(f"{b / a:.2f}" for a, b in zip(times[1], times[2], strict=True))
    media = plan.bots * plan.photos
    ideal = media * plan.latency_ms / 1000 / plan.concurrency / min(plan.bots, plan.held // plan.concurrency)
    return [
        Figure(name="two workers' time by one's", value=two / one, most=HALF, beside=f"in each round: {per_round}"),
        Figure(
            name="one worker", value=one, unit="s", beside=f"{ideal:.1f} s is what its places and the latency allow"
        ),
        Figure(name="two workers", value=two, unit="s", beside=f"{media} photos of {plan.bots} bots"),
    ]
