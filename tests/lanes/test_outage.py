"""Outages: told from the troubles of single jobs, probed ever more rarely, over at the first answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm import clock
from telewarm.errors import BadRequest, StoreUnavailable, TelegramUnreachable
from telewarm.flood_control.failure_counter import PROBE_MAX_SECONDS, FailureCounter
from tests.lanes.work import Bench, Numbers, Outcome

GONE = StoreUnavailable("no connection")
UNREACHABLE = TelegramUnreachable("no answer", method="sendPhoto", effect_possible=False)
REFUSED = BadRequest(method="sendPhoto", status=400, description="Bad Request: no")

dice = st.floats(min_value=0, max_value=1, exclude_max=True)


def test_as_many_failures_in_a_row_as_are_tolerated_are_the_jobs_own() -> None:
    outage = FailureCounter(tolerance=2)
    assert [outage.failed(UNREACHABLE, now=1, dice=0) for _ in range(4)] == [False, False, True, True]


def test_one_success_in_between_and_they_are_no_outage() -> None:
    outage = FailureCounter(tolerance=2)
    for _ in range(5):
        assert not outage.failed(UNREACHABLE, now=1, dice=0)
        assert not outage.failed(GONE, now=1, dice=0)
        outage.succeeded()
    assert not outage.is_open


def test_a_refusal_is_an_answer_and_ends_it() -> None:
    outage = FailureCounter(tolerance=0)
    assert outage.failed(UNREACHABLE, now=1, dice=0)
    assert not outage.failed(REFUSED, now=2, dice=0)
    assert (outage.is_open, outage.retry_at) == (False, 0)


@given(dice)
def test_those_that_were_on_their_way_do_not_make_the_wait_longer(chance: float) -> None:
    outage = FailureCounter(tolerance=0)
    outage.failed(GONE, now=10, dice=chance)
    first = outage.retry_at
    outage.failed(GONE, now=10, dice=chance)
    assert outage.retry_at == first > 10


@given(st.lists(dice, min_size=1, max_size=40))
def test_probes_come_ever_more_rarely_but_never_seldom(chances: list[float]) -> None:
    outage, now = FailureCounter(tolerance=0), 0.0
    for number, chance in enumerate(chances):
        outage.failed(GONE, now=now, dice=chance)
        wait = outage.retry_at - now
        bound = min(PROBE_MAX_SECONDS, 0.25 * 2**number)
        assert bound / 2 - 1e-6 <= wait <= bound + 1e-6
        now = outage.retry_at


def failed(work: Numbers) -> set[int]:
    return {outcome.item for batch in work.batches for outcome in batch if outcome.error is not None}


async def test_in_an_outage_no_job_is_to_blame_but_the_first_few() -> None:
    """A regression: 25 s without Telegram put a sixth of the library in error."""
    work = Numbers(due=30, trouble={number: [UNREACHABLE] for number in range(8)})

    assert await Bench().lane(work, concurrency=3).run() is None

    assert failed(work) == {0, 1, 2}
    assert sorted(work.recorded) == list(range(30))


async def test_a_job_that_is_alone_cannot_tell_an_outage_from_its_own_trouble() -> None:
    work = Numbers(due=2, trouble={0: [GONE], 1: [GONE]})

    assert await Bench().lane(work, concurrency=1).run() is None

    assert failed(work) == {0, 1}


@dataclass(kw_only=True, slots=True)
class Unreleased(Numbers):
    """The database is away when items are put back."""

    away: int = 1

    async def release(self, items: Sequence[int]) -> None:
        if self.away:
            self.away -= 1
            raise ConnectionRefusedError
        self.released.extend(items)


async def test_what_is_put_back_while_the_database_is_away_is_put_back_all_the_same() -> None:
    """Nobody else frees it: the lease that it is held under lives on with this process."""
    work, bench = Unreleased(due=9), Bench()
    bench.limiter.pause_bot(clock.monotonic() + 60)

    assert (await bench.lane(work).run() or 0) > 50

    assert sorted(work.released) == list(range(6))


@dataclass(kw_only=True, slots=True)
class Unrecorded(Numbers):
    """The database is away when outcomes are written down."""

    away: int

    async def record(self, done: Sequence[Outcome]) -> None:
        if self.away:
            self.away -= 1
            raise ConnectionRefusedError
        self.batches.append(list(done))


@pytest.mark.slow
async def test_a_lane_that_is_sent_away_writes_down_what_was_answered_however_long_the_database_is_away() -> None:
    """A regression: outcomes were lost after three seconds, and their files went up twice."""
    gate = asyncio.Event()
    work, bench = Unrecorded(due=3, gates=dict.fromkeys(range(3), gate), away=7), Bench()
    lane = asyncio.create_task(bench.lane(work).run())
    await work.until(lambda: len(work.running) == 3)
    bench.stop.set()
    gate.set()

    await lane

    assert sorted(work.recorded) == [0, 1, 2]
