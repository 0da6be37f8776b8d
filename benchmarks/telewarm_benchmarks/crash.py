"""What breaks in the middle of warming, and what it costs: each scenario on processes, servers and data of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import asyncpg

from telewarm import clock
from telewarm.database.transient import is_transient
from telewarm.errors import TelewarmError
from telewarm.runtime import Telewarm
from telewarm.settings import Settings
from telewarm_benchmarks import stage
from telewarm_benchmarks.figures import Figure
from telewarm_benchmarks.processes import ONE_KEY, Database, ObjectServer, SandboxServer, Worker, made

HOUR = 3600.0
STRIKE_AT = 0.25  # the share of the media that is ready when it happens
TIMEOUT_SECONDS = 180.0  # seconds until everything is ready again
POLL_SECONDS = 0.05  # seconds between looks
TAKEOVER = 15.0  # seconds; the target, as are the next
DRAIN = 10.0

Strike: TypeAlias = Callable[["Scene"], Awaitable[None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """`media` photos spread over `bots`; `away`: seconds that a server stays down; `latency_ms`: of the sandbox."""

    media: int = 1000
    bots: int = 4
    concurrency: int = 5
    photo_bytes: int = 25_000
    latency_ms: float = 80
    away: float = 5.0

    @property
    def in_flight(self) -> int:
        """Of all bots at most, those that Telegram has answered and that are just being written down included."""
        return 2 * self.concurrency * self.bots


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """`skews`: one worker each, whose clock is so many seconds ahead. `bucket`: the library is in an S3 server."""

    name: str
    strike: Strike
    skews: tuple[float, ...] = (0.0, 0.0)
    bucket: bool = False


@dataclass(kw_only=True, slots=True)
class Scene:
    """What a scenario plays on. A strike leaves in `takeover` and `drain` the seconds that it measured."""

    plan: Plan
    database: Database
    sandbox: SandboxServer
    objects: ObjectServer | None
    workers: list[Worker] = field(default_factory=list)
    takeover: float | None = None
    drain: float | None = None

    async def fetch(self, sql: str, *values: object) -> list[asyncpg.Record]:
        """Ask the database, which may be away for a while."""
        deadline = clock.monotonic() + TIMEOUT_SECONDS
        while True:
            try:
                connection = await asyncpg.connect(self.database.url, timeout=5)
                try:
                    return await connection.fetch(sql, *values, timeout=5)
                finally:
                    connection.terminate()
            except Exception as error:
                if not is_transient(error):
                    raise
                if clock.monotonic() > deadline:
                    raise
                await clock.sleep(POLL_SECONDS)

    async def states(self) -> dict[str, int]:
        """How many media items are in each state."""
        found = await self.fetch("SELECT state, count(*) AS items FROM media GROUP BY state")
        return {row["state"]: row["items"] for row in found}

    async def until_ready(self, count: int) -> None:
        deadline = clock.monotonic() + TIMEOUT_SECONDS
        while (states := await self.states()).get("ready", 0) < count and states.get("warming"):
            if clock.monotonic() > deadline:
                raise TelewarmError(f"not all was ready {TIMEOUT_SECONDS:.0f} s later: {states}; {await self._stuck()}")
            await clock.sleep(POLL_SECONDS)

    async def _stuck(self) -> str:
        found = await self.fetch(
            "SELECT holder, next_attempt_at, last_error, count(*) FROM media LEFT JOIN lease ON lease.id = lease_id"
            " WHERE state = 'warming' GROUP BY 1, 2, 3 LIMIT 3"
        )
        return "; ".join(str(dict(row)) for row in found)

    async def bots_of(self, worker: Worker) -> list[int]:
        """The Telegram ids of the bots whose media the worker has in hand."""
        found = await self.fetch(
            "SELECT DISTINCT bot.telegram_id FROM media JOIN lease ON lease.id = media.lease_id"
            " JOIN bot ON bot.id = media.bot_id WHERE lease.holder LIKE '%:' || $1::text",
            str(worker.process.pid),
        )
        return [row["telegram_id"] for row in found]

    async def busiest(self) -> tuple[Worker, list[int]]:
        """The worker with the most bots, and these."""
        held = [(worker, await self.bots_of(worker)) for worker in self.workers]
        return max(held, key=lambda one: len(one[1]))

    async def has_work(self, telegram_id: int) -> bool:
        [row] = await self.fetch(
            "SELECT EXISTS (SELECT FROM media JOIN bot ON bot.id = bot_id"
            " WHERE telegram_id = $1 AND state = 'warming') AS found",
            telegram_id,
        )
        return bool(row["found"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """`uploads` beyond `media` went up twice. `seconds`: from the strike until all was ready.

    `exit_codes`: of the workers that were not killed. `complaints`: errors and tracebacks in their logs.
    """

    scenario: str
    media: int
    states: dict[str, int]
    uploads: int
    seconds: float
    takeover: float | None
    drain: float | None
    exit_codes: tuple[int, ...]
    complaints: tuple[str, ...]

    @property
    def twice(self) -> int:
        return self.uploads - self.media


async def measure(*, plan: Plan = Plan(), only: str = "", report: Callable[[str], None]) -> list[Figure]:
    """Every scenario in turn; `only`: those whose names begin so."""
    figures: list[Figure] = []
    for scenario in (one for one in SCENARIOS if one.name.startswith(only)):
        report(f"{scenario.name}: {plan.media} media, {len(scenario.skews)} workers")
        figures += _figures(await play(scenario, plan), plan)
    return figures


async def play(scenario: Scenario, plan: Plan) -> Outcome:
    """Warm, strike, and wait until all is ready. Raises TelewarmError when that does not come."""
    async with _scene(scenario, plan) as scene:
        await scene.until_ready(round(STRIKE_AT * plan.media))
        struck = clock.monotonic()
        await scenario.strike(scene)
        await scene.until_ready(plan.media)
        seconds = clock.monotonic() - struck
        left = [worker for worker in scene.workers if worker.process.returncode is None]
        for worker in left:
            await worker.end()
        return Outcome(
            scenario=scenario.name,
            media=plan.media,
            states=await scene.states(),
            uploads=sum((await scene.sandbox.uploads()).values()),
            seconds=seconds,
            takeover=scene.takeover,
            drain=scene.drain,
            exit_codes=tuple(worker.process.returncode or 0 for worker in left),
            complaints=tuple(line for worker in scene.workers for line in worker.complaints()),
        )


@asynccontextmanager
async def _scene(scenario: Scenario, plan: Plan) -> AsyncIterator[Scene]:
    """All servers up, the library filled, the workers at work."""
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(stage.fresh_folder())
        database = await stack.enter_async_context(Database.running(folder / "postgres"))
        latency = ("--latency-ms", str(plan.latency_ms))
        sandbox = await stack.enter_async_context(SandboxServer.running(made(folder, "sandbox"), *latency))
        objects = None
        if scenario.bucket:
            objects = await stack.enter_async_context(ObjectServer.running(made(folder, "bucket")))
        scene = Scene(plan=plan, database=database, sandbox=sandbox, objects=objects)
        async with _filled(plan, _environ(scene, folder, "feeder")) as ask_for_all:
            await _start(scene, scenario, folder, stack)
            await ask_for_all()
        yield scene


async def _start(scene: Scene, scenario: Scenario, folder: Path, stack: AsyncExitStack) -> None:
    for number, skew in enumerate(scenario.skews):
        host = f"host-{number}"
        running = Worker.running(_environ(scene, folder, host), made(folder, f"{host}-runs"), skew=skew)
        scene.workers.append(await stack.enter_async_context(running))


def _environ(scene: Scene, folder: Path, host: str) -> dict[str, str]:
    """The settings on a host that shares nothing with the others but the database and the library."""
    store = {"TELEWARM_STORE_FOLDER": str(folder / "library")} if scene.objects is None else scene.objects.environ
    return stage.environment(scene.sandbox.url, folder / host) | {
        "DATABASE_URL": scene.database.url,
        **ONE_KEY,
        "MEDIA_PREWARM_CONCURRENCY": str(scene.plan.concurrency),
        **store,
    }


@asynccontextmanager
async def _filled(plan: Plan, environ: dict[str, str]) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A library in which nothing is due before the call that this hands over."""
    async with Telewarm.open(Settings.from_environ(environ, None), worker=False, migrate=True) as app:
        bots = [await stage.add_bot(app, number) for number in range(plan.bots)]
        for number, data in enumerate(stage.photos(plan.media, bytes=plan.photo_bytes)):
            await stage.add(app, bots[number % plan.bots], data)
        await stage.set_aside(app)
        yield partial(stage.ask_for_all, app, *bots)


async def kill_9(scene: Scene) -> None:
    """One worker dies. `takeover`: until another has uploaded for each of its bots."""
    victim, affected = await scene.busiest()
    if not affected:
        raise TelewarmError("no worker had anything in hand when one was to be killed: the figure is void")
    await victim.kill()
    killed = clock.monotonic()
    await clock.sleep(scene.plan.latency_ms / 1000 + POLL_SECONDS)  # what it had sent is counted by then
    before = await scene.sandbox.uploads()
    while affected:
        now = await scene.sandbox.uploads()
        scene.takeover = clock.monotonic() - killed
        affected = [bot for bot in affected if now[bot] <= before[bot] and await scene.has_work(bot)]
        if scene.takeover > TIMEOUT_SECONDS:
            raise TelewarmError(f"nobody took over the bots {affected} of a dead worker")
        await clock.sleep(POLL_SECONDS)


async def sigterm(scene: Scene) -> None:
    """One worker is asked to stop. `drain`: until it has."""
    victim, _ = await scene.busiest()
    scene.drain = await victim.end()
    if victim.process.returncode != 0:
        raise TelewarmError(f"a worker that was asked to stop exited with {victim.process.returncode}")


async def database_restart(scene: Scene, *, mode: Literal["fast", "immediate"], shortly: bool) -> None:
    await scene.database.restart(mode, away=0.0 if shortly else scene.plan.away)


async def store_outage(scene: Scene) -> None:
    assert scene.objects is not None  # noqa: S101 - the scenario says so
    await scene.objects.kill()
    await clock.sleep(scene.plan.away)
    await scene.objects.start()


async def sandbox_outage(scene: Scene) -> None:
    await scene.sandbox.kill()
    await clock.sleep(scene.plan.away)
    await scene.sandbox.start()


SCENARIOS: Sequence[Scenario] = (
    Scenario(name="kill -9", strike=kill_9),
    Scenario(name="SIGTERM", strike=sigterm),
    Scenario(name="database restart", strike=partial(database_restart, mode="fast", shortly=True)),
    Scenario(name="database crash", strike=partial(database_restart, mode="immediate", shortly=False)),
    Scenario(name="S3 outage", strike=store_outage, bucket=True),
    Scenario(name="Bot API outage", strike=sandbox_outage),
    Scenario(name="clocks two hours apart", strike=kill_9, skews=(HOUR, -HOUR), bucket=True),
)


def _figures(outcome: Outcome, plan: Plan) -> list[Figure]:
    name, clean = outcome.scenario, outcome.scenario == "SIGTERM"
    after = f"{outcome.seconds:.1f} s after"
    figures = [
        Figure(
            name=f"{name}: ready in the end", value=outcome.states.get("ready", 0), least=outcome.media, beside=after
        ),
        Figure(name=f"{name}: uploaded twice", value=outcome.twice, most=0 if clean else plan.in_flight),
        Figure(name=f"{name}: errors in the logs", value=len(outcome.complaints), most=0),
    ]
    if outcome.takeover is not None:
        figures.append(Figure(name=f"{name}: taken over", value=outcome.takeover, unit="s", most=TAKEOVER))
    if outcome.drain is not None:
        figures.append(Figure(name=f"{name}: drained", value=outcome.drain, unit="s", most=DRAIN))
    return figures
