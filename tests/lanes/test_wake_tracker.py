"""Wake-ups of bots whose lane does not run here: none is lost, and none is kept for ever."""

from __future__ import annotations

import asyncio
import math

from hypothesis import given
from hypothesis import strategies as st

from telewarm import clock
from telewarm.models import BotId
from telewarm.worker.wake_tracker import MAX_RECHECKS, WakeTracker

SHOP, NEWS = BotId(1), BotId(2)


async def collect(tracker: WakeTracker, *running: BotId) -> dict[BotId, int]:
    stop = asyncio.Event()
    stop.set()  # waits for nothing
    return await tracker.collect(clock.monotonic(), stop=stop, running=running)


async def test_a_wake_up_is_collected_once_with_all_its_rechecks() -> None:
    tracker = WakeTracker()
    tracker.on_wake(SHOP)
    assert await collect(tracker) == {SHOP: MAX_RECHECKS}
    assert await collect(tracker) == {}


async def test_a_bot_whose_lane_runs_by_now_is_left_to_it() -> None:
    tracker = WakeTracker()
    tracker.on_wake(SHOP)
    tracker.on_wake(NEWS)
    assert await collect(tracker, NEWS) == {SHOP: MAX_RECHECKS}


async def test_a_wake_up_while_the_lane_is_ending_is_reported_to_it_and_kept() -> None:
    tracker = WakeTracker()
    with tracker.ending(SHOP) as lane:
        before = lane.woken
        tracker.on_wake(SHOP)
        after = lane.woken
    assert (before, after) == (False, True)
    tracker.on_wake(SHOP)  # no longer ending: nothing to report to
    assert await collect(tracker) == {SHOP: MAX_RECHECKS}


@given(st.integers(0, 10))
def test_rechecks_run_out_and_a_new_wake_up_starts_again(spent: int) -> None:
    async def rounds() -> None:
        tracker = WakeTracker()
        tracker.on_wake(SHOP)
        for number in range(spent):
            found = await collect(tracker)
            assert found == ({SHOP: MAX_RECHECKS - number} if number < MAX_RECHECKS else {})
            tracker.recheck_later(SHOP, rechecks=found.get(SHOP, 0) - 1)
        tracker.on_wake(SHOP)
        tracker.recheck_later(SHOP, rechecks=1)  # an older recheck does not replace a newer wake-up
        assert await collect(tracker) == {SHOP: MAX_RECHECKS}

    asyncio.run(rounds())


async def test_a_requested_recheck_ends_the_wait_and_nothing_else_does() -> None:
    tracker = WakeTracker()
    waiting = asyncio.create_task(tracker.collect(math.inf, stop=asyncio.Event(), running=()))
    await asyncio.wait([waiting], timeout=0)
    assert not waiting.done()
    tracker.request_recheck()
    assert await waiting == {}
