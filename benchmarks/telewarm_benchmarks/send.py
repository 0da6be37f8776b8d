"""What a send of a ready media item costs, by the library and through the HTTP API, beside others who send by file id.

Whoever sends has one core, the sandbox has another. The contestants take turns, so that a slow moment of the machine
hits all of them; the medians of the rounds count.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aiohttp

from telewarm.assembly import tune_garbage_collector
from telewarm.demo.sandbox import SandboxProcess
from telewarm.errors import TelewarmError
from telewarm.models import Bot, CachedFileId, ChatId, MediaId, MessageSet, Part
from telewarm.runtime import Telewarm
from telewarm.settings import Settings
from telewarm_benchmarks import rivals, stage
from telewarm_benchmarks.figures import Figure
from telewarm_benchmarks.processes import ONE_KEY, Breakable, Database, Resident, Server, free_port, made
from telewarm_benchmarks.rivals import BARE, Send
from telewarm_benchmarks.stage import Rate

OURS, HTTP = "telewarm", "telewarm's HTTP API"
BY_HAND = "the same service written by hand with FastAPI and aiohttp"
READER = ChatId(600_000_000)
SHARE, THROUGH_HTTP = 0.75, 1000.0
GROWS = 8.0  # MB that sends over cached ids may add: what Python keeps for itself
MB = 1_000_000
PHOTO_BYTES = 25_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """`sends` in each round of each contestant, `concurrency` at a time; `ids` in the cache; `requests` over HTTP."""

    sends: int = 6000
    rounds: int = 5
    concurrency: int = 50
    ids: int = 100_000
    requests: int = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """A Telewarm without a worker, a bot with one ready photo, and a sandbox in a process of its own."""

    app: Telewarm
    sandbox: SandboxProcess
    bot: Bot
    photo: CachedFileId
    environ: Mapping[str, str]


async def measure(*, plan: Plan = Plan(), report: Callable[[str], None]) -> list[Figure]:
    async with _site() as site:
        return [
            *await _contest(site, plan, report),
            *await _memory(site, plan, report),
            *await _over_http(site, plan, report),
        ]


@asynccontextmanager
async def _site() -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(stage.fresh_folder())
        database = await stack.enter_async_context(Database.running(folder / "postgres"))
        sandbox = await stack.enter_async_context(SandboxProcess.running())
        environ = stage.environment(sandbox.url, made(folder, "host")) | {"DATABASE_URL": database.url} | ONE_KEY
        app = await stack.enter_async_context(
            Telewarm.open(Settings.from_environ(environ, None), worker=False, migrate=True)
        )
        tune_garbage_collector()
        bot = await stage.add_bot(app)
        async with app.worker.running():
            [data] = stage.photos(1, bytes=PHOTO_BYTES)
            item = await stage.until_ready(app, await stage.add(app, bot, data))
        if item.file_id is None or item.sent_kind is None:
            raise TelewarmError("the photo has no file id: the figure is void")
        photo = CachedFileId(media_id=item.id, bot_id=bot.id, file_id=item.file_id, kind=item.sent_kind)
        yield Site(app=app, sandbox=sandbox, bot=bot, photo=photo, environ=environ)


async def _contest(site: Site, plan: Plan, report: Callable[[str], None]) -> list[Figure]:
    """Each with a connection pool of its own, warmed up by a short round that does not count."""
    names = [*rivals.here(), OURS]
    rates: dict[str, list[Rate]] = {name: [] for name in names}
    async with AsyncExitStack() as stack:
        sends = {name: await stack.enter_async_context(_sender(site, name, plan)) for name in names}
        for number in range(-1, plan.rounds):
            for name, send in sends.items():
                report(f"round {number + 1} of {plan.rounds}: {name}" if number >= 0 else f"warming up: {name}")
                rate = await rivals.loop(
                    send, _chats(plan.sends if number >= 0 else plan.sends // 10), concurrency=plan.concurrency
                )
                if number >= 0:
                    rates[name].append(rate)
    return _compared(rates)


def _compared(rates: Mapping[str, Sequence[Rate]]) -> list[Figure]:
    figures = []
    for name, mine in rates.items():
        speed, cpu = median(one.per_second for one in mine), median(one.cpu_ms for one in mine)
        figures.append(
            Figure(name=f"{name}: sends a second", value=speed, unit="/s", beside=f"{cpu:.3f} ms of CPU each")
        )
        if name != OURS:
            ratio = median(one.per_second / other.per_second for one, other in zip(rates[OURS], mine, strict=True))
            figures.append(
                Figure(name=f"ours beside {name}", value=ratio, unit="x", least=SHARE if name == BARE else None)
            )
    costs = [one.cpu_ms / other.cpu_ms for one, other in zip(rates[BARE], rates[OURS], strict=True)]
    what = "sends a second of a core that does nothing else, ours beside bare aiohttp"
    return [*figures, Figure(name=what, value=median(costs), unit="x", least=SHARE, beside="by the CPU time of a send")]


@asynccontextmanager
async def _sender(site: Site, name: str, plan: Plan) -> AsyncIterator[Send]:
    if name != OURS:
        async with rivals.sender(name, site.sandbox.url, site.photo.file_id, concurrency=plan.concurrency) as send:
            yield send
        return
    yield await _ours(site, [site.photo.media_id])


async def _ours(site: Site, media_ids: Sequence[MediaId]) -> Send:
    """As a program that uses the library sends."""
    session = await site.app.bots.by_slug(site.bot.slug)
    messages = itertools.cycle([MessageSet(media=(Part(media_id=one),)) for one in media_ids])

    async def send(chat_id: ChatId) -> None:
        [result] = await site.app.sender.send(session, chat_id, next(messages))
        if result.error is not None:
            raise result.error

    return send


async def _memory(site: Site, plan: Plan, report: Callable[[str], None]) -> list[Figure]:
    """Many ready items: what their ids cost in memory, and what sending all of them again adds."""
    report(f"a library of {plan.ids:,} ready media")
    ids = await _many_ready(site, plan.ids)
    send, pid = await _ours(site, ids), os.getpid()
    resident = [Resident.of(pid).now]
    for words in ("for the first time", "again"):
        report(f"sending each of them {words}")
        await rivals.loop(send, _chats(plan.ids), concurrency=plan.concurrency)
        resident.append(Resident.of(pid).now)
    before, filled, after = resident
    return [
        Figure(name=f"{plan.ids:,} ids in the cache: memory", value=(filled - before) / MB, unit="MB"),
        Figure(name="sending all of them again: memory added", value=(after - filled) / MB, unit="MB", most=GROWS),
    ]


async def _many_ready(site: Site, count: int) -> list[MediaId]:
    """Copies of the photo's row, as if so many files had come."""
    rows = await site.app.pool.fetch(
        "WITH blobs AS (INSERT INTO blob (sha256, bytes, mime, ext, storage_key)"
        " SELECT encode(sha256(n::text::bytea), 'hex'), 25000, 'image/jpeg', 'jpg', 'bench/' || n"
        " FROM generate_series(1, $2::bigint) AS n RETURNING sha256)"
        " INSERT INTO media (bot_id, sha256, kind, state, file_id, file_unique_id, sent_kind, way, warmed_at)"
        " SELECT media.bot_id, blobs.sha256, media.kind, 'ready', file_id, file_unique_id, sent_kind, way, now()"
        " FROM blobs, media WHERE media.id = $1 RETURNING id",
        site.photo.media_id,
        count,
    )
    return [MediaId(row["id"]) for row in rows]


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """A service that sends over HTTP. `cpu`: seconds that its process has used."""

    name: str
    url: str
    headers: Mapping[str, str]
    cpu: Callable[[], float]


async def _over_http(site: Site, plan: Plan, report: Callable[[str], None]) -> list[Figure]:
    """`telewarm serve` and the service written by hand take turns; a bare client in this process asks them."""
    report("starting telewarm serve, and the service written by hand")
    folder = made(Path(site.environ["TELEWARM_DATA"]).parent, "server")
    token = "written-by-hand-0123"  # noqa: S105 - on loopback, for a minute
    environ = {
        "API_TOKEN": token,
        "API_ROOT": site.sandbox.url,
        "BOT_TOKEN": site.bot.token,
        "MEDIA_ID": str(site.photo.media_id),
        "FILE_ID": site.photo.file_id,
    }
    port = free_port()
    words = (sys.executable, "-m", "telewarm_benchmarks.handwritten", str(port))
    async with (
        Server.running({**site.environ, "TELEWARM_DATA": str(folder)}, folder) as server,
        Breakable(words, folder, log="handwritten.log", port=port, environ=environ).up() as other,
    ):
        ours = Service(
            name=HTTP,
            url=f"{server.url}/api/admin/bots/{site.bot.slug}/send",
            headers=server.headers,
            cpu=server.cpu,
        )
        hand = Service(
            name=BY_HAND,
            url=f"http://127.0.0.1:{port}/api/bots/{site.bot.slug}/send",
            headers={"Authorization": f"Bearer {token}"},
            cpu=other.cpu,
        )
        costs: dict[str, list[float]] = {HTTP: [], BY_HAND: []}
        for number in range(-1, plan.rounds):
            for service in (hand, ours):
                report(f"round {number + 1} of {plan.rounds}: {service.name}" if number >= 0 else "warming up")
                cost = await _cost(service, site.photo.media_id, plan)
                if number >= 0:
                    costs[service.name].append(cost)
    cost, by_hand = median(costs[HTTP]), median(costs[BY_HAND])
    ratio = median(other / mine for other, mine in zip(costs[BY_HAND], costs[HTTP], strict=True))
    return [
        Figure(
            name=f"{HTTP}: sends a second of one core",
            value=1 / cost,
            unit="/s",
            least=THROUGH_HTTP,
            beside=f"{1000 * cost:.3f} ms of its CPU each; {BY_HAND}: {1000 * by_hand:.3f} ms",
        ),
        Figure(name=f"{HTTP} beside {BY_HAND}", value=ratio, unit="x", least=1.0, beside="by the CPU time of a send"),
    ]


async def _cost(service: Service, media_id: MediaId, plan: Plan) -> float:
    """Seconds of the service's CPU for a send."""
    connector = aiohttp.TCPConnector(limit=plan.concurrency)
    async with aiohttp.ClientSession(connector=connector, headers=service.headers) as session:

        async def send(chat_id: ChatId) -> None:
            async with session.post(service.url, json={"chat_id": chat_id, "media": [media_id]}) as answer:
                if answer.status != 200:
                    raise TelewarmError(f"{service.name} answered {answer.status}: {await answer.text()}")
                await answer.read()

        requests = max(1, plan.requests // plan.rounds)
        before = service.cpu()
        await rivals.loop(send, _chats(requests), concurrency=plan.concurrency)
        return (service.cpu() - before) / requests


def _chats(count: int) -> list[ChatId]:
    return [ChatId(READER + number) for number in range(count)]
