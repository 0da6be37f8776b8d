"""Single-flight: one run of the work for all who ask at once."""

from __future__ import annotations

import asyncio

import pytest

from telewarm import clock
from telewarm.single_flight import SingleFlight


class Work:
    """Counts its runs; each ends when `done` is set."""

    def __init__(self, error: Exception | None = None) -> None:
        self.started = self.cancelled = 0
        self.done = asyncio.Event()
        self._error = error

    async def __call__(self) -> int:
        self.started += 1
        try:
            await self.done.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self._error is not None:
            raise self._error
        return self.started


async def callers(flight: SingleFlight[str, int], work: Work, count: int, key: str = "key") -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(flight.run(key, work)) for _ in range(count)]
    await clock.sleep(0)
    return tasks


async def test_all_who_ask_at_once_get_the_result_of_one_run() -> None:
    flight, work = SingleFlight[str, int]("test"), Work()
    tasks = await callers(flight, work, 100)
    work.done.set()
    assert await asyncio.gather(*tasks) == [1] * 100
    assert work.started == 1


async def test_keys_do_not_wait_for_each_other() -> None:
    flight, slow, fast = SingleFlight[str, int]("test"), Work(), Work()
    waiting = await callers(flight, slow, 1, key="slow")
    fast.done.set()
    assert await flight.run("fast", fast) == 1
    assert not waiting[0].done()
    slow.done.set()
    assert await waiting[0] == 1


async def test_an_error_reaches_everybody_and_the_next_caller_runs_it_again() -> None:
    flight, work = SingleFlight[str, int]("test"), Work(ValueError("no"))
    tasks = await callers(flight, work, 3)
    work.done.set()
    assert [type(one) for one in await asyncio.gather(*tasks, return_exceptions=True)] == [ValueError] * 3
    with pytest.raises(ValueError, match="no"):
        await flight.run("key", work)
    assert work.started == 2


async def test_a_caller_that_is_cancelled_leaves_the_run_to_the_others() -> None:
    flight, work = SingleFlight[str, int]("test"), Work()
    first, second = await callers(flight, work, 2)
    first.cancel()
    await asyncio.wait([first])
    work.done.set()
    assert await second == 1
    assert work.cancelled == 0


async def test_the_last_caller_that_is_cancelled_cancels_the_run() -> None:
    flight, work = SingleFlight[str, int]("test"), Work()
    tasks = await callers(flight, work, 2)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert work.cancelled == 1
    work.done.set()
    assert await flight.run("key", work) == 2
