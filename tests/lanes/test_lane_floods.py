"""A lane inside its bot's limits: which chat, what a 429 does, what is learned."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from telewarm import clock
from telewarm.errors import BadRequest, TelegramUnreachable
from telewarm.flood_control.limiter import BotRateLimiter, FloodPause
from telewarm.flood_control.limits import BotLimits, RateLimit
from telewarm.flood_control.priority import Priority
from telewarm.models import ChatId
from telewarm.worker.lane import EARLY_RUN_SECONDS
from tests.lanes.work import CHAT, OTHER, Bench, Numbers, everything_came_back, flood_wait

MINUTES = BotLimits(bot=None, group_second=None)  # the minute of a group and nothing else
REFUSED = BadRequest(method="sendPhoto", status=400, description="Bad Request: nope")


async def test_a_flood_wait_puts_the_job_back_without_an_outcome_and_closes_its_chat() -> None:
    work, bench = Numbers(due=3, trouble={0: [flood_wait(0.2)]}), Bench()
    started = clock.monotonic()

    assert await bench.lane(work, concurrency=1).run() is None

    assert clock.monotonic() - started >= 0.2
    assert work.tried == {0: 2, 1: 1, 2: 1}
    assert sorted(work.recorded) == [0, 1, 2]
    assert all(outcome.error is None for batch in work.batches for outcome in batch)
    assert everything_came_back(bench.budget)


async def test_a_429_holds_no_slot_while_the_rest_goes_through_another_chat() -> None:
    """A defect of the Node system: one waited in its slot, the others kept hammering."""
    work, bench = Numbers(due=6, chats=(CHAT, OTHER), trouble={0: [flood_wait(2)]}), Bench()

    assert await bench.lane(work, concurrency=1).run() is None

    assert work.chats_used == [CHAT, *[OTHER] * 6]


async def test_after_a_429_nothing_goes_to_the_chat_until_it_is_over() -> None:
    """A defect of the Node system: a 429 held a slot while others kept hammering."""
    work, bench = Numbers(due=20, trouble={0: [flood_wait(600)]}), Bench()

    delay = await bench.lane(work, concurrency=1).run()

    assert work.tried == {0: 1}
    assert delay is not None
    assert 590 < delay <= 600
    assert sorted(work.released + work.waiting) == list(range(20))
    assert everything_came_back(bench.budget)


async def test_jobs_are_spread_over_the_chats_the_one_that_has_had_least_first() -> None:
    chats = tuple(ChatId(-number) for number in range(1, 5))
    work, bench = (
        Numbers(due=16, chats=chats),
        Bench(limiter=BotRateLimiter(BotLimits(group_second=None), now=clock.monotonic())),
    )

    assert await bench.lane(work, concurrency=4).run() is None

    assert Counter(work.chats_used) == dict.fromkeys(chats, 4)


async def test_a_full_chat_is_probed_and_what_it_takes_is_learned() -> None:
    bench = Bench(limiter=BotRateLimiter(MINUTES, now=clock.monotonic()))

    assert await bench.lane(Numbers(due=25)).run() is None

    assert bench.limiter.learned == {"group": 25}


async def test_a_refused_probe_is_the_only_one_and_the_lane_comes_back_shortly_before_it_may_go_on() -> None:
    work = Numbers(due=30, trouble={20: [flood_wait(60)]})
    bench = Bench(limiter=BotRateLimiter(MINUTES, now=clock.monotonic()))

    delay = await bench.lane(work).run()

    assert delay is not None
    assert 60 - EARLY_RUN_SECONDS - 2 < delay < 60 - EARLY_RUN_SECONDS + 1
    assert sum(work.tried.values()) == 21
    assert len(work.recorded) == 20
    assert bench.limiter.learned == {"group": 20.0}


async def test_what_a_429_closed_is_told_to_whoever_tells_the_others() -> None:
    reported: list[FloodPause] = []
    work, bench = Numbers(due=1, trouble={0: [flood_wait(600)]}), Bench(on_pause=reported.append)

    await bench.lane(work).run()

    assert reported == [FloodPause(chat_id=CHAT, seconds=600)]


UNREACHABLE = TelegramUnreachable("no answer", method="sendPhoto", effect_possible=True)


@pytest.mark.parametrize(
    ("trouble", "counted"),
    [([], 1), ([REFUSED], 1), ([UNREACHABLE], 1), ([KeyError("bug")], 1), ([flood_wait(600)], 0)],
    ids=["passed", "refused", "unreachable", "a bug", "429"],
)
async def test_all_but_a_429_count_against_the_chats_limit(trouble: list[Exception], counted: int) -> None:
    bench = Bench(limiter=BotRateLimiter(BotLimits(), now=clock.monotonic()))

    await bench.lane(Numbers(due=1, trouble={0: trouble})).run()

    assert bench.limiter.fill(CHAT, now=clock.monotonic()) == counted / 20


async def test_a_job_that_was_cut_short_counts_all_the_same() -> None:
    limiter = BotRateLimiter(MINUTES, now=clock.monotonic())
    work, bench = Numbers(due=21, gates={20: asyncio.Event()}), Bench(limiter=limiter)
    lane = bench.lane(work, concurrency=1)
    running = asyncio.create_task(lane.run())
    await work.until(lambda: work.running == {20})  # the probe
    assert limiter.probes_at(CHAT, now=clock.monotonic()) > clock.monotonic()

    bench.stop.set()
    lane.abort()
    await running

    assert limiter.fill(CHAT, now=clock.monotonic()) == 1
    assert limiter.learned == {}


ONE = BotLimits(bot=RateLimit(rate=20, burst=1), private_chat=None, group=None)


async def test_a_lane_that_the_bots_limit_holds_goes_before_deliveries_and_after_people() -> None:
    limiter = BotRateLimiter(ONE, now=clock.monotonic(), learned={"bot": 1})
    work, bench = Numbers(due=3), Bench(limiter=limiter)
    running = asyncio.create_task(bench.lane(work, concurrency=1).run())
    await work.until(lambda: work.tried == {0: 1})
    while not limiter.waiting.of(Priority.WARMUP):
        await clock.sleep(0)

    assert limiter.available(clock.monotonic() + 1, Priority.DELIVERY) == 0
    assert limiter.available(clock.monotonic() + 1, Priority.INTERACTIVE) == 1

    await running
    assert limiter.waiting.of(Priority.WARMUP) == 0


async def test_a_lane_that_a_chats_limit_holds_lets_deliveries_go() -> None:
    limiter = BotRateLimiter(
        BotLimits(bot=None, group=RateLimit(rate=5, burst=1)), now=clock.monotonic(), learned={"group": 1}
    )
    work, bench = Numbers(due=2), Bench(limiter=limiter)
    running = asyncio.create_task(bench.lane(work, concurrency=1).run())
    await work.until(lambda: work.recorded == [0])

    assert limiter.waiting.of(Priority.WARMUP) == 0
    assert limiter.available(clock.monotonic(), Priority.DELIVERY) > 0
    await running


async def test_while_somebody_waits_who_goes_first_a_lane_starts_nothing() -> None:
    limiter = BotRateLimiter(ONE, now=clock.monotonic())
    work, bench = Numbers(due=3), Bench(limiter=limiter)
    with limiter.waiting(Priority.INTERACTIVE):
        running = asyncio.create_task(bench.lane(work).run())
        await asyncio.wait([running], timeout=0.1)
        assert not work.tried

    assert await running is None
    assert sorted(work.recorded) == [0, 1, 2]
    assert limiter.waiting.of(Priority.WARMUP) == 0


async def test_a_lane_that_ends_while_it_waits_for_the_bot_is_not_waited_for() -> None:
    limiter = BotRateLimiter(ONE, now=clock.monotonic())
    limiter.pause_bot(clock.monotonic() + 600)

    delay = await Bench(limiter=limiter).lane(Numbers(due=1)).run()

    assert delay is not None
    assert delay > 500
    assert limiter.waiting.of(Priority.WARMUP) == 0
