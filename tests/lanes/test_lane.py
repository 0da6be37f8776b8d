"""One lane: continuous, bounded, flood-limited; every outcome is recorded once and nothing stays in hand."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telewarm import clock
from telewarm.errors import BadRequest
from telewarm.flood_control.limiter import BotRateLimiter, Permit
from telewarm.flood_control.limits import BotLimits
from telewarm.flood_control.priority import Priority
from telewarm.models import ChatId
from telewarm.worker.work import ClaimBudget
from tests.lanes.work import Bench, Numbers, everything_came_back, flood_wait

REFUSED = BadRequest(method="sendPhoto", status=400, description="Bad Request: nope")


async def test_a_lane_does_all_that_is_due_and_ends() -> None:
    work, bench = Numbers(due=50), Bench()

    assert await bench.lane(work).run() is None

    assert sorted(work.recorded) == list(range(50))
    assert work.released == []
    assert everything_came_back(bench.budget)


async def test_a_slow_job_does_not_hold_up_the_rest() -> None:
    work = Numbers(due=30, gates={0: asyncio.Event()})
    lane = asyncio.create_task(Bench().lane(work, concurrency=2).run())

    await work.until(lambda: len(work.recorded) == 29)
    assert work.running == {0}

    work.gates[0].set()
    assert await lane is None
    assert sorted(work.recorded) == list(range(30))


async def test_exactly_the_concurrency_is_in_flight_as_long_as_there_is_work() -> None:
    work = Numbers(due=12, gates={item: asyncio.Event() for item in range(12)})
    lane = asyncio.create_task(Bench().lane(work, concurrency=4).run())

    for ended in range(8):
        await work.until(lambda: len(work.running) == 4)
        work.gates[min(work.running)].set()
        await work.until(lambda done=ended: len(work.recorded) > done)  # type: ignore[misc]
    for gate in work.gates.values():
        gate.set()
    await lane

    assert work.most_running == 4
    assert set(work.tried.values()) == {1}


async def test_an_outcome_that_comes_while_others_are_being_written_is_not_lost() -> None:
    """A regression: it was appended to a list that had been swapped meanwhile."""
    work = Numbers(due=9, gates={item: asyncio.Event() for item in range(9)}, record_gate=asyncio.Event())
    assert work.record_gate is not None
    lane = asyncio.create_task(Bench().lane(work, concurrency=9).run())
    await work.until(lambda: len(work.running) == 9)

    for gate in work.gates.values():
        gate.set()
        await asyncio.wait([asyncio.create_task(gate.wait())])
    work.record_gate.set()
    await lane

    assert sorted(work.recorded) == list(range(9))


async def test_outcomes_that_come_together_are_written_together() -> None:
    work = Numbers(due=40, record_gate=asyncio.Event())
    assert work.record_gate is not None
    lane = asyncio.create_task(Bench().lane(work, concurrency=40).run())
    await work.until(lambda: sum(work.tried.values()) == 40 and not work.running)

    work.record_gate.set()
    await lane

    assert sorted(work.recorded) == list(range(40))
    assert len(work.batches) <= 3


async def test_an_error_of_telegram_is_an_outcome() -> None:
    work = Numbers(due=2, trouble={1: [REFUSED]})

    await Bench().lane(work).run()

    outcomes = {outcome.item: outcome.error for batch in work.batches for outcome in batch}
    assert outcomes == {0: None, 1: REFUSED}


async def test_a_bug_in_one_job_is_its_outcome_and_stops_no_other() -> None:
    work, bench = Numbers(due=5, trouble={2: [ZeroDivisionError("secret")]}), Bench()

    assert await bench.lane(work).run() is None

    errors = {outcome.item: outcome.error for batch in work.batches for outcome in batch if outcome.error}
    assert {item: str(error) for item, error in errors.items()} == {2: "unexpected ZeroDivisionError"}
    assert sorted(work.recorded) == list(range(5))


async def test_stop_lets_what_is_in_flight_end_and_puts_the_rest_back() -> None:
    work, bench = Numbers(due=10, gates={item: asyncio.Event() for item in range(10)}), Bench()
    lane = bench.lane(work, concurrency=2)
    running = asyncio.create_task(lane.run())
    await work.until(lambda: len(work.running) == 2)

    bench.stop.set()
    lane.nudge()
    for gate in work.gates.values():
        gate.set()
    assert await running == 0.0

    assert sorted(work.recorded) == [0, 1]
    assert sorted(work.released + work.waiting) == list(range(2, 10))
    assert everything_came_back(bench.budget)


@pytest.mark.parametrize("how", ["cancelled", "aborted"])
async def test_what_takes_too_long_is_cut_short_and_put_back(how: str) -> None:
    work, bench = Numbers(due=5, gates={0: asyncio.Event(), 1: asyncio.Event()}), Bench()
    lane = bench.lane(work, concurrency=2)
    running = asyncio.create_task(lane.run())
    await work.until(lambda: work.running == {0, 1})

    if how == "cancelled":
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    else:
        bench.stop.set()
        lane.abort()
        await running

    assert not work.running
    assert sorted(work.released + work.waiting) == list(range(5))
    assert work.recorded == []
    assert everything_came_back(bench.budget)


async def test_a_job_that_is_cut_short_before_it_began_is_put_back_too() -> None:
    """A regression: nobody held it any more, and its place in the budget was lost."""

    class Hasty(BotRateLimiter):
        def acquire(
            self, chat_id: ChatId, *, size: int = 0, count: int = 1, now: float, priority: Priority | None = None
        ) -> Permit:
            bench.stop.set()
            asyncio.get_running_loop().call_soon(lane.abort)
            return super().acquire(chat_id, size=size, count=count, now=now, priority=priority)

    bench = Bench(limiter=Hasty(BotLimits(), now=clock.monotonic()))
    work = Numbers(due=3)
    lane = bench.lane(work)

    assert await lane.run() == 0.0

    assert not work.tried
    assert sorted(work.released + work.waiting) == [0, 1, 2]
    assert everything_came_back(bench.budget)


async def test_a_lane_waits_while_others_hold_the_whole_budget() -> None:
    """A regression: it spun without ever letting the event loop go on."""
    work, bench = Numbers(due=4), Bench(budget=ClaimBudget(3))
    held = bench.budget.take(3)
    lane = asyncio.create_task(bench.lane(work).run())
    ended, _ = await asyncio.wait([lane], timeout=0.05)
    assert not ended
    assert not work.tried

    bench.budget.give_back(held)

    assert await lane is None
    assert sorted(work.recorded) == list(range(4))
    assert everything_came_back(bench.budget, 3)


async def test_many_lanes_share_what_a_worker_may_hold() -> None:
    budget = ClaimBudget(12)
    works = [Numbers(due=30, gates={item: asyncio.Event() for item in range(30)}) for _ in range(3)]
    lanes = [asyncio.create_task(Bench(budget=budget).lane(work, concurrency=2).run()) for work in works]
    for work in works:
        await work.until(lambda work=work: len(work.running) == 2)  # type: ignore[misc]

    held = [30 - len(work.waiting) for work in works]
    assert sum(held) <= 12
    assert min(held) >= 2
    for work in works:
        for gate in work.gates.values():
            gate.set()
    assert await asyncio.gather(*lanes) == [None] * 3
    assert everything_came_back(budget, 12)


async def test_a_lane_makes_room_after_its_slice_when_others_wait_for_a_place() -> None:
    work, bench = Numbers(due=50, gates={0: asyncio.Event()}), Bench()
    lane = bench.lane(work, concurrency=1, after=0, crowded=lambda: bool(work.tried))
    running = asyncio.create_task(lane.run())
    await work.until(lambda: 0 in work.running)
    lane.nudge()
    work.gates[0].set()

    assert await running == 0.0
    assert work.recorded == [0]
    assert sorted(work.released + work.waiting) == list(range(1, 50))


async def test_a_lane_that_nobody_waits_for_goes_on_after_its_slice() -> None:
    work = Numbers(due=50)

    assert await Bench().lane(work, after=0).run() is None
    assert len(work.recorded) == 50


async def test_work_that_comes_while_a_lane_is_idle_is_done_by_it() -> None:
    work, bench = Numbers(due=1), Bench(linger=0.5)
    lane = bench.lane(work)
    running = asyncio.create_task(lane.run())
    await work.until(lambda: work.recorded == [0])

    work.waiting.append(7)
    lane.nudge()
    await work.until(lambda: 7 in work.recorded)

    assert await running is None


async def test_a_nudge_while_a_lane_winds_down_makes_it_come_back() -> None:
    """A regression: the nudge was lost, and the work waited for the next sweep."""
    work = Numbers(due=1, record_gate=asyncio.Event())
    assert work.record_gate is not None
    lane = Bench().lane(work)
    running = asyncio.create_task(lane.run())
    await work.until(lambda: work.tried[0] == 1)
    await asyncio.wait([running], timeout=0.1)  # longer than it lingers: it only waits for the record now
    lane.nudge()
    work.record_gate.set()

    assert await running == 0.0


async def test_outcomes_are_written_again_when_the_database_was_away() -> None:
    class Flaky(Numbers):
        async def record(self, done: object) -> None:
            if not self.released:
                self.released.append(-1)
                raise ConnectionResetError
            await Numbers.record(self, done)  # type: ignore[arg-type]

    work, bench = Flaky(due=3), Bench()
    await bench.lane(work).run()

    assert sorted(work.recorded) == [0, 1, 2]


async def test_a_claim_that_fails_ends_the_lane_with_nothing_in_hand() -> None:
    class Away(Numbers):
        async def claim(self, limit: int) -> list[object]:  # type: ignore[override]
            if not self.waiting:
                raise ConnectionResetError
            return list(await Numbers.claim(self, min(limit, 2)))

    work, bench = Away(due=2), Bench()
    lane = bench.lane(work)
    work.gates[0] = asyncio.Event()
    running = asyncio.create_task(lane.run())
    await work.until(lambda: 1 in work.recorded)
    lane.nudge()
    work.gates[0].set()
    with pytest.raises(ConnectionResetError):
        await running

    assert sorted(work.recorded + work.released) == [0, 1]
    assert everything_came_back(bench.budget)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    due=st.integers(0, 40),
    concurrency=st.integers(1, 8),
    budget=st.integers(1, 20),
    trouble=st.dictionaries(st.integers(0, 39), st.sampled_from(["flood", "refused", "bug"]), max_size=10),
)
def test_whatever_happens_each_job_is_recorded_exactly_once(
    due: int, concurrency: int, budget: int, trouble: dict[int, str]
) -> None:
    kinds = {"flood": flood_wait(0.001), "refused": REFUSED, "bug": KeyError("x")}

    async def run() -> tuple[Numbers, Bench]:
        work = Numbers(due=due, trouble={item: [kinds[kind]] for item, kind in trouble.items()})
        bench = Bench(budget=ClaimBudget(budget))
        assert await bench.lane(work, concurrency=concurrency).run() is None
        return work, bench

    work, bench = asyncio.run(run())

    assert sorted(work.recorded) == list(range(due))
    assert work.most_running <= concurrency
    assert everything_came_back(bench.budget, budget)


async def test_an_outcome_that_cannot_be_stored_fails_alone_and_holds_nothing_up() -> None:
    work = Numbers(due=40, unstorable_items=frozenset({3, 17}), record_gate=asyncio.Event())
    lane = asyncio.create_task(Bench().lane(work, concurrency=30).run())
    await work.until(lambda: len(work.tried) == 40)
    assert work.record_gate is not None
    work.record_gate.set()
    assert await lane is None

    assert sorted(work.recorded) == list(range(40))
    failed = {outcome.item: str(outcome.error) for batch in work.batches for outcome in batch if outcome.error}
    assert failed == dict.fromkeys((3, 17), "a value that cannot be stored")
