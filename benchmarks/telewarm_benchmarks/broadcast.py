"""Broadcasts: how fast recipients come in and messages go out, how near to the ceiling, and what a kill costs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from telewarm import clock
from telewarm.assembly import tune_garbage_collector
from telewarm.demo.sandbox import SandboxProcess
from telewarm.errors import TelewarmError
from telewarm.models import Bot, BroadcastId, BroadcastState, ChatId, DeliveryStatus, MediaItem, MessageSet, Part
from telewarm.runtime import Telewarm
from telewarm.settings import Settings
from telewarm_benchmarks import rivals, stage
from telewarm_benchmarks.figures import Figure
from telewarm_benchmarks.processes import ONE_KEY, Database, Resident, Worker, made
from telewarm_benchmarks.rivals import BARE

FIRST = 700_000_000  # the first recipient's chat id
CEILING = 30.0  # messages a second that Telegram lets a bot send
LOAD_SECONDS, LOAD_MB = 20.0, 32.0
SHARE, OF_CEILING, SAME = 0.6, 0.98, 1.2
MB = 1_000_000
PHOTO_BYTES = 25_000
POLL_SECONDS = 0.02  # seconds between looks
RAMP_UP_SECONDS = 5.0  # seconds at the ceiling before counting begins
TIMEOUT_SECONDS = 600.0  # seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """`rows` in a list; `recipients` of a broadcast at full speed, `few` of a small one; `others`: chats of rivals.

    `bare`: in flight in the others' loops, with which they are the fastest. `seconds` at Telegram's ceiling.
    `kills` in the middle of `killed` recipients. `concurrency`: recipients in hand.
    """

    rows: int = 1_000_000
    recipients: int = 100_000
    rounds: int = 3
    few: int = 1000
    others: int = 3000
    seconds: float = 120.0
    kills: int = 3
    killed: int = 50_000
    concurrency: int = 200
    bare: int = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """A Telewarm whose worker does not run yet, a bot with a ready photo, a sandbox in a process of its own."""

    app: Telewarm
    sandbox: SandboxProcess
    bot: Bot
    photo: MediaItem
    folder: Path
    environ: Mapping[str, str]

    async def draft(self, chats: int) -> BroadcastId:
        session = await self.app.bots.by_slug(self.bot.slug)
        [made] = await self.app.broadcasts.create([session], MessageSet(media=(Part(media_id=self.photo.id),)))
        await self.app.broadcasts.add(made.id, (ChatId(FIRST + number) for number in range(chats)))
        return made.id

    async def until(self, broadcast_id: BroadcastId, *, done: int) -> None:
        """That many recipients have their outcome."""
        deadline = clock.monotonic() + TIMEOUT_SECONDS
        while (found := await self.app.broadcasts.get(broadcast_id)).done < done:
            if found.state is not BroadcastState.RUNNING or clock.monotonic() > deadline:
                words = f"{found.done:,} of {done:,} after {TIMEOUT_SECONDS:.0f} s: {found.state}, {found.reason}"
                raise TelewarmError(f"the broadcast came to a stop, the figure is void: {words}")
            await clock.sleep(POLL_SECONDS)

    async def messages(self) -> int:
        return int((await self.sandbox.stats())["messages"])

    async def next_message(self) -> tuple[int, float]:
        """How many there were before it, and when it came: they go in bursts, and half of one is no rate."""
        before, deadline = await self.messages(), clock.monotonic() + TIMEOUT_SECONDS
        while await self.messages() == before:
            if clock.monotonic() > deadline:
                raise TelewarmError("no message goes any more: the figure is void")
            await clock.sleep(POLL_SECONDS)
        return before, clock.monotonic()


async def measure(*, plan: Plan = Plan(), report: Callable[[str], None]) -> list[Figure]:
    """Each on a site of its own."""
    return [
        *await load(plan, report),
        *await speed(plan, report),
        await depth(plan, report),
        *await ceiling(plan, report),
        *await kills(plan, report),
    ]


async def load(plan: Plan, report: Callable[[str], None]) -> list[Figure]:
    """A CSV in which every hundredth line is no chat id, and every hundredth is there twice."""
    report(f"a list of {plan.rows:,} lines")
    lines = plan.rows // 2_000

    async def chunks() -> AsyncIterator[bytes]:
        yield b"chat_id,name\n"
        for number in range(2_000):
            rows = [f"{FIRST + number * lines + row},somebody" for row in range(lines)]
            rows[0::100] = ["nobody,at all"] * len(rows[0::100])
            rows[1::100] = [f"{FIRST + 2},again"] * len(rows[1::100])
            yield "\n".join(rows).encode() + b"\n"

    async with _site(plan) as site:
        broadcast_id = await site.draft(0)
        before, started = Resident.of(os.getpid()).now, clock.monotonic()
        Resident.forget_peak(os.getpid())
        loaded = await site.app.broadcasts.load(broadcast_id, chunks())
        seconds, peak = clock.monotonic() - started, Resident.of(os.getpid()).peak
    if loaded.added + loaded.duplicates + loaded.rejected != 2_000 * lines:
        raise TelewarmError(f"lines were lost: {loaded}")
    beside = f"{loaded.added:,} recipients, {loaded.duplicates:,} twice, {loaded.rejected:,} that are no chat"
    return [
        Figure(name=f"loading {plan.rows:,} lines", value=seconds, unit="s", most=LOAD_SECONDS, beside=beside),
        Figure(name="loading them: memory added", value=(peak - before) / MB, unit="MB", most=LOAD_MB),
    ]


async def speed(plan: Plan, report: Callable[[str], None]) -> list[Figure]:
    """Without floods, in turn with a bare loop to the same chats; the other rivals show what theirs is."""
    ours, bare, figures = [], [], []
    async with _site(plan) as site:
        chats = [ChatId(FIRST + number) for number in range(plan.recipients)]
        for number in range(plan.rounds):
            report(f"round {number + 1} of {plan.rounds}: {BARE}, then a broadcast, to {plan.recipients:,}")
            bare.append(await _rival(site, BARE, chats, plan))
            ours.append(await _broadcast(site, plan.recipients))
        for name in rivals.here()[1:]:
            report(name)
            rate = await _rival(site, name, chats[: plan.others], plan)
            figures.append(
                Figure(name=f"{name}: messages a second", value=rate, unit="/s", beside="a loop, no records")
            )
    ratio = median(one / other for one, other in zip(ours, bare, strict=True))
    beside = f"{BARE}: {median(bare):,.0f}/s, without a record of anything"
    what = f"a broadcast to {plan.recipients:,}"
    return [
        Figure(name=f"{what}: messages a second", value=median(ours), unit="/s", beside=beside),
        Figure(name=f"{what}: beside {BARE}", value=ratio, unit="x", least=SHARE),
        *figures,
    ]


async def _rival(site: Site, name: str, chats: list[ChatId], plan: Plan) -> float:
    file_id = site.photo.file_id or ""
    async with rivals.sender(name, site.sandbox.url, file_id, concurrency=plan.bare) as send:
        return (await rivals.loop(send, chats, concurrency=plan.bare)).per_second


async def _broadcast(site: Site, recipients: int) -> float:
    """Messages a second from its start to its end, by the clock of the database."""
    broadcast_id = await site.draft(recipients)
    async with site.app.worker.running():
        await site.app.broadcasts.start(broadcast_id)
        await site.until(broadcast_id, done=recipients)
    found = await site.app.broadcasts.get(broadcast_id)
    if found.counts.get(DeliveryStatus.SENT) != recipients:
        raise TelewarmError(f"not all were sent, the figure is void: {dict(found.counts)}")
    return recipients / _seconds(await _until_ended(site, broadcast_id))


async def _until_ended(site: Site, broadcast_id: BroadcastId) -> tuple[float, float]:
    row = await site.app.pool.fetchrow(
        "SELECT extract(epoch FROM started_at)::float8 AS began, extract(epoch FROM max(at))::float8 AS ended"
        " FROM broadcast JOIN delivery ON broadcast_id = broadcast.id WHERE broadcast.id = $1 GROUP BY started_at",
        broadcast_id,
    )
    assert row is not None  # noqa: S101 - it has deliveries
    return row["began"], row["ended"]


def _seconds(times: tuple[float, float]) -> float:
    began, ended = times
    return ended - began


async def depth(plan: Plan, report: Callable[[str], None]) -> Figure:
    """What one recipient costs in small broadcasts, and in a large one in which so many are still to come."""
    small = []
    async with _site(plan) as site:
        for number in range(9):
            report(f"a broadcast to {plan.few:,}: {number + 1} of 9")
            small.append(1000 / await _broadcast(site, plan.few))
        report(f"a broadcast to {plan.rows:,}, its first {10 * plan.few:,}")
        large = 1000 / await _first_of(site, plan.rows, 10 * plan.few)
    return Figure(
        name=f"a recipient's cost among {plan.rows:,} beside among {plan.few:,}",
        value=large / median(small),
        unit="x",
        most=SAME,
        beside=f"{median(small):.3f} ms among {plan.few:,}, {large:.3f} ms among {plan.rows:,}",
    )


async def _first_of(site: Site, recipients: int, count: int) -> float:
    broadcast_id = await site.draft(recipients)
    async with site.app.worker.running():
        await site.app.broadcasts.start(broadcast_id)
        await site.until(broadcast_id, done=count)
        await site.app.broadcasts.cancel(broadcast_id)
    done = (await site.app.broadcasts.get(broadcast_id)).done
    return done / _seconds(await _until_ended(site, broadcast_id))


async def ceiling(plan: Plan, report: Callable[[str], None]) -> list[Figure]:
    """Against a server that lets 30 messages a second pass, with our usual settings."""
    async with _site(plan, "--latency-ms", "80", floods=True) as site:
        await site.sandbox.tell("config", floods={"bot": {"count": int(CEILING), "seconds": 1.0}})
        broadcast_id = await site.draft(round(CEILING * (plan.seconds + 4 * RAMP_UP_SECONDS)))
        async with site.app.worker.running():
            await site.app.broadcasts.start(broadcast_id)
            await site.until(broadcast_id, done=1)
            await clock.sleep(RAMP_UP_SECONDS)
            before, started = await site.next_message()
            while (left := started + plan.seconds - clock.monotonic()) > 0:
                report(f"at {CEILING:.0f} a second: {left:.0f} s left")
                await clock.sleep(min(left, 5))
            after, ended = await site.next_message()
            rate = (after - before) / (ended - started)
            await site.app.broadcasts.cancel(broadcast_id)
        stats = await site.sandbox.stats()
    refused, calls = stats["floods"], sum(stats["calls"].values())
    name = f"a server that lets {CEILING:.0f} a second pass"
    return [
        Figure(name=f"{name}: share of it", value=rate / CEILING, least=OF_CEILING, beside=f"{rate:.2f}/s"),
        Figure(name=f"{name}: calls answered 429", value=refused / calls, most=0.01, beside=f"{refused} of {calls}"),
    ]


async def kills(plan: Plan, report: Callable[[str], None]) -> list[Figure]:
    """`telewarm worker` is killed again and again in the middle; the next one goes on."""
    async with _site(plan) as site:
        broadcast_id = await site.draft(plan.killed)
        before = await site.messages()
        await site.app.broadcasts.start(broadcast_id)
        for number in range(plan.kills):
            report(f"kill -9: {number + 1} of {plan.kills}")
            async with _worker(site, number) as worker:
                await site.until(broadcast_id, done=plan.killed * (number + 1) // (plan.kills + 1))
                await worker.kill()
        report("to the end")
        async with _worker(site, plan.kills):
            await site.until(broadcast_id, done=plan.killed)
        found = await site.app.broadcasts.get(broadcast_id)
        chats = (await site.sandbox.stats(chats=True))["chats"]
        unknown = {
            one.chat_id
            async for page in site.app.broadcasts.results(broadcast_id, outcome=DeliveryStatus.UNKNOWN)
            for one in page
        }
        sent = await site.messages() - before
    got = {ChatId(FIRST + number): chats.get(str(FIRST + number), 0) for number in range(plan.killed)}
    twice, lost = sum(count > 1 for count in got.values()), sum(not got[one] and one not in unknown for one in got)
    what = f"{plan.kills} x kill -9 in {plan.killed:,}"
    most, beside = plan.kills * plan.concurrency, f"of which {sum(got[one] for one in unknown)} got it"
    return [
        Figure(name=f"{what}: got it twice", value=twice, most=0, beside=f"{sent:,} messages"),
        Figure(name=f"{what}: lost", value=lost, most=0, beside=f"{found.done:,} outcomes"),
        Figure(name=f"{what}: unknown", value=len(unknown), most=most, beside=beside),
    ]


@asynccontextmanager
async def _worker(site: Site, number: int) -> AsyncIterator[Worker]:
    folder = made(site.folder, f"worker-{number}")
    async with Worker.running({**site.environ, "TELEWARM_DATA": str(folder)}, folder) as worker:
        yield worker


@asynccontextmanager
async def _site(plan: Plan, *options: str, floods: bool = False) -> AsyncIterator[Site]:
    """`options` of the sandbox. `floods`: with the usual flood limits."""
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(stage.fresh_folder())
        database = await stack.enter_async_context(Database.running(folder / "postgres"))
        sandbox = await stack.enter_async_context(SandboxProcess.running(*options))
        own = {"DATABASE_URL": database.url, "TELEWARM_BROADCAST_CONCURRENCY": str(plan.concurrency), **ONE_KEY}
        environ = stage.environment(sandbox.url, made(folder, "host"), floods=floods) | own
        app = await stack.enter_async_context(
            Telewarm.open(Settings.from_environ(environ, None), worker=False, migrate=True)
        )
        tune_garbage_collector()
        bot = await stage.add_bot(app)
        async with app.worker.running():
            [data] = stage.photos(1, bytes=PHOTO_BYTES)
            photo = await stage.until_ready(app, await stage.add(app, bot, data))
        yield Site(app=app, sandbox=sandbox, bot=bot, photo=photo, folder=folder, environ=environ)
