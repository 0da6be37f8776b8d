"""What goes first: the order as a pure decision, and in a simulated queue."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from telewarm.database import queue_priority

MINUTE = 60 * queue_priority.SECOND_MS
LARGEST = 2_000_000_000  # bytes

sizes = st.integers(1, LARGEST)
moments = st.integers(0, 10**13)
queued = st.one_of(
    sizes.map(queue_priority.priority_offset),
    sizes.map(queue_priority.renewal_priority_offset),
    st.just(queue_priority.EXPLICIT_OFFSET_MS),
)


@given(sizes, sizes)
def test_of_two_asked_for_at_once_the_smaller_never_goes_later(one: int, other: int) -> None:
    small, large = sorted((one, other))

    assert (
        queue_priority.INTERACTIVE_OFFSET_MS
        < queue_priority.EXPLICIT_OFFSET_MS
        < queue_priority.priority_offset(small)
        <= queue_priority.priority_offset(large)
    )
    assert queue_priority.priority_offset(large) < queue_priority.renewal_priority_offset(small)


@given(moments, queued, st.integers(0, queue_priority.DAY_MS - 1))
def test_who_waits_in_a_send_goes_before_all_that_has_waited_less_than_a_day(
    now: int, handicap: int, waited: int
) -> None:
    assert now + queue_priority.INTERACTIVE_OFFSET_MS < now - waited + handicap


@given(moments, sizes, st.integers(0, queue_priority.HOUR_MS - 1))
def test_what_is_asked_for_by_name_goes_before_all_that_has_waited_less_than_an_hour(
    now: int, size: int, waited: int
) -> None:
    assert now + queue_priority.EXPLICIT_OFFSET_MS < now - waited + queue_priority.priority_offset(size)


@given(moments, st.integers(1, 50_000_000), sizes)
def test_a_file_of_50_mb_waits_at_most_five_minutes_for_smaller_ones_that_came_later(
    asked: int, size: int, later_size: int
) -> None:
    assert asked + queue_priority.priority_offset(size) < asked + 5 * MINUTE + queue_priority.priority_offset(
        later_size
    )


@given(moments, queued, queued, st.integers(min_value=0))
def test_nothing_is_overtaken_by_what_was_asked_for_later_than_its_handicap(
    asked: int, handicap: int, later_handicap: int, later: int
) -> None:
    """Ageing: with handicaps of zero or more, an item goes before all that is asked for later than its own."""
    if later > handicap - min(0, later_handicap):
        assert asked + handicap < asked + later + later_handicap


@dataclass(order=True, frozen=True, slots=True)
class Waiting:
    place: int
    asked: int


@given(st.lists(st.integers(1, 100_000), max_size=200), st.integers(1, LARGEST))
def test_a_large_file_does_not_starve_in_a_queue_that_small_ones_keep_full(small: list[int], size: int) -> None:
    """Each second one item goes and another comes, so that the queue never gets shorter: the large one still goes."""
    patience = queue_priority.priority_offset(size) // queue_priority.SECOND_MS
    queue = [Waiting(queue_priority.priority_offset(size), 0), Waiting(queue_priority.priority_offset(1), -1)]
    for second in range(1, patience + 3):
        coming = small[second % len(small)] if small else 1
        heapq.heappush(
            queue, Waiting(second * queue_priority.SECOND_MS + queue_priority.priority_offset(coming), second)
        )
        if heapq.heappop(queue).asked == 0:
            return
    raise AssertionError(f"{size} bytes waited longer than {patience} s")
