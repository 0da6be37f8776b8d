"""The HTTP API: how fast it takes uploads in beside FastAPI alone, what a large one costs in memory, and what becomes
of it under three times the load that it can bear.

The server is a process of its own, and so is the client of each measurement; the sandbox and PostgreSQL are others. On
a machine with few cores they take time from each other.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import aiohttp
from msgspec import structs

from telewarm import clock
from telewarm.demo.sandbox import SandboxProcess
from telewarm.errors import TelewarmError
from telewarm_benchmarks import client, stage
from telewarm_benchmarks.client import NEVER, Answer, Answers, Job, What
from telewarm_benchmarks.figures import Figure
from telewarm_benchmarks.processes import ONE_KEY, Breakable, Database, Resident, Server, free_port, made

MB = 1_000_000
PHOTO = 200_000  # bytes
CHUNK_BYTES = 1 << 16
READER = 800_000_000  # the first recipient's chat id
MEDIA, SEND = "/api/admin/bots/bench/media", "/api/admin/bots/bench/send"
NAMES: Mapping[What, str] = {"form": "multipart", "raw": "raw"}
MIN_UPLOADS_PER_SECOND: Mapping[What, float] = {"form": 200.0, "raw": 300.0}  # uploads a second
MOST_MB = 64.0
USUAL = 0.7  # of the capacity: a load that is well borne
GOODPUT = 0.6  # of the capacity, while three times as much is asked
AFTER = 50.0  # milliseconds: p95 of the usual load, once that is over
REFUSED = 503
NOTICED = "request_body_aborted"
TIMES = 3.0
CALM = 1.0  # seconds after which everything is to be as before
CONNECTIONS = 4000  # at once, at most
TIMEOUT_SECONDS = 30.0  # seconds

_firsts = itertools.count(0, 10_000_000)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """`photos` in each of `rounds`, over `connections`; a `large` file's bytes; `seconds` of each load.

    `sends` find the capacity.
    """

    photos: int = 1500
    rounds: int = 3
    connections: int = 16
    large: int = 500 * MB
    sends: int = 20_000
    seconds: float = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """A `telewarm serve` without a worker, with one bot and one photo, and a sandbox."""

    server: Server
    sandbox: SandboxProcess
    session: aiohttp.ClientSession
    folder: Path
    photo: int

    def job(self, what: What, **more: object) -> Job:
        """No two ask with the same photos or chats."""
        usual = {
            "host": "127.0.0.1",
            "port": self.server.port,
            "path": SEND if what == "send" else MEDIA,
            "what": what,
            "first": next(_firsts),
            "bytes": PHOTO,
            "media_id": self.photo,
            "chat_id": READER,
            "connections": CONNECTIONS,
        }
        return Job(**(usual | more))  # type: ignore[arg-type]  # checked when it is read in the other process

    def files(self) -> list[Path]:
        """What was received, spooled or stored."""
        return [path for path in self.folder.rglob("*") if path.is_file() and path.suffix not in {".log", ".lock"}]


async def measure(*, plan: Plan = Plan(), report: Callable[[str], None]) -> list[Figure]:
    async with _site() as site:
        figures = await large(site, plan, report)
        figures += await uploads(site, plan, report)
    async with _site() as site:
        figures += await overload(site, plan, report)
    return figures


async def uploads(site: Site, plan: Plan, report: Callable[[str], None]) -> list[Figure]:
    """In turn with FastAPI alone, which reads the same bytes and hashes them."""
    rounds: dict[What, list[Round]] = {what: [] for what in NAMES}
    async with _bare(site.folder.parent) as bare:
        for number in range(-1, plan.rounds):
            for what, name in NAMES.items():
                report(f"uploads, {name}: round {number + 1} of {plan.rounds}")
                photos = plan.photos if number >= 0 else plan.photos // 10
                job = site.job(what, total=photos, connections=plan.connections)
                other = await _all_accepted(structs.replace(job, port=bare.port, path=f"/{what}"), 200)
                cpu = site.server.cpu()
                mine = await _all_accepted(job, 201)
                cost = 1000 * (site.server.cpu() - cpu) / photos
                if number >= 0:
                    rounds[what].append(Round(ours=photos / mine.seconds, bare=photos / other.seconds, cpu_ms=cost))
    return [figure for what, found in rounds.items() for figure in _compared(what, found)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """Uploads a second of ours and of FastAPI alone; our CPU for each."""

    ours: float
    bare: float
    cpu_ms: float


def _compared(what: What, rounds: Sequence[Round]) -> list[Figure]:
    name = f"photos of 200 kB by {NAMES[what]}, accepted and durable"
    bare, cpu = median(one.bare for one in rounds), median(one.cpu_ms for one in rounds)
    beside = f"FastAPI alone, which keeps nothing: {bare:,.0f}/s; {cpu:.2f} ms of CPU each"
    return [
        Figure(
            name=f"{name}: a second",
            value=median(one.ours for one in rounds),
            unit="/s",
            least=MIN_UPLOADS_PER_SECOND[what],
            beside=beside,
        ),
        Figure(name=f"{name}: beside FastAPI alone", value=median(one.ours / one.bare for one in rounds), unit="x"),
    ]


async def _all_accepted(job: Job, status: int) -> Answers:
    answers = await client.run(job)
    if len(answers.of(status)) != job.total:
        others = sorted({one.status for one in answers.answers} - {status})
        raise TelewarmError(f"not all were accepted, the figure is void: answers {others}")
    return answers


async def large(site: Site, plan: Plan, report: Callable[[str], None]) -> list[Figure]:
    """One that comes whole, and one that breaks off in the middle."""
    what = f"an upload of {plan.large / MB:,.0f} MB"
    report(what)
    before = site.server.resident().now
    Resident.forget_peak(site.server.pid)
    async with site.session.post(f"{MEDIA}?kind=document", data=_bytes(plan.large)) as answer:
        if answer.status != 201:
            raise TelewarmError(f"the large file was not accepted, the figure is void: {await answer.text()}")
    added = (site.server.resident().peak - before) / MB
    report(f"{what}, broken off in the middle")
    files = site.files()
    with suppress(aiohttp.ClientError, ConnectionError):
        await site.session.post(f"{MEDIA}?kind=document", data=_bytes(plan.large // 2, break_off=True))
    await _until_noticed(site)
    left = len(site.files()) - len(files)
    return [
        Figure(name=f"{what}: memory added", value=added, unit="MB", most=MOST_MB),
        Figure(name=f"{what}, broken off in the middle: files left", value=left, most=0),
    ]


async def _until_noticed(site: Site) -> None:
    """The server knows that the body broke off."""
    deadline = clock.monotonic() + TIMEOUT_SECONDS
    while NOTICED not in site.server.log.read_text(errors="replace"):
        if clock.monotonic() > deadline:
            raise TelewarmError("the server did not notice that the body broke off: the figure is void")
        await clock.sleep(stage.POLL_SECONDS)


async def _bytes(count: int, *, break_off: bool = False) -> AsyncIterator[bytes]:
    """Chunks that differ from each other."""
    for at in range(0, count, CHUNK_BYTES):
        yield at.to_bytes(8) * (min(CHUNK_BYTES, count - at) // 8)
    if break_off:
        raise ConnectionError("on purpose")


async def overload(site: Site, plan: Plan, report: Callable[[str], None]) -> list[Figure]:
    """Of uploads, of sends, and the end of the process under a load of sends."""
    figures: list[Figure] = []
    for asked in (
        RequestPlan(
            what="raw", words="uploads", status=201, connections=plan.connections, find=plan.photos, soon=500.0
        ),
        RequestPlan(what="send", words="sends", status=200, connections=64, find=plan.sends, soon=500.0),
    ):
        capacity = await _capacity(site, asked, report)
        figures += await _too_much(site, plan, asked, capacity, report)
    return [*figures, await _end(site, plan, TIMES * capacity, report)]


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestPlan:
    """`find`: requests over `connections` to find what it can bear. `soon`: milliseconds of p95 when it is too much."""

    what: What
    words: str
    status: int
    connections: int
    find: int
    soon: float


async def _capacity(site: Site, asked: RequestPlan, report: Callable[[str], None]) -> float:
    """A second."""
    report(f"{asked.find:,} {asked.words}, to find what it can bear")
    for count in (asked.find // 10, asked.find):
        job = site.job(asked.what, total=count, connections=asked.connections)
        found = await _all_accepted(job, asked.status)
    return asked.find / found.seconds


async def _too_much(
    site: Site, plan: Plan, asked: RequestPlan, capacity: float, report: Callable[[str], None]
) -> list[Figure]:
    """A usual load, three times what it can bear, and the usual load again."""

    async def at(words: str, rate: float) -> Answers:
        report(f"{rate:,.0f} {asked.words} a second for {plan.seconds:g} s: {words}")
        return await client.run(site.job(asked.what, rate=rate, seconds=plan.seconds))

    usual = await at("a usual load", USUAL * capacity)
    much = await at("three times what it can bear", TIMES * capacity)
    again = await at("the usual load again", USUAL * capacity)
    taken, refused = much.of(asked.status), much.of(REFUSED)
    odd = len(much.answers) - len(taken) - len([one for one in refused if one.retry_after]) + much.unasked
    calm = min(CALM, plan.seconds / 4)
    before, after = (_p95([one for one in load.answers if one.at > calm]) for load in (usual, again))
    name = f"{asked.words} at {TIMES:g} times what it can bear"
    return [
        Figure(
            name=f"{name}: taken, of what it can",
            value=len(taken) / plan.seconds / capacity,
            least=GOODPUT,
            beside=f"{capacity:,.0f}/s in a closed loop; {len(much.answers) / plan.seconds:,.0f}/s asked",
        ),
        Figure(
            name=f"{name}: p95 of those taken",
            value=_p95(taken),
            unit="ms",
            most=asked.soon,
            beside=f"{_p95(usual.of(asked.status)):.0f} ms at {USUAL:.0%} of it; a refusal: {_p95(refused):.0f} ms",
        ),
        Figure(name=f"{name}: not taken, and not refused with Retry-After", value=odd, most=0),
        Figure(
            name=f"{name}: p95 of the usual load, a second later",
            value=after,
            unit="ms",
            most=AFTER,
            beside=f"{before:.0f} ms before; {len(again.of(REFUSED))} refused",
        ),
    ]


async def _end(site: Site, plan: Plan, rate: float, report: Callable[[str], None]) -> Figure:
    """SIGTERM in the middle of the load: what went out was answered."""
    report("SIGTERM under that load")
    before = (await site.sandbox.stats())["messages"]
    loading = asyncio.create_task(client.run(site.job("send", rate=rate, seconds=plan.seconds / 2)))
    await clock.sleep(plan.seconds / 4)
    seconds = await site.server.end()
    answers = await loading
    went, answered = (await site.sandbox.stats())["messages"] - before, len(answers.of(200))
    others = {status: len(answers.of(status)) for status in {one.status for one in answers.answers} - {200, NEVER}}
    return Figure(
        name="SIGTERM under that load: sent, and not answered",
        value=went - answered,
        most=0,
        beside=f"{answered:,} sent and answered; others {others}; gone after {seconds:.2f} s",
    )


def _p95(answers: Sequence[Answer]) -> float:
    """Milliseconds."""
    times = [one.ms for one in answers]
    return quantiles(times, n=20)[18] if len(times) > 1 else 0.0


def _bare(folder: Path) -> AbstractAsyncContextManager[Breakable]:
    port = free_port()
    words = (sys.executable, "-m", "telewarm_benchmarks.bare", str(port))
    return Breakable(words, folder, log="bare.log", port=port).up()


@asynccontextmanager
async def _site() -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(stage.fresh_folder())
        database = await stack.enter_async_context(Database.running(folder / "postgres"))
        sandbox = await stack.enter_async_context(SandboxProcess.running())
        host = made(folder, "host")
        environ = stage.environment(sandbox.url, host, TELEGRAM_API_LOCAL="true") | {"DATABASE_URL": database.url}
        server = await stack.enter_async_context(Server.running(environ | ONE_KEY, host))
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                server.url, headers=server.headers, timeout=aiohttp.ClientTimeout(total=10 * TIMEOUT_SECONDS)
            )
        )
        bot = {"slug": "bench", "token": stage.token(0), "warmup_chats": [stage.warmup_chat(0)]}
        await _made(session, "/api/admin/bots", json=bot)
        [data] = stage.photos(1, bytes=25_000)
        photo = int((await _made(session, MEDIA, data=data))["media_id"])
        site = Site(server=server, sandbox=sandbox, session=session, folder=host, photo=photo)
        await _made(session, SEND, status=200, json={"chat_id": READER, "media": [photo]})  # now it is ready
        yield site


async def _made(session: aiohttp.ClientSession, path: str, *, status: int = 201, **sent: object) -> dict[str, int]:
    async with session.post(path, **sent) as answer:  # type: ignore[arg-type]  # json or data
        if answer.status != status:
            raise TelewarmError(f"{path} answered {answer.status}, the figure is void: {await answer.text()}")
        found: dict[str, int] = await answer.json()
        return found
