"""Several kinds of work of one bot in one place: each runs when it has something to do, and all leave together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from telewarm.worker.composite_runner import CompositeRunner


@dataclass(kw_only=True, slots=True)
class Task:
    """Runs until it is told how to end, or to stop."""

    stop: asyncio.Event
    in_flight: int = 1
    held: int = 10
    nudged: int = 0
    aborted: bool = False
    cut_short: bool = False
    look: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    ending: asyncio.Future[float | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def nudge(self) -> None:
        self.nudged += 1
        self.look.set()

    def abort(self) -> None:
        self.aborted = True
        self.end(0.0)

    def end(self, delay: float | None) -> None:
        self.ending.set_result(delay)
        self.look.set()

    async def run(self) -> float | None:
        try:
            while not self.ending.done():
                if self.stop.is_set():
                    return 0.0
                self.look.clear()
                await self.look.wait()
            return self.ending.result()
        except asyncio.CancelledError:
            self.cut_short = True
            raise
        finally:
            self.over.set()


@dataclass(kw_only=True, slots=True)
class Place:
    """A runner with two kinds of work: `first` and `second` are those that ran, the last one last."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    crowded: bool = False
    first: list[Task] = field(default_factory=list)
    second: list[Task] = field(default_factory=list)
    started: asyncio.Event = field(default_factory=asyncio.Event)

    def both(self) -> CompositeRunner:
        return CompositeRunner(
            [self.maker(self.first), self.maker(self.second)], stop=self.stop, has_waiting_lanes=lambda: self.crowded
        )

    def maker(self, tasks: list[Task]) -> Callable[[], Task]:
        def make() -> Task:
            tasks.append(Task(stop=self.stop))
            self.started.set()
            return tasks[-1]

        return make

    async def until(self, first: int, second: int) -> None:
        """So many of each have been started."""
        while (len(self.first), len(self.second)) != (first, second):
            self.started.clear()
            await self.started.wait()


async def running(place: Place) -> tuple[CompositeRunner, asyncio.Task[float | None]]:
    both = place.both()
    run = asyncio.create_task(both.run())
    await place.until(1, 1)
    return both, run


@pytest.mark.parametrize(
    ("first", "second", "together"), [(None, None, None), (None, 5.0, 5.0), (3.0, None, 3.0), (4.0, 2.0, 2.0)]
)
async def test_it_ends_when_both_have_and_is_due_when_the_first_is(
    first: float | None, second: float | None, together: float | None
) -> None:
    place = Place()
    _, run = await running(place)

    place.first[0].end(first)
    place.second[0].end(second)

    delay = await run
    assert delay == (None if together is None else pytest.approx(together, abs=0.2))


async def test_it_holds_and_has_in_flight_what_both_have() -> None:
    place = Place()
    both, run = await running(place)

    assert (both.in_flight, both.held) == (2, 20)
    place.first[0].end(None)
    place.second[0].end(None)
    await run
    assert (both.in_flight, both.held) == (0, 0)


@pytest.mark.parametrize("idle", [0, 1])
async def test_one_that_has_ended_runs_anew_when_nudged_while_the_other_is_busy(idle: int) -> None:
    place = Place()
    both, run = await running(place)
    tasks, others = (place.first, place.second)[:: 1 - 2 * idle]

    tasks[0].end(None)
    await tasks[0].over.wait()
    both.nudge()
    await place.until(*(1 + (tasks is one) for one in (place.first, place.second)))
    assert others[0].nudged == 1
    assert tasks[0].nudged == 0
    assert both.in_flight == 2

    tasks[1].end(None)
    others[0].end(None)
    assert await run is None


async def test_one_that_is_due_later_runs_anew_while_the_other_is_busy() -> None:
    place = Place()
    _, run = await running(place)

    place.first[0].end(0.05)
    await place.until(2, 1)

    place.first[1].end(None)
    place.second[0].end(None)
    assert await run is None


async def test_when_told_to_stop_both_leave_and_neither_starts_again() -> None:
    place = Place()
    both, run = await running(place)
    place.first[0].end(None)

    place.stop.set()
    both.nudge()

    assert await run == 0.0
    assert (len(place.first), len(place.second)) == (1, 1)


async def test_a_place_that_is_to_be_left_from_the_start_is_left() -> None:
    place = Place()
    place.stop.set()

    assert await place.both().run() == 0.0


async def test_when_one_leaves_because_others_wait_for_the_place_the_other_leaves_too() -> None:
    place = Place(crowded=True)
    _, run = await running(place)

    place.first[0].end(0.0)

    assert await run == 0.0
    assert (len(place.first), len(place.second)) == (1, 1)


async def test_one_that_has_nothing_to_do_leaves_the_other_its_place_however_many_wait() -> None:
    place = Place(crowded=True)
    _, run = await running(place)

    place.first[0].end(None)
    await asyncio.wait([run], timeout=0.05)
    assert not run.done()

    place.second[0].end(None)
    assert await run is None


async def test_cut_short_both_are() -> None:
    place = Place()
    both, run = await running(place)

    place.stop.set()
    both.abort()

    await run
    assert place.first[0].aborted
    assert place.second[0].aborted


async def test_what_one_raises_is_raised_once_the_other_has_left() -> None:
    place = Place()
    _, run = await running(place)

    place.first[0].ending.set_exception(KeyError("bug"))
    place.first[0].look.set()

    with pytest.raises(KeyError):
        await run
    assert place.stop.is_set()
    assert place.second[0].nudged == 1


async def test_when_both_raise_one_is_raised() -> None:
    place = Place()
    _, run = await running(place)

    for task in (place.first[0], place.second[0]):
        task.ending.set_exception(KeyError("bug"))
        task.look.set()

    with pytest.raises(KeyError):
        await run


async def test_cancelled_it_cancels_both() -> None:
    place = Place()
    _, run = await running(place)

    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run

    assert [task.cut_short for task in (place.first[0], place.second[0])] == [True, True]
