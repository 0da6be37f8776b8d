"""Live events: what listeners cost while nothing happens, how soon they hear of something, and how much at once.

The server is a process of its own, those who write are another, and so are all who listen together: on a machine with
few cores they take time from each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from statistics import quantiles
from typing import cast

from telewarm import clock
from telewarm.database import bots
from telewarm.database.connection import Pool
from telewarm.database.migrate import migrate
from telewarm.database.pool import open_pool
from telewarm.errors import TelewarmError
from telewarm.models import BotId
from telewarm_benchmarks import queues, stage
from telewarm_benchmarks.client import TOKEN
from telewarm_benchmarks.figures import Figure
from telewarm_benchmarks.processes import ONE_KEY, Database, Server, made

IDLE_MOST = 1.0  # per cent of one core
MAX_DELAY_MS, MAX_DELAY_OF_MANY_MS = 100.0, 250.0  # milliseconds
APART = 0.2  # seconds between two events whose way is timed
ITEMS = 20  # media that one statement changes, as a lane's does
LIBRARY = 2000  # media
TIMEOUT_SECONDS = 60.0  # seconds
MARK = b"\nevent: "
FEW = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """`idle`: seconds. `timed`: events whose way is timed. `burst`: events that happen as fast as they can."""

    listeners: int = 500
    idle: float = 45.0
    timed: int = 100
    burst: int = 10_000


@dataclass(kw_only=True, slots=True)
class Site:
    server: Server
    pool: Pool
    bot: BotId
    ears: list[Ear] = field(default_factory=list)
    paused: bool = False
    changed: int = 0  # media, one after the other and round again

    @property
    def heard(self) -> int:
        return sum(ear.heard for ear in self.ears)


class Ear(asyncio.Protocol):
    """A listener that counts the events it is told, the first one, `position`, included."""

    def __init__(self) -> None:
        self.heard = 0
        self.at = 0.0  # monotonic: when it was told the last one
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        request = f"GET /api/admin/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        cast(asyncio.Transport, transport).write(request.encode())

    def data_received(self, data: bytes) -> None:
        text = self._rest + data
        if count := text.count(MARK):
            self.heard += count
            self.at = clock.monotonic()
        self._rest = text[1 - len(MARK) :]


async def measure(*, plan: Plan = Plan(), report: Callable[[str], None]) -> list[Figure]:
    async with _site() as site:
        report(f"idle for {plan.idle:g} s without listeners")
        alone = await _idle(site, plan.idle)
        async with _listening(site, FEW):
            report(f"{plan.timed} events to one listener")
            few = await _ways(site, plan.timed)
            report(f"{plan.burst:,} events at once to one listener")
            figures = [await _burst(site, plan.burst)]
        before = site.server.resident().now
        async with _listening(site, plan.listeners):
            report(f"idle for {plan.idle:g} s with {plan.listeners} listeners")
            idle = await _idle(site, plan.idle)
            grown = site.server.resident().now - before
            report(f"{plan.timed} events to {plan.listeners} listeners")
            many = await _ways(site, plan.timed)
            report(f"{plan.burst:,} events at once to {plan.listeners} listeners")
            figures.append(await _burst(site, plan.burst))
    return [
        _cost(plan, alone, idle),
        Figure(name="memory of the server for each of them", value=grown / plan.listeners / 1000, unit="kB"),
        *_soon("one listener", few, MAX_DELAY_MS),
        *_soon(f"{plan.listeners} listeners", many, MAX_DELAY_OF_MANY_MS),
        *figures,
    ]


@asynccontextmanager
async def _site() -> AsyncIterator[Site]:
    """A server without a worker, and a library of media that are not asked for."""
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(stage.fresh_folder())
        database = await stack.enter_async_context(Database.running(folder / "postgres"))
        await migrate(database.url)
        pool = await open_pool(database.url, max_size=4, application_name="bench")
        stack.push_async_callback(pool.close)
        await pool.execute(queues.BOTS.format(chat=queues.CHAT) + " FROM generate_series(1, 1) AS n")
        await pool.execute(queues.FILL.format(due=LIBRARY, bots=1))
        await pool.execute("UPDATE media SET state = 'cold'")
        environ = stage.environment("http://127.0.0.1:1", made(folder, "host")) | {"DATABASE_URL": database.url}
        server = await stack.enter_async_context(Server.running(environ | ONE_KEY, folder))
        yield Site(server=server, pool=pool, bot=BotId(1))


@asynccontextmanager
async def _listening(site: Site, count: int) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(Ear, "127.0.0.1", site.server.port) for _ in range(count)]
    site.ears = [ear for _, ear in made]
    try:
        await _until_heard(site, count)
        yield
    finally:
        for transport, _ in made:
            transport.close()
        site.ears = []


async def _until_heard(site: Site, count: int) -> None:
    deadline = clock.monotonic() + TIMEOUT_SECONDS
    while site.heard < count:
        if clock.monotonic() > deadline:
            raise TelewarmError(
                f"{site.heard:,} of {count:,} events came within {TIMEOUT_SECONDS:.0f} s: the figure is void"
            )
        await clock.sleep(stage.POLL_SECONDS)
    if site.heard > count:
        raise TelewarmError("more events came than happened: the figure is void")


async def _idle(site: Site, seconds: float) -> float:
    """Per cent of one core that the server takes."""
    started, cpu = clock.monotonic(), site.server.cpu()
    await clock.sleep(seconds)
    return 100 * (site.server.cpu() - cpu) / (clock.monotonic() - started)


async def _ways(site: Site, count: int) -> Sequence[float]:
    """Milliseconds from before the commit until each listener heard of it, one event after the other."""
    ways: list[float] = []
    for _ in range(count):
        expected = site.heard + len(site.ears)
        site.paused = not site.paused
        started = clock.monotonic()
        await bots.set_paused(site.pool, site.bot, paused=site.paused)
        await _until_heard(site, expected)
        ways += [1000 * (ear.at - started) for ear in site.ears]
        await clock.sleep(APART)
    return ways


async def _burst(site: Site, count: int) -> Figure:
    """Media change as fast as one process writes; until everybody heard of each."""
    expected = site.heard + count * len(site.ears)
    started, cpu = clock.monotonic(), site.server.cpu()
    for _ in range(0, count, ITEMS):
        state = "cold" if site.changed // LIBRARY % 2 else "warming"
        ids = [1 + (site.changed + one) % LIBRARY for one in range(ITEMS)]
        await site.pool.execute("UPDATE media SET state = $2 WHERE id = ANY ($1::bigint[])", ids, state)
        site.changed += ITEMS
    written = clock.monotonic() - started
    await _until_heard(site, expected)
    seconds = max(ear.at for ear in site.ears) - started
    delivered = count * len(site.ears)
    cost = 1_000_000 * (site.server.cpu() - cpu) / delivered
    beside = f"written at {count / written:,.0f}/s; all had heard all after {seconds:.1f} s; {cost:.1f} µs of CPU each"
    return Figure(
        name=f"{count:,} changes as fast as they go, {len(site.ears)} listening: events told a second",
        value=delivered / seconds,
        unit="/s",
        beside=beside,
    )


def _cost(plan: Plan, alone: float, idle: float) -> Figure:
    return Figure(
        name=f"{plan.listeners} listeners while nothing happens: CPU of the server, of one core",
        value=idle,
        unit="%",
        most=IDLE_MOST,
        beside=f"{alone:.2f} % without them",
    )


def _soon(who: str, ways: Sequence[float], most: float) -> list[Figure]:
    cuts = quantiles(ways, n=20)
    return [
        Figure(name=f"from a change to {who}, p50", value=cuts[9], unit="ms", beside="the commit to disk included"),
        Figure(name=f"from a change to {who}, p95", value=cuts[18], unit="ms", most=most),
    ]
