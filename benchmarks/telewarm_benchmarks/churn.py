"""A simulated day of warm-ups: do tables and indexes stay as small as what is in them, and claims as fast?

Everything runs as fast as it can, with the statements that lanes and workers use. Time is compressed, and so is the
pause between two looks of autovacuum, to its shortest, a second: in the day that this stands for it looks more often.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import median
from uuid import uuid4

from pgqueuer.db import AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.ports.repository import EntrypointExecutionParameter
from pgqueuer.queries import Queries
from pgqueuer.types import QueueEntrypoint, QueueManagerId

from telewarm import clock
from telewarm.database import events, leases, media, queue_priority, warmups
from telewarm.database import pgqueuer_maintenance as engine
from telewarm.database.connection import Pool
from telewarm.database.lane_queue import ENTRYPOINT, enqueue_lanes
from telewarm.database.pool import connect
from telewarm.database.warmups import WarmupFailure
from telewarm.models import BotId, ClaimedMedia, UploadResult
from telewarm_benchmarks.figures import Figure
from telewarm_benchmarks.queues import Queue, queue, server, upload_result
from telewarm_benchmarks.stage import Report

DAY = 86_400.0  # seconds
BATCH = 256  # items in one claim
FAILS = 0.03  # of the warm-ups, tried again at once
DEAD = 0.02  # of the file ids: the rest is warmed again by hand
CLAIMS = 200  # claims that are timed, of CLAIMED items each
CLAIMED = 10
BLOATED, SLOWER = 2.0, 1.2
SMALL = 256 << 10  # bytes, 32 pages: one below this may be as large, for pages and not rows make up its size
TABLES = (
    *("media", "media_count", "media_count_delta", "event_outbox", "event"),
    *("lease", "pgqueuer", "pgqueuer_log", "pgqueuer_statistics"),
)
SIZE = "SELECT pg_table_size($1::text::regclass) AS rows, pg_indexes_size($1::text::regclass) AS indexes"


@dataclass(kw_only=True, slots=True)
class Day:
    """How far it has come."""

    queue: Queue
    engine: Queries
    started: float
    warmups: int  # in all
    warmed: int = 0
    slices: int = 0
    ready: deque[list[UploadResult]] = field(default_factory=deque)  # what became ready, the first first
    dice: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311

    @property
    def kept(self) -> float:
        """Seconds now that stand for those a line of the engine's log is kept."""
        elapsed = clock.monotonic() - self.started
        return engine.LOG_RETENTION_SECONDS * elapsed / (DAY * max(self.warmed, 1) / self.warmups)


async def measure(
    *, warmups: int = 1_000_000, items: int = 50_000, bots: int = 50, slices: int = 100_000, report: Report
) -> list[Figure]:
    """`items`: media that are warmed over and over. `slices`: times that a lane yields its place in the day."""
    async with server(durable=False) as url:
        await _look_often(url)
        report(f"filling a library of {items:,} media")
        async with queue(url, "churn", due=items, bots=bots) as filled:
            driver = AsyncpgPoolDriver(filled.pool)
            day = Day(queue=filled, engine=Queries(driver), started=clock.monotonic(), warmups=warmups)
            await _run_day(day, slices, report)
            figures = [_pace(day)]
            report("claims beside those of a fresh database")
            async with queue(url, "fresh", due=items // 2, bots=bots) as fresh:
                figures += [await _claims(fresh, filled)]
            report("what the tables would be at their smallest")
            return [*await _sizes(filled.pool), *figures]


async def _look_often(url: str) -> None:
    connection = await connect(url, application_name="bench")
    await connection.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()


async def _run_day(day: Day, slices: int, report: Report) -> None:
    """Each round is a claim of one bot, its outcomes, its share of the slices of all lanes, and a sweep."""
    bots = [(bot, f"bench-{bot}") for bot in day.queue.bots]
    looked = 0
    while day.warmed < day.warmups:
        bot, _ = bots[looked % len(bots)]
        await _warm(day, bot)
        await enqueue_lanes(day.queue.pool, bots)
        while day.slices < slices * day.warmed / day.warmups:
            await _slice(day)
        await _sweep(day.queue.pool, day.kept)
        looked += 1
        if looked % 100 == 0:
            report(f"{day.warmed:,} of {day.warmups:,} warm-ups")


async def _warm(day: Day, bot: BotId) -> None:
    pool, lease = day.queue.pool, day.queue.lease
    claimed = await day.queue.claim(min(BATCH, day.warmups - day.warmed), bot=bot)
    failed = [_failure(item) for item in claimed if day.dice.random() < FAILS]
    lost = {one.media_id for one in failed}
    ready = [
        upload_result(one.media_id, f"F{day.warmed}-{one.media_id}") for one in claimed if one.media_id not in lost
    ]
    await warmups.record_ready(pool, ready, lease_id=lease, telegram_id=int(bot))
    await warmups.record_failed(pool, lease, failed)
    day.warmed += len(claimed)
    day.ready.append(ready)
    if sum(map(len, day.ready)) > day.queue.due / 2:
        await _ask_again(day, day.ready.popleft())


def _failure(item: ClaimedMedia) -> WarmupFailure:
    return WarmupFailure(
        media_id=item.media_id, retry_delay=0.0, code="TELEGRAM_FAULT", message="Internal Server Error. " * 5
    )


async def _ask_again(day: Day, ready: Sequence[UploadResult]) -> None:
    """When half of the library is ready: some ids have died, and the others are made again by hand."""
    for one in ready:
        if day.dice.random() < DEAD:
            await media.drop_file_id(day.queue.pool, media_id=one.media_id, file_id=one.file_id)
    await media.rewarm(day.queue.pool, {one.media_id: queue_priority.priority_offset(1) for one in ready})


async def _slice(day: Day) -> None:
    """Some lanes get a place, tell that they live, and yield or end."""
    jobs = await day.engine.dequeue(
        batch_size=10,
        entrypoints={QueueEntrypoint(ENTRYPOINT): EntrypointExecutionParameter(0)},
        queue_manager_id=QueueManagerId(uuid4()),
        global_concurrency_limit=1000,
        heartbeat_timeout=timedelta(seconds=60),
    )
    await day.engine.update_heartbeat([job.id for job in jobs])
    ended = [job for job in jobs if day.dice.random() < 0.2]
    for job in jobs:
        if job not in ended:
            await day.engine.retry_job(job, timedelta(0), None)
    await _end(day, ended)
    day.slices += max(1, len(jobs))


async def _end(day: Day, jobs: Sequence[Job]) -> None:
    await day.engine.log_jobs([(job, "successful", None) for job in jobs])


async def _sweep(pool: Pool, kept: float) -> None:
    """What a worker does every two seconds."""
    await leases.sweep(pool)
    await warmups.bots_with_due_work(pool)
    await warmups.merge_count_deltas(pool)
    await events.assign_sequence(pool)
    await events.trim(pool, max_age_seconds=kept * events.RETENTION_SECONDS / engine.LOG_RETENTION_SECONDS)
    await engine.trim_log(pool, max_age_seconds=kept)
    await engine.reindex_bloated(pool)


async def _claims(fresh: Queue, churned: Queue) -> Figure:
    """In turn, so that both meet the same noise."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(CLAIMS):
        for one, taken in zip((fresh, churned), times, strict=True):
            bot = one.bots[number % len(one.bots)]
            started = clock.monotonic()
            claimed = await one.claim(CLAIMED, bot=bot)
            taken.append(1000 * (clock.monotonic() - started))
            await warmups.release(one.pool, one.lease, [item.media_id for item in claimed])
    before, after = map(median, times)
    return Figure(
        name="claims after the day beside those of a fresh database",
        value=after / before,
        unit="x",
        most=SLOWER,
        beside=f"{before:.2f} ms fresh, {after:.2f} ms after the day",
    )


async def _sizes(pool: Pool) -> list[Figure]:
    """Of each table and its indexes, beside what they are once written again without any slack."""
    grown = {name: await pool.fetchrow(SIZE, name) for name in TABLES}
    figures = []
    for name, size in grown.items():
        await pool.execute(f"VACUUM (FULL) {name}")
        least = await pool.fetchrow(SIZE, name)
        assert size is not None  # noqa: S101 - one row each
        assert least is not None  # noqa: S101
        figures += [_size(f"{name}: {part}", size[part], least[part]) for part in ("rows", "indexes")]
    return figures


def _size(name: str, grown: int, least: int) -> Figure:
    return Figure(
        name=f"{name}, beside their live size (256 kB or less counts as 256 kB)",
        value=max(grown, SMALL) / max(least, SMALL),
        unit="x",
        most=BLOATED,
        beside=f"{grown / 1e6:.2f} MB, {least / 1e6:.2f} MB live",
    )


def _pace(day: Day) -> Figure:
    seconds = clock.monotonic() - day.started
    beside = f"{day.warmed:,} warm-ups and {day.slices:,} slices in {seconds:.0f} s"
    return Figure(name="how much faster than a day went by", value=DAY / seconds, unit="x", beside=beside)
