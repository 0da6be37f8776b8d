"""What large files cost a worker in memory, and how often the store is read for them. Linux only: it reads /proc."""

from __future__ import annotations

import asyncio
import functools
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from telewarm.database.lane_queue import enqueue_lane
from telewarm.demo.media import CATALOGUE
from telewarm.errors import TelewarmError
from telewarm.models import Bot, Kind, MediaId, UploadMethod
from telewarm.runtime import Telewarm
from telewarm.settings import Settings
from telewarm_benchmarks import stage
from telewarm_benchmarks.figures import Figure
from telewarm_benchmarks.processes import ONE_KEY, Database, ObjectServer, SandboxServer, Worker, made

MB = 1_000_000
MOST_MB = 64.0  # the target
SLOWLY = 25 * MB  # bytes a second on each connection to the sandbox, so that all are under way at once
TIMEOUT_SECONDS = 600.0  # seconds
OTHER_BOT = 99
BOX = b"free"  # of an MP4: players skip it
NO_PATH = "Bad Request: wrong file identifier/HTTP URL specified"  # a server that cannot read our disk


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """`videos` at once; one `large` file; `shared` videos in the libraries of `bots` that share no warm-up chat."""

    videos: int = 5
    video_bytes: int = 50 * MB
    large_bytes: int = 1500 * MB
    shared: int = 5
    shared_bytes: int = 3 * MB
    bots: int = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """A library in an S3 server, and a sandbox. `environ`: of a host with nothing of the library on its disk."""

    folder: Path
    app: Telewarm
    sandbox: SandboxServer
    objects: ObjectServer
    environ: Mapping[str, str]

    async def add(self, bot: Bot, *films: Path) -> list[MediaId]:
        """Not due yet. Before there is a worker: it would be quicker."""
        ids = [(await self.app.library.add_file(bot, film, kind=Kind.VIDEO)).item.id for film in films]
        await stage.set_aside(self.app)
        return ids

    async def warm(self, bot: Bot, ids: Sequence[MediaId]) -> None:
        """From cold or ready, all at once."""
        async with self.app.pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "UPDATE media SET state = 'warming', queued_at = now(), file_id = NULL, warmup_chat = NULL"
                " WHERE id = ANY ($1)",
                ids,
            )
            await enqueue_lane(connection, bot)
        await stage.until_none_warming(self.app, bot, patience=TIMEOUT_SECONDS)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Worker]:
        """A worker that has warmed one small video of another bot: what is loaded at first use is loaded then."""
        other = await stage.add_bot(self.app, OTHER_BOT)
        small = await self.add(other, await _film(self.folder, OTHER_BOT, 3 * MB))
        async with Worker.running(self.environ, made(self.folder, "worker")) as worker:
            await self.warm(other, small)
            yield worker

    async def adding(self, worker: Worker, bot: Bot, ids: Sequence[MediaId]) -> float:
        """Megabytes that the worker has at most while it warms these, beyond what it had before."""
        before = worker.resident().now
        worker.forget_peak()
        await self.warm(bot, ids)
        return (worker.resident().peak - before) / MB

    async def expect(self, way: UploadMethod, media_id: MediaId) -> None:
        found = await self.app.pool.fetchval("SELECT way FROM media WHERE id = $1", media_id)
        if found != way:
            raise TelewarmError(f"the file went by {found} and not by {way}: the figure is void")


async def measure(*, plan: Plan = Plan(), report: Callable[[str], None]) -> list[Figure]:
    """Each on a site of its own."""
    return [
        await at_once(plan, report),
        *await large(plan, report),
        await reads(plan, report),
    ]


async def at_once(plan: Plan, report: Callable[[str], None]) -> Figure:
    what = f"{plan.videos} videos of {plan.video_bytes / MB:.0f} MB at once"
    report(what)
    async with _site("--bandwidth", str(SLOWLY)) as site:
        bot = await stage.add_bot(site.app)
        films = [await _film(site.folder, number, plan.video_bytes) for number in range(plan.videos)]
        ids = await site.add(bot, *films)
        async with site.working() as worker:
            added = await site.adding(worker, bot, ids)
    return Figure(name=f"{what}: memory added", value=added, unit="MB", most=MOST_MB)


async def large(plan: Plan, report: Callable[[str], None]) -> list[Figure]:
    what = f"a file of {plan.large_bytes / MB:,.0f} MB through a local server"
    figures = []
    async with _site("--local", TELEGRAM_API_LOCAL="true") as site:
        bot = await stage.add_bot(site.app)
        report(f"{what}: taking it in")
        [media_id] = await site.add(bot, await _film(site.folder, 0, plan.large_bytes))
        async with site.working() as worker:
            for way in (UploadMethod.PATH, UploadMethod.UPLOAD):
                report(f"{what}: by {way}")
                if way is UploadMethod.UPLOAD:
                    await site.sandbox.break_next(action="error", method="sendVideo", code=400, description=NO_PATH)
                added = await site.adding(worker, bot, [media_id])
                await site.expect(way, media_id)
                figures.append(Figure(name=f"{what}, by {way}: memory added", value=added, unit="MB", most=MOST_MB))
    return figures


async def reads(plan: Plan, report: Callable[[str], None]) -> Figure:
    report(f"{plan.shared} videos for {plan.bots} bots without a common chat")
    async with _site() as site:
        films = [await _film(site.folder, number, plan.shared_bytes) for number in range(plan.shared)]
        bots = [await stage.add_bot(site.app, number) for number in range(plan.bots)]
        libraries = [(bot, await site.add(bot, *films)) for bot in bots]
        before = site.objects.reads()
        async with Worker.running(site.environ, made(site.folder, "worker")), asyncio.TaskGroup() as group:
            for bot, ids in libraries:
                group.create_task(site.warm(bot, ids))
        reads = site.objects.reads() - before
        uploads = sum((await site.sandbox.uploads()).values())
    return Figure(
        name="reads of one S3 object, at most",
        value=max(reads.values()),
        most=1,
        beside=f"{len(reads)} objects read, thumbnails included; {uploads} files uploaded for {plan.bots} bots",
    )


@asynccontextmanager
async def _site(*options: str, **changed: str) -> AsyncIterator[Site]:
    """`options` of the sandbox; `changed`: settings by name."""
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(stage.fresh_folder())
        database = await stack.enter_async_context(Database.running(folder / "postgres"))
        sandbox = await stack.enter_async_context(SandboxServer.running(made(folder, "sandbox"), *options))
        objects = await stack.enter_async_context(ObjectServer.running(made(folder, "bucket")))
        common = {"DATABASE_URL": database.url, **ONE_KEY, **objects.environ, **changed}
        here, there = (stage.environment(sandbox.url, folder / host) | common for host in ("here", "there"))
        app = await stack.enter_async_context(
            Telewarm.open(Settings.from_environ(here, None), worker=False, migrate=True)
        )
        yield Site(folder=folder, app=app, sandbox=sandbox, objects=objects, environ=there)


async def _film(folder: Path, number: int, size: int) -> Path:
    """A film of exactly `size` bytes that differs from those of other numbers; most of it is a hole in the file."""
    return await asyncio.to_thread(_made_film, folder, number, size)


def _made_film(folder: Path, number: int, size: int) -> Path:
    path = folder / f"film-{number}.mp4"
    film = _drawn_film()
    rest = size - len(film)
    with path.open("wb") as file:
        file.write(film + rest.to_bytes(4) + BOX + number.to_bytes(4))
        file.truncate(size)
    return path


@functools.cache
def _drawn_film() -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "film.mp4")
        next(make for name, _, make in CATALOGUE if name == path.name)(path)
        return path.read_bytes()
