"""Flood limits: values in, values out, no clock."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.model import ChatId
from telewarm.sandbox.config import Floods
from telewarm.sandbox.floods import Gate
from telewarm.telegram.flood import MOST_SLACK, SWEEP, Limit, Limits, Scope, Traffic

BOT = Limit(rate=30, burst=30)
PRIVATE = Limit(rate=1, burst=3)
GROUP = Limit(rate=20 / 60, burst=20)
ANNA, BORIS = ChatId(11), ChatId(12)
NEWS, SPORT = ChatId(-1001), ChatId(-1002)
MB = 1_000_000

moments = st.floats(min_value=0, max_value=1e6)
waits = st.floats(min_value=0, max_value=3600)


def deliver(scope: Scope, count: int, *, now: float = 0.0) -> list[float]:
    """Send `count` messages as early as the scope allows; the times."""
    times = []
    for _ in range(count):
        now = scope.opens_at(now)
        scope.spend(now)
        times.append(now)
    return times


def post(traffic: Traffic, chat_ids: list[ChatId], *, size: int = 0, now: float = 0.0) -> list[float]:
    times = []
    for chat_id in chat_ids:
        now = traffic.opens_at(chat_id, size=size, now=now)
        traffic.spend(chat_id, size=size, now=now)
        times.append(now)
    return times


def test_a_group_takes_its_burst_at_once_and_then_twenty_a_minute() -> None:
    times = deliver(Scope(GROUP, now=0), 41)
    assert times[19] == 0
    assert times[20] == times[39] == pytest.approx(60, abs=MOST_SLACK)
    assert times[40] == pytest.approx(120, abs=2 * MOST_SLACK)


limits = st.builds(Limit, rate=st.floats(min_value=0.1, max_value=1000), burst=st.integers(min_value=1, max_value=40))


@given(limits, st.lists(st.floats(min_value=0, max_value=3), min_size=1, max_size=120))
def test_no_window_ever_holds_more_than_the_burst(limit: Limit, pauses: list[float]) -> None:
    scope, now = Scope(limit, now=0), 0.0
    times = []
    for pause in pauses:
        now = scope.opens_at(now + pause)
        scope.spend(now)
        times.append(now)
    for first, one_too_many in zip(times, times[limit.burst :], strict=False):
        assert one_too_many - first > limit.burst / limit.rate


@given(limits)
def test_the_slack_costs_at_most_a_twentieth_of_the_rate(limit: Limit) -> None:
    times = deliver(Scope(limit, now=0), 10 * limit.burst + 1)
    assert times[-1] <= 10 * limit.burst / limit.rate * 1.0501


def test_a_scope_without_a_limit_is_always_open_until_a_429() -> None:
    scope = Scope(None, now=0)
    assert deliver(scope, 1000)[-1] == 0
    scope.close(0, 35)
    assert scope.opens_at(1) == 35


@given(moments, waits, waits)
def test_deadlines_only_move_forward(now: float, first: float, second: float) -> None:
    scope = Scope(GROUP, now=now)
    scope.close(now, first)
    scope.close(now, second)
    assert scope.opens_at(now) >= now + max(first, second)


@given(st.lists(st.tuples(st.booleans(), st.floats(min_value=0, max_value=60)), max_size=40), waits)
def test_a_429_never_makes_a_scope_open_sooner(steps: list[tuple[bool, float]], wait: float) -> None:
    scope, now = Scope(PRIVATE, now=0), 0.0
    for spend, pause in steps:
        now += pause
        if spend:
            scope.spend(now)
        else:
            before = scope.opens_at(now)
            scope.close(now, wait)
            assert scope.opens_at(now) >= before


@given(moments, st.integers(min_value=1, max_value=60), waits)
def test_at_the_time_it_names_a_scope_is_open(now: float, spent: int, wait: float) -> None:
    scope = Scope(BOT, now=now)
    scope.close(now, wait)
    scope.spend(now, count=spent)
    opens = scope.opens_at(now)
    assert scope.opens_at(opens) == opens


@given(st.integers(min_value=1, max_value=200))
def test_the_rate_recovers_to_the_limit_and_no_further(messages: int) -> None:
    scope = Scope(PRIVATE, now=0)
    scope.close(0, 5)
    deliver(scope, messages)
    assert 0 < scope.rate <= PRIVATE.rate
    assert messages < 30 or scope.rate == PRIVATE.rate


def test_the_same_429_from_several_calls_in_flight_lowers_the_rate_once() -> None:
    scope = Scope(BOT, now=0)
    for _ in range(5):
        scope.close(0.1, 10)
    assert scope.rate == 15
    scope.close(11, 10)
    assert scope.rate == 7.5


def test_the_rate_never_falls_to_nothing() -> None:
    scope = Scope(BOT, now=0)
    for hour in range(50):
        scope.close(hour * 3600, 1)
    assert scope.rate == 3


def test_after_a_flood_wait_one_message_goes_and_not_a_burst() -> None:
    scope = Scope(GROUP, now=0)
    scope.close(0, 600)
    first, second, third = deliver(scope, 3, now=600)
    assert first == 600
    assert 4 < second - first < 7
    assert 4 < third - second < 7


def test_a_message_waits_for_the_slowest_of_its_scopes() -> None:
    traffic = Traffic(Limits(), now=0)
    assert post(traffic, [ANNA] * 10)[-1] == pytest.approx(9.45)


def test_many_chats_share_the_thirty_a_second_of_their_bot() -> None:
    traffic = Traffic(Limits(), now=0)
    assert post(traffic, [ChatId(n) for n in range(1, 91)])[-1] == pytest.approx(2.1)


def test_a_group_of_media_counts_each_item() -> None:
    traffic = Traffic(Limits(), now=0)
    traffic.spend(NEWS, count=10, now=0)
    traffic.spend(NEWS, count=6, now=10)
    assert traffic.opens_at(NEWS, count=4, now=10) == 10
    assert traffic.opens_at(NEWS, count=5, now=10) == pytest.approx(60, abs=MOST_SLACK)


@pytest.mark.parametrize(
    ("size", "apart"), [(100_000, 0.0), (100_001, 0.2), (4 * MB, 0.4), (9 * MB, 0.9), (50 * MB, 0.9)]
)
def test_uploads_of_one_size_keep_their_distance(size: int, apart: float) -> None:
    traffic = Traffic(Limits(bot=None, private_chat=None), now=0)
    assert post(traffic, [ANNA, BORIS], size=size) == [0, pytest.approx(apart)]


def test_uploads_of_other_sizes_do_not_wait_for_each_other() -> None:
    traffic = Traffic(Limits(), now=0)
    traffic.spend(ANNA, size=9 * MB, now=0)
    assert traffic.opens_at(BORIS, size=9 * MB + 1, now=0) == 0


def test_a_local_server_does_not_space_uploads() -> None:
    traffic = Traffic(Limits(same_size=None), now=0)
    traffic.spend(ANNA, size=9 * MB, now=0)
    assert traffic.opens_at(BORIS, size=9 * MB, now=0) == 0


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (math.nan, 1), (1, 0)])
def test_a_limit_that_lets_nothing_go_is_a_mistake(rate: float, burst: int) -> None:
    with pytest.raises(ValueError, match="lets something go"):
        Limit(rate=rate, burst=burst)


def test_no_limits_means_no_waiting_at_all() -> None:
    traffic = Traffic(Limits.none(), now=0)
    assert post(traffic, [ANNA, NEWS] * 1000, size=9 * MB)[-1] == 0
    assert len(traffic) == 1


def test_without_limits_a_429_is_obeyed_all_the_same() -> None:
    traffic = Traffic(Limits.none(), now=0)
    traffic.close(8, ANNA, now=0)
    assert traffic.opens_at(ANNA, now=1) == 8
    assert traffic.opens_at(BORIS, now=1) == 1


def test_a_429_closes_its_chat_and_no_other() -> None:
    traffic = Traffic(Limits(), now=0)
    traffic.close(35, NEWS, now=1)
    assert traffic.opens_at(NEWS, now=1) == 36
    assert traffic.opens_at(SPORT, now=1) == 1


def test_429s_for_two_chats_at_once_are_about_the_bot() -> None:
    traffic = Traffic(Limits(), now=0)
    traffic.close(35, NEWS, now=0)
    traffic.close(35, SPORT, now=1)
    assert traffic.opens_at(ANNA, now=1) == 36


def test_429s_for_two_chats_one_after_the_other_are_about_the_chats() -> None:
    traffic = Traffic(Limits(), now=0)
    traffic.close(5, NEWS, now=0)
    traffic.close(5, SPORT, now=6)
    assert traffic.opens_at(ANNA, now=6) == 6


def test_a_minute_of_429_for_a_large_upload_is_about_its_size() -> None:
    traffic = Traffic(Limits(), now=0)
    traffic.close(60, NEWS, size=MB, now=0)
    assert traffic.opens_at(NEWS, size=MB, now=0) == 60
    assert traffic.opens_at(NEWS, size=2 * MB, now=0) == 0
    assert traffic.opens_at(NEWS, now=0) == 0


def test_a_minute_of_429_for_two_sizes_is_about_the_bot() -> None:
    traffic = Traffic(Limits(), now=0)
    traffic.close(60, NEWS, size=MB, now=0)
    traffic.close(60, SPORT, size=2 * MB, now=1)
    assert traffic.opens_at(ANNA, now=1) == 61


def test_the_spacing_of_two_sizes_is_no_flood() -> None:
    traffic = Traffic(Limits(), now=0)
    traffic.spend(NEWS, size=MB, now=0)
    traffic.close(60, SPORT, size=2 * MB, now=0)
    assert traffic.opens_at(ANNA, now=0) == 0


def test_a_429_without_a_chat_is_about_the_bot() -> None:
    traffic = Traffic(Limits(), now=0)
    traffic.close(3, None, now=0)
    assert traffic.opens_at(ANNA, now=0) == 3


def test_a_paused_bot_keeps_its_rate() -> None:
    traffic = Traffic(Limits(private_chat=None), now=0)
    traffic.close_bot(100)
    traffic.close_bot(50)
    assert traffic.opens_at(ANNA, now=0) == 100
    assert post(traffic, [ANNA] * 30, now=100)[-1] == 100


def test_idle_chats_are_forgotten_and_busy_ones_are_not() -> None:
    traffic = Traffic(Limits(), now=0)
    traffic.close(1e9, NEWS, now=0)
    for second in range(20_000):
        traffic.spend(ChatId(second + 1), size=MB + second, now=second)
    assert len(traffic) <= 2 * SWEEP + 1
    assert traffic.opens_at(NEWS, now=20_000) == 1e9


@given(st.lists(st.tuples(st.sampled_from([ANNA, BORIS, NEWS, SPORT]), st.sampled_from([0, MB, 2 * MB]), waits)))
def test_traffic_never_opens_before_any_429_said(answers: list[tuple[ChatId, int, float]]) -> None:
    traffic, latest = Traffic(Limits(), now=0), dict[ChatId, float]()
    for chat_id, size, wait in answers:
        traffic.close(wait, chat_id, size=size, now=0)
        if not (size and wait == 60):
            latest[chat_id] = max(latest.get(chat_id, 0.0), wait)
    for chat_id, wait in latest.items():
        assert traffic.opens_at(chat_id, now=0) >= wait


def gates_of_telegram() -> Gate:
    """The flood limits as the server counts them, written by somebody else from the same facts."""
    return Gate(Floods.telegram())


posts = st.tuples(
    st.sampled_from([ANNA, BORIS, NEWS, SPORT]), st.sampled_from([0, MB]), st.integers(min_value=1, max_value=10)
)


@given(
    st.lists(posts, min_size=1, max_size=80),
    st.lists(st.floats(min_value=0, max_value=0.04), min_size=80, max_size=80),
)
def test_whoever_waits_for_traffic_is_never_refused(said: list[tuple[ChatId, int, int]], delays: list[float]) -> None:
    traffic, gate, now = Traffic(Limits(), now=0), gates_of_telegram(), 0.0
    arrivals = []
    for (chat_id, size, count), delay in zip(said, delays, strict=False):
        now = traffic.opens_at(chat_id, size=size, count=count, now=now)
        traffic.spend(chat_id, size=size, count=count, now=now)
        arrivals.append((now + delay, chat_id, size, count))
    for arrived, chat_id, size, count in sorted(arrivals):
        gate.space(1, size, arrived)
        gate.charge(1, chat_id, arrived, min(count, 3) if chat_id > 0 else count)
