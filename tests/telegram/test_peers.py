"""One bot, several processes: what each may send when the others send too. No clock."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telewarm.flood_control.limiter import BotRateLimiter
from telewarm.flood_control.limits import BotLimits, RateLimit
from telewarm.flood_control.priority import Priority
from telewarm.flood_control.sliding_window import PROCESS_QUOTA_SHARE, UNLIMITED_MESSAGES
from telewarm.models import ChatId
from tests.telegram.peers import Peers

BOT = BotLimits(private_chat=None, group=None)  # 30 messages in a second
ANNA = ChatId(11)
LEAVES = 1.2  # seconds after which what is in the bot's window, ours or theirs, has left it


def send(limiter: BotRateLimiter, count: int = 1, *, now: float, rank: Priority = Priority.INTERACTIVE) -> None:
    """Messages that pass at once."""
    for _ in range(count):
        limiter.confirm(limiter.acquire(ANNA, now=now, priority=rank), now=now, retry_after=None)


def test_there_is_room_for_what_the_window_takes() -> None:
    limiter = BotRateLimiter(BOT, now=0)
    assert limiter.available(0, Priority.DELIVERY) == 30
    send(limiter, 12, now=0)
    assert limiter.available(0, Priority.DELIVERY) == 18
    send(limiter, 18, now=0)
    assert limiter.available(0.5, Priority.DELIVERY) == 0
    assert limiter.available(LEAVES, Priority.DELIVERY) == 30


def test_there_is_no_room_in_a_bot_that_is_closed_and_no_end_of_it_without_a_limit() -> None:
    limiter = BotRateLimiter(BotLimits.none(), now=0)
    assert limiter.available(0, Priority.DELIVERY) == UNLIMITED_MESSAGES
    limiter.pause_bot(10)
    assert limiter.available(9, Priority.INTERACTIVE) == 0
    assert limiter.available(10, Priority.INTERACTIVE) == UNLIMITED_MESSAGES


@pytest.mark.parametrize("first", [Priority.INTERACTIVE, Priority.WARMUP])
def test_there_is_none_for_those_that_go_later_while_somebody_waits(first: Priority) -> None:
    limiter = BotRateLimiter(BOT, now=0)
    with limiter.waiting(first):
        assert [limiter.available(0, rank) > 0 for rank in Priority] == [rank <= first for rank in Priority]
        assert [limiter.next_send_at(ANNA, now=0, priority=rank) <= 0 for rank in Priority] == [
            rank <= first for rank in Priority
        ]
        assert [limiter.bot_opens_at(0, priority=rank) <= 0 for rank in Priority] == [
            rank <= first for rank in Priority
        ]
    assert limiter.available(0, Priority.DELIVERY) == 30


def test_there_is_none_for_a_second_of_a_rank_in_the_place_of_the_first() -> None:
    limiter = BotRateLimiter(BOT, now=0)
    send(limiter, 28, now=0)
    with limiter.waiting(Priority.DELIVERY):
        assert limiter.available(0, Priority.DELIVERY) == 1


def test_background_work_leaves_room_for_what_others_sent_and_have_not_told_yet() -> None:
    limiter = BotRateLimiter(BOT, now=0)
    limiter.add_remote(10, now=0)
    assert limiter.available(0, Priority.INTERACTIVE) == 20
    assert limiter.available(0, Priority.DELIVERY) == 18
    assert limiter.available(LEAVES, Priority.DELIVERY) == 30


def test_background_work_waits_until_what_others_sent_has_left_the_window() -> None:
    limiter = BotRateLimiter(BOT, now=0)
    limiter.add_remote(30, now=0)
    assert limiter.available(0.5, Priority.WARMUP) == 0
    assert 1 < limiter.next_send_at(ANNA, now=0.5, priority=Priority.WARMUP) < LEAVES


def test_beside_others_background_work_spreads_what_it_sends() -> None:
    limiter = BotRateLimiter(BOT, now=0)
    limiter.add_remote(1, now=0)
    send(limiter, now=0, rank=Priority.DELIVERY)
    assert limiter.next_send_at(ANNA, now=0, priority=Priority.DELIVERY) == pytest.approx(0.8 / 30, rel=0.05)
    assert limiter.next_send_at(ANNA, now=0, priority=Priority.INTERACTIVE) == 0
    send(limiter, now=20, rank=Priority.DELIVERY)
    assert limiter.next_send_at(ANNA, now=20, priority=Priority.DELIVERY) == 20


def test_people_have_a_share_whatever_others_send() -> None:
    limiter = BotRateLimiter(BOT, now=0)
    limiter.add_remote(1000, now=0)
    send(limiter, 6, now=0)
    assert 1 < limiter.next_send_at(ANNA, now=0, priority=Priority.INTERACTIVE) < LEAVES


def test_a_closed_bot_is_closed_to_the_share_too() -> None:
    limiter = BotRateLimiter(BOT, now=0)
    limiter.add_remote(30, now=0)
    limiter.pause_bot(5)
    assert limiter.next_send_at(ANNA, now=0, priority=Priority.INTERACTIVE) == 5


def test_who_uses_the_share_holds_the_message_until_the_others_know() -> None:
    limiter = BotRateLimiter(BOT, now=0)
    assert limiter.acquire(ANNA, now=0, priority=Priority.INTERACTIVE).hold == 0
    limiter.add_remote(30, now=0)
    assert limiter.acquire(ANNA, now=0, priority=Priority.INTERACTIVE).hold > 0
    assert limiter.acquire(ANNA, now=0, priority=Priority.DELIVERY).hold == 0


def test_what_passes_beside_others_proves_no_more_than_the_setting() -> None:
    limiter = BotRateLimiter(BOT, now=0)
    for second in range(5):
        limiter.add_remote(20, now=second)
        send(limiter, 20, now=second + 0.5)
    assert limiter.learned == {}


def test_a_capacity_that_fell_rises_to_the_setting_beside_others() -> None:
    limiter = BotRateLimiter(BOT, now=0, learned={"bot": 20})
    now, count = 0.0, 0
    while limiter.learned.get("bot", 30) != 30 and count < 3000:
        if count % 20 == 0:
            limiter.add_remote(6, now=now)
        now = limiter.next_send_at(ANNA, now=now, priority=Priority.DELIVERY)
        send(limiter, now=now, rank=Priority.DELIVERY)
        count += 1
    assert count < 3000


def test_each_message_counts_as_sent_once_and_a_refused_one_not_at_all() -> None:
    limiter = BotRateLimiter(BOT, now=0)
    send(limiter, 3, now=0)
    limiter.confirm(limiter.acquire(ANNA, count=4, now=0), now=0, retry_after=1)
    limiter.abandon_permit(limiter.acquire(ANNA, count=2, now=0), now=0)
    assert limiter.sent == 5


@settings(max_examples=60, deadline=None)
@given(
    burst=st.integers(1, 40),
    rate=st.floats(0.5, 100),
    steps=st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from([Priority.INTERACTIVE, Priority.DELIVERY]), st.integers(0, 30)),
        max_size=80,
    ),
)
def test_a_message_goes_in_the_room_that_is_left_or_in_the_share(
    burst: int, rate: float, steps: list[tuple[float, Priority, int]]
) -> None:
    """So in a window there are never more than the capacity, and one share for each other process."""
    limit = RateLimit(rate=rate, burst=burst)
    limiter = BotRateLimiter(BotLimits(bot=limit, private_chat=None, group=None), now=0)
    now, ours, theirs = 0.0, list[float](), list[float]()
    for wait, rank, elsewhere in steps:
        now += wait * limit.seconds
        if elsewhere:
            limiter.add_remote(elsewhere, now=now)
            theirs += [now] * elsewhere
        while limiter.opens_at(ANNA, now=now, priority=rank) <= now:
            inside, heard = (sum(at > now - limit.seconds for at in times) for times in (ours, theirs))
            shared = rank is Priority.INTERACTIVE and inside < max(1, int(PROCESS_QUOTA_SHARE * burst))
            assert inside + heard < burst or shared
            send(limiter, now=now, rank=rank)
            ours.append(now)


@pytest.mark.parametrize("per_second", [0.5, 2, 4])
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_people_are_answered_at_once_beside_a_full_load_and_little_is_lost(per_second: float, seed: int) -> None:
    """Once both have heard of each other: the first message of all meets a window that is full."""
    both, since, until = Peers(per_second=per_second, seed=seed), 20, 80

    both.run(until)

    waits = sorted(wait for asked, wait in both.people.waits if asked >= since)
    assert waits[len(waits) // 2] < 0.3
    assert waits[int(0.95 * len(waits))] < 1.2
    assert both.refusals < 0.01
    assert sum(at >= since for at in both.passed) >= 0.85 * 30 * (until - since)


def test_beside_people_who_ask_for_more_than_their_share_the_rest_still_flows() -> None:
    both = Peers(per_second=12)

    both.run(60)

    assert len(both.people.waits) / 60 > 5
    assert len(both.backlog.waits) / 60 > 10
    assert both.refusals < 0.03
