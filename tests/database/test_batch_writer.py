"""The batch writer: every row is written once, however the database fails in between."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from telewarm.database.batch_writer import BatchWriter, FifoBuffer
from telewarm.errors import DatabaseUnavailable


class Table:
    """Takes rows. `refused`: rows that it cannot store. `outages`: which of the coming writes find it away."""

    def __init__(self, *, refused: frozenset[int] = frozenset(), outages: Sequence[bool] = ()) -> None:
        self.rows: list[int] = []
        self.batches: list[int] = []
        self._refused = refused
        self._outages = list(outages)

    async def insert(self, rows: list[int]) -> None:
        if self._outages and self._outages.pop(0):
            raise DatabaseUnavailable("the database is away")
        if self._refused & set(rows):
            raise asyncpg.CheckViolationError("no such row")
        self.rows += rows
        self.batches.append(len(rows))


async def write_all(buffer: FifoBuffer[int], writer: BatchWriter[int]) -> None:
    while not await writer.flush():
        assert buffer


@given(
    st.integers(0, 30),
    st.integers(1, 7),
    st.frozensets(st.integers(0, 30)),
    st.lists(st.booleans(), max_size=20),
)
def test_every_row_is_written_once_and_in_order_but_the_refused(
    count: int, max_batch: int, refused: frozenset[int], outages: list[bool]
) -> None:
    table, buffer, written = Table(refused=refused, outages=outages), FifoBuffer[int](), list[int]()
    writer = BatchWriter(buffer, table.insert, name="test", max_batch=max_batch, on_written=written.append)
    for row in range(count):
        buffer.add(row)
    with capture_logs() as logged:
        asyncio.run(write_all(buffer, writer))
    assert table.rows == [row for row in range(count) if row not in refused]
    assert max(table.batches, default=0) <= max_batch
    assert sum(written) == count
    dropped = [line for line in logged if line["event"] == "row_write_refused"]
    assert len(dropped) == len(refused & set(range(count)))


async def test_what_replaces_a_refused_row_is_written_in_its_place() -> None:
    table, buffer = Table(refused=frozenset({1})), FifoBuffer[int]()
    writer = BatchWriter(buffer, table.insert, name="test", max_batch=9, replace=lambda row, _: row + 100)
    for row in range(3):
        buffer.add(row)
    assert await writer.flush()
    assert table.rows == [0, 101, 2]


async def test_a_replacement_that_is_refused_too_is_dropped() -> None:
    table, buffer = Table(refused=frozenset({1, 101})), FifoBuffer[int]()
    writer = BatchWriter(buffer, table.insert, name="test", max_batch=9, replace=lambda row, _: row + 100)
    for row in range(3):
        buffer.add(row)
    assert await writer.flush()
    assert table.rows == [0, 2]


async def test_a_replacement_that_meets_an_outage_is_written_later() -> None:
    table, buffer = Table(refused=frozenset({0}), outages=[False, True]), FifoBuffer[int]()
    writer = BatchWriter(buffer, table.insert, name="test", max_batch=9, replace=lambda row, _: row + 100)
    buffer.add(0)
    assert not await writer.flush()
    assert await writer.flush()
    assert table.rows == [100]


async def test_a_cancelled_write_leaves_its_rows_in_the_buffer() -> None:
    buffer, began = FifoBuffer[int](), asyncio.Event()

    async def hang(_rows: list[int]) -> None:
        began.set()
        await asyncio.Event().wait()

    buffer.add(1)
    writing = asyncio.create_task(BatchWriter(buffer, hang, name="test", max_batch=9).flush())
    await began.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert buffer.take(9) == [1]


async def test_a_write_that_takes_too_long_counts_as_an_outage() -> None:
    buffer = FifoBuffer[int]()
    buffer.add(1)

    async def hang(_rows: list[int]) -> None:
        await asyncio.Event().wait()

    assert not await BatchWriter(buffer, hang, name="test", max_batch=9, timeout_seconds=0.01).flush()
    assert len(buffer) == 1


def test_a_full_buffer_drops_its_oldest_row_and_counts_it() -> None:
    buffer = FifoBuffer[int](max_rows=2)
    for row in range(5):
        buffer.add(row)
    assert (buffer.take(9), buffer.dropped) == ([3, 4], 3)
