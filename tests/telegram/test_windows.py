"""One scope: a sliding window, and a capacity that is learned from what passes and what is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.flood_control.limits import RateLimit
from telewarm.flood_control.sliding_window import (
    FLOOD_PROBE_MESSAGES,
    PROBE_EXPIRY_SECONDS,
    REFUSAL_PROBE_MESSAGES,
    LearnedLimit,
    SlidingWindow,
)

BOT = RateLimit(rate=30, burst=30)
PRIVATE = RateLimit(rate=1, burst=3)
GROUP = RateLimit(rate=20 / 60, burst=20)
AT_ONCE = 0.0  # seconds that a call takes
LATE = 0.11  # seconds that a scope opens later than the server's window, at most

moments = st.floats(min_value=0, max_value=1e6)
waits = st.floats(min_value=0, max_value=3600)
limits = st.builds(
    RateLimit, rate=st.floats(min_value=0.1, max_value=1000), burst=st.integers(min_value=1, max_value=40)
)


def scope_of(limit: RateLimit, *, now: float = 0.0, learned: float | None = None) -> SlidingWindow:
    return SlidingWindow(LearnedLimit(limit, learned), now=now)


def size(scope: SlidingWindow) -> int:
    assert scope.capacity is not None
    return scope.capacity.size


def send(scope: SlidingWindow, now: float, count: int = 1) -> None:
    """Messages that pass at once."""
    for _ in range(count):
        probing = scope.spend(now, count=1)
        scope.succeeded(now, now, count=1, now=now)
        if probing and scope.capacity is not None:
            scope.capacity.probe_over()


def refuse(scope: SlidingWindow, now: float, wait: float, *, reported: bool = False) -> None:
    """A message that is answered 429 at once."""
    probing = scope.spend(now, count=1)
    scope.refund(now, count=1)
    if probing and scope.capacity is not None:
        scope.capacity.probe_over()
    scope.refused(now, wait, sent_at=now, reported=reported)


def deliver(scope: SlidingWindow, count: int, *, now: float = 0.0) -> list[float]:
    """Send `count` messages as early as the scope opens; the times."""
    times = []
    for _ in range(count):
        now = scope.opens_at(now)
        send(scope, now)
        times.append(now)
    return times


def probes(scope: SlidingWindow, now: float) -> bool:
    return scope.may_probe(now, count=1, latency=AT_ONCE)


def test_a_group_takes_its_burst_at_once_and_then_twenty_a_minute() -> None:
    times = deliver(scope_of(GROUP), 41)
    assert times[19] == 0
    assert times[20] == times[39] == pytest.approx(60, abs=LATE)
    assert times[40] == pytest.approx(120, abs=0.25)


@given(limits, st.lists(st.floats(min_value=0, max_value=3), min_size=1, max_size=120))
def test_no_window_ever_holds_more_than_the_burst(limit: RateLimit, pauses: list[float]) -> None:
    scope, now = scope_of(limit), 0.0
    times = []
    for pause in pauses:
        now = scope.opens_at(now + pause)
        send(scope, now)
        times.append(now)
    for first, one_too_many in zip(times, times[limit.burst :], strict=False):
        assert one_too_many - first > limit.burst / limit.rate


@given(limits)
def test_the_slack_costs_at_most_a_hundredth_of_the_rate(limit: RateLimit) -> None:
    times = deliver(scope_of(limit), 10 * limit.burst + 1)
    assert times[-1] <= 10 * limit.burst / limit.rate * 1.0101


@given(st.integers(1, 60), waits, moments)
def test_at_the_time_it_names_a_scope_is_open(spent: int, wait: float, now: float) -> None:
    scope = scope_of(BOT, now=now)
    send(scope, now, spent)
    refuse(scope, now, wait)
    opens = scope.opens_at(now)
    assert scope.opens_at(opens) == opens


def test_a_message_leaves_its_window_by_the_time_at_which_it_counted_and_not_at_which_it_went() -> None:
    """A regression: a slow upload was thought to have left while the server still counted it."""
    scope = scope_of(PRIVATE)
    for _ in range(3):
        scope.spend(0, count=1)
    scope.succeeded(0, 2, count=1, now=2.1)

    assert scope.opens_at(3.1, count=2) == 3.1
    assert scope.opens_at(3.1, count=3) == pytest.approx(5, abs=LATE)


def test_a_scope_without_a_capacity_is_open_until_a_429() -> None:
    scope = SlidingWindow(None, now=0)
    assert deliver(scope, 1000)[-1] == 0
    scope.refused(0, 35, sent_at=0, reported=False)
    assert scope.opens_at(1) == 35


@given(moments, waits, waits)
def test_deadlines_only_move_forward(now: float, first: float, second: float) -> None:
    scope = scope_of(GROUP, now=now)
    refuse(scope, now, first)
    refuse(scope, now, second)
    assert scope.opens_at(now) >= now + max(first, second)


def test_a_refused_message_does_not_count() -> None:
    scope = scope_of(GROUP)
    refuse(scope, 0, 1)
    assert scope.inside(1) == 0


def test_a_lost_message_counts_as_late_as_it_can_and_proves_nothing() -> None:
    scope = scope_of(PRIVATE)
    send(scope, 0, 2)
    scope.spend(0, count=1)
    scope.outcome_unknown(0, count=1, now=1)
    send(scope, 1)

    assert size(scope) == 3
    assert scope.opens_at(3.5, count=2) == pytest.approx(4, abs=LATE)


def test_a_full_window_is_probed_at_once_and_what_passes_is_learned_in_one_window() -> None:
    scope = scope_of(GROUP)
    send(scope, 0, 20)
    while probes(scope, 1):
        send(scope, 1)

    assert size(scope) == 80  # four times the setting is as far as it goes
    assert scope.opens_at(1) == pytest.approx(60, abs=LATE)


def test_a_window_with_room_is_not_probed() -> None:
    scope = scope_of(GROUP)
    send(scope, 0, 19)
    assert not probes(scope, 1)


def test_a_probe_waits_for_the_answer_to_the_one_before_but_not_for_ever() -> None:
    scope = scope_of(BOT)
    send(scope, 0, 30)
    assert scope.spend(0.1, count=1)
    assert not probes(scope, 0.2)

    send(scope, PROBE_EXPIRY_SECONDS + 1, 30)
    assert probes(scope, PROBE_EXPIRY_SECONDS + 1)


def test_messages_that_are_still_on_their_way_prove_nothing() -> None:
    """A regression: a probe overtook one of them, which was refused: the capacity had grown by one too many."""
    scope = scope_of(PRIVATE)
    send(scope, 0, 2)
    scope.spend(0, count=1)
    scope.spend(0.1, count=1)
    scope.succeeded(0.1, 0.1, count=1, now=0.2)
    assert size(scope) == 3

    scope.succeeded(0, 0, count=1, now=0.3)
    assert size(scope) == 4


def test_a_window_that_is_about_to_open_is_not_probed_for_that_would_prove_nothing() -> None:
    scope = scope_of(PRIVATE)
    send(scope, 0, 3)
    assert scope.may_probe(1, count=1, latency=0.5)
    assert not scope.may_probe(1, count=1, latency=2)
    assert not probes(scope, 2.99)


def test_refused_probes_leave_the_capacity_and_make_the_next_ones_rare() -> None:
    scope, now, passed = scope_of(GROUP), 0.0, 0
    refused_after: list[int] = []
    while len(refused_after) < 5:
        now = scope.opens_at(now)
        send(scope, now, 20)
        passed += 20
        if probes(scope, now):
            refuse(scope, now, 60)
            refused_after.append(passed)
    assert size(scope) == 20
    assert refused_after == [20, 220, 620, 1420, 3020]


def test_bad_news_lowers_the_capacity_to_what_really_passed() -> None:
    scope = scope_of(GROUP)
    send(scope, 0, 15)
    refuse(scope, 0, 60)
    assert size(scope) == 15


def test_one_piece_of_bad_news_takes_at_most_half() -> None:
    scope = scope_of(GROUP)
    send(scope, 0, 2)
    refuse(scope, 0, 5)
    assert size(scope) == 10


def test_several_429s_for_calls_in_flight_are_one_piece_of_news_that_is_made_precise() -> None:
    scope = scope_of(GROUP)
    send(scope, 0, 12)
    for _ in range(4):
        scope.spend(0, count=1)
    sizes = []
    for answered in (0.1, 0.2, 0.3, 0.4):
        scope.refund(0, count=1)
        scope.refused(answered, 60, sent_at=0, reported=False)
        sizes.append(size(scope))
    assert sizes == [15, 14, 13, 12]


def test_the_capacity_never_falls_below_a_tenth_nor_below_one() -> None:
    for limit, least in ((BOT, 3), (PRIVATE, 1), (RateLimit(rate=1, burst=1), 1)):
        scope = scope_of(limit)
        for hour in range(1, 50):
            refuse(scope, 3600 * hour, 1)
        assert size(scope) == least


def test_a_single_stray_429_is_made_up_for_when_the_server_says_when_to_come_back() -> None:
    scope = scope_of(GROUP)
    send(scope, 0, 12)
    refuse(scope, 1, 5)
    assert size(scope) == 12

    assert scope.opens_at(1) == 6  # it was told, although the window is full
    send(scope, 6)
    while size(scope) < 20 and probes(scope, 6.5):
        send(scope, 6.5)
    assert size(scope) == 20


def test_a_time_that_the_server_named_is_for_one_message_and_not_believed_when_that_is_refused() -> None:
    scope = scope_of(GROUP)
    send(scope, 0, 12)
    refuse(scope, 1, 5)

    refuse(scope, 6, 5, reported=True)

    assert scope.opens_at(6) == pytest.approx(60, abs=LATE)
    assert not probes(scope, 20)


def test_after_bad_news_a_probe_comes_soon_enough_to_recover() -> None:
    scope = scope_of(GROUP)
    refuse(scope, 0, 1)
    now, passed = 100.0, 0
    while not probes(scope, now):
        now = scope.opens_at(now)
        send(scope, now)
        passed += 1
    assert passed == FLOOD_PROBE_MESSAGES


def test_what_was_learned_in_another_life_is_not_probed_at_once() -> None:
    scope = scope_of(GROUP, learned=40)
    send(scope, 0, 40)
    assert not probes(scope, 0)
    deliver(scope, REFUSAL_PROBE_MESSAGES)
    assert size(scope) == 40


@pytest.mark.parametrize(("learned", "kept"), [(0.001, 2), (7.4, 7), (40, 40), (1e9, 80)])
def test_what_was_learned_is_kept_within_bounds(learned: float, kept: int) -> None:
    assert LearnedLimit(GROUP, learned).size == kept


@given(st.lists(st.tuples(st.booleans(), st.floats(min_value=0, max_value=60)), max_size=40), waits)
def test_a_429_never_makes_a_scope_open_before_it_says(steps: list[tuple[bool, float]], wait: float) -> None:
    scope, now, closed = scope_of(PRIVATE), 0.0, -math.inf
    for passes, pause in steps:
        now += pause
        if passes:
            send(scope, now)
        else:
            refuse(scope, now, wait)
            closed = now + wait
        assert scope.opens_at(now) >= closed
