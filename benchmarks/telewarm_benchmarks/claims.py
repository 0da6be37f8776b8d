"""What the queue's statements cost with few due media and with very many; and what its order does for small photos."""

from __future__ import annotations

import heapq
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from statistics import mean, median
from typing import TypeAlias

from telewarm import clock
from telewarm.database import events, media, queue_priority, warmups
from telewarm.database.warmups import WarmupFailure
from telewarm.models import Blob, ClaimedMedia, Kind, MediaId
from telewarm_benchmarks.figures import Figure
from telewarm_benchmarks.queues import Queue, blob, queue, server, upload_result
from telewarm_benchmarks.stage import Report

CLAIMED = 10  # items in one claim or record
WARM_UP = 20  # rounds whose times are thrown away
AFRESH = 20  # rounds after which connections are made again: where the system puts a server process costs 0.1 ms
SLOWER = 1.2  # what may be between few and many
SOONER = 2.0
PHOTO, SMALLEST, MAX_DUE = 5_000_000, 50_000, 50_000_000  # bytes: photos are up to the first, videos from there on
IN_FLIGHT = 5
LATENCY, BANDWIDTH = 0.3, 5_000_000  # seconds of a call, and bytes a second of each upload


@dataclass(kw_only=True, slots=True)
class Side:
    """One queue, and how long each statement took there: milliseconds."""

    queue: Queue
    dice: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311
    times: dict[str, list[float]] = field(default_factory=dict)

    async def timed(self, name: str, work: Awaitable[object]) -> object:
        started = clock.monotonic()
        result = await work
        self.times.setdefault(name, []).append(1000 * (clock.monotonic() - started))
        return result

    def any(self) -> MediaId:
        return MediaId(self.dice.randint(1, self.queue.due))


BARE = "no statement at all (SELECT 1)"
Step: TypeAlias = Callable[[Side], Awaitable[None]]


async def measure(
    *, few: int = 1000, many: int = 1_000_000, rounds: int = 300, mixed: int = 2000, report: Report
) -> list[Figure]:
    """`few`, `many`: due media of the two databases. `mixed`: media of the load whose order is looked at."""
    async with server(durable=True) as url:
        sides = []
        async with AsyncExitStack() as stack:
            for due in (few, many):
                report(f"filling a queue with {due:,} media")
                sides.append(Side(queue=await stack.enter_async_context(queue(url, f"queue_{due}", due=due))))
            for number in range(WARM_UP + rounds):
                if number % 50 == 0:
                    report(f"round {number} of {WARM_UP + rounds}")
                if number % AFRESH == 0:
                    for side in sides:
                        await side.queue.pool.expire_connections()
                for step in STEPS:
                    for side in sides if number % 2 else reversed(sides):
                        await step(side)
        report(f"the order of {mixed:,} mixed media")
        return [*_costs(*sides), await _order(url, mixed)]


async def _claim_and_record(side: Side) -> None:
    claimed = await side.queue.claim(CLAIMED)
    await warmups.release(side.queue.pool, side.queue.lease, [item.media_id for item in claimed])
    again = await side.timed("claim", side.queue.claim(CLAIMED))
    assert isinstance(again, list)  # noqa: S101 - what `claim` returned
    ready = [upload_result(item.media_id, f"F{side.dice.random()}") for item in again]
    await side.timed(
        "record_ready", warmups.record_ready(side.queue.pool, ready, lease_id=side.queue.lease, telegram_id=1)
    )
    first, *rest = ready
    await side.timed("forget", media.drop_file_id(side.queue.pool, media_id=first.media_id, file_id=first.file_id))
    await side.timed(
        "rewarm", media.rewarm(side.queue.pool, {one.media_id: queue_priority.EXPLICIT_OFFSET_MS for one in rest[:1]})
    )
    await side.queue.pool.execute(
        "UPDATE media SET state = 'warming', file_id = NULL WHERE id = ANY ($1)", [one.media_id for one in ready]
    )


async def _fail_and_promote(side: Side) -> None:
    claimed = await side.queue.claim(CLAIMED)
    failed = [
        WarmupFailure(media_id=item.media_id, retry_delay=0.0, counts_as_attempt=False, code="X", message="x")
        for item in claimed
    ]
    await side.timed("record_failed", warmups.record_failed(side.queue.pool, side.queue.lease, failed))
    await side.timed("claim of retries", side.queue.claim(CLAIMED))
    await side.queue.pool.execute(
        "UPDATE media SET lease_id = NULL, next_attempt_at = NULL WHERE lease_id = $1", side.queue.lease
    )


async def _one(side: Side) -> None:
    chosen = side.any()
    await side.timed(
        "claim_one",
        warmups.claim_one(side.queue.pool, bot_id=side.queue.bots[0], media_id=chosen, lease_id=side.queue.lease),
    )
    await warmups.release(side.queue.pool, side.queue.lease, [chosen])
    await side.timed("hasten", warmups.raise_priority(side.queue.pool, side.any()))


async def _add(side: Side) -> None:
    new, old = blob(f"new {side.dice.random()}", size=1000), blob(str(side.any()), size=1000)
    await side.timed("insert", _insert(side.queue, new))
    await side.timed("insert of one that is there", _insert(side.queue, old))
    await side.queue.pool.execute("DELETE FROM media WHERE sha256 = $1", new.sha256)


async def _insert(into: Queue, new: Blob) -> None:
    handicap = queue_priority.priority_offset(new.facts.bytes)
    await media.insert(
        into.pool, bot_id=into.bots[0], blob=new, kind=Kind.PHOTO, name="n.jpg", priority_offset=handicap
    )


async def _look(side: Side) -> None:
    await side.timed(BARE, side.queue.pool.fetchval("SELECT 1"))
    await side.timed("sweep_counts", warmups.merge_count_deltas(side.queue.pool))
    await side.timed("sequence_events", events.assign_sequence(side.queue.pool))
    await side.timed("counts", media.count_by_state_of_bot(side.queue.pool, side.queue.bots[0]))
    await side.timed("depths", warmups.queue_depths(side.queue.pool))
    await side.timed("bots_with_due_work", warmups.bots_with_due_work(side.queue.pool))
    await side.timed(
        "a page", media.page(side.queue.pool, bot_id=side.queue.bots[0], kind=None, state=None, limit=20, offset=0)
    )


STEPS: Sequence[Step] = (_claim_and_record, _fail_and_promote, _one, _add, _look)


def _costs(few: Side, many: Side) -> list[Figure]:
    medians: Mapping[str, tuple[float, float]] = {
        name: (median(few.times[name][WARM_UP:]), median(many.times[name][WARM_UP:])) for name in few.times
    }
    return [
        Figure(
            name=f"{name}: many beside few",
            value=costs[1] / costs[0],
            unit="x",
            most=None if name == BARE else SLOWER,
            beside=f"{costs[0]:.2f} ms at {few.queue.due:,}, {costs[1]:.2f} ms at {many.queue.due:,}",
        )
        for name, costs in medians.items()
    ]


async def _order(server_url: str, count: int) -> Figure:
    """Claims a mixed load as lanes do, and sees how soon its small photos would be ready."""
    dice = random.Random(7)  # noqa: S311 - the same load each time
    async with queue(server_url, "mixed", due=0) as mixed:
        for number in range(count):
            await _insert(mixed, blob(f"mixed {number}", size=_size(dice)))
        ours: list[ClaimedMedia] = []
        while claimed := await mixed.claim(CLAIMED):
            ours += claimed
    theirs = sorted(ours, key=lambda item: item.media_id)
    ready, first_come = _small_ready_at(ours), _small_ready_at(theirs)
    return Figure(
        name="photos under 100 kB in a mixed load: how much sooner than first come, first served",
        value=first_come / ready,
        unit="x",
        least=SOONER,
        beside=f"{ready:.0f} s in the mean, {first_come:.0f} s in the order they came; {len(ours):,} media",
    )


def _size(dice: random.Random) -> int:
    """Seven in ten are photos of 50 kB to 5 MB, the rest videos of up to 50 MB; each doubling is as likely."""
    photo = dice.random() < 0.7
    low, high = (SMALLEST, PHOTO) if photo else (PHOTO, MAX_DUE)
    return int(low * (high / low) ** dice.random())


def _small_ready_at(items: Sequence[ClaimedMedia]) -> float:
    """Seconds, in the mean, until a photo of less than 100 kB is ready, with some uploads in flight at all times."""
    free = [0.0] * IN_FLIGHT
    ready = []
    for item in items:
        size = item.blob.facts.bytes
        ends = heapq.heappop(free) + LATENCY + size / BANDWIDTH
        heapq.heappush(free, ends)
        if size < queue_priority.SMALL_BYTES:
            ready.append(ends)
    return mean(ready)
