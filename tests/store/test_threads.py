"""Blocking work that goes together: one hop for many callers, an outcome for each."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from telewarm import clock
from telewarm.storage.thread_batcher import MAX_BATCH_ITEMS, ThreadBatcher


async def test_those_who_come_while_a_thread_is_at_it_go_together_next() -> None:
    gate = threading.Event()
    batches: list[list[int]] = []

    def work(items: Sequence[int]) -> Sequence[int | Exception]:
        gate.wait(5)
        batches.append(list(items))
        return [ValueError(str(item)) if item == 3 else 10 * item for item in items]

    together = ThreadBatcher(work, name="test")
    first = asyncio.create_task(together(0))
    await clock.sleep(0.01)
    others = [asyncio.create_task(together(number)) for number in range(1, MAX_BATCH_ITEMS + 2)]
    await clock.sleep(0)
    gate.set()
    outcomes = await asyncio.gather(first, *others, return_exceptions=True)

    assert batches == [[0], list(range(1, MAX_BATCH_ITEMS + 1)), [MAX_BATCH_ITEMS + 1]]
    assert isinstance(outcomes[3], ValueError)
    assert [one for one in outcomes if one is not outcomes[3]] == [10 * n for n in range(MAX_BATCH_ITEMS + 2) if n != 3]


async def test_a_cancelled_caller_leaves_when_its_work_is_done_and_takes_nobody_along() -> None:
    gate = threading.Event()
    done: list[int] = []

    def work(items: Sequence[int]) -> Sequence[int | Exception]:
        gate.wait(5)
        done.extend(items)
        return items

    together = ThreadBatcher(work, name="test")
    leaving, staying = (asyncio.create_task(together(number)) for number in (1, 2))
    await clock.sleep(0)
    leaving.cancel()
    await clock.sleep(0)
    assert not leaving.done()
    gate.set()

    assert await staying == 2
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert done == [1, 2]
